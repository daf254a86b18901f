//! Attaches a loaded object to an interface and pins it. Either everything is in place at the end or nothing.

use std::fmt;
use std::os::fd::AsFd;

use super::config::{self, Config, Mode};
use super::{Installation, InstallationError, parameters, place};
use crate::load::Loaded;
use crate::maps::Map;
use crate::open::Opened;
use crate::pins::PinDirectory;
use crate::sys;

/// The program that packets enter.
const ENTRY: &str = "nn_entry";

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;

/// How XDP is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// Native where the driver can, else generic.
    Any,
    /// Generic: every interface, slower.
    Skb,
    /// In the driver.
    Native,
}

impl AttachMode {
    /// `XDP_FLAGS_*` of `include/uapi/linux/if_link.h`.
    fn flags(self) -> u32 {
        match self {
            Self::Any => 0,
            Self::Skb => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Any => "any",
            Self::Skb => "skb",
            Self::Native => "native",
        })
    }
}

/// Whether this network namespace has the interface.
///
/// # Errors
/// It has not.
pub fn interface_exists(interface: &str) -> Result<(), InstallationError> {
    index_of(interface).map(|_| ())
}

/// Pins programs, maps and metadata, attaches the entry program and pins the attachment.
///
/// # Errors
/// Any step that fails; the steps before it are undone.
pub fn install(
    loaded: &Loaded,
    opened: &Opened,
    interface: &str,
    attach: AttachMode,
    mode: Mode,
    pins: PinDirectory,
) -> Result<Installation, InstallationError> {
    let index = index_of(interface)?;
    let mounted = pins.in_bpffs().unwrap_or(false);
    if !mounted {
        return Err(InstallationError::NoBpffs { path: pins.path().to_owned() });
    }
    if pins.path().exists() {
        return Err(InstallationError::Exists { directory: pins.path().to_owned() });
    }
    // The mode is set before the first packet comes.
    let config = loaded.map(config::SECTION)?;
    Config { mode, ..Config::read(config)? }.write(config)?;
    pins.create().map_err(|source| {
        pins.remove_empty_root();
        InstallationError::Pin { path: pins.path().to_owned(), source }
    })?;
    // Opened first, which locks: other commands wait until everything is in place.
    let installed = Installation::open(pins.clone()).and_then(|installation| {
        fill(loaded, opened, interface, index, attach, &pins)?;
        Ok(installation)
    });
    match installed {
        Ok(installation) => Ok(installation),
        Err(error) => {
            // What cannot be removed either is named by the error that comes first.
            let _first_error_counts = pins.remove();
            Err(error)
        }
    }
}

fn fill(
    loaded: &Loaded,
    opened: &Opened,
    interface: &str,
    index: u32,
    attach: AttachMode,
    pins: &PinDirectory,
) -> Result<(), InstallationError> {
    for name in loaded.program_names() {
        let path = pins.programs().join(&name);
        let program = loaded.program(&name)?;
        program.pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
    }
    for map in loaded.maps() {
        let path = pins.map(map.name());
        map.pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
    }
    pin_metadata(&opened.payload, pins)?;
    parameters::pin(loaded, &opened.metadata, pins)?;
    place::pin(interface, pins)?;
    let entry = loaded.program(ENTRY)?;
    let link = sys::attach_xdp(entry.fd()?, index, attach.flags()).map_err(|source| {
        InstallationError::Attach { interface: interface.to_owned(), mode: attach, source }
    })?;
    // Until it is pinned, the attachment ends with this descriptor.
    sys::pin(link.as_fd(), &pins.link())
        .map_err(|source| InstallationError::Pin { path: pins.link(), source })
}

/// bpffs holds no files, so the payload becomes the value of an array.
fn pin_metadata(metadata: &[u8], pins: &PinDirectory) -> Result<(), InstallationError> {
    let pin = |source| InstallationError::Pin { path: pins.metadata(), source };
    let bytes = u32::try_from(metadata.len().max(1)).unwrap_or(u32::MAX);
    let fd = sys::create_map(ARRAY, 4, bytes, 1, None).map_err(pin)?;
    let map = Map::from_fd("metadata", fd)?;
    if !metadata.is_empty() {
        map.write_value(metadata)?;
    }
    map.pin(&pins.metadata()).map_err(pin)
}

fn index_of(interface: &str) -> Result<u32, InstallationError> {
    sys::interface_index(interface)
        .ok_or_else(|| InstallationError::NoInterface { interface: interface.to_owned() })
}
