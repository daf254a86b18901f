//! Gather, Slice, Concat, ArrayFeatureExtractor, FeatureVectorizer: choosing and joining columns.

use super::extent::sizes;
use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::onnx::affine::Step;
use crate::onnx::align;
use crate::onnx::cases::Cases;
use crate::onnx::limits::MAX_WIDTH;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape, resolve_axis};
use crate::onnx::tensor::{Data, Tensor, element_count};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Gather", gather),
    ("", "Slice", slice),
    ("", "Concat", concat),
    (ML, "ArrayFeatureExtractor", array_feature_extractor),
    (ML, "FeatureVectorizer", feature_vectorizer),
];

fn gather(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let indices = node.constant(1, "the list of indices")?;
    let (Some(list), true) = (indices.integers(), indices.dims.len() <= 1) else {
        return Err(node.shapes("the indices of Gather are not a list of integers"));
    };
    let (axis, size) = axis_of(node, value, node.int("axis", 0))?;
    let chosen: Option<Vec<usize>> = list.iter().map(|&index| resolve_axis(index, size)).collect();
    let chosen =
        chosen.ok_or_else(|| node.shapes(format!("Gather reads beyond the {size} elements of its axis")))?;
    Ok(vec![choose(node, value, axis, &chosen, indices.dims.is_empty())?])
}

/// The axis and its size; sizes of a batch and features are known, the rows are not.
fn axis_of(node: &Node<'_>, value: &Value, axis: i64) -> Result<(usize, usize), Refusal> {
    let shape = match value {
        Value::Constant(tensor) => Shape(tensor.dims.iter().copied().map(Dim::Of).collect()),
        Value::Extent { sizes, .. } => Shape(vec![Dim::Of(sizes.len())]),
        Value::Row(row) => row.shape.clone(),
        Value::Tail(tail) => tail.shape.clone(),
        Value::Cases(cases) => cases.shape.clone(),
        Value::Quantised(_) | Value::Refused => return Err(node.unsupported_value(value)),
    };
    let place = shape.axis(axis).and_then(|axis| Some((axis, *shape.0.get(axis)?)));
    match place {
        Some((axis, Dim::Of(size))) => Ok((axis, size)),
        Some((_, Dim::Rows)) => Err(node.form(
            format!("{} chooses rows of the batch", node.operator()),
            "the model must treat every row alike; remove operations over the batch axis",
        )),
        None => Err(node.shapes(format!("{} at axis {axis} of {}", node.operator(), value.describe()))),
    }
}

