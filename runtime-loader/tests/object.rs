//! Objects of the ELF writer in bpftool, libbpf, aya and our own loader, and in the running kernel.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
#[path = "common/modules.rs"]
mod modules;
#[path = "common/sample.rs"]
mod sample;

use std::path::PathBuf;
use std::process::Command;

use nnbpf_compiler::elf;
use nnbpf_runtime_loader::{Kernel, RunInput, Update};

const PACKET: [u8; 64] = [0; 64];

fn once() -> RunInput<'static> {
    RunInput { data: &PACKET, repeat: 1, output: false }
}

/// A directory in bpffs and a temporary one; both are removed at the end, also of a failed test.
struct Place {
    pins: PathBuf,
    files: tempfile::TempDir,
}

impl Place {
    fn new(name: &str) -> Self {
        let pins = PathBuf::from(format!("/sys/fs/bpf/nnbpf-test-{name}-{}", std::process::id()));
        std::fs::create_dir(&pins).unwrap();
        Self { pins, files: tempfile::tempdir().unwrap() }
    }

    fn object(&self, bytes: &[u8]) -> String {
        let path = self.files.path().join("ids.o");
        std::fs::write(&path, bytes).unwrap();
        path.display().to_string()
    }

    fn pin(&self, name: &str) -> String {
        self.pins.join(name).display().to_string()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.pins);
    }
}

fn bpftool(arguments: &[&str]) -> String {
    let output = Command::new("bpftool").args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "bpftool {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn has_bpftool(test: &str) -> bool {
    let found = Command::new("bpftool").arg("version").output().is_ok();
    if !found {
        assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: no bpftool");
        eprintln!("SKIP {test}: bpftool is not installed");
    }
    found
}

#[test]
fn our_loader_runs_the_chain() {
    if common::skip("our_loader_runs_the_chain") {
        return;
    }
    let object = elf::write(&sample::sample()).unwrap();
    let loaded = Kernel::load(&object).unwrap();
    assert_eq!(loaded.program_names(), ["nn_entry", "nn_layer0", "nn_layer1"]);
    let output = loaded.run("nn_entry", once()).unwrap();
    assert_eq!(output.ret, 28);
    let verified = loaded.verified_instructions("nn_entry").unwrap().unwrap();
    assert!((20..80).contains(&verified), "{verified}");
    // New parameters act on the next run.
    let params = loaded.map(".data.nn_params").unwrap();
    params.write_value(&[[0; 8], 5_u64.to_le_bytes()].concat()).unwrap();
    assert_eq!(loaded.run("nn_entry", once()).unwrap().ret, 20);
}

#[test]
fn plain_aya_loads_an_unsplit_object() {
    if common::skip("plain_aya_loads_an_unsplit_object") {
        return;
    }
    let mut module = sample::sample();
    module.programs.truncate(1);
    module.maps.retain(|map| map.name != "nn_progs");
    for function in &mut module.functions {
        let tail = function.code.len() - 7;
        function.code.drain(tail..tail + 4);
        function.line_of.drain(tail..tail + 4);
    }
    let object = elf::write(&module).unwrap();
    let mut ebpf = aya::Ebpf::load(&object).unwrap();
    let program: &mut aya::programs::Xdp = ebpf.program_mut("nn_entry").unwrap().try_into().unwrap();
    program.load().unwrap();
    assert_eq!(Kernel::load(&object).unwrap().run("nn_entry", once()).unwrap().ret, 7);
}

