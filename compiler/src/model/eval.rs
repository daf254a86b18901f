//! Evaluates the float model in double and single precision, one row or many.
//!
//! Many rows go through in blocks that are transposed, so that the innermost loop runs over the rows of a
//! block with one weight: it vectorises whatever the layer's width is.

use super::{Body, Dense, Model, Normalise};

/// Rows that go through the layers together; the accumulators of one neuron then fit the vector registers.
const BLOCK: usize = 16;

/// The floating-point type of an evaluation.
pub trait Real: Copy + PartialOrd + std::ops::Add<Output = Self> + std::ops::Mul<Output = Self> {
    const ZERO: Self;

    /// Rounds to this precision.
    fn of(value: f64) -> Self;

    /// The same number in double precision.
    fn widen(self) -> f64;

    /// `(value - centre) * scale + offset`, each step rounded to this precision.
    fn normalise(value: f64, by: &Normalise) -> Self;
}

impl Real for f64 {
    const ZERO: Self = 0.0;

    fn of(value: f64) -> Self {
        value
    }

    fn widen(self) -> f64 {
        self
    }

    fn normalise(value: f64, by: &Normalise) -> Self {
        (value - by.centre) * by.scale + by.offset
    }
}

impl Real for f32 {
    const ZERO: Self = 0.0;

    fn of(value: f64) -> Self {
        value as Self
    }

    fn widen(self) -> f64 {
        f64::from(self)
    }

    fn normalise(value: f64, by: &Normalise) -> Self {
        (value as Self - by.centre as Self) * by.scale as Self + by.offset as Self
    }
}

impl Model {
    /// Outputs of one row in double precision; the row has [`Model::input_count`] values.
    #[must_use]
    pub fn outputs_f64(&self, row: &[f64]) -> Vec<f64> {
        self.batch::<f64>(row)
    }

    /// Outputs of one row in single precision, as the exporters' runtimes compute them.
    #[must_use]
    pub fn outputs_f32(&self, row: &[f64]) -> Vec<f32> {
        self.batch::<f32>(row)
    }

    /// Outputs of a row-major matrix of rows in double precision, row-major. A part row at the end is ignored.
    #[must_use]
    pub fn batch_outputs_f64(&self, rows: &[f64]) -> Vec<f64> {
        self.batch::<f64>(rows)
    }

    /// [`Model::batch_outputs_f64`] in single precision.
    #[must_use]
    pub fn batch_outputs_f32(&self, rows: &[f64]) -> Vec<f32> {
        self.batch::<f32>(rows)
    }

    fn batch<R: Real>(&self, rows: &[f64]) -> Vec<R> {
        let width = self.input_count();
        if width == 0 {
            return Vec::new();
        }
        let replaced = (!self.replaced.is_empty()).then(|| self.with_replaced(rows));
        let rows = replaced.as_deref().unwrap_or(rows);
        if let Body::Forest(forest) = &self.body {
            return rows.chunks_exact(width).flat_map(|row| forest.outputs(row)).collect();
        }
        let layers: Vec<Layer<'_, R>> = self.layers().iter().map(Layer::new).collect();
        let mut outputs = Vec::with_capacity(rows.len() / width * self.output_count());
        for chunk in rows.chunks(width * BLOCK) {
            let count = chunk.len() / width;
            let mut values = transpose::<R>(chunk, &self.normalise);
            for layer in &layers {
                values = layer.forward(&values);
            }
            for row in 0..count {
                outputs.extend(values.iter().filter_map(|column| column.get(row)));
            }
        }
        outputs
    }
}

/// A block of rows, one entry per feature: its value in each row.
type Block<R> = Vec<[R; BLOCK]>;

fn transpose<R: Real>(chunk: &[f64], normalise: &[Normalise]) -> Block<R> {
    let width = normalise.len();
    let mut block = vec![[R::ZERO; BLOCK]; width];
    for (row, values) in chunk.chunks_exact(width).enumerate() {
        for ((value, by), column) in values.iter().zip(normalise).zip(&mut block) {
            if let Some(cell) = column.get_mut(row) {
                *cell = R::normalise(*value, by);
            }
        }
    }
    block
}

/// A dense layer with its numbers in the evaluation's precision.
struct Layer<'a, R> {
    dense: &'a Dense,
    weights: Vec<R>,
    bias: Vec<R>,
}

impl<'a, R: Real> Layer<'a, R> {
    fn new(dense: &'a Dense) -> Self {
        let convert = |values: &[f64]| values.iter().copied().map(R::of).collect();
        Self { dense, weights: convert(&dense.weights.values), bias: convert(&dense.bias) }
    }

    fn forward(&self, inputs: &[[R; BLOCK]]) -> Block<R> {
        let columns = self.dense.weights.columns.max(1);
        let active = self.bias.len().saturating_sub(self.dense.plain);
        self.weights
            .chunks_exact(columns)
            .zip(&self.bias)
            .enumerate()
            .map(|(row, (weights, bias))| {
                let mut sums = [*bias; BLOCK];
                for (weight, column) in weights.iter().zip(inputs) {
                    for (sum, value) in sums.iter_mut().zip(column) {
                        *sum = *sum + *weight * *value;
                    }
                }
                if row < active { sums.map(|sum| self.dense.activation.apply(sum)) } else { sums }
            })
            .collect()
    }
}
