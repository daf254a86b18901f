//! The `nnbpf` command on a veth pair, with real packets.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]
#![expect(clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod common;
#[path = "common/filter.rs"]
mod filter;
#[path = "common/net.rs"]
mod net;

use std::path::{Path, PathBuf};
use std::process::Output;

use nnbpf_compiler::elf;
use nnbpf_compiler::params::file::{self, ParamsFile};
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::pins::PinDirectory;

/// Our object in a file, and a directory in bpffs that no other test uses.
struct Setup {
    lab: net::Lab,
    pins: PathBuf,
    files: tempfile::TempDir,
}

impl Setup {
    fn new(name: &str) -> Self {
        let lab = net::Lab::new(name);
        let pins = PathBuf::from(format!("/sys/fs/bpf/{}", lab.inside));
        let files = tempfile::tempdir().unwrap();
        std::fs::write(files.path().join("ids.o"), elf::write(&filter::filter()).unwrap()).unwrap();
        Self { lab, pins, files }
    }

    fn object(&self) -> String {
        self.files.path().join("ids.o").display().to_string()
    }

    /// Runs a command on this installation.
    fn run(&self, arguments: &[&str]) -> Output {
        let pins = self.pins.display().to_string();
        self.lab.nnbpf(&[arguments, &["--pin", &pins]].concat())
    }

