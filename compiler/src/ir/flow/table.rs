//! The flow table of the reference interpreter: records and exact least-recently-used eviction.
//!
//! The kernel's LRU hash evicts approximately (per-CPU free lists, a reference bit per element), so a table
//! that is full may keep other flows there; below capacity both keep everything.

use std::collections::BTreeMap;

use super::eval::Content;
use super::record::{Key, Layout, NONE_64, flag};
use super::{FlowProgram, SlotId, SlotKind, Width};
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
}

/// The state of one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub id: FlowId,
    pub first_ns: u64,
    pub flags: u32,
    pub forward: ListAnswer,
    pub backward: ListAnswer,
    /// Parallel to the program's slots.
    pub slots: Vec<Content>,
}

impl Record {
    /// A record before its first packet, whose sender is `b` of the key or `a`.
    #[must_use]
    pub fn new(program: &FlowProgram, id: FlowId, now: u64, sender_is_b: bool, forward: ListAnswer) -> Self {
        Self {
            id,
            first_ns: now,
            flags: if sender_is_b { flag::FORWARD_IS_B } else { 0 },
            forward,
            backward: ListAnswer { epoch: NONE_64, blocked_until: 0 },
            slots: program
                .slots
                .iter()
                .map(|slot| {
                    let initial = if slot.kind == SlotKind::Judged { now } else { slot.initial() };
                    Content(u128::from(initial))
                })
                .collect(),
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
        put(Layout::FIRST, &self.first_ns.to_le_bytes());
        put(Layout::FLAGS, &self.flags.to_le_bytes());
        let caches = [(layout.forward_lists, self.forward), (layout.backward_lists, self.backward)];
        for (offset, answer) in caches {
            let Some(offset) = offset else { continue };
            put(offset, &answer.epoch.to_le_bytes());
            put(offset + Layout::LISTS_BLOCKED_UNTIL, &answer.blocked_until.to_le_bytes());
        }
        for (slot, content) in program.slots.iter().zip(&self.slots) {
            let value = content.0.to_le_bytes();
            let width = match slot.width {
                Width::W32 => 4,
                Width::W64 => 8,
                Width::W128 => 16,
            };
            put(slot.offset, value.get(..width).unwrap_or(&value));
        }
        bytes
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
