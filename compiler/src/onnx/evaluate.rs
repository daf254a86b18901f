//! Walks the graph in order and evaluates each node on what is known about its inputs.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use super::external::ExternalFiles;
use super::limits::{MAX_NODES, MAX_NUMBERS, MAX_OUTPUTS};
use super::node::{Node, Operator, tensor_attribute};
use super::ops::{self, canonical_domain, quantised};
use super::report::{Refusal, Report};
use super::schema::{GraphProto, ModelProto, NodeProto, TensorProto};
use super::shape::Shape;
use super::tensor::{self, Defect, Tensor};
use super::value::{Stage, Stages, Value};
use super::{Resolver, finish, functions, hidden, inputs, structure};
use crate::diag::codes::onnx as codes;
use crate::diag::{Diagnostic, Origin};
use crate::model::Model;

/// Versions of the operator sets that are read.
const OPSETS: std::ops::RangeInclusive<i64> = 8..=25;
const ML_OPSETS: std::ops::RangeInclusive<i64> = 1..=5;

/// The model, or reasons in the report.
pub(crate) fn model(
    report: &mut Report,
    proto: &ModelProto,
    resolver: &dyn Resolver,
    hash: [u8; 32],
) -> Option<Model> {
    let nodes = proto.graph.as_ref()?.node.len();
    if nodes > MAX_NODES {
        report.at_file(
            &codes::TOO_LARGE,
            format!("the graph has {nodes} nodes, at most {MAX_NODES} are read"),
            "export a plain multi-layer perceptron; a layer is one or two nodes",
        );
        return None;
    }
    let outputs = proto.graph.as_ref()?.output.len();
    if outputs > MAX_OUTPUTS {
        report.at_file(
            &codes::TOO_LARGE,
            format!("the graph has {outputs} outputs, at most {MAX_OUTPUTS} are read"),
            "export a model with its scores or its label as output",
        );
        return None;
    }
    let opsets = opsets(report, proto);
    let graph = functions::inlined(report, proto)?;
    let graph = graph.as_ref();
    let sound = structure::check(report, graph);
    let mut stages = Stages::default();
    let stage = stages.push(Stage::Inputs);
    let inputs = inputs::read(report, graph, stage);
    if !sound {
        known_operators(report, graph);
        return None;
    }
    let mut walk = Walk {
        file: report.file().to_owned(),
        report,
        opsets,
        stages,
        files: ExternalFiles::new(resolver),
        weights: graph.initializer.iter().map(|tensor| (tensor.name(), tensor)).collect(),
        values: inputs.values.into_iter().map(|(name, value)| (name, Rc::new(value))).collect(),
        hidden: BTreeMap::new(),
        held: 0,
        fixed_rows: inputs.fixed_rows,
        stand_ins: BTreeSet::new(),
    };
    let needed = needed(graph);
    for (index, node) in graph.node.iter().enumerate().filter(|(index, _)| needed.contains(index)) {
        walk.visit(index, node);
        if walk.held.saturating_add(walk.stages.held()) > MAX_NUMBERS {
            walk.report.at_node(
                &codes::TOO_LARGE,
                &structure::reference(index, node),
                format!("up to here the values of the graph hold more than {MAX_NUMBERS} numbers"),
                "use a smaller network",
            );
            return None;
        }
    }
    let mut outputs = Vec::new();
    let mut makers: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, node) in graph.node.iter().enumerate() {
        for output in &node.output {
            makers.entry(output).or_insert(index);
        }
    }
    for output in graph.output.iter().map(|output| output.name()) {
        let node = makers.get(output).and_then(|&index| Some((index, graph.node.get(index)?)));
        let origin = node.map(|(index, node)| structure::reference(index, node));
        outputs.extend(walk.result(output).map(|value| (output, value, origin)));
    }
    let mut stages = walk.stages;
    // An output in integers is shown as the numbers that they stand for.
    for (_, value, _) in &mut outputs {
        if let Value::Quantised(quantised) = value.as_ref() {
            let real = Value::Row(quantised.real(&mut stages));
            *value = Rc::new(real);
        }
    }
    let outputs = ops::cases::outputs(&mut stages, outputs);
    finish::model(report, &stages, inputs.columns, &outputs, hash)
}

