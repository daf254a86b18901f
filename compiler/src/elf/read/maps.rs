//! Map definitions of an object, and the rewrite that lets aya load program arrays.

use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use super::types::{Record, Types};
use super::{MAPS_SECTION, MapEntry, malformed, open};
use crate::bpf::module::{Map, MapKind, Type};
use crate::diag::Outcome;

/// Member that holds the initial content of a program array.
const VALUES: &str = "values";

/// What [`hide_program_arrays`] calls it.
const HIDDEN: u8 = b'_';

/// Reads the definitions in the order of the section.
pub(super) fn definitions(object: &object::File<'_>) -> Result<Vec<MapEntry>, String> {
    let btf = object.section_by_name(".BTF").ok_or("maps are defined without BTF")?;
    let btf = btf.data().map_err(|error| error.to_string())?;
    let types = Types::parse(btf)?;
    let starts = program_starts(object)?;
    let mut maps = Vec::new();
    for (offset, variable) in variables(&types) {
        let Some(Record::Variable { name, ty }) = types.get(variable) else {
            return Err("`.maps` lists something that is no variable".to_owned());
        };
        let name = types.string(*name).ok_or("a map has no name")?.to_owned();
        let Some(Record::Struct { members, .. }) = types.get(*ty) else {
            return Err(format!("the definition of `{name}` is no structure"));
        };
        let mut map = MapEntry {
            name,
            kernel_type: 0,
            kind: None,
            key_size: 0,
            value_size: 0,
            max_entries: 0,
            flags: 0,
            programs: Vec::new(),
        };
        for member in members {
            let field = types.string(member.name).unwrap_or("");
            let wrong = || format!("`{}` of map `{}` is no number or type", field, map.name);
            match field {
                "type" => map.kernel_type = number(&types, member.ty).ok_or_else(wrong)?,
                "max_entries" => map.max_entries = number(&types, member.ty).ok_or_else(wrong)?,
                "map_flags" => map.flags = number(&types, member.ty).ok_or_else(wrong)?,
                "key_size" => map.key_size = number(&types, member.ty).ok_or_else(wrong)?,
                "value_size" => map.value_size = number(&types, member.ty).ok_or_else(wrong)?,
                "key" => map.key_size = pointee_size(&types, member.ty).ok_or_else(wrong)?,
                "value" => map.value_size = pointee_size(&types, member.ty).ok_or_else(wrong)?,
                VALUES => {
                    let values = u64::from(offset) + u64::from(member.bit_offset / 8);
                    let end = end_of(object, &map.name).unwrap_or(values);
                    map.programs = starts
                        .iter()
                        .filter(|(at, _)| (values..end).contains(at))
                        .filter_map(|(at, program)| {
                            let slot = u32::try_from((at - values) / 8).ok()?;
                            Some((slot, program.clone()))
                        })
                        .collect();
                }
                _ => {}
            }
        }
        map.kind = kind(map.kernel_type);
        maps.push(map);
    }
    Ok(maps)
}

/// The definitions as the compiler's maps.
pub(super) fn modelled(object: &object::File<'_>, types: &Types<'_>) -> Result<Vec<Map>, String> {
    let mut maps = Vec::new();
    for (entry, (_, variable)) in definitions(object)?.into_iter().zip(variables(types)) {
        let MapEntry { name, kind, max_entries, flags, programs, .. } = entry;
        let kind = kind.ok_or_else(|| format!("the map `{name}` is of no kind that the compiler uses"))?;
        let Some(Record::Variable { ty, .. }) = types.get(variable) else { continue };
        let Some(Record::Struct { members, .. }) = types.get(*ty) else { continue };
        let typed = |field: &str| -> Result<Option<Type>, String> {
            let Some(member) = members.iter().find(|member| types.string(member.name) == Some(field)) else {
                return Ok(None);
            };
            let Some(Record::Pointer { to }) = types.get(member.ty) else {
                return Err(format!("`{field}` of map `{name}` is no type"));
            };
            let ty = types.c_type(*to).ok_or_else(|| format!("`{field}` of map `{name}` is no type"))?;
            Ok(Some(ty))
        };
        let (key, value) = (typed("key")?, typed("value")?);
        maps.push(Map { name, kind, key, value, max_entries, flags, programs });
    }
    Ok(maps)
}

