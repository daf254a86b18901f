//! Expressions of features and conditions.
//!
//! From loose to tight: `or`, `and`, `not`, comparison, `+ -`, `* / %`, `-`, qualifiers (`where`, `as`,
//! `per`, `over`), calls. A condition behind `where` has `or`, `and`, `not` and comparisons of plain values,
//! so that `count() where tcp.syn / count()` is a quotient of two counts.

use chumsky::prelude::*;

use super::basic::{bounds, name, path, quantity, range, sign, word};
use super::{Parsed, Token};
use crate::diag::Span;
use crate::spec::ast::{Call, Expr, ExprKind, Name, Path, Qualifier, Range};

/// An expression.
pub(super) fn expression<'p>() -> Parsed<'p, Expr> {
    recursive(|expression| {
        let primary = primary(expression.boxed());
        let qualified = qualified(primary.clone(), logic(primary));
        logic(sum(product(negated(qualified))))
    })
    .boxed()
}

/// A condition, as behind `where`.
pub(super) fn condition<'p>() -> Parsed<'p, Expr> {
    logic(primary(expression()))
}

/// How messages call everything that joins two values.
pub(super) const OPERATOR: &str = "an operator";

/// Words that continue an expression and therefore begin no value.
const OPERATORS: &[&str] = &["and", "or", "not", "where", "as", "per", "over", "in", "clip"];

fn primary<'p>(expression: Parsed<'p, Expr>) -> Parsed<'p, Expr> {
    let number = super::basic::number().map(ExprKind::Number);
    let arguments = expression
        .clone()
        .separated_by(sign(Token::Comma))
        .allow_trailing()
        .collect::<Vec<_>>()
        .delimited_by(sign(Token::LeftParen), sign(Token::RightParen));
    let one = super::basic::number().map(|number| {
        let span = number.span.clone();
        (Range { low: number.clone(), high: number, span }, true)
    });
    let slice = choice((bounds().map(|range| (range, false)), one))
        .delimited_by(sign(Token::LeftBracket), sign(Token::RightBracket));
    let tail =
        choice((arguments.map(Tail::Arguments), slice.map(|(range, single)| Tail::Slice(range, single))));
    let named = path("a field or function", OPERATORS).then(tail.or_not()).map(|(path, tail)| match tail {
        None => ExprKind::Path(path),
        Some(Tail::Arguments(arguments)) => ExprKind::Call(Call { function: whole(&path), arguments }),
        Some(Tail::Slice(range, single)) => ExprKind::Slice { base: path, range, single },
    });
    let group = expression
        .delimited_by(sign(Token::LeftParen), sign(Token::RightParen))
        .map(|inner| ExprKind::Group(Box::new(inner)));
    choice((number, named, group)).map_with(|kind, extra| Expr { kind, span: range(extra.span()) }).boxed()
}

/// What may follow a name.
enum Tail {
    Arguments(Vec<Expr>),
    Slice(Range, bool),
}

/// A path as one name: functions have no dots, and resolution says so.
fn whole(path: &Path) -> Name {
    Name { text: path.text(), span: path.span.clone() }
}

fn qualified<'p>(primary: Parsed<'p, Expr>, condition: Parsed<'p, Expr>) -> Parsed<'p, Expr> {
    let qualifier = choice((
        word("where").ignore_then(condition).map(Qualifier::Where),
        word("as").ignore_then(name("a unit")).map(Qualifier::As),
        word("per").ignore_then(path("a field", &[])).map(Qualifier::Per),
        word("over").ignore_then(quantity()).map(Qualifier::Over),
    ));
    primary
        .then(qualifier.repeated().collect::<Vec<_>>())
        .map_with(|(value, qualifiers), extra| {
            if qualifiers.is_empty() {
                value
            } else {
                let kind = ExprKind::Qualified { value: Box::new(value), qualifiers };
                Expr { kind, span: range(extra.span()) }
            }
        })
        .boxed()
}

