//! The steps of the packet path one by one, on hand-made packets.

use super::interpret::{Acts, Fate, FlowInterpreter, Judgement, Mode, NoJudge, PacketResult};
use super::lists::{HostLists, Prefix};
use super::record::{self, Oriented, flag};
use super::testing::frame;
use super::{Counter, FlowProgram, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS, SlotId, Trigger, Width, build, testing};
use crate::ir::packet::tcp_flags::{ACK, FIN, RST, SYN};
use crate::ir::packet::{Host, Reason, TCP, UDP, parse};
use crate::spec::typed::{
    Action, Direction, Directions, End, FeatureSpec, Field, Filter, Function, Nanos, Operand, Rule, TimeUnit,
};

pub(super) const CLIENT: u8 = 1;
pub(super) const SERVER: u8 = 2;
pub(super) const SECOND: u64 = 1_000_000_000;

pub(super) fn host(last: u8) -> Host {
    Host::from_ipv4([10, 0, 0, last])
}

/// Client to server on TCP port 80.
pub(super) fn to_server(flags: u8, payload: u16) -> Vec<u8> {
    frame(TCP, (CLIENT, 1000), (SERVER, 80), flags, payload)
}

pub(super) fn to_client(flags: u8, payload: u16) -> Vec<u8> {
    frame(TCP, (SERVER, 80), (CLIENT, 1000), flags, payload)
}

fn forward() -> Filter {
    Filter { direction: Some(Direction::Forward), ..Filter::default() }
}

/// Packets, forward packets, payload bytes, greatest gap in microseconds.
pub(super) fn spec() -> FeatureSpec {
    let mut spec = testing::spec(vec![
        testing::feature("packets", Function::Count, None, Filter::default()),
        testing::feature("fwd", Function::Count, None, forward()),
        testing::feature(
            "bytes",
            Function::Sum,
            Some(Operand::Field(Field::L4PayloadLen)),
            Filter::default(),
        ),
        testing::feature("gap", Function::Max, Some(Operand::Gap(TimeUnit::Micros)), Filter::default()),
    ]);
    spec.flow.idle = Some(Nanos(10 * SECOND));
    spec.flow.end = End::On { fin: true, rst: true };
    spec
}

/// Trigger and features of each verdict of a packet.
fn verdicts(result: &PacketResult) -> Vec<(Trigger, Vec<i64>)> {
    result.verdicts().map(|verdict| (verdict.trigger, verdict.features.clone())).collect()
}

/// Runs packets and returns their verdicts.
fn run(program: &FlowProgram, packets: &[(u64, Vec<u8>)]) -> Vec<Vec<(Trigger, Vec<i64>)>> {
    let mut interpreter = FlowInterpreter::new(program);
    packets.iter().map(|(now, frame)| verdicts(&interpreter.packet(frame, *now, &mut NoJudge))).collect()
}

#[test]
fn a_flow_ends_when_both_sides_have_sent_fin_and_is_judged_once() {
    let program = build(&spec()).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |now, frame: Vec<u8>| verdicts(&interpreter.packet(&frame, now, &mut NoJudge));
    assert_eq!(send(0, to_server(SYN, 0)), []);
    assert_eq!(send(1_000, to_client(SYN | ACK, 0)), []);
    assert_eq!(send(2_000, to_server(FIN | ACK, 5)), []);
    // The same side again does not end it.
    assert_eq!(send(3_000, to_server(FIN | ACK, 0)), []);
    assert_eq!(send(9_999, to_client(FIN | ACK, 7)), [(Trigger::End, vec![5, 3, 12, 6])]);
    assert_eq!(send(10_000, to_server(ACK, 0)), []);
    assert_eq!(send(11_000, to_client(RST, 0)), []);
    assert_eq!(send(11_000, to_client(SYN | ACK, 0)), []);
    assert_eq!(interpreter.counter(Counter::Stray), 3);
    assert_eq!(interpreter.finish(&mut NoJudge), []);
}

#[test]
fn only_a_syn_without_ack_or_the_idle_time_restarts_a_closed_flow() {
    let program = build(&spec()).unwrap();
    let ends = |packets: i64| vec![(Trigger::End, vec![packets, packets, 0, 0])];
    let results = run(
        &program,
        &[
            (0, to_server(RST, 0)),
            (1, to_server(ACK, 0)),
            (2, to_server(SYN, 0)),
            (3, to_server(RST, 0)),
            // Stray packets do not keep the record alive, and a closed record is not judged again.
            (9 * SECOND, to_server(ACK, 0)),
            (10 * SECOND + 4, to_server(RST | ACK, 0)),
        ],
    );
    assert_eq!(results, [ends(1), vec![], vec![], ends(2), vec![], ends(1)]);
}

