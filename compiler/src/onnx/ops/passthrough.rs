//! Operators that leave values as they are: Identity, Dropout at inference, Cast, ZipMap.

use super::{Entry, ML};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::schema::data_type;
use crate::onnx::tensor::{Data, Tensor};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

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
        Value::Constant(tensor) => {
            Value::Constant(cast_constant(tensor, is_float, is_wide).ok_or_else(lossy)?)
        }
        Value::Extent { .. } if is_wide => value.clone(),
        Value::Row(row) if is_float => Value::Row(Row { integer: false, ..row.clone() }),
        Value::Row(row) if row.integer && is_wide => value.clone(),
        Value::Tail(tail)
            if is_float || matches!(tail.form, Form::Label { .. } | Form::EachLabel | Form::EachAtLeast) =>
        {
            value.clone()
        }
        Value::Row(_) | Value::Extent { .. } | Value::Tail(_) | Value::Refused => return Err(lossy()),
    };
    Ok(vec![result])
}

fn cast_constant(tensor: &Tensor, is_float: bool, is_wide: bool) -> Option<Tensor> {
    let data = match &tensor.data {
        _ if is_float => Data::Float(tensor.numbers()?),
        Data::Int(values) if is_wide => Data::Int(values.clone()),
        // The format truncates.
        Data::Float(values) if is_wide => Data::Int(values.iter().map(|&value| value as i64).collect()),
        Data::Int(_) | Data::Float(_) | Data::Text(_) => return None,
    };
    Some(Tensor { dims: tensor.dims.clone(), data })
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
