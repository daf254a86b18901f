//! The parameter file: new parameters for an object that is already loaded.
//!
//! All numbers are little endian.
//!
//! | bytes | content |
//! |---|---|
//! | 8 | magic `NNBPFPRM` |
//! | 4 | version, 1 |
//! | 4 | reserved, 0 |
//! | 32 | layout hash: SHA-256 of the plan ([`super::layout::Layout::hash`]) |
//! | 32 | model hash: SHA-256 of the ONNX file |
//! | 8 | common unit of the outputs, a binary64 ([`crate::ir::Decision::unit`]) |
//! | 8 | length of the slot |
//! | … | the slot |
//! | 32 | SHA-256 of everything before |
//!
//! What the slot holds is described in [`super::layout`]; whether it fits an object is the caller's question.

use sha2::{Digest, Sha256};

use super::layout::Layout;
use super::slot;
use crate::diag::codes::object::{PARAMS_CHECKSUM, PARAMS_FORMAT, PARAMS_VERSION};
use crate::diag::{Diagnostic, Origin};
use crate::ir::Network;

const MAGIC: &[u8; 8] = b"NNBPFPRM";
const VERSION: u32 = 1;
const HASH: usize = 32;

/// A parameter file's content.
#[derive(Debug, Clone, PartialEq)]
pub struct ParamsFile {
    pub layout_hash: [u8; 32],
    pub model_hash: [u8; 32],
    pub unit: f64,
    pub slot: Vec<u8>,
}

impl ParamsFile {
    /// The parameters of a network, of a model with this hash.
    #[must_use]
    pub fn of(network: &Network, model_hash: [u8; 32]) -> Self {
        Self {
            layout_hash: Layout::new(network).hash(),
            model_hash,
            unit: network.decision.unit,
            slot: slot::bytes(network),
        }
    }
}

/// The file's bytes.
#[must_use]
pub fn write(params: &ParamsFile) -> Vec<u8> {
    let mut out = Vec::with_capacity(params.slot.len() + 128);
    out.extend(MAGIC);
    out.extend(VERSION.to_le_bytes());
    out.extend(0u32.to_le_bytes());
    out.extend(params.layout_hash);
    out.extend(params.model_hash);
    out.extend(params.unit.to_le_bytes());
    out.extend((params.slot.len() as u64).to_le_bytes());
    out.extend(&params.slot);
    let checksum: [u8; HASH] = Sha256::digest(&out).into();
    out.extend(checksum);
    out
}

/// Reads a file that `name` stands for in messages.
///
/// # Errors
///
/// `E0721` for something that is no parameter file or is cut off, `E0722` for another version, `E0723` for a
/// checksum that does not match.
pub fn read(name: &str, bytes: &[u8]) -> Result<ParamsFile, Box<Diagnostic>> {
    let origin = Origin::File { file: name.to_owned() };
    let malformed = |what: &str| {
        let help = "give the file that `nnbpfc MODEL SPEC --like OBJ -o NEW.params` wrote";
        Box::new(Diagnostic::new(&PARAMS_FORMAT, origin.clone(), what, help))
    };
    let mut rest = bytes;
    if take::<8>(&mut rest).as_ref() != Some(MAGIC) {
        return Err(malformed("this is not a parameter file"));
    }
    let cut = || malformed("the parameter file is cut off");
    let version = u32::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
    if version != VERSION {
        return Err(Box::new(Diagnostic::new(
            &PARAMS_VERSION,
            origin,
            format!("the parameter file has version {version}, and this program reads version {VERSION}"),
            "compile the model again with the `nnbpfc` of the same release as this program",
        )));
    }
    if take::<4>(&mut rest).ok_or_else(cut)? != [0; 4] {
        return Err(malformed("the parameter file's reserved field is not zero"));
    }
    let layout_hash = take(&mut rest).ok_or_else(cut)?;
    let model_hash = take(&mut rest).ok_or_else(cut)?;
    let unit = f64::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
    let length = u64::from_le_bytes(take(&mut rest).ok_or_else(cut)?);
    let have = rest.len().checked_sub(HASH).ok_or_else(cut)?;
    match u64::try_from(have).unwrap_or(u64::MAX).cmp(&length) {
        std::cmp::Ordering::Less => return Err(cut()),
        std::cmp::Ordering::Greater => return Err(malformed("bytes follow the parameter file's end")),
        std::cmp::Ordering::Equal => {}
    }
    let (slot, checksum) = rest.split_at_checked(have).ok_or_else(cut)?;
    let covered = bytes.len().checked_sub(HASH).and_then(|end| bytes.get(..end)).ok_or_else(cut)?;
    let computed: [u8; HASH] = Sha256::digest(covered).into();
    if checksum != computed {
        return Err(Box::new(Diagnostic::new(
            &PARAMS_CHECKSUM,
            origin,
            "the parameter file's checksum does not match its content",
            "copy the file again, or write it anew with `nnbpfc MODEL SPEC --like OBJ -o NEW.params`",
        )));
    }
    if !(unit.is_finite() && unit > 0.0) {
        return Err(malformed("the unit of the outputs is not a positive number"));
    }
    Ok(ParamsFile { layout_hash, model_hash, unit, slot: slot.to_vec() })
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}
