//! Whether this process may use BPF at all, decided once by loading a program of two instructions.

use std::io;
use std::sync::OnceLock;

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::module::Function;
use nnbpf_compiler::bpf::{AluOp, Insn, Operand, Reg, Width};
use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};

use crate::{capabilities, sys};

/// `BPF_PROG_TYPE_XDP`.
const PROG_TYPE_XDP: u32 = 6;

/// `XDP_PASS`.
const XDP_PASS: i32 = 2;

/// BPF is not available to this process.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PermissionError {
    #[error("the kernel does not let this process load BPF programs{}", lacks(missing))]
    Denied { missing: Vec<&'static str> },
    #[error("this kernel has no BPF system call")]
    NoBpf,
    #[error("the kernel refuses a program of two instructions: {reason}")]
    Refused { reason: String },
}

/// Loads the smallest program. The first answer is kept for the life of the process.
///
/// # Errors
/// Says why BPF is not available.
pub fn check() -> Result<(), PermissionError> {
    static ANSWER: OnceLock<Result<(), PermissionError>> = OnceLock::new();
    ANSWER.get_or_init(probe).clone()
}

impl PermissionError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let origin = Origin::Kernel { object: "bpf(2)".to_owned() };
        let (code, help) = match self {
            Self::Denied { .. } => (
                &codes::NO_PERMISSION,
                "run the command as root, or give it CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
            ),
            Self::NoBpf => (
                &codes::MISSING_FEATURE,
                "boot a kernel that was built with CONFIG_BPF_SYSCALL=y, 5.10 or newer",
            ),
            Self::Refused { .. } => (
                &codes::NO_PERMISSION,
                "read the kernel's log with `dmesg`; a security module may refuse BPF",
            ),
        };
        Diagnostic::new(code, origin, self.to_string(), help)
    }
}

/// The capabilities that are missing, in words.
fn lacks(missing: &[&str]) -> String {
    if missing.is_empty() { String::new() } else { format!(": it lacks {}", missing.join(", ")) }
}

fn probe() -> Result<(), PermissionError> {
    // The small program needs less than a real one.
    let missing = capabilities::missing();
    if !missing.is_empty() {
        return Err(PermissionError::Denied { missing });
    }
    let instructions = smallest_program()
        .ok_or_else(|| PermissionError::Refused { reason: "it does not assemble".to_owned() })?;
    match sys::load_program(PROG_TYPE_XDP, &instructions, "GPL") {
        Ok(_) => Ok(()),
        Err(error) => Err(classify(&error)),
    }
}

fn classify(error: &io::Error) -> PermissionError {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => PermissionError::Denied { missing: capabilities::missing() },
        Some(libc::ENOSYS) => PermissionError::NoBpf,
        _ => PermissionError::Refused { reason: error.to_string() },
    }
}

/// `r0 = 2; exit`, encoded by the compiler's assembler: the instruction format is known there only.
fn smallest_program() -> Option<Vec<u8>> {
    let pass = Insn::Alu { width: Width::W64, op: AluOp::Mov, dst: Reg::R0, src: Operand::Imm(XDP_PASS) };
    let function = Function {
        name: "probe".to_owned(),
        section: "xdp".to_owned(),
        code: vec![pass, Insn::Exit],
        line_of: vec![0, 0],
        lines: Vec::new(),
        parameters: Vec::new(),
    };
    assemble(&function).ok().map(|assembled| assembled.bytes)
}
