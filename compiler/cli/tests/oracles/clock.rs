//! A coarse clock: replays are exact, and shipped builds show the time of the first packet of a tick.

use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::maps::{FLOWS, TICK};
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::vm::Vm;
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput};

use super::captures::{Engines, Seen};
use super::common::{captures, plan_of, skip, target};
use super::engines::{LINEAR, SHORTEST};
use super::two_cpus::frame;

/// Times that packets' records keep, with one clock or the other.
fn plan(clock: &str, trigger: &str) -> Plan {
    let spec = format!(
        "spec times v1; attach xdp; clock {clock}; \
         flow conn on tcp {{ key five_tuple bidirectional; capacity 4096; idle 60 s; active 1 h; end tcp.rst; }} \
         features of conn {{ longest = max(gap) as us; packets = count(); }} \
         model {{ labels benign, attack; }} classify conn at {trigger};"
    );
    plan_of("tiny-2-3-2", &spec)
}

#[test]
fn replays_with_a_coarse_clock_are_exact() {
    let test = "replays_with_a_coarse_clock_are_exact";
    let kernel = !skip(test);
    let plan = plan("coarse", "end, every 3 packets, after 40 ms");
    let mut engines = Engines::new(&plan, Split::Auto, Mode::Monitor, false, kernel);
    let mut seen = Seen::default();
    for file in &captures(test) {
        let fits = |data: &[u8]| (SHORTEST..=LINEAR).contains(&data.len());
        let packets: Vec<_> = file.packets().into_iter().filter(|packet| fits(packet.data)).collect();
        engines.compare(&format!("{test}: {}", file.name), &packets, &mut seen);
    }
    println!("{test}: {} packets, {} verdicts agree", seen.packets, seen.verdicts);
    assert!(seen.verdicts > 0);
}

/// The time of the last packet in a record.
fn last(plan: &Plan, record: &[u8]) -> u64 {
    let at = plan.flow.as_ref().unwrap().record.last.unwrap() as usize;
    u64::from_le_bytes(record[at..at + 8].try_into().unwrap())
}

/// Whether or not a replay: a packet takes the time of the first one of its tick of 4 ms.
#[test]
fn packets_of_a_tick_share_a_time() {
    let plan = plan("coarse", "end");
    let module = compile::module(&plan, &target(Split::Auto, Clock::Kernel)).unwrap();
    let mut vm = Vm::new(&module).unwrap();
    let mut time = |now| {
        vm.run(ENTRY, &mut frame(false, 9), now).unwrap();
        let records = vm.map(FLOWS).unwrap().entries();
        let [(key, record)] = records.as_slice() else { panic!("one flow") };
        assert_eq!(key.len(), 36);
        last(&plan, record)
    };
    let times = [
        (1_000_000, 1_000_000),
        (1_000_001, 1_000_000),
        (3_999_999, 1_000_000),
        // The next tick, one several ticks later, and one that has as much parity as the one before.
        (4_000_000, 4_000_000),
        (7_999_999, 4_000_000),
        (20_000_001, 20_000_001),
        (23_000_000, 20_000_001),
        (28_500_000, 28_500_000),
        (31_999_999, 28_500_000),
    ];
    for (now, wanted) in times {
        assert_eq!(time(now), wanted, "{now}");
    }
}

/// Longest tick: `CONFIG_HZ=100`. A machine that is busy may be late with it.
const TICK_NS: u64 = 10_000_000;
const LATE_NS: u64 = 200_000_000;

#[test]
fn coarse_times_are_less_than_a_tick_early() {
    if skip("coarse_times_are_less_than_a_tick_early") {
        return;
    }
    let load = |clock| {
        let plan = plan(clock, "end");
        let module = compile::module(&plan, &target(Split::Auto, Clock::Kernel)).unwrap();
        (Kernel::load(&elf::write(&module).unwrap()).unwrap(), plan)
    };
    let (exact, coarse) = (load("exact"), load("coarse"));
    let now = |(loaded, plan): &(Loaded, Plan)| {
        loaded.run(ENTRY, RunInput { data: &frame(false, 9), repeat: 1, output: false }).unwrap();
        let flows = loaded.map(FLOWS).unwrap();
        let keys = flows.keys().unwrap();
        last(plan, &flows.lookup(&keys[0]).unwrap().unwrap())
    };
    assert!(exact.0.map(TICK).is_err());
    let (mut same, mut before, mut early) = (0, 0, 0);
    for round in 0..200 {
        let (from, time, to) = (now(&exact), now(&coarse), now(&exact));
        assert!(time <= to, "{time} is later than {to}");
        assert!(time + TICK_NS + LATE_NS > from, "{time} is {} ns before {from}", from - time);
        assert!(time >= before, "{time} is before {before}");
        early += u32::from(time + TICK_NS < from);
        same += u32::from(time == before);
        before = time;
        if round % 20 == 0 {
            std::thread::sleep(std::time::Duration::from_millis(15));
        }
    }
    println!("of 200 packets {same} had the time of the one before, {early} one more than 10 ms early");
    assert!(same > 0 && early < 20, "{same} the same, {early} early");
}
