//! Collects the diagnostics of one specification, and suggests names that were probably meant.
//!
//! What each diagnostic says stands where the mistake is found.

use crate::diag::{Code, Diagnostic, Label, Origin, Span};

/// Most mistakes that are kept; a text of a megabyte has room for a million.
const MOST: usize = 100;

/// Most notes about values that stand somewhere else.
const MOST_NOTES: usize = 3;

/// Longest message or help, in bytes; names and numbers in it are as long as the author likes.
const LONGEST: usize = 2000;

/// Collects diagnostics that point into one file, or into several that stand one after the other.
pub(super) struct Reporter<'a> {
    file: &'a str,
    /// Further files: name, where it begins, text.
    files: Vec<(String, usize, String)>,
    /// What stands somewhere else than it seems.
    explained: Vec<(Span, String)>,
    /// Names that the specification itself gives to expressions.
    names: Vec<String>,
    diagnostics: Vec<Diagnostic>,
    /// Mistakes beyond [`MOST`].
    beyond: usize,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self {
            file,
            files: Vec::new(),
            explained: Vec::new(),
            names: Vec::new(),
            diagnostics: Vec::new(),
            beyond: 0,
        }
    }

    /// What lies behind this position is in another file.
    pub(super) fn add_file(&mut self, name: &str, start: usize, text: &str) {
        self.files.push((name.to_owned(), start, text.to_owned()));
    }

    /// Adds a note to every diagnostic about this place.
    pub(super) fn explain(&mut self, span: Span, note: String) {
        self.explained.push((span, note));
    }

    /// Names that unknown ones may be meant for, besides those of the language.
    pub(super) fn suggest_too<'n>(&mut self, names: impl IntoIterator<Item = &'n String>) {
        self.names.extend(names.into_iter().cloned());
    }

    /// The name of the specification that an unknown one was probably meant for.
    pub(super) fn own_name(&self, written: &str) -> Option<String> {
        nearest(written, self.names.iter().map(String::as_str)).map(str::to_owned)
    }

    /// Adds a diagnostic that points to no file.
    pub(super) fn add(&mut self, diagnostic: Diagnostic) {
        if self.diagnostics.len() < MOST {
            self.diagnostics.push(diagnostic);
        } else {
            self.beyond += 1;
        }
    }

    /// Adds a diagnostic, unless there are very many; what comes back takes further labels and notes.
    pub(super) fn error(
        &mut self,
        code: &'static Code,
        span: Span,
        message: impl Into<String>,
        help: impl Into<String>,
    ) -> Details<'_> {
        if self.diagnostics.len() >= MOST {
            self.beyond += 1;
            return Details { diagnostic: None };
        }
        self.diagnostics.push(Diagnostic::new(
            code,
            Origin::Source { file: self.file.to_owned(), span },
            shortened(message.into()),
            shortened(help.into()),
        ));
        Details { diagnostic: self.diagnostics.last_mut() }
    }

    /// Whether nothing was reported so far.
    pub(super) fn is_clean(&self) -> bool {
        self.diagnostics.is_empty()
    }

    /// Where the reported places begin.
    pub(super) fn starts(&self) -> impl Iterator<Item = usize> {
        self.diagnostics.iter().map(start)
    }

    /// Everything reported, in the order of the text.
    pub(super) fn into_diagnostics(mut self) -> Vec<Diagnostic> {
        self.diagnostics.sort_by_key(start);
        for diagnostic in &mut self.diagnostics {
            let Origin::Source { file, span } = &mut diagnostic.origin else { continue };
            let about = |at: &Span| span.start <= at.start && at.end <= span.end;
            let notes = self.explained.iter().filter(|(at, _)| about(at)).take(MOST_NOTES);
            diagnostic.notes.extend(notes.map(|(_, note)| note.clone()));
            localise(&self.files, file, span, &mut diagnostic.labels, &mut diagnostic.notes);
        }
        if let (Some(last), 1..) = (self.diagnostics.last_mut(), self.beyond) {
            last.notes.push(format!("{} further mistakes are not shown", self.beyond));
        }
        self.diagnostics
    }
}

