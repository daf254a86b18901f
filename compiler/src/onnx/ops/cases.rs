//! What becomes of operators over trees and labels that the operators themselves refuse: tables, sums of several
//! ensembles, exponentials.

use std::rc::Rc;

use super::tables::{self, Lifted};
use super::{exponential, refused};
use crate::diag::NodeRef;
use crate::diag::codes::onnx as codes;
use crate::onnx::affine::{Affine, StageId, Step};
use crate::onnx::cases::{Cases, Source, filled, linear};
use crate::onnx::forests::{self, Join};
use crate::onnx::node::{Evaluated, Node, Operator};
use crate::onnx::report::Refusal;
use crate::onnx::shape::Dim;
use crate::onnx::tensor::Tensor;
use crate::onnx::value::{Row, Stage, Stages, Value};

/// Applies an operator to the values of its inputs, whatever they depend on.
pub(crate) fn evaluate(stages: &mut Stages, node: &Node<'_>, operator: Operator) -> Evaluated {
    tables::one_list_of_each(node)?;
    let result = operator(stages, node);
    // An activation of sums of trees may be a table, of a single tree.
    if let Ok(values) = &result
        && !values.iter().any(|value| is_behind_trees(stages, value))
    {
        return result;
    }
    if let Some(value) = table(stages, node)? {
        return Ok(vec![value]);
    }
    if let Some(value) = exponential::evaluate(stages, node)? {
        return Ok(vec![value]);
    }
    as_sums(stages, node, operator).unwrap_or(result)
}

/// An operator that has no meaning beyond tables.
pub(super) fn only(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    tables::one_list_of_each(node)?;
    let of_table = |value: &Rc<Value>| matches!(**value, Value::Cases(_));
    if node.inputs.iter().flatten().any(of_table) {
        return Err(node.form(
            format!("{} of values of different trees is not supported", node.operator()),
            "sums over trees are; compute anything else from the outputs of a single tree, or from the label",
        ));
    }
    let (code, message, help) = refused::reason(node.domain(), node.operator());
    Err(node.refuse(code, message, help))
}

/// Whether a value is made from trees, or for each of some labels.
pub(crate) fn concerns(stages: &Stages, value: &Value) -> bool {
    let row = match value {
        Value::Cases(_) => return true,
        Value::Row(row) => row,
        Value::Tail(tail) => &tail.row,
        Value::Quantised(quantised) => &quantised.row,
        Value::Constant(_) | Value::Extent { .. } | Value::Refused => return false,
    };
    let mut stage = row.affine.stage;
    loop {
        match stages.get(stage) {
            Stage::Inputs => return false,
            Stage::Trees { .. } => return true,
            Stage::Activated { before, .. } | Stage::Open { before, .. } => stage = before.stage,
        }
    }
}

/// Whether a value is a row behind an activation of sums of trees.
fn is_behind_trees(stages: &Stages, value: &Value) -> bool {
    let Value::Row(row) = value else { return false };
    let mut stage = row.affine.stage;
    let mut behind = false;
    loop {
        match stages.get(stage) {
            Stage::Inputs => return false,
            Stage::Trees { .. } => return behind,
            Stage::Activated { before, .. } | Stage::Open { before, .. } => {
                behind = true;
                stage = before.stage;
            }
        }
    }
}

/// The operator on tables, when all inputs that are no constants depend on one tree, or on one label.
fn table(stages: &mut Stages, node: &Node<'_>) -> Result<Option<Value>, Refusal> {
    let mut of: Option<Source> = None;
    let mut cases = 1;
    let mut inputs = Vec::with_capacity(node.inputs.len());
    for value in &node.inputs {
        let Some(value) = value else {
            inputs.push(None);
            continue;
        };
        if let Value::Constant(tensor) = value.as_ref() {
            let Some(lifted) = Lifted::constant(tensor) else { return Ok(None) };
            inputs.push(Some(lifted));
            continue;
        }
        let Some(own) = Cases::of(stages, value) else { return Ok(None) };
        if of.as_ref().is_some_and(|of| *of != own.of) {
            return Ok(None);
        }
        of = Some(own.of);
        cases = own.table.dims.first().copied().unwrap_or(1);
        inputs.push(Some(Lifted { shape: own.shape, table: own.table }));
    }
    let Some(Lifted { shape, table }) = tables::apply(node, &inputs) else { return Ok(None) };
    let Some(of) = of else {
        let dims = table.dims.get(1..).unwrap_or_default().to_vec();
        return Ok(table.reshaped(dims).map(Value::Constant));
    };
    match filled(stages, of, &shape, cases, table.data) {
        Some(cases) => Ok(Some(Value::Cases(cases))),
        None => Err(too_large(node)),
    }
}

