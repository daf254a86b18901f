//! Probabilities and labels that a later layer reads: the numbers that they are.

use super::affine::{Affine, Step};
use super::value::{Form, Quantised, Rounded, Row, Stage, Stages, Tail, Value};
use crate::diag::NodeRef;
use crate::model::{Activation, Function};

/// A tail as a value of a hidden layer; `None` for those that no element-wise function gives.
pub(crate) fn value(stages: &mut Stages, tail: &Tail, node: &NodeRef) -> Option<Value> {
    let row = row(stages, tail, node)?;
    let Some(Rounded { levels, stored }) = tail.rounded else { return Some(Value::Row(row)) };
    // Of others not all roundings are known.
    if !matches!(tail.form, Form::Probability | Form::EachProbability) {
        return None;
    }
    let quantised = Quantised { row, levels, span: None, node: node.clone() };
    Some(if stored { Value::Quantised(quantised) } else { Value::Row(quantised.real(stages)) })
}

/// The numbers before they were rounded.
pub(crate) fn row(stages: &mut Stages, tail: &Tail, node: &NodeRef) -> Option<Row> {
    let one = vec![Step::Add(1.0); tail.row.affine.width()];
    let minus = vec![Step::Multiply(-1.0); tail.row.affine.width()];
    let mut of = |affine: Affine, function: Function| activated(stages, affine, function, node);
    let affine = match (tail.form, tail.classes.as_deref()) {
        (Form::Probability | Form::EachProbability, _) => of(tail.row.affine.clone(), Function::Sigmoid),
        (Form::Complement, _) => {
            of(tail.row.affine.clone(), Function::Sigmoid).elementwise(&minus).elementwise(&one)
        }
        (Form::BothProbabilities, _) if tail.row.affine.width() == 1 => {
            let both = of(tail.row.affine.clone(), Function::Sigmoid).picked(&[0, 0])?;
            let first = both.elementwise(&[Step::Multiply(-1.0), Step::Multiply(1.0)]);
            first.elementwise(&[Step::Add(1.0), Step::Add(0.0)])
        }
        (Form::BothScores { flipped }, _) => {
            let both = tail.row.affine.picked(&[0, 0])?;
            let first = if flipped { 1.0 } else { -1.0 };
            both.elementwise(&[Step::Multiply(first), Step::Multiply(-first)])
        }
        (Form::Label { logistic: true } | Form::EachLabel, None) => {
            of(tail.row.affine.clone(), Function::Step)
        }
        // The sign of zero is zero.
        (Form::Label { logistic: true }, Some([negative, positive]))
            if negative == "-1" && positive == "1" =>
        {
            sign(stages, &tail.row.affine, node)?
        }
        (Form::EachAtLeast, _) => {
            of(tail.row.affine.elementwise(&minus), Function::Step).elementwise(&minus).elementwise(&one)
        }
        (
            Form::Softmax
            | Form::LogSoftmax
            | Form::BothProbabilities
            | Form::SomeProbabilities { .. }
            | Form::Label { .. }
            | Form::EachLabel
            | Form::OneVersusRest
            | Form::Values
            | Form::Exponential { .. }
            | Form::ExponentialSum { .. }
            | Form::EachClass,
            _,
        ) => return None,
    };
    Some(Row { affine, shape: tail.shape.clone(), integer: false })
}

/// A new stage of a function of values.
fn activated(stages: &mut Stages, before: Affine, function: Function, node: &NodeRef) -> Affine {
    let width = before.width();
    let activation = Activation::Function(function);
    let stage = Stage::Activated { before: Box::new(before), activation, plain: 0, node: node.clone() };
    Affine::of_stage(stages.push(stage), width)
}

/// 1 above zero, -1 below, 0 at zero: the difference of two steps.
pub(crate) fn sign(stages: &mut Stages, affine: &Affine, node: &NodeRef) -> Option<Affine> {
    let width = affine.width();
    let negative = affine.elementwise(&vec![Step::Multiply(-1.0); width]);
    let both = super::align::joined(stages, affine, &negative, node)?;
    let steps = activated(stages, both, Function::Step, node);
    let above = steps.picked(&(0..width).collect::<Vec<usize>>())?;
    let below = steps.picked(&(width..2 * width).collect::<Vec<usize>>())?;
    super::align::sum(stages, &above, &below.elementwise(&vec![Step::Multiply(-1.0); width]), node)
}
