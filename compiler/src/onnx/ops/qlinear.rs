//! Operators on quantised numbers, as onnxruntime's QOperator form writes them: each is its float counterpart between
//! a DequantizeLinear of its inputs and a QuantizeLinear of its output.

use super::activation::leaky;
use super::arithmetic::spread;
use super::dense::{gemm, right_constant};
use super::quantised::{Grid, dequantised, quantised, rounded_tail};
use super::select::pair;
use super::tail::{sigmoid_of, softmax_of};
use super::{Entry, MICROSOFT};
use crate::diag::codes::onnx as codes;
use crate::onnx::affine::Step;
use crate::onnx::align;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::tensor::{Data, Tensor};
use crate::onnx::value::{Form, Row, Stages, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "QLinearMatMul", mat_mul),
    (MICROSOFT, "QGemm", q_gemm),
    (MICROSOFT, "QLinearAdd", sum),
    (MICROSOFT, "QLinearMul", product),
    (MICROSOFT, "QLinearLeakyRelu", leaky_relu),
    (MICROSOFT, "QLinearSigmoid", sigmoid),
    (MICROSOFT, "QLinearSoftmax", softmax),
    (MICROSOFT, "QLinearConcat", concat),
];

/// The default slope of QLinearLeakyRelu below zero.
const SLOPE: f32 = 0.01;

/// The operand at an input, with scale and zero point behind it, in real numbers.
fn operand(stages: &mut Stages, node: &Node<'_>, index: usize, axis: i64) -> Result<Value, Refusal> {
    let grid = Grid::read(node, index + 1, index + 2)?;
    dequantised(stages, node, node.input(index)?, &grid, axis)
}

/// [`operand`], which must be data.
fn data(stages: &mut Stages, node: &Node<'_>, index: usize) -> Result<Row, Refusal> {
    match operand(stages, node, index, -1)? {
        Value::Row(row) => Ok(row),
        other @ (Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Tail(_)
        | Value::Cases(_)
        | Value::Refused) => Err(node.unsupported_value(&other)),
    }
}

/// [`operand`], which must be a constant.
fn weights(node: &Node<'_>, index: usize, axis: i64) -> Result<Tensor, Refusal> {
    let stored = node.constant(index, "the weight matrix")?;
    Grid::read(node, index + 1, index + 2)?.real(node, stored, axis)
}

/// The row in integers, with the output's scale and zero point.
fn result(node: &Node<'_>, row: Row, scale: usize) -> Evaluated {
    let levels = Grid::read(node, scale, scale + 1)?.levels(node, None)?;
    Ok(vec![quantised(node, &Value::Row(row), levels)?])
}

fn mat_mul(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = data(stages, node, 0)?;
    let weights = weights(node, 3, -1)?;
    result(node, right_constant(node, &row, &weights)?, 6)
}

/// A bias is stored in units of both scales. Without a scale of its own the output is in float.
fn q_gemm(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = data(stages, node, 0)?;
    let axis = if node.int("transB", 0) == 0 { 1 } else { 0 };
    let weights = weights(node, 3, axis)?;
    let bias = match node.optional(6) {
        None => None,
        Some(_) => Some(bias(node, node.constant(6, "the bias")?)?),
    };
    let row = gemm(node, &row, &weights, bias.as_ref())?;
    let alpha = node.float("alpha", 1.0);
    let row = if alpha == 1.0 {
        row
    } else {
        let affine = row.affine.elementwise(&vec![Step::Multiply(alpha); row.affine.width()]);
        Row { affine, ..row }
    };
    if node.optional(7).is_none() { Ok(vec![Value::Row(row)]) } else { result(node, row, 7) }
}

