//! Codes of the kernel and the loader: `E08xx`.

use super::Code;

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[];