#[test]
fn bpftool_loads_pins_and_runs() {
    if common::skip("bpftool_loads_pins_and_runs") || !has_bpftool("bpftool_loads_pins_and_runs") {
        return;
    }
    let place = Place::new("bpftool");
    let object = place.object(&elf::write(&sample::sample()).unwrap());
    let (programs, maps) = (place.pin("programs"), place.pin("maps"));
    bpftool(&["prog", "loadall", &object, &programs, "pinmaps", &maps]);

    let packet = place.files.path().join("packet");
    std::fs::write(&packet, PACKET).unwrap();
    let packet = packet.display().to_string();
    let entry = format!("{programs}/nn_entry");
    let run = bpftool(&["prog", "run", "pinned", &entry, "data_in", &packet]);
    assert!(run.contains("Return value: 28"), "{run}");

    let scratch = bpftool(&["map", "dump", "pinned", &format!("{maps}/nn_scratch")]);
    assert!(scratch.contains("\"output\": 28") && scratch.contains("\"activations\""), "{scratch}");
    let params = bpftool(&["map", "dump", "pinned", &format!("{maps}/_data_nn_params")]);
    assert!(params.contains("\"nn_params\"") && params.contains("\"weight\": 7"), "{params}");

    let listing = bpftool(&["prog", "dump", "xlated", "pinned", &entry, "linum"]);
    assert!(listing.contains("nn_entry step 1"), "{listing}");
    assert!(listing.contains("nn_infer step 7"), "{listing}");
    assert!(listing.contains("ids.spec") && listing.contains("line_num:2"), "{listing}");
}

#[test]
fn maps_of_every_kind_are_reached_by_bytes() {
    if common::skip("maps_of_every_kind_are_reached_by_bytes") {
        return;
    }
    let loaded = Kernel::load(&elf::write(&sample::sample()).unwrap()).unwrap();
    let blocked = loaded.map("nn_blocked").unwrap();
    let host = [7; 16];
    assert_eq!(blocked.lookup(&host).unwrap(), None);
    blocked.update(&host, &99_u64.to_ne_bytes(), Update::Insert).unwrap();
    assert!(blocked.update(&host, &99_u64.to_ne_bytes(), Update::Insert).is_err());
    assert_eq!(blocked.lookup(&host).unwrap(), Some(99_u64.to_ne_bytes().to_vec()));
    assert_eq!(blocked.keys().unwrap(), [host.to_vec()]);
    assert!(blocked.delete(&host).unwrap());
    assert!(!blocked.delete(&host).unwrap());

    let allowed = loaded.map("nn_allowed").unwrap();
    let mut prefix = 96_u32.to_ne_bytes().to_vec();
    prefix.extend([0; 16]);
    allowed.update(&prefix, &1_u32.to_ne_bytes(), Update::Any).unwrap();
    assert_eq!(allowed.keys().unwrap(), [prefix]);

    let counters = loaded.map("nn_counters").unwrap();
    let cpus = nnbpf_runtime_loader::maps::possible_cpus().unwrap();
    let values: Vec<Vec<u8>> = (0..cpus as u64).map(|cpu| (cpu + 1).to_ne_bytes().to_vec()).collect();
    let key = 2_u32.to_ne_bytes();
    counters.update_per_cpu(&key, &values, Update::Any).unwrap();
    assert_eq!(counters.lookup_per_cpu(&key).unwrap(), Some(values));
    assert!(counters.lookup(&key).is_err());

    assert_eq!(loaded.map(".data.nn_params").unwrap().read_value().unwrap()[8], 7);
    assert_eq!(loaded.map("nn_rows").unwrap().keys().unwrap().len(), 8);
}

#[test]
fn a_verifier_refusal_names_the_line() {
    use nnbpf_compiler::bpf::asm::{exit, ldx};
    use nnbpf_compiler::bpf::{Reg, Size};
    if common::skip("a_verifier_refusal_names_the_line") {
        return;
    }
    let mut module = sample::sample();
    let code = vec![ldx(Size::DW, Reg::R0, Reg::R1, 1000), exit()];
    module.programs.push(modules::function("nn_wrong", "xdp", code));
    let error = Kernel::load(&elf::write(&module).unwrap()).unwrap_err();
    let diagnostics = error.diagnostics("ids.o");
    assert_eq!(diagnostics[0].code.id, "E0803");
    let notes = diagnostics[0].notes.join("\n");
    assert!(notes.contains("nn_wrong step 0"), "{notes}");
    assert!(notes.contains("invalid bpf_context access"), "{notes}");
}
