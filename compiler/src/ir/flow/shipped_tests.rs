//! Shipped specifications against the tools that they are named after, on the captures of the shared folder.

use std::collections::{BTreeMap, BTreeSet};

use super::interpret::{FlowInterpreter, NoJudge, Verdict};
use super::reference_tests::{CAPTURES, Row, check, packet_rows};
use super::testing::{self, table};
use super::{FlowProgram, build};
use crate::ir::FractionBits;
use crate::spec::typed::{End, FeatureSpec, Function};

const NFSTREAM: &str = include_str!("../../../../specs/nfstream.spec");
const CICFLOWMETER: &str = include_str!("../../../../specs/cicflowmeter.spec");
const BACHL_HARA: &str = include_str!("../../../../specs/bachl-hara.spec");

fn compiled(source: &str) -> FeatureSpec {
    crate::spec::compile("shipped.spec", source).unwrap()
}

/// Every verdict on a capture, in order; those of records that are still open come last.
fn verdicts(name: &str, extension: &str, program: &FlowProgram) -> Vec<Verdict> {
    let path = testing::shared("shipped", "pcaps").unwrap().join(format!("{name}.{extension}"));
    let bytes = std::fs::read(path).unwrap();
    let mut interpreter = FlowInterpreter::new(program);
    let mut found = Vec::new();
    for packet in testing::capture(&bytes).packets {
        found.extend(interpreter.packet(packet.data, packet.ts_ns, &mut NoJudge).verdicts().cloned());
    }
    found.extend(interpreter.finish(&mut NoJudge));
    found
}

/// Columns of nfstream that are no features: names, addresses and times of day.
fn is_feature(column: &str) -> bool {
    let identity = ["id", "expiration_id", "src_ip", "dst_ip", "vlan_id", "tunnel_id"];
    !identity.contains(&column) && !column.ends_with("_seen_ms")
}

/// Whole numbers are equal, others cut to 1/256; the tool computes in floating point.
fn same(raw: i64, bits: FractionBits, cell: &str, what: &str) {
    let expected: f64 = cell.parse().unwrap();
    if bits.0 == 0 {
        assert_eq!(raw as f64, expected, "{what}");
        return;
    }
    let got = raw as f64 / 256.0;
    let slack = expected.abs() * 1e-9 + 1e-9;
    assert!(
        got <= expected + slack && expected < got + 1.0 / 256.0 + slack,
        "{what}: {got}, tool {expected}"
    );
}

#[test]
fn nfstream_has_the_same_flows_and_features() {
    let Some(folder) = testing::shared("nfstream_has_the_same_flows_and_features", "reference-features")
    else {
        return;
    };
    let mut compared = 0;
    for (mode, length) in [(0, "frame.len"), (1, "ip.len"), (3, "l4.payload_len")] {
        let program = build(&compiled(&NFSTREAM.replace("frame.len", length))).unwrap();
        for (name, extension) in CAPTURES {
            let (columns, rows) = table(&folder.join(format!("{name}.flows_nfstream_mode{mode}.csv.gz")));
            let at = |column: &str| columns.iter().position(|c| c == column).unwrap();
            let ours: BTreeSet<&str> = program.features.iter().map(|f| f.name.as_str()).collect();
            let theirs: BTreeSet<&str> =
                columns.iter().map(String::as_str).filter(|c| is_feature(c)).collect();
            assert_eq!(ours, theirs);
            let key = |src: &str, sport: &str, dst: &str, dport: &str, proto: &str, first: String| {
                [src, sport, dst, dport, proto, &first].join(" ")
            };
            let flows: BTreeMap<String, Verdict> = verdicts(name, extension, &program)
                .into_iter()
                .map(|v| {
                    let (sport, dport) = (v.src_port.to_string(), v.dst_port.to_string());
                    let (src, dst) = (v.src.to_string(), v.dst.to_string());
                    let first = (v.first_ns / 1_000_000).to_string();
                    (key(&src, &sport, &dst, &dport, &v.proto.to_string(), first), v)
                })
                .collect();
            let rows: Vec<_> =
                rows.iter().filter(|row| ["6", "17"].contains(&&row[at("protocol")])).collect();
            assert_eq!(flows.len(), rows.len(), "{name}");
            for row in rows {
                let host = |column: &str| row[at(column)].parse::<std::net::IpAddr>().unwrap().to_string();
                let first = row[at("bidirectional_first_seen_ms")].to_owned();
                let key = key(
                    &host("src_ip"),
                    &row[at("src_port")],
                    &host("dst_ip"),
                    &row[at("dst_port")],
                    &row[at("protocol")],
                    first,
                );
                let verdict = flows.get(&key).unwrap_or_else(|| panic!("{name} has no flow {key}"));
                let last = (verdict.last_ns / 1_000_000).to_string();
                assert_eq!(last, row[at("bidirectional_last_seen_ms")], "{name} {key}");
                for (feature, raw) in program.features.iter().zip(&verdict.features) {
                    let what = format!("{name}, mode {mode}, {key}: {}", feature.name);
                    same(*raw, feature.fraction_bits, &row[at(&feature.name)], &what);
                    compared += 1;
                }
            }
        }
    }
    // 124 flows, three modes, 61 features.
    assert!(compared >= 20_000, "{compared}");
}

