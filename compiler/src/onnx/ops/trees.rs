//! TreeEnsembleClassifier and TreeEnsembleRegressor: lists of nodes and of leaf weights to trees.
//!
//! What the lists mean for two classes is onnxruntime's reading, which the exporters rely on: when all weights are of
//! one class, they are those of the second class, which wins above one half where no weight is negative, and above
//! zero otherwise.

use std::collections::BTreeMap;

use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::model::Normalise;
use crate::model::forest::{Column, Forest, Node as TreeNode, Tree};
use crate::onnx::affine::Affine;
use crate::onnx::limits::{MAX_MAGNITUDE, MAX_TREE_NODES};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::value::{Form, Row, Stage, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] =
    &[(ML, "TreeEnsembleClassifier", classifier), (ML, "TreeEnsembleRegressor", regressor)];

/// How far the sum of probabilities may be from 1: single precision, many trees.
const SLACK: f64 = 1e-3;

/// The attributes that hold weights.
struct Weights {
    trees: &'static str,
    nodes: &'static str,
    ids: &'static str,
    weights: &'static str,
}

const CLASSES: Weights =
    Weights { trees: "class_treeids", nodes: "class_nodeids", ids: "class_ids", weights: "class_weights" };
const TARGETS: Weights = Weights {
    trees: "target_treeids",
    nodes: "target_nodeids",
    ids: "target_ids",
    weights: "target_weights",
};

fn classifier(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let classes = node
        .texts("classlabels_strings")
        .filter(|labels| !labels.is_empty())
        .or_else(|| Some(node.ints("classlabels_int64s")?.iter().map(ToString::to_string).collect()))
        .unwrap_or_default();
    if classes.len() < 2 {
        return Err(malformed(node, format!("{} classes are named", classes.len())));
    }
    let mut ensemble = Ensemble::read(node, &CLASSES, classes.len())?;
    let ids = ensemble.ids();
    let single = classes.len() == 2 && ids.len() <= 1;
    let post = node.text("post_transform").unwrap_or_else(|| "NONE".to_owned());
    let bases = node.floats("base_values").unwrap_or_default();
    let width = if single { 1 } else { classes.len() };
    let base = match (bases.as_slice(), single) {
        ([], _) => vec![0.0; width],
        ([base] | [_, base], true) => vec![*base],
        (_, false) if bases.len() == width => bases,
        _ => {
            return Err(malformed(
                node,
                format!("{} base values for {} classes", bases.len(), classes.len()),
            ));
        }
    };
    finite(node, &base, "a base value")?;
    let positive = ensemble.weights().all(|weight| weight >= 0.0);
    let mut probabilities = false;
    let mut base = base;
    let form = match (post.as_str(), single) {
        ("NONE", true) if positive => {
            // The second class wins above one half.
            base.iter_mut().for_each(|base| *base -= 0.5);
            probabilities = true;
            Form::BothProbabilities
        }
        ("LOGISTIC", true) if !positive => Form::BothProbabilities,
        // Decision values: the exporter left their logistic function off, or their softmax.
        ("NONE", true) => Form::BothProbabilities,
        ("NONE", false) => {
            probabilities = ensemble.is_distribution(&base);
            Form::Softmax
        }
        ("SOFTMAX", false) => Form::Softmax,
        _ => {
            return Err(node.form(
                format!("`post_transform = {post}` over these weights has no meaning that runtimes agree on"),
                "export with SOFTMAX for several classes, LOGISTIC for boosted trees of two, NONE for forests",
            ));
        }
    };
    if single {
        ensemble.merge();
    }
    let input = node.row(0)?;
    let row = push(stages, node, input, ensemble, (base, probabilities))?;
    let rows = if input.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
    let tail = |form, dims| {
        Value::Tail(Tail { shape: Shape(dims), classes: Some(classes.clone()), ..Tail::of(&row, form) })
    };
    let label = tail(Form::Label { logistic: single }, vec![rows]);
    Ok(vec![label, tail(form, vec![rows, Dim::Of(classes.len())])])
}

