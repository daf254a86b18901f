//! A float model beside its integers, layer by layer, with the real value of one unit of every integer.
//!
//! The scales are hints: whatever they are, the bound that follows from them holds; poor ones only make it larger.
//! Without hints they are fitted, neuron by neuron, to the weights of both sides.

use super::LayerScales;
use super::curve::Curve;
use super::form::{Span, slack};
use crate::ir::{self, Input, Interval, Network, Op, Post, QuantiseOne};
use crate::model::{Activation, Body, Dense, Function, Matrix, Model, Normalise};
use crate::quant::curve::{Way, way};
use crate::quant::linear_end;

/// Scale of a neuron that depends on nothing.
const ANY: f64 = 1e-12;

/// A network that can be compared with its model.
#[derive(Debug)]
pub(crate) struct Subject {
    pub(super) inputs: Vec<Feature>,
    pub(super) stages: Vec<Stage>,
    /// Raw values between which the features are not clamped.
    pub(super) region: Vec<Interval>,
}

/// One feature: `gain * raw + offset` in the model, `(raw * multiplier + bias) >> shift` in integers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Feature {
    pub(super) gain: f64,
    pub(super) offset: f64,
    /// Largest magnitude of a summand of the offset.
    pub(super) size: f64,
    pub(super) one: QuantiseOne,
    /// A quantised value stands for `zero + unit * q`, half of a step aside.
    pub(super) unit: f64,
    pub(super) zero: f64,
    /// How far off at most.
    pub(super) half: f64,
}

/// One layer of the model and the operations that compute it.
#[derive(Debug)]
pub(super) struct Stage {
    pub(super) columns: usize,
    /// What the integer 0 of each input stands for.
    pub(super) before_zeros: Vec<f64>,
    /// The model's, row-major.
    pub(super) weights: Vec<f64>,
    pub(super) bias: Vec<f64>,
    /// The integers' in the model's unit, row-major, and their bias without the half of a rounding.
    pub(super) own: Vec<f64>,
    pub(super) own_bias: Vec<f64>,
    /// Real value of one unit of each sum.
    pub(super) sums: Vec<f64>,
    pub(super) kind: Kind,
    /// Real value of one unit of each result, and what its 0 stands for.
    pub(super) units: Vec<f64>,
    pub(super) zeros: Vec<f64>,
}

/// What becomes of sums.
#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// A table for each neuron.
    Curves(Vec<Curve>),
    Raw,
    Relu {
        shift: u8,
        bits: u8,
    },
    Signed {
        shift: u8,
        bits: u8,
    },
}

