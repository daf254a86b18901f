//! Which part of a candidate costs most: one part at a time is made exact, and flips are counted again.

use super::build::{Candidate, Setup};
use super::float::labels;
use super::sample::{Expected, Sample, work};
use crate::ir::{Dense, Op, Post};
use crate::model::Activation;

/// Multiply-accumulates that one measurement may cost.
const WORK: usize = 1 << 24;

/// Flips that remain when one part is exact.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Blame {
    /// 0 for the input quantiser, `k + 1` for layer `k`.
    pub(super) part: usize,
    pub(super) flips_before: u64,
    pub(super) flips_when_exact: u64,
}

/// The part whose exactness saves most flips.
pub(super) fn costliest(setup: Setup<'_>, sample: &Sample, candidate: &Candidate) -> Option<Blame> {
    let parts = candidate.network.get().ops.len();
    let rows = (WORK / work(setup.model).max(1)).clamp(64, sample.count().max(64));
    let before = flips(setup, sample, candidate, rows, None);
    (0..parts)
        .map(|part| Blame {
            part,
            flips_before: before,
            flips_when_exact: flips(setup, sample, candidate, rows, Some(part)),
        })
        .min_by_key(|blame| blame.flips_when_exact)
}

fn flips(setup: Setup<'_>, sample: &Sample, candidate: &Candidate, rows: usize, exact: Option<usize>) -> u64 {
    let outputs =
        sample.nearest(rows).chunks_exact(sample.width.max(1)).map(|row| judge(setup, candidate, row, exact));
    let count = match &sample.expected {
        Expected::Labels { labels: wanted, outputs: count } => outputs
            .zip(wanted.chunks_exact((*count).max(1)))
            .filter(|(outputs, wanted)| !labels(setup.model, outputs).eq(wanted.iter().copied()))
            .count(),
        Expected::Values { outputs: wanted, tolerance } => outputs
            .zip(wanted.chunks_exact(setup.model.output_count().max(1)))
            .filter(|(have, want)| have.iter().zip(want.iter()).any(|(a, b)| (a - b).abs() > *tolerance))
            .count(),
    };
    count as u64
}

/// Real outputs of a row with every part in integers but one.
fn judge(setup: Setup<'_>, candidate: &Candidate, row: &[i64], exact: Option<usize>) -> Vec<f64> {
    let layers = setup.model.layers();
    let network = candidate.network.get();
    // Real values, and for the first layer raw units: what the integers stand for.
    let mut values: Vec<f64> = match exact {
        Some(0) => row.iter().map(|&x| x as f64).collect(),
        _ => row
            .iter()
            .zip(&candidate.inputs)
            .map(|(&x, input)| input.zero + input.step * (input.one.accumulate(x) >> input.one.shift) as f64)
            .collect(),
    };
    let mut scales: Vec<(f64, f64)> = candidate.inputs.iter().map(|input| (input.zero, input.step)).collect();
    let dense = network.ops.iter().filter_map(|op| match op {
        Op::Dense(dense) => Some(dense),
        Op::Quantise(_) | Op::Table(_) | Op::Forest(_) => None,
    });
    for (index, ((layer, dense), units)) in layers.iter().zip(dense).zip(&candidate.units).enumerate() {
        values = if exact == Some(index + 1) {
            if index == 0 {
                for (input, value) in values.iter_mut().enumerate() {
                    let (gain, zero) = super::build::raw_gain(setup, input);
                    *value = *value * gain + zero;
                }
            }
            exact_layer(layer, &values)
        } else {
            integer_layer(dense, units, &scales, &values)
        };
        scales = units.iter().map(|&unit| (0.0, unit)).collect();
    }
    values
}

fn exact_layer(layer: &crate::model::Dense, values: &[f64]) -> Vec<f64> {
    (0..layer.weights.rows)
        .zip(&layer.bias)
        .map(|(row, bias)| {
            let sum = layer.weights.row(row).iter().zip(values).fold(*bias, |sum, (w, x)| sum + w * x);
            match layer.activation {
                Activation::Identity => sum,
                Activation::Relu => sum.max(0.0),
                Activation::Function(function) => function.apply(sum),
            }
        })
        .collect()
}

/// The integer layer on real inputs: exact ones need not be whole steps.
fn integer_layer(dense: &Dense, units: &[f64], scales: &[(f64, f64)], values: &[f64]) -> Vec<f64> {
    let steps: Vec<f64> =
        values.iter().zip(scales).map(|(value, (zero, step))| (value - zero) / step).collect();
    dense
        .weights
        .chunks_exact(dense.columns.max(1))
        .zip(&dense.bias)
        .zip(units)
        .map(|((weights, &bias), unit)| {
            let sum = weights.iter().zip(&steps).fold(bias as f64, |sum, (&w, x)| sum + w as f64 * x);
            let result = match dense.post {
                Post::Raw => sum,
                Post::Relu { shift, bits } => {
                    (sum.max(0.0) / f64::from(shift).exp2()).floor().min(f64::from(bits).exp2() - 1.0)
                }
                Post::Signed { shift, bits } => {
                    let half = f64::from(bits - 1).exp2();
                    (sum / f64::from(shift).exp2()).floor().clamp(-half, half - 1.0)
                }
            };
            result * unit
        })
        .collect()
}
