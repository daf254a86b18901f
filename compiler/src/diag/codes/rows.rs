//! Codes of feature rows: `E05xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
