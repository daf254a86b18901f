//! Diagnostics: what the user is told, where it points, and what to type instead.
//!
//! Every diagnostic has a stable code from the tables in [`codes`], a place ([`Origin`]) and a `help` text.
//! Stages collect diagnostics and stop only between stages. Rendering lives in [`render`].

pub mod codes;
pub mod render;

use std::ops::Range;

/// One entry of the code table. Entries are `static` items in [`codes`], one file per family.
#[derive(Debug, PartialEq, Eq)]
pub struct Code {
    /// Stable identifier such as `E0201`.
    pub id: &'static str,
    /// One line that names the mistake.
    pub title: &'static str,
    /// What the error index in the book says: cause and remedy, in sentences.
    pub explanation: &'static str,
}

/// Byte range in a source text.
pub type Span = Range<usize>;

/// Where a diagnostic points.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A whole input, named as the user named it.
    File { file: String },
    /// A range of a specification. The text is needed for rendering and travels with the report.
    Source { file: String, span: Span },
    /// A node of an ONNX graph.
    Node { file: String, node: NodeRef },
    /// A cell or a row of a CSV file; lines and columns count from 1.
    Row { file: String, line: usize, column: Option<String> },
    /// A packet of a capture, counted from 1, or a byte offset before the first one.
    Packet { file: String, packet: u64 },
    /// A command-line flag.
    Flag { flag: String },
    /// A kernel object: an interface, a map, a pin, a program.
    Kernel { object: String },
}

/// Identity of an ONNX node as shown to users.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct NodeRef {
    /// Position in the graph, from 0.
    pub index: usize,
    /// The node's name, or its first output when it has none.
    pub name: String,
    /// Operator with its domain when that is not the default one, for example `ai.onnx.ml.Scaler`.
    pub operator: String,
}

/// A further place in the same specification.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Label {
    pub span: Span,
    pub text: String,
}

/// Whether the input is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    Error,
    /// The input is taken; it hardly says what was meant.
    Warning,
}

impl Severity {
    /// As the first word of a report.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
        }
    }
}

/// A refusal of the input, or a warning about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub code: &'static Code,
    pub severity: Severity,
    /// The cause, in one sentence without a full stop.
    pub message: String,
    pub origin: Origin,
    /// Text under the primary span; empty when the message says it all.
    pub primary: String,
    /// Secondary places, for [`Origin::Source`] only.
    pub labels: Vec<Label>,
    pub notes: Vec<String>,
    /// What to type or do instead. Never empty.
    pub help: String,
}

impl Diagnostic {
    /// A diagnostic without labels and notes.
    pub fn new(
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            origin,
            primary: String::new(),
            labels: Vec::new(),
            notes: Vec::new(),
            help: help.into(),
        }
    }

    /// A warning without labels and notes.
    pub fn warning(
        code: &'static Code,
        origin: Origin,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::new(code, origin, message, help) }
    }

    /// Adds the text that stands under the primary span.
    #[must_use]
    pub fn with_primary(mut self, text: impl Into<String>) -> Self {
        self.primary = text.into();
        self
    }

    /// Adds a secondary place.
    #[must_use]
    pub fn with_label(mut self, span: Span, text: impl Into<String>) -> Self {
        self.labels.push(Label { span, text: text.into() });
        self
    }

    /// Adds a note.
    #[must_use]
    pub fn with_note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }
}

/// The result of a stage: a value, or everything that is wrong with the input.
pub type Outcome<T> = Result<T, Vec<Diagnostic>>;

/// Both values, or the mistakes of both.
///
/// # Errors
///
/// Whatever is wrong with either.
pub fn both<A, B>(a: Outcome<A>, b: Outcome<B>) -> Outcome<(A, B)> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (Err(a), Ok(_)) => Err(a),
        (Ok(_), Err(b)) => Err(b),
        (Err(a), Err(b)) => Err(a.into_iter().chain(b).collect()),
    }
}
