//! Looks into an object: programs, maps, data sections and sizes, for `inspect` and the loader.
//!
//! [`module()`] decodes all of it, for `verify`. Input is untrusted: every offset is checked and nothing here panics.
//! `types` reads the BTF records that maps, data and functions need, `lines` the line info.

mod lines;
mod maps;
mod module;
mod types;

use object::{Object, ObjectSection, ObjectSymbol, SectionKind, SymbolKind};

use super::{MAPS_SECTION, TEXT_SECTION};
use crate::bpf::module::MapKind;
use crate::diag::codes::object as codes;
use crate::diag::{Code, Diagnostic, Origin, Outcome};

pub use maps::hide_program_arrays;
pub use module::module;

/// What an object holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    pub license: String,
    /// Entry points and tail-call stages, in file order.
    pub programs: Vec<FunctionEntry>,
    /// Subprograms.
    pub functions: Vec<FunctionEntry>,
    pub maps: Vec<MapEntry>,
    pub data: Vec<DataEntry>,
    /// Every named section with its size in bytes, in file order.
    pub sections: Vec<(String, u64)>,
}

/// A program or subprogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionEntry {
    pub name: String,
    pub section: String,
    /// Slots of 8 bytes; a wide instruction counts twice, as the verifier counts it.
    pub slots: u64,
}

/// A map definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MapEntry {
    pub name: String,
    /// `enum bpf_map_type` of the kernel.
    pub kernel_type: u32,
    /// The kind, when it is one that the compiler emits.
    pub kind: Option<MapKind>,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    /// Initial content of a program array: slot and program.
    pub programs: Vec<(u32, String)>,
}

/// A data section.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    pub section: String,
    pub size: u64,
    pub writable: bool,
}

/// Lists the content of an object. `file` is how the user named it.
///
/// # Errors
/// `E0701` when the bytes are no ELF object of the BPF machine, `E0702` when its parts contradict each other.
pub fn read(bytes: &[u8], file: &str) -> Outcome<Inventory> {
    let object = open(bytes, file)?;
    let mut inventory = Inventory {
        license: String::new(),
        programs: Vec::new(),
        functions: Vec::new(),
        maps: Vec::new(),
        data: Vec::new(),
        sections: Vec::new(),
    };
    for section in object.sections() {
        let name = section.name().map_err(|error| malformed(file, &error.to_string()))?;
        if name.is_empty() {
            continue;
        }
        inventory.sections.push((name.to_owned(), section.size()));
        let kind = section.kind();
        if kind == SectionKind::Text {
            let functions = functions_in(&object, &section, name);
            if name == TEXT_SECTION {
                inventory.functions.extend(functions);
            } else {
                inventory.programs.extend(functions);
            }
        } else if is_data(name) {
            let read_only = [SectionKind::ReadOnlyData, SectionKind::ReadOnlyString];
            inventory.data.push(DataEntry {
                section: name.to_owned(),
                size: section.size(),
                writable: !read_only.contains(&kind),
            });
        } else if name == "license" {
            let data = section.data().map_err(|error| malformed(file, &error.to_string()))?;
            let text = data.split(|byte| *byte == 0).next().unwrap_or(&[]);
            inventory.license = String::from_utf8_lossy(text).into_owned();
        } else if name == MAPS_SECTION {
            inventory.maps = maps::definitions(&object).map_err(|reason| malformed(file, &reason))?;
        }
    }
    Ok(inventory)
}

/// The content of a section, when the object has it.
///
/// # Errors
/// As [`read`].
pub fn section(bytes: &[u8], file: &str, name: &str) -> Outcome<Option<Vec<u8>>> {
    let object = open(bytes, file)?;
    let Some(section) = object.section_by_name(name) else { return Ok(None) };
    let data = section.data().map_err(|error| malformed(file, &error.to_string()))?;
    Ok(Some(data.to_vec()))
}

/// A refusal of a whole object or parameter file.
pub(crate) fn refuse(
    code: &'static Code,
    file: &str,
    message: impl Into<String>,
    help: impl Into<String>,
) -> Vec<Diagnostic> {
    vec![Diagnostic::new(code, Origin::File { file: file.to_owned() }, message, help)]
}

fn malformed(file: &str, reason: &str) -> Vec<Diagnostic> {
    refuse(
        &codes::MALFORMED,
        file,
        format!("the object is malformed: {reason}"),
        "compile the model again with `nnbpfc MODEL SPEC -o OBJ`",
    )
}

fn open<'data>(bytes: &'data [u8], file: &str) -> Outcome<object::File<'data>> {
    let no_object = |reason: String| {
        refuse(&codes::NOT_AN_OBJECT, file, reason, "name an object that `nnbpfc MODEL SPEC -o OBJ` wrote")
    };
    let object = object::File::parse(bytes)
        .map_err(|error| no_object(format!("this is not an ELF object: {error}")))?;
    if object.format() != object::BinaryFormat::Elf
        || object.architecture() != object::Architecture::Bpf
        || !object.is_little_endian()
    {
        return Err(no_object("this is not a little-endian ELF object for the BPF machine".to_owned()));
    }
    Ok(object)
}

fn functions_in<'data>(
    object: &object::File<'data>,
    section: &object::Section<'data, '_>,
    name: &str,
) -> Vec<FunctionEntry> {
    let mut functions: Vec<(u64, FunctionEntry)> = object
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.section_index() == Some(section.index()))
        .map(|symbol| {
            let entry = FunctionEntry {
                name: symbol.name().unwrap_or("").to_owned(),
                section: name.to_owned(),
                slots: symbol.size() / 8,
            };
            (symbol.address(), entry)
        })
        .collect();
    functions.sort_by_key(|(address, _)| *address);
    functions.into_iter().map(|(_, entry)| entry).collect()
}

fn is_data(name: &str) -> bool {
    [".data", ".rodata", ".bss"]
        .iter()
        .any(|prefix| name.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')))
}
