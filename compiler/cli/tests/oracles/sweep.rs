//! Sweeps in the midst of captures: interpreter, virtual machine and kernel judge and remove the same records;
//! and two processors, which sweep the same table or sweep while packets come, judge every flow once.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU64, Ordering};

use nnbpf_compiler::bpf::asm::{atomic, mov};
use nnbpf_compiler::bpf::{AluOp, AtomicOp, Insn, Operand, Reg, Size};
use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::ir::flow::record::Layout;
use nnbpf_compiler::ir::flow::{self, Counter};
use nnbpf_compiler::ir::packet::tcp_flags::{ACK, RST};
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::maps::{CLOCK, COUNTERS, FLOWS};
use nnbpf_compiler::lower::packet::sweep::SWEEP;
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::lower::walk;
use nnbpf_compiler::spec::typed::{FeatureSpec, Hook, Nanos, Triggers};
use nnbpf_compiler::vm::Vm;
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, pin_to_cpu};

use super::captures::{Seen, compare};
use super::common::{captures, case, skip, target};
use super::engines::{Engine, Interpreted, LINEAR, Running, Virtual};
use super::two_cpus::{Meeting, alone, both, frame, linger};
use super::verifier::{LIMIT, linked};

/// Shorter than any of the cases has it, so that captures have idle flows.
const IDLE: u64 = 200_000_000;
/// Packets between two sweeps, and of a capture.
const STRETCH: usize = 250;
const PACKETS: usize = 2_500;
/// Above the idle time, so that busy flows are over too.
const ACTIVE: u64 = 3 * IDLE;
/// Ethernet and IPv6 headers: a test run of tc takes no shorter frame of IP.
const SHORTEST: usize = 54;

/// A plan whose specification says something else: what records keep depends on it.
fn changed(mut plan: Plan, change: impl FnOnce(&mut FeatureSpec)) -> Plan {
    let spec = plan.spec.as_mut().unwrap();
    change(spec);
    plan.flow = Some(flow::build(spec).unwrap());
    plan
}

/// A case with sweeps and a short idle time.
fn plan(name: &str) -> Plan {
    changed(case(name).plan.clone(), |spec| {
        spec.flow.idle = Some(Nanos(IDLE));
        spec.flow.sweep = true;
    })
}

fn without_end(plan: Plan) -> Plan {
    changed(plan, |spec| spec.triggers.end = false)
}

/// Keys without a protocol, which all of them have in common.
fn tcp_alone(plan: Plan) -> Plan {
    changed(plan, |spec| spec.flow.transports.udp = false)
}

fn active(plan: Plan) -> Plan {
    changed(plan, |spec| spec.flow.active = Some(Nanos(ACTIVE)))
}

fn at(hook: Hook, mut plan: Plan) -> Plan {
    plan.spec.as_mut().unwrap().hook = hook;
    plan
}

/// Whether a sweep removes a record by the definition in `docs/flows.md`.
fn over(plan: &Plan, record: &[u8], now: u64) -> bool {
    let flow = plan.flow.as_ref().unwrap();
    let since = |at: Option<u32>| u64::from_le_bytes(*record[at.unwrap() as usize..].first_chunk().unwrap());
    let late = |at, time: Option<Nanos>| time.is_some_and(|time| now > since(at).saturating_add(time.0));
    late(flow.record.last, flow.idle) || late(flow.record.first, flow.active)
}

#[derive(Default)]
struct Swept {
    asked: usize,
    removed: usize,
    judged: usize,
}

/// Sweeps the same records everywhere: all that are idle and some that are not.
fn sweep(
    place: &str,
    plan: &Plan,
    now: u64,
    reference: &mut dyn Engine,
    others: &mut [(&str, &mut dyn Engine)],
    seen: &mut Swept,
) {
    let before = reference.state();
    assert_eq!(before.events.len(), 0, "they were compared with the packets");
    let flows = before.flows.iter().enumerate();
    let asked = flows.filter(|(index, (_, record))| index.is_multiple_of(8) || over(plan, record, now));
    let keys: Vec<&Vec<u8>> = asked.map(|(_, (key, _))| key).collect();
    // What a round sends fits the ring.
    for keys in keys.chunks(1_000) {
        for key in keys {
            let wanted = reference.sweep(key, now);
            assert_eq!(wanted.removed, over(plan, &before.flows[*key], now), "{place}");
            seen.asked += 1;
            seen.removed += usize::from(wanted.removed);
            seen.judged += usize::from(wanted.judged.is_some());
            for (name, engine) in others.iter_mut() {
                assert_eq!(engine.sweep(key, now), wanted, "{place}: {name}: {key:?}");
            }
        }
        let wanted = reference.state();
        for (name, engine) in others.iter_mut() {
            assert_eq!(engine.state(), wanted, "{place}: {name}: the state after a sweep");
        }
    }
}

