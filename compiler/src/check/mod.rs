//! Proves what lowering relies on: shapes, shifts, and an interval for every accumulator and value.
//!
//! [`check`] is the only way to a [`Checked`] network, and lowering accepts nothing else:
//!
//! ```compile_fail,E0451
//! # let network: nnbpf_compiler::ir::Network = unimplemented!();
//! let unproved = nnbpf_compiler::check::Checked { value: network, certificate: Default::default() };
//! ```
//!
//! Budgets of the target kernel (instructions, stack, tail calls) are the planner's business in
//! [`crate::lower`].

mod intervals;
pub(crate) mod bounds;
mod shapes;
pub mod forest;

pub use shapes::{MAX_FINER, MOST_RAW};

use serde::{Deserialize, Serialize};

use crate::bounds::ErrorBound;
use crate::diag::Outcome;
use crate::ir::{Interval, Network};

/// A value whose invariants this module has proved, with the proof.
#[derive(Debug, Clone, PartialEq)]
pub struct Checked<T> {
    value: T,
    certificate: Certificate,
}

impl<T> Checked<T> {
    /// The value.
    #[must_use]
    pub fn get(&self) -> &T {
        &self.value
    }

    /// The intervals that were proved.
    #[must_use]
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// Gives up the proof.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.value
    }
}

/// Intervals of every operation, in order. Each can be re-checked from the one before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Certificate {
    pub ops: Vec<OpIntervals>,
    /// How far outputs can be off the float model: see [`crate::bounds`], which proves and re-checks it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorBound>,
}

/// Intervals of one operation, one entry per output.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpIntervals {
    /// Of `x * multiplier + offset`, or of the weighted sum.
    pub accumulators: Vec<Interval>,
    /// Of what the next operation reads.
    pub values: Vec<Interval>,
}

/// Proves a network, or says everything that is wrong with it.
///
/// # Errors
///
/// Shapes that do not fit (`E0401`), shifts or widths out of range (`E0402`), a quantiser that can overflow or
/// clamps beyond [`MOST_RAW`] (`E0403`), an accumulator that can leave its lane (`E0404`), a table of trees that cannot be walked (`E0407`), a decision that does not fit the outputs
/// (`E0405`).
pub fn check(network: Network) -> Outcome<Checked<Network>> {
    let errors = shapes::errors(&network);
    if !errors.is_empty() {
        return Err(errors);
    }
    let certificate = intervals::prove(&network)?;
    Ok(Checked { value: network, certificate })
}

/// Whether a certificate, wherever it came from, holds for a network.
///
/// Every claimed interval must contain what follows from the intervals claimed before it, and every
/// accumulator must fit its lane; intervals wider than necessary are accepted.
#[must_use]
pub fn holds(network: &Network, certificate: &Certificate) -> bool {
    shapes::errors(network).is_empty() && intervals::holds(network, certificate)
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
