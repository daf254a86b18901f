//! Program update: another object takes over, with the flows, lists and counters of the one before.

use std::time::SystemTime;

use nnbpf_compiler::diag::{Diagnostic, Outcome};
use nnbpf_compiler::metadata::Metadata;

use super::history::{Change, Generation};
use super::{Installation, InstallationError, code, parameters};
use crate::attach_tc::Hook;
use crate::hot_update::{self, Active};
use crate::load::{Kernel, Loaded};
use crate::maps::MapError;
use crate::open::Opened;
use crate::pins::CodeDirectory;

/// What a program update came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Replaced {
    Done {
        /// The generation of its parameters.
        generation: u32,
        /// The program generation.
        code: u32,
        /// What was lost, in words.
        lost: Vec<String>,
    },
    /// The object is the one at work.
    Same { generation: u32 },
}

impl Installation {
    /// Loads a new object beside the one at work and puts its programs behind every attachment. The programs
    /// before stay pinned as long as a generation of the history is for them. `file` is how the user named the
    /// object.
    ///
    /// # Errors
    /// A shadow that runs (`E0832`), an object for another hook (`E0822`) or that the kernel refuses, a pin that cannot be made, an attachment
    /// that cannot be switched. The old programs are at work then, on every interface.
    pub fn replace(&self, opened: &Opened, file: &str) -> Outcome<Replaced> {
        let refused = |error: InstallationError| vec![error.diagnostic()];
        let before = self.generation().map_err(of_map)?;
        if self.object_hash().map_err(of_map)? == Some(code::object_hash(opened)) {
            return Ok(Replaced::Same { generation: before });
        }
        // Its slot and its counts belong to the programs at work.
        if self.has_shadow().map_err(of_map)? {
            return Err(vec![self.shadow_is_in_the_way()]);
        }
        let metadata = self.metadata()?;
        same_hook(&metadata, &opened.metadata).map_err(refused)?;
        if let Some(interface) = self.out_of_reach() {
            return Err(refused(InstallationError::OutOfReach { interface }));
        }
        let shared = self.shared(&opened.inventory, (&metadata, &opened.metadata)).map_err(of_map)?;
        let loaded = Kernel::load_sharing(&opened.bytes, &shared).map_err(|error| error.diagnostics(file))?;
        let generation = before.wrapping_add(1);
        let number = self.pins.codes().last().copied().unwrap_or_default() + 1;
        let directory = self.pins.code(number);
        let done = count_from(&loaded, generation)
            .and_then(|()| code::pin(&loaded, opened, &directory))
            .and_then(|()| {
                let compiled_in = parameters::compiled_in(&loaded, &opened.metadata)?;
                let entry = Generation {
                    number: generation,
                    change: Change::Program,
                    code: number,
                    restores: None,
                    time: SystemTime::now(),
                    unit: compiled_in.provenance.unit,
                    model_hash: compiled_in.provenance.model_hash,
                    slot: compiled_in.slot,
                };
                self.take_over(&directory, &entry)
            });
        match done {
            Ok(lost) => Ok(Replaced::Done { generation, code: number, lost }),
            Err(error) => {
                // What cannot be undone either is named by the error that comes first.
                let _first_error_counts = self.repair();
                Err(refused(error))
            }
        }
    }

    /// Makes a program generation that is pinned the one at work. Until the last step, repair undoes it.
    pub(super) fn take_over(
        &self,
        to: &CodeDirectory,
        entry: &Generation,
    ) -> Result<Vec<String>, InstallationError> {
        let lost = self.carry_over(to)?;
        entry.pin(&self.pins)?;
        self.switch(to)?;
        self.pins.make_current(entry.code).map_err(|source| InstallationError::Pin {
            path: self.pins.current().path().to_owned(),
            source,
        })?;
        // A program may have advanced the epoch while the value was carried over.
        self.advance_epoch()?;
        self.prune()?;
        Ok(lost)
    }
}

/// A program update stays on its hook.
fn same_hook(installed: &Metadata, offered: &Metadata) -> Result<(), InstallationError> {
    let hook = |metadata: &Metadata| metadata.hook.map_or("no hook", Hook::name);
    if installed.hook == offered.hook {
        Ok(())
    } else {
        Err(InstallationError::OtherHook { installed: hook(installed), offered: hook(offered) })
    }
}

/// Makes the parameters of a loaded object a later generation than the first.
fn count_from(loaded: &Loaded, generation: u32) -> Result<(), InstallationError> {
    let active = match loaded.map(hot_update::ACTIVE) {
        // Constants have the generation that they were compiled with.
        Err(MapError::NoMap { .. }) => return Ok(()),
        active => active?,
    };
    let index = Active::read(active).map_or(0, |active| active.index);
    active.write_value(&Active { index, generation }.bytes())?;
    Ok(())
}

fn of_map(error: MapError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}
