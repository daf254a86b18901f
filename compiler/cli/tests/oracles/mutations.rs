//! Damaged and unusual packets: whatever bytes arrive, interpreter, virtual machine and kernel parse, count,
//! key and judge them alike.

use nnbpf_compiler::compile;
use nnbpf_compiler::ir::flow::interpret::Mode;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;

use super::captures::{Seen, compare};
use super::common::{Random, captures, case, skip, target};
use super::engines::{Engine, Interpreted, LINEAR, Running, SHORTEST, Virtual};

const FRAMES: usize = 12_000;

fn ethernet(ether_type: u16, tags: &[u16], rest: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
    for tag in tags {
        frame.extend(tag.to_be_bytes());
        frame.extend([0, 7]);
    }
    frame.extend(ether_type.to_be_bytes());
    frame.extend(rest);
    frame
}

fn ipv4(proto: u8, options: usize, fragment: u16, l4: &[u8]) -> Vec<u8> {
    let header = 20 + 4 * options;
    let mut ip = vec![0x40 | (header / 4) as u8, 0];
    ip.extend(((header + l4.len()) as u16).to_be_bytes());
    ip.extend([0, 1]);
    ip.extend(fragment.to_be_bytes());
    ip.extend([64, proto, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
    ip.resize(header, 1);
    ip.extend(l4);
    ip
}

/// Extension headers are given as kind and content behind the first two bytes.
fn ipv6(proto: u8, extensions: &[(u8, usize)], l4: &[u8]) -> Vec<u8> {
    let kinds: Vec<u8> = extensions.iter().map(|(kind, _)| *kind).chain([proto]).collect();
    let mut rest = Vec::new();
    for (index, (kind, units)) in extensions.iter().enumerate() {
        let length = match kind {
            44 => 8,
            51 => (units + 2) * 4,
            _ => (units + 1) * 8,
        };
        let start = rest.len();
        rest.extend([kinds[index + 1], u8::try_from(*units).unwrap()]);
        rest.resize(start + length, 0);
    }
    rest.extend(l4);
    let mut ip = vec![0x60, 0, 0, 0];
    ip.extend((rest.len() as u16).to_be_bytes());
    ip.extend([kinds[0], 64]);
    ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    ip.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]);
    ip.extend(rest);
    ip
}

fn tcp(flags: u8, options: usize) -> Vec<u8> {
    let mut segment = vec![0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 1];
    segment.extend([((5 + options) << 4) as u8, flags, 4, 0, 0, 0, 0, 0]);
    segment.resize(20 + 4 * options + 33, 1);
    segment
}

fn udp() -> Vec<u8> {
    let mut datagram = vec![0x13, 0x88, 0, 53, 0, 20, 0, 0];
    datagram.resize(20, 9);
    datagram
}

/// One frame of every shape that the parser knows.
fn shapes() -> Vec<Vec<u8>> {
    let all_kinds = [(0, 0), (43, 2), (44, 0), (51, 4), (60, 1)];
    let mut frames = Vec::new();
    for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x8100, 0x8100, 0x9100]] {
        for flags in [0x02, 0x12, 0x10, 0x18, 0x11, 0x04] {
            frames.push(ethernet(0x0800, tags, &ipv4(6, 0, 0x4000, &tcp(flags, 0))));
        }
        frames.push(ethernet(0x0800, tags, &ipv4(17, 10, 0x2000, &udp())));
        frames.push(ethernet(0x0800, tags, &ipv4(6, 3, 0x2005, &tcp(0x10, 10))));
        frames.push(ethernet(0x0800, tags, &ipv4(1, 0, 0, &udp())));
        frames.push(ethernet(0x0800, tags, &ipv4(132, 2, 0x2000, &udp())));
        frames.push(ethernet(0x86dd, tags, &ipv6(58, &[(0, 0)], &udp())));
        frames.push(ethernet(0x86dd, tags, &ipv6(132, &[(44, 0)], &udp())));
        frames.push(ethernet(0x86dd, tags, &ipv6(17, &[], &udp())));
        frames.push(ethernet(0x86dd, tags, &ipv6(6, &all_kinds, &tcp(0x18, 3))));
        for kind in [0, 43, 44, 51, 60] {
            for count in [1, 2, 7, 8, 9] {
                frames.push(ethernet(0x86dd, tags, &ipv6(6, &vec![(kind, 1); count], &tcp(0x18, 0))));
            }
        }
        frames.push(ethernet(0x86dd, tags, &ipv6(59, &[(0, 255)], &[])));
        frames.push(ethernet(0x0806, tags, &[0; 28]));
    }
    frames
}

