//! Whether the graph is well formed: names, order, cycles. Says nothing about what operators mean.

use std::collections::{BTreeMap, BTreeSet};

use super::ops::canonical_domain;
use super::report::Report;
use super::schema::{GraphProto, NodeProto};
use crate::diag::NodeRef;
use crate::diag::codes::onnx as codes;

/// How users see a node.
pub(crate) fn reference(index: usize, node: &NodeProto) -> NodeRef {
    let domain = canonical_domain(node.domain());
    let operator =
        if domain.is_empty() { node.op_type().to_owned() } else { format!("{domain}.{}", node.op_type()) };
    let name = match node.name() {
        "" => node.output.first().cloned().unwrap_or_default(),
        name => name.to_owned(),
    };
    NodeRef { index, name, operator }
}

/// Reports what is wrong; whether evaluation in file order makes sense.
pub(crate) fn check(report: &mut Report, graph: &GraphProto) -> bool {
    let mut known: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    // Weights may be listed as inputs too, once each.
    let mut sound = no_duplicates(report, graph);
    known.extend(graph.input.iter().map(|input| input.name()));
    let producers: BTreeMap<&str, usize> = graph
        .node
        .iter()
        .enumerate()
        .flat_map(|(index, node)| node.output.iter().map(move |output| (output.as_str(), index)))
        .collect();
    let mut unsorted = Vec::new();
    for (index, node) in graph.node.iter().enumerate() {
        for input in node.input.iter().map(String::as_str).filter(|input| !input.is_empty()) {
            if known.contains(input) {
                continue;
            }
            sound = false;
            if producers.contains_key(input) {
                unsorted.push((index, input));
            } else {
                report.at_node(
                    &codes::DANGLING,
                    &reference(index, node),
                    format!("input `{input}` is not produced by any node, weight or input"),
                    "export the whole model again; a part of the graph is missing",
                );
            }
        }
        known.extend(node.output.iter().map(String::as_str));
    }
    for output in graph.output.iter().map(|output| output.name()).filter(|name| !known.contains(name)) {
        sound = false;
        report.at_file(
            &codes::DANGLING,
            format!("the model's output `{output}` is not produced by any node"),
            "export the whole model again; a part of the graph is missing",
        );
    }
    order(report, graph, &producers, &unsorted);
    sound
}

fn no_duplicates(report: &mut Report, graph: &GraphProto) -> bool {
    let mut seen: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let mut sound = seen.len() == graph.initializer.len();
    if !sound {
        report.at_file(&codes::DUPLICATE_NAME, "two weights have the same name", "export the model again");
    }
    let mut inputs = BTreeSet::new();
    for input in graph.input.iter().map(|input| input.name()) {
        if !inputs.insert(input) {
            sound = false;
            report.at_file(
                &codes::DUPLICATE_NAME,
                format!("two inputs are called `{input}`"),
                "export the model again with distinct input names",
            );
        }
    }
    seen.extend(inputs);
    for (index, node) in graph.node.iter().enumerate() {
        for output in node.output.iter().map(String::as_str).filter(|output| !output.is_empty()) {
            if !seen.insert(output) {
                sound = false;
                report.at_node(
                    &codes::DUPLICATE_NAME,
                    &reference(index, node),
                    format!("its output `{output}` has the name of an earlier value"),
                    "export the model again, or rename one of the two",
                );
            }
        }
    }
    sound
}

/// Tells a cycle from a mere disorder.
fn order(
    report: &mut Report,
    graph: &GraphProto,
    producers: &BTreeMap<&str, usize>,
    unsorted: &[(usize, &str)],
) {
    if unsorted.is_empty() {
        return;
    }
    let edges: Vec<Vec<usize>> = graph
        .node
        .iter()
        .map(|node| node.input.iter().filter_map(|input| producers.get(input.as_str()).copied()).collect())
        .collect();
    let cycle = on_cycles(&edges);
    let mut named: Vec<NodeRef> = Vec::new();
    for (index, node) in graph.node.iter().enumerate() {
        if cycle.contains(&index) {
            named.push(reference(index, node));
        }
    }
    if let Some(first) = named.first() {
        let names: Vec<&str> = named.iter().take(5).map(|node| node.name.as_str()).collect();
        report.at_node(
            &codes::CYCLE,
            first,
            format!("{} nodes depend on their own results: {}", named.len(), names.join(", ")),
            "export a feed-forward model; recurrence is not supported",
        );
    }
    let late = unsorted.iter().filter(|(index, _)| !cycle.contains(index));
    for &(index, input) in late {
        if let Some(node) = graph.node.get(index) {
            report.at_node(
                &codes::UNSORTED,
                &reference(index, node),
                format!("it reads `{input}`, which a later node produces"),
                "sort the graph, for example with `onnxsim model.onnx sorted.onnx`",
            );
        }
    }
}

/// The nodes that lie on a cycle or between two: peel off, again and again, what has no inputs or no users.
fn on_cycles(inputs: &[Vec<usize>]) -> BTreeSet<usize> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); inputs.len()];
    for (index, sources) in inputs.iter().enumerate() {
        for &source in sources {
            if let Some(list) = users.get_mut(source) {
                list.push(index);
            }
        }
    }
    let mut left: BTreeSet<usize> = (0..inputs.len()).collect();
    for (needs, feeds) in [(inputs, users.as_slice()), (users.as_slice(), inputs)] {
        let mut open: Vec<usize> = needs
            .iter()
            .enumerate()
            .map(
                |(index, list)| {
                    if left.contains(&index) { list.iter().filter(|n| left.contains(n)).count() } else { 0 }
                },
            )
            .collect();
        let mut free: Vec<usize> =
            left.iter().copied().filter(|&index| open.get(index) == Some(&0)).collect();
        while let Some(index) = free.pop() {
            left.remove(&index);
            for &next in feeds.get(index).map(Vec::as_slice).unwrap_or_default() {
                if let Some(count) = open.get_mut(next).filter(|count| **count > 0) {
                    *count -= 1;
                    if *count == 0 && left.contains(&next) {
                        free.push(next);
                    }
                }
            }
        }
    }
    left
}
