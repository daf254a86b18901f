//! Flatten, Reshape, Squeeze, Unsqueeze, Transpose: allowed where shapes prove that no value moves.

use super::Entry;
use super::extent::sizes;
use super::fold::positions;
use crate::onnx::cases::{Cases, lifted};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape, resolve_axis};
use crate::onnx::tensor::{Tensor, element_count};
use crate::onnx::value::{Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Flatten", flatten),
    ("", "Reshape", reshape),
    ("", "Squeeze", squeeze),
    ("", "Unsqueeze", unsqueeze),
    ("", "Transpose", transpose),
];

/// The shape of a value; for the sizes of a batch, that of the list.
fn shape_of(value: &Value) -> Option<Shape> {
    match value {
        Value::Constant(tensor) => Some(Shape(tensor.dims.iter().copied().map(Dim::Of).collect())),
        Value::Extent { sizes, scalar } => {
            Some(Shape(if *scalar { Vec::new() } else { vec![Dim::Of(sizes.len())] }))
        }
        Value::Row(row) => Some(row.shape.clone()),
        Value::Tail(tail) => Some(tail.shape.clone()),
        Value::Cases(cases) => Some(cases.shape.clone()),
        Value::Quantised(_) | Value::Refused => None,
    }
}

/// The same values under another shape, when that keeps every row together.
fn reshaped(node: &Node<'_>, value: &Value, shape: Shape) -> Evaluated {
    let moved =
        || node.shapes(format!("{} to shape {shape} would mix values of different rows", value.describe()));
    let known = || -> Option<Vec<usize>> {
        shape
            .0
            .iter()
            .map(|dim| match dim {
                Dim::Rows => None,
                Dim::Of(size) => Some(*size),
            })
            .collect()
    };
    let result = match value {
        Value::Constant(tensor) => {
            Value::Constant(known().and_then(|dims| tensor.reshaped(dims)).ok_or_else(moved)?)
        }
        Value::Extent { sizes: list, .. } => match known().ok_or_else(moved)?.as_slice() {
            [] if list.len() == 1 => sizes(list.clone(), true),
            [count] if list.len() == *count => sizes(list.clone(), false),
            _ => return Err(moved()),
        },
        Value::Row(row) => {
            check(&row.shape, &shape).ok_or_else(moved)?;
            Value::Row(Row { shape, ..row.clone() })
        }
        Value::Tail(tail) => {
            check(&tail.shape, &shape).ok_or_else(moved)?;
            Value::Tail(Tail { shape, ..tail.clone() })
        }
        Value::Cases(cases) => {
            check(&cases.shape, &shape).ok_or_else(moved)?;
            let count = cases.table.dims.first().copied().unwrap_or(1);
            let table = cases.table.reshaped(lifted(&shape, count)).ok_or_else(moved)?;
            Value::Cases(Cases { shape, table, ..cases.clone() })
        }
        Value::Quantised(_) | Value::Refused => return Err(node.unsupported_value(value)),
    };
    Ok(vec![result])
}

/// Same number of values per row, the rows still one axis in front of the features.
fn check(old: &Shape, new: &Shape) -> Option<()> {
    let same = old.width()? == new.width()? && old.has_rows() == new.has_rows();
    let rows_first = |shape: &Shape| {
        let rows = shape.0.iter().position(|dim| *dim == Dim::Rows);
        let long = shape.0.iter().position(|dim| matches!(dim, Dim::Of(size) if *size != 1));
        rows.zip(long).is_none_or(|(rows, long)| rows < long)
    };
    (same && new.is_vector() && rows_first(old) == rows_first(new)).then_some(())
}

fn flatten(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let old = shape_of(value).ok_or_else(|| node.unsupported_value(value))?;
    let axis = node.int("axis", 1);
    let rank = i64::try_from(old.rank()).unwrap_or(i64::MAX);
    let from_start = if axis < 0 { axis.saturating_add(rank) } else { axis };
    let split = usize::try_from(from_start).ok().filter(|&split| split <= old.rank());
    let merged = split.and_then(|split| {
        let (before, after) = old.0.split_at_checked(split)?;
        Some(Shape(vec![merge(before)?, merge(after)?]))
    });
    let shape = merged.ok_or_else(|| {
        node.shapes(format!("Flatten at axis {axis} does not keep the rows of {old} apart"))
    })?;
    reshaped(node, value, shape)
}

fn merge(dims: &[Dim]) -> Option<Dim> {
    let shape = Shape(dims.to_vec());
    match (shape.has_rows(), shape.width()?) {
        (true, 1) => Some(Dim::Rows),
        (true, _) => None,
        (false, size) => Some(Dim::Of(size)),
    }
}

fn reshape(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let old = shape_of(value).ok_or_else(|| node.unsupported_value(value))?;
    let target = target(node, &old)?;
    let shape = infer(&old, &target)
        .ok_or_else(|| node.shapes(format!("the new shape does not fit {}", value.describe())))?;
    reshaped(node, value, shape)
}

