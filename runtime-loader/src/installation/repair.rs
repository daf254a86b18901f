//! What a command does first: whatever a killed command has left is undone.
//!
//! `current` decides. Programs on interfaces that are not its programs are replaced by its own; generations
//! above the active one, program generations that nobody refers to and attachments without a link are removed.

use super::place::Place;
use super::{Installation, InstallationError, attach};
use crate::pins;
use crate::sys;

impl Installation {
    /// Undoes what a killed command has left.
    ///
    /// # Errors
    /// A pin cannot be removed, or the kernel refuses to replace a program.
    pub(super) fn repair(&self) -> Result<(), InstallationError> {
        for name in pins::entries(&self.pins.links()) {
            let directory = self.pins.links().join(name);
            let filter = Place::read(&directory.join("place")).is_some_and(|place| place.clsact().is_some());
            if !filter && sys::open_pin(&directory.join("link")).is_err() {
                attach::remove(&directory)?;
            }
        }
        // Interfaces have other programs only after an update that was killed, and that left its own.
        if self.pins.codes().len() > 1 {
            self.switch(&self.pins.current())?;
        }
        let active = self.generation()?;
        for number in self.pins.generations().into_iter().filter(|number| *number > active) {
            let path = self.pins.generation(number);
            std::fs::remove_file(&path).map_err(|source| InstallationError::Pin { path, source })?;
        }
        self.prune()
    }
}
