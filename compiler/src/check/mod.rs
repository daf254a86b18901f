//! Proves what lowering relies on: intervals, widths, stack, budgets.

/// A value whose invariants this module has proved. Lowering accepts nothing else.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<T>(T);

impl<T> Checked<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.0
    }
}
