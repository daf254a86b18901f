//! An object at work on an interface: pinned in bpffs, so that it outlives the command that loaded it.
//!
//! [`install`] attaches and pins, [`Installation`] opens what is pinned and changes it. What each operation
//! does lives in a file of its own; where the pins are is known by [`crate::pins`].

mod config;
mod error;
mod lock;
mod place;
mod way;
mod attach;
pub(crate) mod code;
mod history;
mod guard;
mod install;
mod lists;
mod model;
pub(crate) mod parameters;
mod repair;
mod shadow;
mod replace;
mod rollback;
mod state;
mod status;
mod sweep;

pub use attach::{AttachMode, AttachOutcome, Attachment, interface_exists, on};
pub use code::{ObjectHash, object_hash};
pub use config::{Config, Mode};
pub use error::InstallationError;
pub use guard::{EventCounters, EventCounts, prepare_fuse};
pub use history::{Change, Generation, KEPT};
pub use install::{Request, install};
pub use model::compile_like;
pub use parameters::Provenance;
pub use place::AttachedBy;
pub use replace::Replaced;
pub use rollback::RolledBack;
pub use shadow::Shadow;
pub use status::{ProgramStatus, Status};
pub use sweep::Swept;

use std::fs::File;

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::lower::packet::maps::CLOCK;
use nnbpf_compiler::metadata::Metadata;
use nnbpf_compiler::params::layout::COMPILED_IN;

use crate::hot_update::{self, Active};
use crate::maps::{Map, MapError};
use crate::pins::{CodeDirectory, PinDirectory};
use crate::sys;

/// A pinned object. While this value lives, no other command changes the same installation.
#[derive(Debug)]
pub struct Installation {
    pins: PinDirectory,
    /// Holds the lock.
    _directory: File,
}

impl Installation {
    /// Opens what is pinned: waits for other commands that change it, and undoes what a killed one has left.
    ///
    /// # Errors
    /// Nothing is installed there, an installation that was never finished, or the directory cannot be read.
    pub fn open(pins: PinDirectory) -> Result<Self, InstallationError> {
        let directory = pins.path().to_owned();
        match Self::find(pins)? {
            None => Err(InstallationError::NotInstalled { directory }),
            Some(installation) if !installation.is_complete() => {
                Err(InstallationError::Incomplete { directory })
            }
            Some(installation) => {
                installation.repair()?;
                Ok(installation)
            }
        }
    }

    /// Locks whatever is there, complete or not; `None` when nothing is.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn find(pins: PinDirectory) -> Result<Option<Self>, InstallationError> {
        let directory = lock::installation(&pins)?;
        Ok(directory.map(|directory| Self { pins, _directory: directory }))
    }

    /// Whether the load that made it came to its end.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.pins.current_number().is_some() && self.pins.current().program(attach::ENTRY).exists()
    }

    #[must_use]
    pub fn pins(&self) -> &PinDirectory {
        &self.pins
    }
    /// A pinned map or data section by its name in the object.
    ///
    /// # Errors
    /// The object has none of this name, or the pin is gone.
    pub fn map(&self, name: &str) -> Result<Map, MapError> {
        let path = self.pins.map(name);
        if !path.exists() {
            return Err(MapError::NoMap { map: name.to_owned() });
        }
        Map::from_pin(name, &path)
    }

    /// What the object says about itself.
    ///
    /// # Errors
    /// The pin is gone or not readable (`E0808`), or another release wrote it (`E0706`).
    pub fn metadata(&self) -> Outcome<Metadata> {
        self.metadata_of(&self.pins.current())
    }

    /// What the object of a program generation says about itself.
    fn metadata_of(&self, code: &CodeDirectory) -> Outcome<Metadata> {
        code::metadata(code)
    }

    /// The time that packets have: the kernel's clock, or in replay builds what stands in `.data.nn_clock`.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub fn now_ns(&self) -> Result<u64, InstallationError> {
        match self.map(CLOCK) {
            Ok(clock) => {
                let value = clock.read_value()?;
                Ok(value.first_chunk().copied().map_or(0, u64::from_ne_bytes))
            }
            Err(MapError::NoMap { .. }) => sys::ktime_ns().map_err(InstallationError::Clock),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether packets have the time of a capture.
    #[must_use]
    pub fn is_replay(&self) -> bool {
        self.pins.map(CLOCK).exists()
    }

    /// Index and generation of the active slot; `None` when the parameters are constants.
    ///
    /// # Errors
    /// The section is not readable.
    pub fn active(&self) -> Result<Option<Active>, MapError> {
        match self.map(hot_update::ACTIVE) {
            Ok(map) => Ok(Active::read(&map).ok()),
            Err(MapError::NoMap { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The generation at work. Where parameters are constants, verdicts carry another number: the one that was
    /// compiled in.
    ///
    /// # Errors
    /// The section of the active slot is not readable.
    pub fn generation(&self) -> Result<u32, MapError> {
        if let Some(active) = self.active()? {
            return Ok(active.generation);
        }
        let current = self.pins.current_number();
        let of_current = self.history().into_iter().filter(|generation| Some(generation.code) == current);
        Ok(of_current.map(|generation| generation.number).max().unwrap_or(COMPILED_IN))
    }

    /// Hash of the object whose programs are at work.
    ///
    /// # Errors
    /// The pin is gone or not readable.
    pub fn object_hash(&self) -> Result<Option<ObjectHash>, MapError> {
        code::read_object_hash(&self.pins.current())
    }

    /// Detaches the programs and removes every pin. An interface that is gone is no hindrance.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(self) -> Result<(), InstallationError> {
        if let Some(interface) = self.out_of_reach() {
            return Err(InstallationError::OutOfReach { interface });
        }
        let failed = |source| InstallationError::Pin { path: self.pins.path().to_owned(), source };
        self.pins.make_incomplete().map_err(failed)?;
        self.detach_all()?;
        self.pins.remove().map_err(failed)?;
        lock::remove_empty_root(&self.pins);
        Ok(())
    }
}
