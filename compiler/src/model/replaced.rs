//! Values of inputs that are replaced before anything reads them: what an imputer of a number does.

use super::Model;
use super::forest::Column;
use crate::diag::NodeRef;

/// One value of one input.
#[derive(Debug, Clone, PartialEq)]
pub struct Replaced {
    /// The node that replaces.
    pub origin: NodeRef,
    /// The input as the node sees it: scaled perhaps, and in the precision of the graph.
    pub column: Column,
    /// What is replaced, wherever the column is just that.
    pub value: f64,
    /// What the input then is, before any scaler.
    pub by: f64,
}

impl Replaced {
    /// The input, or what replaces it.
    #[must_use]
    pub fn apply(&self, input: f64) -> f64 {
        // Equality is meant: the operator compares numbers, bit by bit but for the sign of zero.
        if self.column.value(input) == self.value { self.by } else { input }
    }
}

impl Model {
    /// A value of an input, or what replaces it.
    #[must_use]
    pub fn replacing(&self, input: usize, value: f64) -> f64 {
        let own = self.replaced.iter().find(|replaced| replaced.column.source == input);
        own.map_or(value, |replaced| replaced.apply(value))
    }

    /// Row-major rows of [`Model::input_count`] values with values replaced.
    pub(crate) fn with_replaced(&self, rows: &[f64]) -> Vec<f64> {
        let mut rows = rows.to_vec();
        for row in rows.chunks_mut(self.input_count().max(1)) {
            for replaced in &self.replaced {
                if let Some(value) = row.get_mut(replaced.column.source) {
                    *value = replaced.apply(*value);
                }
            }
        }
        rows
    }
}
