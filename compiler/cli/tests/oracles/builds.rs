//! What must be the same between builds: shipped and replayed, evaluated and shipped, compiled twice.

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::bpf::{Insn, Reg};
use nnbpf_compiler::compile;
use nnbpf_compiler::lower::evaluation;
use nnbpf_compiler::lower::network::FUNCTION;
use nnbpf_compiler::lower::packet::maps::CLOCK;
use nnbpf_compiler::lower::packet::{Clock, ENTRY};

use super::common::{SPLITS, cases_with_spec, target};

fn functions(module: &Module) -> impl Iterator<Item = &Function> {
    module.programs.iter().chain(&module.functions)
}

fn lines(code: &[Insn<Reg>]) -> Vec<String> {
    code.iter().map(ToString::to_string).collect()
}

/// Two listings from their first difference to their last.
fn different(one: &[String], other: &[String]) -> (Vec<String>, Vec<String>) {
    let start = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    let end = one[start..].iter().rev().zip(other[start..].iter().rev()).take_while(|(a, b)| a == b).count();
    (one[start..one.len() - end].to_vec(), other[start..other.len() - end].to_vec())
}

#[test]
fn replay_builds_differ_in_the_clock_only() {
    for case in cases_with_spec() {
        for split in SPLITS {
            let shipped = compile::module(&case.plan, &target(split, Clock::Kernel)).unwrap();
            let replayed = compile::module(&case.plan, &target(split, Clock::Replay)).unwrap();
            assert_eq!(shipped.maps, replayed.maps);
            let without_clock: Vec<_> =
                replayed.data.iter().filter(|data| data.section != CLOCK).cloned().collect();
            assert_eq!(shipped.data, without_clock);
            assert_eq!(functions(&shipped).count(), functions(&replayed).count());
            for (ours, theirs) in functions(&shipped).zip(functions(&replayed)) {
                assert_eq!((&ours.name, &ours.section), (&theirs.name, &theirs.section));
                if ours.name != ENTRY {
                    assert_eq!(ours.code, theirs.code, "{}", ours.name);
                    continue;
                }
                let (call, load) = different(&lines(&ours.code), &lines(&theirs.code));
                let place = format!("{} {split:?}: {call:?} against {load:?}", case.name);
                assert_eq!(call[0], "call bpf_ktime_get_ns#5", "{place}");
                assert_eq!(load.len(), 2, "{place}");
                assert!(load[0].ends_with("= map[.data.nn_clock + 0]"), "{place}");
                assert!(load[1].contains("= *(u64 *)("), "{place}");
                // A load writes the register at once into which the call's result is moved.
                let moved = |line: &String| line.ends_with(" = r0") && load[1].starts_with(&line[..4]);
                assert!(call[1..].iter().all(moved) && call.len() <= 2, "{place}");
            }
        }
    }
}

#[test]
fn the_evaluated_model_is_the_shipped_one() {
    for case in cases_with_spec() {
        for split in SPLITS {
            let target = target(split, Clock::Kernel);
            let shipped = compile::module(&case.plan, &target).unwrap();
            let evaluated = evaluation::module(&case.plan.network, target.network, 8).unwrap();
            let model = |module: &Module| -> Vec<(String, Vec<u8>)> {
                functions(module)
                    .filter(|f| f.name == FUNCTION || f.name.starts_with("nn_layer"))
                    .map(|f| (f.name.clone(), assemble(f).unwrap().bytes))
                    .collect()
            };
            let (mut ours, mut theirs) = (model(&shipped), model(&evaluated));
            ours.sort();
            theirs.sort();
            assert!(!ours.is_empty());
            assert_eq!(ours, theirs, "{} {split:?}", case.name);
        }
    }
}
