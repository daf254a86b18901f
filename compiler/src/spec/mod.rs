//! Feature-spec source to a checked [`typed::FeatureSpec`]: lexer, parser, AST, resolution.
//!
//! The language is defined in `specs/language.md`.

pub mod lexer;
pub mod ast;
pub mod sources;
mod parameters;
mod parser;
mod names;
mod fixed;
mod resolve;
mod report;
pub mod format;
pub mod substance;
pub mod typed;
pub mod advice;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod conditions_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod files_tests;

pub use sources::{Fragments, NoFragments, Parameter, Surroundings};
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
    compile_in(file, source, &Surroundings::default())
}

/// [`compile`] with files that the text uses and values from outside.
///
/// # Errors
///
/// Those of [`compile`], in whichever file.
pub fn compile_in(file: &str, source: &str, surroundings: &Surroundings<'_>) -> Outcome<FeatureSpec> {
    let mut reporter = report::Reporter::new(file);
    let spec = front_end(file, source, surroundings, &mut reporter);
    spec.ok_or_else(|| reporter.into_diagnostics())
}

/// `None` when something was reported.
fn front_end(
    file: &str,
    source: &str,
    surroundings: &Surroundings<'_>,
    reporter: &mut report::Reporter<'_>,
) -> Option<FeatureSpec> {
    let texts = sources::gather(file, source, surroundings.fragments, reporter);
    let mut files = Vec::new();
    for span in texts.spans() {
        let text = texts.joined.get(span.clone()).unwrap_or_default();
        files.push(lexer::lex(text, span.start, reporter)?);
    }
    let parameters = parameters::Parameters::read(&files, surroundings.parameters, reporter);
    let mut parsed: Vec<ast::File> = Vec::new();
    for (tokens, span) in files.into_iter().zip(texts.spans()) {
        let tokens = parameters.replaced(tokens, reporter);
        parsed.push(parser::parse(&texts.joined, span.end, &tokens, reporter));
    }
    let mut whole = ast::File::default();
    insert(0, &mut parsed, &texts, &mut whole);
    names::expand(&mut whole, reporter)?;
    let spec = resolve::resolve(file, source, &whole, reporter)?;
    Some(FeatureSpec { fragments: texts.fragments, parameters: surroundings.parameters.to_vec(), ..spec })
}

/// Puts the statements of a file, and of those that it uses, behind the others. Nests as deep as files use files.
fn insert(file: usize, parsed: &mut [ast::File], texts: &sources::Texts, whole: &mut ast::File) {
    let items = parsed.get_mut(file).map(std::mem::take).unwrap_or_default().items;
    for item in items {
        let inserted = match &item {
            ast::Item::Use(import) => texts.inserts.get(&import.span.start),
            ast::Item::Header(_)
            | ast::Item::Attach(_)
            | ast::Item::Clock(_)
            | ast::Item::Flow(_)
            | ast::Item::Packets(_)
            | ast::Item::Features(_)
            | ast::Item::Model(_)
            | ast::Item::Classify(_)
            | ast::Item::Rule(_)
            | ast::Item::Let(_)
            | ast::Item::Param(_)
            | ast::Item::Broken => None,
        };
        match inserted {
            Some(fragment) => insert(fragment + 1, parsed, texts, whole),
            None => whole.items.push(item),
        }
    }
}

/// [`compile`] for bytes that may not be text.
///
/// # Errors
///
/// Those of [`text`] and [`compile`].
pub fn from_bytes(file: Named<'_>) -> Outcome<FeatureSpec> {
    compile(file.name, text(file)?)
}

/// [`compile_in`] for bytes that may not be text.
///
/// # Errors
///
/// Those of [`text`] and [`compile_in`].
pub fn from_bytes_in(file: Named<'_>, surroundings: &Surroundings<'_>) -> Outcome<FeatureSpec> {
    compile_in(file.name, text(file)?, surroundings)
}

/// The text of a specification, without a byte order mark.
///
/// # Errors
///
/// `E0200` where the bytes are not UTF-8.
pub fn text(file: Named<'_>) -> Outcome<&str> {
    // Editors of other systems put a byte order mark before the text; positions count from behind it.
    let bytes = file.bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file.bytes);
    std::str::from_utf8(bytes).map_err(|error| {
        vec![Diagnostic::new(
            &UNKNOWN_CHARACTER,
            Origin::File { file: file.name.to_owned() },
            format!("the specification is not UTF-8 text (byte {})", error.valid_up_to()),
            "save the file as UTF-8, and check that the arguments are in the order MODEL SPEC",
        )]
    })
}
