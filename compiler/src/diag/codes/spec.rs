//! Codes of the feature specification: `E02xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
