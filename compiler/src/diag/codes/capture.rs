//! Codes of captures: `E06xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
