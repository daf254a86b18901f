//! Further tables and windows of time, on hand-made packets.

use super::interpret::{FlowInterpreter, Judgement, NoJudge, PacketResult};
use super::key::{KeyPart, KeyParts};
use super::side::SideTable;
use super::steps_tests::host;
use super::testing::frame;
use super::{FlowProgram, Trigger, build, testing};
use crate::ir::packet::TCP;
use crate::ir::packet::tcp_flags::{ACK, FIN, SYN};
use crate::spec::typed::{
    Directions, End, Feature, FeatureSpec, Field, Filter, Function, Nanos, Operand, Table, TableRef,
    TimeUnit, Triggers,
};

const SECOND: u64 = 1_000_000_000;
const PAYLOAD: Option<Operand> = Some(Operand::Field(Field::L4PayloadLen));

/// A feature over a table and a window.
fn feature(
    name: &str,
    (function, operand): (Function, Option<Operand>),
    table: Option<u32>,
    window: Option<u64>,
) -> Feature {
    let mut feature = testing::feature(name, function, operand, Filter::default());
    feature.value = feature.value.map(&mut |leaf| {
        let mut leaf = leaf.clone();
        leaf.table = table.map(TableRef);
        leaf.window = window.map(Nanos);
        leaf
    });
    feature
}

/// Connections beside a table of senders with an idle time of 10 s; a verdict for each packet.
fn spec(features: Vec<Feature>) -> FeatureSpec {
    let mut spec = testing::spec(features);
    spec.flow.end = End::On { fin: true, rst: false };
    spec.triggers = Triggers { end: true, every: Some(1), ..Triggers::default() };
    let key = |part| KeyParts::NONE.with(part);
    let table = |name: &str, key, idle| Table { name: name.to_owned(), key, capacity: 4, idle, span: 0..0 };
    spec.tables = vec![
        table("sender", key(KeyPart::Src), Some(Nanos(10 * SECOND))),
        table("service", key(KeyPart::Dst).with(KeyPart::DstPort), None),
    ];
    spec
}

fn own(result: PacketResult) -> Vec<i64> {
    result.own.unwrap().features
}

/// Runs packets of one sender to one receiver and gives each one's features.
fn run(program: &FlowProgram, packets: &[(u64, u16)]) -> Vec<Vec<i64>> {
    let mut interpreter = FlowInterpreter::new(program);
    let packet = |(now, payload): &(u64, u16)| {
        own(interpreter.packet(&frame(TCP, (1, 1000), (2, 80), ACK, *payload), *now, &mut NoJudge))
    };
    packets.iter().map(packet).collect()
}

#[test]
fn a_table_of_senders_joins_their_flows() {
    let sum = (Function::Sum, PAYLOAD);
    let program = build(&spec(vec![
        feature("own", sum, None, None),
        feature("sent", sum, Some(0), None),
        feature("packets", (Function::Count, None), Some(0), None),
        feature("service", sum, Some(1), None),
    ]))
    .unwrap();
    assert_eq!(program.tables.len(), 2);
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16), payload: u16| {
        own(interpreter.packet(&frame(TCP, src, dst, ACK, payload), 7, &mut NoJudge))
    };
    assert_eq!(send((1, 1000), (2, 80), 5), [5, 5, 1, 5]);
    // Another connection of the same sender, to the same service of another host.
    assert_eq!(send((1, 1001), (3, 80), 7), [7, 12, 2, 7]);
    // Another sender to the first service.
    assert_eq!(send((4, 9), (2, 80), 100), [100, 100, 1, 105]);
    // An answer counts for its own sender; what is read is of the connection's first sender and receiver.
    assert_eq!(send((2, 80), (1, 1000), 1000), [1005, 12, 2, 105]);
    assert_eq!(send((1, 1000), (2, 80), 0), [1005, 12, 3, 105]);
    // A connection that host 2 opened finds what it has sent, the answer included.
    assert_eq!(send((2, 5), (6, 7), 1), [1, 1001, 2, 1]);
}

