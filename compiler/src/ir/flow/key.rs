//! Which parts of a packet name its record.

use super::record::{KEY_SIZE, Key};
use crate::ir::packet::{Host, SCTP, TCP, UDP};
use crate::spec::typed::Transports;

/// A part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPart {
    Src,
    Dst,
    SrcPort,
    DstPort,
    Proto,
}

impl KeyPart {
    /// All parts, in the order of keys.
    pub const ALL: [Self; 5] = [Self::Src, Self::Dst, Self::SrcPort, Self::DstPort, Self::Proto];

    /// As a specification writes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Src => "ip.src",
            Self::Dst => "ip.dst",
            Self::SrcPort => "l4.src_port",
            Self::DstPort => "l4.dst_port",
            Self::Proto => "ip.proto",
        }
    }

    /// The part of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Bytes in the key of a further table.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::Src | Self::Dst => 16,
            Self::SrcPort | Self::DstPort => 2,
            Self::Proto => 1,
        }
    }

    const fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyParts(u8);

impl KeyParts {
    pub const NONE: Self = Self(0);
    /// Both addresses, both ports, the protocol.
    pub const FIVE_TUPLE: Self = Self::NONE
        .with(KeyPart::Src)
        .with(KeyPart::Dst)
        .with(KeyPart::SrcPort)
        .with(KeyPart::DstPort)
        .with(KeyPart::Proto);

    /// The set with one more part.
    #[must_use]
    pub const fn with(self, part: KeyPart) -> Self {
        Self(self.0 | part.bit())
    }

    #[must_use]
    pub const fn has(self, part: KeyPart) -> bool {
        self.0 & part.bit() != 0
    }

    /// Whether every part is one of `other`.
    #[must_use]
    pub const fn within(self, other: Self) -> bool {
        self.0 & !other.0 == 0
    }

    /// Where a part starts in the key of a further table.
    #[must_use]
    pub fn packed_offset(self, part: KeyPart) -> u32 {
        self.iter().take_while(|other| *other != part).map(KeyPart::bytes).sum()
    }

    /// Bytes of the key of a further table, a multiple of 8.
    #[must_use]
    pub fn packed_size(self) -> u32 {
        self.iter().map(KeyPart::bytes).sum::<u32>().next_multiple_of(8)
    }

    /// The parts in their order.
    pub fn iter(self) -> impl Iterator<Item = KeyPart> {
        KeyPart::ALL.into_iter().filter(move |part| self.has(*part))
    }

    /// Whether all packets of a record go between the same two hosts.
    #[must_use]
    pub const fn pairs(self) -> bool {
        self.has(KeyPart::Src) && self.has(KeyPart::Dst)
    }

    /// Whether a record is a connection, or one direction of it: then FIN and RST say something about it.
    #[must_use]
    pub const fn connects(self) -> bool {
        self.pairs() && self.has(KeyPart::SrcPort) && self.has(KeyPart::DstPort)
    }

    /// Whether the two ends of a packet can change places: then both directions can share a record.
    #[must_use]
    pub const fn symmetric(self) -> bool {
        self.pairs() && self.has(KeyPart::SrcPort) == self.has(KeyPart::DstPort)
    }

    /// A host where it is part of the key, else the address of zeros.
    #[must_use]
    pub const fn host(self, part: KeyPart, host: Host) -> Host {
        if self.has(part) { host } else { Host([0; 16]) }
    }

    /// A number where it is part of the key, else 0.
    #[must_use]
    pub const fn number(self, part: KeyPart, number: u16) -> u16 {
        if self.has(part) { number } else { 0 }
    }
}

/// What the flow table keeps of the 40 bytes of a [`Key`]: those up to the last one that differs between packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyForm {
    /// A multiple of 4, which the kernel hashes faster than other sizes.
    pub bytes: u32,
    /// The protocol, where every key has the same one and the bytes do not say it.
    pub proto: Option<u8>,
}

impl KeyForm {
    /// The form of keys of these parts, of packets of these transports.
    #[must_use]
    pub fn of(parts: KeyParts, transports: Transports) -> Self {
        let only = match transports {
            Transports { tcp: true, udp: false, icmp: false, sctp: false } => Some(TCP),
            Transports { tcp: false, udp: true, icmp: false, sctp: false } => Some(UDP),
            Transports { tcp: false, udp: false, icmp: false, sctp: true } => Some(SCTP),
            Transports { .. } => None,
        };
        let has = |part| parts.has(part);
        let bytes = if has(KeyPart::Proto) && only.is_none() {
            KEY_SIZE
        } else if has(KeyPart::SrcPort) || has(KeyPart::DstPort) {
            36
        } else if has(KeyPart::Dst) {
            32
        } else if has(KeyPart::Src) {
            16
        } else {
            // One record for all packets.
            KEY_SIZE
        };
        Self { bytes, proto: only.filter(|_| bytes < KEY_SIZE && has(KeyPart::Proto)) }
    }

    /// The bytes of a key in the map.
    #[must_use]
    pub fn cut(self, key: &Key) -> Vec<u8> {
        key.to_bytes().into_iter().take(self.bytes as usize).collect()
    }

    /// The key of these bytes; `None` for another number of them.
    #[must_use]
    pub fn read(self, bytes: &[u8]) -> Option<Key> {
        if bytes.len() != self.bytes as usize {
            return None;
        }
        let mut whole = bytes.to_vec();
        whole.resize(KEY_SIZE as usize, 0);
        let key = Key::from_bytes(&whole)?;
        Some(Key { proto: self.proto.unwrap_or(key.proto), ..key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_end_with_what_differs() {
        let (tcp, both) = (
            Transports { tcp: true, ..Transports::default() },
            Transports { tcp: true, udp: true, ..Transports::default() },
        );
        let parts = |parts: &[KeyPart]| parts.iter().fold(KeyParts::NONE, |all, part| all.with(*part));
        let hosts = parts(&[KeyPart::Src, KeyPart::Dst]);
        for (parts, transports, bytes, proto) in [
            (KeyParts::FIVE_TUPLE, both, 40, None),
            (KeyParts::FIVE_TUPLE, tcp, 36, Some(TCP)),
            (KeyParts::FIVE_TUPLE, Transports { icmp: true, ..Transports::default() }, 40, None),
            (hosts, both, 32, None),
            (hosts.with(KeyPart::Proto), both, 40, None),
            (hosts.with(KeyPart::Proto), tcp, 32, Some(TCP)),
            (parts(&[KeyPart::Src]), both, 16, None),
            (parts(&[KeyPart::Dst]), both, 32, None),
            (parts(&[KeyPart::SrcPort]), both, 36, None),
            (parts(&[KeyPart::Proto]), tcp, 40, None),
        ] {
            assert_eq!(KeyForm::of(parts, transports), KeyForm { bytes, proto }, "{parts:?} {transports:?}");
        }
    }

    #[test]
    fn keys_are_read_back() {
        let key = Key { a: Host([1; 16]), b: Host([2; 16]), a_port: 3, b_port: 4, proto: TCP };
        for form in [KeyForm { bytes: 36, proto: Some(TCP) }, KeyForm { bytes: 40, proto: None }] {
            let bytes = form.cut(&key);
            assert_eq!((bytes.len(), form.read(&bytes)), (form.bytes as usize, Some(key)));
            assert_eq!(form.read(&bytes[1..]), None);
        }
    }
}
