//! Objects that were changed after they were compiled, with an intact checksum, are refused before the kernel
//! sees them.

use nnbpf_compiler::bpf::module::{Function, MapKind, Module, Type};
use nnbpf_compiler::bpf::{AluOp, Insn, Operand};
use nnbpf_compiler::compile;
use nnbpf_compiler::lower::packet::maps::{ALLOWED, BLOCKED, CONFIG, FLOWS};
use nnbpf_compiler::lower::packet::sweep::SWEEP;
use serde_json::Value;

use crate::net::INTERFACE;
use crate::setup::{Setup, refusal};
use crate::{built, common};

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

/// A change, and the code of its refusal.
type Patch = (&'static str, fn(&mut Module));

/// Changes that the verifier of the kernel would take.
fn patches() -> [Patch; 4] {
    fn first(function: &mut Function, wanted: impl Fn(AluOp) -> bool) {
        let place = function.code.iter_mut().find_map(|insn| {
            let Insn::Alu { op, src: Operand::Imm(value), .. } = insn else { return None };
            (wanted(*op) && (1..16).contains(value)).then_some(value)
        });
        *place.unwrap() ^= 1;
    }
    [
        ("E0713", |module| {
            let infer = module.functions.iter_mut().find(|function| function.name == "nn_infer").unwrap();
            first(infer, |op| matches!(op, AluOp::Rsh | AluOp::Arsh | AluOp::Lsh));
        }),
        ("E0714", |module| {
            let entry = module.programs.iter_mut().find(|program| program.name == "nn_entry").unwrap();
            first(entry, |_| true);
        }),
        ("E0711", |module| {
            let params = module.data.iter_mut().find(|data| data.section == ".data.nn_params").unwrap();
            let half = params.bytes.len() / 2;
            params.bytes[half - 8] ^= 1;
            params.bytes[2 * half - 8] ^= 1;
        }),
        ("E0715", |module| metadata(module, |value| value["compiler"] = "0.0.9".into())),
    ]
}

#[test]
fn patched_objects_are_refused_and_leave_nothing() {
    for (code, patch) in patches() {
        let error = refused(patch);
        assert!(error.contains(code), "{code}: {error}");
    }
    if common::skip("patched_objects_are_refused_and_leave_nothing") {
        return;
    }
    let setup = Setup::new("patched");
    let path = setup.file("patched.o");
    for (code, patch) in patches() {
        let mut module = built::module(&setup.plan);
        patch(&mut module);
        std::fs::write(&path, compile::object(&module).unwrap()).unwrap();
        let error = refusal(&setup.run(&["load", &path, "--iface", INTERFACE, "--mode", "skb"]));
        assert!(error.contains(code), "{code}: {error}");
        assert!(!setup.pins.exists(), "{code}: something was pinned");
    }
    setup.load(&[]);
    let before = setup.status();
    for (code, patch) in patches() {
        let mut module = built::module(&setup.plan);
        patch(&mut module);
        std::fs::write(&path, compile::object(&module).unwrap()).unwrap();
        let error = refusal(&setup.run(&["update", &path]));
        assert!(error.contains(code), "{code}: {error}");
        let after = setup.status();
        assert_eq!((after.code, after.active), (before.code, before.active), "{code}");
    }
}
