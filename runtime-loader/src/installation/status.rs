//! What an installation is doing.

use std::os::fd::AsFd;
use std::time::Duration;

use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::lower::packet::maps::{COUNTERS, FLOWS};
use nnbpf_compiler::params::layout::COMPILED_IN;

use super::lists::optional;
use super::{Config, Installation, InstallationError, Provenance, place};
use crate::hosts::{Host, Prefix};
use crate::hot_update::{self, Active};
use crate::maps::MapError;
use crate::sys;

/// Where the program is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// To this interface; it says so when it lies in another network namespace.
    Interface(String),
    /// The interface is gone, or somebody detached the program.
    Detached,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    pub directory: String,
    pub attachment: Attachment,
    pub config: Config,
    /// `None` when the object's parameters are constants.
    pub active: Option<Active>,
    /// Where the active parameters came from; `None` when they were written by hand.
    pub provenance: Option<Provenance>,
    pub programs: Vec<String>,
    /// Records in the flow table and its size; `None` for objects without flows.
    pub flows: Option<(usize, u32)>,
    pub blocked: Vec<(Host, Option<Duration>)>,
    pub allowed: Vec<Prefix>,
    /// Sums over all CPUs, in the order of [`Counter::all`]; empty for objects without counters.
    pub counters: Vec<(&'static str, u64)>,
}

impl Installation {
    /// Reads everything once.
    ///
    /// # Errors
    /// A pin is gone or a map is not readable.
    pub fn status(&self) -> Result<Status, InstallationError> {
        if !self.pins.metadata().exists() || !self.pins.link().exists() {
            return Err(InstallationError::Incomplete { directory: self.pins.path().to_owned() });
        }
        let active = self.active()?;
        // Without the section the parameters are constants.
        let constants = !self.pins.map(hot_update::ACTIVE).exists() && self.pins.parameters().exists();
        let generation = active.map(|active| active.generation).or(constants.then_some(COMPILED_IN));
        let provenance = generation.map(|generation| self.provenance(generation)).transpose()?;
        Ok(Status {
            directory: self.pins.path().display().to_string(),
            attachment: self.attachment()?,
            config: self.config()?,
            active,
            provenance: provenance.flatten(),
            programs: self.programs(),
            flows: optional(self.flows())?,
            blocked: optional(self.blocked())?,
            allowed: optional(self.allowed())?,
            counters: optional(self.counters())?,
        })
    }

    fn attachment(&self) -> Result<Attachment, MapError> {
        let info = sys::open_pin(&self.pins.link()).and_then(|link| sys::link_info(link.as_fd()));
        match info {
            Ok(info) if info.interface_index != 0 => {
                Ok(Attachment::Interface(place::interface(info.interface_index, &self.pins)?))
            }
            Ok(_) | Err(_) => Ok(Attachment::Detached),
        }
    }

    fn active(&self) -> Result<Option<Active>, InstallationError> {
        match self.map(hot_update::ACTIVE) {
            Ok(map) => Ok(Active::read(&map).ok()),
            Err(MapError::NoMap { .. }) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn programs(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.pins.programs()).into_iter().flatten().flatten();
        let mut names: Vec<String> =
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }

    fn flows(&self) -> Result<Option<(usize, u32)>, InstallationError> {
        let map = self.map(FLOWS)?;
        Ok(Some((map.keys()?.len(), map.shape().max_entries)))
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
