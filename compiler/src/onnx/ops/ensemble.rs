//! The attributes of tree operators: lists of nodes and of leaf weights, in both forms that the format has.

use std::collections::BTreeMap;

use super::listed::{Kind, Listed, Test, malformed, too_many, trees};
use crate::diag::codes::onnx as codes;
use crate::model::forest::{Node as TreeNode, Precision, Tree};
use crate::onnx::forests;
use crate::onnx::limits::{MAX_MAGNITUDE, MAX_TREE_NODES};
use crate::onnx::node::Node;
use crate::onnx::report::Refusal;
use crate::onnx::schema::data_type;
use crate::onnx::tensor::{Data, Tensor};

/// The attributes that hold weights.
pub(super) struct Weights {
    trees: &'static str,
    nodes: &'static str,
    ids: &'static str,
    weights: &'static str,
}

pub(super) const CLASSES: Weights =
    Weights { trees: "class_treeids", nodes: "class_nodeids", ids: "class_ids", weights: "class_weights" };
pub(super) const TARGETS: Weights = Weights {
    trees: "target_treeids",
    nodes: "target_nodeids",
    ids: "target_ids",
    weights: "target_weights",
};

/// Names of the numbers of `nodes_modes` where they are numbers.
const MODES: [&str; 7] =
    ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER"];

/// The trees of a node.
pub(super) struct Ensemble {
    pub(super) trees: Vec<Tree>,
    pub(super) precision: Precision,
}

/// A list of numbers: floats, or a tensor of doubles.
pub(super) fn numbers(node: &Node<'_>, name: &str) -> Result<(Vec<f64>, Precision), Refusal> {
    let floats = node.floats(name).unwrap_or_default();
    let doubles = format!("{name}_as_tensor");
    match node.tensor_attribute(&doubles)? {
        None => Ok((floats, Precision::Single)),
        Some(_) if !floats.is_empty() => {
            Err(malformed(node, format!("both `{name}` and `{doubles}` are given")))
        }
        Some(Tensor { data: Data::Float(values), .. }) => Ok((values, Precision::Double)),
        Some(_) => Err(malformed(node, format!("`{doubles}` holds no floating point numbers"))),
    }
}

pub(super) fn finite(node: &Node<'_>, values: &[f64], what: &str) -> Result<(), Refusal> {
    match values.iter().find(|value| !value.is_finite() || value.abs() > MAX_MAGNITUDE) {
        None => Ok(()),
        Some(value) => Err(node.refuse(
            &codes::NOT_FINITE,
            format!("{what} of the trees is {value:e}"),
            "train again, on data without missing or infinite values",
        )),
    }
}

