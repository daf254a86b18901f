//! Through a model and its integers at once: what each value of the model lies in, and how far the integer that stands
//! for it is off, over a box of raw features.
//!
//! With `r_j` for a value of the model and `e_j = zero_j + unit_j q_j - r_j` for what its integer is off, a sum of
//! integers `a Σ w_j q_j + a b` is `Σ v_j (r_j + e_j - zero_j) + a b` with `v_j = a w_j / unit_j`; less the model's
//! `Σ W_j r_j + B` this is
//!
//! ```text
//! Σ v_j e_j + Σ (v_j - W_j) r_j + (a b - B - Σ v_j zero_j)
//! ```
//!
//! which is linear in forms that share symbols. A ReLU passes `λ e` with `λ` in `0..=1` (Paulsen, Wang and Wang,
//! *ReluDiff: Differential Verification of Deep Neural Networks*, ICSE 2020); the model's own values pass it by the
//! parallelogram of least area (Singh et al., *Fast and Effective Robustness Certification*, NeurIPS 2018). Intervals
//! run beside the forms, and each narrows the other.

use super::form::{Form, Span, Symbols, slack};
use super::subject::{Feature, Kind, Stage, Subject, weighted};
use crate::ir::Interval;

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mode {
    /// Forms beside intervals.
    pub(crate) forms: bool,
    /// Only features at which no activation is cut off.
    pub(crate) uncut: bool,
}

/// One value of the model, and what its integer is off.
#[derive(Debug, Clone)]
pub(super) struct Neuron {
    pub(super) value: Form,
    pub(super) error: Form,
    pub(super) span: Span,
    pub(super) off: Span,
}

/// What is known about the outputs over a box.
#[derive(Debug)]
pub(crate) struct Outputs {
    pub(super) neurons: Vec<Neuron>,
    /// Whether any activation can be cut off.
    pub(crate) cut: bool,
    forms: bool,
}

impl Outputs {
    /// Largest magnitude of each output's error.
    pub(crate) fn errors(&self) -> Vec<f64> {
        self.neurons.iter().map(|neuron| neuron.off.magnitude()).collect()
    }

    /// What a raw value lies in, in the model and in integers together.
    pub(crate) fn reach(&self, index: usize) -> Option<(f64, f64)> {
        let Neuron { span, off, .. } = self.neurons.get(index)?;
        let both = span.hull(span.plus(*off));
        Some((both.low, both.high))
    }

    /// What the difference of two outputs lies in, in the model and in integers: `(model, integers)`.
    pub(crate) fn lead(&self, first: usize, second: Option<usize>) -> Option<Lead> {
        let own = self.neurons.get(first)?;
        let Some(second) = second else {
            return Some(Lead::of(own.value.clone(), own.error.clone(), own.span, own.off, self.forms));
        };
        let other = self.neurons.get(second)?;
        let opposite = |span: Span| Span { low: -span.high, high: -span.low };
        Some(Lead::of(
            Form::sum(&[(1.0, &own.value), (-1.0, &other.value)]),
            Form::sum(&[(1.0, &own.error), (-1.0, &other.error)]),
            own.span.plus(opposite(other.span)),
            own.off.plus(opposite(other.off)),
            self.forms,
        ))
    }
}

/// A difference of outputs.
#[derive(Debug)]
pub(crate) struct Lead {
    pub(super) value: Form,
    /// Of the model.
    pub(crate) model: Span,
    /// Of the integers, in the same unit.
    pub(crate) integers: Span,
    /// By how much both differ.
    pub(crate) error: Span,
}

impl Lead {
    fn of(value: Form, error: Form, model: Span, off: Span, forms: bool) -> Self {
        let (model, error, both) = if forms {
            let both = Form::sum(&[(1.0, &value), (1.0, &error)]).span();
            (model.and(value.span()), off.and(error.span()), both)
        } else {
            (model, off, model.plus(off))
        };
        Self { integers: both.and(model.plus(error)), value, model, error }
    }

    /// `(centre, slopes, rest)`: the model's difference is within `rest` of `centre + Σ slopes[j] X_j`, where `X_j` runs
    /// from -1 to 1 over the feature `j`.
    pub(crate) fn linear(&self, features: usize) -> (f64, &[f64], f64) {
        let slopes = self.value.values.get(..features).unwrap_or(&self.value.values);
        let others = self.value.values.get(features..).unwrap_or_default();
        let rest: f64 = others.iter().map(|term| term.abs()).sum::<f64>() + self.value.rest;
        (self.value.centre, slopes, rest * (1.0 + slack(others.len())))
    }
}

