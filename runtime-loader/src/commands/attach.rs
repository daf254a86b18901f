//! `nnbpf attach`: one more interface for an object that is loaded.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::{
    AttachMode, AttachOutcome, AttachedBy, Attachment, Installation, interface_exists,
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
    /// How the program is attached.
    #[arg(long, value_enum, default_value = "auto")]
    mode: Way,
    #[command(flatten)]
    target: ByName,
}

#[derive(Clone, Copy, clap::ValueEnum)]
pub(super) enum Way {
    /// XDP: native where driver and interface can, else generic. tc: tcx where the kernel has it, else clsact.
    Auto,
    /// Generic XDP: works on every interface.
    Skb,
    /// XDP in the driver: faster.
    Native,
    /// A link of tcx, from Linux 6.6 on.
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

impl From<Way> for AttachMode {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Skb => Self::Skb,
            Way::Native => Self::Native,
            Way::Tcx => Self::Tcx,
            Way::Clsact => Self::Clsact,
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
    format!("{}: attached, {}", attachment.interface, way(attachment))
}

/// How, and why not in the better way.
pub(super) fn way(attachment: &Attachment) -> String {
    let Attachment { hook, by, fallback, .. } = attachment;
    let better = match by {
        AttachedBy::Native | AttachedBy::Generic => "native",
        AttachedBy::Tcx | AttachedBy::Clsact => "tcx",
    };
    let reason = fallback.as_ref().map(|reason| format!(" ({better} refused: {reason})"));
    format!("{} {by}{}", hook.name(), reason.unwrap_or_default())
}
