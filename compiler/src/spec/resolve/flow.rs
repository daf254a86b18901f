//! The flow block: protocols, key, table size, idle time, end.

use std::collections::BTreeSet;

use super::FlowFacts;
use super::number::{self, Misfit};
use super::structure::{repeated, unknown};
use super::units::duration;
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::key::{KeyPart, KeyParts};
use crate::spec::ast::{self, Causes, FlowClause, Name, Number, Path};
use crate::spec::report::Reporter;
use crate::spec::typed::{Directions, End, Filter, Flow, Nanos, Scope, Table, Transports};

/// Most records of a table: the kernel would allow more, but not before some gigabytes of memory are gone.
const MAX_CAPACITY: i128 = 1 << 24;

/// The word for both addresses, both ports and the protocol.
const FIVE_TUPLE: &str = "five_tuple";

/// A flow as far as it could be resolved.
pub(super) struct Resolved {
    pub facts: FlowFacts,
    /// `None` when something about it was reported.
    pub flow: Option<Flow>,
}

/// Resolves the flow block.
pub(super) fn flow(flow: &ast::Flow, reporter: &mut Reporter<'_>) -> Resolved {
    let transports = protocols(&flow.protocols, reporter);
    let tcp = transports.tcp;
    let mut clauses = Clauses::default();
    for clause in &flow.clauses {
        clauses.take(clause, reporter);
    }
    if !clauses.broken {
        clauses.report_missing(&flow.head, tcp, reporter);
    }
    let key = clauses.key.and_then(|(fields, directions, span)| key(fields, directions, span, reporter));
    let capacity = clauses.capacity.and_then(|(records, evict, _)| capacity(records, evict, reporter));
    let idle = idle(&clauses, reporter);
    let active = match clauses.active {
        None => Some(None),
        Some((time, _)) => duration(time, reporter).map(Some),
    };
    // A flow without TCP has nothing to say about its end.
    let end = match clauses.end {
        None => (!tcp).then_some(End::Never),
        Some((causes, _)) => end(causes, tcp, &flow.head, reporter),
    };
    if let (Some((parts, _)), Some(End::On { .. }), Some((_, span))) = (key, end, clauses.end)
        && !parts.connects()
    {
        reporter
            .error(
                &codes::FLOW_END,
                span.clone(),
                "FIN and RST end a connection, and a record of this key holds several",
                "write `end never;`: records of hosts live until their idle time has passed",
            )
            .label(key_span(&clauses, &flow.head), "the key does not name addresses and ports of both ends");
    }
    let facts = FlowFacts {
        scope: Scope::Flow,
        name: flow.name.text.clone(),
        transports,
        key: key.map_or(KeyParts::FIVE_TUPLE, |(parts, _)| parts),
        directional: key.is_some_and(|(_, directions)| directions == Directions::One),
        idle: idle.flatten(),
        tables: Vec::new(),
        declared: 0,
    };
    let resolved = (|| {
        Some(Flow {
            scope: Scope::Flow,
            name: flow.name.text.clone(),
            transports,
            filter: Filter::default(),
            key: key?.0,
            directions: key?.1,
            capacity: capacity?,
            idle: idle?,
            active: active?,
            sweep: clauses.idle.is_some_and(|(_, sweep, _)| sweep),
            end: end?,
            span: flow.head.clone(),
        })
    })();
    Resolved { facts, flow: resolved }
}

/// A block that is not classified: a table for features to read. `flow` is the one that is classified.
pub(super) fn table(
    block: &ast::Flow,
    flow: (&ast::Flow, KeyParts),
    reporter: &mut Reporter<'_>,
) -> Option<Table> {
    let mut clauses = Clauses::default();
    for clause in &block.clauses {
        clauses.take(clause, reporter);
    }
    if !clauses.broken {
        clauses.report_missing(&block.head, false, reporter);
    }
    let set = |flow: &ast::Flow| -> BTreeSet<String> {
        flow.protocols.iter().map(|name| name.text.clone()).collect()
    };
    if set(block) != set(flow.0) {
        let all: Vec<&str> = flow.0.protocols.iter().map(|name| name.text.as_str()).collect();
        reporter
            .error(
                &codes::TABLE_OF_FEATURE,
                block.head.clone(),
                format!("the table does not collect the packets of `{}`", flow.0.name.text),
                format!(
                    "write `flow {} on {}`; which packets count is said by `where`",
                    block.name.text,
                    all.join(", ")
                ),
            )
            .label(flow.0.head.clone(), "the flow that is classified");
    }
    if let Some((Causes::Any(_), span)) = clauses.end {
        reporter.error(
            &codes::TABLE_OF_FEATURE,
            span.clone(),
            "only the flow that is classified has an end",
            "remove the line, or write `end never;`",
        );
    }
    if let Some((_, true, span)) = clauses.idle {
        reporter.error(
            &codes::TABLE_OF_FEATURE,
            span.clone(),
            "only the flow that is classified is judged, so nothing else is swept",
            "remove `sweep`",
        );
    }
    let key = clauses.key.and_then(|(fields, directions, span)| {
        if let Some(name) = directions.filter(|name| name.text == "bidirectional") {
            reporter.error(
                &codes::TABLE_OF_FEATURE,
                name.span.clone(),
                "records beside the flow's have no direction: each packet counts with its own source and destination",
                "remove the word; `fwd` and `bwd` behind `where` are directions in the flow",
            );
            return None;
        }
        let parts = key_parts(fields, reporter)?;
        let missing = parts.iter().find(|part| !flow.1.has(*part));
        if let Some(part) = missing {
            super::table::not_in_key(part, &flow.0.name.text, span.clone(), reporter);
            return None;
        }
        Some(parts)
    });
    let capacity = clauses.capacity.and_then(|(records, evict, _)| capacity(records, evict, reporter));
    let idle = idle(&clauses, reporter);
    Some(Table {
        name: block.name.text.clone(),
        key: key?,
        capacity: capacity?,
        idle: idle?,
        span: block.head.clone(),
    })
}