/// Versions by domain; wrong ones are reported.
fn opsets(report: &mut Report, proto: &ModelProto) -> BTreeMap<String, i64> {
    let mut versions = BTreeMap::new();
    let called = proto.functions.iter().flat_map(|function| &function.opset_import);
    for import in proto.opset_import.iter().chain(called) {
        let domain = canonical_domain(import.domain());
        let range = match domain {
            "" => Some(OPSETS),
            ops::ML => Some(ML_OPSETS),
            // Other domains may be imported without being used.
            _ => None,
        };
        if let Some(range) = range.filter(|range| !range.contains(&import.version())) {
            let shown = if domain.is_empty() { "ai.onnx" } else { domain };
            report.at_file(
                &codes::OPSET,
                format!("the model uses version {} of operator set `{shown}`", import.version()),
                format!("export with a version from {} to {}, for example 17", range.start(), range.end()),
            );
        }
        let version = *versions.entry(domain.to_owned()).or_insert_with(|| import.version());
        if version != import.version() && matches!(domain, "" | ops::ML) {
            report.at_file(
                &codes::OPSET,
                format!(
                    "a local function uses version {} of an operator set, the model version {version}",
                    import.version()
                ),
                "export without `export_modules_as_functions`",
            );
        }
    }
    if proto.opset_import.is_empty() {
        report.at_file(
            &codes::OPSET,
            "the model does not say which operator set it uses",
            "export the model again; the file is damaged or was edited",
        );
    }
    versions
}

/// For a graph that cannot be evaluated: at least every operator that is not imported.
fn known_operators(report: &mut Report, graph: &GraphProto) {
    for (index, node) in graph.node.iter().enumerate() {
        let domain = canonical_domain(node.domain());
        if ops::find(domain, node.op_type()).is_none() {
            let (code, message, help) = ops::refused::reason(domain, node.op_type());
            report.at_node(code, &structure::reference(index, node), message, help);
        }
    }
}

/// The nodes that some output depends on.
fn needed(graph: &GraphProto) -> BTreeSet<usize> {
    let mut wanted: BTreeSet<&str> = graph.output.iter().map(|output| output.name()).collect();
    let mut needed = BTreeSet::new();
    for (index, node) in graph.node.iter().enumerate().rev() {
        if node.output.iter().any(|output| wanted.contains(output.as_str())) {
            needed.insert(index);
            wanted.extend(node.input.iter().map(String::as_str));
        }
    }
    needed
}

struct Walk<'a> {
    file: String,
    report: &'a mut Report,
    opsets: BTreeMap<String, i64>,
    stages: Stages,
    files: ExternalFiles<'a>,
    weights: BTreeMap<&'a str, &'a TensorProto>,
    values: BTreeMap<String, Rc<Value>>,
    /// Probabilities and labels that layers read.
    hidden: BTreeMap<String, Rc<Value>>,
    /// Numbers that all values hold.
    held: usize,
    fixed_rows: Option<usize>,
    /// Values behind refused nodes: they have the shape of what would stand there, and nothing else of it.
    stand_ins: BTreeSet<String>,
}

impl<'a> Walk<'a> {
    fn visit(&mut self, index: usize, proto: &'a NodeProto) {
        let behind = proto.input.iter().any(|input| self.stand_ins.contains(input));
        let result = self.evaluate(index, proto);
        let known = result.is_ok();
        let values = result.unwrap_or_else(|refusal| {
            // Stand-ins are good for shapes only: what an imported operator says about them is not meant.
            let imported = ops::find(canonical_domain(proto.domain()), proto.op_type()).is_some();
            self.report.extend(refusal.filter(|_| !(behind && imported)).map(|refusal| *refusal));
            self.shaped_like_input(proto)
        });
        let mut values = values.into_iter();
        for output in proto.output.iter().filter(|output| !output.is_empty()) {
            let value = values.next().unwrap_or(Value::Refused);
            if (behind || !known) && value != Value::Refused {
                self.stand_ins.insert(output.clone());
            }
            self.held = self.held.saturating_add(value.numbers_held());
            self.values.insert(output.clone(), Rc::new(value));
        }
    }

    /// What stands in for the output of a refused node of which only the shape is known.
    fn shaped_like_input(&self, proto: &NodeProto) -> Vec<Value> {
        let mut inputs = proto.input.iter().map(|name| self.values.get(name).map(Rc::as_ref));
        let first = match inputs.next().flatten() {
            Some(value @ (Value::Row(_) | Value::Constant(_))) => value.clone(),
            Some(Value::Quantised(quantised)) => Value::Row(quantised.row.clone()),
            Some(Value::Extent { .. } | Value::Tail(_) | Value::Cases(_) | Value::Refused) | None => {
                return Vec::new();
            }
        };
        let joins = matches!(proto.op_type(), "Add" | "Sub" | "Mul" | "Div")
            && inputs.all(|other| shape(Some(&first)).is_some() && shape(other) == shape(Some(&first)));
        if joins || ops::refused::keeps_shape(proto.op_type()) { vec![first] } else { Vec::new() }
    }

    /// An output of the graph; what only stands in for one is none.
    fn result(&mut self, name: &str) -> Option<Rc<Value>> {
        if self.stand_ins.contains(name) { Some(Rc::new(Value::Refused)) } else { self.value(name, None) }
    }

