//! From outputs to probabilities and labels: Softmax, LogSoftmax, Sigmoid, ArgMax, Sign, a comparison with one half.

use super::Entry;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::value::{Form, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Softmax", softmax),
    ("", "LogSoftmax", softmax),
    ("", "Sigmoid", sigmoid),
    ("", "ArgMax", arg_max),
    ("", "Greater", compare),
    ("", "Less", compare),
    ("", "Sign", sign),
];

/// Since this operator set Softmax works on one axis; before, on everything from an axis on.
const ONE_AXIS_SINCE: i64 = 13;

fn softmax(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let one_axis = node.opset >= ONE_AXIS_SINCE;
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
    let form = if node.operator() == "Softmax" { Form::Softmax } else { Form::LogSoftmax };
    Ok(vec![Value::Tail(Tail { row: row.clone(), form, shape: row.shape.clone(), classes: None })])
}

fn sigmoid(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    // Over several values it may end a model of several labels; a hidden layer that reads it is refused.
    let form = if row.affine.width() == 1 { Form::Probability } else { Form::EachProbability };
    Ok(vec![Value::Tail(Tail { row: row.clone(), form, shape: row.shape.clone(), classes: None })])
}

fn arg_max(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    if node.int("select_last_index", 0) != 0 {
        return Err(node.form(
            "ArgMax with `select_last_index = 1` breaks ties differently",
            "export with the default: the first of equal outputs wins",
        ));
    }
    let (row, shape, logistic, classes) = match value {
        Value::Row(row) => (row, &row.shape, false, None),
        Value::Tail(tail) => match tail.form {
            Form::Softmax | Form::LogSoftmax => (&tail.row, &tail.shape, false, tail.classes.clone()),
            // The largest logistic is that of the largest number.
            Form::EachProbability | Form::OneVersusRest => {
                (&tail.row, &tail.shape, false, tail.classes.clone())
            }
            Form::BothProbabilities | Form::BothScores { flipped: false } => {
                (&tail.row, &tail.shape, true, tail.classes.clone())
            }
            Form::Probability
            | Form::Complement
            | Form::SomeProbabilities { .. }
            | Form::Label { .. }
            | Form::BothScores { flipped: true }
            | Form::EachClass
            | Form::Values
            | Form::EachLabel => {
                return Err(node.unsupported_value(value));
            }
        },
        Value::Constant(_) | Value::Extent { .. } | Value::Refused => {
            return Err(node.unsupported_value(value));
        }
    };
    let axis = shape.axis(node.int("axis", 0)).filter(|axis| shape.feature_axis() == Some(*axis));
    let Some(axis) = axis.filter(|axis| shape.0.get(*axis) != Some(&Dim::Of(1))) else {
        return Err(node.shapes(format!("ArgMax at axis {} of shape {shape}", node.int("axis", 0))));
    };
    let shape = reduce(shape, axis, node.int("keepdims", 1) != 0);
    Ok(vec![Value::Tail(Tail { row: row.clone(), form: Form::Label { logistic }, shape, classes })])
}

fn reduce(shape: &Shape, axis: usize, keep: bool) -> Shape {
    if keep { shape.with(axis, Dim::Of(1)) } else { shape.without(axis) }
}

/// `sigmoid(z) > 0.5` or `z > 0`: the label of a number, or of each of several.
fn compare(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let greater = node.operator() == "Greater";
    let (value, threshold) = if greater { (0, 1) } else { (1, 0) };
    let value = node.input(value)?;
    let limit = match node.input(threshold)? {
        Value::Constant(tensor) => tensor.single(),
        Value::Extent { .. } | Value::Row(_) | Value::Tail(_) | Value::Refused => None,
    };
    let (row, shape, neutral) = match value {
        Value::Tail(tail) if matches!(tail.form, Form::Probability | Form::EachProbability) => {
            (&tail.row, &tail.shape, 0.5)
        }
        Value::Row(row) => (row, &row.shape, 0.0),
        Value::Tail(_) | Value::Constant(_) | Value::Extent { .. } | Value::Refused => {
            return Err(unsupported(node));
        }
    };
    if limit != Some(neutral) {
        return Err(unsupported(node));
    }
    let form = if row.affine.width() == 1 { Form::Label { logistic: true } } else { Form::EachLabel };
    Ok(vec![Value::Tail(Tail { row: row.clone(), form, shape: shape.clone(), classes: None })])
}

fn unsupported(node: &Node<'_>) -> Refusal {
    node.form(
        format!("{} is only known as the comparison `sigmoid(z) > 0.5` of one output", node.operator()),
        "leave thresholds out of the model and write them into the specification: `on attack when p >= 0.9`",
    )
}

/// The label of a number: -1 or 1. Zero, of which the sign is zero, counts as -1.
fn sign(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    if row.affine.width() != 1 {
        return Err(node.unsupported_value(&Value::Row(row.clone())));
    }
    let classes = Some(vec!["-1".to_owned(), "1".to_owned()]);
    let form = Form::Label { logistic: true };
    Ok(vec![Value::Tail(Tail { row: row.clone(), form, shape: row.shape.clone(), classes })])
}
