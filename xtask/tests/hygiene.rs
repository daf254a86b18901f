//! The repository's rules that a compiler does not enforce: what a file may be, say and use.
//!
//! `docs/architecture.md` names the invariants that these tests hold.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use std::collections::BTreeMap;

use xtask::source::{self, Source};
use xtask::tree;

fn sources() -> Vec<Source> {
    let sources = source::all().unwrap();
    assert!(sources.len() > 100, "only {} sources were found", sources.len());
    sources
}

fn read(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Sources of the compiler library that are compiled into it.
fn library() -> impl Iterator<Item = Source> {
    sources().into_iter().filter(|source| source.path.starts_with("compiler/src/") && !source.is_test())
}

/// Fails with every complaint at once.
fn none(complaints: &[String]) {
    assert!(complaints.is_empty(), "\n{}", complaints.join("\n"));
}

/// Whether a word occurs, with no letter, digit or `_` at its sides.
fn has_word(text: &str, word: &str) -> bool {
    let inside = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(start, _)| {
        let (before, after) = (&text[..start], &text[start + word.len()..]);
        !before.ends_with(inside) && !after.starts_with(inside)
    })
}

#[test]
fn every_source_says_what_lives_in_it() {
    let silent: Vec<String> = sources()
        .iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| format!("{} does not open with `//!`", source.path))
        .collect();
    none(&silent);
}

#[test]
fn scripts_say_what_they_do() {
    let mut complaints = Vec::new();
    for path in tree::files().unwrap() {
        let text = if path.ends_with(".py") || path.ends_with(".sh") { read(&path) } else { continue };
        let mut lines = text.lines().skip_while(|line| line.starts_with("#!"));
        let first = lines.next().unwrap_or_default();
        if !(first.starts_with("# ") || first.starts_with("\"\"\"")) {
            complaints.push(format!("{path} does not open with a comment"));
        }
    }
    none(&complaints);
}

#[test]
fn sources_are_short() {
    let mut lengths: Vec<(usize, String)> = sources()
        .into_iter()
        .filter(|source| !source.is_test())
        .map(|source| (source.product_lines().count(), source.path))
        .collect();
    lengths.sort();
    let median = lengths[lengths.len() / 2].0;
    let (longest, path) = lengths.last().unwrap();
    assert!(median <= 250, "the median file has {median} lines");
    assert!(*longest <= 600, "{path} has {longest} lines");
}

#[test]
fn the_compiler_is_one_screen() {
    let lines = read("compiler/src/compile.rs").lines().count();
    assert!(lines <= 100, "compile.rs has {lines} lines");
}

#[test]
fn the_library_has_no_input_or_output() {
    let mut complaints = Vec::new();
    for source in library() {
        let code = source.code();
        for module in ["fs", "env", "process", "time"] {
            let path = format!("std::{module}");
            let grouped = code.lines().any(|line| line.contains("use std::{") && has_word(line, module));
            if has_word(&code, &path) || grouped {
                complaints.push(format!("{} uses {path}", source.path));
            }
        }
        for print in ["println!", "eprintln!", "print!", "eprint!"] {
            if code.contains(print) {
                complaints.push(format!("{} prints", source.path));
            }
        }
    }
    none(&complaints);
}

#[test]
fn the_library_knows_no_running_kernel() {
    let manifest = read("compiler/Cargo.toml");
    let (_, rest) = manifest.split_once("[dependencies]").unwrap();
    let (dependencies, _) = rest.split_once("\n[").unwrap();
    for forbidden in ["aya", "libc", "nnbpf-runtime-loader"] {
        assert!(!dependencies.contains(forbidden), "the compiler library depends on {forbidden}");
    }
}

#[test]
fn only_bpf_names_opcodes() {
    let complaints: Vec<String> = sources()
        .iter()
        .filter(|source| !source.path.starts_with("compiler/src/bpf/") && !source.path.starts_with("xtask/"))
        .filter(|source| !source.is_test())
        .filter(|source| {
            let code = source.code();
            has_word(&code, "opcode") || code.contains("bpf::encode") || code.contains("table::TABLE")
        })
        .map(|source| format!("{} knows how instructions are encoded", source.path))
        .collect();
    none(&complaints);
}

#[test]
fn only_elf_writes_objects() {
    let complaints: Vec<String> = sources()
        .iter()
        .filter(|source| !source.path.starts_with("compiler/src/elf/") && !source.path.starts_with("xtask/"))
        .filter(|source| !source.is_test())
        .filter(|source| {
            let code = source.code();
            ["object::write", "object::read", "object::File", "object::elf"]
                .iter()
                .any(|path| has_word(&code, path))
        })
        .map(|source| format!("{} knows ELF bytes", source.path))
        .collect();
    none(&complaints);
}

