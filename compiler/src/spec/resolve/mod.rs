//! AST to [`FeatureSpec`]: names, units, types and ranges; one file per block of the language.
//!
//! Everything is checked even after a mistake, so that one run reports all of them; a specification comes out
//! only when nothing was reported.

pub(super) mod aggregate;
mod comparison;
mod condition;
mod feature;
mod formula;
pub(super) mod fields;
mod flow;
mod number;
mod parameter;
mod rule;
mod action;
mod structure;
mod units;

use super::ast;
use super::report::Reporter;
use super::typed::FeatureSpec;

/// What resolution knows about the flow while it looks at the rest.
#[derive(Debug, Clone)]
struct FlowFacts {
    name: String,
    tcp: bool,
    udp: bool,
    /// What names a record.
    key: crate::ir::flow::key::KeyParts,
    /// Whether records hold packets of one direction only.
    directional: bool,
    idle: Option<super::typed::Nanos>,
}

impl FlowFacts {
    /// Whether no packet has flags.
    fn without_tcp(&self) -> bool {
        !self.tcp && self.udp
    }
}

/// Resolves a parsed file. `None` when something was reported.
pub(super) fn resolve(
    file: &str,
    source: &str,
    parsed: &ast::File,
    reporter: &mut Reporter<'_>,
) -> Option<FeatureSpec> {
    let parts = structure::sort(source, parsed, reporter);
    let header = parts.header.map(|header| structure::header(header, reporter));
    let hook = parts.attach.and_then(|attach| structure::hook(attach, reporter));
    let flow = parts.flow.map(|flow| flow::flow(flow, reporter));
    let facts = flow.as_ref().map(|flow| &flow.facts);
    let features = parts.features.map(|features| feature::features(features, facts, reporter));
    let labels = parts.model.and_then(|model| rule::labels(model, reporter));
    let ending = flow.as_ref().and_then(|flow| flow.flow.as_ref());
    let triggers = parts.classify.and_then(|classify| rule::triggers(classify, facts, ending, reporter));
    let rules = rule::rules(&parts.rules, labels.as_deref(), hook, facts, reporter);
    if !reporter.is_clean() {
        return None;
    }
    Some(FeatureSpec {
        name: header?,
        version: structure::LANGUAGE_VERSION,
        file: file.to_owned(),
        source: source.to_owned(),
        hook: hook?,
        flow: flow?.flow?,
        features: features?,
        labels: labels?,
        triggers: triggers?,
        rules,
    })
}
