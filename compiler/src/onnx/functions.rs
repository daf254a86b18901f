//! Local functions of a model: every call is replaced by the nodes of the function.
//!
//! Inner values are called after the node that calls, so that diagnostics name both.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::limits::{MAX_CALLS, MAX_NODES};
use super::ops::canonical_domain;
use super::report::Report;
use super::schema::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto};
use super::structure;
use crate::diag::codes::onnx as codes;

/// The functions of a model by domain and name.
type Functions<'a> = BTreeMap<(&'a str, &'a str), &'a FunctionProto>;

/// The graph without calls of local functions; `None` when it would grow beyond the limit.
pub(crate) fn inlined<'a>(report: &mut Report, proto: &'a ModelProto) -> Option<Cow<'a, GraphProto>> {
    let graph = proto.graph.as_ref()?;
    let mut functions = Functions::new();
    for function in &proto.functions {
        functions.insert((canonical_domain(function.domain()), function.name()), function);
    }
    let called =
        |node: &NodeProto| functions.contains_key(&(canonical_domain(node.domain()), node.op_type()));
    if !graph.node.iter().any(called) {
        return Some(Cow::Borrowed(graph));
    }
    let mut writer = Writer { functions, nodes: Vec::new() };
    for (index, node) in graph.node.iter().enumerate() {
        if let Err(reason) = writer.node(node.clone(), 0) {
            let (code, message, help) = match reason {
                Failure::Size => (
                    &codes::TOO_LARGE,
                    format!("its local functions stand for more than {MAX_NODES} nodes"),
                    "export without `export_modules_as_functions`",
                ),
                Failure::Depth => (
                    &codes::CYCLE,
                    format!("its local functions call each other more than {MAX_CALLS} deep"),
                    "export without `export_modules_as_functions`; recursion is not supported",
                ),
            };
            report.at_node(code, &structure::reference(index, node), message, help);
            return None;
        }
    }
    let Writer { nodes, .. } = writer;
    // The rest of the graph is copied once; weights of functions are constants of their nodes.
    Some(Cow::Owned(GraphProto { node: nodes, ..graph.clone() }))
}

/// Why a graph cannot be written without calls.
enum Failure {
    Size,
    Depth,
}

struct Writer<'a> {
    functions: Functions<'a>,
    nodes: Vec<NodeProto>,
}

impl Writer<'_> {
    /// Writes a node, or what it calls.
    fn node(&mut self, node: NodeProto, depth: usize) -> Result<(), Failure> {
        let key = (canonical_domain(node.domain()), node.op_type());
        let Some(&function) = self.functions.get(&key) else {
            if self.nodes.len() >= MAX_NODES {
                return Err(Failure::Size);
            }
            self.nodes.push(node);
            return Ok(());
        };
        if depth == MAX_CALLS {
            return Err(Failure::Depth);
        }
        let prefix = match node.name() {
            "" => node.output.first().cloned().unwrap_or_default(),
            name => name.to_owned(),
        };
        // Formal names to actual ones; inputs that the caller leaves out are left out inside.
        let mut names: BTreeMap<&str, String> = BTreeMap::new();
        for (index, formal) in function.input.iter().enumerate() {
            names.insert(formal, node.input.get(index).cloned().unwrap_or_default());
        }
        for (index, formal) in function.output.iter().enumerate() {
            if let Some(actual) = node.output.get(index).filter(|actual| !actual.is_empty()) {
                names.insert(formal, actual.clone());
            }
        }
        let renamed = |name: &String| match names.get(name.as_str()) {
            Some(actual) => actual.clone(),
            None if name.is_empty() => String::new(),
            None => format!("{prefix}/{name}"),
        };
        for inner in &function.node {
            let copy = NodeProto {
                input: inner.input.iter().map(renamed).collect(),
                output: inner.output.iter().map(renamed).collect(),
                name: Some(format!("{prefix}/{}", inner.name())),
                attribute: attributes(inner, &node, function),
                ..inner.clone()
            };
            self.node(copy, depth + 1)?;
        }
        Ok(())
    }
}

/// The attributes of an inner node, those that refer to the caller's replaced by them or by their defaults.
fn attributes(inner: &NodeProto, caller: &NodeProto, function: &FunctionProto) -> Vec<AttributeProto> {
    let resolved = |attribute: &AttributeProto| {
        if attribute.ref_attr_name().is_empty() {
            return Some(attribute.clone());
        }
        let mut given = caller.attribute.iter().chain(&function.attribute_proto);
        let actual = given.find(|given| given.name() == attribute.ref_attr_name())?;
        Some(AttributeProto { name: attribute.name.clone(), ..actual.clone() })
    };
    inner.attribute.iter().filter_map(resolved).collect()
}
