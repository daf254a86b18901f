//! `nnbpf unload`: detaches and removes everything.

use nnbpf_compiler::diag::Outcome;
use nnbpf_runtime_loader::installation::{Installation, InstallationError, interface_exists};
use nnbpf_runtime_loader::permission;

use super::refused;
use super::target::Target;

/// Detach the program from every interface and remove everything that was pinned.
#[derive(clap::Args)]
pub(crate) struct Unload {
    #[command(flatten)]
    target: Target,
}

impl Unload {
    pub(crate) fn run(&self) -> Outcome<()> {
        permission::check().map_err(|error| vec![error.diagnostic()])?;
        let pins = self.target.directory()?;
        let directory = pins.path().to_owned();
        // What a killed load has left is removed as well.
        match Installation::find(pins).map_err(refused)? {
            Some(installation) => {
                installation.remove().map_err(refused)?;
                println!("{}: removed", directory.display());
            }
            // A second unload is none that failed, but a name that was never right is.
            None if self.target.interface().is_some_and(|name| interface_exists(name).is_err()) => {
                return Err(refused(InstallationError::NotInstalled { directory }));
            }
            None => println!("{}: nothing is installed", directory.display()),
        }
        Ok(())
    }
}
