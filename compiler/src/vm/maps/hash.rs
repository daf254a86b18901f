//! Hash maps, with or without eviction of the least recently used entry.
//!
//! The kernel's LRU is approximate: it keeps per-CPU free lists, marks entries on use and evicts in batches
//! (`kernel/bpf/bpf_lru_list.c`), so it may evict early and another entry than the oldest. Here the order is exact:
//! lookups and updates by programs and updates by the host count as use, and the entry unused for longest goes when
//! the map is full. An update in place keeps the element, which in the kernel's LRU moves.

use super::UpdateMode;
use super::slots::Slots;
use crate::vm::error::MapError;
use std::collections::HashMap;

/// Keys of a hash map.
#[derive(Debug)]
pub(super) struct HashIndex {
    elements: HashMap<Box<[u8]>, u32>,
    slots: Slots,
    recency: Option<Recency>,
}

impl HashIndex {
    pub(super) fn new(max_entries: u32, evicts: bool) -> Self {
        Self {
            elements: HashMap::new(),
            slots: Slots::new(max_entries),
            recency: evicts.then(Recency::default),
        }
    }

    pub(super) fn find(&mut self, key: &[u8], touch: bool) -> Option<u32> {
        let element = *self.elements.get(key)?;
        if let (true, Some(recency)) = (touch, &mut self.recency) {
            recency.unlink(element);
            recency.push(element, None);
        }
        Some(element)
    }

    pub(super) fn place(&mut self, key: &[u8], mode: UpdateMode) -> Result<u32, MapError> {
        match (self.elements.get(key).copied(), mode) {
            (Some(_), UpdateMode::NoExist) => Err(MapError::Exists),
            (None, UpdateMode::Exist) => Err(MapError::NotFound),
            (Some(_), UpdateMode::Any | UpdateMode::Exist) => self.find(key, true).ok_or(MapError::NotFound),
            (None, UpdateMode::Any | UpdateMode::NoExist) => {
                let element = self.slots.take().or_else(|| self.evict()).ok_or(MapError::TooBig)?;
                self.elements.insert(key.into(), element);
                if let Some(recency) = &mut self.recency {
                    recency.push(element, Some(key));
                }
                Ok(element)
            }
        }
    }

    pub(super) fn remove(&mut self, key: &[u8]) -> Result<(), MapError> {
        let element = self.elements.remove(key).ok_or(MapError::NotFound)?;
        if let Some(recency) = &mut self.recency {
            recency.unlink(element);
        }
        self.slots.give_back(element);
        Ok(())
    }

    /// Keys in ascending order with their elements.
    pub(super) fn entries(&self) -> Vec<(Vec<u8>, u32)> {
        let mut entries: Vec<_> =
            self.elements.iter().map(|(key, element)| (key.to_vec(), *element)).collect();
        entries.sort();
        entries
    }

    /// Removes the entry unused for longest; its element is free to use.
    fn evict(&mut self) -> Option<u32> {
        let recency = self.recency.as_mut()?;
        let element = recency.oldest?;
        recency.unlink(element);
        let key = recency.links.get(element as usize)?.key.clone();
        self.elements.remove(&key);
        Some(element)
    }
}

/// A doubly linked list through the elements, from the oldest use to the newest.
#[derive(Debug, Default)]
struct Recency {
    links: Vec<Link>,
    oldest: Option<u32>,
    newest: Option<u32>,
}

#[derive(Debug, Clone, Default)]
struct Link {
    older: Option<u32>,
    newer: Option<u32>,
    key: Box<[u8]>,
}

impl Recency {
    /// Appends an element as the newest; with a key when it is a new entry.
    fn push(&mut self, element: u32, key: Option<&[u8]>) {
        let index = element as usize;
        if self.links.len() <= index {
            self.links.resize(index + 1, Link::default());
        }
        let older = self.newest.replace(element);
        if let Some(link) = self.links.get_mut(index) {
            link.older = older;
            link.newer = None;
            if let Some(key) = key {
                link.key = key.into();
            }
        }
        match older.and_then(|older| self.links.get_mut(older as usize)) {
            Some(link) => link.newer = Some(element),
            None => self.oldest = Some(element),
        }
    }

    fn unlink(&mut self, element: u32) {
        let Some(link) = self.links.get_mut(element as usize) else { return };
        let (older, newer) = (link.older.take(), link.newer.take());
        match older.and_then(|older| self.links.get_mut(older as usize)) {
            Some(link) => link.newer = newer,
            None => self.oldest = newer,
        }
        match newer.and_then(|newer| self.links.get_mut(newer as usize)) {
            Some(link) => link.older = older,
            None => self.newest = older,
        }
    }
}
