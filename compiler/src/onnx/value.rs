//! What the importer knows about a value of the graph.

use std::collections::BTreeMap;

use super::affine::{Affine, StageId};
use super::cases::Cases;
use super::holdings::Holdings;
use super::limits::MAX_TREE_NUMBERS;
use super::shape::{Dim, Shape};
use super::tensor::{Dims, Span, Tensor};
use crate::diag::NodeRef;
use crate::model::{Activation, Forest, Function, Levels, Replaced};

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
    /// Integers that numbers were rounded to.
    Quantised(Quantised),
    /// Probabilities and labels made from a row.
    Tail(Tail),
    /// What is known for each leaf of a tree, or for each label.
    Cases(Cases),
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

/// Integers that numbers were rounded to. The rounding is applied when they are read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Quantised {
    /// The numbers before.
    pub(crate) row: Row,
    pub(crate) levels: Levels,
    /// The type that holds them; `None` for integers of 64 bits.
    pub(crate) span: Option<Span>,
    /// The node that rounds.
    pub(crate) node: NodeRef,
}

impl Quantised {
    /// The numbers that the integers stand for.
    pub(crate) fn real(&self, stages: &mut Stages) -> Row {
        let activation = Activation::Function(Function::Levels(self.levels));
        let own = &self.row.affine;
        let again = matches!(
            stages.get(own.stage),
            Stage::Activated { before, activation: before_that, plain: 0, .. }
                if *before_that == activation && *own == Affine::of_stage(own.stage, before.width())
        );
        if again {
            return self.row.clone();
        }
        let stage = stages.activated(own, activation, &self.node);
        let affine = Affine::of_stage(stage, own.width());
        Row { affine, shape: self.row.shape.clone(), integer: false }
    }
}

/// How the numbers of a tail were rounded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rounded {
    pub(crate) levels: Levels,
    /// Whether the value is the integers, not the numbers that they stand for.
    pub(crate) stored: bool,
}

/// Probabilities and labels made from a row: how far the tail of the graph has come.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tail {
    /// The outputs of the network that it reads.
    pub(crate) row: Row,
    pub(crate) form: Form,
    pub(crate) shape: Shape,
    pub(crate) classes: Option<Vec<String>>,
    /// Labels do not depend on it: a head compares the numbers before.
    pub(crate) rounded: Option<Rounded>,
}

impl Tail {
    /// What has the same shape as the row.
    pub(crate) fn of(row: &Row, form: Form) -> Self {
        Self { row: row.clone(), form, shape: row.shape.clone(), classes: None, rounded: None }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
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
    /// Decision values of both classes, made from one number: `[-z, z]`, or `[z, -z]` when `flipped`.
    BothScores {
        flipped: bool,
    },
    /// Of each of several numbers its logistic function, divided by the sum of all of them.
    OneVersusRest,
    /// The predictions of a regressor.
    Values,
    /// Of each of several numbers its logistic function.
    EachProbability,
    /// Of each of several numbers whether it is above zero.
    EachLabel,
    /// Of each number whether it is zero or above.
    EachAtLeast,
    /// The logistic function of each of several numbers, and the label of the largest: two outputs together.
    EachClass,
    /// `scale * exp(z) + offset` of each number; the scale is not zero.
    Exponential {
        scale: f64,
        offset: f64,
    },
    /// The sum over the numbers of `exp(z)`; `whole` when its fraction was cut off.
    ExponentialSum {
        whole: bool,
    },
}

impl Form {
    /// Whether the logistic function reads the numbers, of which there is one but for the forms of each.
    pub(crate) const fn is_logistic(self) -> bool {
        match self {
            Self::Softmax
            | Self::LogSoftmax
            | Self::OneVersusRest
            | Self::EachClass
            | Self::Values
            | Self::Exponential { .. }
            | Self::ExponentialSum { .. } => false,
            Self::Probability
            | Self::Complement
            | Self::BothProbabilities
            | Self::BothScores { .. }
            | Self::EachProbability
            | Self::EachLabel
            | Self::EachAtLeast => true,
            Self::SomeProbabilities { logistic } | Self::Label { logistic } => logistic,
        }
    }

