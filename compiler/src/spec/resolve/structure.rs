//! Which parts a file has: each required one once, nothing that is not supported yet.
//!
//! The contents of the parts are resolved elsewhere, except for the one-line parts `spec`, `attach` and `clock`.

use crate::diag::codes::spec as codes;
use crate::diag::{Code, Span};
use crate::spec::ast::{self, Item};
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Clock, Hook};

/// The version of the language that this compiler reads.
pub(super) const LANGUAGE_VERSION: u32 = 1;

/// The parts of a file, each the first of its kind.
pub(super) struct Parts<'a> {
    pub header: Option<&'a ast::Header>,
    pub attach: Option<&'a ast::Attach>,
    pub clock: Option<&'a ast::Clock>,
    /// The flow that is classified.
    pub flow: Option<&'a ast::Flow>,
    /// The other flow blocks.
    pub tables: Vec<&'a ast::Flow>,
    pub packets: Option<&'a ast::Packets>,
    pub features: Option<&'a ast::Features>,
    pub model: Option<&'a ast::Model>,
    pub classify: Option<&'a ast::Classify>,
    pub rules: Vec<&'a ast::Rule>,
}

impl Parts<'_> {
    /// Whether features are those of single packets: nothing says what a flow is.
    pub(super) fn is_over_packets(&self) -> bool {
        let unnamed = self.features.is_some_and(|features| features.flow.is_none());
        self.flow.is_none() && (self.packets.is_some() || unnamed)
    }
}

/// Sorts the statements by kind and reports parts that are missing, given twice or not supported.
pub(super) fn sort<'a>(source: &str, file: &'a ast::File, reporter: &mut Reporter<'_>) -> Parts<'a> {
    let mut parts = Parts {
        header: None,
        attach: None,
        clock: None,
        flow: None,
        tables: Vec::new(),
        packets: None,
        features: None,
        model: None,
        classify: None,
        rules: Vec::new(),
    };
    // A statement that could not be read may be the part that seems to be missing.
    let complete = reporter.is_clean();
    for item in &file.items {
        match item {
            Item::Header(header) => keep(&mut parts.header, header, |h| h.span.clone(), "spec", reporter),
            Item::Attach(attach) => keep(&mut parts.attach, attach, |a| a.span.clone(), "attach", reporter),
            Item::Clock(clock) => keep(&mut parts.clock, clock, |c| c.span.clone(), "clock", reporter),
            Item::Flow(flow) => match parts.tables.iter().find(|first| first.name.text == flow.name.text) {
                None => parts.tables.push(flow),
                Some(first) => {
                    let name = format!("flow {}", flow.name.text);
                    repeated(&name, first.head.clone(), flow.head.clone(), reporter);
                }
            },
            Item::Packets(packets) => {
                keep(&mut parts.packets, packets, |p| p.span.clone(), "packets", reporter);
            }
            Item::Features(features) => {
                keep(&mut parts.features, features, |f| f.head.clone(), "features", reporter);
            }
            Item::Model(model) => keep(&mut parts.model, model, |m| m.head.clone(), "model", reporter),
            Item::Classify(classify) => {
                keep(&mut parts.classify, classify, |c| c.span.clone(), "classify", reporter);
            }
            Item::Rule(rule) => parts.rules.push(rule),
            // What they stand for was put in their places, or reported.
            Item::Use(_) | Item::Let(_) | Item::Param(_) => {}
            // Reported by the parser.
            Item::Broken => {}
        }
    }
    let classified = parts.classify.map(|classify| classify.flow.text.as_str());
    let flow = parts.tables.iter().position(|flow| Some(flow.name.text.as_str()) == classified).unwrap_or(0);
    if flow < parts.tables.len() {
        parts.flow = Some(parts.tables.remove(flow));
    }
    if let (Some(flow), Some(packets)) = (parts.flow, parts.packets) {
        reporter
            .error(
                &codes::REPEATED,
                packets.span.clone(),
                "a specification is over flows or over single packets",
                "remove `packets on …`, or the `flow` block",
            )
            .primary("single packets")
            .label(flow.head.clone(), "flows");
    }
    if complete {
        report_missing(&parts, source, reporter);
    }
    parts
}

