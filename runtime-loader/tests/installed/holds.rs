//! Objects that were changed after they were compiled, with an intact checksum, are refused before the kernel
//! sees them.

use nnbpf_compiler::bpf::module::{Function, MapKind, Module, Type};
use nnbpf_compiler::compile;
use nnbpf_compiler::lower::packet::maps::{ALLOWED, BLOCKED, CONFIG, FLOWS};
use nnbpf_compiler::lower::packet::sweep::SWEEP;
use serde_json::Value;

use crate::built;

/// What `nnbpf load` says to the changed object.
fn refused(change: impl FnOnce(&mut Module)) -> String {
    let mut module = built::module(&built::plan());
    change(&mut module);
    let files = tempfile::tempdir().unwrap();
    let object = files.path().join("changed.o");
    std::fs::write(&object, compile::object(&module).unwrap()).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_nnbpf"));
    let output = command.arg("load").arg(&object).args(["--iface", "nosuch0"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8(output.stderr).unwrap()
}

fn metadata(module: &mut Module, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&module.metadata).unwrap();
    change(&mut value);
    module.metadata = serde_json::to_vec(&value).unwrap();
}

fn map(module: &mut Module, name: &str, value: Type) {
    module.maps.iter_mut().find(|map| map.name == name).unwrap().value = Some(value);
}

/// A program by the name of the sweep's.
fn sweep(module: &mut Module, section: &str) {
    let (name, section) = (SWEEP.to_owned(), section.to_owned());
    module.programs.push(Function { name, section, ..module.programs[0].clone() });
}

#[test]
fn metadata_that_does_not_hold_e0709() {
    // The unchanged object gets as far as the interface.
    assert!(refused(|_| {}).contains("E0809"));
    type Change = fn(&mut Module);
    let changes: [(&str, Change); 10] = [
        ("a slot is said to have", |module| metadata(module, |value| value["slot_bytes"] = 8.into())),
        ("the hash of the layout", |module| {
            metadata(module, |value| value["layout_hash"] = "00".repeat(32).into());
        }),
        ("said to be constants", |module| metadata(module, |value| value["weights"] = "const".into())),
        ("the labels are not", |module| metadata(module, |value| value["labels"][0] = "good".into())),
        ("the feature `size`", |module| {
            metadata(module, |value| value["features"][1]["name"] = "size".into())
        }),
        ("`nn_blocked` is of another", |module| map(module, BLOCKED, Type::Unsigned(4))),
        ("`nn_allowed` is of another", |module| map(module, ALLOWED, Type::Unsigned(8))),
        ("`.data.nn_config` has 24 bytes, not 16", |module| {
            let config = module.data.iter_mut().find(|data| data.section == CONFIG).unwrap();
            config.ty = Type::Array(Box::new(Type::Unsigned(8)), 3);
            config.bytes = vec![0; 24];
        }),
        ("`nn_sweep` and `nn_entry` are of different kinds", |module| sweep(module, "classifier")),
        ("`nn_flows` is missing, or of another kind", |module| {
            sweep(module, "xdp");
            module.maps.iter_mut().find(|map| map.name == FLOWS).unwrap().kind = MapKind::Hash;
        }),
    ];
    for (said, change) in changes {
        let error = refused(change);
        assert!(error.contains("E0709") && error.contains(said), "{said}: {error}");
    }
}
