//! Predicts how many instructions the verifier processes.
//!
//! Straight-line code counts once. A loop of constant trip count is walked iteration by iteration, because the
//! verifier knows its counter. Both sides of a branch on unknown data are walked, which counts each
//! instruction once as long as the sides do not join; the packet path has its own estimate for joins.

use std::collections::BTreeMap;

use super::walk;
use crate::bpf::module::{Function, Module};
use crate::bpf::{AluOp, Insn, Label, Operand, Reg};

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

/// Instructions that the verifier processes for each program of a module, and bytes of the stack frame of each
/// program and function.
#[must_use]
pub fn needs(module: &Module) -> (BTreeMap<String, u64>, BTreeMap<String, u32>) {
    let functions = module.programs.iter().chain(&module.functions);
    let stack = functions.map(|function| (function.name.clone(), stack(function)));
    (walk::processed(module).into_iter().collect(), stack.collect())
}

/// Bytes of a function's own stack frame: the lowest place below the frame pointer that it names.
#[must_use]
pub fn stack(function: &Function) -> u32 {
    let before = std::iter::once(None).chain(function.code.iter().map(Some));
    let lowest = function.code.iter().zip(before).filter_map(|(insn, before)| match (insn, before) {
        (
            Insn::Load { base: Reg::FP, offset, .. }
            | Insn::Store { base: Reg::FP, offset, .. }
            | Insn::Atomic { base: Reg::FP, offset, .. },
            _,
        ) => Some(i32::from(*offset)),
        // An address on the stack is the frame pointer, copied and moved.
        (
            Insn::Alu { op: AluOp::Add, dst, src: Operand::Imm(offset), .. },
            Some(Insn::Alu { op: AluOp::Mov, dst: copied, src: Operand::Reg(Reg::FP), .. }),
        ) if dst == copied => Some(*offset),
        _ => None,
    });
    lowest.min().map_or(0, |lowest| lowest.min(0).unsigned_abs())
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