fn mutate(random: &mut Random, mut frame: Vec<u8>) -> Vec<u8> {
    for _ in 0..random.below(4) {
        // Mostly in the headers.
        let limit = if random.below(4) == 0 { frame.len() } else { frame.len().min(90) };
        let place = random.below(limit.max(1));
        let interesting = [0, 1, 4, 5, 6, 17, 43, 44, 51, 59, 60, 0x40, 0x45, 0x4f, 0x60, 0x81, 0xff];
        frame[place] = match random.below(3) {
            0 => frame[place] ^ (1 << random.below(8)),
            1 => interesting[random.below(interesting.len())],
            _ => random.next() as u8,
        };
    }
    match random.below(6) {
        0 => {
            let length = random.below(frame.len() + 1).max(SHORTEST);
            frame.truncate(length);
        }
        1 => frame.resize((frame.len() + random.below(200)).min(LINEAR), 0),
        _ => {}
    }
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// Frames with times that mostly advance.
pub(crate) fn frames(test: &str) -> Vec<(Vec<u8>, u64)> {
    let mut random = Random(2_026);
    let mut sources = shapes();
    for file in captures(test).iter() {
        let packets = file.packets();
        let step = (packets.len() / 20).max(1);
        sources.extend(
            packets
                .iter()
                .step_by(step)
                .map(|p| p.data.to_vec())
                .filter(|f| !f.is_empty() && f.len() <= LINEAR),
        );
    }
    let mut now = 1_000_000_000u64;
    let unchanged = sources.clone().into_iter().map(|mut frame| {
        frame.resize(frame.len().max(SHORTEST), 0);
        frame
    });
    let mut all: Vec<Vec<u8>> = unchanged.collect();
    while all.len() < FRAMES {
        let source = sources[random.below(sources.len())].clone();
        all.push(mutate(&mut random, source));
    }
    all.into_iter()
        .map(|frame| {
            now = match random.below(50) {
                0 => now.saturating_sub(random.next() % 1_000_000_000),
                1 => now + random.next() % 10_000_000_000,
                _ => now + random.next() % 2_000_000,
            };
            (frame, now)
        })
        .collect()
}

#[test]
fn damaged_packets_are_treated_alike() {
    let test = "damaged_packets_are_treated_alike";
    let kernel = !skip(test);
    let frames = frames(test);
    for (name, mode, fragments) in [
        ("oneway-9-12-1", Mode::Monitor, false),
        ("gaps-11-24-2", Mode::Enforce, false),
        ("cic6-6-16-2", Mode::Monitor, true),
        ("packet-12-12-2", Mode::Enforce, false),
        ("bytes-44-16-2", Mode::Enforce, false),
        ("bytes-44-16-2", Mode::Monitor, true),
        ("payload-14-12-2", Mode::Monitor, false),
        ("payload-14-12-2", Mode::Enforce, true),
    ] {
        let plan = &case(name).plan;
        let mut target = target(Split::Auto, Clock::Replay);
        target.fragments = fragments;
        let module = compile::module(plan, &target).unwrap();
        let mut reference = Interpreted::new(plan.flow.as_ref().unwrap(), plan, mode);
        let mut machine = Virtual::new(&module, plan, mode);
        let mut running = kernel.then(|| Running::new(&module, plan, mode));
        let mut others: Vec<(&str, &mut dyn Engine)> = vec![("VM", &mut machine)];
        if let Some(running) = &mut running {
            others.push(("kernel", running));
        }
        let numbered = (0u64..).zip(&frames).map(|(number, (frame, now))| (number, frame.as_slice(), *now));
        let mut seen = Seen::default();
        compare(name, &mut reference, &mut others, numbered, &mut seen);
        let counters = reference.state().counters;
        println!("{test}: {name}: {} frames, {} flows; {counters:?}", seen.packets, seen.flows);
        for reason in [
            "parsed",
            "truncated",
            "not_ip",
            "bad_ip",
            "later_fragment",
            "other_transport",
            "bad_transport",
            "too_many_tags",
            "too_many_extensions",
        ] {
            assert!(counters[reason] > 0, "{reason} never happened");
        }
    }
}

/// Shorter than any frame that an interface delivers: only the virtual machine takes them.
#[test]
fn stubs_are_counted_as_truncated() {
    let plan = &case("cic6-6-16-2").plan;
    let module = compile::module(plan, &target(Split::Auto, Clock::Replay)).unwrap();
    let mut reference = Interpreted::new(plan.flow.as_ref().unwrap(), plan, Mode::Monitor);
    let mut machine = Virtual::new(&module, plan, Mode::Monitor);
    let stubs: Vec<Vec<u8>> = (0..SHORTEST).map(|length| vec![8; length]).collect();
    let frames = (0u64..).zip(&stubs).map(|(number, frame)| (number, frame.as_slice(), 1));
    compare("stubs", &mut reference, &mut [("VM", &mut machine)], frames, &mut Seen::default());
    assert_eq!(reference.state().counters["truncated"], SHORTEST as u64);
}
