//! Fields of a packet by name, with their units, and the names of TCP flags.
//!
//! The largest value of each is stated in [`crate::ir::flow::ranges`].

use crate::spec::typed::{Address, Field, Unit};

/// What the language knows about a field.
pub(in crate::spec) struct FieldFacts {
    pub name: &'static str,
    pub field: Field,
    pub unit: Unit,
}

/// Every field, in the order of the reference.
pub(in crate::spec) static FIELDS: [FieldFacts; 43] = [
    FieldFacts { name: "direction", field: Field::Direction, unit: Unit::Plain },
    FieldFacts { name: "frame.len", field: Field::FrameLen, unit: Unit::Bytes },
    FieldFacts { name: "eth.src", field: Field::EthSrc, unit: Unit::Plain },
    FieldFacts { name: "eth.dst", field: Field::EthDst, unit: Unit::Plain },
    FieldFacts { name: "eth.type", field: Field::EthType, unit: Unit::Plain },
    FieldFacts { name: "vlan.count", field: Field::VlanCount, unit: Unit::Plain },
    FieldFacts { name: "vlan.id", field: Field::VlanId, unit: Unit::Plain },
    FieldFacts { name: "vlan.pcp", field: Field::VlanPcp, unit: Unit::Plain },
    FieldFacts { name: "ip.len", field: Field::IpLen, unit: Unit::Bytes },
    FieldFacts { name: "ip.header_len", field: Field::IpHeaderLen, unit: Unit::Bytes },
    FieldFacts { name: "ip.ttl", field: Field::IpTtl, unit: Unit::Plain },
    FieldFacts { name: "ip.version", field: Field::IpVersion, unit: Unit::Plain },
    FieldFacts { name: "ip.proto", field: Field::IpProto, unit: Unit::Plain },
    FieldFacts { name: "ip.tos", field: Field::IpTos, unit: Unit::Plain },
    FieldFacts { name: "ip.dscp", field: Field::IpDscp, unit: Unit::Plain },
    FieldFacts { name: "ip.ecn", field: Field::IpEcn, unit: Unit::Plain },
    FieldFacts { name: "ip.id", field: Field::IpId, unit: Unit::Plain },
    FieldFacts { name: "ip.df", field: Field::IpDf, unit: Unit::Plain },
    FieldFacts { name: "ip.mf", field: Field::IpMf, unit: Unit::Plain },
    FieldFacts { name: "ip.flow_label", field: Field::IpFlowLabel, unit: Unit::Plain },
    FieldFacts { name: "l4.len", field: Field::L4Len, unit: Unit::Bytes },
    FieldFacts { name: "l4.header_len", field: Field::L4HeaderLen, unit: Unit::Bytes },
    FieldFacts { name: "l4.payload_len", field: Field::L4PayloadLen, unit: Unit::Bytes },
    FieldFacts { name: "l4.src_port", field: Field::SrcPort, unit: Unit::Plain },
    FieldFacts { name: "l4.dst_port", field: Field::DstPort, unit: Unit::Plain },
    FieldFacts { name: "tcp.flags", field: Field::TcpFlags, unit: Unit::Plain },
    FieldFacts { name: "tcp.fin", field: Field::TcpFlag(0), unit: Unit::Plain },
    FieldFacts { name: "tcp.syn", field: Field::TcpFlag(1), unit: Unit::Plain },
    FieldFacts { name: "tcp.rst", field: Field::TcpFlag(2), unit: Unit::Plain },
    FieldFacts { name: "tcp.psh", field: Field::TcpFlag(3), unit: Unit::Plain },
    FieldFacts { name: "tcp.ack", field: Field::TcpFlag(4), unit: Unit::Plain },
    FieldFacts { name: "tcp.urg", field: Field::TcpFlag(5), unit: Unit::Plain },
    FieldFacts { name: "tcp.ece", field: Field::TcpFlag(6), unit: Unit::Plain },
    FieldFacts { name: "tcp.cwr", field: Field::TcpFlag(7), unit: Unit::Plain },
    FieldFacts { name: "tcp.seq", field: Field::TcpSeq, unit: Unit::Plain },
    FieldFacts { name: "tcp.ack_number", field: Field::TcpAckNumber, unit: Unit::Plain },
    FieldFacts { name: "tcp.window", field: Field::TcpWindow, unit: Unit::Plain },
    FieldFacts { name: "tcp.urgent", field: Field::TcpUrgent, unit: Unit::Plain },
    FieldFacts { name: "tcp.options_len", field: Field::TcpOptionsLen, unit: Unit::Bytes },
    FieldFacts { name: "udp.len", field: Field::UdpLen, unit: Unit::Bytes },
    FieldFacts { name: "sctp.tag", field: Field::SctpTag, unit: Unit::Plain },
    FieldFacts { name: "icmp.type", field: Field::IcmpType, unit: Unit::Plain },
    FieldFacts { name: "icmp.code", field: Field::IcmpCode, unit: Unit::Plain },
];

/// The name of a field.
pub(in crate::spec) fn name(field: Field) -> &'static str {
    FIELDS.iter().find(|facts| facts.field == field).map_or("", |facts| facts.name)
}

/// TCP flags and their bits in the header's flag byte (RFC 9293, section 3.1).
pub(in crate::spec) static FLAGS: [(&str, u8); 8] = [
    ("tcp.fin", 0x01),
    ("tcp.syn", 0x02),
    ("tcp.rst", 0x04),
    ("tcp.psh", 0x08),
    ("tcp.ack", 0x10),
    ("tcp.urg", 0x20),
    ("tcp.ece", 0x40),
    ("tcp.cwr", 0x80),
];

/// What packets have and the language leaves out, with what to write instead.
static REFUSED: [(&str, &str, &str); 7] = [
    ("ip.src", WIDE, ADDRESSES),
    ("ip.dst", WIDE, ADDRESSES),
    ("ip.checksum", CHECKSUM, LENGTHS),
    ("sctp.checksum", CHECKSUM, LENGTHS),
    (
        "ip.fragment",
        "is always 0: later fragments belong to no flow",
        "write `ip.mf`, 1 for the first of more",
    ),
    ("time", "depends on when the machine was started", "use `gap` or `duration()`"),
    ("payload", "is many bytes", "write one of them, `payload[0]`"),
];
const WIDE: &str = "has 128 bits, more than a number of a feature";
const CHECKSUM: &str = "follows from the other bytes and looks like a random number";
const LENGTHS: &str = "use ports, lengths, flags and counts, which also generalise to other machines";
const ADDRESSES: &str =
    "count different ones with `distinct(ip.src)`, or put hosts on the lists with `nnbpf block`";

/// Why a field that packets have is none of the language, and what to write instead.
pub(super) fn refused(name: &str) -> Option<(&'static str, &'static str)> {
    REFUSED.iter().find(|(text, ..)| *text == name).map(|(_, why, help)| (*why, *help))
}

/// The field of this name.
pub(super) fn field(name: &str) -> Option<&'static FieldFacts> {
    FIELDS.iter().find(|facts| facts.name == name)
}

/// The address of this name: only `distinct` takes one.
pub(super) fn address(name: &str) -> Option<Address> {
    match name {
        "ip.src" => Some(Address::Source),
        "ip.dst" => Some(Address::Destination),
        _ => None,
    }
}

/// The bit of this flag.
pub(super) fn flag(name: &str) -> Option<u8> {
    FLAGS.iter().find(|(text, _)| *text == name).map(|(_, bit)| *bit)
}
