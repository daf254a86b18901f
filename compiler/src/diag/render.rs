//! Turns diagnostics into text that looks like rustc's, without colours.
//!
//! Places in a specification are shown with their line; every other place is named on the `-->` line.

use codespan_reporting::diagnostic as codespan;
use codespan_reporting::files::{Files as _, SimpleFile};
use codespan_reporting::term::{self, Chars};

use super::{Diagnostic, Origin, Severity, Span};

/// Source texts by file name, for diagnostics that point into a specification.
pub type Sources<'a> = &'a [(&'a str, &'a str)];

/// Renders one diagnostic, ending in a newline.
#[must_use]
pub fn plain(diagnostic: &Diagnostic, sources: Sources<'_>) -> String {
    let mut text = match &diagnostic.origin {
        Origin::Source { file, span } => match sources.iter().find(|(name, _)| name == file) {
            Some((name, source)) => snippet(diagnostic, name, source, span),
            None => head(diagnostic, file),
        },
        Origin::File { file } => head(diagnostic, file),
        Origin::Node { file, node } => {
            head(diagnostic, &format!("{file}: node {} `{}` ({})", node.index, node.name, node.operator))
        }
        Origin::Row { file, line, column: Some(column) } => {
            head(diagnostic, &format!("{file}:{line}: column `{column}`"))
        }
        Origin::Row { file, line, column: None } => head(diagnostic, &format!("{file}:{line}")),
        Origin::Packet { file, packet } => head(diagnostic, &format!("{file}: packet {packet}")),
        Origin::Flag { flag } => head(diagnostic, &format!("flag `{flag}`")),
        Origin::Kernel { object } => head(diagnostic, object),
    };
    for note in &diagnostic.notes {
        text.push_str(&remark("note", note));
    }
    text.push_str(&remark("help", &diagnostic.help));
    text
}

/// Renders all diagnostics with a blank line between them, and the number of errors at the end.
/// Nothing for an empty list.
#[must_use]
pub fn all(diagnostics: &[Diagnostic], sources: Sources<'_>) -> String {
    let mut parts: Vec<String> = diagnostics.iter().map(|diagnostic| plain(diagnostic, sources)).collect();
    match diagnostics.iter().filter(|diagnostic| diagnostic.severity == Severity::Error).count() {
        0 => {}
        1 => parts.push("error: 1 mistake found\n".to_owned()),
        count => parts.push(format!("error: {count} mistakes found\n")),
    }
    parts.join("\n")
}

/// Columns that a remark's further lines are moved to, below the text of its first line.
const REMARK_INDENT: usize = 11;

fn head(diagnostic: &Diagnostic, place: &str) -> String {
    let severity = diagnostic.severity.name();
    format!("{severity}[{}]: {}\n  --> {place}\n", diagnostic.code.id, diagnostic.message)
}

fn remark(kind: &str, text: &str) -> String {
    let joint = format!("\n{}", " ".repeat(REMARK_INDENT));
    format!("   = {kind}: {}\n", text.lines().collect::<Vec<_>>().join(&joint))
}

/// Longest line that is quoted, in bytes.
const LONGEST_LINE: usize = 1000;

/// Whether the text around a span has a line that is too long to be quoted.
fn is_long(source: &str, span: &Span) -> bool {
    let begin = source.get(..span.start).and_then(|before| before.rfind('\n')).map_or(0, |at| at + 1);
    let length = source.get(span.end..).and_then(|rest| rest.find('\n'));
    let end = length.map_or(source.len(), |length| span.end + length);
    source.get(begin..end).is_some_and(|lines| lines.lines().any(|line| line.len() > LONGEST_LINE))
}

/// The message with the lines that it is about.
fn snippet(diagnostic: &Diagnostic, name: &str, source: &str, span: &Span) -> String {
    let file = SimpleFile::new(name, source);
    let primary = codespan::Label::primary((), inside(source, span)).with_message(&diagnostic.primary);
    let secondary = diagnostic
        .labels
        .iter()
        .map(|label| codespan::Label::secondary((), inside(source, &label.span)).with_message(&label.text));
    let severity = match diagnostic.severity {
        Severity::Error => codespan::Severity::Error,
        Severity::Warning => codespan::Severity::Warning,
    };
    let shown = codespan::Diagnostic::new(severity)
        .with_code(diagnostic.code.id)
        .with_message(&diagnostic.message)
        .with_labels(std::iter::once(primary).chain(secondary).collect());
    let config = term::Config { chars: rustc_chars(), tab_width: 4, ..term::Config::default() };
    let mut spans = std::iter::once(span).chain(diagnostic.labels.iter().map(|label| &label.span));
    let quoted = if spans.any(|span| is_long(source, &inside(source, span))) {
        None
    } else {
        term::emit_into_string(&config, &file, &shown).ok()
    };
    match quoted {
        // Lines with several labels come with blanks at their end.
        Some(text) => {
            let lines: Vec<&str> = text.trim_end().lines().map(str::trim_end).collect();
            format!("{}\n", lines.join("\n"))
        }
        // Without a snippet the place is still named.
        None => {
            let place = file.location((), inside(source, span).start);
            match place {
                Ok(place) => {
                    head(diagnostic, &format!("{name}:{}:{}", place.line_number, place.column_number))
                }
                Err(_) => head(diagnostic, name),
            }
        }
    }
}