#[test]
fn the_first_packet_after_the_idle_time_judges_the_old_record() {
    let mut spec = spec();
    spec.triggers.every = Some(1);
    let program = build(&spec).unwrap();
    let every = |features: [i64; 4]| (Trigger::Every, features.to_vec());
    let results = run(
        &program,
        &[
            (SECOND, to_server(ACK, 3)),
            // Exactly the idle time is not later than it.
            (11 * SECOND, to_client(ACK, 4)),
            (21 * SECOND + 1, to_client(ACK, 5)),
        ],
    );
    assert_eq!(
        results,
        [
            vec![every([1, 1, 3, 0])],
            vec![every([2, 1, 7, 10_000_000])],
            // Two verdicts: the old record's, then its own, whose forward side is the server.
            vec![(Trigger::Idle, vec![2, 1, 7, 10_000_000]), every([1, 1, 5, 0])],
        ]
    );
}

#[test]
fn idle_without_the_end_trigger_replaces_silently() {
    let mut spec = spec();
    spec.triggers.end = false;
    spec.triggers.every = Some(2);
    let program = build(&spec).unwrap();
    let results = run(
        &program,
        &[(0, to_server(ACK, 0)), (20 * SECOND, to_server(ACK, 0)), (21 * SECOND, to_server(RST, 0))],
    );
    assert_eq!(results, [vec![], vec![], vec![(Trigger::Every, vec![2, 2, 0, 1_000_000])]]);
}

#[test]
fn end_outranks_every() {
    let mut spec = spec();
    spec.triggers.every = Some(2);
    let program = build(&spec).unwrap();
    let results = run(&program, &[(0, to_server(SYN, 0)), (5_000, to_client(RST | ACK, 0))]);
    assert_eq!(results, [vec![], vec![(Trigger::End, vec![2, 1, 0, 5])]]);
}

#[test]
fn one_direction_has_a_record_per_sender_and_ends_at_one_fin() {
    let mut spec = spec();
    spec.flow.directions = Directions::One;
    let program = build(&spec).unwrap();
    assert_eq!(program.record.backward_lists, None);
    let results = run(
        &program,
        &[
            (0, to_server(ACK, 0)),
            (1, to_client(ACK, 0)),
            (2_000, to_client(FIN | ACK, 9)),
            (3_000, to_server(FIN | ACK, 0)),
        ],
    );
    let end = |bytes, gap| vec![(Trigger::End, vec![2, 2, bytes, gap])];
    assert_eq!(results, [vec![], vec![], end(9, 1), end(0, 3)]);
}

#[test]
fn end_never_and_udp_ignore_tcp_endings() {
    let mut spec = spec();
    spec.flow.end = End::Never;
    let program = build(&spec).unwrap();
    assert_eq!(run(&program, &[(0, to_server(RST, 0)), (1, to_server(ACK, 0))]), [vec![], vec![]]);

    let program = build(&self::spec()).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let datagram = frame(UDP, (CLIENT, 1000), (SERVER, 80), 0, 4);
    interpreter.packet(&datagram, 0, &mut NoJudge);
    interpreter.packet(&to_server(SYN, 0), 1, &mut NoJudge);
    // The same ports over TCP are another flow; eof rows come in the order of first packets.
    let rows = interpreter.finish(&mut NoJudge);
    let protos: Vec<(u8, Trigger)> = rows.iter().map(|row| (row.proto, row.trigger)).collect();
    assert_eq!(protos, [(UDP, Trigger::Eof), (TCP, Trigger::Eof)]);
}

#[test]
fn other_transports_and_unparsed_frames_are_counted_and_passed() {
    let mut spec = spec();
    spec.flow.transports.udp = false;
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let result = interpreter.packet(&frame(UDP, (1, 1), (2, 2), 0, 0), 0, &mut NoJudge);
    assert_eq!((result.reason, result.fate), (Reason::Parsed, Fate::Pass));
    let result = interpreter.packet(&[0; 20], 0, &mut NoJudge);
    assert_eq!((result.reason, result.packet), (Reason::NotIp, None));
    assert_eq!(interpreter.counter(Counter::Unselected), 1);
    assert_eq!(interpreter.counter(Counter::Packet(Reason::NotIp)), 1);
    assert_eq!(interpreter.counter(Counter::Created), 0);
}

