//! Rollback: parameters, and if need be programs, that were at work before.

use std::time::SystemTime;

use nnbpf_compiler::diag::Outcome;

use super::history::{Change, Generation};
use super::parameters::{self, Parameters};
use super::{Installation, InstallationError};
use crate::grace;
use crate::hot_update::UpdateError;

/// What a rollback came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RolledBack {
    Done {
        /// The new generation, whose parameters are those of the one that it restores.
        generation: u32,
        restores: u32,
        /// The program generation that went to work again; `None` when the programs are the same.
        code: Option<u32>,
        /// What was lost, in words.
        lost: Vec<String>,
    },
    /// What was asked for is at work.
    Same { generation: u32 },
}

impl Generation {
    /// The generation that had these parameters first.
    fn first(&self) -> u32 {
        self.restores.unwrap_or(self.number)
    }
}

impl Installation {
    /// Goes back to a generation of the history, or to the one before that which is at work. It gets a new
    /// number: generations only ever rise.
    ///
    /// # Errors
    /// No such generation (`E0821`); what an update answers.
    pub fn rollback(&self, to: Option<u32>) -> Outcome<RolledBack> {
        let refused = |error: InstallationError| vec![error.diagnostic()];
        let of_map = |error: crate::maps::MapError| vec![error.diagnostic()];
        let active = self.generation().map_err(of_map)?;
        let history = self.history();
        let now = history.iter().find(|entry| entry.number == active);
        // Parameters that were written by hand are in no history; what was before them is.
        let first = now.map_or(active, Generation::first);
        let target = match to {
            Some(number) => history.iter().find(|entry| entry.number == number).ok_or_else(|| {
                let kept = history.iter().map(|entry| entry.number).collect();
                refused(InstallationError::NoGeneration { generation: number, kept })
            })?,
            None => history
                .iter()
                .rev()
                .find(|entry| entry.number < first && entry.restores.is_none())
                .ok_or_else(|| refused(InstallationError::NothingBefore { generation: first }))?,
        };
        let restores = target.first();
        if now.is_some_and(|now| now.first() == restores) {
            return Ok(RolledBack::Same { generation: active });
        }
        let generation = active.wrapping_add(1);
        if Some(target.code) == self.pins.current_number() {
            let parameters = Parameters {
                change: Change::Rollback,
                restores: Some(restores),
                unit: target.unit,
                model_hash: target.model_hash,
                slot: &target.slot,
            };
            self.put(&parameters)?;
            return Ok(RolledBack::Done { generation, restores, code: None, lost: Vec::new() });
        }
        if let Some(interface) = self.out_of_reach() {
            return Err(refused(InstallationError::OutOfReach { interface }));
        }
        let directory = self.pins.code(target.code);
        let entry = Generation {
            number: generation,
            change: Change::Rollback,
            restores: Some(restores),
            time: SystemTime::now(),
            ..target.clone()
        };
        // Nobody runs these programs once those packets are through that met them before they were replaced: then
        // both slots may be written.
        grace::wait().map_err(|error| vec![UpdateError::Grace(error).diagnostic()])?;
        let done = parameters::set(&directory, &entry).and_then(|()| self.take_over(&directory, &entry));
        match done {
            Ok(lost) => Ok(RolledBack::Done { generation, restores, code: Some(target.code), lost }),
            Err(error) => {
                let _first_error_counts = self.repair();
                Err(refused(error))
            }
        }
    }
}
