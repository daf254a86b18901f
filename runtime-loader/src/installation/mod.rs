//! An object at work on an interface: pinned in bpffs, so that it outlives the command that loaded it.
//!
//! [`install`] attaches and pins, [`Installation`] opens what is pinned and changes it. What each operation
//! does lives in a file of its own; where the pins are is known by [`crate::pins`].

mod config;
mod error;
mod install;
mod lists;
pub(crate) mod parameters;
mod place;
mod status;

pub use config::{Config, Mode};
pub use error::InstallationError;
pub use install::{AttachMode, install, interface_exists};
pub use parameters::Provenance;
pub use status::{Attachment, Status};

use std::fs::File;

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::lower::packet::maps::CLOCK;
use nnbpf_compiler::metadata::{self, Metadata};

use crate::maps::{Map, MapError};
use crate::pins::PinDirectory;
use crate::sys;

/// A pinned object. While this value lives, no other command changes the same installation.
#[derive(Debug)]
pub struct Installation {
    pins: PinDirectory,
    /// Holds the lock.
    _directory: File,
}

impl Installation {
    /// Opens what is pinned and waits for other commands that change it.
    ///
    /// # Errors
    /// Nothing is installed there, or the directory cannot be read.
    pub fn open(pins: PinDirectory) -> Result<Self, InstallationError> {
        let directory = File::open(pins.path()).map_err(|error| {
            if error.kind() == std::io::ErrorKind::NotFound {
                InstallationError::NotInstalled { directory: pins.path().to_owned() }
            } else {
                InstallationError::Pin { path: pins.path().to_owned(), source: error }
            }
        })?;
        directory.lock().map_err(|source| InstallationError::Pin { path: pins.path().to_owned(), source })?;
        Ok(Self { pins, _directory: directory })
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
        let payload = Map::from_pin("metadata", &self.pins.metadata()).and_then(|map| map.read_value());
        let payload = payload.map_err(|error| vec![error.diagnostic()])?;
        metadata::from_payload(&payload, &self.pins.metadata().display().to_string())
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

    /// Detaches the program and removes every pin. An interface that is gone is no hindrance.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub fn remove(self) -> Result<(), InstallationError> {
        if let Ok(link) = sys::open_pin(&self.pins.link()) {
            // Kernels before 5.9 cannot detach a link; removing its last pin does the same a little later.
            let _unsupported = sys::detach(std::os::fd::AsFd::as_fd(&link));
        }
        self.pins
            .remove()
            .map_err(|source| InstallationError::Pin { path: self.pins.path().to_owned(), source })
    }
}
