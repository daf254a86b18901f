//! `check`, `fmt` and `--explain`.

use nnbpf_compiler::diag::codes;

use super::common::{Folder, assert_golden, assert_refused};

/// The same specification with other blanks.
fn ugly(folder: &Folder) -> String {
    folder.text("cic6.spec").replace("    ", "\t").replace(" = ", "=").replace(";\n", " ;\r\n\r\n\r\n")
}

#[test]
fn a_specification_is_checked_without_a_model() {
    let folder = Folder::new();
    let before = folder.content();
    assert!(folder.succeeds("check cic6.spec cic6.spec").stdout.is_empty());
    assert_eq!(folder.content(), before);
    // Mistakes of every file are shown, one run for all.
    let text = folder.text("cic6.spec");
    folder.write("one.spec", text.replace("first(", "fist(").replace("120 s", "120 lightyears").as_bytes());
    folder.write("two.spec", text.replace("l4.dst_port", "l4.dst_prt").as_bytes());
    let outcome = folder.run("check one.spec cic6.spec two.spec nowhere.spec");
    assert_refused(&outcome, "check-several");
    assert_golden("check-several", &outcome.stderr);
}

#[test]
fn formatting_restores_the_layout() {
    let folder = Folder::new();
    let shipped = folder.text("cic6.spec");
    folder.succeeds("fmt --check cic6.spec");
    folder.write("ugly.spec", ugly(&folder).as_bytes());
    let outcome = folder.run("fmt --check ugly.spec cic6.spec");
    assert_refused(&outcome, "fmt-check");
    assert_golden("fmt-check", &outcome.stderr);
    assert_eq!(folder.text("ugly.spec"), ugly(&folder), "--check has written");
    folder.succeeds("fmt ugly.spec cic6.spec");
    let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(words(&folder.text("ugly.spec")), words(&shipped));
    assert_eq!(folder.text("cic6.spec"), shipped);
    folder.succeeds("fmt --check ugly.spec");
    // Standard input to standard output.
    let run =
        folder.run_program("sh", &["-c", &format!("{} fmt - < cic6.spec", env!("CARGO_BIN_EXE_nnbpfc"))]);
    assert_eq!((run.code, String::from_utf8(run.stdout).unwrap()), (0, shipped));
}

#[test]
fn what_cannot_be_formatted_stays_as_it_is() {
    let folder = Folder::new();
    let broken = folder.text("cic6.spec").replace("attach xdp;", "attach;");
    folder.write("broken.spec", broken.as_bytes());
    let outcome = folder.run("fmt broken.spec");
    assert_refused(&outcome, "fmt-broken");
    assert_golden("fmt-broken", &outcome.stderr);
    assert_eq!(folder.text("broken.spec"), broken);
}

#[test]
fn codes_are_explained() {
    let folder = Folder::new();
    for code in codes::all() {
        let text = String::from_utf8(folder.succeeds(&format!("--explain {}", code.id)).stdout).unwrap();
        assert!(text.starts_with(code.id) && text.contains(code.explanation), "{text}");
    }
    let outcome = folder.run("--explain e9999");
    assert_refused(&outcome, "explain-unknown");
    assert_golden("explain-unknown", &outcome.stderr);
    assert_eq!(folder.run("model.onnx --explain E0201").code, 2);
}

#[test]
fn nobody_has_to_read_the_answer() {
    let folder = Folder::new();
    folder.succeeds("model.onnx cic6.spec -o out.o");
    for command in ["inspect out.o", "inspect out.o --json", "--explain E0201"] {
        // The reader of the pipe has gone before the command writes.
        let script =
            format!("sleep 0.2 | {{ sleep 0.1; {} {command} >&9; }} 9>&1", env!("CARGO_BIN_EXE_nnbpfc"));
        let closed = format!(
            "set -o pipefail; {} {command} | true; exit ${{PIPESTATUS[0]}}",
            env!("CARGO_BIN_EXE_nnbpfc")
        );
        for script in [script, closed] {
            let outcome = folder.run_program("bash", &["-c", &script]);
            assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""), "{command}");
        }
    }
}
