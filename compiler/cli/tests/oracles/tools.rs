//! Compiled objects in tools that know nothing of this project: bpftool, and plain aya.

use std::path::PathBuf;
use std::process::Command;

use nnbpf_compiler::compile;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec::typed::Scope;

use super::common::{SPLITS, cases_with_spec, skip, target};

/// A SYN over IPv4 to port 80.
const SYN: [u8; 60] = [
    2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192,
    0, 2, 2, 0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

/// A folder in bpffs, removed at the end, also of a failed test.
struct Pins(PathBuf);

impl Pins {
    fn new(name: &str) -> Self {
        let place = PathBuf::from(format!("/sys/fs/bpf/nnbpfc-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&place).unwrap();
        Self(place)
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "bpftool {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn bpftool_loads_and_runs_every_object() {
    let test = "bpftool_loads_and_runs_every_object";
    if skip(test) {
        return;
    }
    if Command::new("bpftool").arg("version").output().is_err() {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no bpftool");
        eprintln!("SKIP {test}: bpftool is not installed");
        return;
    }
    let files = tempfile::tempdir().unwrap();
    let packet = files.path().join("packet");
    std::fs::write(&packet, SYN).unwrap();
    let packet = packet.display().to_string();
    for case in cases_with_spec() {
        for split in SPLITS {
            let module = compile::module(&case.plan, &target(split, Clock::Kernel)).unwrap();
            let path = files.path().join("ids.o");
            std::fs::write(&path, compile::object(&module).unwrap()).unwrap();
            let object = path.display().to_string();
            let pins = Pins::new(&format!("{}-{split:?}", case.name));
            let place = |name: &str| pins.0.join(name).display().to_string();
            let (programs, maps) = (place("programs"), place("maps"));
            bpftool(&["prog", "loadall", &object, &programs, "pinmaps", &maps]);
            let entry = format!("{programs}/nn_entry");
            let run = bpftool(&["prog", "run", "pinned", &entry, "data_in", &packet, "repeat", "3"]);
            assert!(run.contains("Return value: 2"), "{}: {run}", case.name);
            match case.plan.flow.as_ref().unwrap().scope {
                Scope::Flow => {
                    let flows = bpftool(&["map", "dump", "pinned", &format!("{maps}/nn_flows")]);
                    assert!(
                        flows.contains("\"packets\": 3") && flows.contains("\"a\""),
                        "{}: {flows}",
                        case.name
                    );
                }
                Scope::Packet => assert!(!pins.0.join("maps/nn_flows").exists(), "{}", case.name),
            }
            let counters = bpftool(&["map", "dump", "pinned", &format!("{maps}/nn_counters")]);
            assert!(counters.contains("\"parsed\": 3"), "{}: {counters}", case.name);
            let listing = bpftool(&["prog", "dump", "xlated", "pinned", &entry, "linum"]);
            let spec = &case.plan.spec.as_ref().unwrap().file;
            assert!(listing.contains(spec.as_str()), "{}: no line of {spec}", case.name);
        }
    }
}

#[test]
fn plain_aya_loads_unsplit_objects() {
    if skip("plain_aya_loads_unsplit_objects") {
        return;
    }
    for case in cases_with_spec() {
        let module = compile::module(&case.plan, &target(Split::Auto, Clock::Kernel)).unwrap();
        let mut ebpf = aya::Ebpf::load(&compile::object(&module).unwrap()).unwrap();
        let program: &mut aya::programs::Xdp = ebpf.program_mut("nn_entry").unwrap().try_into().unwrap();
        program.load().unwrap();
    }
}
