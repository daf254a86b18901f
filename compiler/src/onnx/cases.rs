//! Values that have one constant for each of finitely many cases: for each leaf of a tree, or for each label.
//!
//! Whatever a graph computes from the sums of a single tree is a function of the leaf that is reached, and whatever it
//! computes from a label is one of the label. Such a function is a table; operators work on the table as they do on
//! constants, and numbers of leaves become sums of a tree again.

use super::affine::{Affine, StageId, Step};
use super::forests::{self, NODE_NUMBERS};
use super::shape::{Dim, Shape};
use super::tensor::{Data, Tensor, element_count};
use super::value::{Form, Row, Scores, Stage, Stages, Tail, Value};
use crate::diag::NodeRef;
use crate::model::forest::{Node, Tree};
use crate::model::{Forest, Matrix};

/// One constant for each case.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Cases {
    pub(crate) of: Source,
    /// Of the value in the graph.
    pub(crate) shape: Shape,
    /// Its first axis are the cases; the others are those of the shape, with one row.
    pub(crate) table: Tensor,
}

/// What the cases are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    /// The leaves of the only tree of a stage, in the order of its nodes.
    Leaf(StageId),
    /// The labels that a row has.
    Label(Box<Label>),
}

/// Labels of a row: 0 and 1 by its sign, or the position of its largest number.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Label {
    pub(crate) row: Row,
    pub(crate) logistic: bool,
}

/// Numbers as a runtime compares them: in single precision.
pub(crate) fn single(value: f64) -> f64 {
    f64::from(value as f32)
}

/// Position of the largest number, in single precision; the first of equal ones.
pub(crate) fn largest(values: &[f64]) -> Option<usize> {
    let mut best: Option<(usize, f64)> = None;
    for (index, value) in values.iter().map(|&value| single(value)).enumerate() {
        if value.is_nan() {
            return None;
        }
        if best.is_none_or(|(_, highest)| value > highest) {
            best = Some((index, value));
        }
    }
    best.map(|(index, _)| index)
}

fn logistic(value: f64) -> f64 {
    1.0 / (1.0 + (-value).exp())
}

impl Cases {
    /// For messages.
    pub(crate) const fn describe(&self) -> &'static str {
        match self.of {
            Source::Leaf(_) => "values of the leaves of a tree",
            Source::Label(_) => "values made from the class label",
        }
    }

    /// Number of values of one case.
    pub(crate) fn width(&self) -> usize {
        self.shape.width().unwrap_or(0)
    }

    /// The value as a table; `None` when it depends on more than one tree or one label.
    pub(crate) fn of(stages: &mut Stages, value: &Value) -> Option<Self> {
        match value {
            Value::Cases(cases) => Some(cases.clone()),
            Value::Row(row) => leaves(stages, row, &row.shape, <[f64]>::to_vec),
            Value::Tail(tail) => of_tail(stages, tail),
            Value::Constant(_) | Value::Extent { .. } | Value::Quantised(_) | Value::Refused => None,
        }
    }

    /// Numbers of leaves as sums of a tree; `None` for other tables, and for numbers that are not finite.
    pub(crate) fn row(&self, stages: &mut Stages, origin: &NodeRef) -> Option<Row> {
        let Source::Leaf(stage) = self.of else { return None };
        let numbers = self.table.numbers()?;
        let width = self.width();
        let sound = width > 0 && self.shape.is_vector() && numbers.iter().all(|value| value.is_finite());
        let Stage::Trees { forest, .. } = stages.get(stage) else { return None };
        let [tree] = forest.trees.as_slice() else { return None };
        if !sound {
            return None;
        }
        let nodes = tree.nodes.len();
        let forest = with_leaves(forest, tree, &numbers, width, origin);
        if !stages.room(nodes * NODE_NUMBERS + 2 * numbers.len()) {
            return None;
        }
        let stage = stages.push(Stage::Trees { forest: Box::new(forest), scores: Scores::Exact });
        Some(Row { affine: Affine::of_stage(stage, width), shape: self.shape.clone(), integer: false })
    }

    /// The label that the table says, one text for each case; `None` for anything but single whole numbers or texts.
    pub(crate) fn label(&self, stages: &mut Stages, origin: &NodeRef) -> Option<Tail> {
        if self.width() != 1 {
            return None;
        }
        let texts = match &self.table.data {
            Data::Int(_) | Data::Text(_) => self.table.labels(),
            Data::Float(_) => return None,
        };
        let mut classes = texts.clone();
        match &self.of {
            Source::Label(label) => {
                classes.sort_unstable();
                classes.dedup();
                let Label { row, logistic } = label.as_ref();
                let (row, form) = (row.clone(), Form::Label { logistic: *logistic });
                let distinct = classes.len() == texts.len();
                distinct.then(|| Tail {
                    row,
                    form,
                    shape: self.shape.clone(),
                    classes: Some(texts),
                    rounded: None,
                })
            }
            Source::Leaf(_) => {
                let number = |text: &String| text.parse::<i64>().unwrap_or_default();
                classes.sort_unstable_by(|a, b| number(a).cmp(&number(b)).then_with(|| a.cmp(b)));
                classes.dedup();
                let count = classes.len();
                if count < 2 {
                    return None;
                }
                // The class of each leaf gets 1, all others 0.
                let mut votes = Vec::new();
                element_count(&[texts.len(), count])?;
                for text in &texts {
                    votes.extend(classes.iter().map(|class| f64::from(u8::from(class == text))));
                }
                let rows = if self.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
                let table = Tensor::new(vec![texts.len(), 1, count], Data::Float(votes));
                let votes = Self { of: self.of.clone(), shape: Shape(vec![rows, Dim::Of(count)]), table };
                let row = votes.row(stages, origin)?;
                let form = Form::Label { logistic: false };
                Some(Tail { row, form, shape: self.shape.clone(), classes: Some(classes), rounded: None })
            }
        }
    }
}

