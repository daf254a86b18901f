//! Every refusal of the kernel becomes a diagnostic with its own code.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;
#[path = "common/modules.rs"]
mod modules;
#[path = "common/sample.rs"]
mod sample;

use std::os::unix::process::CommandExt;
use std::process::{Command, Output};

use nnbpf_compiler::bpf::module::Module;
use nnbpf_compiler::elf;
use nnbpf_runtime_loader::{Kernel, LoadError, RunInput, Update};

/// `nobody`.
const UNPRIVILEGED: u32 = 65534;

fn nnbpf() -> Command {
    Command::new(env!("CARGO_BIN_EXE_nnbpf"))
}

fn refusal(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn code_of(error: &LoadError) -> &'static str {
    error.diagnostics("ids.o").first().unwrap().code.id
}

fn refused(change: fn(&mut Module)) -> LoadError {
    let mut module = sample::sample();
    change(&mut module);
    Kernel::load(&elf::write(&module).unwrap()).unwrap_err()
}

#[test]
fn no_permission_e0801() {
    if common::skip("no_permission_e0801") {
        return;
    }
    // The binary may lie in a folder that only root can enter.
    let place = tempfile::Builder::new().prefix("nnbpf").tempdir_in("/tmp").unwrap();
    let copy = place.path().join("nnbpf");
    std::fs::copy(env!("CARGO_BIN_EXE_nnbpf"), &copy).unwrap();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(place.path(), open).unwrap();
    let output = Command::new(&copy).arg("status").uid(UNPRIVILEGED).gid(UNPRIVILEGED).output().unwrap();
    let error = refusal(&output);
    assert!(error.contains("E0801") && error.contains("CAP_BPF"), "{error}");
}

#[test]
fn maps_that_the_kernel_refuses_e0802_e0804() {
    if common::skip("maps_that_the_kernel_refuses_e0802_e0804") {
        return;
    }
    let unknown_flag = refused(|module| module.maps.iter_mut().for_each(|map| map.flags |= 1 << 30));
    assert_eq!(code_of(&unknown_flag), "E0802", "{unknown_flag}");
    let too_large = refused(|module| {
        let rows = module.maps.iter_mut().find(|map| map.name == "nn_rows").unwrap();
        // BTF carries the number as the length of an array of int, which must stay below 4 GiB.
        rows.max_entries = 1 << 29;
        rows.value = Some(modules::structure(
            "row",
            &[("value", 0, nnbpf_compiler::bpf::module::Type::Array(Box::new(modules::u32_type()), 1 << 20))],
        ));
    });
    assert_eq!(code_of(&too_large), "E0804", "{too_large}");
}

#[test]
fn sections_that_no_loader_knows_e0805() {
    if common::skip("sections_that_no_loader_knows_e0805") {
        return;
    }
    let mut object = elf::write(&sample::sample()).unwrap();
    // The name of the section, wherever a string table holds it.
    for at in 0..object.len() - 4 {
        if object.get(at..at + 4) == Some(b"xdp\0") {
            object.get_mut(at..at + 4).unwrap().copy_from_slice(b"xdq\0");
        }
    }
    let error = Kernel::load(&object).unwrap_err();
    assert_eq!(code_of(&error), "E0805", "{error}");
}

#[test]
fn parts_packets_and_keys_e0806_e0807_e0808() {
    if common::skip("parts_packets_and_keys_e0806_e0807_e0808") {
        return;
    }
    let loaded = Kernel::load(&elf::write(&sample::sample()).unwrap()).unwrap();
    let run = |program: &str, data: &[u8]| {
        let input = RunInput { data, repeat: 1, output: true };
        loaded.run(program, input).map_err(|error| error.diagnostic().code.id)
    };
    assert_eq!(run("nn_none", &[0; 64]), Err("E0806"));
    assert_eq!(run("nn_entry", &[0; 13]), Err("E0807"));
    // The packet comes back as it went in: the program does not write to it.
    assert_eq!(run("nn_entry", &[5; 64]).unwrap().data, Some(vec![5; 64]));
    let code = |result: Result<_, nnbpf_runtime_loader::MapError>| {
        result.map_err(|error| error.diagnostic().code.id)
    };
    assert_eq!(code(loaded.map("nn_none").map(|_| ())), Err("E0806"));
    let rows = loaded.map("nn_rows").unwrap();
    assert_eq!(code(rows.update(&[0; 4], &[0; 4], Update::Any)), Err("E0808"));
    assert_eq!(code(rows.update(&8_u32.to_ne_bytes(), &[0; 8], Update::Any)), Err("E0808"));
}

#[test]
fn several_installations_e0816() {
    if common::skip("several_installations_e0816") {
        return;
    }
    let root = std::path::Path::new(nnbpf_runtime_loader::pins::ROOT);
    let places = ["a", "b"].map(|name| root.join(format!("test-{}-{name}", std::process::id())));
    for place in &places {
        std::fs::create_dir_all(place).unwrap();
    }
    let output = nnbpf().args(["unblock", "::1"]).output().unwrap();
    for place in &places {
        std::fs::remove_dir(place).unwrap();
    }
    let _in_use = std::fs::remove_dir(root);
    let error = refusal(&output);
    assert!(error.contains("E0816") && error.contains("--iface"), "{error}");
}

#[test]
fn devices_without_end_are_no_files() {
    if common::skip("devices_without_end_are_no_files") {
        return;
    }
    let load = ["load", "/dev/zero", "--iface", "lo"].as_slice();
    for (arguments, code) in
        [(load, "E0701"), (&["update", "/dev/zero"], "E0817"), (&["hosts", "import", "/dev/zero"], "E0841")]
    {
        let error = refusal(&nnbpf().args(arguments).output().unwrap());
        let limit = "it has more than 64 MiB, which is the limit";
        assert!(error.contains(limit) && error.contains("right file"), "{error}");
        assert!(error.contains(code), "{arguments:?}: {error}");
    }
}