impl Ensemble {
    /// The form of versions 1 to 4: nodes by number of tree and node.
    pub(super) fn read(node: &Node<'_>, names: &Weights, outputs: usize) -> Result<Self, Refusal> {
        let lists = Lists::read(node)?;
        let mut places = BTreeMap::new();
        // The trees in the order of their first nodes, which are their roots.
        let mut roots: Vec<(i64, usize)> = Vec::new();
        for (at, key) in lists.trees.iter().copied().zip(lists.nodes.iter().copied()).enumerate() {
            if places.insert(key, at).is_some() {
                return Err(malformed(node, format!("tree {} has two nodes {}", key.0, key.1)));
            }
            if roots.last().is_none_or(|(tree, _)| *tree != key.0) {
                roots.push((key.0, at));
            }
        }
        let mut ids: Vec<i64> = roots.iter().map(|(tree, _)| *tree).collect();
        ids.sort_unstable();
        if let Some(pair) = ids.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(malformed(
                node,
                format!("the nodes of tree {} do not stand together", pair.first().unwrap_or(&0)),
            ));
        }
        let mut weights = leaf_weights(node, names, outputs, &places)?;
        let listed: Vec<Listed> = (0..lists.trees.len())
            .map(|at| lists.listed(node, at, &places, weights.remove(&at)))
            .collect::<Result<_, _>>()?;
        let roots: Vec<usize> = roots.into_iter().map(|(_, at)| at).collect();
        let trees = trees(node, &listed, &roots, node.row(0)?.affine.width())?;
        Ok(Self { trees, precision: lists.precision })
    }

    /// The form of version 5: nodes and leaves by their positions.
    pub(super) fn read_positions(node: &Node<'_>, outputs: usize) -> Result<Self, Refusal> {
        let lists = Positions::read(node)?;
        let leaves = lists.leaves(node, outputs)?;
        let count = lists.modes.len();
        let mut listed: Vec<Listed> = Vec::with_capacity(count);
        let mut ends: Vec<Listed> = Vec::new();
        let mut sets = lists.sets(node)?.into_iter();
        for at in 0..count {
            let mut child = |leaf: &[i64], ids: &[i64]| -> Result<usize, Refusal> {
                let id = integer(ids, at);
                let place = usize::try_from(id).ok();
                if integer(leaf, at) == 0 {
                    let place = place.filter(|&place| place < count);
                    return place.ok_or_else(|| {
                        malformed(node, format!("there is no node {id}, which is a child of another"))
                    });
                }
                let leaf = place.and_then(|place| leaves.get(place));
                let leaf = leaf.ok_or_else(|| malformed(node, format!("there is no leaf {id}")))?;
                ends.push(Listed { tree: None, id, kind: Kind::Leaf(vec![*leaf]) });
                Ok(count + ends.len() - 1)
            };
            let holds = child(lists.true_leaves, lists.low)?;
            let fails = child(lists.false_leaves, lists.high)?;
            let mode = usize::try_from(integer(&lists.modes, at)).ok().and_then(|mode| MODES.get(mode));
            let value = lists.splits.get(at).copied().unwrap_or(f64::NAN);
            let test = match mode {
                Some(&"BRANCH_MEMBER") => {
                    let set = sets.next();
                    let none = || malformed(node, format!("`membership_values` has no set for node {at}"));
                    Some(Test::Member(set.ok_or_else(none)?))
                }
                Some(mode) => Test::named(mode, value),
                None => None,
            };
            let test = test.ok_or_else(|| {
                malformed(node, format!("node {at} has the mode {}", integer(&lists.modes, at)))
            })?;
            let kind = Kind::Branch { test, feature: integer(lists.features, at), holds, fails };
            listed.push(Listed { tree: None, id: i64::try_from(at).unwrap_or(i64::MAX), kind });
        }
        if sets.next().is_some() {
            return Err(malformed(node, "`membership_values` has more sets than nodes that ask for members"));
        }
        listed.append(&mut ends);
        let roots: Option<Vec<usize>> =
            lists.roots.iter().map(|&root| usize::try_from(root).ok().filter(|&root| root < count)).collect();
        let roots = roots
            .filter(|roots| !roots.is_empty())
            .ok_or_else(|| malformed(node, format!("`tree_roots` are {:?} of {count} nodes", lists.roots)))?;
        let trees = trees(node, &listed, &roots, node.row(0)?.affine.width())?;
        Ok(Self { trees, precision: lists.precision })
    }

    fn leaves(&self) -> impl Iterator<Item = &Vec<(usize, f64)>> {
        self.trees.iter().flat_map(|tree| &tree.nodes).filter_map(|node| match node {
            TreeNode::Leaf { weights } => Some(weights),
            TreeNode::Branch { .. } => None,
        })
    }

    pub(super) fn weights(&self) -> impl Iterator<Item = f64> {
        self.leaves().flatten().map(|(_, weight)| *weight)
    }

    /// The outputs that any leaf names.
    pub(super) fn ids(&self) -> Vec<usize> {
        let mut ids: Vec<usize> = self.leaves().flatten().map(|(output, _)| *output).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn each_leaf(&mut self, mut change: impl FnMut(&mut (usize, f64))) {
        for node in self.trees.iter_mut().flat_map(|tree| &mut tree.nodes) {
            if let TreeNode::Leaf { weights } = node {
                weights.iter_mut().for_each(&mut change);
            }
        }
    }

    /// All weights are those of the only output.
    pub(super) fn merge(&mut self) {
        self.each_leaf(|(output, _)| *output = 0);
    }

    pub(super) fn scale(&mut self, factor: f64) {
        self.each_leaf(|(_, weight)| *weight *= factor);
    }

    /// Whether the sums are probabilities of classes.
    pub(super) fn is_distribution(&self, base: &[f64]) -> bool {
        forests::is_distribution(&self.trees, base, 0..base.len())
    }

    /// Whether a leaf names an output twice.
    pub(super) fn names_twice(&self) -> bool {
        self.leaves().any(|weights| {
            let mut ids: Vec<usize> = weights.iter().map(|(output, _)| *output).collect();
            ids.sort_unstable();
            ids.windows(2).any(|pair| pair.first() == pair.last())
        })
    }

    /// Whether some leaf does not name all of so many outputs, none of them twice.
    pub(super) fn names_fewer(&self, outputs: usize) -> bool {
        self.leaves().any(|weights| weights.len() < outputs)
    }

    /// The extreme of all trees, output by output, as the only tree: each leaf of one leads to a copy of the next.
    /// `None` when that would be too large.
    pub(super) fn extreme(&mut self, most: bool) -> Option<()> {
        let of = |a: f64, b: f64| if most { a.max(b) } else { a.min(b) };
        let mut trees = std::mem::take(&mut self.trees).into_iter();
        let mut whole = trees.next()?;
        for next in trees {
            let count = whole.nodes.len();
            let leaves = whole.nodes.iter().filter(|node| matches!(node, TreeNode::Leaf { .. })).count();
            let total = leaves.checked_mul(next.nodes.len()).and_then(|size| size.checked_add(count));
            total.filter(|&total| total <= MAX_TREE_NODES)?;
            let mut more: Vec<TreeNode> = Vec::new();
            // The root of a copy stands where the leaf was, the rest of it behind everything.
            let tail = next.nodes.len() - 1;
            for (at, node) in whole.nodes.iter_mut().enumerate() {
                let TreeNode::Leaf { weights } = node else { continue };
                let own: BTreeMap<usize, f64> = weights.iter().copied().collect();
                let first = count + more.len();
                let place = |child: usize| if child == 0 { at } else { first + child - 1 };
                let mut copy = next.nodes.iter().map(|node| match node {
                    TreeNode::Branch { column, threshold, low, high } => TreeNode::Branch {
                        column: *column,
                        threshold: *threshold,
                        low: place(*low),
                        high: place(*high),
                    },
                    TreeNode::Leaf { weights } => {
                        let mut both = own.clone();
                        for &(output, weight) in weights {
                            both.entry(output)
                                .and_modify(|value| *value = of(*value, weight))
                                .or_insert(weight);
                        }
                        TreeNode::Leaf { weights: both.into_iter().collect() }
                    }
                });
                let root = copy.next()?;
                more.reserve(tail);
                more.extend(copy);
                *node = root;
            }
            whole.nodes.append(&mut more);
        }
        self.trees = vec![whole];
        Some(())
    }
}

