//! A reader of the BTF records that map definitions consist of. Everything else is passed over by its size.

const MAGIC: u16 = 0xeb9f;

/// Deepest chain of arrays and structures that sizes are computed through.
const MAX_DEPTH: u32 = 32;

/// A record, with what map definitions need of it.
#[derive(Debug, Clone)]
pub(super) enum Record {
    Int { bytes: u32 },
    Pointer { to: u32 },
    Array { element: u32, count: u32 },
    Struct { bytes: u32, members: Vec<Member> },
    Variable { name: u32, ty: u32 },
    Section { name: u32, variables: Vec<Placed> },
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
            Record::Int { bytes } | Record::Struct { bytes, .. } => Some(*bytes),
            Record::Pointer { .. } => Some(8),
            Record::Array { element, count } => self.size_at(*element, depth + 1)?.checked_mul(*count),
            Record::Variable { .. } | Record::Section { .. } | Record::Other => None,
        }
    }
}

/// The first record of `bytes` and its size. Kinds are numbered by `include/uapi/linux/btf.h`.
fn decode(bytes: &[u8]) -> Result<(Record, usize), String> {
    let at = |index: usize| word(bytes, index * 4).ok_or_else(|| "a BTF record is cut".to_owned());
    let (name, info, size_or_type) = (at(0)?, at(1)?, at(2)?);
    let vlen = to_usize(info & 0xffff);
    let kind = (info >> 24) & 0x1f;
    let (record, words) = match kind {
        1 => (Record::Int { bytes: size_or_type }, 1),
        2 => (Record::Pointer { to: size_or_type }, 0),
        3 => (Record::Array { element: at(3)?, count: at(5)? }, 3),
        4 => {
            let mut members = Vec::new();
            for index in 0..vlen {
                let first = 3 + index * 3;
                members.push(Member { name: at(first)?, ty: at(first + 1)?, bit_offset: at(first + 2)? });
            }
            (Record::Struct { bytes: size_or_type, members }, vlen * 3)
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
        6 | 13 => (Record::Other, vlen * 2),
        7..=12 | 16 | 18 => (Record::Other, 0),
        17 => (Record::Other, 1),
        other => return Err(format!("BTF kind {other} is unknown")),
    };
    Ok((record, 12 + words * 4))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

fn to_usize(word: u32) -> usize {
    // A file of 4 GiB does not fit the address space of a 16-bit machine; nothing smaller is supported.
    usize::try_from(word).unwrap_or(usize::MAX)
}
