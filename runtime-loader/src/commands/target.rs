//! Which installation a command works on.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::installation::{Installation, InstallationError};
use nnbpf_runtime_loader::permission;
use nnbpf_runtime_loader::pins::{PinDirectory, ROOT};

use super::refused;

#[derive(clap::Args)]
pub(crate) struct Target {
    /// The interface that the object was loaded on; may be left out when there is only one.
    #[arg(long, value_name = "IF")]
    iface: Option<String>,
    /// The directory in bpffs that the object was loaded with.
    #[arg(long, value_name = "DIR", conflicts_with = "iface")]
    pin: Option<PathBuf>,
}

impl Target {
    /// Whether the user named one.
    pub(crate) fn is_named(&self) -> bool {
        self.iface.is_some() || self.pin.is_some()
    }

    /// Opens the installation that is meant.
    pub(crate) fn open(&self) -> Outcome<Installation> {
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        Installation::open(self.directory()?).map_err(refused)
    }

    fn directory(&self) -> Outcome<PinDirectory> {
        if let Some(path) = &self.pin {
            return Ok(PinDirectory::at(path));
        }
        if let Some(interface) = &self.iface {
            return Ok(PinDirectory::of_interface(interface));
        }
        let mut all = PinDirectory::all();
        match (all.pop(), all.len()) {
            (Some(only), 0) => Ok(only),
            (None, _) => Err(refused(InstallationError::NotInstalled { directory: PathBuf::from(ROOT) })),
            (Some(_), more) => Err(vec![Diagnostic::new(
                &codes::AMBIGUOUS,
                Origin::Flag { flag: "--iface".to_owned() },
                format!("{} objects are installed under {ROOT}", more + 1),
                "name one with `--iface IF`; `nnbpf status` lists them",
            )]),
        }
    }
}
