//! The book's chapter that does with bpftool what `nnbpf` does.

use std::path::Path;
use std::time::Duration;

use crate::{built, common, net};

const CHAPTER: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../book/src/by-hand.md"));

/// The blocks of the chapter, in order.
fn blocks() -> Vec<&'static str> {
    let blocks = CHAPTER.split("```bash\n").skip(1);
    blocks.map(|block| block.split_once("\n```").unwrap().0).collect()
}

/// What was pinned and attached, removed also when the test fails.
struct Pins(String);

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_object_is_loaded_updated_and_removed_with_bpftool() {
    let test = "an_object_is_loaded_updated_and_removed_with_bpftool";
    if common::skip(test) {
        return;
    }
    if std::process::Command::new("bpftool").arg("version").output().is_err() {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no bpftool");
        eprintln!("SKIP {test}: no bpftool");
        return;
    }
    let lab = net::Lab::with("hand", "eth0");
    let pins = Pins(format!("/sys/fs/bpf/{}", lab.inside));
    let files = tempfile::tempdir().unwrap();
    let mut plan = built::plan();
    plan.network = built::always(&plan, 0);
    std::fs::write(files.path().join("ids.o"), built::object(&plan)).unwrap();
    let attack = built::always(&plan, 1);
    let params = |network: &nnbpf_compiler::ir::Network| {
        let bytes = built::params_bytes(network, 1);
        std::fs::write(files.path().join("new.params"), bytes).unwrap();
    };
    let run = |block: &str| {
        let block = format!("set -euo pipefail\n{}", block.replace("/sys/fs/bpf/ids", &pins.0));
        let mut bash = lab.enter("bash");
        let output = bash.args(["-c", &block]).current_dir(files.path()).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{block}\n{error}");
        String::from_utf8(output.stdout).unwrap()
    };
    let wire = lab.wire("10.99.0.2", "10.99.0.1");
    let arrives = |datagram: &[u8], wait: Option<Duration>| {
        wire.send(datagram);
        let received = wire.receive(wait);
        assert!(received.is_none() || received.as_deref() == Some(datagram));
        received.is_some()
    };
    let blocks = blocks();
    let [load, look, enforce, block, release, update, remove] = blocks[..] else {
        panic!("{} blocks", blocks.len())
    };

    run(load);
    assert!(arrives(b"1", None));
    let seen = run(look);
    for field in ["\"parsed\": 1", "\"verdicts\": 1", "\"longest\"", "\"mode\": 0", "\"epoch\": 0"] {
        assert!(seen.contains(field), "{field}: {seen}");
    }
    run(enforce);
    assert!(arrives(b"2", None));
    run(block);
    assert!(!arrives(b"blocked", Some(Duration::from_millis(500))));
    run(release);
    assert!(arrives(b"released", None));
    // Parameters that find every packet to be an attack; the rule drops it.
    params(attack.get());
    run(update);
    assert!(!arrives(b"3", Some(Duration::from_millis(500))));
    // And back, into the other slot. The block that the rule has put on the sender lasts a second.
    params(plan.network.get());
    run(update);
    std::thread::sleep(Duration::from_secs(1));
    assert!(arrives(b"4", None));
    let active = run(&format!("bpftool map dump pinned {}/maps/_data_nn_active", pins.0));
    assert!(active.contains("\"index\": 0") && active.contains("\"generation\": 3"), "{active}");
    run(remove);
    assert!(!Path::new(&pins.0).exists());
    assert!(!run("ip link show dev eth0").contains("xdp"));
    assert!(arrives(b"5", None));
}
