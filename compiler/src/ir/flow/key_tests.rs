//! Records of other keys than the five-tuple, on hand-made packets.

use super::interpret::{Fate, FlowInterpreter, Judgement, Mode, NoJudge};
use super::key::{KeyPart, KeyParts};
use super::lists::{HostLists, Prefix};
use super::steps_tests::host;
use super::testing::frame;
use super::{Counter, FlowProgram, Trigger, build, testing};
use crate::ir::packet::tcp_flags::{ACK, SYN};
use crate::ir::packet::{Host, TCP, UDP};
use crate::spec::typed::{
    Action, Direction, Directions, Field, Filter, Function, Nanos, Operand, Rule, Triggers,
};

const SECOND: u64 = 1_000_000_000;

/// Packets, bytes and backward packets of a key; a verdict for each packet.
fn program(parts: &[KeyPart], directions: Directions) -> FlowProgram {
    let backward = Filter { direction: Some(Direction::Backward), ..Filter::default() };
    let mut spec = testing::spec(vec![
        testing::feature("packets", Function::Count, None, Filter::default()),
        testing::feature(
            "bytes",
            Function::Sum,
            Some(Operand::Field(Field::L4PayloadLen)),
            Filter::default(),
        ),
        testing::feature("backward", Function::Count, None, backward),
    ]);
    spec.flow.key = parts.iter().fold(KeyParts::NONE, |all, part| all.with(*part));
    spec.flow.directions = directions;
    spec.flow.idle = Some(Nanos(10 * SECOND));
    spec.triggers = Triggers { end: true, every: Some(1), ..Triggers::default() };
    spec.rules = vec![Rule {
        output: 0,
        label: 1,
        threshold: None,
        actions: vec![Action::BlockSource(Nanos(SECOND))],
        span: 0..0,
    }];
    build(&spec).unwrap()
}

#[test]
fn packets_of_one_sender_share_a_record() {
    let program = program(&[KeyPart::Src], Directions::One);
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16), proto: u8, payload: u16| {
        let result = interpreter.packet(&frame(proto, src, dst, ACK, payload), 5, &mut NoJudge);
        let own = result.own.unwrap();
        ((own.src, own.src_port, own.dst, own.dst_port, own.proto), own.features)
    };
    // Only the sender is known of the flow; the rest of its key is zeros.
    let first = (host(1), 0, Host([0; 16]), 0, 0);
    assert_eq!(send((1, 1000), (2, 80), TCP, 3), (first, vec![1, 3, 0]));
    assert_eq!(send((1, 4000), (3, 53), UDP, 10), (first, vec![2, 13, 0]));
    // The answer belongs to another sender.
    let second = (host(2), 0, Host([0; 16]), 0, 0);
    assert_eq!(send((2, 80), (1, 1000), TCP, 500), (second, vec![1, 500, 0]));
    assert_eq!(interpreter.table().by_creation().len(), 2);
}

#[test]
fn two_hosts_share_a_record_with_directions() {
    let program = program(&[KeyPart::Src, KeyPart::Dst], Directions::Both);
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16)| {
        let result = interpreter.packet(&frame(TCP, src, dst, SYN, 1), 5, &mut NoJudge);
        let own = result.own.unwrap();
        (own.src, own.src_port, own.dst, own.dst_port, own.features)
    };
    assert_eq!(send((9, 1), (2, 80)), (host(9), 0, host(2), 0, vec![1, 1, 0]));
    // Other ports, the other way round: still the same two hosts.
    assert_eq!(send((2, 5555), (9, 7)), (host(9), 0, host(2), 0, vec![2, 2, 1]));
    assert_eq!(send((9, 3), (2, 4)), (host(9), 0, host(2), 0, vec![3, 3, 1]));
    assert_eq!(send((9, 3), (3, 4)), (host(9), 0, host(3), 0, vec![1, 1, 0]));
}

#[test]
fn a_key_without_addresses_joins_all_hosts() {
    let program = program(&[KeyPart::DstPort, KeyPart::Proto], Directions::One);
    let mut interpreter = FlowInterpreter::new(&program);
    let mut packets = |src: u8, dst: (u8, u16), proto: u8| {
        let own = interpreter.packet(&frame(proto, (src, 9), dst, 0, 0), 5, &mut NoJudge).own.unwrap();
        (own.dst_port, own.proto, own.features[0])
    };
    assert_eq!(packets(1, (2, 53), UDP), (53, UDP, 1));
    assert_eq!(packets(3, (4, 53), UDP), (53, UDP, 2));
    assert_eq!(packets(3, (4, 53), TCP), (53, TCP, 1));
    assert_eq!(packets(3, (4, 54), UDP), (54, UDP, 1));
}

#[test]
fn the_idle_verdict_of_a_sender_names_it() {
    let program = program(&[KeyPart::Src], Directions::One);
    let mut interpreter = FlowInterpreter::new(&program);
    interpreter.packet(&frame(TCP, (1, 1), (2, 2), 0, 7), 0, &mut NoJudge);
    let late = interpreter.packet(&frame(UDP, (1, 5), (6, 7), 0, 0), 10 * SECOND + 1, &mut NoJudge);
    let old = late.retired.unwrap();
    assert_eq!(
        (old.trigger, old.src, old.dst, old.features),
        (Trigger::Idle, host(1), Host([0; 16]), vec![1, 7, 0])
    );
}

/// The block of a sender holds for all that it sends to but for those that are allowed: the record, which is of
/// packets to both, keeps no answer.
#[test]
fn lists_are_asked_for_every_packet_where_a_record_has_many_receivers() {
    let program = program(&[KeyPart::Src], Directions::One);
    let mut lists = HostLists::default();
    lists.allow(Prefix { host: host(3), bits: 128 });
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, lists);
    let mut judge =
        |features: &[i64]| Judgement { label: 1, rules: u32::from(features[0] == 2), outputs: Vec::new() };
    let mut send =
        |dst: u8, now: u64| interpreter.packet(&frame(TCP, (1, 1), (dst, 2), 0, 0), now, &mut judge).fate;
    // The second packet blocks its sender, from the next one on.
    assert_eq!([send(2, 0), send(2, 1), send(2, 2)], [Fate::Pass, Fate::Pass, Fate::Blocked]);
    assert_eq!([send(3, 3), send(2, 4), send(3, 5)], [Fate::Pass, Fate::Blocked, Fate::Pass]);
    assert_eq!(send(2, 1 + SECOND), Fate::Pass);
    assert_eq!(interpreter.counter(Counter::Blocked), 2);
}
