//! Which model the parameters in each slot came from: the kernel knows their bytes only.
//!
//! The array `parameters` has one value per slot: generation, unit of the outputs (binary64), hash of the
//! model. It is written before the slot becomes active. A slot that was written by hand has an old generation
//! here, and nothing is said about it.

use std::os::fd::AsFd;
use std::time::SystemTime;

use nnbpf_compiler::check;
use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::lower::network::Weights;
use nnbpf_compiler::metadata::{self, Metadata, hex};
use nnbpf_compiler::params::file::ParamsFile;
use nnbpf_compiler::params::layout::COMPILED_IN;

use super::history::{Change, Generation};
use super::{Installation, InstallationError};
use crate::hot_update::{self, Active};
use crate::load::Loaded;
use crate::maps::{Map, MapError, Update};
use crate::pins::{CodeDirectory, PinDirectory};
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
const SLOTS: u32 = 2;
const HASH: usize = 32;
const BYTES: usize = 16 + HASH;
const NAME: &str = "parameters";

/// Where parameters came from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Provenance {
    pub generation: u32,
    /// Real value of an output: `raw * unit`.
    pub unit: f64,
    /// SHA-256 of the ONNX file.
    pub model_hash: [u8; HASH],
}

impl Provenance {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = u64::from(self.generation).to_ne_bytes().to_vec();
        bytes.extend(self.unit.to_ne_bytes());
        bytes.extend(self.model_hash);
        bytes
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (generation, rest) = value.split_first_chunk()?;
        let (unit, rest) = rest.split_first_chunk()?;
        Some(Self {
            generation: u32::try_from(u64::from_ne_bytes(*generation)).ok()?,
            unit: f64::from_ne_bytes(*unit),
            model_hash: *rest.first_chunk()?,
        })
    }
}

/// Parameters that an object was compiled with.
pub(super) struct CompiledIn {
    /// The slot that is active before anything else happens. Constants are in one place only; they stand where
    /// slot 0 would.
    index: u32,
    pub(super) provenance: Provenance,
    /// Empty for constants.
    pub(super) slot: Vec<u8>,
}

/// What a loaded object's parameters are.
pub(super) fn compiled_in(loaded: &Loaded, metadata: &Metadata) -> Result<CompiledIn, MapError> {
    let active = match metadata.weights {
        Weights::Map => loaded.map(hot_update::ACTIVE).ok().and_then(|map| Active::read(map).ok()),
        Weights::Const => None,
    };
    let slot = match active {
        None => Vec::new(),
        Some(active) => slot_of(loaded.map(hot_update::PARAMS)?, active)?,
    };
    let active = active.unwrap_or(Active { index: 0, generation: COMPILED_IN });
    let provenance = Provenance {
        generation: active.generation,
        unit: metadata.plan.decision.unit,
        model_hash: unhex(&metadata.model_hash),
    };
    Ok(CompiledIn { index: active.index, provenance, slot })
}

/// The bytes of the active slot.
pub(super) fn slot_of(params: &Map, active: Active) -> Result<Vec<u8>, MapError> {
    let value = params.read_value()?;
    let (first, second) = value.split_at(value.len() / 2);
    Ok(if active.index == 0 { first } else { second }.to_vec())
}

/// Makes and pins the array for a freshly loaded object.
pub(super) fn pin(
    loaded: &Loaded,
    metadata: &Metadata,
    code: &CodeDirectory,
) -> Result<(), InstallationError> {
    let error = |source| InstallationError::Pin { path: code.parameters(), source };
    let fd = sys::create_map(ARRAY, 4, BYTES as u32, SLOTS, None).map_err(error)?;
    let map = Map::from_fd(NAME, fd)?;
    let compiled_in = compiled_in(loaded, metadata)?;
    map.update(&compiled_in.index.to_ne_bytes(), &compiled_in.provenance.bytes(), Update::Any)?;
    sys::pin(map.as_fd(), &code.parameters()).map_err(error)
}

