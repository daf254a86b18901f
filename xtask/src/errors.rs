//! The book's error index, written from the code table of the compiler.

use std::fmt::Write as _;

use nnbpf_compiler::diag::codes;

/// Where the page lies in the repository.
pub const PAGE: &str = "book/src/errors.md";

/// Headings of the families: the first two digits of their identifiers, and what they are about.
const FAMILIES: [(&str, &str); 9] = [
    ("E01", "ONNX import"),
    ("E02", "Feature specification"),
    ("E03", "Model against specification, and quantisation"),
    ("E04", "Checks and budgets"),
    ("E05", "Feature rows"),
    ("E06", "Captures"),
    ("E07", "Objects and parameter files"),
    ("E08", "Kernel and loader"),
    ("E09", "Files and command line"),
];

/// The whole page as Markdown, one sentence per line.
#[must_use]
pub fn page() -> String {
    let mut page = String::from(
        "# Error index\n\n\
         Every refusal carries a code, and so does every warning.\n\
         This page is written from the compiler's code table by `cargo xtask errors`; a test compares the two.\n",
    );
    for (family, title) in FAMILIES {
        // Writing to a string cannot fail.
        let _ = write!(page, "\n## {family}xx: {title}\n");
        for code in codes::all().filter(|code| code.id.starts_with(family)) {
            let _ = write!(page, "\n### {}: {}\n\n{}\n", code.id, code.title, sentences(code.explanation));
        }
    }
    page
}

/// A line per sentence. Explanations are written as one paragraph of prose.
fn sentences(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut lines = String::new();
    for (index, word) in words.iter().enumerate() {
        lines.push_str(word);
        let next = words.get(index + 1).and_then(|next| next.chars().next());
        match next {
            Some(first) if word.ends_with('.') && (first.is_uppercase() || first == '`') => lines.push('\n'),
            Some(_) => lines.push(' '),
            None => {}
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_family() {
        let page = page();
        for code in codes::all() {
            assert!(page.contains(&format!("### {}: ", code.id)), "{} belongs to no family", code.id);
        }
    }

    #[test]
    fn a_line_per_sentence() {
        assert_eq!(sentences("One  thing. `x` is\n another."), "One thing.\n`x` is another.");
    }
}
