//! What can go wrong with an installation, and what the user is told about it.

use std::io;
use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::lower::packet::sweep::SWEEP;

use super::AttachMode;
use crate::maps::MapError;
use crate::test_run::RunError;

/// An installation that cannot be made, found or changed.
#[derive(Debug, thiserror::Error)]
pub enum InstallationError {
    #[error("there is no interface `{interface}` in this network namespace")]
    NoInterface { interface: String },
    #[error("{} is not in a mounted bpffs", path.display())]
    NoBpffs { path: PathBuf },
    #[error("something is installed at {} already", directory.display())]
    Exists { directory: PathBuf },
    #[error("nothing is installed at {}", directory.display())]
    NotInstalled { directory: PathBuf },
    #[error("the installation at {} is not complete", directory.display())]
    Incomplete { directory: PathBuf },
    #[error("the events of {} are being read by another command", directory.display())]
    EventsInUse { directory: PathBuf },
    #[error("cannot pin at {}: {source}", path.display())]
    Pin { path: PathBuf, source: io::Error },
    #[error("cannot attach to `{interface}` in {mode} mode: {source}")]
    Attach {
        interface: String,
        mode: AttachMode,
        /// The XDP program that is there.
        present: Option<String>,
        source: io::Error,
    },
    #[error("cannot replace the program on `{interface}`: {source}")]
    Switch { interface: String, source: io::Error },
    #[error("the filter on {interface} can be changed in its own namespace only")]
    OutOfReach { interface: String },
    #[error("the metadata does not read")]
    Metadata(Option<Box<Diagnostic>>),
    #[error("generation {generation} is not kept")]
    NoGeneration { generation: u32, kept: Vec<u32> },
    #[error("there is nothing before generation {generation}")]
    NothingBefore { generation: u32 },
    #[error("the new object is for {offered}, the installed one for {installed}")]
    OtherHook { installed: &'static str, offered: &'static str },
    #[error("the object of {} has no program `{}`", directory.display(), SWEEP)]
    NoSweep { directory: PathBuf },
    #[error("on Linux {release} packets can come between the steps of a sweep")]
    OldKernel { release: String },
    #[error("the clock is not readable: {0}")]
    Clock(io::Error),
    #[error(transparent)]
    Map(#[from] MapError),
    #[error(transparent)]
    Program(#[from] RunError),
}

impl InstallationError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let object = |object: String| Origin::Kernel { object };
        let (code, origin, help) = match self {
            Self::NoInterface { interface } => (
                &codes::NO_INTERFACE,
                object(interface.clone()),
                "list the interfaces with `ip link`, and run the command in the interface's namespace"
                    .to_owned(),
            ),
            Self::NoBpffs { path } => (
                &codes::NO_BPFFS,
                object(path.display().to_string()),
                "run `mount -t bpf bpf /sys/fs/bpf`; inside `ip netns exec`, which hides it, use `nsenter \
                 --net=/run/netns/NAME` instead"
                    .to_owned(),
            ),
            Self::Exists { directory } => (
                &codes::ALREADY_INSTALLED,
                object(directory.display().to_string()),
                format!(
                    "change it with `nnbpf update` and `nnbpf attach`, remove it with `nnbpf unload --pin {}`, or \
                     choose another `--name NAME`",
                    directory.display()
                ),
            ),
            Self::NotInstalled { directory } => (
                &codes::NOT_INSTALLED,
                object(directory.display().to_string()),
                "load an object with `nnbpf load OBJ --iface IF`; `nnbpf status` lists what is installed"
                    .to_owned(),
            ),
            Self::Incomplete { directory } => (
                &codes::INCOMPLETE,
                object(directory.display().to_string()),
                format!(
                    "load again, which removes it, or remove it with `nnbpf unload --pin {}`",
                    directory.display()
                ),
            ),
            Self::EventsInUse { directory } => (
                &codes::EVENTS_IN_USE,
                object(directory.display().to_string()),
                "end the other `nnbpf events`, or let it write to a file that you follow".to_owned(),
            ),
            Self::Pin { path, .. } => (
                &codes::PIN,
                object(path.display().to_string()),
                "run the command as root; name a directory in bpffs without a dot with `--pin DIR`"
                    .to_owned(),
            ),
            Self::Attach { interface, mode, present, source } => {
                let help = attach_help(interface, *mode, source);
                let diagnostic =
                    Diagnostic::new(&codes::ATTACH, object(interface.clone()), self.to_string(), help);
                return match present {
                    Some(present) => diagnostic.with_note(format!("attached to {interface}: {present}")),
                    None => diagnostic,
                };
            }
            Self::Switch { interface, .. } => (
                &codes::ATTACH,
                object(interface.clone()),
                "the programs that were attached still are; look at `nnbpf status` and try again".to_owned(),
            ),
            Self::OutOfReach { interface } => (
                &codes::ATTACH,
                object(interface.clone()),
                "run the command in the interface's namespace, with `nsenter --net=/run/netns/NAME`"
                    .to_owned(),
            ),
            Self::Metadata(Some(diagnostic)) => return (**diagnostic).clone(),
            Self::Metadata(None) => {
                (&codes::INCOMPLETE, object("metadata".to_owned()), "load the object again".to_owned())
            }
            Self::NoGeneration { kept, .. } => (
                &codes::NO_GENERATION,
                Origin::Flag { flag: "GENERATION".to_owned() },
                format!(
                    "choose one of {}; `nnbpf status` tells what they are",
                    kept.iter().map(u32::to_string).collect::<Vec<_>>().join(", ")
                ),
            ),
            Self::NothingBefore { .. } => (
                &codes::NO_GENERATION,
                Origin::Flag { flag: "GENERATION".to_owned() },
                "name a generation that `nnbpf status` lists".to_owned(),
            ),
            Self::OtherHook { .. } => (
                &codes::OTHER_HOOK,
                Origin::Kernel { object: "nn_entry".to_owned() },
                "run `nnbpf unload`, then `nnbpf load`".to_owned(),
            ),
            Self::NoSweep { directory } => (
                &codes::NO_SWEEP,
                object(directory.display().to_string()),
                "write `sweep` behind the idle time, as in `idle 60 s sweep;`, compile, and put the object in place with \
                 `nnbpf update NEW.o`"
                    .to_owned(),
            ),
            Self::OldKernel { release } => (
                &codes::MISSING_FEATURE,
                object(format!("Linux {release}")),
                "sweep on Linux 6.3 or later; everything else works, and idle flows are judged at their next packet"
                    .to_owned(),
            ),
            Self::Clock(_) => (&codes::MAP_ACCESS, object("clock".to_owned()), "try again".to_owned()),
            Self::Map(error) => return error.diagnostic(),
            Self::Program(error) => return error.diagnostic(),
        };
        Diagnostic::new(code, origin, self.to_string(), help)
    }
}

