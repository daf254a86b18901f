//! `nnbpf allow`: hosts that are never blocked or dropped.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::hosts::Prefix;

use super::corrections::{Because, Truth, record};
use super::target::Target;
use super::{bad_host, refused};

/// Never drop packets of a host or prefix, whatever the model says.
#[derive(clap::Args)]
pub(crate) struct Allow {
    /// An address, or a prefix such as 10.0.0.0/8.
    #[arg(value_name = "HOST")]
    host: String,
    /// Take the host or prefix off the list again.
    #[arg(long, conflicts_with = "because")]
    remove: bool,
    #[command(flatten)]
    correction: Because,
    #[command(flatten)]
    target: Target,
}

impl Allow {
    pub(crate) fn run(&self) -> Outcome<()> {
        let prefix = Prefix::parse(&self.host).map_err(|error| bad_host(&error))?;
        let installation = self.target.open()?;
        if self.remove {
            let found = installation.disallow(prefix).map_err(refused)?;
            println!("{prefix}: {}", if found { "no longer allowed" } else { "was not allowed" });
        } else {
            let correction = self.correction.correction(&installation, prefix, Truth::Harmless)?;
            // What cannot be recorded changes nothing.
            if let Some((correction, log)) = &correction {
                record(correction, log)?;
            }
            installation.allow(prefix).map_err(refused)?;
            println!("{prefix}: allowed");
            if correction.is_some()
                && let Some(host) = prefix.host()
                && installation.unblock(host).map_err(refused)?
            {
                println!("{host}: unblocked");
            }
        }
        Ok(())
    }
}
