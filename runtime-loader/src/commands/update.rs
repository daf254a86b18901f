//! `nnbpf update`: the parameters of a retrained model, while packets flow.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::elf::metadata;
use nnbpf_compiler::params::file::{self, ParamsFile};
use nnbpf_runtime_loader::installation::Installation;

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
        fits(&installation, &params, &name)?;
        let active = installation.update(&params.slot).map_err(|error| vec![error.diagnostic()])?;
        println!("generation {}: slot {} is active", active.generation, active.index);
        Ok(())
    }
}

/// Compares the layout with the one that the installed object was compiled for. An object whose metadata says
/// nothing about it is still protected by the size of the slot.
fn fits(installation: &Installation, params: &ParamsFile, name: &str) -> Outcome<()> {
    let payload = installation.metadata().map_err(|error| vec![error.diagnostic()])?;
    let Some(wanted) = metadata::identity(&payload).layout_hash else { return Ok(()) };
    let offered: String = params.layout_hash.iter().map(|byte| format!("{byte:02x}")).collect();
    if wanted.eq_ignore_ascii_case(&offered) {
        return Ok(());
    }
    Err(vec![
        Diagnostic::new(
            &codes::PARAMS_MISFIT,
            Origin::File { file: name.to_owned() },
            "the parameters were compiled for an object of another plan",
            "compile them with `nnbpfc MODEL SPEC --like OBJ -o NEW.params` for the object that is installed",
        )
        .with_note(format!("layout of the installed object: {wanted}"))
        .with_note(format!("layout of the parameters: {offered}")),
    ])
}
