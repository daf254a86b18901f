//! Maps and data sections: creation from a module, and the operations that programs and the host perform.
//!
//! Values live in [`Memory`]; an index per kind of map says which element holds which key. There is one CPU, so a
//! per-CPU array is an array.

mod hash;
mod trie;
mod ring;
mod slots;

use super::error::{Fault, MapError, VmError};
use super::memory::{Memory, RegionId, map_handle};
use crate::bpf::limits::{CALL_FRAMES, PER_CPU_VALUE_BYTES, STACK_BYTES};
use crate::bpf::module::{self, MapKind, Module};
use hash::HashIndex;
use ring::Ring;
use trie::TrieIndex;

/// What an update wants of the key: `BPF_ANY`, `BPF_NOEXIST`, `BPF_EXIST`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateMode {
    Any,
    NoExist,
    Exist,
}

impl UpdateMode {
    /// From the flags argument of the helper.
    fn from_flags(flags: u64) -> Option<Self> {
        match flags {
            0 => Some(Self::Any),
            1 => Some(Self::NoExist),
            2 => Some(Self::Exist),
            _ => None,
        }
    }
}

/// All maps and data sections, and the memory that holds them.
#[derive(Debug)]
pub(super) struct Maps {
    pub(super) memory: Memory,
    maps: Vec<Map>,
    data: Vec<(String, RegionId)>,
    /// Holds a value between reading it from guest memory and storing it there.
    scratch: Vec<u8>,
}

#[derive(Debug)]
struct Map {
    name: String,
    kind: MapKind,
    key_bytes: u32,
    value_bytes: u32,
    max_entries: u32,
    region: RegionId,
    index: Index,
}

/// Which element holds which key.
#[derive(Debug)]
enum Index {
    /// The key is the element.
    Array,
    Hash(HashIndex),
    Trie(TrieIndex),
    Ring(Ring),
    /// Positions in the image's list of functions.
    Programs(Vec<Option<usize>>),
}

impl Maps {
    pub(super) fn new(module: &Module) -> Result<Self, VmError> {
        let mut maps = Self {
            memory: Memory::new(CALL_FRAMES as u32, STACK_BYTES),
            maps: Vec::new(),
            data: Vec::new(),
            scratch: Vec::new(),
        };
        for map in &module.maps {
            let refuse = |reason| VmError::BadMap { map: map.name.clone(), reason };
            if maps.exists(&map.name) {
                return Err(VmError::DuplicateName { name: map.name.clone() });
            }
            let created = Map::new(map, &mut maps.memory).map_err(refuse)?;
            maps.maps.push(created);
        }
        for data in &module.data {
            let refuse = |reason| VmError::BadMap { map: data.section.clone(), reason };
            if maps.exists(&data.section) {
                return Err(VmError::DuplicateName { name: data.section.clone() });
            }
            let len = u32::try_from(data.bytes.len()).map_err(|_| refuse("the section is too large"))?;
            let region =
                maps.memory.add(len, 1, data.writable).ok_or_else(|| refuse("the section is too large"))?;
            if let Some(bytes) = maps.memory.element_mut(region, 0) {
                bytes.copy_from_slice(&data.bytes);
            }
            maps.data.push((data.section.clone(), region));
        }
        Ok(maps)
    }

    pub(super) fn exists(&self, name: &str) -> bool {
        self.position(name).is_some() || self.data(name).is_some()
    }

    pub(super) fn position(&self, name: &str) -> Option<usize> {
        self.maps.iter().position(|map| map.name == name)
    }

    pub(super) fn data(&self, section: &str) -> Option<RegionId> {
        self.data.iter().find(|(name, _)| name == section).map(|(_, region)| *region)
    }

    /// What a map is called, and of which kind it is.
    pub(super) fn name_and_kind(&self, position: usize) -> Option<(String, MapKind)> {
        self.maps.get(position).map(|map| (map.name.clone(), map.kind))
    }

    /// The pointer that stands for a map.
    pub(super) fn handle(&self, name: &str) -> Option<u64> {
        self.position(name).map(map_handle)
    }

    /// The address of a byte of the only value of a data section or a single-entry array.
    pub(super) fn value_address(&self, name: &str, offset: u32) -> Option<u64> {
        let region = match self.data(name) {
            Some(region) => region,
            None => {
                let map = self.maps.get(self.position(name)?)?;
                let direct = map.kind == MapKind::Array && map.max_entries == 1;
                if direct { map.region } else { return None }
            }
        };
        let len = self.memory.element(region, 0)?.len();
        ((offset as usize) < len).then(|| self.memory.address(region, 0, offset))
    }

