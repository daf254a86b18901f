//! `Constant`: the value is in an attribute.

use super::Entry;
use crate::diag::codes::onnx as codes;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::tensor::{Data, Tensor, check_values};
use crate::onnx::value::{Stages, Value};

pub(super) const TABLE: &[Entry] = &[("", "Constant", constant)];

fn constant(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let tensor = if let Some(tensor) = &node.tensor {
        tensor.clone()
    } else if let Some(values) = node.floats("value_floats") {
        Tensor::vector_float(values)
    } else if let Some(values) = node.ints("value_ints") {
        Tensor::vector_int(values.to_vec())
    } else if let Some(values) = node.texts("value_strings") {
        Tensor::new(vec![values.len()], Data::Text(values))
    } else if let Some(value) = node.text("value_string") {
        Tensor::new(Vec::new(), Data::Text(vec![value]))
    } else if node.has("value_float") {
        Tensor::scalar_float(node.float("value_float", 0.0))
    } else if node.has("value_int") {
        Tensor::new(Vec::new(), Data::Int(vec![node.int("value_int", 0)]))
    } else {
        return Err(node.refuse(
            &codes::TENSOR,
            "Constant has no value that is read; sparse tensors are not",
            "export with dense constants",
        ));
    };
    let name = node.proto.output.first().map(String::as_str).unwrap_or_default();
    check_values(name, &tensor).map_err(|defect| node.refuse(defect.code, defect.message, defect.help))?;
    Ok(vec![Value::Constant(tensor)])
}
