//! Whether an object has the parts that its metadata speaks of: the loader relies on the metadata, the kernel runs
//! the object.

use crate::bpf::module::MapKind;
use crate::diag::codes::object as codes;
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::elf::read::Inventory;
use crate::ir::flow::Counter;
use crate::ir::flow::record::{KEY_SIZE, Layout as Record};
use crate::lower::network::Weights;
use crate::lower::packet::ENTRY;
use crate::lower::packet::guard::{FILTER, FUSE, FUSE_SEEN, filter, fuse, seen};
use crate::lower::packet::maps::{ALLOWED, BLOCKED, CONFIG, COUNTERS, EVENTS, FLOWS};
use crate::lower::packet::sweep::SWEEP;
use crate::metadata::{Metadata, hex};
use crate::params::layout::{ACTIVE_SECTION as ACTIVE, Layout, SECTION as PARAMS};

/// Bytes of `.data.nn_active`: index and generation.
const ACTIVE_BYTES: u64 = 8;
/// Bytes of `.data.nn_config`: mode, a reserved word, epoch.
const CONFIG_BYTES: u64 = 16;

/// Bytes of the smallest record that a sweep looks at: packets, flags with what fills their word, the last time.
const HEADER: u32 = Record::FORWARD_LISTS + 16;

/// Maps that the loader reads or writes: name, kind, and sizes of key and value, where they are fixed.
const MAPS: [(&str, MapKind, u32, u32); 5] = [
    (BLOCKED, MapKind::LruHash, 16, 8),
    (ALLOWED, MapKind::LpmTrie, 20, 4),
    (COUNTERS, MapKind::PerCpuArray, 4, Counter::COUNT * 8),
    (EVENTS, MapKind::RingBuf, 0, 0),
    (FUSE_SEEN, MapKind::PerCpuArray, 4, seen::BYTES as u32),
];

/// Compares an object that has a packet path with its metadata.
///
/// # Errors
/// `E0709`, one for each statement that does not hold; `file` is how the user named the object.
pub(super) fn check(inventory: &Inventory, metadata: &Metadata, file: &str) -> Outcome<()> {
    let mut wrong = Wrong { file, found: Vec::new() };
    wrong.plan(metadata);
    wrong.parameters(inventory, metadata);
    wrong.parts(inventory, metadata);
    if wrong.found.is_empty() { Ok(()) } else { Err(wrong.found) }
}

struct Wrong<'a> {
    file: &'a str,
    found: Vec<Diagnostic>,
}

impl Wrong<'_> {
    fn unless(&mut self, holds: bool, message: impl Into<String>) {
        if !holds {
            let origin = Origin::File { file: self.file.to_owned() };
            let help = "compile the model again; an object must not be changed after it was compiled";
            self.found.push(Diagnostic::new(&codes::METADATA_FALSE, origin, message.into(), help));
        }
    }

    /// What the metadata says twice.
    fn plan(&mut self, metadata: &Metadata) {
        let plan = &metadata.plan;
        let (features, inputs) = (metadata.features.len(), plan.inputs.len());
        self.unless(features == inputs, format!("{features} features are described, the plan has {inputs}"));
        let differ = metadata.features.iter().zip(&plan.inputs).find(|(feature, input)| {
            feature.name != input.name || feature.fraction_bits != input.fraction_bits.0
        });
        if let Some((feature, _)) = differ {
            self.unless(false, format!("the feature `{}` is another one in the plan", feature.name));
        }
        self.unless(
            metadata.labels == plan.decision.first.labels,
            "the labels are not those of the plan".to_owned(),
        );
    }

    /// The plan, its hash, and the slots.
    fn parameters(&mut self, inventory: &Inventory, metadata: &Metadata) {
        let layout = Layout::new(&metadata.plan);
        self.unless(
            hex(&layout.hash()) == metadata.layout_hash,
            "the hash of the layout is not that of the plan",
        );
        let size = |name: &str| inventory.data.iter().find(|data| data.section == name).map(|data| data.size);
        match metadata.weights {
            Weights::Map => {
                let slot = layout.bytes();
                let said = metadata.slot_bytes;
                self.unless(
                    said == slot,
                    format!("a slot is said to have {said} bytes, the plan's has {slot}"),
                );
                let two = u64::from(slot) * 2;
                self.section(PARAMS, size(PARAMS), two);
                self.section(ACTIVE, size(ACTIVE), ACTIVE_BYTES);
            }
            Weights::Const => {
                let none = size(PARAMS).is_none() && size(ACTIVE).is_none();
                self.unless(none, "the parameters are said to be constants, and there are slots for others");
            }
        }
    }

    fn section(&mut self, name: &str, found: Option<u64>, wanted: u64) {
        match found {
            None => self.unless(false, format!("the section `{name}` is missing")),
            Some(found) => {
                self.unless(found == wanted, format!("`{name}` has {found} bytes, not {wanted}"));
            }
        }
    }

    /// Programs, maps and sections that the loader uses.
    fn parts(&mut self, inventory: &Inventory, metadata: &Metadata) {
        self.unless(
            inventory.programs.iter().any(|program| program.name == ENTRY),
            format!("the program `{ENTRY}` is missing"),
        );
        let section = |name: &str| {
            inventory.programs.iter().find(|program| program.name == name).map(|program| &program.section)
        };
        if let Some(sweep) = section(SWEEP) {
            self.unless(
                Some(sweep) == section(ENTRY),
                format!("the programs `{SWEEP}` and `{ENTRY}` are of different kinds"),
            );
            let flows = inventory.maps.iter().find(|map| map.name == FLOWS);
            let keyed = flows.is_some_and(|map| {
                map.kind == Some(MapKind::LruHash)
                    && (1..=KEY_SIZE).contains(&map.key_size)
                    && map.value_size >= HEADER
            });
            self.unless(keyed, format!("the map `{FLOWS}` is missing, or of another kind or size"));
        }
        for (name, kind, key, value) in MAPS {
            match inventory.maps.iter().find(|map| map.name == name) {
                None => self.unless(false, format!("the map `{name}` is missing")),
                Some(map) => {
                    let same = map.kind == Some(kind) && (map.key_size, map.value_size) == (key, value);
                    self.unless(same, format!("the map `{name}` is of another kind or size"));
                }
            }
        }
        for name in metadata.spec.iter().flat_map(|spec| spec.tables.keys()) {
            let table = inventory.maps.iter().find(|map| map.name == *name);
            let sound = table.is_some_and(|map| map.kind == Some(MapKind::LruHash));
            self.unless(sound, format!("the map `{name}` is missing or of another kind"));
        }
        let size = |name: &str| inventory.data.iter().find(|data| data.section == name).map(|data| data.size);
        self.section(CONFIG, size(CONFIG), CONFIG_BYTES);
        self.section(FILTER, size(FILTER), filter::BYTES as u64);
        self.section(FUSE, size(FUSE), fuse::BYTES as u64);
    }
}
