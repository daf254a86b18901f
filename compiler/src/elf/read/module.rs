//! The whole module out of an object's bytes: what [`crate::elf::write()`] was given, as far as an object carries it.
//!
//! Labels are numbered by the slots that they stand before, and each record of line info is a line of its own;
//! everything else is as it was. Bytes that are not exactly those that the module is written as are refused: what
//! does not come back was added, moved or changed by someone else.

use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, SymbolKind, elf,
};

use super::lines::{self, Placed};
use super::maps;
use super::types::Types;
use super::{is_data, malformed, open, refuse};
use crate::bpf::assemble::{Relocation, RelocationTarget as Target};
use crate::bpf::decode::disassemble;
use crate::bpf::limits::SLOT_BYTES;
use crate::bpf::module::{Data, Function, Line, Module};
use crate::bpf::position::InstructionIndex;
use crate::bpf::{Insn, Reg};
use crate::diag::Outcome;
use crate::diag::codes::object as codes;
use crate::elf::metadata::read_metadata;
use crate::elf::{MAPS_SECTION, METADATA_SECTION, TEXT_SECTION, write};

/// Largest section without content in the file.
const MOST_ZEROS: u64 = 64 << 20;

/// Most functions of a section: `BPF_MAX_SUBPROGS` in `include/linux/bpf_verifier.h`.
const MOST_FUNCTIONS: usize = 256;

/// Decodes an object. `file` is how the user named it.
///
/// # Errors
/// `E0701` when the bytes are no ELF object of the BPF machine, `E0702` when its parts contradict each other or hold
/// something that no instruction, type or line is, `E0704` and `E0705` for metadata that cannot be read, `E0710` when
/// the writer would write other bytes for what was decoded.
pub fn module(bytes: &[u8], file: &str) -> Outcome<Module> {
    let object = open(bytes, file)?;
    let mut module = decode(&object).map_err(|reason| malformed(file, &reason))?;
    if object.section_by_name(METADATA_SECTION).is_some() {
        module.metadata = read_metadata(bytes, file)?;
    }
    let changed = |reason: &str| {
        refuse(
            &codes::NOT_AS_WRITTEN,
            file,
            format!("the object is not as the compiler writes it: {reason}"),
            "compile the model again; an object must not be changed after it was compiled",
        )
    };
    let written = write(&module).map_err(|error| changed(&error.to_string()))?;
    if written != bytes {
        let same = written.iter().zip(bytes).take_while(|(written, found)| written == found).count();
        return Err(changed(&format!("byte {same} of the file and what follows stand for nothing in it")));
    }
    Ok(module)
}

fn decode(object: &object::File<'_>) -> Result<Module, String> {
    let btf = object.section_by_name(".BTF").ok_or("there is no `.BTF`")?;
    let types = Types::parse(btf.data().map_err(|error| error.to_string())?)?;
    let ext = object.section_by_name(".BTF.ext").ok_or("there is no `.BTF.ext`")?;
    let mut lines = lines::lines(ext.data().map_err(|error| error.to_string())?, &types)?;
    let mut module = Module::default();
    for section in object.sections() {
        let name = section.name().map_err(|error| error.to_string())?;
        let kind = section.kind();
        if kind == SectionKind::Text {
            let lines = lines.remove(name).unwrap_or_default();
            let functions = functions(object, &section, name, &types, &lines)?;
            if name == TEXT_SECTION { &mut module.functions } else { &mut module.programs }.extend(functions);
        } else if is_data(name) {
            module.data.push(data(&section, name, &types)?);
        } else if name == MAPS_SECTION {
            module.maps = maps::modelled(object, &types)?;
        }
    }
    Ok(module)
}

fn data(section: &object::Section<'_, '_>, name: &str, types: &Types<'_>) -> Result<Data, String> {
    let (variable, ty) =
        types.variable_of(name).ok_or_else(|| format!("`{name}` has no variable with a type"))?;
    let bytes = if section.kind() == SectionKind::UninitializedData {
        let zeros = usize::try_from(section.size()).ok().filter(|_| section.size() <= MOST_ZEROS);
        vec![0; zeros.ok_or_else(|| format!("`{name}` is too large"))?]
    } else {
        section.data().map_err(|error| error.to_string())?.to_vec()
    };
    let writable = !name.starts_with(".rodata");
    Ok(Data { section: name.to_owned(), variable, ty, bytes, writable })
}

