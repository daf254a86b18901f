//! Tokens to [`ast`](super::ast): the grammar of `specs/language.md`, one file per block of the language.
//!
//! The parser recovers at the end of a statement, so that several mistakes are reported at once. It decides
//! nothing about meaning.

mod basic;
mod errors;
mod expression;
mod features;
mod flow;
mod items;
mod rule;

use chumsky::input::{Input as _, MappedInput};
use chumsky::prelude::*;

use super::ast;
use super::lexer::{Spanned, Token};
use super::report::Reporter;

/// What the parsers read.
type Tokens<'p> = MappedInput<'p, Token<'p>, SimpleSpan, &'p [Spanned<'p>]>;

/// How they fail.
type Extra<'p> = extra::Err<Failure<'p>>;

/// One failure, before it is put in words.
type Failure<'p> = Rich<'p, Token<'p>, SimpleSpan>;

/// A parser of `O`; boxed, which keeps the types and the build time small.
type Parsed<'p, O> = Boxed<'p, 'p, Tokens<'p>, O, Extra<'p>>;

/// Parses the tokens of one file, whose text ends at `end` of `source`. Statements that do not parse are reported and become broken entries.
pub(super) fn parse(
    source: &str,
    end: usize,
    tokens: &[Spanned<'_>],
    reporter: &mut Reporter<'_>,
) -> ast::File {
    let input = tokens.split_token_span(SimpleSpan::from(end..end));
    let (file, failures) = items::file().parse(input).into_output_errors();
    errors::report(source, tokens, &failures, reporter);
    file.unwrap_or_default()
}
