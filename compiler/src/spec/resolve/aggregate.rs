//! The parts of features: running values over the packets of a flow, and what is made of two of them.
//!
//! What is no value of a flow is refused here by name.

use super::FlowFacts;
use super::condition;
use super::fields::{FIELDS, address, field, flag, refused};
use super::formula::Value;
use super::parameter;
use super::structure::{unknown, unsupported};
use super::table::Reach;
use super::units::time_unit;
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::formula::{Binary, FRACTION, Formula};
use crate::ir::flow::{GAP_LIMIT, ranges};
use crate::ir::{FractionBits, Interval};
use crate::spec::ast::{Call, Expr, ExprKind, Name, Path, Qualifier};
use crate::spec::report::Reporter;
use crate::spec::typed::{Aggregate, Bitmap, Filter, Function, Operand, TimeUnit, Unit, Weight};

/// Functions by name.
pub(in crate::spec) const FUNCTIONS: [(&str, Function); 14] = [
    ("count", Function::Count),
    ("sum", Function::Sum),
    ("min", Function::Min),
    ("max", Function::Max),
    ("first", Function::First),
    ("last", Function::Last),
    ("mean", Function::Mean),
    ("std", Function::Std),
    ("std_pop", Function::StdPop),
    ("var", Function::Var),
    ("var_pop", Function::VarPop),
    // The weight stands behind the operand.
    ("ewma", Function::Ewma(Weight(3))),
    ("rate", Function::Rate),
    ("distinct", Function::Distinct(Bitmap::DEFAULT)),
];

/// Functions that the language will have, with what can be written today.
const PLANNED_FUNCTIONS: [(&str, &str); 1] = [("clip", "write `clip LOW..HIGH` behind the whole expression")];

/// Functions of values and functions that stand for several aggregates: see [`derived`] and
/// [`formula`](super::formula).
const OTHER_FUNCTIONS: [&str; 7] = ["abs", "all", "any", "duration", "log2", "range", "share"];

