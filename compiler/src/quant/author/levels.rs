//! Integers to the levels of a model that was quantised by its author, without any difference.
//!
//! A level is the rounded value of a real line over an integer. Code rounds a product with an integer multiplier;
//! both only grow with the integer, so that they agree everywhere when they agree beside every step.

use std::cmp::Ordering;

use super::exact::Dyadic;
use crate::ir::{HALF_BITS, Interval, QuantiseOne};
use crate::model::Levels;

/// Levels beyond this many are all the same: they saturate.
const FAR: f64 = (1u64 << 40) as f64;
/// Relative error of a line computed in floats, with room to spare.
const FLOAT_ERROR: f64 = 1e-12;
/// Bits of a clamped product and its offset.
const PRODUCT_BITS: f64 = 61.0;
/// What is near to a half is far less than a level.
const LEAST_SHIFT: f64 = HALF_BITS as f64 + 8.0;
const CONSTANT_SHIFT: u8 = HALF_BITS + 8;
/// Most bits that are dropped of a feature.
const MOST_DROPPED: f64 = 48.0;
/// A multiplier has no more bits than a float.
const MULTIPLIER_BITS: f64 = 52.0;

/// `levels(max(slope * n + offset, least))` as a function of an integer `n`.
#[derive(Debug, Clone)]
pub(super) struct Line {
    pub(super) slope: Dyadic,
    pub(super) offset: Dyadic,
    pub(super) levels: Levels,
    /// Lowest level that is left by a ReLU in front.
    pub(super) floor: Option<i64>,
}

impl Line {
    /// Slope and offset in levels.
    fn approximate(&self) -> (f64, f64) {
        (self.slope.value() / self.levels.scale, self.offset.value() / self.levels.scale)
    }

    /// The line so many levels higher.
    fn moved(&self, levels: f64) -> Self {
        let offset = self.offset.value() + levels * self.levels.scale;
        Self { offset: Dyadic::of(offset), ..self.clone() }
    }

    /// The level of `n`, less the one that stands for zero.
    pub(super) fn level(&self, n: i64) -> i64 {
        let (slope, offset) = self.approximate();
        let (product, low, high) =
            (slope * n as f64, self.levels.low - self.levels.zero, self.levels.high - self.levels.zero);
        let near = product + offset;
        let level = if near.abs() > FAR {
            if near > 0.0 { high } else { low }
        } else {
            let below = near.floor();
            let doubt = FLOAT_ERROR * (product.abs() + offset.abs() + 1.0);
            if (near - below - 0.5).abs() > doubt {
                near.round() as i64
            } else {
                self.beside_half(n, below as i64).unwrap_or(near.round_ties_even() as i64)
            }
        };
        // A ReLU in front leaves no more than the highest level, and one behind no less than zero.
        level.clamp(low, high).max(self.floor.unwrap_or(i64::MIN))
    }

    /// The level of a value that lies next to `below + 1/2`.
    fn beside_half(&self, n: i64, below: i64) -> Option<i64> {
        let value = self.slope.times(Dyadic::integer(n))?.plus(self.offset)?;
        let half = Dyadic::integer(2 * below + 1).times(Dyadic::of(self.levels.scale * 0.5))?;
        Some(match value.plus(half.negated())?.sign() {
            Ordering::Less => below,
            Ordering::Greater => below + 1,
            Ordering::Equal => below + (below & 1),
        })
    }
}

/// An integer form of a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Rescale {
    pub(super) one: QuantiseOne,
    /// Levels that arise.
    pub(super) levels: Interval,
    /// What they have to be clamped to; the same, unless more was allowed.
    pub(super) clamps: Interval,
}

/// A line over integers that were moved, and shortened if need be.
#[derive(Debug, Clone)]
pub(super) struct Moved {
    /// What moves and shortens them.
    pub(super) one: QuantiseOne,
    /// The line over what comes of it, and the integers that can.
    pub(super) line: Line,
    pub(super) domain: Interval,
    /// How far from the line this one may lie, in levels.
    pub(super) lost: f64,
}

