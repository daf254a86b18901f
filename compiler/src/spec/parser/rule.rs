//! `classify FLOW at TRIGGERS;` and `on OUTPUT.LABEL when CONDITION { ACTIONS }`

use chumsky::prelude::*;

use super::basic::{
    block, name, name_except, name_or_text, number, path, quantity, range, semicolon, sign, word,
};
use super::expression::expression;
use super::{Parsed, Token};
use crate::spec::ast::{Action, Amount, Classify, Rule, Trigger};

pub(super) fn classify<'p>() -> Parsed<'p, Classify> {
    let triggers = trigger().separated_by(sign(Token::Comma)).at_least(1).collect::<Vec<_>>();
    word("classify")
        .ignore_then(name_except("the name of a flow", &["at"]))
        .then(word("at").ignore_then(triggers).or_not())
        .map_with(|(flow, triggers), extra| Classify {
            flow,
            triggers: triggers.unwrap_or_default(),
            span: range(extra.span()),
        })
        .then_ignore(semicolon())
        .boxed()
}

fn trigger<'p>() -> Parsed<'p, Trigger> {
    let ending = word("end").map_with(|(), extra| Trigger::End { span: range(extra.span()) });
    let packet =
        word("packet").map_with(|(), extra| Trigger::EveryPackets { count: None, span: range(extra.span()) });
    let every = word("every").ignore_then(choice((
        packet,
        quantity().map_with(|quantity, extra| {
            if is_packets(quantity.unit.as_ref().map(|unit| unit.text.as_str())) {
                Trigger::EveryPackets { count: Some(quantity.number), span: range(extra.span()) }
            } else {
                Trigger::Every { time: quantity, span: range(extra.span()) }
            }
        }),
    )));
    let after = word("after").ignore_then(quantity()).map_with(|time, extra| Trigger::After {
        packets: is_packets(time.unit.as_ref().map(|unit| unit.text.as_str())),
        time,
        span: range(extra.span()),
    });
    choice((ending, every, after)).boxed()
}

fn is_packets(unit: Option<&str>) -> bool {
    matches!(unit, Some("packets" | "packet"))
}

pub(super) fn rule<'p>() -> Parsed<'p, Rule> {
    let label = name_or_text("a label").then(sign(Token::Dot).ignore_then(name_or_text("a label")).or_not());
    word("on")
        .ignore_then(label)
        .then(word("when").ignore_then(expression()).or_not())
        .map_with(|parts, extra| (parts, range(extra.span())))
        .then(block(action().map(Some).boxed(), None))
        .map(|((((first, second), condition), head), actions)| {
            let (output, label) = match second {
                None => (None, first),
                Some(label) => (Some(first), label),
            };
            let actions = actions.into_iter().flatten().collect();
            Rule { output, label, condition, actions, head }
        })
        .boxed()
}

fn action<'p>() -> Parsed<'p, Action> {
    let amount = number()
        .then(word("in").ignore_then(number()).or_not())
        .map_with(|(number, of), extra| Amount { number, of, span: range(extra.span()) });
    let object = choice((
        amount.map(|amount| (None, Some(amount))),
        path("a field", &["for"]).map(|subject| (Some(subject), None)),
    ));
    name("an action")
        .then(object.or_not())
        .then(word("for").ignore_then(quantity()).or_not())
        .map_with(|((verb, object), time), extra| {
            let (subject, amount) = object.unwrap_or_default();
            Action { verb, subject, amount, time, span: range(extra.span()) }
        })
        .then_ignore(semicolon())
        .boxed()
}
