//! Users without rights: files that they may not read or write, and a kernel that refuses them BPF.

use std::os::unix::fs::PermissionsExt as _;

use super::common::{Folder, assert_golden, assert_refused, is_root};

/// Only root can become somebody else, and only where everybody may execute the command.
fn skip(test: &str) -> bool {
    if !is_root() {
        eprintln!("SKIP {test}: becoming another user needs root");
        return true;
    }
    let folder = Folder::new();
    let reached = folder.run_program(
        "setpriv",
        &["--reuid=65534", "--regid=65534", "--clear-groups", env!("CARGO_BIN_EXE_nnbpfc"), "--version"],
    );
    if reached.code != 0 {
        eprintln!("SKIP {test}: others may not execute the command: {}", reached.stderr.trim());
        return true;
    }
    false
}

#[test]
fn files_that_may_not_be_read() {
    if skip("files_that_may_not_be_read") {
        return;
    }
    let folder = Folder::new();
    for name in ["model.onnx", "cic6.spec"] {
        std::fs::set_permissions(folder.path(name), std::fs::Permissions::from_mode(0o0)).unwrap();
    }
    let outcome = folder.run_as_nobody("model.onnx cic6.spec -o /dev/null");
    assert_refused(&outcome, "unreadable");
    assert_golden("unreadable", &outcome.stderr);
}

#[test]
fn folders_that_may_not_be_written() {
    if skip("folders_that_may_not_be_written") {
        return;
    }
    let folder = Folder::new();
    let before = folder.content();
    let outcome = folder.run_as_nobody("model.onnx cic6.spec -o out.o");
    assert_refused(&outcome, "unwritable");
    assert_golden("unwritable", &outcome.stderr);
    assert_eq!(folder.content(), before);
}

#[test]
fn no_permission_for_bpf() {
    if skip("no_permission_for_bpf") {
        return;
    }
    let folder = Folder::new();
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    for (name, arguments) in [
        ("no-bpf-eval", "eval model.onnx cic6.spec --features rows.csv --engine kernel -o /dev/null"),
        ("no-bpf-replay", "replay model.onnx cic6.spec capture.pcap --engine kernel -o /dev/null"),
        ("no-bpf-bench", "bench model.onnx"),
    ] {
        let outcome = folder.run_as_nobody(arguments);
        assert_refused(&outcome, name);
        assert!(outcome.stderr.contains("E0801"), "{}", outcome.stderr);
        assert_golden(name, &outcome.stderr);
    }
    // What needs no kernel works.
    for engine in ["float", "ir", "vm"] {
        let arguments =
            format!("eval model.onnx cic6.spec --features rows.csv --engine {engine} -o /dev/null");
        let outcome = folder.run_as_nobody(&arguments);
        assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{engine}");
    }
}
