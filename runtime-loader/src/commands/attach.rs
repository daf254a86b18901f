//! `nnbpf attach`: one more interface for an object that is loaded.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::{
    AttachMode, AttachOutcome, Attachment, Installation, interface_exists,
};
use nnbpf_runtime_loader::permission;

use super::refused;
use super::target::ByName;

/// Attach a loaded object to more interfaces; flows, lists and counters are common to all of them.
#[derive(clap::Args)]
pub(crate) struct Attach {
    /// An interface whose packets are judged; may be given several times.
    #[arg(long, value_name = "IF", required = true)]
    iface: Vec<String>,
    /// How XDP is attached.
    #[arg(long, value_enum, default_value = "auto")]
    mode: XdpMode,
    #[command(flatten)]
    target: ByName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum XdpMode {
    /// Native where driver and interface can, else generic.
    Auto,
    /// Generic: works on every interface.
    Skb,
    /// In the driver: faster.
    Native,
}

impl From<XdpMode> for AttachMode {
    fn from(mode: XdpMode) -> Self {
        match mode {
            XdpMode::Auto => Self::Auto,
            XdpMode::Skb => Self::Skb,
            XdpMode::Native => Self::Native,
        }
    }
}

impl Attach {
    pub(crate) fn run(&self) -> Outcome<()> {
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        for interface in &self.iface {
            interface_exists(interface).map_err(refused)?;
        }
        let installation = Installation::open(self.target.directory_or_only()?).map_err(refused)?;
        for interface in &self.iface {
            match installation.attach(interface, self.mode.into()).map_err(refused)? {
                AttachOutcome::Attached(attachment) => println!("{}", show(&attachment)),
                AttachOutcome::Already(attachment) => println!("{}, already", show(&attachment)),
            }
        }
        Ok(())
    }
}

/// Where and how, and why not in the better way.
pub(super) fn show(attachment: &Attachment) -> String {
    let Attachment { interface, hook, by, fallback, .. } = attachment;
    let reason = fallback.as_ref().map(|reason| format!(" (native refused: {reason})"));
    format!("{interface}: attached, {} {by}{}", hook.name(), reason.unwrap_or_default())
}
