//! Turns diagnostics into text that looks like rustc's.

use super::Diagnostic;

/// Source texts by file name, for diagnostics that point into a specification.
pub type Sources<'a> = &'a [(&'a str, &'a str)];

/// Renders one diagnostic, without colours, ending in a newline.
#[must_use]
pub fn plain(diagnostic: &Diagnostic, _sources: Sources<'_>) -> String {
    format!("error[{}]: {}\n   = help: {}\n", diagnostic.code.id, diagnostic.message, diagnostic.help)
}