/// The aggregate that an expression stands for; `None` when something was reported.
pub(super) fn aggregate(
    expr: &Expr,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Aggregate> {
    resolve(expr, &[], &expr.span, flow, reporter)
}

/// `range(FIELD)`, `any(CONDITION)`, `all(CONDITION)`, `share(CONDITION)`, which stand for two aggregates, and
/// `duration()`, which has no operand.
/// `None` when the expression is none of them; `Some(None)` after a report.
///
/// Over no packet each of them is 0.
#[expect(clippy::option_option, reason = "no such function and no sound use of it are different answers")]
pub(super) fn derived(
    expr: &Expr,
    qualifiers: &[Qualifier],
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Option<Value>> {
    let ExprKind::Call(call) = &expr.kind else { return None };
    let span = || {
        let end = qualifiers.iter().fold(expr.span.end, |end, qualifier| end.max(end_of(qualifier)));
        expr.span.start..end
    };
    match call.function.text.as_str() {
        "range" => Some(extremes(call, qualifiers, &span(), flow, reporter)),
        "duration" => Some(lifetime(call, qualifiers, &span(), flow, reporter)),
        "any" | "all" | "share" => Some(counts(call, qualifiers, &span(), flow, reporter)),
        _ => None,
    }
}

fn end_of(qualifier: &Qualifier) -> usize {
    match qualifier {
        Qualifier::Where(condition) => condition.span.end,
        Qualifier::As(name) => name.span.end,
        Qualifier::Per(path) => path.span.end,
        Qualifier::Over(time) => time.span.end,
    }
}

/// `range(x)` is `max(x) - min(x)`.
fn extremes(
    call: &Call,
    qualifiers: &[Qualifier],
    whole: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    let named = |text: &str| {
        let function = Name { text: text.to_owned(), span: call.function.span.clone() };
        Call { function, arguments: call.arguments.clone() }
    };
    // Both take the same operand: one report is enough.
    let high = called(&named("max"), qualifiers, whole, flow, reporter)?;
    let low = Aggregate { function: Function::Min, ..high.clone() };
    let [high, low] = [high, low].map(|aggregate| Value::leaf(aggregate, flow));
    let formula = Formula::binary(Binary::Sub, high.formula, low.formula).ok()?;
    // The smallest is never above the largest.
    let range = Interval { low: 0, ..formula.range };
    Some(Value { formula: Formula { range, ..formula }, unit: high.unit })
}

/// `duration()`, in the unit behind `as`, of the packets behind `where`.
fn lifetime(
    call: &Call,
    qualifiers: &[Qualifier],
    whole: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    if let (Some(first), Some(last)) = (call.arguments.first(), call.arguments.last()) {
        reporter.error(
            &codes::ARGUMENTS,
            first.span.start..last.span.end,
            "`duration` takes no argument: it is the time from the flow's first packet to its last one",
            "write `duration()`, or `duration() as ms`",
        );
        return None;
    }
    let mut reach = Reach::default();
    for qualifier in qualifiers {
        match qualifier {
            Qualifier::Where(_) | Qualifier::As(_) => {}
            Qualifier::Per(path) => reach.per(path, flow, reporter),
            Qualifier::Over(time) => reach.over(time, reporter),
        }
    }
    if reach.refuse("a duration", reporter) {
        return None;
    }
    // The checks of qualifiers are those of a gap.
    let gap = Path {
        parts: vec![Name { text: "gap".to_owned(), span: call.function.span.clone() }],
        span: call.function.span.clone(),
    };
    let like = Call {
        function: Name { text: "max".to_owned(), span: call.function.span.clone() },
        arguments: vec![Expr { kind: ExprKind::Path(gap), span: call.function.span.clone() }],
    };
    let aggregate = called(&like, qualifiers, whole, flow, reporter)?;
    Some(Value::leaf(Aggregate { function: Function::Duration, ..aggregate }, flow))
}

/// Of the packets that `where` admits, whether some or all fulfil the condition, or which share does.
fn counts(
    call: &Call,
    qualifiers: &[Qualifier],
    whole: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    let name = &call.function;
    let [condition] = call.arguments.as_slice() else {
        reporter.error(
            &codes::ARGUMENTS,
            name.span.clone(),
            format!("`{}` takes one condition, {} are given", name.text, call.arguments.len()),
            format!("write `{}(tcp.syn)`, or another condition", name.text),
        );
        return None;
    };
    let count =
        Call { function: Name { text: "count".to_owned(), span: name.span.clone() }, arguments: Vec::new() };
    let all = called(&count, qualifiers, whole, flow, reporter)?;
    let mut filter = all.filter.clone();
    condition::add(&mut filter, condition, flow, reporter);
    let some = Aggregate { filter, ..all.clone() };
    let [all, some] = [all, some].map(|aggregate| Value::leaf(aggregate, flow).formula);
    let zero = || Formula::constant(0, FractionBits(0));
    let formula = match name.text.as_str() {
        "any" => Formula::binary(Binary::Less, zero(), some),
        "share" => Formula::binary(Binary::Div, some, all).map(|formula| {
            // A part is never more than the whole; two processors may leave the whole behind for a moment.
            Formula::clip(formula, Interval { low: 0, high: 1 << FRACTION.0 })
        }),
        _ => {
            let present = Formula::binary(Binary::Less, zero(), all.clone());
            let equal = Formula::binary(Binary::Equal, all, some);
            present.and_then(|present| Formula::binary(Binary::Mul, present, equal?))
        }
    };
    Some(Value { formula: formula.ok()?, unit: Some(Unit::Plain) })
}

fn resolve(
    expr: &Expr,
    qualifiers: &[Qualifier],
    whole: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Aggregate> {
    let (what, help) = match &expr.kind {
        ExprKind::Call(call) => return called(call, qualifiers, whole, flow, reporter),
        ExprKind::Group(inner) => return resolve(inner, qualifiers, whole, flow, reporter),
        ExprKind::Qualified { value, qualifiers: inner } if qualifiers.is_empty() => {
            return resolve(value, inner, whole, flow, reporter);
        }
        ExprKind::Path(path) => {
            bare(path, reporter);
            return None;
        }
        ExprKind::Qualified { .. } => ("qualifiers behind a bracket are", "write them behind the function"),
        ExprKind::Number(_) => ("a constant as a part of a feature is", "leave it to the model's bias"),
        ExprKind::Slice { .. } => {
            reporter
                .error(
                    &codes::NOT_AN_AGGREGATE,
                    expr.span.clone(),
                    "a byte of the payload has a value for each packet, a feature has one for the flow",
                    "write `first(payload[0])`, or another function such as `last`, `max`, `mean`",
                )
                .primary("one value per packet");
            return None;
        }
        ExprKind::Negate(_)
        | ExprKind::Sum(_)
        | ExprKind::Product(_)
        | ExprKind::Not(_)
        | ExprKind::Or(_)
        | ExprKind::And(_)
        | ExprKind::Compare { .. } => ("a qualifier of arithmetic is", "write it behind each aggregate"),
    };
    unsupported(expr.span.clone(), format!("{what} not supported yet"), help, reporter);
    None
}

/// A name without a function around it.
fn bare(path: &Path, reporter: &mut Reporter<'_>) {
    let text = path.text();
    let function = if text == "gap" { "max" } else { "first" };
    if text == "gap" || field(&text).is_some() {
        reporter
            .error(
                &codes::NOT_AN_AGGREGATE,
                path.span.clone(),
                format!("`{text}` has a value for each packet, a feature has one for the flow"),
                format!("write `{function}({text})`, or another function such as `last`, `max`, `mean`"),
            )
            .primary("one value per packet");
    } else if FUNCTIONS.iter().any(|(name, _)| *name == text) {
        let argument = if text == "count" { "" } else { "l4.len" };
        reporter.error(
            &codes::ARGUMENTS,
            path.span.clone(),
            format!("the function `{text}` has no brackets"),
            format!("write `{text}({argument})`"),
        );
    } else if flag(&text).is_some() || ["fwd", "bwd", "tcp", "udp"].contains(&text.as_str()) {
        reporter
            .error(
                &codes::NOT_AN_AGGREGATE,
                path.span.clone(),
                format!("`{text}` holds for a packet or not, a feature has one value for the flow"),
                format!("write `any({text})`, `all({text})` or `count() where {text}`"),
            )
            .primary("a condition");
    } else {
        unknown_field(path, reporter);
    }
}

pub(super) fn unknown_field(path: &Path, reporter: &mut Reporter<'_>) {
    let text = path.text();
    if let Some((why, help)) = refused(&text) {
        let message = format!("`{text}` is no field: it {why}");
        reporter.error(&codes::UNKNOWN_FIELD, path.span.clone(), message, help).primary("no field");
        return;
    }
    let mut known: Vec<&str> = FIELDS.iter().map(|facts| facts.name).collect();
    known.push("gap");
    unknown(&codes::UNKNOWN_FIELD, "field", &text, path.span.clone(), &known, reporter);
}

fn called(
    call: &Call,
    qualifiers: &[Qualifier],
    whole: &Span,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Aggregate> {
    let function = function(&call.function, reporter);
    let mut filter = Filter::default();
    let mut unit: Option<(&Name, Option<TimeUnit>)> = None;
    let mut reach = Reach::default();
    for qualifier in qualifiers {
        match qualifier {
            Qualifier::Where(condition) => condition::add(&mut filter, condition, flow, reporter),
            Qualifier::As(name) => match &unit {
                None => unit = Some((name, time_unit(name, reporter))),
                Some((first, _)) => {
                    super::structure::repeated("as", first.span.clone(), name.span.clone(), reporter);
                }
            },
            Qualifier::Per(path) => reach.per(path, flow, reporter),
            Qualifier::Over(time) => reach.over(time, reporter),
        }
    }
    let (function, arguments) = parameter::split(function?, call, reporter)?;
    let reach = reach.of(function, &call.function, reporter);
    let operand = operand(function, &call.function, arguments, unit, reporter)?;
    let (table, window) = reach?;
    Some(Aggregate { function, operand, filter, table, window, span: whole.clone() })
}

fn function(name: &Name, reporter: &mut Reporter<'_>) -> Option<Function> {
    let text = name.text.as_str();
    if let Some((_, function)) = FUNCTIONS.iter().find(|(known, _)| *known == text) {
        return Some(*function);
    }
    if matches!(text, "abs" | "log2") {
        reporter
            .error(
                &codes::UNKNOWN_FUNCTION,
                name.span.clone(),
                format!("`{text}` takes a value, not packets: no unit, condition, table or window stands behind it"),
                format!("put what stands behind it inside: `{text}(count() where fwd)`"),
            )
            .primary("no aggregate");
    } else if let Some((_, help)) = PLANNED_FUNCTIONS.iter().find(|(known, _)| *known == text) {
        unsupported(
            name.span.clone(),
            format!("the function `{text}` is not supported yet"),
            *help,
            reporter,
        );
    } else {
        let mut known: Vec<&str> = FUNCTIONS.iter().map(|(name, _)| *name).collect();
        known.extend(OTHER_FUNCTIONS);
        let help = match text {
            "avg" | "average" => Some("did you mean `mean`?"),
            "stddev" | "stdev" | "std_dev" => Some("did you mean `std`?"),
            "len" | "packets" | "number" => Some("did you mean `count`?"),
            _ => None,
        };
        match help {
            Some(help) => {
                reporter
                    .error(
                        &codes::UNKNOWN_FUNCTION,
                        name.span.clone(),
                        format!("there is no function `{text}`"),
                        help,
                    )
                    .primary("not known");
            }
            None => unknown(&codes::UNKNOWN_FUNCTION, "function", text, name.span.clone(), &known, reporter),
        }
    }
    None
}

/// The operand, `Some(None)` for `count()`.
#[expect(clippy::option_option, reason = "no operand and no sound operand are different answers")]
fn operand(
    function: Function,
    name: &Name,
    arguments: &[Expr],
    unit: Option<(&Name, Option<TimeUnit>)>,
    reporter: &mut Reporter<'_>,
) -> Option<Option<Operand>> {
    if function == Function::Rate && arguments.is_empty() {
        return no_unit(unit, "a rate", reporter).then_some(None);
    }
    if function == Function::Count {
        if let (Some(first), Some(last)) = (arguments.first(), arguments.last()) {
            reporter.error(
                &codes::ARGUMENTS,
                first.span.start..last.span.end,
                "`count` takes no argument: it counts packets",
                "write `count()`; which packets count is said by `where`: `count() where tcp.syn`",
            );
            return None;
        }
        return no_unit(unit, "a number of packets", reporter).then_some(None);
    }
    let [argument] = arguments else {
        reporter.error(
            &codes::ARGUMENTS,
            name.span.clone(),
            format!("`{}` takes one argument, {} are given", name.text, arguments.len()),
            format!("write `{}`, or another field", parameter::example(function, name)),
        );
        return None;
    };
    let path = match &argument.kind {
        ExprKind::Path(path) => path,
        ExprKind::Number(_) => {
            reporter.error(
                &codes::ARGUMENTS,
                argument.span.clone(),
                "a number is the same for every packet",
                format!("write `{}`, or another field", parameter::example(function, name)),
            );
            return None;
        }
        ExprKind::Slice { base, range, single } => {
            let field = super::payload::byte(base, range, *single, reporter)?;
            return no_unit(unit, "a byte", reporter).then_some(Some(Operand::Field(field)));
        }
        ExprKind::Call(_)
        | ExprKind::Group(_)
        | ExprKind::Not(_)
        | ExprKind::Negate(_)
        | ExprKind::Or(_)
        | ExprKind::And(_)
        | ExprKind::Compare { .. }
        | ExprKind::Sum(_)
        | ExprKind::Product(_)
        | ExprKind::Qualified { .. } => {
            unsupported(
                argument.span.clone(),
                format!("an expression as the argument of `{}` is not supported yet", name.text),
                format!(
                    "write a single field, `{}`; units and conditions stand behind the bracket",
                    parameter::example(function, name)
                ),
                reporter,
            );
            return None;
        }
    };
    let text = path.text();
    if text == "gap" {
        if function == Function::Rate {
            reporter
                .error(
                    &codes::UNIT,
                    argument.span.clone(),
                    "time per time is no rate",
                    "write `rate()` for packets per second, or `rate(l4.payload_len)` for bytes",
                )
                .primary("a time");
            return None;
        }
        let unit = match unit {
            None => TimeUnit::Nanos,
            Some((_, unit)) => unit?,
        };
        return Some(Some(Operand::Gap(unit)));
    }
    if let (Function::Distinct(_), Some(address)) = (function, address(&text)) {
        return no_unit(unit, &format!("`{text}`"), reporter).then_some(Some(Operand::Address(address)));
    }
    match field(&text) {
        Some(facts) => {
            if ranges::field_limit(facts.field) > GAP_LIMIT && !takes_wide(function) {
                reporter
                    .error(
                        &codes::RANGE,
                        path.span.clone(),
                        format!("`{text}` has more than 31 bits, too many for `{}`", name.text),
                        "use `first`, `last`, `min`, `max` or `distinct`",
                    )
                    .primary("a wide number");
                return None;
            }
            no_unit(unit, &format!("`{text}`"), reporter).then_some(Some(Operand::Field(facts.field)))
        }
        None => {
            unknown_field(path, reporter);
            None
        }
    }
}

/// Whether a function takes samples of more than 31 bits, which sums and squares of them have no room for.
const fn takes_wide(function: Function) -> bool {
    match function {
        Function::Count
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Distinct(_)
        | Function::Duration => true,
        Function::Sum
        | Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Var
        | Function::VarPop
        | Function::Ewma(_)
        | Function::Rate => false,
    }
}

/// Refuses a unit of time behind what is no time.
fn no_unit(unit: Option<(&Name, Option<TimeUnit>)>, what: &str, reporter: &mut Reporter<'_>) -> bool {
    match unit {
        None => true,
        // The unit itself was reported already.
        Some((_, None)) => false,
        Some((name, Some(_))) => {
            reporter
                .error(
                    &codes::UNIT,
                    name.span.clone(),
                    format!("{what} is not a time and has no other unit"),
                    format!("remove `as {}`", name.text),
                )
                .primary("a unit of time");
            false
        }
    }
}