/// A tree with other leaves: so many numbers for each.
fn with_leaves(forest: &Forest, tree: &Tree, numbers: &[f64], width: usize, origin: &NodeRef) -> Forest {
    let mut values = numbers.chunks_exact(width);
    let nodes = tree.nodes.iter().map(|node| match node {
        Node::Branch { .. } => node.clone(),
        Node::Leaf { .. } => {
            let values = values.next().unwrap_or_default().iter().copied().enumerate();
            Node::Leaf { weights: values.filter(|(_, value)| *value != 0.0).collect() }
        }
    });
    Forest {
        origin: origin.clone(),
        columns: forest.columns.clone(),
        trees: vec![Tree { nodes: nodes.collect() }],
        base: vec![0.0; width],
    }
}

/// The table of a row of a single tree, through a function of its numbers.
fn leaves(
    stages: &mut Stages,
    row: &Row,
    shape: &Shape,
    function: impl Fn(&[f64]) -> Vec<f64>,
) -> Option<Cases> {
    let Stage::Trees { forest, .. } = stages.get(row.affine.stage) else { return None };
    if forest.trees.len() != 1 {
        return None;
    }
    let forest = forests::folded(forest, &row.affine)?;
    let mut values = Vec::new();
    let mut count = 0;
    for node in forest.trees.iter().flat_map(|tree| &tree.nodes) {
        let Node::Leaf { weights } = node else { continue };
        let mut sums = forest.base.clone();
        for &(output, weight) in weights {
            *sums.get_mut(output)? += weight;
        }
        values.extend(function(&sums));
        count += 1;
        if values.len() > super::limits::MAX_TENSOR_ELEMENTS {
            return None;
        }
    }
    let of = Source::Leaf(stages.division(row.affine.stage));
    filled(stages, of, shape, count, Data::Float(values))
}

/// A table of so many cases, when the data fit it and there is room.
pub(crate) fn filled(
    stages: &mut Stages,
    of: Source,
    shape: &Shape,
    count: usize,
    data: Data,
) -> Option<Cases> {
    let table = Tensor::new(lifted(shape, count), data);
    let fits = element_count(&table.dims) == Some(table.len()) && stages.room(table.len());
    fits.then(|| Cases { of, shape: shape.clone(), table })
}

/// The dimensions of a table of so many cases of this shape.
pub(crate) fn lifted(shape: &Shape, cases: usize) -> Vec<usize> {
    let size = |dim: &Dim| match dim {
        Dim::Rows => 1,
        Dim::Of(size) => *size,
    };
    std::iter::once(cases).chain(shape.0.iter().map(size)).collect()
}

fn of_tail(stages: &mut Stages, tail: &Tail) -> Option<Cases> {
    if let Some(row) = linear(stages, tail)
        && let Some(cases) = leaves(stages, &row, &tail.shape, <[f64]>::to_vec)
    {
        return Some(cases);
    }
    if tail.rounded.is_some() {
        return None;
    }
    let of = |stages: &mut Stages, function: fn(&[f64]) -> Vec<f64>| {
        leaves(stages, &tail.row, &tail.shape, function)
    };
    match tail.form {
        Form::Softmax => of(stages, softmax),
        Form::LogSoftmax => of(stages, |z| softmax(z).into_iter().map(f64::ln).collect()),
        Form::Probability | Form::EachProbability => of(stages, |z| z.iter().map(|&z| logistic(z)).collect()),
        Form::Complement => of(stages, |z| z.iter().map(|&z| logistic(-z)).collect()),
        Form::BothProbabilities => {
            of(stages, |z| z.iter().flat_map(|&z| [logistic(-z), logistic(z)]).collect())
        }
        Form::BothScores { flipped } => {
            let both = if flipped { |z: &f64| [*z, -*z] } else { |z: &f64| [-*z, *z] };
            leaves(stages, &tail.row, &tail.shape, |z| z.iter().flat_map(both).collect())
        }
        Form::Values => of(stages, <[f64]>::to_vec),
        Form::EachLabel => comparisons(stages, tail, |z| z > 0.0),
        Form::EachAtLeast => comparisons(stages, tail, |z| z >= 0.0),
        Form::Label { logistic } => labels(stages, tail, logistic),
        Form::SomeProbabilities { .. }
        | Form::OneVersusRest
        | Form::EachClass
        | Form::Exponential { .. }
        | Form::ExponentialSum { .. } => None,
    }
}

