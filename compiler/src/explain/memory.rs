//! Bytes that maps take in the kernel.

use serde::Serialize;

use crate::bpf::module::{Map, MapKind, Module, Type};
use crate::diag::Diagnostic;
use crate::diag::codes::spec::STATE;
use crate::lower::packet::maps::FLOWS;
use crate::spec::advice;
use crate::spec::typed::FeatureSpec;

/// Bytes of a hash map's element before its key: `struct htab_elem` of `kernel/bpf/hashtab.c` on 64-bit machines
/// (16 of the bucket's list, 24 of the LRU list, 4 of the hash, up to the alignment of the key).
pub const ELEMENT_OVERHEAD: u64 = 48;
/// Bytes of a bucket: `struct bucket` of `kernel/bpf/hashtab.c`, a list head and a lock.
pub const BUCKET: u64 = 16;
/// Bytes of a node of a prefix trie before its data: `struct lpm_trie_node` of `kernel/bpf/lpm_trie.c`.
const TRIE_NODE: u64 = 40;
/// The file that the numbers of hash maps come from.
pub const SOURCE: &str = "kernel/bpf/hashtab.c";

/// Bytes of all tables from which on they are large.
const LARGE: u64 = 1 << 30;

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

/// Warns where the tables take more than a gibibyte.
pub(super) fn large_state(spec: &FeatureSpec, maps: &[MapMemory]) -> Option<Diagnostic> {
    let tables: Vec<&MapMemory> = maps.iter().filter(|map| map.map.starts_with(FLOWS)).collect();
    let total: u64 = tables.iter().map(|table| table.bytes).sum();
    if total <= LARGE {
        return None;
    }
    let in_units = |bytes: u64, shift: u32| {
        let tenths = ((bytes % (1 << shift)) * 10) >> shift;
        format!("{}.{tenths} {}", bytes >> shift, if shift == 30 { "GiB" } else { "MiB" })
    };
    let shown = |bytes: u64| in_units(bytes, if bytes >> 30 > 0 { 30 } else { 20 });
    let flows = tables.iter().find(|table| table.map == FLOWS)?;
    // Buckets are a power of two, so at most two for each record.
    let fits = LARGE.saturating_sub(total - flows.bytes) / (flows.bytes_per_entry + 2 * BUCKET);
    let help = if fits > 0 && fits < u64::from(flows.entries) {
        format!("`capacity {fits}` for `{}` stays below 1 GiB", spec.flow.name)
    } else {
        "give the tables a smaller `capacity`".to_owned()
    };
    let warning = Diagnostic::warning(
        &STATE,
        advice::origin(spec, &spec.flow.span),
        format!("the tables take {} of the kernel's memory, from loading on", shown(total)),
        help,
    );
    let each = |table: &&MapMemory| {
        let MapMemory { map, entries, bytes_per_entry, bytes, .. } = table;
        format!(
            "{map}: {entries} records of {bytes_per_entry} bytes with the kernel's part, {}",
            shown(*bytes)
        )
    };
    Some(tables.iter().map(each).fold(warning, Diagnostic::with_note))
}
