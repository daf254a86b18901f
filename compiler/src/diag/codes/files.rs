//! Codes of files and the command line: `E09xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
