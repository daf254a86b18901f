//! Gemm and MatMul: dense layers.

use super::Entry;
use super::arithmetic::spread;
use crate::diag::codes::onnx as codes;
use crate::model::Matrix;
use crate::onnx::affine::{Affine, Step};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::tensor::{Dims, Tensor};
use crate::onnx::value::{Row, Stages, Value};

pub(super) const TABLE: &[Entry] = &[("", "Gemm", gemm_node), ("", "MatMul", matmul)];

fn gemm_node(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    Ok(vec![Value::Row(gemm_row(node)?)])
}

/// What Gemm computes.
pub(super) fn gemm_row(node: &Node<'_>) -> Result<Row, Refusal> {
    let bias = match node.optional(2) {
        None => None,
        Some(Value::Constant(bias)) => Some(bias),
        Some(other) => {
            return Err(node.form(
                format!("the bias of Gemm is {}, not a constant", other.describe()),
                "write the residual connection as an addition behind the layer",
            ));
        }
    };
    let weights = node.constant(1, "the weight matrix")?;
    let row = node.row(0)?;
    let alpha = node.float("alpha", 1.0);
    let product = gemm(node, row, weights, None)?;
    let width = product.affine.width();
    let affine = if alpha == 1.0 {
        product.affine
    } else {
        product.affine.elementwise(&vec![Step::Multiply(alpha); width])
    };
    let product = Row { affine, ..product };
    match bias {
        None => Ok(product),
        Some(bias) => biased(node, &product, bias, node.float("beta", 1.0)),
    }
}

/// The product of data and weights, and a bias, with the attributes for transposition.
pub(super) fn gemm(
    node: &Node<'_>,
    row: &Row,
    weights: &Tensor,
    bias: Option<&Tensor>,
) -> Result<Row, Refusal> {
    if node.int("transA", 0) != 0 {
        return Err(node.form(
            format!("{} with `transA = 1` treats the rows as columns", node.operator()),
            "export the layer as an ordinary `Linear`, one row per sample",
        ));
    }
    if row.shape.rank() != 2 {
        return Err(node.shapes(format!("{} needs data with two axes, not {}", node.operator(), row.shape)));
    }
    let matrix = matrix(node, row, weights, node.int("transB", 0) != 0)?;
    let affine = multiply(node, row, matrix)?;
    let shape = row.shape.with(1, Dim::Of(affine.width()));
    let product = Row { affine, shape, integer: row.integer };
    match bias {
        None => Ok(product),
        Some(bias) => biased(node, &product, bias, 1.0),
    }
}

fn biased(node: &Node<'_>, row: &Row, bias: &Tensor, beta: f64) -> Result<Row, Refusal> {
    let (values, shape) = spread(node, row, bias)?;
    let steps: Vec<Step> = values.into_iter().map(|value| Step::Add(beta * value)).collect();
    Ok(Row { affine: row.affine.elementwise(&steps), shape, integer: row.integer })
}

fn matmul(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (left, right) = (node.input(0)?, node.input(1)?);
    match (left, right) {
        (Value::Row(row), Value::Constant(weights)) => {
            Ok(vec![Value::Row(right_constant(node, row, weights)?)])
        }
        (Value::Constant(left), Value::Constant(right)) => {
            Ok(vec![Value::Constant(constants(node, left, right)?)])
        }
        (Value::Constant(_), Value::Row(_)) => Err(node.form(
            "MatMul has the weights on the left and the data on the right",
            "export the layer as `x @ W`, one row per sample",
        )),
        (Value::Row(_), Value::Row(_)) => Err(node.form(
            "MatMul of two values that both depend on the input is not supported",
            "attention and bilinear layers are not supported; use a plain chain of layers",
        )),
        (
            Value::Quantised(_) | Value::Tail(_) | Value::Extent { .. } | Value::Cases(_) | Value::Refused,
            _,
        ) => Err(node.unsupported_value(left)),
        (
            _,
            Value::Quantised(_) | Value::Tail(_) | Value::Extent { .. } | Value::Cases(_) | Value::Refused,
        ) => Err(node.unsupported_value(right)),
    }
}