/// The span cut to the text, its ends on characters.
fn inside(source: &str, span: &Span) -> Span {
    let floor =
        |at: usize| (0..=at.min(source.len())).rev().find(|at| source.is_char_boundary(*at)).unwrap_or(0);
    let start = floor(span.start);
    start..floor(span.end).max(start)
}

/// Signs as rustc draws them.
fn rustc_chars() -> Chars {
    Chars { snippet_start: "-->".into(), ..Chars::ascii() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diag::{Code, NodeRef};

    static CODE: Code = Code { id: "E0000", title: "", explanation: "" };

    fn shown(origin: Origin) -> String {
        let diagnostic = Diagnostic::new(&CODE, origin, "it is wrong", "make it right\nor leave it");
        plain(&diagnostic.with_note("seen twice"), &[("a.spec", "one\ntwo three\n")])
    }

    #[test]
    fn every_origin_names_its_place() {
        let node = NodeRef { index: 3, name: "fc1".to_owned(), operator: "Gemm".to_owned() };
        let file = || "m".to_owned();
        let places = [
            (Origin::File { file: file() }, "m"),
            (Origin::Node { file: file(), node }, "m: node 3 `fc1` (Gemm)"),
            (Origin::Row { file: file(), line: 7, column: None }, "m:7"),
            (Origin::Row { file: file(), line: 7, column: Some("a".to_owned()) }, "m:7: column `a`"),
            (Origin::Packet { file: file(), packet: 9 }, "m: packet 9"),
            (Origin::Flag { flag: "--kernel".to_owned() }, "flag `--kernel`"),
            (Origin::Kernel { object: "map nn_flows".to_owned() }, "map nn_flows"),
            (Origin::Source { file: file(), span: 0..1 }, "m"),
        ];
        for (origin, place) in places {
            assert_eq!(
                shown(origin),
                format!(
                    "error[E0000]: it is wrong\n  --> {place}\n   = note: seen twice\n   = help: make it right\n           \
                     or leave it\n"
                )
            );
        }
    }

    #[test]
    fn sources_are_quoted() {
        let text = shown(Origin::Source { file: "a.spec".to_owned(), span: 4..7 });
        assert_eq!(
            text,
            "error[E0000]: it is wrong\n  --> a.spec:2:1\n  |\n2 | two three\n  | ^^^\n   = note: seen twice\n   \
             = help: make it right\n           or leave it\n"
        );
    }

    #[test]
    fn warnings_are_called_so_and_not_counted() {
        let origin = Origin::Source { file: "a.spec".to_owned(), span: 4..7 };
        let warning = Diagnostic::warning(&CODE, origin, "it is odd", "look again");
        let text = "warning[E0000]: it is odd\n --> a.spec:2:1\n  |\n2 | two three\n  | ^^^\n   = help: look again\n";
        assert_eq!(
            all(std::slice::from_ref(&warning), &[("a.spec", "one\ntwo three\n")]).replace("  -->", " -->"),
            text
        );
        assert!(all(&[warning], &[]).starts_with("warning[E0000]: it is odd\n  --> a.spec\n"));
    }

    #[test]
    fn spans_outside_of_the_text_are_cut() {
        for span in [0..0, 14..14, 3..1000, 1000..2000, Span { start: 9, end: 2 }] {
            let text = shown(Origin::Source { file: "a.spec".to_owned(), span });
            assert!(text.contains("--> a.spec:"), "{text}");
        }
    }

    #[test]
    fn long_lines_are_named_but_not_quoted() {
        let source = format!("one\n{}bad", "é".repeat(LONGEST_LINE));
        let at = source.len() - 3;
        let origin = Origin::Source { file: "a.spec".to_owned(), span: at..at + 3 };
        let text =
            plain(&Diagnostic::new(&CODE, origin, "it is wrong", "make it right"), &[("a.spec", &source)]);
        assert_eq!(text, "error[E0000]: it is wrong\n  --> a.spec:2:1001\n   = help: make it right\n");
    }

    #[test]
    fn lists_are_counted() {
        let one = Diagnostic::new(&CODE, Origin::File { file: "m".to_owned() }, "bad", "good");
        assert_eq!(all(&[], &[]), "");
        assert!(all(std::slice::from_ref(&one), &[]).ends_with("error: 1 mistake found\n"));
        assert!(all(&[one.clone(), one], &[]).ends_with("error: 2 mistakes found\n"));
    }
}