/// The bias of a QGemm in real numbers.
fn bias(node: &Node<'_>, stored: &Tensor) -> Result<Tensor, Refusal> {
    let scale_of =
        |index: usize| -> Result<Vec<f64>, Refusal> { Ok(Grid::read(node, index + 1, index + 2)?.scales) };
    let (inputs, weights) = (scale_of(0)?, scale_of(3)?);
    let wrong = || node.shapes("the bias of QGemm does not fit its scales");
    let input = inputs.first().copied().ok_or_else(wrong)?;
    let stored_values = stored.integers().ok_or_else(wrong)?;
    let scales = weights.iter().cycle().take(stored_values.len());
    if weights.len() != 1 && weights.len() != stored_values.len() {
        return Err(wrong());
    }
    let values =
        stored_values.iter().zip(scales).map(|(&value, scale)| value as f64 * (input * scale)).collect();
    Ok(Tensor::new(stored.dims.clone(), Data::Float(values)))
}

fn sum(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = match (operand(stages, node, 0, -1)?, operand(stages, node, 3, -1)?) {
        (Value::Row(row), Value::Constant(constant)) | (Value::Constant(constant), Value::Row(row)) => {
            let (values, shape) = spread(node, &row, &constant)?;
            let steps: Vec<Step> = values.into_iter().map(Step::Add).collect();
            Row { affine: row.affine.elementwise(&steps), shape, integer: false }
        }
        (Value::Row(left), Value::Row(right)) => {
            let affine = (left.shape == right.shape)
                .then(|| align::sum(stages, &left.affine, &right.affine, &node.reference))
                .flatten();
            let affine = affine.ok_or_else(|| {
                node.refuse(
                    &codes::QUANTISED,
                    "QLinearAdd adds values of different shapes, or too many",
                    "export the model with additions of values of one shape, or without skip connections",
                )
            })?;
            Row { affine, ..left }
        }
        (Value::Row(_), other) | (other, _) => return Err(node.unsupported_value(&other)),
    };
    result(node, row, 6)
}

fn product(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = match (operand(stages, node, 0, -1)?, operand(stages, node, 3, -1)?) {
        (Value::Row(row), Value::Constant(constant)) | (Value::Constant(constant), Value::Row(row)) => {
            let (values, shape) = spread(node, &row, &constant)?;
            let steps: Vec<Step> = values.into_iter().map(Step::Multiply).collect();
            Row { affine: row.affine.elementwise(&steps), shape, integer: false }
        }
        (Value::Row(_), Value::Row(_)) => {
            return Err(node.form(
                "QLinearMul of two values that both depend on the input is not supported",
                "products, gates and attention are not supported; use a plain chain of layers",
            ));
        }
        (Value::Row(_), other) | (other, _) => return Err(node.unsupported_value(&other)),
    };
    result(node, row, 6)
}

fn leaky_relu(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = data(stages, node, 0)?;
    let slopes = vec![node.float("alpha", f64::from(SLOPE)); row.affine.width()];
    let row = leaky(stages, node, &row, &slopes)?;
    result(node, row, 3)
}

fn sigmoid(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = data(stages, node, 0)?;
    let levels = Grid::read(node, 3, 4)?.levels(node, None)?;
    Ok(vec![Value::Tail(rounded_tail(node, &sigmoid_of(&row), levels)?)])
}

fn softmax(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = data(stages, node, 0)?;
    let levels = Grid::read(node, 3, 4)?.levels(node, None)?;
    let tail = softmax_of(node, &row, Form::Softmax, node.int("opset", i64::MAX))?;
    Ok(vec![Value::Tail(rounded_tail(node, &tail, levels)?)])
}

/// The output's scale and zero point come first, then each value with its own.
fn concat(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let mut joined = operand(stages, node, 2, -1)?;
    for index in (5..node.inputs.len()).step_by(3) {
        let next = operand(stages, node, index, -1)?;
        joined = pair(stages, node, &joined, &next, node.int("axis", 0))?;
    }
    let levels = Grid::read(node, 0, 1)?.levels(node, None)?;
    Ok(vec![quantised(node, &joined, levels)?])
}