impl Subject {
    /// The model of a network; `scales` holds units as hints, and the order in which the network has the neurons.
    ///
    /// # Errors
    ///
    /// Why there is no bound: the network is of another form than the model.
    pub(crate) fn new(
        model: &Model,
        network: &Network,
        orders: &[Vec<usize>],
        scales: Option<&[LayerScales]>,
    ) -> Result<Self, String> {
        let ended = linear_end(model);
        let model = ended.as_ref().unwrap_or(model);
        if !matches!(model.body, Body::Mlp(_)) {
            return Err("the model is no network of layers".to_owned());
        }
        if !model.replaced.is_empty() {
            return Err("raw values are replaced before they are quantised".to_owned());
        }
        let (inputs, ops) = match network.ops.split_first() {
            Some((Op::Quantise(quantise), ops)) if !quantise.even => (quantise, ops),
            _ => return Err("features are not quantised in one step".to_owned()),
        };
        let unfit = || "the network has other layers than the model".to_owned();
        if inputs.features.len() != model.input_count() || network.inputs.len() != model.input_count() {
            return Err(unfit());
        }
        let lines = inputs.features.iter().zip(&network.inputs).zip(&model.normalise);
        let inputs: Vec<Feature> =
            lines.map(|((one, input), normalise)| feature(*one, input, normalise)).collect();
        let region: Vec<Interval> = inputs
            .iter()
            .zip(&network.inputs)
            .map(|(feature, input)| Interval {
                low: feature.one.low.clamp(input.range.low, input.range.high),
                high: feature.one.high.clamp(input.range.low, input.range.high),
            })
            .collect();
        let mut subject = Self { inputs, stages: Vec::new(), region };
        let units: Vec<f64> = network
            .decision
            .parts(&vec![(); network.output_count()])
            .flat_map(|(output, part)| vec![network.decision.unit_of(output); part.len()])
            .collect();
        let layers = ordered(model.layers(), orders).ok_or_else(unfit)?;
        let mut before = Before::of(&subject);
        let mut ops = ops.iter();
        for (index, layer) in layers.iter().enumerate() {
            let Some(Op::Dense(dense)) = ops.next() else {
                return Err("a layer has a form that is not analysed".to_owned());
            };
            if (dense.rows, dense.columns) != (layer.weights.rows, layer.weights.columns)
                || dense.columns != before.units.len()
                || dense.weights.len() != layer.weights.values.len()
                || dense.bias.len() != layer.bias.len()
            {
                return Err(unfit());
            }
            let last = index + 1 == layers.len();
            let kind = match (dense.post, layer.activation) {
                (Post::Raw, Activation::Identity) if last => Kind::Raw,
                (Post::Relu { shift, bits }, Activation::Relu) if !last => Kind::Relu { shift, bits },
                (Post::Signed { shift, bits }, Activation::Identity) if !last => Kind::Signed { shift, bits },
                // The curves follow when the unit of the sums is known.
                (Post::Raw, Activation::Function(_)) if !last => Kind::Curves(Vec::new()),
                _ => return Err(unlike(layer)),
            };
            let hints = scales.and_then(|scales| scales.get(index)).map(|scales| scales.units.as_slice());
            let hints = if last { Some(units.as_slice()) } else { hints };
            let curved = matches!(kind, Kind::Curves(_));
            let hints = hints.filter(|_| !curved);
            let mut stage = stage(dense, layer, kind, &before, hints).ok_or_else(unfit)?;
            if let (Activation::Function(function), true) = (layer.activation, curved) {
                let hints = scales.and_then(|scales| scales.get(index));
                let curves = curves(&stage, function, layer.plain, &mut ops, hints);
                stage.curved(curves.ok_or_else(|| unlike(layer))?);
            }
            before = before.behind(&stage);
            subject.stages.push(stage);
        }
        if ops.next().is_some() { Err(unfit()) } else { Ok(subject) }
    }

    /// How much each feature moves the sums of the first layer over a box.
    pub(crate) fn influence(&self, region: &[Interval]) -> Vec<f64> {
        let Some(first) = self.stages.first() else { return Vec::new() };
        let mut sums = vec![0.0; self.inputs.len()];
        for row in first.weights.chunks_exact(first.columns.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, weight)| *sum += weight.abs());
        }
        let features = self.inputs.iter().zip(region);
        let widths =
            features.map(|(feature, range)| feature.gain.abs() * (range.high as f64 - range.low as f64));
        sums.iter().zip(widths).map(|(sum, width)| sum * width).collect()
    }

    /// The scales that it rests on.
    pub(crate) fn scales(&self, orders: &[Vec<usize>]) -> Vec<LayerScales> {
        let scales = self.stages.iter().enumerate().map(|(index, stage)| LayerScales {
            order: orders.get(index).cloned().unwrap_or_default(),
            units: stage.units.clone(),
            zeros: match stage.kind {
                Kind::Curves(_) => stage.zeros.clone(),
                Kind::Raw | Kind::Relu { .. } | Kind::Signed { .. } => Vec::new(),
            },
        });
        scales.collect()
    }
}

fn unlike(layer: &Dense) -> String {
    format!(
        "layer `{}` has a function (`{}`) that is not analysed",
        layer.origin.name,
        layer.activation.name()
    )
}

