//! What records have besides the slots of their whole life: tables of other keys, and windows of time.
//!
//! # Tables
//!
//! A record of a further table collects the packets that reach step 7 of [`super`] and agree in the table's
//! key, each with its own source and destination; its groups run after those of the flow's record. When the
//! table's idle time has passed since the record's last packet, everything but that time starts anew. A verdict
//! reads the record whose key the judged flow's forward packets have; where there is none, all slots are empty.
//!
//! # Windows
//!
//! The packet clock is cut into panes of half a window. A record has two copies of each slot of a window, and
//! the number of the newest pane that it has seen: that pane's copy is the one at the number's lowest bit, the
//! other copy is the pane's before. A packet of a later pane empties the copy that it takes over, and both where
//! it has skipped a pane; one of an earlier pane counts in the newest. Of each pane, the first
//! `sample_limit / 2` packets are aggregated. At a verdict, a copy counts unless its pane is by then more than
//! one behind the clock's; a window's value is that of both copies joined, see [`Slot::join`].
//!
//! # What two processors may do
//!
//! | value | operation |
//! |---|---|
//! | `packets`, slots | as in [`super`] |
//! | `last_ns` of a further table | 64-bit exchange; the old value decides who empties the record |
//! | pane | one compare-and-exchange; who succeeds empties the copies, who does not counts in the pane that stands there |
//!
//! What other processors add while one of them empties a copy or a record may be lost, and a verdict in that
//! moment may read it half emptied.

use super::key::KeyParts;
use super::{FlowProgram, Slot, SlotId, SlotKind, record};
use crate::diag::Span;
use crate::spec::typed::Nanos;

/// Position in [`FlowProgram::tables`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableId(pub u32);

/// Position in [`FlowProgram::windows`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WindowId(pub u32);

/// Where a slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Place {
    /// The table whose records it is part of; none for the flow's own.
    pub table: Option<TableId>,
    /// The window of which it has two copies; none where it is about the record's whole life.
    pub window: Option<WindowId>,
}

impl Place {
    /// The flow's record, all of its life.
    pub const FLOW: Self = Self { table: None, window: None };
}

/// A table whose records collect packets of several flows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SideTable {
    /// What the map's name ends in: a C identifier.
    pub name: String,
    /// Always part of the flow's own key, each end of a packet in its own place.
    pub key: KeyParts,
    pub capacity: u32,
    pub idle: Option<Nanos>,
    /// Number of packets, and the time of the last one: the header of its records.
    pub packets: SlotId,
    pub last: SlotId,
    /// Bytes of a record.
    pub size: u32,
    pub span: Span,
}

impl SideTable {
    /// Offsets in a record.
    pub const PACKETS: u32 = 0;
    pub const LAST: u32 = 8;
    /// Bytes of the header.
    pub const HEADER: u32 = 16;
}

/// The last packets of a record, by time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    /// A C identifier, unique among the record's members: of the array of panes.
    pub name: String,
    pub table: Option<TableId>,
    pub length: Nanos,
    /// Number of the newest pane, all ones before the first; in the record outside of the panes.
    pub pane: SlotId,
    /// Packets of a pane.
    pub packets: SlotId,
    /// Where the copy of even panes starts; the one of odd panes follows it.
    pub start: u32,
    /// Bytes of one copy.
    pub stride: u32,
}

impl Window {
    /// Nanoseconds of a pane.
    #[must_use]
    pub fn pane_nanos(&self) -> u64 {
        pane_nanos(self.length)
    }

    /// The place of its slots.
    #[must_use]
    pub const fn place(&self, id: WindowId) -> Place {
        Place { table: self.table, window: Some(id) }
    }
}

/// Nanoseconds of a pane of a window of this length.
#[must_use]
pub fn pane_nanos(length: Nanos) -> u64 {
    (length.0 / 2).max(1)
}

impl Slot {
    /// The content of a window's slot for two panes, of which the one before may be empty as the newest may.
    #[must_use]
    pub fn join(&self, newest: u128, before: u128, sample_limit: u64) -> u128 {
        let half = u128::from(sample_limit / 2);
        match self.kind {
            SlotKind::Packets => newest.min(half) + before.min(half),
            SlotKind::Count | SlotKind::Sum | SlotKind::Squares => newest.wrapping_add(before),
            // The empty content is the greatest.
            SlotKind::Min => newest.min(before),
            SlotKind::Max => newest.max(before),
            SlotKind::Bits { .. } => newest | before,
            // Not in windows.
            SlotKind::Time
            | SlotKind::Judged
            | SlotKind::Pane
            | SlotKind::First
            | SlotKind::Last
            | SlotKind::Ewma => newest,
        }
    }
}

/// Which copies of a window count at a verdict: of the newest pane, and of the one before.
#[must_use]
pub const fn valid(newest: u64, now_pane: u64) -> (bool, bool) {
    // The number before the first pane is -1; clocks may go backwards.
    let behind = now_pane.cast_signed().saturating_sub(newest.cast_signed());
    (behind <= 1, behind <= 0)
}

/// Whether the newest pane has to be exchanged for this one, and whether the one before is kept then.
#[must_use]
pub const fn turn(newest: u64, now_pane: u64) -> Option<bool> {
    let behind = now_pane.cast_signed().saturating_sub(newest.cast_signed());
    if behind <= 0 { None } else { Some(behind == 1) }
}

impl FlowProgram {
    /// The windows of one table's records.
    pub fn windows_of(&self, table: Option<TableId>) -> impl Iterator<Item = (WindowId, &Window)> {
        let numbered = (0..).map(WindowId).zip(&self.windows);
        numbered.filter(move |(_, window)| window.table == table)
    }

    /// The slots of one table's records, header and panes included, without those that records do not keep.
    pub fn slots_of(&self, table: Option<TableId>) -> impl Iterator<Item = (SlotId, &Slot)> {
        let numbered = (0..).map(SlotId).zip(&self.slots);
        numbered.filter(move |(_, slot)| slot.place.table == table && slot.offset != record::ABSENT)
    }

    /// The tables with their identifiers.
    pub fn side_tables(&self) -> impl Iterator<Item = (TableId, &SideTable)> {
        (0..).map(TableId).zip(&self.tables)
    }
}