#[test]
fn sweeps_agree_in_the_midst_of_captures() {
    let test = "sweeps_agree_in_the_midst_of_captures";
    let kernel = !skip(test);
    let files = captures(test);
    for (name, split, mode, plan) in [
        ("triggers-4-8-2", Split::Auto, Mode::Monitor, plan("triggers-4-8-2")),
        ("triggers-4-8-2", Split::Layer, Mode::Enforce, active(plan("triggers-4-8-2"))),
        ("triggers-4-8-2", Split::Auto, Mode::Enforce, tcp_alone(plan("triggers-4-8-2"))),
        ("ids", Split::Auto, Mode::Enforce, plan("ids")),
        ("actions-5-10-3", Split::Auto, Mode::Enforce, plan("actions-5-10-3")),
        ("hosts-6-10-2", Split::Auto, Mode::Enforce, plan("hosts-6-10-2")),
        ("service-5-8-2", Split::Layer, Mode::Monitor, plan("service-5-8-2")),
        ("scan-10-12-2", Split::Auto, Mode::Monitor, active(plan("scan-10-12-2"))),
        ("oneway-9-12-1", Split::Auto, Mode::Monitor, at(Hook::TcEgress, plan("oneway-9-12-1"))),
        ("gaps-11-24-2", Split::Auto, Mode::Monitor, without_end(plan("gaps-11-24-2"))),
        ("gaps-11-24-2", Split::Layer, Mode::Enforce, at(Hook::TcIngress, plan("gaps-11-24-2"))),
    ] {
        let end = plan.flow.as_ref().unwrap().triggers.end;
        let module = compile::module(&plan, &target(split, Clock::Replay)).unwrap();
        let mut running = kernel.then(|| Running::new(&module, &plan, mode));
        if let Some(walked) = running.as_ref().and_then(|running| running.verified(SWEEP)) {
            let predicted = walk::processed(&module).into_iter().find(|(name, _)| name == SWEEP).unwrap().1;
            println!("{test}: {name} {split:?}: the verifier walks {walked}, predicted {predicted}");
            assert!(predicted.abs_diff(walked.into()) * 10 <= u64::from(walked), "{name}");
            let emitted = linked(&module, SWEEP);
            assert!(
                f64::from(walked) <= LIMIT * emitted as f64,
                "{name}: {emitted} emitted, {walked} walked"
            );
        }
        let (mut seen, mut swept) = (Seen::default(), Swept::default());
        for file in &files {
            let fits = |data: &[u8]| (SHORTEST..=LINEAR).contains(&data.len());
            let packets: Vec<_> =
                file.packets().into_iter().filter(|packet| fits(packet.data)).take(PACKETS).collect();
            let mut reference = Interpreted::new(plan.flow.as_ref().unwrap(), &plan, mode);
            let mut machine = Virtual::new(&module, &plan, mode);
            let mut others: Vec<(&str, &mut dyn Engine)> = vec![("VM", &mut machine)];
            if let Some(running) = &mut running {
                running.reset();
                others.push(("kernel", running));
            }
            let place = format!("{test}: {name} {split:?} {}", file.name);
            for stretch in packets.chunks(STRETCH) {
                let frames = stretch.iter().map(|packet| (packet.number, packet.data, packet.ts_ns));
                compare(&place, &mut reference, &mut others, frames, &mut seen);
                let now = stretch.last().unwrap().ts_ns;
                sweep(&place, &plan, now, &mut reference, &mut others, &mut swept);
            }
            // Exactly the idle time after the last packet its flow stays, a nanosecond later nothing does.
            if let Some(last) = packets.iter().map(|packet| packet.ts_ns).max() {
                for now in [last + IDLE, last + IDLE + 1] {
                    sweep(&place, &plan, now, &mut reference, &mut others, &mut swept);
                }
                assert!(reference.state().flows.is_empty(), "{place}");
            }
        }
        let Swept { asked, removed, judged } = swept;
        println!("{test}: {name} {split:?}: {asked} records asked for, {removed} removed, {judged} judged");
        if !files.is_empty() {
            assert!(asked > removed && removed >= judged && removed > 0, "{name}");
            assert_eq!(judged > 0, end, "{name}");
        }
    }
}

const FLOW_COUNT: u16 = 500;
const START: u64 = 1_700_000_000_000_000_000;