fn too_large(node: &Node<'_>) -> Refusal {
    node.refuse(
        &codes::TOO_LARGE,
        "trees and the values of their leaves are too many to be computed leaf by leaf",
        "train fewer or shallower trees",
    )
}

/// The operator on sums of trees: tables of leaves and linear probabilities are such sums, and sums of several
/// ensembles are one ensemble. `None` where none of this changes anything.
fn as_sums(stages: &mut Stages, node: &Node<'_>, operator: Operator) -> Option<Evaluated> {
    let mut changed = false;
    let mut inputs = node.inputs.clone();
    for value in inputs.iter_mut().flatten() {
        let row = match value.as_ref() {
            Value::Cases(cases) => cases.row(stages, &node.reference),
            Value::Tail(tail) => linear(stages, tail),
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Row(_)
            | Value::Quantised(_)
            | Value::Refused => None,
        };
        if let Some(row) = row {
            *value = Rc::new(Value::Row(row));
            changed = true;
        }
    }
    let mut several: Vec<StageId> = Vec::new();
    for value in inputs.iter().flatten() {
        if let Value::Row(row) = value.as_ref()
            && matches!(stages.get(row.affine.stage), Stage::Trees { .. })
            && !several.contains(&row.affine.stage)
        {
            several.push(row.affine.stage);
        }
    }
    if several.len() > 1 {
        return joined(stages, node, &inputs, operator);
    }
    if !changed {
        return None;
    }
    let node = with_inputs(node, inputs);
    Some(operator(stages, &node))
}

/// The same node with other values.
fn with_inputs<'a>(node: &Node<'a>, inputs: Vec<Option<Rc<Value>>>) -> Node<'a> {
    Node {
        proto: node.proto,
        reference: node.reference.clone(),
        file: node.file,
        opset: node.opset,
        inputs,
        tensor: node.tensor.clone(),
        fixed_rows: node.fixed_rows,
    }
}

/// Add, Sub, Sum, Mean and Concat of several ensembles, constants among them.
fn joined(
    stages: &mut Stages,
    node: &Node<'_>,
    inputs: &[Option<Rc<Value>>],
    operator: Operator,
) -> Option<Evaluated> {
    let join = match node.operator() {
        "Add" | "Sub" | "Sum" | "Mean" => Join::Sum,
        "Concat" => Join::Concat,
        _ => return None,
    };
    let mut rows: Vec<Row> = Vec::new();
    let mut rest: Vec<Option<Rc<Value>>> = Vec::new();
    for (index, value) in inputs.iter().flatten().enumerate() {
        match value.as_ref() {
            Value::Row(row) if node.operator() == "Sub" && index == 1 => {
                let steps = vec![Step::Multiply(-1.0); row.affine.width()];
                rows.push(Row { affine: row.affine.elementwise(&steps), ..row.clone() });
            }
            Value::Row(row) => rows.push(row.clone()),
            Value::Constant(_) if matches!(node.operator(), "Sum") => rest.push(Some(Rc::clone(value))),
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Quantised(_)
            | Value::Refused => {
                return None;
            }
        }
    }
    let first = rows.first()?.clone();
    let mut shape = first.shape.clone();
    match join {
        Join::Sum if rows.iter().any(|row| row.shape != shape) => return None,
        Join::Sum => {}
        Join::Concat => {
            let axis = shape.axis(node.int("axis", 0))?;
            let fits = |row: &Row| {
                row.shape.feature_axis() == Some(axis) && row.shape.without(axis) == first.shape.without(axis)
            };
            if !rows.iter().all(fits) {
                return None;
            }
            let width = rows.iter().map(|row| row.affine.width()).sum();
            shape = shape.with(axis, Dim::Of(width));
        }
    }
    let Some(mut affine) = forests::joined(stages, &rows, join, &node.reference) else {
        return Some(Err(too_large(node)));
    };
    if node.operator() == "Mean" {
        affine = affine.elementwise(&vec![Step::Multiply(1.0 / rows.len() as f64); affine.width()]);
    }
    let row = Value::Row(Row { affine, shape, integer: false });
    if rest.is_empty() {
        return Some(Ok(vec![row]));
    }
    let mut inputs = vec![Some(Rc::new(row))];
    inputs.append(&mut rest);
    Some(operator(stages, &with_inputs(node, inputs)))
}

