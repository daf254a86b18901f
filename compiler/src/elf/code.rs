//! Assembled functions of a module. Encoding itself is done by [`crate::bpf`].

use super::error::ElfError;
use crate::bpf::assemble::{AssembleError, Assembled, assemble};
use crate::bpf::module::Module;

/// Programs first, then subprograms: the order of [`Module`].
pub(super) fn assemble_all(module: &Module) -> Result<Vec<Assembled>, ElfError> {
    let functions = module.programs.iter().chain(&module.functions);
    Ok(functions.map(assemble).collect::<Result<_, AssembleError>>()?)
}