impl Installation {
    /// Where the parameters of a generation came from, as long as they are in one of the slots.
    ///
    /// # Errors
    /// The pin is gone or not readable.
    pub fn provenance(&self, generation: u32) -> Result<Option<Provenance>, MapError> {
        Ok(provenances(&self.pins)?.into_iter().find(|provenance| provenance.generation == generation))
    }

    /// Proves new parameters against the plan of the installed object, writes them into the idle slot and makes
    /// it the active one. `file` is how the user named them.
    ///
    /// # Errors
    /// An object with constant weights (`E0708`), parameters of another plan (`E0817`) or that the proof refuses
    /// (`E0818`), a shadow in the idle slot (`E0832`); then nothing was touched. A map that is not accessible, as
    /// [`hot_update::swap`] says.
    pub fn update(&self, params: &ParamsFile, file: &str) -> Outcome<Active> {
        if self.has_shadow().map_err(of_map)? {
            return Err(vec![self.shadow_is_in_the_way()]);
        }
        self.update_over_shadow(params, file)
    }

    /// As [`Self::update`], but a shadow in the idle slot ends.
    ///
    /// # Errors
    /// As [`Self::update`], without `E0832`.
    pub fn update_over_shadow(&self, params: &ParamsFile, file: &str) -> Outcome<Active> {
        let metadata = self.metadata()?;
        if let Some(refusal) = metadata.constant_weights(&self.pins.metadata().display().to_string()) {
            return Err(vec![*refusal]);
        }
        prove(&metadata, params, file)?;
        self.put(&Parameters {
            change: Change::Parameters,
            restores: None,
            unit: params.unit,
            model_hash: params.model_hash,
            slot: &params.slot,
        })
    }

    /// Writes parameters that were proved into the idle slot and makes it the active one.
    pub(super) fn put(&self, parameters: &Parameters<'_>) -> Outcome<Active> {
        let (slots, active) = (self.map(hot_update::PARAMS), self.map(hot_update::ACTIVE));
        let (slots, active) = (slots.map_err(of_map)?, active.map_err(of_map)?);
        let before = Active::read(&active).map_err(|error| vec![error.diagnostic()])?;
        self.record(before, parameters)?;
        let swapped =
            hot_update::swap(&slots, &active, parameters.slot).map_err(|error| vec![error.diagnostic()]);
        // An update that failed is no generation.
        self.repair().map_err(|error| vec![error.diagnostic()])?;
        swapped
    }

    /// Writes down what the next generation will be, in the history and for the idle slot.
    pub(super) fn record(&self, before: Active, parameters: &Parameters<'_>) -> Outcome<()> {
        let generation = before.generation.wrapping_add(1);
        let Parameters { change, restores, unit, model_hash, slot } = *parameters;
        let entry = Generation {
            number: generation,
            change,
            code: self.pins.current_number().unwrap_or_default(),
            restores,
            time: SystemTime::now(),
            unit,
            model_hash,
            slot: slot.to_vec(),
        };
        entry.pin(&self.pins).map_err(|error| vec![error.diagnostic()])?;
        // A shadow in that slot ends before it is another's.
        if change != Change::Promotion {
            self.end_shadow()?;
        }
        let provenance = Provenance { generation, unit, model_hash };
        describe_slot(&self.pins, 1 - before.index, &provenance).map_err(of_map)
    }
}

/// Writes down where the parameters of a slot come from.
pub(super) fn describe_slot(pins: &PinDirectory, slot: u32, provenance: &Provenance) -> Result<(), MapError> {
    let map = Map::from_pin(NAME, &pins.parameters())?;
    map.update(&slot.to_ne_bytes(), &provenance.bytes(), Update::Any)
}

/// Where the parameters of a slot come from.
pub(super) fn provenance_of_slot(pins: &PinDirectory, slot: u32) -> Result<Option<Provenance>, MapError> {
    let value = Map::from_pin(NAME, &pins.parameters())?.lookup(&slot.to_ne_bytes())?;
    Ok(value.as_deref().and_then(Provenance::parse))
}

