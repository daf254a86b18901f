//! Bytes of payloads: `payload[3]`, and `NAME = payload[0..16];` for a feature of each.

use super::FlowFacts;
use super::formula::Value;
use super::number;
use super::single;
use crate::diag::codes::spec as codes;
use crate::ir::packet::MAX_PAYLOAD;
use crate::spec::ast::{self, ExprKind, Number, Path, Range};
use crate::spec::report::Reporter;
use crate::spec::typed::{Feature, Field, Unit};

/// The features that a whole expression `payload[LOW..HIGH]` stands for, each with the number of its byte behind the
/// name; `None` for other expressions.
pub(super) fn features(
    entry: &ast::Feature,
    flow: Option<&FlowFacts>,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<Feature>> {
    let ExprKind::Slice { base, range, single: false } = &entry.value.kind else { return None };
    if !flow.is_some_and(FlowFacts::single) {
        reporter
            .error(
                &codes::NOT_AN_AGGREGATE,
                entry.value.span.clone(),
                "several bytes of a payload are features of single packets only",
                "write one byte in a function, `first(payload[0])`, or remove the `flow` block",
            )
            .primary("bytes of each packet");
        return Some(Vec::new());
    }
    if let Some(ast::Limit::In(range) | ast::Limit::Clip(range)) = entry.limits.first() {
        reporter.error(
            &codes::RANGE,
            range.span.clone(),
            "several bytes of a payload take no range",
            "remove it: each of them is a feature from 0 to 255",
        );
    }
    let ends = named(base, reporter).and_then(|()| {
        let (low, high) = (whole(&range.low)?, whole(&range.high)?);
        if low >= high && high <= MAX_PAYLOAD {
            reporter
                .error(
                    &codes::RANGE,
                    range.span.clone(),
                    "the range has no byte: it ends before its high end",
                    "write `payload[0..4]` for the bytes 0 to 3",
                )
                .primary("empty");
            return None;
        }
        (high <= MAX_PAYLOAD).then_some((low, high)).or_else(|| outside(range, reporter))
    });
    let Some((low, high)) = ends else { return Some(Vec::new()) };
    let indices = (low..high).filter_map(|index| u8::try_from(index).ok());
    let feature = |index: u8| {
        let Value { formula, unit } = single::leaf(Field::Payload(index), &entry.value, flow);
        Feature {
            name: format!("{}_{index}", entry.name.text),
            unit: unit.unwrap_or(Unit::Plain),
            fraction_bits: formula.bits,
            range: formula.range,
            value: formula,
            span: entry.span.clone(),
        }
    };
    Some(indices.map(feature).collect())
}

/// `payload[3]`; `None` after a report.
pub(super) fn byte(base: &Path, range: &Range, single: bool, reporter: &mut Reporter<'_>) -> Option<Field> {
    named(base, reporter)?;
    if !single {
        let low = &range.low.text;
        reporter
            .error(
                &codes::ARGUMENTS,
                range.span.clone(),
                "several bytes are no single number",
                format!("write one of them, `payload[{low}]`; a range is a feature by itself: `NAME = payload[0..16];`"),
            )
            .primary("a range");
        return None;
    }
    let index = whole(&range.low).filter(|index| *index < MAX_PAYLOAD);
    match index.and_then(|index| u8::try_from(index).ok()) {
        Some(index) => Some(Field::Payload(index)),
        None => outside(range, reporter),
    }
}

/// Refuses what is not the payload.
fn named(base: &Path, reporter: &mut Reporter<'_>) -> Option<()> {
    if base.text() == "payload" {
        return Some(());
    }
    reporter.error(
        &codes::UNKNOWN_FIELD,
        base.span.clone(),
        format!("the bytes of `{}` are no fields, those of the payload are", base.text()),
        "write `payload[0]`",
    );
    None
}

fn whole(number: &Number) -> Option<usize> {
    number::whole(number).ok().and_then(|value| usize::try_from(value).ok()).or(Some(usize::MAX))
}

fn outside<T>(range: &Range, reporter: &mut Reporter<'_>) -> Option<T> {
    reporter.error(
        &codes::RANGE,
        range.span.clone(),
        format!("bytes 0 to {} of a payload can be read", MAX_PAYLOAD - 1),
        "write `payload[0]` for the first byte, `payload[0..64]` for the first 64",
    );
    None
}
