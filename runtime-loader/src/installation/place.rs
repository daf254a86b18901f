//! Where and how a program is attached: what the kernel does not tell, or not in another network namespace.
//!
//! The array `place` of an attachment has one value of [`BYTES`] bytes:
//!
//! | offset | bytes | content |
//! |---|---|---|
//! | 0 | 8 | inode of the network namespace |
//! | 8 | 8 | when it was attached, in nanoseconds of `CLOCK_MONOTONIC` |
//! | 16 | 4 | number of the interface |
//! | 20 | 1 | hook: 0 XDP, 1 tc ingress, 2 tc egress |
//! | 21 | 1 | how: 0 native, 1 generic, 2 tcx, 3 clsact |
//! | 22 | 2 | priority of the clsact filter |
//! | 24 | 4 | why a better way was not taken, as an error number; 0 when it was |
//! | 28 | 4 | handle of the clsact filter |
//! | 32 | 16 | name of the interface |

use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::InstallationError;
use crate::attach_tc::{ClsactFilter, Hook};
use crate::maps::Map;
use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `IFNAMSIZ`, with the terminating zero.
const NAME: usize = 16;
const BYTES: usize = 32 + NAME;
const MAP: &str = "place";

/// How a program is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachedBy {
    /// XDP in the driver.
    Native,
    /// XDP in the kernel's generic receive path.
    Generic,
    /// A link of tcx, from kernel 6.6 on.
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

impl AttachedBy {
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
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
    pub(super) hook: Hook,
    pub(super) by: AttachedBy,
    /// Error number of the better way that the kernel refused.
    pub(super) fallback: Option<i32>,
    pub(super) interface: String,
    /// Priority and handle of a clsact filter; zeros for links.
    pub(super) filter: (u16, u32),
}

const HOOKS: [Hook; 3] = [Hook::Xdp, Hook::TcIngress, Hook::TcEgress];
const WAYS: [AttachedBy; 4] = [AttachedBy::Native, AttachedBy::Generic, AttachedBy::Tcx, AttachedBy::Clsact];

impl Place {
    fn bytes(&self) -> Vec<u8> {
        let hook = HOOKS.iter().position(|hook| *hook == self.hook).unwrap_or(0) as u8;
        let by = WAYS.iter().position(|by| *by == self.by).unwrap_or(0) as u8;
        let (priority, handle) = self.filter;
        let mut value = self.namespace.to_ne_bytes().to_vec();
        value.extend(self.since_ns.to_ne_bytes());
        value.extend(self.index.to_ne_bytes());
        value.extend([hook, by]);
        value.extend(priority.to_ne_bytes());
        value.extend(self.fallback.unwrap_or(0).to_ne_bytes());
        value.extend(handle.to_ne_bytes());
        value.extend(self.interface.bytes().take(NAME));
        value.resize(BYTES, 0);
        value
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (namespace, rest) = value.split_first_chunk()?;
        let (since_ns, rest) = rest.split_first_chunk()?;
        let (index, rest) = rest.split_first_chunk()?;
        let ([hook, by], rest) = rest.split_first_chunk()?;
        let (priority, rest) = rest.split_first_chunk()?;
        let (fallback, rest) = rest.split_first_chunk()?;
        let (handle, rest) = rest.split_first_chunk()?;
        let name = rest.split(|byte| *byte == 0).next()?;
        let fallback = i32::from_ne_bytes(*fallback);
        Some(Self {
            namespace: u64::from_ne_bytes(*namespace),
            since_ns: u64::from_ne_bytes(*since_ns),
            index: u32::from_ne_bytes(*index),
            hook: HOOKS.get(usize::from(*hook)).copied()?,
            by: WAYS.get(usize::from(*by)).copied()?,
            fallback: (fallback != 0).then_some(fallback),
            interface: String::from_utf8_lossy(name).into_owned(),
            filter: (u16::from_ne_bytes(*priority), u32::from_ne_bytes(*handle)),
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

    /// The filter, when it is one.
    pub(super) fn clsact(&self) -> Option<ClsactFilter> {
        let (priority, handle) = self.filter;
        let interface = || sys::interface_name(self.index).unwrap_or_else(|| self.interface.clone());
        match self.by {
            AttachedBy::Clsact => {
                Some(ClsactFilter { interface: interface(), hook: self.hook, priority, handle })
            }
            AttachedBy::Native | AttachedBy::Generic | AttachedBy::Tcx => None,
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
    use super::{AttachedBy, Hook, Place};

    #[test]
    fn places_are_read_back() {
        let place = Place {
            namespace: 4_026_531_840,
            since_ns: 7,
            index: 3,
            hook: Hook::Xdp,
            by: AttachedBy::Generic,
            fallback: Some(95),
            interface: "eth0.7".to_owned(),
            filter: (1, 0x6e6e_0003),
        };
        assert_eq!(Place::parse(&place.bytes()), Some(place));
        assert_eq!(Place::parse(&[0; 20]), None);
    }
}
