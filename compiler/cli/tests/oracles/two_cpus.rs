//! Two processors send the two directions of one flow at the same time, and nothing is lost: the record is,
//! byte for byte, the one that the interpreter has after the same packets in some order.
//!
//! The clock stands still, so that times and gaps do not depend on the order; lengths change from round to
//! round, so that sums, squares, minima and maxima are at stake.

use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use nnbpf_compiler::compile;
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::interpret::{FlowInterpreter, NoJudge};
use nnbpf_compiler::ir::flow::{Counter, FlowProgram, SlotKind, Width};
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::maps::{CLOCK, COUNTERS, FLOWS, SIDE_FLOWS};
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::spec::typed::Triggers;
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, pin_to_cpu};

use super::common::{case, plan_of, skip, target};

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

/// Where two processors meet.
#[derive(Default)]
pub(crate) struct Meeting {
    arrived: [AtomicU64; 2],
}

impl Meeting {
    /// Until both are here.
    pub(crate) fn wait(&self, cpu: usize) {
        let mine = self.arrived[cpu].fetch_add(1, Ordering::AcqRel) + 1;
        let mut turns = 0_u32;
        while self.arrived[1 - cpu].load(Ordering::Acquire) < mine {
            turns += 1;
            // The other one may have no processor.
            if turns.is_multiple_of(4_096) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
    }

    /// Until both are here and at work, so that they go on within less than a microsecond: who was waited for waits
    /// for who has waited.
    pub(crate) fn start(&self, cpu: usize) {
        (0..4).for_each(|_| self.wait(cpu));
    }
}

/// Whoever goes, in whatever way, is waited for no more.
struct Leaving<'m>(&'m Meeting, usize);

impl Drop for Leaving<'_> {
    fn drop(&mut self) {
        self.0.arrived[self.1].store(u64::MAX / 2, Ordering::Release);
    }
}

/// Does two things at once, each on a processor of its own.
pub(crate) fn both(meeting: &Meeting, first: impl FnOnce() + Send, second: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _leaving = Leaving(meeting, 0);
            pin_to_cpu(0).unwrap();
            first();
        });
        scope.spawn(|| {
            let _leaving = Leaving(meeting, 1);
            pin_to_cpu(1).unwrap();
            second();
        });
    });
}

/// Some nanoseconds, others each time, so that the two come in every order.
pub(crate) fn linger(number: u64, cycle: u64) {
    (0..number % cycle * 4).for_each(|_| std::hint::spin_loop());
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
    let got = loaded.map(FLOWS).unwrap().lookup(&program.key_form().cut(key)).unwrap();
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
    if alone(test) {
        return;
    }
    for name in ["cic6-6-16-2", "ids", "gaps-11-24-2", "scan-10-12-2"] {
        totals_are_exact(name, Split::Auto);
    }
}

/// Whether a test of two processors is left out.
pub(crate) fn alone(test: &str) -> bool {
    if skip(test) {
        return true;
    }
    let alone = std::thread::available_parallelism().unwrap().get() < 2;
    if alone {
        eprintln!("SKIP {test}: one processor only");
    }
    alone
}

/// A specification of two features, without verdicts, in the kernel.
fn loaded(features: &str) -> (FlowProgram, Loaded) {
    let spec = format!(
        "spec two v1; attach xdp; \
         flow conn on tcp {{ key five_tuple bidirectional; capacity 16; idle never; end never; }} \
         features of conn {{ {features} }} \
         model {{ labels benign, attack; }} classify conn at every 16 packets;"
    );
    let mut plan = plan_of("tiny-2-3-2", &spec);
    plan.flow.as_mut().unwrap().triggers = Triggers::default();
    let module = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
    (plan.flow.unwrap(), Kernel::load(&elf::write(&module).unwrap()).unwrap())
}

/// All orders of so many packets of each of two kinds, a bit for each packet.
fn orders(each: u32) -> impl Iterator<Item = Vec<bool>> {
    let all = (0_u32..1 << (2 * each)).filter(move |bits| bits.count_ones() == each);
    all.map(move |bits| (0..2 * each).map(|index| bits >> index & 1 == 1).collect())
}

