//! Conditions behind `where`: which packets count.

use super::FlowFacts;
use super::fields::{FLAGS, field, flag};
use super::structure::unsupported;
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::spec::ast::{Expr, ExprKind, Path};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Direction, Filter};

/// Adds the condition to `filter`. What does not fit is reported and left out.
pub(super) fn add(
    filter: &mut Filter,
    condition: &Expr,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    match &condition.kind {
        ExprKind::And(members) => {
            for member in members {
                add(filter, member, flow, reporter);
            }
        }
        ExprKind::Group(inner) => add(filter, inner, flow, reporter),
        ExprKind::Path(path) => atom(filter, path, true, &condition.span, flow, reporter),
        ExprKind::Not(inner) => negated(filter, inner, &condition.span, flow, reporter),
        ExprKind::Or(_) => {
            unsupported(
                condition.span.clone(),
                "`or` in a condition is not supported yet",
                "define one feature for each of the conditions",
                reporter,
            );
        }
        ExprKind::Compare { .. } => {
            unsupported(
                condition.span.clone(),
                "comparisons in a condition are not supported yet",
                "use `fwd`, `bwd` and TCP flags such as `tcp.syn`, joined by `and` and `not`",
                reporter,
            );
        }
        ExprKind::Number(_)
        | ExprKind::Slice { .. }
        | ExprKind::Call(_)
        | ExprKind::Negate(_)
        | ExprKind::Sum(_)
        | ExprKind::Product(_)
        | ExprKind::Qualified { .. } => {
            reporter.error(
                &codes::CONDITION,
                condition.span.clone(),
                "this is no condition that a packet fulfils or not",
                "use `fwd`, `bwd` and TCP flags such as `tcp.syn`, joined by `and` and `not`",
            );
        }
    }
}

fn negated(
    filter: &mut Filter,
    inner: &Expr,
    span: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    match &inner.kind {
        ExprKind::Path(path) => atom(filter, path, false, span, flow, reporter),
        ExprKind::Group(inner) => negated(filter, inner, span, flow, reporter),
        ExprKind::Not(inner) => add(filter, inner, flow, reporter),
        ExprKind::And(_) | ExprKind::Or(_) => {
            unsupported(
                span.clone(),
                "`not` before several conditions is not supported yet",
                "put `not` before each single condition: `not tcp.syn and not tcp.ack`",
                reporter,
            );
        }
        // The same refusals as without `not`.
        ExprKind::Compare { .. }
        | ExprKind::Number(_)
        | ExprKind::Slice { .. }
        | ExprKind::Call(_)
        | ExprKind::Negate(_)
        | ExprKind::Sum(_)
        | ExprKind::Product(_)
        | ExprKind::Qualified { .. } => add(filter, inner, flow, reporter),
    }
}

/// One name, which must be true or false.
fn atom(
    filter: &mut Filter,
    path: &Path,
    wanted: bool,
    span: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    let text = path.text();
    match text.as_str() {
        "fwd" => direction(filter, wanted, span, flow, reporter),
        "bwd" => direction(filter, !wanted, span, flow, reporter),
        "tcp" | "udp" | "ip.fragment" => {
            unsupported(
                span.clone(),
                format!("the condition `{text}` is not supported yet"),
                "use `fwd`, `bwd` and TCP flags such as `tcp.syn`",
                reporter,
            );
        }
        other => match flag(other) {
            Some(bit) => flags(filter, bit, wanted, other, span, flow, reporter),
            None => unknown_condition(other, path, reporter),
        },
    }
}

fn direction(
    filter: &mut Filter,
    forward: bool,
    span: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    let direction = if forward { Direction::Forward } else { Direction::Backward };
    if flow.is_some_and(|flow| flow.directional) {
        // Every packet is forward: the condition says nothing or excludes everything.
        if direction == Direction::Backward {
            reporter
                .error(
                    &codes::NEVER_TRUE,
                    span.clone(),
                    "a directional flow has no backward packets",
                    "remove the condition, or write `key five_tuple bidirectional;`",
                )
                .primary("never true");
        }
        return;
    }
    if filter.direction.is_some_and(|earlier| earlier != direction) {
        never_true(span, "no packet is forward and backward", reporter);
        return;
    }
    filter.direction = Some(direction);
}

fn flags(
    filter: &mut Filter,
    bit: u8,
    wanted: bool,
    name: &str,
    span: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) {
    if wanted && flow.is_some_and(|flow| !flow.tcp && flow.udp) {
        reporter
            .error(
                &codes::NEVER_TRUE,
                span.clone(),
                format!("the flow has no TCP packets, so `{name}` never holds"),
                "remove the condition, or add `tcp` to the flow's protocols",
            )
            .primary("never true");
        return;
    }
    if wanted {
        filter.flags_set |= bit;
    } else {
        filter.flags_clear |= bit;
    }
    if filter.flags_set & filter.flags_clear & bit != 0 {
        never_true(span, &format!("no packet has `{name}` set and clear"), reporter);
        filter.flags_clear &= !bit;
    }
}

fn never_true(span: &Span, message: &str, reporter: &mut Reporter<'_>) {
    reporter
        .error(&codes::NEVER_TRUE, span.clone(), message, "remove one of the two conditions")
        .primary("excludes the condition before it");
}

fn unknown_condition(text: &str, path: &Path, reporter: &mut Reporter<'_>) {
    let span = path.span.clone();
    if field(text).is_some() {
        reporter
            .error(
                &codes::CONDITION,
                span,
                format!("`{text}` is a number, not a condition"),
                "use `fwd`, `bwd` and TCP flags such as `tcp.syn`; comparisons are not supported yet",
            )
            .primary("a number");
        return;
    }
    let known = ["fwd", "bwd"].into_iter().chain(FLAGS.iter().map(|(name, _)| *name));
    // A word without its prefix is the commonest slip.
    let prefixed = format!("tcp.{text}");
    let help = if flag(&prefixed).is_some() {
        format!("did you mean `{prefixed}`?")
    } else {
        match text {
            "forward" => "did you mean `fwd`?".to_owned(),
            "backward" | "reverse" => "did you mean `bwd`?".to_owned(),
            _ => suggest(text, known),
        }
    };
    reporter
        .error(&codes::CONDITION, span, format!("there is no condition `{text}`"), help)
        .primary("not known");
}
