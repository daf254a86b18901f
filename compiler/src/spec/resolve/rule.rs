//! Triggers and rules: when a flow is judged and what follows.

use super::feature::check_flow;
use super::model;
use super::number::{self, Misfit};
use super::structure::{repeated, unsupported};
use super::units::duration;
use super::{FlowFacts, action};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::spec::ast::{self, ExprKind, Number, Trigger};
use crate::spec::report::Reporter;
use crate::spec::typed::{End, Flow, Hook, Nanos, Output, Probability, Rule, Triggers};

/// Most rules: each has a bit in a 32-bit mask.
const MAX_RULES: usize = 32;

/// Probabilities are millionths.
const MILLION: u128 = 1_000_000;

/// When verdicts are due. `flow` is the resolved flow, if it could be resolved.
pub(super) fn triggers(
    classify: &ast::Classify,
    facts: Option<&FlowFacts>,
    flow: Option<&Flow>,
    reporter: &mut Reporter<'_>,
) -> Option<Triggers> {
    check_flow(&classify.flow, facts, reporter);
    if facts.is_some_and(FlowFacts::single) {
        return packet_triggers(classify, reporter);
    }
    if classify.triggers.is_empty() {
        reporter.error(
            &codes::TRIGGER,
            classify.span.clone(),
            "the line does not say when to classify",
            format!("write `classify {} at end;`", classify.flow.text),
        );
        return None;
    }
    let mut end: Option<&Span> = None;
    let mut every = None;
    let mut every_time = None;
    let mut after = None;
    let mut after_time = None;
    for trigger in &classify.triggers {
        match trigger {
            Trigger::End { span } => match end {
                None => end = Some(span),
                Some(first) => repeated("end", first.clone(), span.clone(), reporter),
            },
            Trigger::EveryPackets { count, span } => {
                let value = match count {
                    None => Some(1),
                    Some(count) => packets("every", count, reporter),
                };
                once(&mut every, "every … packets", span, value, reporter);
            }
            Trigger::Every { time, span } => {
                let value = interval("every", time, reporter);
                once(&mut every_time, "every TIME", span, value, reporter);
            }
            Trigger::After { time, packets: true, span } => {
                let value = packets("after", &time.number, reporter);
                once(&mut after, "after … packets", span, value, reporter);
            }
            Trigger::After { time, packets: false, span } => {
                let value = interval("after", time, reporter);
                once(&mut after_time, "after TIME", span, value, reporter);
            }
        }
    }
    if let (Some(span), Some(flow)) = (end, flow)
        && flow.end == End::Never
        && flow.idle.is_none()
        && flow.active.is_none()
    {
        reporter
            .error(
                &codes::TRIGGER,
                span.clone(),
                "nothing ends this flow: it has `end never` and `idle never`",
                "give the flow an idle time, for example `idle 120 s;`, or classify `at every 16 packets`",
            )
            .label(flow.span.clone(), "the flow");
    }
    Some(Triggers {
        end: end.is_some(),
        every: every.and_then(|(_, count)| count),
        every_time: every_time.and_then(|(_, time)| time),
        after: after.and_then(|(_, count)| count),
        after_time: after_time.and_then(|(_, time)| time),
    })
}

/// Single packets are judged one by one: without `at`, all of them.
fn packet_triggers(classify: &ast::Classify, reporter: &mut Reporter<'_>) -> Option<Triggers> {
    let mut every = None;
    for trigger in &classify.triggers {
        match trigger {
            Trigger::EveryPackets { count, span } => {
                let value = match count {
                    None => Some(1),
                    Some(count) => packets("every", count, reporter),
                };
                once(&mut every, "every … packets", span, value, reporter);
            }
            Trigger::End { span }
            | Trigger::Every { time: ast::Quantity { span, .. }, .. }
            | Trigger::After { span, .. } => {
                reporter
                    .error(
                        &codes::TRIGGER,
                        span.clone(),
                        "single packets have no end and no age",
                        "write `classify packet at every packet;`, or `every 16 packets` for a part of them",
                    )
                    .primary("about a flow");
                return None;
            }
        }
    }
    let every = match every {
        None => 1,
        Some((_, count)) => count?,
    };
    Some(Triggers { every: Some(every), ..Triggers::default() })
}

