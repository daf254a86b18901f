//! IR to BPF: one file per operation, then register allocation.
//!
//! Operations write code over virtual registers with [`builder::Builder`]; [`regalloc`] gives every virtual
//! register a machine register or a stack slot. The packet path and the network meet in the per-CPU value
//! whose layout [`scratch`] owns.

pub mod code;
pub mod builder;
pub mod regalloc;
pub mod scratch;
pub mod cost;
pub mod walk;
pub mod network;
pub mod packet;
pub mod shipped;
pub mod evaluation;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod builder_tests;

pub use shipped::{refusal, shipped};

use std::fmt;

use crate::bpf::module::Module;
use crate::diag::codes::check::INTERNAL;
use crate::diag::{Diagnostic, Origin, Span};
use crate::kernel::KernelVersion;

/// Why lowering failed: a plan that does not fit, or a broken invariant of the lowering itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LowerError {
    /// More values are live at one place than registers can carry even with spilling.
    OutOfRegisters { function: String },
    /// Stack slots and spills pass the limit for functions of this kind.
    FrameTooLarge { function: String, bytes: u32, limit: u32 },
    /// A register is read on a path that never wrote it.
    UseBeforeDefinition { function: String, register: u32 },
    /// A jump names a label that was never bound, or the last instruction can fall off the end.
    BrokenFlow { function: String, reason: String },
    /// The checker found an allocation that does not compute what the virtual code says.
    WrongAllocation { function: String, reason: String },
    /// A part of the plan exceeds a fixed limit of the kernel or of the instruction set.
    TooLarge { what: String, value: u64, limit: u64 },
    /// The kernel that the object must load on lacks something.
    KernelTooOld { kernel: KernelVersion, since: KernelVersion, need: Need },
}

/// What some kernels lack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Atomic operations for records that processors share; the span is the flow block's.
    FlowRecords { span: Span },
    /// A data section of more than [`LARGEST_OLD_VALUE`] bytes.
    LargeValue { section: String, bytes: usize },
}

/// `KMALLOC_MAX_SIZE`, to which `array_map_alloc_check` in `kernel/bpf/arraymap.c` holds values of Linux 5.10.
pub const LARGEST_OLD_VALUE: usize = 4 << 20;

/// Whether a kernel has the room for every data section of a module.
///
/// # Errors
///
/// [`LowerError::KernelTooOld`] for the first section that is too large for it.
pub fn loads_on(module: &Module, kernel: KernelVersion) -> Result<(), LowerError> {
    let since = KernelVersion::LARGE_VALUES;
    let large = module.data.iter().find(|data| kernel < since && data.bytes.len() > LARGEST_OLD_VALUE);
    large.map_or(Ok(()), |data| {
        let need = Need::LargeValue { section: data.section.clone(), bytes: data.bytes.len() };
        Err(LowerError::KernelTooOld { kernel, since, need })
    })
}

impl fmt::Display for LowerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OutOfRegisters { function } => write!(f, "{function}: more live values than registers"),
            Self::FrameTooLarge { function, bytes, limit } => {
                write!(f, "{function}: a frame of {bytes} bytes where {limit} are allowed")
            }
            Self::UseBeforeDefinition { function, register } => {
                write!(f, "{function}: v{register} is read before it is written")
            }
            Self::BrokenFlow { function, reason } => write!(f, "{function}: {reason}"),
            Self::WrongAllocation { function, reason } => {
                write!(f, "{function}: wrong register allocation: {reason}")
            }
            Self::TooLarge { what, value, limit } => {
                write!(f, "{what} is {value}, over the limit of {limit}")
            }
            Self::KernelTooOld { kernel, since, need: Need::FlowRecords { .. } } => {
                write!(f, "flow records need atomic operations of Linux {since}, which Linux {kernel} lacks")
            }
            Self::KernelTooOld { kernel, since, need: Need::LargeValue { section, bytes } } => write!(
                f,
                "the parameters take {bytes} bytes in `{section}`, for which Linux {since} is needed; Linux \
                 {kernel} takes {LARGEST_OLD_VALUE}"
            ),
        }
    }
}

impl std::error::Error for LowerError {}

/// The diagnostic for a failure that no input should be able to cause.
#[must_use]
pub fn internal(error: &dyn std::error::Error) -> Diagnostic {
    Diagnostic::new(
        &INTERNAL,
        Origin::File { file: "the compiler".to_owned() },
        format!("the plan cannot be written as code: {error}"),
        "report this together with the model and the specification",
    )
}
