//! The hooks of tc: one specification on each, unsplit and split, on captures and on damaged packets, with
//! packets that lie in their socket buffers in every way that the virtual machine can imitate.

use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec::typed::{Action, Hook};
use nnbpf_compiler::vm::{Skb, Tag};
use nnbpf_runtime_loader::test_run::is_stub;

use super::captures::{Seen, compare};
use super::common::{Random, SPLITS, captures, case, skip, target};
use super::engines::{Engine, Interpreted, LONGEST_TC, Running, Virtual};
use super::{mutations, verifier};

/// Whose specification is attached to which hook.
const CASES: [(&str, Hook); 5] = [
    ("gaps-11-24-2", Hook::TcIngress),
    ("oneway-9-12-1", Hook::TcEgress),
    ("packet-12-12-2", Hook::TcEgress),
    ("bytes-44-16-2", Hook::TcIngress),
    ("payload-14-12-2", Hook::TcEgress),
];

fn plan(name: &str, hook: Hook) -> Plan {
    let mut plan = case(name).plan.clone();
    plan.spec.as_mut().unwrap().hook = hook;
    plan
}

/// A packet with a linear part of any length, its outermost VLAN tag beside it as often as not.
fn scatter(frame: &[u8], now: u64) -> (Vec<u8>, Skb) {
    let mut random = Random(now ^ frame.len() as u64);
    let mut packet = frame.to_vec();
    let mut tag = None;
    // The kernel takes off these two; a tag of which not all is there stays.
    if let Some([0x81, 0x00] | [0x88, 0xa8]) = frame.get(12..14)
        && frame.len() >= 18
        && random.below(2) == 0
    {
        let taken: Vec<u8> = packet.drain(12..16).collect();
        let word = |at: usize| u16::from_be_bytes([taken[at], taken[at + 1]]);
        tag = Some(Tag { protocol: word(0), control: word(2) });
    }
    let linear = match random.below(3) {
        // Within the headers, anywhere, all.
        0 => random.below(80),
        1 => random.below(packet.len() + 1),
        _ => packet.len(),
    };
    (packet, Skb { linear: u32::try_from(linear).unwrap(), tag, ..Skb::default() })
}

/// Numbered frames with their times, and whether the kernel takes them.
type Frames<'f> = (Vec<(u64, &'f [u8], u64)>, bool);

