//! Loads, watches and hot-updates the objects that `nnbpfc` writes.
//!
//! [`Kernel::load`] takes the bytes of an object and answers with its programs and maps; [`Loaded::run`]
//! runs a program on a packet without a network interface. Everything that depends on the running kernel
//! lives in this crate; the compiler's output never does. Each stage has its own error type, and every error
//! turns into a [`nnbpf_compiler::diag::Diagnostic`] with a code of the family `E08xx`.

pub mod permission;
pub mod holds;
pub mod open;
pub mod load;
pub mod test_run;
pub mod log;
pub mod maps;
pub mod grace;
pub mod hot_update;
pub mod shadow;
pub mod hosts;
pub mod attach_tc;
mod xdp_query;
pub mod pins;
pub mod installation;
pub mod events;
pub mod whole_file;
pub mod corrections;
pub mod capabilities;
mod sys;

pub use attach_tc::Hook;
pub use load::{Kernel, LoadError, Loaded, Program, Shared};
pub use log::VerifierLog;
pub use maps::{Map, MapError, Update, possible_cpus};
pub use open::OpenError;
pub use permission::PermissionError;
pub use test_run::{PinnedProgram, RunError, RunInput, RunOutput, pin_to_cpu};
