//! Pins a loaded object and attaches it. Either everything is in place at the end or nothing.

use std::time::SystemTime;

use super::attach::{self, AttachMode, AttachOutcome, Attachment};
use super::config::{self, Config, Mode};
use super::history::{Change, Generation};
use super::{Installation, InstallationError, code, lock, parameters};
use crate::load::Loaded;
use crate::open::Opened;
use crate::pins::PinDirectory;

/// Number of the first program generation.
const FIRST: u32 = 1;

/// What is to become of a loaded object.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Names of the interfaces that it is attached to, in this network namespace.
    pub interfaces: &'a [String],
    pub attach: AttachMode,
    pub mode: Mode,
}

/// Pins programs, maps and metadata and attaches the entry program to every interface.
///
/// What a killed command has left in the directory is removed first.
///
/// # Errors
/// Any step that fails, or [`InstallationError::Exists`] when there is an installation already; the steps before
/// are undone.
pub fn install(
    loaded: &Loaded,
    opened: &Opened,
    request: Request<'_>,
    pins: PinDirectory,
) -> Result<(Installation, Vec<Attachment>), InstallationError> {
    for interface in request.interfaces {
        attach::index_of(interface)?;
    }
    let mounted = pins.in_bpffs().unwrap_or(false);
    if !mounted {
        return Err(InstallationError::NoBpffs { path: pins.path().to_owned() });
    }
    let parent = lock::parent(&pins)?;
    let made = make(&pins);
    // Whoever comes now waits until everything is in place.
    drop(parent);
    let installation = made.inspect_err(|_| lock::remove_empty_root(&pins))?;
    match fill(&installation, loaded, opened, request) {
        Ok(attachments) => Ok((installation, attachments)),
        Err(error) => {
            // What cannot be removed either is named by the error that comes first.
            let _first_error_counts = installation.remove();
            Err(error)
        }
    }
}

/// Makes and locks the directory.
fn make(pins: &PinDirectory) -> Result<Installation, InstallationError> {
    if let Some(old) = Installation::find(pins.clone())? {
        if old.is_complete() {
            return Err(InstallationError::Exists { directory: pins.path().to_owned() });
        }
        old.remove()?;
    }
    let failed = |source| InstallationError::Pin { path: pins.path().to_owned(), source };
    pins.create().map_err(failed)?;
    let installation = Installation::find(pins.clone())?;
    let installation =
        installation.ok_or_else(|| InstallationError::NotInstalled { directory: pins.path().to_owned() })?;
    match pins.furnish() {
        Ok(()) => Ok(installation),
        Err(source) => {
            let _first_error_counts = pins.remove();
            Err(failed(source))
        }
    }
}

fn fill(
    installation: &Installation,
    loaded: &Loaded,
    opened: &Opened,
    request: Request<'_>,
) -> Result<Vec<Attachment>, InstallationError> {
    let pins = installation.pins();
    // The mode is set before the first packet comes.
    let config = loaded.map(config::SECTION)?;
    Config { mode: request.mode, ..Config::read(config)? }.write(config)?;
    code::pin(loaded, opened, &pins.code(FIRST))?;
    let compiled_in = parameters::compiled_in(loaded, &opened.metadata)?;
    let generation = Generation {
        number: compiled_in.provenance.generation,
        change: Change::Load,
        code: FIRST,
        restores: None,
        time: SystemTime::now(),
        unit: compiled_in.provenance.unit,
        model_hash: compiled_in.provenance.model_hash,
        slot: compiled_in.slot,
    };
    generation.pin(pins)?;
    let entry = pins.code(FIRST);
    let mut attachments = Vec::new();
    for interface in request.interfaces {
        match installation.attach_code(&entry, interface, request.attach)? {
            AttachOutcome::Attached(attachment) => attachments.push(attachment),
            // The same interface was named twice.
            AttachOutcome::Already(_) => {}
        }
    }
    // From here on it is complete.
    pins.make_current(FIRST)
        .map_err(|source| InstallationError::Pin { path: pins.current().path().to_owned(), source })?;
    Ok(attachments)
}