/// The signature of every public function in some code: from `pub fn` to the brace of its body.
fn public_functions(code: &str) -> impl Iterator<Item = &str> {
    code.match_indices("pub fn ").filter_map(|(start, _)| code[start..].split('{').next())
}

#[test]
fn lowering_takes_only_what_was_checked() {
    let mut takers = 0;
    for source in library().filter(|source| source.path.starts_with("compiler/src/lower/")) {
        let code = source.code();
        for signature in public_functions(&code) {
            let Some((arguments, result)) = signature.split_once("->") else { continue };
            let makes_code = ["Module", "NetworkCode"].iter().any(|made| has_word(result, made));
            if makes_code && has_word(arguments, "Network") {
                assert!(arguments.contains("&Checked<Network>"), "{}: {signature}", source.path);
                takers += 1;
            }
        }
    }
    assert!(takers >= 2, "only {takers} functions lower a network");
    let plan = read("compiler/src/compile.rs");
    assert!(plan.contains("pub network: Checked<Network>"), "the plan holds an unchecked network");
}

#[test]
fn suppressions_have_reasons_and_tests_run() {
    let mut complaints = Vec::new();
    for source in sources() {
        if source.path.starts_with("xtask/tests/") {
            continue;
        }
        for forbidden in ["#[ignore", "#[allow(", "#![allow(", "todo!(", "unimplemented!("] {
            // A line of documentation may show a hidden `unimplemented!()` of a doctest that must not compile.
            if source.text.lines().any(|line| line.contains(forbidden) && !line.starts_with("//! #")) {
                complaints.push(format!("{} has {forbidden}", source.path));
            }
        }
    }
    none(&complaints);
}

#[test]
fn no_path_of_a_machine_is_named() {
    let mut complaints = Vec::new();
    for path in tree::files().unwrap() {
        let Ok(text) = std::fs::read_to_string(tree::root().join(&path)) else { continue };
        for (index, line) in text.lines().enumerate() {
            for folder in ["home", "root", "work", "Users", "mnt"] {
                let absolute = format!("/{folder}/");
                let named = line.match_indices(&absolute).any(|(start, _)| {
                    line[..start].chars().next_back().is_none_or(|c| " \"'`(=:".contains(c))
                });
                if named {
                    complaints.push(format!("{path}:{}: {}", index + 1, line.trim()));
                }
            }
        }
    }
    none(&complaints);
}

/// Lines of a table of a manifest, up to the next table.
fn table<'a>(manifest: &'a str, name: &str) -> Vec<&'a str> {
    manifest
        .lines()
        .skip_while(|line| *line != format!("[{name}]"))
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .collect()
}

fn dependency(line: &str) -> Option<String> {
    let name = line.split(['.', '=', ' ']).next().unwrap_or_default();
    (!name.is_empty() && !name.starts_with('#')).then(|| name.to_owned())
}

#[test]
fn every_dependency_is_explained_and_used() {
    let root = read("Cargo.toml");
    let mut complaints = Vec::new();
    let mut previous = "";
    let mut members: BTreeMap<String, usize> = BTreeMap::new();
    for line in table(&root, "workspace.dependencies") {
        if let Some(name) = dependency(line) {
            if !previous.starts_with('#') && !name.starts_with("nnbpf-") {
                complaints.push(format!("{name} carries no comment"));
            }
            members.insert(name, 0);
        }
        previous = line;
    }
    for member in ["compiler", "compiler/cli", "runtime-loader", "xtask"] {
        let manifest = read(&format!("{member}/Cargo.toml"));
        let code: String = sources()
            .into_iter()
            .filter(|source| match source.path.strip_prefix(&format!("{member}/")) {
                Some(rest) => member != "compiler" || !rest.starts_with("cli/"),
                None => false,
            })
            .map(|source| source.text)
            .collect();
        for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
            for name in table(&manifest, section).into_iter().filter_map(dependency) {
                let path = name.replace('-', "_");
                // A word may be anything; a path is a use.
                if !code.contains(&format!("{path}::")) {
                    complaints.push(format!("{member} does not use {name}"));
                }
                *members.entry(name).or_default() += 1;
            }
        }
    }
    for (name, users) in members {
        if users == 0 {
            complaints.push(format!("no member depends on {name}"));
        }
    }
    none(&complaints);
}