/// Outputs of the graph that are tables, as what the model has for them; sums of all trees over one ensemble.
pub(crate) fn outputs<'a>(
    stages: &mut Stages,
    outputs: Vec<(&'a str, Rc<Value>, Option<NodeRef>)>,
) -> Vec<(&'a str, Rc<Value>)> {
    let mut values = Vec::with_capacity(outputs.len());
    for (name, value, origin) in outputs {
        let (Value::Cases(cases), Some(origin)) = (value.as_ref(), origin) else {
            values.push((name, value));
            continue;
        };
        let label = cases.label(stages, &origin).map(Value::Tail);
        let made = label.or_else(|| cases.row(stages, &origin).map(Value::Row));
        values.push((name, made.map_or(value, Rc::new)));
    }
    one_ensemble(stages, &mut values);
    values
}

/// Brings outputs of several ensembles onto one that has the outputs of all.
fn one_ensemble(stages: &mut Stages, values: &mut [(&str, Rc<Value>)]) {
    let mut wholes: Vec<Row> = Vec::new();
    let mut starts: Vec<(StageId, usize)> = Vec::new();
    let mut width = 0;
    for row in values.iter().filter_map(|(_, value)| row_of(value)) {
        let Stage::Trees { forest, .. } = stages.get(row.affine.stage) else { return };
        if starts.iter().all(|(stage, _)| *stage != row.affine.stage) {
            starts.push((row.affine.stage, width));
            let own = forest.base.len();
            wholes.push(Row { affine: Affine::of_stage(row.affine.stage, own), ..row.clone() });
            width += own;
        }
    }
    let Some(Stage::Trees { forest, .. }) = wholes.first().map(|row| stages.get(row.affine.stage)) else {
        return;
    };
    let origin = forest.origin.clone();
    if wholes.len() < 2 {
        return;
    }
    // What the probabilities of one ensemble are does not hold for those of another.
    for (_, value) in values.iter_mut() {
        let row = match value.as_ref() {
            Value::Tail(tail) => linear(stages, tail),
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Row(_)
            | Value::Cases(_)
            | Value::Quantised(_)
            | Value::Refused => None,
        };
        if let Some(row) = row {
            *value = Rc::new(Value::Row(row));
        }
    }
    let Some(whole) = forests::joined(stages, &wholes, Join::Concat, &origin) else { return };
    for (_, value) in values.iter_mut() {
        let mut moved = value.as_ref().clone();
        let row = match &mut moved {
            Value::Row(row) => row,
            Value::Tail(tail) => &mut tail.row,
            Value::Constant(_)
            | Value::Extent { .. }
            | Value::Cases(_)
            | Value::Quantised(_)
            | Value::Refused => continue,
        };
        if let Some((_, start)) = starts.iter().find(|(stage, _)| *stage == row.affine.stage) {
            row.affine.stage = whole.stage;
            row.affine.taps.iter_mut().for_each(|tap| tap.source += start);
            *value = Rc::new(moved);
        }
    }
}

fn row_of(value: &Value) -> Option<&Row> {
    match value {
        Value::Row(row) => Some(row),
        Value::Tail(tail) => Some(&tail.row),
        Value::Constant(_)
        | Value::Extent { .. }
        | Value::Cases(_)
        | Value::Quantised(_)
        | Value::Refused => None,
    }
}

/// Whether a constant is the number everywhere.
pub(super) fn is_all(tensor: &Tensor, number: f64) -> bool {
    tensor.numbers().is_some_and(|values| values.iter().all(|&value| value == number))
}