/// A line over small integers: those between which levels change, less their middle and, if it `drops` any, without
/// their last bits. Of an integer and a multiplier of which 64 bits hold the product neither then needs more bits than
/// the other. `None` where the line cannot be moved exactly.
pub(super) fn moved(line: &Line, domain: Interval, drops: bool) -> Option<Moved> {
    let (lowest, highest) = (line.level(domain.low), line.level(domain.high));
    if lowest == highest {
        let at = 0i64.clamp(domain.low, domain.high);
        let one = QuantiseOne { low: at, high: at, multiplier: 1, offset: -at, shift: 0 };
        let offset = Dyadic::integer(lowest).times(Dyadic::of(line.levels.scale))?;
        let line = Line { slope: Dyadic::integer(0), offset, ..line.clone() };
        return Some(Moved { one, line, domain: Interval { low: 0, high: 0 }, lost: 0.0 });
    }
    let (slope, offset) = line.approximate();
    let reached = |level: f64| (level - offset) / slope;
    let ends = [reached(lowest.min(highest) as f64 - 1.0), reached(lowest.max(highest) as f64 + 1.0)];
    let low = (ends.into_iter().fold(f64::INFINITY, f64::min).floor() as i64).clamp(domain.low, domain.high);
    let high = (ends.into_iter().fold(f64::NEG_INFINITY, f64::max).ceil() as i64).clamp(low, domain.high);
    if line.level(low) != lowest || line.level(high) != highest {
        return None;
    }
    let middle = low + (high - low) / 2;
    let steepness = slope.abs();
    let shift = if drops {
        let reach = (high - low) as f64 / 2.0 + 1.0;
        let room = 2.0 * (line.levels.high - line.levels.low) as f64 + steepness * reach + 4.0;
        let bits = PRODUCT_BITS - room.log2();
        // What is dropped, steepness * 2^shift, and what a rounded multiplier is off by, reach * 2^-(shift + bits).
        ((reach.log2() - steepness.log2() - bits) / 2.0).round().clamp(0.0, MOST_DROPPED) as u8
    } else {
        0
    };
    let kept = |n: i64| (n - middle) >> shift;
    let step = Dyadic::integer(1i64 << shift);
    // Half of what is dropped is given back.
    let back = if shift == 0 { Dyadic::integer(0) } else { Dyadic::of(f64::from(shift - 1).exp2()) };
    let at = line.slope.times(Dyadic::integer(middle).plus(back)?)?.plus(line.offset)?;
    Some(Moved {
        one: QuantiseOne { low, high, multiplier: 1, offset: -middle, shift },
        line: Line { slope: line.slope.times(step)?, offset: at, ..line.clone() },
        domain: Interval { low: kept(low), high: kept(high) },
        lost: if shift == 0 { 0.0 } else { steepness * f64::from(shift - 1).exp2() },
    })
}

/// What an integer form must be.
#[derive(Debug, Clone, Copy)]
pub(super) struct Demand {
    /// Halves are rounded to even numbers instead of up.
    pub(super) even: bool,
    /// How far from a half, in levels, the neighbouring level may be given. Raw features of many bits times a
    /// multiplier of many bits do not fit 64 bits, so that their levels cannot always be told exactly.
    pub(super) slack: f64,
    /// Integers that arise are whole multiples of this.
    pub(super) grid: i64,
    /// Levels may go on where the line's saturate, by less than a step of an integer: a clamp behind them cuts them.
    pub(super) beyond: bool,
}

