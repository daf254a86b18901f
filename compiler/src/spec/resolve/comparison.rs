//! Comparisons of a field with a constant: which of the values that the field can have fulfil them.

use super::FlowFacts;
use super::fields::{field, flag};
use super::{number, payload};
use crate::diag::Span;
use crate::ir::flow::decision::{Diagram, Variable};
use crate::ir::flow::ranges;
use crate::ir::packet;
use crate::spec::ast::{Expr, ExprKind, Name, Number, Path, Range};
use crate::spec::fixed;
use crate::spec::report::Reporter;
use crate::spec::typed::{Field, Transports};

/// Why a comparison cannot be used.
pub(super) enum Problem {
    /// A name that is no field.
    Field(Path),
    Other {
        span: Span,
        message: String,
        help: String,
    },
}

/// The packets for which the comparison holds, and the field that is compared, with its name. `None` after a report.
pub(super) fn diagram(
    left: &Expr,
    operator: &Name,
    right: &Expr,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Result<Option<(String, Field, Diagram)>, Problem> {
    let (side, number, turned) = match (side(left), side(right)) {
        (Side::Number(_), Side::Number(_)) => {
            return Err(other(left, right, "both sides of the comparison are constants"));
        }
        (Side::Other, _) | (_, Side::Other) => {
            return Err(other(left, right, "this is no comparison of a field with a constant"));
        }
        (side, Side::Number(number)) => (side, number, false),
        (Side::Number(number), side) => (side, number, true),
        (_, _) => return Err(other(left, right, "both sides of the comparison are fields")),
    };
    let (name, field, span) = match side {
        Side::Byte(base, range, single, span) => {
            let Some(field) = payload::byte(base, range, single, reporter) else { return Ok(None) };
            (format!("payload[{}]", range.low.text), field, span)
        }
        Side::Field(path) => {
            let name = path.text();
            if flag(&name).is_some() {
                return Err(Problem::Other {
                    span: path.span.clone(),
                    message: format!("`{name}` is a condition, not a number"),
                    help: format!("write `{name}`, or `not {name}`"),
                });
            }
            if name == "gap" {
                return Err(Problem::Other {
                    span: path.span.clone(),
                    message: "a condition cannot ask for `gap`: it depends on which packets pass".to_owned(),
                    help: "compare a field of the packet".to_owned(),
                });
            }
            let Some(facts) = field(&name) else { return Err(Problem::Field(path.clone())) };
            (name, facts.field, &path.span)
        }
        Side::Number(_) | Side::Other => return Ok(None),
    };
    if field == Field::Direction && flow.is_some_and(FlowFacts::single) {
        return Err(Problem::Other {
            span: span.clone(),
            message: "a direction is one in a flow, and single packets have none".to_owned(),
            help: "remove the condition, or compare ports: `l4.dst_port < 1024`".to_owned(),
        });
    }
    let value = number::whole(number).or_else(|misfit| match misfit {
        // Far above every field.
        number::Misfit::TooLarge => Ok(i128::from(i64::MAX)),
        number::Misfit::Fraction => Err(Problem::Other {
            span: number.span.clone(),
            message: format!("`{name}` is a whole number, the constant is not"),
            help: "write a whole number".to_owned(),
        }),
    })?;
    let value = u64::try_from(value).unwrap_or(0);
    let holds = |of: u64| {
        let (one, other) = if turned { (value, of) } else { (of, value) };
        match operator.text.as_str() {
            "<" => one < other,
            "<=" => one <= other,
            ">" => one > other,
            ">=" => one >= other,
            "!=" => one != other,
            _ => one == other,
        }
    };
    Ok(Some((name, field, compared(field, value, flow, holds))))
}

enum Side<'a> {
    Field(&'a Path),
    /// A byte of the payload, as [`ExprKind::Slice`] has it.
    Byte(&'a Path, &'a Range, bool, &'a Span),
    Number(&'a Number),
    Other,
}

fn side(expr: &Expr) -> Side<'_> {
    match &expr.kind {
        ExprKind::Path(path) => Side::Field(path),
        ExprKind::Number(number) => Side::Number(number),
        // As deep as brackets nest.
        ExprKind::Group(inner) => side(inner),
        ExprKind::Slice { base, range, single } => Side::Byte(base, range, *single, &expr.span),
        ExprKind::Call(_)
        | ExprKind::Not(_)
        | ExprKind::Negate(_)
        | ExprKind::Or(_)
        | ExprKind::And(_)
        | ExprKind::Compare { .. }
        | ExprKind::Sum(_)
        | ExprKind::Product(_)
        | ExprKind::Qualified { .. } => Side::Other,
    }
}

fn other(left: &Expr, right: &Expr, message: &str) -> Problem {
    Problem::Other {
        span: left.span.start..right.span.end,
        message: message.to_owned(),
        help: "compare a field with a constant, for example `l4.dst_port == 443`".to_owned(),
    }
}

/// The packets whose field has this value.
pub(super) fn is(field: Field, wanted: u64, flow: Option<&FlowFacts>) -> Diagram {
    compared(field, wanted, flow, |value| value == wanted)
}

/// `tcp`, `udp`, `icmp` or `sctp`.
pub(super) fn protocol(name: &str, flow: Option<&FlowFacts>) -> Diagram {
    let numbers: &[u8] = match name {
        "tcp" => &[packet::TCP],
        "udp" => &[packet::UDP],
        "icmp" => &[packet::ICMP, packet::ICMPV6],
        _ => &[packet::SCTP],
    };
    let ends: Vec<u64> = possible(Field::IpProto, flow).into_iter().map(|(_, number)| number).collect();
    Diagram::ask(Variable::Field(Field::IpProto), &ends, |value| {
        numbers.iter().any(|number| u64::from(*number) == value)
    })
}

/// The packets whose field fulfils a comparison with `value`.
fn compared(field: Field, value: u64, flow: Option<&FlowFacts>, holds: impl Fn(u64) -> bool) -> Diagram {
    // What has a question of its own is asked by that.
    if field == Field::TcpFlags {
        return flags(flow, holds);
    }
    if let Field::TcpFlag(bit) = field {
        return flags(flow, |flags| holds(flags >> bit.min(7) & 1));
    }
    if field == Field::Direction && !flow.is_some_and(|flow| flow.directional) {
        return Diagram::ask(Variable::Backward, &[0, 1], holds);
    }
    let mut ends: Vec<u64> = Vec::new();
    for (low, high) in possible(field, flow) {
        let inside = [value.checked_sub(1), Some(value)].into_iter().flatten();
        ends.extend(inside.filter(|end| (low..high).contains(end)));
        ends.push(high);
    }
    ends.sort_unstable();
    ends.dedup();
    Diagram::ask(Variable::Field(field), &ends, holds)
}

/// The flags as a number are the flags one by one, so that both ways to write a condition mean the same.
fn flags(flow: Option<&FlowFacts>, holds: impl Fn(u64) -> bool) -> Diagram {
    if flow.is_some_and(FlowFacts::without_tcp) {
        return if holds(0) { Diagram::ALWAYS } else { Diagram::NEVER };
    }
    Diagram::byte(&|flags| holds(u64::from(flags)))
}

/// Ranges of values that a field can have in this flow, in their order.
fn possible(field: Field, flow: Option<&FlowFacts>) -> Vec<(u64, u64)> {
    let one = |value: u64| (value, value);
    // A flow block without a known protocol was reported.
    let named = flow.map(|flow| flow.transports).filter(|named| *named != Transports::default());
    let named = named.unwrap_or(Transports::ALL);
    if let Some((only, _)) = fixed::of(field, named) {
        return vec![one(only)];
    }
    match field {
        Field::Direction if flow.is_some_and(|flow| flow.directional) => vec![one(0)],
        Field::EthType => vec![one(0x0800), one(0x86dd)],
        Field::IpVersion => vec![one(4), one(6)],
        Field::IpProto => {
            let all = [
                (named.icmp, packet::ICMP),
                (named.tcp, packet::TCP),
                (named.udp, packet::UDP),
                (named.icmp, packet::ICMPV6),
                (named.sctp, packet::SCTP),
            ];
            all.into_iter().filter(|(there, _)| *there).map(|(_, number)| one(u64::from(number))).collect()
        }
        Field::Direction
        | Field::FrameLen
        | Field::EthSrc
        | Field::EthDst
        | Field::VlanCount
        | Field::VlanId
        | Field::VlanPcp
        | Field::IpLen
        | Field::IpHeaderLen
        | Field::IpTtl
        | Field::IpTos
        | Field::IpDscp
        | Field::IpEcn
        | Field::IpId
        | Field::IpDf
        | Field::IpMf
        | Field::IpFlowLabel
        | Field::L4Len
        | Field::L4HeaderLen
        | Field::L4PayloadLen
        | Field::SrcPort
        | Field::DstPort
        | Field::TcpFlags
        | Field::TcpFlag(_)
        | Field::TcpSeq
        | Field::TcpAckNumber
        | Field::TcpWindow
        | Field::TcpUrgent
        | Field::TcpOptionsLen
        | Field::UdpLen
        | Field::SctpTag
        | Field::IcmpType
        | Field::IcmpCode
        | Field::Payload(_) => vec![(0, ranges::field_limit(field))],
    }
}

/// The values that a field can have, in words.
pub(super) fn values(field: Field, flow: Option<&FlowFacts>) -> String {
    let words = |(low, high)| if low == high { format!("{low}") } else { format!("{low} to {high}") };
    possible(field, flow).into_iter().map(words).collect::<Vec<_>>().join(" or ")
}
