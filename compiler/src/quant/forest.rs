//! Decision trees to fixed point: nothing is searched, because every comparison is exact.
//!
//! `table` makes the table. What is left here is what a specification does not say: which rows the result is
//! measured on, and the fraction bits of features without a specification.

use super::build::decision;
use super::contract::Contract;
use super::report::{ForestReport, InputReport, QuantReport};
use super::sample::{self, Sample};
use super::summary::{outline, signed_bits, within_budget};
use super::table::{self, Table};
use super::{Calibration, Options, Quantised, error};
use crate::check::{MOST_RAW, check};
use crate::diag::codes::quant::{COARSE, NO_FIT, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Forest, Input, Interval, Network, Op, OpOrigin, Quantise, QuantiseOne};
use crate::model::forest::Node;
use crate::model::{self, Model};
use crate::random::SplitMix;

/// Rows drawn when there is no calibration file.
const DRAWN_ROWS: usize = 4096;
/// Resolution of a derived fixed-point format: a step of a raw value is the least distance of two thresholds times
/// `2^-RESOLUTION`.
const RESOLUTION: f64 = 20.0;
/// Most fraction bits that are derived.
const MOST_FRACTION_BITS: f64 = 40.0;
/// Bits of the whole part of a value, at least, and those that values may have beyond the largest threshold.
const WHOLE_BITS: f64 = 32.0;
const MARGIN_BITS: f64 = 20.0;

pub(super) fn run(
    model: &Model,
    trees: &model::Forest,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Outcome<Quantised> {
    let like = options.like.as_ref();
    let plan = like.and_then(|plan| plan.forest.as_ref());
    let origin = || Origin::Node { file: contract.model.clone(), node: trees.origin.clone() };
    let help = "compile the model anew; only trees that fit its room can replace those of an object";
    let outputs = trees.base.len();
    let differs = match (like, plan) {
        (None, _) => None,
        (Some(_), None) => Some("the object's model is none of decision trees".to_owned()),
        (Some(like), Some(plan)) => {
            let same = like.finer.len() == model.outputs().count() && plan.outputs == outputs;
            (!same)
                .then(|| format!("the trees add to {outputs} values, and the object's to {}", plan.outputs))
        }
    };
    if let Some(message) = differs {
        return Err(vec![Diagnostic::new(&SHAPE, origin(), message, help)]);
    }
    let table = table::build(trees, &contract.inputs, plan).map_err(|message| match plan {
        Some(_) => vec![Diagnostic::new(&SHAPE, origin(), message, help)],
        None => {
            let help = "train fewer or shallower trees (`n_estimators`, `max_depth`, `max_leaf_nodes`)";
            vec![Diagnostic::new(&NO_FIT, origin(), message, help)]
        }
    })?;
    let finer = vec![0; model.outputs().count()];
    let decision = decision(model, contract, table.unit, &finer).ok_or_else(|| {
        let message = "the outputs are too coarse for the probability of a rule";
        vec![Diagnostic::new(&COARSE, origin(), message, "remove `when p >= ...`")]
    })?;
    let mut ops = clamp(&contract.inputs);
    let mut origins = vec![OpOrigin::Inputs; ops.len()];
    ops.push(Op::Forest(table.forest.clone()));
    origins.push(OpOrigin::Layer { layer: 0, node: trees.origin.clone() });
    let network = check(Network { inputs: contract.inputs.clone(), ops, origins, decision })?;

    let drawn;
    let rows = match calibration {
        Some(calibration) => calibration.rows,
        None => {
            drawn = draw(model, &table.forest, &contract.inputs);
            &drawn
        }
    };
    let sample = sample::prepare(model, contract, Some(Calibration { rows }))?;
    let sample = Sample { calibrated: calibration.is_some(), ..sample };
    let flips = within_budget(&network, &sample, options, origin())?;
    let sums = network.certificate().ops.last().map(|op| op.values.clone()).unwrap_or_default();
    let report = QuantReport {
        inputs: contract.inputs.iter().map(input_report).collect(),
        forest: Some(forest_report(trees, &table, &sums)),
        errors: options.measure.then(|| error::errors(model, contract, network.get(), &sample)),
        ..outline(model, contract, &network, &sample, flips)
    };
    Ok(Quantised { network: network.into_inner(), report, warnings: Vec::new() })
}

/// Values beyond 62 bits, which no difference of two could hold, are clamped where some can arrive.
fn clamp(inputs: &[Input]) -> Vec<Op> {
    let narrow = |range: Interval| range.low >= -MOST_RAW && range.high <= MOST_RAW;
    if inputs.iter().all(|input| narrow(input.range)) {
        return Vec::new();
    }
    let features = inputs
        .iter()
        .map(|Input { range: Interval { low, high }, .. }| QuantiseOne {
            low: (*low).clamp(-MOST_RAW, MOST_RAW),
            high: (*high).clamp(-MOST_RAW, MOST_RAW),
            multiplier: 1,
            offset: 0,
            shift: 0,
        })
        .collect();
    let output = Interval { low: -MOST_RAW, high: MOST_RAW };
    vec![Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() })]
}

