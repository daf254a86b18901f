//! Expressions of features: arithmetic over aggregates, with units and ranges.

use super::aggregate::{aggregate, derived};
use super::number;
use super::{FlowFacts, feature, single};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::formula::{Binary, FRACTION, Formula, Misfit, Unary};
use crate::ir::flow::{SAMPLE_LIMIT, ranges};
use crate::ir::{FractionBits, Interval};
use crate::spec::ast::{Expr, ExprKind, Name, Number};
use crate::spec::report::Reporter;
use crate::spec::typed::{Aggregate, Function, TimeUnit, Unit};

/// No aggregate reaches this: sums are below 2^63, and [`ranges::of`] gives it for variances beyond.
const WIDEST: i64 = i64::MAX;

/// An expression whose meaning is known.
pub(super) struct Value {
    pub(super) formula: Formula<Aggregate>,
    /// What the number counts; `None` for constants, which go with everything.
    pub(super) unit: Option<Unit>,
}

impl Value {
    /// One aggregate.
    pub(super) fn leaf(aggregate: Aggregate, flow: Option<&FlowFacts>) -> Self {
        let unit = Some(feature::unit(&aggregate));
        let bits = ranges::fraction_bits(aggregate.function);
        let range = feature::range(&aggregate, flow);
        Self { formula: Formula::leaf(aggregate, bits, range), unit }
    }
}

/// The value that an expression stands for; `None` when something was reported.
pub(super) fn formula(expr: &Expr, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    match &expr.kind {
        ExprKind::Group(inner) => formula(inner, flow, reporter),
        ExprKind::Number(number) => constant(number, reporter),
        ExprKind::Negate(inner) => {
            let zero = Value { formula: whole(0), unit: None };
            let value = formula(inner, flow, reporter)?;
            binary(Binary::Sub, zero, value, &expr.span, reporter)
        }
        ExprKind::Sum(members) | ExprKind::Product(members) => chain(members, flow, reporter),
        ExprKind::Compare { left, operator, right } => {
            // Both sides are looked at, so that mistakes in both are shown.
            let (left, right) = (formula(left, flow, reporter), formula(right, flow, reporter));
            comparison(operator, left?, right?, &expr.span, reporter)
        }
        ExprKind::Path(_) | ExprKind::Slice { .. } | ExprKind::Qualified { .. }
            if flow.is_some_and(FlowFacts::single) =>
        {
            single::value(expr, flow, reporter)
        }
        ExprKind::Call(call)
            if flow.is_some_and(FlowFacts::single) && unary_function(&call.function.text).is_none() =>
        {
            single::value(expr, flow, reporter)
        }
        ExprKind::Call(call) => match unary_function(&call.function.text) {
            Some(op) => unary(op, &call.function, &call.arguments, flow, reporter),
            None => derived(expr, &[], flow, reporter).unwrap_or_else(|| plain(expr, flow, reporter)),
        },
        ExprKind::Qualified { value, qualifiers } => {
            derived(value, qualifiers, flow, reporter).unwrap_or_else(|| plain(expr, flow, reporter))
        }
        ExprKind::Not(inner) => {
            let value = truth(inner, "not", flow, reporter)?;
            binary(Binary::Sub, Value { formula: whole(1), unit: None }, value, &expr.span, reporter)
        }
        ExprKind::And(members) => joined(Binary::And, "and", members, flow, reporter),
        ExprKind::Or(members) => joined(Binary::Or, "or", members, flow, reporter),
        ExprKind::Path(_) | ExprKind::Slice { .. } => plain(expr, flow, reporter),
    }
}

/// An expression that is one aggregate or refused.
fn plain(expr: &Expr, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    let value = Value::leaf(aggregate(expr, flow, reporter)?, flow);
    if value.formula.range.high == WIDEST {
        reporter
            .error(
                &codes::RANGE,
                expr.span.clone(),
                "the variance of these times can pass 62 bits",
                "use `std`, which always fits; without `where`, a shorter idle time or a coarser unit helps too",
            )
            .primary("for some flows");
        return None;
    }
    Some(value)
}

/// `a and b and c`, of truth values.
fn joined(
    op: Binary,
    word: &str,
    members: &[Expr],
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    // All are looked at, so that mistakes in all are shown.
    let values: Vec<Option<Value>> =
        members.iter().map(|member| truth(member, word, flow, reporter)).collect();
    let mut values = values.into_iter();
    let first = values.next()??;
    values.try_fold(first, |left, right| {
        let formula = Formula::binary(op, left.formula, right?.formula).ok()?;
        Some(Value { formula, unit: Some(Unit::Plain) })
    })
}

/// An expression that must be 0 or 1.
fn truth(expr: &Expr, word: &str, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    let value = formula(expr, flow, reporter)?;
    if value.formula.is_truth() {
        return Some(value);
    }
    reporter
        .error(
            &codes::CONDITION,
            expr.span.clone(),
            format!("`{word}` is for what is 0 or 1, this can be another number"),
            "compare it, for example with `> 0`",
        )
        .primary("a number");
    None
}

