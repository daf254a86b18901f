//! Which packets conditions hold for, and that equal conditions are one.

use super::typed::*;
use super::*;
use crate::ir::flow::decision::Variable;

fn filter_of(protocols: &str, key: &str, condition: &str) -> Outcome<Filter> {
    let end = if protocols.contains("tcp") { "end tcp.rst;" } else { "" };
    let source = format!(
        "spec s v1; attach xdp; flow f on {protocols} {{ key five_tuple {key}; capacity 9; idle 1 s; {end} }} \
         features of f {{ a = count() where {condition}; }} model {{ labels b, c; }} classify f at every packet;"
    );
    let spec = compile("s.spec", &source)?;
    Ok(spec.features[0].value.as_leaf().unwrap().filter.clone())
}

fn filter(condition: &str) -> Filter {
    filter_of("tcp, udp", "bidirectional", condition).unwrap_or_else(|errors| panic!("{errors:#?}"))
}

fn refused(protocols: &str, key: &str, condition: &str) -> Vec<&'static str> {
    filter_of(protocols, key, condition).unwrap_err().iter().map(|diagnostic| diagnostic.code.id).collect()
}

/// Whether a packet passes: forward, flags, destination port; everything else is 1.
fn passes(filter: &Filter, forward: bool, flags: u8, port: u64) -> bool {
    filter.diagram().unwrap().holds(|variable| match variable {
        Variable::Backward => u64::from(!forward),
        Variable::Flag(bit) => u64::from(flags & bit != 0),
        Variable::Field(Field::DstPort) => port,
        Variable::Field(_) => 1,
    })
}

#[test]
fn conditions_hold_for_the_packets_that_they_name() {
    let web = filter("fwd and (l4.dst_port == 80 or l4.dst_port == 443) and not tcp.syn");
    for (forward, flags, port, expected) in [
        (true, 0x10, 80, true),
        (true, 0x10, 443, true),
        (true, 0x10, 81, false),
        (false, 0x10, 80, false),
        (true, 0x12, 80, false),
    ] {
        assert_eq!(passes(&web, forward, flags, port), expected, "{forward} {flags} {port}");
    }
    for (condition, below, at, above) in [
        ("l4.dst_port < 80", true, false, false),
        ("l4.dst_port <= 80", true, true, false),
        ("l4.dst_port > 80", false, false, true),
        ("l4.dst_port >= 80", false, true, true),
        ("l4.dst_port == 80", false, true, false),
        ("l4.dst_port != 80", true, false, true),
        ("80 < l4.dst_port", false, false, true),
        ("80 >= l4.dst_port", true, true, false),
        ("not (l4.dst_port < 80 or l4.dst_port > 80)", false, true, false),
    ] {
        let filter = filter(condition);
        let answers = [79, 80, 81].map(|port| passes(&filter, true, 0, port));
        assert_eq!(answers, [below, at, above], "{condition}");
    }
}

#[test]
fn equal_conditions_are_one() {
    for (one, other) in [
        ("tcp.syn and fwd", "fwd and tcp.syn"),
        ("not (tcp.syn or tcp.ack)", "not tcp.syn and not tcp.ack"),
        ("tcp.syn or fwd and tcp.syn", "tcp.syn"),
        ("fwd and tcp.syn or bwd and tcp.syn", "tcp.syn"),
        ("l4.dst_port > 79", "l4.dst_port >= 80"),
        ("l4.dst_port > 79 and l4.dst_port < 81", "l4.dst_port == 80"),
        (
            "tcp.flags == 2",
            "tcp.syn and not (tcp.fin or tcp.rst or tcp.psh or tcp.ack or tcp.urg or tcp.ece or tcp.cwr)",
        ),
        ("tcp.flags >= 128", "tcp.cwr"),
        ("ip.version == 4", "ip.version < 6"),
        ("ip.version != 4", "ip.version >= 5"),
        ("ip.proto == 6", "tcp"),
        ("not tcp", "udp"),
        ("(fwd or tcp.ack) and (fwd or ip.ttl < 9)", "fwd or tcp.ack and ip.ttl <= 8"),
    ] {
        assert_eq!(filter(one), filter(other), "{one}; {other}");
    }
}

#[test]
fn what_every_packet_fulfils_is_no_condition() {
    for always in [
        "ip.ttl >= 0",
        "ip.ttl <= 255",
        "fwd or bwd",
        "tcp.syn or not tcp.syn",
        "tcp or udp",
        "ip.version > 3",
    ] {
        assert_eq!(filter(always), Filter::default(), "{always}");
    }
    assert_eq!(filter_of("udp", "directional", "fwd and not tcp.syn and udp").unwrap(), Filter::default());
}

#[test]
fn what_no_packet_fulfils_is_refused() {
    for never in [
        "fwd and bwd",
        "ip.ttl > 255",
        "not (ip.ttl <= 300)",
        "tcp.syn or ip.version == 5",
        "l4.dst_port < 80 and (fwd or bwd) and l4.dst_port > 90",
        "(tcp.syn or tcp.fin) and not tcp.syn and not tcp.fin",
        "l4.dst_port == 99999999999999999999999999",
    ] {
        assert_eq!(refused("tcp, udp", "bidirectional", never), ["E0224"], "{never}");
    }
    for never in ["tcp.syn", "tcp", "not udp", "tcp.flags == 2", "ip.proto == 6"] {
        assert_eq!(refused("udp", "bidirectional", never), ["E0224"], "{never}");
    }
    assert_eq!(refused("tcp", "directional", "bwd"), ["E0224"]);
    // Both of two mistakes are shown.
    assert_eq!(refused("tcp", "directional", "bwd or ip.ttl > 255"), ["E0224", "E0224"]);
}

#[test]
fn direction_and_flags_by_themselves_are_kept_as_before() {
    let open = filter("fwd and tcp.syn and not tcp.ack");
    let expected =
        Filter { direction: Some(Direction::Forward), flags_set: 2, flags_clear: 16, ..Filter::default() };
    assert_eq!(open, expected);
    let also = filter("l4.dst_port == 22 and tcp.syn");
    assert_eq!((also.flags_set, also.rest.nodes().len()), (2, 1));
}
