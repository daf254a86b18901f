//! A whole network for one candidate plan: quantiser, layers in order, decision.

use super::cost::value_bits;
use super::curve::{self, Curve, Way};
use super::gate::{self, GatePlan};
use super::inputs::{InputScale, quantiser};
use super::layer::{Goal, IntegerLayer, RealLayer, bound, integers, reach};
use super::replaced::on_grid;
use super::rescale::{self, Rescaled};
use super::stats::{LayerStat, Stats};
use super::threshold::rule_test;
use super::{Contract, contract::class_count};
use crate::check::{Checked, check};
use crate::ir::{
    Decision, Interval, Lanes, Network, Op, OpOrigin, Output, Post, Quantise, QuantiseOne, Rule, Table,
};
use crate::model::{self, Activation, Function, Head, Model};

/// Quantised inputs and activations keep at most this many bits.
const MOST_INPUT_BITS: f64 = 30.0;
const MOST_ACTIVATION_BITS: f64 = 24.0;
/// The same on drawn rows, whose features may be anything from standardised to counts.
const MOST_BITS_DRAWN: f64 = 30.0;
/// A feature that hardly varies near the boundary counts as varying by this share of its range.
const LEAST_SPREAD: f64 = 1.0 / 4096.0;

/// One point of the search.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Plan {
    /// One per layer.
    pub(super) lanes: Vec<Lanes>,
    /// Index into [`super::stats::CLIPS`].
    pub(super) clip: usize,
    /// Factor on every input step.
    pub(super) input_step: f64,
    /// Bits added to every activation width.
    pub(super) more_bits: i32,
    /// Factor of at least 1 on every neuron's finest scale: another rounding of much the same network.
    pub(super) slack: f64,
    /// Layers whose activations are as wide as the lane after its shift, so that code needs no clamp.
    pub(super) unclamped: Vec<usize>,
    /// What becomes of each layer's sums, where the plan of an existing object says so.
    pub(super) posts: Option<Vec<Post>>,
    /// Halvings of each output's unit, where the plan of an existing object says so.
    pub(super) finer: Option<Vec<u8>>,
    /// Entries of each table as a power of two, and bits between two of them, where the plan of an existing object says so.
    pub(super) tables: Option<Vec<(u8, u8)>>,
}

/// A proved network and the real values behind its integers.
#[derive(Debug)]
pub(super) struct Candidate {
    pub(super) network: Checked<Network>,
    pub(super) inputs: Vec<InputScale>,
    /// Real value of one unit of each neuron's result, layer by layer.
    pub(super) units: Vec<Vec<f64>>,
    /// What 0 stands for in each neuron's result, layer by layer.
    pub(super) zeros: Vec<Vec<f64>>,
    /// The layers that have a table, with it.
    pub(super) curves: Vec<Option<Curve>>,
}

/// What stays the same over all candidates.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup<'a> {
    pub(super) model: &'a Model,
    pub(super) contract: &'a Contract,
    pub(super) stats: &'a Stats,
}

