//! C types of a module as BTF, each emitted once.

use std::collections::HashMap;

use super::encode::{Btf, MemberOf, TypeId};
use crate::bpf::module::{Struct, Type};
use crate::elf::error::ElfError;
use crate::elf::layout::check_identifier;

/// A type table with the types that are already in it. The lookup tables are never iterated.
pub(super) struct CTypes {
    pub(super) btf: Btf,
    known: HashMap<Type, TypeId>,
    pointers: HashMap<u32, TypeId>,
    int: Option<TypeId>,
}

impl CTypes {
    pub(super) fn new() -> Self {
        Self { btf: Btf::new(), known: HashMap::new(), pointers: HashMap::new(), int: None }
    }

    pub(super) fn into_btf(self) -> Btf {
        self.btf
    }

    /// The type, emitted when it is new.
    pub(super) fn of(&mut self, ty: &Type) -> Result<TypeId, ElfError> {
        if let Some(id) = self.known.get(ty) {
            return Ok(*id);
        }
        let id = match ty {
            Type::Unsigned(bytes) => self.integer(*bytes, false)?,
            Type::Signed(bytes) => self.integer(*bytes, true)?,
            Type::Array(element, count) => {
                let element = self.of(element)?;
                self.array(element, *count)?
            }
            Type::Struct(structure) => self.structure(structure)?,
        };
        self.known.insert(ty.clone(), id);
        Ok(id)
    }

    pub(super) fn pointer(&mut self, to: TypeId) -> Result<TypeId, ElfError> {
        if let Some(id) = self.pointers.get(&to.0) {
            return Ok(*id);
        }
        let id = self.btf.pointer(to)?;
        self.pointers.insert(to.0, id);
        Ok(id)
    }

    pub(super) fn array(&mut self, element: TypeId, count: u32) -> Result<TypeId, ElfError> {
        let index = self.of(&Type::Unsigned(4))?;
        self.btf.array(element, index, count)
    }

    /// `int`, what functions return.
    pub(super) fn int(&mut self) -> Result<TypeId, ElfError> {
        if let Some(id) = self.int {
            return Ok(id);
        }
        let id = self.btf.int("int", 4, true)?;
        self.int = Some(id);
        Ok(id)
    }

    fn integer(&mut self, bytes: u8, signed: bool) -> Result<TypeId, ElfError> {
        let name = match (bytes, signed) {
            (1, false) => "u8",
            (2, false) => "u16",
            (4, false) => "u32",
            (8, false) => "u64",
            (1, true) => "s8",
            (2, true) => "s16",
            (4, true) => "s32",
            (8, true) => "s64",
            (other, _) => {
                return Err(ElfError::Type { reason: format!("an integer of {other} bytes") });
            }
        };
        self.btf.int(name, bytes, signed)
    }

    fn structure(&mut self, structure: &Struct) -> Result<TypeId, ElfError> {
        if !structure.name.is_empty() {
            check_identifier(&structure.name)?;
        }
        let mut members = Vec::with_capacity(structure.members.len());
        let mut end = 0;
        for member in &structure.members {
            check_identifier(&member.name)?;
            if member.offset < end {
                return Err(ElfError::Type {
                    reason: format!("`{}.{}` overlaps the member before it", structure.name, member.name),
                });
            }
            end =
                member.offset.checked_add(member.ty.size()).filter(|end| *end <= structure.size).ok_or_else(
                    || ElfError::Type {
                        reason: format!("`{}.{}` lies outside of its structure", structure.name, member.name),
                    },
                )?;
            let ty = self.of(&member.ty)?;
            members.push(MemberOf { name: member.name.clone(), ty, offset: member.offset });
        }
        self.btf.structure(&structure.name, structure.size, &members)
    }
}
