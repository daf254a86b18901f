//! Whole captures through the interpreter, and extraction to CSV.

use std::collections::BTreeSet;

use super::extract::{COLUMNS, extract};
use super::interpret::{FlowInterpreter, NoJudge};
use super::testing::{self, feature};
use super::{Counter, Trigger, build};
use crate::ir::packet::{Reason, TCP, parse, tcp_flags};
use crate::spec::typed::{
    Direction, Directions, End, Feature, Field, Filter, Function, Nanos, Operand, TimeUnit,
};

const FUNCTIONS: [Function; 9] = [
    Function::Count,
    Function::Sum,
    Function::Min,
    Function::Max,
    Function::First,
    Function::Last,
    Function::Mean,
    Function::Std,
    Function::StdPop,
];

const OPERANDS: [Operand; 16] = [
    Operand::Field(Field::FrameLen),
    Operand::Field(Field::IpLen),
    Operand::Field(Field::IpTtl),
    Operand::Field(Field::IpVersion),
    Operand::Field(Field::IpProto),
    Operand::Field(Field::L4Len),
    Operand::Field(Field::L4HeaderLen),
    Operand::Field(Field::L4PayloadLen),
    Operand::Field(Field::SrcPort),
    Operand::Field(Field::DstPort),
    Operand::Field(Field::TcpFlags),
    Operand::Field(Field::TcpWindow),
    Operand::Gap(TimeUnit::Nanos),
    Operand::Gap(TimeUnit::Micros),
    Operand::Gap(TimeUnit::Millis),
    Operand::Gap(TimeUnit::Seconds),
];

/// Every function of every operand, unfiltered and filtered.
fn everything() -> Vec<Feature> {
    let filters = [
        Filter::default(),
        Filter { direction: Some(Direction::Forward), ..Filter::default() },
        Filter {
            direction: Some(Direction::Backward),
            flags_set: tcp_flags::ACK,
            flags_clear: tcp_flags::SYN,
            ..Filter::default()
        },
    ];
    let mut features = Vec::new();
    for filter in filters {
        for operand in OPERANDS {
            for function in FUNCTIONS {
                let name = format!("f{}", features.len());
                features.push(feature(&name, function, Some(operand), filter.clone()));
            }
        }
    }
    features
}

/// Every capture, in both key forms, with endings, a short idle time and a small table: values stay in their
/// ranges, every packet is counted once, and the same input gives the same output.
#[test]
fn every_capture_runs_and_stays_in_range() {
    for listed in testing::captures("every_capture_runs_and_stays_in_range") {
        if !listed.ethernet {
            continue;
        }
        let capture = testing::capture(&listed.bytes);
        for directions in [Directions::Both, Directions::One] {
            let mut spec = testing::spec(everything());
            spec.flow.directions = directions;
            spec.flow.capacity = 100;
            spec.flow.idle = Some(Nanos(1_000_000_000));
            spec.flow.end = End::On { fin: true, rst: true };
            spec.triggers.every = Some(7);
            let program = build(&spec).unwrap();
            let mut interpreter = FlowInterpreter::new(&program);
            let mut verdicts = Vec::new();
            for packet in &capture.packets {
                let result = interpreter.packet(packet.data, packet.ts_ns, &mut NoJudge);
                verdicts.extend(result.verdicts().cloned());
            }
            let total: u64 = Reason::ALL.iter().map(|r| interpreter.counter(Counter::Packet(*r))).sum();
            assert_eq!(total, capture.packets.len() as u64, "{}", listed.file);
            verdicts.extend(interpreter.finish(&mut NoJudge));
            for verdict in &verdicts {
                for (feature, raw) in program.features.iter().zip(&verdict.features) {
                    let range = feature.range;
                    assert!((range.low..=range.high).contains(raw), "{} {} {raw}", listed.file, feature.name);
                }
            }
        }
    }
}

/// With one record per five-tuple, the flows of a capture are its five-tuples.
#[test]
fn flows_without_timeouts_are_the_five_tuples() {
    let spec = testing::spec(vec![feature("n", Function::Count, None, Filter::default())]);
    let program = build(&spec).unwrap();
    for listed in testing::captures("flows_without_timeouts_are_the_five_tuples") {
        if !listed.ethernet {
            continue;
        }
        let capture = testing::capture(&listed.bytes);
        let mut tuples = BTreeSet::new();
        let mut interpreter = FlowInterpreter::new(&program);
        for packet in &capture.packets {
            interpreter.packet(packet.data, packet.ts_ns, &mut NoJudge);
            if let Ok(p) = parse(packet.data, program.transports) {
                let (one, other) = ((p.src, p.src_port), (p.dst, p.dst_port));
                tuples.insert((one.min(other), one.max(other), p.proto));
            }
        }
        let rows = interpreter.finish(&mut NoJudge);
        assert_eq!(rows.len(), tuples.len(), "{}", listed.file);
        let parsed =
            capture.packets.iter().filter(|packet| parse(packet.data, program.transports).is_ok()).count();
        assert_eq!(rows.iter().map(|row| row.packets).sum::<u64>(), parsed as u64, "{}", listed.file);
    }
}

