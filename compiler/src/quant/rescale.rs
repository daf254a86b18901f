//! Sums in the steps of a table, or in levels: the integers of a quantiser between two operations.

use super::curve::Curve;
use crate::check::MOST_RAW;
use crate::ir::{Interval, QuantiseOne};
use crate::model::Levels;

/// Bits of a clamped product and its offset.
const PRODUCT_BITS: f64 = 60.0;
/// More precision than sums have would only shrink the room.
const MOST_SHIFT: f64 = 50.0;
/// Corrections of a clamp by one.
const CORRECTIONS: usize = 64;

/// A quantiser and the real values that its results, or the table's behind it, stand for: `zero + unit * n`.
pub(super) struct Rescaled {
    pub(super) one: QuantiseOne,
    pub(super) unit: f64,
    pub(super) zero: f64,
}

impl Rescaled {
    /// What the quantiser gives.
    pub(super) fn values(&self) -> Interval {
        let one = &self.one;
        Interval { low: one.accumulate(one.low) >> one.shift, high: one.accumulate(one.high) >> one.shift }
    }
}

/// A sum that stays what it is, up to `top` on either side, as a number of so many bits that is not negative.
pub(super) fn kept(unit: f64, top: f64, bits: u8, reached: Interval) -> Option<Rescaled> {
    let limits = Interval { low: 0, high: (1 << bits) - 1 };
    let top = if top > 0.0 { top } else { 1.0 };
    let step = 2.0 * top / limits.high as f64;
    let one = clamped(line(unit / step, top / step, limits, 0.5)?, limits, reached)?;
    Some(Rescaled { one, unit: step, zero: -top })
}

/// The place of a sum in a table; one of `unit` each, of those that can be `reached`.
pub(super) fn steps(unit: f64, curve: &Curve, reached: Interval) -> Option<QuantiseOne> {
    let limits = Interval { low: 0, high: curve.greatest() };
    let part = curve.step / f64::from(curve.fraction).exp2();
    let rounding = if curve.fraction == 0 { 0.0 } else { 0.5 };
    let one = line(unit / part, -curve.start / part, limits, rounding)?;
    // A sum that is just where a step begins belongs to the one before, as values at a jump do.
    clamped(QuantiseOne { offset: one.offset - 1, ..one }, limits, reached)
}

/// The level of a sum, less the one that stands for zero; halves are rounded up.
pub(super) fn levels(unit: f64, levels: Levels, reached: Interval) -> Option<QuantiseOne> {
    let limits = Interval { low: levels.low - levels.zero, high: levels.high - levels.zero };
    clamped(line(unit / levels.scale, 0.0, limits, 0.5)?, limits, reached)
}

/// The argument of a gate, in steps of `step` between its limits; halves are rounded up.
pub(super) fn argument(unit: f64, step: f64, limits: Interval, reached: Interval) -> Option<QuantiseOne> {
    clamped(line(unit / step, 0.0, limits, 0.5)?, limits, reached)
}

/// `(x * multiplier + offset) >> shift` for `floor(slope * x + start + rounding)`, with `slope` above zero.
fn line(slope: f64, start: f64, limits: Interval, rounding: f64) -> Option<QuantiseOne> {
    let most = (limits.low.abs().max(limits.high.abs()) as f64 + start.abs() + slope + 2.0) * 2.0;
    let shift = (PRODUCT_BITS - most.log2()).floor().min(MOST_SHIFT - slope.log2().min(0.0)).min(62.0);
    if shift.is_nan() || shift < 1.0 {
        return None;
    }
    let scale = shift.exp2();
    Some(QuantiseOne {
        low: 0,
        high: 0,
        multiplier: (slope * scale).round() as i64,
        offset: ((start + rounding) * scale).round() as i64,
        shift: shift as u8,
    })
    .filter(|one| one.multiplier > 0)
}

/// The same with the clamps at which results leave their limits, and no farther out than sums can be.
fn clamped(one: QuantiseOne, limits: Interval, reached: Interval) -> Option<QuantiseOne> {
    let result = |x: i64| (i128::from(x) * i128::from(one.multiplier) + i128::from(one.offset)) >> one.shift;
    let place = |level: i64| {
        let wanted = (i128::from(level) << one.shift) - i128::from(one.offset);
        i64::try_from(wanted.div_euclid(i128::from(one.multiplier))).ok()
    };
    let mut low = place(limits.low)?;
    for _ in 0..CORRECTIONS {
        if result(low) >= i128::from(limits.low) {
            break;
        }
        low = low.checked_add(1)?;
    }
    let mut high = place(limits.high.checked_add(1)?)?;
    for _ in 0..CORRECTIONS {
        if result(high) <= i128::from(limits.high) {
            break;
        }
        high = high.checked_sub(1)?;
    }
    // Sums beyond the limits on one side only leave a single value.
    let (least, most) = (reached.low.max(-MOST_RAW), reached.high.min(MOST_RAW));
    let low = low.clamp(least, most.max(least));
    let high = high.clamp(low, most.max(low));
    let inside = |x: i64| (i128::from(limits.low)..=i128::from(limits.high)).contains(&result(x));
    if inside(low) && inside(high) {
        return Some(QuantiseOne { low, high, ..one });
    }
    // All that can be reached lies on one side.
    let level = if result(high) < i128::from(limits.low) { limits.low } else { limits.high };
    Some(QuantiseOne {
        low,
        high: low,
        multiplier: 0,
        offset: level.checked_shl(u32::from(one.shift))?,
        ..one
    })
}
