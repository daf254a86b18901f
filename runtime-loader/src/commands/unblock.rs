//! `nnbpf unblock`: takes a host off the list of blocked ones.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::hosts::Host;

use super::target::Target;
use super::{bad_host, refused};

/// Let the packets of a blocked host through again.
#[derive(clap::Args)]
pub(crate) struct Unblock {
    /// An IPv4 or IPv6 address.
    #[arg(value_name = "HOST")]
    host: String,
    #[command(flatten)]
    target: Target,
}

impl Unblock {
    pub(crate) fn run(&self) -> Outcome<()> {
        let host = Host::parse(&self.host).map_err(|error| bad_host(&error))?;
        let found = self.target.open()?.unblock(host).map_err(refused)?;
        println!("{host}: {}", if found { "unblocked" } else { "was not blocked" });
        Ok(())
    }
}
