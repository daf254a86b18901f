//! Feature-spec source to a checked [`typed::FeatureSpec`]: lexer, parser, AST, resolution.
//!
//! The language is defined in `specs/language.md`.

pub mod lexer;
pub mod ast;
mod parser;
mod resolve;
mod report;
pub mod format;
pub mod typed;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod conditions_tests;
#[cfg(test)]
mod key_tests;

pub use typed::FeatureSpec;

use crate::compile::Named;
use crate::diag::codes::spec::UNKNOWN_CHARACTER;
use crate::diag::{Diagnostic, Origin, Outcome};

/// Compiles the text of a specification; `file` is the name that diagnostics and line info show.
///
/// # Errors
///
/// Everything that is wrong with the text, in its order; codes `E02xx`. No text panics.
pub fn compile(file: &str, source: &str) -> Outcome<FeatureSpec> {
    let mut reporter = report::Reporter::new(file);
    let Some(tokens) = lexer::lex(source, &mut reporter) else {
        return Err(reporter.into_diagnostics());
    };
    let parsed = parser::parse(source, &tokens, &mut reporter);
    resolve::resolve(file, source, &parsed, &mut reporter).ok_or_else(|| reporter.into_diagnostics())
}

/// [`compile`] for bytes that may not be text.
///
/// # Errors
///
/// Those of [`text`] and [`compile`].
pub fn from_bytes(file: Named<'_>) -> Outcome<FeatureSpec> {
    compile(file.name, text(file)?)
}

/// The text of a specification.
///
/// # Errors
///
/// `E0200` where the bytes are not UTF-8.
pub fn text(file: Named<'_>) -> Outcome<&str> {
    std::str::from_utf8(file.bytes).map_err(|error| {
        vec![Diagnostic::new(
            &UNKNOWN_CHARACTER,
            Origin::File { file: file.name.to_owned() },
            format!("the specification is not UTF-8 text (byte {})", error.valid_up_to()),
            "save the file as UTF-8, and check that the arguments are in the order MODEL SPEC",
        )]
    })
}
