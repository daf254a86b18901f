//! A probability over more than two classes as code: a sum of powers against its limit, without a branch or a table.
//!
//! [`crate::ir::softmax`] says what is computed, `docs/numerics.md` why.

use super::decide::value;
use super::emit::Emitter;
use crate::bpf::AluOp;
use crate::ir::softmax::{BITS, COEFFICIENTS, ONE, SHIFT};
use crate::lower::code::VReg;
use crate::lower::scratch::Scratch;
use crate::params::layout::word_bytes;

/// 1 when the powers of the leads of `class` sum up to at most [`ONE`]; the parameters stand at `at`.
pub(super) fn reached(
    emitter: &mut Emitter,
    scratch: &Scratch,
    places: &[usize],
    class: usize,
    at: u32,
) -> VReg {
    let left = emitter.b.constant(ONE);
    for other in (0..places.len()).filter(|other| *other != class) {
        let lead = value(emitter, scratch, places, class);
        let behind = value(emitter, scratch, places, other);
        emitter.b.sub(lead, behind);
        exponent(emitter, lead, at);
        let power = power(emitter, lead);
        emitter.b.sub(left, power);
    }
    // Negative when the sum exceeds the limit.
    emitter.b.rsh(left, 63);
    emitter.b.xor(left, 1);
    left
}

/// `lead = ((min(max(lead - low, 0) - span, 0) >> drop) * multiplier + offset) >> SHIFT`. The certificate keeps
/// leads within the bounds of quantisers, so that no difference overflows.
fn exponent(emitter: &mut Emitter, lead: VReg, at: u32) {
    let word = |index| at + word_bytes(index);
    emitter.with_parameter(AluOp::Sub, lead, word(0));
    emitter.max_zero(lead);
    emitter.with_parameter(AluOp::Sub, lead, word(1));
    emitter.min_zero(lead);
    emitter.arsh_by_parameter(lead, word(2));
    emitter.with_parameter(AluOp::Mul, lead, word(3));
    emitter.with_parameter(AluOp::Add, lead, word(4));
    emitter.b.arsh(lead, immediate(i64::from(SHIFT)));
}

/// `2^(1 - exponent)`: a polynomial of the fraction, shifted by the whole part.
fn power(emitter: &mut Emitter, exponent: VReg) -> VReg {
    let bits = immediate(i64::from(BITS));
    let fraction = emitter.b.compute(AluOp::And, exponent, immediate(ONE - 1));
    emitter.b.sub(fraction, immediate(ONE / 2));
    let [first @ .., last] = COEFFICIENTS;
    let sum = emitter.b.constant(last);
    for coefficient in first.into_iter().rev() {
        emitter.b.mul(sum, fraction);
        emitter.b.arsh(sum, bits);
        emitter.b.add(sum, immediate(coefficient));
    }
    emitter.b.arsh(exponent, bits);
    // The certificate keeps the whole part below 64; the mask makes that part of the program's meaning.
    emitter.b.and(exponent, 63);
    emitter.b.arsh(sum, exponent);
    sum
}

/// All constants here are of 31 bits and a sign.
fn immediate(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
