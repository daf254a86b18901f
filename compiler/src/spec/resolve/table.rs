//! Tables beside the flow's own, which `per` reads, and windows of time behind `over`.

use super::flow::{self, Resolved};
use super::structure::repeated;
use super::units::duration;
use super::{FlowFacts, structure};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::ir::flow::key::{KeyPart, KeyParts};
use crate::spec::ast::{self, Name, Path, Quantity};
use crate::spec::report::Reporter;
use crate::spec::typed::{Feature, Function, Nanos, Table, TableRef};

/// Longest name of a table; it becomes part of the names of maps and types.
const MAX_NAME: usize = 64;

/// Finds out which tables `per` can name: the other blocks, then one for each part of a key.
pub(super) fn tables(
    block: &ast::Flow,
    others: &[&ast::Flow],
    resolved: &mut Resolved,
    reporter: &mut Reporter<'_>,
) {
    let key = resolved.facts.key;
    let mut tables = Vec::new();
    for other in others {
        if other.name.text.len() > MAX_NAME {
            reporter.error(
                &codes::TOO_LARGE,
                other.name.span.clone(),
                format!("the name has {} letters, the limit is {MAX_NAME}", other.name.text.len()),
                "choose a shorter name",
            );
        }
        // What was reported keeps its name, so that features which read it are not reported as well.
        let unsound = || Table {
            name: other.name.text.clone(),
            key,
            capacity: 1,
            idle: None,
            span: other.head.clone(),
        };
        tables.push(flow::table(other, (block, key), reporter).unwrap_or_else(unsound));
    }
    let declared = tables.len();
    for part in KeyPart::ALL {
        let mut name = format!("per_{}", part.name().replace('.', "_"));
        while tables.iter().any(|table| table.name == name) {
            name.push('_');
        }
        tables.push(Table {
            name,
            key: KeyParts::NONE.with(part),
            capacity: resolved.flow.as_ref().map_or(1, |flow| flow.capacity),
            idle: resolved.facts.idle,
            span: block.head.clone(),
        });
    }
    resolved.facts.tables = tables;
    resolved.facts.declared = declared;
}

/// Reports tables of the specification that no feature reads.
pub(super) fn all_read(facts: &FlowFacts, features: &[Feature], reporter: &mut Reporter<'_>) {
    if !reporter.is_clean() {
        return;
    }
    let read = |index: usize| {
        let leaves = features.iter().flat_map(|feature| feature.value.leaves());
        leaves.filter_map(|leaf| leaf.table).any(|table| table.0 as usize == index)
    };
    for (index, table) in facts.tables.iter().enumerate().take(facts.declared) {
        if !read(index) {
            let name = &table.name;
            reporter
                .error(
                    &codes::TABLE_OF_FEATURE,
                    table.span.clone(),
                    format!("no feature reads the table `{name}`"),
                    format!(
                        "write `per {name}` behind an aggregate, remove the block, or write `classify {name}` where it is \
                         the flow to judge"
                    ),
                )
                .primary("takes memory for nothing");
        }
    }
}

/// Reports a part of a table's key that the flow's has not.
pub(super) fn not_in_key(part: KeyPart, flow: &str, span: Span, reporter: &mut Reporter<'_>) {
    let name = part.name();
    reporter
        .error(
            &codes::TABLE_OF_FEATURE,
            span,
            format!(
                "a record of `{flow}` holds packets of many `{name}`, so it has no record in such a table"
            ),
            format!("add `{name}` to the key of `{flow}`, or use a part that it has"),
        )
        .primary("not part of the flow's key");
}

