//! Trees with float thresholds to the table of integers that code walks.
//!
//! Whether `x <= threshold` holds in floating point only grows or only falls with the raw value of the feature,
//! through a scaler too. So one raw value divides those for which it holds from the others, and binary search finds
//! it with the float model's own comparison: the integer comparison is exact for every raw value in the range.

use std::collections::BTreeMap;

use super::ForestPlan;
use super::float::unit;
use crate::check::MOST_RAW;
use crate::check::forest::{MAX_COLUMNS, MAX_DEPTH, MAX_PAIRS, MAX_ROWS, MAX_STEPS, steps};
use crate::ir::forest::{self, Node};
use crate::ir::{Input, Interval};
use crate::model::Forest;
use crate::model::forest::{Column, Node as FloatNode, Tree};

/// Room for a retrained model, as a share of what is needed.
const HEADROOM: usize = 4;
/// Magnitude of sums: everything below is an exact binary64 as well.
const SUM_BITS: f64 = 52.0;
/// Most binary fraction digits of leaves.
const MOST_FINE: f64 = 50.0;

/// A table with what is said about it.
pub(super) struct Table {
    pub(super) forest: forest::Forest,
    /// Real value of one unit of a sum.
    pub(super) unit: f64,
    /// Nodes and rows in use.
    pub(super) nodes: usize,
    pub(super) leaf_rows: usize,
    /// Most that rounding moves a sum by.
    pub(super) error: f64,
}

/// Where a comparison changes for raw values of a range.
enum Cut {
    /// It holds, or does not, for all of them.
    Always(bool),
    /// It holds for values up to this one.
    UpTo(i64),
    /// It holds for values above this one.
    Above(i64),
}

fn cut(column: &Column, threshold: f64, input: &Input) -> Cut {
    let unit = unit(input);
    let holds = |raw: i64| column.value(raw as f64 * unit) <= threshold;
    let Interval { low, high } = input.range;
    let (mut low, mut high) = (low.clamp(-MOST_RAW, MOST_RAW), high.clamp(-MOST_RAW, MOST_RAW));
    let first = holds(low);
    if holds(high) == first {
        return Cut::Always(first);
    }
    // The answer at `low` is `first`, the one at `high` is not.
    while high - low > 1 {
        let middle = low.midpoint(high);
        if holds(middle) == first { low = middle } else { high = middle }
    }
    if first { Cut::UpTo(low) } else { Cut::Above(low) }
}

/// A tree in integers: without comparisons that have one outcome.
struct Walk<'a> {
    forest: &'a Forest,
    inputs: &'a [Input],
}

/// A node with integer threshold: on to `low` up to it, else to `high`.
enum Step<'a> {
    Branch { feature: usize, threshold: i64, low: usize, high: usize },
    Leaf(&'a [(usize, f64)]),
}

