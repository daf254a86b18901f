//! Arithmetic, comparisons and atomic updates on plain numbers, as the kernel defines them.
//!
//! Division by zero gives 0 and modulus by zero leaves the dividend (`Documentation/bpf/standardization`,
//! "Arithmetic instructions"); shift counts are masked; 32-bit results are zero-extended.

use crate::bpf::{AluOp, AtomicOp, Cond, Width};

/// `a op b`.
#[inline(always)]
pub(super) fn alu(width: Width, op: AluOp, a: u64, b: u64) -> u64 {
    match width {
        Width::W64 => alu64(op, a, b),
        Width::W32 => u64::from(alu32(op, a as u32, b as u32)),
    }
}

#[inline(always)]
fn alu64(op: AluOp, a: u64, b: u64) -> u64 {
    match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Lsh => a.wrapping_shl(b as u32),
        AluOp::Rsh => a.wrapping_shr(b as u32),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Arsh => a.cast_signed().wrapping_shr(b as u32).cast_unsigned(),
    }
}

#[inline(always)]
fn alu32(op: AluOp, a: u32, b: u32) -> u32 {
    match op {
        AluOp::Add => a.wrapping_add(b),
        AluOp::Sub => a.wrapping_sub(b),
        AluOp::Mul => a.wrapping_mul(b),
        AluOp::Div => a.checked_div(b).unwrap_or(0),
        AluOp::Or => a | b,
        AluOp::And => a & b,
        AluOp::Lsh => a.wrapping_shl(b),
        AluOp::Rsh => a.wrapping_shr(b),
        AluOp::Mod => a.checked_rem(b).unwrap_or(a),
        AluOp::Xor => a ^ b,
        AluOp::Mov => b,
        AluOp::Arsh => a.cast_signed().wrapping_shr(b).cast_unsigned(),
    }
}

/// `-a`.
pub(super) fn neg(width: Width, a: u64) -> u64 {
    match width {
        Width::W64 => a.wrapping_neg(),
        Width::W32 => u64::from((a as u32).wrapping_neg()),
    }
}

/// The low `bits` in network order, the rest cleared.
pub(super) fn to_big_endian(bits: u8, a: u64) -> u64 {
    match bits {
        16 => u64::from((a as u16).swap_bytes()),
        32 => u64::from((a as u32).swap_bytes()),
        _ => a.swap_bytes(),
    }
}

/// Whether the condition holds.
#[inline(always)]
pub(super) fn holds(width: Width, cond: Cond, a: u64, b: u64) -> bool {
    // Extending the low halves keeps every comparison: with zeros for the unsigned, with the sign for the signed.
    let (a, b, sa, sb) = match width {
        Width::W64 => (a, b, a.cast_signed(), b.cast_signed()),
        Width::W32 => (
            u64::from(a as u32),
            u64::from(b as u32),
            i64::from((a as u32).cast_signed()),
            i64::from((b as u32).cast_signed()),
        ),
    };
    match cond {
        Cond::Eq => a == b,
        Cond::Ne => a != b,
        Cond::Gt => a > b,
        Cond::Ge => a >= b,
        Cond::Lt => a < b,
        Cond::Le => a <= b,
        Cond::Set => a & b != 0,
        Cond::Sgt => sa > sb,
        Cond::Sge => sa >= sb,
        Cond::Slt => sa < sb,
        Cond::Sle => sa <= sb,
    }
}

/// Where the old value of an atomic update goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OldValue {
    Dropped,
    ToSource,
    ToR0,
}

/// The value after an atomic update of `old`, and where `old` goes. For 32 bits all arguments are the low halves.
pub(super) fn atomic(op: AtomicOp, old: u64, source: u64, r0: u64) -> (u64, OldValue) {
    match op {
        AtomicOp::Add => (old.wrapping_add(source), OldValue::Dropped),
        AtomicOp::Or => (old | source, OldValue::Dropped),
        AtomicOp::And => (old & source, OldValue::Dropped),
        AtomicOp::Xor => (old ^ source, OldValue::Dropped),
        AtomicOp::FetchAdd => (old.wrapping_add(source), OldValue::ToSource),
        AtomicOp::FetchOr => (old | source, OldValue::ToSource),
        AtomicOp::FetchAnd => (old & source, OldValue::ToSource),
        AtomicOp::FetchXor => (old ^ source, OldValue::ToSource),
        AtomicOp::Xchg => (source, OldValue::ToSource),
        AtomicOp::CmpXchg => (if old == r0 { source } else { old }, OldValue::ToR0),
    }
}