/// A loaded object that judges flows at their end and no sooner.
struct Judging {
    loaded: Loaded,
    record: Layout,
}

impl Judging {
    /// `None` where the test is skipped.
    fn new(test: &str) -> Option<Self> {
        if alone(test) {
            return None;
        }
        let plan = changed(plan("triggers-4-8-2"), |spec| {
            spec.triggers = Triggers { end: true, ..Triggers::default() }
        });
        let record = plan.flow.as_ref().unwrap().record;
        let module = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
        Some(Self { record, loaded: Kernel::load(&elf::write(&module).unwrap()).unwrap() })
    }

    fn clock(&self, now: u64) {
        self.loaded.map(CLOCK).unwrap().write_value(&now.to_le_bytes()).unwrap();
    }

    /// Gives the program's answer.
    fn run(&self, program: &str, data: &[u8]) -> u32 {
        self.loaded.run(program, RunInput { data, repeat: 1, output: false }).unwrap().ret
    }

    fn keys(&self) -> Vec<Vec<u8>> {
        self.loaded.map(FLOWS).unwrap().keys().unwrap()
    }

    fn counter(&self, counter: Counter) -> u64 {
        let at = counter.index() as usize * 8;
        let counters =
            self.loaded.map(COUNTERS).unwrap().lookup_per_cpu(&0u32.to_le_bytes()).unwrap().unwrap();
        counters.iter().map(|copy| u64::from_le_bytes(*copy[at..].first_chunk().unwrap())).sum()
    }

    /// Sweeps a record; says whether it was judged.
    fn sweep(&self, key: &[u8]) -> bool {
        self.run(SWEEP, &[&[0; 14], key].concat()) == 257
    }
}

/// A packet of one of the flows.
fn packet(port: u16, tcp_flags: u8) -> Vec<u8> {
    let mut frame = frame(false, 64);
    frame[54..56].copy_from_slice(&port.to_be_bytes());
    frame[67] = tcp_flags;
    frame
}

#[test]
fn two_processors_sweep_every_flow_once() {
    const ROUNDS: u64 = 10;
    let Some(judging) = Judging::new("two_processors_sweep_every_flow_once") else {
        return;
    };
    let mut removed = 0;
    for round in 0..ROUNDS {
        let now = START + round * 3 * IDLE;
        judging.clock(now);
        for port in 0..FLOW_COUNT {
            judging.run(ENTRY, &packet(port, ACK));
        }
        judging.clock(now + IDLE + 1);
        let keys = judging.keys();
        assert_eq!(keys.len(), usize::from(FLOW_COUNT));
        let barrier = Barrier::new(2);
        std::thread::scope(|scope| {
            let sweepers: Vec<_> = (0..2)
                .map(|cpu| {
                    let (barrier, keys, judging) = (&barrier, &keys, &judging);
                    scope.spawn(move || {
                        pin_to_cpu(cpu).unwrap();
                        barrier.wait();
                        keys.iter().filter(|key| judging.sweep(key)).count()
                    })
                })
                .collect();
            removed += sweepers.into_iter().map(|sweeper| sweeper.join().unwrap()).sum::<usize>();
        });
        assert_eq!(judging.keys(), Vec::<Vec<u8>>::new());
    }
    let wanted = ROUNDS * u64::from(FLOW_COUNT);
    assert_eq!((removed as u64, judging.counter(Counter::Verdicts)), (wanted, wanted));
}