/// The tables behind a layer of sums, which has them in its next operations.
fn curves<'a>(
    stage: &Stage,
    function: Function,
    plain: usize,
    ops: &mut impl Iterator<Item = &'a Op>,
    hints: Option<&LayerScales>,
) -> Option<Vec<Curve>> {
    let Some(Op::Quantise(quantise)) = ops.next() else { return None };
    if quantise.even || quantise.features.len() != stage.sums.len() || way(function) != Way::Table {
        return None;
    }
    let Some(Op::Table(table)) = ops.next() else { return None };
    if table.width != stage.sums.len() || table.mapped.checked_add(plain) != Some(table.width) {
        return None;
    }
    let curve = |(row, (one, &sum)): (usize, (&QuantiseOne, &f64))| {
        if row >= table.mapped {
            return Curve::kept(one, sum);
        }
        let hint = hints.and_then(|hints| Some((*hints.units.get(row)?, *hints.zeros.get(row)?)));
        Curve::of(function, one, table, sum, hint)
    };
    quantise.features.iter().zip(&stage.sums).enumerate().map(curve).collect()
}

impl Stage {
    fn curved(&mut self, curves: Vec<Curve>) {
        self.units = curves.iter().map(|curve| curve.unit).collect();
        self.zeros = curves.iter().map(|curve| curve.zero).collect();
        self.kind = Kind::Curves(curves);
    }
}

fn feature(one: QuantiseOne, input: &Input, by: &Normalise) -> Feature {
    let fraction = (-f64::from(input.fraction_bits.0)).exp2();
    let gain = by.scale * fraction;
    let offset = by.offset - by.centre * by.scale;
    let half = if one.shift == 0 { 0.0 } else { f64::from(one.shift - 1).exp2() };
    let multiplier = one.multiplier as f64;
    let (unit, start, half) = if one.multiplier > 0 {
        let step = f64::from(one.shift).exp2() / multiplier;
        (step, (half - one.offset as f64) / multiplier, half / multiplier)
    } else {
        (1.0, 0.0, 0.0)
    };
    let (unit, zero) = if gain == 0.0 { (1.0, 0.0) } else { (unit * gain, start * gain + offset) };
    let size = by.offset.abs().max((by.centre * by.scale).abs());
    Feature { gain, offset, size, one, unit, zero, half: half * gain.abs() }
}

/// The layers with their neurons in the network's order.
fn ordered(layers: &[Dense], orders: &[Vec<usize>]) -> Option<Vec<Dense>> {
    let mut layers = layers.to_vec();
    for (index, order) in orders.iter().enumerate().filter(|(_, order)| !order.is_empty()) {
        let own = layers.get_mut(index)?;
        let mut seen = vec![false; own.weights.rows];
        for &row in order {
            if std::mem::replace(seen.get_mut(row)?, true) {
                return None;
            }
        }
        if order.len() != own.weights.rows || own.plain > 0 {
            return None;
        }
        let columns = own.weights.columns;
        let values = order.iter().flat_map(|&row| own.weights.row(row).to_vec()).collect();
        own.weights = Matrix { rows: order.len(), columns, values };
        own.bias = picked(&own.bias, order);
        // The last layer's values are the outputs, whose order is everybody's business.
        let next = layers.get_mut(index + 1)?;
        let rows = 0..next.weights.rows;
        next.weights.values = rows.flat_map(|row| picked(next.weights.row(row), order)).collect();
    }
    Some(layers)
}

fn picked(values: &[f64], order: &[usize]) -> Vec<f64> {
    order.iter().filter_map(|&index| values.get(index).copied()).collect()
}

/// The values that a layer reads: what they stand for, and the largest magnitudes of the model's.
struct Before {
    units: Vec<f64>,
    zeros: Vec<f64>,
    spans: Vec<Span>,
}

