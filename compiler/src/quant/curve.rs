//! Functions that are no sums of ReLUs, by tables: over which numbers, in which steps, and how far off at most.
//!
//! The sums of a layer are cut into equal steps, each of which has one entry. Every bound here is taken over whole
//! steps, from the ends and the extremes of the function; nothing is sampled.

use crate::model::{Function, Levels};

/// Entries of a table, as a power of two, unless the search wants more or less.
pub(super) const INDEX_BITS: i32 = 12;
const LEAST_INDEX_BITS: i32 = 6;
const MOST_INDEX_BITS: i32 = 15;
/// A sum is no finer than so many parts of a step.
pub(super) const PARTS: f64 = 4096.0;
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
    /// Entries, as a power of two.
    pub(super) bits: u8,
    /// Where the first step begins, and how long each is.
    pub(super) start: f64,
    pub(super) step: f64,
    pub(super) entries: Vec<u16>,
    /// An entry stands for `zero + unit * entry`.
    pub(super) zero: f64,
    pub(super) unit: f64,
    /// Largest distance from the function, over the steps and wherever the function is flat beyond them.
    pub(super) error: f64,
    /// Whether the function is flat beyond the table: below, and above.
    pub(super) flat: [bool; 2],
}

/// How many entries the search asks for.
pub(super) fn index_bits(more: i32) -> u8 {
    (INDEX_BITS + more).clamp(LEAST_INDEX_BITS, MOST_INDEX_BITS) as u8
}

/// The least and the greatest value of a function over numbers up to `top` on either side, and where it goes from
/// there if it becomes flat.
fn span(function: Function, top: f64) -> (f64, f64) {
    let Shape { turns, jump, limits } = shape(function);
    let inner = turns.into_iter().chain(jump).filter(|turn| turn.abs() <= top);
    let places = inner.chain([-top, top]).map(|x| function.apply(x)).chain(limits.into_iter().flatten());
    places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
}

/// The distance of both.
pub(super) fn height(function: Function, top: f64) -> f64 {
    let (low, high) = span(function, top);
    high - low
}

/// How a function becomes integers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Way {
    /// Sums are rounded to levels.
    Levels(Levels),
    /// Sums are 1 above zero.
    Step,
    Table,
}

/// The way of a function.
pub(super) fn way(function: Function) -> Way {
    match function {
        Function::Levels(levels) => Way::Levels(levels),
        Function::Step => Way::Step,
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
        | Function::LogOnePlus => Way::Table,
    }
}

