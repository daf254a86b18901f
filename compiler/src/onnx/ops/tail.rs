//! From outputs to probabilities and labels: Softmax, LogSoftmax, Sigmoid, ArgMax.

use super::Entry;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Softmax", softmax),
    ("", "LogSoftmax", softmax),
    ("", "Sigmoid", sigmoid),
    ("", "ArgMax", arg_max),
];

/// Since this operator set Softmax works on one axis; before, on everything from an axis on.
const ONE_AXIS_SINCE: i64 = 13;

fn softmax(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let form = if node.operator() == "Softmax" { Form::Softmax } else { Form::LogSoftmax };
    Ok(vec![Value::Tail(softmax_of(node, node.row(0)?, form, node.opset)?)])
}

/// The softmax of a row as a version of the operator set computes it.
pub(super) fn softmax_of(node: &Node<'_>, row: &Row, form: Form, opset: i64) -> Result<Tail, Refusal> {
    let one_axis = opset >= ONE_AXIS_SINCE;
    let axis = node.int("axis", if one_axis { -1 } else { 1 });
    let features = row.shape.feature_axis();
    let fits = row.shape.axis(axis).is_some_and(|axis| {
        let rest = row.shape.0.get(axis..).unwrap_or_default();
        features == Some(axis) || (!one_axis && features >= Some(axis) && !rest.contains(&Dim::Rows))
    });
    if !fits {
        return Err(node.shapes(format!(
            "{} at axis {axis} of data of shape {}",
            node.operator(),
            row.shape
        )));
    }
    if row.affine.width() < 2 {
        return Err(node.form(
            format!("{} over a single output is constant", node.operator()),
            "use a sigmoid for one output, or give the model one output per class",
        ));
    }
    Ok(Tail::of(row, form))
}

fn sigmoid(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    Ok(vec![Value::Tail(sigmoid_of(node.row(0)?))])
}

/// The logistic function of a row.
pub(super) fn sigmoid_of(row: &Row) -> Tail {
    // A layer that reads it makes a hidden one of it (`onnx/hidden.rs`).
    Tail::of(row, if row.affine.width() == 1 { Form::Probability } else { Form::EachProbability })
}

fn arg_max(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    if node.int("select_last_index", 0) != 0 {
        return Err(node.form(
            "ArgMax with `select_last_index = 1` breaks ties differently",
            "export with the default: the first of equal outputs wins",
        ));
    }
    let (row, shape, logistic) = match value {
        Value::Row(row) => (row, &row.shape, false),
        Value::Tail(tail) => match tail.form {
            Form::Softmax | Form::LogSoftmax => (&tail.row, &tail.shape, false),
            // The largest logistic is that of the largest number.
            Form::EachProbability | Form::OneVersusRest => (&tail.row, &tail.shape, false),
            Form::BothProbabilities | Form::BothScores { flipped: false } => (&tail.row, &tail.shape, true),
            Form::Probability
            | Form::Complement
            | Form::SomeProbabilities { .. }
            | Form::Label { .. }
            | Form::BothScores { flipped: true }
            | Form::EachClass
            | Form::Values
            | Form::EachLabel
            | Form::EachAtLeast
            | Form::Exponential { .. }
            | Form::ExponentialSum { .. } => {
                return Err(node.unsupported_value(value));
            }
        },
        Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Cases(_)
        | Value::Refused => {
            return Err(node.unsupported_value(value));
        }
    };
    let axis = shape.axis(node.int("axis", 0)).filter(|axis| shape.feature_axis() == Some(*axis));
    let Some(axis) = axis.filter(|axis| shape.0.get(*axis) != Some(&Dim::Of(1))) else {
        return Err(node.shapes(format!("ArgMax at axis {} of shape {shape}", node.int("axis", 0))));
    };
    let shape = reduce(shape, axis, node.int("keepdims", 1) != 0);
    // The position of the class, whatever its name is.
    Ok(vec![Value::Tail(Tail { shape, ..Tail::of(row, Form::Label { logistic }) })])
}

fn reduce(shape: &Shape, axis: usize, keep: bool) -> Shape {
    if keep { shape.with(axis, Dim::Of(1)) } else { shape.without(axis) }
}
