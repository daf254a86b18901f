//! What the importer knows about a value of the graph.

use super::affine::{Affine, StageId};
use super::shape::{Dim, Shape};
use super::tensor::{Dims, Tensor};
use crate::diag::NodeRef;
use crate::model::Activation;

/// A value of the graph.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Constant(Tensor),
    /// Sizes of axes, of which at least one is the number of rows; `None` stands for -1, to be inferred.
    Extent {
        sizes: Vec<Option<Dim>>,
        scalar: bool,
    },
    /// Numbers that depend on the input.
    Row(Row),
    /// Probabilities and labels made from a row.
    Tail(Tail),
    /// What a refused node would have produced; nodes that read it are not reported again.
    Refused,
}

/// Numbers that depend on the input.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Row {
    pub(crate) affine: Affine,
    pub(crate) shape: Shape,
    /// Integers divide with truncation, which is not affine.
    pub(crate) integer: bool,
}

/// Probabilities and labels made from a row: how far the tail of the graph has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tail {
    /// The outputs of the network that it reads.
    pub(crate) row: Row,
    pub(crate) form: Form,
    pub(crate) shape: Shape,
    pub(crate) classes: Option<Vec<String>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// One probability per class.
    Softmax,
    LogSoftmax,
    /// Probability of class 1, by the logistic function of one output.
    Probability,
    /// Probability of class 0: one minus the former.
    Complement,
    /// Both, class 0 first.
    BothProbabilities,
    /// Some of the probabilities of several classes.
    SomeProbabilities {
        logistic: bool,
    },
    /// Index of the largest output, or the class label in its place.
    Label {
        logistic: bool,
    },
    /// Of each of several numbers its logistic function.
    EachProbability,
    /// Of each of several numbers whether it is above zero.
    EachLabel,
}

impl Form {
    /// Whether the logistic function reads the numbers, of which there is one but for the forms of each.
    pub(crate) const fn is_logistic(self) -> bool {
        match self {
            Self::Softmax | Self::LogSoftmax => false,
            Self::Probability
            | Self::Complement
            | Self::BothProbabilities
            | Self::EachProbability
            | Self::EachLabel => true,
            Self::SomeProbabilities { logistic } | Self::Label { logistic } => logistic,
        }
    }

    /// For messages.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Softmax => "the output of Softmax",
            Self::LogSoftmax => "the output of LogSoftmax",
            Self::Probability | Self::EachProbability => "the output of Sigmoid",
            Self::Complement | Self::BothProbabilities | Self::SomeProbabilities { .. } => {
                "class probabilities"
            }
            Self::Label { .. } | Self::EachLabel => "the class label",
        }
    }
}

/// A vector of numbers from which affine maps read.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Inputs,
    /// `activation(before)`.
    Activated {
        before: Box<Affine>,
        activation: Activation,
        node: NodeRef,
    },
}

/// All stages so far; a stage only reads earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Stages(Vec<Stage>);

impl Stages {
    pub(crate) fn push(&mut self, stage: Stage) -> StageId {
        self.0.push(stage);
        StageId(self.0.len() - 1)
    }

    pub(crate) fn get(&self, id: StageId) -> &Stage {
        self.0.get(id.0).expect("a stage id comes from `push` of the same list")
    }
}

impl Value {
    /// For messages: what it is, with its shape.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Constant(tensor) => format!("a constant of shape {}", Dims(&tensor.dims)),
            Self::Extent { .. } => "a size of the batch".to_owned(),
            Self::Row(row) => format!("data of shape {}", row.shape),
            Self::Tail(tail) => format!("{} of shape {}", tail.form.describe(), tail.shape),
            Self::Refused => "the result of an unsupported node".to_owned(),
        }
    }
}