/// Qualifiers of one aggregate, as they are read.
#[derive(Default)]
pub(super) struct Reach<'a> {
    per: Option<(&'a Path, Option<TableRef>)>,
    over: Option<(&'a Quantity, Option<Nanos>)>,
}

impl<'a> Reach<'a> {
    /// `per TABLE`
    pub(super) fn per(&mut self, path: &'a Path, flow: Option<&FlowFacts>, reporter: &mut Reporter<'_>) {
        match &self.per {
            None => self.per = Some((path, flow.and_then(|flow| named(path, flow, reporter)))),
            Some((first, _)) => repeated("per", first.span.clone(), path.span.clone(), reporter),
        }
    }

    /// `over TIME`
    pub(super) fn over(&mut self, time: &'a Quantity, reporter: &mut Reporter<'_>) {
        match &self.over {
            None => self.over = Some((time, duration(time, reporter))),
            Some((first, _)) => repeated("over", first.span.clone(), time.span.clone(), reporter),
        }
    }

    /// Table and window of a function; `None` when something was reported.
    pub(super) fn of(
        self,
        function: Function,
        name: &Name,
        reporter: &mut Reporter<'_>,
    ) -> Option<(Option<TableRef>, Option<Nanos>)> {
        if let (Some((time, _)), Some(help)) = (&self.over, instead(function)) {
            reporter
                .error(
                    &codes::WINDOW,
                    time.span.clone(),
                    format!("`{}` has no meaning over a time that moves on", name.text),
                    help,
                )
                .primary("a window of time");
            return None;
        }
        if let (Function::Rate, Some((path, _)), None) = (function, &self.per, &self.over) {
            reporter.error(
                &codes::TABLE_OF_FEATURE,
                path.span.clone(),
                "a rate is over the time of the flow, not of a table beside it",
                "write `over TIME` behind it: the rate is then over that time, for example `over 10 s`",
            );
            return None;
        }
        let table = match self.per {
            None => None,
            Some((_, table)) => Some(table?),
        };
        let window = match self.over {
            None => None,
            Some((_, length)) => Some(length?),
        };
        Some((table, window))
    }

    /// Reports what a value of the flow alone cannot have.
    pub(super) fn refuse(&self, what: &str, reporter: &mut Reporter<'_>) -> bool {
        if let Some((path, _)) = &self.per {
            reporter.error(
                &codes::TABLE_OF_FEATURE,
                path.span.clone(),
                format!("{what} is one of the flow, not of a table beside it"),
                "remove `per`",
            );
        }
        if let Some((time, _)) = &self.over {
            reporter.error(
                &codes::WINDOW,
                time.span.clone(),
                format!("{what} has no meaning over a time that moves on"),
                "remove `over`, or write `sum(gap) over TIME`: the time between the packets of a window",
            );
        }
        self.per.is_some() || self.over.is_some()
    }
}

/// What to write where the values of two panes have no meaning together; none where they can be joined.
const fn instead(function: Function) -> Option<&'static str> {
    match function {
        Function::Count
        | Function::Sum
        | Function::Min
        | Function::Max
        | Function::Mean
        | Function::Std
        | Function::StdPop
        | Function::Var
        | Function::VarPop
        | Function::Distinct(_)
        | Function::Rate => None,
        // Which packet is the first of a window depends on where its border lies.
        Function::First => Some("use `min` or `max`, or remove `over`"),
        Function::Last => Some("remove `over`: the last packet of a window is the last packet"),
        Function::Ewma(_) => {
            Some("remove `over`: the weight says how fast a weighted mean forgets; or use `mean`")
        }
        Function::Duration => Some("remove `over`, or use `sum(gap)`"),
    }
}

/// The table of this name, or of this part of a key.
fn named(path: &Path, flow: &FlowFacts, reporter: &mut Reporter<'_>) -> Option<TableRef> {
    let text = path.text();
    let reference = |index: usize| u32::try_from(index).ok().map(TableRef);
    if let Some(declared) = flow.tables.iter().take(flow.declared).position(|table| table.name == text) {
        return reference(declared);
    }
    if let Some(part) = KeyPart::named(&text) {
        if !flow.key.has(part) {
            not_in_key(part, &flow.name, path.span.clone(), reporter);
            return None;
        }
        let index = KeyPart::ALL.into_iter().position(|other| other == part)?;
        return reference(flow.declared + index);
    }
    if text == flow.name {
        reporter.error(
            &codes::TABLE_OF_FEATURE,
            path.span.clone(),
            format!("`{text}` is the flow that is classified: its features are per `{text}` anyway"),
            format!("remove `per {text}`"),
        );
        return None;
    }
    let declared = flow.tables.iter().take(flow.declared).map(|table| table.name.as_str());
    let known: Vec<&str> = declared.chain(KeyPart::ALL.map(KeyPart::name)).collect();
    structure::unknown(&codes::TABLE_OF_FEATURE, "table", &text, path.span.clone(), &known, reporter);
    None
}