/// Renames the member `values` in every map definition, in memory. aya takes the member for the inner map of
/// a map of maps and refuses the object; without it, aya creates the program array and leaves it empty.
///
/// # Errors
/// As [`super::read`].
pub fn hide_program_arrays(bytes: &mut [u8], file: &str) -> Outcome<()> {
    let mut places = Vec::new();
    {
        let object = open(bytes, file)?;
        let Some(section) = object.section_by_name(".BTF") else { return Ok(()) };
        let (start, _) = section.file_range().unwrap_or((0, 0));
        let btf = section.data().map_err(|error| malformed(file, &error.to_string()))?;
        let types = Types::parse(btf).map_err(|reason| malformed(file, &reason))?;
        for (_, variable) in variables(&types) {
            let Some(Record::Variable { ty, .. }) = types.get(variable) else { continue };
            let Some(Record::Struct { members, .. }) = types.get(*ty) else { continue };
            for member in members {
                if types.string(member.name) == Some(VALUES) {
                    let start = usize::try_from(start).unwrap_or(usize::MAX);
                    let name = usize::try_from(member.name).unwrap_or(usize::MAX);
                    places.push(start.saturating_add(types.strings_at).saturating_add(name));
                }
            }
        }
    }
    for place in places {
        if let Some(byte) = bytes.get_mut(place) {
            *byte = HIDDEN;
        }
    }
    Ok(())
}

/// Offsets and types of the variables in `.maps`.
fn variables(types: &Types<'_>) -> Vec<(u32, u32)> {
    let mut found = Vec::new();
    for record in types.records() {
        if let Record::Section { name, variables } = record
            && types.string(*name) == Some(MAPS_SECTION)
        {
            found.extend(variables.iter().map(|placed| (placed.offset, placed.variable)));
        }
    }
    found
}

/// Relocations of `.maps`: byte offset and the program that belongs there, ascending.
fn program_starts(object: &object::File<'_>) -> Result<Vec<(u64, String)>, String> {
    let Some(section) = object.section_by_name(MAPS_SECTION) else { return Ok(Vec::new()) };
    let mut starts = Vec::new();
    for (at, relocation) in section.relocations() {
        let RelocationTarget::Symbol(index) = relocation.target() else { continue };
        let symbol = object.symbol_by_index(index).map_err(|error| error.to_string())?;
        let name = symbol.name().map_err(|error| error.to_string())?;
        starts.push((at, name.to_owned()));
    }
    starts.sort();
    Ok(starts)
}

/// Where the definition with this name ends in `.maps`: its structure and the content after it.
fn end_of(object: &object::File<'_>, name: &str) -> Option<u64> {
    let symbol = object.symbol_by_name(name)?;
    symbol.address().checked_add(symbol.size())
}

fn number(types: &Types<'_>, id: u32) -> Option<u32> {
    let Record::Pointer { to } = types.get(id)? else { return None };
    let Record::Array { count, .. } = types.get(*to)? else { return None };
    Some(*count)
}

fn pointee_size(types: &Types<'_>, id: u32) -> Option<u32> {
    let Record::Pointer { to } = types.get(id)? else { return None };
    types.size(*to)
}

fn kind(kernel_type: u32) -> Option<MapKind> {
    [
        MapKind::Array,
        MapKind::PerCpuArray,
        MapKind::Hash,
        MapKind::LruHash,
        MapKind::LpmTrie,
        MapKind::RingBuf,
        MapKind::ProgArray,
    ]
    .into_iter()
    .find(|kind| crate::elf::btf::kernel_type(*kind) == kernel_type)
}
