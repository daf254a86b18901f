//! The typed float model: shapes known, scalers, casts and label maps folded away.
//!
//! This is what the ONNX importer produces and what every accuracy figure is compared with.
//! Evaluation in double and in single precision lives in [`eval`].

pub mod activation;
pub mod eval;
pub mod forest;
mod head;
mod replaced;

use crate::diag::NodeRef;

pub use activation::{Activation, Function, Levels};
pub use forest::Forest;
pub use replaced::Replaced;

/// A classifier or regressor over one row of features.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    /// Names of the input columns where the file has them, in order; the length is the number of features.
    pub inputs: Vec<Option<String>>,
    /// Applied to each input before the body; one entry per input.
    pub normalise: Vec<Normalise>,
    /// Values of inputs that are replaced before that, one of an input at most.
    pub replaced: Vec<Replaced>,
    pub body: Body,
    /// The only output of most models.
    pub first: Output,
    /// Other outputs, which read the raw values behind those of the outputs before them.
    pub further: Vec<Output>,
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
    /// Decision trees, which read inputs through scalers of their own.
    Forest(Forest),
}

/// `activation(weights · x + bias)`, but for the last values, which may have no activation.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    /// The node that multiplies.
    pub origin: NodeRef,
    pub weights: Matrix,
    /// One per row of `weights`.
    pub bias: Vec<f64>,
    pub activation: Activation,
    /// How many of the last values have no activation: what is carried past this layer. None with ReLU, past which
    /// the positive and the negative part are carried.
    pub plain: usize,
}

impl Dense {
    /// The activation of a row's value.
    #[must_use]
    pub const fn activation_of(&self, row: usize) -> Activation {
        if row + self.plain < self.weights.rows { self.activation } else { Activation::Identity }
    }
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

/// One output: some of the raw values of the last layer, and what they say together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Output {
    /// What the file calls it: its scores, its probabilities, its label; none for a part of such a value.
    pub names: Vec<String>,
    /// Position of its first raw value; it has those up to the next output's.
    pub start: usize,
    pub head: Head,
    /// Whether the file has the raw values only, so that the head is a guess.
    pub raw: bool,
    /// Class labels of the file (`classlabels_*`, label maps), in the order of the values.
    pub classes: Option<Vec<String>>,
}

impl Output {
    /// The only output of a model, without names.
    #[must_use]
    pub const fn only(head: Head) -> Self {
        Self { names: Vec::new(), start: 0, head, raw: false, classes: None }
    }
}

/// How an output's values become a label and a score.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// Plain outputs without a class: a regressor.
    Scores,
    /// One output per class; the label is the arg-max (ties go to the lowest index), the score its softmax.
    Logits,
    /// One output: class 1 when its logistic exceeds one half, that is when the output is above zero.
    Logistic,
    /// One output per class, each a binary classifier of its class against the others: the label is the arg-max,
    /// the score the logistic of its own output, divided by the sum over the classes when `normalised`.
    OneVersusRest { normalised: bool },
    /// One output: the probability of class 1 less one half; class 1 when it is above zero.
    Probability,
    /// One output per class, its probability; the label is the arg-max (ties go to the lowest index).
    Probabilities,
}

impl Model {
    /// Number of input features.
    #[must_use]
    pub fn input_count(&self) -> usize {
        self.inputs.len()
    }

    /// All outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &Output> + Clone {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// The outputs, each with its part of one entry per raw value.
    pub fn parts<'a, T>(&'a self, values: &'a [T]) -> impl Iterator<Item = (&'a Output, &'a [T])> {
        crate::ir::parts(self.outputs(), |output| output.start, values)
    }

    /// How many raw values each output has.
    #[must_use]
    pub fn widths(&self) -> Vec<usize> {
        self.parts(&vec![(); self.output_count()]).map(|(_, part)| part.len()).collect()
    }

    /// Number of raw values of all outputs.
    #[must_use]
    pub fn output_count(&self) -> usize {
        match &self.body {
            Body::Mlp(layers) => layers.last().map_or(0, |layer| layer.weights.rows),
            Body::Forest(forest) => forest.base.len(),
        }
    }

    /// The dense layers in order; none of a model of another kind.
    #[must_use]
    pub fn layers(&self) -> &[Dense] {
        match &self.body {
            Body::Mlp(layers) => layers,
            Body::Forest(_) => &[],
        }
    }
}
