//! Layer by layer through the float model, for statistics; labels and margins of float outputs.
//!
//! Outputs that budgets are measured against come from [`crate::model::eval`]; this pass repeats it in double
//! precision and shows what lies between.

use crate::ir::Input;
use crate::model::{Activation, Head, Model, Normalise};

/// Rows that are computed together.
const BLOCK: usize = 64;

/// One value of each of a block's rows.
pub(super) type Column = [f64; BLOCK];

/// Sees every layer's sums, block by block.
pub(super) trait Watch {
    /// `sums` are the pre-activations of `layer`, neuron by neuron, of which the first `count` rows are real.
    fn layer(&mut self, layer: usize, sums: &[Column], count: usize);
}

/// Real value of one raw unit of a feature.
pub(super) fn unit(input: &Input) -> f64 {
    (-f64::from(input.fraction_bits.0)).exp2()
}

/// Raw rows as the float model reads them.
pub(super) fn real_rows(inputs: &[Input], rows: &[i64]) -> Vec<f64> {
    let units: Vec<f64> = inputs.iter().map(unit).collect();
    rows.chunks(units.len().max(1))
        .flat_map(|row| row.iter().zip(&units).map(|(&raw, unit)| raw as f64 * unit))
        .collect()
}

/// Runs raw rows (row-major) and shows every layer's sums to `watch`.
pub(super) fn walk(model: &Model, inputs: &[Input], rows: &[i64], watch: &mut impl Watch) {
    let layers = model.layers();
    let units: Vec<(f64, Normalise)> = inputs.iter().map(unit).zip(model.normalise.iter().copied()).collect();
    let width = units.len().max(1);
    for block in rows.chunks(width * BLOCK) {
        let count = block.len() / width;
        let mut current: Vec<Column> = vec![[0.0; BLOCK]; width];
        for (lane, row) in block.chunks_exact(width).enumerate() {
            for (input, ((column, &raw), (unit, normalise))) in
                current.iter_mut().zip(row).zip(&units).enumerate()
            {
                if let Some(cell) = column.get_mut(lane) {
                    let value = model.replacing(input, raw as f64 * unit);
                    *cell = (value - normalise.centre) * normalise.scale + normalise.offset;
                }
            }
        }
        for (index, layer) in layers.iter().enumerate() {
            let mut sums: Vec<Column> = (0..layer.weights.rows)
                .zip(&layer.bias)
                .map(|(row, &bias)| weigh(layer.weights.row(row), bias, &current))
                .collect();
            watch.layer(index, &sums, count);
            if layer.activation != Activation::Identity {
                let active = sums.len().saturating_sub(layer.plain);
                for value in sums.iter_mut().take(active).flatten() {
                    *value = layer.activation.apply(*value);
                }
            }
            current = sums;
        }
    }
}

fn weigh(weights: &[f64], bias: f64, input: &[Column]) -> Column {
    let mut sums = [bias; BLOCK];
    for (&weight, column) in weights.iter().zip(input) {
        for (sum, &value) in sums.iter_mut().zip(column) {
            *sum += weight * value;
        }
    }
    sums
}

/// The label of each output by its head's rule; 0 for a regressor, whose values are compared instead.
pub(super) fn labels<'a>(model: &'a Model, values: &'a [f64]) -> impl Iterator<Item = u32> + 'a {
    model.parts(values).map(|(output, values)| label(output.head, values))
}

fn label(head: Head, outputs: &[f64]) -> u32 {
    match head {
        Head::Scores => 0,
        Head::Logistic | Head::Probability => u32::from(outputs.first().is_some_and(|&z| z > 0.0)),
        Head::Logits | Head::OneVersusRest { .. } | Head::Probabilities => {
            let mut best = (0u32, f64::NEG_INFINITY);
            for (class, &z) in (0u32..).zip(outputs) {
                if z > best.1 {
                    best = (class, z);
                }
            }
            best.0
        }
    }
}

/// Distance of each output from another label.
pub(super) fn margins<'a>(model: &'a Model, values: &'a [f64]) -> impl Iterator<Item = f64> + 'a {
    model.parts(values).map(|(output, values)| margin(output.head, values))
}

fn margin(head: Head, outputs: &[f64]) -> f64 {
    match head {
        Head::Scores => 0.0,
        Head::Logistic | Head::Probability => outputs.first().map_or(0.0, |z| z.abs()),
        Head::Logits | Head::OneVersusRest { .. } | Head::Probabilities => {
            let (mut first, mut second) = (f64::NEG_INFINITY, f64::NEG_INFINITY);
            for &z in outputs {
                if z > first {
                    (first, second) = (z, first);
                } else if z > second {
                    second = z;
                }
            }
            first - second
        }
    }
}
