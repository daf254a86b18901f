//! `make demo`, with the binaries that the tests were built with: in the kernel, and where BPF is not permitted.

use std::path::Path;
use std::process::{Command, Output};

use xtask::tree;

/// The folder of the binaries; `None`, said aloud, where only a part of the workspace was built.
fn binaries(test: &str) -> Option<&'static Path> {
    let folder = Path::new(env!("CARGO_BIN_EXE_xtask")).parent()?;
    if ["nnbpf", "nnbpfc"].iter().all(|name| folder.join(name).exists()) {
        return Some(folder);
    }
    eprintln!("SKIP {test}: nnbpf and nnbpfc are not built; `cargo test --workspace` builds them");
    None
}

fn text(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}\n{error}");
    text
}

#[test]
fn the_demo_runs_in_the_kernel() {
    let Some(folder) = binaries("the_demo_runs_in_the_kernel") else { return };
    if let Err(error) = nnbpf_runtime_loader::permission::check() {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{error}");
        eprintln!("SKIP the_demo_runs_in_the_kernel: {error}");
        return;
    }
    let script = tree::root().join("xtask/scripts/demo.sh");
    let text = text(&Command::new(script).env("NNBPF_BIN", folder).output().expect("bash runs"));
    for line in [
        "the same as in the reference interpreter's verdicts",
        "all attacks",
        "10.66.0.1: no answer, the packets were dropped",
        "fd66::1: no answer, the packets were dropped",
        "nothing is left behind",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
}

/// Root without capabilities may not use BPF.
#[test]
fn the_demo_runs_without_bpf() {
    let Some(folder) = binaries("the_demo_runs_without_bpf") else { return };
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all"]);
    command.arg(tree::root().join("xtask/scripts/demo.sh")).env("NNBPF_BIN", folder);
    let output = command.output().expect("setpriv runs");
    if String::from_utf8_lossy(&output.stderr).contains("setpriv:") {
        eprintln!("SKIP the_demo_runs_without_bpf: capabilities can only be dropped by root");
        return;
    }
    let text = text(&output);
    for line in ["the virtual machine", "E0801", "all attacks"] {
        assert!(text.contains(line), "{line}: {text}");
    }
}
