//! Map definitions as libbpf defines them: a structure per map whose members carry numbers as array lengths
//! behind pointers.

use super::encode::{MemberOf, Placement, TypeId};
use super::types::CTypes;
use crate::bpf::module::{Map, MapKind, Module};
use crate::elf::MAPS_SECTION;
use crate::elf::error::{ElfError, narrow};

/// Member that holds the initial content of a program array. It gets a string of its own, because our
/// loader renames it in memory before aya sees the object.
pub(in crate::elf) const VALUES: &str = "values";

/// Bytes of a member of a definition: all are pointers.
const MEMBER_BYTES: u32 = 8;

/// Key and value of a program array: a slot number and a file descriptor.
const PROGRAM_SLOT_BYTES: u32 = 4;

/// `enum bpf_map_type` of the kernel.
pub(in crate::elf) fn kernel_type(kind: MapKind) -> u32 {
    match kind {
        MapKind::Hash => 1,
        MapKind::Array => 2,
        MapKind::ProgArray => 3,
        MapKind::PerCpuArray => 6,
        MapKind::LruHash => 9,
        MapKind::LpmTrie => 11,
        MapKind::RingBuf => 27,
    }
}

/// Bytes that a definition takes in `.maps`, initial content of a program array included.
pub(in crate::elf) fn definition_size(map: &Map) -> u32 {
    let slots = map.programs.iter().map(|(slot, _)| slot + 1).max().unwrap_or(0);
    values_offset(map) + slots * MEMBER_BYTES
}

/// Where the initial content of a program array starts inside its definition.
pub(in crate::elf) fn values_offset(map: &Map) -> u32 {
    let numbers = numbers(map).len();
    let types = [&map.key, &map.value].into_iter().flatten().count();
    // A definition has at most six members.
    (numbers + types) as u32 * MEMBER_BYTES
}

/// Emits a variable per map and the section that holds them.
pub(super) fn declare(types: &mut CTypes, module: &Module) -> Result<(), ElfError> {
    if module.maps.is_empty() {
        return Ok(());
    }
    let mut variables = Vec::with_capacity(module.maps.len());
    let mut offset: u32 = 0;
    for map in &module.maps {
        let definition = define(types, map)?;
        let variable = types.btf.variable(&map.name, definition)?;
        let size = definition_size(map);
        variables.push(Placement { variable, offset, size });
        offset = offset.checked_add(size).ok_or(ElfError::TooLarge { what: "`.maps`" })?;
    }
    types.btf.section(MAPS_SECTION, offset, &variables)?;
    Ok(())
}

/// Members that are numbers, in order.
fn numbers(map: &Map) -> Vec<(&'static str, u32)> {
    let mut numbers = vec![("type", kernel_type(map.kind)), ("max_entries", map.max_entries)];
    if map.flags != 0 {
        numbers.push(("map_flags", map.flags));
    }
    if map.kind == MapKind::ProgArray {
        numbers.push(("key_size", PROGRAM_SLOT_BYTES));
        numbers.push(("value_size", PROGRAM_SLOT_BYTES));
    }
    numbers
}

fn define(types: &mut CTypes, map: &Map) -> Result<TypeId, ElfError> {
    let untyped = matches!(map.kind, MapKind::RingBuf | MapKind::ProgArray);
    if untyped != map.key.is_none() || untyped != map.value.is_none() {
        return Err(ElfError::Type {
            reason: format!("key or value of `{}` does not fit its kind", map.name),
        });
    }
    if map.kind != MapKind::ProgArray && !map.programs.is_empty() {
        return Err(ElfError::Type { reason: format!("`{}` is no program array", map.name) });
    }
    let int = types.int()?;
    let mut fields = Vec::new();
    for (name, number) in numbers(map) {
        let array = types.array(int, number)?;
        fields.push((name, types.pointer(array)?));
    }
    for (name, ty) in [("key", &map.key), ("value", &map.value)] {
        if let Some(ty) = ty {
            let ty = types.of(ty)?;
            fields.push((name, types.pointer(ty)?));
        }
    }
    if map.kind == MapKind::ProgArray {
        let prototype = types.btf.prototype(int, &[(String::new(), TypeId::VOID)])?;
        let pointer = types.pointer(prototype)?;
        // The length is zero as in `int (*values[])()`; the content follows the structure.
        fields.push((VALUES, types.array(pointer, 0)?));
    }
    let mut members = Vec::with_capacity(fields.len());
    for (position, (name, ty)) in fields.into_iter().enumerate() {
        let offset = narrow(position, "a map definition")? * MEMBER_BYTES;
        members.push(MemberOf { name: name.to_owned(), ty, offset });
    }
    types.btf.structure("", values_offset(map), &members)
}