/// Parameters for the programs at work.
pub(super) struct Parameters<'a> {
    pub(super) change: Change,
    pub(super) restores: Option<u32>,
    pub(super) unit: f64,
    pub(super) model_hash: [u8; HASH],
    pub(super) slot: &'a [u8],
}

/// Gives programs that are not at work the parameters of a generation.
pub(super) fn set(code: &CodeDirectory, generation: &Generation) -> Result<(), InstallationError> {
    let path = code.map(hot_update::PARAMS);
    // Constants are what they are.
    if !path.exists() {
        return Ok(());
    }
    let slots = Map::from_pin(hot_update::PARAMS, &path)?;
    let active = Map::from_pin(hot_update::ACTIVE, &code.map(hot_update::ACTIVE))?;
    slots.write_value(&generation.slot.repeat(SLOTS as usize))?;
    active.write_value(&Active { index: 0, generation: generation.number }.bytes())?;
    let provenance = Provenance {
        generation: generation.number,
        unit: generation.unit,
        model_hash: generation.model_hash,
    };
    Map::from_pin(NAME, &code.parameters())?.update(&[0; 4], &provenance.bytes(), Update::Any)?;
    Ok(())
}

/// The provenance of both slots.
pub(crate) fn provenances(pins: &PinDirectory) -> Result<Vec<Provenance>, MapError> {
    let map = Map::from_pin(NAME, &pins.parameters())?;
    let mut found = Vec::new();
    for slot in 0..SLOTS {
        let value = map.lookup(&slot.to_ne_bytes())?;
        found.extend(value.as_deref().and_then(Provenance::parse));
    }
    Ok(found)
}

/// Whether parameters are of the object's plan and cannot overflow.
pub(super) fn prove(metadata: &Metadata, params: &ParamsFile, file: &str) -> Outcome<()> {
    let refuse = |code, message: String| {
        let help = "compile them with `nnbpfc MODEL SPEC --like OBJ -o NEW.params` for the object that is \
                    installed";
        Diagnostic::new(code, Origin::File { file: file.to_owned() }, message, help)
    };
    let offered = hex(&params.layout_hash);
    if offered != metadata.layout_hash {
        let message = "the parameters were compiled for an object of another plan".to_owned();
        return Err(vec![
            refuse(&codes::PARAMS_MISFIT, message)
                .with_note(format!("layout of the installed object: {}", metadata.layout_hash))
                .with_note(format!("layout of the parameters: {offered}")),
        ]);
    }
    let (wanted, bytes) = (metadata.slot_bytes, params.slot.len());
    if usize::try_from(wanted) != Ok(bytes) {
        let message = format!("a slot has {wanted} bytes, the new parameters have {bytes}");
        return Err(vec![refuse(&codes::PARAMS_MISFIT, message)]);
    }
    let unproved = |message: &str| vec![refuse(&codes::PARAMS_UNPROVED, message.to_owned())];
    if !(params.unit.is_finite() && params.unit > 0.0) {
        return Err(unproved("the unit of the outputs is not a positive number"));
    }
    let Some(network) = metadata::with_parameters(metadata, params) else {
        return Err(unproved("the parameters hold something that the compiler never writes"));
    };
    match check::check(network) {
        Ok(_) => Ok(()),
        Err(reasons) => {
            let refusal = refuse(&codes::PARAMS_UNPROVED, "the parameters fail the proof".to_owned());
            Err(vec![reasons.iter().fold(refusal, |refusal, reason| {
                refusal.with_note(format!("{}: {}", reason.code.id, reason.message))
            })])
        }
    }
}

fn of_map(error: MapError) -> Vec<Diagnostic> {
    vec![error.diagnostic()]
}

/// A hash of the metadata, which writes it in hexadecimal; zeros for what is none.
pub(super) fn unhex(text: &str) -> [u8; HASH] {
    let mut bytes = [0; HASH];
    for (index, byte) in bytes.iter_mut().enumerate() {
        let digits = text.get(2 * index..2 * index + 2).unwrap_or("0");
        *byte = u8::from_str_radix(digits, 16).unwrap_or(0);
    }
    bytes
}
