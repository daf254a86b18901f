//! Features of the reference captures against the tables that tshark made of them.
//!
//! Flow by flow against the grouped table within its rounding, and exactly against values recomputed here from
//! the table of packets, by other formulas than the interpreter's.

use std::collections::BTreeMap;

use super::interpret::{FlowInterpreter, NoJudge, Verdict};
use super::testing::{self, table};
use super::{build, interpret};
use crate::ir::packet::{Host, tcp_flags};
use crate::spec::typed::{Direction, Feature, Field, Filter, Function, Operand, TimeUnit};

pub(super) const CAPTURES: [(&str, &str); 5] = [
    ("zeek_sshguess", "pcap"),
    ("doup123_slowloris", "pcap"),
    ("teams", "pcap"),
    ("http_ipv6", "pcap"),
    ("dnp3", "pcap"),
];

const OPERANDS: [(&str, Operand); 5] = [
    ("frame_len", Operand::Field(Field::FrameLen)),
    ("ip_len", Operand::Field(Field::IpLen)),
    ("l4_len", Operand::Field(Field::L4Len)),
    ("payload", Operand::Field(Field::L4PayloadLen)),
    ("iat_ns", Operand::Gap(TimeUnit::Nanos)),
];

const FUNCTIONS: [(&str, Function); 6] = [
    ("min", Function::Min),
    ("max", Function::Max),
    ("sum", Function::Sum),
    ("mean", Function::Mean),
    ("std_pop", Function::StdPop),
    ("std_sample", Function::Std),
];

const FLAGS: [(&str, u8); 8] = [
    ("fin", tcp_flags::FIN),
    ("syn", tcp_flags::SYN),
    ("rst", tcp_flags::RST),
    ("psh", tcp_flags::PSH),
    ("ack", tcp_flags::ACK),
    ("urg", tcp_flags::URG),
    ("ece", tcp_flags::ECE),
    ("cwr", tcp_flags::CWR),
];

const SIDES: [(&str, Option<Direction>); 3] =
    [("all", None), ("fwd", Some(Direction::Forward)), ("bwd", Some(Direction::Backward))];

/// A feature for every column of the grouped table that the language can say, named like the column.
fn features() -> Vec<Feature> {
    let mut features = Vec::new();
    for (side, direction) in SIDES {
        let filter = |flags_set| Filter { direction, flags_set, ..Filter::default() };
        let mut push = |name: &str, function, operand, flags| {
            features.push(testing::feature(&format!("{side}_{name}"), function, operand, filter(flags)));
        };
        push("pkts", Function::Count, None, 0);
        for (operand_name, operand) in OPERANDS {
            for (function_name, function) in FUNCTIONS {
                push(&format!("{operand_name}_{function_name}"), function, Some(operand), 0);
            }
        }
        for (flag, bit) in FLAGS {
            push(flag, Function::Count, None, bit);
        }
        push("l4hdr_sum", Function::Sum, Some(Operand::Field(Field::L4HeaderLen)), 0);
        push("init_win", Function::First, Some(Operand::Field(Field::TcpWindow)), 0);
    }
    features
}

/// The columns of the grouped table that are no statistic of one field; only the count of packets out of order is one
/// that the language cannot say.
fn other_features() -> Vec<Feature> {
    let field = |name: &str, field| {
        testing::feature(name, Function::First, Some(Operand::Field(field)), Filter::default())
    };
    let gap = |name: &str, function| {
        testing::feature(name, function, Some(Operand::Gap(TimeUnit::Nanos)), Filter::default())
    };
    let mut features = vec![
        field("sport", Field::SrcPort),
        field("dport", Field::DstPort),
        field("proto", Field::IpProto),
        gap("duration_ns", Function::Duration),
        gap("max_gap_ns", Function::Max),
    ];
    // Bytes of IP headers are those of packets without those of their transport.
    let headers = testing::compiled(
        "all_iphdr_sum = sum(ip.len) - sum(l4.len); \
         fwd_iphdr_sum = sum(ip.len) where fwd - sum(l4.len) where fwd; \
         bwd_iphdr_sum = sum(ip.len) where bwd - sum(l4.len) where bwd;",
    );
    features.extend(headers.features);
    features
}

