//! Captures: pcap and pcapng bytes to packets with nanosecond time stamps.
//!
//! The file formats are decoded by the `pcap-parser` crate; time arithmetic, link types and everything that a
//! user is told are here. Packets are parsed in [`crate::ir::packet`].
//!
//! A damaged file yields the packets before the damage and one diagnostic that says where it is. A file
//! without a single Ethernet interface is refused; packets of other link types beside Ethernet are counted.

mod legacy;
mod next_generation;

use crate::diag::codes::capture as codes;
use crate::diag::{Code, Diagnostic, Origin, Outcome};

/// `LINKTYPE_ETHERNET`: the only link type whose frames a network driver would hand to the program.
pub const ETHERNET: LinkType = LinkType(1);

/// A link type number of the capture formats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkType(pub u32);

impl LinkType {
    /// The usual name, where it is a common one.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        match self.0 {
            0 => Some("BSD loopback"),
            1 => Some("Ethernet"),
            9 => Some("PPP"),
            12 | 14 | 101 => Some("raw IP"),
            105 => Some("IEEE 802.11"),
            108 => Some("OpenBSD loopback"),
            113 => Some("Linux cooked v1 (interface `any`)"),
            127 => Some("IEEE 802.11 radiotap"),
            228 => Some("raw IPv4"),
            229 => Some("raw IPv6"),
            276 => Some("Linux cooked v2 (interface `any`)"),
            _ => None,
        }
    }
}

impl std::fmt::Display for LinkType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.name() {
            Some(name) => write!(f, "{} ({name})", self.0),
            None => write!(f, "{}", self.0),
        }
    }
}

/// One packet of a capture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Position in the file, from 1, packets of other link types included.
    pub number: u64,
    /// Nanoseconds since 1970.
    pub ts_ns: u64,
    /// The captured bytes from the Ethernet header on.
    pub data: &'a [u8],
    /// Length on the wire; more than `data` when the capture cut the packet.
    pub original_len: u32,
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Capture<'a> {
    /// Ethernet packets in file order.
    pub packets: Vec<Packet<'a>>,
    /// Packets of other link types, left out.
    pub not_ethernet: u64,
    /// Where the file is damaged; `packets` ends there.
    pub damage: Option<Diagnostic>,
}

/// Reads a capture. `file` names it in diagnostics.
///
/// # Errors
///
/// `E0601` for what is not a capture, `E0603` for captures without an Ethernet interface, both `E0602` and
/// `E0604` where the damage comes before the first packet.
pub fn read<'a>(file: &str, bytes: &'a [u8]) -> Outcome<Capture<'a>> {
    let mut reader = Reader::new(file);
    let damage = match bytes.first_chunk() {
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => next_generation::read(&mut reader, bytes),
        Some(
            [0xa1, 0xb2, 0xc3, 0xd4]
            | [0xd4, 0xc3, 0xb2, 0xa1]
            | [0xa1, 0xb2, 0x3c, 0x4d]
            | [0x4d, 0x3c, 0xb2, 0xa1],
        ) => legacy::read(&mut reader, bytes),
        Some(_) | None => return Err(vec![reader.not_a_capture(bytes)]),
    };
    reader.finish(damage)
}

/// Why reading stopped before the end of the file.
enum Damage {
    /// The file ends inside a packet or block.
    Truncated,
    /// Something that no writer writes.
    Malformed(String),
}

/// What both formats fill.
struct Reader<'a> {
    file: String,
    packets: Vec<Packet<'a>>,
    /// Packets seen, of all link types.
    seen: u64,
    /// Link types of all interfaces, in order of appearance.
    links: Vec<LinkType>,
}

impl<'a> Reader<'a> {
    fn new(file: &str) -> Self {
        Self { file: file.to_owned(), packets: Vec::new(), seen: 0, links: Vec::new() }
    }

    fn link(&mut self, link: LinkType) {
        if !self.links.contains(&link) {
            self.links.push(link);
        }
    }

    fn packet(&mut self, link: LinkType, ts_ns: u64, data: &'a [u8], original_len: u32) {
        self.seen += 1;
        if link == ETHERNET {
            self.packets.push(Packet { number: self.seen, ts_ns, data, original_len });
        }
    }

    fn not_a_capture(&self, bytes: &[u8]) -> Diagnostic {
        let (message, help) = match bytes {
            [] => ("the capture is empty", "give a pcap or pcapng file, as `tcpdump -w` writes it"),
            [0x1f, 0x8b, ..] => ("the capture is compressed", "unpack it first: `gunzip FILE`"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => ("the capture is compressed", "unpack it first: `unzstd FILE`"),
            [..] => (
                "the file is neither pcap nor pcapng",
                "give a capture as `tcpdump -w` or Wireshark writes it; other formats convert with `editcap -F pcap IN OUT`",
            ),
        };
        Diagnostic::new(&codes::NOT_A_CAPTURE, Origin::File { file: self.file.clone() }, message, help)
    }

    fn diagnostic(&self, damage: Damage) -> Diagnostic {
        let packet = self.seen + 1;
        let origin = Origin::Packet { file: self.file.clone(), packet };
        let (code, message, help): (&'static Code, _, _) = match damage {
            Damage::Truncated => (
                &codes::TRUNCATED,
                format!("the capture ends in the middle of packet {packet}"),
                "capture again, or cut the file at the damage: `editcap IN OUT` keeps what is readable",
            ),
            Damage::Malformed(what) => (
                &codes::DAMAGED,
                format!("the capture is damaged before packet {packet}: {what}"),
                "capture again, or repair the file: `editcap IN OUT` keeps what is readable",
            ),
        };
        Diagnostic::new(code, origin, message, help).with_note(match self.seen {
            0 => "no packet before it is readable".to_owned(),
            seen => format!("the {seen} packets before it are used"),
        })
    }

    fn finish(self, damage: Result<(), Damage>) -> Outcome<Capture<'a>> {
        let damage = damage.err().map(|damage| self.diagnostic(damage));
        let mut refusals = Vec::new();
        if !self.links.is_empty() && !self.links.contains(&ETHERNET) {
            refusals.extend(self.links.iter().map(|link| {
                Diagnostic::new(
                    &codes::NOT_ETHERNET,
                    Origin::File { file: self.file.clone() },
                    format!("the capture has link type {link}, not Ethernet"),
                    "capture on an Ethernet interface: `tcpdump -i eth0 -w FILE`, not `-i any`",
                )
            }));
        }
        match damage {
            Some(damage) if self.seen == 0 || !refusals.is_empty() => {
                refusals.push(damage);
                Err(refusals)
            }
            damage if refusals.is_empty() => Ok(Capture {
                not_ethernet: self.seen - self.packets.len() as u64,
                packets: self.packets,
                damage,
            }),
            _ => Err(refusals),
        }
    }
}

#[cfg(test)]
mod tests;
