//! Constructors of the modules that tests write by hand.

use nnbpf_compiler::bpf::module::{Function, Line, Map, MapKind, Member, Parameter, Struct, Type};
use nnbpf_compiler::bpf::{Insn, Reg};

pub(crate) fn u32_type() -> Type {
    Type::Unsigned(4)
}

pub(crate) fn structure(name: &str, members: &[(&str, u32, Type)]) -> Type {
    let size = members.iter().map(|(_, offset, ty)| offset + ty.size()).max().unwrap();
    let members = members.iter().map(|(name, offset, ty)| Member {
        name: (*name).to_owned(),
        offset: *offset,
        ty: ty.clone(),
    });
    Type::Struct(Struct { name: name.to_owned(), size, members: members.collect() })
}

pub(crate) fn map(name: &str, kind: MapKind, key: Option<Type>, value: Option<Type>, entries: u32) -> Map {
    let flags = if kind == MapKind::LpmTrie { 1 } else { 0 };
    let name = name.to_owned();
    Map { name, kind, key, value, max_entries: entries, flags, programs: Vec::new() }
}

/// Code with one line of text per instruction.
pub(crate) fn function(name: &str, section: &str, code: Vec<Insn<Reg>>) -> Function {
    let lines = (0..code.len()).map(|index| Line {
        file: "ids.spec".to_owned(),
        line: index as u32 + 1,
        column: 1,
        text: format!("{name} step {index}"),
    });
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        line_of: (0..code.len() as u32).collect(),
        lines: lines.collect(),
        code,
        parameters: vec![Parameter::Context],
    }
}