impl<'a> Walk<'a> {
    /// The first node at or below `at` that decides something.
    fn step(&self, tree: &'a Tree, mut at: usize) -> Option<Step<'a>> {
        loop {
            match tree.nodes.get(at)? {
                FloatNode::Leaf { weights } => return Some(Step::Leaf(weights)),
                &FloatNode::Branch { column, threshold, low, high } => {
                    let column = self.forest.columns.get(column)?;
                    let feature = column.source;
                    at = match cut(column, threshold, self.inputs.get(feature)?) {
                        Cut::Always(holds) => {
                            if holds {
                                low
                            } else {
                                high
                            }
                        }
                        Cut::UpTo(threshold) => return Some(Step::Branch { feature, threshold, low, high }),
                        Cut::Above(threshold) => {
                            return Some(Step::Branch { feature, threshold, low: high, high: low });
                        }
                    };
                }
            }
        }
    }
}

/// The outputs that a tree's leaves name.
fn named(tree: &Tree) -> Vec<usize> {
    let mut outputs: Vec<usize> = tree
        .nodes
        .iter()
        .flat_map(|node| match node {
            FloatNode::Branch { .. } => &[][..],
            FloatNode::Leaf { weights } => weights,
        })
        .map(|&(output, _)| output)
        .collect();
    outputs.sort_unstable();
    outputs.dedup();
    outputs
}

/// The trees in the order of the outputs that they add to, if each adds to one; `None` stands for a tree that adds
/// nothing, of which a plan may have room for some.
fn arranged<'a>(
    forest: &'a Forest,
    plan: Option<&ForestPlan>,
) -> Result<(Vec<Option<&'a Tree>>, Vec<u32>), String> {
    let single = forest.base.len() > 1 && forest.trees.iter().all(|tree| named(tree).len() <= 1);
    let target = |tree: &Tree| u32::try_from(named(tree).first().copied().unwrap_or(0)).unwrap_or(u32::MAX);
    let mut trees: Vec<&Tree> = forest.trees.iter().collect();
    if single {
        trees.sort_by_key(|tree| target(tree));
    }
    let Some(plan) = plan else {
        let targets = if single { trees.iter().map(|tree| target(tree)).collect() } else { Vec::new() };
        return Ok((trees.into_iter().map(Some).collect(), targets));
    };
    let mut places = vec![None; plan.trees];
    for tree in trees.iter().rev() {
        let fits = |place: usize| match plan.targets.get(place) {
            Some(&planned) => named(tree).is_empty() || (single && planned == target(tree)),
            None => plan.targets.is_empty(),
        };
        let Some(free) = (0..plan.trees).rev().find(|&place| places.get(place) == Some(&None) && fits(place))
        else {
            return Err(format!(
                "the model has {} trees, and the object's {} do not take all of them",
                forest.trees.len(),
                plan.trees
            ));
        };
        if let Some(place) = places.get_mut(free) {
            *place = Some(*tree);
        }
    }
    Ok((places, plan.targets.clone()))
}

