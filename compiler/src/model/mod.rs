//! The typed float model: shapes known, scalers, casts and label maps folded away.
//!
//! This is what the ONNX importer produces and what every accuracy figure is compared with.
//! Evaluation in double and in single precision lives in [`eval`].

pub mod activation;
pub mod eval;
mod head;

use crate::diag::NodeRef;

pub use activation::Activation;

/// A classifier or regressor over one row of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Names of the input columns where the file has them, in order; the length is the number of features.
    pub inputs: Vec<Option<String>>,
    /// Applied to each input before the body; one entry per input.
    pub normalise: Vec<Normalise>,
    pub body: Body,
    pub head: Head,
    /// Class labels of the file (`classlabels_*`, label maps), in output order.
    pub classes: Option<Vec<String>>,
    /// SHA-256 of the model file.
    pub hash: [u8; 32],
}

/// `y = (x - centre) * scale + offset`, in real numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Normalise {
    pub centre: f64,
    pub scale: f64,
    pub offset: f64,
}

impl Normalise {
    /// Leaves its input as it is.
    pub const IDENTITY: Self = Self { centre: 0.0, scale: 1.0, offset: 0.0 };
}

/// What computes outputs from normalised inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Dense layers in order; at least one.
    Mlp(Vec<Dense>),
}

/// `activation(weights · x + bias)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// The node that multiplies.
    pub origin: NodeRef,
    pub weights: Matrix,
    /// One per row of `weights`.
    pub bias: Vec<f64>,
    pub activation: Activation,
}

/// Row-major matrix: `rows` outputs by `columns` inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Matrix {
    pub rows: usize,
    pub columns: usize,
    /// `rows * columns` values.
    pub values: Vec<f64>,
}

impl Matrix {
    /// The weights of output `row`; empty when there is no such row.
    #[must_use]
    pub fn row(&self, row: usize) -> &[f64] {
        self.values.get(row * self.columns..(row + 1) * self.columns).unwrap_or_default()
    }
}

/// How outputs become a label and a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Plain outputs without a class: a regressor.
    Scores,
    /// One output per class; the label is the arg-max (ties go to the lowest index), the score its softmax.
    Logits,
    /// One output: class 1 when its logistic exceeds one half, that is when the output is above zero.
    Logistic,
}

impl Model {
    /// Number of input features.
    #[must_use]
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// Number of raw outputs.
    #[must_use]
    pub fn output_count(&self) -> usize {
        match &self.body {
            Body::Mlp(layers) => layers.last().map_or(0, |layer| layer.weights.rows),
        }
    }
}