#[test]
fn time_that_goes_backwards_gives_gaps_of_zero_and_never_expires() {
    let program = build(&spec()).unwrap();
    let results = run(
        &program,
        &[
            (100 * SECOND, to_server(ACK, 0)),
            (SECOND, to_server(ACK, 0)),
            (SECOND + 7_000, to_server(RST, 0)),
        ],
    );
    assert_eq!(results, [vec![], vec![], vec![(Trigger::End, vec![3, 3, 0, 7])]]);
}

#[test]
fn gaps_stop_at_their_limit() {
    let mut spec = spec();
    spec.flow.idle = None;
    let nanos = Some(Operand::Gap(TimeUnit::Nanos));
    spec.features.push(testing::feature("nanos", Function::Last, nanos, Filter::default()));
    let program = build(&spec).unwrap();
    let results = run(&program, &[(0, to_server(ACK, 0)), (1 << 50, to_server(RST, 0))]);
    let limits = vec![2, 2, 0, (1 << 31) - 1, (1 << 41) - 1];
    assert_eq!(results[1], [(Trigger::End, limits)]);
}

#[test]
fn a_saturated_record_stops_counting_but_still_ends() {
    let mut program = build(&spec()).unwrap();
    assert_eq!(program.sample_limit, SAMPLE_LIMIT);
    program.sample_limit = 3;
    let mut interpreter = FlowInterpreter::new(&program);
    for now in 0..5 {
        interpreter.packet(&to_server(ACK, 10), now, &mut NoJudge);
    }
    let result = interpreter.packet(&to_server(RST, 0), 9, &mut NoJudge);
    assert_eq!(verdicts(&result), [(Trigger::End, vec![3, 3, 30, 0])]);
    assert_eq!(result.own.unwrap().packets, 6);
    assert_eq!(interpreter.counter(Counter::Saturated), 3);
    let (_, record) = interpreter.table().by_creation()[0];
    assert_eq!(record.flags & flag::SATURATED, flag::SATURATED);
}

#[test]
fn sums_of_nanoseconds_saturate_earlier() {
    let mut spec = spec();
    let nanos = Some(Operand::Gap(TimeUnit::Nanos));
    spec.features.push(testing::feature("std", Function::Std, nanos, Filter::default()));
    let program = build(&spec).unwrap();
    assert_eq!(program.sample_limit, SAMPLE_LIMIT_NANOS);
    let squares = program.slots.iter().find(|slot| slot.name == "std_squares").unwrap();
    assert_eq!(squares.width, Width::W128);
}

#[test]
fn a_full_table_evicts_the_least_recently_used_flow() {
    let mut spec = spec();
    spec.flow.capacity = 2;
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send =
        |port| interpreter.packet(&frame(TCP, (CLIENT, port), (SERVER, 80), ACK, 0), 0, &mut NoJudge);
    for port in [1, 2, 1, 3, 1] {
        assert_eq!(verdicts(&send(port)), []);
    }
    assert_eq!(interpreter.table().evicted(), 1);
    let rows = interpreter.finish(&mut NoJudge);
    let left: Vec<(u16, u64)> = rows.iter().map(|row| (row.src_port, row.packets)).collect();
    assert_eq!(left, [(1, 3), (3, 1)]);
}