/// A late packet and a sweep of its flow: one of them judges the old record, and there is a new one, unless the
/// packet met the sweep at the record and gave up.
#[test]
fn a_sweep_and_a_late_packet_judge_a_flow_once() {
    const ROUNDS: u64 = 4;
    let Some(judging) = Judging::new("a_sweep_and_a_late_packet_judge_a_flow_once") else {
        return;
    };
    let flows = u64::from(FLOW_COUNT);
    let by_sweep = AtomicU64::new(0);
    for round in 0..ROUNDS {
        let now = START + round * 3 * IDLE;
        judging.clock(now);
        let (mut keys, mut known) = (Vec::new(), HashSet::new());
        for port in 0..FLOW_COUNT {
            judging.run(ENTRY, &packet(port, ACK));
            let new: Vec<_> = judging.keys().into_iter().filter(|key| !known.contains(key)).collect();
            assert_eq!(new.len(), 1);
            known.extend(new.iter().cloned());
            keys.extend(new);
        }
        let before =
            [Counter::Verdicts, Counter::Created, Counter::Contended].map(|one| judging.counter(one));
        judging.clock(now + IDLE + 1);
        let meeting = Meeting::default();
        both(
            &meeting,
            || {
                for (flow, key) in (0..).zip(&keys) {
                    meeting.start(0);
                    linger(flow, 61);
                    by_sweep.fetch_add(judging.sweep(key).into(), Ordering::Relaxed);
                }
            },
            || {
                for port in 0..FLOW_COUNT {
                    meeting.start(1);
                    linger(port.into(), 67);
                    judging.run(ENTRY, &packet(port, ACK));
                }
            },
        );
        let after = [Counter::Verdicts, Counter::Created, Counter::Contended].map(|one| judging.counter(one));
        let [verdicts, created, contended] = [0, 1, 2].map(|index| after[index] - before[index]);
        assert_eq!((verdicts, created + contended), (flows, flows), "contended {contended}");
        let map = judging.loaded.map(FLOWS).unwrap();
        let records: Vec<Vec<u8>> = keys.iter().filter_map(|key| map.lookup(key).unwrap()).collect();
        assert_eq!(records.len() as u64, created);
        for record in records {
            let word = |at: u32| u64::from_le_bytes(*record[at as usize..].first_chunk().unwrap());
            let flags = u32::from_le_bytes(*record[judging.record.flags as usize..].first_chunk().unwrap());
            let last = word(judging.record.last.unwrap());
            assert_eq!((word(Layout::PACKETS), last, flags & 12), (1, now + IDLE + 1, 0));
        }
        // All of them are over, whoever made them.
        judging.clock(now + 2 * IDLE + 2);
        judging.keys().iter().for_each(|key| assert!(judging.sweep(key)));
    }
    let by_sweep = by_sweep.into_inner();
    println!(
        "{by_sweep} of {} records were judged by the sweep, {} packets gave up",
        ROUNDS * flows,
        judging.counter(Counter::Contended)
    );
    assert!((1..ROUNDS * flows).contains(&by_sweep));
}

/// A packet closes a record that a sweep has retired since it was found: its verdict is the sweep's. No two
/// processors are that exact, so the flag is set by an instruction right before the packet's own.
#[test]
fn a_packet_that_closes_a_retired_record_judges_nothing() {
    const CLOSED: i32 = 4;
    const RETIRED: i32 = 8;
    let plan =
        changed(plan("triggers-4-8-2"), |spec| spec.triggers = Triggers { end: true, ..Triggers::default() });
    let flags = plan.flow.as_ref().unwrap().record.flags;
    let at = i16::try_from(flags).unwrap();
    let plain = compile::module(&plan, &target(Split::Auto, Clock::Replay)).unwrap();
    let mut raced = plain.clone();
    let entry = raced.programs.iter_mut().find(|program| program.name == ENTRY).unwrap();
    let constant = |insn: &Insn<Reg>| {
        if let Insn::Alu { op: AluOp::Mov, dst, src: Operand::Imm(CLOSED), .. } = insn {
            Some(*dst)
        } else {
            None
        }
    };
    let places: Vec<(usize, Reg, Reg)> = entry
        .code
        .windows(2)
        .enumerate()
        .filter_map(|(index, pair)| match (constant(&pair[0]), &pair[1]) {
            (Some(bit), Insn::Atomic { op: AtomicOp::FetchOr, base, offset, src, .. })
                if (*offset, *src) == (at, bit) =>
            {
                Some((index, *base, bit))
            }
            _ => None,
        })
        .collect();
    let [(place, record, bit)] = places.as_slice() else { panic!("one place that closes: {places:?}") };
    let retire = [mov(*bit, RETIRED), atomic(Size::W, AtomicOp::Or, *record, at, *bit)];
    entry.code.splice(place..place, retire);
    let line = entry.line_of[*place];
    entry.line_of.splice(place..place, [line; 2]);

    for (module, wanted) in [(plain, 1), (raced, 0)] {
        let mut vm = Vm::new(&module).unwrap();
        for (ordinal, tcp_flags) in [ACK, RST].into_iter().enumerate() {
            vm.data_mut(CLOCK).unwrap().copy_from_slice(&START.to_le_bytes());
            vm.run(ENTRY, &mut packet(1, tcp_flags), START).unwrap();
            let at = Counter::Verdicts.index() as usize * 8;
            let mut counters = vm.map(COUNTERS).unwrap();
            let verdicts = u64::from_le_bytes(*counters.at(0).unwrap()[at..].first_chunk().unwrap());
            assert_eq!(verdicts, if ordinal == 0 { 0 } else { wanted });
        }
        let records = vm.map(FLOWS).unwrap().entries();
        assert_eq!(records[0].1[flags as usize] & 4, 4);
    }
}