/// Builds and proves a candidate; `None` when something does not fit.
pub(super) fn build(setup: Setup<'_>, plan: &Plan) -> Option<Candidate> {
    let layers = setup.model.layers();
    let first = layers.first()?;
    let inputs = input_scales(setup, plan, first)?;
    let features: Vec<QuantiseOne> = inputs.iter().map(|input| input.one).collect();
    let output = Interval {
        low: inputs.iter().map(|input| input.q.low).min().unwrap_or(0),
        high: inputs.iter().map(|input| input.q.high).max().unwrap_or(0),
    };
    let mut ops = vec![Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() })];
    let mut origins = vec![OpOrigin::Inputs];
    let mut values: Vec<Interval> = inputs.iter().map(|input| input.q).collect();
    let mut made = Made::default();
    let mut finer = Vec::new();
    let widths = setup.model.widths();
    for (index, layer) in layers.iter().enumerate() {
        let stat = setup.stats.layers.get(index)?;
        let lanes = *plan.lanes.get(index)?;
        let real = match made.units.last().zip(made.zeros.last()) {
            None => first_layer(setup, layer, stat, &inputs, &values, lanes),
            Some((steps, zeros)) => later_layer(layer, stat, (steps, zeros), &values, lanes),
        };
        let origin = OpOrigin::Layer { layer: u32::try_from(index).ok()?, node: layer.origin.clone() };
        let next =
            layers.get(index + 1).zip(setup.stats.layers.get(index + 1)).zip(plan.lanes.get(index + 1));
        let Some(((next, next_stat), &next_lanes)) = next else {
            let goal = Goal::Outputs { widths: &widths, finer: plan.finer.as_deref() };
            let IntegerLayer { dense, units, values: own, finer: halvings } =
                integers(&real, goal, plan.slack)?;
            finer = halvings;
            made.layer(Op::Dense(dense), origin, units);
            values = own;
            continue;
        };
        let next = Next { layer: next, stat: next_stat, lanes: next_lanes };
        values = match layer.activation {
            Activation::Function(function) => {
                let post = plan.posts.as_ref().map(|posts| posts.get(index).copied());
                if post.is_some_and(|post| post != Some(Post::Raw)) {
                    return None;
                }
                let top = stat.top.get(plan.clip)?;
                made.curved(function, layer.plain, &real, (top, origin), next, plan)?
            }
            Activation::Identity | Activation::Relu => {
                let relu = layer.activation == Activation::Relu;
                let IntegerLayer { dense, units, values, .. } =
                    straight(&real, relu, (index, stat), next, plan)?;
                made.layer(Op::Dense(dense), origin, units);
                values
            }
        };
    }
    let Made { ops: behind, origins: more, units, zeros, curves } = made;
    ops.extend(behind);
    origins.extend(more);
    let unit = *units.last()?.first()? * f64::from(*finer.first()?).exp2();
    let decision = decision(setup.model, setup.contract, unit, &finer)?;
    let network = Network { inputs: setup.contract.inputs.clone(), ops, origins, decision };
    let network = check(network).ok()?;
    Some(Candidate { network, inputs, units, zeros, curves })
}

/// The operations behind the input quantiser as they are made.
#[derive(Default)]
struct Made {
    ops: Vec<Op>,
    origins: Vec<OpOrigin>,
    units: Vec<Vec<f64>>,
    zeros: Vec<Vec<f64>>,
    curves: Vec<Option<Curve>>,
}

/// The layer that reads what is made.
#[derive(Clone, Copy)]
struct Next<'a> {
    layer: &'a model::Dense,
    stat: &'a LayerStat,
    lanes: Lanes,
}

impl Made {
    /// A layer that is one operation.
    fn layer(&mut self, op: Op, origin: OpOrigin, units: Vec<f64>) {
        self.ops.push(op);
        self.origins.push(origin);
        self.zeros.push(vec![0.0; units.len()]);
        self.units.push(units);
        self.curves.push(None);
    }

