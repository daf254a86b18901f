//! Packets that are judged one by one: against hand-made rows, and `header.spec` against tshark's table.

use super::extract::{COLUMNS, extract};
use super::interpret::{Acts, Fate, FlowInterpreter, Judgement, Mode, NoJudge};
use super::lists::HostLists;
use super::reference_tests::CAPTURES;
use super::{Counter, FlowProgram, build, testing};
use crate::capture::Packet;
use crate::ir::packet::{Host, Reason};

/// IPv4 and UDP from 10.0.0.1:7 to 10.0.0.2:9, with so many bytes of payload and padding.
fn udp(payload: &[u8], padding: usize) -> Vec<u8> {
    let length = 8 + payload.len() as u8;
    let mut frame = vec![0; 12];
    frame.extend([8, 0, 0x45, 0, 0, 20 + length, 0, 1, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 7, 0, 9, 0, length, 0, 0]);
    frame.extend(payload);
    frame.resize(frame.len() + padding, 0xee);
    frame
}

fn program(packets: &str, features: &str, at: &str, rules: &str) -> FlowProgram {
    let source = format!(
        "spec s v1;\nattach xdp;\n{packets}\nfeatures {{ {features} }}\nmodel {{ labels benign, attack; }}\n\
         classify packet {at};\n{rules}\n"
    );
    build(&crate::spec::compile("s.spec", &source).unwrap_or_else(|refused| panic!("{refused:?}"))).unwrap()
}

fn packets(frames: &[Vec<u8>]) -> Vec<Packet<'_>> {
    let numbered = frames.iter().zip(1_u64..);
    numbered.map(|(data, number)| Packet { number, ts_ns: number * 1_000, data, original_len: 0 }).collect()
}

#[test]
fn rows_are_packets() {
    let mut icmp = udp(&[], 0);
    icmp[23] = 1;
    // Two bytes and padding, four bytes, no IP, ICMP, five bytes.
    let frames = [udp(&[200, 7], 3), udp(&[1, 2, 3, 4], 0), vec![0; 60], icmp, udp(&[9, 8, 7, 6, 5], 0)];
    let features = "n = l4.payload_len; half = l4.payload_len / ip.len; long = l4.payload_len > 3;";
    let every = program("packets on udp;", features, "at every packet", "");
    // 2/30, 4/32 and 5/33 rounded down to 1/256: 17, 32 and 38 of 256.
    let row = |at: u32, rest: &str| format!("{at},{at},10.0.0.1,10.0.0.2,7,9,17,every,{rest}\n");
    let first = row(1_000, "2,0.06640625,0");
    let second = row(2_000, "4,0.125,1");
    let last = row(5_000, "5,0.1484375,1");
    let head = format!("{COLUMNS},n,half,long\n");
    assert_eq!(extract(&every, &packets(&frames)), format!("{head}{first}{second}{last}"));
    // Packets of other transports, and those that the condition excludes, have no number.
    let third = program("packets on udp;", features, "at every 3 packets", "");
    assert_eq!(extract(&third, &packets(&frames)), format!("{head}{last}"));
    let some = program("packets on udp where l4.payload_len > 2;", features, "at every 2 packets", "");
    assert_eq!(extract(&some, &packets(&frames)), format!("{head}{last}"));
    // Without `packets on` and `at`, every packet of every transport.
    let all = program("", "kind = icmp.type; number = ip.proto;", "", "");
    let rows: Vec<String> = extract(&all, &packets(&frames)).lines().map(str::to_owned).collect();
    assert_eq!(rows.len(), 5);
    assert!(rows[3].ends_with(",0,0,1,every,0,1"), "{}", rows[3]);
}

#[test]
fn bytes_are_those_of_the_payload() {
    let mut cut = udp(&[1, 2, 3, 4], 0);
    cut.truncate(44);
    // Two bytes and padding, cut behind two of four bytes, five bytes, none.
    let frames = [udp(&[200, 7], 3), cut, udp(&[9, 8, 7, 6, 5], 0), udp(&[], 18)];
    let every = program(
        "packets on udp;",
        "one = payload[1]; p = payload[0..3]; end = payload[2..5]; word = payload[0] * 256 + payload[1];",
        "",
        "",
    );
    let text = extract(&every, &packets(&frames));
    let rows: Vec<&str> =
        text.lines().map(|line| line.split_once(COLUMNS).map_or(line, |(_, rest)| rest)).collect();
    assert_eq!(rows[0], ",one,p_0,p_1,p_2,end_2,end_3,end_4,word");
    for (row, wanted) in rows[1..].iter().zip([
        ",7,200,7,0,0,0,0,51207",
        ",2,1,2,0,0,0,0,258",
        ",8,9,8,7,7,6,5,2312",
        ",0,0,0,0,0,0,0,0",
    ]) {
        assert!(row.ends_with(&format!(",every{wanted}")), "{row}");
    }
    // A condition asks for them as for any other field.
    let some = program("packets on udp where payload[0] >= 9;", "n = payload[4];", "", "");
    assert_eq!(extract(&some, &packets(&frames)).lines().count(), 3);
}

