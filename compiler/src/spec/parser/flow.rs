//! `flow NAME on PROTOCOLS { key …; capacity …; idle …; active …; end …; }` and `packets on PROTOCOLS where …;`

use chumsky::prelude::*;

use super::basic::{block, name, number, path, quantity, range, semicolon, sign, word};
use super::expression::condition;
use super::{Parsed, Token};
use crate::spec::ast::{Causes, Flow, FlowClause, Name, Packets};

pub(super) fn flow<'p>() -> Parsed<'p, Flow> {
    let head = word("flow")
        .ignore_then(name("a name for the flow"))
        .then_ignore(word("on"))
        .then(protocols())
        .map_with(|parts, extra| (parts, range(extra.span())));
    head.then(block(clause(), FlowClause::Broken))
        .map(|(((name, protocols), head), clauses)| Flow { name, protocols, clauses, head })
        .boxed()
}

/// `packets on PROTOCOLS [where CONDITION];`
pub(super) fn packets<'p>() -> Parsed<'p, Packets> {
    word("packets")
        .ignore_then(word("on"))
        .ignore_then(protocols())
        .then(word("where").ignore_then(condition()).or_not())
        .map_with(|(protocols, condition), extra| Packets { protocols, condition, span: range(extra.span()) })
        .then_ignore(semicolon())
        .boxed()
}

fn protocols<'p>() -> Parsed<'p, Vec<Name>> {
    name("a protocol").separated_by(sign(Token::Comma)).at_least(1).collect::<Vec<_>>().boxed()
}

fn clause<'p>() -> Parsed<'p, FlowClause> {
    choice((key(), capacity(), idle(), active(), ending())).then_ignore(semicolon()).boxed()
}

fn key<'p>() -> Parsed<'p, FlowClause> {
    word("key")
        .ignore_then(path("a field", &[]).separated_by(sign(Token::Comma)).at_least(1).collect::<Vec<_>>())
        .then(name("`bidirectional` or `directional`").or_not())
        .map_with(|(fields, directions), extra| FlowClause::Key {
            fields,
            directions,
            span: range(extra.span()),
        })
        .boxed()
}

fn capacity<'p>() -> Parsed<'p, FlowClause> {
    word("capacity")
        .ignore_then(number())
        .then(word("evict").ignore_then(name("a policy")).or_not())
        .map_with(|(records, evict), extra| FlowClause::Capacity {
            records,
            evict,
            span: range(extra.span()),
        })
        .boxed()
}

fn idle<'p>() -> Parsed<'p, FlowClause> {
    let swept = quantity().then(word("sweep").or_not());
    let time =
        choice((word("never").to((None, false)), swept.map(|(time, sweep)| (Some(time), sweep.is_some()))));
    word("idle")
        .ignore_then(time)
        .map_with(|(time, sweep), extra| FlowClause::Idle { time, sweep, span: range(extra.span()) })
        .boxed()
}

fn active<'p>() -> Parsed<'p, FlowClause> {
    word("active")
        .ignore_then(quantity())
        .map_with(|time, extra| FlowClause::Active { time, span: range(extra.span()) })
        .boxed()
}

fn ending<'p>() -> Parsed<'p, FlowClause> {
    let causes = path("a cause such as `tcp.fin`", &["never"])
        .separated_by(word("or"))
        .at_least(1)
        .collect::<Vec<_>>()
        .map(Causes::Any);
    word("end")
        .ignore_then(choice((word("never").to(Causes::Never), causes)))
        .map_with(|causes, extra| FlowClause::End { causes, span: range(extra.span()) })
        .boxed()
}
