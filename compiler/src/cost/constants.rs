//! The prices: what one unit of each kind of work takes, and the room of the caches.
//!
//! They come from `constants.json`, which `nnbpfc bench --calibrate-cost` writes with the measurements that they were
//! fitted to.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde::{Deserialize, Serialize};

use super::work::Kind;

/// The committed file.
const FILE: &str = include_str!("constants.json");

static COMMITTED: LazyLock<Calibration> = LazyLock::new(|| serde_json::from_str(FILE).unwrap_or_default());

/// A calibration: prices, and what they came from.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Calibration {
    /// The machine and kernel that were measured.
    pub machine: String,
    /// Median magnitude of the relative differences of predicted and measured times, in percent.
    pub median_percent: f64,
    /// The same for one half of the shapes with prices that were fitted to the other half.
    pub held_out_percent: f64,
    pub constants: Constants,
    /// Every shape, in the order of [`super::cases::all`].
    pub shapes: Vec<Measured>,
}

/// A shape, what was predicted and what was measured.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Measured {
    pub shape: String,
    pub predicted_ns: f64,
    pub measured_ns: f64,
}

/// Nanoseconds per unit, and room.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(from = "Stored", into = "Stored")]
pub struct Constants {
    /// Instructions up to which all code stays in the nearest cache, and the share of that beyond which none does.
    pub code_instructions: f64,
    pub code_ramp: f64,
    /// Bytes of parameters that stay in the first data cache, and in the second.
    pub data_bytes: f64,
    pub second_data_bytes: f64,
    prices: [f64; Kind::ALL.len()],
}

/// Constants as they stand in the file.
#[derive(Serialize, Deserialize)]
struct Stored {
    code_instructions: f64,
    code_ramp: f64,
    data_bytes: f64,
    second_data_bytes: f64,
    ns: BTreeMap<String, f64>,
}

impl From<Stored> for Constants {
    fn from(stored: Stored) -> Self {
        Self {
            code_instructions: stored.code_instructions,
            code_ramp: stored.code_ramp,
            data_bytes: stored.data_bytes,
            second_data_bytes: stored.second_data_bytes,
            prices: Kind::ALL.map(|kind| stored.ns.get(kind.name()).copied().unwrap_or(0.0)),
        }
    }
}

impl From<Constants> for Stored {
    fn from(constants: Constants) -> Self {
        let named = |(kind, price): (&Kind, f64)| (kind.name().to_owned(), price);
        Self {
            code_instructions: constants.code_instructions,
            code_ramp: constants.code_ramp,
            data_bytes: constants.data_bytes,
            second_data_bytes: constants.second_data_bytes,
            ns: Kind::ALL.iter().zip(constants.prices).map(named).collect(),
        }
    }
}

impl Constants {
    /// Caches of this room, and no prices.
    #[must_use]
    pub const fn of_room(code: (f64, f64), data_bytes: f64, second_data_bytes: f64) -> Self {
        let (code_instructions, code_ramp) = code;
        Self { code_instructions, code_ramp, data_bytes, second_data_bytes, prices: [0.0; Kind::ALL.len()] }
    }

    /// Constants with these prices, in the order of [`Kind::ALL`].
    #[must_use]
    pub const fn with_prices(&self, prices: [f64; Kind::ALL.len()]) -> Self {
        Self {
            code_instructions: self.code_instructions,
            code_ramp: self.code_ramp,
            data_bytes: self.data_bytes,
            second_data_bytes: self.second_data_bytes,
            prices,
        }
    }

    /// The prices in the order of [`Kind::ALL`].
    #[must_use]
    pub const fn prices(&self) -> &[f64; Kind::ALL.len()] {
        &self.prices
    }

    /// The price of one kind.
    #[must_use]
    pub fn price(&self, kind: Kind) -> f64 {
        self.prices.get(kind as usize).copied().unwrap_or(0.0)
    }
}

/// The committed calibration.
#[must_use]
pub fn calibration() -> &'static Calibration {
    &COMMITTED
}

/// The committed constants.
#[must_use]
pub fn committed() -> &'static Constants {
    &COMMITTED.constants
}
