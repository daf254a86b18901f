//! Which part of a candidate costs most: one part at a time is made exact, and flips are counted again.

use super::build::{Candidate, Setup};
use super::float::labels;
use super::sample::{Expected, Sample, work};
use crate::ir::{Op, Post};

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
    let parts = candidate.units.len() + 1;
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

/// Real outputs of the rows nearest to another label, with every part in integers but one.
pub(super) fn outputs<'a>(
    setup: Setup<'a>,
    sample: &'a Sample,
    candidate: &'a Candidate,
    rows: usize,
    exact: Option<usize>,
) -> impl Iterator<Item = Vec<f64>> + 'a {
    let rows = sample.nearest(rows).chunks_exact(sample.width.max(1));
    rows.map(move |row| judge(setup, candidate, row, exact))
}

/// How many of these rows change their label.
pub(super) fn flips(
    setup: Setup<'_>,
    sample: &Sample,
    candidate: &Candidate,
    rows: usize,
    exact: Option<usize>,
) -> u64 {
    let outputs = outputs(setup, sample, candidate, rows, exact);
    let count = match &sample.expected {
        Expected::Labels { labels: wanted, outputs: count } => outputs
            .zip(wanted.chunks_exact((*count).max(1)))
            .filter(|(outputs, wanted)| !labels(setup.model, outputs).eq(wanted.iter().copied()))
            .count(),
        Expected::Values { outputs: wanted, tolerances } => outputs
            .zip(wanted.chunks_exact(setup.model.output_count().max(1)))
            .zip(tolerances)
            .filter(|((have, want), off)| have.iter().zip(want.iter()).any(|(a, b)| (a - b).abs() > **off))
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
    // A dense operation and what belongs to it.
    let starts: Vec<usize> =
        (0..).zip(&network.ops).filter(|(_, op)| matches!(op, Op::Dense(_))).map(|(at, _)| at).collect();
    let parts = starts.iter().zip(starts.iter().skip(1).copied().chain([network.ops.len()]));
    let results = candidate.units.iter().zip(&candidate.zeros);
    for (index, ((layer, (&start, end)), (units, zeros))) in layers.iter().zip(parts).zip(results).enumerate()
    {
        values = if exact == Some(index + 1) {
            if index == 0 {
                for (input, value) in values.iter_mut().enumerate() {
                    let (gain, zero) = super::build::raw_gain(setup, input);
                    *value = *value * gain + zero;
                }
            }
            exact_layer(layer, &values)
        } else {
            let steps: Vec<f64> =
                values.iter().zip(&scales).map(|(value, (zero, step))| (value - zero) / step).collect();
            let ops = network.ops.get(start..end).unwrap_or_default();
            let results = ops.iter().fold(steps, |values, op| integer_op(op, &values));
            results.iter().zip(units).zip(zeros).map(|((result, unit), zero)| zero + result * unit).collect()
        };
        scales = zeros.iter().copied().zip(units.iter().copied()).collect();
    }
    values
}

fn exact_layer(layer: &crate::model::Dense, values: &[f64]) -> Vec<f64> {
    (0..layer.weights.rows)
        .zip(&layer.bias)
        .map(|(row, bias)| {
            let sum = layer.weights.row(row).iter().zip(values).fold(*bias, |sum, (w, x)| sum + w * x);
            layer.activation_of(row).apply(sum)
        })
        .collect()
}

/// An operation in integers on numbers that need not be whole, where what came before is exact.
fn integer_op(op: &Op, values: &[f64]) -> Vec<f64> {
    let halved = |value: f64, shift: u8| (value / f64::from(shift).exp2()).floor();
    match op {
        Op::Quantise(quantise) => quantise
            .features
            .iter()
            .zip(values)
            .map(|(one, value)| {
                let clamped = value.max(one.low as f64).min(one.high as f64);
                halved(clamped * one.multiplier as f64 + one.offset as f64, one.shift)
            })
            .collect(),
        Op::Table(table) => (0..)
            .zip(values)
            .map(|(at, value)| if at < table.mapped { table.entry(*value as i64) as f64 } else { *value })
            .collect(),
        Op::Gate(gate) => (0..)
            .zip(values)
            .map(|(at, value)| if at < gate.mapped { gate.result(*value as i64) as f64 } else { *value })
            .collect(),
        Op::Dense(dense) => dense
            .weights
            .chunks_exact(dense.columns.max(1))
            .zip(&dense.bias)
            .map(|(weights, &bias)| {
                let sum = weights.iter().zip(values).fold(bias as f64, |sum, (&w, x)| sum + w as f64 * x);
                match dense.post {
                    Post::Raw => sum,
                    Post::Relu { shift, bits } => {
                        halved(sum.max(0.0), shift).min(f64::from(bits).exp2() - 1.0)
                    }
                    Post::Signed { shift, bits } => {
                        let half = f64::from(bits - 1).exp2();
                        halved(sum, shift).clamp(-half, half - 1.0)
                    }
                }
            })
            .collect(),
        Op::Forest(_) => values.to_vec(),
    }
}
