//! Parameters that were at work: what `nnbpf rollback` goes back to.
//!
//! `history/G` is an array with one value:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 4 | where they came from: 0 the object, 1 a parameter file, 2 a new object, 3 a rollback, 4 a shadow |
//! | 4 | 4 | number of the program generation that they are for |
//! | 8 | 4 | generation that they restore; 0 for none |
//! | 12 | 4 | bytes of the slot; 0 when the parameters are constants |
//! | 16 | 8 | when they became active, in nanoseconds since 1970 |
//! | 24 | 8 | unit of the outputs (binary64) |
//! | 32 | 32 | SHA-256 of the ONNX file |
//! | 64 | … | the slot |
//!
//! An entry is pinned before its generation becomes active. One that is above the active generation belongs to
//! an update that was killed, and the next command removes it.

use std::time::{SystemTime, UNIX_EPOCH};

use super::{Installation, InstallationError, code};
use crate::maps::Map;
use crate::pins::PinDirectory;

/// Generations that are kept, the active one included.
pub const KEPT: usize = 8;

const HEAD: usize = 64;

/// What made a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The object that was loaded.
    Load,
    /// New parameters.
    Parameters,
    /// A new object.
    Program,
    /// What was at work before.
    Rollback,
    /// What was the shadow before.
    Promotion,
}

impl Change {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Parameters => "parameters",
            Self::Program => "program",
            Self::Rollback => "rollback",
            Self::Promotion => "promotion",
        }
    }

    const ALL: [Self; 5] = [Self::Load, Self::Parameters, Self::Program, Self::Rollback, Self::Promotion];
}

/// A generation.
#[derive(Debug, Clone, PartialEq)]
pub struct Generation {
    pub number: u32,
    pub change: Change,
    /// Number of the program generation.
    pub code: u32,
    /// The generation whose parameters it has again.
    pub restores: Option<u32>,
    /// When it became active.
    pub time: SystemTime,
    /// Real value of an output: `raw * unit`.
    pub unit: f64,
    /// SHA-256 of the ONNX file.
    pub model_hash: [u8; 32],
    /// Its parameters; empty when they are constants of the code.
    pub slot: Vec<u8>,
}

impl Generation {
    fn bytes(&self) -> Vec<u8> {
        let change = Change::ALL.iter().position(|change| *change == self.change).unwrap_or(0) as u32;
        let slot = u32::try_from(self.slot.len()).unwrap_or(u32::MAX);
        let mut value = Vec::with_capacity(HEAD + self.slot.len());
        for word in [change, self.code, self.restores.unwrap_or(0), slot] {
            value.extend(word.to_ne_bytes());
        }
        let time = self.time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos();
        value.extend(u64::try_from(time).unwrap_or(u64::MAX).to_ne_bytes());
        value.extend(self.unit.to_ne_bytes());
        value.extend(self.model_hash);
        value.extend(&self.slot);
        value
    }

    fn parse(number: u32, value: &[u8]) -> Option<Self> {
        let (head, rest) = value.split_at_checked(HEAD)?;
        let word = |at: usize| head.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes);
        let double = |at: usize| head.get(at..)?.first_chunk::<8>().copied();
        let time = std::time::Duration::from_nanos(u64::from_ne_bytes(double(16)?));
        Some(Self {
            number,
            change: Change::ALL.get(word(0)? as usize).copied()?,
            code: word(4)?,
            restores: word(8).filter(|restores| *restores != 0),
            time: UNIX_EPOCH + time,
            unit: f64::from_ne_bytes(double(24)?),
            model_hash: *head.get(32..)?.first_chunk()?,
            slot: rest.get(..word(12)? as usize)?.to_vec(),
        })
    }

    pub(super) fn pin(&self, pins: &PinDirectory) -> Result<(), InstallationError> {
        let path = pins.generation(self.number);
        // Of an update that failed after this step.
        let _seldom_there = std::fs::remove_file(&path);
        code::pin_bytes("generation", &self.bytes(), &path)
    }

    pub(crate) fn read(pins: &PinDirectory, number: u32) -> Option<Self> {
        let value = Map::from_pin("generation", &pins.generation(number)).and_then(|map| map.read_value());
        value.ok().and_then(|value| Self::parse(number, &value))
    }
}

impl Installation {
    /// The last generations, oldest first, the active one included.
    #[must_use]
    pub fn history(&self) -> Vec<Generation> {
        self.pins
            .generations()
            .into_iter()
            .filter_map(|number| Generation::read(&self.pins, number))
            .collect()
    }

    /// Forgets generations beyond those that are kept, and program generations that none of them is for.
    ///
    /// # Errors
    /// A pin cannot be removed.
    pub(super) fn prune(&self) -> Result<(), InstallationError> {
        let generations = self.pins.generations();
        let failed = |path: std::path::PathBuf| move |source| InstallationError::Pin { path, source };
        for number in generations.iter().take(generations.len().saturating_sub(KEPT)) {
            let path = self.pins.generation(*number);
            std::fs::remove_file(&path).map_err(failed(path))?;
        }
        let used: Vec<u32> = self.history().iter().map(|generation| generation.code).collect();
        let current = self.pins.current_number();
        for number in self.pins.codes() {
            if Some(number) != current && !used.contains(&number) {
                let code = self.pins.code(number);
                code.remove().map_err(failed(code.path().to_owned()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Change, Generation};
    use std::time::{Duration, UNIX_EPOCH};

    #[test]
    fn generations_are_read_back() {
        let generation = Generation {
            number: 9,
            change: Change::Rollback,
            code: 2,
            restores: Some(7),
            time: UNIX_EPOCH + Duration::from_nanos(1_795_158_605_000_000_007),
            unit: 0.25,
            model_hash: [3; 32],
            slot: vec![1, 2, 3],
        };
        let bytes = generation.bytes();
        assert_eq!(Generation::parse(9, &bytes), Some(generation));
        assert_eq!(Generation::parse(9, &bytes[..66]), None);
        assert_eq!(Generation::parse(9, &bytes[..60]), None);
    }
}
