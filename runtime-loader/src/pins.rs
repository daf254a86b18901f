//! Where an installation lives in bpffs: a directory per interface with its programs, maps and link.
//!
//! | entry | what |
//! |---|---|
//! | `programs/NAME` | every program |
//! | `maps/NAME` | every map and data section; a dot is written `_`, because bpffs refuses dots |
//! | `metadata` | an array with one value: the payload of the object's metadata section |
//! | `parameters` | an array with one value per slot: which model its parameters came from |
//! | `place` | an array with one value: network namespace and interface |
//! | `link` | the attachment; removing it detaches the program |

use std::io;
use std::path::{Path, PathBuf};

use crate::sys;

/// Parent of the directories of all interfaces.
pub const ROOT: &str = "/sys/fs/bpf/nnbpf";

/// The directory of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinDirectory {
    path: PathBuf,
}

impl PinDirectory {
    /// The default place for an interface. bpffs refuses dots, so `eth0.7` lives in `eth0%2e7`; no two
    /// interfaces share a place.
    #[must_use]
    pub fn of_interface(interface: &str) -> Self {
        Self { path: Path::new(ROOT).join(interface.replace('%', "%25").replace('.', "%2e")) }
    }

    /// A place that the user chose.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Installations in the default place, sorted.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut found: Vec<PathBuf> = std::fs::read_dir(ROOT)
            .into_iter()
            .flatten()
            .filter_map(|entry| entry.ok().map(|entry| entry.path()))
            .filter(|path| path.is_dir())
            .collect();
        found.sort();
        found.into_iter().map(|path| Self { path }).collect()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.path.join("programs")
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    #[must_use]
    pub fn link(&self) -> PathBuf {
        self.path.join("link")
    }

    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.path.join("metadata")
    }

    #[must_use]
    pub fn parameters(&self) -> PathBuf {
        self.path.join("parameters")
    }

    #[must_use]
    pub fn place(&self) -> PathBuf {
        self.path.join("place")
    }

    /// Where a map or data section is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name.replace('.', "_"))
    }

    /// Whether the directory lies, or would lie, in a mounted bpffs.
    pub(crate) fn in_bpffs(&self) -> io::Result<bool> {
        let existing = self.path.ancestors().find(|ancestor| ancestor.exists());
        existing.map_or(Ok(false), sys::is_bpffs)
    }

    /// Makes the directory with its subdirectories; it must not exist.
    pub(crate) fn create(&self) -> io::Result<()> {
        if let Some(parent) = self.path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::create_dir(&self.path)?;
        std::fs::create_dir(self.programs())?;
        std::fs::create_dir(self.maps())
    }

    /// Removes the directory with everything in it, and the default parent when it became empty.
    pub(crate) fn remove(&self) -> io::Result<()> {
        // The link goes first: from then on no packet meets a program whose maps are being unpinned.
        match std::fs::remove_file(self.link()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        std::fs::remove_dir_all(&self.path)?;
        self.remove_empty_root();
        Ok(())
    }

    /// Removes the default parent, which fails when it still holds other installations.
    pub(crate) fn remove_empty_root(&self) {
        if self.path.parent() == Some(Path::new(ROOT)) {
            let _in_use = std::fs::remove_dir(ROOT);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::PinDirectory;

    #[test]
    fn no_two_interfaces_share_a_place() {
        let names = ["eth0.7", "eth0_7", "eth0%2e7", "eth07", "eth0%7"];
        let places = names.map(|name| PinDirectory::of_interface(name).path().to_owned());
        for (index, place) in places.iter().enumerate() {
            assert!(!place.to_string_lossy().contains('.'), "{}", place.display());
            assert!(!places.iter().skip(index + 1).any(|other| other == place), "{}", place.display());
        }
    }
}