    fn done(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nnbpf {arguments:?}: {error}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn load(&self, more: &[&str]) {
        let object = self.object();
        self.done(&[&["load", &object, "--iface", net::INTERFACE, "--mode", "skb"], more].concat());
    }

    /// Passed and dropped datagrams and the sum of parameters.
    fn counters(&self) -> Vec<u64> {
        let installation = Installation::open(PinDirectory::at(&self.pins)).unwrap();
        installation.status().unwrap().counters
    }

    /// What one datagram to `address` adds to the counters of passed and dropped ones.
    fn fate(&self, address: &str) -> (u64, u64) {
        let before = self.counters();
        // The first datagram may wait for an answer of the neighbour's; it is delivered when that comes.
        self.lab.send(address);
        for _ in 0..200 {
            let after = self.counters();
            if after[0] + after[1] > before[0] + before[1] {
                return (after[0] - before[0], after[1] - before[1]);
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        (0, 0)
    }
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.pins.join("link"));
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

const V4: &str = "10.99.0.1";
const V6: &str = "fd99::1";
const PASSED: (u64, u64) = (1, 0);
const DROPPED: (u64, u64) = (0, 1);

#[test]
fn a_blocked_host_is_dropped_in_enforce_mode() {
    if common::skip("a_blocked_host_is_dropped_in_enforce_mode") {
        return;
    }
    let setup = Setup::new("enforce");
    setup.load(&["--enforce"]);
    for (to, from) in [(V4, "10.99.0.2"), (V6, "fd99::2")] {
        assert_eq!(setup.fate(to), PASSED);
        setup.done(&["block", from, "--for", "10min"]);
        assert_eq!(setup.fate(to), DROPPED);
        // Allowed hosts win.
        setup.done(&["allow", from]);
        assert_eq!(setup.fate(to), PASSED);
        setup.done(&["allow", from, "--remove"]);
        assert_eq!(setup.fate(to), DROPPED);
        let status = setup.done(&["status"]);
        assert!(status.contains(&format!("blocked     {from} for 600 s")), "{status}");
        setup.done(&["unblock", from]);
        assert_eq!(setup.fate(to), PASSED);
    }
    let status = setup.done(&["status"]);
    assert!(status.contains("interface   veth0") && status.contains("mode        enforce"), "{status}");
    assert!(status.contains("list epoch  8"), "{status}");
}

#[test]
fn monitor_mode_passes_everything() {
    if common::skip("monitor_mode_passes_everything") {
        return;
    }
    let setup = Setup::new("monitor");
    setup.load(&[]);
    setup.done(&["block", "10.99.0.2"]);
    assert_eq!(setup.fate(V4), PASSED);
    assert!(setup.done(&["status"]).contains("mode        monitor"));
    assert!(setup.done(&["unblock", "10.0.0.1"]).contains("was not blocked"));
}

#[test]
fn unload_leaves_nothing_behind() {
    if common::skip("unload_leaves_nothing_behind") {
        return;
    }
    let setup = Setup::new("unload");
    setup.load(&[]);
    assert!(setup.pins.join("link").exists() && setup.pins.join("maps/_data_nn_config").exists());
    let second = refusal(&setup.run(&["load", &setup.object(), "--iface", net::INTERFACE]));
    assert!(second.contains("E0812"), "{second}");
    setup.done(&["unload"]);
    assert!(!setup.pins.exists());
    // The interface is free again.
    setup.load(&[]);
    setup.done(&["unload"]);
    let error = refusal(&setup.run(&["status"]));
    assert!(error.contains("E0813"), "{error}");
}

#[test]
fn new_parameters_act_while_packets_flow() {
    if common::skip("new_parameters_act_while_packets_flow") {
        return;
    }
    let setup = Setup::new("update");
    setup.load(&[]);
    assert_eq!(setup.fate(V4), PASSED);
    assert_eq!(setup.counters()[2], 1);
    for (generation, parameter) in [(1, 1000_u64), (2, 1_000_000)] {
        let installation = Installation::open(PinDirectory::at(&setup.pins)).unwrap();
        let active = installation.update(&parameter.to_le_bytes()).unwrap();
        assert_eq!((active.generation, u64::from(active.index)), (generation, generation % 2));
        drop(installation);
        let before = setup.counters()[2];
        assert_eq!(setup.fate(V4), PASSED);
        assert_eq!(setup.counters()[2] - before, parameter);
    }
    let status = setup.done(&["status"]);
    assert!(status.contains("generation 2, slot 0"), "{status}");
    let installation = Installation::open(PinDirectory::at(&setup.pins)).unwrap();
    let error = installation.update(&[0; 7]).unwrap_err();
    assert_eq!(error.diagnostic().code.id, "E0817");
}

#[test]
fn parameter_files_are_checked_before_the_kernel_sees_them() {
    if common::skip("parameter_files_are_checked_before_the_kernel_sees_them") {
        return;
    }
    let setup = Setup::new("params");
    setup.load(&[]);
    let path = setup.files.path().join("new.params").display().to_string();
    let write = |layout: u8, slot: &[u8]| {
        let params =
            ParamsFile { layout_hash: [layout; 32], model_hash: [9; 32], unit: 1.0, slot: slot.to_vec() };
        std::fs::write(&path, file::write(&params)).unwrap();
    };
    write(7, &5000_u64.to_le_bytes());
    assert!(setup.done(&["update", &path]).contains("generation 1: slot 1 is active"));
    let before = setup.counters()[2];
    assert_eq!(setup.fate(V4), PASSED);
    assert_eq!(setup.counters()[2] - before, 5000);

    // Another plan, another size, another content than the checksum says, and no file at all.
    write(8, &1_u64.to_le_bytes());
    let error = refusal(&setup.run(&["update", &path]));
    assert!(error.contains("E0817") && error.contains("another plan"), "{error}");
    write(7, &[0; 16]);
    let error = refusal(&setup.run(&["update", &path]));
    assert!(error.contains("E0817") && error.contains("8 bytes"), "{error}");
    let mut damaged = std::fs::read(&path).unwrap();
    damaged[100] ^= 1;
    std::fs::write(&path, damaged).unwrap();
    assert!(refusal(&setup.run(&["update", &path])).contains("checksum"));
    std::fs::remove_file(&path).unwrap();
    assert!(refusal(&setup.run(&["update", &path])).contains("cannot read"));
    assert!(setup.done(&["status"]).contains("generation 1, slot 1"));
}

#[test]
fn a_load_that_fails_leaves_nothing_behind() {
    if common::skip("a_load_that_fails_leaves_nothing_behind") {
        return;
    }
    let setup = Setup::new("refused");
    let object = setup.object();
    let load = |interface: &str| setup.run(&["load", &object, "--iface", interface]);
    assert!(refusal(&load("nothing0")).contains("E0809"));

    // Somebody else's program is attached.
    setup.load(&[]);
    let pins = format!("{}-other", setup.pins.display());
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &pins]);
    let error = refusal(&output);
    assert!(error.contains("E0810") && error.contains("bpftool net show"), "{error}");
    assert!(!Path::new(&pins).exists());
    setup.done(&["unload"]);

    // A place outside of bpffs.
    let outside = setup.files.path().join("pins").display().to_string();
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &outside]);
    assert!(refusal(&output).contains("E0811"));
    // A name that bpffs refuses.
    let dotted = format!("{}.x", setup.pins.display());
    let output = setup.lab.nnbpf(&["load", &object, "--iface", net::INTERFACE, "--pin", &dotted]);
    let error = refusal(&output);
    assert!(error.contains("E0814") && error.contains("without a dot"), "{error}");

    std::fs::write(&object, b"\x7fELF").unwrap();
    assert!(refusal(&load(net::INTERFACE)).contains("E0701"));
    assert!(!setup.pins.exists());
}

#[test]
fn what_is_no_host_is_refused() {
    let nnbpf = || std::process::Command::new(env!("CARGO_BIN_EXE_nnbpf"));
    for arguments in [["block", "localhost"], ["unblock", "10.0.0.0/8"], ["allow", "10.0.0.0/64"]] {
        let error = refusal(&nnbpf().args(arguments).output().unwrap());
        assert!(error.contains("E0815"), "{error}");
    }
    // Wrong usage is another exit status.
    assert_eq!(nnbpf().arg("load").output().unwrap().status.code(), Some(2));
    assert_eq!(nnbpf().args(["block", "::1", "--for", "10"]).output().unwrap().status.code(), Some(2));
}