impl Before {
    fn of(subject: &Subject) -> Self {
        let spans = subject.inputs.iter().zip(&subject.region).map(|(feature, region)| {
            let ends = [region.low, region.high].map(|raw| raw as f64 * feature.gain + feature.offset);
            let [low, high] = ends;
            Span { low: low.min(high), high: low.max(high) }
        });
        Self {
            units: subject.inputs.iter().map(|feature| feature.unit).collect(),
            zeros: subject.inputs.iter().map(|feature| feature.zero).collect(),
            spans: spans.collect(),
        }
    }

    fn behind(&self, stage: &Stage) -> Self {
        let spans = stage.weights.chunks_exact(stage.columns.max(1)).zip(&stage.bias).map(|(row, &bias)| {
            let span = weighted(row, &self.spans).plus(Span { low: bias, high: bias });
            match stage.kind {
                Kind::Relu { .. } => Span { low: span.low.max(0.0), high: span.high.max(0.0) },
                // Near enough for the weights of a fit.
                Kind::Raw | Kind::Signed { .. } | Kind::Curves(_) => span,
            }
        });
        Self { spans: spans.collect(), units: stage.units.clone(), zeros: stage.zeros.clone() }
    }
}

/// The interval of `Σ weights[j] * spans[j]`.
pub(super) fn weighted(weights: &[f64], spans: &[Span]) -> Span {
    let (mut low, mut high, mut size) = (0.0, 0.0, 0.0);
    for (&weight, span) in weights.iter().zip(spans) {
        let (first, second) = (weight * span.low, weight * span.high);
        low += first.min(second);
        high += first.max(second);
        size += weight.abs() * span.magnitude();
    }
    let more = slack(weights.len()) * size;
    Span { low: low - more, high: high + more }
}

/// Puts a layer on the model's scales; `hints` are the real values of one unit of each result.
fn stage(
    dense: &ir::Dense,
    layer: &Dense,
    kind: Kind,
    before: &Before,
    hints: Option<&[f64]>,
) -> Option<Stage> {
    let shift = match &kind {
        Kind::Raw | Kind::Curves(_) => 0,
        Kind::Relu { shift, .. } | Kind::Signed { shift, .. } => *shift,
    };
    let half = if shift == 0 { 0 } else { 1i64 << (shift - 1) };
    let factor = f64::from(shift).exp2();
    let columns = dense.columns.max(1);
    let (mut own, mut sums) = (Vec::with_capacity(dense.weights.len()), Vec::with_capacity(dense.rows));
    for (row, (integers, real)) in
        dense.weights.chunks_exact(columns).zip(layer.weights.values.chunks_exact(columns)).enumerate()
    {
        let given = hints.and_then(|hints| hints.get(row)).map(|unit| unit / factor);
        let sum = given.unwrap_or_else(|| fitted(integers, real, before));
        let sum = if sum.is_finite() && sum > 0.0 { sum } else { ANY };
        own.extend(integers.iter().zip(&before.units).map(|(&weight, unit)| sum * weight as f64 / unit));
        sums.push(sum);
    }
    let own_bias = dense.bias.iter().zip(&sums).map(|(&bias, sum)| (bias.saturating_sub(half)) as f64 * sum);
    let own_bias: Vec<f64> = own_bias.collect();
    Some(Stage {
        columns: dense.columns,
        before_zeros: before.zeros.clone(),
        weights: layer.weights.values.clone(),
        bias: layer.bias.clone(),
        own,
        own_bias,
        units: sums.iter().map(|sum| sum * factor).collect(),
        zeros: vec![0.0; sums.len()],
        sums,
        kind,
    })
}

/// The scale with the least weighted squares of what rounding moves the weights by.
fn fitted(integers: &[i64], real: &[f64], before: &Before) -> f64 {
    let (mut product, mut square) = (0.0, 0.0);
    for (((&integer, real), unit), span) in integers.iter().zip(real).zip(&before.units).zip(&before.spans) {
        let weight = integer as f64 / unit;
        let size = span.magnitude() * span.magnitude();
        product += real * weight * size;
        square += weight * weight * size;
    }
    product / square
}
