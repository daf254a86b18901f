//! What is warned about, and what is not.

use super::warnings;
use crate::compile::Named;
use crate::ir::flow::decision::{Diagram, Variable};
use crate::spec::typed::Field;
use crate::spec::{self};

/// Codes of the warnings about features in a flow on these transports.
fn of(transports: &str, features: &str) -> Vec<&'static str> {
    let text = format!(
        "spec test v1;\nattach xdp;\nflow conn on {transports} {{\n key five_tuple bidirectional;\n capacity 100 evict lru;\n \
         idle 60 s;\n end never;\n}}\nfeatures of conn {{\n{features}\n}}\nmodel {{ labels no, yes; }}\nclassify conn at end;\n"
    );
    let spec = spec::from_bytes(Named { name: "test.spec", bytes: text.as_bytes() }).unwrap();
    warnings(&spec).iter().map(|warning| warning.code.id).collect()
}

#[test]
fn what_can_vary_is_no_constant() {
    for feature in [
        "max(tcp.window)",
        "std(l4.dst_port)",
        "std(l4.header_len)",
        "max(direction)",
        "mean(ip.proto)",
        "max(tcp.syn) where not tcp.ack",
        "sum(l4.payload_len) where l4.payload_len <= 1",
        "max(tcp.window) where udp or ip.ttl < 3",
        "max(ip.ttl) > 254",
        "any(tcp.syn)",
        "count() where tcp.syn",
    ] {
        assert_eq!(of("tcp, udp", &format!("a = {feature};")), Vec::<&str>::new(), "{feature}");
    }
}

#[test]
fn what_cannot_vary_is_one() {
    for (transports, feature) in [
        ("udp", "max(tcp.window)"),
        ("udp, icmp", "std(l4.header_len)"),
        ("icmp", "max(l4.dst_port)"),
        ("tcp", "first(ip.proto)"),
        ("tcp", "ewma(udp.len, 1/8)"),
        ("tcp", "rate(icmp.code)"),
        ("tcp, udp", "max(tcp.window) where udp"),
        ("tcp, udp", "max(udp.len) where tcp.syn"),
        ("tcp, udp", "var(l4.src_port) where bwd"),
        ("tcp, udp", "max(tcp.ack) where tcp.syn and not tcp.ack"),
        ("tcp, udp", "max(ip.ttl) > 255"),
        ("tcp, udp", "max(l4.payload_len) where l4.payload_len < 1"),
    ] {
        assert_eq!(of(transports, &format!("a = {feature};")), ["E0260"], "{feature} on {transports}");
    }
}

#[test]
fn a_divisor_over_all_packets_is_not_zero() {
    for divisor in ["count()", "sum(frame.len)", "mean(ip.len)", "(1 + max(ip.ttl))", "max(l4.len)", "256"] {
        assert_eq!(of("tcp", &format!("a = max(ip.ttl) / {divisor};")), Vec::<&str>::new(), "{divisor}");
    }
    for divisor in ["count() where fwd", "sum(l4.payload_len)", "std(frame.len)", "max(gap) as us"] {
        assert_eq!(of("tcp", &format!("a = 256 / {divisor};")), ["E0261"], "{divisor}");
    }
    assert_eq!(of("tcp", "a = share(tcp.syn);\nb = count() where fwd % count() where bwd;"), ["E0261"]);
}

#[test]
fn sums_of_nanoseconds_are_warned_about_once() {
    assert_eq!(of("tcp", "a = sum(gap);\nb = std(gap) where fwd;"), ["E0262"]);
    assert_eq!(of("tcp", "a = max(gap);\nb = std(gap) as us;\nc = duration();"), Vec::<&str>::new());
}

#[test]
fn diagrams_know_what_values_they_admit() {
    let port = Variable::Field(Field::DstPort);
    let ask = |ends: &[u64], holds: fn(u64) -> bool| Diagram::ask(port, ends, holds);
    let web = ask(&[79, 80, 442, 443, 65_535], |value| value == 80 || value == 443);
    assert_eq!(web.values(port, 65_535), Some((80, 443)));
    assert_eq!(web.not().values(port, 65_535), Some((0, 65_535)));
    let syn = Diagram::flag(2, true);
    let either = web.and(&syn).unwrap().or(&ask(&[21, 22, 65_535], |value| value == 22)).unwrap();
    assert_eq!(either.values(port, 65_535), Some((22, 443)));
    assert_eq!(either.values(Variable::Flag(2), 1), Some((0, 1)));
    assert_eq!(web.and(&syn).unwrap().values(Variable::Flag(2), 1), Some((1, 1)));
    assert_eq!(Diagram::NEVER.values(port, 65_535), None);
    assert_eq!(Diagram::ALWAYS.values(port, 65_535), Some((0, 65_535)));
    assert_eq!(syn.values(port, 65_535), Some((0, 65_535)));
}