/// A weighted mean depends on the order of the packets, and a bitmap takes new bits from both sides: after a few
/// packets of each side the record is, byte for byte, that of the interpreter after one of all their orders.
#[test]
fn weighted_means_and_bitmaps_are_those_of_some_order() {
    const ROUNDS: u16 = 300;
    const EACH: u32 = 5;
    if alone("weighted_means_and_bitmaps_are_those_of_some_order") {
        return;
    }
    let (program, loaded) =
        loaded("mean = ewma(ip.len, 1 / 4) in 0..1500; lengths = distinct(ip.len, 4096) in 0..1500;");
    loaded.map(CLOCK).unwrap().write_value(&NOW.to_le_bytes()).unwrap();
    let flows = loaded.map(FLOWS).unwrap();
    // Other lengths from round to round.
    let frames = |round: u16| [frame(false, round % 700), frame(true, 700 + round % 25 * 27)];
    let mut reference = FlowInterpreter::new(&program);
    let first = frame(false, 64);
    loaded.run(ENTRY, RunInput { data: &first, repeat: 1, output: false }).unwrap();
    reference.packet(&first, NOW, &mut NoJudge);
    let key = reference.table().by_creation()[0].0;
    let meeting = Meeting::default();
    // How much later the second processor begins, or the first where it is negative: follows who came first.
    let later = AtomicI64::new(0);
    let run = |cpu: usize, round: u16| {
        meeting.start(cpu);
        let later = later.load(Ordering::Acquire) * if cpu == 0 { -1 } else { 1 };
        (0..later).for_each(|_| std::hint::spin_loop());
        loaded.run(ENTRY, RunInput { data: &frames(round)[cpu], repeat: EACH, output: false }).unwrap();
        meeting.wait(cpu);
    };
    let mut mixed = 0;
    both(
        &meeting,
        || {
            for round in 0..ROUNDS {
                run(0, round);
                let got = flows.lookup(&program.key_form().cut(&key)).unwrap().unwrap();
                let after = |order: &[bool]| {
                    let mut after = reference.clone();
                    for backward in order {
                        after.packet(&frames(round)[usize::from(*backward)], NOW, &mut NoJudge);
                    }
                    after
                };
                let bytes = |one: &FlowInterpreter<'_>| one.table().peek(&key).unwrap().to_bytes(&program);
                let mut all = orders(EACH).map(|order| (after(&order), order));
                let Some((after, order)) = all.find(|(after, _)| bytes(after) == got) else {
                    panic!("round {round}: no order gives {got:?}")
                };
                mixed += usize::from(order.windows(2).filter(|pair| pair[0] != pair[1]).count() > 1);
                later.fetch_add(if order[0] { 1 } else { -1 }, Ordering::AcqRel);
                reference = after;
            }
        },
        || (0..ROUNDS).for_each(|round| run(1, round)),
    );
    println!("{mixed} of {ROUNDS} rounds mixed the packets of the two processors");
    let counters = loaded.map(COUNTERS).unwrap().lookup_per_cpu(&0u32.to_le_bytes()).unwrap().unwrap();
    let at = Counter::Contended.index() as usize * 8;
    assert!(counters.iter().all(|copy| copy[at..at + 8] == [0; 8]), "a packet gave up");
}

/// Of packets of one length the order does not matter, but each moves a slow mean: after many from both sides the
/// record is that of the interpreter after as many.
#[test]
fn no_sample_of_a_weighted_mean_is_lost() {
    const ROUNDS: u16 = 40;
    const EACH: u32 = 300;
    if alone("no_sample_of_a_weighted_mean_is_lost") {
        return;
    }
    let (program, loaded) = loaded(
        "mean = ewma(ip.len, 1 / 256) in 0..1500; fwd_mean = ewma(ip.len, 1 / 128) where fwd in 0..1500;",
    );
    loaded.map(CLOCK).unwrap().write_value(&NOW.to_le_bytes()).unwrap();
    let flows = loaded.map(FLOWS).unwrap();
    // To and fro, so that the mean never arrives.
    let frames = |round: u16| {
        [false, true].map(|backward| frame(backward, if round.is_multiple_of(2) { 20 } else { 1_400 }))
    };
    let mut reference = FlowInterpreter::new(&program);
    let meeting = Meeting::default();
    let run = |cpu: usize, round: u16| {
        meeting.start(cpu);
        loaded.run(ENTRY, RunInput { data: &frames(round)[cpu], repeat: EACH, output: false }).unwrap();
        meeting.wait(cpu);
    };
    let first = frame(false, 64);
    loaded.run(ENTRY, RunInput { data: &first, repeat: 1, output: false }).unwrap();
    reference.packet(&first, NOW, &mut NoJudge);
    both(
        &meeting,
        || {
            for round in 0..ROUNDS {
                run(0, round);
                for frame in frames(round) {
                    (0..EACH).for_each(|_| drop(reference.packet(&frame, NOW, &mut NoJudge)));
                }
                let records = reference.table().by_creation();
                let (key, record) = records[0];
                let got = flows.lookup(&program.key_form().cut(&key)).unwrap();
                assert_eq!(got, Some(record.to_bytes(&program)), "round {round}");
            }
        },
        || (0..ROUNDS).for_each(|round| run(1, round)),
    );
}