type FlowKey = (String, u16, String, u16, u8);

fn flow_key(verdict: &Verdict) -> FlowKey {
    (verdict.src.to_string(), verdict.src_port, verdict.dst.to_string(), verdict.dst_port, verdict.proto)
}

fn verdicts(file: &str, program: &super::FlowProgram) -> Vec<Verdict> {
    let path = testing::shared("reference", "pcaps").unwrap().join(file);
    let bytes = std::fs::read(path).unwrap();
    let mut interpreter = FlowInterpreter::new(program);
    for packet in testing::capture(&bytes).packets {
        let result = interpreter.packet(packet.data, packet.ts_ns, &mut NoJudge);
        assert_eq!(result.fate, interpret::Fate::Pass);
        assert_eq!(result.verdicts().count(), 0);
    }
    interpreter.finish(&mut NoJudge)
}

#[test]
fn grouped_flows_agree_with_tshark() {
    let Some(folder) = testing::shared("grouped_flows_agree_with_tshark", "reference-features") else {
        return;
    };
    let spec = testing::spec(features().into_iter().chain(other_features()).collect());
    let program = build(&spec).unwrap();
    let mut compared = 0;
    for (name, extension) in CAPTURES {
        let (columns, rows) = table(&folder.join(format!("{name}.flows_tshark.csv.gz")));
        let at = |column: &str| columns.iter().position(|c| c == column).unwrap();
        let flows: BTreeMap<FlowKey, Verdict> = verdicts(&format!("{name}.{extension}"), &program)
            .into_iter()
            .map(|verdict| (flow_key(&verdict), verdict))
            .collect();
        assert_eq!(flows.len(), rows.len(), "{name}");
        for row in rows {
            let host = |column: &str| row[at(column)].parse::<std::net::IpAddr>().unwrap().to_string();
            let port = |column: &str| row[at(column)].parse::<u16>().unwrap();
            let key =
                (host("src"), port("sport"), host("dst"), port("dport"), row[at("proto")].parse().unwrap());
            let verdict = &flows[&key];
            assert_eq!(verdict.first_ns.to_string(), row[at("first_ns")], "{name} {key:?}");
            assert_eq!(verdict.last_ns.to_string(), row[at("last_ns")], "{name} {key:?}");
            for (feature, raw) in program.features.iter().zip(&verdict.features) {
                let cell = &row[at(&feature.name)];
                // The table leaves cells empty, or -1, where there is no packet; for us that is 0.
                let expected: f64 = if cell.is_empty() || cell == "-1" { 0.0 } else { cell.parse().unwrap() };
                let got = *raw as f64 / f64::from(1_u32 << feature.fraction_bits.0);
                // The table has ten significant digits; ours are rounded down to 1/256.
                let step = if feature.fraction_bits.0 == 0 { 0.0 } else { 1.0 / 256.0 };
                let slack = expected.abs() * 1e-9 + step;
                assert!(
                    (got - expected).abs() <= slack,
                    "{name} {key:?} {}: {got}, tshark {expected}",
                    feature.name
                );
                compared += 1;
            }
            // All columns but addresses, the two times above and packets out of order.
            assert_eq!(program.features.len() + 5, columns.len());
        }
    }
    // 123 flows of 131 columns.
    assert_eq!(compared, 123 * 131);
}