/// Turns positions among all files into those of one. Labels in other files become notes.
fn localise(
    files: &[(String, usize, String)],
    file: &mut String,
    span: &mut Span,
    labels: &mut Vec<Label>,
    notes: &mut Vec<String>,
) {
    let of = |at: usize| files.iter().rev().find(|(_, start, _)| *start <= at);
    let own = of(span.start);
    let first = own.map_or(0, |(_, start, _)| *start);
    labels.retain_mut(|label| {
        let other = of(label.span.start);
        let (start, text) = other.map_or((0, ""), |(_, start, text)| (*start, text.as_str()));
        label.span = label.span.start.saturating_sub(start)..label.span.end.saturating_sub(start);
        if start == first {
            return true;
        }
        let name = other.map_or(file.as_str(), |(name, _, _)| name.as_str());
        let line = text.get(..label.span.start).map(|before| before.matches('\n').count() + 1);
        let place = line.filter(|_| other.is_some()).map_or(String::new(), |line| format!(":{line}"));
        notes.push(format!("{}: {name}{place}", label.text));
        false
    });
    *span = span.start.saturating_sub(first)..span.end.saturating_sub(first);
    if let Some((name, _, _)) = own {
        file.clone_from(name);
    }
}

fn shortened(mut text: String) -> String {
    if text.len() > LONGEST {
        text.truncate(text.floor_char_boundary(LONGEST));
        text.push('…');
    }
    text
}

/// Where a diagnostic points in the text.
fn start(diagnostic: &Diagnostic) -> usize {
    match &diagnostic.origin {
        Origin::Source { span, .. } => span.start,
        Origin::File { .. }
        | Origin::Node { .. }
        | Origin::Row { .. }
        | Origin::Packet { .. }
        | Origin::Flag { .. }
        | Origin::Kernel { .. } => 0,
    }
}

/// The diagnostic that was added last.
pub(super) struct Details<'r> {
    diagnostic: Option<&'r mut Diagnostic>,
}

impl Details<'_> {
    /// Sets the text under the primary span.
    pub(super) fn primary(mut self, text: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.primary = text.into();
        }
        self
    }

    /// Adds a note.
    pub(super) fn note(mut self, text: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.notes.push(text.into());
        }
        self
    }

    /// Adds a second place.
    pub(super) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.labels.push(Label { span, text: text.into() });
        }
        self
    }
}

/// The candidate that `written` was probably meant to be: at most a third of its letters differ.
pub(super) fn nearest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
    let allowed = (written.chars().count() / 3).clamp(1, 3);
    candidates
        .into_iter()
        .map(|candidate| (distance(written, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= allowed && *distance < candidate.len())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// `did you mean …?` when a candidate is near, else the list of all of them.
pub(super) fn suggest<'c>(written: &str, candidates: impl IntoIterator<Item = &'c str> + Clone) -> String {
    match nearest(written, candidates.clone()) {
        Some(candidate) => format!("did you mean `{candidate}`?"),
        None => format!("use one of {}", list(candidates)),
    }
}

/// `a`, `b`, `c` in backquotes.
pub(super) fn list<'c>(names: impl IntoIterator<Item = &'c str>) -> String {
    names.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// Edits between two words, an exchange of neighbours counting as one (optimal string alignment).
/// Words longer than 64 letters are taken as far away from everything.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().map(|c| c.to_ascii_lowercase()).collect();
    let b: Vec<char> = b.chars().map(|c| c.to_ascii_lowercase()).collect();
    if a.len() > 64 || b.len() > 64 {
        return usize::MAX;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    let mut left_a: Option<char> = None;
    for (i, &x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        let mut left_b: Option<char> = None;
        for (j, &y) in b.iter().enumerate() {
            let at = |line: &[usize], index: usize| line.get(index).copied().unwrap_or(usize::MAX / 2);
            let mut best =
                (at(&above, j) + usize::from(x != y)).min(at(&above, j + 1) + 1).min(at(&row, j) + 1);
            if left_a == Some(y) && left_b == Some(x) {
                best = best.min(at(&before, j.wrapping_sub(1)) + 1);
            }
            row.push(best);
            left_b = Some(y);
        }
        before = std::mem::replace(&mut above, row);
        left_a = Some(x);
    }
    above.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances_are_edits() {
        assert_eq!(distance("count", "count"), 0);
        assert_eq!(distance("coutn", "count"), 1);
        assert_eq!(distance("cont", "count"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
    }

    #[test]
    fn only_near_names_are_suggested() {
        assert_eq!(nearest("capcity", ["key", "capacity", "idle"]), Some("capacity"));
        assert_eq!(nearest("banana", ["key", "capacity", "idle"]), None);
        assert_eq!(nearest("x", ["y"]), None);
        assert!(suggest("banana", ["key", "idle"]).contains("`key`, `idle`"));
    }
}
