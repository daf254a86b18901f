//! BatchNormalization and scikit-learn's Scaler: per-feature affine maps. Also what leaves features or probabilities
//! as they are: Normalizer behind probabilities.

use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::onnx::affine::Step;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "BatchNormalization", batch_normalization),
    ("", "LpNormalization", lp_normalization),
    (ML, "Scaler", scaler),
    (ML, "Normalizer", normalizer),
];

/// The format's default for `epsilon`.
const EPSILON: f64 = 1e-5;

fn batch_normalization(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    if node.int("training_mode", 0) != 0 {
        return Err(node.form(
            "BatchNormalization in training mode depends on the other rows of the batch",
            "call `model.eval()` before the export, and export without `training=TRAINING`",
        ));
    }
    if row.shape.feature_axis() != Some(1) {
        return Err(
            node.shapes(format!("BatchNormalization normalises axis 1, the data has shape {}", row.shape))
        );
    }
    let epsilon = node.float("epsilon", EPSILON);
    let scale = vector(node, row, 1, "the scale")?;
    let bias = vector(node, row, 2, "the bias")?;
    let mean = vector(node, row, 3, "the mean")?;
    let variance = vector(node, row, 4, "the variance")?;
    let factors: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + epsilon).sqrt()).collect();
    if factors.iter().any(|factor| !factor.is_finite()) {
        return Err(node.refuse(
            &codes::ZERO_DIVISOR,
            "the variance of a channel is not positive",
            "train again: the running variance of the layer is damaged",
        ));
    }
    let means: Vec<Step> = mean.iter().map(|value| Step::Add(-value)).collect();
    let factors: Vec<Step> = factors.into_iter().map(Step::Multiply).collect();
    let biases: Vec<Step> = bias.into_iter().map(Step::Add).collect();
    let affine = row.affine.elementwise(&means).elementwise(&factors).elementwise(&biases);
    Ok(vec![Value::Row(Row { affine, ..row.clone() })])
}

fn vector(node: &Node<'_>, row: &Row, index: usize, role: &str) -> Result<Vec<f64>, Refusal> {
    let tensor = node.constant(index, role)?;
    let numbers = tensor.numbers().unwrap_or_default();
    if numbers.len() == row.affine.width() && tensor.dims.len() == 1 {
        return Ok(numbers);
    }
    Err(node.shapes(format!("{role} has {} values for data of shape {}", numbers.len(), row.shape)))
}

/// `(x - offset) * scale`; the result is float whatever the input is.
fn scaler(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let offsets = attribute(node, row, "offset", 0.0)?;
    let scales = attribute(node, row, "scale", 1.0)?;
    let offsets: Vec<Step> = offsets.into_iter().map(|value| Step::Add(-value)).collect();
    let scales: Vec<Step> = scales.into_iter().map(Step::Multiply).collect();
    let affine = row.affine.elementwise(&offsets).elementwise(&scales);
    Ok(vec![Value::Row(Row { affine, shape: row.shape.clone(), integer: false })])
}

fn attribute(node: &Node<'_>, row: &Row, name: &str, default: f64) -> Result<Vec<f64>, Refusal> {
    let width = row.affine.width();
    let values = node.floats(name).unwrap_or_default();
    if values.iter().any(|value| !value.is_finite()) {
        return Err(node.refuse(
            &codes::NOT_FINITE,
            format!("`{name}` of Scaler holds a value that is not finite"),
            "fit the scaler again, on data without missing values",
        ));
    }
    match values.as_slice() {
        [] => Ok(vec![default; width]),
        [value] => Ok(vec![*value; width]),
        _ if values.len() == width => Ok(values),
        _ => Err(node.shapes(format!("`{name}` of Scaler has {} values for {width} features", values.len()))),
    }
}

/// Divides by the sum of the values, or by another norm of them.
fn normalizer(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let norm = node.text("norm").unwrap_or_else(|| "MAX".to_owned());
    normalised(node, norm == "L1", &norm)
}

fn lp_normalization(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let order = node.int("p", 2);
    let features = match value {
        Value::Row(row) => Some(&row.shape),
        Value::Tail(tail) => Some(&tail.shape),
        Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Cases(_)
        | Value::Refused => None,
    };
    let axis = node.int("axis", -1);
    if features.is_none_or(|shape| shape.axis(axis).is_none_or(|axis| shape.feature_axis() != Some(axis))) {
        return Err(node.shapes(format!("LpNormalization at axis {axis} of {}", value.describe())));
    }
    normalised(node, order == 1, &format!("L{order}"))
}

fn normalised(node: &Node<'_>, sum: bool, norm: &str) -> Evaluated {
    let value = node.input(0)?;
    if let Value::Tail(tail) = value
        && sum
    {
        let form = match tail.form {
            // Their sum is one already.
            Form::Softmax | Form::BothProbabilities | Form::OneVersusRest => tail.form,
            Form::EachProbability => Form::OneVersusRest,
            Form::LogSoftmax
            | Form::Probability
            | Form::Complement
            | Form::SomeProbabilities { .. }
            | Form::Label { .. }
            | Form::BothScores { .. }
            | Form::Values
            | Form::EachLabel
            | Form::EachAtLeast
            | Form::EachClass
            | Form::Exponential { .. }
            | Form::ExponentialSum { .. } => return Err(node.unsupported_value(value)),
        };
        return Ok(vec![Value::Tail(Tail { form, ..tail.clone() })]);
    }
    Err(node.refuse(
        &codes::OPERATOR,
        format!(
            "{} divides each row by its own {norm} norm, which is not linear and not supported",
            node.operator()
        ),
        "use a scaler with constants instead (StandardScaler, MinMaxScaler), or train on ratios that the \
         specification computes, such as `part = a / (a + b);` of two aggregates",
    ))
}
