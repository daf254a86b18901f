//! A complete set of programs, functions, maps and data: what lowering produces, the ELF writer writes and
//! the user-space VM executes.

use super::{Insn, Reg};

/// Everything that goes into one object.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Module {
    /// Entry points and tail-call stages.
    pub programs: Vec<Function>,
    /// Subprograms, placed in `.text`; global linkage, so each is verified once.
    pub functions: Vec<Function>,
    pub maps: Vec<Map>,
    /// Single-entry arrays with initial content: `.data.*`, `.rodata*`, `.bss*` sections.
    pub data: Vec<Data>,
    /// Bytes of the versioned metadata section; empty when there is none.
    pub metadata: Vec<u8>,
}

/// Code with symbolic references.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    /// ELF section, for example `xdp`; `.text` for subprograms.
    pub section: String,
    pub code: Vec<Insn<Reg>>,
    /// Parallel to `code`: index into `lines`.
    pub line_of: Vec<u32>,
    /// What line info shows: spec lines and layer names.
    pub lines: Vec<Line>,
    /// Parameters, for the function prototype in BTF.
    pub parameters: Vec<Parameter>,
}

/// One entry of line info.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Line {
    /// File name as the user gave it.
    pub file: String,
    /// From 1; 0 when there is no line.
    pub line: u32,
    pub column: u32,
    /// The source text, or the layer's description.
    pub text: String,
}

/// Parameter of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parameter {
    /// `struct xdp_md *` or `struct __sk_buff *`, by the section.
    Context,
    /// A 64-bit scalar.
    Scalar,
}

/// Kinds of maps that objects use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapKind {
    Array,
    PerCpuArray,
    Hash,
    LruHash,
    LpmTrie,
    RingBuf,
    ProgArray,
}

/// A map definition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Map {
    pub name: String,
    pub kind: MapKind,
    /// `None` for ring buffers.
    pub key: Option<Type>,
    /// `None` for ring buffers and program arrays.
    pub value: Option<Type>,
    /// Entries, or bytes of a ring buffer.
    pub max_entries: u32,
    /// `BPF_F_*` bits.
    pub flags: u32,
    /// Initial content of a program array: slot and program name.
    pub programs: Vec<(u32, String)>,
}

/// A data section with one variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Data {
    /// Section name such as `.data.nn_params`; references use it as the map name.
    pub section: String,
    /// The variable's name in BTF.
    pub variable: String,
    pub ty: Type,
    pub bytes: Vec<u8>,
    pub writable: bool,
}

/// A C type for BTF, by structure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Type {
    /// Unsigned integer of 1, 2, 4 or 8 bytes.
    Unsigned(u8),
    /// Signed integer of 1, 2, 4 or 8 bytes.
    Signed(u8),
    Array(Box<Type>, u32),
    Struct(Struct),
}

/// A structure; members are laid out explicitly.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Struct {
    pub name: String,
    pub size: u32,
    pub members: Vec<Member>,
}

/// A member of a structure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Member {
    pub name: String,
    /// Bytes from the start of the structure.
    pub offset: u32,
    pub ty: Type,
}

impl Type {
    /// Size in bytes.
    #[must_use]
    pub fn size(&self) -> u32 {
        match self {
            Self::Unsigned(bytes) | Self::Signed(bytes) => u32::from(*bytes),
            Self::Array(element, count) => element.size() * count,
            Self::Struct(structure) => structure.size,
        }
    }
}
