//! The flow table of the reference interpreter: records and exact least-recently-used eviction.
//!
//! The kernel's LRU hash evicts approximately (per-CPU free lists, a reference bit per element), so a table
//! that is full may keep other flows there; below capacity both keep everything.

use std::collections::BTreeMap;

use super::eval::Content;
use super::record::{Key, answer, flag};
use super::side::{SideTable, TableId};
use super::{FlowProgram, Slot, SlotId, SlotKind};
use crate::spec::typed::Direction;

/// Identity of a record: counts up over the records created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FlowId(pub u64);

/// What the lists said about one direction of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListAnswer {
    /// The epoch at which they were asked.
    pub epoch: u64,
    pub blocked_until: u64,
    /// One of the packet's ends is allowed.
    pub exempt: bool,
}

/// The state of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: FlowId,
    pub first_ns: u64,
    pub flags: u32,
    pub forward: ListAnswer,
    pub backward: ListAnswer,
    /// Parallel to the program's slots, of which those of other tables stay empty. Of windows, the newest pane.
    pub slots: Vec<Content>,
    /// The same of windows' panes before the newest ones; nothing in a program without windows.
    pub before: Vec<Content>,
}

/// What a slot holds in a record that begins at `now`.
fn initial(slot: &Slot, now: u64) -> u64 {
    if slot.kind == SlotKind::Judged { now } else { slot.initial() }
}

impl Record {
    /// A record before its first packet, whose sender is `b` of the key or `a`.
    #[must_use]
    pub fn new(program: &FlowProgram, id: FlowId, now: u64, sender_is_b: bool, forward: ListAnswer) -> Self {
        let slots: Vec<Content> =
            program.slots.iter().map(|slot| Content(u128::from(initial(slot, now)))).collect();
        Self {
            id,
            first_ns: now,
            flags: if sender_is_b { flag::FORWARD_IS_B } else { 0 },
            forward,
            backward: ListAnswer { epoch: forward.epoch.wrapping_sub(1), blocked_until: 0, exempt: false },
            before: if program.windows.is_empty() { Vec::new() } else { slots.clone() },
            slots,
        }
    }

    /// A record of a further table before its first packet.
    #[must_use]
    pub(super) fn side(program: &FlowProgram) -> Self {
        Self::new(program, FlowId(0), 0, false, ListAnswer { epoch: 0, blocked_until: 0, exempt: false })
    }

    /// Content of a window's slot for the pane before the newest.
    pub(super) fn get_before(&self, slot: SlotId) -> u128 {
        self.before.get(slot.0 as usize).map_or(0, |content| content.0)
    }

    /// A new pane of a window: its slot is empty; what was there is the pane's before, if that is to be kept.
    pub(super) fn turn(&mut self, slot: SlotId, empty: u128, keep: bool) {
        let old = self.exchange(slot, empty);
        if let Some(before) = self.before.get_mut(slot.0 as usize) {
            before.0 = if keep { old } else { empty };
        }
    }

    /// Content of a slot.
    #[must_use]
    pub fn get(&self, slot: SlotId) -> u128 {
        self.slots.get(slot.0 as usize).map_or(0, |content| content.0)
    }

    /// Replaces the content of a slot and returns the old one.
    pub(super) fn exchange(&mut self, slot: SlotId, value: u128) -> u128 {
        self.slots.get_mut(slot.0 as usize).map_or(0, |content| std::mem::replace(&mut content.0, value))
    }

    /// The time of the last packet.
    #[must_use]
    pub fn last_ns(&self) -> u64 {
        low(self.get(SlotId::LAST_TIME))
    }

    /// The number of packets.
    #[must_use]
    pub fn packets(&self) -> u64 {
        low(self.get(SlotId::PACKETS))
    }

    pub(super) fn lists(&mut self, direction: Direction) -> &mut ListAnswer {
        match direction {
            Direction::Forward => &mut self.forward,
            Direction::Backward => &mut self.backward,
        }
    }

