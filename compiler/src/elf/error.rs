//! What can be wrong with a module that is to be written. User mistakes never get this far.

use crate::bpf::assemble::AssembleError;

/// A module that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ElfError {
    #[error("`{name}` is no identifier that BTF accepts")]
    InvalidName { name: String },
    #[error("`{name}` is defined twice")]
    Duplicate { name: String },
    #[error("`{function}` refers to {what} `{name}`, which the module does not define")]
    Undefined { function: String, what: &'static str, name: String },
    #[error("`{section}` is not a section that loaders accept for {what}")]
    Section { section: String, what: &'static str },
    #[error("`{section}` holds {bytes} bytes, its type {expected}")]
    DataSize { section: String, bytes: usize, expected: u32 },
    #[error("`{function}` holds no instruction")]
    Empty { function: String },
    #[error("line table of `{function}` does not match its code")]
    Lines { function: String },
    #[error("a type is malformed: {reason}")]
    Type { reason: String },
    #[error("{what} exceeds the 32 bits that the format has for it")]
    TooLarge { what: &'static str },
    #[error("a function does not assemble")]
    Assemble(#[from] AssembleError),
    #[error("the ELF container refuses the object")]
    Container(#[source] object::write::Error),
}

/// A length as the 32-bit number that BTF and ELF store.
pub(super) fn narrow(length: usize, what: &'static str) -> Result<u32, ElfError> {
    u32::try_from(length).map_err(|_| ElfError::TooLarge { what })
}
