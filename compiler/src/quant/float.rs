//! The float model over many rows, in double and in single precision: labels, margins, activations.
//!
//! Rows go through in transposed blocks so that the loops vectorise. Labels follow [`Head`]; what the
//! importer checks against reference outputs is [`crate::model::eval`], and a test compares the two.

use crate::ir::Input;
use crate::model::{Activation, Body, Head, Model};

/// Rows that are computed together.
pub(super) const BLOCK: usize = 64;

/// One value of each of a block's rows.
pub(super) type Column<T> = [T; BLOCK];

/// The arithmetic of one precision.
pub(super) trait Real: Copy + PartialOrd + Default {
    fn of(value: f64) -> Self;
    fn wide(self) -> f64;
    fn plus(self, other: Self) -> Self;
    fn minus(self, other: Self) -> Self;
    fn times(self, other: Self) -> Self;
}

macro_rules! real {
    ($type:ty) => {
        impl Real for $type {
            fn of(value: f64) -> Self {
                value as Self
            }
            fn wide(self) -> f64 {
                f64::from(self)
            }
            fn plus(self, other: Self) -> Self {
                self + other
            }
            fn minus(self, other: Self) -> Self {
                self - other
            }
            fn times(self, other: Self) -> Self {
                self * other
            }
        }
    };
}

real!(f32);
real!(f64);

/// A model's numbers in one precision.
#[derive(Debug)]
pub(super) struct Forward<T> {
    /// Unit of a raw value, centre, scale, offset.
    inputs: Vec<[T; 4]>,
    layers: Vec<ForwardLayer<T>>,
}

#[derive(Debug)]
struct ForwardLayer<T> {
    columns: usize,
    weights: Vec<T>,
    bias: Vec<T>,
    relu: bool,
}

/// Calls back with each block's layer sums.
pub(super) trait Watch<T> {
    /// `sums` are the pre-activations of `layer`, of which the first `count` rows are real.
    fn layer(&mut self, layer: usize, sums: &[Column<T>], count: usize);
}

impl<T: Real> Forward<T> {
    pub(super) fn new(model: &Model, inputs: &[Input]) -> Self {
        let Body::Mlp(layers) = &model.body;
        let inputs = model
            .normalise
            .iter()
            .zip(inputs)
            .map(|(normalise, input)| {
                let unit = (-f64::from(input.fraction_bits.0)).exp2();
                [T::of(unit), T::of(normalise.centre), T::of(normalise.scale), T::of(normalise.offset)]
            })
            .collect();
        let layers = layers
            .iter()
            .map(|layer| ForwardLayer {
                columns: layer.weights.columns,
                weights: layer.weights.values.iter().map(|&weight| T::of(weight)).collect(),
                bias: layer.bias.iter().map(|&bias| T::of(bias)).collect(),
                relu: match layer.activation {
                    Activation::Identity => false,
                    Activation::Relu => true,
                },
            })
            .collect();
        Self { inputs, layers }
    }

    /// Runs raw rows (row-major) and shows every layer's sums to `watch`.
    pub(super) fn run(&self, rows: &[i64], watch: &mut impl Watch<T>) {
        let width = self.inputs.len().max(1);
        let mut current: Vec<Column<T>> = Vec::new();
        for block in rows.chunks(width * BLOCK) {
            let count = block.len() / width;
            current.clear();
            current.resize(width, [T::default(); BLOCK]);
            for (lane, row) in block.chunks_exact(width).enumerate() {
                for ((column, &raw), [unit, centre, scale, offset]) in
                    current.iter_mut().zip(row).zip(&self.inputs)
                {
                    // The model sees the feature as a float of its own precision.
                    let x = T::of(raw as f64 * unit.wide());
                    if let Some(cell) = column.get_mut(lane) {
                        *cell = x.minus(*centre).times(*scale).plus(*offset);
                    }
                }
            }
            for (index, layer) in self.layers.iter().enumerate() {
                let mut sums: Vec<Column<T>> = layer
                    .weights
                    .chunks_exact(layer.columns.max(1))
                    .zip(&layer.bias)
                    .map(|(weights, &bias)| weigh(weights, bias, &current))
                    .collect();
                watch.layer(index, &sums, count);
                if layer.relu {
                    for value in sums.iter_mut().flatten() {
                        *value = if *value > T::default() { *value } else { T::default() };
                    }
                }
                current = sums;
            }
        }
    }
}

fn weigh<T: Real>(weights: &[T], bias: T, input: &[Column<T>]) -> Column<T> {
    let mut sums = [bias; BLOCK];
    for (&weight, column) in weights.iter().zip(input) {
        for (sum, &value) in sums.iter_mut().zip(column) {
            *sum = sum.plus(weight.times(value));
        }
    }
    sums
}

/// The label of float outputs by the head's rule; 0 for a regressor, whose outputs are compared instead.
pub(super) fn label(head: Head, outputs: &[f64]) -> u32 {
    match head {
        Head::Scores => 0,
        Head::Logistic => u32::from(outputs.first().is_some_and(|&z| z > 0.0)),
        Head::Logits => {
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

/// Distance of the outputs from another label.
pub(super) fn margin(head: Head, outputs: &[f64]) -> f64 {
    match head {
        Head::Scores => 0.0,
        Head::Logistic => outputs.first().map_or(0.0, |z| z.abs()),
        Head::Logits => {
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

/// Keeps the last layer's sums, row by row.
#[derive(Debug)]
pub(super) struct Outputs {
    last: usize,
    pub(super) values: Vec<f64>,
}

impl Outputs {
    pub(super) fn new(model: &Model) -> Self {
        let Body::Mlp(layers) = &model.body;
        Self { last: layers.len().saturating_sub(1), values: Vec::new() }
    }
}

impl<T: Real> Watch<T> for Outputs {
    fn layer(&mut self, layer: usize, sums: &[Column<T>], count: usize) {
        if layer == self.last {
            for lane in 0..count {
                self.values
                    .extend(sums.iter().filter_map(|column| column.get(lane)).map(|value| value.wide()));
            }
        }
    }
}
