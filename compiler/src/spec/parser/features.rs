//! `features of FLOW { NAME = EXPRESSION …; }`

use chumsky::prelude::*;

use super::basic::{block, bounds, name, range, semicolon, sign, word};
use super::expression::expression;
use super::{Parsed, Token};
use crate::spec::ast::{Feature, Features, Limit};

pub(super) fn features<'p>() -> Parsed<'p, Features> {
    word("features")
        .ignore_then(word("of").ignore_then(name("the name of a flow")).or_not())
        .map_with(|flow, extra| (flow, range(extra.span())))
        .then(block(feature().map(Some).boxed(), None))
        .map(|((flow, head), features)| Features {
            flow,
            features: features.into_iter().flatten().collect(),
            head,
        })
        .boxed()
}

fn feature<'p>() -> Parsed<'p, Feature> {
    let limit = choice((
        word("in").ignore_then(bounds()).map(Limit::In),
        word("clip").ignore_then(bounds()).map(Limit::Clip),
    ));
    name("a name for a feature")
        .then_ignore(sign(Token::Assign))
        .then(expression())
        .then(limit.repeated().collect::<Vec<_>>())
        .map_with(|((name, value), limits), extra| Feature { name, value, limits, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}
