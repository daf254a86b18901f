//! Program contexts: what loads from `r1` give at entry. The verifier rewrites such loads; here they are computed.

use super::error::Fault;
use super::memory::{Memory, PACKET};

/// Which context structure a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Context {
    /// `struct xdp_md`.
    Xdp,
    /// `struct __sk_buff`.
    SkBuff,
}

/// How a packet lies in its socket buffer. By default all of it is linear and no tag lies beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skb {
    /// Bytes of the packet that `data` and `data_end` span; more than there are stands for all.
    pub linear: u32,
    /// The VLAN tag that the kernel keeps beside the packet.
    pub tag: Option<Tag>,
    /// The packet's mark, which programs may change.
    pub mark: u32,
}

/// A VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// The ether type that says it is a tag: 0x8100 or 0x88a8.
    pub protocol: u16,
    /// Priority and number of the network.
    pub control: u16,
}

impl Default for Skb {
    fn default() -> Self {
        Self { linear: u32::MAX, tag: None, mark: 0 }
    }
}

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    Data,
    DataEnd,
    Length,
    /// The type of what the Ethernet header carries, in network order.
    Protocol,
    TagPresent,
    TagControl,
    /// In network order.
    TagProtocol,
    /// The interface, 1 as in the kernel's test runs.
    Interface,
    Mark,
    Zero,
}

impl Context {
    /// The context of programs in a section.
    pub(super) fn of_section(section: &str) -> Option<Self> {
        match section {
            "xdp" | "xdp.frags" => Some(Self::Xdp),
            "classifier" | "tc" => Some(Self::SkBuff),
            _ => None,
        }
    }

    /// A load of `bytes` at `offset`; only whole 32-bit fields exist.
    pub(super) fn load(self, memory: &Memory, skb: &Skb, offset: u64, bytes: u64) -> Result<u64, Fault> {
        let field = if bytes == 4 { self.field(offset) } else { None };
        Ok(match field.ok_or(Fault::BadContextLoad { offset, bytes })? {
            Field::Data => memory.address(PACKET, 0, 0),
            Field::DataEnd => memory.address(PACKET, 0, self.end(memory, skb)),
            Field::Length => u64::from(memory.packet_len()),
            Field::Protocol => u64::from(protocol(memory).to_be()),
            Field::TagPresent => u64::from(skb.tag.is_some()),
            Field::TagControl => skb.tag.map_or(0, |tag| u64::from(tag.control)),
            Field::TagProtocol => skb.tag.map_or(0, |tag| u64::from(tag.protocol.to_be())),
            Field::Interface => 1,
            Field::Mark => u64::from(skb.mark),
            Field::Zero => 0,
        })
    }

    /// A store of 32 bits; `false` where the program may not write.
    pub(super) fn store(self, skb: &mut Skb, offset: u64, value: u32) -> bool {
        match self.field(offset) {
            Some(Field::Mark) => {
                skb.mark = value;
                true
            }
            Some(
                Field::Data
                | Field::DataEnd
                | Field::Length
                | Field::Protocol
                | Field::TagPresent
                | Field::TagControl
                | Field::TagProtocol
                | Field::Interface
                | Field::Zero,
            )
            | None => false,
        }
    }

    /// Bytes that the program reaches.
    fn end(self, memory: &Memory, skb: &Skb) -> u32 {
        match self {
            Self::Xdp => memory.packet_len(),
            Self::SkBuff => memory.packet_len().min(skb.linear),
        }
    }

    /// Offsets from `struct xdp_md` and `struct __sk_buff` in `include/uapi/linux/bpf.h`.
    fn field(self, offset: u64) -> Option<Field> {
        match (self, offset) {
            // Without metadata `data_meta` is where the packet starts.
            (Self::Xdp, 0 | 8) | (Self::SkBuff, 76 | 140) => Some(Field::Data),
            (Self::Xdp, 4) | (Self::SkBuff, 80) => Some(Field::DataEnd),
            (Self::Xdp, 12) | (Self::SkBuff, 36 | 40) => Some(Field::Interface),
            (Self::SkBuff, 8) => Some(Field::Mark),
            // The receive queue; priority, hash and the control block.
            (Self::Xdp, 16) | (Self::SkBuff, 32 | 48 | 52 | 56 | 60 | 64 | 68) => Some(Field::Zero),
            (Self::SkBuff, 0) => Some(Field::Length),
            (Self::SkBuff, 16) => Some(Field::Protocol),
            (Self::SkBuff, 20) => Some(Field::TagPresent),
            (Self::SkBuff, 24) => Some(Field::TagControl),
            (Self::SkBuff, 28) => Some(Field::TagProtocol),
            _ => None,
        }
    }
}

/// As `eth_type_trans` of the kernel says: the type in the header, or, where a length stands in its place, that
/// of 802.2 frames.
fn protocol(memory: &Memory) -> u16 {
    const LENGTHS_BELOW: u16 = 0x0600;
    const ETH_P_802_2: u16 = 4;
    let bytes = memory.load::<2>(memory.address(PACKET, 0, 12)).unwrap_or_default();
    let ether_type = u16::from_be_bytes(bytes);
    if ether_type < LENGTHS_BELOW { ETH_P_802_2 } else { ether_type }
}