#[test]
fn tables_that_no_feature_reads_are_not_made() {
    let program = build(&spec(vec![feature("sent", (Function::Sum, PAYLOAD), Some(1), None)])).unwrap();
    let names: Vec<&str> = program.tables.iter().map(|table| table.name.as_str()).collect();
    assert_eq!(names, ["service"]);
    let [service] = program.tables.as_slice() else { panic!("one table") };
    // Header and one sum.
    assert_eq!((service.size, service.key.packed_size()), (SideTable::HEADER + 8, 24));
}

#[test]
fn a_sender_that_was_idle_starts_anew_and_a_read_does_not_ask_for_the_time() {
    let program = build(&spec(vec![
        feature("packets", (Function::Count, None), Some(0), None),
        feature("gap", (Function::Max, Some(Operand::Gap(TimeUnit::Seconds))), Some(0), None),
    ]))
    .unwrap();
    let at = |seconds: u64, payload| (seconds * SECOND, payload);
    assert_eq!(
        run(&program, &[at(0, 0), at(4, 0), at(14, 0), (24 * SECOND + 1, 0), at(25, 0)]),
        // Exactly the idle time is not later than it; the late packet has no gap.
        [[1, 0], [2, 4], [3, 10], [1, 0], [2, 0]]
    );
    // An earlier time empties nothing and becomes the last one.
    assert_eq!(run(&program, &[at(30, 0), at(3, 0), at(13, 0)]), [[1, 0], [2, 0], [3, 10]]);
}

#[test]
fn the_idle_verdict_reads_the_record_of_the_old_flows_sender() {
    let mut spec = spec(vec![feature("packets", (Function::Count, None), Some(0), None)]);
    spec.flow.idle = Some(Nanos(SECOND));
    spec.triggers = Triggers { end: true, ..Triggers::default() };
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16), now: u64| {
        interpreter.packet(&frame(TCP, src, dst, ACK, 0), now, &mut NoJudge)
    };
    send((1, 1000), (2, 80), 0);
    send((1, 2000), (2, 80), 1);
    send((2, 80), (1, 1000), 2);
    // The receiver is the first to be heard of again: what is judged is the connection that host 1 opened.
    let late = send((2, 80), (1, 1000), 3 * SECOND);
    let retired = late.retired.unwrap();
    assert_eq!((retired.trigger, retired.src, retired.features), (Trigger::Idle, host(1), vec![2]));
}

#[test]
fn records_of_a_full_table_are_lost_and_read_as_empty() {
    let mut spec = spec(vec![
        feature("packets", (Function::Count, None), Some(0), None),
        feature("least", (Function::Min, PAYLOAD), Some(0), None),
    ]);
    spec.triggers = Triggers { end: true, ..Triggers::default() };
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16), flags: u8| {
        let result = interpreter.packet(&frame(TCP, src, dst, flags, 9), 5, &mut NoJudge);
        result.own.map(|verdict| verdict.features)
    };
    send((1, 1), (9, 9), SYN);
    send((1, 1), (9, 9), FIN);
    // Four others take the places of host 1 and of nobody else.
    for other in 2..6 {
        send((other, 1), (9, 9), 0);
    }
    assert_eq!(send((9, 9), (1, 1), FIN), Some(vec![0, 0]));
}

/// Count, sum, least, greatest and mean over two seconds: panes of one.
fn windowed(table: Option<u32>) -> FlowProgram {
    let over = |name, function, operand| feature(name, (function, operand), table, Some(2 * SECOND));
    build(&spec(vec![
        over("count", Function::Count, None),
        over("sum", Function::Sum, PAYLOAD),
        over("least", Function::Min, PAYLOAD),
        over("greatest", Function::Max, PAYLOAD),
        over("mean", Function::Mean, PAYLOAD),
    ]))
    .unwrap()
}

#[test]
fn a_window_is_the_pane_of_the_clock_and_the_one_before() {
    for table in [None, Some(0)] {
        let program = windowed(table);
        let packets = [
            (0, 10),
            (SECOND - 1, 20),
            // On the border: the first packet of the second pane.
            (SECOND, 30),
            (2 * SECOND - 1, 40),
            // The first pane is out of the window.
            (2 * SECOND, 5),
            // One pane is skipped: the last packet's is out as well.
            (4 * SECOND, 7),
            (5 * SECOND, 8),
        ];
        let wanted = [
            [1, 10, 10, 10, 10 << 8],
            [2, 30, 10, 20, 15 << 8],
            [3, 60, 10, 30, 20 << 8],
            [4, 100, 10, 40, 25 << 8],
            [3, 75, 5, 40, 25 << 8],
            [1, 7, 7, 7, 7 << 8],
            [2, 15, 7, 8, 15 << 7],
        ];
        assert_eq!(run(&program, &packets), wanted);
    }
}