fn integer(list: &[i64], index: usize) -> i64 {
    list.get(index).copied().unwrap_or_default()
}

/// The lists of nodes of versions 1 to 4, all of one length.
struct Lists<'a> {
    trees: &'a [i64],
    nodes: &'a [i64],
    features: &'a [i64],
    modes: Vec<String>,
    values: Vec<f64>,
    precision: Precision,
    low: &'a [i64],
    high: &'a [i64],
}

impl<'a> Lists<'a> {
    fn read(node: &'a Node<'_>) -> Result<Self, Refusal> {
        let list = |name: &str| node.ints(name).unwrap_or_default();
        let (values, precision) = numbers(node, "nodes_values")?;
        let lists = Self {
            trees: list("nodes_treeids"),
            nodes: list("nodes_nodeids"),
            features: list("nodes_featureids"),
            modes: node.texts("nodes_modes").unwrap_or_default(),
            values,
            precision,
            low: list("nodes_truenodeids"),
            high: list("nodes_falsenodeids"),
        };
        let count = lists.trees.len();
        if count > MAX_TREE_NODES {
            return Err(too_many(node, count));
        }
        let lengths = [
            lists.nodes.len(),
            lists.features.len(),
            lists.modes.len(),
            lists.values.len(),
            lists.low.len(),
            lists.high.len(),
        ];
        if count == 0 || lengths.iter().any(|&length| length != count) {
            return Err(malformed(
                node,
                format!("{count} nodes are listed with {lengths:?} numbers, ids and modes"),
            ));
        }
        Ok(lists)
    }

    /// The node at a position of the lists.
    fn listed(
        &self,
        node: &Node<'_>,
        at: usize,
        places: &BTreeMap<(i64, i64), usize>,
        weights: Option<Vec<(usize, f64)>>,
    ) -> Result<Listed, Refusal> {
        let (tree, id) = (integer(self.trees, at), integer(self.nodes, at));
        let mode = self.modes.get(at).map_or("", String::as_str);
        if mode == "LEAF" {
            return Ok(Listed { tree: Some(tree), id, kind: Kind::Leaf(weights.unwrap_or_default()) });
        }
        let value = self.values.get(at).copied().unwrap_or(f64::NAN);
        let Some(test) = Test::named(mode, value) else {
            return Err(malformed(node, format!("a node has the mode `{mode}`")));
        };
        if weights.is_some() {
            return Err(malformed(node, "a node that is no leaf has weights"));
        }
        let child = |id: i64| {
            places.get(&(tree, id)).copied().ok_or_else(|| {
                malformed(node, format!("tree {tree} has no node {id}, which is a child of another"))
            })
        };
        let (holds, fails) = (child(integer(self.low, at))?, child(integer(self.high, at))?);
        let kind = Kind::Branch { test, feature: integer(self.features, at), holds, fails };
        Ok(Listed { tree: Some(tree), id, kind })
    }
}

