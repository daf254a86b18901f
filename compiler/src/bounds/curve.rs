//! Functions by tables: how far the straight pieces between a table's entries are from the function, from the entries
//! themselves, and how a function passes on values and what they are off.

use super::form::{Form, Span, Symbols, slack};
use super::walk::{Mode, Neuron};
use crate::ir::{QuantiseOne, Table};
use crate::model::Function;
use crate::quant::curve::{Shape, shape, span};

/// A number's place in a table, and the table; or a sum that is only rescaled.
#[derive(Debug, Clone)]
pub(super) struct Curve {
    /// None for a value that has no function.
    pub(super) function: Option<Function>,
    /// The sums between which nothing is clamped.
    pub(super) limits: Span,
    /// How far results are from the function of a sum within the limits.
    pub(super) error: f64,
    /// Real value of one unit of a result, and what its 0 stands for.
    pub(super) unit: f64,
    pub(super) zero: f64,
}

/// Relative error of a function in binary64, with room.
const FUNCTION: f64 = 1.0 / (1u64 << 44) as f64;

impl Curve {
    /// A sum that is rescaled: one unit of it stands for `sum`.
    pub(super) fn kept(one: &QuantiseOne, sum: f64) -> Option<Self> {
        let Line { first, unit, .. } = Line::of(one, sum)?;
        let limits = limits(one, sum);
        let half = if one.shift == 0 { 0.0 } else { unit / 2.0 };
        let zero = first + half;
        let error = half + slack(8) * (zero.abs() + limits.magnitude());
        Some(Self { function: None, limits, error, unit, zero })
    }

    /// A function of a sum; `hint` has unit and zero of the table's entries.
    pub(super) fn of(
        function: Function,
        one: &QuantiseOne,
        table: &Table,
        sum: f64,
        hint: Option<(f64, f64)>,
    ) -> Option<Self> {
        let Shape { jump, bend, kink, .. } = shape(function);
        if jump.is_some() || table.fraction == 0 {
            return None;
        }
        let Line { first, unit: part, low, high } = Line::of(one, sum)?;
        let step = part * f64::from(table.fraction).exp2();
        let place = |index: usize| first + index as f64 * step;
        let (from, to) =
            (usize::try_from(low >> table.fraction).ok()?, usize::try_from(high >> table.fraction).ok()? + 1);
        let entries = table.entries.get(from..=to)?;
        let own = || {
            entries.iter().zip(from..).map(|(&entry, index)| (f64::from(entry), function.apply(place(index))))
        };
        let (unit, zero) = hint.unwrap_or_else(|| fitted(own()));
        let node = own().map(|(entry, value)| (zero + unit * entry - value).abs()).fold(0.0, f64::max);
        let size =
            own().map(|(_, value)| value.abs()).fold(0.0, f64::max) + place(from).abs() + place(to).abs();
        let pairs = entries.iter().zip(entries.iter().skip(1));
        let rise = pairs.map(|(a, b)| a.abs_diff(*b)).max().map_or(0.0, f64::from);
        // Straight pieces, a number that is rounded down to a part of a step, and a result that is rounded down.
        let error = node
            + bend * step * step / 8.0
            + kink * step / 4.0
            + unit.abs() * (rise / f64::from(table.fraction).exp2() + 1.0);
        let error = error * (1.0 + slack(8)) + FUNCTION * (1.0 + size + zero.abs());
        (error.is_finite() && unit > 0.0).then_some(Self {
            function: Some(function),
            limits: limits(one, sum),
            error,
            unit,
            zero,
        })
    }

    /// What becomes of a sum.
    pub(super) fn pass(&self, sum: &Neuron, mode: Mode, symbols: &mut Symbols, cut: &mut bool) -> Neuron {
        let own = sum.span.plus(sum.off);
        let lost = self.lost(own);
        let off_limits = lost.magnitude() > self.unit / 2.0;
        *cut |= off_limits;
        let lost = if mode.uncut && off_limits { Span::ZERO } else { lost };
        let by = Span { low: -self.error, high: self.error }.plus(lost);
        let (mut value, mut error, mut span, mut off);
        match self.function {
            None => (value, error, span, off) = (sum.value.clone(), sum.error.clone(), sum.span, sum.off),
            Some(function) => {
                let steepness = slopes(function, sum.span);
                span = image(function, sum.span);
                let (middle, radius) = sum.span.ball();
                let (slope, spread) = steepness.ball();
                let (centre, reach) = span.ball();
                value = Form::constant(centre);
                if mode.forms && spread * radius < reach {
                    let at = function.apply(middle);
                    value = sum.value.line(slope, at - slope * middle);
                    value.rest += FUNCTION * (1.0 + at.abs() + (slope * middle).abs());
                    symbols.value(&mut value, spread * radius * (1.0 + slack(0)));
                } else if mode.forms {
                    symbols.value(&mut value, reach);
                }
                let (slope, spread) = slopes(function, sum.span.hull(own)).ball();
                let more = spread * sum.off.magnitude() * (1.0 + slack(0));
                let (low, high) = (slope * sum.off.low, slope * sum.off.high);
                off = Span { low: low.min(high) - more, high: low.max(high) + more }.plus(Span::ZERO);
                // Both are values of the function.
                let apart = image(function, own);
                off = off.and(apart.plus(Span { low: -span.high, high: -span.low }));
                error = Form::default();
                if mode.forms {
                    error = sum.error.line(slope, 0.0);
                    symbols.error(&mut error, more);
                }
            }
        }
        off = off.plus(by);
        if mode.forms {
            let (centre, radius) = by.ball();
            error.centre += centre;
            symbols.error(&mut error, radius);
            error.rest += slack(0) * (error.centre.abs() + centre.abs() + radius);
            span = span.and(value.span());
            off = off.and(error.span());
        }
        Neuron { value, error, span, off }
    }

