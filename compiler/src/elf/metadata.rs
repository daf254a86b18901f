//! Framing of the metadata section: magic, version, length and checksum around an opaque payload.
//!
//! What the payload says belongs to the stages that write it; `docs/object-format.md` lists the bytes.

use sha2::{Digest, Sha256};

use super::METADATA_SECTION;
use super::read::{self, refuse};
use crate::diag::Outcome;
use crate::diag::codes::object as codes;

/// First bytes of the section.
pub const MAGIC: [u8; 8] = *b"nnbpfmd\0";

/// Version of the framing and the payload together; a reader refuses a newer one.
pub const VERSION: u32 = 3;

const LENGTH_AT: usize = 16;
const CHECKSUM_AT: usize = 24;
const PAYLOAD_AT: usize = 56;

/// Puts the frame around a payload.
#[must_use]
pub fn frame(payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(PAYLOAD_AT + payload.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend([0; 4]);
    bytes.extend((payload.len() as u64).to_le_bytes());
    bytes.extend(Sha256::digest(payload));
    bytes.extend(payload);
    bytes
}

/// Makes the checksum that of the payload again, for tests that get behind it.
pub(crate) fn repair(object: &mut [u8]) {
    let Some(at) = object.windows(MAGIC.len()).position(|window| window == MAGIC) else { return };
    let Some(section) = object.get_mut(at..) else { return };
    let length =
        section.get(LENGTH_AT..).and_then(|rest| rest.first_chunk().copied()).map(u64::from_le_bytes);
    let end = length.and_then(|length| usize::try_from(length).ok()?.checked_add(PAYLOAD_AT));
    let Some(checksum) = end.and_then(|end| section.get(PAYLOAD_AT..end)).map(Sha256::digest) else { return };
    if let Some(place) = section.get_mut(CHECKSUM_AT..PAYLOAD_AT) {
        place.copy_from_slice(&checksum);
    }
}

/// The payload of an object's metadata section, checked.
///
/// # Errors
/// Refuses a file that is not an object (`E0701`), an object without the section (`E0703`), a frame that is
/// damaged (`E0704`) and a version that this reader does not know (`E0705`). `file` is how the user named the
/// object.
pub fn read_metadata(object: &[u8], file: &str) -> Outcome<Vec<u8>> {
    let section = read::section(object, file, METADATA_SECTION)?.ok_or_else(|| {
        refuse(
            &codes::NO_METADATA,
            file,
            format!("the object has no `{METADATA_SECTION}` section"),
            "compile the model again with `nnbpfc MODEL SPEC -o OBJ`, and do not strip the object",
        )
    })?;
    unframe(&section, file)
}

fn unframe(section: &[u8], file: &str) -> Outcome<Vec<u8>> {
    let damaged = |reason: &str| {
        refuse(
            &codes::DAMAGED_METADATA,
            file,
            format!("the metadata is damaged: {reason}"),
            "compile the model again; the file was cut or changed after it was written",
        )
    };
    if section.get(..MAGIC.len()) != Some(&MAGIC[..]) {
        return Err(damaged("it does not start with the magic number"));
    }
    let version = section
        .get(MAGIC.len()..)
        .and_then(|rest| rest.first_chunk().copied())
        .map(u32::from_le_bytes)
        .ok_or_else(|| damaged("the header is cut"))?;
    if version != VERSION {
        return Err(refuse(
            &codes::UNKNOWN_METADATA_VERSION,
            file,
            format!("the metadata has version {version}, this tool reads version {VERSION}"),
            "use the `nnbpfc` and `nnbpf` of the release that compiled the object",
        ));
    }
    let length = section
        .get(LENGTH_AT..)
        .and_then(|rest| rest.first_chunk().copied())
        .map(u64::from_le_bytes)
        .ok_or_else(|| damaged("the header is cut"))?;
    let checksum = section.get(CHECKSUM_AT..PAYLOAD_AT).ok_or_else(|| damaged("the header is cut"))?;
    let payload = section.get(PAYLOAD_AT..).unwrap_or(&[]);
    if payload.len() as u64 != length {
        return Err(damaged("its length does not match the header"));
    }
    if Sha256::digest(payload).as_slice() != checksum {
        return Err(damaged("its checksum does not match"));
    }
    Ok(payload.to_vec())
}

/// The hashes by which a loader knows whether parameters fit an object. The payload is a JSON object, and
/// these are members of it, as hexadecimal text; the other members are no concern of the loader.
#[derive(Debug, Clone, PartialEq, Eq, Default, serde::Deserialize)]
#[serde(default)]
pub struct Identity {
    /// SHA-256 of the parameter layout.
    pub layout_hash: Option<String>,
    /// SHA-256 of the ONNX file.
    pub model_hash: Option<String>,
}

/// The hashes in a payload; none where the payload has none.
#[must_use]
pub fn identity(payload: &[u8]) -> Identity {
    serde_json::from_slice(payload).unwrap_or_default()
}