#[test]
fn addresses_and_sequence_numbers_are_numbers() {
    let mut frame = udp(&[], 0);
    frame[..12].copy_from_slice(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0, 1]);
    let program = program(
        "packets on udp, tcp, sctp;",
        "to = eth.dst; from = eth.src; seq = tcp.seq; tag = sctp.tag;",
        "",
        "",
    );
    let text = extract(&program, &packets(&[frame.clone()]));
    assert!(text.ends_with(",every,281474976710655,2199023255553,0,0\n"), "{text}");
    frame[23] = 132;
    frame[16..18].copy_from_slice(&[0, 40]);
    frame.extend([0; 12]);
    frame[38..42].copy_from_slice(&[0x80, 0, 0, 1]);
    let text = extract(&program, &packets(&[frame]));
    assert!(text.ends_with(",0,2147483649\n"), "{text}");
}

#[test]
fn lists_are_asked_and_rules_act() {
    let rules = "on attack { drop; block ip.src for 1 s; }";
    let program =
        program("packets on udp where ip.len > 28;", "len = l4.payload_len;", "at every packet", rules);
    let mut lists = HostLists::default();
    lists.block(Host::from_ipv4([10, 0, 0, 1]), 5);
    let mut judged = Vec::new();
    let mut judge = |features: &[i64]| {
        judged.push(features[0]);
        Judgement { label: 1, rules: u32::from(features[0] > 100), outputs: Vec::new() }
    };
    let mut interpreter = FlowInterpreter::with(&program, Mode::Enforce, lists);
    // A packet that is not judged passes whoever is blocked.
    let fates: Vec<(Fate, bool)> = [(1, 3), (0, 4), (1, 4), (2, 5), (200, 6), (3, 7), (0, 7)]
        .into_iter()
        .map(|(len, now)| {
            let result = interpreter.packet(&udp(&vec![0; len], 0), now, &mut judge);
            (result.fate, result.own.is_some())
        })
        .collect();
    let expected = [
        (Fate::Blocked, false),
        (Fate::Pass, false),
        (Fate::Blocked, false),
        (Fate::Pass, true),
        (Fate::Dropped, true),
        (Fate::Blocked, false),
        (Fate::Pass, false),
    ];
    assert_eq!(fates, expected);
    assert_eq!(judged, [2, 200]);
    assert_eq!(interpreter.counter(Counter::Created), 0);
    assert_eq!(interpreter.counter(Counter::Packet(Reason::Parsed)), 7);
    assert_eq!(interpreter.counter(Counter::Unselected), 2);
    assert!(interpreter.table().by_creation().is_empty());
    let mut fresh = FlowInterpreter::new(&program);
    let own = fresh.packet(&udp(&[0], 0), 9, &mut NoJudge).own.unwrap();
    assert_eq!((own.packets, own.first_ns, own.last_ns, own.acts), (1, 9, 9, Acts::default()));
}

#[test]
fn records_of_flows_are_no_records_of_packets() {
    let one = program("packets on udp;", "ttl = ip.ttl;", "", "");
    let other = program("packets on tcp, udp;", "len = ip.len; flags = tcp.flags;", "at every 2 packets", "");
    assert_eq!(one.identity(), other.identity());
    let flow = testing::spec(Vec::new());
    assert_ne!(build(&flow).unwrap().identity(), one.identity());
}

/// `header.spec` against the table that tshark made of the same packets.
#[test]
fn the_header_set_agrees_with_tshark() {
    let Some(folder) = testing::shared("the_header_set_agrees_with_tshark", "reference-features") else {
        return;
    };
    let source = include_str!("../../../../specs/header.spec").replace("tcp, udp, icmp, sctp", "tcp, udp");
    let program = build(&crate::spec::compile("header.spec", &source).unwrap()).unwrap();
    for (name, extension) in CAPTURES {
        let (columns, table) = testing::table(&folder.join(format!("{name}.packets.csv.gz")));
        let bytes = std::fs::read(folder.join(format!("../pcaps/{name}.{extension}"))).unwrap();
        let text = extract(&program, &testing::capture(&bytes).packets);
        let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let head = lines.next().unwrap();
        let cell = |row: &csv::StringRecord, column: &str| -> u64 {
            let at = columns.iter().position(|c| c == column).unwrap();
            row[at].trim_end_matches(".0").parse().unwrap_or(0)
        };
        // Only TCP and UDP have ports in the table.
        let port = columns.iter().position(|c| c == "sport").unwrap();
        let expected: Vec<&csv::StringRecord> = table.iter().filter(|row| !row[port].is_empty()).collect();
        let rows: Vec<Vec<&str>> = lines.collect();
        assert_eq!(rows.len(), expected.len(), "{name}");
        for (ours, theirs) in rows.iter().zip(expected) {
            let what = format!("{name} packet {}", cell(theirs, "n"));
            let value = |column: &str| ours[head.iter().position(|c| *c == column).unwrap()];
            for (column, of) in [
                ("first_ns", "ts_ns"),
                ("frame_len", "cap_len"),
                ("ip_len", "ip_len"),
                ("ip_header_len", "ip_hdr"),
                ("ip_ttl", "ttl"),
                ("ip_version", "ipver"),
                ("ip_proto", "proto"),
                ("l4_len", "l4_len"),
                ("l4_header_len", "l4_hdr"),
                ("payload_len", "payload"),
                ("src_port", "sport"),
                ("dst_port", "dport"),
                ("tcp_window", "tcp_win"),
            ] {
                assert_eq!(value(column), cell(theirs, of).to_string(), "{what} {column}");
            }
            let flags = cell(theirs, "tcp_flags");
            assert_eq!(value("tcp_syn"), (flags >> 1 & 1).to_string(), "{what}");
            assert_eq!(value("tcp_ack"), (flags >> 4 & 1).to_string(), "{what}");
        }
    }
}