/// Rows of a capture by flow, in the order of first packets.
fn by_flow(rows: &[Row]) -> Vec<Vec<&Row>> {
    let mut flows: Vec<Vec<&Row>> = Vec::new();
    for row in rows {
        match flows.iter_mut().find(|flow| flow[0].same_flow(row)) {
            Some(flow) => flow.push(row),
            None => flows.push(vec![row]),
        }
    }
    flows
}

/// Samples of CICFlowMeter's statistics.
#[derive(Clone, Copy)]
enum Of {
    Packets,
    Length,
    Iat,
    Header,
    Window,
    Flag(u8),
    WithData,
}

/// `floor(256 * a / b)`.
fn quotient(a: i128, b: i128) -> i128 {
    if b == 0 { 0 } else { 256 * a / b }
}

/// Checks one of CICFlowMeter's columns by the definition of the tool.
fn cic(name: &str, flow: &[&Row], raw: i64) {
    use Function::{Count, First, Max, Mean, Min, Std, Sum, Var};
    let forward = |row: &Row| row.src == flow[0].src;
    let side: Vec<&Row> = match name {
        n if n.starts_with("fwd") || n.starts_with("total_fwd") || n.ends_with("_fwd") => {
            flow.iter().copied().filter(|row| forward(row)).collect()
        }
        n if n.starts_with("bwd") || n.starts_with("total_bwd") || n.ends_with("_bwd") => {
            flow.iter().copied().filter(|row| !forward(row)).collect()
        }
        _ => flow.to_vec(),
    };
    let samples = |of: Of| -> Vec<i128> {
        match of {
            Of::Packets => side.iter().map(|_| 1).collect(),
            Of::Length => side.iter().map(|row| row.values[3]).collect(),
            // The tool's clock counts microseconds.
            Of::Iat => {
                side.windows(2).map(|pair| (pair[1].ts_ns / 1000 - pair[0].ts_ns / 1000).max(0)).collect()
            }
            Of::Header => side.iter().map(|row| row.l4_header).collect(),
            Of::Window => side.iter().map(|row| i128::from(row.window)).collect(),
            Of::Flag(bit) => side.iter().filter(|row| row.flags & bit != 0).map(|_| 1).collect(),
            Of::WithData => side.iter().filter(|row| row.values[3] > 0).map(|_| 1).collect(),
        }
    };
    let what = format!("{name} {:?}", flow[0].src);
    let is = |expected: i128| assert_eq!(i128::from(raw), expected, "{what}");
    let by = |function: Function, of: Of| check(function, &samples(of), raw, &what);
    let total = |of: Of| samples(of).iter().sum::<i128>();
    let (first, last) = (flow[0].ts_ns, flow[flow.len() - 1].ts_ns);
    let per_second = |sum: i128| is(quotient(sum * 1_000_000_000, last - first));
    match name {
        "src_port" => is(flow[0].src.1.into()),
        "dst_port" => is(flow[0].dst.1.into()),
        "protocol" => is(flow[0].proto.into()),
        "flow_duration" => is(last / 1000 - first / 1000),
        "total_fwd_packets" | "total_bwd_packets" => by(Count, Of::Packets),
        "total_length_fwd" | "total_length_bwd" => by(Sum, Of::Length),
        "flow_bytes_s" => per_second(total(Of::Length)),
        "flow_packets_s" | "fwd_packets_s" | "bwd_packets_s" => per_second(total(Of::Packets)),
        "fwd_psh_flags" | "bwd_psh_flags" | "psh_flag_count" => by(Count, Of::Flag(0x08)),
        "fwd_urg_flags" | "bwd_urg_flags" | "urg_flag_count" => by(Count, Of::Flag(0x20)),
        "fin_flag_count" => by(Count, Of::Flag(0x01)),
        "syn_flag_count" => by(Count, Of::Flag(0x02)),
        "rst_flag_count" => by(Count, Of::Flag(0x04)),
        "ack_flag_count" => by(Count, Of::Flag(0x10)),
        "ece_flag_count" => by(Count, Of::Flag(0x40)),
        "cwr_flag_count" => by(Count, Of::Flag(0x80)),
        "fwd_header_length" | "bwd_header_length" => by(Sum, Of::Header),
        "fwd_seg_size_min" => by(Min, Of::Header),
        "fwd_init_win" | "bwd_init_win" => by(First, Of::Window),
        "fwd_act_data" => by(Count, Of::WithData),
        "packet_length_variance" => by(Var, Of::Length),
        "down_up_ratio" => {
            let forward = flow.iter().filter(|row| forward(row)).count() as i128;
            is(quotient(flow.len() as i128 - forward, forward));
        }
        _ => {
            let (stem, statistic) = name.rsplit_once('_').unwrap();
            let of = match stem.trim_start_matches("fwd_").trim_start_matches("bwd_") {
                "packet_length" => Of::Length,
                "iat" | "flow_iat" => Of::Iat,
                other => panic!("{other} is not checked"),
            };
            let function = match statistic {
                "max" => Max,
                "min" => Min,
                "mean" => Mean,
                "std" => Std,
                "total" => Sum,
                other => panic!("{other} is not checked"),
            };
            by(function, of);
        }
    }
}

