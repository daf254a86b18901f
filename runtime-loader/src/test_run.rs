//! `BPF_PROG_TEST_RUN`: a program on a packet, without a network interface.

use std::io;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};

use crate::attach_tc::Hook;
use crate::sys;

/// Smallest packet that a test run of XDP or tc takes: an Ethernet header (`net/bpf/test_run.c`).
pub const MIN_PACKET_BYTES: usize = 14;

/// Room for the packet that a program leaves behind: a page.
const OUTPUT_BYTES: usize = 4096;

/// Room for `struct __sk_buff`, which grows with the kernel (192 bytes in 6.18), and where its mark stands.
const SK_BUFF_BYTES: usize = 256;
const SK_BUFF_MARK: usize = 8;

/// What to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunInput<'data> {
    /// The packet, at least [`MIN_PACKET_BYTES`]; with pages of 4,096 bytes XDP without fragments takes up to
    /// 3,520 bytes and tc up to 3,712. What tc takes at least says [`is_stub`].
    pub data: &'data [u8],
    /// How often; the duration is the mean. Zero runs once.
    pub repeat: u32,
    /// Whether to copy the packet back, and at tc its mark.
    pub output: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunOutput {
    /// Return value of the program, of the last repetition.
    pub ret: u32,
    /// Mean of one repetition in nanoseconds, by the kernel's clock.
    pub duration_ns: u64,
    /// The packet after the run, when it was asked for.
    pub data: Option<Vec<u8>>,
    /// The packet's mark after the run of a program of tc, when the packet was asked for.
    pub mark: Option<u32>,
}

/// A test run that did not take place.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the object holds no program `{program}`")]
    NoProgram { program: String },
    #[error("a packet of {bytes} bytes is too small for `{program}`")]
    TooSmall { program: String, bytes: usize },
    #[error("a packet of {bytes} bytes is too large for `{program}`")]
    TooLarge { program: String, bytes: usize },
    #[error("the kernel cannot run `{program}` on a packet: {source}")]
    Kernel { program: String, source: io::Error },
}

impl RunError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let (code, program, help) = match self {
            Self::NoProgram { program } => {
                (&codes::NO_SUCH_PART, program, "list the programs with `nnbpfc inspect OBJ`")
            }
            Self::TooSmall { program, .. } => {
                (&codes::TEST_RUN, program, "give a frame with its Ethernet header")
            }
            Self::TooLarge { program, .. } => (
                &codes::TEST_RUN,
                program,
                "cut the frame: a test run takes up to 3520 bytes at XDP and 3712 at tc; `nnbpfc replay --engine vm` takes \
                 any",
            ),
            Self::Kernel { program, .. } => (
                &codes::TEST_RUN,
                program,
                "test runs need CAP_BPF and CAP_NET_ADMIN and, for XDP, a kernel from 5.10 on",
            ),
        };
        Diagnostic::new(code, Origin::Kernel { object: program.clone() }, self.to_string(), help)
    }
}

/// Whether a frame is too short for a test run: of XDP without an Ethernet header, of tc also without the
/// fixed part of the IP header that the Ethernet header announces (`bpf_prog_test_run_skb`, from 6.18 on).
#[must_use]
pub fn is_stub(hook: Hook, frame: &[u8]) -> bool {
    let announced = match (hook, frame.get(12..MIN_PACKET_BYTES)) {
        (Hook::Xdp, _) => 0,
        (Hook::TcIngress | Hook::TcEgress, Some([0x08, 0x00])) => 20,
        (Hook::TcIngress | Hook::TcEgress, Some([0x86, 0xdd])) => 40,
        (Hook::TcIngress | Hook::TcEgress, Some(_) | None) => 0,
    };
    frame.len() < MIN_PACKET_BYTES + announced
}

/// Runs a program that is loaded.
///
/// # Errors
/// A packet whose size the kernel does not take, or a kernel that cannot run the program.
/// A program that is pinned, for runs without an interface.
#[derive(Debug)]
pub struct PinnedProgram {
    pub(crate) fd: OwnedFd,
    pub(crate) name: String,
}

impl PinnedProgram {
    /// Runs the program on a packet.
    ///
    /// # Errors
    /// A packet that the kernel does not take.
    pub fn run(&self, input: RunInput<'_>) -> Result<RunOutput, RunError> {
        run(self.fd.as_fd(), &self.name, &input, false)
    }
}

/// `marks`: the program's context is a socket buffer, which has a mark.
pub(crate) fn run(
    program: BorrowedFd<'_>,
    name: &str,
    input: &RunInput<'_>,
    marks: bool,
) -> Result<RunOutput, RunError> {
    let bytes = input.data.len();
    if bytes < MIN_PACKET_BYTES {
        return Err(RunError::TooSmall { program: name.to_owned(), bytes });
    }
    let room = if input.output { bytes + OUTPUT_BYTES } else { 0 };
    let mut output = vec![0; room];
    let mut buffer = [0; SK_BUFF_BYTES];
    let context = if marks && input.output { buffer.as_mut_slice() } else { &mut [] };
    let answer = sys::test_run(program, input.data, &mut output, context, input.repeat.max(1));
    let answer = answer.map_err(|source| {
        let program = name.to_owned();
        // `bpf_test_init` answers EINVAL for the size; the sizes below it are known to be fine.
        if source.raw_os_error() == Some(libc::EINVAL) && bytes > 3520 {
            RunError::TooLarge { program, bytes }
        } else {
            RunError::Kernel { program, source }
        }
    })?;
    let data = input.output.then(|| {
        output.truncate(answer.output_bytes as usize);
        output
    });
    let mark = (marks && input.output)
        .then(|| buffer.get(SK_BUFF_MARK..).and_then(<[u8]>::first_chunk).copied().map(u32::from_ne_bytes));
    let duration_ns = u64::from(answer.duration_ns);
    Ok(RunOutput { ret: answer.ret, duration_ns, data, mark: mark.flatten() })
}

/// Keeps the calling thread on one CPU, so that timings do not move and per-CPU values are found again.
///
/// # Errors
/// A CPU that does not exist or that this process may not use.
pub fn pin_to_cpu(cpu: usize) -> io::Result<()> {
    sys::set_affinity(cpu)
}
