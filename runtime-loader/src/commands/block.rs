//! `nnbpf block`: a host whose packets are dropped in enforce mode.

use std::time::Duration;

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::hosts::{Host, Prefix};

use super::corrections::{Because, Truth, record};
use super::target::Target;
use super::time::duration;
use super::{bad_host, refused};

/// Drop the packets of a host from its next one on (in enforce mode).
#[derive(clap::Args)]
pub(crate) struct Block {
    /// An IPv4 or IPv6 address.
    #[arg(value_name = "HOST")]
    host: String,
    /// For how long, such as 30s, 10min or 2h [default: until it is unblocked].
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    time: Option<Duration>,
    #[command(flatten)]
    correction: Because,
    #[command(flatten)]
    target: Target,
}

impl Block {
    pub(crate) fn run(&self) -> Outcome<()> {
        let host = Host::parse(&self.host).map_err(|error| bad_host(&error))?;
        let installation = self.target.open()?;
        if let Some((correction, log)) =
            self.correction.correction(&installation, Prefix::from(host), Truth::Harmful)?
        {
            record(&correction, &log)?;
        }
        installation.block(host, self.time).map_err(refused)?;
        match self.time {
            None => println!("{host}: blocked"),
            Some(time) => println!("{host}: blocked for {} s", time.as_secs()),
        }
        Ok(())
    }
}