    /// What two outputs of the same numbers say together; `None` when they contradict each other.
    pub(crate) fn together(self, other: Self) -> Option<Self> {
        let arg_max = Self::Label { logistic: false };
        match (self, other) {
            (old, new) if old == new => Some(old),
            (Self::EachProbability, new) if new == arg_max => Some(Self::EachClass),
            (old, Self::EachProbability) if old == arg_max => Some(Self::EachClass),
            (old, Self::OneVersusRest | Self::EachClass) if old == arg_max => Some(other),
            (Self::OneVersusRest | Self::EachClass, new) if new == arg_max => Some(self),
            (Self::OneVersusRest, Self::EachProbability) | (Self::EachProbability, Self::OneVersusRest) => {
                Some(Self::OneVersusRest)
            }
            (
                Self::OneVersusRest
                | Self::EachClass
                | Self::Values
                | Self::Exponential { .. }
                | Self::ExponentialSum { .. },
                _,
            )
            | (
                _,
                Self::OneVersusRest
                | Self::EachClass
                | Self::Values
                | Self::Exponential { .. }
                | Self::ExponentialSum { .. },
            ) => None,
            (old, new) => (old.is_logistic() == new.is_logistic()).then_some(old),
        }
    }

    /// For messages.
    pub(crate) const fn describe(self) -> &'static str {
        match self {
            Self::Softmax => "the output of Softmax",
            Self::LogSoftmax => "the output of LogSoftmax",
            Self::Probability | Self::EachProbability => "the output of Sigmoid",
            Self::Complement
            | Self::BothProbabilities
            | Self::SomeProbabilities { .. }
            | Self::EachClass
            | Self::OneVersusRest => "class probabilities",
            Self::BothScores { .. } => "the decision values of two classes",
            Self::Values => "the predictions of a regressor",
            Self::Label { .. } | Self::EachLabel | Self::EachAtLeast => "the class label",
            Self::Exponential { .. } | Self::ExponentialSum { .. } => "exponentials",
        }
    }
}

/// A vector of numbers from which affine maps read.
#[derive(Debug, Clone)]
pub(crate) enum Stage {
    Inputs,
    /// `activation(before)`, but for the last `plain` values, which stay as they are.
    Activated {
        before: Box<Affine>,
        activation: Activation,
        plain: usize,
        node: NodeRef,
    },
    /// A part of a curved function that the graph writes as several nodes: nothing but the rest of it may read it.
    Open {
        before: Box<Affine>,
        part: Open,
        node: NodeRef,
    },
    /// The sums of trees over the inputs.
    Trees {
        forest: Box<Forest>,
        scores: Scores,
    },
}

/// Functions of each value that are no activation by themselves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Open {
    /// `exp(x)`.
    Exp,
    /// The square root, which a comparison may read.
    Root,
    /// 1 where a number is a constant, else 0; see [`Stages::equals`].
    Equal,
    /// The error function.
    Erf,
    /// `linear * x + cube * x^3`.
    Cubic { linear: f64, cube: f64 },
    /// `tanh(sqrt(2 / pi) * (x + 0.044715 x^3))`.
    TanhOfCubic,
}

/// A function made of straight pieces that other nodes may make a curve of.
#[derive(Debug, Clone)]
pub(crate) struct Pieces {
    pub(crate) result: Affine,
    pub(crate) argument: Affine,
    pub(crate) shape: PiecesShape,
}

/// Which function the pieces make.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum PiecesShape {
    /// `clip(x, 0, high)`.
    Clip { high: f64 },
    /// `|x|`.
    Abs,
}

/// Which numbers are compared with which constants.
#[derive(Debug, Clone)]
pub(crate) struct Equal {
    pub(crate) stage: StageId,
    pub(crate) row: Row,
    pub(crate) values: Vec<f64>,
}

/// What a classifier of trees makes of its sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scores {
    /// What the form of its outputs says.
    Exact,
    /// Nothing: the sums are probabilities, of two classes that of class 1 less one half; see [`crate::model::Head`].
    Probabilities,
    /// Nothing: the form of its outputs is what an exporter left off.
    Untransformed,
}

/// All stages so far; a stage only reads earlier ones.
#[derive(Debug, Default)]
pub(crate) struct Stages {
    list: Vec<Stage>,
    /// For each stage how many lie between it and the inputs.
    depths: Vec<usize>,
    /// Stages with an activation by the fingerprint of what they read.
    readers: BTreeMap<u64, Vec<StageId>>,
    /// What stages hold that was made elsewhere.
    pub(crate) holdings: Holdings,
    /// What straight pieces stand for, as far as it matters.
    pub(crate) pieces: Vec<Pieces>,
    /// Comparisons for equality.
    pub(crate) equals: Vec<Equal>,
    /// Values of inputs that are replaced.
    pub(crate) replaced: Vec<Replaced>,
    /// Numbers that joined trees and constants of leaves hold.
    numbers: usize,
    /// Numbers that the maps between stages hold.
    held: usize,
    /// Steps of an alignment that wait for others.
    pub(crate) nested: usize,
}