/// The weights of leaves by the place of their node.
fn leaf_weights(
    node: &Node<'_>,
    names: &Weights,
    outputs: usize,
    places: &BTreeMap<(i64, i64), usize>,
) -> Result<BTreeMap<usize, Vec<(usize, f64)>>, Refusal> {
    let list = |name: &str| node.ints(name).unwrap_or_default();
    let (trees, nodes, ids) = (list(names.trees), list(names.nodes), list(names.ids));
    let (values, _) = numbers(node, names.weights)?;
    if trees.len() != values.len() || nodes.len() != values.len() || ids.len() != values.len() {
        return Err(malformed(
            node,
            format!(
                "{} weights are listed with {} trees, {} nodes and {} outputs",
                values.len(),
                trees.len(),
                nodes.len(),
                ids.len()
            ),
        ));
    }
    finite(node, &values, "a weight")?;
    let mut weights: BTreeMap<usize, Vec<(usize, f64)>> = BTreeMap::new();
    for (((tree, leaf), id), weight) in trees.iter().zip(nodes).zip(ids).zip(values) {
        let place = places.get(&(*tree, *leaf)).ok_or_else(|| {
            malformed(node, format!("a weight is of node {leaf} of tree {tree}, which is missing"))
        })?;
        let output = output(node, *id, outputs)?;
        weights.entry(*place).or_default().push((output, weight));
    }
    Ok(weights)
}

fn output(node: &Node<'_>, id: i64, outputs: usize) -> Result<usize, Refusal> {
    let output = usize::try_from(id).ok().filter(|output| *output < outputs);
    output.ok_or_else(|| malformed(node, format!("a weight is of class or target {id} of {outputs}")))
}

/// The lists of version 5.
struct Positions<'a> {
    roots: &'a [i64],
    features: &'a [i64],
    modes: Vec<i64>,
    splits: Vec<f64>,
    precision: Precision,
    low: &'a [i64],
    high: &'a [i64],
    true_leaves: &'a [i64],
    false_leaves: &'a [i64],
}

impl<'a> Positions<'a> {
    fn read(node: &'a Node<'_>) -> Result<Self, Refusal> {
        let list = |name: &str| node.ints(name).unwrap_or_default();
        let modes = node.tensor_attribute("nodes_modes")?;
        let modes = modes.as_ref().and_then(Tensor::integers).unwrap_or_default().to_vec();
        let splits = node.tensor_attribute("nodes_splits")?;
        let precision = match node.tensor_type("nodes_splits") {
            data_type::DOUBLE => Precision::Double,
            data_type::FLOAT | 0 => Precision::Single,
            other => {
                return Err(node.form(
                    format!("the trees compare numbers of type {}", data_type::name(other)),
                    "export from single precision: `initial_types=[('X', FloatTensorType([None, N]))]`",
                ));
            }
        };
        let splits = splits.as_ref().and_then(Tensor::numbers).unwrap_or_default();
        let lists = Self {
            roots: list("tree_roots"),
            features: list("nodes_featureids"),
            modes,
            splits,
            precision,
            low: list("nodes_truenodeids"),
            high: list("nodes_falsenodeids"),
            true_leaves: list("nodes_trueleafs"),
            false_leaves: list("nodes_falseleafs"),
        };
        let count = lists.features.len();
        if count > MAX_TREE_NODES {
            return Err(too_many(node, count));
        }
        let lengths = [
            lists.modes.len(),
            lists.splits.len(),
            lists.low.len(),
            lists.high.len(),
            lists.true_leaves.len(),
            lists.false_leaves.len(),
        ];
        if count == 0 || lengths.iter().any(|&length| length != count) {
            return Err(malformed(
                node,
                format!("{count} nodes are listed with {lengths:?} modes, numbers and ids"),
            ));
        }
        Ok(lists)
    }

    /// What each leaf adds to which target.
    fn leaves(&self, node: &Node<'_>, outputs: usize) -> Result<Vec<(usize, f64)>, Refusal> {
        let weights = node.tensor_attribute("leaf_weights")?;
        let weights = weights.as_ref().and_then(Tensor::numbers).unwrap_or_default();
        let targets = node.ints("leaf_targetids").unwrap_or_default();
        if weights.len() != targets.len() {
            return Err(malformed(
                node,
                format!("{} weights are listed with {} targets", weights.len(), targets.len()),
            ));
        }
        finite(node, &weights, "a weight")?;
        let leaves = targets.iter().zip(weights);
        leaves.map(|(&target, weight)| Ok((output(node, target, outputs)?, weight))).collect()
    }

    /// The sets that nodes ask for members of, in the order of these nodes.
    fn sets(&self, node: &Node<'_>) -> Result<Vec<Vec<f64>>, Refusal> {
        let values = node.tensor_attribute("membership_values")?;
        let values = values.as_ref().and_then(Tensor::numbers).unwrap_or_default();
        let mut sets: Vec<Vec<f64>> = values.split(|value| value.is_nan()).map(<[f64]>::to_vec).collect();
        // A NaN may follow the last set as well.
        if sets.last().is_some_and(Vec::is_empty) {
            sets.pop();
        }
        Ok(sets)
    }
}
