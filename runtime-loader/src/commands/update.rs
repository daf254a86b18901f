//! `nnbpf update`: the parameters of a retrained model, while packets flow.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::params::file;

use super::target::Target;

/// Swap in the parameters of a retrained model; no packet is judged by half of each.
#[derive(clap::Args)]
pub(crate) struct Update {
    /// What nnbpfc MODEL SPEC --like OBJ -o NEW.params wrote.
    #[arg(value_name = "NEW.params")]
    params: PathBuf,
    #[command(flatten)]
    target: Target,
}

impl Update {
    pub(crate) fn run(&self) -> Outcome<()> {
        let name = self.params.display().to_string();
        let bytes = std::fs::read(&self.params).map_err(|error| {
            vec![Diagnostic::new(
                &codes::PARAMS_MISFIT,
                Origin::File { file: name.clone() },
                format!("cannot read {name}: {error}"),
                "check the path; `nnbpfc MODEL SPEC --like OBJ -o NEW.params` writes such a file",
            )]
        })?;
        let params = file::read(&name, &bytes).map_err(|diagnostic| vec![*diagnostic])?;
        let installation = self.target.open()?;
        let active = installation.update(&params, &name)?;
        println!("generation {}: slot {} is active", active.generation, active.index);
        Ok(())
    }
}
