//! `nnbpf update`: a retrained model or another object, while packets flow.

use std::path::{Path, PathBuf};

use nnbpf_compiler::compile::Named;
use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_compiler::onnx::Resolver;
use nnbpf_compiler::params::file::{self, ParamsFile};
use nnbpf_runtime_loader::installation::{Installation, Replaced, compile_like};
use nnbpf_runtime_loader::{bounded, open};

use super::target::Target;

/// Swap in a retrained model or another object; no packet is judged by half of each.
#[derive(clap::Args)]
pub(crate) struct Update {
    /// What nnbpfc MODEL SPEC --like OBJ -o NEW.params wrote, a model (.onnx) for the installed object's
    /// specification and plan, or another object.
    #[arg(value_name = "NEW.params|MODEL.onnx|NEW.o")]
    file: PathBuf,
    /// Feature rows to calibrate a model on, as CSV.
    #[arg(long, value_name = "CSV")]
    calibrate: Option<PathBuf>,
    /// End a shadow, whose slot the update needs.
    #[arg(long)]
    replace_shadow: bool,
    #[command(flatten)]
    target: Target,
}

/// What a file is.
enum Kind {
    Parameters,
    Model,
    Object,
}

impl Kind {
    fn of(path: &Path, bytes: &[u8]) -> Self {
        let extension = path.extension().and_then(|extension| extension.to_str());
        match extension {
            Some("o") => Self::Object,
            _ if bytes.starts_with(b"\x7fELF") => Self::Object,
            Some("onnx") => Self::Model,
            _ => Self::Parameters,
        }
    }
}

impl Update {
    pub(crate) fn run(&self) -> Outcome<()> {
        let name = self.file.display().to_string();
        let bytes = bytes_of(&self.file)?;
        match Kind::of(&self.file, &bytes) {
            Kind::Parameters => {
                let params = file::read(&name, &bytes).map_err(|diagnostic| vec![*diagnostic])?;
                self.swap(&self.target.open()?, &params, &name)
            }
            Kind::Model => {
                let installation = self.target.open()?;
                let rows = self.calibrate.as_deref().map(|rows| up_to(rows, bounded::RECORDS)).transpose()?;
                let rows_name = self.calibrate.as_ref().map(|path| path.display().to_string());
                let rows = rows_name.as_ref().zip(rows.as_ref());
                let calibration = rows.map(|(name, bytes)| Named { name, bytes });
                let model = Named { name: &name, bytes: &bytes };
                let (metadata, place) = (installation.metadata()?, installation.pins().metadata());
                // Hosts can be blocked and updates rolled back while a large model is compiled.
                drop(installation);
                let params =
                    compile_like((&metadata, &place), model, calibration, &Beside { model: &self.file })?;
                // What was replaced meanwhile refuses parameters of another plan.
                self.swap(&self.target.open()?, &params, &name)
            }
            Kind::Object => {
                let opened = open::open(&self.file).map_err(|error| error.diagnostics())?;
                let installation = self.target.open()?;
                if self.replace_shadow {
                    installation.end_shadow()?;
                }
                match installation.replace(&opened, &name)? {
                    Replaced::Done { generation, code, lost } => {
                        warn(&lost);
                        println!("generation {generation}: programs {code} are active");
                    }
                    Replaced::Same { generation } => {
                        println!("generation {generation}: the object is at work already");
                    }
                }
                Ok(())
            }
        }
    }

    fn swap(&self, installation: &Installation, params: &ParamsFile, name: &str) -> Outcome<()> {
        let active = if self.replace_shadow {
            installation.update_over_shadow(params, name)?
        } else {
            installation.update(params, name)?
        };
        println!("generation {}: slot {} is active", active.generation, active.index);
        Ok(())
    }
}

/// What an update has cost.
pub(super) fn warn(lost: &[String]) {
    for lost in lost {
        eprintln!("warning: {lost}");
    }
}

fn bytes_of(path: &Path) -> Outcome<Vec<u8>> {
    up_to(path, bounded::OBJECT)
}

fn up_to(path: &Path, limit: u64) -> Outcome<Vec<u8>> {
    let name = path.display().to_string();
    bounded::read(path, limit).map_err(|error| {
        vec![Diagnostic::new(
            &codes::PARAMS_MISFIT,
            Origin::File { file: name.clone() },
            format!("cannot read {name}: {error}"),
            bounded::help(
                &error,
                "check the path; `nnbpfc MODEL SPEC --like OBJ -o NEW.params` writes parameters",
            ),
        )]
    })
}

/// Files that a model refers to lie beside it.
struct Beside<'a> {
    model: &'a Path,
}

impl Resolver for Beside<'_> {
    fn read(&self, relative: &str) -> Result<Vec<u8>, String> {
        let directory = self.model.parent().unwrap_or(Path::new(""));
        bounded::read(&directory.join(relative), bounded::TENSORS).map_err(|error| error.to_string())
    }
}

/// A parameter file, and its name for messages.
pub(super) fn read(path: &Path) -> Outcome<(String, ParamsFile)> {
    let name = path.display().to_string();
    let params = file::read(&name, &bytes_of(path)?).map_err(|diagnostic| vec![*diagnostic])?;
    Ok((name, params))
}
