//! Each trigger alone, over captures and on two processors. All of them at once are the case `triggers-4-8-2`.

use std::sync::Barrier;

use nnbpf_compiler::compile::{self, Named, Plan, Sources};
use nnbpf_compiler::diag::render;
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::maps::{CLOCK, COUNTERS, EVENTS, SAMPLES};
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::quant::Options;
use nnbpf_runtime_loader::{Kernel, RunInput, pin_to_cpu};

use super::captures::{Engines, Seen};
use super::common::{captures, root, skip, target};
use super::engines::{LINEAR, SHORTEST};
use super::ring::Ring;
use super::two_cpus::frame;

const CASE: &str = "testdata/cases/triggers-4-8-2";
const AT: &str = "end, every 5 packets, every 200 ms, after 3 packets, after 250 ms";

/// The case with other triggers.
fn plan(triggers: &str) -> Plan {
    plan_with(triggers, "")
}

/// The case with other triggers and, unless empty, other rules.
fn plan_with(triggers: &str, rules: &str) -> Plan {
    let model = std::fs::read(root().join(CASE).join("model.onnx")).unwrap();
    let spec = std::fs::read_to_string(root().join(CASE).join("triggers.spec")).unwrap();
    assert!(spec.contains(AT));
    let mut spec = spec.replace(AT, triggers);
    if !rules.is_empty() {
        spec.truncate(spec.find("\non ").unwrap());
        spec.push_str(rules);
    }
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &model },
        spec: Some(Named { name: "triggers.spec", bytes: spec.as_bytes() }),
        calibration: None,
        surroundings: nnbpf_compiler::spec::Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, &Options::default())
        .unwrap_or_else(|refused| panic!("{triggers}: {}", render::all(&refused, &[])))
}

#[test]
fn each_trigger_alone_agrees_on_captures() {
    let test = "each_trigger_alone_agrees_on_captures";
    let kernel = !skip(test);
    let files = captures(test);
    for triggers in
        ["after 3 packets", "after 40 ms", "every 30 ms", "end, after 2 s", "every 3000 ms, after 9 packets"]
    {
        let plan = plan(triggers);
        let mut engines = Engines::new(&plan, Split::Auto, Mode::Monitor, false, kernel);
        let mut seen = Seen::default();
        for file in &files {
            let fits = |data: &[u8]| (SHORTEST..=LINEAR).contains(&data.len());
            let packets: Vec<_> = file.packets().into_iter().filter(|packet| fits(packet.data)).collect();
            engines.compare(&format!("{test}: {triggers}: {}", file.name), &packets, &mut seen);
        }
        println!("{test}: {triggers}: {} packets, {} verdicts agree", seen.packets, seen.verdicts);
        assert!(seen.verdicts > 0, "{triggers}: nothing was judged");
    }
}

/// Rounds of two processors that send packets of one flow; the time stands still in each of them.
const ROUNDS: u64 = 300;
const REPEAT: u32 = 200;
const START: u64 = 1_700_000_000_000_000_000;

#[test]
fn two_processors_judge_once() {
    let test = "two_processors_judge_once";
    if skip(test) {
        return;
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIP {test}: one processor only");
        return;
    }
    // From round to round 10 ms pass, and none of the first packet's round.
    for (triggers, wanted) in [
        ("after 30001 packets", 1),
        ("after 1 s", 1),
        ("every 10 ms", ROUNDS - 1),
        ("every 25 ms, after 1 s", (ROUNDS - 1) / 3 + 1),
        ("every 1000 packets", ROUNDS * 2 * u64::from(REPEAT) / 1_000),
    ] {
        let plan = plan(triggers);
        let module = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
        let loaded = Kernel::load(&elf::write(&module).unwrap()).unwrap();
        let barrier = Barrier::new(3);
        std::thread::scope(|scope| {
            for (cpu, backward) in [(0, false), (1, true)] {
                let (barrier, loaded) = (&barrier, &loaded);
                scope.spawn(move || {
                    pin_to_cpu(cpu).unwrap();
                    for _ in 0..ROUNDS {
                        barrier.wait();
                        let frame = frame(backward, 64);
                        loaded.run(ENTRY, RunInput { data: &frame, repeat: REPEAT, output: false }).unwrap();
                        barrier.wait();
                    }
                });
            }
            for round in 0..ROUNDS {
                let now = START + round * 10_000_000;
                loaded.map(CLOCK).unwrap().write_value(&now.to_le_bytes()).unwrap();
                barrier.wait();
                barrier.wait();
            }
        });
        let at = Counter::Verdicts.index() as usize * 8;
        let counters = loaded.map(COUNTERS).unwrap().lookup_per_cpu(&0u32.to_le_bytes()).unwrap().unwrap();
        let word = |copy: &Vec<u8>| u64::from_le_bytes(*copy[at..].first_chunk().unwrap());
        assert_eq!(counters.iter().map(word).sum::<u64>(), wanted, "{triggers}");
    }
}

#[test]
fn two_processors_share_the_count_of_a_sampled_rule() {
    let test = "two_processors_share_the_count_of_a_sampled_rule";
    if skip(test) {
        return;
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIP {test}: one processor only");
        return;
    }
    let plan = plan_with("every packet", "\non benign { report 1 in 7; }\non attack { report 1 in 5; }\n");
    let module = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
    let loaded = Kernel::load(&elf::write(&module).unwrap()).unwrap();
    let mut ring = Ring::new(loaded.map(EVENTS).unwrap());
    loaded.map(CLOCK).unwrap().write_value(&START.to_le_bytes()).unwrap();
    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for (cpu, backward) in [(0, false), (1, true)] {
            let (barrier, loaded) = (&barrier, &loaded);
            scope.spawn(move || {
                pin_to_cpu(cpu).unwrap();
                let frame = frame(backward, 64);
                barrier.wait();
                loaded.run(ENTRY, RunInput { data: &frame, repeat: 6_000, output: false }).unwrap();
            });
        }
    });
    let acted = loaded.map(SAMPLES).unwrap().read_value().unwrap();
    let acted: Vec<u64> = acted.chunks_exact(8).map(|w| u64::from_le_bytes(w.try_into().unwrap())).collect();
    assert_eq!(acted.iter().sum::<u64>(), 12_000, "{acted:?}");
    let events = acted[0].div_ceil(7) + acted[1].div_ceil(5);
    assert_eq!(ring.records().len() as u64, events, "{acted:?}");
}