impl Subject {
    /// Over a box of raw features within the one that is not clamped.
    pub(crate) fn walk(&self, region: &[Interval], mode: Mode) -> Outputs {
        let mut symbols = Symbols::NONE;
        // The first symbols are the features, whatever a form has beside them.
        let mut neurons: Vec<Neuron> = Vec::with_capacity(self.inputs.len());
        for (feature, region) in self.inputs.iter().zip(region) {
            neurons.push(feature.values(*region, &mut symbols));
        }
        let mut cut = false;
        for stage in &self.stages {
            let sums = sums(stage, &neurons, mode);
            neurons = sums
                .into_iter()
                .enumerate()
                .map(|(row, sum)| activation(stage, row, sum, mode, &mut symbols, &mut cut))
                .collect();
        }
        Outputs { neurons, cut, forms: mode.forms }
    }
}

impl Feature {
    fn values(&self, region: Interval, symbols: &mut Symbols) -> Neuron {
        let (low, high) = (region.low as f64, region.high as f64);
        let middle = f64::midpoint(low, high);
        let mut value = Form::constant(middle * self.gain + self.offset);
        let size = self.gain.abs() * low.abs().max(high.abs()) + self.size + self.zero.abs();
        let radius = (self.gain * (high - middle)).abs().max((self.gain * (middle - low)).abs());
        // A symbol for every feature, so that the first ones are theirs.
        symbols.value(&mut value, radius.max(f64::MIN_POSITIVE));
        value.rest += slack(16) * size;
        let span = value.span();
        let quantised = [region.low, region.high].map(|raw| self.one.accumulate(raw) >> self.one.shift);
        let [first, last] = quantised;
        let error = if first == last || self.gain == 0.0 || self.one.multiplier <= 0 {
            let ends = quantised.map(|q| self.zero + self.unit * q as f64);
            let [one, other] = ends;
            let hull = Span { low: one.min(other), high: one.max(other) };
            let (centre, radius) = hull.ball();
            let mut error = value.line(-1.0, centre);
            error.rest += radius + slack(4) * (size + centre.abs() + radius);
            error
        } else {
            let mut error = Form::default();
            symbols.error(&mut error, self.half);
            error.rest += slack(16) * size;
            error
        };
        let off = error.span();
        Neuron { value, error, span, off }
    }
}

/// The sums of a layer.
fn sums(stage: &Stage, inputs: &[Neuron], mode: Mode) -> Vec<Neuron> {
    let columns = stage.columns.max(1);
    let (spans, offs): (Vec<Span>, Vec<Span>) = inputs.iter().map(|input| (input.span, input.off)).unzip();
    let sizes: Vec<(f64, f64)> = inputs
        .iter()
        .map(|input| match mode.forms {
            true => (input.value.magnitude(), input.error.magnitude()),
            false => (input.span.magnitude(), input.off.magnitude()),
        })
        .collect();
    let zeros = &stage.before_zeros;
    let slack = slack(stage.columns);
    let rows = stage.weights.chunks_exact(columns).zip(stage.own.chunks_exact(columns));
    rows.zip(stage.bias.iter().zip(&stage.own_bias))
        .map(|((weights, own), (&bias, &own_bias))| {
            let differences: Vec<f64> = own.iter().zip(weights).map(|(own, weight)| own - weight).collect();
            let (mut size, mut both) = (bias.abs(), bias.abs() + own_bias.abs());
            let mut constant = own_bias - bias;
            for (((weight, own), (value, error)), zero) in weights.iter().zip(own).zip(&sizes).zip(zeros) {
                size += weight.abs() * value;
                both += (weight.abs() + own.abs()) * (value + error + zero.abs());
                constant -= own * zero;
            }
            let span = weighted(weights, &spans).plus(Span::around(bias, slack * size));
            let off = weighted(own, &offs)
                .plus(weighted(&differences, &spans))
                .plus(Span::around(constant, slack * both));
            if !mode.forms {
                return Neuron { value: Form::default(), error: Form::default(), span, off };
            }
            let mut value = Form::constant(bias);
            let mut error = Form::constant(constant);
            for ((weight, input), (own, difference)) in
                weights.iter().zip(inputs).zip(own.iter().zip(&differences))
            {
                value.add(*weight, &input.value);
                error.add(*own, &input.error);
                error.add(*difference, &input.value);
            }
            value.rest += slack * size;
            error.rest += slack * both;
            Neuron { span: span.and(value.span()), off: off.and(error.span()), value, error }
        })
        .collect()
}