/// The six CICFlowMeter columns of specs/dsn24-cic.spec as that specification computes them, against tshark's table.
/// Its flows have no end and no timeout, so the specification is taken without either.
#[test]
fn the_second_dsn_set_agrees_with_tshark() {
    let Some(folder) = testing::shared("the_second_dsn_set_agrees_with_tshark", "reference-features") else {
        return;
    };
    let mut spec =
        crate::spec::compile("dsn24-cic.spec", include_str!("../../../../specs/dsn24-cic.spec")).unwrap();
    spec.flow.end = crate::spec::typed::End::Never;
    spec.flow.idle = None;
    let program = build(&spec).unwrap();
    let columns_of = [
        ("fwd_len_max", "fwd_payload_max", 1.0),
        ("fwd_iat_max", "fwd_iat_ns_max", 1_000.0),
        ("fwd_len_min", "fwd_payload_min", 1.0),
        ("dst_port", "dport", 1.0),
        ("fwd_header_len", "fwd_l4hdr_sum", 1.0),
        ("fwd_packets", "fwd_pkts", 1.0),
    ];
    let mut compared = 0;
    for (name, extension) in CAPTURES {
        let (columns, rows) = table(&folder.join(format!("{name}.flows_tshark.csv.gz")));
        let at = |column: &str| columns.iter().position(|c| c == column).unwrap();
        let verdicts = verdicts(&format!("{name}.{extension}"), &program);
        assert_eq!(verdicts.len(), rows.len(), "{name}");
        for verdict in verdicts {
            let same = |row: &&csv::StringRecord| {
                row[at("first_ns")] == verdict.first_ns.to_string()
                    && row[at("sport")] == verdict.src_port.to_string()
                    && row[at("dport")] == verdict.dst_port.to_string()
            };
            let row = rows.iter().find(same).unwrap();
            for ((feature, raw), (ours, theirs, unit)) in
                program.features.iter().zip(&verdict.features).zip(columns_of)
            {
                assert_eq!(feature.name, ours);
                let cell = &row[at(theirs)];
                let expected: f64 = if cell.is_empty() || cell == "-1" { 0.0 } else { cell.parse().unwrap() };
                assert_eq!(*raw as f64, (expected / unit).floor(), "{name} {ours} {:?}", verdict.src);
                compared += 1;
            }
        }
    }
    assert!(compared > 600, "{compared}");
}

/// One row of the table of packets.
pub(super) struct Row {
    pub(super) ts_ns: i128,
    pub(super) src: (Host, u16),
    pub(super) dst: (Host, u16),
    pub(super) proto: u8,
    pub(super) flags: u8,
    pub(super) window: u64,
    pub(super) values: [i128; 4],
    pub(super) l4_header: i128,
}

impl Row {
    /// Whether the other is of the same five-tuple, in either direction.
    pub(super) fn same_flow(&self, other: &Self) -> bool {
        self.proto == other.proto
            && ((self.src, self.dst) == (other.src, other.dst)
                || (self.src, self.dst) == (other.dst, other.src))
    }
}

fn host(text: &str) -> Host {
    match text.parse().unwrap() {
        std::net::IpAddr::V4(v4) => Host::from_ipv4(v4.octets()),
        std::net::IpAddr::V6(v6) => Host(v6.octets()),
    }
}

/// TCP and UDP rows of a packet table. Numbers may be written as floats.
pub(super) fn packet_rows(path: &std::path::Path) -> Vec<Row> {
    let (columns, rows) = table(path);
    let at = |column: &str| columns.iter().position(|c| c == column).unwrap();
    let number = |row: &csv::StringRecord, column: &str| {
        let cell = &row[at(column)];
        if cell.is_empty() { 0 } else { cell.trim_end_matches(".0").parse::<i128>().unwrap() }
    };
    rows.iter()
        .filter(|row| !row[at("sport")].is_empty())
        .map(|row| Row {
            ts_ns: number(row, "ts_ns"),
            src: (host(&row[at("src")]), number(row, "sport") as u16),
            dst: (host(&row[at("dst")]), number(row, "dport") as u16),
            proto: number(row, "proto") as u8,
            flags: number(row, "tcp_flags") as u8,
            window: number(row, "tcp_win") as u64,
            values: ["frame_len", "ip_len", "l4_len", "payload"].map(|column| number(row, column)),
            l4_header: number(row, "l4_hdr"),
        })
        .collect()
}