/// Rows at and beside the thresholds, and as many from the ranges that the features have.
fn draw(model: &Model, forest: &Forest, inputs: &[Input]) -> Vec<i64> {
    let mut cuts: Vec<Vec<i64>> = vec![Vec::new(); inputs.len()];
    for (_, node) in forest.nodes.iter().enumerate().filter(|(at, node)| !node.is_leaf(*at)) {
        if let Some(list) = cuts.get_mut(usize::from(node.feature)) {
            list.push(node.threshold);
        }
    }
    let scalers = sample::scalers(model);
    let mut random = SplitMix(0x6e6e_6270_6664);
    let mut rows = Vec::with_capacity(DRAWN_ROWS * inputs.len());
    for row in 0..DRAWN_ROWS {
        for ((input, scaler), cuts) in inputs.iter().zip(&scalers).zip(&cuts) {
            let chosen = usize::try_from(random.next() >> 1).unwrap_or(0);
            let value = match cuts.get(chosen % cuts.len().max(1)) {
                Some(cut) if row % 2 == 0 => cut + i64::from(random.next().is_multiple_of(2)),
                _ => random.within(sample::trained_range(scaler, input, sample::DRAWN_REACH)),
            };
            rows.push(value.clamp(input.range.low, input.range.high));
        }
    }
    rows
}

fn input_report(input: &Input) -> InputReport {
    let unit = super::float::unit(input);
    InputReport {
        name: input.name.clone(),
        fraction_bits: input.fraction_bits.0,
        low: input.range.low as f64 * unit,
        high: input.range.high as f64 * unit,
        step: unit,
        quantised: input.range,
        saturated: 0,
    }
}

fn forest_report(trees: &model::Forest, table: &Table, sums: &[Interval]) -> ForestReport {
    ForestReport {
        node: trees.origin.name.clone(),
        trees: table.forest.trees,
        depth: table.forest.depth,
        nodes: table.nodes,
        node_capacity: 2 * table.forest.pairs,
        leaf_rows: table.leaf_rows,
        leaf_row_capacity: table.forest.rows,
        outputs: table.forest.outputs,
        sum_bits: sums.iter().copied().map(signed_bits).max().unwrap_or(0),
        score_error: table.error,
    }
}

/// Fraction bits of a feature that no specification describes: enough to tell its thresholds apart by far, and few
/// enough to leave room for values far beyond them.
pub(super) fn fraction_bits(trees: &model::Forest, input: usize) -> f64 {
    let mut cuts = Vec::new();
    for tree in &trees.trees {
        for node in &tree.nodes {
            let Node::Branch { column, threshold, .. } = node else { continue };
            let Some(column) = trees.columns.get(*column).filter(|column| column.source == input) else {
                continue;
            };
            let by = column.normalise;
            let cut = (threshold - by.offset) / by.scale + by.centre;
            if cut.is_finite() {
                cuts.push(cut);
            }
        }
    }
    cuts.sort_by(f64::total_cmp);
    let most = cuts.iter().fold(1.0f64, |most, cut| most.max(cut.abs()));
    // A test for one number is two comparisons beside each other.
    cuts.dedup_by(|next, cut| *next - *cut <= cut.abs() * f64::EPSILON);
    let gaps =
        cuts.windows(2).map(|pair| pair.iter().rev().copied().reduce(|high, low| high - low).unwrap_or(1.0));
    let least = gaps.fold(1.0f64, f64::min).max(most * f64::from(f32::EPSILON));
    let wanted = (RESOLUTION - least.log2()).ceil();
    let room = (62.0 - WHOLE_BITS.max(most.log2() + MARGIN_BITS)).floor();
    if cuts.is_empty() { 0.0 } else { wanted.min(room.max(0.0)).min(MOST_FRACTION_BITS) }
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
