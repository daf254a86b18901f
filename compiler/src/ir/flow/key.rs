//! Which parts of a packet name its record.

use crate::ir::packet::Host;

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