const fn whole(raw: i64) -> Formula<Aggregate> {
    Formula::constant(raw, FractionBits(0))
}

/// A number: whole, or in steps of 1/256.
fn constant(number: &Number, reporter: &mut Reporter<'_>) -> Option<Value> {
    let exact = |bits: FractionBits| {
        let raw = number::scaled(number, 1 << bits.0);
        raw.map(|raw| i64::try_from(raw).map(|raw| Formula::constant(raw, bits)))
    };
    let problem = match exact(FractionBits(0)) {
        Ok(Ok(formula)) => return Some(Value { formula, unit: None }),
        Err(number::Misfit::Fraction) => match exact(FRACTION) {
            Ok(Ok(formula)) => return Some(Value { formula, unit: None }),
            Err(number::Misfit::Fraction) => {
                let below = number::floor(number, 256).unwrap_or(0);
                let near = below as f64 / 256.0;
                (
                    "constants are whole numbers or multiples of 1/256",
                    format!("write `{near}`, the next one below, or scale the feature by a whole number"),
                )
            }
            Ok(Err(_)) | Err(number::Misfit::TooLarge) => too_large(),
        },
        Ok(Err(_)) | Err(number::Misfit::TooLarge) => too_large(),
    };
    reporter.error(&codes::RANGE, number.span.clone(), problem.0, problem.1).primary("a constant");
    None
}

fn too_large() -> (&'static str, String) {
    ("the constant does not fit 62 bits", "write a smaller number".to_owned())
}

/// `a + b - c`, `a * b / c`; the first operator belongs to no pair.
fn chain(members: &[(Name, Expr)], flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Value> {
    let resolved: Vec<(&Name, &Expr, Option<Value>)> =
        members.iter().map(|(name, expr)| (name, expr, formula(expr, flow, reporter))).collect();
    let start = members.first().map_or(0, |(_, expr)| expr.span.start);
    let mut result: Option<Value> = None;
    for (operator, expr, value) in resolved {
        let value = value?;
        let Some(left) = result else {
            result = Some(value);
            continue;
        };
        let op = match operator.text.as_str() {
            "+" => Binary::Add,
            "-" => Binary::Sub,
            "*" => Binary::Mul,
            "/" => Binary::Div,
            // The parser knows no other one.
            _ => Binary::Rem,
        };
        result = Some(binary(op, left, value, &(start..expr.span.end), reporter)?);
    }
    result
}

fn binary(op: Binary, left: Value, right: Value, span: &Span, reporter: &mut Reporter<'_>) -> Option<Value> {
    let unit = match op {
        Binary::Add | Binary::Sub | Binary::Rem => common_unit(&left, &right, span, reporter)?,
        Binary::And | Binary::Or => Some(Unit::Plain),
        Binary::Less | Binary::Equal => {
            common_unit(&left, &right, span, reporter).map(|_| Some(Unit::Plain))?
        }
        Binary::Mul | Binary::Div => match (left.unit, right.unit) {
            // A multiple or a part of something is of the same kind.
            (Some(unit), None) => Some(unit),
            (None, Some(unit)) if op == Binary::Mul => Some(unit),
            (None, None) => None,
            (Some(_) | None, Some(_)) => Some(Unit::Plain),
        },
    };
    let flow_size = flow_size(op, &left.formula, &right.formula);
    match Formula::binary(op, left.formula, right.formula) {
        Ok(formula) => Some(Value { formula, unit }),
        Err(misfit) => {
            let (problem, help) = match misfit {
                Misfit::TooWide => (
                    "the value, or a part of it scaled by 256 for a quotient, can pass 62 bits",
                    "use a coarser unit (`as ms`), means instead of sums, or divide before multiplying",
                ),
                Misfit::NoTruth => ("this can be another number than 0 and 1", "compare it with `> 0`"),
                Misfit::NegativeDivisor => {
                    ("the divisor can be negative", "write `abs( )` around it, or turn the difference around")
                }
            };
            let details =
                reporter.error(&codes::RANGE, span.clone(), problem, help).primary("for some flows");
            if let Some(packets) = flow_size {
                details.note(format!(
                    "it fits for flows of up to {packets} packets; records take in up to {SAMPLE_LIMIT}"
                ));
            }
            None
        }
    }
}

/// The longest flows, in packets, for which two values can be joined that cannot be joined for all; none where they
/// can, or where the number of packets does not matter.
fn flow_size(op: Binary, left: &Formula<Aggregate>, right: &Formula<Aggregate>) -> Option<u64> {
    let known = |bits, range| Formula::leaf((), bits, range);
    let join = |left, right| Formula::binary(op, left, right);
    let whole = join(known(left.bits, left.range), known(right.bits, right.range));
    if whole.err() != Some(Misfit::TooWide) {
        return None;
    }
    let fits = |packets: u64| {
        let leaf = |aggregate: &Aggregate| of_packets(aggregate, packets);
        let sides = (left.range_over(&leaf).ok()?, right.range_over(&leaf).ok()?);
        join(known(left.bits, sides.0), known(right.bits, sides.1)).ok()
    };
    fits(1)?;
    let (mut fit, mut misfit) = (1, SAMPLE_LIMIT);
    while misfit - fit > 1 {
        let middle = fit + (misfit - fit) / 2;
        match fits(middle) {
            Some(_) => fit = middle,
            None => misfit = middle,
        }
    }
    Some(fit).filter(|fit| *fit + 1 < SAMPLE_LIMIT)
}

/// Raw values of an aggregate over so many packets.
fn of_packets(aggregate: &Aggregate, packets: u64) -> Interval {
    let Interval { low, high } = ranges::of(aggregate);
    let most = match (aggregate.function, aggregate.operand) {
        (Function::Count, _) => packets,
        (Function::Sum, Some(operand)) => packets.saturating_mul(ranges::sample_limit(operand)),
        _ => return Interval { low, high },
    };
    Interval { low, high: high.min(i64::try_from(most).unwrap_or(i64::MAX)) }
}

/// The unit of a sum; `None` after a report.
#[expect(clippy::option_option, reason = "no unit and no sum are different answers")]
fn common_unit(
    left: &Value,
    right: &Value,
    span: &Span,
    reporter: &mut Reporter<'_>,
) -> Option<Option<Unit>> {
    match (left.unit, right.unit) {
        (Some(one), Some(other)) if one != other && one != Unit::Plain && other != Unit::Plain => {
            let help = match (one, other) {
                (Unit::Time(_), Unit::Time(_)) => "give both the same unit with `as`",
                (
                    Unit::Packets
                    | Unit::Bytes
                    | Unit::Time(_)
                    | Unit::PacketsPerSecond
                    | Unit::BytesPerSecond
                    | Unit::Plain,
                    _,
                ) => "give the model each part as a feature of its own, or divide one by the other",
            };
            let problem = format!("{} and {} cannot be added or compared", name(one), name(other));
            reporter.error(&codes::UNIT, span.clone(), problem, help).primary("different units");
            None
        }
        (Some(Unit::Plain), Some(other)) => Some(Some(other)),
        (Some(one), Some(_) | None) => Some(Some(one)),
        (None, other) => Some(other),
    }
}

const fn name(unit: Unit) -> &'static str {
    match unit {
        Unit::Packets => "packets",
        Unit::Bytes => "bytes",
        Unit::PacketsPerSecond => "packets per second",
        Unit::BytesPerSecond => "bytes per second",
        Unit::Time(TimeUnit::Nanos) => "nanoseconds",
        Unit::Time(TimeUnit::Micros | TimeUnit::MicroTicks) => "microseconds",
        Unit::Time(TimeUnit::Millis | TimeUnit::MilliTicks) => "milliseconds",
        Unit::Time(TimeUnit::Seconds | TimeUnit::SecondTicks) => "seconds",
        Unit::Plain => "plain numbers",
    }
}