    /// A layer with a function that is no sum of ReLUs: its sums, what they are in steps or levels, and a table.
    /// The last values may have no function; they are rounded and stay.
    fn curved(
        &mut self,
        function: Function,
        plain: usize,
        real: &RealLayer<'_>,
        (top, origin): (&[f64], OpOrigin),
        next: Next<'_>,
        plan: &Plan,
    ) -> Option<Vec<Interval>> {
        let active = top.len().checked_sub(plain)?;
        let (mapped, kept) = top.split_at(active);
        let most = mapped.iter().copied().fold(0.0, f64::max) * curve::MARGIN;
        let most = if most > 0.0 { most } else { 1.0 };
        let way = curve::way(function);
        let heights: Vec<f64> = vec![curve::height(function, most); active];
        let heights: Vec<f64> = heights.into_iter().chain(kept.iter().map(|top| 2.0 * top)).collect();
        let width = activation_bits(next.layer, next.stat, &heights, next.lanes, plan.more_bits);
        let most_bits = if way == Way::Gate { gate::MOST_BITS } else { curve::MOST_BITS };
        let width = width.clamp(curve::LEAST_BITS, most_bits);
        let gate = if way == Way::Gate { Some(GatePlan::new(most, width)?) } else { None };
        let made = match way {
            Way::Levels(_) | Way::Step | Way::Gate => None,
            Way::Table => {
                let number = self.curves.iter().flatten().count();
                let bits = match &plan.tables {
                    Some(planned) => planned.get(number)?.0,
                    None => curve::index_bits(plan.more_bits),
                };
                Some(curve::curve(function, most, bits, width)?)
            }
        };
        let part = match (way, &made) {
            (Way::Levels(levels), _) => levels.scale / curve::PARTS,
            (_, Some(made)) => made.step / curve::PARTS,
            (_, None) => gate.as_ref().map_or(0.0, |gate| gate.step / gate::PARTS),
        };
        let IntegerLayer { dense, units: sums, values: reached, .. } =
            integers(real, Goal::Sums { finest: part }, plan.slack)?;
        let rows = dense.rows;
        let mut results = Vec::with_capacity(rows);
        for (row, ((&unit, &reached), &top)) in sums.iter().zip(&reached).zip(top).enumerate() {
            results.push(match (way, &made) {
                (_, _) if row >= active => rescale::kept(unit, top * curve::MARGIN, width, reached)?,
                (Way::Levels(levels), _) => {
                    Rescaled { one: rescale::levels(unit, levels, reached)?, unit: levels.scale, zero: 0.0 }
                }
                (_, Some(made)) => {
                    Rescaled { one: rescale::steps(unit, made, reached)?, unit: made.unit, zero: made.zero }
                }
                (Way::Gate, _) => {
                    let gate = gate.as_ref()?;
                    let one = rescale::argument(unit, gate.step, gate.limits, reached)?;
                    Rescaled { one, unit: gate.unit, zero: 0.0 }
                }
                // 1 above zero.
                (_, None) => {
                    let one = QuantiseOne { low: 0, high: 1, multiplier: 1, offset: 0, shift: 0 };
                    Rescaled { one, unit: 1.0, zero: 0.0 }
                }
            });
        }
        let mut values: Vec<Interval> = results.iter().map(|result| result.values()).collect();
        let output = Interval {
            low: values.iter().map(|value| value.low).min()?,
            high: values.iter().map(|value| value.high).max()?,
        };
        self.ops.push(Op::Dense(dense));
        let features = results.iter().map(|result| result.one).collect();
        self.ops.push(Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() }));
        self.origins.extend([origin.clone(), origin.clone()]);
        if let Some(made) = &made {
            let Curve { bits, fraction, ref entries, .. } = *made;
            let table = Table { width: rows, mapped: active, bits, fraction, entries: entries.clone() };
            for value in values.iter_mut().take(active) {
                *value = table.results(*value);
            }
            self.ops.push(Op::Table(table));
            self.origins.push(origin);
        } else if let Some(gate) = &gate {
            let gate = gate.operation(rows, active);
            for value in values.iter_mut().take(active) {
                let Interval { low, high } = gate.accumulators(*value)?;
                *value = Interval { low: low >> gate.shift, high: high >> gate.shift };
            }
            self.ops.push(Op::Gate(gate));
            self.origins.push(origin);
        }
        self.units.push(results.iter().map(|result| result.unit).collect());
        self.zeros.push(results.iter().map(|result| result.zero).collect());
        self.curves.push(made);
        Some(values)
    }
}

/// A hidden layer that is one operation.
fn straight(
    real: &RealLayer<'_>,
    relu: bool,
    (index, stat): (usize, &LayerStat),
    next: Next<'_>,
    plan: &Plan,
) -> Option<IntegerLayer> {
    let top = stat.top.get(plan.clip)?;
    let (bits, shift) = match plan.posts.as_ref().and_then(|posts| posts.get(index)) {
        None if plan.unclamped.contains(&index) => {
            // Without a clamp, what the lane can hold matters, not what the data reach.
            let most = ceilings(real);
            let bits = activation_bits(next.layer, next.stat, &most, next.lanes, plan.more_bits);
            let (bits, shift) = unclamped(real.lanes, bits);
            (bits, Some(shift))
        }
        None => {
            let bits = activation_bits(next.layer, next.stat, top, next.lanes, plan.more_bits);
            // Four and more lanes have no room for more than their own width.
            let most = if real.lanes.count() > 3 { value_bits(real.lanes) as u8 } else { u8::MAX };
            (bits.min(most), None)
        }
        Some(&Post::Relu { shift, bits }) if relu => (bits, Some(shift)),
        Some(&Post::Signed { shift, bits }) if !relu => (bits.checked_sub(1)?, Some(shift)),
        Some(Post::Raw | Post::Relu { .. } | Post::Signed { .. }) => return None,
    };
    integers(real, Goal::Hidden { relu, bits, shift, top }, plan.slack)
}

/// Change of the normalised feature per raw unit, and its value at raw zero.
pub(super) fn raw_gain(setup: Setup<'_>, input: usize) -> (f64, f64) {
    let (Some(normalise), Some(feature)) =
        (setup.model.normalise.get(input), setup.contract.inputs.get(input))
    else {
        return (0.0, 0.0);
    };
    let unit = (-f64::from(feature.fraction_bits.0)).exp2();
    (normalise.scale * unit, normalise.offset - normalise.centre * normalise.scale)
}

