//! Warnings: what a specification says, works, and was hardly meant.
//!
//! What cannot be computed is refused by resolution. Here stand features that always have the same value, divisors
//! that can be 0, and sums that are full early. What the tables take in memory is known behind lowering only:
//! `crate::explain::memory`.

mod always;

use super::typed::{Aggregate, Feature, FeatureSpec, Field, Filter, Function, Operand, TimeUnit};
use crate::diag::codes::spec as codes;
use crate::diag::{Diagnostic, Origin, Span};
use crate::ir::flow::formula::{Binary, Formula, Node, Unary};
use crate::ir::flow::{SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS};

/// Everything that is worth a warning, in the order of the features.
#[must_use]
pub fn warnings(spec: &FeatureSpec) -> Vec<Diagnostic> {
    let mut found = Vec::new();
    for feature in &spec.features {
        match always::warning(spec, feature) {
            // A feature that says nothing is to go, whatever it divides by.
            Some(warning) => found.push(warning),
            None => divisors(spec, feature, &feature.value, &mut found),
        }
    }
    found.extend(short_sum(spec));
    found
}

/// A place in the file that it lies in.
pub(crate) fn origin(spec: &FeatureSpec, span: &Span) -> Origin {
    let (file, _, start) = spec.place(span.start);
    Origin::Source { file: file.to_owned(), span: start..start + span.len() }
}

/// Warns of every divisor in a formula that can be 0.
fn divisors(
    spec: &FeatureSpec,
    feature: &Feature,
    formula: &Formula<Aggregate>,
    found: &mut Vec<Diagnostic>,
) {
    match &formula.node {
        Node::Leaf(_) | Node::Constant(_) => {}
        Node::Unary(_, inner) | Node::Clip(inner, _) => divisors(spec, feature, inner, found),
        Node::Binary(op, sides) => {
            let [left, right] = sides.as_ref();
            divisors(spec, feature, left, found);
            divisors(spec, feature, right, found);
            let result = match op {
                Binary::Div => "quotient",
                Binary::Rem => "remainder",
                Binary::Add
                | Binary::Sub
                | Binary::Mul
                | Binary::Less
                | Binary::Equal
                | Binary::And
                | Binary::Or => return,
            };
            let whole = place(formula);
            // `share` is written as one function, whose value over no packet the language states.
            let shared = place(left).is_some() && place(left) == place(right);
            if !shared && can_be_zero(right) {
                let span = place(right).or(whole).unwrap_or_else(|| feature.span.clone());
                found.push(
                    Diagnostic::warning(
                        &codes::ZERO_DIVISOR,
                        origin(spec, &span),
                        format!("a divisor in `{}` can be 0, and the {result} is then 0", feature.name),
                        "add 1 to the divisor, or give the model the divisor as a feature of its own, if 0 must not \
                         look like a small value",
                    )
                    .with_primary("0 where it is over no packet, or where all values are 0"),
                );
            }
        }
    }
}

/// From the first to the last value that a formula is over.
fn place(formula: &Formula<Aggregate>) -> Option<Span> {
    let leaves = formula.leaves();
    let start = leaves.iter().map(|leaf| leaf.span.start).min()?;
    let end = leaves.iter().map(|leaf| leaf.span.end).max()?;
    Some(start..end)
}

/// Whether a value that is not negative can be 0 when a verdict is due.
fn can_be_zero(formula: &Formula<Aggregate>) -> bool {
    if formula.range.low > 0 || formula.range.high < 0 {
        return false;
    }
    match &formula.node {
        Node::Leaf(leaf) => !is_positive(leaf),
        Node::Binary(Binary::Add, sides) if sides.iter().all(|side| side.range.low >= 0) => {
            sides.iter().all(can_be_zero)
        }
        Node::Unary(Unary::Abs, inner) => can_be_zero(inner),
        Node::Clip(inner, interval) => interval.low <= 0 && can_be_zero(inner),
        Node::Constant(_) | Node::Unary(Unary::Log2, _) | Node::Binary(..) => true,
    }
}

/// Whether an aggregate is over all packets of the flow, of which there is one when a verdict is due, and over what
/// no packet has 0 of.
fn is_positive(aggregate: &Aggregate) -> bool {
    if !is_over_all(aggregate) {
        return false;
    }
    let positive = match aggregate.operand {
        None => true,
        Some(Operand::Field(
            Field::FrameLen
            | Field::EthType
            | Field::IpLen
            | Field::IpVersion
            | Field::IpProto
            | Field::IpHeaderLen
            | Field::L4Len
            | Field::L4HeaderLen,
        )) => true,
        Some(Operand::Field(_) | Operand::Gap(_) | Operand::Address(_)) => false,
    };
    positive
        && match aggregate.function {
            Function::Count
            | Function::Sum
            | Function::Min
            | Function::Max
            | Function::First
            | Function::Last
            | Function::Mean => true,
            Function::Std
            | Function::StdPop
            | Function::Var
            | Function::VarPop
            | Function::Ewma(_)
            | Function::Distinct(_)
            | Function::Rate
            | Function::Duration => false,
        }
}

/// Whether every packet of the flow counts.
fn is_over_all(aggregate: &Aggregate) -> bool {
    aggregate.table.is_none() && aggregate.window.is_none() && aggregate.filter == Filter::default()
}

/// Warns of the first sum of gaps in nanoseconds: it decides for all of the specification.
fn short_sum(spec: &FeatureSpec) -> Option<Diagnostic> {
    let sums = |leaf: &&Aggregate| {
        leaf.operand == Some(Operand::Gap(TimeUnit::Nanos))
            && match leaf.function {
                Function::Sum
                | Function::Mean
                | Function::Std
                | Function::StdPop
                | Function::Var
                | Function::VarPop => true,
                Function::Count
                | Function::Min
                | Function::Max
                | Function::First
                | Function::Last
                | Function::Ewma(_)
                | Function::Distinct(_)
                | Function::Rate
                | Function::Duration => false,
            }
    };
    let leaves = spec
        .features
        .iter()
        .flat_map(|feature| feature.value.leaves().into_iter().map(move |leaf| (feature, leaf)));
    let (feature, leaf) = leaves.into_iter().find(|(_, leaf)| sums(leaf))?;
    let limit = SAMPLE_LIMIT_NANOS;
    Some(
        Diagnostic::warning(
            &codes::SHORT_SUM,
            origin(spec, &leaf.span),
            format!("values of flows stay as they are after {limit} packets"),
            format!("write `as us` behind every sum, mean and deviation of gaps: the limit is then {SAMPLE_LIMIT} packets"),
        )
        .with_primary("a sum of nanoseconds, which more packets could overflow")
        .with_note(format!("`{}` is the first such feature; the limit is one for all features", feature.name)),
    )
}

#[cfg(test)]
mod tests;
