//! Loads, watches and hot-updates the objects that `nnbpfc` writes.
//!
//! [`Kernel::load`] takes the bytes of an object and answers with its programs and maps; [`Loaded::run`]
//! runs a program on a packet without a network interface. Everything that depends on the running kernel
//! lives in this crate; the compiler's output never does. Each stage has its own error type, and every error
//! turns into a [`nnbpf_compiler::diag::Diagnostic`] with a code of the family `E08xx`.
//!
//! Programs that embed the loader attach with [`installation::install`], update with
//! [`installation::Installation::update`] and take events as an iterator:
//!
//! ```no_run
//! use std::path::Path;
//!
//! use nnbpf_runtime_loader::events::{Events, Record};
//! use nnbpf_runtime_loader::installation::{AttachMode, Mode, Request, install};
//! use nnbpf_runtime_loader::pins::PinDirectory;
//! use nnbpf_runtime_loader::{Kernel, open};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let opened = open::open(Path::new("ids.o"))?;
//! let loaded = Kernel::load(&opened.bytes)?;
//! let interfaces = ["eth0".to_owned()];
//! let request = Request { interfaces: &interfaces, attach: AttachMode::Auto, mode: Mode::Monitor };
//! let (installation, _) = install(&loaded, &opened, request, PinDirectory::named("mine"))?;
//! let mut events = Events::open(installation).map_err(|refused| refused[0].message.clone())?;
//! for record in events.until(None) {
//!     if let Record::Verdict(event) = record? {
//!         println!("{}: {}", event.src, event.label_name);
//!     }
//! }
//! # Ok(())
//! # }
//! ```
//!
//! `examples/embed.rs` is a whole program.

pub mod permission;
pub mod bounded;
pub mod lost;
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
