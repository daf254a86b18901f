//! Every mistake in `testdata/diag/*.spec` is reported in the words of the `.stderr` file beside it, and whatever is
//! odd is warned about so.
//!
//! A first line `// --param NAME=VALUE …` gives values from outside; files that a case uses lie in `used/`.
//! `BLESS=1` rewrites the expected texts. A case is named `<code>-<what>.spec`, and its report contains that
//! code.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nnbpf_compiler::compile::Target;
use nnbpf_compiler::diag::{Severity, codes, render};
use nnbpf_compiler::explain;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec;
use nnbpf_compiler::spec::sources::{Found, Fragments, Parameter, Surroundings};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/diag")
}

/// Specifications of the folder with their names, sorted.
fn cases() -> Vec<(String, PathBuf)> {
    let mut cases: Vec<(String, PathBuf)> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "spec"))
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), path))
        .collect();
    cases.sort();
    cases
}

/// Values from outside.
fn given(source: &str) -> Vec<Parameter> {
    let line = source.lines().next().unwrap_or_default();
    let pairs = line.strip_prefix("// --param ").unwrap_or_default().split(" --param ");
    let pair = |(name, value): (&str, &str)| Parameter { name: name.to_owned(), value: value.to_owned() };
    pairs.filter_map(|text| text.split_once('=')).map(pair).collect()
}

/// The files in `used/`, with the texts of those that were read.
struct Used(RefCell<Vec<(String, String)>>);

impl Fragments for Used {
    fn read(&self, _user: &str, path: &str) -> Result<Found, String> {
        let bytes = std::fs::read(folder().join("used").join(path)).map_err(|_| "there is no such file")?;
        self.0.borrow_mut().push((path.to_owned(), String::from_utf8_lossy(&bytes).into_owned()));
        Ok(Found { name: path.to_owned(), bytes })
    }
}

/// The code that a case is named after.
fn code(name: &str) -> &str {
    name.split('-').next().unwrap()
}

/// Whether a code is one of warnings.
fn is_warning(code: &str) -> bool {
    code.starts_with("E026")
}

fn target() -> Target {
    Target {
        kernel: KernelVersion::DEFAULT,
        network: network::Options::default(),
        clock: Clock::Kernel,
        fragments: false,
    }
}

#[test]
fn mistakes_are_reported_in_these_words() {
    let bless = std::env::var_os("BLESS").is_some_and(|value| value == "1");
    let mut failures = Vec::new();
    for (name, path) in cases() {
        let source = std::fs::read_to_string(&path).unwrap();
        let file = format!("{name}.spec");
        let parameters = given(&source);
        let used = Used(RefCell::default());
        let surroundings = Surroundings { parameters: &parameters, fragments: &used };
        let diagnostics = match spec::compile_in(&file, &source, &surroundings) {
            Ok(spec) => explain::warnings(&spec, &target()).unwrap(),
            Err(diagnostics) => diagnostics,
        };
        if diagnostics.is_empty() {
            failures.push(format!("{name}: accepted"));
            continue;
        }
        let kinds = diagnostics.iter().map(|diagnostic| diagnostic.severity);
        let wanted = if is_warning(code(&name)) { Severity::Warning } else { Severity::Error };
        if kinds.into_iter().any(|kind| kind != wanted) {
            failures.push(format!("{name}: warnings and errors are mixed up"));
        }
        if !diagnostics.iter().any(|diagnostic| diagnostic.code.id == code(&name)) {
            failures.push(format!("{name}: its code is not among those reported"));
        }
        let used = used.0.into_inner();
        let mut sources = vec![(file.as_str(), source.as_str())];
        sources.extend(used.iter().map(|(name, text)| (name.as_str(), text.as_str())));
        let text = render::all(&diagnostics, &sources);
        for part in text.split("\n\n").filter(|part| part.contains("[E0")) {
            assert!(part.contains("--> ") && part.contains("= help: "), "{name}: incomplete:\n{part}");
        }
        let expected = path.with_extension("stderr");
        if bless {
            std::fs::write(&expected, &text).unwrap();
        } else if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            failures.push(format!("{name}: reported now:\n{text}"));
        }
    }
    assert!(failures.is_empty(), "{}\n(BLESS=1 rewrites the expected texts)", failures.join("\n"));
}

#[test]
fn every_code_of_the_language_has_a_case() {
    let shown: BTreeSet<String> = cases().iter().map(|(name, _)| code(name).to_owned()).collect();
    let known: BTreeSet<String> = codes::spec::TABLE.iter().map(|code| code.id.to_owned()).collect();
    assert_eq!(shown, known);
}

#[test]
fn codes_are_sorted_and_explained() {
    let ids: Vec<&str> = codes::spec::TABLE.iter().map(|code| code.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    for code in codes::spec::TABLE {
        assert!(code.id.starts_with("E02") && !code.title.is_empty() && !code.explanation.is_empty());
    }
}

#[test]
fn expected_texts_of_the_language_belong_to_cases() {
    for entry in std::fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if name.starts_with("E02") {
            assert!(path.with_extension("spec").exists(), "{name} has no specification");
        }
    }
}