/// The elements at these positions of an axis; a scalar index removes the axis.
fn choose(
    node: &Node<'_>,
    value: &Value,
    axis: usize,
    chosen: &[usize],
    scalar: bool,
) -> Result<Value, Refusal> {
    let wrong = || node.unsupported_value(value);
    let reshape = |shape: &Shape| {
        if scalar { shape.without(axis) } else { shape.with(axis, Dim::Of(chosen.len())) }
    };
    match value {
        Value::Constant(tensor) => {
            choose_constant(tensor, axis, chosen, scalar).map(Value::Constant).ok_or_else(wrong)
        }
        Value::Extent { sizes: list, scalar: false } => {
            let picked: Option<Vec<Option<Dim>>> =
                chosen.iter().map(|&index| list.get(index).copied()).collect();
            Ok(sizes(picked.ok_or_else(wrong)?, scalar))
        }
        Value::Row(row) => {
            // On an axis of length 1 that is not the features' the only choice is everything.
            if row.shape.feature_axis() != Some(axis) || chosen.is_empty() {
                return Err(wrong());
            }
            let affine = row.affine.picked(chosen).ok_or_else(wrong)?;
            Ok(Value::Row(Row { affine, shape: reshape(&row.shape), integer: row.integer }))
        }
        Value::Tail(tail) => {
            if tail.shape.feature_axis() != Some(axis) {
                return Err(wrong());
            }
            if let (Form::BothScores { flipped }, [index @ (0 | 1)]) = (tail.form, chosen) {
                let negative = (*index == 0) != flipped;
                let factor = if negative { -1.0 } else { 1.0 };
                let affine = tail.row.affine.elementwise(&[Step::Multiply(factor)]);
                return Ok(Value::Row(Row { affine, shape: reshape(&tail.shape), integer: false }));
            }
            if matches!(tail.form, Form::EachProbability | Form::EachLabel | Form::EachAtLeast)
                && tail.shape == tail.row.shape
                && !chosen.is_empty()
            {
                let (affine, shape) =
                    (tail.row.affine.picked(chosen).ok_or_else(wrong)?, reshape(&tail.shape));
                let row = Row { affine, shape: shape.clone(), integer: false };
                let single = tail.form == Form::EachProbability && chosen.len() == 1;
                let form = if single { Form::Probability } else { tail.form };
                return Ok(Value::Tail(Tail { row, form, shape, ..tail.clone() }));
            }
            let form = match (tail.form, chosen) {
                (Form::BothProbabilities, [0]) => Form::Complement,
                (Form::BothProbabilities, [1]) => Form::Probability,
                (Form::Softmax | Form::BothProbabilities | Form::SomeProbabilities { .. }, [_, ..]) => {
                    Form::SomeProbabilities { logistic: tail.form.is_logistic() }
                }
                (Form::Probability | Form::Complement | Form::Label { .. }, [0]) => tail.form,
                (Form::Softmax | Form::BothProbabilities | Form::SomeProbabilities { .. }, [])
                | (Form::Probability | Form::Complement | Form::Label { .. } | Form::LogSoftmax, _)
                | (
                    Form::EachProbability
                    | Form::EachLabel
                    | Form::EachAtLeast
                    | Form::EachClass
                    | Form::OneVersusRest
                    | Form::Values
                    | Form::BothScores { .. }
                    | Form::Exponential { .. }
                    | Form::ExponentialSum { .. },
                    _,
                ) => {
                    return Err(wrong());
                }
            };
            Ok(Value::Tail(Tail { form, shape: reshape(&tail.shape), ..tail.clone() }))
        }
        Value::Cases(cases) => {
            let shape = reshape(&cases.shape);
            let table = choose_constant(&cases.table, axis + 1, chosen, scalar).ok_or_else(wrong)?;
            Ok(Value::Cases(Cases { shape, table, ..cases.clone() }))
        }
        Value::Extent { .. } | Value::Quantised(_) | Value::Refused => Err(wrong()),
    }
}

fn choose_constant(tensor: &Tensor, axis: usize, chosen: &[usize], scalar: bool) -> Option<Tensor> {
    let size = *tensor.dims.get(axis)?;
    let inner: usize = tensor.dims.get(axis + 1..)?.iter().product();
    let outer: usize = tensor.dims.get(..axis)?.iter().product();
    let mut dims = tensor.dims.clone();
    if scalar {
        dims.remove(axis);
    } else {
        *dims.get_mut(axis)? = chosen.len();
    }
    element_count(&dims)?;
    let mut positions = Vec::new();
    for block in 0..outer {
        for &index in chosen {
            let start = (block * size + index) * inner;
            positions.extend(start..start + inner);
        }
    }
    tensor.pick(dims, &positions)
}

fn slice(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let list = |index: usize, name: &str| -> Result<Option<Vec<i64>>, Refusal> {
        if node.optional(index).is_none() {
            return Ok(node.ints(name).map(<[i64]>::to_vec));
        }
        Ok(node.constant(index, name)?.integers().map(<[i64]>::to_vec))
    };
    let wrong = || node.shapes("Slice has incomplete bounds");
    let starts = list(1, "starts")?.ok_or_else(wrong)?;
    let ends = list(2, "ends")?.ok_or_else(wrong)?;
    let count = i64::try_from(starts.len()).map_err(|_| wrong())?;
    let axes = list(3, "axes")?.unwrap_or_else(|| (0..count).collect());
    let steps = list(4, "steps")?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err(wrong());
    }
    let mut value = node.input(0)?.clone();
    for (((&start, &end), &axis), &step) in starts.iter().zip(&ends).zip(&axes).zip(&steps) {
        let (axis, size) = axis_of(node, &value, axis)?;
        let chosen = range(start, end, step, size).ok_or_else(wrong)?;
        let everything = chosen.len() == size && step == 1;
        if !everything {
            value = choose(node, &value, axis, &chosen, false)?;
        }
    }
    Ok(vec![value])
}