/// Whether each number of a leaf is above zero, or not below.
fn comparisons(stages: &mut Stages, tail: &Tail, holds: fn(f64) -> bool) -> Option<Cases> {
    let of = |z: &[f64]| z.iter().map(|&z| f64::from(u8::from(holds(z)))).collect();
    let mut cases = leaves(stages, &tail.row, &tail.shape, of)?;
    let truth = cases.table.numbers()?.into_iter().map(|value| i64::from(value != 0.0)).collect();
    cases.table = Tensor::new(cases.table.dims, Data::Int(truth));
    Some(cases)
}

fn softmax(values: &[f64]) -> Vec<f64> {
    let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let powers: Vec<f64> = values.iter().map(|value| (value - highest).exp()).collect();
    let sum: f64 = powers.iter().sum();
    powers.into_iter().map(|power| power / sum).collect()
}

/// A label as a table: of the leaves of a single tree, else of the labels themselves.
fn labels(stages: &mut Stages, tail: &Tail, logistic: bool) -> Option<Cases> {
    let index = |z: &[f64]| {
        let index = if logistic { z.first().map(|&z| usize::from(z > 0.0)) } else { largest(z) };
        vec![index.map_or(f64::NAN, |index| index as f64)]
    };
    let count = if logistic { 2 } else { tail.row.affine.width() };
    let (of, indices) = match leaves(stages, &tail.row, &tail.shape, index) {
        Some(cases) => (cases.of, cases.table.numbers()?),
        None => {
            let label = Label { row: tail.row.clone(), logistic };
            (Source::Label(Box::new(label)), (0..count).map(|index| index as f64).collect())
        }
    };
    let chosen: Option<Vec<usize>> =
        indices.iter().map(|&index| (index >= 0.0).then_some(index as usize)).collect();
    let values = class_values(tail.classes.as_deref(), count).pick(vec![indices.len()], &chosen?)?;
    filled(stages, of, &tail.shape, indices.len(), values.data)
}

/// The class of each index: itself where classes have no names, a number where all names are.
fn class_values(classes: Option<&[String]>, count: usize) -> Tensor {
    let Some(classes) = classes else {
        return Tensor::vector_int((0..count).filter_map(|index| i64::try_from(index).ok()).collect());
    };
    let number = |class: &String| class.parse::<i64>().ok().filter(|number| number.to_string() == *class);
    match classes.iter().map(number).collect::<Option<Vec<i64>>>() {
        Some(numbers) => Tensor::vector_int(numbers),
        None => Tensor::new(vec![classes.len()], Data::Text(classes.to_vec())),
    }
}

/// The probabilities or decision values of trees as a row, where that is what they add up to.
pub(crate) fn linear(stages: &Stages, tail: &Tail) -> Option<Row> {
    let Stage::Trees { forest, scores } = stages.get(tail.row.affine.stage) else { return None };
    let half = match scores {
        Scores::Exact if tail.form == Form::Values => {
            return Some(Row { shape: tail.shape.clone(), ..tail.row.clone() });
        }
        Scores::Exact => return None,
        Scores::Probabilities => 0.5,
        Scores::Untransformed => 0.0,
    };
    let scaled =
        |factor: f64| tail.row.affine.elementwise(&[Step::Multiply(factor)]).elementwise(&[Step::Add(half)]);
    let single = tail.row.affine.width() == 1;
    let affine = match tail.form {
        Form::Softmax if !single => tail.row.affine.clone(),
        Form::Probability if single => scaled(1.0),
        Form::Complement if single => scaled(-1.0),
        Form::BothProbabilities if single => {
            let weights = Matrix { rows: 2, columns: 1, values: vec![-1.0, 1.0] };
            tail.row.affine.moved(weights, &forest.origin)?.elementwise(&[Step::Add(half); 2])
        }
        Form::Softmax
        | Form::LogSoftmax
        | Form::Probability
        | Form::Complement
        | Form::BothProbabilities
        | Form::SomeProbabilities { .. }
        | Form::Label { .. }
        | Form::BothScores { .. }
        | Form::OneVersusRest
        | Form::Values
        | Form::EachProbability
        | Form::EachLabel
        | Form::EachAtLeast
        | Form::EachClass
        | Form::Exponential { .. }
        | Form::ExponentialSum { .. } => return None,
    };
    Some(Row { affine, shape: tail.shape.clone(), integer: false })
}
