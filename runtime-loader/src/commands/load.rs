//! `nnbpf load`: checks an object, loads it, attaches it, pins it.

use std::path::PathBuf;

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::{AttachMode, Mode, install, interface_exists};
use nnbpf_runtime_loader::pins::PinDirectory;
use nnbpf_runtime_loader::{Kernel, open};

use super::refused;

/// Load an object and attach it to an interface, in monitor mode unless --enforce is given.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// The object that nnbpfc wrote.
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// The interface whose incoming packets are judged.
    #[arg(long, value_name = "IF")]
    iface: String,
    /// How XDP is attached [default: native where the driver can, else skb].
    #[arg(long, value_enum)]
    mode: Option<XdpMode>,
    /// Let verdicts act; otherwise they are only counted and reported.
    #[arg(long)]
    enforce: bool,
    /// Directory in bpffs for programs, maps and the attachment [default: /sys/fs/bpf/nnbpf/IF].
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum XdpMode {
    /// Generic: works on every interface.
    Skb,
    /// In the driver: faster.
    Native,
}

impl Load {
    pub(crate) fn run(&self) -> Outcome<()> {
        let opened = open::open(&self.object).map_err(|error| error.diagnostics())?;
        interface_exists(&self.iface).map_err(refused)?;
        let file = self.object.display().to_string();
        let loaded = Kernel::load(&opened.bytes).map_err(|error| error.diagnostics(&file))?;
        let pins = match &self.pin {
            Some(path) => PinDirectory::at(path),
            None => PinDirectory::of_interface(&self.iface),
        };
        let attach = match self.mode {
            None => AttachMode::Any,
            Some(XdpMode::Skb) => AttachMode::Skb,
            Some(XdpMode::Native) => AttachMode::Native,
        };
        let mode = if self.enforce { Mode::Enforce } else { Mode::Monitor };
        let installation = install(&loaded, &opened, &self.iface, attach, mode, pins).map_err(refused)?;
        let does = if self.enforce { "enforcing" } else { "monitoring" };
        println!("{}: {does}, pinned at {}", self.iface, installation.pins().path().display());
        Ok(())
    }
}