/// Steps that balance the noise of rounded inputs against the noise of rounded weights.
fn input_scales(setup: Setup<'_>, plan: &Plan, layer: &model::Dense) -> Option<Vec<InputScale>> {
    let stat = setup.stats.layers.first()?;
    let lanes = *plan.lanes.first()?;
    let count = setup.stats.inputs.len();
    let gains: Vec<(f64, f64)> = (0..count).map(|input| raw_gain(setup, input)).collect();
    let ranges: Vec<Interval> =
        setup.stats.inputs.iter().map(|input| input.ranges.get(plan.clip).copied()).collect::<Option<_>>()?;
    let top = stat.top.get(plan.clip)?.iter().copied().fold(0.0, f64::max);
    let part = match layer.activation {
        Activation::Function(function) => curve::part(function, top),
        Activation::Identity | Activation::Relu => 0.0,
    };
    // The scale that each neuron's exact bound allows, before rounding; it does not depend on the steps.
    let scale_noise: f64 = (0..layer.weights.rows)
        .zip(&layer.bias)
        .zip(&stat.influence)
        .map(|((row, &bias), influence)| {
            let weights: Vec<f64> =
                layer.weights.row(row).iter().zip(&gains).map(|(w, (gain, _))| w * gain).collect();
            let constant: f64 =
                layer.weights.row(row).iter().zip(&gains).map(|(w, (_, zero))| w * zero).sum();
            let scale = (bound(&weights, bias + constant, &ranges) / reach(lanes, row)).max(part);
            influence * scale * scale
        })
        .sum();
    setup
        .stats
        .inputs
        .iter()
        .zip(&ranges)
        .zip(gains)
        .zip(&stat.spread)
        .enumerate()
        .map(|(column, (((input, &range), (gain, _)), &spread))| {
            let width = (range.high as f64 - range.low as f64).max(1.0);
            let weight_noise: f64 = (0..layer.weights.rows)
                .zip(&stat.influence)
                .filter_map(|(row, influence)| {
                    let weight = layer.weights.row(row).get(column)? * gain;
                    Some(influence * weight * weight)
                })
                .sum();
            let spread = spread.max(width * LEAST_SPREAD);
            let balanced = (spread * spread * scale_noise / weight_noise).sqrt().sqrt() * plan.input_step;
            let least = width / MOST_INPUT_BITS.exp2();
            // A feature that nothing reads keeps one step.
            let step = if balanced.is_finite() { balanced.clamp(least, width.max(least)) } else { width };
            let grid = setup.contract.grid.get(column).copied().unwrap_or(0);
            Some(quantiser(on_grid(range, grid), input.centre, step))
        })
        .collect()
}

fn first_layer<'a>(
    setup: Setup<'_>,
    layer: &model::Dense,
    stat: &'a LayerStat,
    inputs: &[InputScale],
    values: &'a [Interval],
    lanes: Lanes,
) -> RealLayer<'a> {
    let gains: Vec<(f64, f64)> = (0..inputs.len()).map(|input| raw_gain(setup, input)).collect();
    let mut weights = Vec::with_capacity(layer.weights.values.len());
    let mut bias = Vec::with_capacity(layer.bias.len());
    for (row, &own) in (0..layer.weights.rows).zip(&layer.bias) {
        let mut constant = own;
        for ((weight, (gain, zero)), input) in layer.weights.row(row).iter().zip(&gains).zip(inputs) {
            constant += weight * (zero + gain * input.zero);
            weights.push(weight * gain * input.step);
        }
        bias.push(constant);
    }
    let steps = inputs.iter().map(|input| input.step);
    real_layer(weights, bias, stat, steps, values, lanes)
}

fn later_layer<'a>(
    layer: &model::Dense,
    stat: &'a LayerStat,
    (steps, zeros): (&[f64], &[f64]),
    values: &'a [Interval],
    lanes: Lanes,
) -> RealLayer<'a> {
    let weights = (0..layer.weights.rows)
        .flat_map(|row| layer.weights.row(row).iter().zip(steps).map(|(weight, step)| weight * step))
        .collect();
    let bias = (0..layer.weights.rows)
        .zip(&layer.bias)
        .map(|(row, bias)| {
            layer.weights.row(row).iter().zip(zeros).fold(*bias, |sum, (w, zero)| sum + w * zero)
        })
        .collect();
    real_layer(weights, bias, stat, steps.iter().copied(), values, lanes)
}

