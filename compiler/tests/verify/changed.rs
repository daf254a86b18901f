//! Objects that were changed after they were compiled, with all checksums repaired: each is refused with its code.

use nnbpf_compiler::bpf::module::{Line, Module, Type};
use nnbpf_compiler::bpf::{AluOp, Imm64, Insn, Operand};
use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::diag::Diagnostic;
use nnbpf_compiler::elf;
use nnbpf_compiler::spec::Surroundings;
use nnbpf_compiler::verify::{self, Extent};
use nnbpf_compiler::withstand;
use serde_json::Value;

use super::cases::{FORMS, case, module};

fn object(change: impl FnOnce(&mut Module)) -> Vec<u8> {
    let mut module = module(case("ids"), FORMS[0]).unwrap();
    change(&mut module);
    compile::object(&module).unwrap()
}

fn constants(change: impl FnOnce(&mut Module)) -> Vec<u8> {
    let mut module = module(case("ids"), FORMS[2]).unwrap();
    change(&mut module);
    compile::object(&module).unwrap()
}

fn metadata(module: &mut Module, change: impl FnOnce(&mut Value)) {
    let mut value = serde_json::from_slice(&module.metadata).unwrap();
    change(&mut value);
    module.metadata = serde_json::to_vec(&value).unwrap();
}

fn refusal(object: &[u8]) -> Diagnostic {
    verify::object(object, "ids.o", Extent::Whole).unwrap_err().remove(0)
}

fn code(object: &[u8]) -> &'static str {
    refusal(object).code.id
}

fn data<'a>(module: &'a mut Module, section: &str) -> &'a mut Vec<u8> {
    &mut module.data.iter_mut().find(|data| data.section == section).unwrap().bytes
}

#[test]
fn bytes_that_stand_for_nothing_e0710() {
    let good = object(|_| {});
    assert_eq!(code(&[good.as_slice(), &[0; 8]].concat()), "E0710");
    // A byte of the ELF header that nobody reads: the version of its ABI.
    let mut padded = good.clone();
    padded[8] = 1;
    assert_eq!(code(&padded), "E0710");
    // The licence decides what the kernel lets a program call.
    let at = good.windows(12).position(|window| window == b"Dual MIT/GPL").unwrap();
    let mut licence = good.clone();
    licence[at] = b'd';
    assert_eq!(code(&licence), "E0710");
}

#[test]
fn truncated_objects_are_refused() {
    let good = object(|_| {});
    for length in (0..good.len()).step_by(good.len() / 61) {
        let refused = code(&good[..length]);
        assert!(["E0701", "E0702", "E0703", "E0704"].contains(&refused), "{length}: {refused}");
    }
}

/// Two functions change places: every name is there, and calls go where they went.
#[test]
fn reordered_objects_e0714() {
    let swapped = object(|module| module.functions.swap(1, 2));
    assert_eq!(code(&swapped), "E0714");
    let swapped = object(|module| module.maps.swap(0, 1));
    assert_eq!(code(&swapped), "E0714");
}

/// An instruction refers to another map of the same size.
#[test]
fn relocated_objects_e0714() {
    let relocated = object(|module| {
        let entry = module.programs.iter_mut().find(|program| program.name == "nn_entry").unwrap();
        let place = entry.code.iter_mut().find_map(|insn| {
            let Insn::LoadImm64 { value: Imm64::Map(name), .. } = insn else { return None };
            (name == "nn_allowed" || name == "nn_flows").then_some(name)
        });
        *place.unwrap() = "nn_blocked".to_owned();
    });
    let refused = refusal(&relocated);
    assert_eq!(refused.code.id, "E0714");
    assert!(
        refused.message.contains("`nn_entry` has `") && refused.message.contains("nn_blocked"),
        "{}",
        refused.message
    );
}

#[test]
fn patched_code_e0714() {
    let patched = object(|module| {
        let entry = module.programs.iter_mut().find(|program| program.name == "nn_entry").unwrap();
        let place = entry.code.iter_mut().rev().find_map(|insn| {
            let Insn::Alu { src: Operand::Imm(value), .. } = insn else { return None };
            Some(value)
        });
        *place.unwrap() ^= 1;
    });
    assert_eq!(code(&patched), "E0714");
    let dropped = object(|module| {
        let entry = &mut module.functions[2];
        let at = entry.code.iter().position(|insn| matches!(insn, Insn::Store { .. })).unwrap();
        entry.code.remove(at);
        entry.line_of.remove(at);
    });
    assert_eq!(code(&dropped), "E0714");
    let line = object(|module| module.programs[0].lines[0] = Line { line: 7, ..Line::default() });
    assert_eq!(code(&line), "E0714");
    let value = object(|module| {
        let counters = module.maps.iter_mut().find(|map| map.name == "nn_flows").unwrap();
        counters.max_entries += 1;
    });
    assert_eq!(code(&value), "E0714");
    let setting = object(|module| data(module, ".data.nn_config")[0] = 1);
    assert_eq!(code(&setting), "E0714");
}

