//! Every packet of the committed capture and of the shared ones: verdicts, flow records, counters, block list
//! and events of the three engines, in both modes, and split where verdicts act.

use nnbpf_compiler::capture::Packet;
use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::guard::{EventFilter, Fuse, acts};
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;

use super::common::{SPLITS, captures, case, cases_with_spec, skip, target};
use super::engines::{Engine, Interpreted, LINEAR, Running, SHORTEST, Virtual};

/// Packets between two comparisons of everything; fewer events than the ring holds.
const STRETCH: usize = 1_000;

/// What a comparison has seen, for the report.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) packets: usize,
    pub(crate) verdicts: usize,
    pub(crate) drops: usize,
    pub(crate) flows: usize,
    pub(crate) events: usize,
    pub(crate) suppressed: u64,
    pub(crate) blown: bool,
    pub(crate) labels: std::collections::BTreeSet<u32>,
    pub(crate) marks: std::collections::BTreeSet<u32>,
}

/// Runs frames through the interpreter and the others; every answer and the state in between must be equal.
pub(crate) fn compare<'f>(
    place: &str,
    reference: &mut dyn Engine,
    others: &mut [(&str, &mut dyn Engine)],
    frames: impl Iterator<Item = (u64, &'f [u8], u64)>,
    seen: &mut Seen,
) {
    let mut answers = Vec::new();
    let mut flows = 0;
    let mut pending: Vec<(u64, &[u8], u64)> = Vec::new();
    let mut frames = frames.peekable();
    while frames.peek().is_some() {
        pending.clear();
        pending.extend(frames.by_ref().take(STRETCH));
        answers.clear();
        for (_, frame, now) in &pending {
            let answer = reference.packet(frame, *now);
            seen.packets += 1;
            seen.drops += usize::from(answer.dropped);
            seen.marks.insert(answer.mark);
            for judged in answer.retired.iter().chain(&answer.own) {
                seen.verdicts += 1;
                seen.labels.insert(judged.label);
            }
            answers.push(answer);
        }
        for (name, engine) in others.iter_mut() {
            for ((number, frame, now), wanted) in pending.iter().zip(&answers) {
                let got = engine.packet(frame, *now);
                assert_eq!(&got, wanted, "{place}: {name}: packet {number}");
            }
        }
        let wanted = reference.state();
        for (name, engine) in others.iter_mut() {
            let got = engine.state();
            for (key, record) in &wanted.flows {
                assert_eq!(got.flows.get(key), Some(record), "{place}: {name}: the record of {key:?}");
            }
            assert_eq!(got, wanted, "{place}: {name}: the state");
        }
        seen.events += wanted.events.len();
        seen.blown |= wanted.fuse[0] != 0;
        seen.suppressed = wanted.counters[Counter::EventsSuppressed.name()];
        flows = wanted.flows.len();
    }
    seen.flows += flows;
}

/// One form of one plan, loaded once and reset before each capture.
pub(crate) struct Engines<'p> {
    plan: &'p Plan,
    module: nnbpf_compiler::bpf::module::Module,
    running: Option<Running>,
    mode: Mode,
    guard: Option<(EventFilter, Fuse)>,
}

impl<'p> Engines<'p> {
    pub(crate) fn new(plan: &'p Plan, split: Split, mode: Mode, fragments: bool, kernel: bool) -> Self {
        let mut target = target(split, Clock::Replay);
        target.fragments = fragments;
        let module = compile::module(plan, &target).unwrap();
        let running = kernel.then(|| Running::new(&module, plan, mode));
        Self { plan, module, running, mode, guard: None }
    }

