//! A reader of the BTF records that our objects consist of: types of maps, data and functions. Everything else is
//! passed over by its size.

use crate::bpf::module::{self, Parameter, Struct, Type};

const MAGIC: u16 = 0xeb9f;

/// The bit of an integer's encoding that says it is signed.
const INT_SIGNED: u32 = 1 << 24;

/// Deepest chain of arrays and structures that sizes are computed through.
const MAX_DEPTH: u32 = 32;

/// Most parts that one type is built of, counted as a tree: hostile tables share their branches.
const MOST_PARTS: u32 = 1 << 20;

/// Most bytes of a value, as the kernel's limit for values of arrays.
const MOST_BYTES: u64 = 1 << 30;

/// Names of the contexts that programs get.
const CONTEXTS: [&str; 2] = ["xdp_md", "__sk_buff"];

/// A record, with what is read of it.
#[derive(Debug, Clone)]
pub(super) enum Record {
    Int {
        bytes: u32,
        signed: bool,
    },
    Pointer {
        to: u32,
    },
    Array {
        element: u32,
        count: u32,
    },
    Struct {
        name: u32,
        bytes: u32,
        members: Vec<Member>,
    },
    Function {
        name: u32,
        prototype: u32,
    },
    /// Types of the parameters.
    Prototype {
        parameters: Vec<u32>,
    },
    Variable {
        name: u32,
        ty: u32,
    },
    Section {
        name: u32,
        variables: Vec<Placed>,
    },
    Other,
}

/// A member of a structure.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: u32,
    pub(super) ty: u32,
    pub(super) bit_offset: u32,
}

/// A variable of a section.
#[derive(Debug, Clone)]
pub(super) struct Placed {
    pub(super) variable: u32,
    pub(super) offset: u32,
}

/// A decoded type table.
pub(super) struct Types<'data> {
    records: Vec<Record>,
    strings: &'data [u8],
    /// Where the strings start inside `.BTF`.
    pub(super) strings_at: usize,
}

impl<'data> Types<'data> {
    /// Decodes `.BTF`.
    pub(super) fn parse(btf: &'data [u8]) -> Result<Self, String> {
        let cut = || "`.BTF` is cut".to_owned();
        if btf.first_chunk().copied().map(u16::from_le_bytes) != Some(MAGIC) {
            return Err("`.BTF` does not start with its magic number".to_owned());
        }
        let header = |index: usize| word(btf, 4 + index * 4).ok_or_else(cut).map(to_usize);
        let (start, type_at, type_len) = (header(0)?, header(1)?, header(2)?);
        let (string_at, string_len) = (header(3)?, header(4)?);
        let part = |at: usize, len: usize| {
            let from = start.checked_add(at)?;
            Some((from, btf.get(from..from.checked_add(len)?)?))
        };
        let (_, mut rest) = part(type_at, type_len).ok_or_else(cut)?;
        let (strings_at, strings) = part(string_at, string_len).ok_or_else(cut)?;
        let mut records = Vec::new();
        while !rest.is_empty() {
            let (record, size) = decode(rest)?;
            records.push(record);
            rest = rest.get(size..).ok_or_else(cut)?;
        }
        Ok(Self { records, strings, strings_at })
    }

    pub(super) fn records(&self) -> &[Record] {
        &self.records
    }

    /// The type with this index; `void` has none.
    pub(super) fn get(&self, id: u32) -> Option<&Record> {
        self.records.get(to_usize(id.checked_sub(1)?))
    }

    pub(super) fn string(&self, offset: u32) -> Option<&str> {
        let tail = self.strings.get(to_usize(offset)..)?;
        std::str::from_utf8(tail.split(|byte| *byte == 0).next()?).ok()
    }

    /// Bytes of a type that a key or a value may have.
    pub(super) fn size(&self, id: u32) -> Option<u32> {
        self.size_at(id, 0)
    }

    fn size_at(&self, id: u32, depth: u32) -> Option<u32> {
        if depth > MAX_DEPTH {
            return None;
        }
        match self.get(id)? {
            Record::Int { bytes, .. } | Record::Struct { bytes, .. } => Some(*bytes),
            Record::Pointer { .. } => Some(8),
            Record::Array { element, count } => self.size_at(*element, depth + 1)?.checked_mul(*count),
            Record::Function { .. }
            | Record::Prototype { .. }
            | Record::Variable { .. }
            | Record::Section { .. }
            | Record::Other => None,
        }
    }

    /// The C type of a key, a value or a variable.
    pub(super) fn c_type(&self, id: u32) -> Option<Type> {
        let mut parts = MOST_PARTS;
        let ty = self.c_type_at(id, 0, &mut parts)?;
        Some(ty.0)
    }