#[test]
fn a_clock_that_goes_backwards_counts_in_the_newest_pane() {
    let program = windowed(None);
    let packets =
        [(5 * SECOND, 1), (3 * SECOND, 2), (0, 4), (6 * SECOND, 8), (5 * SECOND, 16), (7 * SECOND, 32)];
    let sums: Vec<i64> = run(&program, &packets).iter().map(|features| features[1]).collect();
    // The packets of 3 s and 0 s count in the pane of 5 s, the later one of 5 s in that of 6 s.
    assert_eq!(sums, [1, 3, 7, 15, 31, 8 + 16 + 32]);
}

#[test]
fn a_verdict_sees_what_is_left_of_a_window_at_its_own_time() {
    let program = windowed(Some(1));
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16), now: u64| {
        own(interpreter.packet(&frame(TCP, src, dst, ACK, 6), now, &mut NoJudge))
    };
    send((1, 1), (2, 80), 0);
    assert_eq!(send((1, 1), (2, 80), SECOND), [2, 12, 6, 6, 6 << 8]);
    // Answers are no packets to the service: its record stays as it is, and the clock goes on.
    assert_eq!(send((2, 80), (1, 1), 2 * SECOND - 1), [2, 12, 6, 6, 6 << 8]);
    assert_eq!(send((2, 80), (1, 1), 2 * SECOND), [1, 6, 6, 6, 6 << 8]);
    assert_eq!(send((2, 80), (1, 1), 3 * SECOND - 1), [1, 6, 6, 6, 6 << 8]);
    assert_eq!(send((2, 80), (1, 1), 3 * SECOND), [0; 5]);
}

#[test]
fn gaps_reach_over_the_border_of_panes_and_count_in_the_later_one() {
    let gap = (Function::Sum, Some(Operand::Gap(TimeUnit::Millis)));
    let program = build(&spec(vec![
        feature("gaps", gap, None, Some(2 * SECOND)),
        feature("number", (Function::Count, None), None, None),
    ]))
    .unwrap();
    let gaps: Vec<i64> = run(&program, &[(0, 0), (SECOND + SECOND / 2, 0), (2 * SECOND, 0), (9 * SECOND, 0)])
        .iter()
        .map(|features| features[0])
        .collect();
    assert_eq!(gaps, [0, 1500, 2000, 7000]);
}

#[test]
fn windows_of_several_lengths_and_whole_lives_are_apart() {
    let count = (Function::Count, None);
    let program = build(&spec(vec![
        feature("two", count, None, Some(2 * SECOND)),
        feature("ten", count, None, Some(10 * SECOND)),
        feature("all", count, None, None),
        feature("sender", count, Some(0), Some(2 * SECOND)),
    ]))
    .unwrap();
    let packets = [(0, 0), (3 * SECOND, 0), (6 * SECOND, 0), (6 * SECOND + 1, 0)];
    assert_eq!(run(&program, &packets), [[1, 1, 1, 1], [1, 2, 2, 1], [1, 3, 3, 1], [2, 4, 4, 2]]);
    // Nothing overlaps, in either copy.
    for table in [None, Some(super::side::TableId(0))] {
        let size = table.map_or(program.record.size, |_| program.tables[0].size);
        let mut used = vec![false; size as usize];
        for (_, slot) in program.slots_of(table) {
            let stride = slot.place.window.map(|window| program.windows[window.0 as usize].stride);
            for copy in [Some(0), stride].into_iter().flatten() {
                let bytes = (slot.offset + copy) as usize..(slot.offset + copy + slot.width.bytes()) as usize;
                assert!(used[bytes.clone()].iter().all(|used| !used));
                used[bytes].fill(true);
            }
        }
    }
}