    /// Frames of packets go through all engines, from an empty state on.
    pub(crate) fn compare(&mut self, place: &str, packets: &[Packet<'_>], seen: &mut Seen) {
        let flow = self.plan.flow.as_ref().unwrap();
        let mut reference = Interpreted::new(flow, self.plan, self.mode);
        let mut machine = Virtual::new(&self.module, self.plan, self.mode);
        let mut others: Vec<(&str, &mut dyn Engine)> = vec![("VM", &mut machine)];
        if let Some(running) = &mut self.running {
            running.reset();
            others.push(("kernel", running));
        }
        if let Some((filter, fuse)) = &self.guard {
            reference.guard(filter, fuse);
            others.iter_mut().for_each(|(_, engine)| engine.guard(filter, fuse));
        }
        let frames = packets.iter().map(|packet| (packet.number, packet.data, packet.ts_ns));
        compare(place, &mut reference, &mut others, frames, seen);
    }
}

fn all(test: &str, mode: Mode, splits: &[Split]) {
    let kernel = !skip(test);
    let files = captures(test);
    for case in cases_with_spec() {
        for &split in splits {
            let mut whole = Engines::new(&case.plan, split, mode, false, kernel);
            let mut in_parts: Option<Engines<'_>> = None;
            let (mut seen, mut large) = (Seen::default(), 0);
            for file in &files {
                // No interface delivers less than an Ethernet header, and no test run takes it.
                let packets: Vec<_> =
                    file.packets().into_iter().filter(|packet| packet.data.len() >= SHORTEST).collect();
                let engines = if packets.iter().any(|packet| packet.data.len() > LINEAR) {
                    large += 1;
                    in_parts.get_or_insert_with(|| Engines::new(&case.plan, split, mode, true, kernel))
                } else {
                    &mut whole
                };
                engines.compare(
                    &format!("{test}: {} {split:?} {}", case.name, file.name),
                    &packets,
                    &mut seen,
                );
            }
            println!(
                "{test}: {} {split:?}: {} packets of {} captures ({large} with frames of several buffers), {} \
                 flows, {} verdicts, {} drops, {} events agree",
                case.name,
                seen.packets,
                files.len(),
                seen.flows,
                seen.verdicts,
                seen.drops,
                seen.events
            );
            if !files.is_empty() {
                assert!(seen.verdicts > 0, "{}: nothing was judged", case.name);
            }
        }
    }
}

#[test]
fn captures_agree_in_monitor_mode() {
    all("captures_agree_in_monitor_mode", Mode::Monitor, &[Split::Auto]);
}

#[test]
fn captures_agree_in_enforce_mode() {
    all("captures_agree_in_enforce_mode", Mode::Enforce, &SPLITS);
}

/// Every setting of the filter alone, then together with fuses that blow early, late and not at all.
#[test]
fn captures_agree_behind_filter_and_fuse() {
    let test = "captures_agree_behind_filter_and_fuse";
    let kernel = !skip(test);
    let all = EventFilter::default();
    let off = Fuse::default();
    let fuse = |limit, window| Fuse { limit, window, ..off };
    let settings = [
        (EventFilter { labels: 1, ..all }, off),
        (EventFilter { labels: 1 << 1, sample: 3, ..all }, off),
        (EventFilter { acts: acts::DROP.cast_unsigned(), ..all }, fuse(1_000, 50)),
        (EventFilter { interval_ns: 100_000_000, burst_ns: 400_000_000, ..all }, fuse(300_000, 500)),
        (EventFilter { sample: 2, interval_ns: 1_000_000, burst_ns: 0, ..all }, fuse(999_999, 100)),
    ];
    let case = case("ids");
    let files = captures(test);
    let mut engines = Engines::new(&case.plan, Split::Auto, Mode::Enforce, false, kernel);
    let mut blown = Vec::new();
    for (number, guard) in settings.into_iter().enumerate() {
        let (mut seen, mut suppressed) = (Seen::default(), 0);
        engines.guard = Some(guard);
        for file in &files {
            let fits = |packet: &Packet<'_>| (SHORTEST..=LINEAR).contains(&packet.data.len());
            let packets: Vec<_> = file.packets().into_iter().filter(fits).collect();
            engines.compare(&format!("{test} {number}: {}", file.name), &packets, &mut seen);
            suppressed += seen.suppressed;
        }
        println!(
            "{test} {number}: {} packets, {} drops, {} events, {suppressed} suppressed, fuse {}",
            seen.packets,
            seen.drops,
            seen.events,
            if seen.blown { "blown" } else { "whole" }
        );
        if !files.is_empty() {
            assert!(suppressed > 0, "{number}: the filter does something");
            // The first setting lets label 0 through, which nothing reports.
            assert_eq!(seen.events > 0, number > 0, "{number}");
        }
        blown.push(seen.blown);
    }
    if !files.is_empty() {
        assert!(blown.contains(&true) && blown.contains(&false), "{blown:?}");
    }
}
