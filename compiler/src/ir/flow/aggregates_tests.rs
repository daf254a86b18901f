//! What single aggregates are worth over a few packets, with values computed by hand.

use super::interpret::{FlowInterpreter, NoJudge};
use super::testing::{compiled, frame};
use super::{FlowProgram, Trigger, build};
use crate::ir::packet::{TCP, UDP, tcp_flags};
use crate::spec::typed::Nanos;

const MS: u64 = 1_000_000;

/// Features of the only flow when its packets have passed.
fn values(program: &FlowProgram, packets: &[(u64, Vec<u8>)]) -> Vec<i64> {
    let mut interpreter = FlowInterpreter::new(program);
    for (now, packet) in packets {
        interpreter.packet(packet, *now, &mut NoJudge);
    }
    let mut verdicts = interpreter.finish(&mut NoJudge);
    assert_eq!(verdicts.len(), 1);
    verdicts.remove(0).features
}

/// UDP from host 1 to host 2 and back, with so many payload bytes.
fn there(payload: u16) -> Vec<u8> {
    frame(UDP, (1, 4000), (2, 53), 0, payload)
}

fn back(payload: u16) -> Vec<u8> {
    frame(UDP, (2, 53), (1, 4000), 0, payload)
}

fn program(features: &str) -> FlowProgram {
    build(&compiled(features)).unwrap()
}

#[test]
fn variances_are_squares_of_deviations() {
    let program = program(
        "sample = var(l4.payload_len) where fwd; population = var_pop(l4.payload_len) where fwd; \
         root = std(l4.payload_len) where fwd; gaps = var(gap) as ms; none = var(l4.len) where bwd;",
    );
    // 100, 300, 200: squared distances from 200 add up to 20,000. Gaps of 1 and 3 ms: 2 by 2 - 1.
    let packets = [(0, there(100)), (MS, there(300)), (4 * MS, there(200))];
    assert_eq!(values(&program, &packets), [10_000 * 256, 20_000 * 256 / 3, 100 * 256, 2 * 256, 0]);
    assert_eq!(values(&program, &packets[..1]), [0; 5]);
    // Sums are kept once for all three of the same packets.
    let kept: Vec<&str> = program.slots.iter().map(|slot| slot.name.as_str()).collect();
    assert_eq!(kept[2..5], ["sample_sum", "sample_squares", "sample_count"], "{kept:?}");
    assert_eq!(
        kept.iter().filter(|name| name.starts_with("root") || name.starts_with("population")).count(),
        0
    );
}

#[test]
fn weighted_means_start_at_the_first_value_and_move_a_part_of_the_way() {
    let program = program(
        "lengths = ewma(l4.payload_len, 1/4); gaps = ewma(gap, 1/2) as us; back = ewma(l4.payload_len, 1/256) where bwd;",
    );
    let packets = [(0, there(100)), (MS, there(300)), (4 * MS, there(200))];
    // 100, 150, 162.5; 1000, 2000 us; no backward packet.
    assert_eq!(values(&program, &packets), [162 * 256 + 128, 2000 * 256, 0]);
    assert_eq!(values(&program, &packets[..1]), [100 * 256, 0, 0]);
    // Towards a smaller value: 7 - 7/256 = 6.97265625.
    let packets = [(0, there(1)), (1, back(7)), (2, back(0))];
    assert_eq!(values(&program, &packets)[2], 7 * 256 - 7);
}

#[test]
fn rates_are_per_second_of_the_whole_flow() {
    let program =
        program("packets = rate(); bytes = rate(l4.payload_len); back = rate(l4.payload_len) where bwd;");
    // Three packets, 600 bytes, 150 of them back, within 4 ms.
    let packets = [(5 * MS, there(250)), (6 * MS, back(150)), (9 * MS, there(200))];
    assert_eq!(values(&program, &packets), [750 * 256, 150_000 * 256, 37_500 * 256]);
    // No time has passed, or it went backwards.
    assert_eq!(values(&program, &packets[..1]), [0; 3]);
    assert_eq!(values(&program, &[(2, there(9)), (1, there(9))]), [0; 3]);
    // 3 per 7 ns, rounded down: 256 * 3e9 / 7.
    let packets = [(0, there(0)), (1, there(0)), (7, there(0))];
    assert_eq!(values(&program, &packets)[0], 109_714_285_714);
}

