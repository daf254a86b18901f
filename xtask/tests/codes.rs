//! Codes in the table = codes with a test case = codes in the book.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use nnbpf_compiler::diag::{Code, codes};
use xtask::{errors, source, tree};

/// Families with the first digits of their identifiers, in the order of the joined table.
const FAMILIES: [(&str, &[&Code]); 9] = [
    ("E01", codes::onnx::TABLE),
    ("E02", codes::spec::TABLE),
    ("E03", codes::quant::TABLE),
    ("E04", codes::check::TABLE),
    ("E05", codes::rows::TABLE),
    ("E06", codes::capture::TABLE),
    ("E07", codes::object::TABLE),
    ("E08", codes::kernel::TABLE),
    ("E09", codes::files::TABLE),
];

#[test]
fn identifiers_are_unique_ordered_and_in_their_family() {
    let mut previous = "";
    for (family, table) in FAMILIES {
        for code in table {
            assert!(code.id.starts_with(family) && code.id.len() == 5, "{} is not in {family}xx", code.id);
            assert!(code.id > previous, "{} follows {previous}", code.id);
            previous = code.id;
        }
    }
    let joined = codes::all().count();
    assert_eq!(joined, FAMILIES.iter().map(|(_, table)| table.len()).sum::<usize>());
}

#[test]
fn entries_are_complete() {
    for code in codes::all() {
        let text = code.explanation;
        assert!(!code.title.is_empty() && !code.title.ends_with('.'), "{}: title", code.id);
        assert!(text.ends_with('.'), "{}: the explanation is no sentence", code.id);
        assert!(!text.contains("  "), "{}: stray blanks in its explanation", code.id);
    }
}

/// Everything that counts as a test case: tests in sources, and names and contents of committed cases.
fn cases() -> String {
    let mut text = String::new();
    for source in source::all().unwrap() {
        // The compiler's codes are not produced by tests of the repository itself.
        if !source.path.starts_with("xtask/") {
            text.push_str(source.test_text());
        }
    }
    for path in tree::files().unwrap() {
        if path.starts_with("testdata/diag/") || path.starts_with("testdata/cli/") {
            text.push_str(&path);
            text.push('\n');
            let bytes = std::fs::read(tree::root().join(&path)).unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    }
    text
}

#[test]
fn every_code_has_a_test_case() {
    let cases = cases().to_uppercase();
    let missing: Vec<&str> = codes::all().map(|code| code.id).filter(|id| !cases.contains(id)).collect();
    assert!(missing.is_empty(), "no test case produces {missing:?}");
}

#[test]
fn the_error_index_is_current() {
    let page = errors::page();
    let path = tree::root().join(errors::PAGE);
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(&path, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == page, "{} is stale; `cargo xtask errors` writes it", errors::PAGE);
}
