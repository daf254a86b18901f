//! The features block: names, aggregates, and the range that follows from types.

use std::collections::BTreeMap;

use super::FlowFacts;
use super::aggregate::aggregate;
use super::fields::FIELDS;
use super::number;
use super::structure::unsupported;
use super::units::nanos_per;
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::{FractionBits, Interval};
use crate::spec::ast::{self, Limit, Range};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Aggregate, Feature, Filter, Function, Operand, Unit, Value};

/// Most features of a specification.
const MAX_FEATURES: usize = 1024;

/// Longest name of a feature; the kernel's type information would take 127 bytes.
const MAX_NAME: usize = 64;

/// Samples after which a record saturates (`interfaces.md`, flow semantics).
const MAX_SAMPLES: u128 = 1 << 32;

/// The largest sample that `mean` takes: with 8 fraction bits it still fits 63 bits.
const MAX_MEAN_SAMPLE: u128 = (1 << 55) - 1;

/// The largest sample that `std` and `std_pop` take: its square still fits 64 bits.
const MAX_STD_SAMPLE: u128 = (1 << 32) - 1;

/// Fraction bits of `mean`, `std` and `std_pop`.
const FRACTION: u8 = 8;

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
            unsupported(
                block.head.clone(),
                "features of single packets are not supported yet",
                "write `features of NAME { … }` with the name of the flow",
                reporter,
            );
        }
        Some(name) => check_flow(name, flow, reporter),
    }
    if block.features.is_empty() && reporter.is_clean() {
        reporter.error(
            &codes::MISSING,
            block.head.clone(),
            "the specification has no features",
            "add at least one, for example `packets = count();`",
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
    let mut names: BTreeMap<&str, Span> = BTreeMap::new();
    let mut resolved = Vec::new();
    for entry in &block.features {
        check_name(entry, &mut names, reporter);
        resolved.extend(feature(entry, flow, reporter));
    }
    resolved
}

/// Reports a flow name that is not the flow's.
pub(super) fn check_flow(name: &ast::Name, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) {
    let Some(flow) = flow else { return };
    if flow.name != name.text {
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

fn check_name<'a>(entry: &'a ast::Feature, names: &mut BTreeMap<&'a str, Span>, reporter: &mut Reporter<'_>) {
    let name = &entry.name;
    if let Some(first) = names.get(name.text.as_str()) {
        reporter
            .error(
                &codes::FEATURE_NAME,
                name.span.clone(),
                format!("two features are called `{}`", name.text),
                "give one of them another name",
            )
            .primary("second")
            .label(first.clone(), "first");
        return;
    }
    names.insert(&name.text, name.span.clone());
    if COLUMNS.contains(&name.text.as_str()) {
        reporter.error(
            &codes::FEATURE_NAME,
            name.span.clone(),
            format!("extracted rows have a column `{}` of their own", name.text),
            format!("choose another name, for example `{}_value`", name.text),
        );
    }
    if name.text.len() > MAX_NAME {
        reporter.error(
            &codes::TOO_LARGE,
            name.span.clone(),
            format!("the name has {} letters, the limit is {MAX_NAME}", name.text.len()),
            "choose a shorter name",
        );
    }
}

fn feature(entry: &ast::Feature, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) -> Option<Feature> {
    let aggregate = aggregate(&entry.value, flow, reporter);
    let mut narrowed: Option<&Range> = None;
    for limit in &entry.limits {
        match limit {
            Limit::In(range) => match narrowed {
                None => narrowed = Some(range),
                Some(first) => {
                    super::structure::repeated("in", first.span.clone(), range.span.clone(), reporter);
                }
            },
            Limit::Clip(range) => {
                unsupported(
                    range.span.clone(),
                    "`clip` is not supported yet",
                    "clamp in the model; where only the expected range is meant, write `in LOW..HIGH`",
                    reporter,
                );
            }
        }
    }
    let aggregate = aggregate?;
    let fraction_bits = fraction_bits(aggregate.function);
    let derived = range(&aggregate, flow);
    let range = match narrowed {
        None => derived,
        Some(bounds) => narrow(bounds, derived, fraction_bits, reporter)?,
    };
    Some(Feature {
        name: entry.name.text.clone(),
        unit: unit(&aggregate),
        value: Value::Aggregate(aggregate),
        fraction_bits,
        range,
        span: entry.span.clone(),
    })
}

fn fraction_bits(function: Function) -> FractionBits {
    match function {
        Function::Mean | Function::Std | Function::StdPop => FractionBits(FRACTION),
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::First
        | Function::Last => FractionBits(0),
    }
}

fn unit(aggregate: &Aggregate) -> Unit {
    match &aggregate.operand {
        None => Unit::Packets,
        Some(Operand::Gap(unit)) => Unit::Time(*unit),
        Some(Operand::Field(field)) => {
            FIELDS.iter().find(|facts| facts.field == *field).map_or(Unit::Plain, |facts| facts.unit)
        }
    }
}

/// Raw values that can arise. The low end is 0 for all: that is what no packet at all gives.
fn range(aggregate: &Aggregate, flow: Option<&FlowFacts>) -> Interval {
    let sample = match &aggregate.operand {
        None => 1,
        Some(Operand::Field(field)) => {
            FIELDS.iter().find(|facts| facts.field == *field).map_or(0, |facts| u128::from(facts.max))
        }
        Some(Operand::Gap(unit)) => {
            // A later packet starts a new record, so the time between neighbours is at most the idle time.
            // Between packets that pass a filter others may lie, which keep the record alive.
            let idle = flow.and_then(|flow| flow.idle).filter(|_| aggregate.filter == Filter::default());
            let nanos = idle.map_or(i64::MAX.unsigned_abs(), |idle| idle.0);
            u128::from(nanos / nanos_per(*unit))
        }
    };
    let high = match aggregate.function {
        Function::Count => MAX_SAMPLES,
        Function::Sum => match &aggregate.operand {
            // Gaps do not overlap: together they are no longer than the clock runs.
            Some(Operand::Gap(unit)) => u128::from(i64::MAX.unsigned_abs() / nanos_per(*unit)),
            Some(Operand::Field(_)) | None => sample.saturating_mul(MAX_SAMPLES),
        },
        Function::Min | Function::Max | Function::First | Function::Last => sample,
        Function::Mean => sample.min(MAX_MEAN_SAMPLE) << FRACTION,
        // Half of the samples at each end of 0..=M deviate by M/2; with two samples and the divisor n - 1
        // that is M/√2, and no more with any other number of them.
        Function::StdPop => (sample.min(MAX_STD_SAMPLE) << FRACTION) / 2,
        Function::Std => {
            let high = sample.min(MAX_STD_SAMPLE) << FRACTION;
            (high * high / 2).isqrt()
        }
    };
    Interval { low: 0, high: i64::try_from(high).unwrap_or(i64::MAX) }
}

/// The range behind `in`, which lies inside of what can arise.
fn narrow(
    bounds: &Range,
    derived: Interval,
    bits: FractionBits,
    reporter: &mut Reporter<'_>,
) -> Option<Interval> {
    let scale = 1_u128 << bits.0;
    let shown = |raw: i64| u128::from(raw.unsigned_abs()) / scale;
    let low = number::floor(&bounds.low, scale);
    let high = number::ceil(&bounds.high, scale);
    let problem = match (low, high) {
        (Ok(low), Ok(high)) if low < high => {
            let inside = low >= i128::from(derived.low) && high <= i128::from(derived.high);
            if inside {
                return Some(Interval { low: i64::try_from(low).ok()?, high: i64::try_from(high).ok()? });
            }
            "the range reaches beyond the values that can arise"
        }
        (Ok(_), Ok(_)) => "the low end of the range is not below its high end",
        (Err(number::Misfit::TooLarge), _) | (_, Err(number::Misfit::TooLarge)) => {
            "the range reaches beyond the values that can arise"
        }
        (Err(number::Misfit::Fraction), _) | (_, Err(number::Misfit::Fraction)) => {
            "the feature is a whole number, the range is not"
        }
    };
    reporter
        .error(
            &codes::RANGE,
            bounds.span.clone(),
            problem,
            format!("write a range inside of `in {}..{}`", shown(derived.low), shown(derived.high)),
        )
        .primary("expected range");
    None
}
