//! Features of the committed lab capture, as `nnbpfc extract` gives them, against tshark's dissection of it.
//!
//! tshark gives the fields of every packet; what a feature is worth follows here from all samples of a flow at
//! once, in exact integers, while the compiler's interpreter keeps running values.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The committed capture of the traffic lab.
const CAPTURE: &str = "testdata/ids/capture.pcap";
/// Definitions of length, by the specification's names.
const LENGTHS: [(&str, &str); 4] =
    [("frame", "frame.len"), ("ip", "ip.len"), ("l4", "l4.len"), ("payload", "l4.payload_len")];
/// Flags, by bit.
const FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];
const STATISTICS: [&str; 6] = ["sum", "min", "max", "mean", "std", "std_pop"];
/// Names of the sides with their conditions.
const SIDES: [(&str, &str); 3] = [("all", ""), ("fwd", "fwd"), ("bwd", "bwd")];

/// What tshark is asked for, in this order.
const COLUMNS: [&str; 18] = [
    "frame.time_epoch",
    "frame.cap_len",
    "ip.src",
    "ip.dst",
    "ipv6.src",
    "ipv6.dst",
    "ip.len",
    "ip.hdr_len",
    "ipv6.plen",
    "ipv6.nxt",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.hdr_len",
    "tcp.flags",
    "tcp.window_size_value",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
];

/// One packet as tshark sees it.
struct Packet {
    time: u64,
    from: (String, u16),
    to: (String, u16),
    proto: u8,
    /// In the order of [`LENGTHS`].
    lengths: [u64; 4],
    header: u64,
    flags: u32,
    window: u64,
}

/// Source, its port, destination, its port, protocol, as in extracted rows.
type Flow = (String, u16, String, u16, u8);

/// A specification with every feature that both know.
fn specification() -> String {
    let mut features = String::new();
    for (side, condition) in SIDES {
        let only = |more: &str| match (condition, more) {
            ("", "") => String::new(),
            ("", one) | (one, "") => format!(" where {one}"),
            (one, other) => format!(" where {one} and {other}"),
        };
        let mut feature =
            |name: &str, value: String| writeln!(features, "    {side}_{name} = {value};").unwrap();
        feature("packets", format!("count(){}", only("")));
        for (name, field) in LENGTHS.into_iter().chain([("gap", "gap")]) {
            for statistic in STATISTICS {
                feature(&format!("{name}_{statistic}"), format!("{statistic}({field}){}", only("")));
            }
        }
        for flag in FLAGS {
            feature(flag, format!("count(){}", only(&format!("tcp.{flag}"))));
        }
        feature("header_sum", format!("sum(l4.header_len){}", only("")));
        feature("window_first", format!("first(tcp.window){}", only("")));
        feature("window_last", format!("last(tcp.window){}", only("")));
    }
    format!(
        "spec parity v1;\nattach xdp;\nflow conn on tcp, udp {{\n    key five_tuple bidirectional;\n    \
         capacity 65536 evict lru;\n    idle 24 h;\n    end never;\n}}\nfeatures of conn {{\n{features}    \
         duration = duration();\n}}\nmodel {{ labels no, yes; }}\nclassify conn at end;\n"
    )
}

