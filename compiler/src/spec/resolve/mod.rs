//! AST to [`FeatureSpec`]: names, units, types and ranges; one file per block of the language.
//!
//! Everything is checked even after a mistake, so that one run reports all of them; a specification comes out
//! only when nothing was reported.

pub(super) mod aggregate;
mod comparison;
mod condition;
mod feature;
mod formula;
mod single;
mod payload;
mod model;
pub(super) mod fields;
mod flow;
mod number;
mod parameter;
mod rule;
mod action;
mod structure;
mod table;
mod units;

pub(super) use fields::name as field_name;

use super::ast;
use super::report::Reporter;
use super::typed::FeatureSpec;

/// What resolution knows about the flow while it looks at the rest.
#[derive(Debug, Clone)]
struct FlowFacts {
    scope: super::typed::Scope,
    name: String,
    transports: super::typed::Transports,
    /// What names a record.
    key: crate::ir::flow::key::KeyParts,
    /// Tables that `per` can name: those of other flow blocks, then one for each part of a key.
    tables: Vec<super::typed::Table>,
    /// Number of the other flow blocks.
    declared: usize,
    /// Whether records hold packets of one direction only.
    directional: bool,
    idle: Option<super::typed::Nanos>,
}

impl FlowFacts {
    /// Whether features are those of single packets.
    fn single(&self) -> bool {
        self.scope == super::typed::Scope::Packet
    }

    /// Whether no packet has flags.
    fn without_tcp(&self) -> bool {
        !self.transports.tcp && self.transports != super::typed::Transports::default()
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
    let clock = parts.clock.map(|clock| structure::clock(clock, reporter)).unwrap_or_default();
    let mut flow = match parts.flow {
        Some(flow) => Some(flow::flow(flow, reporter)),
        None if parts.is_over_packets() => {
            let head = parts.features.map_or(0..0, |features| features.head.clone());
            Some(single::packets(parts.packets, head, reporter))
        }
        None => None,
    };
    if let (Some(resolved), Some(block)) = (&mut flow, parts.flow) {
        table::tables(block, &parts.tables, resolved, reporter);
    }
    let facts = flow.as_ref().map(|flow| &flow.facts);
    let features = parts.features.map(|features| feature::features(features, facts, reporter));
    let outputs = parts.model.and_then(|model| model::outputs(model, reporter));
    let reconstruction =
        parts.model.and_then(|model| model::reconstruction(model, outputs.as_deref(), reporter));
    let ending = flow.as_ref().and_then(|flow| flow.flow.as_ref());
    let triggers = parts.classify.and_then(|classify| rule::triggers(classify, facts, ending, reporter));
    let rules = rule::rules(&parts.rules, outputs.as_deref(), hook, facts, reporter);
    if let (Some(facts), Some(features)) = (facts, &features) {
        table::all_read(facts, features, reporter);
    }
    if !reporter.is_clean() {
        return None;
    }
    Some(FeatureSpec {
        name: header?,
        version: structure::LANGUAGE_VERSION,
        file: file.to_owned(),
        source: source.to_owned(),
        fragments: Vec::new(),
        parameters: Vec::new(),
        hook: hook?,
        clock,
        tables: facts?.tables.clone(),
        flow: flow?.flow?,
        features: features?,
        outputs: outputs?,
        reconstruction,
        triggers: triggers?,
        rules,
    })
}
