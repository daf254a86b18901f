//! The example that embeds the library, on a veth pair.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::setup::Setup;
use crate::{built, common};

#[test]
fn the_example_attaches_reports_updates_and_leaves() {
    if common::skip("the_example_attaches_reports_updates_and_leaves") {
        return;
    }
    let example = Path::new(env!("CARGO_BIN_EXE_nnbpf")).parent().unwrap().join("examples/embed");
    if !example.exists() {
        let build = ["build", "--quiet", "--package", "nnbpf-runtime-loader", "--example", "embed"];
        assert!(Command::new(env!("CARGO")).args(build).status().unwrap().success());
    }
    let setup = Setup::new("embed");
    let params = setup.file("attack.params");
    let attack = built::always(&setup.plan, 1);
    std::fs::write(&params, built::params_bytes(attack.get(), 1)).unwrap();
    // The example has a fixed place in bpffs, so it gets a bpffs of its own.
    let script = "mount -t bpf bpf /sys/fs/bpf
        \"$@\"
        test ! -e /sys/fs/bpf/nnbpf";
    let mut command = setup.lab.enter("unshare");
    let object = setup.object();
    command.args(["--mount", "sh", "-ec", script, "sh", example.to_str().unwrap()]);
    command.args([object.as_str(), setup.lab.interface(), "4", params.as_str()]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let wire = setup.lab.wire("10.99.0.2", "10.99.0.1");
    // Before the update nothing is found, after it everything is, and monitor mode lets all of it through.
    for _ in 0..35 {
        wire.send(b"x");
        assert!(wire.receive(None).is_some());
        std::thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{error}");
    let (before, after) = text.split_once("generation 2\n").unwrap_or_else(|| panic!("{text}"));
    assert!(before.starts_with("attached to ") && !before.contains("attack"), "{text}");
    assert!(after.contains("10.99.0.2 > 10.99.0.1: attack by generation 2\n"), "{text}");
    assert!(after.ends_with("removed\n"), "{text}");
}