/// The indices from `start` to before `end`, with the format's clamping.
fn range(start: i64, end: i64, step: i64, size: usize) -> Option<Vec<usize>> {
    let length = i64::try_from(size).ok()?;
    let from_start = |value: i64| if value < 0 { value.saturating_add(length) } else { value };
    let mut indices = Vec::new();
    if step > 0 {
        let end = from_start(end).clamp(0, length);
        let mut index = from_start(start).clamp(0, length);
        while index < end {
            indices.push(usize::try_from(index).ok()?);
            index = index.checked_add(step)?;
        }
    } else if step < 0 {
        let end = from_start(end).clamp(-1, length);
        let mut index = from_start(start).clamp(-1, length - 1);
        while index > end {
            indices.push(usize::try_from(index).ok()?);
            index = index.checked_add(step)?;
        }
    } else {
        return None;
    }
    Some(indices)
}

fn concat(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    join(stages, node, node.int("axis", 0))
}

fn feature_vectorizer(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    Ok(join(stages, node, 1)?
        .into_iter()
        .map(|value| match value {
            Value::Row(row) => Value::Row(Row { integer: false, ..row }),
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Quantised(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Refused => value,
        })
        .collect())
}

fn join(stages: &mut Stages, node: &Node<'_>, axis: i64) -> Evaluated {
    let mut joined = node.input(0)?.clone();
    for index in 1..node.inputs.len() {
        joined = pair(stages, node, &joined, node.input(index)?, axis)?;
    }
    Ok(vec![joined])
}

/// Two values side by side.
pub(super) fn pair(
    stages: &mut Stages,
    node: &Node<'_>,
    left: &Value,
    right: &Value,
    axis: i64,
) -> Result<Value, Refusal> {
    let wrong = || {
        node.form(
            format!("Concat of {} and {}", left.describe(), right.describe()),
            "join values along the axis of the features only",
        )
    };
    match (left, right) {
        (Value::Constant(first), Value::Constant(second)) => {
            concat_constants(first, second, axis).map(Value::Constant).ok_or_else(wrong)
        }
        (Value::Extent { .. } | Value::Constant(_), Value::Extent { .. } | Value::Constant(_)) => {
            let mut list = list_of_sizes(left).ok_or_else(wrong)?;
            list.extend(list_of_sizes(right).ok_or_else(wrong)?);
            Ok(sizes(list, false))
        }
        (Value::Row(first), Value::Row(second)) => {
            let axis = first.shape.axis(axis).ok_or_else(wrong)?;
            let on_features =
                first.shape.feature_axis() == Some(axis) && second.shape.feature_axis() == Some(axis);
            let same =
                first.shape.without(axis) == second.shape.without(axis) && first.integer == second.integer;
            if !on_features || !same {
                return Err(wrong());
            }
            if first.affine.width().saturating_add(second.affine.width()) > MAX_WIDTH {
                return Err(node.refuse(
                    &codes::TOO_LARGE,
                    format!("{} joins more than {MAX_WIDTH} values", node.operator()),
                    "use a smaller network",
                ));
            }
            let affine =
                align::joined(stages, &first.affine, &second.affine, &node.reference).ok_or_else(wrong)?;
            let shape = first.shape.with(axis, Dim::Of(affine.width()));
            Ok(Value::Row(Row { affine, shape, integer: first.integer }))
        }
        (Value::Tail(first), Value::Tail(second)) => {
            let axis = first.shape.axis(axis).ok_or_else(wrong)?;
            let single = |form| matches!(form, Form::Probability | Form::EachProbability);
            let on_features = first.shape.feature_axis() == Some(axis);
            if single(first.form) && single(second.form) && on_features {
                return each(stages, node, first, second, axis).map(Value::Tail).ok_or_else(wrong);
            }
            let both = first.form == Form::Complement && second.form == Form::Probability;
            if !both || first.row != second.row || first.shape.feature_axis() != Some(axis) {
                return Err(wrong());
            }
            let shape = first.shape.with(axis, Dim::Of(2));
            let rounded = first.rounded.or(second.rounded);
            Ok(Value::Tail(Tail { form: Form::BothProbabilities, shape, rounded, ..first.clone() }))
        }
        (
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Row(_)
            | Value::Quantised(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Refused,
            _,
        ) => Err(wrong()),
    }
}

/// Logistic functions of several numbers side by side.
fn each(stages: &mut Stages, node: &Node<'_>, first: &Tail, second: &Tail, axis: usize) -> Option<Tail> {
    let affine = align::joined(stages, &first.row.affine, &second.row.affine, &node.reference)?;
    let shape = first.shape.with(axis, Dim::Of(affine.width()));
    let row = Row { affine, shape, integer: false };
    let rounded = first.rounded;
    (rounded == second.rounded).then(|| Tail { rounded, ..Tail::of(&row, Form::EachProbability) })
}

/// A list of sizes, known or not; `None` for anything that is not one.
fn list_of_sizes(value: &Value) -> Option<Vec<Option<Dim>>> {
    match value {
        Value::Extent { sizes, scalar: false } => Some(sizes.clone()),
        Value::Constant(tensor) if tensor.dims.len() == 1 => {
            let size = |&size: &i64| match size {
                -1 => Some(None),
                _ => usize::try_from(size).ok().map(|size| Some(Dim::Of(size))),
            };
            tensor.integers()?.iter().map(size).collect()
        }
        Value::Extent { .. }
        | Value::Constant(_)
        | Value::Row(_)
        | Value::Quantised(_)
        | Value::Tail(_)
        | Value::Cases(_)
        | Value::Refused => None,
    }
}

pub(super) fn concat_constants(first: &Tensor, second: &Tensor, axis: i64) -> Option<Tensor> {
    fn interleave<T: Clone>(first: &[T], second: &[T], widths: (usize, usize)) -> Vec<T> {
        let blocks = first.chunks(widths.0.max(1)).zip(second.chunks(widths.1.max(1)));
        blocks.flat_map(|(a, b)| a.iter().chain(b).cloned()).collect()
    }
    let axis = resolve_axis(axis, first.dims.len())?;
    let mut dims = first.dims.clone();
    let (size, more) = (*first.dims.get(axis)?, *second.dims.get(axis)?);
    *dims.get_mut(axis)? = size.checked_add(more)?;
    let mut other = second.dims.clone();
    *other.get_mut(axis)? = size;
    if other != first.dims || size == 0 || more == 0 {
        return None;
    }
    element_count(&dims)?;
    let inner: usize = dims.get(axis + 1..)?.iter().product();
    let widths = (size * inner, more * inner);
    let data = match (&first.data, &second.data) {
        (Data::Float(a), Data::Float(b)) => Data::Float(interleave(a, b, widths)),
        (Data::Int(a), Data::Int(b)) => Data::Int(interleave(a, b, widths)),
        (Data::Text(a), Data::Text(b)) => Data::Text(interleave(a, b, widths)),
        (Data::Float(_) | Data::Int(_) | Data::Text(_), _) => return None,
    };
    let span = first.span.filter(|_| first.span == second.span);
    Some(Tensor { dims, data, span })
}

/// Columns of the first input at the indices of the second; or class labels at the index of the arg-max.
fn array_feature_extractor(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (value, indices) = (node.input(0)?, node.input(1)?);
    match (value, indices) {
        (Value::Constant(classes), Value::Tail(tail)) => {
            let (Form::Label { .. }, None) = (tail.form, &tail.classes) else {
                return Err(node.unsupported_value(indices));
            };
            let rows = if tail.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
            let shape = Shape(vec![Dim::Of(1), rows]);
            let named = Tail { classes: Some(classes.labels()), shape, ..tail.clone() };
            Ok(vec![Value::Tail(named)])
        }
        (_, Value::Constant(list)) => {
            let (axis, size) = axis_of(node, value, -1)?;
            let integers = list.integers().unwrap_or_default();
            let chosen: Option<Vec<usize>> =
                integers.iter().map(|&index| resolve_axis(index, size)).collect();
            let chosen = chosen
                .ok_or_else(|| node.shapes(format!("ArrayFeatureExtractor reads beyond {size} columns")))?;
            Ok(vec![choose(node, value, axis, &chosen, false)?])
        }
        (
            _,
            Value::Extent { .. }
            | Value::Row(_)
            | Value::Quantised(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Refused,
        ) => Err(node.unsupported_value(indices)),
    }
}
