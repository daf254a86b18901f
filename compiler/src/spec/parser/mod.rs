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

use chumsky::error::RichPattern;
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

/// How often [`parses`] reads on with numbers in the place of words: more often than a statement has parameters.
const ROUNDS: usize = 64;

/// Whether the tokens are statements, whatever the words that stand where numbers are wanted: they may be
/// parameters of other files. What is wrong otherwise is reported.
pub(super) fn parses(source: &str, tokens: &[Spanned<'_>], reporter: &mut Reporter<'_>) {
    let end = source.len();
    let mut tried = tokens.to_vec();
    for _ in 0..ROUNDS {
        let input = tried.split_token_span(SimpleSpan::from(end..end));
        let failures = items::file().parse(input).into_errors();
        if failures.is_empty() {
            return;
        }
        let words: Vec<SimpleSpan> =
            failures.iter().filter(|at| wants_number(at)).map(|at| *at.span()).collect();
        if words.is_empty() {
            break;
        }
        for (token, span) in &mut tried {
            if words.contains(span) {
                *token = Token::Number("1");
            }
        }
    }
    let _statements = parse(source, end, tokens, reporter);
}

/// Whether a word stands where a number could.
fn wants_number(failure: &Failure<'_>) -> bool {
    matches!(failure.found(), Some(Token::Word(_)))
        && failure
            .expected()
            .any(|pattern| matches!(pattern, RichPattern::Label(label) if *label == basic::NUMBER))
}
