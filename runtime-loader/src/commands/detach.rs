//! `nnbpf detach`: one interface less for an object that stays loaded.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::Installation;
use nnbpf_runtime_loader::permission;

use super::refused;
use super::target::{ByName, of_interface};

/// Detach a loaded object from interfaces; it stays loaded, with its flows, lists and counters.
#[derive(clap::Args)]
pub(crate) struct Detach {
    /// An interface that the object is attached to; may be given several times.
    #[arg(long, value_name = "IF", required = true)]
    iface: Vec<String>,
    #[command(flatten)]
    target: ByName,
}

impl Detach {
    pub(crate) fn run(&self) -> Outcome<()> {
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        for interface in &self.iface {
            let pins = match self.target.directory() {
                Some(pins) => pins,
                None => of_interface(interface)?,
            };
            let installation = Installation::open(pins).map_err(refused)?;
            let was = installation.detach(interface).map_err(refused)?;
            println!("{interface}: {}", if was { "detached" } else { "was not attached" });
        }
        Ok(())
    }
}