/// What MatMul computes.
pub(super) fn right_constant(node: &Node<'_>, row: &Row, weights: &Tensor) -> Result<Row, Refusal> {
    let mismatch =
        || node.shapes(format!("data of shape {} times weights of shape {}", row.shape, Dims(&weights.dims)));
    // Leading axes of length 1 broadcast away; a vector stands for one column.
    let (extra, columns) = match weights.dims.as_slice() {
        [inner] => (0, vec![*inner, 1]),
        [leading @ .., inner, outer] if leading.iter().all(|dim| *dim == 1) => {
            (weights.dims.len().saturating_sub(row.shape.rank()), vec![*inner, *outer])
        }
        _ => return Err(mismatch()),
    };
    let flat = weights.reshaped(columns).ok_or_else(mismatch)?;
    let affine = multiply(node, row, matrix(node, row, &flat, false)?)?;
    let last = row.shape.rank().checked_sub(1).ok_or_else(mismatch)?;
    let shape = if weights.dims.len() == 1 {
        row.shape.without(last)
    } else {
        row.shape.with(last, Dim::Of(affine.width()))
    };
    let dims = std::iter::repeat_n(Dim::Of(1), extra).chain(shape.0).collect();
    Ok(Row { affine, shape: Shape(dims), integer: row.integer })
}

/// The weights as outputs by inputs; the stored form is inputs by outputs unless `transposed`.
fn matrix(node: &Node<'_>, row: &Row, weights: &Tensor, transposed: bool) -> Result<Matrix, Refusal> {
    let mismatch = || {
        node.shapes(format!(
            "data of shape {} meets weights of shape {}{}",
            row.shape,
            Dims(&weights.dims),
            if transposed { " (transposed)" } else { "" }
        ))
    };
    let [first, second] = weights.dims.as_slice() else { return Err(mismatch()) };
    let (columns, rows) = if transposed { (*second, *first) } else { (*first, *second) };
    if row.shape.0.last() != Some(&Dim::Of(columns)) || columns != row.affine.width() || rows == 0 {
        return Err(mismatch());
    }
    let stored = weights.numbers().ok_or_else(mismatch)?;
    let values = if transposed { stored } else { transpose(&stored, rows) };
    Ok(Matrix { rows, columns, values })
}

/// The transpose of a row-major matrix with `width` columns.
fn transpose(values: &[f64], width: usize) -> Vec<f64> {
    (0..width).flat_map(|column| values.iter().skip(column).step_by(width).copied()).collect()
}

fn multiply(node: &Node<'_>, row: &Row, matrix: Matrix) -> Result<Affine, Refusal> {
    row.affine.multiplied(matrix, &node.reference).ok_or_else(|| {
        node.refuse(
            &codes::TOO_LARGE,
            "two dense layers without an activation between them are too large to be folded",
            "put a ReLU between the layers, or merge them before the export",
        )
    })
}

/// The product of two constant matrices.
fn constants(node: &Node<'_>, left: &Tensor, right: &Tensor) -> Result<Tensor, Refusal> {
    use crate::onnx::affine::{StageId, Tap};
    let mismatch =
        || node.shapes(format!("constants of shape {} times {}", Dims(&left.dims), Dims(&right.dims)));
    let ([rows, inner], [same, columns]) = (left.dims.as_slice(), right.dims.as_slice()) else {
        return Err(mismatch());
    };
    let (Some(left_values), Some(right_values)) = (left.numbers(), right.numbers()) else {
        return Err(mismatch());
    };
    if inner != same || *columns == 0 || *inner == 0 {
        return Err(mismatch());
    }
    // The product of two maps of the standard basis is the product of their matrices.
    let basis = Affine { stage: StageId(0), taps: Vec::<Tap>::new(), dense: None };
    let inner_matrix = Matrix { rows: *inner, columns: *columns, values: right_values };
    let outer_matrix = Matrix { rows: *rows, columns: *inner, values: left_values };
    let product = basis
        .multiplied(inner_matrix, &node.reference)
        .and_then(|affine| affine.multiplied(outer_matrix, &node.reference))
        .and_then(|affine| affine.dense)
        .ok_or_else(mismatch)?;
    Ok(Tensor::new(vec![*rows, *columns], crate::onnx::tensor::Data::Float(product.weights.values)))
}
