//! Codes of the contract between model and specification, and of quantisation: `E03xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
