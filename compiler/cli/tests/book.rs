//! Runs every command of the book, in order, in a folder of its own for each chapter.
//!
//! A block ```` ```sh ```` is a script that must succeed; words behind `sh` change that:
//!
//! | word | meaning |
//! |---|---|
//! | `root` | needs root and BPF; skipped and counted where those are missing |
//! | `torch` | needs PyTorch and the ONNX package; skipped and counted without them |
//! | `make` | builds what these tests run; only the names of its targets are checked |
//! | `status=1` | the last command must be refused |
//!
//! A block ```` ```text ```` behind it lists texts that its output contains, in this order.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a helper of a test fails by panicking, as the test does"
)]

use std::path::{Path, PathBuf};
use std::process::Command;

use nnbpf_runtime_loader::permission;

/// One block of a chapter.
#[derive(Debug, Default)]
struct Block {
    line: usize,
    words: Vec<String>,
    script: String,
    expected: Vec<String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn chapter(name: &str) -> String {
    std::fs::read_to_string(root().join("book/src").join(name)).unwrap()
}

/// The scripts of a chapter with what they should print.
fn blocks(text: &str) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    let mut lines = text.lines().enumerate();
    let mut printed_by_previous = false;
    while let Some((index, line)) = lines.next() {
        let Some(info) = line.strip_prefix("```") else {
            printed_by_previous &= line.is_empty();
            continue;
        };
        let body: Vec<&str> =
            lines.by_ref().map(|(_, line)| line).take_while(|line| !line.starts_with("```")).collect();
        let mut words = info.split_whitespace().map(str::to_owned);
        match words.next().as_deref() {
            Some("sh") => {
                let script = body.join("\n");
                blocks.push(Block { line: index + 1, words: words.collect(), script, expected: Vec::new() });
                printed_by_previous = true;
                continue;
            }
            Some("text") if printed_by_previous => {
                blocks.last_mut().unwrap().expected =
                    body.into_iter().map(|line| line.trim().to_owned()).collect();
            }
            Some("spec" | "python") => {}
            other => panic!("line {}: a block of kind {other:?}", index + 1),
        }
        printed_by_previous = false;
    }
    blocks
}

/// The folder of the two commands. Both are there in a run of the whole workspace.
fn commands() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_nnbpfc")).parent().unwrap().to_path_buf();
    if !folder.join("nnbpf").exists() {
        let build = ["build", "--quiet", "--package", "nnbpf-runtime-loader", "--bin", "nnbpf"];
        assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    }
    folder
}

/// Names that the book gives to things of the whole machine, and their like for this process alone.
fn own(text: &str) -> String {
    let id = std::process::id();
    ["book-kernel", "book-peer", "nnbpf-book"]
        .iter()
        .fold(text.to_owned(), |text, name| text.replace(name, &format!("{name}-{id}")))
        .replace("book0", &format!("bk{id}"))
}

/// Namespaces and pins that blocks make, removed also when one fails.
struct Leftovers;

impl Drop for Leftovers {
    fn drop(&mut self) {
        for namespace in ["book-kernel", "book-peer"] {
            let _ = Command::new("ip").args(["netns", "delete", &own(namespace)]).output();
        }
        for pins in ["/sys/fs/bpf/nnbpf/book0", "/sys/fs/bpf/nnbpf-book"] {
            let _ = std::fs::remove_dir_all(own(pins));
        }
    }
}

/// Why a block cannot run here.
fn obstacle(block: &Block) -> Option<String> {
    for word in &block.words {
        match word.as_str() {
            "root" => {
                if let Err(error) = permission::check() {
                    let required = std::env::var("NNBPF_REQUIRE_KERNEL").as_deref() == Ok("1");
                    assert!(!required, "the kernel is required: {error}");
                    return Some(error.to_string());
                }
            }
            "torch" => {
                let import = Command::new("python3").args(["-c", "import torch, onnx"]).output();
                if !import.is_ok_and(|output| output.status.success()) {
                    return Some("PyTorch and onnx are not installed".to_owned());
                }
            }
            "make" => check_targets(&block.script),
            "status=1" => {}
            other => panic!("line {}: unknown word `{other}`", block.line),
        }
    }
    None
}

/// `make X` in the book is a target of the Makefile.
fn check_targets(script: &str) {
    let makefile = std::fs::read_to_string(root().join("Makefile")).unwrap();
    for target in script.lines().filter_map(|line| line.strip_prefix("make ")) {
        assert!(makefile.contains(&format!("\n{target}:")), "the Makefile has no target {target}");
    }
}

fn run_chapter(name: &str) {
    let folder = tempfile::tempdir().unwrap();
    for shared in ["specs", "testdata", "book"] {
        std::os::unix::fs::symlink(root().join(shared), folder.path().join(shared)).unwrap();
    }
    let path = format!("{}:{}", commands().display(), std::env::var("PATH").unwrap_or_default());
    let _leftovers = Leftovers;
    let blocks = blocks(&chapter(name));
    assert!(!blocks.is_empty(), "{name} has no commands");
    for block in &blocks {
        if let Some(reason) = obstacle(block) {
            eprintln!("SKIP book/src/{name} line {}: {reason}", block.line);
            continue;
        }
        if block.words.iter().any(|word| word == "make") {
            continue;
        }
        let output = Command::new("bash")
            .args(["-euo", "pipefail", "-c", &own(&block.script)])
            .current_dir(folder.path())
            .env("PATH", &path)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        let wanted = i32::from(block.words.iter().any(|word| word == "status=1"));
        assert_eq!(output.status.code(), Some(wanted), "{name}:{}:\n{}\n{text}", block.line, block.script);
        let mut rest = text.as_str();
        for expected in &block.expected {
            let Some((_, after)) = rest.split_once(own(expected).as_str()) else {
                panic!("{name}:{}: `{expected}` is missing here:\n{text}", block.line);
            };
            rest = after;
        }
    }
}

#[test]
fn getting_started() {
    run_chapter("getting-started.md");
}

#[test]
fn costs() {
    run_chapter("costs.md");
}

#[test]
fn numerics() {
    run_chapter("numerics.md");
}

#[test]
fn commands_chapter() {
    run_chapter("commands.md");
}

#[test]
fn what_is_proved() {
    run_chapter("verify.md");
}

#[test]
fn every_chapter_with_commands_is_run() {
    for entry in std::fs::read_dir(root().join("book/src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let run = ["getting-started.md", "costs.md", "numerics.md", "commands.md", "verify.md"]
            .contains(&name.as_str());
        assert_eq!(run, chapter(&name).contains("\n```sh"), "{name}");
    }
}

#[test]
fn the_summary_lists_every_chapter() {
    let summary = chapter("SUMMARY.md");
    for entry in std::fs::read_dir(root().join("book/src")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name == "SUMMARY.md" || summary.contains(&format!("]({name})")), "{name} is in no list");
    }
    for link in summary.split("](").skip(1) {
        let name = link.split(')').next().unwrap();
        assert!(root().join("book/src").join(name).exists(), "{name} does not exist");
    }
}
