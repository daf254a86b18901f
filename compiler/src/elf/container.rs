//! Sections, symbols and relocations, written with the `object` crate.

use std::collections::BTreeMap;

use object::write::{Object, Relocation, SectionId, Symbol, SymbolId, SymbolSection};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind,
    SymbolScope, elf,
};

use super::btf::{self, Types};
use super::error::ElfError;
use super::layout::{CodeSection, DataSection, data_section, function_at};
use super::{LICENSE, MAPS_SECTION, METADATA_SECTION, btf_ext, metadata};
use crate::bpf::assemble::{Assembled, RelocationTarget};
use crate::bpf::module::Module;

/// Code and data are aligned to a word of the machine.
const ALIGNMENT: u64 = 8;

/// `R_BPF_64_ABS64`: an address in data, here a program in the initial content of a program array.
const R_BPF_64_ABS64: elf::RelocationType = elf::RelocationType(2);

/// Writes the file. Strings of line info are added to the types here, because they come last.
pub(super) fn emit(
    module: &Module,
    code: &[Assembled],
    layout: &[CodeSection],
    mut types: Types,
) -> Result<Vec<u8>, ElfError> {
    let mut file = Object::new(BinaryFormat::Elf, Architecture::Bpf, Endianness::Little);
    let mut license = LICENSE.as_bytes().to_vec();
    license.push(0);
    plain_section(&mut file, "license", SectionKind::Data, license, 1);

    let mut symbols = BTreeMap::new();
    let sections = add_code(&mut file, module, code, layout, &mut symbols);
    add_data(&mut file, module, &mut symbols)?;
    let maps = add_maps(&mut file, module, &mut symbols)?;
    relocate_code(&mut file, module, code, layout, &sections, &symbols)?;
    relocate_maps(&mut file, module, maps, &symbols)?;

    let ext = btf_ext::describe(module, code, layout, &mut types)?;
    plain_section(&mut file, ".BTF", SectionKind::Other, types.btf.to_bytes()?, ALIGNMENT);
    plain_section(&mut file, ".BTF.ext", SectionKind::Other, ext, ALIGNMENT);
    if !module.metadata.is_empty() {
        let framed = metadata::frame(&module.metadata);
        plain_section(&mut file, METADATA_SECTION, SectionKind::Other, framed, ALIGNMENT);
    }
    file.write().map_err(ElfError::Container)
}

fn plain_section(
    file: &mut Object<'_>,
    name: &str,
    kind: SectionKind,
    bytes: Vec<u8>,
    alignment: u64,
) -> SectionId {
    let id = file.add_section(Vec::new(), name.as_bytes().to_vec(), kind);
    file.set_section_data(id, bytes, alignment);
    id
}

/// Symbols are global and have a size; loaders pass over functions without one.
fn add_symbol(
    file: &mut Object<'_>,
    name: &str,
    kind: SymbolKind,
    section: SectionId,
    (value, size): (u64, u64),
) -> SymbolId {
    file.add_symbol(Symbol {
        name: name.as_bytes().to_vec(),
        value,
        size,
        kind,
        scope: SymbolScope::Dynamic,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    })
}

fn add_code(
    file: &mut Object<'_>,
    module: &Module,
    code: &[Assembled],
    layout: &[CodeSection],
    symbols: &mut BTreeMap<String, SymbolId>,
) -> Vec<SectionId> {
    let mut ids = Vec::with_capacity(layout.len());
    for section in layout {
        let placed = section.functions.iter();
        let bytes = placed.filter_map(|placed| code.get(placed.index));
        let bytes: Vec<u8> = bytes.flat_map(|code| code.bytes.iter().copied()).collect();
        let id = plain_section(file, &section.name, SectionKind::Text, bytes, ALIGNMENT);
        for placed in &section.functions {
            if let Some(function) = function_at(module, placed.index) {
                let range = (placed.offset, placed.size);
                let symbol = add_symbol(file, &function.name, SymbolKind::Text, id, range);
                symbols.insert(function.name.clone(), symbol);
            }
        }
        ids.push(id);
    }
    ids
}