/// The moment at which a pane is taken over: what the processor that empties it counts is there, what the other one
/// counts may be lost, and nothing else is: not of the pane before, nor of what the record has for its whole life, nor
/// later in the same pane.
#[test]
fn a_pane_that_is_taken_over_loses_at_most_what_the_other_processor_adds() {
    const ROUNDS: u64 = 150;
    const EACH: u64 = 10;
    const PANE: u64 = 500_000_000;
    if alone("a_pane_that_is_taken_over_loses_at_most_what_the_other_processor_adds") {
        return;
    }
    let (program, loaded) =
        loaded("bytes = sum(ip.len) over 1 s in 0..100000; longest = max(ip.len) over 1 s in 0..1500;");
    let flows = loaded.map(FLOWS).unwrap();
    let [window] = program.windows.as_slice() else { panic!("one window") };
    let offset = |wanted: SlotKind| {
        let slots = program.slots.iter().filter(|slot| slot.place.window.is_some() && slot.kind == wanted);
        let [slot] = slots.collect::<Vec<_>>()[..] else { panic!("one slot of {wanted:?}") };
        assert!(wanted == SlotKind::Max || slot.width == Width::W64);
        slot.offset
    };
    let (sum_at, max_at) = (offset(SlotKind::Sum), offset(SlotKind::Max));
    let lengths = [104_u64, 1_004];
    let frames = [frame(false, 44), frame(true, 944)];
    // Packets, sum and greatest of a pane's copy, and the packets of the whole life.
    let read = |number: u64| {
        let key = flows.keys().unwrap().remove(0);
        let record = flows.lookup(&key).unwrap().unwrap();
        let word = |at: u32| u64::from_le_bytes(*record[at as usize..].first_chunk().unwrap());
        let copy = u32::try_from(number & 1).unwrap() * window.stride;
        assert_eq!(word(program.slot(window.pane).offset) | 1, number | 1, "the pane's number");
        let greatest = word(max_at + copy) & u64::from(u32::MAX);
        let packets = word(program.slot(window.packets).offset + copy);
        ((packets, word(sum_at + copy), greatest), word(0))
    };
    let meeting = Meeting::default();
    let run = |cpu: usize, round: u64| {
        meeting.start(cpu);
        linger(round, [3, 5][cpu]);
        let repeat = u32::try_from(EACH).unwrap();
        loaded.run(ENTRY, RunInput { data: &frames[cpu], repeat, output: false }).unwrap();
        meeting.wait(cpu);
    };
    let mut pane = NOW / PANE;
    let mut before = (0, 0, 0);
    let (mut lost, mut life) = (0, 0);
    both(
        &meeting,
        || {
            for round in 0..ROUNDS {
                // Sometimes panes are skipped.
                let skipped = round % 3 == 2;
                pane += if skipped { 3 } else { 1 };
                loaded.map(CLOCK).unwrap().write_value(&(pane * PANE).to_le_bytes()).unwrap();
                run(0, round);
                life += 2 * EACH;
                let ((packets, sum, greatest), all) = read(pane);
                assert!((EACH..=2 * EACH).contains(&packets), "round {round}: {packets} packets");
                let bounds = EACH * lengths[0]..=EACH * (lengths[0] + lengths[1]);
                assert!(bounds.contains(&sum), "round {round}: a sum of {sum}");
                assert!(lengths.contains(&greatest), "round {round}: a maximum of {greatest}");
                lost += 2 * EACH - packets;
                // The first pane of a record has none before it.
                let kept = if skipped || round == 0 { (0, 0, 0) } else { before };
                assert_eq!((read(pane ^ 1).0, all), (kept, life), "round {round}");
                // Whoever comes later in the same pane loses nothing.
                run(0, round);
                life += 2 * EACH;
                before = (packets + 2 * EACH, sum + EACH * (lengths[0] + lengths[1]), lengths[1]);
                assert_eq!(read(pane), (before, life), "round {round}");
            }
        },
        || {
            for round in 0..ROUNDS {
                run(1, round);
                run(1, round);
            }
        },
    );
    println!("{lost} of {} packets were lost to {ROUNDS} panes that were taken over", 4 * EACH * ROUNDS);
}
