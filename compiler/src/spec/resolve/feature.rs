//! The features block: names, aggregates, and the range that follows from types.

use std::collections::BTreeMap;

use super::FlowFacts;
use super::fields::FIELDS;
use super::formula::{clipped, formula};
use super::structure::unsupported;
use super::{number, payload};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::ranges;
use crate::ir::{FractionBits, Interval};
use crate::spec::ast::{self, Limit, Range};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Aggregate, Feature, Field, Filter, Function, Operand, Unit};

/// Most features of a specification.
const MAX_FEATURES: usize = 1024;

/// Most values in the expression of one feature: a sum nests by one level for each, and what reads formulas recurses.
const MAX_OPERANDS: usize = 256;

/// Longest name of a feature; the kernel's type information would take 127 bytes.
const MAX_NAME: usize = 64;

/// Raw values are smaller than this in magnitude.
const LIMIT: i64 = 1 << 62;

/// Columns that extracted rows have besides the features.
const COLUMNS: [&str; 8] = ["first_ns", "last_ns", "src", "dst", "sport", "dport", "proto", "trigger"];

/// Resolves the features block. Features that were reported are left out.
pub(super) fn features(
    block: &ast::Features,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Vec<Feature> {
    match &block.flow {
        None => {
            if let Some(flow) = flow.filter(|flow| !flow.single()) {
                reporter
                    .error(
                        &codes::UNKNOWN_FLOW,
                        block.head.clone(),
                        "the features do not say of which flow they are",
                        format!(
                            "write `features of {} {{ … }}`, or remove the `flow` block and judge single packets",
                            flow.name
                        ),
                    )
                    .primary("features of single packets");
            }
        }
        Some(name) if flow.is_some_and(FlowFacts::single) => {
            reporter
                .error(
                    &codes::UNKNOWN_FLOW,
                    name.span.clone(),
                    format!("there is no flow `{}`: packets are judged one by one", name.text),
                    "write `features { … }`, or a `flow` block in the place of `packets on …`",
                )
                .primary("not known");
        }
        Some(name) => check_flow(name, flow, reporter),
    }
    if block.features.is_empty() && reporter.is_clean() {
        reporter.error(
            &codes::MISSING,
            block.head.clone(),
            "the specification has no features",
            if flow.is_some_and(FlowFacts::single) {
                "add at least one, for example `ttl = ip.ttl;`"
            } else {
                "add at least one, for example `packets = count();`"
            },
        );
    }
    if let Some(beyond) = block.features.get(MAX_FEATURES) {
        reporter.error(
            &codes::TOO_LARGE,
            beyond.span.clone(),
            format!("{} features are defined, the limit is {MAX_FEATURES}", block.features.len()),
            "remove features that carry little information",
        );
    }
    let mut names: BTreeMap<String, Span> = BTreeMap::new();
    let mut resolved = Vec::new();
    for entry in &block.features {
        match payload::features(entry, flow, reporter) {
            None => {
                check_name(&entry.name.text, &entry.name.span, &mut names, reporter);
                resolved.extend(feature(entry, flow, reporter));
            }
            Some(bytes) => {
                for byte in bytes {
                    check_name(&byte.name, &entry.name.span, &mut names, reporter);
                    resolved.push(byte);
                }
            }
        }
    }
    if let (Some(beyond), false) = (resolved.get(MAX_FEATURES), block.features.len() > MAX_FEATURES) {
        let count = resolved.len();
        reporter.error(
            &codes::TOO_LARGE,
            beyond.span.clone(),
            format!(
                "{count} features are defined, each byte of a payload counted, the limit is {MAX_FEATURES}"
            ),
            "take fewer bytes of the payload",
        );
    }
    resolved
}

/// Reports a flow name that is not the flow's.
pub(super) fn check_flow(name: &ast::Name, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) {
    let Some(flow) = flow else { return };
    if flow.tables.iter().take(flow.declared).any(|table| table.name == name.text) {
        let table = &name.text;
        reporter
            .error(
                &codes::UNKNOWN_FLOW,
                name.span.clone(),
                format!("`{table}` is not the flow that is classified"),
                format!("write `{}` here; its features read the table with `per {table}`", flow.name),
            )
            .primary("a table beside it");
    } else if flow.single() && flow.name != name.text {
        reporter
            .error(
                &codes::UNKNOWN_FLOW,
                name.span.clone(),
                format!("there is no flow `{}`: packets are judged one by one", name.text),
                "write `classify packet at every packet;`, or a `flow` block in the place of `packets on …`",
            )
            .primary("not known");
    } else if flow.name != name.text {
        reporter
            .error(
                &codes::UNKNOWN_FLOW,
                name.span.clone(),
                format!("there is no flow `{}`", name.text),
                suggest(&name.text, [flow.name.as_str()]),
            )
            .primary("not known");
    }
}

fn check_name(text: &str, span: &Span, names: &mut BTreeMap<String, Span>, reporter: &mut Reporter<'_>) {
    if let Some(first) = names.get(text) {
        reporter
            .error(
                &codes::FEATURE_NAME,
                span.clone(),
                format!("two features are called `{text}`"),
                "give one of them another name",
            )
            .primary("second")
            .label(first.clone(), "first");
        return;
    }
    names.insert(text.to_owned(), span.clone());
    if COLUMNS.contains(&text) {
        reporter.error(
            &codes::FEATURE_NAME,
            span.clone(),
            format!("extracted rows have a column `{text}` of their own"),
            format!("choose another name, for example `{text}_value`"),
        );
    }
    if text.len() > MAX_NAME {
        reporter.error(
            &codes::TOO_LARGE,
            span.clone(),
            format!("the name has {} letters, the limit is {MAX_NAME}", text.len()),
            "choose a shorter name",
        );
    }
}

fn feature(entry: &ast::Feature, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Feature> {
    let operands = entry.value.operands();
    if operands > MAX_OPERANDS {
        reporter.error(
            &codes::TOO_LARGE,
            entry.value.span.clone(),
            format!("the expression is over {operands} values, the limit is {MAX_OPERANDS}"),
            "make several features of it",
        );
        return None;
    }
    let value = formula(&entry.value, flow, reporter);
    let (mut narrowed, mut clip): (Option<&Range>, Option<&Range>) = (None, None);
    for limit in &entry.limits {
        let (name, place, range) = match limit {
            Limit::In(range) => ("in", &mut narrowed, range),
            Limit::Clip(range) => ("clip", &mut clip, range),
        };
        match place {
            None => *place = Some(range),
            Some(first) => {
                super::structure::repeated(name, first.span.clone(), range.span.clone(), reporter);
            }
        }
    }
    let mut value = value?;
    if value.formula.leaves().is_empty() {
        unsupported(
            entry.value.span.clone(),
            "a constant as a feature is not supported yet",
            "leave it to the model's bias",
            reporter,
        );
        return None;
    }
    let bits = value.formula.bits;
    if let Some(bounds) = clip {
        let interval = interval(bounds, bits)
            .map_err(|problem| misfit(bounds, problem, value.formula.range, bits, reporter));
        value = clipped(value, interval.ok()?);
    }
    let derived = value.formula.range;
    let range = match narrowed {
        None => derived,
        Some(bounds) => narrow(bounds, derived, bits, reporter)?,
    };
    Some(Feature {
        name: entry.name.text.clone(),
        unit: value.unit.unwrap_or(Unit::Plain),
        value: value.formula,
        fraction_bits: bits,
        range,
        span: entry.span.clone(),
    })
}

/// What an aggregate counts.
pub(super) fn unit(aggregate: &Aggregate) -> Unit {
    let operand = match &aggregate.operand {
        None => Unit::Packets,
        Some(Operand::Gap(unit)) => Unit::Time(unit.counted()),
        Some(Operand::Address(_)) => Unit::Plain,
        Some(Operand::Field(field)) => {
            FIELDS.iter().find(|facts| facts.field == *field).map_or(Unit::Plain, |facts| facts.unit)
        }
    };
    match aggregate.function {
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last
        | Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Ewma(_)
        | Function::Duration => operand,
        Function::Rate => match operand {
            Unit::Packets => Unit::PacketsPerSecond,
            Unit::Bytes => Unit::BytesPerSecond,
            Unit::Time(_) | Unit::PacketsPerSecond | Unit::BytesPerSecond | Unit::Plain => Unit::Plain,
        },
        // Squares of a unit have no name, and values are not packets.
        Function::Var | Function::VarPop | Function::Distinct(_) => Unit::Plain,
    }
}

/// Raw values that can arise: those of the aggregate's type, bounded by the idle time where that is tighter.
pub(super) fn range(aggregate: &Aggregate, flow: Option<&FlowFacts>) -> Interval {
    let by_type = by_type(aggregate, flow);
    let idle = flow.and_then(|flow| match aggregate.table {
        None => flow.idle,
        Some(table) => flow.tables.get(table.0 as usize).and_then(|table| table.idle),
    });
    let (Some(Operand::Gap(unit)), Some(idle)) = (aggregate.operand, idle) else { return by_type };
    // A later packet starts a new record, so neighbours are at most the idle time apart.
    // Between packets that pass a filter others may lie, which keep the record alive.
    if aggregate.filter != Filter::default() {
        return by_type;
    }
    // Between times so far apart there can be one tick more.
    let whole = idle.0 / ranges::unit_nanos(unit) + u64::from(unit.ticks());
    let sample = i64::try_from(whole).unwrap_or(i64::MAX);
    let high = match aggregate.function {
        Function::Min | Function::Max | Function::First | Function::Last => sample,
        // No deviation is larger than the largest sample either.
        Function::Mean | Function::Std | Function::StdPop | Function::Ewma(_) => {
            sample.saturating_mul(1 << ranges::MEAN_BITS.0)
        }
        Function::Var => ranges::variance(sample, false),
        Function::VarPop => ranges::variance(sample, true),
        Function::Count | Function::Sum | Function::Distinct(_) | Function::Rate | Function::Duration => {
            i64::MAX
        }
    };
    Interval { low: by_type.low, high: by_type.high.min(high) }
}

/// Without ICMP and SCTP no protocol's number is above that of UDP.
fn by_type(aggregate: &Aggregate, flow: Option<&FlowFacts>) -> Interval {
    let few = flow.is_some_and(|flow| !flow.transports.icmp && !flow.transports.sctp);
    match aggregate.operand {
        Some(Operand::Field(Field::IpProto)) if few => {
            ranges::with_limit(aggregate, i64::from(crate::ir::packet::UDP))
        }
        Some(Operand::Field(_) | Operand::Gap(_) | Operand::Address(_)) | None => ranges::of(aggregate),
    }
}

/// The range behind `in`, which lies inside of what can arise.
fn narrow(
    bounds: &Range,
    derived: Interval,
    bits: FractionBits,
    reporter: &mut Reporter<'_>,
) -> Option<Interval> {
    let inside = |range: Interval| {
        let inside = range.low >= derived.low && range.high <= derived.high;
        if inside { Ok(range) } else { Err("the range reaches beyond the values that can arise") }
    };
    interval(bounds, bits)
        .and_then(inside)
        .map_err(|problem| misfit(bounds, problem, derived, bits, reporter))
        .ok()
}

/// A range as raw values, rounded outwards.
fn interval(bounds: &Range, bits: FractionBits) -> Result<Interval, &'static str> {
    let scale = 1_u128 << bits.0;
    let narrowed = |raw: i128| i64::try_from(raw).map_err(|_| number::Misfit::TooLarge);
    let low = number::floor(&bounds.low, scale).and_then(narrowed);
    let high = number::ceil(&bounds.high, scale).and_then(narrowed);
    match (low, high) {
        (Ok(low), Ok(high)) if low < high && low > -LIMIT && high < LIMIT => Ok(Interval { low, high }),
        (Ok(low), Ok(high)) if low >= high => Err("the low end of the range is not below its high end"),
        (Ok(_), Ok(_)) | (Err(number::Misfit::TooLarge), _) | (_, Err(number::Misfit::TooLarge)) => {
            Err("the range reaches beyond the values that can arise")
        }
        (Err(number::Misfit::Fraction), _) | (_, Err(number::Misfit::Fraction)) => {
            Err("the feature is a whole number, the range is not")
        }
    }
}

fn misfit(bounds: &Range, problem: &str, derived: Interval, bits: FractionBits, reporter: &mut Reporter<'_>) {
    let shown = |raw: i64| i128::from(raw) >> bits.0;
    reporter
        .error(
            &codes::RANGE,
            bounds.span.clone(),
            problem,
            format!("write a range inside of `{}..{}`", shown(derived.low), shown(derived.high)),
        )
        .primary("expected range");
}
