//! Blocks, reachability, loop depth and liveness of virtual code.
//!
//! No decision about registers is made here.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::bpf::{Insn, Label};
use crate::lower::LowerError;
use crate::lower::code::{Step, VReg, VirtualCode};

/// A maximal run of steps with one way in and one way out.
#[derive(Debug, Clone)]
pub(super) struct Block {
    pub(super) steps: Range<usize>,
    pub(super) successors: Vec<usize>,
    /// How many loops contain it.
    pub(super) depth: u32,
    pub(super) live_in: Bits,
    pub(super) live_out: Bits,
}

/// The control flow graph with liveness.
#[derive(Debug, Clone)]
pub(super) struct Flow {
    pub(super) blocks: Vec<Block>,
}

/// A set of registers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Bits(Vec<u64>);

impl Bits {
    pub(super) fn contains(&self, register: VReg) -> bool {
        self.0.get(register.index() / 64).is_some_and(|word| word >> (register.index() % 64) & 1 == 1)
    }

    pub(super) fn insert(&mut self, register: VReg) {
        let word = register.index() / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(word) = self.0.get_mut(word) {
            *word |= 1 << (register.index() % 64);
        }
    }

    pub(super) fn remove(&mut self, register: VReg) {
        if let Some(word) = self.0.get_mut(register.index() / 64) {
            *word &= !(1 << (register.index() % 64));
        }
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = VReg> + '_ {
        (0u32..).step_by(64).zip(&self.0).flat_map(|(base, &word)| {
            let mut rest = word;
            std::iter::from_fn(move || {
                (rest != 0).then(|| {
                    let bit = rest.trailing_zeros();
                    rest &= rest - 1;
                    VReg(base + bit)
                })
            })
        })
    }

    /// Adds the other set; tells whether anything was new.
    fn merge(&mut self, other: &Self) -> bool {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        let mut changed = false;
        for (mine, &theirs) in self.0.iter_mut().zip(&other.0) {
            changed |= theirs & !*mine != 0;
            *mine |= theirs;
        }
        changed
    }
}

/// The code without steps that no path reaches and without copies that nobody reads.
pub(super) fn prepare(code: &VirtualCode) -> Result<Vec<Step>, LowerError> {
    let flow = Flow::new(&code.name, &code.steps)?;
    let mut reached = vec![false; flow.blocks.len()];
    let mut work = vec![0];
    while let Some(block) = work.pop() {
        if let Some(seen) = reached.get_mut(block).filter(|seen| !**seen) {
            *seen = true;
            work.extend(flow.blocks.get(block).map(|b| b.successors.clone()).unwrap_or_default());
        }
    }
    let mut kept = Vec::with_capacity(code.steps.len());
    for (block, _) in flow.blocks.iter().zip(&reached).filter(|(_, reached)| **reached) {
        let steps = code.steps.get(block.steps.clone()).unwrap_or_default();
        let mut live = block.live_out.clone();
        let mut tail = Vec::new();
        for step in steps.iter().rev() {
            let dead = step.copy().is_some_and(|(dst, _)| dst.machine().is_none() && !live.contains(dst));
            if dead {
                continue;
            }
            step.kills().into_iter().for_each(|r| live.remove(r));
            step.uses().into_iter().for_each(|r| live.insert(r));
            tail.push(step.clone());
        }
        kept.extend(tail.into_iter().rev());
    }
    match kept.last() {
        Some(last) if last.ends_path() => {}
        _ => {
            return Err(LowerError::BrokenFlow {
                function: code.name.clone(),
                reason: "the last instruction falls off the end".to_owned(),
            });
        }
    }
    for (index, step) in kept.iter_mut().enumerate() {
        step.source = crate::lower::code::Source::Original(index);
    }
    Ok(kept)
}

