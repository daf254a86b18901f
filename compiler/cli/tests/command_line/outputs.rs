//! What the command writes, and where.

use std::collections::BTreeSet;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt as _;

use super::common::{Folder, assert_refused, is_root};

const ELF: &[u8] = b"\x7fELF";

#[test]
fn outputs_and_nothing_else() {
    let folder = Folder::new();
    let mut expected = folder.content();
    folder.succeeds("model.onnx cic6.spec -o out.o --report report.json --depfile out.d");
    expected.extend(["out.o", "report.json", "out.d"].map(str::to_owned));
    assert_eq!(folder.content(), expected);
    assert!(folder.read("out.o").starts_with(ELF));
    let report: serde_json::Value = serde_json::from_slice(&folder.read("report.json")).unwrap();
    assert_eq!(report["object_bytes"], folder.read("out.o").len());
    assert!(report["quantisation"]["flips"].is_u64(), "{report:#}");
    assert_eq!(folder.text("out.d"), "out.o: model.onnx cic6.spec\n");
}

#[test]
fn the_rule_for_make_names_every_input() {
    let folder = Folder::new();
    folder.write("my rows.csv", &folder.read("rows.csv"));
    let arguments = ["model.onnx", "cic6.spec", "-o", "a b.o", "--depfile", "out.d", "--calibrate"];
    let outcome =
        folder.run_program(env!("CARGO_BIN_EXE_nnbpfc"), &[&arguments[..], &["my rows.csv"]].concat());
    assert_eq!((outcome.code, outcome.stderr.as_str()), (0, ""));
    assert_eq!(folder.text("out.d"), "a\\ b.o: model.onnx cic6.spec my\\ rows.csv\n");
}

#[test]
fn the_rule_for_make_names_external_data() {
    let shared = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/onnx-exports");
    let folder = Folder::new();
    for name in ["torch_dyn_default.onnx", "torch_dyn_default.onnx.data"] {
        let Ok(bytes) = std::fs::read(shared.join(name)) else {
            eprintln!("SKIP the_rule_for_make_names_external_data: ../shared is missing");
            return;
        };
        folder.write(name, &bytes);
    }
    folder.succeeds("torch_dyn_default.onnx cic6.spec -o out.o --depfile out.d");
    let rule = "out.o: torch_dyn_default.onnx cic6.spec torch_dyn_default.onnx.data\n";
    assert_eq!(folder.text("out.d"), rule);
}

#[test]
fn the_report_counts_instructions_as_inspect_does() {
    let folder = Folder::new();
    folder.succeeds("model.onnx cic6.spec -o out.o --report r.json");
    let report: serde_json::Value = serde_json::from_slice(&folder.read("r.json")).unwrap();
    let inspected: serde_json::Value =
        serde_json::from_slice(&folder.succeeds("inspect out.o --json").stdout).unwrap();
    assert_eq!(report["programs"], inspected["programs"]);
    assert_eq!(report["functions"], inspected["functions"]);
}

#[test]
fn two_folders_give_the_same_bytes() {
    let (one, other) = (Folder::new(), Folder::new());
    for split in ["auto", "layer"] {
        let arguments = format!("model.onnx cic6.spec -o out.o --report r.json --split {split}");
        one.succeeds(&arguments);
        other.succeeds(&arguments);
        assert!(one.read("out.o") == other.read("out.o"), "{split}");
        assert!(one.read("r.json") == other.read("r.json"), "{split}");
    }
}

