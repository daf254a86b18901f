//! What replaces a number by another one: Imputer, and Where of a comparison for equality.
//!
//! Of integers such a comparison is exact, so that features and scaled features have such values; sums have none.

use super::arithmetic::spread;
use super::{Entry, ML, cases};
use crate::diag::codes::onnx as codes;
use crate::model::Replaced;
use crate::model::forest::{Column, Precision};
use crate::onnx::affine::{Affine, Step};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::replaced::is_replaced;
use crate::onnx::report::Refusal;
use crate::onnx::value::{Equal, Open, Row, Stage, Stages, Value};

pub(super) const TABLE: &[Entry] = &[(ML, "Imputer", imputer), ("", "Equal", equal)];

/// Replaces NaN, which a feature of a flow never is, or a number.
fn imputer(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let integers = node.ints("imputed_value_int64s").filter(|values| !values.is_empty());
    let number = node.float("replaced_value_float", 0.0);
    let (value, by) = match integers {
        Some(values) => {
            (node.int("replaced_value_int64", 0) as f64, values.iter().map(|&by| by as f64).collect())
        }
        None if number.is_nan() => return Ok(vec![Value::Row(row.clone())]),
        None => (number, node.floats("imputed_value_floats").unwrap_or_default()),
    };
    let width = row.affine.width();
    let by: Vec<f64> = match by.as_slice() {
        [one] => vec![*one; width],
        _ if by.len() == width => by,
        _ => {
            return Err(node.shapes(format!("Imputer has {} values for {width} features", by.len())));
        }
    };
    Ok(vec![Value::Row(replaced(stages, node, row, &vec![value; width], &by)?)])
}

/// A row in which one value of each number is replaced.
fn replaced(
    stages: &mut Stages,
    node: &Node<'_>,
    row: &Row,
    values: &[f64],
    by: &[f64],
) -> Result<Row, Refusal> {
    if row.affine.dense.is_some() || !matches!(stages.get(row.affine.stage), Stage::Inputs) {
        return Err(node.refuse(
            &codes::OPERATOR,
            format!("{} replaces a number in sums of features, which in integers is not exact", node.operator()),
            "replace values of the features themselves, before layers, PCA and activations; scalers may stand \
             anywhere",
        ));
    }
    if by.iter().any(|by| !by.is_finite()) {
        return Err(node.refuse(
            &codes::NOT_FINITE,
            format!("a number that {} puts in place is not finite", node.operator()),
            "fit the imputer again, on data with a value for each feature",
        ));
    }
    let precision = if row.integer { Precision::Double } else { Precision::Single };
    let mut result = row.clone();
    for (tap, (&value, &by)) in result.affine.taps.iter_mut().zip(values.iter().zip(by)) {
        let scaler = tap.normalise;
        if !value.is_finite() || value == by {
            continue;
        }
        if scaler.scale == 0.0 {
            if scaler.offset == value {
                tap.normalise.offset = by;
            }
            continue;
        }
        if is_replaced(tap.source) {
            return Err(node.form(
                "a second value of a feature is replaced, and one is all that code looks for",
                "replace one value of each feature; the specification's formulas can unite several",
            ));
        }
        tap.source = stages.place_of_replaced(Replaced {
            origin: node.reference.clone(),
            column: Column { source: tap.source, normalise: scaler, precision },
            value,
            by: (by - scaler.offset) / scaler.scale + scaler.centre,
        });
    }
    Ok(result)
}

/// Whether features have some values, which Where may replace.
fn equal(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (row, constant) = match (node.optional(0), node.optional(1)) {
        (Some(Value::Row(row)), Some(Value::Constant(constant)))
        | (Some(Value::Constant(constant)), Some(Value::Row(row))) => (row.clone(), constant),
        _ => return cases::only(stages, node),
    };
    let (values, shape) = spread(node, &row, constant)?;
    if shape != row.shape {
        return cases::only(stages, node);
    }
    let width = row.affine.width();
    let before = Box::new(row.affine.clone());
    let stage = stages.push(Stage::Open { before, part: Open::Equal, node: node.reference.clone() });
    stages.equals.push(Equal { stage, row: row.clone(), values });
    Ok(vec![Value::Row(Row { affine: Affine::of_stage(stage, width), shape, integer: false })])
}

/// The opposite of a comparison for equality; `None` of anything else.
pub(super) fn unequal(stages: &Stages, row: &Row) -> Option<Row> {
    matches!(stages.get(row.affine.stage), Stage::Open { part: Open::Equal, .. }).then(|| {
        let affine = row.affine.scaled(-1.0).elementwise(&vec![Step::Add(1.0); row.affine.width()]);
        Row { affine, ..row.clone() }
    })
}

/// `Where(x == v, c, x)`, or `Where(x != v, x, c)`; `None` of anything else.
pub(super) fn chosen(
    stages: &mut Stages,
    node: &Node<'_>,
    condition: &Row,
    (yes, no): (&Value, &Value),
) -> Result<Option<Row>, Refusal> {
    let Some(equal) = stages.equals.iter().find(|equal| equal.stage == condition.affine.stage).cloned()
    else {
        return Ok(None);
    };
    let (by, kept) = match (condition.affine.of_each(equal.values.len()), yes, no) {
        (Some((1.0, 0.0)), Value::Constant(by), Value::Row(kept))
        | (Some((-1.0, 1.0)), Value::Row(kept), Value::Constant(by)) => (by, kept),
        _ => return Ok(None),
    };
    let (by, shape) = spread(node, kept, by)?;
    if kept.affine != equal.row.affine || shape != kept.shape {
        return Ok(None);
    }
    replaced(stages, node, kept, &equal.values, &by).map(Some)
}