    /// The bytes of the map's value.
    #[must_use]
    pub fn to_bytes(&self, program: &FlowProgram) -> Vec<u8> {
        let layout = program.record;
        let mut bytes = vec![0; layout.size as usize];
        let mut put = |offset: u32, content: &[u8]| {
            for (to, from) in bytes.iter_mut().skip(offset as usize).zip(content) {
                *to = *from;
            }
        };
        if let Some(first) = layout.first {
            put(first, &self.first_ns.to_le_bytes());
        }
        put(layout.flags, &self.flags.to_le_bytes());
        let lists = [(layout.forward_lists, self.forward), (layout.backward_lists, self.backward)];
        for (offset, lists) in lists {
            let Some(offset) = offset else { continue };
            put(offset, &answer::word(lists.epoch, lists.blocked_until, lists.exempt).to_le_bytes());
        }
        self.put_slots(program, None, &mut put);
        bytes
    }

    /// The bytes of the value in the map of a further table.
    #[must_use]
    pub fn side_bytes(&self, program: &FlowProgram, id: TableId, table: &SideTable) -> Vec<u8> {
        let mut bytes = vec![0; table.size as usize];
        self.put_slots(program, Some(id), &mut |offset, content| {
            for (to, from) in bytes.iter_mut().skip(offset as usize).zip(content) {
                *to = *from;
            }
        });
        bytes
    }

    /// Every slot at its offset; of windows, the newest pane in the copy at its number's lowest bit.
    fn put_slots(&self, program: &FlowProgram, table: Option<TableId>, put: &mut impl FnMut(u32, &[u8])) {
        let mut one = |slot: &Slot, offset: u32, content: u128| {
            let value = content.to_le_bytes();
            put(offset, value.get(..slot.width.bytes() as usize).unwrap_or(&value));
        };
        for (id, slot) in program.slots_of(table) {
            let window = slot.place.window.and_then(|window| program.windows.get(window.0 as usize));
            let Some(window) = window else {
                one(slot, slot.offset, self.get(id));
                continue;
            };
            let (even, odd) = (slot.offset, slot.offset + window.stride);
            let (newest, before) = if self.get(window.pane) & 1 == 0 { (even, odd) } else { (odd, even) };
            one(slot, newest, self.get(id));
            one(slot, before, self.get_before(id));
        }
    }
}

/// The low 64 bits: all of a slot that is not a 128-bit one.
pub(super) const fn low(value: u128) -> u64 {
    value as u64
}

/// Records by key. A lookup that finds a record makes it the most recently used.
#[derive(Debug, Clone, Default)]
pub struct Table {
    capacity: usize,
    records: BTreeMap<Key, (u64, Record)>,
    /// Last use to key.
    uses: BTreeMap<u64, Key>,
    clock: u64,
    evicted: u64,
}

impl Table {
    /// An empty table for so many records, at least one.
    #[must_use]
    pub fn new(capacity: u32) -> Self {
        Self { capacity: (capacity as usize).max(1), ..Self::default() }
    }

    /// Takes a record out, to be put back or replaced with [`Self::put`].
    pub(super) fn take(&mut self, key: &Key) -> Option<Record> {
        let (used, record) = self.records.remove(key)?;
        self.uses.remove(&used);
        Some(record)
    }

    /// Puts a record in as the most recently used, evicting another when the table is full.
    pub(super) fn put(&mut self, key: Key, record: Record) {
        while self.records.len() >= self.capacity {
            let Some((_, oldest)) = self.uses.pop_first() else { break };
            self.records.remove(&oldest);
            self.evicted += 1;
        }
        self.clock += 1;
        self.uses.insert(self.clock, key);
        self.records.insert(key, (self.clock, record));
    }

    /// The record of a key; does not count as a use.
    #[must_use]
    pub fn peek(&self, key: &Key) -> Option<&Record> {
        self.records.get(key).map(|(_, record)| record)
    }

    /// All records in the order of their creation.
    #[must_use]
    pub fn by_creation(&self) -> Vec<(Key, &Record)> {
        let mut all: Vec<_> = self.records.iter().map(|(key, (_, record))| (*key, record)).collect();
        all.sort_by_key(|(_, record)| record.id);
        all
    }

    /// Records lost to make room.
    #[must_use]
    pub const fn evicted(&self) -> u64 {
        self.evicted
    }
}