    /// What the limits take from sums up to `own`.
    fn lost(&self, own: Span) -> Span {
        let image = |range: Span| self.function.map_or(range, |function| image(function, range));
        let mut lost = Span::ZERO;
        for (beyond, limit) in [
            (Span { low: self.limits.high, high: own.high }, self.limits.high),
            (Span { low: own.low, high: self.limits.low }, self.limits.low),
        ] {
            if beyond.low < beyond.high {
                let (at, there) = (image(Span { low: limit, high: limit }), image(beyond));
                let apart = at.plus(Span { low: -there.high, high: -there.low });
                lost = lost.hull(apart);
            }
        }
        lost
    }
}

/// A quantiser of a sum whose unit stands for some real number.
struct Line {
    /// Where the result 0 begins, and how long each result is, in sums.
    first: f64,
    unit: f64,
    /// Least and greatest result.
    low: i64,
    high: i64,
}

impl Line {
    fn of(one: &QuantiseOne, sum: f64) -> Option<Self> {
        let multiplier = one.multiplier as f64;
        (one.multiplier > 0).then(|| Self {
            first: -(one.offset as f64) / multiplier * sum,
            unit: f64::from(one.shift).exp2() / multiplier * sum,
            low: one.accumulate(one.low) >> one.shift,
            high: one.accumulate(one.high) >> one.shift,
        })
    }
}

/// A hair within the sums at which the clamps stand.
fn limits(one: &QuantiseOne, sum: f64) -> Span {
    let (low, high) = (one.low as f64 * sum, one.high as f64 * sum);
    Span { low: low + slack(0) * low.abs(), high: high - slack(0) * high.abs() }
}

/// The line through entries and values with the least squares.
fn fitted(pairs: impl Iterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let count = pairs.clone().count().max(1) as f64;
    let (entries, values) = pairs.clone().fold((0.0, 0.0), |(a, b), (entry, value)| (a + entry, b + value));
    let (entries, values) = (entries / count, values / count);
    let (product, square) = pairs.fold((0.0, 0.0), |(product, square), (entry, value)| {
        (product + (entry - entries) * (value - values), square + (entry - entries) * (entry - entries))
    });
    let unit = if square > 0.0 && product > 0.0 { product / square } else { 1.0 };
    (unit, values - unit * entries)
}

/// What the function's values over an interval lie in.
fn image(function: Function, range: Span) -> Span {
    let (low, high) = span(function, range.low, range.high);
    let Shape { limits, .. } = shape(function);
    // Limits are counted in; without the ends of the interval they say nothing.
    let narrow = if limits.iter().any(Option::is_some) { inner(function, range) } else { (low, high) };
    let more = FUNCTION * (1.0 + narrow.0.abs().max(narrow.1.abs()));
    Span { low: narrow.0 - more, high: narrow.1 + more }
}

/// Least and greatest value at the ends and the turns within.
fn inner(function: Function, range: Span) -> (f64, f64) {
    let Shape { turns, .. } = shape(function);
    // A turn that was found by search is a hair off, and so is the value there, by its square.
    let places = turns.into_iter().filter(|turn| (range.low..=range.high).contains(turn));
    let values = places.chain([range.low, range.high]).map(|x| function.apply(x));
    values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), y| (low.min(y), high.max(y)))
}

/// What the derivative over an interval lies in, one-sided ones at kinks included.
fn slopes(function: Function, range: Span) -> Span {
    let Shape { turns, steep, bend, kink, .. } = shape(function);
    let (middle, radius) = range.ball();
    let width = 1e-5 * (1.0 + middle.abs());
    // The mean derivative over a short interval; whatever it is elsewhere follows from the second derivative.
    let mean = (function.apply(middle + width) - function.apply(middle - width)) / (2.0 * width);
    let reach = radius + width;
    let kinks = turns.iter().filter(|turn| (*turn - middle).abs() <= reach * (1.0 + slack(0))).count();
    let rounding = 8.0 * f64::EPSILON * (1.0 + function.apply(middle).abs() + middle.abs()) / width;
    let off = bend * reach * (1.0 + slack(0)) + kink * kinks as f64 + rounding;
    let most = if steep > 0.0 { steep } else { f64::INFINITY };
    let least = if turns.is_empty() && function != Function::Square { 0.0 } else { -most };
    Span { low: (mean - off).clamp(least, most), high: (mean + off).clamp(least, most) }
}