fn comparison(
    operator: &Name,
    left: Value,
    right: Value,
    span: &Span,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    let (op, left, right, negated) = match operator.text.as_str() {
        "<" => (Binary::Less, left, right, false),
        ">" => (Binary::Less, right, left, false),
        ">=" => (Binary::Less, left, right, true),
        "<=" => (Binary::Less, right, left, true),
        "!=" => (Binary::Equal, left, right, true),
        _ => (Binary::Equal, left, right, false),
    };
    let value = binary(op, left, right, span, reporter)?;
    if !negated {
        return Some(value);
    }
    binary(Binary::Sub, Value { formula: whole(1), unit: None }, value, span, reporter)
}

/// Functions of one value.
fn unary_function(name: &str) -> Option<Unary> {
    match name {
        "abs" => Some(Unary::Abs),
        "log2" => Some(Unary::Log2),
        _ => None,
    }
}

fn unary(
    op: Unary,
    name: &Name,
    arguments: &[Expr],
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Value> {
    let [argument] = arguments else {
        reporter.error(
            &codes::ARGUMENTS,
            name.span.clone(),
            format!("`{}` takes one argument, {} are given", name.text, arguments.len()),
            if flow.is_some_and(FlowFacts::single) {
                format!("write `{}(1 + ip.len)`, or another value", name.text)
            } else {
                format!("write `{}(1 + sum(ip.len))`, or another value", name.text)
            },
        );
        return None;
    };
    let value = formula(argument, flow, reporter)?;
    let unit = match op {
        Unary::Abs => value.unit,
        Unary::Log2 => Some(Unit::Plain),
    };
    Some(Value { formula: Formula::unary(op, value.formula), unit })
}

/// The value inside of what `clip` says.
pub(super) fn clipped(value: Value, interval: Interval) -> Value {
    Value { formula: Formula::clip(value.formula, interval), unit: value.unit }
}