impl Flow {
    /// Cuts the code into blocks and solves liveness.
    pub(super) fn new(function: &str, steps: &[Step]) -> Result<Self, LowerError> {
        let mut starts = vec![0];
        for (index, step) in steps.iter().enumerate() {
            if matches!(step.insn, Insn::Label(_)) {
                starts.push(index);
            } else if matches!(step.insn, Insn::Goto { .. } | Insn::Jump { .. } | Insn::Exit) {
                starts.push(index + 1);
            }
        }
        starts.push(steps.len());
        starts.sort_unstable();
        starts.dedup();
        let ranges: Vec<Range<usize>> =
            starts.iter().zip(starts.iter().skip(1)).map(|(&from, &to)| from..to).collect();
        let mut block_of_label = BTreeMap::new();
        for (index, range) in ranges.iter().enumerate() {
            // A label always starts its block, so that only the first step can be one.
            if let Some(Insn::Label(label)) = steps.get(range.start).map(|s| &s.insn) {
                block_of_label.insert(*label, index);
            }
        }
        let find = |label: Label| {
            block_of_label.get(&label).copied().ok_or_else(|| LowerError::BrokenFlow {
                function: function.to_owned(),
                reason: format!("label {} is never bound", label.0),
            })
        };
        let mut blocks = Vec::with_capacity(ranges.len());
        let mut back_edges = Vec::new();
        for (index, range) in ranges.iter().enumerate() {
            let mut successors = Vec::new();
            let last = range.end.checked_sub(1).and_then(|last| steps.get(last));
            let target = match last.map(|step| &step.insn) {
                Some(Insn::Goto { target } | Insn::Jump { target, .. }) => Some(find(*target)?),
                _ => None,
            };
            if let Some(target) = target {
                successors.push(target);
                if target <= index {
                    back_edges.push(target..=index);
                }
            }
            if !last.is_some_and(Step::ends_path) && index + 1 < ranges.len() {
                successors.push(index + 1);
            }
            successors.dedup();
            blocks.push(Block {
                steps: range.clone(),
                successors,
                depth: 0,
                live_in: Bits::default(),
                live_out: Bits::default(),
            });
        }
        for (index, block) in blocks.iter_mut().enumerate() {
            block.depth = u32::try_from(back_edges.iter().filter(|edge| edge.contains(&index)).count())
                .unwrap_or(u32::MAX);
        }
        let mut flow = Self { blocks };
        flow.solve(steps);
        Ok(flow)
    }

    /// The first register that some path reads without having written it. `r1` to `r5` carry parameters.
    pub(super) fn undefined_at_entry(&self) -> Option<VReg> {
        let entry = self.blocks.first()?;
        entry.live_in.iter().find(|r| !matches!(r.0, 1..=5 | 10))
    }

    fn solve(&mut self, steps: &[Step]) {
        // What each block reads before writing, and what it writes.
        let local: Vec<(Bits, Bits)> = self
            .blocks
            .iter()
            .map(|block| {
                let (mut reads, mut writes) = (Bits::default(), Bits::default());
                for step in steps.get(block.steps.clone()).unwrap_or_default() {
                    for used in step.uses() {
                        if !writes.contains(used) {
                            reads.insert(used);
                        }
                    }
                    step.kills().into_iter().for_each(|r| writes.insert(r));
                }
                (reads, writes)
            })
            .collect();
        loop {
            let mut changed = false;
            for index in (0..self.blocks.len()).rev() {
                let mut out = Bits::default();
                let successors = self.blocks.get(index).map(|b| b.successors.clone()).unwrap_or_default();
                for successor in successors {
                    if let Some(block) = self.blocks.get(successor) {
                        out.merge(&block.live_in);
                    }
                }
                let Some((reads, writes)) = local.get(index) else { continue };
                let mut live_in = out.clone();
                for (word, &written) in live_in.0.iter_mut().zip(&writes.0) {
                    *word &= !written;
                }
                live_in.merge(reads);
                if let Some(block) = self.blocks.get_mut(index) {
                    block.live_out = out;
                    changed |= block.live_in.merge(&live_in);
                }
            }
            if !changed {
                return;
            }
        }
    }
}
