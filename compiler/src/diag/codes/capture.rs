//! Codes of captures: `E06xx`.

use super::Code;

/// The bytes are no capture.
pub static NOT_A_CAPTURE: Code = Code {
    id: "E0601",
    title: "not a capture file",
    explanation: "\
`replay` and `extract` read pcap files (microseconds or nanoseconds, either byte order) and pcapng files.
The file starts like none of them.
Compressed captures must be unpacked first; other formats convert with `editcap -F pcap IN OUT`.",
};

/// The file ends too early.
pub static TRUNCATED: Code = Code {
    id: "E0602",
    title: "capture file ends inside a packet",
    explanation: "\
The file promises more bytes than it has, as happens when a capture is copied while it is written or when the
disk was full.
The packets before the cut are used; without any, the file is refused.
`editcap IN OUT` writes a file of the readable packets.",
};

/// No frames that a network driver would deliver.
pub static NOT_ETHERNET: Code = Code {
    id: "E0603",
    title: "capture without Ethernet frames",
    explanation: "\
The compiled program sees Ethernet frames, so only captures of Ethernet interfaces can be replayed.
Captures of the interface `any`, of loopback, PPP or tunnel devices have other link types.
Capture on an Ethernet interface, or on one end of a veth pair.
In files that mix link types, packets of the others are counted and left out.",
};

/// The file contradicts itself.
pub static DAMAGED: Code = Code {
    id: "E0604",
    title: "damaged capture file",
    explanation: "\
A block of the file has lengths that do not agree, names an interface that the file does not describe, or has a
time stamp that cannot be.
The packets before it are used; without any, the file is refused.
`editcap IN OUT` often repairs such a file.",
};

/// This family, in order of its identifiers.
pub static TABLE: &[&Code] = &[&NOT_A_CAPTURE, &TRUNCATED, &NOT_ETHERNET, &DAMAGED];
