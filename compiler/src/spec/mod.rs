//! Feature-spec source to a checked [`typed::FeatureSpec`]: lexer, parser, AST, resolution.
//!
//! The language is defined in `specs/language.md`.

pub mod lexer;
pub mod ast;
mod parser;
mod resolve;
mod report;
pub mod typed;
#[cfg(test)]
mod tests;

pub use typed::FeatureSpec;

use crate::diag::Outcome;

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
