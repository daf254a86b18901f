//! Bad input on the command line: every refusal has a code, a place and a help, ends with status 1 and leaves
//! no file behind.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const MODEL: &str = "testdata/cases/scaled-6-32-32-2/model.onnx";
const CIC: &str = "specs/cic6.spec";
const DSN: &str = "specs/dsn24.spec";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Runs `nnbpfc` in a folder that sees the repository's inputs.
fn nnbpfc(folder: &Path, arguments: &[&str]) -> Output {
    for shared in ["specs", "testdata"] {
        let _ = std::os::unix::fs::symlink(root().join(shared), folder.join(shared));
    }
    Command::new(env!("CARGO_BIN_EXE_nnbpfc")).args(arguments).current_dir(folder).output().unwrap()
}

/// Files of a folder, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name != "specs" && name != "testdata")
        .collect();
    names.sort();
    names
}

/// The command is refused with this code and leaves the folder as it was.
fn refused(folder: &Path, arguments: &[&str], code: &str) {
    let before = files(folder);
    let output = nnbpfc(folder, arguments);
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?}\n{text}");
    for part in [format!("error[{code}]: "), "--> ".to_owned(), "help: ".to_owned()] {
        assert!(text.contains(&part), "{arguments:?}: `{part}` is missing:\n{text}");
    }
    assert_eq!(files(folder), before, "{arguments:?} left something behind");
}

#[test]
fn files_that_cannot_be_read_or_written() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], code| refused(folder.path(), arguments, code);
    refused(&["missing.onnx", CIC, "-o", "x.o"], "E0901");
    refused(&[MODEL, "missing.spec", "-o", "x.o"], "E0901");
    refused(&[MODEL, CIC, "--calibrate", "missing.csv", "-o", "x.o"], "E0901");
    refused(&["extract", CIC, ".", "-o", "x.csv"], "E0901");
    refused(&[MODEL, CIC, "-o", "missing/x.o"], "E0902");
    // A disk that is full.
    refused(&[MODEL, CIC, "-o", "/dev/full"], "E0902");
    refused(&["extract", CIC, "testdata/ids/capture.pcap", "-o", "/dev/full"], "E0902");
}

#[test]
fn flags_that_make_no_sense() {
    let folder = tempfile::tempdir().unwrap();
    let refused = |arguments: &[&str], code| refused(folder.path(), arguments, code);
    refused(&[MODEL, CIC, "--kernel", "six", "-o", "x.o"], "E0903");
    refused(&[MODEL, CIC, "--kernel", "5.4", "-o", "x.o"], "E0410");
    refused(&[MODEL, CIC, "--max-flips", "many", "-o", "x.o"], "E0903");
}

#[test]
fn files_of_another_kind() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("empty"), "").unwrap();
    std::fs::write(folder.path().join("rows.csv"), "dst_port,fwd_packets\n1,2\n").unwrap();
    let model = std::fs::read(root().join(MODEL)).unwrap();
    std::fs::write(folder.path().join("cut.onnx"), model.get(..model.len() / 2).unwrap()).unwrap();
    let refused = |arguments: &[&str], code| refused(folder.path(), arguments, code);
    refused(&["empty", CIC, "-o", "x.o"], "E0101");
    refused(&["cut.onnx", CIC, "-o", "x.o"], "E0103");
    refused(&[CIC, CIC, "-o", "x.o"], "E0102");
    refused(&[MODEL, "testdata/diag/E0220-function.spec", "-o", "x.o"], "E0220");
    refused(&[MODEL, "specs/ids.spec", "-o", "x.o"], "E0301");
    refused(&[MODEL, CIC, "--calibrate", "rows.csv", "-o", "x.o"], "E0502");
    refused(&["extract", CIC, CIC, "-o", "x.csv"], "E0601");
    refused(&["replay", MODEL, CIC, "empty", "--engine", "ir", "-o", "x.csv"], "E0601");
    refused(&["inspect", CIC], "E0701");
}

#[test]
fn parameters_for_another_object() {
    let folder = tempfile::tempdir().unwrap();
    let compiled = nnbpfc(folder.path(), &[MODEL, CIC, "-o", "cic.o"]);
    assert_eq!(compiled.status.code(), Some(0), "{}", String::from_utf8_lossy(&compiled.stderr));
    let refused = |arguments: &[&str], code| refused(folder.path(), arguments, code);
    refused(&[MODEL, DSN, "--like", "cic.o", "-o", "x.params"], "E0707");
    refused(&[MODEL, CIC, "--like", CIC, "-o", "x.params"], "E0701");
    refused(&["testdata/ids/ids.onnx", "specs/ids.spec", "--like", "cic.o", "-o", "x.params"], "E0312");
}

#[test]
fn wrong_usage_ends_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in [&["nonsense"][..], &[MODEL], &["eval", MODEL, "--engine", "abacus"], &["--flag"]] {
        let output = nnbpfc(folder.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    }
}