/// Code of the network, in each form.
#[test]
fn patched_network_e0713() {
    for form in FORMS {
        let mut patched = module(case("ids"), form).unwrap();
        let functions = patched.programs.iter_mut().chain(&mut patched.functions);
        let code =
            functions.filter(|function| verify::is_network(&function.name)).flat_map(|one| &mut one.code);
        let shift = code.filter_map(|insn| {
            let Insn::Alu { op, src: Operand::Imm(value), .. } = insn else { return None };
            matches!(op, AluOp::Rsh | AluOp::Arsh).then_some(value)
        });
        *shift.last().unwrap() ^= 1;
        let refused = refusal(&compile::object(&patched).unwrap());
        assert_eq!(refused.code.id, "E0713", "{form:?}: {}", refused.message);
        assert!(refused.message.contains("does not compute the network"), "{}", refused.message);
    }
}

#[test]
fn parameters_of_another_model_e0711() {
    let section = ".data.nn_params";
    let half =
        |module: &Module| module.data.iter().find(|data| data.section == section).unwrap().bytes.len() / 2;
    let both = object(|module| {
        let at = half(module) / 2;
        let other = at + half(module);
        let bytes = data(module, section);
        bytes[at] ^= 1;
        bytes[other] ^= 1;
    });
    assert_eq!(code(&both), "E0711");
    let one = object(|module| data(module, section)[0] ^= 1);
    assert_eq!(code(&one), "E0711");
    let constant = constants(|module| data(module, ".rodata.nn_weights")[0] ^= 1);
    assert_eq!(code(&constant), "E0711");
}

#[test]
fn certificates_of_another_object_e0712() {
    let other: Value =
        serde_json::from_slice(&module(case("cic6-6-16-2"), FORMS[0]).unwrap().metadata).unwrap();
    let swapped =
        object(|module| metadata(module, |value| value["certificate"] = other["certificate"].clone()));
    assert_eq!(code(&swapped), "E0712");
    for by in [-1, 1] {
        let changed = object(|module| {
            metadata(module, |value| {
                let high = &mut value["certificate"]["ops"][1]["accumulators"][0]["high"];
                *high = (high.as_i64().unwrap() + by).into();
            });
        });
        assert_eq!(code(&changed), "E0712", "{by}");
    }
}

#[test]
fn metadata_that_lies_e0709() {
    let lies: [fn(&mut Value); 14] = [
        |value| value["labels"][0] = "good".into(),
        |value| value["plan"]["decision"]["labels"][0] = "good".into(),
        |value| value["features"][0]["high"] = 7.into(),
        |value| value["features"][0]["unit"] = "ms".into(),
        |value| value["plan"]["inputs"][0]["range"]["high"] = 7.into(),
        |value| value["slot_bytes"] = 8.into(),
        |value| value["hook"] = "tc_ingress".into(),
        |value| value["kernel"] = "seven".into(),
        |value| value["spec"]["name"] = "other".into(),
        |value| value["spec"]["sha256"] = "00".into(),
        |value| value["spec"]["records"] = "00".into(),
        |value| value["spec"]["rules"][0]["label"] = "benign".into(),
        |value| value["stack"]["nn_entry"] = 8.into(),
        |value| value["plan"]["ops"][0]["Quantise"]["features"][0]["multiplier"] = 1.into(),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let refused = refusal(&object(|module| metadata(module, lie)));
        assert_eq!(refused.code.id, "E0709", "{number}: {}", refused.message);
    }
    assert_eq!(
        code(&constants(|module| metadata(module, |value| value["constants"] = Value::Null))),
        "E0709"
    );
}

/// A specification that is not the one that the code was compiled from.
#[test]
fn another_specification_is_refused() {
    let changed = object(|module| {
        metadata(module, |value| {
            let source = value["spec"]["source"].as_str().unwrap().to_owned();
            value["spec"]["source"] = format!("{source}\n").into();
        });
    });
    assert_eq!(code(&changed), "E0709");
}

