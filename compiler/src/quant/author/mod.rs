//! Models that were quantised by their author: their own scales, zero points and levels, in the same integers.
//!
//! `exact` has arithmetic without rounding, `levels` one line to levels, `build` the network. What is left here
//! is to measure it and to report.

mod build;
mod exact;
mod levels;
#[cfg(test)]
mod tests;

use super::cost::{dense_ns, network_ns};
use super::report::{InputReport, LayerReport, Precision, QuantReport};
use super::sample::{self, Sample};
use super::summary::{SATURATION_ROWS, signed_bits};
use super::{Calibration, Contract, Options, Quantised, error, evaluate, plan_of, threshold};
use crate::diag::codes::quant::{BUDGET, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Op, interpret};
use crate::model::{Activation, Function, Model};
use build::Authored;

/// Why no part of such a network is made exact in turn.
const NOTHING_ROUNDED: &str =
    "the model was quantised by its author: its levels are kept, and nothing else is rounded";

/// The network of a model that was quantised by its author; `None` when it is none.
pub(super) fn run(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Option<Outcome<Quantised>> {
    let levels = |activation| matches!(activation, Activation::Function(Function::Levels(_)));
    if model.layers().iter().any(|layer| layer.plain > 0) {
        return None;
    }
    if !model.layers().first().is_some_and(|layer| levels(layer.activation)) {
        return None;
    }
    let authored = match build::build(model, contract, options.like.as_ref())? {
        Ok(authored) => authored,
        Err(errors) => return Some(Err(errors)),
    };
    Some(judged(model, contract, calibration, options, authored))
}

fn judged(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
    authored: Authored,
) -> Outcome<Quantised> {
    let whole = || Origin::File { file: contract.model.clone() };
    if options.like.as_ref().is_some_and(|like| *like != plan_of(authored.network.get())) {
        return Err(vec![Diagnostic::new(
            &SHAPE,
            whole(),
            "the model's layers and quantisations are not those of the object",
            "compile the model anew; only a model of the same shape can replace another",
        )]);
    }
    let sample = sample::prepare(model, contract, calibration)?;
    let allowed = options.max_flips.allowed(sample.count());
    let flips = evaluate::flipped_rows(&authored.network, &sample, sample.count(), u64::MAX).len() as u64;
    if flips > allowed {
        let count = sample.count();
        return Err(vec![Diagnostic::new(
            &BUDGET,
            whole(),
            format!(
                "fixed point changes the label of {flips} of {count} rows, and the budget allows {allowed}"
            ),
            "raise `--max-flips`, or calibrate with rows like those that the model was trained on",
        )]);
    }
    let report = report(model, contract, &sample, &authored, flips, allowed);
    Ok(Quantised { network: authored.network.into_inner(), report })
}

fn report(
    model: &Model,
    contract: &Contract,
    sample: &Sample,
    authored: &Authored,
    flips: u64,
    allowed: u64,
) -> QuantReport {
    let network = authored.network.get();
    let saturated = saturation(sample, authored);
    let counted = |op: usize| saturated.get(op).map(Vec::as_slice).unwrap_or_default();
    let mut inputs = Vec::new();
    if let Some(Op::Quantise(quantise)) = network.ops.first() {
        for ((input, one), &saturated) in network.inputs.iter().zip(&quantise.features).zip(counted(0)) {
            let unit = super::float::unit(input);
            let (low, high) = (one.accumulate(one.low), one.accumulate(one.high));
            let (low, high) = (quantise.round(one, low), quantise.round(one, high));
            let step = f64::from(one.shift).exp2() / one.multiplier as f64;
            inputs.push(InputReport {
                name: input.name.clone(),
                fraction_bits: input.fraction_bits.0,
                low: one.low as f64 * unit,
                high: one.high as f64 * unit,
                step: if one.multiplier == 0 { 0.0 } else { step.abs() * unit },
                quantised: crate::ir::Interval { low: low.min(high), high: low.max(high) },
                saturated,
            });
        }
    }
    let dense = network.ops.iter().zip(&authored.network.certificate().ops).enumerate();
    let layers = dense
        .filter_map(|(position, (op, proof))| match op {
            Op::Dense(dense) => Some((position, dense, proof)),
            Op::Quantise(_) | Op::Table(_) | Op::Forest(_) => None,
        })
        .zip(&authored.layers)
        .map(|((position, dense, proof), &layer)| {
            let behind = authored.levels.get(position + 1);
            let (finest, coarsest) = behind.copied().flatten().unwrap_or((1.0, 1.0));
            let rescaled = match network.ops.get(position + 1) {
                Some(Op::Quantise(quantise)) => Some(quantise),
                Some(Op::Dense(_) | Op::Table(_) | Op::Forest(_)) | None => None,
            };
            LayerReport {
                layer,
                node: model.layers().get(layer).map_or_else(String::new, |layer| layer.origin.name.clone()),
                outputs: dense.rows,
                inputs: dense.columns,
                lanes: dense.lanes.count(),
                bits: rescaled.map(|quantise| u8::try_from(signed_bits(quantise.output)).unwrap_or(64)),
                shift: 0,
                table: None,
                accumulator_bits: proof.accumulators.iter().copied().map(signed_bits).max().unwrap_or(0),
                lane_bits: dense.lanes.widest(),
                widths: dense.lanes.widths().collect(),
                finest_unit: finest,
                coarsest_unit: coarsest,
                saturated: counted(position + 1).iter().sum(),
                clamped: false,
                predicted_ns: dense_ns(dense),
            }
        })
        .collect();
    QuantReport {
        calibrated: sample.calibrated,
        rows: sample.count(),
        ties: sample.ties,
        flips,
        allowed,
        predicted_ns: network_ns(network),
        inputs,
        layers,
        forest: None,
        thresholds: threshold::report(model, contract, &authored.network, sample),
        errors: Some(error::errors(model, contract, network, sample)),
        precision: Some(Precision { skipped: Some(NOTHING_ROUNDED.to_owned()), ..Precision::default() }),
        search: Vec::new(),
    }
}

/// How many rows, spread evenly through the sample, the limits of each quantiser cut, value by value. What a ReLU
/// cuts is not counted.
fn saturation(sample: &Sample, authored: &Authored) -> Vec<Vec<u64>> {
    let network = authored.network.get();
    let mut counts: Vec<Vec<u64>> = network.ops.iter().map(|op| vec![0; op.width()]).collect();
    let step = (sample.count() / SATURATION_ROWS).max(1);
    for row in sample.rows.chunks_exact(sample.width.max(1)).step_by(step) {
        let mut values = row.to_vec();
        for (op, counts) in network.ops.iter().zip(&mut counts) {
            if let Op::Quantise(quantise) = op {
                for ((one, x), count) in quantise.features.iter().zip(&values).zip(counts) {
                    let cut = (*x < one.low || *x > one.high) && one.multiplier != 0;
                    let level = quantise.round(one, one.accumulate(*x));
                    *count += u64::from(cut && level != 0);
                }
            }
            values = interpret::step(op, &values).values;
        }
    }
    counts
}