#[test]
fn updates_share_state_and_slots_do_not_overlap() {
    let len = Some(Operand::Field(Field::L4PayloadLen));
    let gap = Some(Operand::Gap(TimeUnit::Micros));
    let spec = testing::spec(vec![
        testing::feature("fwd_mean", Function::Mean, len, forward()),
        testing::feature("fwd_std", Function::Std, len, forward()),
        testing::feature("fwd_bytes", Function::Sum, len, forward()),
        testing::feature("fwd_count", Function::Count, None, forward()),
        testing::feature("gap_mean", Function::Mean, gap, forward()),
        testing::feature("gap-max", Function::Max, gap, forward()),
        testing::feature("flags", Function::Count, None, Filter::default()),
        testing::feature(
            "first_port",
            Function::First,
            Some(Operand::Field(Field::DstPort)),
            Filter::default(),
        ),
    ]);
    let program = build(&spec).unwrap();
    let names: Vec<(&str, u32)> = program.slots.iter().map(|s| (s.name.as_str(), s.offset)).collect();
    assert_eq!(
        names,
        [
            ("packets", 0),
            ("last_ns", record::ABSENT),
            ("fwd_mean_sum", 32),
            ("fwd_mean_count", 28),
            ("fwd_std_squares", 40),
            ("gap_mean_last_ns", 48),
            ("gap_mean_sum", 56),
            ("gap_mean_count", 64),
            ("gap_max", 68),
            ("first_port", 72),
        ]
    );
    // Nothing depends on when the flow's last and first packet came.
    assert!(program.slots_of(None).all(|(id, _)| id != SlotId::LAST_TIME));
    let record = program.record;
    assert_eq!((record.size, record.flags, record.last, record.first), (80, 24, None, None));
    assert_eq!(program.groups.len(), 2);
}

