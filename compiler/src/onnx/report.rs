//! Collects what is wrong with a model file.

use crate::diag::{Code, Diagnostic, NodeRef, Origin};

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

    pub(crate) fn into_diagnostics(self) -> Vec<Diagnostic> {
        self.diagnostics
    }
}

impl Extend<Diagnostic> for Report {
    fn extend<T: IntoIterator<Item = Diagnostic>>(&mut self, diagnostics: T) {
        diagnostics.into_iter().for_each(|diagnostic| self.push(diagnostic));
    }
}
