//! Data sections in BTF: one variable each, so that dumps name its fields.

use super::encode::Placement;
use super::types::CTypes;
use crate::bpf::module::Module;
use crate::elf::error::ElfError;

/// Emits a variable and a section per data section.
pub(super) fn declare(types: &mut CTypes, module: &Module) -> Result<(), ElfError> {
    for data in &module.data {
        let ty = types.of(&data.ty)?;
        let size = data.ty.size();
        let variable = types.btf.variable(&data.variable, ty)?;
        types.btf.section(&data.section, size, &[Placement { variable, offset: 0, size }])?;
    }
    Ok(())
}
