//! What an installation is doing.

use std::time::Duration;

use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::lower::packet::maps::{COUNTERS, FLOWS};
use nnbpf_compiler::params::layout::COMPILED_IN;

use super::lists::optional;
use super::{
    Attachment, Config, Generation, Installation, InstallationError, ObjectHash, Provenance, Shadow,
};
use crate::hosts::{Host, Prefix};
use crate::hot_update::{self, Active};
use crate::pins;

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
    /// `None` when the object's parameters are constants.
    pub active: Option<Active>,
    /// Where the active parameters came from; `None` when they were written by hand.
    pub provenance: Option<Provenance>,
    /// The model that runs beside the active one and decides nothing.
    pub shadow: Option<Shadow>,
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
            active,
            provenance: provenance.flatten(),
            shadow: self.shadow()?,
            programs: pins::entries(&self.pins.programs()),
            flows: optional(self.flows())?,
            blocked: optional(self.blocked())?,
            allowed: optional(self.allowed())?,
            counters: optional(self.counters())?,
        })
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
