//! What can go wrong in the virtual machine: modules that do not load, and runs that fault.

use crate::bpf::Helper;
use crate::bpf::assemble::AssembleError;
use crate::bpf::decode::DecodeErrorKind;
use crate::bpf::position::InstructionIndex;
use std::fmt;

/// Why a module does not load or a run does not finish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmError {
    Assemble(AssembleError),
    Decode {
        function: String,
        at: InstructionIndex,
        kind: DecodeErrorKind,
    },
    /// A name that the module does not define: a map, a section, a function or a program.
    UnknownName {
        name: String,
    },
    DuplicateName {
        name: String,
    },
    /// A program in a section whose context is not modelled.
    UnknownSection {
        program: String,
        section: String,
    },
    /// A map that the kernel would not create, or too large for this machine.
    BadMap {
        map: String,
        reason: &'static str,
    },
    /// A reference into a map value where the kernel allows none.
    BadReference {
        function: String,
        at: InstructionIndex,
    },
    /// A run failed at an instruction.
    Fault {
        function: String,
        at: InstructionIndex,
        fault: Fault,
    },
}

/// How a run fails. Nothing of this happens in code that the kernel's verifier accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    BadRead {
        address: u64,
        bytes: u64,
    },
    BadWrite {
        address: u64,
        bytes: u64,
    },
    /// An atomic operation that is not aligned or not on a stack or a map.
    BadAtomic {
        address: u64,
    },
    /// A load from the context at an offset or of a size that it does not have.
    BadContextLoad {
        offset: u64,
        bytes: u64,
    },
    /// An argument that the helper does not take.
    BadArgument {
        helper: Helper,
    },
    /// A helper by a number that generated code does not use.
    UnknownHelper {
        number: u64,
    },
    /// More nested calls than the kernel has frames.
    CallDepth,
    /// Control left the code, or reached something that is not an instruction.
    BadJump,
    /// More instructions than any program that terminates.
    StepLimit,
}

/// Why the host's operation on a map failed, as the kernel's system call would.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MapError {
    /// The key exists and the caller wants none.
    Exists,
    /// There is no such key.
    NotFound,
    /// The map is full, or the index is beyond its end.
    TooBig,
    /// Wrong key or value size, or an operation that this kind of map does not have.
    Invalid,
    /// The ring buffer is full.
    Again,
    /// The prefix trie is full.
    NoSpace,
}

impl MapError {
    /// The number that programs see in `r0`.
    #[must_use]
    pub fn errno(self) -> i64 {
        match self {
            Self::Exists => -17,
            Self::NotFound => -2,
            Self::TooBig => -7,
            Self::Invalid => -22,
            Self::Again => -11,
            Self::NoSpace => -28,
        }
    }
}

impl fmt::Display for VmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assemble(error) => write!(f, "{error}"),
            Self::Decode { function, at, kind } => write!(f, "{function}, instruction {at}: {kind:?}"),
            Self::UnknownName { name } => write!(f, "the module defines no {name}"),
            Self::DuplicateName { name } => write!(f, "the module defines {name} twice"),
            Self::UnknownSection { program, section } => {
                write!(f, "program {program}: no context is known for section {section}")
            }
            Self::BadMap { map, reason } => write!(f, "map {map}: {reason}"),
            Self::BadReference { function, at } => {
                write!(f, "{function}, instruction {at}: a reference into a map without a fixed value")
            }
            Self::Fault { function, at, fault } => write!(f, "{function}, instruction {at}: {fault}"),
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadRead { address, bytes } => write!(f, "read of {bytes} bytes at {address:#x}"),
            Self::BadWrite { address, bytes } => write!(f, "write of {bytes} bytes at {address:#x}"),
            Self::BadAtomic { address } => write!(f, "atomic operation at {address:#x}"),
            Self::BadContextLoad { offset, bytes } => {
                write!(f, "load of {bytes} bytes at offset {offset} of the context")
            }
            Self::BadArgument { helper } => write!(f, "argument of {}", helper.name()),
            Self::UnknownHelper { number } => write!(f, "unknown helper {number}"),
            Self::CallDepth => write!(f, "too many nested calls"),
            Self::BadJump => write!(f, "control leaves the code"),
            Self::StepLimit => write!(f, "the program does not terminate"),
        }
    }
}

impl fmt::Display for MapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exists => "the key exists",
            Self::NotFound => "no such key",
            Self::TooBig => "the map is full or the index beyond its end",
            Self::Invalid => "wrong size or kind of map",
            Self::Again => "the ring buffer is full",
            Self::NoSpace => "the prefix trie is full",
        })
    }
}

impl std::error::Error for VmError {}
impl std::error::Error for MapError {}
