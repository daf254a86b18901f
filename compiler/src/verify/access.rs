//! Accesses to memory of everything around the network, by decoding alone: each stays within the value of its map,
//! the bytes of the packet that were compared before, or the stack; and none begins at bytes of a value that are no
//! member of its type.
//!
//! The network's functions address its slot and scratch through masks and loops, which their own proof covers.

use super::path::is_network;
use super::refused;
use crate::bpf::module::{Module, Type};
use crate::diag::Outcome;
use crate::diag::codes::object::ACCESS;
use crate::lower::walk::{self, Field};

/// What all functions around the network touch together.
#[derive(Debug, Default)]
pub(super) struct All {
    pub(super) values: std::collections::BTreeMap<String, std::collections::BTreeSet<Field>>,
    /// Function and instruction.
    pub(super) packet: Vec<(String, usize)>,
}

/// Looks at every access.
///
/// # Errors
///
/// `E0716`, for the first that is not known to stay where it may.
pub(super) fn all(module: &Module, file: &str) -> Outcome<All> {
    let mut all = All::default();
    for function in super::functions(module).filter(|function| !is_network(&function.name)) {
        let touched = walk::touched(module, function).map_err(|beyond| {
            let walk::Beyond { instruction, reason } = beyond;
            let message = format!("`{}` may access {reason} at instruction {instruction}", function.name);
            refused(&ACCESS, file, message)
        })?;
        all.packet.extend(touched.packet.into_iter().map(|at| (function.name.clone(), at)));
        for (name, fields) in touched.values {
            all.values.entry(name).or_default().extend(fields);
        }
    }
    for (name, fields) in &all.values {
        let Some(ty) = type_of(module, name) else { continue };
        let mut members = Vec::new();
        declared(ty, 0, &mut members);
        if let Some(field) = fields.iter().find(|field| !lies_in(&members, field)) {
            let Field { offset, bytes, .. } = field;
            let message = format!(
                "bytes {offset} to {} of `{name}` belong to no member of its type",
                offset + u32::from(*bytes)
            );
            return Err(refused(&ACCESS, file, message));
        }
    }
    Ok(all)
}

fn type_of<'a>(module: &'a Module, name: &str) -> Option<&'a Type> {
    let map = module.maps.iter().find(|map| map.name == name).and_then(|map| map.value.as_ref());
    map.or_else(|| module.data.iter().find(|data| data.section == name).map(|data| &data.ty))
}

/// Ranges of bytes that members cover, ascending, neighbours joined.
fn declared(ty: &Type, start: u32, ranges: &mut Vec<(u32, u32)>) {
    match ty {
        Type::Unsigned(_) | Type::Signed(_) | Type::Array(..) => {
            let end = start.saturating_add(ty.size());
            match ranges.last_mut() {
                Some((_, last)) if *last == start => *last = end,
                Some(_) | None => ranges.push((start, end)),
            }
        }
        Type::Struct(structure) => {
            for member in &structure.members {
                declared(&member.ty, start.saturating_add(member.offset), ranges);
            }
        }
    }
}

fn lies_in(ranges: &[(u32, u32)], field: &Field) -> bool {
    // A new record is written in words, which may reach into what fills a word up.
    ranges.iter().any(|(start, stop)| (*start..*stop).contains(&field.offset))
}