/// The kernel's reasons are few, and each has a remedy of its own.
fn attach_help(interface: &str, mode: AttachMode, source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EBUSY | libc::EEXIST) => format!(
            "an interface takes one XDP program, and another one is attached; see it with `nnbpf status` or \
             `bpftool net show dev {interface}`, and remove it first"
        ),
        Some(libc::EOPNOTSUPP) if mode == AttachMode::Native => {
            "the driver has no native XDP; use `--mode skb`".to_owned()
        }
        Some(libc::EINVAL | libc::ERANGE) if mode == AttachMode::Native => format!(
            "native XDP often wants a small MTU: `ip link set {interface} mtu 1500`, or use `--mode skb`"
        ),
        Some(libc::EINVAL) if mode == AttachMode::Tcx => {
            "tcx needs Linux 6.6; use `--mode clsact`".to_owned()
        }
        Some(libc::EPERM | libc::EACCES) => "run the command as root, or give it CAP_NET_ADMIN".to_owned(),
        None => {
            "the specification's `attach` decides: `--mode skb` and `native` are for xdp, `tcx` and `clsact` \
                 for tc"
                .to_owned()
        }
        Some(_) => {
            "try `--mode skb`, which every interface supports; kernels from 5.9 on can pin the attachment"
                .to_owned()
        }
    }
}
