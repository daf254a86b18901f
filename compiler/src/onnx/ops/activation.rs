//! Element-wise functions between dense layers. A new one is a row of the table and a line in
//! [`crate::model::Activation`].

use super::Entry;
use crate::model::Activation;
use crate::onnx::affine::Affine;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::value::{Row, Stage, Stages, Value};

pub(super) const TABLE: &[Entry] = &[("", "Relu", relu)];

fn relu(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    apply(stages, node, Activation::Relu)
}

fn apply(stages: &mut Stages, node: &Node<'_>, activation: Activation) -> Evaluated {
    let row = node.row(0)?;
    let before = Box::new(row.affine.clone());
    let width = before.width();
    let stage = stages.push(Stage::Activated { before, activation, node: node.reference.clone() });
    let affine = Affine::of_stage(stage, width);
    Ok(vec![Value::Row(Row { affine, shape: row.shape.clone(), integer: row.integer })])
}
