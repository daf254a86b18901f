//! Rewrites code so that chosen registers live in the frame, or are computed again where they are constants.
//!
//! Which registers those are is decided in [`super::graph`].

use std::collections::{BTreeMap, BTreeSet};

use super::flow::Flow;
use super::graph::is_constant;
use crate::bpf::{Insn, Operand, Size};
use crate::lower::code::{Source, Step, VReg, rename};

/// The stack frame, growing downwards.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frame(u32);

impl Frame {
    pub(super) const fn new(used: u32) -> Self {
        Self(used)
    }

    pub(super) const fn bytes(self) -> u32 {
        self.0
    }

    fn slot(&mut self) -> i16 {
        self.0 += 8;
        // Frames beyond the limit are refused afterwards; the offset only has to be a number until then.
        i16::try_from(self.0).map_or(i16::MIN, |bytes| -bytes)
    }
}

/// New code, and the short-lived registers in it that must not be spilled again.
pub(super) struct Rewritten {
    pub(super) steps: Vec<Step>,
    pub(super) temporaries: Vec<VReg>,
}

/// Where a spilled register's value comes from.
enum Home {
    Slot(i16),
    /// The only step that defines it.
    Constant(Step),
}

/// Spills `victims` of code with this flow.
pub(super) fn rewrite(
    steps: &[Step],
    flow: &Flow,
    victims: &[VReg],
    frame: &mut Frame,
    registers: &mut u32,
) -> Rewritten {
    let homes = homes(steps, flow, victims, frame);
    let mut out = Rewritten { steps: Vec::with_capacity(steps.len()), temporaries: Vec::new() };
    for step in steps {
        let defines_constant = step
            .kills()
            .first()
            .is_some_and(|r| matches!(homes.get(r), Some(Home::Constant(definition)) if definition == step));
        if defines_constant {
            continue;
        }
        rewrite_step(step, &homes, registers, &mut out);
    }
    out
}

fn homes(steps: &[Step], flow: &Flow, victims: &[VReg], frame: &mut Frame) -> BTreeMap<VReg, Home> {
    let mut definitions: BTreeMap<VReg, Vec<&Step>> = victims.iter().map(|&v| (v, Vec::new())).collect();
    for step in steps {
        for killed in step.kills() {
            if let Some(list) = definitions.get_mut(&killed) {
                list.push(step);
            }
        }
    }
    let mut homes = BTreeMap::new();
    let mut stored = BTreeSet::new();
    for (victim, definitions) in definitions {
        match definitions.as_slice() {
            [only] if is_constant(only) => {
                homes.insert(victim, Home::Constant((*only).clone()));
            }
            _ => {
                stored.insert(victim);
            }
        }
    }
    homes.extend(slots(steps, flow, &stored, frame).into_iter().map(|(v, slot)| (v, Home::Slot(slot))));
    homes
}

/// A slot for each register; registers that are never alive together share one.
fn slots(steps: &[Step], flow: &Flow, stored: &BTreeSet<VReg>, frame: &mut Frame) -> BTreeMap<VReg, i16> {
    let together = together(steps, flow, stored);
    let mut slots: BTreeMap<VReg, i16> = BTreeMap::new();
    let mut taken: Vec<i16> = Vec::new();
    for &register in stored {
        let excluded: BTreeSet<i16> = together
            .get(&register)
            .into_iter()
            .flatten()
            .filter_map(|neighbour| slots.get(neighbour).copied())
            .collect();
        let slot = taken.iter().copied().find(|slot| !excluded.contains(slot)).unwrap_or_else(|| {
            let slot = frame.slot();
            taken.push(slot);
            slot
        });
        slots.insert(register, slot);
    }
    slots
}

/// Which of the registers exclude each other: one is written while the other is alive.
fn together(steps: &[Step], flow: &Flow, stored: &BTreeSet<VReg>) -> BTreeMap<VReg, BTreeSet<VReg>> {
    let mut together: BTreeMap<VReg, BTreeSet<VReg>> = BTreeMap::new();
    for block in &flow.blocks {
        let mut live: BTreeSet<VReg> = block.live_out.iter().filter(|r| stored.contains(r)).collect();
        for step in steps.get(block.steps.clone()).unwrap_or_default().iter().rev() {
            let written: Vec<VReg> = step.kills().into_iter().filter(|r| stored.contains(r)).collect();
            for &register in &written {
                for &other in live.iter().chain(&written).filter(|other| **other != register) {
                    together.entry(register).or_default().insert(other);
                    together.entry(other).or_default().insert(register);
                }
            }
            for register in written {
                live.remove(&register);
            }
            live.extend(step.uses().into_iter().filter(|r| stored.contains(r)));
        }
    }
    together
}

fn rewrite_step(step: &Step, homes: &BTreeMap<VReg, Home>, registers: &mut u32, out: &mut Rewritten) {
    let mut temporaries: BTreeMap<VReg, (VReg, bool, bool)> = BTreeMap::new();
    let insn = rename(&step.insn, |register, role| {
        if !homes.contains_key(&register) {
            return register;
        }
        let entry = temporaries.entry(register).or_insert_with(|| {
            let temporary = VReg(*registers);
            *registers += 1;
            (temporary, false, false)
        });
        entry.1 |= role.reads();
        entry.2 |= role.writes();
        entry.0
    });
    let extra = |insn, source| Step { insn, line: step.line, arguments: 0, source };
    for (&register, &(temporary, reads, _)) in &temporaries {
        out.temporaries.push(temporary);
        match homes.get(&register) {
            Some(&Home::Slot(slot)) if reads => out.steps.push(extra(
                Insn::Load { size: Size::DW, dst: temporary, base: VReg::FP, offset: slot },
                Source::Reload { register, slot },
            )),
            Some(Home::Constant(definition)) if reads => {
                out.steps.push(extra(rename(&definition.insn, |_, _| temporary), Source::Again { register }))
            }
            Some(Home::Slot(_) | Home::Constant(_)) | None => {}
        }
    }
    out.steps.push(Step { insn, ..step.clone() });
    for (&register, &(temporary, _, writes)) in &temporaries {
        if let Some(&Home::Slot(slot)) = homes.get(&register).filter(|_| writes) {
            out.steps.push(extra(
                Insn::Store { size: Size::DW, base: VReg::FP, offset: slot, src: Operand::Reg(temporary) },
                Source::Spill { register, slot },
            ));
        }
    }
}