/// Keeping closed records is what makes eleven flows of eleven connections.
#[test]
fn sshguess_has_eleven_flows() {
    let Some(folder) = testing::shared("sshguess_has_eleven_flows", "pcaps") else { return };
    let bytes = std::fs::read(folder.join("zeek_sshguess.pcap")).unwrap();
    let mut spec = testing::spec(vec![feature("n", Function::Count, None, Filter::default())]);
    spec.flow.end = End::On { fin: true, rst: true };
    spec.flow.idle = Some(Nanos(120_000_000_000));
    let program = build(&spec).unwrap();
    let text = extract(&program, &testing::capture(&bytes).packets);
    let rows: Vec<&str> = text.lines().skip(1).collect();
    assert_eq!(rows.len(), 11);
    assert!(rows.iter().all(|row| row.split(',').nth(7) == Some(Trigger::End.name())), "{text}");
}

/// The shipped specifications through their whole path: text, flow program, rows that read back.
#[test]
fn shipped_specifications_extract() {
    let specs = [
        ("dsn24.spec", include_str!("../../../../specs/dsn24.spec")),
        ("dsn24-cic.spec", include_str!("../../../../specs/dsn24-cic.spec")),
        ("cic6.spec", include_str!("../../../../specs/cic6.spec")),
        ("ids.spec", include_str!("../../../../specs/ids.spec")),
    ];
    let captures = testing::captures("shipped_specifications_extract");
    for (name, text) in specs {
        let spec = crate::spec::compile(name, text).unwrap();
        let program = build(&spec).unwrap();
        assert_eq!(program.features.len(), spec.features.len());
        for (feature, declared) in program.features.iter().zip(&spec.features) {
            assert!(feature.range.high <= declared.range.high, "{name} {}", feature.name);
        }
        for listed in captures.iter().filter(|listed| listed.ethernet) {
            let capture = testing::capture(&listed.bytes);
            let text = extract(&program, &capture.packets);
            let columns = COLUMNS.split(',').count() + spec.features.len();
            assert!(text.lines().all(|line| line.split(',').count() == columns), "{name} {}", listed.file);
            let transports = program.transports;
            let follows = |proto| if proto == TCP { transports.tcp } else { transports.udp };
            let followed =
                capture.packets.iter().any(|p| parse(p.data, transports).is_ok_and(|p| follows(p.proto)));
            assert_eq!(text.lines().count() > 1, followed, "{name} {}", listed.file);
        }
    }
}

#[test]
fn extraction_prints_exact_rows() {
    let mut packets = Vec::new();
    for (payload, ttl) in [(3_u8, 0_u8), (4, 0), (4, 0)] {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 + payload, 17, ttl]);
        frame.extend([0; 15]);
        frame.extend([1]);
        frame.extend([0; 15]);
        frame.extend([2, 0, 53, 0, 99, 0, 0, 0, 0]);
        frame.extend(vec![0; usize::from(payload)]);
        packets.push(frame);
    }
    let packets: Vec<crate::capture::Packet<'_>> = packets
        .iter()
        .zip([5, 1_000, 3_000])
        .map(|(data, ts_ns)| crate::capture::Packet { number: 1, ts_ns, data, original_len: 0 })
        .collect();
    let len = Some(Operand::Field(Field::L4PayloadLen));
    let spec = testing::spec(vec![
        feature("bytes", Function::Sum, len, Filter::default()),
        feature("mean", Function::Mean, len, Filter::default()),
        feature("std", Function::Std, len, Filter::default()),
    ]);
    let program = build(&spec).unwrap();
    let text = extract(&program, &packets);
    // 11/3 and sqrt(1/3), rounded down to 1/256: 938/256 and 147/256.
    let expected = format!("{COLUMNS},bytes,mean,std\n5,3000,::1,::2,53,99,17,eof,11,3.6640625,0.57421875\n");
    assert_eq!(text, expected);
}
