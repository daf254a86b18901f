//! The top level: which statements a file consists of, and the short ones among them.

use chumsky::prelude::*;

use super::basic::{block, name, name_or_text, quantity, range, semicolon, sign, skipped_statement, word};
use super::expression::expression;
use super::{Parsed, Token};
use crate::spec::ast::{Attach, File, Header, Item, Labels, Let, Model, Param, Use};

pub(super) fn file<'p>() -> Parsed<'p, File> {
    let skipped = skipped_statement().or(sign(Token::RightBrace)).to(Item::Broken);
    item().recover_with(via_parser(skipped)).repeated().collect().map(|items| File { items }).boxed()
}

fn item<'p>() -> Parsed<'p, Item> {
    choice((
        header().map(Item::Header),
        attach().map(Item::Attach),
        super::flow::flow().map(Item::Flow),
        super::features::features().map(Item::Features),
        model().map(Item::Model),
        super::rule::classify().map(Item::Classify),
        super::rule::rule().map(Item::Rule),
        import().map(Item::Use),
        definition().map(Item::Let),
        parameter().map(Item::Param),
    ))
    .boxed()
}

fn header<'p>() -> Parsed<'p, Header> {
    word("spec")
        .ignore_then(name("a name for the specification"))
        .then(name("a version such as `v1`"))
        .map_with(|(name, version), extra| Header { name, version, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn attach<'p>() -> Parsed<'p, Attach> {
    word("attach")
        .ignore_then(name("a hook").repeated().at_least(1).at_most(2).collect::<Vec<_>>())
        .map_with(|hook, extra| Attach { hook, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn model<'p>() -> Parsed<'p, Model> {
    let labels = word("labels")
        .ignore_then(name_or_text("a label").separated_by(sign(Token::Comma)).at_least(1).collect::<Vec<_>>())
        .map_with(|names, extra| Labels { names, span: range(extra.span()) })
        .then_ignore(semicolon());
    word("model")
        .map_with(|(), extra| range(extra.span()))
        .then(block(labels.map(Some).boxed(), None))
        .map(|(head, labels)| Model { labels: labels.into_iter().flatten().collect(), head })
        .boxed()
}

fn import<'p>() -> Parsed<'p, Use> {
    let text = select! { Token::Text(text) => text }.labelled("a file in quotes");
    word("use")
        .ignore_then(text)
        .map_with(|_, extra| Use { span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn parameter<'p>() -> Parsed<'p, Param> {
    word("param")
        .ignore_then(name("a name"))
        .then_ignore(sign(Token::Assign))
        .then(sign(Token::Minus).or_not().then(quantity()))
        .map_with(|(name, (minus, mut value)), extra| {
            value.number.negative = minus.is_some();
            Param { name, value, span: range(extra.span()) }
        })
        .then_ignore(semicolon())
        .boxed()
}

fn definition<'p>() -> Parsed<'p, Let> {
    word("let")
        .ignore_then(name("a name"))
        .then_ignore(sign(Token::Assign))
        .then(expression())
        .map_with(|(name, value), extra| Let { name, value, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}
