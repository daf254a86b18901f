//! Functions that are no sums of ReLUs, by tables: over which numbers, in which steps, and how far off at most.
//!
//! The sums of a layer are cut into equal steps, with an entry where each begins and a straight line to the next one;
//! or, for a function that jumps, with one entry for each step. Bounds follow from the function's second derivative
//! and its kinks; nothing is sampled.

use super::gate;
use crate::model::{Function, Levels};

/// Entries of a table, as a power of two, unless the search wants more or less.
pub(super) const INDEX_BITS: i32 = 12;
const LEAST_INDEX_BITS: i32 = 6;
const MOST_INDEX_BITS: i32 = 15;
/// Bits between two entries.
const FRACTION: u8 = 10;
/// A sum is no finer than so many parts of a step.
pub(super) const PARTS: f64 = (1 << 18) as f64;
/// A table goes so many times as far as any row to cover all that is not flat.
const FLAT_REACH: f64 = 8.0;
/// Bisections that find where a function is flat.
const BISECTIONS: usize = 60;
/// Entries have so many bits.
pub(super) const LEAST_BITS: u8 = 6;
pub(super) const MOST_BITS: u8 = 16;
/// Sums that no row showed may be so many times as large before they saturate.
pub(super) const MARGIN: f64 = 1.25;

/// A function by a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curve {
    pub(super) function: Function,
    /// Entries, as a power of two, and bits between two of them.
    pub(super) bits: u8,
    pub(super) fraction: u8,
    /// Where the first step begins, and how long each is.
    pub(super) start: f64,
    pub(super) step: f64,
    pub(super) entries: Vec<u16>,
    /// An entry stands for `zero + unit * entry`.
    pub(super) zero: f64,
    pub(super) unit: f64,
    /// Bound of the distance from the function, over the steps and wherever the function is flat beyond them.
    pub(super) error: f64,
    /// Whether the function is flat beyond the table: below, and above.
    pub(super) flat: [bool; 2],
}

/// How many entries the search asks for.
pub(super) fn index_bits(more: i32) -> u8 {
    (INDEX_BITS + more).clamp(LEAST_INDEX_BITS, MOST_INDEX_BITS) as u8
}

/// The least and the greatest value of a function over some numbers, and where it goes from there if it becomes flat.
pub(crate) fn span(function: Function, low: f64, high: f64) -> (f64, f64) {
    let Shape { turns, jump, limits, .. } = shape(function);
    let inner = turns.into_iter().chain(jump).filter(|turn| (low..=high).contains(turn));
    let places = inner.chain([low, high]).map(|x| function.apply(x)).chain(limits.into_iter().flatten());
    places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
}

/// The distance of both over numbers up to `top` on either side.
pub(super) fn height(function: Function, top: f64) -> f64 {
    let (low, high) = span(function, -top, top);
    high - low
}

/// About how fine the sums before a function are at most, when none is larger than `top`.
pub(super) fn part(function: Function, top: f64) -> f64 {
    match way(function) {
        Way::Levels(levels) => levels.scale / PARTS,
        Way::Step => 0.0,
        Way::Gate => gate::part(top),
        Way::Table => 2.0 * top / f64::from(INDEX_BITS).exp2() / PARTS,
    }
}

/// How a function becomes integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Way {
    /// Sums are rounded to levels.
    Levels(Levels),
    /// Sums are 1 above zero.
    Step,
    /// A product of two integers.
    Gate,
    Table,
}

/// The way of a function.
pub(crate) fn way(function: Function) -> Way {
    match function {
        Function::Levels(levels) => Way::Levels(levels),
        Function::Step => Way::Step,
        Function::HardSwish => Way::Gate,
        Function::Sigmoid
        | Function::Tanh
        | Function::Softplus
        | Function::Softsign
        | Function::Elu { .. }
        | Function::Gelu
        | Function::TanhGelu
        | Function::Silu { .. }
        | Function::Mish
        | Function::ThresholdedRelu { .. }
        | Function::Square
        | Function::LeakyRelu { .. }
        | Function::Clip { .. }
        | Function::HardSigmoid { .. }
        | Function::LogOnePlus => Way::Table,
    }
}

/// What about the integer 0 stands for in the results of a layer with this function.
pub(super) fn origin(function: Function) -> f64 {
    match way(function) {
        Way::Levels(_) | Way::Step | Way::Gate => 0.0,
        Way::Table => span(function, -4.0, 4.0).0,
    }
}

