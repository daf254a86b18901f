//! What is written can be read back; what is damaged is refused with a code and never panics.

use super::{ElfError, METADATA_SECTION, metadata, read, write};
use crate::bpf::asm::{call_function, exit, ld_map, ld_map_value, mov};
use crate::bpf::module::{Data, Function, Line, Map, MapKind, Module, Parameter, Type};
use crate::bpf::{Insn, Reg};
use crate::withstand::object;

fn function(name: &str, section: &str, code: Vec<Insn<Reg>>) -> Function {
    let line = Line { file: "ids.spec".to_owned(), line: 3, column: 1, text: name.to_owned() };
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        line_of: vec![0; code.len()],
        lines: vec![line],
        code,
        parameters: vec![Parameter::Context],
    }
}

fn module() -> Module {
    let map = |name: &str, kind| Map {
        name: name.to_owned(),
        kind,
        key: Some(Type::Unsigned(4)),
        value: Some(Type::Array(Box::new(Type::Signed(8)), 3)),
        max_entries: 5,
        flags: 0,
        programs: Vec::new(),
    };
    let chain = |name: &str, programs: &[(u32, &str)]| Map {
        key: None,
        value: None,
        programs: programs.iter().map(|(slot, name)| (*slot, (*name).to_owned())).collect(),
        ..map(name, MapKind::ProgArray)
    };
    let entry = vec![
        ld_map(Reg::R2, "nn_rows"),
        ld_map_value(Reg::R2, ".data.nn_params", 4),
        call_function("nn_infer"),
        exit(),
    ];
    let leaf = || vec![mov(Reg::R0, 0), exit()];
    Module {
        programs: vec![function("nn_entry", "xdp", entry), function("nn_layer0", "xdp", leaf())],
        functions: vec![function("nn_infer", ".text", leaf())],
        maps: vec![
            map("nn_rows", MapKind::Array),
            chain("nn_progs", &[(1, "nn_layer0")]),
            chain("nn_more", &[(0, "nn_entry"), (2, "nn_layer0")]),
        ],
        data: vec![Data {
            section: ".data.nn_params".to_owned(),
            variable: "nn_params".to_owned(),
            ty: Type::Array(Box::new(Type::Unsigned(4)), 2),
            bytes: vec![1; 8],
            writable: true,
        }],
        metadata: b"payload".to_vec(),
    }
}

fn code_of<T: std::fmt::Debug>(outcome: crate::diag::Outcome<T>) -> &'static str {
    outcome.unwrap_err()[0].code.id
}

#[test]
fn what_is_written_is_read_back() {
    let bytes = write(&module()).unwrap();
    assert_eq!(bytes, write(&module()).unwrap());
    let inventory = read::read(&bytes, "ids.o").unwrap();
    assert_eq!(inventory.license, "Dual MIT/GPL");
    let names = |functions: &[read::FunctionEntry]| {
        functions.iter().map(|entry| (entry.name.clone(), entry.slots)).collect::<Vec<_>>()
    };
    let programs = [("nn_entry".to_owned(), 6), ("nn_layer0".to_owned(), 2)];
    assert_eq!(names(&inventory.programs), programs);
    assert_eq!(names(&inventory.functions), [("nn_infer".to_owned(), 2)]);
    let rows = &inventory.maps[0];
    assert_eq!((rows.kind, rows.key_size, rows.value_size), (Some(MapKind::Array), 4, 24));
    assert_eq!(rows.max_entries, 5);
    assert_eq!(inventory.maps[1].programs, [(1, "nn_layer0".to_owned())]);
    let more = [(0, "nn_entry".to_owned()), (2, "nn_layer0".to_owned())];
    assert_eq!(inventory.maps[2].programs, more);
    assert_eq!(inventory.data[0].section, ".data.nn_params");
    assert_eq!((inventory.data[0].size, inventory.data[0].writable), (8, true));
    assert_eq!(metadata::read_metadata(&bytes, "ids.o").unwrap(), b"payload");
}

