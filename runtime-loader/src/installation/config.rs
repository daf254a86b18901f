//! `.data.nn_config`: monitor or enforce, and the epoch of the host lists.

use super::{Installation, InstallationError};
use crate::maps::{Map, MapError};

/// Name of the section.
pub(super) const SECTION: &str = ".data.nn_config";

/// Bytes of the value: mode, a reserved word, epoch.
const BYTES: usize = 16;

/// The program in the kernel advances the epoch by one, with an atomic add that may be lost between our
/// reading and our writing. Advancing the upper half makes the new value one that no record has seen anyway.
const EPOCH_STEP: u64 = 1 << 32;

/// What happens on a verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Verdicts are counted and reported; every packet passes.
    Monitor,
    /// Verdicts act.
    Enforce,
}

/// The value of the section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config {
    pub mode: Mode,
    /// Advanced on every change of a list, so that flow records ask the lists again.
    pub epoch: u64,
}

impl Config {
    pub(super) fn read(map: &Map) -> Result<Self, MapError> {
        let value = map.read_value()?;
        let wrong = || MapError::Size {
            map: SECTION.to_owned(),
            what: "the value",
            expected: BYTES,
            bytes: value.len(),
        };
        let mode = value.first_chunk().copied().map(u32::from_ne_bytes).ok_or_else(wrong)?;
        let epoch = value.get(8..BYTES).and_then(<[u8]>::first_chunk).ok_or_else(wrong)?;
        let mode = if mode == 0 { Mode::Monitor } else { Mode::Enforce };
        Ok(Self { mode, epoch: u64::from_ne_bytes(*epoch) })
    }

    pub(super) fn write(self, map: &Map) -> Result<(), MapError> {
        let mode: u32 = match self.mode {
            Mode::Monitor => 0,
            Mode::Enforce => 1,
        };
        let mut value = mode.to_ne_bytes().to_vec();
        value.extend([0; 4]);
        value.extend(self.epoch.to_ne_bytes());
        map.write_value(&value)
    }
}

impl Installation {
    /// Mode and epoch.
    ///
    /// # Errors
    /// The object has no such section.
    pub fn config(&self) -> Result<Config, InstallationError> {
        Ok(Config::read(&self.map(SECTION)?)?)
    }

    /// Lets verdicts act, or only counts and reports them; says whether that is a change.
    ///
    /// # Errors
    /// The object has no such section.
    pub fn set_mode(&self, mode: Mode) -> Result<bool, InstallationError> {
        let map = self.map(SECTION)?;
        let config = Config::read(&map)?;
        if config.mode == mode {
            return Ok(false);
        }
        // The whole value is written: see the step's reason.
        Config { mode, epoch: config.epoch.wrapping_add(EPOCH_STEP) }.write(&map)?;
        Ok(true)
    }

    /// Makes every flow record ask the host lists again at its next packet.
    pub(super) fn advance_epoch(&self) -> Result<(), InstallationError> {
        let map = self.map(SECTION)?;
        let config = Config::read(&map)?;
        let next = Config { epoch: config.epoch.wrapping_add(EPOCH_STEP), ..config };
        next.write(&map)?;
        // A fuse that blew between reading and writing has set the mode that was just overwritten.
        if next.mode == Mode::Enforce && self.fuse()?.blown.is_some() {
            Config { mode: Mode::Monitor, ..next }.write(&map)?;
        }
        Ok(())
    }
}
