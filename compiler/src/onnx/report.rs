//! Collects what is wrong with a model file; nodes that are refused for the same reason share one diagnostic.

use std::collections::BTreeMap;

use crate::diag::{Code, Diagnostic, NodeRef, Origin};

/// Nodes of the same refusal that are named, the first one aside.
const NAMED: usize = 4;

/// One reason to refuse; boxed because results carry it through every operator.
pub(crate) type Refusal = Box<Diagnostic>;

/// Reasons so far, for one file.
#[derive(Debug)]
pub(crate) struct Report {
    file: String,
    diagnostics: Vec<Diagnostic>,
}

impl Report {
    pub(crate) fn new(file: &str) -> Self {
        Self { file: file.to_owned(), diagnostics: Vec::new() }
    }

    pub(crate) fn file(&self) -> &str {
        &self.file
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Adds a reason that concerns the whole file.
    pub(crate) fn at_file(
        &mut self,
        code: &'static Code,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let origin = Origin::File { file: self.file.clone() };
        self.push(Diagnostic::new(code, origin, message, help));
    }

    /// Adds a reason at a node.
    pub(crate) fn at_node(
        &mut self,
        code: &'static Code,
        node: &NodeRef,
        message: impl Into<String>,
        help: impl Into<String>,
    ) {
        let origin = Origin::Node { file: self.file.clone(), node: node.clone() };
        self.push(Diagnostic::new(code, origin, message, help));
    }

    /// Adds a reason unless it is there already: two nodes that read one broken constant report it once.
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        if !self.diagnostics.contains(&diagnostic) {
            self.diagnostics.push(diagnostic);
        }
    }

    /// The reasons in order, one for all nodes with the same operator, message and help.
    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        let mut places: BTreeMap<(&str, String, String, String), usize> = BTreeMap::new();
        let mut groups: Vec<(Diagnostic, Vec<Diagnostic>)> = Vec::new();
        for diagnostic in self.diagnostics {
            let Origin::Node { node, .. } = &diagnostic.origin else {
                groups.push((diagnostic, Vec::new()));
                continue;
            };
            let Diagnostic { message, help, .. } = &diagnostic;
            let key = (diagnostic.code.id, node.operator.clone(), message.clone(), help.clone());
            let place = *places.entry(key).or_insert(groups.len());
            match groups.get_mut(place) {
                Some((_, others)) => others.push(diagnostic),
                None => groups.push((diagnostic, Vec::new())),
            }
        }
        groups.into_iter().map(|(first, others)| together(first, &others)).collect()
    }
}

impl Extend<Diagnostic> for Report {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: T) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}

/// A refusal with the other nodes that it holds for, each with what it reads.
fn together(first: Diagnostic, others: &[Diagnostic]) -> Diagnostic {
    if others.is_empty() {
        return first;
    }
    let count = others.len() + 1;
    let mut all = first.with_note(format!("the same holds for {count} nodes, this one included"));
    for other in others.iter().take(NAMED) {
        let Origin::Node { node, .. } = &other.origin else { continue };
        let reads = other.notes.first().map_or_else(String::new, |note| format!(": {note}"));
        all = all.with_note(format!("node {} `{}`{reads}", node.index, node.name));
    }
    let more = others.len().saturating_sub(NAMED);
    if more > 0 { all.with_note(format!("and {more} more")) } else { all }
}
