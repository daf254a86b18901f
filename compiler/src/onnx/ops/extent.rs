//! `Shape` and constants of a shape: sizes of axes, of which the number of rows stays unknown.

use super::Entry;
use crate::diag::codes::onnx as codes;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::shape::Dim;
use crate::onnx::tensor::{Tensor, element_count};
use crate::onnx::value::{Stages, Value};

pub(super) const TABLE: &[Entry] = &[("", "ConstantOfShape", constant_of_shape), ("", "Shape", shape)];

/// One value everywhere. What has the number of rows of the batch has one row here, which fits any number.
fn constant_of_shape(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let wrong = || node.form("the shape of ConstantOfShape is not known", "export with constant shapes");
    let dims: Option<Vec<usize>> = match node.input(0)? {
        Value::Constant(tensor) => {
            let sizes = tensor.integers().filter(|_| tensor.dims.len() == 1).ok_or_else(wrong)?;
            sizes.iter().map(|&size| usize::try_from(size).ok()).collect()
        }
        Value::Extent { sizes, scalar: false } => sizes
            .iter()
            .map(|size| match size {
                Some(Dim::Of(size)) => Some(*size),
                Some(Dim::Rows) => Some(1),
                None => None,
            })
            .collect(),
        Value::Extent { .. }
        | Value::Row(_)
        | Value::Tail(_)
        | Value::Cases(_)
        | Value::Quantised(_)
        | Value::Refused => None,
    };
    let dims = dims.ok_or_else(wrong)?;
    let count = element_count(&dims).ok_or_else(|| {
        node.refuse(&codes::TOO_LARGE, "ConstantOfShape makes too many elements", "use a smaller network")
    })?;
    let value = node.tensor_attribute("value")?.unwrap_or_else(|| Tensor::scalar_float(0.0));
    let one = Tensor { dims: vec![value.len()], ..value };
    let tensor = one.pick(dims, &vec![0; count]).ok_or_else(wrong)?;
    Ok(vec![Value::Constant(tensor)])
}

fn shape(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let dims = match value {
        Value::Constant(tensor) => tensor.dims.iter().map(|&size| Dim::Of(size)).collect(),
        Value::Row(row) => row.shape.0.clone(),
        Value::Tail(tail) => tail.shape.0.clone(),
        Value::Cases(cases) => cases.shape.0.clone(),
        Value::Extent { sizes, scalar } => {
            if *scalar {
                Vec::new()
            } else {
                vec![Dim::Of(sizes.len())]
            }
        }
        Value::Quantised(_) | Value::Refused => return Err(node.unsupported_value(value)),
    };
    let rank = i64::try_from(dims.len()).unwrap_or(i64::MAX);
    let bound = |value: i64| {
        let from_start = if value < 0 { value.saturating_add(rank) } else { value };
        usize::try_from(from_start.clamp(0, rank)).unwrap_or(0)
    };
    let (start, end) = (bound(node.int("start", 0)), bound(node.int("end", rank)));
    let part = dims.get(start..end.max(start)).unwrap_or_default();
    Ok(vec![sizes(part.iter().copied().map(Some).collect(), false)])
}

/// Sizes as a value: a constant when all are known.
pub(super) fn sizes(dims: Vec<Option<Dim>>, scalar: bool) -> Value {
    let known: Option<Vec<i64>> = dims
        .iter()
        .map(|dim| match dim {
            None => Some(-1),
            Some(Dim::Rows) => None,
            Some(Dim::Of(size)) => i64::try_from(*size).ok(),
        })
        .collect();
    let Some(known) = known else { return Value::Extent { sizes: dims, scalar } };
    let mut tensor = Tensor::vector_int(known);
    if scalar {
        tensor.dims.clear();
    }
    Value::Constant(tensor)
}
