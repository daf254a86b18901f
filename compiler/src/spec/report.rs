//! Collects the diagnostics of one specification, and suggests names that were probably meant.
//!
//! What each diagnostic says stands where the mistake is found.

use crate::diag::{Code, Diagnostic, Origin, Span};

/// Most mistakes that are kept; a text of a megabyte has room for a million.
const MOST: usize = 100;

/// Longest message or help, in bytes; names and numbers in it are as long as the author likes.
const LONGEST: usize = 2000;

/// Collects diagnostics that point into one file.
pub(super) struct Reporter<'a> {
    file: &'a str,
    diagnostics: Vec<Diagnostic>,
    /// Mistakes beyond [`MOST`].
    beyond: usize,
}

impl<'a> Reporter<'a> {
    pub(super) fn new(file: &'a str) -> Self {
        Self { file, diagnostics: Vec::new(), beyond: 0 }
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
        if let (Some(last), 1..) = (self.diagnostics.last_mut(), self.beyond) {
            last.notes.push(format!("{} further mistakes are not shown", self.beyond));
        }
        self.diagnostics
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

    /// Adds a second place.
    pub(super) fn label(mut self, span: Span, text: impl Into<String>) -> Self {
        if let Some(diagnostic) = &mut self.diagnostic {
            diagnostic.labels.push(crate::diag::Label { span, text: text.into() });
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
