//! Sums of trees under affine maps, and sums of several ensembles: all of it is one ensemble again.

use std::collections::BTreeMap;
use std::ops::Range;

use super::affine::Affine;
use super::limits::MAX_TREE_NUMBERS;
use super::value::{Row, Scores, Stage, Stages};
use crate::diag::NodeRef;
use crate::model::Forest;
use crate::model::forest::{Node, Tree};

/// Numbers that a node of a tree is counted as.
pub(crate) const NODE_NUMBERS: usize = 8;

/// How far the sum of probabilities may be from 1: single precision, many trees.
const SLACK: f64 = 1e-3;
/// How far below zero rounding may bring a probability.
const ROUNDING: f64 = 1e-6;

/// What of the outputs of several ensembles is to be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Join {
    /// Their sum, value by value.
    Sum,
    /// All of them, one after the other.
    Concat,
}

/// The trees with an affine map of their sums folded into the leaves; `None` when that would be too large.
pub(crate) fn folded(forest: &Forest, map: &Affine) -> Option<Forest> {
    // For each sum the outputs that it adds to, with factors.
    let mut reads: Vec<Vec<(usize, f64)>> = vec![Vec::new(); forest.base.len()];
    let mut base = Vec::with_capacity(map.width());
    let of_tap = |index: usize| {
        let tap = map.taps.get(index)?;
        let by = tap.normalise;
        Some((by.scale, (forest.base.get(tap.source)? - by.centre) * by.scale + by.offset, tap.source))
    };
    for output in 0..map.width() {
        match &map.dense {
            None => {
                let (scale, constant, source) = of_tap(output)?;
                reads.get_mut(source)?.push((output, scale));
                base.push(constant);
            }
            Some(dense) => {
                let mut sum = *dense.bias.get(output)?;
                for (index, &weight) in dense.weights.row(output).iter().enumerate() {
                    let (scale, constant, source) = of_tap(index)?;
                    sum += weight * constant;
                    if weight != 0.0 {
                        reads.get_mut(source)?.push((output, weight * scale));
                    }
                }
                base.push(sum);
            }
        }
    }
    let mut numbers = 0usize;
    let mut result = Forest { base, ..forest.clone() };
    for node in result.trees.iter_mut().flat_map(|tree| &mut tree.nodes) {
        let Node::Leaf { weights } = node else { continue };
        let mut sums: BTreeMap<usize, f64> = BTreeMap::new();
        for &(source, weight) in weights.iter() {
            for &(output, factor) in reads.get(source)? {
                *sums.entry(output).or_default() += weight * factor;
            }
        }
        numbers = numbers.checked_add(sums.len()).filter(|&numbers| numbers <= MAX_TREE_NUMBERS)?;
        *weights = sums.into_iter().collect();
    }
    Some(result)
}

/// The ensemble behind a row, with what follows it folded in; `None` for other rows.
pub(crate) fn of_row(stages: &Stages, row: &Row) -> Option<Forest> {
    match stages.get(row.affine.stage) {
        Stage::Trees { forest, .. } => folded(forest, &row.affine),
        Stage::Inputs | Stage::Activated { .. } | Stage::Open { .. } => None,
    }
}

/// Several rows of ensembles as one ensemble of a new stage; `None` when a row is none, widths differ in a sum, or the
/// result would be too large.
pub(crate) fn joined(stages: &mut Stages, rows: &[Row], join: Join, origin: &NodeRef) -> Option<Affine> {
    let mut whole: Option<Forest> = None;
    for row in rows {
        let part = of_row(stages, row)?;
        let weights: usize = part.trees.iter().flat_map(|tree| &tree.nodes).map(leaf_numbers).sum();
        if !stages.room(part.node_count() * NODE_NUMBERS + 2 * weights) {
            return None;
        }
        whole = Some(match whole {
            None => part,
            Some(whole) => together(whole, part, join)?,
        });
    }
    let forest = Box::new(Forest { origin: origin.clone(), ..whole? });
    let width = forest.base.len();
    let stage = stages.push(Stage::Trees { forest, scores: Scores::Exact });
    Some(Affine::of_stage(stage, width))
}

const fn leaf_numbers(node: &Node) -> usize {
    match node {
        Node::Leaf { weights } => weights.len(),
        Node::Branch { .. } => 0,
    }
}

fn together(mut whole: Forest, part: Forest, join: Join) -> Option<Forest> {
    let places: Vec<usize> = part
        .columns
        .iter()
        .map(|column| {
            whole.columns.iter().position(|other| other == column).unwrap_or_else(|| {
                whole.columns.push(*column);
                whole.columns.len() - 1
            })
        })
        .collect();
    let first = match join {
        Join::Sum if whole.base.len() != part.base.len() => return None,
        Join::Sum => 0,
        Join::Concat => whole.base.len(),
    };
    for mut tree in part.trees {
        for node in &mut tree.nodes {
            match node {
                Node::Branch { column, .. } => *column = *places.get(*column)?,
                Node::Leaf { weights } => weights.iter_mut().for_each(|(output, _)| *output += first),
            }
        }
        whole.trees.push(tree);
    }
    match join {
        Join::Sum => whole.base.iter_mut().zip(&part.base).for_each(|(sum, base)| *sum += base),
        Join::Concat => whole.base.extend(&part.base),
    }
    Some(whole)
}

/// Whether these outputs are probabilities of classes: every leaf of a tree gives shares of the same whole, the wholes
/// of all trees are 1 together, and no sum is negative.
pub(crate) fn is_distribution(trees: &[Tree], base: &[f64], outputs: Range<usize>) -> bool {
    let mut least: Vec<f64> = base.get(outputs.clone()).unwrap_or_default().to_vec();
    let mut whole: f64 = least.iter().sum();
    for tree in trees {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let mut shares = vec![f64::INFINITY; least.len()];
        for node in &tree.nodes {
            let Node::Leaf { weights } = node else { continue };
            let mut own = vec![0.0; least.len()];
            for (output, weight) in weights {
                if let Some(share) = output.checked_sub(outputs.start).and_then(|output| own.get_mut(output))
                {
                    *share += weight;
                }
            }
            let sum: f64 = own.iter().sum();
            (low, high) = (low.min(sum), high.max(sum));
            shares.iter_mut().zip(own).for_each(|(least, share)| *least = least.min(share));
        }
        if high - low > SLACK * high.abs().max(1.0 / trees.len() as f64) {
            return false;
        }
        whole += high;
        least.iter_mut().zip(shares).for_each(|(sum, share)| *sum += share);
    }
    least.iter().all(|&sum| sum >= -ROUNDING) && (whole - 1.0).abs() <= SLACK
}