    /// The outputs of a node; no refusal when a refused node before is the reason.
    fn evaluate(&mut self, index: usize, proto: &'a NodeProto) -> Result<Vec<Value>, Option<Refusal>> {
        let reference = structure::reference(index, proto);
        let domain = canonical_domain(proto.domain());
        let mut inputs: Vec<Option<Rc<Value>>> =
            proto.input.iter().map(|name| self.value(name, Some((index, proto)))).collect();
        let tensor = match tensor_attribute(proto).filter(|_| proto.op_type() == "Constant") {
            None => None,
            Some(stored) => Some(self.tensor(stored, Some((index, proto))).ok_or(None)?),
        };
        let opset = self.opsets.get(domain).copied();
        let rounding = quantised::unwrapped(&mut self.stages, proto.op_type(), &mut inputs);
        let node = Node {
            proto,
            reference,
            file: &self.file,
            opset: opset.unwrap_or(*OPSETS.end()),
            inputs,
            tensor,
            fixed_rows: self.fixed_rows,
        };
        let Some(operator) = ops::find(domain, proto.op_type()) else {
            let (code, message, help) = ops::refused::reason(domain, proto.op_type());
            return Err(Some(node.refuse(code, message, help)));
        };
        if node.inputs.iter().flatten().any(|value| **value == Value::Refused) {
            return Err(None);
        }
        let values = operated(&mut self.stages, &mut self.hidden, operator, node)?;
        Ok(match rounding {
            None => values,
            Some(rounding) => values.into_iter().map(|value| quantised::wrapped(value, &rounding)).collect(),
        })
    }

    /// The value of a name; `None` for the empty name of an input that is left out.
    fn value(&mut self, name: &str, reader: Option<(usize, &NodeProto)>) -> Option<Rc<Value>> {
        if name.is_empty() {
            return None;
        }
        if let Some(value) = self.values.get(name) {
            return Some(Rc::clone(value));
        }
        let stored = *self.weights.get(name)?;
        let value = Rc::new(self.tensor(stored, reader).map_or(Value::Refused, Value::Constant));
        self.values.insert(name.to_owned(), Rc::clone(&value));
        Some(value)
    }

    fn tensor(&mut self, stored: &TensorProto, reader: Option<(usize, &NodeProto)>) -> Option<Tensor> {
        let decoded = self.files.bytes(stored).and_then(|bytes| tensor::decode(stored, bytes.as_deref()));
        match decoded {
            Ok(tensor) => Some(tensor),
            Err(Defect { code, message, help }) => {
                match reader {
                    Some((index, node)) => {
                        self.report.at_node(code, &structure::reference(index, node), message, help);
                    }
                    None => self.report.push(Diagnostic::new(
                        code,
                        Origin::File { file: self.file.clone() },
                        message,
                        help,
                    )),
                }
                None
            }
        }
    }
}

/// What an operator returns, where need be with probabilities and labels as the numbers that they are.
fn operated(
    stages: &mut Stages,
    hidden: &mut BTreeMap<String, Rc<Value>>,
    operator: Operator,
    node: Node<'_>,
) -> Result<Vec<Value>, Option<Refusal>> {
    // What trees give is computed leaf by leaf where an operator has no meaning for their sums.
    if node.inputs.iter().flatten().any(|value| ops::cases::concerns(stages, value)) {
        return ops::cases::evaluate(stages, &node, operator).map_err(Some);
    }
    let refusal = match operator(stages, &node) {
        Ok(values) => return Ok(values),
        Err(refusal) => refusal,
    };
    // What has no meaning for a probability or a label may have one for the number that it is.
    let tails = node.inputs.clone();
    let mut read = node.inputs.clone();
    for (value, name) in read.iter_mut().zip(&node.proto.input) {
        let Some(Value::Tail(tail)) = value.as_deref() else { continue };
        let known = hidden.get(name).map(Rc::clone);
        let number = known.or_else(|| hidden::value(stages, tail, &node.reference).map(Rc::new));
        if let Some(number) = number {
            hidden.insert(name.clone(), Rc::clone(&number));
            *value = Some(number);
        }
    }
    if read != node.inputs {
        let numbers = Node { inputs: read, ..node };
        match operator(stages, &numbers) {
            Ok(values) => return Ok(values),
            Err(other) => {
                // A label may have a table, with an entry for each class.
                let labels = Node { inputs: tails, ..numbers };
                return ops::cases::evaluate(stages, &labels, operator).map_err(|_| Some(other));
            }
        }
    }
    ops::cases::evaluate(stages, &node, operator).map_err(|_| Some(refusal))
}

/// The shape of a value that depends on the input.
fn shape(value: Option<&Value>) -> Option<&Shape> {
    match value? {
        Value::Row(row) => Some(&row.shape),
        Value::Quantised(quantised) => Some(&quantised.row.shape),
        Value::Tail(tail) => Some(&tail.shape),
        Value::Cases(cases) => Some(&cases.shape),
        Value::Constant(_) | Value::Extent { .. } | Value::Refused => None,
    }
}
