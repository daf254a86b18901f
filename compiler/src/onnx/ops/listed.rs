//! Nodes of trees as files list them, and the trees that they make.
//!
//! A test for one number, or for one of several, is made of comparisons: `x == t` is `x <= t` and not `x <= u` for the
//! next number `u` below `t`. Of several numbers the comparisons are searched like a sorted list. What follows such a
//! test is shared by the comparisons, not copied.

use std::collections::VecDeque;

use crate::diag::codes::onnx as codes;
use crate::model::forest::{Node as TreeNode, Tree};
use crate::onnx::limits::MAX_TREE_NODES;
use crate::onnx::node::Node;
use crate::onnx::report::Refusal;

/// A node of a tree; others are named by their position in the list.
#[derive(Debug, Clone)]
pub(super) struct Listed {
    /// For messages: the tree, where the file numbers trees, and the number of the node.
    pub(super) tree: Option<i64>,
    pub(super) id: i64,
    pub(super) kind: Kind,
}

#[derive(Debug, Clone)]
pub(super) enum Kind {
    /// What is added to which outputs.
    Leaf(Vec<(usize, f64)>),
    Branch {
        test: Test,
        feature: i64,
        holds: usize,
        fails: usize,
    },
}

/// What a branch asks of its feature.
#[derive(Debug, Clone)]
pub(super) enum Test {
    AtMost(f64),
    Below(f64),
    AtLeast(f64),
    Above(f64),
    Equal(f64),
    Unequal(f64),
    Member(Vec<f64>),
}

impl Test {
    /// The comparison of that name in the format, but for sets.
    pub(super) fn named(mode: &str, value: f64) -> Option<Self> {
        Some(match mode {
            "BRANCH_LEQ" => Self::AtMost(value),
            "BRANCH_LT" => Self::Below(value),
            "BRANCH_GTE" => Self::AtLeast(value),
            "BRANCH_GT" => Self::Above(value),
            "BRANCH_EQ" => Self::Equal(value),
            "BRANCH_NEQ" => Self::Unequal(value),
            _ => return None,
        })
    }

    fn values(&self) -> &[f64] {
        match self {
            Self::AtMost(value)
            | Self::Below(value)
            | Self::AtLeast(value)
            | Self::Above(value)
            | Self::Equal(value)
            | Self::Unequal(value) => std::slice::from_ref(value),
            Self::Member(values) => values,
        }
    }

    /// The thresholds of the comparisons `x <= threshold`, ascending, and whether the test holds below the first;
    /// each threshold changes that.
    fn cuts(&self) -> (Vec<f64>, bool) {
        let both = |value: &f64| [value.next_down(), *value];
        match self {
            Self::AtMost(value) => (vec![*value], true),
            Self::Below(value) => (vec![value.next_down()], true),
            Self::AtLeast(value) => (vec![value.next_down()], false),
            Self::Above(value) => (vec![*value], false),
            Self::Equal(value) => (both(value).to_vec(), false),
            Self::Unequal(value) => (both(value).to_vec(), true),
            Self::Member(values) => {
                let mut values = values.clone();
                values.sort_unstable_by(f64::total_cmp);
                values.dedup();
                (values.iter().flat_map(both).collect(), false)
            }
        }
    }
}

pub(super) fn malformed(node: &Node<'_>, message: impl Into<String>) -> Refusal {
    node.refuse(&codes::TREES, message, "export the model again: the file is damaged or was edited")
}

pub(super) fn too_many(node: &Node<'_>, count: usize) -> Refusal {
    node.refuse(
        &codes::TOO_LARGE,
        format!("the trees have {count} nodes, at most {MAX_TREE_NODES} are read"),
        "train fewer or shallower trees",
    )
}

/// The trees with these roots over so many features. Every node that is listed belongs to one of them.
pub(super) fn trees(
    node: &Node<'_>,
    listed: &[Listed],
    roots: &[usize],
    features: usize,
) -> Result<Vec<Tree>, Refusal> {
    let mut seen = vec![false; listed.len()];
    let mut room = MAX_TREE_NODES;
    let trees: Vec<Tree> = roots
        .iter()
        .map(|&root| tree(node, listed, root, features, &mut seen, &mut room))
        .collect::<Result<_, _>>()?;
    match listed.iter().zip(seen).find(|(_, seen)| !seen) {
        None => Ok(trees),
        Some((lost, _)) => Err(malformed(node, format!("{} has no parent", lost.name()))),
    }
}

