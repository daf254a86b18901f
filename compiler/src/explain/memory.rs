//! Bytes that maps take in the kernel.

use serde::Serialize;

use crate::bpf::module::{Map, MapKind, Module, Type};

/// Bytes of a hash map's element before its key: `struct htab_elem` of `kernel/bpf/hashtab.c` on 64-bit machines
/// (16 of the bucket's list, 24 of the LRU list, 4 of the hash, up to the alignment of the key).
pub const ELEMENT_OVERHEAD: u64 = 48;
/// Bytes of a bucket: `struct bucket` of `kernel/bpf/hashtab.c`, a list head and a lock.
pub const BUCKET: u64 = 16;
/// Bytes of a node of a prefix trie before its data: `struct lpm_trie_node` of `kernel/bpf/lpm_trie.c`.
const TRIE_NODE: u64 = 40;
/// The file that the numbers of hash maps come from.
pub const SOURCE: &str = "kernel/bpf/hashtab.c";

/// What a map takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MapMemory {
    pub map: String,
    pub entries: u32,
    /// Of one entry with the kernel's overhead, without its share of the buckets.
    pub bytes_per_entry: u64,
    /// At capacity; allocated when the object is loaded, except for prefixes.
    pub bytes: u64,
    /// The bytes are there for each processor.
    pub per_processor: bool,
}

/// The maps of a module.
pub(super) fn maps(module: &Module) -> Vec<MapMemory> {
    module.maps.iter().map(map).collect()
}

fn map(map: &Map) -> MapMemory {
    let size = |ty: &Option<Type>| u64::from(ty.as_ref().map_or(0, Type::size)).next_multiple_of(8);
    let (key, value) = (size(&map.key), size(&map.value));
    let entries = u64::from(map.max_entries);
    let (each, bytes) = match map.kind {
        MapKind::Array | MapKind::PerCpuArray => (value, value * entries),
        MapKind::ProgArray => (8, 8 * entries),
        MapKind::RingBuf => (0, entries),
        MapKind::LpmTrie => {
            let each = TRIE_NODE + key + value;
            (each, each * entries)
        }
        MapKind::Hash | MapKind::LruHash => {
            let each = ELEMENT_OVERHEAD + key + value;
            (each, each * entries + BUCKET * entries.next_power_of_two())
        }
    };
    MapMemory {
        map: map.name.clone(),
        entries: map.max_entries,
        bytes_per_entry: each,
        bytes,
        per_processor: map.kind == MapKind::PerCpuArray,
    }
}
