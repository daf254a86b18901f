//! Which interface a program was attached to: the kernel keeps its number, which means nothing in another
//! network namespace.
//!
//! The array `place` has one value: inode of the network namespace (64 bits), name of the interface (16 bytes).

use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;

use super::InstallationError;
use crate::maps::{Map, MapError};
use crate::pins::PinDirectory;
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `IFNAMSIZ`, with the terminating zero.
const NAME: usize = 16;
const BYTES: usize = 8 + NAME;
const MAP: &str = "place";

/// Writes and pins where this process attaches.
pub(super) fn pin(interface: &str, pins: &PinDirectory) -> Result<(), InstallationError> {
    let error = |source| InstallationError::Pin { path: pins.place(), source };
    let mut value = namespace().to_ne_bytes().to_vec();
    value.extend(interface.bytes().take(NAME));
    value.resize(BYTES, 0);
    let map = Map::from_fd(MAP, sys::create_map(ARRAY, 4, BYTES as u32, 1, None).map_err(error)?)?;
    map.write_value(&value)?;
    sys::pin(map.as_fd(), &pins.place()).map_err(error)
}

/// The name of the interface with a number, as seen from this process.
pub(super) fn interface(index: u32, pins: &PinDirectory) -> Result<String, MapError> {
    let value = Map::from_pin(MAP, &pins.place())?.read_value()?;
    let attached = value.first_chunk().copied().map(u64::from_ne_bytes);
    // It may have been renamed since.
    if attached == Some(namespace()) {
        return Ok(sys::interface_name(index).unwrap_or_else(|| format!("interface {index}")));
    }
    let name = value.get(8..).and_then(|name| name.split(|byte| *byte == 0).next()).unwrap_or_default();
    Ok(format!("{} (in another network namespace)", String::from_utf8_lossy(name)))
}

/// The network namespace of this process; 0 where /proc is not mounted.
fn namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino())
}