/// The derivative, where there is one; over levels, that of what is rounded.
pub(super) fn slope(function: Function, x: f64) -> f64 {
    match function {
        Function::Levels(levels) => {
            let index = (x / levels.scale).round() + levels.zero as f64;
            f64::from(u8::from(index >= levels.low as f64 && index <= levels.high as f64))
        }
        // A step moves what follows by one over a distance of about one.
        Function::Step => f64::from(u8::from(x.abs() < 0.5)),
        Function::Sigmoid
        | Function::Tanh
        | Function::Softplus
        | Function::Softsign
        | Function::Elu { .. }
        | Function::Gelu
        | Function::TanhGelu
        | Function::Silu { .. }
        | Function::Mish
        | Function::HardSwish
        | Function::ThresholdedRelu { .. }
        | Function::Square
        | Function::LeakyRelu { .. }
        | Function::Clip { .. }
        | Function::HardSigmoid { .. }
        | Function::LogOnePlus => {
            let width = 1e-4 * (1.0 + x.abs());
            (function.apply(x + width) - function.apply(x - width)) / (2.0 * width)
        }
    }
}

/// What bounds rest on.
pub(crate) struct Shape {
    /// Between neighbours of these the function only rises or only falls.
    pub(crate) turns: Vec<f64>,
    /// Where it jumps: it has the lower value there.
    pub(crate) jump: Option<f64>,
    /// What it approaches far below and far above, monotonically beyond the turns.
    pub(crate) limits: [Option<f64>; 2],
    /// Bounds of the first derivative, of the second one between kinks, and of how much the first changes at a kink.
    pub(crate) steep: f64,
    pub(crate) bend: f64,
    pub(crate) kink: f64,
}

pub(crate) fn shape(function: Function) -> Shape {
    let smooth = |turns: Vec<f64>, limits: [Option<f64>; 2], [steep, bend, kink]: [f64; 3]| Shape {
        turns,
        jump: None,
        limits,
        steep,
        bend,
        kink,
    };
    match function {
        Function::Sigmoid => smooth(Vec::new(), [Some(0.0), Some(1.0)], [0.25, 0.0963, 0.0]),
        Function::Tanh => smooth(Vec::new(), [Some(-1.0), Some(1.0)], [1.0, 0.77, 0.0]),
        Function::Softsign => smooth(Vec::new(), [Some(-1.0), Some(1.0)], [1.0, 2.0, 0.0]),
        Function::Softplus => smooth(Vec::new(), [Some(0.0), None], [1.0, 0.25, 0.0]),
        Function::LogOnePlus => smooth(vec![0.0], [Some(0.0), None], [1.0, 1.0, 1.0]),
        Function::Elu { alpha, gamma, width } => {
            let below = (gamma * alpha / width).abs();
            let kink = (gamma - gamma * alpha / width).abs();
            let bounds = [below.max(gamma.abs()), below / width.abs(), kink];
            smooth(vec![0.0], [Some(-alpha * gamma), None], bounds)
        }
        Function::Gelu | Function::TanhGelu | Function::Mish => {
            smooth(vec![lowest(function, -3.0, 0.0)], [Some(0.0), None], [1.2, 0.9, 0.0])
        }
        Function::Silu { slope } if slope > 0.0 => {
            let turn = lowest(function, -3.0 / slope, 0.0);
            smooth(vec![turn], [Some(0.0), None], [1.1, 0.5 * slope, 0.0])
        }
        // Mirrored: x / (1 + exp(-s x)) of a negative slope falls to the left.
        Function::Silu { slope } if slope < 0.0 => {
            let turn = -lowest(Function::Silu { slope: -slope }, 3.0 / slope, 0.0);
            smooth(vec![turn], [None, Some(0.0)], [1.1, -0.5 * slope, 0.0])
        }
        Function::Silu { .. } => smooth(Vec::new(), [None, None], [0.5, 0.0, 0.0]),
        Function::HardSwish => smooth(vec![-3.0, -1.5, 3.0], [Some(0.0), None], [1.5, 1.0 / 3.0, 0.5]),
        // Its slope grows without bound: see `curve`.
        Function::Square => smooth(vec![0.0], [None, None], [0.0, 2.0, 0.0]),
        Function::LeakyRelu { slope } => {
            smooth(vec![0.0], [None, None], [slope.abs().max(1.0), 0.0, (1.0 - slope).abs()])
        }
        Function::Clip { low, high } => {
            let finite = |bound: f64| Some(bound).filter(|bound| bound.is_finite());
            let turns = [low, high].into_iter().filter(|bound| bound.is_finite()).collect();
            smooth(turns, [finite(low), finite(high)], [1.0, 0.0, 1.0])
        }
        Function::HardSigmoid { slope, offset } => {
            let ends = [-offset / slope, (1.0 - offset) / slope];
            let [low, high] = if slope < 0.0 { [1.0, 0.0] } else { [0.0, 1.0] };
            let turns = ends.into_iter().filter(|end| end.is_finite()).collect();
            smooth(turns, [Some(low), Some(high)], [slope.abs(), 0.0, slope.abs()])
        }
        Function::ThresholdedRelu { alpha } => {
            let own = smooth(vec![alpha], [Some(0.0), None], [1.0, 0.0, 0.0]);
            Shape { jump: Some(alpha), ..own }
        }
        Function::Step => {
            let own = smooth(vec![0.0], [Some(0.0), Some(1.0)], [0.0, 0.0, 0.0]);
            Shape { jump: Some(0.0), ..own }
        }
        Function::Levels(levels) => {
            let value = |level: i64| (level - levels.zero) as f64 * levels.scale;
            smooth(Vec::new(), [Some(value(levels.low)), Some(value(levels.high))], [0.0, 0.0, 0.0])
        }
    }
}

