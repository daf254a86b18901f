//! Key and value of the flow table: offsets, flags and initial content.
//!
//! What the values mean is in [`super`]; turning the layout into BTF is lowering's business.

use super::key::{KeyPart, KeyParts};
use super::side::{Place, TableId, Window, WindowId};
use super::{Slot, SlotId, SlotKind, Width};
use crate::ir::packet::{Host, Parsed};
use crate::spec::typed::{Direction, Directions};

/// Content of an empty 32-bit minimum or first: the only value with bit 31 set.
pub const NONE_32: u32 = u32::MAX;

/// Content of an empty 64-bit minimum, first or time: the only value with bit 63 set.
pub const NONE_64: u64 = u64::MAX;

/// Bits of the record's `flags`.
pub mod flag {
    /// FIN seen from the forward and from the backward side.
    pub const FIN_FORWARD: u32 = 1;
    pub const FIN_BACKWARD: u32 = 2;
    /// The flow ended; packets are stray.
    pub const CLOSED: u32 = 4;
    /// Being replaced by the processor that set this.
    pub const RETIRED: u32 = 8;
    /// More packets than the sample limit.
    pub const SATURATED: u32 = 16;
    /// The forward sender is end `b` of the key. Set on creation, constant afterwards.
    pub const FORWARD_IS_B: u32 = 32;
    /// `after TIME` has judged.
    pub const AFTER: u32 = 64;
}

/// Offset of a slot that has none yet.
pub(super) const UNPLACED: u32 = u32::MAX;

/// Offset of a slot that records do not keep, because nothing depends on it.
pub const ABSENT: u32 = u32::MAX - 1;

/// Bytes of a key.
pub const KEY_SIZE: u32 = 40;

/// What names a record, as the flow table sees it, 40 bytes:
/// `a` at 0, `b` at 16, `a_port` at 32, `b_port` at 34 (both in host order), `proto` at 36, zeros.
///
/// With [`Directions::Both`] the smaller end is `a`. Ends compare as the tuple (bytes 8..16 of the address,
/// bytes 0..8 of the address, port), where the byte ranges are read as little-endian 64-bit numbers and the
/// port is a number. With [`Directions::One`], `a` is the sender.
///
/// What is no part of the specification's key ([`KeyParts`]) is zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    pub a: Host,
    pub b: Host,
    pub a_port: u16,
    pub b_port: u16,
    pub proto: u8,
}

/// A packet's key, and whether its sender is `b`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Oriented {
    pub key: Key,
    pub sender_is_b: bool,
}

impl Oriented {
    /// The key of a packet.
    #[must_use]
    pub fn of(packet: &Parsed, parts: KeyParts, directions: Directions) -> Self {
        let src = (parts.host(KeyPart::Src, packet.src), parts.number(KeyPart::SrcPort, packet.src_port));
        let dst = (parts.host(KeyPart::Dst, packet.dst), parts.number(KeyPart::DstPort, packet.dst_port));
        let sender_is_b = match directions {
            Directions::One => false,
            Directions::Both => rank(src.0, src.1) > rank(dst.0, dst.1),
        };
        let ((a, a_port), (b, b_port)) = if sender_is_b { (dst, src) } else { (src, dst) };
        let proto = if parts.has(KeyPart::Proto) { packet.proto } else { 0 };
        Self { key: Key { a, b, a_port, b_port, proto }, sender_is_b }
    }

    /// The packet's direction in a record with these flags.
    #[must_use]
    pub fn direction(&self, flags: u32) -> Direction {
        if self.sender_is_b == (flags & flag::FORWARD_IS_B != 0) {
            Direction::Forward
        } else {
            Direction::Backward
        }
    }
}

fn rank(host: Host, port: u16) -> (u64, u64, u16) {
    let number = u128::from_le_bytes(host.0);
    // The two halves; both casts keep exactly 64 bits.
    ((number >> 64) as u64, number as u64, port)
}