#[test]
fn different_values_are_counted_once_each() {
    let program = program(
        "lengths = distinct(l4.payload_len, 64); hosts = distinct(ip.src, 64); back = distinct(l4.payload_len); \
         gaps = distinct(gap) as ms where fwd;",
    );
    // Lengths 100, 300 and 200 have the bits 2, 29 and 20 of 64: 256 * 64 * ln(64/61) = 786.6.
    let packets = [(0, there(100)), (MS, there(300)), (2 * MS, there(200)), (3 * MS, there(100))];
    // One host; four packets 1 ms apart have one gap: 256 * 256 * ln(256/255) = 256.5.
    assert_eq!(values(&program, &packets)[..2], [786, 258]);
    assert_eq!(values(&program, &packets)[3], 256);
    let word = program.slots.iter().position(|slot| slot.name == "lengths").unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    for (now, packet) in &packets {
        interpreter.packet(packet, *now, &mut NoJudge);
    }
    let (_, record) = interpreter.table().by_creation()[0];
    assert_eq!(record.slots[word].0, 1 << 2 | 1 << 29 | 1 << 20);
    // The other side is a second host: 256 * 64 * ln(64/62) = 520.2.
    let packets = [(0, there(1)), (1, back(1)), (2, there(1))];
    assert_eq!(values(&program, &packets)[..2], [258, 520]);
}

#[test]
fn durations_are_of_the_packets_that_pass() {
    let program = program(
        "whole = duration() as us; fwd = duration() as us where fwd; back = duration() where bwd; \
         never = duration() where tcp.syn; gap = sum(gap) as us where fwd;",
    );
    let packets =
        [(3, there(0)), (2 * MS, back(0)), (5 * MS, there(0)), (6 * MS, back(0)), (9 * MS, back(0))];
    assert_eq!(values(&program, &packets), [8_999, 4_999, 7_000_000, 0, 4_999]);
    assert_eq!(values(&program, &packets[..1]), [0; 5]);
    // The clock of a filter is kept once.
    let clocks = program.slots.iter().filter(|slot| slot.name.ends_with("fwd_last_ns")).count();
    assert_eq!(clocks, 1);
    // Time that goes backwards.
    assert_eq!(values(&program, &[(9, back(0)), (5, back(0))])[2], 0);
}

#[test]
fn ticks_are_counted_on_the_clock() {
    let program = program(
        "ticks = max(gap) as ms_ticks; passed = max(gap) as ms; clock = duration() as ms_ticks; \
         whole = duration() as ms; fwd = duration() as us_ticks where fwd; mean = mean(gap) as ms_ticks;",
    );
    // 0.9 ms and 1.1 ms lie on both sides of a tick; so do 1.1 and 2.0.
    let packets = [(900_000, there(0)), (1_100_000, there(0)), (2_000_000, there(0))];
    assert_eq!(values(&program, &packets), [1, 0, 2, 1, 1_100, 256]);
    assert_eq!(values(&program, &packets[..1]), [0; 6]);
    assert_eq!(values(&program, &[(5 * MS, there(0)), (4 * MS, there(0))]), [0; 6]);
}

#[test]
fn the_active_time_ends_flows_that_are_never_idle() {
    let mut spec = compiled("packets = count();");
    spec.flow.active = Some(Nanos(10 * MS));
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut counts = Vec::new();
    // Exactly the active time is not later than it; the next flow begins with the packet that ended this one.
    for now in [0, 5, 10, 11, 15, 21, 22] {
        let result = interpreter.packet(&there(0), now * MS, &mut NoJudge);
        counts.extend(result.verdicts().map(|verdict| (now, verdict.trigger, verdict.packets)));
    }
    assert_eq!(counts, [(11, Trigger::Idle, 3), (22, Trigger::Idle, 3)]);
}

#[test]
fn plain_fields_have_rates_too() {
    let syn = |now, flags| (now, frame(TCP, (1, 1000), (2, 80), flags, 0));
    let program = program("syn = rate() where tcp.syn; ttl = rate(ip.ttl);");
    let packets = [syn(0, tcp_flags::SYN), syn(1_000 * MS, tcp_flags::ACK), syn(2_000 * MS, tcp_flags::ACK)];
    // One in two seconds; three times 64.
    assert_eq!(values(&program, &packets), [128, 96 * 256]);
}
