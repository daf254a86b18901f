//! Operators, one file per family, and the table that joins them.
//!
//! An operator turns the values of its inputs into values of its outputs. It adds no diagnostics itself: it
//! returns the refusal, and the importer goes on with the next node.

mod activation;
mod arithmetic;
pub(crate) mod cases;
mod constant;
mod curves;
mod dense;
mod ensemble;
mod exponential;
mod extent;
mod fold;
mod layout;
mod linear;
mod listed;
mod normalise;
mod passthrough;
mod qlinear;
mod qonnx;
pub(crate) mod quantised;
mod reduce;
mod replace;
pub(crate) mod refused;
mod select;
mod steps;
mod support;
mod tables;
mod tail;
mod trees;

use super::node::Operator;

/// The domain of classical machine learning.
pub(crate) const ML: &str = "ai.onnx.ml";
/// Contributed operators of onnxruntime.
pub(crate) const MICROSOFT: &str = "com.microsoft";

type Entry = (&'static str, &'static str, Operator);

/// Every operator that is imported: domain, name, meaning.
const TABLES: &[&[Entry]] = &[
    activation::TABLE,
    arithmetic::TABLE,
    constant::TABLE,
    curves::TABLE,
    dense::TABLE,
    extent::TABLE,
    layout::TABLE,
    linear::TABLE,
    normalise::TABLE,
    passthrough::TABLE,
    qlinear::TABLE,
    qonnx::TABLE,
    quantised::TABLE,
    reduce::TABLE,
    replace::TABLE,
    select::TABLE,
    steps::TABLE,
    support::TABLE,
    tables::TABLE,
    tail::TABLE,
    trees::TABLE,
];

/// The meaning of an operator; `None` when it is not imported.
pub(crate) fn find(domain: &str, name: &str) -> Option<Operator> {
    let mut entries = TABLES.iter().flat_map(|table| table.iter());
    entries.find(|entry| entry.0 == domain && entry.1 == name).map(|entry| entry.2)
}

/// The default domain has two names.
pub(crate) fn canonical_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}
