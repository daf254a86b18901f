//! `nnbpf rollback`: what was at work before, while packets flow.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::RolledBack;

use super::target::Target;
use super::update::warn;

/// Go back to earlier parameters, and to the programs that they were for.
#[derive(clap::Args)]
pub(crate) struct Rollback {
    /// One of the generations that `nnbpf status` lists [default: the one before].
    #[arg(value_name = "GENERATION")]
    generation: Option<u32>,
    #[command(flatten)]
    target: Target,
}

impl Rollback {
    pub(crate) fn run(&self) -> Outcome<()> {
        let installation = self.target.open()?;
        match installation.rollback(self.generation)? {
            RolledBack::Done { generation, restores, code, lost } => {
                warn(&lost);
                let programs = code.map(|code| format!(", programs {code}")).unwrap_or_default();
                println!("generation {generation}: restores {restores}{programs}");
            }
            RolledBack::Same { generation } => println!("generation {generation}: is at work already"),
        }
        Ok(())
    }
}
