//! `nnbpf unload`: detaches and removes everything.

use nnbpf_compiler::diag::Outcome;

use super::refused;
use super::target::Target;

/// Detach the program and remove everything that was pinned.
#[derive(clap::Args)]
pub(crate) struct Unload {
    #[command(flatten)]
    target: Target,
}

impl Unload {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let directory = installation.pins().path().display().to_string();
        installation.remove().map_err(refused)?;
        println!("{directory}: removed");
        Ok(())
    }
}
