//! Sweeps of flows that fell silent, on hand-made packets.

use super::interpret::{Acts, FlowInterpreter, Judgement, Mode, NoJudge, Swept};
use super::lists::{HostLists, Prefix};
use super::record::Oriented;
use super::steps_tests::{CLIENT, SECOND, SERVER, host, spec, to_client, to_server};
use super::testing::frame;
use super::{Counter, Trigger, build};
use crate::ir::packet::tcp_flags::{ACK, RST};
use crate::ir::packet::{UDP, parse};
use crate::spec::typed::{Action, Nanos, Rule};

#[test]
fn a_sweep_judges_idle_records_once_and_removes_them() {
    let mut spec = spec();
    spec.flow.sweep = true;
    let program = build(&spec).unwrap();
    let key = |frame: &[u8]| {
        let packet = parse(frame, program.transports).unwrap();
        Oriented::of(&packet, program.key, program.directions).key
    };
    let other = frame(UDP, (SERVER, 53), (CLIENT, 2000), 0, 9);
    let (key, other_key) = (key(&to_server(ACK, 3)), key(&other));
    let mut interpreter = FlowInterpreter::new(&program);
    // The forward sender is the greater end, `b` of the key.
    interpreter.packet(&to_client(ACK, 3), SECOND, &mut NoJudge);
    interpreter.packet(&to_server(ACK, 4), 2 * SECOND, &mut NoJudge);
    interpreter.packet(&other, 3 * SECOND, &mut NoJudge);
    assert_eq!(interpreter.sweep(key, 0, &mut NoJudge), Swept::Kept);
    assert_eq!(interpreter.sweep(key, 12 * SECOND, &mut NoJudge), Swept::Kept);
    let Swept::Judged(verdict) = interpreter.sweep(key, 12 * SECOND + 1, &mut NoJudge) else {
        panic!("the idle time has passed")
    };
    assert_eq!((verdict.trigger, verdict.features), (Trigger::Idle, vec![2, 1, 7, 1_000_000]));
    assert_eq!((verdict.src, verdict.src_port, verdict.dst), (host(SERVER), 80, host(CLIENT)));
    assert_eq!(interpreter.sweep(key, 13 * SECOND, &mut NoJudge), Swept::Kept);
    assert_eq!(interpreter.table().by_creation().len(), 1);
    assert_eq!(interpreter.counter(Counter::Verdicts), 1);
    // A closed record was judged when it closed.
    interpreter.packet(&to_server(RST, 0), 13 * SECOND, &mut NoJudge);
    assert_eq!(interpreter.sweep(key, 30 * SECOND, &mut NoJudge), Swept::Removed);
    assert!(matches!(interpreter.sweep(other_key, 30 * SECOND, &mut NoJudge), Swept::Judged(_)));
    assert_eq!(interpreter.counter(Counter::Verdicts), 3);
    assert_eq!(interpreter.finish(&mut NoJudge), []);
}

#[test]
fn a_sweep_drops_nothing_and_blocks_who_is_not_allowed() {
    let mut spec = spec();
    spec.flow.sweep = true;
    spec.rules = vec![Rule {
        output: 0,
        label: 1,
        threshold: None,
        actions: vec![Action::Drop, Action::BlockSource(Nanos(SECOND)), Action::Report],
        span: 0..0,
    }];
    let program = build(&spec).unwrap();
    for allowed in [false, true] {
        let mut lists = HostLists::default();
        if allowed {
            lists.allow(Prefix { host: host(SERVER), bits: 128 });
        }
        let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, lists);
        let mut attack = |_: &[i64]| Judgement { label: 1, rules: 1, outputs: vec![] };
        interpreter.packet(&to_server(ACK, 3), 0, &mut attack);
        let key = interpreter.table().by_creation()[0].0;
        let Swept::Judged(verdict) = interpreter.sweep(key, 20 * SECOND, &mut attack) else { panic!() };
        let block_until = (!allowed).then_some(21 * SECOND);
        assert_eq!(verdict.acts, Acts { report: true, block_until, ..Acts::default() });
        assert!(verdict.reported);
        assert_eq!(interpreter.counter(Counter::HostsBlocked), u64::from(!allowed));
        assert_eq!(interpreter.counter(Counter::Dropped), 0);
    }
}