    /// `bpf_map_lookup_elem`: the address of the value, 0 for none. The outer `None` stands for a map that has no
    /// values.
    pub(super) fn guest_lookup(&mut self, map: usize, key: u64) -> Result<Option<u64>, Fault> {
        let Some(map) = self.maps.get_mut(map) else { return Ok(None) };
        if !map.has_values() {
            return Ok(None);
        }
        let key = self.memory.read(key, u64::from(map.key_bytes))?;
        let element = map.find(key, true);
        Ok(Some(element.map_or(0, |element| self.memory.address(map.region, element, 0))))
    }

    /// `bpf_map_update_elem`: what it returns, or `None` for a map that programs cannot update.
    pub(super) fn guest_update(
        &mut self,
        map: usize,
        key: u64,
        value: u64,
        flags: u64,
    ) -> Result<Option<i64>, Fault> {
        let Some(map) = self.maps.get_mut(map) else { return Ok(None) };
        if !map.has_values() {
            return Ok(None);
        }
        let key = self.memory.read(key, u64::from(map.key_bytes))?;
        self.scratch.clear();
        self.scratch.extend_from_slice(self.memory.read(value, u64::from(map.value_bytes))?);
        let placed =
            UpdateMode::from_flags(flags).ok_or(MapError::Invalid).and_then(|mode| map.place(key, mode));
        Ok(Some(match placed {
            Ok(element) => {
                if let Some(bytes) = self.memory.element_mut(map.region, element) {
                    bytes.copy_from_slice(&self.scratch);
                }
                0
            }
            Err(error) => error.errno(),
        }))
    }

    /// `bpf_map_delete_elem`: what it returns, or `None` for a map that has no values.
    pub(super) fn guest_delete(&mut self, map: usize, key: u64) -> Result<Option<i64>, Fault> {
        let Some(map) = self.maps.get_mut(map) else { return Ok(None) };
        if !map.has_values() {
            return Ok(None);
        }
        let key = self.memory.read(key, u64::from(map.key_bytes))?;
        Ok(Some(map.remove(key).map_or_else(MapError::errno, |()| 0)))
    }

    /// `bpf_ringbuf_output`: what it returns, or `None` when the map is no ring buffer.
    pub(super) fn guest_output(
        &mut self,
        map: usize,
        data: u64,
        size: u64,
        flags: u64,
    ) -> Result<Option<i64>, Fault> {
        let Some(Map { index: Index::Ring(ring), .. }) = self.maps.get_mut(map) else { return Ok(None) };
        let record = self.memory.read(data, size)?;
        Ok(Some(ring.output(record, flags).map_or_else(MapError::errno, |()| 0)))
    }

    /// The slots of a program array.
    pub(super) fn programs_mut(&mut self, map: usize) -> Option<&mut Vec<Option<usize>>> {
        match self.maps.get_mut(map)? {
            Map { index: Index::Programs(programs), .. } => Some(programs),
            _ => None,
        }
    }

    /// Reads a value for the host, without counting as use.
    pub(super) fn host_lookup(&mut self, map: usize, key: &[u8]) -> Option<&mut [u8]> {
        let map = self.maps.get_mut(map)?;
        let element = map.find(key, false)?;
        self.memory.element_mut(map.region, element)
    }

    pub(super) fn host_update(
        &mut self,
        map: usize,
        key: &[u8],
        value: &[u8],
        mode: UpdateMode,
    ) -> Result<(), MapError> {
        let map = self.maps.get_mut(map).ok_or(MapError::Invalid)?;
        if value.len() != map.value_bytes as usize {
            return Err(MapError::Invalid);
        }
        let element = map.place(key, mode)?;
        let bytes = self.memory.element_mut(map.region, element).ok_or(MapError::Invalid)?;
        bytes.copy_from_slice(value);
        Ok(())
    }

    pub(super) fn host_delete(&mut self, map: usize, key: &[u8]) -> Result<(), MapError> {
        self.maps.get_mut(map).ok_or(MapError::Invalid)?.remove(key)
    }