/// The tool itself is not at hand: its definitions are written out above, over tshark's table of packets. Its flows are
/// cut by timeouts and ends, so the specification is taken without any.
#[test]
fn cicflowmeter_columns_are_its_definitions() {
    let Some(folder) = testing::shared("cicflowmeter_columns_are_its_definitions", "reference-features")
    else {
        return;
    };
    let mut spec = compiled(CICFLOWMETER);
    spec.flow.end = End::Never;
    spec.flow.active = None;
    let program = build(&spec).unwrap();
    assert_eq!(program.features.len(), 58);
    for (name, extension) in CAPTURES {
        let rows = packet_rows(&folder.join(format!("{name}.packets.csv.gz")));
        let flows = by_flow(&rows);
        let verdicts = verdicts(name, extension, &program);
        assert_eq!(verdicts.len(), flows.len(), "{name}");
        for (flow, verdict) in flows.iter().zip(&verdicts) {
            for (feature, raw) in program.features.iter().zip(&verdict.features) {
                cic(&feature.name, flow, *raw);
            }
        }
    }
}

/// The paper's program in its own arithmetic, 16 fraction bits; deviations as the specification states them.
#[test]
fn bachl_hara_features_follow_the_papers_program() {
    let Some(folder) = testing::shared("bachl_hara_features_follow_the_papers_program", "reference-features")
    else {
        return;
    };
    let mut spec = compiled(BACHL_HARA);
    spec.flow.idle = None;
    spec.triggers.end = false;
    let program = build(&spec).unwrap();
    let names: Vec<&str> = program.features.iter().map(|feature| feature.name.as_str()).collect();
    for (name, extension) in CAPTURES {
        let rows = packet_rows(&folder.join(format!("{name}.packets.csv.gz")));
        let mut flows: Vec<Vec<&Row>> = Vec::new();
        let found = verdicts(name, extension, &program);
        let each: Vec<&Verdict> = found.iter().take(rows.len()).collect();
        for (row, verdict) in rows.iter().zip(each) {
            let place = flows.iter().position(|flow| flow[0].same_flow(row)).unwrap_or_else(|| {
                flows.push(Vec::new());
                flows.len() - 1
            });
            flows[place].push(row);
            let flow = &flows[place];
            let n = flow.len() as i128;
            assert_eq!(i128::from(verdict.packets), n);
            let length = |row: &&Row| row.values[1];
            let gaps: Vec<i128> =
                flow.windows(2).map(|pair| (pair[1].ts_ns - pair[0].ts_ns).max(0)).collect();
            let forward = flow.iter().filter(|row| row.src == flow[0].src).count() as i128;
            for (name, raw) in names.iter().zip(&verdict.features) {
                let what = format!("{name} after {n} packets of {:?}", flow[0].src);
                let is = |expected: i128| assert_eq!(i128::from(*raw), expected, "{what}");
                let mean = |sum: i128| ((sum << 16) / n) >> 8;
                match *name {
                    "src_port" => is(flow[0].src.1.into()),
                    "dst_port" => is(flow[0].dst.1.into()),
                    "protocol" => is(row.proto.into()),
                    "length" => is(length(&row)),
                    "gap_us" => is(gaps.last().map_or(0, |gap| gap / 1000)),
                    "direction" => is((row.src.1 == flow[0].src.1).into()),
                    "length_mean" => is(mean(flow.iter().map(length).sum())),
                    "gap_mean" => {
                        // In nanoseconds there; here cut to microseconds before and to 1/256 after the division.
                        let theirs = (gaps.iter().sum::<i128>() << 16) / n / 1000;
                        let ours = i128::from(*raw) << 8;
                        let lost = (1 << 16) / n + (1 << 8) + 2;
                        assert!((-1..=lost).contains(&(theirs - ours)), "{what}: {ours}, {theirs}");
                    }
                    "direction_mean" => is(mean(forward)),
                    "length_dev" => {
                        let samples: Vec<i128> = flow.iter().map(length).collect();
                        check(Function::StdPop, &samples, *raw, &what);
                    }
                    "gap_dev" => {
                        let samples: Vec<i128> = gaps.iter().map(|gap| gap / 1000).collect();
                        check(Function::StdPop, &samples, *raw, &what);
                    }
                    "direction_dev" => {
                        let p = 256 * forward / n;
                        is((2 * p * (256 - p)) >> 8);
                    }
                    other => panic!("{other} is not checked"),
                }
            }
        }
    }
}
