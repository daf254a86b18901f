//! Predicts how many instructions the verifier processes.
//!
//! Straight-line code counts once. A loop of constant trip count is walked iteration by iteration, because the
//! verifier knows its counter. Both sides of a branch on unknown data are walked, which counts each
//! instruction once as long as the sides do not join; the packet path has its own estimate for joins.

use std::collections::BTreeMap;

use crate::bpf::module::Function;
use crate::bpf::{Insn, Label, Reg};

/// How often each loop runs, by the label at its top.
pub type Trips = BTreeMap<Label, u64>;

/// Instructions that the verifier processes in a function, without what it calls.
#[must_use]
pub fn processed(function: &Function, trips: &Trips) -> u64 {
    let mut total = 0u64;
    // Labels whose loop contains the current instruction, with the product of trips in front of each.
    let mut factor = 1u64;
    for insn in &function.code {
        match insn {
            Insn::Label(label) => factor = factor.saturating_mul(trips.get(label).copied().unwrap_or(1)),
            Insn::Jump { target, .. } => {
                total = total.saturating_add(factor);
                // The jump at the end of a loop is the only one to its top.
                factor /= trips.get(target).copied().unwrap_or(1).max(1);
            }
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::Goto { .. }
            | Insn::Call { .. }
            | Insn::CallFunction { .. }
            | Insn::Exit => total = total.saturating_add(factor),
        }
    }
    total
}

/// Places that a function takes in a program: a 64-bit immediate takes two.
#[must_use]
pub fn places(function: &Function) -> u64 {
    let place = |insn: &Insn<Reg>| match insn {
        Insn::Label(_) => 0,
        Insn::LoadImm64 { .. } => 2,
        Insn::Alu { .. }
        | Insn::Neg { .. }
        | Insn::ToBigEndian { .. }
        | Insn::Load { .. }
        | Insn::Store { .. }
        | Insn::Atomic { .. }
        | Insn::Jump { .. }
        | Insn::Goto { .. }
        | Insn::Call { .. }
        | Insn::CallFunction { .. }
        | Insn::Exit => 1,
    };
    function.code.iter().map(place).sum()
}