/// An even number of signs says nothing, which keeps the tree flat.
fn negated(operand: Parsed<'_, Expr>) -> Parsed<'_, Expr> {
    prefixed(sign(Token::Minus), operand, ExprKind::Negate)
}

fn prefixed<'p>(
    prefix: Parsed<'p, ()>,
    operand: Parsed<'p, Expr>,
    wrap: impl Fn(Box<Expr>) -> ExprKind + 'p,
) -> Parsed<'p, Expr> {
    prefix
        .repeated()
        .count()
        .then(operand)
        .map_with(move |(count, operand), extra| {
            if count % 2 == 0 {
                operand
            } else {
                Expr { kind: wrap(Box::new(operand)), span: range(extra.span()) }
            }
        })
        .boxed()
}

fn product(factor: Parsed<'_, Expr>) -> Parsed<'_, Expr> {
    let operator = operator(&[Token::Star, Token::Slash, Token::Percent]);
    chain(factor, operator, "*", ExprKind::Product)
}

fn sum(term: Parsed<'_, Expr>) -> Parsed<'_, Expr> {
    chain(term, operator(&[Token::Plus, Token::Minus]), "+", ExprKind::Sum)
}

/// `a op b op c` as a list whose first operator is `first`.
fn chain<'p>(
    member: Parsed<'p, Expr>,
    operator: Parsed<'p, Name>,
    first: &'static str,
    wrap: impl Fn(Vec<(Name, Expr)>) -> ExprKind + 'p,
) -> Parsed<'p, Expr> {
    member
        .clone()
        .then(operator.then(member).repeated().collect::<Vec<_>>())
        .map_with(move |(head, rest), extra| {
            if rest.is_empty() {
                return head;
            }
            let start = head.span.start;
            let head = (Name { text: first.to_owned(), span: start..start }, head);
            Expr { kind: wrap(std::iter::once(head).chain(rest).collect()), span: range(extra.span()) }
        })
        .boxed()
}

/// `or` over `and` over `not` over comparisons of `value`.
fn logic(value: Parsed<'_, Expr>) -> Parsed<'_, Expr> {
    let comparison = operator(&[
        Token::Less,
        Token::LessEqual,
        Token::Greater,
        Token::GreaterEqual,
        Token::Equal,
        Token::NotEqual,
    ]);
    let compared = value
        .clone()
        .then(comparison.then(value).or_not())
        .map_with(|(left, rest), extra| match rest {
            None => left,
            Some((operator, right)) => {
                let kind = ExprKind::Compare { left: Box::new(left), operator, right: Box::new(right) };
                Expr { kind, span: range(extra.span()) }
            }
        })
        .boxed();
    let not = prefixed(word("not"), compared, ExprKind::Not);
    joined(joined(not, "and", ExprKind::And), "or", ExprKind::Or)
}

fn joined<'p>(
    member: Parsed<'p, Expr>,
    by: &'static str,
    wrap: impl Fn(Vec<Expr>) -> ExprKind + 'p,
) -> Parsed<'p, Expr> {
    member
        .separated_by(word(by).labelled(OPERATOR))
        .at_least(1)
        .collect::<Vec<_>>()
        .try_map(move |mut members, span| match (members.pop(), members.is_empty()) {
            (Some(only), true) => Ok(only),
            (Some(last), false) => {
                members.push(last);
                Ok(Expr { kind: wrap(members), span: range(span) })
            }
            (None, _) => Err(Rich::custom(span, "at least one member was parsed")),
        })
        .boxed()
}

fn operator<'p>(tokens: &[Token<'static>]) -> Parsed<'p, Name> {
    let tokens: Vec<Token<'p>> = tokens.to_vec();
    one_of(tokens)
        .map_with(|token: Token<'p>, extra| {
            let span: Span = range(extra.span());
            Name { text: token.to_string(), span }
        })
        .labelled(OPERATOR)
        .boxed()
}