impl Stages {
    pub(crate) fn push(&mut self, stage: Stage) -> StageId {
        let id = StageId(self.list.len());
        let (depth, held) = match &stage {
            Stage::Inputs => (0, 0),
            Stage::Trees { .. } => (1, 0),
            Stage::Activated { before, .. } | Stage::Open { before, .. } => {
                (1 + self.depth(before.stage), before.numbers_held())
            }
        };
        if let Stage::Activated { before, plain: 0, .. } = &stage {
            self.readers.entry(before.fingerprint()).or_default().push(id);
        }
        self.held = self.held.saturating_add(held);
        self.list.push(stage);
        self.depths.push(depth);
        id
    }

    /// The stage of a function of these numbers, which may be there already.
    pub(crate) fn activated(&mut self, numbers: &Affine, function: Activation, by: &NodeRef) -> StageId {
        let mut readers = self.readers.get(&numbers.fingerprint()).into_iter().flatten().copied();
        let known = readers.find(|&stage| {
            matches!(self.get(stage), Stage::Activated { before, activation, plain: 0, .. }
                if *activation == function && **before == *numbers)
        });
        known.unwrap_or_else(|| {
            let before = Box::new(numbers.clone());
            self.push(Stage::Activated { before, activation: function, plain: 0, node: by.clone() })
        })
    }

    /// Whether these are the numbers of a stage that rounds, as they are.
    pub(crate) fn is_rounded(&self, numbers: &Affine) -> bool {
        matches!(
            self.get(numbers.stage),
            Stage::Activated { before, activation: Activation::Function(Function::Levels(_)), plain: 0, .. }
                if *numbers == Affine::of_stage(numbers.stage, before.width())
        )
    }

    /// Numbers that the maps between all stages hold. Those of trees are counted by [`Stages::room`].
    pub(crate) const fn held(&self) -> usize {
        self.held.saturating_add(self.holdings.numbers())
    }

    /// Whether there is room for so many more numbers of leaves; they are counted.
    pub(crate) fn room(&mut self, numbers: usize) -> bool {
        self.numbers = self.numbers.saturating_add(numbers);
        self.numbers <= MAX_TREE_NUMBERS
    }

    /// The first stage whose only tree divides the inputs as that of this stage does.
    pub(crate) fn division(&self, id: StageId) -> StageId {
        let Stage::Trees { forest, .. } = self.get(id) else { return id };
        let same = |stage: &Stage| match stage {
            Stage::Trees { forest: other, .. } => other.divides_like(forest),
            Stage::Inputs | Stage::Activated { .. } | Stage::Open { .. } => false,
        };
        self.list.iter().position(same).map_or(id, StageId)
    }

    /// How many stages lie between the inputs and the values of one.
    pub(crate) fn depth(&self, id: StageId) -> usize {
        self.depths.get(id.0).copied().unwrap_or(0)
    }

    /// How many stages there are.
    #[cfg(test)]
    pub(crate) const fn count(&self) -> usize {
        self.list.len()
    }

    pub(crate) fn get(&self, id: StageId) -> &Stage {
        self.list.get(id.0).expect("a stage id comes from `push` of the same list")
    }
}

impl Value {
    /// Numbers that it holds. Tables of leaves are counted by [`Stages::room`].
    pub(crate) fn numbers_held(&self) -> usize {
        match self {
            Self::Constant(tensor) => tensor.len(),
            Self::Row(row) | Self::Quantised(Quantised { row, .. }) | Self::Tail(Tail { row, .. }) => {
                row.affine.numbers_held()
            }
            Self::Extent { .. } | Self::Cases(_) | Self::Refused => 0,
        }
    }

    /// For messages: what it is, with its shape.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Constant(tensor) => format!("a constant of shape {}", Dims(&tensor.dims)),
            Self::Extent { .. } => "a size of the batch".to_owned(),
            Self::Row(row) => format!("data of shape {}", row.shape),
            Self::Quantised(quantised) => format!("quantised data of shape {}", quantised.row.shape),
            Self::Tail(tail) => format!("{} of shape {}", tail.form.describe(), tail.shape),
            Self::Cases(cases) => format!("{} of shape {}", cases.describe(), cases.shape),
            Self::Refused => "the result of an unsupported node, shape not known".to_owned(),
        }
    }
}
