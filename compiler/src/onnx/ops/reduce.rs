//! Sums and means over the features: what autoencoders make of the differences between outputs and inputs.

use super::Entry;
use super::activation::{absolute, activated};
use crate::diag::codes::onnx as codes;
use crate::model::{Function, Matrix};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::Dim;
use crate::onnx::value::{Row, Stages, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "ReduceMean", reduce),
    ("", "ReduceSum", reduce),
    ("", "ReduceL1", reduce),
    ("", "ReduceSumSquare", reduce),
];

fn reduce(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let axis = features(node, row)?;
    let width = row.affine.width();
    let values = match node.operator() {
        "ReduceL1" => absolute(stages, node, row)?,
        "ReduceSumSquare" => activated(stages, node, row, Function::Square),
        _ => row.clone(),
    };
    let weight = if node.operator() == "ReduceMean" { 1.0 / width as f64 } else { 1.0 };
    let matrix = Matrix { rows: 1, columns: width, values: vec![weight; width] };
    let affine = values.affine.multiplied(matrix, &node.reference).ok_or_else(|| {
        node.refuse(
            &codes::TOO_LARGE,
            format!("{} and the layer before it are too large to be folded", node.operator()),
            "use fewer features",
        )
    })?;
    let keep = node.int("keepdims", 1) != 0;
    let shape = if keep { row.shape.with(axis, Dim::Of(1)) } else { row.shape.without(axis) };
    Ok(vec![Value::Row(Row { affine, shape, integer: row.integer && weight == 1.0 })])
}

/// The axis of the features, which must be the only one that is summed over.
fn features(node: &Node<'_>, row: &Row) -> Result<usize, Refusal> {
    // The axes are an input since operator set 13 or 18, an attribute before.
    let axes = match node.optional(1) {
        None => node.ints("axes").map(<[i64]>::to_vec),
        Some(_) => node.constant(1, "the list of axes")?.integers().map(<[i64]>::to_vec),
    };
    let wrong = || {
        node.form(
            format!("{} over other axes than that of the features", node.operator()),
            "sum over axis 1 of data of shape [batch, features]",
        )
    };
    let axes: Option<Vec<usize>> =
        axes.unwrap_or_default().iter().map(|&axis| row.shape.axis(axis)).collect();
    match (axes.ok_or_else(wrong)?.as_slice(), row.shape.feature_axis()) {
        ([axis], Some(own)) if *axis == own => Ok(own),
        _ => Err(wrong()),
    }
}
