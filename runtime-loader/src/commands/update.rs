//! `nnbpf update`: the parameters of a retrained model, while packets flow.

use std::path::{Path, PathBuf};

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::params::file::{self, ParamsFile};

use super::target::Target;

/// Swap in the parameters of a retrained model; no packet is judged by half of each.
#[derive(clap::Args)]
pub(crate) struct Update {
    /// What nnbpfc MODEL SPEC --like OBJ -o NEW.params wrote.
    #[arg(value_name = "NEW.params")]
    params: PathBuf,
    /// End a shadow, whose slot the update needs.
    #[arg(long)]
    replace_shadow: bool,
    #[command(flatten)]
    target: Target,
}

impl Update {
    pub(crate) fn run(&self) -> Outcome<()> {
        let (name, params) = read(&self.params)?;
        let installation = self.target.open()?;
        let active = if self.replace_shadow {
            installation.update_over_shadow(&params, &name)?
        } else {
            installation.update(&params, &name)?
        };
        println!("generation {}: slot {} is active", active.generation, active.index);
        Ok(())
    }
}

/// A parameter file, and its name for messages.
pub(super) fn read(path: &Path) -> Outcome<(String, ParamsFile)> {
    let name = path.display().to_string();
    let bytes = std::fs::read(path).map_err(|error| {
        vec![Diagnostic::new(
            &codes::PARAMS_MISFIT,
            Origin::File { file: name.clone() },
            format!("cannot read {name}: {error}"),
            "check the path; `nnbpfc MODEL SPEC --like OBJ -o NEW.params` writes such a file",
        )]
    })?;
    let params = file::read(&name, &bytes).map_err(|diagnostic| vec![*diagnostic])?;
    Ok((name, params))
}