#[test]
fn records_and_keys_have_the_documented_bytes() {
    let program = build(&spec()).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    interpreter.packet(&to_client(ACK, 3), 0x0102, &mut NoJudge);
    let key = Oriented::of(
        &parse(&to_server(ACK, 0), program.transports).unwrap(),
        program.key,
        program.directions,
    )
    .key;
    let record = interpreter.table().peek(&key).unwrap();
    let bytes = record.to_bytes(&program);
    assert_eq!(bytes.len(), program.record.size as usize);
    // Packets, what the lists said at epoch 0 and before.
    assert_eq!(bytes[..8], 1_u64.to_le_bytes());
    assert_eq!(bytes[8..16], [0; 8]);
    assert_eq!(bytes[16..24], [0xfc, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
    // Flags: the sender is the greater end; `fwd` behind them; the last time for the idle one.
    assert_eq!(bytes[24..28], flag::FORWARD_IS_B.to_le_bytes());
    assert_eq!(bytes[28..32], 1_u32.to_le_bytes());
    assert_eq!(bytes[32..40], 0x0102_u64.to_le_bytes());
    assert_eq!(bytes.len(), 56);
    let key = key.to_bytes();
    assert_eq!(key[12..16], [10, 0, 0, CLIENT]);
    assert_eq!(key[28..32], [10, 0, 0, SERVER]);
    assert_eq!(key[32..40], [0xe8, 3, 80, 0, TCP, 0, 0, 0]);
}

#[test]
fn times_are_kept_where_something_depends_on_them() {
    let plain = |change: fn(&mut FeatureSpec)| {
        let mut spec = testing::spec(vec![testing::feature("n", Function::Count, None, Filter::default())]);
        change(&mut spec);
        let program = build(&spec).unwrap();
        (program.record.last, program.record.first, program.record.size, program.times_packets())
    };
    assert_eq!(plain(|_| ()), (None, None, 32, false));
    assert_eq!(plain(|spec| spec.flow.directions = Directions::One), (None, None, 24, false));
    assert_eq!(plain(|spec| spec.flow.idle = Some(Nanos(SECOND))), (Some(32), None, 40, true));
    let report = |spec: &mut FeatureSpec| {
        let actions = vec![Action::Report];
        spec.rules = vec![Rule { output: 0, label: 1, threshold: None, actions, span: 0..0 }];
    };
    assert_eq!(plain(report), (None, Some(32), 40, false));
    let drop = |spec: &mut FeatureSpec| {
        spec.rules =
            vec![Rule { output: 0, label: 1, threshold: None, actions: vec![Action::Drop], span: 0..0 }];
    };
    assert_eq!(plain(drop), (None, None, 32, false));
    // The next object may report.
    let idle_drop = |spec: &mut FeatureSpec| {
        spec.rules =
            vec![Rule { output: 0, label: 1, threshold: None, actions: vec![Action::Drop], span: 0..0 }];
        spec.flow.idle = Some(Nanos(SECOND));
    };
    assert_eq!(plain(idle_drop), (Some(32), Some(40), 48, true));
    let duration = |spec: &mut FeatureSpec| {
        let unit = Some(Operand::Gap(TimeUnit::Micros));
        spec.features.push(testing::feature("d", Function::Duration, unit, Filter::default()));
    };
    assert_eq!(plain(duration), (Some(32), Some(40), 48, true));
    // The gaps of a filter have a clock of their own.
    let gaps = |spec: &mut FeatureSpec| {
        let unit = Some(Operand::Gap(TimeUnit::Micros));
        spec.features.push(testing::feature("g", Function::Max, unit, forward()));
    };
    assert_eq!(plain(gaps), (None, None, 40, true));
}

#[test]
fn answers_of_the_lists_are_the_epoch_and_two_bits() {
    assert_eq!(record::answer::word(0, 0, false), 0);
    assert_eq!(record::answer::word(5, 0, false), 20);
    assert_eq!(record::answer::word(5, 1, false), 21);
    assert_eq!(record::answer::word(5, 0, true), 22);
    // The loader adds 2^32.
    assert_eq!(record::answer::word((1 << 32) + 5, u64::MAX, false), (1 << 34) + 21);
}

/// A specification that drops, blocks and reports on every packet.
fn blocking() -> FeatureSpec {
    let mut spec = spec();
    spec.triggers.every = Some(1);
    spec.rules = vec![Rule {
        output: 0,
        label: 1,
        threshold: None,
        actions: vec![Action::Drop, Action::BlockSource(Nanos(SECOND)), Action::Report],
        span: 0..0,
    }];
    spec
}

/// Calls flows with payload attacks.
fn payload_is_attack(features: &[i64]) -> Judgement {
    let attack = features[2] > 0;
    Judgement { label: u32::from(attack), rules: u32::from(attack), outputs: Vec::new() }
}

#[test]
fn a_block_acts_from_the_next_packet_until_it_expires() {
    let program = build(&blocking()).unwrap();
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, HostLists::default());
    let mut send = |now, frame: Vec<u8>| interpreter.packet(&frame, now, &mut payload_is_attack);
    let other = |src| frame(UDP, (src, 9), (3, 9), 0, 0);
    assert_eq!(send(0, to_server(ACK, 0)).fate, Fate::Pass);
    assert_eq!(send(0, to_client(ACK, 0)).fate, Fate::Pass);
    let judged = send(5, to_server(ACK, 1));
    assert_eq!(judged.fate, Fate::Dropped);
    assert_eq!(
        judged.own.unwrap().acts,
        Acts { drop: true, block_until: Some(SECOND + 5), report: true, ..Acts::default() }
    );
    // Packets from the host are dropped and change nothing; packets to it are judged as before.
    assert_eq!(send(6, to_server(ACK, 0)).fate, Fate::Blocked);
    assert_eq!(send(6, other(CLIENT)).fate, Fate::Blocked);
    assert_eq!(send(6, other(SERVER)).fate, Fate::Pass);
    assert_eq!(send(7, to_client(ACK, 0)).own.unwrap().packets, 4);
    assert_eq!(send(SECOND + 4, to_server(ACK, 0)).fate, Fate::Blocked);
    // That verdict at 7 extended the block to SECOND + 7.
    assert_eq!(send(SECOND + 6, to_server(ACK, 0)).fate, Fate::Blocked);
    assert_eq!(send(SECOND + 7, other(CLIENT)).fate, Fate::Pass);
    assert_eq!(interpreter.counter(Counter::Blocked), 4);
    assert_eq!(interpreter.counter(Counter::HostsBlocked), 2);
    // Blocked packets without a record made none.
    assert_eq!(interpreter.counter(Counter::Created), 3);
}

#[test]
fn monitor_mode_drops_and_blocks_nothing() {
    let program = build(&blocking()).unwrap();
    let mut lists = HostLists::default();
    lists.block(host(9), u64::MAX);
    let mut interpreter = FlowInterpreter::with(&program, Mode::Monitor, lists);
    let result = interpreter.packet(&to_server(ACK, 1), 0, &mut payload_is_attack);
    assert_eq!(result.fate, Fate::Pass);
    assert!(result.own.unwrap().acts.drop);
    let listed = frame(TCP, (9, 1), (SERVER, 80), ACK, 0);
    assert_eq!(interpreter.packet(&listed, 0, &mut payload_is_attack).fate, Fate::Pass);
    assert_eq!(interpreter.lists_mut().blocked().count(), 1);
    assert_eq!(interpreter.counter(Counter::WouldDrop), 1);
    assert_eq!(interpreter.counter(Counter::WouldBlock), 1);
}

#[test]
fn allowed_hosts_win_over_lists_and_verdicts() {
    let program = build(&blocking()).unwrap();
    let mut lists = HostLists::default();
    lists.block(host(CLIENT), u64::MAX);
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, lists);
    let mut judge = payload_is_attack;
    assert_eq!(interpreter.packet(&to_server(ACK, 1), 0, &mut judge).fate, Fate::Blocked);
    let subnet = Prefix { host: host(0), bits: 96 + 24 };
    interpreter.lists_mut().allow(subnet);
    let result = interpreter.packet(&to_server(ACK, 1), 1, &mut judge);
    assert_eq!(result.fate, Fate::Pass);
    assert_eq!(result.own.unwrap().acts, Acts { report: true, ..Acts::default() });
    // The cached answer of the record goes with the epoch.
    interpreter.lists_mut().disallow(subnet);
    assert_eq!(interpreter.packet(&to_server(ACK, 1), 2, &mut judge).fate, Fate::Blocked);
    interpreter.lists_mut().unblock(host(CLIENT));
    assert_eq!(interpreter.packet(&to_server(ACK, 1), 3, &mut judge).fate, Fate::Dropped);
}

