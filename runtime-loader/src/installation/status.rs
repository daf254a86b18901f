//! What an installation is doing.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::guard::{EventFilter, Fuse};
use nnbpf_compiler::lower::packet::maps::{COUNTERS, FLOWS, SIDE_FLOWS};
use nnbpf_compiler::metadata::hex;
use nnbpf_compiler::params::layout::COMPILED_IN;

use super::lists::optional;
use super::{
    Attachment, Config, Generation, Installation, InstallationError, ObjectHash, Provenance, Shadow,
};
use crate::hosts::{Host, Prefix};
use crate::hot_update::{self, Active};
use crate::pins;
use crate::sys;

/// Whether the kernel measures programs.
const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub directory: String,
    pub attachments: Vec<Attachment>,
    /// Counts the parameters that were at work; it goes on over program updates.
    pub generation: u32,
    /// Number of the program generation.
    pub code: u32,
    pub object_hash: Option<ObjectHash>,
    pub history: Vec<Generation>,
    pub config: Config,
    pub fuse: Fuse,
    pub filter: EventFilter,
    /// What turns the time of packets into nanoseconds since 1970.
    pub clock_offset_ns: u64,
    /// Names of the classes.
    pub labels: Vec<String>,
    /// `None` when the object's parameters are constants.
    pub active: Option<Active>,
    /// Where the active parameters came from; `None` when they were written by hand.
    pub provenance: Option<Provenance>,
    /// The model that runs beside the active one and decides nothing.
    pub shadow: Option<Shadow>,
    pub programs: Vec<String>,
    /// The same programs as the kernel knows them.
    pub details: Vec<ProgramStatus>,
    /// Whether the kernel counts the runs of programs and their time (`kernel.bpf_stats_enabled`).
    pub statistics: bool,
    /// Bytes that the kernel has locked for programs and maps, of every program generation that is kept.
    pub memory: u64,
    /// Records in the flow table and its size; `None` for objects without flows.
    pub flows: Option<(usize, u32)>,
    /// The same of the tables beside it, by name.
    pub tables: Vec<(String, usize, u32)>,
    pub blocked: Vec<(Host, Option<Duration>)>,
    pub allowed: Vec<Prefix>,
    /// Sums over all CPUs, in the order of [`Counter::all`]; empty for objects without counters.
    pub counters: Vec<(&'static str, u64)>,
}

/// A program in the kernel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramStatus {
    pub name: String,
    /// Kernel-wide number.
    pub id: u32,
    /// The kernel's hash of its instructions.
    pub tag: String,
    /// Runs, and nanoseconds that they took together, while statistics were on.
    pub runs: u64,
    pub run_time_ns: u64,
}

impl Installation {
    /// Reads everything once.
    ///
    /// # Errors
    /// A pin is gone or a map is not readable.
    pub fn status(&self) -> Result<Status, InstallationError> {
        let active = self.active()?;
        // Without the section the parameters are constants.
        let constants = !self.pins.map(hot_update::ACTIVE).exists() && self.pins.parameters().exists();
        let generation = active.map(|active| active.generation).or(constants.then_some(COMPILED_IN));
        let provenance = generation.map(|generation| self.provenance(generation)).transpose()?;
        Ok(Status {
            directory: self.pins.path().display().to_string(),
            attachments: self.attachments()?,
            generation: self.generation()?,
            code: self.pins.current_number().unwrap_or_default(),
            object_hash: self.object_hash()?,
            history: self.history(),
            config: self.config()?,
            fuse: self.fuse()?,
            filter: self.event_filter()?,
            clock_offset_ns: self.clock_offset_ns()?,
            labels: self.metadata().map(|metadata| metadata.labels).unwrap_or_default(),
            active,
            provenance: provenance.flatten(),
            shadow: self.shadow()?,
            programs: pins::entries(&self.pins.programs()),
            details: self.details(),
            statistics: std::fs::read_to_string(STATISTICS).is_ok_and(|text| text.trim() == "1"),
            memory: self.memory(),
            flows: optional(self.flows())?,
            tables: self.tables()?,
            blocked: optional(self.blocked())?,
            allowed: optional(self.allowed())?,
            counters: optional(self.counters())?,
        })
    }

    fn details(&self) -> Vec<ProgramStatus> {
        let current = self.pins.current();
        let names = pins::entries(&current.programs()).into_iter();
        let infos = names.filter_map(|name| {
            let program = sys::open_pin(&current.program(&name)).ok()?;
            Some((name, sys::program_info(program.as_fd()).ok()?))
        });
        infos
            .map(|(name, info)| ProgramStatus {
                name,
                id: info.id,
                tag: hex(&info.tag),
                runs: info.run_count,
                run_time_ns: info.run_time_ns,
            })
            .collect()
    }

    /// A map that several program generations share is counted once.
    fn memory(&self) -> u64 {
        let mut locked = BTreeMap::new();
        for number in self.pins.codes() {
            let code = self.pins.code(number);
            for directory in [code.programs(), code.maps()] {
                for name in pins::entries(&directory) {
                    let Ok(object) = sys::open_pin(&directory.join(name)) else { continue };
                    let about = format!("/proc/self/fdinfo/{}", object.as_raw_fd());
                    let about = std::fs::read_to_string(about).unwrap_or_default();
                    let field = |name: &str| {
                        let line = about.lines().find_map(|line| line.strip_prefix(name))?;
                        line.trim().parse::<u64>().ok()
                    };
                    if let Some(bytes) = field("memlock:") {
                        locked.insert((field("map_id:"), field("prog_id:")), bytes);
                    }
                }
            }
        }
        locked.values().sum()
    }

    fn flows(&self) -> Result<Option<(usize, u32)>, InstallationError> {
        let map = self.map(FLOWS)?;
        Ok(Some((map.keys()?.len(), map.shape().max_entries)))
    }

    fn tables(&self) -> Result<Vec<(String, usize, u32)>, InstallationError> {
        let mut tables = Vec::new();
        for map in pins::entries(&self.pins.maps()) {
            let Some(name) = map.strip_prefix(SIDE_FLOWS) else { continue };
            let table = self.map(&map)?;
            tables.push((name.to_owned(), table.keys()?.len(), table.shape().max_entries));
        }
        Ok(tables)
    }

    fn counters(&self) -> Result<Vec<(&'static str, u64)>, InstallationError> {
        let copies = self.map(COUNTERS)?.lookup_per_cpu(&0_u32.to_ne_bytes())?.unwrap_or_default();
        let sum = |counter: Counter| {
            let at = counter.index() as usize * 8;
            let words = copies.iter().filter_map(|copy| copy.get(at..)?.first_chunk().copied());
            words.fold(0_u64, |sum, word| sum.wrapping_add(u64::from_ne_bytes(word)))
        };
        Ok(Counter::all().map(|counter| (counter.name(), sum(counter))).collect())
    }
}
