//! The top level: which statements a file consists of, and the short ones among them.

use chumsky::prelude::*;

use super::basic::{
    block, name, name_or_text, number, quantity, range, semicolon, sign, skipped_statement, word,
};
use super::expression::expression;
use super::{Parsed, Token};
use crate::spec::ast::{
    Attach, Clock, File, Header, Item, Labels, Let, Model, Output, Param, Reconstruction, Use,
};

pub(super) fn file<'p>() -> Parsed<'p, File> {
    let skipped = skipped_statement().or(sign(Token::RightBrace)).to(Item::Broken);
    item().recover_with(via_parser(skipped)).repeated().collect().map(|items| File { items }).boxed()
}

fn item<'p>() -> Parsed<'p, Item> {
    choice((
        header().map(Item::Header),
        attach().map(Item::Attach),
        clock().map(Item::Clock),
        super::flow::flow().map(Item::Flow),
        super::flow::packets().map(Item::Packets),
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

fn clock<'p>() -> Parsed<'p, Clock> {
    word("clock")
        .ignore_then(name("`exact` or `coarse`"))
        .map_with(|kind, extra| Clock { kind, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn labels<'p>() -> Parsed<'p, Labels> {
    word("labels")
        .ignore_then(name_or_text("a label").separated_by(sign(Token::Comma)).at_least(1).collect::<Vec<_>>())
        .map_with(|names, extra| Labels { names, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn reconstruction<'p>() -> Parsed<'p, Reconstruction> {
    word("reconstruction")
        .ignore_then(name("`l1` or `l2`"))
        .then_ignore(sign(Token::Greater))
        .then(number())
        .map_with(|(error, threshold), extra| Reconstruction { error, threshold, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

/// A statement of the model block.
#[derive(Clone)]
enum Part {
    Labels(Labels),
    Reconstruction(Reconstruction),
    Output(Output),
    Broken,
}

fn model<'p>() -> Parsed<'p, Model> {
    let output = word("output")
        .ignore_then(name("a name for the output"))
        .map_with(|name, extra| (name, range(extra.span())))
        .then(block(labels().map(Some).boxed(), None))
        .map(|((name, head), labels)| Output { name, labels: labels.into_iter().flatten().collect(), head });
    let part = choice((
        labels().map(Part::Labels),
        reconstruction().map(Part::Reconstruction),
        output.map(Part::Output),
    ))
    .boxed();
    word("model")
        .map_with(|(), extra| range(extra.span()))
        .then(block(part, Part::Broken))
        .map(|(head, parts)| {
            let mut model =
                Model { labels: Vec::new(), reconstructions: Vec::new(), outputs: Vec::new(), head };
            for part in parts {
                match part {
                    Part::Labels(labels) => model.labels.push(labels),
                    Part::Reconstruction(statement) => model.reconstructions.push(statement),
                    Part::Output(output) => model.outputs.push(output),
                    Part::Broken => {}
                }
            }
            model
        })
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
