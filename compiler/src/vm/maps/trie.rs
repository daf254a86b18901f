//! Longest-prefix-match maps. A key is the prefix length in bits (`u32`, little endian) and the data, as in
//! `kernel/bpf/lpm_trie.c`.

use super::UpdateMode;
use super::slots::Slots;
use crate::bpf::limits::PREFIX_BYTES;
use crate::vm::error::MapError;
use std::collections::{BTreeMap, HashMap};

/// Bytes of the prefix length in a key.
const LENGTH_BYTES: usize = 4;

/// Prefixes of a trie.
#[derive(Debug)]
pub(super) struct TrieIndex {
    data_bytes: usize,
    /// By length and data with the bits beyond the prefix cleared.
    elements: HashMap<(u32, Box<[u8]>), Entry>,
    /// How many prefixes of each length there are.
    lengths: BTreeMap<u32, u32>,
    slots: Slots,
}

#[derive(Debug)]
struct Entry {
    element: u32,
    /// The key as it was given.
    key: Box<[u8]>,
}

impl TrieIndex {
    pub(super) fn new(key_bytes: u32, max_entries: u32) -> Result<Self, &'static str> {
        let data =
            key_bytes.checked_sub(LENGTH_BYTES as u32).filter(|data| (1..=PREFIX_BYTES).contains(data));
        let data_bytes = data.ok_or("a prefix has 1 to 256 bytes after its length")? as usize;
        Ok(Self {
            data_bytes,
            elements: HashMap::new(),
            lengths: BTreeMap::new(),
            slots: Slots::new(max_entries),
        })
    }

    /// The longest prefix that matches.
    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        let (limit, data) = self.split(key)?;
        self.lengths
            .range(..=limit)
            .rev()
            .find_map(|(&length, _)| self.elements.get(&(length, masked(data, length))))
            .map(|entry| entry.element)
    }

    pub(super) fn place(&mut self, key: &[u8], mode: UpdateMode) -> Result<u32, MapError> {
        let (length, data) = self.split(key).ok_or(MapError::Invalid)?;
        let prefix = (length, masked(data, length));
        match (self.elements.get_mut(&prefix), mode) {
            (Some(_), UpdateMode::NoExist) => Err(MapError::Exists),
            (None, UpdateMode::Exist) => Err(MapError::NotFound),
            (Some(entry), UpdateMode::Any | UpdateMode::Exist) => {
                entry.key = key.into();
                Ok(entry.element)
            }
            (None, UpdateMode::Any | UpdateMode::NoExist) => {
                let element = self.slots.take().ok_or(MapError::NoSpace)?;
                self.elements.insert(prefix, Entry { element, key: key.into() });
                *self.lengths.entry(length).or_default() += 1;
                Ok(element)
            }
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), MapError> {
        let (length, data) = self.split(key).ok_or(MapError::Invalid)?;
        let entry = self.elements.remove(&(length, masked(data, length))).ok_or(MapError::NotFound)?;
        self.slots.give_back(entry.element);
        if let Some(count) = self.lengths.get_mut(&length) {
            *count -= 1;
            if *count == 0 {
                self.lengths.remove(&length);
            }
        }
        Ok(())
    }

    /// Keys in ascending order with their elements.
    pub(super) fn entries(&self) -> Vec<(Vec<u8>, u32)> {
        let mut entries: Vec<_> =
            self.elements.values().map(|entry| (entry.key.to_vec(), entry.element)).collect();
        entries.sort();
        entries
    }

    /// Prefix length and data; `None` when the length exceeds the data.
    fn split<'a>(&self, key: &'a [u8]) -> Option<(u32, &'a [u8])> {
        let (length, data) = key.split_first_chunk::<LENGTH_BYTES>()?;
        let length = u32::from_le_bytes(*length);
        (data.len() == self.data_bytes && length as usize <= data.len() * 8).then_some((length, data))
    }
}

/// The data with all bits beyond `length` cleared.
fn masked(data: &[u8], length: u32) -> Box<[u8]> {
    data.iter()
        .enumerate()
        .map(|(index, byte)| {
            let bits = (length as usize).saturating_sub(index * 8).min(8);
            byte & !(0xff_u16 >> bits) as u8
        })
        .collect()
}
