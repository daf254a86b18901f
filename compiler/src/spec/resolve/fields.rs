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
pub(in crate::spec) static FIELDS: [FieldFacts; 12] = [
    FieldFacts { name: "frame.len", field: Field::FrameLen, unit: Unit::Bytes },
    FieldFacts { name: "ip.len", field: Field::IpLen, unit: Unit::Bytes },
    FieldFacts { name: "ip.ttl", field: Field::IpTtl, unit: Unit::Plain },
    FieldFacts { name: "ip.version", field: Field::IpVersion, unit: Unit::Plain },
    FieldFacts { name: "ip.proto", field: Field::IpProto, unit: Unit::Plain },
    FieldFacts { name: "l4.len", field: Field::L4Len, unit: Unit::Bytes },
    FieldFacts { name: "l4.header_len", field: Field::L4HeaderLen, unit: Unit::Bytes },
    FieldFacts { name: "l4.payload_len", field: Field::L4PayloadLen, unit: Unit::Bytes },
    FieldFacts { name: "l4.src_port", field: Field::SrcPort, unit: Unit::Plain },
    FieldFacts { name: "l4.dst_port", field: Field::DstPort, unit: Unit::Plain },
    FieldFacts { name: "tcp.flags", field: Field::TcpFlags, unit: Unit::Plain },
    FieldFacts { name: "tcp.window", field: Field::TcpWindow, unit: Unit::Plain },
];

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

/// Fields that the language will have.
pub(in crate::spec) static PLANNED_FIELDS: [&str; 18] = [
    "eth.src",
    "eth.dst",
    "eth.type",
    "vlan.id",
    "vlan.count",
    "ip.src",
    "ip.dst",
    "ip.tos",
    "ip.dscp",
    "ip.header_len",
    "ip.fragment",
    "icmp.type",
    "icmp.code",
    "tcp.seq",
    "tcp.ack_number",
    "time",
    "duration",
    "payload",
];

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
