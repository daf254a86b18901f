//! `docs/architecture.md` is true: its list of modules is that of the sources, the tests that it names exist, and
//! links of all pages lead somewhere.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use xtask::{modules, tree};

fn read(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap()
}

#[test]
fn the_list_of_modules_is_current() {
    let page = modules::page().unwrap();
    if std::env::var_os("BLESS").is_some_and(|value| value == "1") {
        std::fs::write(tree::root().join(modules::PAGE), &page).unwrap();
    }
    assert!(read(modules::PAGE) == page, "{} is stale; `cargo xtask modules` writes it", modules::PAGE);
}

/// Texts between backticks.
fn quoted(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

#[test]
fn every_invariant_names_a_test_that_exists() {
    let page = read(modules::PAGE);
    let (_, table) = page.split_once("\n## Invariants\n").unwrap();
    let rows: Vec<&str> = table
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .collect();
    assert!(rows.len() >= 8, "only {} invariants", rows.len());
    for row in rows {
        let holders = row.rsplit('|').nth(1).unwrap();
        let mut file: Option<String> = None;
        let mut tests = 0;
        for text in quoted(holders) {
            if text.ends_with(".rs") {
                file = Some(read(text));
            } else {
                let source = file.as_ref().unwrap();
                assert!(
                    source.contains(&format!("fn {text}("))
                        || source.contains(text) && text.contains("compile_fail"),
                    "no test {text}: {row}"
                );
                tests += 1;
            }
        }
        assert!(tests > 0, "no test holds: {row}");
    }
}

#[test]
fn links_lead_somewhere() {
    for path in tree::files().unwrap().iter().filter(|path| path.ends_with(".md")) {
        let text = read(path);
        let folder = tree::root().join(path).parent().unwrap().to_path_buf();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || file.contains("://") || file.contains(' ') {
                continue;
            }
            assert!(folder.join(file).exists(), "{path}: {file} does not exist");
        }
    }
}
