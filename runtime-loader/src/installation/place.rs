//! Where and how a program is attached: what the kernel does not tell, or not in another network namespace.
//!
//! The array `place` of an attachment has one value of [`BYTES`] bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | inode of the network namespace |
//! | 8 | 8 | when it was attached, in nanoseconds of `CLOCK_MONOTONIC` |
//! | 16 | 4 | number of the interface |
//! | 20 | 1 | hook: 0 XDP |
//! | 21 | 1 | how: 0 native, 1 generic |
//! | 22 | 2 | zero |
//! | 24 | 4 | why a better way was not taken, as an error number; 0 when it was |
//! | 28 | 4 | zero |
//! | 32 | 16 | name of the interface |

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::InstallationError;
use crate::maps::Map;
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `IFNAMSIZ`, with the terminating zero.
const NAME: usize = 16;
const BYTES: usize = 32 + NAME;
const MAP: &str = "place";

/// Which packets of an interface a program sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedHook {
    /// Incoming ones, before the kernel's own work.
    Xdp,
}

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedBy {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's generic receive path.
    Generic,
}

impl AttachedHook {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Xdp => "xdp",
        }
    }
}

impl AttachedBy {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
        }
    }
}

impl fmt::Display for AttachedBy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// What is remembered of an attachment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) namespace: u64,
    pub(super) since_ns: u64,
    pub(super) index: u32,
    pub(super) hook: AttachedHook,
    pub(super) by: AttachedBy,
    /// Error number of the better way that the kernel refused.
    pub(super) fallback: Option<i32>,
    pub(super) interface: String,
}

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let hook: u8 = match self.hook {
            AttachedHook::Xdp => 0,
        };
        let by: u8 = match self.by {
            AttachedBy::Native => 0,
            AttachedBy::Generic => 1,
        };
        let mut value = self.namespace.to_ne_bytes().to_vec();
        value.extend(self.since_ns.to_ne_bytes());
        value.extend(self.index.to_ne_bytes());
        value.extend([hook, by, 0, 0]);
        value.extend(self.fallback.unwrap_or(0).to_ne_bytes());
        value.extend([0; 4]);
        value.extend(self.interface.bytes().take(NAME));
        value.resize(BYTES, 0);
        value
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (namespace, rest) = value.split_first_chunk()?;
        let (since_ns, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let ([hook, by, _, _], rest) = rest.split_first_chunk()?;
        let (fallback, rest) = rest.split_first_chunk()?;
        let name = rest.get(4..)?.split(|byte| *byte == 0).next()?;
        let fallback = i32::from_ne_bytes(*fallback);
        Some(Self {
            namespace: u64::from_ne_bytes(*namespace),
            since_ns: u64::from_ne_bytes(*since_ns),
            index: u32::from_ne_bytes(*index),
            hook: [AttachedHook::Xdp].get(usize::from(*hook)).copied()?,
            by: [AttachedBy::Native, AttachedBy::Generic].get(usize::from(*by)).copied()?,
            fallback: (fallback != 0).then_some(fallback),
            interface: String::from_utf8_lossy(name).into_owned(),
        })
    }

    pub(super) fn pin(&self, path: &Path) -> Result<(), InstallationError> {
        let error = |source| InstallationError::Pin { path: path.to_owned(), source };
        let map = Map::from_fd(MAP, sys::create_map(ARRAY, 4, BYTES as u32, 1, None).map_err(error)?)?;
        map.write_value(&self.bytes())?;
        sys::pin(map.as_fd(), path).map_err(error)
    }

    /// `None` where nothing of the kind is pinned.
    pub(super) fn read(path: &Path) -> Option<Self> {
        let value = Map::from_pin(MAP, path).and_then(|map| map.read_value());
        value.ok().as_deref().and_then(Self::parse)
    }

    /// The interface's name as this process knows it; it may have been renamed since.
    pub(super) fn shown(&self) -> String {
        if self.is_here() {
            sys::interface_name(self.index).unwrap_or_else(|| self.interface.clone())
        } else {
            format!("{} (in another network namespace)", self.interface)
        }
    }

    pub(super) fn is_here(&self) -> bool {
        self.namespace == namespace()
    }
}

/// The network namespace of this process; 0 where /proc is not mounted.
pub(super) fn namespace() -> u64 {
    std::fs::metadata("/proc/self/ns/net").map_or(0, |metadata| metadata.ino())
}

/// The time that attachments are counted in.
pub(super) fn now_ns() -> Result<u64, InstallationError> {
    sys::ktime_ns().map_err(InstallationError::Clock)
}

#[cfg(test)]
mod tests {
    use super::{AttachedBy, AttachedHook, Place};

    #[test]
    fn places_are_read_back() {
        let place = Place {
            namespace: 4_026_531_840,
            since_ns: 7,
            index: 3,
            hook: AttachedHook::Xdp,
            by: AttachedBy::Generic,
            fallback: Some(95),
            interface: "eth0.7".to_owned(),
        };
        assert_eq!(Place::parse(&place.bytes()), Some(place));
        assert_eq!(Place::parse(&[0; 20]), None);
    }
}
