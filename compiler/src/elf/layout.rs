//! Where every function lies, and the rules that names and sections of a module obey.

use std::collections::BTreeSet;

use super::TEXT_SECTION;
use super::error::ElfError;
use crate::bpf::assemble::{Assembled, RelocationTarget};
use crate::bpf::module::{Data, Function, Module};

/// Sections that hold programs and load everywhere under exactly these names.
const PROGRAM_SECTIONS: [&str; 3] = ["xdp", "xdp.frags", "classifier"];

/// Largest program array that gets initial content; a chain has at most 33 tail calls.
const MAX_PROGRAM_SLOTS: u32 = 64;

/// A section of code.
pub(super) struct CodeSection {
    pub(super) name: String,
    pub(super) functions: Vec<Placed>,
}

/// A function inside its section.
pub(super) struct Placed {
    /// Index into the programs followed by the subprograms.
    pub(super) index: usize,
    /// Bytes from the start of the section.
    pub(super) offset: u64,
    pub(super) size: u64,
}

/// How loaders treat a data section, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum DataSection {
    ReadOnly,
    Writable,
    Zero,
}

/// Checks the module's names and places its functions one after the other.
pub(super) fn place(module: &Module, code: &[Assembled]) -> Result<Vec<CodeSection>, ElfError> {
    check_names(module)?;
    let mut sections: Vec<CodeSection> = Vec::new();
    let functions = module.programs.iter().chain(&module.functions);
    for (index, (function, assembled)) in functions.zip(code).enumerate() {
        check_section(function, index < module.programs.len())?;
        check_references(module, function, assembled)?;
        let size = assembled.bytes.len() as u64;
        if size == 0 {
            return Err(ElfError::Empty { function: function.name.clone() });
        }
        let position = sections.iter().position(|section| section.name == function.section);
        match position.and_then(|at| sections.get_mut(at)) {
            Some(section) => {
                let offset = section.functions.last().map_or(0, |last| last.offset + last.size);
                section.functions.push(Placed { index, offset, size });
            }
            None => sections.push(CodeSection {
                name: function.section.clone(),
                functions: vec![Placed { index, offset: 0, size }],
            }),
        }
    }
    Ok(sections)
}

/// The function that a [`Placed`] stands for.
pub(super) fn function_at(module: &Module, index: usize) -> Option<&Function> {
    module.programs.iter().chain(&module.functions).nth(index)
}

/// The kind of a data section.
pub(super) fn data_section(data: &Data) -> Result<DataSection, ElfError> {
    let is = |prefix: &str| {
        data.section.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    let kind = if is(".rodata") {
        DataSection::ReadOnly
    } else if is(".bss") {
        DataSection::Zero
    } else if is(".data") {
        DataSection::Writable
    } else {
        return Err(ElfError::Section { section: data.section.clone(), what: "data" });
    };
    let writable = kind != DataSection::ReadOnly;
    let zero_filled = kind != DataSection::Zero || data.bytes.iter().all(|byte| *byte == 0);
    if writable != data.writable || !zero_filled {
        return Err(ElfError::Section { section: data.section.clone(), what: "this data" });
    }
    Ok(kind)
}

/// Whether the kernel takes the name as a BTF identifier.
pub(super) fn check_identifier(name: &str) -> Result<(), ElfError> {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if first && bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(())
    } else {
        Err(ElfError::InvalidName { name: name.to_owned() })
    }
}

fn check_names(module: &Module) -> Result<(), ElfError> {
    let functions = module.programs.iter().chain(&module.functions).map(|function| &function.name);
    let maps = module.maps.iter().map(|map| &map.name);
    let variables = module.data.iter().map(|data| &data.variable);
    let mut seen = BTreeSet::new();
    for name in functions.chain(maps).chain(variables) {
        check_identifier(name)?;
        if !seen.insert(name) {
            return Err(ElfError::Duplicate { name: name.clone() });
        }
    }
    let mut sections = BTreeSet::new();
    for data in &module.data {
        data_section(data)?;
        if data.section.contains('\0') {
            return Err(ElfError::Section { section: data.section.clone(), what: "data" });
        }
        if !sections.insert(&data.section) {
            return Err(ElfError::Duplicate { name: data.section.clone() });
        }
        if data.bytes.len() as u64 != u64::from(data.ty.size()) || data.bytes.is_empty() {
            return Err(ElfError::DataSize {
                section: data.section.clone(),
                bytes: data.bytes.len(),
                expected: data.ty.size(),
            });
        }
    }
    for map in &module.maps {
        for (slot, program) in &map.programs {
            if *slot >= map.max_entries.min(MAX_PROGRAM_SLOTS) {
                return Err(ElfError::TooLarge { what: "the slot of a program" });
            }
            if !module.programs.iter().any(|function| function.name == *program) {
                return Err(ElfError::Undefined {
                    function: map.name.clone(),
                    what: "program",
                    name: program.clone(),
                });
            }
        }
    }
    Ok(())
}

fn check_section(function: &Function, program: bool) -> Result<(), ElfError> {
    let section = function.section.as_str();
    let fits = if program { PROGRAM_SECTIONS.contains(&section) } else { section == TEXT_SECTION };
    if fits {
        return Ok(());
    }
    let what = if program { "programs" } else { "subprograms" };
    Err(ElfError::Section { section: section.to_owned(), what })
}

fn check_references(module: &Module, function: &Function, code: &Assembled) -> Result<(), ElfError> {
    for relocation in &code.relocations {
        let (what, name, defined) = match &relocation.target {
            RelocationTarget::Map { map: name } => {
                ("map", name, module.maps.iter().any(|map| map.name == *name))
            }
            // Loaders resolve pointers into values for data sections only.
            RelocationTarget::MapValue { map: name, offset: _ } => {
                ("data section", name, module.data.iter().any(|data| data.section == *name))
            }
            RelocationTarget::Function { function: name } => {
                ("function", name, module.functions.iter().any(|callee| callee.name == *name))
            }
        };
        if !defined {
            return Err(ElfError::Undefined { function: function.name.clone(), what, name: name.clone() });
        }
    }
    Ok(())
}