/// Checks a raw value against the samples, by the definition of the function.
pub(super) fn check(function: Function, samples: &[i128], raw: i64, what: &str) {
    let n = samples.len() as i128;
    let raw = i128::from(raw);
    let sum: i128 = samples.iter().sum();
    // n² times the population variance, as a sum over pairs.
    let spread = || -> i128 {
        samples.iter().enumerate().flat_map(|(i, a)| samples[..i].iter().map(move |b| (a - b).pow(2))).sum()
    };
    let root = |divisor: i128| {
        let scaled = spread() * 65_536;
        assert!(raw * raw * divisor <= scaled && (raw + 1) * (raw + 1) * divisor > scaled, "{what}: {raw}");
    };
    let square = |divisor: i128| {
        let scaled = spread() * 256;
        assert!(raw * divisor <= scaled && (raw + 1) * divisor > scaled, "{what}: {raw}");
    };
    match function {
        Function::Duration => unreachable!("durations are not compared"),
        Function::Count => assert_eq!(raw, n, "{what}"),
        Function::Sum => assert_eq!(raw, sum, "{what}"),
        Function::Min => assert_eq!(raw, samples.iter().min().copied().unwrap_or(0), "{what}"),
        Function::Max => assert_eq!(raw, samples.iter().max().copied().unwrap_or(0), "{what}"),
        Function::First => assert_eq!(raw, samples.first().copied().unwrap_or(0), "{what}"),
        Function::Last => assert_eq!(raw, samples.last().copied().unwrap_or(0), "{what}"),
        Function::Mean if n == 0 => assert_eq!(raw, 0, "{what}"),
        Function::Mean => assert!(raw * n <= sum * 256 && (raw + 1) * n > sum * 256, "{what}: {raw}"),
        Function::StdPop if n == 0 => assert_eq!(raw, 0, "{what}"),
        Function::StdPop => root(n * n),
        Function::Var if n < 2 => assert_eq!(raw, 0, "{what}"),
        Function::Var => square(n * (n - 1)),
        Function::VarPop if n == 0 => assert_eq!(raw, 0, "{what}"),
        Function::VarPop => square(n * n),
        Function::Ewma(_) | Function::Distinct(_) | Function::Rate => {
            unreachable!("not compared with the grouped table")
        }
        Function::Std if n < 2 => assert_eq!(raw, 0, "{what}"),
        Function::Std => root(n * (n - 1)),
    }
}

#[test]
fn features_are_exactly_their_definitions() {
    let Some(folder) = testing::shared("features_are_exactly_their_definitions", "reference-features") else {
        return;
    };
    let spec = testing::spec(features());
    let program = build(&spec).unwrap();
    for (name, extension) in CAPTURES {
        let rows = packet_rows(&folder.join(format!("{name}.packets.csv.gz")));
        let mut flows: Vec<Vec<&Row>> = Vec::new();
        for row in &rows {
            match flows.iter_mut().find(|flow| flow[0].same_flow(row)) {
                Some(flow) => flow.push(row),
                None => flows.push(vec![row]),
            }
        }
        let verdicts = verdicts(&format!("{name}.{extension}"), &program);
        assert_eq!(verdicts.len(), flows.len(), "{name}");
        for (flow, verdict) in flows.iter().zip(&verdicts) {
            assert_eq!((verdict.src, verdict.src_port), flow[0].src, "{name}");
            for (feature, raw) in spec.features.iter().zip(&verdict.features) {
                let aggregate = feature.value.as_leaf().unwrap();
                let chosen: Vec<&&Row> = flow
                    .iter()
                    .filter(|row| {
                        let forward = row.src == flow[0].src;
                        aggregate.filter.direction.is_none_or(|d| (d == Direction::Forward) == forward)
                            && row.flags & aggregate.filter.flags_set == aggregate.filter.flags_set
                    })
                    .collect();
                let samples: Vec<i128> = match aggregate.operand {
                    None => chosen.iter().map(|_| 1).collect(),
                    Some(Operand::Address(_)) => unreachable!("addresses are not compared"),
                    Some(Operand::Gap(_)) => {
                        chosen.windows(2).map(|pair| (pair[1].ts_ns - pair[0].ts_ns).max(0)).collect()
                    }
                    Some(Operand::Field(field)) => {
                        let compared = |row: &&&Row| {
                            let known = [
                                (Field::FrameLen, row.values[0]),
                                (Field::IpLen, row.values[1]),
                                (Field::L4Len, row.values[2]),
                                (Field::L4PayloadLen, row.values[3]),
                                (Field::L4HeaderLen, row.l4_header),
                                (Field::TcpWindow, i128::from(row.window)),
                            ];
                            known.into_iter().find(|(of, _)| *of == field).expect("a compared field").1
                        };
                        chosen.iter().map(compared).collect()
                    }
                };
                let what = format!("{name} {} {:?}", feature.name, verdict.src);
                check(aggregate.function, &samples, *raw, &what);
            }
        }
    }
}
