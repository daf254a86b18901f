//! What outlives a program generation: flows, host lists, counters, events, the mode, event filter and fuse.
//!
//! New programs use the maps of the old ones where key, value and capacity are the same. Where they are not, the
//! content is carried over if it means the same, and said to be lost if it does not.

use nnbpf_compiler::elf::read::Inventory;
use nnbpf_compiler::lower::packet::guard::{FILTER, FUSE, FUSE_SEEN};
use nnbpf_compiler::lower::packet::maps::{
    ALLOWED, BLOCKED, CLOCK, CONFIG, COUNTERS, EVENTS, FLOWS, SIDE_FLOWS,
};
use nnbpf_compiler::metadata::Metadata;

use super::config::Config;
use super::{Installation, InstallationError};
use crate::load::Shared;
use crate::maps::{Map, MapError, Update};
use crate::pins::{self, CodeDirectory};

/// Maps and sections that belong to the installation rather than to its programs.
const STATE: [&str; 10] = [FLOWS, BLOCKED, ALLOWED, COUNTERS, EVENTS, CONFIG, FILTER, FUSE, FUSE_SEEN, CLOCK];

impl Installation {
    /// The pinned maps that a new object can use instead of its own.
    pub(super) fn shared(
        &self,
        new: &Inventory,
        metadata: (&Metadata, &Metadata),
    ) -> Result<Vec<Shared>, MapError> {
        let records = |metadata: &Metadata, name: &str| {
            let spec = metadata.spec.as_ref()?;
            if name == FLOWS { Some(spec.records.clone()) } else { spec.tables.get(name).cloned() }
        };
        let of_flows = |name: &str| name == FLOWS || name.starts_with(SIDE_FLOWS);
        let mut shared = Vec::new();
        for name in with_tables(new.maps.iter().map(|map| map.name.as_str())) {
            let path = self.pins.map(name);
            let other = of_flows(name) && records(metadata.0, name) != records(metadata.1, name);
            if !path.exists() || other {
                continue;
            }
            let old = Map::from_pin(name, &path)?;
            let shape = old.shape();
            let map = new.maps.iter().find(|map| map.name == name);
            let section = new.data.iter().find(|section| section.section == name);
            let (fits, value) = match (map, section) {
                (Some(map), _) => {
                    let sizes = (map.key_size as usize, map.value_size as usize);
                    let fits = map.kernel_type == shape.kernel_type
                        && sizes == (shape.key_size, shape.value_size)
                        && map.max_entries == shape.max_entries
                        && map.flags == shape.flags;
                    (fits, None)
                }
                (None, Some(section)) => {
                    (usize::try_from(section.size) == Ok(shape.value_size), Some(old.read_value()?))
                }
                (None, None) => (false, None),
            };
            if fits {
                shared.push(Shared { name: name.to_owned(), path, value });
            }
        }
        Ok(shared)
    }

    /// Brings what the current programs know to another program generation, before that goes to work. Answers
    /// what is lost, in words.
    pub(super) fn carry_over(&self, to: &CodeDirectory) -> Result<Vec<String>, InstallationError> {
        let mut lost = Vec::new();
        let pinned = pins::entries(&to.maps());
        if !to.map(FLOWS).exists()
            && let Ok(flows) = self.map(FLOWS)
        {
            let records = flows.keys()?.len();
            lost.push(format!("the new object judges single packets: {records} flows are forgotten"));
        }
        for name in with_tables(pinned.iter().map(String::as_str)) {
            let path = to.map(name);
            if !path.exists() {
                continue;
            }
            let (new, old) = (Map::from_pin(name, &path)?, self.map(name));
            let old = match old {
                Err(MapError::NoMap { .. }) => continue,
                old => old?,
            };
            if new.shape().id == old.shape().id {
                continue;
            }
            match name {
                CONFIG => Config::read(&old)?.write(&new)?,
                BLOCKED | ALLOWED if same_entries(&old, &new) => {
                    clear(&new)?;
                    for key in old.keys()? {
                        if let Some(value) = old.lookup(&key)? {
                            new.update(&key, &value, Update::Any)?;
                        }
                    }
                }
                FLOWS => {
                    clear(&new)?;
                    let records = old.keys()?.len();
                    lost.push(format!(
                        "the flow records are of another kind: {records} flows are forgotten and start anew"
                    ));
                }
                table if table.starts_with(SIDE_FLOWS) => {
                    clear(&new)?;
                    let records = old.keys()?.len();
                    lost.push(format!(
                        "the records of `{table}` are of another kind: {records} are forgotten"
                    ));
                }
                EVENTS => lost.push("readers of events have to be started again".to_owned()),
                COUNTERS => lost.push("the counters are not those of before".to_owned()),
                _ => lost.push(format!("the content of `{name}` is not carried over")),
            }
        }
        Ok(lost)
    }
}

/// The state with the tables beside the flows' own that are among these maps.
fn with_tables<'n>(maps: impl Iterator<Item = &'n str>) -> Vec<&'n str> {
    STATE.into_iter().chain(maps.filter(|name| name.starts_with(SIDE_FLOWS))).collect()
}

fn same_entries(one: &Map, other: &Map) -> bool {
    let sizes = |map: &Map| (map.shape().key_size, map.shape().value_size);
    sizes(one) == sizes(other)
}

/// Removes every entry.
fn clear(map: &Map) -> Result<(), MapError> {
    for key in map.keys()? {
        map.delete(&key)?;
    }
    Ok(())
}