#[test]
fn objects_of_other_releases_e0715_e0706_e0705() {
    let other = object(|module| metadata(module, |value| value["compiler"] = "99.0.0".into()));
    assert_eq!(code(&other), "E0715");
    // What does not depend on the release is checked all the same.
    let verified = verify::object(&other, "ids.o", Extent::Network).unwrap();
    assert!(!verified.report.path.derived);
    let newer = object(|module| metadata(module, |value| value["format"] = 4.into()));
    assert_eq!(code(&newer), "E0706");
    let mut frame = object(|_| {});
    let at = frame.windows(8).position(|window| window == elf::metadata::MAGIC).unwrap();
    frame[at + 8] = 4;
    assert_eq!(code(&frame), "E0705");
}

/// Without the comparison with the specification, what an access may touch is still checked.
#[test]
fn accesses_beyond_a_value_e0716() {
    let refused = |change: fn(&mut Module)| {
        let object = object(change);
        let mut refused = verify::object(&object, "ids.o", Extent::Network).unwrap_err();
        let first = refused.remove(0);
        assert_eq!(first.code.id, "E0716", "{}", first.message);
        first.message
    };
    let beyond = refused(|module| {
        let counters = module.maps.iter_mut().find(|map| map.name == "nn_flows").unwrap();
        let Some(Type::Struct(record)) = &mut counters.value else { unreachable!() };
        record.members.pop();
        record.size = record.members.last().map_or(8, |member| member.offset + member.ty.size());
    });
    assert!(beyond.contains("nn_flows"), "{beyond}");
    let unchecked = refused(|module| {
        // The comparisons that show that bytes of the packet are there.
        let entry = module.programs.iter_mut().find(|program| program.name == "nn_entry").unwrap();
        let mut kept = entry.line_of.iter();
        entry.code.retain(|insn| !matches!(insn, Insn::Jump { right: Operand::Reg(_), .. }));
        let length = entry.code.len();
        entry.line_of = (0..length).map(|_| *kept.next().unwrap()).collect();
    });
    assert!(unchecked.contains("of a packet") || unchecked.contains("may access"), "{unchecked}");
}

/// Bytes changed one by one behind the checksum of the metadata: nothing panics, whatever is refused.
#[test]
fn patched_objects_never_panic() {
    let good = object(|_| {});
    let mut state = 1u64;
    for _ in 0..400 {
        let mut edits = Vec::new();
        for _ in 0..3 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            edits.extend(state.to_le_bytes().into_iter().skip(3));
        }
        withstand::patched(&good, &edits);
    }
}

#[test]
fn another_model_or_specification_e0717() {
    let ids = verify::object(&object(|_| {}), "ids.o", Extent::Whole).unwrap();
    let refused = |outcome: Result<(), Vec<Diagnostic>>| outcome.unwrap_err().remove(0).code.id;
    verify::same_model(&ids, &case("ids").plan, "ids.onnx").unwrap();
    assert_eq!(refused(verify::same_model(&ids, &case("cic6-6-16-2").plan, "cic6.onnx")), "E0717");
    let same_hash = Plan { model: case("ids").plan.model.clone(), ..case("cic6-6-16-2").plan.clone() };
    assert_eq!(refused(verify::same_model(&ids, &same_hash, "ids.onnx")), "E0717");
    let named = |name| {
        let spec = case(name).plan.spec.as_ref().unwrap();
        compile::Named { name: "some.spec", bytes: spec.source.as_bytes() }
    };
    verify::same_spec(&ids, named("ids"), &Surroundings::default()).unwrap();
    assert_eq!(refused(verify::same_spec(&ids, named("cic6-6-16-2"), &Surroundings::default())), "E0717");
    let constant = verify::object(&constants(|_| {}), "ids.o", Extent::Whole).unwrap();
    verify::same_model(&constant, &case("ids").plan, "ids.onnx").unwrap();
}

#[test]
fn errors_that_are_stated_too_small_e0712() {
    let stated = |factor: f64| {
        let changed = object(|module| {
            metadata(module, |value| {
                for output in value["certificate"]["error"]["outputs"].as_array_mut().unwrap() {
                    for bound in ["bound", "interval", "unsaturated"] {
                        output[bound] = (output[bound].as_f64().unwrap() * factor).into();
                    }
                }
            });
        });
        let verified = verify::object(&changed, "ids.o", Extent::Whole).unwrap();
        verify::same_model(&verified, &case("ids").plan, "ids.onnx")
    };
    stated(1.0).unwrap();
    assert_eq!(stated(0.99).unwrap_err().remove(0).code.id, "E0712");
}
