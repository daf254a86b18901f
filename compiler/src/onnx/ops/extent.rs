//! `Shape`: sizes of axes, of which the number of rows stays unknown.

use super::Entry;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::shape::Dim;
use crate::onnx::tensor::Tensor;
use crate::onnx::value::{Stages, Value};

pub(super) const TABLE: &[Entry] = &[("", "Shape", shape)];

fn shape(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let dims = match value {
        Value::Constant(tensor) => tensor.dims.iter().map(|&size| Dim::Of(size)).collect(),
        Value::Row(row) => row.shape.0.clone(),
        Value::Tail(tail) => tail.shape.0.clone(),
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