/// Builds the table, for the plan of an existing object if there is one.
pub(super) fn build(forest: &Forest, inputs: &[Input], plan: Option<&ForestPlan>) -> Result<Table, String> {
    if inputs.len() > MAX_COLUMNS {
        return Err(format!("a model of trees reads at most {MAX_COLUMNS} features"));
    }
    let (trees, targets) = arranged(forest, plan)?;
    let outputs = forest.base.len();
    let exponent = exponent(forest);
    let unit = (-exponent).exp2();
    let fixed = |weight: f64| (weight * exponent.exp2()).round() as i64;
    let off = |weight: f64| (weight - fixed(weight) as f64 * unit).abs();
    let walk = Walk { forest, inputs };

    let mut nodes: Vec<Node> = (0..trees.len().next_multiple_of(2)).map(|at| Node::leaf(at, 0)).collect();
    // The first row adds nothing: that of nodes that no tree has.
    let stride = if targets.is_empty() { outputs } else { 1 };
    let mut rows: BTreeMap<Vec<i64>, u16> = BTreeMap::from([(vec![0; stride], 0)]);
    let mut leaves = vec![0; stride];
    let mut errors: Vec<f64> = forest.base.iter().map(|&base| off(base)).collect();
    let (mut used, mut depth) = (0, 0);
    for (index, tree) in trees.iter().enumerate() {
        let Some(tree) = tree else { continue };
        let mut worst = vec![0.0f64; outputs];
        // Nodes of the model in order, with their places in the table and the steps from the root. Several places
        // share what follows, which thus lies behind all of them.
        let mut open = BTreeMap::from([(0, (vec![index], 0u32))]);
        while let Some((at, (own, steps))) = open.pop_first() {
            used += own.len();
            depth = depth.max(steps);
            match walk.step(tree, at).ok_or("a tree of the model is damaged")? {
                Step::Branch { low, high, .. } if low.min(high) <= at => {
                    return Err("a tree of the model is damaged".to_owned());
                }
                Step::Branch { feature, threshold, low, high } => {
                    let next = nodes.len();
                    nodes.extend([Node::leaf(next, 0), Node::leaf(next + 1, 0)]);
                    for (child, place) in [(low, next), (high, next + 1)] {
                        let (places, deepest) = open.entry(child).or_default();
                        places.push(place);
                        *deepest = (*deepest).max(steps + 1);
                    }
                    if steps >= MAX_DEPTH || next / 2 >= MAX_PAIRS {
                        return Err(format!(
                            "trees are deeper than {MAX_DEPTH} comparisons, or have more than {} nodes",
                            2 * MAX_PAIRS
                        ));
                    }
                    let feature = u16::try_from(feature).map_err(|_| "a feature has no number")?;
                    let pair = u32::try_from(next / 2).map_err(|_| "a node has no number")?;
                    for place in own {
                        if let Some(slot) = nodes.get_mut(place) {
                            *slot = Node { threshold, pair, feature, row: 0 };
                        }
                    }
                }
                Step::Leaf(weights) => {
                    let mut values = vec![0i64; stride];
                    for &(output, weight) in weights {
                        let slot = if targets.is_empty() { output } else { 0 };
                        if let Some(value) = values.get_mut(slot) {
                            *value += fixed(weight);
                        }
                        if let Some(worst) = worst.get_mut(output) {
                            *worst = worst.max(off(weight));
                        }
                    }
                    let fresh = u16::try_from(rows.len());
                    let row = match (rows.get(&values), fresh) {
                        (Some(&row), _) => row,
                        (None, Ok(row)) => {
                            leaves.extend(&values);
                            rows.insert(values, row);
                            row
                        }
                        (None, Err(_)) => {
                            return Err(format!("leaves have more than {MAX_ROWS} different values"));
                        }
                    };
                    for place in own {
                        if let Some(slot) = nodes.get_mut(place) {
                            *slot = Node::leaf(place, row);
                        }
                    }
                }
            }
        }
        errors.iter_mut().zip(worst).for_each(|(sum, worst)| *sum += worst);
    }

    if steps(trees.len(), depth) > MAX_STEPS {
        return Err(format!("{} trees of depth {depth} take more than {MAX_STEPS} steps", trees.len()));
    }
    let room = |needed: usize, most: usize| (needed + needed / HEADROOM).next_power_of_two().min(most);
    let pairs = plan.map_or_else(|| room(nodes.len() / 2, MAX_PAIRS), |plan| plan.pairs);
    let capacity = plan.map_or_else(|| room(rows.len(), MAX_ROWS), |plan| plan.rows);
    let planned = plan.map_or(depth, |plan| plan.depth);
    if nodes.len() / 2 > pairs || rows.len() > capacity || depth > planned {
        return Err(format!(
            "the model needs {} pairs of nodes, {} rows of leaves and depth {depth}, and the object has room for \
             {pairs}, {capacity} and {planned}",
            nodes.len() / 2,
            rows.len()
        ));
    }
    nodes.extend((nodes.len()..2 * pairs).map(|at| Node::leaf(at, 0)));
    leaves.resize(capacity * stride, 0);
    let forest = forest::Forest {
        outputs,
        trees: trees.len(),
        depth: planned,
        pairs,
        rows: capacity,
        targets,
        nodes,
        leaves,
        base: forest.base.iter().map(|&base| fixed(base)).collect(),
    };
    let error = errors.into_iter().fold(0.0, f64::max);
    Ok(Table { forest, unit, nodes: used, leaf_rows: rows.len(), error })
}

/// Binary fraction digits that leave room for the largest sum.
fn exponent(forest: &Forest) -> f64 {
    let mut most: Vec<f64> = forest.base.iter().map(|base| base.abs()).collect();
    for tree in &forest.trees {
        let mut worst = vec![0.0f64; most.len()];
        for node in &tree.nodes {
            let FloatNode::Leaf { weights } = node else { continue };
            for &(output, weight) in weights {
                if let Some(worst) = worst.get_mut(output) {
                    *worst = worst.max(weight.abs());
                }
            }
        }
        most.iter_mut().zip(worst).for_each(|(sum, worst)| *sum += worst);
    }
    let most = most.into_iter().fold(f64::MIN_POSITIVE, f64::max);
    (SUM_BITS - most.log2().ceil()).min(MOST_FINE)
}