impl Listed {
    fn name(&self) -> String {
        match self.tree {
            Some(tree) => format!("node {} of tree {tree}", self.id),
            None => format!("node {}", self.id),
        }
    }
}

fn tree(
    node: &Node<'_>,
    listed: &[Listed],
    root: usize,
    features: usize,
    seen: &mut [bool],
    room: &mut usize,
) -> Result<Tree, Refusal> {
    // The nodes from the root on, with the places of their children in this order.
    let mut order = vec![root];
    let mut children = Vec::new();
    while let Some(&at) = order.get(children.len()) {
        let Some(own) = listed.get(at) else {
            return Err(malformed(node, format!("a tree has no node {at}")));
        };
        match seen.get_mut(at) {
            Some(seen) if !*seen => *seen = true,
            _ => {
                let message = format!("{} has two parents, or leads back to itself", own.name());
                return Err(malformed(node, message));
            }
        }
        match &own.kind {
            Kind::Leaf(_) => children.push((0, 0)),
            Kind::Branch { holds, fails, .. } => {
                children.push((order.len(), order.len() + 1));
                order.extend([*holds, *fails]);
            }
        }
    }
    // A leaf is one node, a test has one for each threshold.
    let mut starts = Vec::with_capacity(order.len());
    let mut total = 0usize;
    let mut tests = Vec::with_capacity(order.len());
    for own in order.iter().filter_map(|&at| listed.get(at)) {
        starts.push(total);
        let cuts = match &own.kind {
            Kind::Leaf(_) => None,
            Kind::Branch { test, .. } => Some(sound(node, own, test)?.cuts()),
        };
        total = total.saturating_add(cuts.as_ref().map_or(1, |(cuts, _)| cuts.len()));
        tests.push(cuts);
    }
    *room = room.checked_sub(total).ok_or_else(|| too_many(node, MAX_TREE_NODES + 1))?;
    let start = |place: usize| starts.get(place).copied().unwrap_or(total);
    let mut nodes = Vec::with_capacity(total);
    let parts = order.iter().filter_map(|&at| listed.get(at)).zip(tests).zip(children);
    for ((own, test), (holds, fails)) in parts {
        match (&own.kind, test) {
            (Kind::Leaf(weights), _) => nodes.push(TreeNode::Leaf { weights: weights.clone() }),
            (Kind::Branch { feature, .. }, cuts) => {
                let column =
                    usize::try_from(*feature).ok().filter(|&column| column < features).ok_or_else(|| {
                        malformed(node, format!("a node compares feature {feature} of {features}"))
                    })?;
                let (cuts, below) = cuts.unwrap_or_default();
                search(&mut nodes, column, &cuts, below, (start(holds), start(fails)));
            }
        }
    }
    Ok(Tree { nodes })
}

/// A test over numbers only.
fn sound<'a>(node: &Node<'_>, own: &Listed, test: &'a Test) -> Result<&'a Test, Refusal> {
    if test.values().iter().any(|value| value.is_nan()) {
        return Err(malformed(node, format!("the threshold of {} is not a number", own.name())));
    }
    if test.values().is_empty() {
        return Err(malformed(node, format!("{} asks for a member of an empty set", own.name())));
    }
    Ok(test)
}

/// Comparisons that find the place of a value among ascending thresholds, in the order of their depth.
fn search(
    nodes: &mut Vec<TreeNode>,
    column: usize,
    cuts: &[f64],
    below: bool,
    (holds, fails): (usize, usize),
) {
    let mut next = nodes.len() + 1;
    let mut open = VecDeque::from([(0, cuts.len())]);
    while let Some((low, high)) = open.pop_front() {
        let middle = usize::midpoint(low, high);
        let Some(&threshold) = cuts.get(middle) else { continue };
        // Between the thresholds `from` and `to` the test has one answer, if there are none between.
        let mut side = |from: usize, to: usize| {
            if from == to {
                return if below ^ (from % 2 == 1) { holds } else { fails };
            }
            open.push_back((from, to));
            next += 1;
            next - 1
        };
        let first = side(low, middle);
        let second = side(middle + 1, high);
        nodes.push(TreeNode::Branch { column, threshold, low: first, high: second });
    }
}
