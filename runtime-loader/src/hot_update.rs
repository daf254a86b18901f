//! New parameters while packets flow, without a packet that is judged by half of each model.
//!
//! The section of parameters holds two slots. An inference reads the index of the active one once. So the
//! idle slot may be written as soon as a grace period has passed since the last flip, and the flip is one
//! write of index and generation together.

use std::io;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};

use nnbpf_compiler::params::layout::SHADOW_BIT;

use crate::maps::{Map, MapError};
use crate::{grace, shadow};

/// Section of the two slots.
pub const PARAMS: &str = ".data.nn_params";
/// Section that says which slot is active.
pub const ACTIVE: &str = ".data.nn_active";

/// Value of [`ACTIVE`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Active {
    /// 0 or 1.
    pub index: u32,
    /// Number of the parameters, one up with every update; every verdict carries it.
    pub generation: u32,
}

/// An update that did not take place; the parameters that were active still are.
#[derive(Debug, thiserror::Error)]
pub enum UpdateError {
    #[error("a slot has {expected} bytes, the new parameters have {bytes}")]
    Size { expected: usize, bytes: usize },
    #[error("`{ACTIVE}` does not hold an index and a generation")]
    Active,
    #[error(transparent)]
    Map(#[from] MapError),
    #[error("no grace period: {0}")]
    Grace(#[source] io::Error),
}

impl UpdateError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let (origin, help) = match self {
            Self::Size { .. } => (
                PARAMS,
                "compile them with `nnbpfc MODEL SPEC --like OBJ -o NEW.params` for the object that is \
                 installed",
            ),
            Self::Active => (ACTIVE, "load the object again; something else has written to the section"),
            Self::Map(error) => return error.diagnostic(),
            Self::Grace(_) => (ACTIVE, "run the command again; it needs memory for two small maps"),
        };
        let origin = Origin::Kernel { object: origin.to_owned() };
        Diagnostic::new(&codes::PARAMS_MISFIT, origin, self.to_string(), help)
    }
}

impl Active {
    /// Reads the section; whether a shadow runs is [`crate::shadow::runs`]'s to tell.
    ///
    /// # Errors
    /// The map is not readable or holds something else.
    pub fn read(active: &Map) -> Result<Self, UpdateError> {
        let value = active.read_value()?;
        let [index, generation] = value.as_chunks().0 else { return Err(UpdateError::Active) };
        let index = u32::from_ne_bytes(*index);
        if index > 1 + SHADOW_BIT {
            return Err(UpdateError::Active);
        }
        Ok(Self { index: index & 1, generation: u32::from_ne_bytes(*generation) })
    }

    /// The value of the section, without a shadow.
    #[must_use]
    pub fn bytes(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        let (index, generation) = bytes.split_at_mut(4);
        index.copy_from_slice(&self.index.to_ne_bytes());
        generation.copy_from_slice(&self.generation.to_ne_bytes());
        bytes
    }
}

/// Writes the idle slot, flips, and returns when every inference uses the new parameters. A shadow ends.
///
/// # Errors
/// The slot has another size than the object's, or the kernel refuses a write. Nothing has changed then for
/// packets; only a grace period that fails after the flip leaves the new parameters active.
pub fn swap(params: &Map, active: &Map, slot: &[u8]) -> Result<Active, UpdateError> {
    let before = Active::read(active)?;
    let mut value = params.read_value()?;
    let expected = value.len() / 2;
    if slot.len() != expected || value.len() % 2 != 0 {
        return Err(UpdateError::Size { expected, bytes: slot.len() });
    }
    let (first, second) = value.split_at_mut(expected);
    let idle = if before.index == 0 { second } else { first };
    idle.copy_from_slice(slot);
    shadow::stop(active)?;
    // An update before this one may have ended between its flip and its wait.
    grace::wait().map_err(UpdateError::Grace)?;
    params.write_value(&value)?;
    let after = Active { index: 1 - before.index, generation: before.generation.wrapping_add(1) };
    active.write_value(&after.bytes())?;
    grace::wait().map_err(UpdateError::Grace)?;
    Ok(after)
}
