//! `nnbpf load`: checks an object, loads it, attaches it, pins it.

use std::path::PathBuf;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin, Outcome};
use nnbpf_runtime_loader::installation::{
    AttachMode, Installation, InstallationError, Mode, Request, install, interface_exists, object_hash,
};
use nnbpf_runtime_loader::open::Opened;
use nnbpf_runtime_loader::pins::PinDirectory;
use nnbpf_runtime_loader::{Kernel, capabilities, open};

use super::attach::{Way, show};
use super::refused;

/// Load an object and attach it to interfaces, in monitor mode unless --enforce is given.
#[derive(clap::Args)]
pub(crate) struct Load {
    /// The object that nnbpfc wrote.
    #[arg(value_name = "OBJ")]
    object: PathBuf,
    /// An interface whose packets are judged; may be given several times.
    #[arg(long, value_name = "IF", required = true)]
    iface: Vec<String>,
    /// How the program is attached.
    #[arg(long, value_enum, default_value = "auto")]
    mode: Way,
    /// Let verdicts act; otherwise they are only counted and reported.
    #[arg(long)]
    enforce: bool,
    #[command(flatten)]
    fuse: super::fuse::Limit,
    /// Name of the installation [default: the first interface].
    #[arg(long, value_name = "NAME", conflicts_with = "pin")]
    name: Option<String>,
    /// Directory in bpffs for programs, maps and attachments [default: /sys/fs/bpf/nnbpf/NAME].
    #[arg(long, value_name = "DIR")]
    pin: Option<PathBuf>,
}

impl Load {
    pub(crate) fn run(&self) -> Outcome<()> {
        let opened = open::open(&self.object).map_err(|error| error.diagnostics())?;
        // The object may be a file that only its owner reads; from here on nothing needs more.
        capabilities::keep_needed();
        for interface in &self.iface {
            interface_exists(interface).map_err(refused)?;
        }
        let file = self.object.display().to_string();
        let pins = self.directory();
        let mode = if self.enforce { Mode::Enforce } else { Mode::Monitor };
        if let Some(installation) = complete(&pins)? {
            self.again(&installation, &opened, mode)?;
            return self.fuse.apply(&installation);
        }
        let loaded = Kernel::load(&opened.bytes).map_err(|error| error.diagnostics(&file))?;
        self.fuse.prepare(&loaded)?;
        let request = Request { interfaces: &self.iface, attach: self.mode.into(), mode };
        let (installation, attachments) = match install(&loaded, &opened, request, pins.clone()) {
            // Another load was faster.
            Err(InstallationError::Exists { directory }) => {
                return match complete(&pins)? {
                    Some(installation) => {
                        self.again(&installation, &opened, mode)?;
                        self.fuse.apply(&installation)
                    }
                    None => Err(refused(InstallationError::Exists { directory })),
                };
            }
            installed => installed.map_err(refused)?,
        };
        let directory = installation.pins().path().display();
        let does = if self.enforce { "enforcing" } else { "monitoring" };
        for attachment in &attachments {
            println!("{}, {does}, pinned at {directory}", show(attachment));
        }
        Ok(())
    }

    fn directory(&self) -> PinDirectory {
        match (&self.pin, &self.name, self.iface.first()) {
            (Some(path), _, _) => PinDirectory::at(path),
            (None, Some(name), _) => PinDirectory::named(name),
            (None, None, first) => PinDirectory::named(first.map_or("", String::as_str)),
        }
    }

    /// A load where there is an installation already: nothing to do when it is what was asked for.
    fn again(&self, installation: &Installation, opened: &Opened, mode: Mode) -> Outcome<()> {
        let directory = installation.pins().path().display().to_string();
        let refuse = |message: String, help: String| {
            let origin = Origin::Kernel { object: directory.clone() };
            Err(vec![Diagnostic::new(&codes::ALREADY_INSTALLED, origin, message, help)])
        };
        let same = installation.object_hash().map_err(|error| vec![error.diagnostic()])?;
        if same != Some(object_hash(opened)) {
            return refuse(
                format!("another object is loaded at {directory}"),
                format!(
                    "replace it with `nnbpf update {} --pin {directory}`, or load beside it with `--name NAME`",
                    self.object.display()
                ),
            );
        }
        if installation.config().map_err(refused)?.mode != mode {
            let is = if self.enforce { "monitor" } else { "enforce" };
            return refuse(
                format!("the object is loaded at {directory} already, in {is} mode"),
                format!(
                    "run `nnbpf mode {} --pin {directory}`",
                    if self.enforce { "enforce" } else { "monitor" }
                ),
            );
        }
        let attachments = installation.attachments().map_err(refused)?;
        for interface in &self.iface {
            let found = attachments.iter().find(|attachment| attachment.interface == *interface);
            match found {
                Some(found) if found.program.is_some() && AttachMode::from(self.mode).allows(found.by) => {}
                Some(found) if found.program.is_some() => {
                    return refuse(
                        format!("the object is attached to {interface} already, {}", found.by),
                        format!("run `nnbpf detach --iface {interface}` and `nnbpf attach` first"),
                    );
                }
                Some(_) | None => {
                    return refuse(
                        format!(
                            "the object is loaded at {directory} already, but not attached to {interface}"
                        ),
                        format!("run `nnbpf attach --iface {interface} --pin {directory}`"),
                    );
                }
            }
        }
        println!("{}: already loaded, pinned at {directory}", self.iface.join(", "));
        Ok(())
    }
}

/// An installation that a load before this one has finished.
fn complete(pins: &PinDirectory) -> Outcome<Option<Installation>> {
    match Installation::open(pins.clone()) {
        Ok(installation) => Ok(Some(installation)),
        Err(InstallationError::NotInstalled { .. } | InstallationError::Incomplete { .. }) => Ok(None),
        Err(error) => Err(refused(error)),
    }
}
