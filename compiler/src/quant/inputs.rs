//! The quantiser of one feature: from a clamping range, a zero and a wanted step to five integers.

use crate::ir::{Interval, QuantiseOne};

/// Bits of the product `x * multiplier + offset`, sign excluded: one bit of slack below 63.
const PRODUCT_BITS: f64 = 61.0;
/// Precision of the multiplier; more would only shrink the room for the feature.
const MULTIPLIER_BITS: f64 = 30.0;

/// A quantiser and the real (here: raw) values that its results stand for: `zero + step * q`.
#[derive(Debug, Clone, Copy)]
pub(super) struct InputScale {
    pub(super) one: QuantiseOne,
    pub(super) zero: f64,
    pub(super) step: f64,
    /// What `q` lies in.
    pub(super) q: Interval,
}

/// Chooses multiplier, offset and shift so that `q` is `(x - centre) / step` rounded to nearest, halves up.
///
/// A step is at least one raw unit: finer ones would cost bits and hold nothing. `step` and `zero` are then
/// computed back from the integers, so that rounding the multiplier is no error.
pub(super) fn quantiser(range: Interval, centre: f64, step: f64) -> InputScale {
    let centre = centre.clamp(range.low as f64, range.high as f64);
    let (multiplier, shift) = if step <= 1.0 {
        (1, 0)
    } else {
        let reach = (range.low as f64).abs().max((range.high as f64).abs());
        let room = (PRODUCT_BITS - (2.0 * reach / step + 2.0).log2()).floor();
        let shift = room.min(MULTIPLIER_BITS + step.log2().floor()).clamp(0.0, 62.0);
        (((shift.exp2() / step).round() as i64).max(1), shift as u8)
    };
    let half = if shift == 0 { 0 } else { 1i64 << (shift - 1) };
    // |centre * multiplier| <= 2^61 by the choice of the shift; the conversion saturates in any case.
    let offset = half.saturating_sub((centre * multiplier as f64).round() as i64);
    let one = QuantiseOne { low: range.low, high: range.high, multiplier, offset, shift };
    let step = f64::from(shift).exp2() / multiplier as f64;
    let zero = (half as f64 - offset as f64) / multiplier as f64;
    let q = Interval { low: one.accumulate(range.low) >> shift, high: one.accumulate(range.high) >> shift };
    InputScale { one, zero, step, q }
}
