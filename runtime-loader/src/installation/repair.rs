//! What a command does first: whatever a killed command has left is undone.
//!
//! `current` decides. Programs on interfaces that are not its programs are replaced by its own; generations
//! above the active one, program generations that nobody refers to and attachments without a link are removed.

use std::os::fd::AsFd;

use super::attach::{self, ENTRY};
use super::{Installation, InstallationError};
use crate::pins;
use crate::sys;

impl Installation {
    /// Undoes what a killed command has left.
    ///
    /// # Errors
    /// A pin cannot be removed, or the kernel refuses to replace a program.
    pub(super) fn repair(&self) -> Result<(), InstallationError> {
        let path = self.pins.current().program(ENTRY);
        let entry = sys::open_pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
        let id = sys::program_info(entry.as_fd()).map(|info| info.id);
        for name in pins::entries(&self.pins.links()) {
            let directory = self.pins.links().join(name);
            let path = directory.join("link");
            let Ok(link) = sys::open_pin(&path) else {
                attach::remove(&directory)?;
                continue;
            };
            let (Ok(link_info), Ok(id)) = (sys::link_info(link.as_fd()), &id) else { continue };
            if link_info.interface_index != 0 && link_info.prog_id != *id {
                sys::update_link(link.as_fd(), entry.as_fd())
                    .map_err(|source| InstallationError::Pin { path, source })?;
            }
        }
        let active = self.generation()?;
        for number in self.pins.generations().into_iter().filter(|number| *number > active) {
            let path = self.pins.generation(number);
            std::fs::remove_file(&path).map_err(|source| InstallationError::Pin { path, source })?;
        }
        self.prune()
    }
}