    /// Keys and values in ascending order of the key bytes; for arrays, of the index.
    pub(super) fn host_entries(&self, map: usize) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(map) = self.maps.get(map) else { return Vec::new() };
        let keys = match &map.index {
            Index::Array => (0..map.max_entries).map(|key| (key.to_le_bytes().to_vec(), key)).collect(),
            Index::Hash(index) => index.entries(),
            Index::Trie(index) => index.entries(),
            Index::Ring(_) | Index::Programs(_) => Vec::new(),
        };
        let value = |element| self.memory.element(map.region, element).unwrap_or_default().to_vec();
        keys.into_iter().map(|(key, element)| (key, value(element))).collect()
    }

    /// Takes the records of a ring buffer, as its consumer does.
    pub(super) fn host_records(&mut self, map: usize) -> Vec<Vec<u8>> {
        match self.maps.get_mut(map) {
            Some(Map { index: Index::Ring(ring), .. }) => ring.take(),
            Some(_) | None => Vec::new(),
        }
    }
}

impl Map {
    fn new(map: &module::Map, memory: &mut Memory) -> Result<Self, &'static str> {
        let key_bytes = map.key.as_ref().map_or(0, module::Type::size);
        let value_bytes = map.value.as_ref().map_or(0, module::Type::size);
        if map.max_entries == 0 {
            return Err("no entries");
        }
        let sized = key_bytes != 0 && value_bytes != 0;
        let index = match map.kind {
            MapKind::Array | MapKind::PerCpuArray if key_bytes != 4 || value_bytes == 0 => {
                return Err("an array needs keys of four bytes and a value");
            }
            MapKind::PerCpuArray if value_bytes.next_multiple_of(8) > PER_CPU_VALUE_BYTES => {
                return Err("a per-CPU value has at most 32 KiB");
            }
            MapKind::Array | MapKind::PerCpuArray => Index::Array,
            MapKind::Hash | MapKind::LruHash | MapKind::LpmTrie if !sized => {
                return Err("a key and a value are needed");
            }
            MapKind::Hash => Index::Hash(HashIndex::new(map.max_entries, false)),
            MapKind::LruHash => Index::Hash(HashIndex::new(map.max_entries, true)),
            MapKind::LpmTrie => Index::Trie(TrieIndex::new(key_bytes, map.max_entries)?),
            MapKind::RingBuf => Index::Ring(Ring::new(map.max_entries)?),
            MapKind::ProgArray => Index::Programs(vec![None; map.max_entries as usize]),
        };
        let elements = if matches!(index, Index::Ring(_) | Index::Programs(_)) { 0 } else { map.max_entries };
        let region = memory.add(value_bytes, elements, true).ok_or("the map is too large")?;
        Ok(Self {
            name: map.name.clone(),
            kind: map.kind,
            key_bytes,
            value_bytes,
            max_entries: map.max_entries,
            region,
            index,
        })
    }

    fn has_values(&self) -> bool {
        match self.index {
            Index::Array | Index::Hash(_) | Index::Trie(_) => true,
            Index::Ring(_) | Index::Programs(_) => false,
        }
    }

    /// The element of a key. `touch` counts as a use for eviction.
    fn find(&mut self, key: &[u8], touch: bool) -> Option<u32> {
        match &mut self.index {
            Index::Array => array_index(key).filter(|&index| index < self.max_entries),
            Index::Hash(index) => index.find(key, touch),
            Index::Trie(index) => index.find(key),
            Index::Ring(_) | Index::Programs(_) => None,
        }
    }

    /// The element where a key's value goes.
    fn place(&mut self, key: &[u8], mode: UpdateMode) -> Result<u32, MapError> {
        if key.len() != self.key_bytes as usize {
            return Err(MapError::Invalid);
        }
        match &mut self.index {
            Index::Array => match array_index(key).filter(|&index| index < self.max_entries) {
                None => Err(MapError::TooBig),
                Some(_) if mode == UpdateMode::NoExist => Err(MapError::Exists),
                Some(index) => Ok(index),
            },
            Index::Hash(index) => index.place(key, mode),
            Index::Trie(index) => index.place(key, mode),
            Index::Ring(_) | Index::Programs(_) => Err(MapError::Invalid),
        }
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), MapError> {
        match &mut self.index {
            Index::Hash(index) => index.remove(key),
            Index::Trie(index) => index.remove(key),
            Index::Array | Index::Ring(_) | Index::Programs(_) => Err(MapError::Invalid),
        }
    }
}

fn array_index(key: &[u8]) -> Option<u32> {
    key.try_into().ok().map(u32::from_le_bytes)
}
