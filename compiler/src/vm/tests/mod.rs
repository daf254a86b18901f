//! Tests of the virtual machine; the kernel is asked where it is permitted.

mod calls;
mod differential;
mod kernel;
mod maps;
mod memory;
mod semantics;

use crate::bpf::module::{self, Data, Function, Line, MapKind, Module, Type};
use crate::bpf::{Insn, Reg};

pub(super) const R0: Reg = Reg::R0;
pub(super) const R1: Reg = Reg::R1;
pub(super) const R2: Reg = Reg::R2;
pub(super) const R3: Reg = Reg::R3;
pub(super) const R4: Reg = Reg::R4;
pub(super) const R6: Reg = Reg::R6;
pub(super) const R7: Reg = Reg::R7;

/// A function with one line for all of its code.
pub(super) fn function(name: &str, section: &str, code: Vec<Insn<Reg>>) -> Function {
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line::default()],
        parameters: Vec::new(),
    }
}

/// A module with one XDP program called `main`.
pub(super) fn main(code: Vec<Insn<Reg>>) -> Module {
    Module { programs: vec![function("main", "xdp", code)], ..Module::default() }
}

/// A map whose keys and values are byte arrays (four-byte keys are integers, as arrays need).
pub(super) fn map(name: &str, kind: MapKind, key: u32, value: u32, max_entries: u32) -> module::Map {
    let bytes = |count: u32| match count {
        0 => None,
        4 => Some(Type::Unsigned(4)),
        count => Some(Type::Array(Box::new(Type::Unsigned(1)), count)),
    };
    module::Map {
        name: name.to_owned(),
        kind,
        key: bytes(key),
        value: bytes(value),
        max_entries,
        flags: 0,
        programs: Vec::new(),
    }
}

/// A data section of some bytes.
pub(super) fn data(section: &str, bytes: Vec<u8>, writable: bool) -> Data {
    Data {
        section: section.to_owned(),
        variable: "variable".to_owned(),
        ty: Type::Array(Box::new(Type::Unsigned(1)), bytes.len() as u32),
        bytes,
        writable,
    }
}