fn regressor(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let targets = usize::try_from(node.int("n_targets", 1)).unwrap_or(0);
    let mut ensemble = Ensemble::read(node, &TARGETS, targets)?;
    let divisor = match node.text("aggregate_function").as_deref() {
        None | Some("SUM") => 1.0,
        Some("AVERAGE") => ensemble.trees.len().max(1) as f64,
        Some(other) => {
            return Err(node.form(
                format!("`aggregate_function = {other}` is no sum over the trees"),
                "export with SUM or AVERAGE",
            ));
        }
    };
    ensemble.scale(1.0 / divisor);
    let bases = node.floats("base_values").unwrap_or_default();
    let base = if bases.is_empty() { vec![0.0; targets] } else { bases };
    if base.len() != targets || targets == 0 {
        return Err(malformed(node, format!("{} base values for {targets} targets", base.len())));
    }
    finite(node, &base, "a base value")?;
    match node.text("post_transform").as_deref() {
        None | Some("NONE") => {}
        Some(other) => {
            return Err(node.form(
                format!("`post_transform = {other}` of a regressor is not supported"),
                "export a classifier, or a regressor without a transform",
            ));
        }
    }
    let row = push(stages, node, node.row(0)?, ensemble, (base, false))?;
    Ok(vec![Value::Row(row)])
}

/// A new stage with the sums of the trees.
fn push(
    stages: &mut Stages,
    node: &Node<'_>,
    input: &Row,
    ensemble: Ensemble,
    (base, probabilities): (Vec<f64>, bool),
) -> Result<Row, Refusal> {
    let affine = &input.affine;
    if affine.dense.is_some() || !matches!(stages.get(affine.stage), Stage::Inputs) {
        return Err(node.form(
            "trees read sums of inputs, or the outputs of other layers",
            "train trees on the features themselves; a scaler before them is fine and changes nothing",
        ));
    }
    let columns: Vec<Column> =
        affine.taps.iter().map(|tap| Column { source: tap.source, normalise: tap.normalise }).collect();
    let single =
        |by: &Normalise| [by.centre, by.scale, by.offset].into_iter().all(|v| (v as f32).is_finite());
    if !columns.iter().all(|column| single(&column.normalise)) {
        return Err(node.refuse(
            &codes::NOT_FINITE,
            "the scaler before the trees exceeds single precision",
            "fit the scaler again, on data without missing or constant values",
        ));
    }
    let width = base.len();
    let rows = if input.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
    let forest = Forest { origin: node.reference.clone(), columns, trees: ensemble.trees, base };
    let stage = stages.push(Stage::Trees { forest: Box::new(forest), probabilities });
    Ok(Row {
        affine: Affine::of_stage(stage, width),
        shape: Shape(vec![rows, Dim::Of(width)]),
        integer: false,
    })
}

fn malformed(node: &Node<'_>, message: impl Into<String>) -> Refusal {
    node.refuse(&codes::TREES, message, "export the model again: the file is damaged or was edited")
}

fn finite(node: &Node<'_>, values: &[f64], what: &str) -> Result<(), Refusal> {
    match values.iter().find(|value| !value.is_finite() || value.abs() > MAX_MAGNITUDE) {
        None => Ok(()),
        Some(value) => Err(node.refuse(
            &codes::NOT_FINITE,
            format!("{what} of the trees is {value:e}"),
            "train again, on data without missing or infinite values",
        )),
    }
}

/// The trees of a node.
struct Ensemble {
    trees: Vec<Tree>,
}

/// The lists of nodes, all of one length.
struct Lists<'a> {
    trees: &'a [i64],
    nodes: &'a [i64],
    features: &'a [i64],
    modes: Vec<String>,
    values: Vec<f64>,
    low: &'a [i64],
    high: &'a [i64],
}

