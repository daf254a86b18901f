//! The ELF object: sections, symbols, relocations, BTF and metadata. The only module that knows ELF bytes.
//!
//! [`write()`] turns a [`Module`] into a relocatable file that bpftool, libbpf and aya load; [`read`] and
//! [`metadata`] look into such a file again. Instruction bytes come from [`crate::bpf`] and are placed here
//! as they are. `docs/object-format.md` describes the result.

mod btf;
mod btf_ext;
mod code;
mod container;
mod error;
mod layout;
pub mod metadata;
pub mod read;

#[cfg(test)]
mod tests;

pub use error::ElfError;

use crate::bpf::module::Module;

/// The licence that the program declares. The kernel's list of GPL-compatible strings has it, and the
/// helpers that generated code calls require one of that list.
pub const LICENSE: &str = "Dual MIT/GPL";

/// Section of the metadata. No loader knows the name, so all of them pass over it.
pub const METADATA_SECTION: &str = ".nnbpf";

/// Section of the map definitions.
pub(crate) const MAPS_SECTION: &str = ".maps";

/// Section of the subprograms.
pub(crate) const TEXT_SECTION: &str = ".text";

/// Writes the object. The bytes depend on the module only.
///
/// # Errors
/// Returns an [`ElfError`] when the module names something that it does not define, defines a name twice or
/// exceeds a limit of the formats. All of these are mistakes of lowering, never of the user's input.
pub fn write(module: &Module) -> Result<Vec<u8>, ElfError> {
    let code = code::assemble_all(module)?;
    let layout = layout::place(module, &code)?;
    let types = btf::describe(module, &layout)?;
    container::emit(module, &code, &layout, types)
}