/// Data sections. Their symbols are entered under the section's name, by which code refers to them.
fn add_data(
    file: &mut Object<'_>,
    module: &Module,
    symbols: &mut BTreeMap<String, SymbolId>,
) -> Result<(), ElfError> {
    for data in &module.data {
        let kind = match data_section(data)? {
            DataSection::ReadOnly => SectionKind::ReadOnlyData,
            DataSection::Writable => SectionKind::Data,
            DataSection::Zero => SectionKind::UninitializedData,
        };
        let id = file.add_section(Vec::new(), data.section.as_bytes().to_vec(), kind);
        let size = data.bytes.len() as u64;
        if kind == SectionKind::UninitializedData {
            file.append_section_bss(id, size, ALIGNMENT);
        } else {
            file.set_section_data(id, data.bytes.clone(), ALIGNMENT);
        }
        let symbol = add_symbol(file, &data.variable, SymbolKind::Data, id, (0, size));
        symbols.insert(data.section.clone(), symbol);
    }
    Ok(())
}

fn add_maps(
    file: &mut Object<'_>,
    module: &Module,
    symbols: &mut BTreeMap<String, SymbolId>,
) -> Result<Option<SectionId>, ElfError> {
    if module.maps.is_empty() {
        return Ok(None);
    }
    let id = file.add_section(Vec::new(), MAPS_SECTION.as_bytes().to_vec(), SectionKind::Data);
    let mut offset: u64 = 0;
    for map in &module.maps {
        let size = u64::from(btf::definition_size(map));
        let symbol = add_symbol(file, &map.name, SymbolKind::Data, id, (offset, size));
        symbols.insert(map.name.clone(), symbol);
        offset += size;
    }
    let size = usize::try_from(offset).map_err(|_| ElfError::TooLarge { what: "`.maps`" })?;
    file.set_section_data(id, vec![0; size], ALIGNMENT);
    Ok(Some(id))
}

fn relocate_code(
    file: &mut Object<'_>,
    module: &Module,
    code: &[Assembled],
    layout: &[CodeSection],
    sections: &[SectionId],
    symbols: &BTreeMap<String, SymbolId>,
) -> Result<(), ElfError> {
    for (section, id) in layout.iter().zip(sections) {
        for placed in &section.functions {
            let relocations = code.get(placed.index).map_or(&[][..], |code| &code.relocations);
            for relocation in relocations {
                let (name, what, r_type) = match &relocation.target {
                    RelocationTarget::Map { map: name } => (name, "map", elf::R_BPF_64_64),
                    RelocationTarget::MapValue { map: name, offset: _ } => {
                        (name, "data section", elf::R_BPF_64_64)
                    }
                    RelocationTarget::Function { function: name } => (name, "function", elf::R_BPF_64_32),
                };
                let symbol = *symbols.get(name).ok_or_else(|| ElfError::Undefined {
                    function: function_at(module, placed.index)
                        .map_or_else(String::new, |function| function.name.clone()),
                    what,
                    name: name.clone(),
                })?;
                let offset = placed.offset + relocation.at.byte_offset().0;
                relocate(file, *id, offset, symbol, r_type)?;
            }
        }
    }
    Ok(())
}

fn relocate_maps(
    file: &mut Object<'_>,
    module: &Module,
    section: Option<SectionId>,
    symbols: &BTreeMap<String, SymbolId>,
) -> Result<(), ElfError> {
    let Some(section) = section else { return Ok(()) };
    let mut start: u64 = 0;
    for map in &module.maps {
        for (slot, program) in &map.programs {
            let symbol = *symbols.get(program).ok_or_else(|| ElfError::Undefined {
                function: map.name.clone(),
                what: "program",
                name: program.clone(),
            })?;
            let offset = start + u64::from(btf::values_offset(map)) + u64::from(*slot) * 8;
            relocate(file, section, offset, symbol, R_BPF_64_ABS64)?;
        }
        start += u64::from(btf::definition_size(map));
    }
    Ok(())
}

fn relocate(
    file: &mut Object<'_>,
    section: SectionId,
    offset: u64,
    symbol: SymbolId,
    r_type: elf::RelocationType,
) -> Result<(), ElfError> {
    let flags = RelocationFlags::Elf { r_type };
    file.add_relocation(section, Relocation { offset, symbol, addend: 0, flags }).map_err(ElfError::Container)
}
