//! Reads an object file and verifies it before the kernel sees it.

use std::io;
use std::path::{Path, PathBuf};

use nnbpf_compiler::diag::codes::object as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::elf::metadata::read_metadata;
use nnbpf_compiler::elf::read;
use nnbpf_compiler::metadata::Metadata;
use nnbpf_compiler::verify::{self, Extent};

use crate::bounded;

/// An object file that was read and checked.
#[derive(Debug, Clone)]
pub struct Opened {
    pub bytes: Vec<u8>,
    pub inventory: read::Inventory,
    /// Payload of the metadata section.
    pub payload: Vec<u8>,
    /// What it says.
    pub metadata: Metadata,
}

/// An object file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot read {}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("the object is refused")]
    Refused(Vec<Diagnostic>),
}

impl OpenError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        match self {
            Self::Io { path, source } => vec![Diagnostic::new(
                &codes::NOT_AN_OBJECT,
                Origin::File { file: path.display().to_string() },
                self.to_string(),
                bounded::help(source, "check the path; `nnbpfc MODEL SPEC -o OBJ` writes an object"),
            )],
            Self::Refused(diagnostics) => diagnostics.clone(),
        }
    }
}

/// Reads and checks an object file.
///
/// # Errors
/// A file that cannot be read, or in which something does not hold ([`verify::object`]).
pub fn open(path: &Path) -> Result<Opened, OpenError> {
    let bytes = bounded::read(path, bounded::OBJECT)
        .map_err(|source| OpenError::Io { path: path.to_owned(), source })?;
    check(bytes, &path.display().to_string()).map_err(OpenError::Refused)
}

fn check(bytes: Vec<u8>, file: &str) -> Outcome<Opened> {
    let metadata = verify::object(&bytes, file, Extent::Whole)?.metadata;
    let inventory = read::read(&bytes, file)?;
    let payload = read_metadata(&bytes, file)?;
    Ok(Opened { bytes, inventory, payload, metadata })
}