/// What about the integer 0 stands for in the results of a layer with this function.
pub(super) fn origin(function: Function) -> f64 {
    match way(function) {
        Way::Levels(_) | Way::Step => 0.0,
        Way::Table => span(function, 1.0).0,
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
struct Shape {
    /// Between neighbours of these the function only rises or only falls.
    turns: Vec<f64>,
    /// Where it jumps: it has the lower value there.
    jump: Option<f64>,
    /// What it approaches far below and far above, monotonically beyond the turns.
    limits: [Option<f64>; 2],
}

fn shape(function: Function) -> Shape {
    let smooth = |turns: Vec<f64>, limits: [Option<f64>; 2]| Shape { turns, jump: None, limits };
    match function {
        Function::Sigmoid => smooth(Vec::new(), [Some(0.0), Some(1.0)]),
        Function::Tanh | Function::Softsign => smooth(Vec::new(), [Some(-1.0), Some(1.0)]),
        Function::Softplus => smooth(Vec::new(), [Some(0.0), None]),
        Function::LogOnePlus => smooth(vec![0.0], [Some(0.0), None]),
        Function::Elu { alpha, gamma, .. } => smooth(vec![0.0], [Some(-alpha * gamma), None]),
        Function::Gelu | Function::TanhGelu | Function::Mish => {
            smooth(vec![lowest(function, -3.0, 0.0)], [Some(0.0), None])
        }
        Function::Silu { slope } if slope > 0.0 => {
            smooth(vec![lowest(function, -3.0 / slope, 0.0)], [Some(0.0), None])
        }
        // Mirrored: x / (1 + exp(-s x)) of a negative slope falls to the left.
        Function::Silu { slope } if slope < 0.0 => {
            smooth(vec![-lowest(Function::Silu { slope: -slope }, 3.0 / slope, 0.0)], [None, Some(0.0)])
        }
        Function::Silu { .. } => smooth(Vec::new(), [None, None]),
        Function::HardSwish => smooth(vec![-3.0, -1.5, 3.0], [Some(0.0), None]),
        Function::Square | Function::LeakyRelu { .. } => smooth(vec![0.0], [None, None]),
        Function::Clip { low, high } => {
            let finite = |bound: f64| Some(bound).filter(|bound| bound.is_finite());
            let turns = [low, high].into_iter().filter(|bound| bound.is_finite()).collect();
            smooth(turns, [finite(low), finite(high)])
        }
        Function::HardSigmoid { slope, offset } => {
            let ends = [-offset / slope, (1.0 - offset) / slope];
            let [low, high] = if slope < 0.0 { [1.0, 0.0] } else { [0.0, 1.0] };
            smooth(ends.into_iter().filter(|end| end.is_finite()).collect(), [Some(low), Some(high)])
        }
        Function::ThresholdedRelu { alpha } => {
            Shape { turns: vec![alpha], jump: Some(alpha), limits: [Some(0.0), None] }
        }
        Function::Step => Shape { turns: vec![0.0], jump: Some(0.0), limits: [Some(0.0), Some(1.0)] },
        Function::Levels(levels) => {
            let value = |level: i64| (level - levels.zero) as f64 * levels.scale;
            smooth(Vec::new(), [Some(value(levels.low)), Some(value(levels.high))])
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
    let (zero, greatest) = span(function, top);
    let levels = f64::from(entry_bits.min(MOST_BITS)).exp2() - 1.0;
    let height = greatest - zero;
    // A function that is constant there needs no scale.
    let unit = if height > 0.0 { height / levels } else { 1.0 };
    if !(unit.is_finite() && unit > 0.0 && top.is_finite() && top > 0.0) {
        return None;
    }
    let Shape { turns, jump, limits } = shape(function);
    let [below, above] = limits;
    // A side on which the function is flat before long is covered up to there, whatever the rows reached.
    let side = |limit: Option<f64>, sign: f64| -> (f64, bool) {
        let Some(limit) = limit else { return (sign * top, false) };
        let far = sign * top * FLAT_REACH;
        let inner = turns.iter().map(|turn| turn * sign).fold(0.0, f64::max).min(top);
        match flat(function, limit, far, sign * inner, unit / 4.0) {
            Some(end) => (end, true),
            None => (far, false),
        }
    };
    let ((mut start, below_flat), (end, above_flat)) = (side(below, -1.0), side(above, 1.0));
    let step = (end - start) / count as f64;
    if step.is_nan() || step <= 0.0 {
        return None;
    }
    if let Some(jump) = jump {
        // A step begins where the function jumps.
        start = jump - ((jump - start) / step).round() * step;
    }
    let place = |index: usize| start + index as f64 * step;
    let mut entries = Vec::with_capacity(count);
    let mut error = 0.0f64;
    // What scaling a sum to a step may be off by.
    let doubt = step / PARTS;
    for index in 0..count {
        let (low, high) = (place(index), place(index + 1));
        let entry = ((function.apply(f64::midpoint(low, high)) - zero) / unit).round().clamp(0.0, levels);
        let value = zero + unit * entry;
        let mut ends = vec![high + doubt];
        // Above a jump only what is above counts.
        ends.push(if jump.is_some_and(|jump| (jump - low).abs() < doubt) {
            low + doubt
        } else {
            low - doubt
        });
        if jump.is_some_and(|jump| (jump - high).abs() < doubt) {
            ends = vec![high - doubt, low - doubt];
        }
        ends.extend(turns.iter().copied().filter(|turn| *turn > low && *turn < high));
        let reached = ends.into_iter().map(|x| (function.apply(x) - value).abs());
        error = reached.fold(error, f64::max);
        entries.push(entry as u16);
    }
    let sides = [(below, below_flat, entries.first()), (above, above_flat, entries.last())];
    for (limit, reached, entry) in sides {
        if let (Some(limit), true, Some(&entry)) = (limit, reached, entry) {
            error = error.max((limit - zero - unit * f64::from(entry)).abs());
        }
    }
    Some(Curve { function, bits, start, step, entries, zero, unit, error, flat: [below_flat, above_flat] })
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
    /// Where the last step ends.
    pub(super) fn end(&self) -> f64 {
        self.start + self.step * self.entries.len() as f64
    }
}

#[cfg(test)]
#[path = "curve_tests.rs"]
mod tests;
