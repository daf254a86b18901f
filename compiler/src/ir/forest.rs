//! Decision trees in integers: a table that is walked, and leaves that are summed up.
//!
//! Nodes stand in pairs of siblings, and a pair has the number of its first node halved. Tree `t` begins at node
//! `t`; from a node it goes on to its pair, to the second node there when the feature exceeds the threshold. After
//! [`Forest::depth`] steps the walk stands at a leaf: leaves lead to themselves, because no feature exceeds
//! [`GREATEST`] and every one exceeds [`LEAST`].

use serde::{Deserialize, Serialize};

/// Threshold of a leaf that is the first of its pair: the largest magnitude that features are clamped to.
pub const GREATEST: i64 = (1 << 62) - 1;
/// Threshold of a leaf that is the second of its pair: below every feature, and no difference overflows.
pub const LEAST: i64 = -(1 << 62);

/// Trees over the values of the operation before, or over the raw features, whose leaves are summed up:
/// `sum[o] = base[o] + Σ_t leaf_t[o]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forest {
    pub outputs: usize,
    pub trees: usize,
    /// Steps of every walk.
    pub depth: u32,
    /// Pairs of nodes, a power of two.
    pub pairs: usize,
    /// Rows of leaf values, a power of two.
    pub rows: usize,
    /// The output that each tree adds to, in ascending order; empty when leaves have a value for every output.
    pub targets: Vec<u32>,
    /// Two per pair. A parameter, as all that follows.
    pub nodes: Vec<Node>,
    /// [`Forest::stride`] values per row.
    pub leaves: Vec<i64>,
    /// One per output.
    pub base: Vec<i64>,
}

/// One node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// The greatest value that goes on to the first node of the pair.
    pub threshold: i64,
    /// The pair that follows.
    pub pair: u32,
    /// What is compared.
    pub feature: u16,
    /// The row of values of a leaf; 0 elsewhere.
    pub row: u16,
}

impl Node {
    /// A leaf at this position among the nodes.
    #[must_use]
    pub fn leaf(at: usize, row: u16) -> Self {
        let threshold = if at.is_multiple_of(2) { GREATEST } else { LEAST };
        Self { threshold, pair: u32::try_from(at / 2).unwrap_or(u32::MAX), feature: 0, row }
    }

    /// Whether it is a leaf when it stands there.
    #[must_use]
    pub fn is_leaf(&self, at: usize) -> bool {
        *self == Self::leaf(at, self.row)
    }
}

impl Forest {
    /// Values of one row of leaves.
    #[must_use]
    pub const fn stride(&self) -> usize {
        if self.targets.is_empty() { self.outputs } else { 1 }
    }

    /// The outputs that a tree adds to.
    #[must_use]
    pub fn outputs_of(&self, tree: usize) -> std::ops::Range<usize> {
        match self.targets.get(tree) {
            Some(&target) => target as usize..target as usize + 1,
            None => 0..self.outputs,
        }
    }

    /// The row of leaf values that a tree gives.
    #[must_use]
    pub fn row(&self, tree: usize, values: &[i64]) -> usize {
        let mut at = tree;
        for _ in 0..self.depth {
            let Some(node) = self.nodes.get(at) else { return 0 };
            let x = values.get(usize::from(node.feature)).copied().unwrap_or_default();
            at = 2 * node.pair as usize + usize::from(x > node.threshold);
        }
        self.nodes.get(at).map_or(0, |node| usize::from(node.row))
    }

    /// The sums of one row of values.
    #[must_use]
    pub fn sums(&self, values: &[i64]) -> Vec<i64> {
        let mut sums = self.base.clone();
        let stride = self.stride();
        for tree in 0..self.trees {
            let start = self.row(tree, values) * stride;
            let leaf = self.leaves.get(start..start + stride).unwrap_or_default();
            if let Some(sums) = sums.get_mut(self.outputs_of(tree)) {
                for (sum, value) in sums.iter_mut().zip(leaf) {
                    *sum = sum.wrapping_add(*value);
                }
            }
        }
        sums
    }
}
