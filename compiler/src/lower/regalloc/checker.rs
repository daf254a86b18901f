//! Re-executes an allocation symbolically: every place holds a set of virtual registers whose value it
//! carries, and every use must find the right one in its place.
//!
//! Shares no decision with the allocator; it reads the original code, the result, and which step of the result
//! belongs to which original step.

use std::collections::{BTreeMap, BTreeSet};

use super::Placed;
use super::flow::Flow;
use super::graph::is_constant;
use crate::bpf::{AtomicOp, Insn, Operand, Reg, Size};
use crate::lower::LowerError;
use crate::lower::code::{Role, Source, Step, VReg, rename};

/// A machine register or a stack slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Place {
    Register(Reg),
    Slot(i16),
}

/// What each place is known to hold.
type State = BTreeMap<Place, BTreeSet<VReg>>;

/// Checks the whole function.
pub(super) fn check(function: &str, original: &[Step], placed: &[Placed]) -> Result<(), LowerError> {
    let steps: Vec<Step> = placed.iter().map(|p| p.step.clone()).collect();
    let flow = Flow::new(function, &steps)?;
    let wrong = |reason| LowerError::WrongAllocation { function: function.to_owned(), reason };
    complete(original, &steps).map_err(wrong)?;

    let entry: State =
        (1..=5).map(|r| (Place::Register(Reg(r)), BTreeSet::from([VReg::pinned(Reg(r))]))).collect();
    let mut inputs: BTreeMap<usize, State> = BTreeMap::from([(0, entry)]);
    let mut work = BTreeSet::from([0]);
    while let Some(index) = work.pop_first() {
        let Some(block) = flow.blocks.get(index) else { continue };
        let mut state = inputs.get(&index).cloned().unwrap_or_default();
        for place in placed.get(block.steps.clone()).unwrap_or_default() {
            execute(original, place, &mut state).map_err(wrong)?;
        }
        for &successor in &block.successors {
            let merged = match inputs.get(&successor) {
                None => state.clone(),
                Some(known) => intersect(known, &state),
            };
            if inputs.get(&successor) != Some(&merged) {
                inputs.insert(successor, merged);
                work.insert(successor);
            }
        }
    }
    Ok(())
}

/// Every original step is there, in order, except constants that are computed again where they are used.
fn complete(original: &[Step], steps: &[Step]) -> Result<(), String> {
    let again: BTreeSet<VReg> = steps
        .iter()
        .filter_map(|s| match s.source {
            Source::Again { register } => Some(register),
            Source::Original(_) | Source::Reload { .. } | Source::Spill { .. } => None,
        })
        .collect();
    let present: Vec<usize> = steps
        .iter()
        .filter_map(|s| match s.source {
            Source::Original(index) => Some(index),
            Source::Again { .. } | Source::Reload { .. } | Source::Spill { .. } => None,
        })
        .collect();
    if !present.is_sorted_by(|a, b| a < b) {
        return Err("steps changed their order".to_owned());
    }
    let present: BTreeSet<usize> = present.into_iter().collect();
    let used: BTreeSet<VReg> = original.iter().flat_map(Step::uses).collect();
    for (index, step) in original.iter().enumerate().filter(|(index, _)| !present.contains(index)) {
        let target = step.kills().first().copied();
        let known = target.is_some_and(|r| again.contains(&r) || !used.contains(&r));
        if !(is_constant(step) && known) {
            return Err(format!("step {index} is missing"));
        }
    }
    Ok(())
}

fn execute(original: &[Step], placed: &Placed, state: &mut State) -> Result<(), String> {
    match placed.step.source {
        Source::Original(index) => {
            let step = original.get(index).ok_or_else(|| format!("no step {index}"))?;
            execute_original(index, step, placed, state)
        }
        Source::Reload { register, slot } => {
            let held = state.get(&Place::Slot(slot)).cloned().unwrap_or_default();
            if !held.contains(&register) {
                return Err(format!("slot {slot} does not hold v{}", register.0));
            }
            let Some(dst) = loaded_from(&placed.insn, slot) else {
                return Err(format!("v{} is reloaded by something else than a load", register.0));
            };
            state.insert(Place::Register(dst), held);
            Ok(())
        }
        Source::Spill { register, slot } => {
            let Some(src) = stored_to(&placed.insn, slot) else {
                return Err(format!("v{} is spilled by something else than a store", register.0));
            };
            let held = state.get(&Place::Register(src)).cloned().unwrap_or_default();
            if !held.contains(&register) {
                return Err(format!("r{} does not hold v{} when it is spilled", src.0, register.0));
            }
            state.insert(Place::Slot(slot), held);
            Ok(())
        }
        Source::Again { register } => {
            let mut definitions = original.iter().filter(|s| s.kills().contains(&register));
            let (Some(definition), None) = (definitions.next(), definitions.next()) else {
                return Err(format!("v{} has several definitions but is computed again", register.0));
            };
            let mut target = None;
            let same = rename(&placed.insn, |r, _| {
                target = Some(r);
                register
            }) == definition.insn;
            match target {
                Some(target) if same && is_constant(definition) => {
                    state.insert(Place::Register(target), BTreeSet::from([register]));
                    Ok(())
                }
                _ => Err(format!("v{} is not computed again as it was defined", register.0)),
            }
        }
    }
}