impl Key {
    /// The bytes of the map's key, with numbers in host order of a little-endian machine.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; KEY_SIZE as usize] {
        let [a0, a1] = self.a_port.to_le_bytes();
        let [b0, b1] = self.b_port.to_le_bytes();
        let mut bytes = [0; KEY_SIZE as usize];
        let rest = [a0, a1, b0, b1, self.proto];
        let content = self.a.0.iter().chain(&self.b.0).chain(&rest).copied();
        for (to, from) in bytes.iter_mut().zip(content) {
            *to = from;
        }
        bytes
    }

    /// The key of these bytes; `None` for another number of them.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (a, rest) = <&[u8; KEY_SIZE as usize]>::try_from(bytes).ok()?.split_first_chunk()?;
        let (b, rest) = rest.split_first_chunk()?;
        let &[a0, a1, b0, b1, proto, ..] = rest else { return None };
        Some(Self {
            a: Host(*a),
            b: Host(*b),
            a_port: u16::from_le_bytes([a0, a1]),
            b_port: u16::from_le_bytes([b0, b1]),
            proto,
        })
    }

    /// What a further table's key says of packets from the first of these ends to the second.
    #[must_use]
    pub fn narrowed(parts: KeyParts, (src, dst): ((Host, u16), (Host, u16)), proto: u8) -> Self {
        Self {
            a: parts.host(KeyPart::Src, src.0),
            b: parts.host(KeyPart::Dst, dst.0),
            a_port: parts.number(KeyPart::SrcPort, src.1),
            b_port: parts.number(KeyPart::DstPort, dst.1),
            proto: if parts.has(KeyPart::Proto) { proto } else { 0 },
        }
    }

    /// The bytes of a further table's key: its parts one after the other, then zeros up to a multiple of 8.
    #[must_use]
    pub fn packed(&self, parts: KeyParts) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(parts.packed_size() as usize);
        for part in parts.iter() {
            match part {
                KeyPart::Src => bytes.extend(self.a.0),
                KeyPart::Dst => bytes.extend(self.b.0),
                KeyPart::SrcPort => bytes.extend(self.a_port.to_le_bytes()),
                KeyPart::DstPort => bytes.extend(self.b_port.to_le_bytes()),
                KeyPart::Proto => bytes.push(self.proto),
            }
        }
        bytes.resize(parts.packed_size() as usize, 0);
        bytes
    }

    /// The sending end of a direction, then the receiving end.
    #[must_use]
    pub fn ends(&self, sender_is_b: bool) -> ((Host, u16), (Host, u16)) {
        let (a, b) = ((self.a, self.a_port), (self.b, self.b_port));
        if sender_is_b { (b, a) } else { (a, b) }
    }
}

/// What a record remembers of the lists' answer for one direction: the epoch at which they were asked, above two bits
/// that say whether the sender is blocked and whether an end is allowed; never both. Until when it is blocked the list itself says: it has not
/// changed while the epoch is the same.
pub mod answer {
    /// The block list has the sender.
    pub const LISTED: u64 = 1;
    /// One of the ends is allowed, so that nothing acts on the packet.
    pub const EXEMPT: u64 = 2;
    /// Bits below the epoch.
    pub const BITS: u32 = 2;

    /// The word of an answer.
    #[must_use]
    pub const fn word(epoch: u64, blocked_until: u64, exempt: bool) -> u64 {
        epoch << BITS | if blocked_until == 0 { 0 } else { LISTED } | if exempt { EXEMPT } else { 0 }
    }
}

/// Offsets in a record. The header comes first:
///
/// | name | bytes | initially |
/// |---|---|---|
/// | `packets` | 8 | 0 |
/// | `forward_answer` | 8 | what the lists said of the first packet ([`answer`]) |
/// | `backward_answer` | 8 | that they were asked before they last changed |
/// | `flags` | 4 | `FORWARD_IS_B` or 0 |
/// | `last_ns` | 8 | `NONE_64` |
/// | `first_ns` | 8 | the first packet's time |
///
/// The backward answer is absent with [`Directions::One`], both are where a key does not name both hosts: the
/// lists' answer is one on two hosts. Times are there only where something depends on them. Slots follow, 64-bit
/// and 128-bit ones first; a 32-bit one fills the place behind `flags`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Layout {
    /// Bytes of a record, a multiple of 8.
    pub size: u32,
    /// What the lists said about forward packets, and about backward ones.
    pub forward_lists: Option<u32>,
    pub backward_lists: Option<u32>,
    pub flags: u32,
    /// Where something depends on when the last packet came.
    pub last: Option<u32>,
    /// Where something depends on when the first packet came.
    pub first: Option<u32>,
}

