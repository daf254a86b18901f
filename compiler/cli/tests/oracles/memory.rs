//! What `explain` says of a flow table's memory, against what the kernel says of the table that it made.

use nnbpf_compiler::compile::{self, Named};
use nnbpf_compiler::explain;
use nnbpf_compiler::lower::network::Split;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec;
use nnbpf_runtime_loader::Kernel;

use super::common::{skip, target};

/// `BPF_MAP_TYPE_LRU_HASH` in `include/uapi/linux/bpf.h`.
const LRU_HASH: u64 = 9;

/// Bytes that the kernel accounts for this process's LRU hashes with these sizes.
fn accounted(key: u32, value: u32, entries: u32) -> Vec<u64> {
    let files = std::fs::read_dir("/proc/self/fdinfo").unwrap();
    files
        .filter_map(|file| std::fs::read_to_string(file.ok()?.path()).ok())
        .filter_map(|text| {
            let field = |name: &str| -> Option<u64> {
                text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
            };
            let wanted = [
                ("map_type:", LRU_HASH),
                ("key_size:", key.into()),
                ("value_size:", value.into()),
                ("max_entries:", entries.into()),
            ];
            if wanted.iter().all(|(name, value)| field(name) == Some(*value)) {
                field("memlock:")
            } else {
                None
            }
        })
        .collect()
}

#[test]
fn tables_take_the_memory_that_is_foretold() {
    if skip("tables_take_the_memory_that_is_foretold") {
        return;
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../specs");
    let target = target(Split::Auto, Clock::Kernel);
    for name in ["cic6.spec", "dsn24.spec", "ids.spec"] {
        let bytes = std::fs::read(format!("{folder}/{name}")).unwrap();
        let spec = spec::from_bytes(Named { name, bytes: &bytes }).unwrap();
        let explanation = explain::explain(&spec, &target).unwrap();
        let module = explain::repeated(&spec, &target, false).unwrap().module;
        let _loaded = Kernel::load(&compile::object(&module).unwrap()).unwrap();
        for table in &explanation.tables {
            let foretold = explanation.maps.iter().find(|map| map.map == table.map).unwrap().bytes;
            let accounted = accounted(table.key_bytes, table.record_bytes, table.capacity);
            assert!(!accounted.is_empty(), "{name}: the kernel shows no such table");
            for bytes in accounted {
                // The kernel adds its own structures and whole pages: less than a hundredth.
                assert!(
                    (foretold..foretold + foretold / 100 + 16_384).contains(&bytes),
                    "{name}: {foretold} bytes foretold, {bytes} accounted"
                );
            }
        }
    }
}