/// The register that the instruction loads a slot into, if it does just that.
fn loaded_from(insn: &Insn<Reg>, slot: i16) -> Option<Reg> {
    let Insn::Load { size: Size::DW, dst, base: Reg::FP, offset } = *insn else { return None };
    (offset == slot).then_some(dst)
}

/// The register that the instruction stores to a slot, if it does just that.
fn stored_to(insn: &Insn<Reg>, slot: i16) -> Option<Reg> {
    let Insn::Store { size: Size::DW, base: Reg::FP, offset, src: Operand::Reg(src) } = *insn else {
        return None;
    };
    (offset == slot).then_some(src)
}

fn execute_original(index: usize, step: &Step, placed: &Placed, state: &mut State) -> Result<(), String> {
    let mut names = Vec::new();
    rename(&step.insn, |r, role| names.push((r, role)));
    let mut machines = Vec::new();
    let renamed = rename(&placed.insn, |r, _| machines.push(r));
    let shape = rename(&step.insn, |_, _| ());
    if renamed != shape {
        return Err(format!("step {index} became another instruction"));
    }
    if placed.vanished && !(step.copy().is_some() && machines.iter().all(|m| machines.first() == Some(m))) {
        return Err(format!("step {index} vanished"));
    }
    let pairs: Vec<(VReg, Role, Reg)> =
        names.into_iter().zip(machines).map(|((v, role), m)| (v, role, m)).collect();
    for &(register, role, machine) in &pairs {
        if register.machine().is_some_and(|wanted| wanted != machine) {
            return Err(format!("step {index}: r{} is not r{}", machine.0, register.0));
        }
        if role.reads() && register != VReg::FP {
            expect(index, state, register, machine)?;
        }
    }
    for used in step.uses() {
        if let Some(machine) = used.machine().filter(|m| *m != Reg::FP) {
            expect(index, state, used, machine)?;
        }
    }
    let copied = match (step.copy(), pairs.iter().find(|(_, role, _)| *role == Role::Use)) {
        (Some((dst, src)), Some(&(_, _, machine))) if src != VReg::FP => {
            let mut held = state.get(&Place::Register(machine)).cloned().unwrap_or_default();
            held.remove(&dst);
            held
        }
        _ => BTreeSet::new(),
    };
    for killed in step.kills() {
        forget(state, killed);
    }
    if step.is_call() {
        for clobbered in 0..=5 {
            state.remove(&Place::Register(Reg(clobbered)));
        }
    }
    for (register, _, machine) in pairs.into_iter().filter(|(_, role, _)| role.writes()) {
        let mut held = copied.clone();
        held.insert(register);
        state.insert(Place::Register(machine), held);
    }
    if step.is_call() || matches!(step.insn, Insn::Atomic { op: AtomicOp::CmpXchg, .. }) {
        state.insert(Place::Register(Reg::R0), BTreeSet::from([VReg(0)]));
    }
    Ok(())
}

fn expect(index: usize, state: &State, register: VReg, machine: Reg) -> Result<(), String> {
    if state.get(&Place::Register(machine)).is_some_and(|held| held.contains(&register)) {
        return Ok(());
    }
    Err(format!("step {index}: r{} does not hold v{}", machine.0, register.0))
}

/// The register has a new value: no place holds it any more.
fn forget(state: &mut State, register: VReg) {
    for held in state.values_mut() {
        held.remove(&register);
    }
}

fn intersect(one: &State, other: &State) -> State {
    one.iter()
        .filter_map(|(place, held)| {
            let both: BTreeSet<VReg> = held.intersection(other.get(place)?).copied().collect();
            (!both.is_empty()).then_some((*place, both))
        })
        .collect()
}
