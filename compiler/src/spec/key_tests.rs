//! What names a record: the parts of a key and what follows from them.

use super::compile;
use super::typed::{Directions, End};
use crate::ir::flow::key::{KeyPart, KeyParts};

/// A specification with this key, which ends flows by idle time alone.
fn with(key: &str) -> String {
    format!(
        "spec s v1; attach xdp; flow conn on tcp, udp {{ key {key}; capacity 64; idle 60 s; end never; }}
         features of conn {{ packets = count(); }} model {{ labels benign, attack; }}
         classify conn at end;"
    )
}

fn key(text: &str) -> (KeyParts, Directions) {
    let spec = compile("test.spec", &with(text)).unwrap();
    assert_eq!(spec.flow.end, End::Never);
    (spec.flow.key, spec.flow.directions)
}

fn parts(parts: &[KeyPart]) -> KeyParts {
    parts.iter().fold(KeyParts::NONE, |all, part| all.with(*part))
}

#[test]
fn a_key_is_any_choice_of_the_parts() {
    use KeyPart::{Dst, DstPort, Proto, Src, SrcPort};
    assert_eq!(key("ip.src"), (parts(&[Src]), Directions::One));
    assert_eq!(key("ip.dst directional"), (parts(&[Dst]), Directions::One));
    assert_eq!(key("l4.dst_port, ip.src"), (parts(&[Src, DstPort]), Directions::One));
    assert_eq!(key("ip.proto"), (parts(&[Proto]), Directions::One));
    // Both directions share a record where they can and nothing else is said.
    assert_eq!(key("ip.src, ip.dst"), (parts(&[Src, Dst]), Directions::Both));
    assert_eq!(key("ip.src, ip.dst directional"), (parts(&[Src, Dst]), Directions::One));
    assert_eq!(key("ip.dst, ip.src, ip.proto bidirectional"), (parts(&[Src, Dst, Proto]), Directions::Both));
    assert_eq!(key("ip.src, ip.dst, l4.dst_port"), (parts(&[Src, Dst, DstPort]), Directions::One));
    let all = parts(&[Src, Dst, SrcPort, DstPort, Proto]);
    assert_eq!(all, KeyParts::FIVE_TUPLE);
    for five in ["five_tuple", "ip.src, ip.dst, l4.src_port, l4.dst_port, ip.proto"] {
        assert_eq!(key(five), (all, Directions::Both));
    }
}

#[test]
fn backward_packets_need_a_record_of_both_directions() {
    for (text, accepted) in
        [("ip.src", false), ("ip.src, ip.dst", true), ("ip.src, ip.dst directional", false)]
    {
        let source = with(text).replace("packets = count()", "packets = count() where bwd");
        assert_eq!(compile("test.spec", &source).is_ok(), accepted, "{text}");
    }
}