/// The idle time, `Some(None)` for `never`.
#[expect(clippy::option_option, reason = "no idle time and none that is sound are different answers")]
fn idle(clauses: &Clauses<'_>, reporter: &mut Reporter<'_>) -> Option<Option<Nanos>> {
    match clauses.idle? {
        (None, ..) => Some(None),
        (Some(time), ..) => duration(time, reporter).map(Some),
    }
}

/// The clauses of a block, each the first of its kind, with its place.
#[derive(Default)]
struct Clauses<'a> {
    key: Option<(&'a [Path], Option<&'a Name>, &'a Span)>,
    capacity: Option<(&'a Number, Option<&'a Name>, &'a Span)>,
    /// With whether a sweep removes idle records.
    idle: Option<(Option<&'a ast::Quantity>, bool, &'a Span)>,
    active: Option<(&'a ast::Quantity, &'a Span)>,
    end: Option<(&'a Causes, &'a Span)>,
    /// Whether a clause could not be read, which may be the one that seems to be missing.
    broken: bool,
}

impl<'a> Clauses<'a> {
    fn take(&mut self, clause: &'a FlowClause, reporter: &mut Reporter<'_>) {
        match clause {
            FlowClause::Key { fields, directions, span } => match &self.key {
                None => self.key = Some((fields, directions.as_ref(), span)),
                Some((_, _, first)) => repeated("key", (*first).clone(), span.clone(), reporter),
            },
            FlowClause::Capacity { records, evict, span } => match &self.capacity {
                None => self.capacity = Some((records, evict.as_ref(), span)),
                Some((_, _, first)) => repeated("capacity", (*first).clone(), span.clone(), reporter),
            },
            FlowClause::Idle { time, sweep, span } => match &self.idle {
                None => self.idle = Some((time.as_ref(), *sweep, span)),
                Some((_, _, first)) => repeated("idle", (*first).clone(), span.clone(), reporter),
            },
            FlowClause::Active { time, span } => match &self.active {
                None => self.active = Some((time, span)),
                Some((_, first)) => repeated("active", (*first).clone(), span.clone(), reporter),
            },
            FlowClause::End { causes, span } => match &self.end {
                None => self.end = Some((causes, span)),
                Some((_, first)) => repeated("end", (*first).clone(), span.clone(), reporter),
            },
            FlowClause::Broken => self.broken = true,
        }
    }

    fn report_missing(&self, head: &Span, tcp: bool, reporter: &mut Reporter<'_>) {
        let required = [
            (self.key.is_some(), "key", "add `key five_tuple bidirectional;`"),
            (self.capacity.is_some(), "capacity", "add `capacity 65536 evict lru;`"),
            (
                self.idle.is_some(),
                "idle",
                "add `idle 120 s;`, or `idle never;` where records live until they are evicted",
            ),
            (
                self.end.is_some() || !tcp,
                "end",
                "add `end tcp.fin or tcp.rst;`, or `end never;` where only idle time ends a flow",
            ),
        ];
        for (present, clause, help) in required {
            if !present {
                reporter
                    .error(&codes::MISSING, head.clone(), format!("the flow has no `{clause}`"), help)
                    .primary("in this block");
            }
        }
    }
}

/// Where the key is given.
fn key_span(clauses: &Clauses<'_>, head: &Span) -> Span {
    clauses.key.as_ref().map_or_else(|| head.clone(), |(_, _, span)| (*span).clone())
}

/// Transports by name.
pub(super) fn protocols(names: &[Name], reporter: &mut Reporter<'_>) -> Transports {
    let mut transports = Transports::default();
    let mut known: Vec<&Name> = Vec::new();
    for name in names {
        let place = match name.text.as_str() {
            "tcp" => &mut transports.tcp,
            "udp" => &mut transports.udp,
            "icmp" => &mut transports.icmp,
            "sctp" => &mut transports.sctp,
            "icmpv6" => {
                reporter
                    .error(
                        &codes::PROTOCOL,
                        name.span.clone(),
                        "`icmpv6` is a part of `icmp`",
                        "write `icmp`, which stands for ICMP and ICMPv6",
                    )
                    .primary("not known");
                continue;
            }
            other => {
                let all = ["tcp", "udp", "icmp", "sctp"];
                unknown(&codes::PROTOCOL, "protocol", other, name.span.clone(), &all, reporter);
                continue;
            }
        };
        *place = true;
        match known.iter().find(|first| first.text == name.text) {
            None => known.push(name),
            Some(first) => repeated(&name.text, first.span.clone(), name.span.clone(), reporter),
        }
    }
    transports
}

/// What names a record, and whether its two directions share one.
fn key(
    fields: &[Path],
    directions: Option<&Name>,
    span: &Span,
    reporter: &mut Reporter<'_>,
) -> Option<(KeyParts, Directions)> {
    let parts = key_parts(fields, reporter);
    let wanted = match directions.map(|name| (name, name.text.as_str())) {
        None => Ok(None),
        Some((_, "bidirectional")) => Ok(Some(Directions::Both)),
        Some((_, "directional")) => Ok(Some(Directions::One)),
        Some((name, other)) => {
            let known = ["bidirectional", "directional"];
            unknown(&codes::KEY, "direction", other, name.span.clone(), &known, reporter);
            Err(())
        }
    };
    let (parts, wanted) = (parts?, wanted.ok()?);
    let natural = if parts.symmetric() { Directions::Both } else { Directions::One };
    let directions = wanted.unwrap_or(natural);
    if directions == Directions::Both && !parts.symmetric() {
        reporter
            .error(
                &codes::KEY,
                span.clone(),
                "both directions share a record only where the key names both ends alike",
                "write `directional`, or `ip.src, ip.dst` with both ports or none",
            )
            .primary("this key changes when a packet is answered");
        return None;
    }
    Some((parts, directions))
}

fn key_parts(fields: &[Path], reporter: &mut Reporter<'_>) -> Option<KeyParts> {
    let mut parts = KeyParts::NONE;
    let mut sound = true;
    for (index, field) in fields.iter().enumerate() {
        let text = field.text();
        let first = |part: KeyPart| fields.iter().take(index).find(|field| field.text() == part.name());
        match KeyPart::named(&text) {
            Some(part) => match first(part) {
                None => parts = parts.with(part),
                Some(first) => repeated(&text, first.span.clone(), field.span.clone(), reporter),
            },
            None if text == FIVE_TUPLE && fields.len() == 1 => parts = KeyParts::FIVE_TUPLE,
            None if text == FIVE_TUPLE => {
                reporter.error(
                    &codes::KEY,
                    field.span.clone(),
                    "`five_tuple` stands alone: it is both addresses, both ports and the protocol",
                    "write `key five_tuple;`, or the fields without it",
                );
                sound = false;
            }
            None => {
                let known: Vec<&str> =
                    KeyPart::ALL.into_iter().map(KeyPart::name).chain([FIVE_TUPLE]).collect();
                unknown(&codes::KEY, "key field", &text, field.span.clone(), &known, reporter);
                sound = false;
            }
        }
    }
    sound.then_some(parts)
}

fn capacity(records: &Number, evict: Option<&Name>, reporter: &mut Reporter<'_>) -> Option<u32> {
    if let Some(policy) = evict.filter(|policy| policy.text != "lru") {
        let known = ["lru"];
        unknown(&codes::CAPACITY, "policy", &policy.text, policy.span.clone(), &known, reporter);
    }
    let problem = match number::whole(records) {
        Ok(value) if (1..=MAX_CAPACITY).contains(&value) => return u32::try_from(value).ok(),
        Ok(0) => "a table without records holds no flow",
        Ok(_) | Err(Misfit::TooLarge) => "the table is too large",
        Err(Misfit::Fraction) => "the number of records is not whole",
    };
    reporter
        .error(
            &codes::CAPACITY,
            records.span.clone(),
            problem,
            format!("write a whole number from 1 to {MAX_CAPACITY}, for example `capacity 65536 evict lru;`"),
        )
        .primary("number of flow records");
    None
}

fn end(causes: &Causes, tcp: bool, head: &Span, reporter: &mut Reporter<'_>) -> Option<End> {
    let paths = match causes {
        Causes::Never => return Some(End::Never),
        Causes::Any(paths) => paths,
    };
    let (mut fin, mut rst) = (false, false);
    let mut sound = true;
    for path in paths {
        let text = path.text();
        let slot = match text.as_str() {
            "tcp.fin" => &mut fin,
            "tcp.rst" => &mut rst,
            other => {
                let known = ["tcp.fin", "tcp.rst", "never"];
                unknown(&codes::FLOW_END, "cause", other, path.span.clone(), &known, reporter);
                sound = false;
                continue;
            }
        };
        if !tcp {
            reporter
                .error(
                    &codes::FLOW_END,
                    path.span.clone(),
                    format!("`{text}` ends no flow, because the flow has no TCP packets"),
                    "write `end never;`, or add `tcp` to the flow's protocols",
                )
                .label(head.clone(), "protocols are given here");
            sound = false;
        }
        *slot = true;
    }
    sound.then_some(End::On { fin, rst })
}
