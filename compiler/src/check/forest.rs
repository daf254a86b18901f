//! What a table of decision trees must be before it is walked, and the intervals of its sums.
//!
//! Children stand behind their parents, so one pass over the nodes from the last to the first knows, for each node,
//! what the leaves below it add and how many steps away the farthest is.

use super::MOST_RAW;
use super::OpIntervals;
use super::bounds::Wide;
use crate::diag::Code;
use crate::diag::codes::check::{SHAPE, TREES, WIDTH};
use crate::ir::forest::Node;
use crate::ir::{Forest, Interval};

/// Most steps of a walk.
pub const MAX_DEPTH: u32 = 64;
/// Most steps of the walks of all trees together.
pub const MAX_STEPS: usize = 1 << 17;
/// Most pairs of nodes of all trees together.
pub const MAX_PAIRS: usize = 1 << 20;
/// Most rows of leaf values: a node names its row by 16 bits.
pub const MAX_ROWS: usize = 1 << 16;
/// Most values before a forest: a node names a value by the 16 bits of its distance in bytes.
pub const MAX_COLUMNS: usize = 1 << 13;

type Problem = (&'static Code, String);

/// What is wrong with the shape of a forest over so many values.
pub(super) fn problems(forest: &Forest, width: usize) -> Vec<Problem> {
    let Forest { outputs, trees, depth, pairs, rows, targets, nodes, leaves, base } = forest;
    let mut problems = Vec::new();
    let mut shape = |wrong: bool, message: String| {
        if wrong {
            problems.push((&SHAPE, message));
        }
    };
    shape(
        *outputs == 0 || base.len() != *outputs,
        format!("a forest of {outputs} outputs has {} bases", base.len()),
    );
    shape(width == 0 || width > MAX_COLUMNS, format!("a forest reads {width} values"));
    shape(
        *trees == 0 || trees.div_ceil(2) > *pairs || Some(nodes.len()) != pairs.checked_mul(2),
        format!("{trees} trees stand in {pairs} pairs, of which there are {}", nodes.len() / 2),
    );
    shape(
        Some(leaves.len()) != rows.checked_mul(forest.stride()),
        format!("{rows} rows of leaves have {} values", leaves.len()),
    );
    let ordered = targets.is_sorted() && targets.iter().all(|&target| (target as usize) < *outputs);
    shape(
        !targets.is_empty() && (targets.len() != *trees || !ordered),
        "the outputs that trees add to are not in order".to_owned(),
    );
    if !pairs.is_power_of_two() || *pairs > MAX_PAIRS || !rows.is_power_of_two() || *rows > MAX_ROWS {
        problems.push((&WIDTH, format!("a forest of {pairs} pairs and {rows} rows cannot be masked")));
    }
    if steps(*trees, *depth) > MAX_STEPS {
        problems.push((&WIDTH, format!("{trees} trees of depth {depth} take more than {MAX_STEPS} steps")));
    }
    if *depth > MAX_DEPTH {
        problems.push((&WIDTH, format!("trees are {depth} deep, more than {MAX_DEPTH}")));
    }
    problems
}

/// Steps of so many walks; a tree that is a leaf counts as one.
#[must_use]
pub const fn steps(trees: usize, depth: u32) -> usize {
    let each = if depth == 0 { 1 } else { depth as usize };
    trees.saturating_mul(each)
}

/// What the leaves below a node add, and how far the farthest is.
#[derive(Clone)]
struct Below {
    values: Vec<Interval>,
    steps: u32,
}

/// The intervals of the sums, or what is wrong with the table. The shape is right.
pub(super) fn intervals(forest: &Forest, inputs: &[Interval]) -> Result<OpIntervals, String> {
    if inputs.iter().any(|input| input.low < -MOST_RAW || input.high > MOST_RAW) {
        return Err("trees compare values beyond 62 bits".to_owned());
    }
    let stride = forest.stride();
    let mut below: Vec<Option<Below>> = vec![None; forest.nodes.len()];
    for (at, node) in forest.nodes.iter().enumerate().rev() {
        let own =
            if node.is_leaf(at) { leaf(forest, node, stride) } else { inner(forest, at, inputs, &below) };
        if let Some(place) = below.get_mut(at) {
            *place = Some(own.map_err(|what| format!("node {at} {what}"))?);
        }
    }
    let mut sums: Vec<Wide> =
        forest.base.iter().map(|&base| Wide { low: i128::from(base), high: i128::from(base) }).collect();
    for tree in 0..forest.trees {
        let Some(Some(root)) = below.get(tree) else { return Err(format!("tree {tree} has no root")) };
        if root.steps > forest.depth {
            return Err(format!("tree {tree} is {} deep, and the code walks {}", root.steps, forest.depth));
        }
        let sums = sums.get_mut(forest.outputs_of(tree)).unwrap_or_default();
        for (sum, value) in sums.iter_mut().zip(&root.values) {
            sum.low += i128::from(value.low);
            sum.high += i128::from(value.high);
        }
    }
    let narrow: Option<Vec<Interval>> = sums.into_iter().map(Wide::narrow).collect();
    let sums = narrow.ok_or("sums of leaves can leave 64 bits")?;
    Ok(OpIntervals { accumulators: sums.clone(), values: sums })
}

fn leaf(forest: &Forest, node: &Node, stride: usize) -> Result<Below, &'static str> {
    let start = usize::from(node.row) * stride;
    let row = forest.leaves.get(start..start + stride).ok_or("names a row of leaves that is not there")?;
    Ok(Below { values: row.iter().map(|&value| Interval { low: value, high: value }).collect(), steps: 0 })
}

fn inner(
    forest: &Forest,
    at: usize,
    inputs: &[Interval],
    below: &[Option<Below>],
) -> Result<Below, &'static str> {
    let node = forest.nodes.get(at).ok_or("is missing")?;
    if !(-MOST_RAW..=MOST_RAW).contains(&node.threshold) {
        return Err("has a threshold beyond 62 bits");
    }
    if usize::from(node.feature) >= inputs.len() {
        return Err("compares a feature that is not there");
    }
    let pair = node.pair as usize;
    if pair <= at / 2 {
        return Err("does not lead to nodes behind it");
    }
    let child = |index: usize| below.get(index).and_then(Option::as_ref);
    let (Some(low), Some(high)) = (child(2 * pair), child(2 * pair + 1)) else {
        return Err("leads to nodes that are not there");
    };
    let join = |(a, b): (&Interval, &Interval)| Interval { low: a.low.min(b.low), high: a.high.max(b.high) };
    let steps = low.steps.max(high.steps).saturating_add(1);
    Ok(Below { values: low.values.iter().zip(&high.values).map(join).collect(), steps })
}

/// The diagnostic of a table that is wrong.
pub(super) fn refusal(message: String, origin: crate::diag::Origin) -> crate::diag::Diagnostic {
    crate::diag::Diagnostic::new(
        &TREES,
        origin,
        message,
        "compile the model anew instead of into the plan of an existing object",
    )
}

#[cfg(test)]
#[path = "forest_tests.rs"]
mod tests;