/// Keeps the first trigger of a kind and reports the others.
fn once<'a, T>(
    slot: &mut Option<(&'a Span, Option<T>)>,
    what: &str,
    span: &'a Span,
    value: Option<T>,
    reporter: &mut Reporter<'_>,
) {
    match slot {
        None => *slot = Some((span, value)),
        Some((first, _)) => repeated(what, first.clone(), span.clone(), reporter),
    }
}

/// The time behind `every` or `after`.
fn interval(word: &str, time: &ast::Quantity, reporter: &mut Reporter<'_>) -> Option<Nanos> {
    if time.unit.is_none() {
        let number = &time.number.text;
        reporter.error(
            &codes::TRIGGER,
            time.span.clone(),
            "the number has no unit",
            format!("write `{word} {number} packets` or `{word} {number} s`"),
        );
        return None;
    }
    duration(time, reporter)
}

fn packets(word: &str, count: &Number, reporter: &mut Reporter<'_>) -> Option<u32> {
    match number::whole(count).ok().and_then(|value| u32::try_from(value).ok()) {
        Some(value) if value > 0 => Some(value),
        Some(_) | None => {
            reporter.error(
                &codes::TRIGGER,
                count.span.clone(),
                format!("`{}` is not a usable number of packets", count.text),
                format!("write a whole number from 1 to 4294967295, for example `{word} 16 packets`"),
            );
            None
        }
    }
}

/// The rules, as far as they are sound. `outputs` is `None` when the labels are not known.
pub(super) fn rules(
    rules: &[&ast::Rule],
    outputs: Option<&[Output]>,
    hook: Option<Hook>,
    facts: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Vec<Rule> {
    if let Some(beyond) = rules.get(MAX_RULES) {
        reporter.error(
            &codes::TOO_LARGE,
            beyond.head.clone(),
            format!("{} rules are given, the limit is {MAX_RULES}", rules.len()),
            "join rules that have the same actions",
        );
    }
    rules.iter().filter_map(|rule| resolve_rule(rule, outputs, hook, facts, reporter)).collect()
}

fn resolve_rule(
    rule: &ast::Rule,
    outputs: Option<&[Output]>,
    hook: Option<Hook>,
    facts: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Rule> {
    let named = outputs.and_then(|outputs| model::label(rule, outputs, reporter));
    let threshold = rule.condition.as_ref().map(|condition| threshold(condition, reporter));
    let actions = action::actions(rule, hook, facts, reporter);
    let threshold = match threshold {
        None => None,
        Some(threshold) => Some(threshold?),
    };
    let (output, label) = named?;
    Some(Rule { output, label, threshold, actions: actions?, span: rule.head.clone() })
}

/// `p >= NUMBER`
fn threshold(condition: &ast::Expr, reporter: &mut Reporter<'_>) -> Option<Probability> {
    let help = "write `when p >= 0.95`";
    if let ExprKind::Compare { left, operator, right } = &condition.kind
        && let (ExprKind::Path(path), ExprKind::Number(number)) = (&left.kind, &right.kind)
        && path.text() == "p"
    {
        if operator.text != ">=" {
            reporter.error(
                &codes::THRESHOLD,
                operator.span.clone(),
                format!("a threshold is a lower bound, `{}` is none", operator.text),
                format!("write `p >= {}`", number.text),
            );
            return None;
        }
        let problem = match number::scaled(number, MILLION) {
            Ok(value) if value > 0 && value < i128::from(1_000_000) => {
                return u32::try_from(value).ok().map(Probability);
            }
            Ok(_) | Err(Misfit::TooLarge) => "a threshold lies above 0 and below 1",
            Err(Misfit::Fraction) => "a threshold has at most six decimals",
        };
        reporter.error(&codes::THRESHOLD, number.span.clone(), problem, help);
        return None;
    }
    unsupported(
        condition.span.clone(),
        "conditions of rules other than a probability are not supported yet",
        help,
        reporter,
    );
    None
}
