//! Two processors send the two directions of one flow at the same time, and nothing is lost: the record is,
//! byte for byte, the one that the interpreter has after the same packets in some order.
//!
//! The clock stands still, so that times and gaps do not depend on the order; lengths change from round to
//! round, so that sums, squares, minima and maxima are at stake.

use std::sync::Barrier;

use nnbpf_compiler::compile;
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::interpret::{FlowInterpreter, NoJudge};
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::maps::{CLOCK, COUNTERS, FLOWS, SIDE_FLOWS};
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::spec::typed::Triggers;
use nnbpf_runtime_loader::{Kernel, RunInput, pin_to_cpu};

use super::common::{case, skip, target};

const ROUNDS: u16 = 6;
/// Packets of each processor in a round.
const REPEAT: u32 = 50_000;
const NOW: u64 = 1_700_000_000_000_000_000;

/// A TCP segment between two fixed ends over IPv6.
pub(crate) fn frame(backward: bool, payload: u16) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x86, 0xdd, 0x60, 0, 0, 0];
    frame.extend((20 + payload).to_be_bytes());
    frame.extend([6, 64]);
    let end = |last: u8| [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last];
    let (mut addresses, mut ports) = ([end(1), end(2)], [40_000u16, 443]);
    if backward {
        addresses.reverse();
        ports.reverse();
    }
    frame.extend(addresses.concat());
    frame.extend(ports.into_iter().flat_map(u16::to_be_bytes));
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
    frame.extend(std::iter::repeat_n(7, payload.into()));
    frame
}

/// Payloads of a round, forward and backward: the extremes come in the middle.
fn payloads(round: u16) -> [u16; 2] {
    [100 + (round * 37) % 200, 1_000 - (round * 211) % 900]
}

fn totals_are_exact(name: &str, split: Split) {
    let mut plan = case(name).plan.clone();
    let flow = plan.flow.as_mut().unwrap();
    flow.triggers = Triggers::default();
    let program = flow.clone();
    let module = compile::module(&plan, &target(split, Clock::Replay)).unwrap();
    let loaded = Kernel::load(&elf::write(&module).unwrap()).unwrap();
    loaded.map(CLOCK).unwrap().write_value(&NOW.to_le_bytes()).unwrap();
    let run = |frame: &[u8], repeat| {
        loaded.run(ENTRY, RunInput { data: frame, repeat, output: false }).unwrap();
    };
    let mut reference = FlowInterpreter::new(&program);
    let first = frame(false, 64);
    run(&first, 1);
    reference.packet(&first, NOW, &mut NoJudge);

    let barrier = Barrier::new(2);
    std::thread::scope(|scope| {
        for (cpu, backward) in [(0, false), (1, true)] {
            let (barrier, run) = (&barrier, &run);
            scope.spawn(move || {
                pin_to_cpu(cpu).unwrap();
                for round in 0..ROUNDS {
                    let frame = frame(backward, payloads(round)[usize::from(backward)]);
                    barrier.wait();
                    run(&frame, REPEAT);
                }
            });
        }
    });
    for round in 0..ROUNDS {
        for backward in [false, true] {
            let frame = frame(backward, payloads(round)[usize::from(backward)]);
            for _ in 0..REPEAT {
                reference.packet(&frame, NOW, &mut NoJudge);
            }
        }
    }
    let records = reference.table().by_creation();
    let [(key, record)] = records.as_slice() else { panic!("one flow") };
    assert_eq!(record.packets(), 1 + 2 * u64::from(ROUNDS) * u64::from(REPEAT));
    let got = loaded.map(FLOWS).unwrap().lookup(&key.to_bytes()).unwrap();
    assert_eq!(got, Some(record.to_bytes(&program)), "{name}");
    for ((id, side), table) in program.side_tables().zip(reference.sides()) {
        let map = loaded.map(&format!("{SIDE_FLOWS}{}", side.name)).unwrap();
        assert_eq!(map.keys().unwrap().len(), table.by_creation().len());
        for (key, record) in table.by_creation() {
            let got = map.lookup(&key.packed(side.key)).unwrap();
            assert_eq!(got, Some(record.side_bytes(&program, id, side)), "{name}: {}", side.name);
        }
    }
    let counters = loaded.map(COUNTERS).unwrap().lookup_per_cpu(&0u32.to_le_bytes()).unwrap().unwrap();
    for counter in Counter::all() {
        let at = counter.index() as usize * 8;
        let word = |copy: &Vec<u8>| u64::from_le_bytes(*copy[at..].first_chunk().unwrap());
        let sum: u64 = counters.iter().map(word).sum();
        assert_eq!(sum, reference.counter(counter), "{name}: {}", counter.name());
    }
}

#[test]
fn two_directions_on_two_processors_lose_nothing() {
    let test = "two_directions_on_two_processors_lose_nothing";
    if skip(test) {
        return;
    }
    if std::thread::available_parallelism().unwrap().get() < 2 {
        eprintln!("SKIP {test}: one processor only");
        return;
    }
    for name in ["cic6-6-16-2", "ids", "gaps-11-24-2", "scan-10-12-2"] {
        totals_are_exact(name, Split::Auto);
    }
}
