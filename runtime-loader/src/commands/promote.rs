//! `nnbpf promote`: the shadow becomes the active model.

use nnbpf_compiler::diag::Outcome;

use super::target::Target;
use super::{refused, shadow};

/// Make the shadow the active model; no packet is judged by half of each.
#[derive(clap::Args)]
pub(crate) struct Promote {
    #[command(flatten)]
    target: Target,
}

impl Promote {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let before = installation.shadow().map_err(refused)?;
        let active = installation.promote()?;
        if let Some(before) = before {
            println!("promoted {}", shadow::line(&before));
        }
        println!("generation {}: slot {} is active", active.generation, active.index);
        Ok(())
    }
}