/// What becomes of a sum.
fn activation(
    stage: &Stage,
    row: usize,
    sum: Neuron,
    mode: Mode,
    symbols: &mut Symbols,
    cut: &mut bool,
) -> Neuron {
    let unit = stage.units.get(row).copied().unwrap_or_default();
    let half = |shift: u8| if shift == 0 { 0.0 } else { unit / 2.0 };
    match stage.kind {
        Kind::Raw => sum,
        Kind::Curves(ref curves) => match curves.get(row) {
            Some(curve) => curve.pass(&sum, mode, symbols, cut),
            None => sum,
        },
        Kind::Relu { shift, bits } => {
            let top = (f64::from(bits).exp2() - 1.0) * unit;
            relu(sum, (half(shift), top, unit), mode, symbols, cut)
        }
        Kind::Signed { shift, bits } => {
            let reach = f64::from(bits - 1).exp2() * unit;
            signed(sum, (half(shift), reach, unit), mode, symbols, cut)
        }
    }
}

/// `min(max(sum, 0), top)`, rounded to units.
fn relu(
    mut sum: Neuron,
    (half, top, unit): (f64, f64, f64),
    mode: Mode,
    symbols: &mut Symbols,
    cut: &mut bool,
) -> Neuron {
    // What the integers' sum stands for.
    let mut own = sum.span.plus(sum.off);
    let mut lost = 0.0;
    if own.high >= top + unit - half {
        *cut = true;
        if mode.uncut {
            own.high = own.high.min(top + unit);
            sum.span.high = sum.span.high.min(own.high - sum.off.low).max(sum.span.low);
        } else {
            lost = own.high - top;
        }
    }
    let rounding = if own.high > 0.0 { Span { low: -half.max(lost), high: half } } else { Span::ZERO };
    let Span { low, high } = sum.span;
    let off = sum.off;
    let (mut value, mut error) = (Form::default(), Form::default());
    let passed = if high <= 0.0 && own.high <= 0.0 {
        Span::ZERO
    } else if low >= 0.0 && own.low >= 0.0 {
        (value, error) = (sum.value, sum.error);
        off
    } else {
        if mode.forms && low >= 0.0 {
            value = sum.value;
        } else if mode.forms && high > 0.0 {
            value = parallelogram(&sum.value, low, high, symbols);
        }
        if mode.forms {
            error = sum.error.line(0.5, 0.0);
            symbols.error(&mut error, off.magnitude() / 2.0 * (1.0 + slack(0)));
        }
        Span { low: off.low.min(0.0), high: off.high.max(0.0) }
    };
    let mut span = Span { low: low.max(0.0), high: high.max(0.0) };
    let mut off = passed.plus(rounding);
    if mode.forms {
        round(&mut error, rounding, symbols);
        span = span.and(value.span());
        off = off.and(error.span());
    }
    Neuron { value, error, span, off }
}

/// `max(s, 0)` for `s` between two numbers of different signs.
fn parallelogram(sum: &Form, low: f64, high: f64, symbols: &mut Symbols) -> Form {
    let slope = high / (high - low);
    // `max(s, 0) - slope * s` is 0 at 0 and greatest at an end.
    let most = (-slope * low).max((1.0 - slope) * high) * (1.0 + slack(0));
    let mut value = sum.line(slope, most / 2.0);
    symbols.value(&mut value, most / 2.0 * (1.0 + slack(0)));
    value
}

/// Adds an error of the integers.
fn round(error: &mut Form, by: Span, symbols: &mut Symbols) {
    if by == Span::ZERO {
        return;
    }
    let (centre, radius) = by.ball();
    error.centre += centre;
    symbols.error(error, radius);
    error.rest += slack(0) * (error.centre.abs() + centre.abs() + radius);
}

/// A sum rounded to units, within `-reach..reach`.
fn signed(
    mut sum: Neuron,
    (half, reach, unit): (f64, f64, f64),
    mode: Mode,
    symbols: &mut Symbols,
    cut: &mut bool,
) -> Neuron {
    let own = sum.span.plus(sum.off);
    let (above, below) = (own.high - (reach - unit), -reach - own.low);
    let mut rounding = Span { low: -half, high: half };
    if above >= unit - half || below > half {
        *cut = true;
        if !mode.uncut {
            rounding = Span { low: -half.max(above), high: half.max(below) };
        }
    }
    sum.off = sum.off.plus(rounding);
    if mode.forms {
        round(&mut sum.error, rounding, symbols);
        sum.off = sum.off.and(sum.error.span());
    }
    sum
}