impl<'a> Lists<'a> {
    fn read(node: &'a Node<'_>) -> Result<Self, Refusal> {
        let numbers = |name: &str| node.ints(name).unwrap_or_default();
        let lists = Self {
            trees: numbers("nodes_treeids"),
            nodes: numbers("nodes_nodeids"),
            features: numbers("nodes_featureids"),
            modes: node.texts("nodes_modes").unwrap_or_default(),
            values: node.floats("nodes_values").unwrap_or_default(),
            low: numbers("nodes_truenodeids"),
            high: numbers("nodes_falsenodeids"),
        };
        let doubles = [
            "nodes_values_as_tensor",
            "class_weights_as_tensor",
            "target_weights_as_tensor",
            "base_values_as_tensor",
        ];
        if let Some(name) = doubles.into_iter().find(|name| node.has(name)) {
            return Err(node.form(
                format!("`{name}` holds double precision"),
                "export from single precision: `initial_types=[('X', FloatTensorType([None, N]))]`",
            ));
        }
        let count = lists.trees.len();
        if count > MAX_TREE_NODES {
            return Err(node.refuse(
                &codes::TOO_LARGE,
                format!("the trees have {count} nodes, at most {MAX_TREE_NODES} are read"),
                "train fewer or shallower trees",
            ));
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
}

impl Ensemble {
    fn read(node: &Node<'_>, names: &Weights, outputs: usize) -> Result<Self, Refusal> {
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
        let mut numbers: Vec<i64> = roots.iter().map(|(tree, _)| *tree).collect();
        numbers.sort_unstable();
        if let Some(pair) = numbers.windows(2).find(|pair| pair.first() == pair.last()) {
            return Err(malformed(
                node,
                format!("the nodes of tree {} do not stand together", pair.first().unwrap_or(&0)),
            ));
        }
        let weights = leaf_weights(node, names, outputs, &places)?;
        let width = node.row(0)?.affine.width();
        let reader = Reader { node, lists: &lists, places: &places, weights: &weights, width };
        let mut seen = vec![false; lists.trees.len()];
        let trees: Vec<Tree> =
            roots.iter().map(|&(_, root)| reader.tree(root, &mut seen)).collect::<Result<_, _>>()?;
        if let Some(lost) = seen.iter().position(|seen| !seen) {
            return Err(malformed(
                node,
                format!("node {} of tree {} has no parent", at(lists.nodes, lost), at(lists.trees, lost)),
            ));
        }
        Ok(Self { trees })
    }

    fn leaves(&self) -> impl Iterator<Item = &Vec<(usize, f64)>> {
        self.trees.iter().flat_map(|tree| &tree.nodes).filter_map(|node| match node {
            TreeNode::Leaf { weights } => Some(weights),
            TreeNode::Branch { .. } => None,
        })
    }

    fn weights(&self) -> impl Iterator<Item = f64> {
        self.leaves().flatten().map(|(_, weight)| *weight)
    }

    /// The outputs that any leaf names.
    fn ids(&self) -> Vec<usize> {
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
    fn merge(&mut self) {
        self.each_leaf(|(output, _)| *output = 0);
    }

    fn scale(&mut self, factor: f64) {
        self.each_leaf(|(_, weight)| *weight *= factor);
    }

    /// Whether the sums are probabilities of classes: every leaf of a tree gives shares of the same whole, and the
    /// wholes of all trees are 1 together.
    fn is_distribution(&self, base: &[f64]) -> bool {
        let mut whole: f64 = base.iter().sum();
        for tree in &self.trees {
            let sums = tree.nodes.iter().filter_map(|node| match node {
                TreeNode::Leaf { weights } => Some(weights.iter().map(|(_, weight)| weight).sum::<f64>()),
                TreeNode::Branch { .. } => None,
            });
            let (low, high) = sums
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), sum| (low.min(sum), high.max(sum)));
            if high - low > SLACK * high.abs() {
                return false;
            }
            whole += high;
        }
        self.weights().chain(base.iter().copied()).all(|weight| weight >= 0.0) && (whole - 1.0).abs() <= SLACK
    }
}

fn at(list: &[i64], index: usize) -> i64 {
    list.get(index).copied().unwrap_or_default()
}

/// The weights of leaves by the place of their node.
fn leaf_weights(
    node: &Node<'_>,
    names: &Weights,
    outputs: usize,
    places: &BTreeMap<(i64, i64), usize>,
) -> Result<BTreeMap<usize, Vec<(usize, f64)>>, Refusal> {
    let numbers = |name: &str| node.ints(name).unwrap_or_default();
    let (trees, nodes, ids) = (numbers(names.trees), numbers(names.nodes), numbers(names.ids));
    let values = node.floats(names.weights).unwrap_or_default();
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
        let output = usize::try_from(*id)
            .ok()
            .filter(|output| *output < outputs)
            .ok_or_else(|| malformed(node, format!("a weight is of class or target {id} of {outputs}")))?;
        weights.entry(*place).or_default().push((output, weight));
    }
    Ok(weights)
}