    /// The type with its bytes.
    fn c_type_at(&self, id: u32, depth: u32, parts: &mut u32) -> Option<(Type, u64)> {
        *parts = parts.checked_sub(1)?;
        if depth > MAX_DEPTH {
            return None;
        }
        let (ty, bytes) = match self.get(id)? {
            Record::Int { bytes, signed } => {
                let width = u8::try_from(*bytes).ok().filter(|width| [1, 2, 4, 8].contains(width))?;
                (if *signed { Type::Signed(width) } else { Type::Unsigned(width) }, u64::from(width))
            }
            Record::Array { element, count } => {
                let (element, bytes) = self.c_type_at(*element, depth + 1, parts)?;
                (Type::Array(Box::new(element), *count), bytes.checked_mul(u64::from(*count))?)
            }
            Record::Struct { name, bytes, members } => {
                let mut fields = Vec::new();
                for member in members {
                    let (ty, size) = self.c_type_at(member.ty, depth + 1, parts)?;
                    let offset = member.bit_offset / 8;
                    if u64::from(offset) + size > u64::from(*bytes) {
                        return None;
                    }
                    let name = self.string(member.name)?.to_owned();
                    fields.push(module::Member { name, offset, ty });
                }
                let name = self.string(*name)?.to_owned();
                (Type::Struct(Struct { name, size: *bytes, members: fields }), u64::from(*bytes))
            }
            Record::Pointer { .. }
            | Record::Function { .. }
            | Record::Prototype { .. }
            | Record::Variable { .. }
            | Record::Section { .. }
            | Record::Other => return None,
        };
        (bytes <= MOST_BYTES).then_some((ty, bytes))
    }

    /// What a function of this name takes.
    pub(super) fn parameters(&self, function: &str) -> Option<Vec<Parameter>> {
        let prototype = self.records.iter().find_map(|record| {
            let Record::Function { name, prototype } = record else { return None };
            (self.string(*name) == Some(function)).then_some(*prototype)
        })?;
        let Record::Prototype { parameters } = self.get(prototype)? else { return None };
        parameters.iter().map(|id| self.parameter(*id)).collect()
    }

    fn parameter(&self, id: u32) -> Option<Parameter> {
        let record = self.get(id)?;
        if matches!(record, Record::Int { bytes: 8, signed: false }) {
            return Some(Parameter::Scalar);
        }
        let Record::Pointer { to } = record else { return None };
        let Record::Struct { name, .. } = self.get(*to)? else { return None };
        CONTEXTS.contains(&self.string(*name)?).then_some(Parameter::Context)
    }

    /// The only variable of a section: its name and type.
    pub(super) fn variable_of(&self, section: &str) -> Option<(String, Type)> {
        let variables = self.records.iter().find_map(|record| {
            let Record::Section { name, variables } = record else { return None };
            (self.string(*name) == Some(section)).then_some(variables)
        })?;
        let [only] = variables.as_slice() else { return None };
        let Record::Variable { name, ty } = self.get(only.variable)? else { return None };
        Some((self.string(*name)?.to_owned(), self.c_type(*ty)?))
    }
}

/// The first record of `bytes` and its size. Kinds are numbered by `include/uapi/linux/btf.h`.
fn decode(bytes: &[u8]) -> Result<(Record, usize), String> {
    let at = |index: usize| word(bytes, index * 4).ok_or_else(|| "a BTF record is cut".to_owned());
    let (name, info, size_or_type) = (at(0)?, at(1)?, at(2)?);
    let vlen = to_usize(info & 0xffff);
    let kind = (info >> 24) & 0x1f;
    let (record, words) = match kind {
        1 => (Record::Int { bytes: size_or_type, signed: at(3)? & INT_SIGNED != 0 }, 1),
        2 => (Record::Pointer { to: size_or_type }, 0),
        3 => (Record::Array { element: at(3)?, count: at(5)? }, 3),
        4 => {
            let mut members = Vec::new();
            for index in 0..vlen {
                let first = 3 + index * 3;
                members.push(Member { name: at(first)?, ty: at(first + 1)?, bit_offset: at(first + 2)? });
            }
            (Record::Struct { name, bytes: size_or_type, members }, vlen * 3)
        }
        14 => (Record::Variable { name, ty: size_or_type }, 1),
        15 => {
            let mut variables = Vec::new();
            for index in 0..vlen {
                let first = 3 + index * 3;
                variables.push(Placed { variable: at(first)?, offset: at(first + 1)? });
            }
            (Record::Section { name, variables }, vlen * 3)
        }
        5 | 19 => (Record::Other, vlen * 3),
        6 => (Record::Other, vlen * 2),
        12 => (Record::Function { name, prototype: size_or_type }, 0),
        13 => {
            let parameters = (0..vlen).map(|index| at(4 + index * 2)).collect::<Result<_, _>>()?;
            (Record::Prototype { parameters }, vlen * 2)
        }
        7..=11 | 16 | 18 => (Record::Other, 0),
        17 => (Record::Other, 1),
        other => return Err(format!("BTF kind {other} is unknown")),
    };
    Ok((record, 12 + words * 4))
}

pub(super) fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn to_usize(word: u32) -> usize {
    // A file of 4 GiB does not fit the address space of a 16-bit machine; nothing smaller is supported.
    usize::try_from(word).unwrap_or(usize::MAX)
}