fn report_missing(parts: &Parts<'_>, source: &str, reporter: &mut Reporter<'_>) {
    let single = parts.is_over_packets();
    let required: [(bool, &str, &str); 6] = [
        (parts.header.is_some(), "`spec` line", "begin the file with `spec NAME v1;`"),
        (parts.attach.is_some(), "`attach` line", "add `attach xdp;`"),
        (
            parts.flow.is_some() || single,
            "`flow` block",
            "add `flow conn on tcp, udp { key five_tuple bidirectional; capacity 65536 evict lru; idle 120 s; \
             end tcp.fin or tcp.rst; }`",
        ),
        (
            parts.features.is_some(),
            "`features` block",
            if single {
                "add `features { ttl = ip.ttl; }`"
            } else {
                "add `features of conn { packets = count(); }`"
            },
        ),
        (parts.model.is_some(), "`model` block", "add `model { labels benign, attack; }`"),
        (
            parts.classify.is_some(),
            "`classify` line",
            if single { "add `classify packet at every packet;`" } else { "add `classify conn at end;`" },
        ),
    ];
    let end = source.trim_end().len();
    for (present, part, help) in required {
        if !present {
            reporter.error(&codes::MISSING, end..end, format!("the specification has no {part}"), help);
        }
    }
}

/// Keeps the first of a kind and reports the others.
fn keep<'a, T>(
    slot: &mut Option<&'a T>,
    item: &'a T,
    span: impl Fn(&T) -> Span,
    what: &str,
    reporter: &mut Reporter<'_>,
) {
    match slot {
        None => *slot = Some(item),
        Some(first) => repeated(what, span(first), span(item), reporter),
    }
}

/// Reports that a part is given again.
pub(super) fn repeated(what: &str, first: Span, second: Span, reporter: &mut Reporter<'_>) {
    reporter
        .error(&codes::REPEATED, second, format!("`{what}` is given twice"), format!("remove one `{what}`"))
        .primary("given again here")
        .label(first, "first given here");
}

/// Reports a construct that the language has and this compiler does not.
pub(super) fn unsupported<'r>(
    span: Span,
    message: impl Into<String>,
    help: impl Into<String>,
    reporter: &'r mut Reporter<'_>,
) -> crate::spec::report::Details<'r> {
    reporter.error(&codes::UNSUPPORTED, span, message, help).primary("not supported yet")
}

/// Reports a name that is none of `known`.
pub(super) fn unknown(
    code: &'static Code,
    what: &str,
    name: &str,
    span: Span,
    known: &[&str],
    reporter: &mut Reporter<'_>,
) {
    reporter
        .error(code, span, format!("there is no {what} `{name}`"), suggest(name, known.iter().copied()))
        .primary("not known");
}

/// The name of the specification.
pub(super) fn header(header: &ast::Header, reporter: &mut Reporter<'_>) -> String {
    if header.version.text != format!("v{LANGUAGE_VERSION}") {
        reporter
            .error(
                &codes::VERSION,
                header.version.span.clone(),
                format!("version `{}` of the language is not known", header.version.text),
                format!("write `spec {} v{LANGUAGE_VERSION};`", header.name.text),
            )
            .primary("not known");
    }
    header.name.text.clone()
}

/// The hook behind `attach`.
pub(super) fn hook(attach: &ast::Attach, reporter: &mut Reporter<'_>) -> Option<Hook> {
    let words: Vec<&str> = attach.hook.iter().map(|word| word.text.as_str()).collect();
    let span = attach.hook.first()?.span.start..attach.hook.last()?.span.end;
    match words.as_slice() {
        ["xdp"] => return Some(Hook::Xdp),
        ["tc", "ingress"] => return Some(Hook::TcIngress),
        ["tc", "egress"] => return Some(Hook::TcEgress),
        ["tc"] => {
            reporter
                .error(
                    &codes::HOOK,
                    span,
                    "`tc` needs a direction",
                    "write `attach tc ingress;` for incoming packets, `attach tc egress;` for outgoing ones",
                )
                .primary("which way?");
        }
        ["xdp", ..] => {
            reporter.error(&codes::HOOK, span, "`xdp` takes no direction", "write `attach xdp;`");
        }
        _ => {
            let name = words.join(" ");
            unknown(&codes::HOOK, "hook", &name, span, &["xdp", "tc ingress", "tc egress"], reporter);
        }
    }
    None
}

/// The clock behind `clock`; exact where nothing is said.
pub(super) fn clock(clock: &ast::Clock, reporter: &mut Reporter<'_>) -> Clock {
    match clock.kind.text.as_str() {
        "exact" => Clock::Exact,
        "coarse" => Clock::Coarse,
        name => {
            let known = ["exact", "coarse"];
            unknown(&codes::CLOCK, "clock", name, clock.kind.span.clone(), &known, reporter);
            Clock::Exact
        }
    }
}