#[test]
fn a_pane_takes_samples_of_its_first_packets_only() {
    let mut program = windowed(None);
    program.sample_limit = 4;
    let packets = [(0, 1), (0, 2), (0, 4), (SECOND, 8), (SECOND, 16), (SECOND, 32)];
    let seen: Vec<[i64; 2]> = run(&program, &packets).iter().map(|f| [f[0], f[1]]).collect();
    assert_eq!(seen, [[1, 1], [2, 3], [2, 3], [3, 11], [4, 27], [4, 27]]);
}

#[test]
fn the_end_of_a_capture_reads_at_its_last_packets_time() {
    let program = windowed(None);
    let mut interpreter = FlowInterpreter::new(&program);
    interpreter.packet(&frame(TCP, (1, 1), (2, 2), ACK, 3), 0, &mut NoJudge);
    interpreter.packet(&frame(TCP, (1, 5), (2, 2), ACK, 4), SECOND, &mut NoJudge);
    let mut judge = |_: &[i64]| Judgement::default();
    let left: Vec<i64> = interpreter.finish(&mut judge).iter().map(|verdict| verdict.features[1]).collect();
    assert_eq!(left, [3, 4]);
    let mut interpreter = FlowInterpreter::new(&program);
    interpreter.packet(&frame(TCP, (1, 1), (2, 2), ACK, 3), 0, &mut NoJudge);
    interpreter.packet(&frame(TCP, (1, 5), (2, 2), ACK, 4), 2 * SECOND, &mut NoJudge);
    let left: Vec<i64> = interpreter.finish(&mut judge).iter().map(|verdict| verdict.features[1]).collect();
    assert_eq!(left, [0, 4]);
}

/// Directions of a table's packets are those in their flows.
#[test]
fn filters_of_a_table_know_the_flows_directions() {
    use crate::spec::typed::Direction;
    let mut answers = feature("answers", (Function::Count, None), Some(0), None);
    answers.value = answers.value.map(&mut |leaf| {
        let mut leaf = leaf.clone();
        leaf.filter.direction = Some(Direction::Backward);
        leaf
    });
    let mut spec = spec(vec![answers]);
    spec.flow.directions = Directions::Both;
    let program = build(&spec).unwrap();
    let mut interpreter = FlowInterpreter::new(&program);
    let mut send = |src: (u8, u16), dst: (u8, u16)| {
        own(interpreter.packet(&frame(TCP, src, dst, ACK, 6), 0, &mut NoJudge))
    };
    assert_eq!(send((1, 1), (2, 80)), [0]);
    assert_eq!(send((2, 80), (1, 1)), [0]);
    assert_eq!(send((2, 80), (1, 1)), [0]);
    // Host 2 opens a connection of its own: it has sent two answers.
    assert_eq!(send((2, 5), (3, 80)), [2]);
}

/// Over the time from the beginning of the pane before to the verdict: between half of the window and all of it.
#[test]
fn rates_over_windows_are_per_second_of_what_has_passed() {
    let rate = (Function::Rate, None);
    let program = build(&spec(vec![
        feature("packets", rate, None, Some(4 * SECOND)),
        feature("bytes", (Function::Rate, PAYLOAD), Some(0), Some(4 * SECOND)),
        // Above the limit of durations, half of which is a pane's.
        feature("ever", (Function::Rate, PAYLOAD), None, Some(1 << 55)),
    ]))
    .unwrap();
    let per_second =
        |sum: u64, nanos: u64| (u128::from(sum) * 256 * u128::from(SECOND) / u128::from(nanos)) as i64;
    let begin = 100 * SECOND;
    let limit = (1 << 53) - 1;
    let got = run(
        &program,
        &[(begin, 10), (begin + SECOND, 20), (begin + 2 * SECOND, 40), (begin + 5 * SECOND, 80)],
    );
    let wanted = [
        // Half of the window before the pane that has just begun.
        [per_second(1, 2 * SECOND), per_second(10, 2 * SECOND), per_second(10, limit)],
        [per_second(2, 3 * SECOND), per_second(30, 3 * SECOND), per_second(30, limit)],
        [per_second(3, 2 * SECOND), per_second(70, 2 * SECOND), per_second(70, limit)],
        // The first pane has gone.
        [per_second(2, 3 * SECOND), per_second(120, 3 * SECOND), per_second(150, limit)],
    ];
    assert_eq!(got, wanted);
    assert_eq!(wanted[0][0], 128);
}
