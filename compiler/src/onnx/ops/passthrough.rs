//! Operators that leave values as they are: Identity, Dropout at inference, Cast, ZipMap.

use super::{Entry, ML};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::schema::data_type;
use crate::onnx::tensor::{Data, Span, Tensor, to_brain, to_half};
use crate::onnx::value::{Form, Quantised, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] =
    &[("", "Identity", identity), ("", "Dropout", dropout), ("", "Cast", cast), (ML, "ZipMap", zip_map)];

fn identity(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    Ok(vec![node.input(0)?.clone()])
}

fn dropout(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    // Since operator set 12 the training mode is an input; before, it was the run time's business.
    let training = match node.optional(2) {
        None => false,
        Some(_) => node.constant(2, "the training mode")?.single() != Some(0.0),
    };
    let ratio = match node.optional(1) {
        None => node.float("ratio", 0.5),
        Some(_) => node.constant(1, "the ratio")?.single().unwrap_or(1.0),
    };
    if training && ratio != 0.0 {
        return Err(node.form(
            "Dropout in training mode draws random numbers",
            "call `model.eval()` before the export, and export without `training=TRAINING`",
        ));
    }
    // The second output, the mask, has no meaning at inference.
    Ok(vec![node.input(0)?.clone(), Value::Refused])
}

/// Data is not rounded by a cast to another float type: the features are integers, and the network has rounding of its
/// own.
fn cast(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let target = i32::try_from(node.int("to", 0)).unwrap_or(0);
    let is_float =
        matches!(target, data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16);
    let is_wide = matches!(target, data_type::INT32 | data_type::INT64);
    let value = node.input(0)?;
    let lossy = || {
        node.form(
            format!("Cast to {} loses information", data_type::name(target)),
            "cast to float, or leave the cast to the specification's feature definitions",
        )
    };
    let result = match value {
        Value::Constant(tensor) => Value::Constant(cast_constant(tensor, target).ok_or_else(lossy)?),
        Value::Extent { .. } if is_wide => value.clone(),
        Value::Row(row) if is_float => Value::Row(Row { integer: false, ..row.clone() }),
        Value::Row(row) if row.integer && is_wide => value.clone(),
        // The same integers in a type that holds them.
        Value::Quantised(own) if is_wide || Span::of(target).is_some_and(|span| holds(span, own)) => {
            // Wide integers are read with zero points of any type.
            let span = Span::of(target).filter(|_| !is_wide);
            Value::Quantised(Quantised { span, ..own.clone() })
        }
        Value::Quantised(_) => return Err(node.unsupported_value(value)),
        Value::Tail(tail) if tail.rounded.is_some_and(|rounded| rounded.stored) => return Err(lossy()),
        Value::Tail(tail)
            if is_float || matches!(tail.form, Form::Label { .. } | Form::EachLabel | Form::EachAtLeast) =>
        {
            value.clone()
        }
        Value::Row(_) | Value::Extent { .. } | Value::Tail(_) | Value::Cases(_) | Value::Refused => {
            return Err(lossy());
        }
    };
    Ok(vec![result])
}

const fn holds(span: Span, integers: &Quantised) -> bool {
    span.low <= integers.levels.low && integers.levels.high <= span.high
}

/// A constant in another type; `None` when that cannot hold it.
fn cast_constant(tensor: &Tensor, target: i32) -> Option<Tensor> {
    let rounded: Option<fn(f64) -> f64> = match target {
        data_type::DOUBLE => Some(|value| value),
        data_type::FLOAT => Some(|value| f64::from(value as f32)),
        data_type::FLOAT16 => Some(to_half),
        data_type::BFLOAT16 => Some(to_brain),
        _ => None,
    };
    if let Some(rounded) = rounded {
        let values: Vec<f64> = tensor.numbers()?.into_iter().map(rounded).collect();
        let finite = values.iter().all(|value| value.is_finite());
        return finite.then(|| Tensor::new(tensor.dims.clone(), Data::Float(values)));
    }
    let span = Span::of(target);
    if span.is_none() && target != data_type::INT64 {
        return None;
    }
    let values: Vec<i64> = match &tensor.data {
        Data::Int(values) => values.clone(),
        // The format truncates.
        Data::Float(values) => values.iter().map(|&value| value as i64).collect(),
        Data::Text(_) => return None,
    };
    let fits = span.is_none_or(|span| values.iter().all(|value| (span.low..=span.high).contains(value)));
    fits.then(|| Tensor { dims: tensor.dims.clone(), data: Data::Int(values), span })
}

/// Names the columns of the probabilities.
fn zip_map(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let Value::Tail(tail) = value else { return Err(node.unsupported_value(value)) };
    let classes = node.texts("classlabels_strings").filter(|labels| !labels.is_empty()).or_else(|| {
        node.ints("classlabels_int64s").map(|labels| labels.iter().map(ToString::to_string).collect())
    });
    Ok(vec![Value::Tail(Tail { classes: classes.or_else(|| tail.classes.clone()), ..tail.clone() })])
}