/// The functions of a section, which must fill it one after the other.
fn functions(
    object: &object::File<'_>,
    section: &object::Section<'_, '_>,
    name: &str,
    types: &Types<'_>,
    lines: &[Placed],
) -> Result<Vec<Function>, String> {
    let bytes = section.data().map_err(|error| error.to_string())?;
    let mut symbols: Vec<(u64, u64, String)> = Vec::new();
    for symbol in object.symbols() {
        if symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index()) {
            let text = symbol.name().map_err(|error| error.to_string())?;
            symbols.push((symbol.address(), symbol.size(), text.to_owned()));
        }
    }
    if symbols.len() > MOST_FUNCTIONS {
        return Err(format!("`{name}` has {} functions", symbols.len()));
    }
    symbols.sort();
    let mut lines = lines.iter().peekable();
    let mut relocations = Vec::new();
    for (at, relocation) in section.relocations() {
        relocations.push((at, target(object, bytes, at, &relocation)?));
    }
    relocations.sort_by_key(|(at, _)| *at);
    let mut relocations = relocations.into_iter().peekable();
    let mut functions = Vec::new();
    let mut end = 0;
    for (start, size, function) in symbols {
        if start != end || size == 0 {
            return Err(format!("`{function}` does not begin where the function before it ends"));
        }
        end = start.checked_add(size).ok_or("a function is larger than any file")?;
        let range = usize::try_from(start).ok().zip(usize::try_from(end).ok());
        let code = range.and_then(|(start, end)| bytes.get(start..end));
        let code = code.ok_or_else(|| format!("`{function}` is cut"))?;
        let mut own = Vec::new();
        while let Some((at, target)) = relocations.next_if(|(at, _)| *at < end) {
            let at =
                u32::try_from((at - start) / u64::from(SLOT_BYTES)).map_err(|error| error.to_string())?;
            own.push(Relocation { at: InstructionIndex(at), target });
        }
        let code = disassemble(code, &own).map_err(|error| format!("`{function}`: {error}"))?;
        let mut inside = Vec::new();
        while let Some(placed) = lines.next_if(|placed| u64::from(placed.offset) < end) {
            inside.push((
                u64::from(placed.offset).saturating_sub(start) / u64::from(SLOT_BYTES),
                placed.line.clone(),
            ));
        }
        let parameters =
            types.parameters(&function).ok_or_else(|| format!("`{function}` has no prototype"))?;
        functions.push(Function {
            name: function,
            section: name.to_owned(),
            line_of: line_of(&code, &inside),
            code,
            lines: inside.into_iter().map(|(_, line)| line).collect(),
            parameters,
        });
    }
    if end != bytes.len() as u64 {
        return Err(format!("`{name}` has code that belongs to no function"));
    }
    if relocations.next().is_some() {
        return Err(format!("`{name}` has a relocation outside of it"));
    }
    Ok(functions)
}

/// For every instruction the last line that begins at its slot or before.
fn line_of(code: &[Insn<Reg>], lines: &[(u64, Line)]) -> Vec<u32> {
    let mut slot = 0;
    let mut current = 0u32;
    let mut next = lines.iter().zip(0u32..).peekable();
    let mut of = Vec::with_capacity(code.len());
    for insn in code {
        while let Some((_, index)) = next.next_if(|((at, _), _)| *at <= slot) {
            current = index;
        }
        of.push(current);
        slot += match insn {
            Insn::Label(_) => 0,
            Insn::LoadImm64 { .. } => 2,
            Insn::Alu { .. }
            | Insn::Neg { .. }
            | Insn::ToBigEndian { .. }
            | Insn::Load { .. }
            | Insn::Store { .. }
            | Insn::Atomic { .. }
            | Insn::Goto { .. }
            | Insn::Jump { .. }
            | Insn::Call { .. }
            | Insn::CallFunction { .. }
            | Insn::Exit => 1,
        };
    }
    of
}

/// What a relocation of code refers to.
fn target(
    object: &object::File<'_>,
    code: &[u8],
    at: u64,
    relocation: &object::Relocation,
) -> Result<Target, String> {
    let wrong = || format!("the relocation at byte {at} is none of ours");
    let RelocationTarget::Symbol(index) = relocation.target() else { return Err(wrong()) };
    let symbol = object.symbol_by_index(index).map_err(|error| error.to_string())?;
    let name = symbol.name().map_err(|error| error.to_string())?.to_owned();
    let section = symbol.section_index().ok_or_else(wrong)?;
    let section = object.section_by_index(section).map_err(|error| error.to_string())?;
    let section_name = section.name().map_err(|error| error.to_string())?;
    let RelocationFlags::Elf { r_type } = relocation.flags() else { return Err(wrong()) };
    if r_type == elf::R_BPF_64_32 && section.kind() == SectionKind::Text {
        return Ok(Target::Function { function: name });
    }
    if r_type != elf::R_BPF_64_64 {
        return Err(wrong());
    }
    if section_name == MAPS_SECTION {
        return Ok(Target::Map { map: name });
    }
    if is_data(section_name) {
        // The immediate of the instruction holds the offset into the value.
        let immediate = usize::try_from(at).ok().and_then(|at| code.get(at.checked_add(4)?..));
        let offset = immediate.and_then(|rest| rest.first_chunk().copied()).map(u32::from_le_bytes);
        return Ok(Target::MapValue { map: section_name.to_owned(), offset: offset.ok_or_else(wrong)? });
    }
    Err(wrong())
}
