//! Which installation a command works on.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::installation::{self, Installation, InstallationError};
use nnbpf_runtime_loader::permission;
use nnbpf_runtime_loader::pins::{PinDirectory, ROOT};

use super::refused;

#[derive(clap::Args)]
pub(crate) struct Target {
    /// An interface that the object is attached to; may be left out when only one object is loaded.
    #[arg(long, value_name = "IF", conflicts_with_all = ["name", "pin"])]
    iface: Option<String>,
    #[command(flatten)]
    by_name: ByName,
}

/// An installation by its name or place.
#[derive(clap::Args)]
pub(crate) struct ByName {
    /// The name that the object was loaded with, by default that of its first interface.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The directory in bpffs that the object was loaded with.
    #[arg(long, value_name = "DIR", conflicts_with = "name")]
    pin: Option<PathBuf>,
}

impl ByName {
    pub(crate) fn directory(&self) -> Option<PinDirectory> {
        match (&self.pin, &self.name) {
            (Some(path), _) => Some(PinDirectory::at(path)),
            (None, Some(name)) => Some(PinDirectory::named(name)),
            (None, None) => None,
        }
    }

    /// The only installation, unless the user named one.
    pub(crate) fn directory_or_only(&self) -> Outcome<PinDirectory> {
        self.directory().map_or_else(only, Ok)
    }
}

impl Target {
    /// Whether the user named one.
    pub(crate) fn is_named(&self) -> bool {
        self.iface.is_some() || self.by_name.directory().is_some()
    }

    pub(crate) fn interface(&self) -> Option<&str> {
        self.iface.as_deref()
    }

    /// Opens the installation that is meant.
    pub(crate) fn open(&self) -> Outcome<Installation> {
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        Installation::open(self.directory()?).map_err(refused)
    }

    pub(crate) fn directory(&self) -> Outcome<PinDirectory> {
        match &self.iface {
            Some(interface) => of_interface(interface),
            None => self.by_name.directory_or_only(),
        }
    }
}

/// What is attached to an interface, else what has its name.
pub(crate) fn of_interface(interface: &str) -> Outcome<PinDirectory> {
    let mut attached: Vec<PinDirectory> =
        PinDirectory::all().into_iter().filter(|pins| installation::on(pins, interface)).collect();
    match (attached.pop(), attached.len()) {
        (None, _) => Ok(PinDirectory::named(interface)),
        (Some(only), 0) => Ok(only),
        (Some(_), more) => Err(vec![Diagnostic::new(
            &codes::AMBIGUOUS,
            Origin::Flag { flag: "--iface".to_owned() },
            format!("{} objects are attached to {interface}", more + 1),
            "name one with `--name NAME`; `nnbpf status` lists them",
        )]),
    }
}

fn only() -> Outcome<PinDirectory> {
    let mut all = PinDirectory::all();
    match (all.pop(), all.len()) {
        (Some(only), 0) => Ok(only),
        (None, _) => Err(refused(InstallationError::NotInstalled { directory: PathBuf::from(ROOT) })),
        (Some(_), more) => Err(vec![Diagnostic::new(
            &codes::AMBIGUOUS,
            Origin::Flag { flag: "--iface".to_owned() },
            format!("{} objects are installed under {ROOT}", more + 1),
            "name one with `--iface IF` or `--name NAME`; `nnbpf status` lists them",
        )]),
    }
}
