//! What fired rules ask for: order, `pass`, marks, both ends, samples.

use super::interpret::{Acts, Fate, FlowInterpreter, Judgement, Mode};
use super::lists::{HostLists, Prefix};
use super::{FlowProgram, build, testing};
use crate::ir::packet::Host;
use crate::spec::typed::{Action, Filter, Function, Nanos, Rule, Triggers};

const CLIENT: [u8; 4] = [10, 0, 0, 1];
const SERVER: [u8; 4] = [10, 0, 0, 2];

/// A UDP datagram to the server, or back.
fn datagram(back: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0];
    frame.extend([0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0]);
    let (from, to) = if back { (SERVER, CLIENT) } else { (CLIENT, SERVER) };
    frame.extend([from, to].concat());
    frame.extend(if back { [0, 53, 0x13, 0x88] } else { [0x13, 0x88, 0, 53] });
    frame.extend([0, 8, 0, 0]);
    frame
}

/// A program that judges every packet, with these actions of its rules.
fn program(rules: &[&[Action]]) -> FlowProgram {
    let count = testing::feature("seen", Function::Count, None, Filter::default());
    let mut spec = testing::spec(vec![count]);
    spec.triggers = Triggers { end: true, every: Some(1), ..Triggers::default() };
    spec.flow.idle = Some(Nanos(1_000));
    let rule = |actions: &&[Action]| Rule {
        output: 0,
        label: 1,
        threshold: None,
        actions: actions.to_vec(),
        span: 0..0,
    };
    spec.rules = rules.iter().map(rule).collect();
    build(&spec).unwrap()
}

/// A judge whose rules of these bits hold.
fn holds(rules: u32) -> impl FnMut(&[i64]) -> Judgement {
    move |_| Judgement { label: 1, rules, outputs: Vec::new() }
}

fn acts(rules: &[&[Action]], held: u32) -> Acts {
    let program = program(rules);
    let mut interpreter = FlowInterpreter::new(&program);
    interpreter.packet(&datagram(false), 5, &mut holds(held)).own.unwrap().acts
}

#[test]
fn a_rule_that_lets_pass_ends_the_rules() {
    let rules: [&[Action]; 4] =
        [&[Action::Report], &[Action::Pass], &[Action::Drop], &[Action::BlockSource(Nanos(9))]];
    let report = Acts { report: true, ..Acts::default() };
    // What stood before it stays; what stands behind it does not act.
    assert_eq!(acts(&rules, 0b1111), report);
    assert_eq!(acts(&rules, 0b1110), Acts::default());
    // Where it does not fire, all others act.
    let all = Acts { drop: true, block_until: Some(14), report: true, ..Acts::default() };
    assert_eq!(acts(&rules, 0b1101), all);
    // Its own other actions do too, wherever they stand.
    assert_eq!(acts(&[&[Action::Pass, Action::Report], &[Action::Drop]], 0b11), report);
}

#[test]
fn of_several_marks_the_last_one_counts() {
    let rules: [&[Action]; 3] = [&[Action::Mark(5)], &[Action::Mark(0)], &[Action::Mark(u32::MAX)]];
    for (held, mark) in [(0b111, Some(u32::MAX)), (0b011, Some(0)), (0b001, Some(5)), (0, None)] {
        assert_eq!(acts(&rules, held), Acts { mark, ..Acts::default() }, "{held:b}");
    }
}

#[test]
fn packets_are_marked_in_enforce_mode_unless_an_end_is_allowed() {
    let program = program(&[&[Action::Mark(7)]]);
    let mark = |mode, lists| {
        let mut interpreter = FlowInterpreter::with(&program, mode, lists);
        interpreter.packet(&datagram(false), 0, &mut holds(1)).mark
    };
    assert_eq!(mark(Mode::Enforce, HostLists::default()), Some(7));
    assert_eq!(mark(Mode::Monitor, HostLists::default()), None);
    let mut lists = HostLists::default();
    lists.allow(Prefix { host: Host::from_ipv4(SERVER), bits: 128 });
    assert_eq!(mark(Mode::Enforce, lists), None);
}

#[test]
fn the_verdict_on_an_old_record_marks_nothing() {
    let mut program = program(&[&[Action::Mark(7), Action::Drop, Action::BlockDestination(Nanos(50))]]);
    program.triggers.every = None;
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, HostLists::default());
    interpreter.packet(&datagram(false), 0, &mut holds(1));
    let result = interpreter.packet(&datagram(false), 2_000, &mut holds(1));
    assert_eq!((result.fate, result.mark), (Fate::Pass, None));
    let wanted = Acts { block_receiver_until: Some(2_050), ..Acts::default() };
    assert_eq!(result.retired.unwrap().acts, wanted);
}

#[test]
fn blocking_the_destination_drops_what_it_sends() {
    let program = program(&[&[Action::BlockDestination(Nanos(50)), Action::BlockDestination(Nanos(20))]]);
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, HostLists::default());
    let mut send = |back, now, held| interpreter.packet(&datagram(back), now, &mut holds(held)).fate;
    assert_eq!(send(false, 0, 1), Fate::Pass);
    assert_eq!(send(true, 49, 0), Fate::Blocked);
    // The sender is not blocked.
    assert_eq!(send(false, 49, 0), Fate::Pass);
    assert_eq!(send(true, 50, 0), Fate::Pass);
    // Whoever sends: it is the flow's destination that is blocked.
    assert_eq!(send(true, 60, 1), Fate::Pass);
    assert_eq!(send(false, 61, 0), Fate::Pass);
    assert_eq!(send(true, 61, 0), Fate::Blocked);
}

#[test]
fn a_sample_is_the_first_of_so_many_times_that_the_rule_acts() {
    let program = program(&[&[Action::ReportOneIn(3)], &[Action::Pass], &[Action::ReportOneIn(2)]]);
    let mut interpreter = FlowInterpreter::new(&program);
    let mut reported = |held| {
        let verdict = interpreter.packet(&datagram(false), 0, &mut holds(held)).own.unwrap();
        assert_eq!(verdict.acts.report, verdict.reported);
        verdict.reported
    };
    // The third rule does not act, and does not count, where the second one fires.
    let held = [0b001, 0b111, 0b100, 0b110, 0b001, 0b001, 0b100, 0b100, 0b101];
    assert_eq!(held.map(&mut reported), [true, false, true, false, false, true, false, true, false]);
}