#[test]
fn the_verdict_on_an_old_record_blocks_but_drops_nothing() {
    let mut spec = blocking();
    spec.triggers.every = None;
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, HostLists::default());
    interpreter.packet(&to_server(ACK, 1), 0, &mut payload_is_attack);
    let result = interpreter.packet(&to_server(ACK, 0), 20 * SECOND, &mut payload_is_attack);
    assert_eq!(result.fate, Fate::Pass);
    let acts = result.retired.unwrap().acts;
    assert_eq!(acts, Acts { block_until: Some(21 * SECOND), report: true, ..Acts::default() });
    assert_eq!(interpreter.packet(&to_server(ACK, 0), 20 * SECOND + 1, &mut NoJudge).fate, Fate::Blocked);
}

#[test]
fn prefixes_compare_their_leading_bits() {
    let prefix = |bits| Prefix { host: host(0b1100), bits };
    assert!(prefix(128).contains(host(0b1100)));
    assert!(!prefix(128).contains(host(0b1101)));
    assert!(prefix(126).contains(host(0b1111)));
    assert!(!prefix(126).contains(host(0b1000)));
    assert!(prefix(0).contains(Host([0xff; 16])));
}

/// The second set of the DSN 2024 paper, by hand: forward lengths and gaps only, header bytes with TCP options.
#[test]
fn the_second_dsn_set_counts_forward_packets() {
    let text = include_str!("../../../../specs/dsn24-cic.spec");
    let program = build(&crate::spec::compile("dsn24-cic.spec", text).unwrap()).unwrap();
    // The SYN has 12 bytes of options.
    let mut syn = to_server(SYN, 12);
    syn[46] = 0x80;
    let micros = |time: u64| time * 1_000;
    let packets = [
        (micros(0), syn),
        (micros(100), to_client(SYN | ACK, 0)),
        (micros(250), to_server(ACK, 0)),
        (micros(300), to_server(ACK, 700)),
        (micros(5_000), to_client(ACK, 1_400)),
        (micros(9_300) + 999, to_server(ACK, 90)),
        (micros(9_400), to_client(ACK, 0)),
        (micros(9_500), to_server(RST, 0)),
    ];
    let verdicts = run(&program, &packets);
    assert!(verdicts[..7].iter().all(Vec::is_empty));
    // Longest 700; longest gap from 300 to 9300.999; shortest 0; 32 + 4 * 20 bytes of headers; five packets.
    assert_eq!(verdicts[7], [(Trigger::End, vec![700, 9_000, 0, 80, 112, 5])]);

    let udp = |from: u8, payload| {
        let (client, server) = ((CLIENT, 1000), (SERVER, 53));
        if from == CLIENT {
            frame(UDP, client, server, 0, payload)
        } else {
            frame(UDP, server, client, 0, payload)
        }
    };
    let later = micros(200_000_000);
    let packets = [
        (0, udp(CLIENT, 30)),
        (micros(7), udp(SERVER, 300)),
        (micros(11), udp(CLIENT, 40)),
        (later, udp(CLIENT, 1)),
    ];
    let verdicts = run(&program, &packets);
    assert_eq!(verdicts[3], [(Trigger::Idle, vec![40, 11, 30, 53, 16, 2])]);
}