#[test]
fn hiding_program_arrays_leaves_everything_else() {
    let mut bytes = write(&module()).unwrap();
    let before = bytes.clone();
    read::hide_program_arrays(&mut bytes, "ids.o").unwrap();
    let changed = before.iter().zip(&bytes).filter(|(before, after)| before != after).count();
    // One byte of the name `values` in each of the two definitions.
    assert_eq!(changed, 2);
    assert!(read::read(&bytes, "ids.o").unwrap().maps[1].programs.is_empty());
}

#[test]
fn no_object_e0701() {
    assert_eq!(code_of(read::read(b"", "ids.o")), "E0701");
    assert_eq!(code_of(read::read(b"\x7fELF and more", "ids.o")), "E0701");
    let mut other = write(&module()).unwrap();
    // e_machine: x86-64 instead of BPF.
    other[18] = 62;
    assert_eq!(code_of(read::read(&other, "ids.o")), "E0701");
}

#[test]
fn types_that_are_cut_e0702() {
    let mut bytes = write(&module()).unwrap();
    let btf = bytes.windows(4).position(|window| window == [0x9f, 0xeb, 1, 0]).unwrap();
    // The length of the type table.
    bytes[btf + 12..btf + 16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(code_of(read::read(&bytes, "ids.o")), "E0702");
}

#[test]
fn metadata_missing_e0703() {
    let bytes = write(&Module { metadata: Vec::new(), ..module() }).unwrap();
    assert_eq!(code_of(metadata::read_metadata(&bytes, "ids.o")), "E0703");
}

#[test]
fn metadata_damaged_e0704_or_unknown_e0705() {
    let bytes = write(&module()).unwrap();
    let at = bytes.windows(8).position(|window| window == metadata::MAGIC).unwrap();
    let with = |offset: usize| {
        let mut bytes = bytes.clone();
        bytes[at + offset] ^= 0x40;
        code_of(metadata::read_metadata(&bytes, "ids.o"))
    };
    assert_eq!(with(0), "E0704");
    assert_eq!(with(8), "E0705");
    assert_eq!(with(16), "E0704");
    assert_eq!(with(24), "E0704");
    assert_eq!(with(56), "E0704");
}

#[test]
fn damaged_objects_never_panic() {
    let bytes = write(&module()).unwrap();
    for length in 0..bytes.len() {
        object(&bytes[..length]);
    }
    for at in 0..bytes.len() {
        for flip in [0x01, 0x80, 0xff] {
            let mut bytes = bytes.clone();
            bytes[at] ^= flip;
            object(&bytes);
        }
    }
}

#[test]
fn modules_that_contradict_themselves_are_refused() {
    let refused = |change: fn(&mut Module)| {
        let mut module = module();
        change(&mut module);
        write(&module).unwrap_err()
    };
    let error = refused(|module| module.functions.clear());
    assert!(matches!(error, ElfError::Undefined { what: "function", .. }), "{error}");
    let error = refused(|module| module.data.clear());
    assert!(matches!(error, ElfError::Undefined { what: "data section", .. }), "{error}");
    let error = refused(|module| module.programs[0].section = "tc".to_owned());
    assert!(matches!(error, ElfError::Section { .. }), "{error}");
    let error = refused(|module| module.programs[1].name = "nn_infer".to_owned());
    assert!(matches!(error, ElfError::Duplicate { .. }), "{error}");
    let error = refused(|module| module.maps[0].name = "nn rows".to_owned());
    assert!(matches!(error, ElfError::InvalidName { .. }), "{error}");
    let error = refused(|module| module.data[0].bytes.push(0));
    assert!(matches!(error, ElfError::DataSize { .. }), "{error}");
    let error = refused(|module| module.maps[1].programs[0].0 = 5);
    assert!(matches!(error, ElfError::TooLarge { .. }), "{error}");
}

#[test]
fn the_metadata_section_is_not_loaded() {
    use object::{Object, ObjectSection};
    let bytes = write(&module()).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let section = file.section_by_name(METADATA_SECTION).unwrap();
    assert_eq!(
        section.flags(),
        object::SectionFlags::Elf {
            sh_type: object::elf::SHT_PROGBITS,
            sh_flags: object::elf::SectionFlags(0),
        }
    );
}