/// The packets with transport headers, in the capture's order.
fn dissected(capture: &Path) -> Vec<Packet> {
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(capture);
    for option in ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"] {
        command.args(["-o", option]);
    }
    // Errors of ICMP quote headers of other packets.
    command.args(["-Y", "(tcp || udp) && !icmp && !icmpv6", "-T", "fields", "-E", "separator=,"]);
    command.args(["-E", "occurrence=f"]);
    for column in COLUMNS {
        command.args(["-e", column]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(packet).collect()
}

fn packet(line: &str) -> Packet {
    let mut cells = line.split(',');
    let cells = COLUMNS.map(|_| cells.next().unwrap());
    let [time, frame, src, dst, src6, dst6, ip_len, ip_header, plen, next, rest @ ..] = cells;
    let [tcp_src, tcp_dst, tcp_header, flags, window, udp_src, udp_dst, udp_len] = rest;
    let number = |cell: &str| cell.parse::<u64>().unwrap();
    let port = |cell: &str| cell.parse::<u16>().unwrap();
    let (seconds, nanos) = time.split_once('.').unwrap();
    assert_eq!(nanos.len(), 9, "{time}");
    let (from, to, ip, l4) = if plen.is_empty() {
        (src, dst, number(ip_len), number(ip_len) - number(ip_header))
    } else {
        assert!(
            next == "6" || next == "17",
            "the capture has extension headers, which this test does not skip"
        );
        (src6, dst6, number(plen) + 40, number(plen))
    };
    let (ports, proto, header, flags, window) = if udp_len.is_empty() {
        let flags = u32::from_str_radix(flags.trim_start_matches("0x"), 16).unwrap();
        ((port(tcp_src), port(tcp_dst)), 6, number(tcp_header), flags, number(window))
    } else {
        assert_eq!(number(udp_len), l4, "{line}");
        ((port(udp_src), port(udp_dst)), 17, 8, 0, 0)
    };
    Packet {
        time: number(seconds) * 1_000_000_000 + number(nanos),
        from: (from.to_owned(), ports.0),
        to: (to.to_owned(), ports.1),
        proto,
        lengths: [number(frame), ip, l4, l4 - header],
        header,
        flags,
        window,
    }
}

/// A statistic of samples as a multiple of 1/256, whole ones included.
fn statistic(name: &str, samples: &[u64]) -> u128 {
    let n = samples.len() as u128;
    let sum: u128 = samples.iter().map(|&sample| u128::from(sample)).sum();
    // The mean of the squared deviations from a mean that is no whole number: n² times it is whole.
    let spread: u128 = samples.iter().map(|&sample| (u128::from(sample) * n).abs_diff(sum).pow(2)).sum();
    let root = |divisor: u128| (spread * 65536 / divisor).isqrt();
    match name {
        _ if n == 0 => 0,
        "sum" => sum * 256,
        "min" => u128::from(*samples.iter().min().unwrap()) * 256,
        "max" => u128::from(*samples.iter().max().unwrap()) * 256,
        "mean" => sum * 256 / n,
        // The sum over n² is that over n once more.
        "std" if n == 1 => 0,
        "std" => root(n * n * (n - 1)),
        "std_pop" => root(n * n * n),
        other => panic!("no statistic is called {other}"),
    }
}

/// Every feature of a flow, by name, as a multiple of 1/256.
fn expected(packets: &[&Packet]) -> BTreeMap<String, u128> {
    let forward = &packets.first().unwrap().from;
    let mut values = BTreeMap::new();
    for (side, _) in SIDES {
        let chosen: Vec<&Packet> = packets
            .iter()
            .copied()
            .filter(|packet| match side {
                "fwd" => packet.from == *forward,
                "bwd" => packet.from != *forward,
                _ => true,
            })
            .collect();
        let mut set = |name: &str, value: u128| values.insert(format!("{side}_{name}"), value);
        set("packets", chosen.len() as u128 * 256);
        for (at, (name, _)) in LENGTHS.into_iter().enumerate() {
            let samples: Vec<u64> = chosen.iter().map(|packet| *packet.lengths.get(at).unwrap()).collect();
            for kind in STATISTICS {
                set(&format!("{name}_{kind}"), statistic(kind, &samples));
            }
        }
        let gaps: Vec<u64> = chosen
            .iter()
            .zip(chosen.iter().skip(1))
            .map(|(before, after)| after.time.saturating_sub(before.time))
            .collect();
        for kind in STATISTICS {
            set(&format!("gap_{kind}"), statistic(kind, &gaps));
        }
        for (bit, flag) in FLAGS.into_iter().enumerate() {
            let count = chosen.iter().filter(|packet| packet.flags >> bit & 1 == 1).count();
            set(flag, count as u128 * 256);
        }
        let whole = |value: Option<u64>| u128::from(value.unwrap_or(0)) * 256;
        set("header_sum", whole(Some(chosen.iter().map(|packet| packet.header).sum())));
        set("window_first", whole(chosen.first().map(|packet| packet.window)));
        set("window_last", whole(chosen.last().map(|packet| packet.window)));
    }
    let time = |packet: Option<&&Packet>| packet.unwrap().time;
    let duration = time(packets.last()).saturating_sub(time(packets.first()));
    values.insert("duration".to_owned(), u128::from(duration) * 256);
    values
}

/// A decimal with at most eight binary digits behind the point, as a multiple of 1/256.
fn times_256(cell: &str) -> u128 {
    let (whole, fraction) = cell.split_once('.').unwrap_or((cell, "0"));
    let scale = 10_u128.pow(u32::try_from(fraction.len()).unwrap());
    let value = (whole.parse::<u128>().unwrap() * scale + fraction.parse::<u128>().unwrap()) * 256;
    assert_eq!(value % scale, 0, "{cell} is no multiple of 1/256");
    value / scale
}

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn has_tshark(test: &str) -> bool {
    let there = Command::new("tshark").arg("--version").output().is_ok();
    if !there {
        eprintln!("SKIP {test}: tshark is not installed");
    }
    there
}

/// What `nnbpfc extract` makes of the lab capture: names of the columns, and rows.
fn extracted(specification: &Path) -> (Vec<String>, Vec<HashMap<String, String>>) {
    let folder = tempfile::tempdir().unwrap();
    let rows = folder.path().join("flows.csv");
    let output = Command::new(env!("CARGO_BIN_EXE_nnbpfc"))
        .arg("extract")
        .args([specification, &repository(CAPTURE)])
        .arg("-o")
        .arg(&rows)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = std::fs::read_to_string(&rows).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let names = lines.next().unwrap();
    let rows = lines.map(|cells| names.iter().cloned().zip(cells).collect()).collect();
    (names, rows)
}

#[test]
fn every_feature_of_the_lab_capture_is_what_tshark_says() {
    if !has_tshark("every_feature_of_the_lab_capture_is_what_tshark_says") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let spec = folder.path().join("parity.spec");
    std::fs::write(&spec, specification()).unwrap();
    let (names, rows) = extracted(&spec);
    let packets = dissected(&repository(CAPTURE));
    let mut flows: HashMap<Flow, Vec<&Packet>> = HashMap::new();
    for packet in &packets {
        let flow =
            |(a, b): (&(String, u16), &(String, u16))| (a.0.clone(), a.1, b.0.clone(), b.1, packet.proto);
        let backward = flow((&packet.to, &packet.from));
        let known = if flows.contains_key(&backward) { backward } else { flow((&packet.from, &packet.to)) };
        flows.entry(known).or_default().push(packet);
    }

    let mut compared = 0_usize;
    let mut seen = 0_usize;
    for row in &rows {
        let cell = |name: &str| row.get(name).unwrap().as_str();
        let port = |name: &str| cell(name).parse::<u16>().unwrap();
        let flow = (
            cell("src").to_owned(),
            port("sport"),
            cell("dst").to_owned(),
            port("dport"),
            cell("proto").parse::<u8>().unwrap(),
        );
        let packets = flows.get(&flow).unwrap_or_else(|| panic!("tshark has no flow {flow:?}"));
        assert_eq!(cell("first_ns"), packets.first().unwrap().time.to_string(), "{flow:?}");
        assert_eq!(cell("last_ns"), packets.last().unwrap().time.to_string(), "{flow:?}");
        for (name, value) in expected(packets) {
            assert_eq!(times_256(cell(&name)), value, "{name} of {flow:?}");
            compared += 1;
        }
        seen += 1;
    }
    assert_eq!(seen, flows.len());
    // The capture has both versions of IP and both transports, and most flows have two directions.
    assert!(seen >= 2_000, "{seen} flows");
    assert_eq!(compared, seen * (names.len() - 8), "every extracted feature is compared");
}

/// A host's packets since its record began.
#[derive(Default)]
struct Source<'p> {
    packets: Vec<&'p Packet>,
}

