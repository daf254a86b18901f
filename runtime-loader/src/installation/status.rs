//! What an installation is doing.

use std::os::fd::AsFd;
use std::time::Duration;

use super::lists::optional;
use super::{Config, Installation, InstallationError};
use crate::hosts::{Host, Prefix};
use crate::hot_update::{self, Active};
use crate::maps::MapError;
use crate::sys;

/// The map of live flows.
const FLOWS: &str = "nn_flows";
/// Per-CPU counters.
const COUNTERS: &str = "nn_counters";

/// Where the program is attached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attachment {
    /// To this interface; by its number when it lies in another network namespace.
    Interface(String),
    /// The interface is gone, or somebody detached the program.
    Detached,
}

/// A snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    pub directory: String,
    pub attachment: Attachment,
    pub config: Config,
    /// `None` when the object's parameters are constants.
    pub active: Option<Active>,
    pub programs: Vec<String>,
    /// Records in the flow table and its size; `None` for objects without flows.
    pub flows: Option<(usize, u32)>,
    pub blocked: Vec<(Host, Option<Duration>)>,
    pub allowed: Vec<Prefix>,
    /// Sums over all CPUs of the 64-bit words of `nn_counters`, in order.
    pub counters: Vec<u64>,
}

impl Installation {
    /// Reads everything once.
    ///
    /// # Errors
    /// A pin is gone or a map is not readable.
    pub fn status(&self) -> Result<Status, InstallationError> {
        Ok(Status {
            directory: self.pins.path().display().to_string(),
            attachment: self.attachment(),
            config: self.config()?,
            active: self.active()?,
            programs: self.programs(),
            flows: optional(self.flows())?,
            blocked: optional(self.blocked())?,
            allowed: optional(self.allowed())?,
            counters: optional(self.counters())?,
        })
    }

    fn attachment(&self) -> Attachment {
        let info = sys::open_pin(&self.pins.link()).and_then(|link| sys::link_info(link.as_fd()));
        match info {
            Ok(info) if info.interface_index != 0 => {
                let index = info.interface_index;
                let name = sys::interface_name(index);
                Attachment::Interface(name.unwrap_or_else(|| format!("interface {index}")))
            }
            Ok(_) | Err(_) => Attachment::Detached,
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

    fn counters(&self) -> Result<Vec<u64>, InstallationError> {
        let map = self.map(COUNTERS)?;
        let mut sums = Vec::new();
        for key in 0..map.shape().max_entries {
            let copies = map.lookup_per_cpu(&key.to_ne_bytes())?.unwrap_or_default();
            let mut words = vec![0_u64; map.shape().value_size / 8];
            for copy in copies {
                for (sum, word) in words.iter_mut().zip(copy.chunks_exact(8)) {
                    let word = word.first_chunk().copied().map_or(0, u64::from_ne_bytes);
                    *sum = sum.wrapping_add(word);
                }
            }
            sums.extend(words);
        }
        Ok(sums)
    }
}
