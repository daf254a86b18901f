//! Ensembles of decision trees: what the tree operators of ONNX compute, in floating point.
//!
//! Every comparison is `x <= threshold` in the precision of the graph's input, single or double, whatever the
//! precision of the sums: that is the operator's meaning, and the fixed-point form decides each comparison in the
//! same way (`docs/numerics.md`).

use super::Normalise;
use super::eval::Real;
use crate::diag::NodeRef;

/// Trees whose leaves are summed up, output by output.
#[derive(Debug, Clone, PartialEq)]
pub struct Forest {
    /// The node of the model file.
    pub origin: NodeRef,
    /// What comparisons read.
    pub columns: Vec<Column>,
    pub trees: Vec<Tree>,
    /// Added to the sums; one per output.
    pub base: Vec<f64>,
}

/// One input of the model as comparisons see it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Column {
    /// Position of the input.
    pub source: usize,
    /// Applied to it in that precision.
    pub normalise: Normalise,
    pub precision: Precision,
}

/// What a graph's input is before anything compares it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    Single,
    Double,
}

/// A tree: its root first, children behind their parents. Several nodes may share a child.
#[derive(Debug, Clone, PartialEq)]
pub struct Tree {
    pub nodes: Vec<Node>,
}

/// A node of a tree.
#[derive(Debug, Clone, PartialEq)]
pub enum Node {
    /// On to the node `low` when the column's value is at most the threshold, which is a number, else to `high`.
    Branch { column: usize, threshold: f64, low: usize, high: usize },
    /// What is added to which outputs.
    Leaf { weights: Vec<(usize, f64)> },
}

impl Column {
    /// What comparisons see of the input's value.
    #[must_use]
    pub fn value(&self, input: f64) -> f64 {
        match self.precision {
            Precision::Single => f64::from(f32::normalise(input, &self.normalise)),
            Precision::Double => f64::normalise(input, &self.normalise),
        }
    }
}

impl Tree {
    /// The leaf's weights for these columns; nothing when the tree is damaged.
    #[must_use]
    pub fn leaf(&self, columns: &[f64]) -> &[(usize, f64)] {
        let mut at = 0;
        // Children stand behind their parents, so the walk ends.
        while let Some(node) = self.nodes.get(at) {
            match node {
                Node::Leaf { weights } => return weights,
                Node::Branch { column, threshold, low, high } => {
                    let value = columns.get(*column).copied().unwrap_or_default();
                    let next = if value <= *threshold { *low } else { *high };
                    if next <= at {
                        break;
                    }
                    at = next;
                }
            }
        }
        &[]
    }

    /// Comparisons on the longest path.
    #[must_use]
    pub fn depth(&self) -> usize {
        let mut depths = vec![0usize; self.nodes.len()];
        for (index, node) in self.nodes.iter().enumerate().rev() {
            let Node::Branch { low, high, .. } = node else { continue };
            let of = |child: &usize| depths.get(*child).copied().unwrap_or(0);
            let depth = of(low).max(of(high)) + 1;
            if let Some(own) = depths.get_mut(index) {
                *own = depth;
            }
        }
        depths.first().copied().unwrap_or(0)
    }
}

impl Forest {
    /// Whether both are single trees that lead every row to the same leaf, whatever their leaves hold.
    #[must_use]
    pub fn divides_like(&self, other: &Self) -> bool {
        let ([own], [tree]) = (self.trees.as_slice(), other.trees.as_slice()) else { return false };
        let same = |pair: (&Node, &Node)| match pair {
            (Node::Leaf { .. }, Node::Leaf { .. }) => true,
            (
                Node::Branch { column, threshold, low, high },
                Node::Branch { column: source, threshold: limit, low: first, high: second },
            ) => {
                let columns = (self.columns.get(*column), other.columns.get(*source));
                threshold == limit && low == first && high == second && columns.0 == columns.1
            }
            (Node::Leaf { .. }, Node::Branch { .. }) | (Node::Branch { .. }, Node::Leaf { .. }) => false,
        };
        own.nodes.len() == tree.nodes.len() && own.nodes.iter().zip(&tree.nodes).all(same)
    }

    /// Comparisons on the longest path of any tree.
    #[must_use]
    pub fn depth(&self) -> usize {
        self.trees.iter().map(Tree::depth).max().unwrap_or(0)
    }

    /// Nodes of all trees, leaves included.
    #[must_use]
    pub fn node_count(&self) -> usize {
        self.trees.iter().map(|tree| tree.nodes.len()).sum()
    }

    /// The sums of one row in the order of the trees, then the base values, each step rounded to the precision.
    #[must_use]
    pub fn outputs<R: Real>(&self, row: &[f64]) -> Vec<R> {
        let columns: Vec<f64> = self
            .columns
            .iter()
            .map(|column| column.value(row.get(column.source).copied().unwrap_or_default()))
            .collect();
        let mut sums = vec![R::ZERO; self.base.len()];
        for tree in &self.trees {
            for &(output, weight) in tree.leaf(&columns) {
                if let Some(sum) = sums.get_mut(output) {
                    *sum = *sum + R::of(weight);
                }
            }
        }
        sums.into_iter().zip(&self.base).map(|(sum, &base)| sum + R::of(base)).collect()
    }
}
