//! LinearClassifier and LinearRegressor: one dense layer, with what the classifier makes of its sums.

use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::model::Matrix;
use crate::onnx::affine::{Affine, Step};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] =
    &[(ML, "LinearClassifier", linear_classifier), (ML, "LinearRegressor", linear_regressor)];

fn linear_classifier(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let weights = attribute(node, "coefficients")?;
    let width = row.affine.width();
    let matrix = matrix(node, weights, width)?;
    let bias = bias(node, "intercepts", matrix.rows)?;
    let classes = class_labels(node);
    let transform = transform(node)?;
    let one = |matrix: &Matrix, index: usize, factor: f64| Matrix {
        rows: 1,
        columns: width,
        values: matrix.row(index).iter().map(|weight| weight * factor).collect(),
    };
    let (matrix, bias, form) = match (opposite(&matrix, &bias), transform) {
        // softmax([-z, z]) is the logistic of 2 z.
        (Some(z), Transform::Softmax) => (one(&matrix, 1, 2.0), vec![2.0 * z], Form::BothProbabilities),
        (Some(z), Transform::Logistic) => (one(&matrix, 1, 1.0), vec![z], Form::BothProbabilities),
        (Some(z), Transform::None) => (one(&matrix, 1, 1.0), vec![z], Form::BothScores { flipped: false }),
        // One row of coefficients is class 1 above zero.
        (None, Transform::Logistic) if matrix.rows == 1 => (matrix, bias, Form::BothProbabilities),
        (None, _) if matrix.rows == 1 => (matrix, bias, Form::BothScores { flipped: false }),
        (None, Transform::Softmax) => (matrix, bias, Form::Softmax),
        (None, Transform::Logistic) => (matrix, bias, Form::EachProbability),
        (None, Transform::None) => {
            let affine = dense(node, row, matrix, &bias)?;
            let label = tail(row, &affine, Form::Label { logistic: false }, classes);
            return Ok(vec![label, Value::Row(widened(row, &affine))]);
        }
    };
    let affine = dense(node, row, matrix, &bias)?;
    let label = Form::Label { logistic: affine.width() == 1 };
    Ok(vec![tail(row, &affine, label, classes), tail(row, &affine, form, None)])
}

fn linear_regressor(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let matrix = matrix(node, attribute(node, "coefficients")?, row.affine.width())?;
    let targets = usize::try_from(node.int("targets", 1)).unwrap_or(0);
    if targets != matrix.rows {
        return Err(node.shapes(format!(
            "LinearRegressor has coefficients of {} targets and says that it has {targets}",
            matrix.rows
        )));
    }
    plain_transform(node)?;
    let bias = bias(node, "intercepts", matrix.rows)?;
    let affine = dense(node, row, matrix, &bias)?;
    Ok(vec![predictions(row, &affine)])
}

/// What a regressor gives: a number, or numbers of which none is a class.
pub(super) fn predictions(row: &Row, affine: &Affine) -> Value {
    if affine.width() == 1 {
        return Value::Row(widened(row, affine));
    }
    tail(row, affine, Form::Values, None)
}

/// What is done to the sums.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transform {
    None,
    /// `SOFTMAX_ZERO` too: it differs for sums that are exactly zero.
    Softmax,
    Logistic,
}

pub(super) fn transform(node: &Node<'_>) -> Result<Transform, Refusal> {
    match node.text("post_transform").as_deref() {
        None | Some("NONE" | "") => Ok(Transform::None),
        Some("SOFTMAX" | "SOFTMAX_ZERO") => Ok(Transform::Softmax),
        Some("LOGISTIC") => Ok(Transform::Logistic),
        Some(other) => Err(node.form(
            format!("{} with the post transform {other}", node.operator()),
            "export with the post transform NONE, SOFTMAX or LOGISTIC",
        )),
    }
}

/// Refuses a post transform where none is expected.
pub(super) fn plain_transform(node: &Node<'_>) -> Result<(), Refusal> {
    if transform(node)? == Transform::None {
        return Ok(());
    }
    let name = node.text("post_transform").unwrap_or_default();
    Err(node.form(
        format!("{} with the post transform {name}", node.operator()),
        "export with the post transform NONE",
    ))
}

