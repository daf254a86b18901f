//! Single packets: what stands in the place of a flow, and features that are fields and formulas over fields.

use super::aggregate::unknown_field;
use super::fields::{field, flag};
use super::flow::{self, Resolved};
use super::formula::Value;
use super::{FlowFacts, condition, payload};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::key::KeyParts;
use crate::spec::ast::{self, Expr, ExprKind, Path};
use crate::spec::report::Reporter;
use crate::spec::typed::{
    Aggregate, Directions, End, Field, Filter, Flow, Function, Operand, Scope, Transports,
};

/// The name behind `classify`.
const NAME: &str = "packet";

/// What to write for a packet in the place of what only a flow has.
const HELP: &str = "write the field itself, for example `ip.ttl`, or describe a flow with a `flow` block";

/// What stands in the place of a flow: transports and a condition. `span` is where it is said that there is none.
pub(super) fn packets(packets: Option<&ast::Packets>, span: Span, reporter: &mut Reporter<'_>) -> Resolved {
    let transports = packets.map_or(Transports::ALL, |packets| flow::protocols(&packets.protocols, reporter));
    let facts = FlowFacts {
        scope: Scope::Packet,
        name: NAME.to_owned(),
        transports,
        // Actions are about the packet's own ends.
        key: KeyParts::FIVE_TUPLE,
        tables: Vec::new(),
        declared: 0,
        directional: true,
        idle: None,
    };
    let mut filter = Filter::default();
    if let Some(wanted) = packets.and_then(|packets| packets.condition.as_ref()) {
        condition::add(&mut filter, wanted, Some(&facts), reporter);
    }
    let flow = Flow {
        scope: Scope::Packet,
        name: NAME.to_owned(),
        transports,
        filter,
        key: KeyParts::FIVE_TUPLE,
        directions: Directions::One,
        capacity: 1,
        idle: None,
        active: None,
        sweep: false,
        end: End::Never,
        span: packets.map_or(span, |packets| packets.span.clone()),
    };
    Resolved { facts, flow: Some(flow) }
}

/// The value of a field of the packet at hand; `None` after a report.
pub(super) fn value(expr: &Expr, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    match &expr.kind {
        ExprKind::Path(path) => named(path, expr, flow, reporter),
        ExprKind::Call(call) => {
            let message =
                format!("`{}` is over the packets of a flow, and there is none", call.function.text);
            refuse(expr, &message, HELP, reporter)
        }
        ExprKind::Qualified { .. } => {
            let message = "qualifiers are for values over the packets of a flow, and there is none";
            refuse(expr, message, HELP, reporter)
        }
        ExprKind::Slice { base, range, single } => {
            payload::byte(base, range, *single, reporter).map(|field| leaf(field, expr, flow))
        }
        // Formulas take these apart.
        ExprKind::Number(_)
        | ExprKind::Group(_)
        | ExprKind::Not(_)
        | ExprKind::Negate(_)
        | ExprKind::Or(_)
        | ExprKind::And(_)
        | ExprKind::Compare { .. }
        | ExprKind::Sum(_)
        | ExprKind::Product(_) => None,
    }
}

/// One name.
fn named(path: &Path, expr: &Expr, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    let text = path.text();
    let (message, help) = match text.as_str() {
        "gap" | "direction" | "fwd" | "bwd" => (
            format!("`{text}` is about a packet in its flow, and there is none"),
            "use fields of the packet, or describe a flow with a `flow` block".to_owned(),
        ),
        "tcp" | "udp" | "icmp" | "sctp" => {
            let number = match text.as_str() {
                "tcp" => "6",
                "udp" => "17",
                "icmp" => "1",
                _ => "132",
            };
            (
                format!("`{text}` is a condition behind `where`, not a number"),
                format!("write `ip.proto == {number}`, which is 0 or 1"),
            )
        }
        other => match field(other) {
            Some(facts) => return Some(leaf(facts.field, expr, flow)),
            None if flag(other).is_none() => {
                unknown_field(path, reporter);
                return None;
            }
            // Every flag is a field as well.
            None => return None,
        },
    };
    refuse(expr, &message, &help, reporter)
}

fn refuse(expr: &Expr, message: &str, help: &str, reporter: &mut Reporter<'_>) -> Option<Value> {
    reporter
        .error(&codes::NOT_AN_AGGREGATE, expr.span.clone(), message, help)
        .primary("packets are judged one by one");
    None
}

/// Over one packet the last value is the value.
pub(super) fn leaf(field: Field, expr: &Expr, flow: Option<&FlowFacts>) -> Value {
    let aggregate = Aggregate {
        function: Function::Last,
        operand: Some(Operand::Field(field)),
        filter: Filter::default(),
        table: None,
        window: None,
        span: expr.span.clone(),
    };
    Value::leaf(aggregate, flow)
}
