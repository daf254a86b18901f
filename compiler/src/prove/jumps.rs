//! Where jumps lead: comparisons of numbers and of intervals, and code that returns without a verdict.

use std::collections::HashMap;

use super::term::Reason;
use crate::bpf::{AluOp, Cond, Insn, Label, Operand, Reg, Width};
use crate::ir::Interval;

/// Steps that a refusal may take.
const REFUSAL_STEPS: usize = 16;

/// Whether nothing can run off the end of a function, as the kernel demands of any code.
pub(super) fn ends(code: &[Insn<Reg>]) -> Result<(), Reason> {
    match code.last() {
        Some(Insn::Exit | Insn::Goto { .. }) => Ok(()),
        _ => Err("runs off its end".to_owned()),
    }
}

/// Whether code returns 1 at once.
pub(super) fn refuses(code: &[Insn<Reg>], labels: &HashMap<Label, usize>, start: usize) -> bool {
    let (mut at, mut result) = (start, None);
    for _ in 0..REFUSAL_STEPS {
        let Some(insn) = code.get(at) else { return false };
        at += 1;
        match insn {
            Insn::Label(_) => {}
            Insn::Goto { target } => match labels.get(target) {
                Some(&target) => at = target,
                None => return false,
            },
            Insn::Alu { width: Width::W64, op: AluOp::Mov, dst: Reg::R0, src: Operand::Imm(value) } => {
                result = Some(*value);
            }
            Insn::Exit => return result == Some(1),
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::LoadImm64 { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::Jump { .. }
            | Insn::Call { .. }
            | Insn::CallFunction { .. } => return false,
        }
    }
    false
}

/// Whether a comparison of numbers holds.
pub(super) fn holds(width: Width, cond: Cond, a: u64, b: u64) -> bool {
    // Moved to the top, halves compare as whole numbers do.
    let (a, b) = if width == Width::W64 { (a, b) } else { (a << 32, b << 32) };
    let (signed_a, signed_b) = (a.cast_signed(), b.cast_signed());
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Set => a & b != 0,
        Cond::Sgt => signed_a > signed_b,
        Cond::Sge => signed_a >= signed_b,
        Cond::Slt => signed_a < signed_b,
        Cond::Sle => signed_a <= signed_b,
    }
}

/// The outcome of a comparison of 64 bits that is the same for all numbers of two intervals.
pub(super) fn decided(cond: Cond, a: Interval, b: Interval) -> Option<bool> {
    let positive = a.low >= 0 && b.low >= 0;
    let less = |a: Interval, b: Interval| {
        if a.high < b.low {
            Some(true)
        } else if a.low >= b.high {
            Some(false)
        } else {
            None
        }
    };
    match cond {
        Cond::Lt | Cond::Gt | Cond::Le | Cond::Ge if !positive => None,
        Cond::Lt | Cond::Slt => less(a, b),
        Cond::Gt | Cond::Sgt => less(b, a),
        Cond::Le | Cond::Sle => less(b, a).map(|less| !less),
        Cond::Ge | Cond::Sge => less(a, b).map(|less| !less),
        Cond::Eq | Cond::Ne | Cond::Set => None,
    }
}