/// The integer form of a line over some integers; `None` when no multiplier gives the levels that are demanded.
pub(super) fn rescale(line: &Line, domain: Interval, demand: Demand) -> Option<Rescale> {
    match line.slope.sign() {
        Ordering::Equal => Some(constant(line.level(0), domain)),
        Ordering::Greater => rising(line, domain, demand),
        Ordering::Less => {
            let mirrored = Line { slope: line.slope.negated(), ..line.clone() };
            let domain = Interval { low: domain.high.checked_neg()?, high: domain.low.checked_neg()? };
            let Rescale { one, levels, clamps } = rising(&mirrored, domain, demand)?;
            let one = QuantiseOne { low: -one.high, high: -one.low, multiplier: -one.multiplier, ..one };
            Some(Rescale { one, levels, clamps })
        }
    }
}

/// One level whatever comes.
fn constant(level: i64, domain: Interval) -> Rescale {
    let at = 0i64.clamp(domain.low, domain.high);
    let one = QuantiseOne {
        low: at,
        high: at,
        multiplier: 0,
        offset: level << CONSTANT_SHIFT,
        shift: CONSTANT_SHIFT,
    };
    let levels = Interval { low: level, high: level };
    Rescale { one, levels, clamps: levels }
}

fn rising(line: &Line, domain: Interval, Demand { even, slack, grid, beyond }: Demand) -> Option<Rescale> {
    let (lowest, highest) = (line.level(domain.low), line.level(domain.high));
    if lowest == highest {
        return Some(constant(lowest, domain));
    }
    let (slope, offset) = line.approximate();
    // Integers between which levels change, a little wider.
    let reached = |level: f64| ((level - offset) / slope).clamp(domain.low as f64, domain.high as f64);
    let reach = reached(lowest as f64 - 1.0).abs().max(reached(highest as f64 + 1.0).abs()) + 1.0;
    // Results may be moved above zero, by less than twice all levels.
    let moved = 2.0 * (line.levels.high - line.levels.low) as f64;
    let room = PRODUCT_BITS - (slope * reach + offset.abs() + moved + 2.0).log2();
    let shift = room.min(MULTIPLIER_BITS - slope.log2()).floor();
    if !(LEAST_SHIFT..=62.0).contains(&shift) {
        return None;
    }
    let (shift, scale) = (shift as u8, shift.exp2());
    let multiplier = (slope * scale).round() as i64;
    let half = (1i64 << (shift - 1)) - (i64::from(even) << (HALF_BITS - 1));
    let offset = ((offset * scale).round() as i64).checked_add(half)?;
    let one = QuantiseOne { low: 0, high: 0, multiplier, offset, shift };
    // The first integer whose product reaches a level.
    let first = |level: i64| -> Option<i64> {
        let reached = i128::from(level) << shift;
        let reached = reached - (i128::from(even && level & 1 == 0) << HALF_BITS) - i128::from(offset);
        i64::try_from(
            reached.div_euclid(i128::from(multiplier))
                + i128::from(reached.rem_euclid(i128::from(multiplier)) != 0),
        )
        .ok()
    };
    let (above, below) =
        if slack > 0.0 { (line.moved(slack), line.moved(-slack)) } else { (line.clone(), line.clone()) };
    for level in lowest + 1..=highest {
        // The first integer on the grid, and the last one before it.
        let step = first(level)?;
        let step = step.checked_add((-step).rem_euclid(grid))?;
        let beside = step > domain.low && step <= domain.high;
        if !beside || above.level(step) < level || below.level(step - grid) >= level {
            return None;
        }
    }
    let (low, high) = (first(lowest + 1)? - 1, first(highest)?);
    let result = |n: i64| {
        let product = i128::from(n) * i128::from(multiplier) + i128::from(offset);
        let odd = if even { (product >> shift) & 1 } else { 0 };
        i64::try_from((product + (odd << HALF_BITS)) >> shift).ok()
    };
    let clamps = Interval { low: lowest, high: highest };
    let levels = Interval { low: result(low)?, high: result(high)? };
    // Coarse integers may step over several levels, and a clamped one give another than the last.
    let fits = multiplier > 0 && (beyond || levels == clamps);
    fits.then_some(Rescale { one: QuantiseOne { low, high, ..one }, levels, clamps })
}
