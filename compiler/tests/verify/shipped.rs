//! Every object that the compiler writes is read back as it was, and holds.

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::decode::disassemble;
use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::compile;
use nnbpf_compiler::diag::render;
use nnbpf_compiler::elf::read;
use nnbpf_compiler::lower::network::Weights;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::verify::{self, Extent};

use super::cases::{FORMS, case, cases, module, target};

/// A function as far as an object carries it: labels by their slots.
fn carried(function: &Function) -> Function {
    let assembled = assemble(function).unwrap();
    let code = disassemble(&assembled.bytes, &assembled.relocations).unwrap();
    Function { code, line_of: Vec::new(), lines: Vec::new(), ..function.clone() }
}

fn same(read: &Module, written: &Module, what: &str) {
    for (read, written) in [(&read.programs, &written.programs), (&read.functions, &written.functions)] {
        assert_eq!(read.len(), written.len(), "{what}");
        for (read, written) in read.iter().zip(written) {
            let read = Function { line_of: Vec::new(), lines: Vec::new(), ..read.clone() };
            assert!(read == carried(written), "{what}: {}", written.name);
        }
    }
    assert!(read.maps == written.maps, "{what}: maps");
    assert!(read.data == written.data, "{what}: data");
    assert!(read.metadata == written.metadata, "{what}: metadata");
}

#[test]
fn every_object_is_read_back_and_holds() {
    let mut count = 0;
    for case in cases() {
        for form in FORMS {
            let Some(module) = module(case, form) else { continue };
            let what = format!("{} {form:?}", case.name);
            let object = compile::object(&module).unwrap();
            same(&read::module(&object, "ids.o").unwrap(), &module, &what);
            for extent in [Extent::Whole, Extent::Network] {
                let verified = verify::object(&object, "ids.o", extent)
                    .unwrap_or_else(|refused| panic!("{what}: {}", render::all(&refused, &[])));
                assert_eq!(verified.report.path.derived, extent == Extent::Whole);
                if form.1 == Weights::Map {
                    assert!(verified.network == case.plan.network, "{what}");
                }
            }
            count += 1;
        }
    }
    println!("{count} objects of {} models", cases().len());
    assert!(count > cases().len() * 2);
}

#[test]
fn builds_for_replays_and_frames_of_several_buffers_hold() {
    for clock in [Clock::Kernel, Clock::Replay] {
        for fragments in [false, true] {
            let target = compile::Target { clock, fragments, ..target(FORMS[0]) };
            let object = compile::object(&compile::module(&case("ids").plan, &target).unwrap()).unwrap();
            let verified = verify::object(&object, "ids.o", Extent::Whole).unwrap();
            assert_eq!(verified.report.path.replay, clock == Clock::Replay);
        }
    }
}

#[test]
fn what_is_touched_is_told() {
    let object = compile::object(&module(case("ids"), FORMS[0]).unwrap()).unwrap();
    let path = verify::object(&object, "ids.o", Extent::Whole).unwrap().report.path;
    assert!(path.packet_accesses > 10);
    let counters = &path.touched["nn_counters"];
    assert!(!counters.is_empty() && counters.iter().all(|field| field.bytes == 8 && field.offset % 8 == 0));
    assert!(path.touched["nn_flows"].iter().any(|field| field.written));
}
