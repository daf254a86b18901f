//! One multiply-accumulate: by a word that is loaded, or by a small one that is part of the code and then often
//! costs less than a multiplication.
//!
//! Which words belong to which registers is decided in `dense`.

use super::emit::{Emitter, immediate};
use crate::bpf::AluOp;
use crate::lower::code::VReg;

/// `accumulator += weight * x`, with the weight at a byte offset within the slot.
pub(super) fn add(emitter: &mut Emitter, accumulator: VReg, x: VReg, at: u32) {
    match emitter.constant(at).filter(|weight| is_part_of_code(*weight)) {
        Some(weight) => add_constant(emitter, accumulator, x, weight),
        None => {
            let product = emitter.parameter(at);
            emitter.b.mul(product, x);
            emitter.b.add(accumulator, product);
        }
    }
}

/// A weight of more than 32 bits takes two places of the code, and costs more than one load.
fn is_part_of_code(weight: u64) -> bool {
    immediate(weight).is_some() || weight.is_power_of_two() || weight.wrapping_neg().is_power_of_two()
}

/// Packed words are numbers modulo 2^64 like any other: lanes do not matter here.
fn add_constant(emitter: &mut Emitter, accumulator: VReg, x: VReg, weight: u64) {
    let b = &mut emitter.b;
    let opposite = weight.wrapping_neg();
    let shift_of = |power: u64| i32::try_from(power.trailing_zeros()).unwrap_or(0);
    match (weight, opposite) {
        (0, _) => {}
        (1, _) => b.add(accumulator, x),
        (_, 1) => b.sub(accumulator, x),
        (power, _) if power.is_power_of_two() => {
            let product = b.compute(AluOp::Lsh, x, shift_of(power));
            b.add(accumulator, product);
        }
        (_, power) if power.is_power_of_two() => {
            let product = b.compute(AluOp::Lsh, x, shift_of(power));
            b.sub(accumulator, product);
        }
        (weight, _) => {
            let product = match i32::try_from(weight.cast_signed()) {
                Ok(small) => b.compute(AluOp::Mul, x, small),
                Err(_) => {
                    let wide = b.constant(weight.cast_signed());
                    b.mul(wide, x);
                    wide
                }
            };
            b.add(accumulator, product);
        }
    }
}
