//! The BTF format: header, type records and string table. Kinds are those of
//! `include/uapi/linux/btf.h` up to kernel 5.10.

use std::collections::HashMap;

use crate::elf::error::{ElfError, narrow};

const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
const HEADER_BYTES: u32 = 24;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;

const INT_SIGNED: u32 = 1 << 24;
/// `BTF_FUNC_GLOBAL`: the verifier walks the function once, on its own.
const FUNC_GLOBAL: usize = 1;
const VAR_GLOBAL_ALLOCATED: u32 = 1;

/// Most members, parameters or variables of one type: 16 bits in the record.
const MAX_VLEN: usize = 0xffff;

/// Index of a type; 0 is `void`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::elf) struct TypeId(pub(in crate::elf) u32);

impl TypeId {
    pub(super) const VOID: Self = Self(0);
}

/// A member of a structure, at an offset in bytes.
pub(super) struct MemberOf {
    pub(super) name: String,
    pub(super) ty: TypeId,
    pub(super) offset: u32,
}

/// A variable of a section.
pub(super) struct Placement {
    pub(super) variable: TypeId,
    pub(super) offset: u32,
    pub(super) size: u32,
}

/// A growing type table.
pub(in crate::elf) struct Btf {
    types: Vec<u8>,
    count: u32,
    strings: Vec<u8>,
    /// Looked up only, so its order does not matter.
    offsets: HashMap<String, u32>,
}

impl Btf {
    pub(super) fn new() -> Self {
        Self { types: Vec::new(), count: 0, strings: vec![0], offsets: HashMap::new() }
    }

    /// Offset of a string in the table; equal strings share one place.
    pub(in crate::elf) fn string(&mut self, text: &str) -> Result<u32, ElfError> {
        if text.is_empty() {
            return Ok(0);
        }
        if let Some(offset) = self.offsets.get(text) {
            return Ok(*offset);
        }
        let offset = self.private_string(text)?;
        self.offsets.insert(text.to_owned(), offset);
        Ok(offset)
    }

    /// A string that nothing else shares, for names that a loader rewrites in place.
    pub(super) fn private_string(&mut self, text: &str) -> Result<u32, ElfError> {
        let offset = narrow(self.strings.len(), "the BTF string table")?;
        // A NUL would end the string early and shift nothing else; it is shown as a space.
        self.strings.extend(text.bytes().map(|byte| if byte == 0 { b' ' } else { byte }));
        self.strings.push(0);
        Ok(offset)
    }

    pub(super) fn int(&mut self, name: &str, bytes: u8, signed: bool) -> Result<TypeId, ElfError> {
        let name = self.string(name)?;
        let id = self.begin(name, KIND_INT, 0, u32::from(bytes))?;
        let encoding = if signed { INT_SIGNED } else { 0 };
        self.word(encoding | (u32::from(bytes) * 8));
        Ok(id)
    }

    pub(super) fn pointer(&mut self, to: TypeId) -> Result<TypeId, ElfError> {
        self.begin(0, KIND_PTR, 0, to.0)
    }

    pub(super) fn array(&mut self, element: TypeId, index: TypeId, count: u32) -> Result<TypeId, ElfError> {
        let id = self.begin(0, KIND_ARRAY, 0, 0)?;
        for word in [element.0, index.0, count] {
            self.word(word);
        }
        Ok(id)
    }

    /// A structure; member names are given as string offsets by [`Self::string`].
    pub(super) fn structure(
        &mut self,
        name: &str,
        size: u32,
        members: &[MemberOf],
    ) -> Result<TypeId, ElfError> {
        let name = self.string(name)?;
        let mut words = Vec::with_capacity(members.len() * 3);
        for member in members {
            let member_name = if member.name == super::maps::VALUES {
                self.private_string(&member.name)?
            } else {
                self.string(&member.name)?
            };
            let bits = member
                .offset
                .checked_mul(8)
                .ok_or(ElfError::TooLarge { what: "the offset of a member in bits" })?;
            words.extend([member_name, member.ty.0, bits]);
        }
        let id = self.begin(name, KIND_STRUCT, members.len(), size)?;
        words.into_iter().for_each(|word| self.word(word));
        Ok(id)
    }

    pub(super) fn prototype(
        &mut self,
        result: TypeId,
        parameters: &[(String, TypeId)],
    ) -> Result<TypeId, ElfError> {
        let mut words = Vec::with_capacity(parameters.len() * 2);
        for (name, ty) in parameters {
            words.extend([self.string(name)?, ty.0]);
        }
        let id = self.begin(0, KIND_FUNC_PROTO, parameters.len(), result.0)?;
        words.into_iter().for_each(|word| self.word(word));
        Ok(id)
    }

    /// A function of global linkage.
    pub(super) fn function(&mut self, name: &str, prototype: TypeId) -> Result<TypeId, ElfError> {
        let name = self.string(name)?;
        self.begin(name, KIND_FUNC, FUNC_GLOBAL, prototype.0)
    }

    pub(super) fn variable(&mut self, name: &str, ty: TypeId) -> Result<TypeId, ElfError> {
        let name = self.string(name)?;
        let id = self.begin(name, KIND_VAR, 0, ty.0)?;
        self.word(VAR_GLOBAL_ALLOCATED);
        Ok(id)
    }

    pub(super) fn section(
        &mut self,
        name: &str,
        size: u32,
        variables: &[Placement],
    ) -> Result<TypeId, ElfError> {
        let name = self.string(name)?;
        let id = self.begin(name, KIND_DATASEC, variables.len(), size)?;
        for placement in variables {
            for word in [placement.variable.0, placement.offset, placement.size] {
                self.word(word);
            }
        }
        Ok(id)
    }

    /// The content of `.BTF`.
    pub(in crate::elf) fn to_bytes(&self) -> Result<Vec<u8>, ElfError> {
        let type_bytes = narrow(self.types.len(), "the BTF type table")?;
        let string_bytes = narrow(self.strings.len(), "the BTF string table")?;
        let mut bytes = Vec::with_capacity(self.types.len() + self.strings.len() + 24);
        bytes.extend(MAGIC.to_le_bytes());
        bytes.extend([VERSION, 0]);
        for word in [HEADER_BYTES, 0, type_bytes, type_bytes, string_bytes] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(&self.types);
        bytes.extend(&self.strings);
        Ok(bytes)
    }

    /// Starts a record: name, kind and count, then the word that is a size or a type.
    fn begin(&mut self, name: u32, kind: u32, vlen: usize, size_or_type: u32) -> Result<TypeId, ElfError> {
        if vlen > MAX_VLEN {
            return Err(ElfError::Type { reason: format!("{vlen} members, more than {MAX_VLEN}") });
        }
        let vlen = narrow(vlen, "a BTF record")?;
        self.count = self.count.checked_add(1).ok_or(ElfError::TooLarge { what: "the number of types" })?;
        for word in [name, (kind << 24) | vlen, size_or_type] {
            self.word(word);
        }
        Ok(TypeId(self.count))
    }

    fn word(&mut self, word: u32) {
        self.types.extend(word.to_le_bytes());
    }
}

/// Header fields that `.BTF.ext` shares with `.BTF`.
pub(in crate::elf) fn common_header() -> [u8; 4] {
    let [low, high] = MAGIC.to_le_bytes();
    [low, high, VERSION, 0]
}