fn real_layer<'a>(
    weights: Vec<f64>,
    bias: Vec<f64>,
    stat: &'a LayerStat,
    steps: impl Iterator<Item = f64>,
    inputs: &'a [Interval],
    lanes: Lanes,
) -> RealLayer<'a> {
    let spread = stat.spread.iter().zip(steps.chain([1.0])).map(|(spread, step)| spread / step).collect();
    let propagation = stat.propagation.as_deref();
    RealLayer { weights, bias, inputs, spread, propagation, influence: &stat.influence, lanes }
}

/// The width of a layer's activations that balances their rounding against that of the next layer's weights.
fn activation_bits(next: &model::Dense, stat: &LayerStat, top: &[f64], lanes: Lanes, more: i32) -> u8 {
    let (mut value_noise, mut weight_noise) = (0.0, 0.0);
    let relative: f64 = stat
        .spread
        .iter()
        .zip(top)
        .filter(|&(_, &top)| top > 0.0)
        .map(|(spread, top)| (spread / top) * (spread / top))
        .sum();
    for (row, influence) in (0..next.weights.rows).zip(&stat.influence) {
        let products = || next.weights.row(row).iter().zip(top).map(|(weight, top)| weight * top);
        let square: f64 = products().map(|product| product * product).sum();
        let (low, high) =
            products().fold((0.0, 0.0), |(low, high), p: f64| (low + p.min(0.0), high + p.max(0.0)));
        let scale = f64::max(-low, high) / reach(lanes, row);
        value_noise += influence * square;
        weight_noise += influence * scale * scale * relative;
    }
    let balanced = (value_noise / weight_noise).log2() / 4.0;
    let bits = if balanced.is_finite() { balanced.round() + f64::from(more) } else { 8.0 };
    let most = if stat.drawn { MOST_BITS_DRAWN } else { MOST_ACTIVATION_BITS };
    bits.clamp(2.0, most) as u8
}

/// The largest sum of each neuron over its whole box of inputs.
fn ceilings(layer: &RealLayer<'_>) -> Vec<f64> {
    layer
        .weights
        .chunks_exact(layer.inputs.len().max(1))
        .zip(&layer.bias)
        .map(|(weights, &bias)| bound(weights, bias, layer.inputs))
        .collect()
}

/// Width and shift of activations that need no clamp, near a wanted width.
fn unclamped(lanes: Lanes, bits: u8) -> (u8, u8) {
    /// More than two lanes store elements of up to 16 bits without masking their neighbours away.
    const UNMASKED_BITS: u8 = 16;
    let bits = if lanes.count() > 2 { bits.min(UNMASKED_BITS) } else { bits };
    // No more than the widest lane holds.
    let bits = u8::try_from(value_bits(lanes)).map_or(bits, |most| bits.min(most));
    let shift = u8::try_from(value_bits(lanes).saturating_sub(u32::from(bits))).unwrap_or(0);
    (bits, shift)
}

/// `None` when the outputs are too coarse for a probability that a rule asks for.
pub(super) fn decision(model: &Model, contract: &Contract, unit: f64, finer: &[u8]) -> Option<Decision> {
    let mut outputs =
        model.outputs().zip(finer).zip(&contract.outputs).map(|((output, &finer), named)| Output {
            name: named.name.clone(),
            start: output.start,
            finer,
            rule: match output.head {
                Head::Scores => Rule::None,
                Head::Logits => Rule::ArgMax,
                Head::OneVersusRest { normalised } => Rule::OneVersusRest { normalised },
                Head::Logistic => Rule::Positive,
                Head::Probability => Rule::Probability,
                Head::Probabilities => Rule::Probabilities,
            },
            labels: named.labels.clone(),
        });
    let mut decision =
        Decision { first: outputs.next()?, further: outputs.collect(), unit, tests: Vec::new() };
    let units: Vec<f64> = decision.outputs().map(|output| decision.unit_of(output)).collect();
    let classes: Vec<(Head, usize)> = model
        .outputs()
        .zip(model.widths())
        .map(|(output, width)| (output.head, class_count(output, width)))
        .collect();
    decision.tests = contract
        .rules
        .iter()
        .map(|wish| {
            let output = wish.output as usize;
            rule_test(*wish, *classes.get(output)?, *units.get(output)?)
        })
        .collect::<Option<_>>()?;
    Some(decision)
}
