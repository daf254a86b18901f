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

/// Follows two listings that differ by the clock alone: a call here, a load of the same register there. Gives how
/// often.
fn clocks(shipped: &[String], replayed: &[String], place: &str) -> usize {
    let mut theirs = replayed.iter();
    let mut clocks = 0;
    for ours in shipped {
        let their = theirs.next().unwrap();
        if ours != "call bpf_ktime_get_ns#5" {
            assert_eq!(ours, their, "{place}");
            continue;
        }
        clocks += 1;
        assert_eq!(their, "r0 = map[.data.nn_clock + 0]", "{place}");
        assert_eq!(theirs.next().unwrap(), "r0 = *(u64 *)(r0 + 0)", "{place}");
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
                // Where every packet has a time, it is taken once.
                if case.plan.flow.as_ref().unwrap().times_packets() {
                    assert_eq!(clocks, 1, "{place}");
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