/// Frames through the interpreter, the virtual machine, the same with scattered packets, and, where `kernel`
/// says so, the kernel.
fn agree(
    place: &str,
    plan: &Plan,
    mode: Mode,
    split: nnbpf_compiler::lower::network::Split,
    captures: &[Frames<'_>],
) -> (Seen, std::collections::BTreeMap<&'static str, u64>) {
    let module = compile::module(plan, &target(split, Clock::Replay)).unwrap();
    assert!(module.programs.iter().all(|program| program.section == "classifier"));
    let mut running: Option<Running> = None;
    let mut seen = Seen::default();
    let mut counters = std::collections::BTreeMap::new();
    for (frames, kernel) in captures {
        let mut reference = Interpreted::new(plan.flow.as_ref().unwrap(), plan, mode);
        let mut machine = Virtual::new(&module, plan, mode);
        let mut scattered = Virtual::new(&module, plan, mode).scattered(scatter);
        let mut others: Vec<(&str, &mut dyn Engine)> =
            vec![("VM", &mut machine), ("VM, scattered", &mut scattered)];
        if *kernel {
            let running = running.get_or_insert_with(|| Running::new(&module, plan, mode));
            running.reset();
            others.push(("kernel", running));
        }
        compare(place, &mut reference, &mut others, frames.iter().copied(), &mut seen);
        for (name, count) in reference.state().counters {
            *counters.entry(name).or_default() += count;
        }
    }
    (seen, counters)
}

#[test]
fn captures_agree_at_tc() {
    let test = "captures_agree_at_tc";
    let kernel = !skip(test);
    let files = captures(test);
    for (name, hook) in CASES {
        let plan = plan(name, hook);
        let read: Vec<_> = files.iter().map(super::common::File::packets).collect();
        let frames: Vec<Frames<'_>> = read
            .iter()
            .map(|packets| {
                let frames: Vec<_> = packets
                    .iter()
                    .filter(|packet| !is_stub(hook, packet.data))
                    .map(|packet| (packet.number, packet.data, packet.ts_ns))
                    .collect();
                let short = frames.iter().all(|(_, frame, _)| frame.len() <= LONGEST_TC);
                (frames, kernel && short)
            })
            .collect();
        let in_kernel = frames.iter().filter(|(_, kernel)| *kernel).count();
        for split in SPLITS {
            let place = format!("{test}: {name} {split:?}");
            let (seen, _) = agree(&place, &plan, Mode::Enforce, split, &frames);
            println!(
                "{place}: {} packets of {} captures ({in_kernel} in the kernel), {} flows, {} verdicts, {} drops, {} \
                 events agree",
                seen.packets,
                frames.len(),
                seen.flows,
                seen.verdicts,
                seen.drops,
                seen.events
            );
            assert!(seen.verdicts > 0, "{place}: nothing was judged");
        }
    }
}

/// Marks of several rules on one packet, sampled reports and a rule that lets pass, in both modes.
#[test]
fn marks_agree_at_tc() {
    let test = "marks_agree_at_tc";
    let kernel = !skip(test);
    let files = captures(test);
    let mut plan = plan("actions-5-10-3", Hook::TcIngress);
    let rules = &mut plan.flow.as_mut().unwrap().rules;
    for (number, rule) in (1..).zip(rules.iter_mut()) {
        rule.actions.push(Action::Mark(number * 0x1000_0001));
    }
    rules.last_mut().unwrap().actions.push(Action::Mark(u32::MAX));
    let read: Vec<_> = files.iter().map(super::common::File::packets).collect();
    let fits = |data: &[u8]| data.len() <= LONGEST_TC && !is_stub(Hook::TcIngress, data);
    let frames: Vec<Frames<'_>> = read
        .iter()
        .map(|packets| {
            let packets = packets.iter().filter(|packet| fits(packet.data));
            (packets.map(|packet| (packet.number, packet.data, packet.ts_ns)).collect(), kernel)
        })
        .collect();
    for (mode, split) in [(Mode::Monitor, SPLITS[0]), (Mode::Enforce, SPLITS[0]), (Mode::Enforce, SPLITS[1])]
    {
        let place = format!("{test}: {mode:?} {split:?}");
        let (seen, _) = agree(&place, &plan, mode, split, &frames);
        println!("{place}: {} packets, {} verdicts, marks {:?}", seen.packets, seen.verdicts, seen.marks);
        assert_eq!(seen.marks.len() > 2, mode == Mode::Enforce, "{place}: {:?}", seen.marks);
    }
}

#[test]
fn damaged_packets_are_treated_alike_at_tc() {
    let test = "damaged_packets_are_treated_alike_at_tc";
    let kernel = !skip(test);
    let damaged = mutations::frames(test);
    for (name, hook) in CASES {
        let plan = plan(name, hook);
        let numbered =
            || (0_u64..).zip(&damaged).map(|(number, (frame, now))| (number, frame.as_slice(), *now));
        let whole: Vec<_> = numbered().filter(|(_, frame, _)| !is_stub(hook, frame)).collect();
        // What test runs do not take meets the virtual machine only.
        let all = numbered().collect();
        let runs = [(all, false), (whole, kernel)];
        let (seen, counters) = agree(&format!("{test}: {name}"), &plan, Mode::Monitor, SPLITS[0], &runs);
        println!("{test}: {name}: {} frames, {} flows; {counters:?}", seen.packets, seen.flows);
        for reason in
            ["parsed", "truncated", "not_ip", "too_many_tags", "too_many_extensions", "bad_transport"]
        {
            assert!(counters[reason] > 0, "{reason} never happened");
        }
    }
}

/// The parser's second start costs the verifier a second walk through the parser, and nothing after it.
#[test]
fn the_second_start_is_walked_once_more() {
    if skip("the_second_start_is_walked_once_more") {
        return;
    }
    for (name, hook) in CASES {
        for split in SPLITS {
            let plan = plan(name, hook);
            let module = compile::module(&plan, &target(split, Clock::Kernel)).unwrap();
            let Some((emitted, walked)) = verifier::whole_counts(&module) else { return };
            let share = walked as f64 / emitted as f64;
            println!("{name} at {}, {split:?}: {emitted} emitted, {walked} walked ({share:.2})", hook.name());
            assert!(share <= 1.8, "{name} {split:?}: {emitted} emitted, {walked} walked");
        }
    }
}