/// An attribute of numbers, which must be there and finite.
pub(super) fn attribute(node: &Node<'_>, name: &str) -> Result<Vec<f64>, Refusal> {
    let values = node.floats(name).unwrap_or_default();
    if values.is_empty() {
        return Err(node.form(
            format!("{} lacks `{name}`", node.operator()),
            "export the model again: the file is damaged or was edited",
        ));
    }
    finite(node, name, values)
}

/// Refuses values that no training run gives.
pub(super) fn finite(node: &Node<'_>, name: &str, values: Vec<f64>) -> Result<Vec<f64>, Refusal> {
    let Some(index) = values.iter().position(|value| !value.is_finite()) else { return Ok(values) };
    let value = values.get(index).copied().unwrap_or(f64::NAN);
    Err(node.refuse(
        &codes::NOT_FINITE,
        format!("element {index} of `{name}` of {} is {value}", node.operator()),
        "train again, on scaled features without missing values",
    ))
}

/// Coefficients as rows of as many columns as there are features.
pub(super) fn matrix(node: &Node<'_>, values: Vec<f64>, columns: usize) -> Result<Matrix, Refusal> {
    if columns == 0 || !values.len().is_multiple_of(columns) {
        return Err(node.shapes(format!(
            "{} has {} coefficients for {columns} features",
            node.operator(),
            values.len()
        )));
    }
    Ok(Matrix { rows: values.len() / columns, columns, values })
}

/// One constant for each row; none at all stands for zeros.
fn bias(node: &Node<'_>, name: &str, rows: usize) -> Result<Vec<f64>, Refusal> {
    let values = finite(node, name, node.floats(name).unwrap_or_default())?;
    match values.len() {
        0 => Ok(vec![0.0; rows]),
        length if length == rows => Ok(values),
        length => Err(node.shapes(format!("{} has {length} `{name}` for {rows} sums", node.operator()))),
    }
}

/// The class labels of the node.
pub(super) fn class_labels(node: &Node<'_>) -> Option<Vec<String>> {
    let texts = node.texts("classlabels_strings").filter(|labels| !labels.is_empty());
    texts.or_else(|| {
        let numbers = node.ints("classlabels_ints").filter(|labels| !labels.is_empty())?;
        Some(numbers.iter().map(ToString::to_string).collect())
    })
}

/// The constant of the second of two rows when the first is its exact negative.
fn opposite(matrix: &Matrix, bias: &[f64]) -> Option<f64> {
    let [first, second] = *bias else { return None };
    let mut weights = matrix.row(0).iter().zip(matrix.row(1));
    (first == -second && weights.all(|(first, second)| *first == -*second)).then_some(second)
}

/// `matrix · row + bias`.
pub(super) fn dense(node: &Node<'_>, row: &Row, matrix: Matrix, bias: &[f64]) -> Result<Affine, Refusal> {
    let affine = row.affine.multiplied(matrix, &node.reference).ok_or_else(|| {
        node.refuse(
            &codes::TOO_LARGE,
            format!("{} and the layer before it are too large to be folded", node.operator()),
            "use fewer features or classes",
        )
    })?;
    let steps: Vec<Step> = bias.iter().copied().map(Step::Add).collect();
    Ok(affine.elementwise(&steps))
}

/// Values of a linear node beside the shape that they have; labels lose the features' axis.
pub(super) fn tail(row: &Row, affine: &Affine, form: Form, classes: Option<Vec<String>>) -> Value {
    let numbers = widened(row, affine);
    let axis = row.shape.feature_axis();
    let shape = match (form, axis) {
        (Form::Label { .. }, Some(axis)) => row.shape.without(axis),
        (Form::BothProbabilities | Form::BothScores { .. }, Some(axis)) => row.shape.with(axis, Dim::Of(2)),
        _ => numbers.shape.clone(),
    };
    Value::Tail(Tail { shape, classes, ..Tail::of(&numbers, form) })
}

/// Sums in the place of the features.
pub(super) fn widened(row: &Row, affine: &Affine) -> Row {
    let shape = match row.shape.feature_axis() {
        Some(axis) => row.shape.with(axis, Dim::Of(affine.width())),
        None => Shape(vec![Dim::Of(affine.width())]),
    };
    Row { affine: affine.clone(), shape, integer: false }
}
