//! `nnbpf mode`: from monitoring to enforcing, and back.

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::installation;

use super::refused;
use super::target::Target;

/// Let verdicts act, or only count and report them, from the next packet on.
#[derive(clap::Args)]
pub(crate) struct Mode {
    /// What verdicts do.
    #[arg(value_enum)]
    mode: Wanted,
    #[command(flatten)]
    target: Target,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Wanted {
    /// Nothing: they are counted and reported, and every packet passes.
    Monitor,
    /// What the rules say.
    Enforce,
}

impl Mode {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        let (mode, name) = match self.mode {
            Wanted::Monitor => (installation::Mode::Monitor, "monitoring"),
            Wanted::Enforce => (installation::Mode::Enforce, "enforcing"),
        };
        if mode == installation::Mode::Enforce && installation.fuse().map_err(refused)?.blown.is_some() {
            return Err(vec![Diagnostic::new(
                &codes::SETTING,
                Origin::Kernel { object: installation.pins().path().display().to_string() },
                "the fuse has blown: too many packets were dropped",
                "look at `nnbpf status`, then enforce again with `nnbpf fuse --reset`",
            )]);
        }
        let changed = installation.set_mode(mode).map_err(refused)?;
        println!("{name}{}", if changed { "" } else { " already" });
        Ok(())
    }
}
