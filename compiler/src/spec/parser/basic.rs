//! The small parts that every block uses: words, names, numbers, ends of statements, recovery.

use chumsky::prelude::*;

use super::{Parsed, Token};
use crate::diag::Span;
use crate::spec::ast::{Name, Number, Path, Quantity, Range};

/// This very word.
pub(super) fn word<'p>(text: &'static str) -> Parsed<'p, ()> {
    just(Token::Word(text)).ignored().boxed()
}

/// This very sign.
pub(super) fn sign<'p>(token: Token<'static>) -> Parsed<'p, ()> {
    just(token).ignored().boxed()
}

/// Any word; `what` says what it names.
pub(super) fn name<'p>(what: &'static str) -> Parsed<'p, Name> {
    name_except(what, &[])
}

/// Any word but these, which continue the statement.
pub(super) fn name_except<'p>(what: &'static str, reserved: &'static [&'static str]) -> Parsed<'p, Name> {
    select! { Token::Word(text) if !reserved.contains(&text) => text }
        .map_with(|text: &str, extra| Name { text: text.to_owned(), span: range(extra.span()) })
        .labelled(what)
        .boxed()
}

/// A word, or a text in quotes where the name has blanks.
pub(super) fn name_or_text<'p>(what: &'static str) -> Parsed<'p, Name> {
    select! {
        Token::Word(text) => text,
        Token::Text(text) => text.trim_matches('"'),
    }
    .map_with(|text: &str, extra| Name { text: text.to_owned(), span: range(extra.span()) })
    .labelled(what)
    .boxed()
}

/// Words joined by dots, the first of which is none of `reserved`.
pub(super) fn path<'p>(what: &'static str, reserved: &'static [&'static str]) -> Parsed<'p, Path> {
    let rest = sign(Token::Dot).ignore_then(name("a name")).repeated().collect::<Vec<_>>();
    name_except(what, reserved)
        .then(rest)
        .map_with(|(first, rest), extra| {
            let parts = std::iter::once(first).chain(rest).collect();
            Path { parts, span: range(extra.span()) }
        })
        .boxed()
}

/// What messages call a number.
pub(super) const NUMBER: &str = "a number";

/// A number without sign.
pub(super) fn number<'p>() -> Parsed<'p, Number> {
    select! { Token::Number(text) => text }
        .map_with(|text: &str, extra| Number {
            text: text.replace('_', ""),
            negative: false,
            span: range(extra.span()),
        })
        .labelled(NUMBER)
        .boxed()
}

/// A number with an optional minus.
fn signed<'p>() -> Parsed<'p, Number> {
    sign(Token::Minus)
        .or_not()
        .then(number())
        .map_with(|(minus, number), extra| Number {
            text: number.text,
            negative: minus.is_some(),
            span: range(extra.span()),
        })
        .boxed()
}

/// A number and what may be its unit.
pub(super) fn quantity<'p>() -> Parsed<'p, Quantity> {
    number()
        .then(name("a unit").or_not())
        .map_with(|(number, unit), extra| Quantity { number, unit, span: range(extra.span()) })
        .boxed()
}

/// `LOW..HIGH`
pub(super) fn bounds<'p>() -> Parsed<'p, Range> {
    signed()
        .then_ignore(sign(Token::DotDot))
        .then(signed())
        .map_with(|(low, high), extra| Range { low, high, span: range(extra.span()) })
        .boxed()
}

/// Words that begin a statement of the top level.
pub(super) const TOP_LEVEL: [&str; 11] =
    ["spec", "attach", "clock", "flow", "features", "model", "classify", "on", "use", "let", "param"];

/// Words that begin a statement inside of a block. Features begin with a name and `=` instead.
const IN_BLOCKS: [&str; 12] = [
    "key",
    "capacity",
    "idle",
    "end",
    "labels",
    "reconstruction",
    "output",
    "drop",
    "block",
    "report",
    "pass",
    "mark",
];

/// The beginning of a statement of the top level. `packets` is a common name of features, so that it begins one only
/// before `on`.
fn top_level<'p>() -> Parsed<'p, ()> {
    choice((one_of(TOP_LEVEL.map(Token::Word)).ignored(), word("packets").ignore_then(word("on")))).boxed()
}

/// The end of a statement. Where it was forgotten, visibly because the next statement begins, reading goes on.
pub(super) fn semicolon<'p>() -> Parsed<'p, ()> {
    let next = choice((
        top_level(),
        one_of(IN_BLOCKS.map(Token::Word)).ignored(),
        name("a name").ignore_then(sign(Token::Assign)),
        sign(Token::RightBrace),
        end(),
    ));
    sign(Token::Semicolon).recover_with(via_parser(next.rewind())).boxed()
}

/// `{ STATEMENT* }`; a statement that does not parse is skipped and replaced by `broken`.
/// Where the closing brace was forgotten, visibly because a statement of the top level begins, reading goes
/// on there.
pub(super) fn block<'p, O: Clone + 'p>(statement: Parsed<'p, O>, broken: O) -> Parsed<'p, Vec<O>> {
    let outside = top_level();
    let skipped = outside.clone().not().ignore_then(skipped_statement()).map(move |()| broken.clone());
    let closing = sign(Token::RightBrace).recover_with(via_parser(outside.rewind().or(end())));
    statement
        .recover_with(via_parser(skipped))
        .repeated()
        .collect::<Vec<_>>()
        .delimited_by(sign(Token::LeftBrace), closing)
        .boxed()
}

/// What is left of a statement that does not parse: up to its semicolon or its block, or to the end of the
/// block that it stands in.
pub(super) fn skipped_statement<'p>() -> Parsed<'p, ()> {
    let plain = none_of([Token::Semicolon, Token::LeftBrace, Token::RightBrace]).ignored();
    let closing = choice((sign(Token::Semicolon), balanced()));
    plain.repeated().at_least(1).ignore_then(closing.clone().or_not().ignored()).or(closing).boxed()
}

/// A block with whatever is in it; the end of the file closes it too.
fn balanced<'p>() -> Parsed<'p, ()> {
    recursive(|block| {
        let content = none_of([Token::LeftBrace, Token::RightBrace]).ignored();
        sign(Token::LeftBrace)
            .ignore_then(choice((content, block)).repeated())
            .then_ignore(sign(Token::RightBrace).or(end()))
    })
    .boxed()
}

/// Parser spans as diagnostics use them.
pub(super) fn range(span: SimpleSpan) -> Span {
    span.start..span.end
}
