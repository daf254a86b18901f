//! What must be the same between builds: shipped and replayed, evaluated and shipped, compiled twice.

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::bpf::{Insn, Reg};
use nnbpf_compiler::compile;
use nnbpf_compiler::lower::evaluation;
use nnbpf_compiler::lower::network::FUNCTION;
use nnbpf_compiler::lower::packet::maps::CLOCK;
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::spec::typed::Scope;

use super::common::{SPLITS, cases_with_spec, target};

fn functions(module: &Module) -> impl Iterator<Item = &Function> {
    module.programs.iter().chain(&module.functions)
}

fn lines(code: &[Insn<Reg>]) -> Vec<String> {
    code.iter().map(ToString::to_string).collect()
}

/// Walks both listings at once: where the shipped one asks for the time, the other loads it from memory, and nowhere
/// else do they differ. Gives how often that was.
fn clocks(shipped: &[String], replayed: &[String], place: &str) -> usize {
    let (mut ours, mut theirs) = (shipped.iter(), replayed.iter());
    let mut clocks = 0;
    while let Some(line) = ours.next() {
        let other = theirs.next().unwrap_or_else(|| panic!("{place}: {line:?} against the end"));
        if line != "call bpf_ktime_get_ns#5" {
            assert_eq!(line, other, "{place}");
            continue;
        }
        clocks += 1;
        assert!(other.ends_with("= map[.data.nn_clock + 0]"), "{place}: {other}");
        let load = theirs.next().unwrap();
        assert!(load.contains("= *(u64 *)("), "{place}: {load}");
        // A load writes the register at once into which the call's result is moved.
        if !load.starts_with("r0 ") {
            let moved = ours.next().unwrap();
            assert!(moved.ends_with(" = r0") && load[..4] == moved[..4], "{place}: {moved} against {load}");
        }
    }
    assert_eq!(theirs.next(), None, "{place}");
    clocks
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
                let place = format!("{} {split:?}", case.name);
                let clocks = clocks(&lines(&ours.code), &lines(&theirs.code), &place);
                // Where every packet of a flow has a time, it is taken once. Single packets are asked for only where a
                // list or a rule needs the time, in two places.
                let flow = case.plan.flow.as_ref().unwrap();
                match flow.scope {
                    Scope::Flow if flow.times_packets() => assert_eq!(clocks, 1, "{place}"),
                    Scope::Flow => {}
                    Scope::Packet => assert_eq!(clocks, 2, "{place}"),
                }
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