/// The wanted sizes; `None` for the one to infer.
fn target(node: &Node<'_>, old: &Shape) -> Result<Vec<Option<Dim>>, Refusal> {
    let wrong = || node.form("the new shape of Reshape is not known", "export with constant shapes");
    match node.input(1)? {
        Value::Extent { sizes, scalar: false } => Ok(sizes.clone()),
        Value::Constant(tensor) => {
            let wanted = tensor.integers().ok_or_else(wrong)?;
            let zero_copies = node.int("allowzero", 0) == 0;
            wanted
                .iter()
                .enumerate()
                .map(|(axis, &size)| match size {
                    -1 => Ok(None),
                    0 if zero_copies => old.0.get(axis).copied().map(Some).ok_or_else(wrong),
                    _ => {
                        let size = usize::try_from(size).map_err(|_| wrong())?;
                        let is_batch = axis == 0 && old.has_rows() && node.fixed_rows == Some(size);
                        Ok(Some(if is_batch { Dim::Rows } else { Dim::Of(size) }))
                    }
                })
                .collect()
        }
        Value::Extent { .. }
        | Value::Row(_)
        | Value::Quantised(_)
        | Value::Tail(_)
        | Value::Cases(_)
        | Value::Refused => Err(wrong()),
    }
}

fn infer(old: &Shape, target: &[Option<Dim>]) -> Option<Shape> {
    let known = Shape(target.iter().flatten().copied().collect());
    let (width, product) = (old.width()?, known.width()?);
    let missing =
        if old.has_rows() && !known.has_rows() { Dim::Rows } else { Dim::Of(width.checked_div(product)?) };
    match target.iter().filter(|dim| dim.is_none()).count() {
        0 => Some(known),
        1 => Some(Shape(target.iter().map(|dim| dim.unwrap_or(missing)).collect())),
        _ => None,
    }
}

/// The axes of Squeeze and Unsqueeze: an input since operator set 13, an attribute before.
fn axes(node: &Node<'_>) -> Result<Option<Vec<i64>>, Refusal> {
    if node.optional(1).is_none() {
        return Ok(node.ints("axes").map(<[i64]>::to_vec));
    }
    let tensor = node.constant(1, "the list of axes")?;
    let values = tensor.integers().ok_or_else(|| node.shapes("axes are not integers"))?;
    Ok(Some(values.to_vec()))
}

fn squeeze(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let old = shape_of(value).ok_or_else(|| node.unsupported_value(value))?;
    let axes: Option<Vec<usize>> = match axes(node)? {
        None => Some((0..old.rank()).filter(|axis| old.0.get(*axis) == Some(&Dim::Of(1))).collect()),
        Some(axes) => axes.iter().map(|&axis| old.axis(axis)).collect(),
    };
    let single = |axes: &Vec<usize>| axes.iter().all(|axis| old.0.get(*axis) == Some(&Dim::Of(1)));
    let axes = axes
        .filter(single)
        .ok_or_else(|| node.shapes(format!("Squeeze of an axis of {old} that is not of length 1")))?;
    let dims = old.0.iter().enumerate().filter(|(axis, _)| !axes.contains(axis));
    reshaped(node, value, Shape(dims.map(|(_, dim)| *dim).collect()))
}

fn unsqueeze(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let old = shape_of(value).ok_or_else(|| node.unsupported_value(value))?;
    let axes = axes(node)?.unwrap_or_default();
    let rank = old.rank() + axes.len();
    let places: Option<Vec<usize>> = axes.iter().map(|&axis| resolve_axis(axis, rank)).collect();
    let wrong = || node.shapes(format!("Unsqueeze at axes {axes:?} of shape {old}"));
    let places = places.ok_or_else(wrong)?;
    let mut rest = old.0.iter().copied();
    let dims: Option<Vec<Dim>> =
        (0..rank).map(|axis| if places.contains(&axis) { Some(Dim::Of(1)) } else { rest.next() }).collect();
    reshaped(node, value, Shape(dims.ok_or_else(wrong)?))
}

fn transpose(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let old = shape_of(value).ok_or_else(|| node.unsupported_value(value))?;
    let order: Option<Vec<usize>> = match node.ints("perm") {
        None => Some((0..old.rank()).rev().collect()),
        Some(perm) => perm.iter().map(|&axis| old.axis(axis)).collect(),
    };
    let is_order =
        |order: &Vec<usize>| order.len() == old.rank() && (0..old.rank()).all(|axis| order.contains(&axis));
    let order = order
        .filter(is_order)
        .ok_or_else(|| node.shapes(format!("Transpose of shape {old} by another number of axes")))?;
    if let Value::Constant(tensor) = value {
        let turned = turn(tensor, &order).ok_or_else(|| node.unsupported_value(value))?;
        return Ok(vec![Value::Constant(turned)]);
    }
    let dims: Vec<Dim> = order.iter().filter_map(|&axis| old.0.get(axis).copied()).collect();
    let (new, axes) = (Shape(dims), |shape: &Shape| -> Vec<Dim> {
        shape.0.iter().filter(|dim| **dim != Dim::Of(1)).copied().collect()
    });
    if axes(&new) != axes(&old) {
        return Err(node.shapes(format!("Transpose of shape {old} to {new} exchanges rows and features")));
    }
    reshaped(node, value, new)
}

/// A constant with its axes in another order.
fn turn(tensor: &Tensor, order: &[usize]) -> Option<Tensor> {
    let dims: Vec<usize> = order.iter().map(|&axis| tensor.dims.get(axis).copied()).collect::<Option<_>>()?;
    let count = element_count(&dims)?;
    // Number the elements, then look up where each comes from: strides of the old order, read in the new.
    let strides: Vec<usize> = (0..tensor.dims.len())
        .map(|axis| tensor.dims.get(axis + 1..).unwrap_or_default().iter().product())
        .collect();
    let places: Option<Vec<usize>> = positions(&dims, &dims, count)
        .into_iter()
        .map(|mut element| {
            let mut place = 0;
            for (&axis, &size) in order.iter().zip(&dims).rev() {
                place += element.checked_rem(size)? * strides.get(axis)?;
                element /= size;
            }
            Some(place)
        })
        .collect();
    tensor.pick(dims, &places?)
}