struct Reader<'a> {
    node: &'a Node<'a>,
    lists: &'a Lists<'a>,
    places: &'a BTreeMap<(i64, i64), usize>,
    weights: &'a BTreeMap<usize, Vec<(usize, f64)>>,
    /// Number of columns.
    width: usize,
}

impl Reader<'_> {
    /// The tree whose root is listed there. Every node is reached once.
    fn tree(&self, root: usize, seen: &mut [bool]) -> Result<Tree, Refusal> {
        let mut order = vec![root];
        let mut nodes = Vec::new();
        let mut done = 0;
        while let Some(&listed) = order.get(done) {
            done += 1;
            match seen.get_mut(listed) {
                Some(seen) if !*seen => *seen = true,
                _ => {
                    let (tree, id) = (at(self.lists.trees, listed), at(self.lists.nodes, listed));
                    return Err(malformed(
                        self.node,
                        format!("node {id} of tree {tree} has two parents, or leads back to itself"),
                    ));
                }
            }
            let mut child = |id| -> Result<usize, Refusal> {
                let tree = at(self.lists.trees, listed);
                let place = self.places.get(&(tree, id)).ok_or_else(|| {
                    malformed(self.node, format!("tree {tree} has no node {id}, which is a child of another"))
                })?;
                order.push(*place);
                Ok(order.len() - 1)
            };
            let mode = self.lists.modes.get(listed).map_or("", String::as_str);
            nodes.push(match mode {
                "LEAF" => TreeNode::Leaf { weights: self.weights.get(&listed).cloned().unwrap_or_default() },
                "BRANCH_LEQ" | "BRANCH_LT" | "BRANCH_GTE" | "BRANCH_GT" => {
                    if self.weights.contains_key(&listed) {
                        return Err(malformed(self.node, "a node that is no leaf has weights"));
                    }
                    let (holds, fails) =
                        (child(at(self.lists.low, listed))?, child(at(self.lists.high, listed))?);
                    self.branch(listed, mode, (holds, fails))?
                }
                "BRANCH_EQ" | "BRANCH_NEQ" | "BRANCH_MEMBER" => {
                    return Err(self.node.form(
                        format!("a node compares by {mode}: a split over categories"),
                        "train with numbers in the place of categories, which are then compared by order",
                    ));
                }
                other => return Err(malformed(self.node, format!("a node has the mode `{other}`"))),
            });
        }
        Ok(Tree { nodes })
    }

    /// All comparisons as `x <= threshold`: in single precision, `x < t` is `x <= u` for the next number `u` below.
    fn branch(&self, listed: usize, mode: &str, (holds, fails): (usize, usize)) -> Result<TreeNode, Refusal> {
        let threshold = self.lists.values.get(listed).copied().unwrap_or(f64::NAN) as f32;
        if threshold.is_nan() {
            let (tree, id) = (at(self.lists.trees, listed), at(self.lists.nodes, listed));
            return Err(malformed(
                self.node,
                format!("the threshold of node {id} of tree {tree} is not a number"),
            ));
        }
        let feature = at(self.lists.features, listed);
        let column =
            usize::try_from(feature).ok().filter(|column| *column < self.width).ok_or_else(|| {
                malformed(self.node, format!("a node compares feature {feature} of {}", self.width))
            })?;
        let (threshold, low, high) = match mode {
            "BRANCH_LEQ" => (threshold, holds, fails),
            "BRANCH_LT" => (threshold.next_down(), holds, fails),
            "BRANCH_GT" => (threshold, fails, holds),
            _ => (threshold.next_down(), fails, holds),
        };
        Ok(TreeNode::Branch { column, threshold, low, high })
    }
}