/// Where a function that first falls and then rises is lowest.
fn lowest(function: Function, mut low: f64, mut high: f64) -> f64 {
    for _ in 0..200 {
        let (first, second) = (low + (high - low) / 3.0, high - (high - low) / 3.0);
        if function.apply(first) < function.apply(second) {
            high = second;
        } else {
            low = first;
        }
    }
    f64::midpoint(low, high)
}

/// A table for numbers up to `top` on either side, with entries of so many bits.
pub(super) fn curve(function: Function, top: f64, bits: u8, entry_bits: u8) -> Option<Curve> {
    let count = 1usize << bits;
    let levels = f64::from(entry_bits.min(MOST_BITS)).exp2() - 1.0;
    // A function that is constant there needs no scale.
    let unit_of = |height: f64| if height > 0.0 { height / levels } else { 1.0 };
    let near = unit_of(height(function, top)) / 4.0;
    if !(near.is_finite() && near > 0.0 && top.is_finite() && top > 0.0) {
        return None;
    }
    let Shape { turns, jump, limits, steep, bend, kink } = shape(function);
    let [below, above] = limits;
    // A side on which the function is flat before long is covered up to there, whatever the rows reached.
    let side = |limit: Option<f64>, sign: f64| -> (f64, bool) {
        let Some(limit) = limit else { return (sign * top, false) };
        let far = sign * top * FLAT_REACH;
        let inner = turns.iter().map(|turn| turn * sign).fold(0.0, f64::max).min(top);
        match flat(function, limit, far, sign * inner, near) {
            Some(end) => (end, true),
            None => (far, false),
        }
    };
    let ((mut start, below_flat), (end, above_flat)) = (side(below, -1.0), side(above, 1.0));
    let fraction = if jump.is_some() { 0 } else { FRACTION };
    // With lines between them the last entry is the end of a step.
    let steps = if fraction == 0 { count } else { count - 1 };
    let (zero, greatest) = span(function, start, end);
    let unit = unit_of(greatest - zero);
    let step = (end - start) / steps as f64;
    if step.is_nan() || step <= 0.0 {
        return None;
    }
    if let Some(jump) = jump.filter(|jump| (start..=end).contains(jump)) {
        // A step begins where the function jumps.
        start = jump - ((jump - start) / step).round() * step;
    }
    let within = if fraction == 0 { 0.5 } else { 0.0 };
    let entries = (0..count)
        .map(|index| {
            let value = function.apply(start + (index as f64 + within) * step);
            ((value - zero) / unit).round().clamp(0.0, levels) as u16
        })
        .collect();
    let steep = if function == Function::Square { 2.0 * top } else { steep };
    // A sum is rounded to a part of a step, and its product with a multiplier to much less.
    let place = if fraction == 0 { 0.5 * step + step / PARTS } else { step / f64::from(fraction).exp2() };
    let line = if fraction == 0 { 0.0 } else { bend * step * step / 8.0 + kink * step / 4.0 };
    // Entries are rounded to nearest, what lies between is rounded down, and what is flat differs by a quarter.
    let error = steep * place + line + 1.75 * unit;
    let flat = [below_flat, above_flat];
    Some(Curve { function, bits, fraction, start, step, entries, zero, unit, error, flat })
}

/// The number nearest to zero beyond which the function stays within `near` of its limit, between `far` and `inner`;
/// `None` when `far` is not far enough.
fn flat(function: Function, limit: f64, far: f64, inner: f64, near: f64) -> Option<f64> {
    if (function.apply(far) - limit).abs() > near {
        return None;
    }
    let (mut outside, mut inside) = (far, inner);
    for _ in 0..BISECTIONS {
        let middle = f64::midpoint(outside, inside);
        if (function.apply(middle) - limit).abs() > near {
            inside = middle;
        } else {
            outside = middle;
        }
    }
    Some(outside)
}

impl Curve {
    /// The greatest number that a table of this plan takes.
    pub(super) fn greatest(&self) -> i64 {
        let entries = 1i64 << self.bits;
        if self.fraction == 0 { entries - 1 } else { ((entries - 1) << self.fraction) - 1 }
    }

    /// Where the last step ends.
    pub(super) fn end(&self) -> f64 {
        self.start + self.step * (self.greatest() + 1) as f64 / f64::from(self.fraction).exp2()
    }
}

#[cfg(test)]
#[path = "curve_tests.rs"]
mod tests;
