//! A node as operators see it: its inputs' values, its attributes, and how to refuse it.

use std::rc::Rc;

use super::ops::canonical_domain;
use super::report::Refusal;
use super::schema::{AttributeProto, NodeProto, TensorProto};
use super::tensor::{self, Tensor};
use super::value::{Form, Row, Stages, Tail, Value};
use crate::diag::codes::onnx as codes;
use crate::diag::{Code, Diagnostic, NodeRef, Origin};

/// What an operator gives: one value per output.
pub(crate) type Evaluated = Result<Vec<Value>, Refusal>;

/// An operator: its node in, values out. New stages are added to the list.
pub(crate) type Operator = fn(&mut Stages, &Node<'_>) -> Evaluated;

/// A node with the values of its inputs.
pub(crate) struct Node<'a> {
    pub(crate) proto: &'a NodeProto,
    pub(crate) reference: NodeRef,
    pub(crate) file: &'a str,
    /// Version of the operator set that the node's domain is imported with.
    pub(crate) opset: i64,
    /// In the node's order; `None` for an optional input that is left out.
    pub(crate) inputs: Vec<Option<Rc<Value>>>,
    /// The tensor of a `Constant` node, decoded.
    pub(crate) tensor: Option<Tensor>,
    /// Rows of the batch when the file fixes them and there are more than one.
    pub(crate) fixed_rows: Option<usize>,
}

impl Node<'_> {
    /// A refusal of this node.
    pub(crate) fn refuse(
        &self,
        code: &'static Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Refusal {
        let origin = Origin::Node { file: self.file.to_owned(), node: self.reference.clone() };
        let mut diagnostic = Diagnostic::new(code, origin, message, help);
        let values = self.proto.input.iter().zip(&self.inputs);
        for (name, value) in values.filter_map(|(name, value)| Some((name, value.as_ref()?))) {
            diagnostic = diagnostic.with_note(format!("input `{name}` is {}", value.describe()));
        }
        Box::new(diagnostic)
    }

    /// A refusal because of an attribute or a kind of value.
    pub(crate) fn form(&self, message: impl Into<String>, help: impl Into<String>) -> Refusal {
        self.refuse(&codes::OPERATOR_FORM, message, help)
    }

    /// A refusal because dimensions disagree.
    pub(crate) fn shapes(&self, message: impl Into<String>) -> Refusal {
        self.refuse(&codes::SHAPES, message, "export the model again, or correct the dimensions")
    }

    /// The operator's domain.
    pub(crate) fn domain(&self) -> &str {
        canonical_domain(self.proto.domain())
    }

    /// The operator's name.
    pub(crate) fn operator(&self) -> &str {
        self.proto.op_type()
    }

    /// An input that the operator demands.
    pub(crate) fn input(&self, index: usize) -> Result<&Value, Refusal> {
        self.optional(index).ok_or_else(|| {
            self.form(
                format!("{} lacks its input number {}", self.operator(), index + 1),
                "export the model again: the file is damaged or was edited",
            )
        })
    }

    /// An input that may be left out.
    pub(crate) fn optional(&self, index: usize) -> Option<&Value> {
        self.inputs.get(index)?.as_deref()
    }

    /// An input that must be a constant; `role` names it in the message.
    pub(crate) fn constant(&self, index: usize, role: &str) -> Result<&Tensor, Refusal> {
        match self.input(index)? {
            Value::Constant(tensor) => Ok(tensor),
            other @ (Value::Extent { .. }
            | Value::Row(_)
            | Value::Quantised(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Refused) => Err(self.form(
                format!("{role} of {} is {}, not a constant", self.operator(), other.describe()),
                "export with constant folding (`do_constant_folding=True`) and without training mode",
            )),
        }
    }

    /// An input that must be data of the network.
    pub(crate) fn row(&self, index: usize) -> Result<&Row, Refusal> {
        match self.input(index)? {
            Value::Row(row) => Ok(row),
            other @ (Value::Extent { .. }
            | Value::Constant(_)
            | Value::Quantised(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Refused) => Err(self.unsupported_value(other)),
        }
    }

    /// A refusal because the operator cannot work on this kind of value.
    pub(crate) fn unsupported_value(&self, value: &Value) -> Refusal {
        match value {
            Value::Tail(Tail { form: Form::EachProbability, .. }) => self.refuse(
                &codes::ACTIVATION,
                format!(
                    "{} reads a Sigmoid over several values, which no hidden layer may use",
                    self.operator()
                ),
                "use ReLU in hidden layers; at the output, leave each sigmoid as it is",
            ),
            Value::Quantised(_) => self.refuse(
                &codes::QUANTISED,
                format!("{} computes with quantised integers", self.operator()),
                "let a DequantizeLinear stand before it, or compile the float model that was quantised",
            ),
            Value::Tail(tail) => self.form(
                format!("{} reads {}", self.operator(), tail.form.describe()),
                "let probabilities and labels be the last step of the model; hidden layers may use ReLU",
            ),
            Value::Constant(_) | Value::Extent { .. } | Value::Row(_) | Value::Cases(_) | Value::Refused => {
                self.form(
                    format!("{} cannot be applied to {}", self.operator(), value.describe()),
                    "simplify the graph with `onnxsim`, or export a plain multi-layer perceptron",
                )
            }
        }
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.attribute(name).is_some()
    }

    fn attribute(&self, name: &str) -> Option<&AttributeProto> {
        self.proto.attribute.iter().find(|attribute| attribute.name() == name)
    }

    pub(crate) fn int(&self, name: &str, default: i64) -> i64 {
        self.attribute(name).and_then(|attribute| attribute.i).unwrap_or(default)
    }

    pub(crate) fn float(&self, name: &str, default: f64) -> f64 {
        self.attribute(name).and_then(|attribute| attribute.f).map_or(default, f64::from)
    }

    pub(crate) fn ints(&self, name: &str) -> Option<&[i64]> {
        self.attribute(name).map(|attribute| attribute.ints.as_slice())
    }

    pub(crate) fn floats(&self, name: &str) -> Option<Vec<f64>> {
        self.attribute(name).map(|attribute| attribute.floats.iter().copied().map(f64::from).collect())
    }

    /// A tensor attribute, NaN and infinities included; `None` where there is none.
    pub(crate) fn tensor_attribute(&self, name: &str) -> Result<Option<Tensor>, Refusal> {
        let Some(proto) = self.attribute(name).and_then(|attribute| attribute.t.as_ref()) else {
            return Ok(None);
        };
        match tensor::decode_any(proto, None) {
            Ok(tensor) => Ok(Some(tensor)),
            Err(defect) => Err(self.refuse(defect.code, defect.message, defect.help)),
        }
    }

    /// The element type of a tensor attribute; 0 where there is none.
    pub(crate) fn tensor_type(&self, name: &str) -> i32 {
        self.attribute(name).and_then(|attribute| attribute.t.as_ref()).map_or(0, TensorProto::data_type)
    }

    pub(crate) fn text(&self, name: &str) -> Option<String> {
        let bytes = self.attribute(name)?.s.as_deref()?;
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) fn texts(&self, name: &str) -> Option<Vec<String>> {
        let strings = &self.attribute(name)?.strings;
        Some(strings.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect())
    }
}

/// The tensor attribute of a `Constant` node.
pub(crate) fn tensor_attribute(proto: &NodeProto) -> Option<&TensorProto> {
    proto.attribute.iter().find(|attribute| attribute.name() == "value")?.t.as_ref()
}