#[test]
fn the_target_kernel_is_recorded() {
    let folder = Folder::new();
    folder.succeeds("model.onnx cic6.spec -o out.o --kernel 5.15");
    let text = String::from_utf8(folder.succeeds("inspect out.o").stdout).unwrap();
    assert!(text.contains("Linux 5.15"), "{text}");
    let json: serde_json::Value =
        serde_json::from_slice(&folder.succeeds("inspect out.o --json").stdout).unwrap();
    let programs = json["programs"].as_array().unwrap();
    assert!(programs.iter().any(|program| program["name"] == "nn_entry"), "{json:#}");
    let maps: BTreeSet<_> = json["maps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|map| &map["name"])
        .cloned()
        .collect::<Vec<_>>()
        .into_iter()
        .map(|name| name.as_str().unwrap().to_owned())
        .collect();
    for name in ["nn_flows", "nn_blocked", "nn_allowed", "nn_counters", "nn_events", "nn_scratch"] {
        assert!(maps.contains(name), "{name}: {maps:?}");
    }
}

#[test]
fn devices_and_pipes_are_written_directly() {
    let folder = Folder::new();
    let before = folder.content();
    folder.succeeds("model.onnx cic6.spec -o /dev/null --report /dev/null --depfile /dev/null");
    let whole = folder.succeeds("model.onnx cic6.spec -o /dev/stdout").stdout;
    assert!(whole.starts_with(ELF));
    assert_eq!(folder.content(), before);
    folder.succeeds("model.onnx cic6.spec -o out.o");
    assert!(folder.read("out.o") == whole);
}

#[test]
fn a_named_pipe_stays_one() {
    let folder = Folder::new();
    let path = CString::new(folder.path("pipe").as_os_str().as_bytes()).unwrap();
    // SAFETY: the path is a string that ends with a zero byte.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o600) }, 0);
    let written = std::thread::scope(|scope| {
        let reader = scope.spawn(|| folder.read("pipe"));
        folder.succeeds("model.onnx cic6.spec -o pipe");
        reader.join().unwrap()
    });
    assert!(written.starts_with(ELF));
    assert!(!std::fs::metadata(folder.path("pipe")).unwrap().is_file());
}

#[test]
fn a_failed_compile_keeps_the_old_output() {
    let folder = Folder::new();
    folder.write("out.o", b"old");
    folder.write("broken.spec", b"spec broken v1;");
    assert_refused(&folder.run("model.onnx broken.spec -o out.o"), "broken.spec");
    assert_eq!(folder.read("out.o"), b"old");
}

/// On a file system of 16 KB in a mount name space of its own.
#[test]
fn a_full_disk_leaves_nothing_behind() {
    if !is_root() {
        eprintln!("SKIP a_full_disk_leaves_nothing_behind: mounting needs root");
        return;
    }
    let folder = Folder::new();
    std::fs::create_dir(folder.path("small")).unwrap();
    let script = format!(
        "mount -t tmpfs -o size=16k none small || exit 99; echo old > small/out.o; \
         {} model.onnx cic6.spec -o small/out.o; code=$?; ls -A small; cat small/out.o; exit $code",
        env!("CARGO_BIN_EXE_nnbpfc")
    );
    let outcome = folder.run_program("unshare", &["--mount", "sh", "-c", &script]);
    if outcome.code == 99 {
        eprintln!("SKIP a_full_disk_leaves_nothing_behind: {}", outcome.stderr.trim());
        return;
    }
    assert_refused(&outcome, "a full disk");
    assert!(
        outcome.stderr.contains("E0902") && outcome.stderr.contains("No space left"),
        "{}",
        outcome.stderr
    );
    assert_eq!(outcome.stdout, b"out.o\nold\n");
}

#[test]
fn a_full_standard_output_is_a_failure_and_a_reader_that_left_is_none() {
    let run = |sink: std::process::Stdio| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nnbpfc"));
        let output = command.args(["--explain", "E0411"]).stdout(sink).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let (status, errors) = run(full.into());
    assert_eq!(status, Some(1), "{errors}");
    assert!(errors.starts_with("error[E0902]: the output cannot be written"), "{errors}");
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    assert_eq!(run(writer.into()), (Some(0), String::new()));
}

#[test]
fn sums_that_nest_in_brackets_fit_the_frame() {
    let folder = Folder::new();
    let nested = (0..60).fold("max(l4.len)".to_owned(), |inner, _| format!("mean(l4.len) - ({inner})"));
    let spec = folder.text("cic6.spec").replace("first(l4.dst_port)", &nested);
    folder.write("nested.spec", spec.as_bytes());
    folder.succeeds("model.onnx nested.spec -o out.o");
}