/// Features by name.
type Named<T> = Vec<(&'static str, T)>;

/// The features of `specs/scan.spec` that are exact, then the true numbers that sketches estimate.
fn behaviour(packets: &[&Packet]) -> (Named<u128>, Named<usize>) {
    /// Half of the window of ten seconds.
    const PANE: u64 = 5_000_000_000;
    let newest = packets.last().unwrap().time / PANE;
    let recent: Vec<&Packet> =
        packets.iter().copied().filter(|packet| packet.time / PANE + 1 >= newest).collect();
    let opens = |packet: &&&Packet| packet.flags & 0x12 == 0x02;
    let count = |matches: &dyn Fn(&Packet) -> bool| {
        recent.iter().filter(|packet| matches(packet)).count() as u128 * 256
    };
    let ip: Vec<u64> = recent.iter().map(|packet| *packet.lengths.get(1).unwrap()).collect();
    let payload = |packet: &Packet| *packet.lengths.get(3).unwrap();
    let opened = packets.iter().filter(opens).count() as u128;
    let exact = vec![
        ("opened", recent.iter().filter(opens).count() as u128 * 256),
        ("refused", count(&|packet| packet.flags & 0x04 != 0)),
        ("packets", count(&|_| true)),
        ("payload", recent.iter().map(|packet| u128::from(payload(packet)) * 256).sum()),
        ("len_mean", statistic("mean", &ip)),
        ("empty", count(&|packet| payload(packet) == 0)),
        ("syn_share", opened * 256 / packets.len() as u128),
    ];
    let distinct = |values: BTreeSet<String>| values.len();
    let sketched = vec![
        ("ports", distinct(recent.iter().filter(opens).map(|packet| packet.to.1.to_string()).collect())),
        ("hosts", distinct(recent.iter().filter(opens).map(|packet| packet.to.0.clone()).collect())),
        (
            "udp_ports",
            distinct(recent.iter().filter(|p| p.proto == 17).map(|p| p.to.1.to_string()).collect()),
        ),
    ];
    (exact, sketched)
}

#[test]
fn what_sources_do_is_what_tshark_says() {
    const IDLE: u64 = 60_000_000_000;
    if !has_tshark("what_sources_do_is_what_tshark_says") {
        return;
    }
    let (_, rows) = extracted(&repository("specs/scan.spec"));
    let mut rows = rows.iter().filter(|row| row.get("trigger").unwrap() == "every");
    let packets = dissected(&repository(CAPTURE));
    let mut sources: HashMap<&str, Source<'_>> = HashMap::new();
    let (mut judged, mut widest) = (0_usize, 0_usize);
    for packet in &packets {
        let source = sources.entry(&packet.from.0).or_default();
        if source.packets.last().is_some_and(|last| packet.time.saturating_sub(last.time) > IDLE) {
            source.packets.clear();
        }
        source.packets.push(packet);
        if !source.packets.len().is_multiple_of(16) {
            continue;
        }
        let row = rows.next().unwrap();
        let cell = |name: &str| row.get(name).unwrap().as_str();
        assert_eq!(
            (cell("src"), cell("last_ns")),
            (packet.from.0.as_str(), packet.time.to_string().as_str())
        );
        let (exact, sketched) = behaviour(&source.packets);
        for (name, value) in exact {
            assert_eq!(times_256(cell(name)), value, "{name} of {row:?}");
        }
        for (name, truth) in sketched {
            // Four standard errors of linear counting with 1,024 bits at loads below one, and the rounding.
            let (estimate, truth_256) = (times_256(cell(name)), truth as u128 * 256);
            let allowed = 256 + (truth as u128 * 256) / 8;
            assert!(estimate.abs_diff(truth_256) <= allowed, "{name}: {truth} of {row:?}");
            widest = widest.max(truth);
        }
        judged += 1;
    }
    assert!(rows.next().is_none());
    // The lab's scans reach many ports.
    assert!(judged > 3_000 && widest > 90, "{judged} rows, up to {widest} ports");
}

/// What tshark is asked for about headers, in this order.
const HEADERS: [&str; 32] = [
    "frame.time_epoch",
    "frame.cap_len",
    "vlan.id",
    "ip.version",
    "ip.hdr_len",
    "ip.dsfield.dscp",
    "ip.dsfield.ecn",
    "ip.len",
    "ip.flags.df",
    "ip.flags.mf",
    "ip.ttl",
    "ip.proto",
    "ipv6.version",
    "ipv6.tclass.dscp",
    "ipv6.tclass.ecn",
    "ipv6.plen",
    "ipv6.hlim",
    "ipv6.nxt",
    "tcp.srcport",
    "tcp.dstport",
    "tcp.hdr_len",
    "tcp.flags",
    "tcp.window_size_value",
    "tcp.urgent_pointer",
    "udp.srcport",
    "udp.dstport",
    "udp.length",
    "icmp.type",
    "icmp.code",
    "icmpv6.type",
    "icmpv6.code",
    "ip.frag_offset",
];

/// The features of `specs/header.spec` as they follow from tshark's fields of a packet, and its time.
fn header(cells: &HashMap<&str, &str>) -> (String, Vec<(&'static str, u64)>) {
    let number = |name: &str| match cells[name] {
        "" | "False" => 0,
        "True" => 1,
        hexadecimal if hexadecimal.starts_with("0x") => u64::from_str_radix(&hexadecimal[2..], 16).unwrap(),
        decimal => decimal.parse::<u64>().unwrap(),
    };
    let first = |name: &str, other: &str| if cells[name].is_empty() { number(other) } else { number(name) };
    let six = !cells["ipv6.plen"].is_empty();
    let (ip_len, ip_header) =
        if six { (number("ipv6.plen") + 40, 40) } else { (number("ip.len"), number("ip.hdr_len")) };
    let proto = if six { number("ipv6.nxt") } else { number("ip.proto") };
    // Errors of ICMP quote the headers of other packets, which are not this one's.
    let of = |wanted: u64, name: &str| if proto == wanted { number(name) } else { 0 };
    let l4_len = ip_len - ip_header;
    let l4_header = if proto == 6 { number("tcp.hdr_len") } else { 8 };
    let flags = of(6, "tcp.flags");
    let icmp = |name: &str, six: &str| of(1, name) + of(58, six);
    let (seconds, nanos) = cells["frame.time_epoch"].split_once('.').unwrap();
    let features = vec![
        ("frame_len", number("frame.cap_len")),
        ("vlan_tags", u64::from(!cells["vlan.id"].is_empty())),
        ("ip_version", first("ip.version", "ipv6.version")),
        ("ip_header_len", ip_header),
        ("ip_dscp", first("ip.dsfield.dscp", "ipv6.tclass.dscp")),
        ("ip_ecn", first("ip.dsfield.ecn", "ipv6.tclass.ecn")),
        ("ip_len", ip_len),
        ("ip_df", number("ip.flags.df")),
        ("ip_mf", number("ip.flags.mf")),
        ("ip_ttl", first("ip.ttl", "ipv6.hlim")),
        ("ip_proto", proto),
        ("l4_len", l4_len),
        ("l4_header_len", l4_header),
        ("payload_len", l4_len - l4_header),
        ("src_port", of(6, "tcp.srcport") + of(17, "udp.srcport")),
        ("dst_port", of(6, "tcp.dstport") + of(17, "udp.dstport")),
        ("tcp_fin", flags & 1),
        ("tcp_syn", flags >> 1 & 1),
        ("tcp_rst", flags >> 2 & 1),
        ("tcp_psh", flags >> 3 & 1),
        ("tcp_ack", flags >> 4 & 1),
        ("tcp_urg", flags >> 5 & 1),
        ("tcp_ece", flags >> 6 & 1),
        ("tcp_cwr", flags >> 7 & 1),
        ("tcp_window", of(6, "tcp.window_size_value")),
        ("tcp_urgent", of(6, "tcp.urgent_pointer")),
        ("tcp_options", if proto == 6 { l4_header - 20 } else { 0 }),
        ("udp_len", of(17, "udp.length")),
        ("icmp_type", icmp("icmp.type", "icmpv6.type")),
        ("icmp_code", icmp("icmp.code", "icmpv6.code")),
    ];
    (format!("{seconds}{nanos}"), features)
}

/// `specs/header.spec`, packet by packet.
#[test]
fn the_header_of_every_packet_is_what_tshark_says() {
    if !has_tshark("the_header_of_every_packet_is_what_tshark_says") {
        return;
    }
    let (names, rows) = extracted(&repository("specs/header.spec"));
    let mut command = Command::new("tshark");
    command.arg("-n").arg("-r").arg(repository(CAPTURE));
    for option in ["ip.defragment:FALSE", "ipv6.defragment:FALSE", "tcp.desegment_tcp_streams:FALSE"] {
        command.args(["-o", option]);
    }
    command.args(["-Y", "(tcp || udp || icmp || icmpv6) && !(ip.frag_offset > 0)"]);
    command.args(["-T", "fields", "-E", "separator=,", "-E", "occurrence=f"]);
    for column in HEADERS {
        command.args(["-e", column]);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "tshark: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).unwrap();
    let (mut compared, mut protocols) = (0_usize, BTreeSet::new());
    assert_eq!(rows.len(), text.lines().count(), "every packet is a row");
    for (number, (row, line)) in rows.iter().zip(text.lines()).enumerate() {
        let cells: HashMap<&str, &str> = HEADERS.into_iter().zip(line.split(',')).collect();
        let (time, features) = header(&cells);
        let what = format!("row {number}: {line}");
        assert_eq!((&row["first_ns"], &row["last_ns"]), (&time, &time), "{what}");
        assert_eq!(row["trigger"], "every", "{what}");
        for (name, value) in features {
            assert_eq!(row[name], value.to_string(), "{name} of {what}");
            compared += 1;
        }
        protocols.insert(row["ip_proto"].clone());
    }
    assert_eq!(compared, rows.len() * (names.len() - 8), "every extracted feature is compared");
    let wanted = ["1", "17", "58", "6"].map(str::to_owned);
    assert_eq!(protocols, BTreeSet::from(wanted));
    assert!(rows.len() >= 50_000, "{} packets", rows.len());
}