impl Layout {
    pub const PACKETS: u32 = 0;
    /// What the lists said about forward packets; for backward ones the same follows.
    pub const FORWARD_LISTS: u32 = 8;
    /// Bytes of what the lists said.
    pub const LISTS_SIZE: u32 = 8;
}

/// What a record has besides slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// What the lists said.
    pub(super) lists: bool,
    pub(super) directions: Directions,
    pub(super) last: bool,
    pub(super) first: bool,
}

impl Width {
    /// Bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::W32 => 4,
            Self::W64 => 8,
            Self::W128 => 16,
        }
    }

    /// The empty content of minimum and first.
    const fn none(self) -> u64 {
        match self {
            Self::W32 => NONE_32 as u64,
            Self::W64 | Self::W128 => NONE_64,
        }
    }
}

impl Slot {
    /// What a new record holds here, before its first packet; the high word of a 128-bit slot is 0.
    /// [`SlotKind::Judged`] starts with the time of the first packet instead.
    #[must_use]
    pub const fn initial(&self) -> u64 {
        match self.kind {
            SlotKind::Time | SlotKind::Pane | SlotKind::Ewma => NONE_64,
            SlotKind::Min | SlotKind::First => self.width.none(),
            SlotKind::Packets
            | SlotKind::Count
            | SlotKind::Sum
            | SlotKind::Squares
            | SlotKind::Max
            | SlotKind::Last
            | SlotKind::Judged
            | SlotKind::Bits { .. } => 0,
        }
    }
}

/// Places the slots of the flow's own records.
pub(super) fn lay_out(slots: &mut [Slot], windows: &mut [Window], header: Header) -> Layout {
    let forward_lists = header.lists.then_some(Layout::FORWARD_LISTS);
    let backward_lists = match header.directions {
        Directions::Both => forward_lists.map(|forward| forward + Layout::LISTS_SIZE),
        Directions::One => None,
    };
    let last_lists = backward_lists.or(forward_lists);
    let flags = last_lists.map_or(Layout::FORWARD_LISTS, |lists| lists + Layout::LISTS_SIZE);
    let mut at = flags + 8;
    let mut time = |kept: bool| {
        let offset = kept.then_some(at);
        at += if kept { 8 } else { 0 };
        offset
    };
    let (last, first) = (time(header.last), time(header.first));
    if let (Some(slot), Some(last)) = (slots.get_mut(SlotId::LAST_TIME.0 as usize), last) {
        slot.offset = last;
    }
    // The place behind the flags.
    let narrow =
        |slot: &&mut Slot| slot.place == Place::FLOW && slot.offset == UNPLACED && slot.width == Width::W32;
    if let Some(slot) = slots.iter_mut().find(narrow) {
        slot.offset = flags + 4;
    }
    let size = arrange(slots, windows, None, at);
    Layout { size, forward_lists, backward_lists, flags, last, first }
}

/// Places the slots of one table's records behind their header: those of the whole life widest first, in order
/// otherwise, then the windows. Gives the size of a record.
pub(super) fn arrange(
    slots: &mut [Slot],
    windows: &mut [Window],
    table: Option<TableId>,
    header: u32,
) -> u32 {
    let mut end = widest_first(slots, Place { table, window: None }, header);
    for (id, window) in (0..).map(WindowId).zip(windows).filter(|(_, window)| window.table == table) {
        window.start = end.next_multiple_of(8);
        window.stride =
            widest_first(slots, window.place(id), window.start).next_multiple_of(8) - window.start;
        end = window.start + 2 * window.stride;
    }
    end.next_multiple_of(8)
}

/// Gives the end of the slots of a place that starts here.
fn widest_first(slots: &mut [Slot], place: Place, mut at: u32) -> u32 {
    for narrow in [false, true] {
        let unplaced = |slot: &&mut Slot| slot.place == place && slot.offset == UNPLACED;
        for slot in slots.iter_mut().filter(unplaced).filter(|slot| (slot.width == Width::W32) == narrow) {
            slot.offset = at;
            at += slot.width.bytes();
        }
    }
    at
}
