//! Triggers by packets and by time, against verdicts written down by hand.

use super::build;
use super::interpret::{FlowInterpreter, NoJudge};
use super::testing;
use crate::spec::typed::{End, Filter, Function, Nanos, Triggers};

/// A UDP datagram of one flow over IPv4, towards the server or back.
fn datagram(back: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    let ends = [[10, 0, 0, 1], [10, 0, 0, 2]];
    let ports = [[0x13, 0x88], [0, 53]];
    let (from, to) = if back { (1, 0) } else { (0, 1) };
    frame.extend([ends[from], ends[to]].concat());
    frame.extend([ports[from], ports[to]].concat());
    frame.extend([0, 8, 0, 0]);
    frame
}

/// Names of the verdicts of packets at these times, with the number of packets that they saw.
fn judged(triggers: Triggers, idle: Option<u64>, times: &[u64]) -> Vec<Vec<(&'static str, i64)>> {
    let count = testing::feature("packets_seen", Function::Count, None, Filter::default());
    let mut spec = testing::spec(vec![count]);
    spec.triggers = triggers;
    spec.flow.idle = idle.map(Nanos);
    spec.flow.end = End::Never;
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    times
        .iter()
        .enumerate()
        .map(|(number, now)| {
            let result = interpreter.packet(&datagram(number % 2 == 1), *now, &mut NoJudge);
            result.verdicts().map(|verdict| (verdict.trigger.name(), verdict.features[0])).collect()
        })
        .collect()
}

const NEVER: Vec<(&str, i64)> = Vec::new();

#[test]
fn after_packets_judges_the_one_with_this_ordinal() {
    let triggers = Triggers { after: Some(3), ..Triggers::default() };
    assert_eq!(
        judged(triggers, None, &[0, 1, 2, 3, 4, 5]),
        [NEVER, NEVER, vec![("after", 3)], NEVER, NEVER, NEVER]
    );
    let triggers = Triggers { after: Some(1), ..Triggers::default() };
    assert_eq!(judged(triggers, None, &[7, 8]), [vec![("after", 1)], NEVER]);
}

#[test]
fn after_a_time_judges_the_first_packet_not_before_it() {
    let triggers = Triggers { after_time: Some(Nanos(100)), ..Triggers::default() };
    // Exactly the time is enough, and once is once.
    assert_eq!(
        judged(triggers, None, &[1_000, 1_099, 1_100, 1_101, 9_000]),
        [NEVER, NEVER, vec![("after", 3)], NEVER, NEVER]
    );
    // A clock that went back before the first packet has not reached it.
    assert_eq!(
        judged(triggers, None, &[1_000, 10, 1_050, 1_250, 20, 1_300]),
        [NEVER, NEVER, NEVER, vec![("after", 4)], NEVER, NEVER]
    );
}

#[test]
fn a_new_record_is_judged_after_its_own_time() {
    let triggers = Triggers { after_time: Some(Nanos(100)), ..Triggers::default() };
    assert_eq!(
        judged(triggers, Some(500), &[0, 100, 601, 650, 701]),
        [NEVER, vec![("after", 2)], NEVER, NEVER, vec![("after", 3)]]
    );
}

#[test]
fn every_time_counts_from_the_last_such_verdict() {
    let triggers = Triggers { every_time: Some(Nanos(100)), ..Triggers::default() };
    assert_eq!(
        judged(triggers, None, &[1_000, 1_099, 1_150, 1_200, 1_249, 1_250, 1_349, 5_000, 5_099, 5_100]),
        [
            NEVER,
            NEVER,
            // The next is due from 1,250 on, not from 1,200.
            vec![("every", 3)],
            NEVER,
            NEVER,
            vec![("every", 6)],
            NEVER,
            // A long pause gives one verdict, not one for each interval.
            vec![("every", 8)],
            NEVER,
            vec![("every", 10)],
        ]
    );
    // Earlier times are never due and leave the last verdict where it was.
    assert_eq!(
        judged(triggers, None, &[1_000, 1_100, 50, 150, 1_199, 1_200]),
        [NEVER, vec![("every", 2)], NEVER, NEVER, NEVER, vec![("every", 6)]]
    );
}

#[test]
fn one_packet_gives_one_verdict_and_spends_every_trigger_that_holds() {
    let triggers = Triggers {
        end: false,
        every: Some(2),
        every_time: Some(Nanos(100)),
        after: Some(4),
        after_time: Some(Nanos(250)),
    };
    assert_eq!(
        judged(triggers, None, &[0, 10, 100, 200, 260, 310, 405]),
        [
            NEVER,
            vec![("every", 2)],
            vec![("every", 3)],
            // Ordinal 4 is also a multiple of 2, and 100 after 100: `after` names it.
            vec![("after", 4)],
            vec![("after", 5)],
            // 110 after 200 and a multiple of 2.
            vec![("every", 6)],
            // 95 after 310.
            NEVER,
        ]
    );
}

#[test]
fn the_old_record_is_judged_beside_the_triggers_of_the_new_one() {
    let triggers = Triggers { end: true, after: Some(1), ..Triggers::default() };
    assert_eq!(judged(triggers, Some(500), &[0, 501]), [vec![("after", 1)], vec![("idle", 1), ("after", 1)]]);
}

#[test]
fn only_triggers_of_time_take_room_in_the_record() {
    let size = |triggers| {
        let count = testing::feature("packets_seen", Function::Count, None, Filter::default());
        let mut spec = testing::spec(vec![count]);
        spec.triggers = triggers;
        build(&spec).unwrap().record.size
    };
    let plain = size(Triggers { end: true, ..Triggers::default() });
    assert_eq!(size(Triggers { every: Some(9), after: Some(9), ..Triggers::default() }), plain);
    // The time of the first packet; that of the last verdict.
    assert_eq!(size(Triggers { after_time: Some(Nanos(1)), ..Triggers::default() }), plain + 8);
    assert_eq!(size(Triggers { every_time: Some(Nanos(1)), ..Triggers::default() }), plain + 8);
}
