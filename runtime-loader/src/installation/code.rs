//! A program generation in bpffs: programs, maps, what the object says about itself.

use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::metadata::{self, Metadata};
use sha2::{Digest as _, Sha256};

use super::{InstallationError, parameters};
use crate::load::Loaded;
use crate::maps::{Map, MapError};
use crate::open::Opened;
use crate::pins::CodeDirectory;
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// SHA-256 of an object file.
pub type ObjectHash = [u8; 32];

/// What tells two objects apart.
#[must_use]
pub fn object_hash(opened: &Opened) -> ObjectHash {
    Sha256::digest(&opened.bytes).into()
}

/// Pins everything of a loaded object in a directory that must not exist.
pub(super) fn pin(loaded: &Loaded, opened: &Opened, code: &CodeDirectory) -> Result<(), InstallationError> {
    let failed = |path: std::path::PathBuf| move |source| InstallationError::Pin { path, source };
    code.create().map_err(failed(code.path().to_owned()))?;
    for name in loaded.program_names() {
        let path = code.program(&name);
        loaded.program(&name)?.pin(&path).map_err(failed(path))?;
    }
    for map in loaded.maps() {
        let path = code.map(map.name());
        map.pin(&path).map_err(failed(path))?;
    }
    pin_bytes("metadata", &opened.payload, &code.metadata())?;
    pin_bytes("object", &object_hash(opened), &code.object())?;
    parameters::pin(loaded, &opened.metadata, code)
}

/// bpffs holds no files, so bytes become the value of an array.
pub(super) fn pin_bytes(name: &str, bytes: &[u8], path: &std::path::Path) -> Result<(), InstallationError> {
    let failed = |source| InstallationError::Pin { path: path.to_owned(), source };
    let size = u32::try_from(bytes.len().max(1)).unwrap_or(u32::MAX);
    let map = Map::from_fd(name, sys::create_map(ARRAY, 4, size, 1, None).map_err(failed)?)?;
    if !bytes.is_empty() {
        map.write_value(bytes)?;
    }
    map.pin(path).map_err(failed)
}

/// What the object of a program generation says about itself.
pub(crate) fn metadata(code: &CodeDirectory) -> Outcome<Metadata> {
    let payload = Map::from_pin("metadata", &code.metadata()).and_then(|map| map.read_value());
    let payload = payload.map_err(|error| vec![error.diagnostic()])?;
    metadata::from_payload(&payload, &code.metadata().display().to_string())
}

/// Hash of the object that a program generation came from.
pub(super) fn read_object_hash(code: &CodeDirectory) -> Result<Option<ObjectHash>, MapError> {
    Ok(Map::from_pin("object", &code.object())?.read_value()?.first_chunk().copied())
}
