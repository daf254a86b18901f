//! Where an installation lives in bpffs: a directory per detector.
//!
//! | entry | what |
//! |---|---|
//! | `code/N/programs/NAME` | the programs of program generation N |
//! | `code/N/maps/NAME` | its maps and data sections; a dot is written `_`, because bpffs refuses dots |
//! | `code/N/metadata` | an array with one value: the payload of the object's metadata section |
//! | `code/N/object` | an array with one value: SHA-256 of the object file |
//! | `code/N/parameters` | an array with one value per slot: which model its parameters came from |
//! | `current` | symbolic link to the program generation at work; an installation without it is incomplete |
//! | `programs`, `maps` | symbolic links to `current/programs` and `current/maps` |
//! | `links/IF:NS/place` | an array with one value: where and how the program is attached |
//! | `links/IF:NS/link` | the attachment; removing it detaches the program |
//! | `history/G` | an array with one value: the parameters of generation G |
//!
//! Whatever is replaced as a whole is replaced by renaming `current`, so a command that is killed leaves either
//! the state before or the state after, and leftovers that the next command removes.

use std::ffi::OsStr;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, symlink};
use std::path::{Path, PathBuf};

use crate::sys;

/// Parent of the directories of all installations.
pub const ROOT: &str = "/sys/fs/bpf/nnbpf";

/// The directory of one installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PinDirectory {
    path: PathBuf,
}

/// The directory of one program generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CodeDirectory {
    path: PathBuf,
}

impl PinDirectory {
    /// The default place for an installation of this name, which is the interface's unless the user chose
    /// another. bpffs refuses dots, so `eth0.7` lives in `eth0%2e7`; no two names share a place.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let encoded = name.replace('%', "%25").replace('.', "%2e").replace('/', "%2f");
        Self { path: Path::new(ROOT).join(encoded) }
    }

    /// A place that the user chose.
    #[must_use]
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into() }
    }

    /// Installations in the default place, sorted.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let found = entries(Path::new(ROOT)).into_iter().map(|name| Path::new(ROOT).join(name));
        found.filter(|path| path.is_dir()).map(|path| Self { path }).collect()
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that it has in messages; with a place that the user chose, the last part of the path.
    #[must_use]
    pub fn name(&self) -> String {
        let last = self.path.file_name().unwrap_or(OsStr::new("")).to_string_lossy();
        last.replace("%2f", "/").replace("%2e", ".").replace("%25", "%")
    }

    /// The program generation at work.
    #[must_use]
    pub fn current(&self) -> CodeDirectory {
        CodeDirectory { path: self.path.join("current") }
    }

    /// The number of the program generation at work; `None` while an installation is incomplete.
    #[must_use]
    pub fn current_number(&self) -> Option<u32> {
        let target = std::fs::read_link(self.current().path()).ok()?;
        target.file_name()?.to_str()?.parse().ok()
    }

    /// A program generation.
    #[must_use]
    pub fn code(&self, number: u32) -> CodeDirectory {
        CodeDirectory { path: self.path.join("code").join(number.to_string()) }
    }

    /// Numbers of the program generations that are pinned, sorted.
    #[must_use]
    pub fn codes(&self) -> Vec<u32> {
        numbers(&self.path.join("code"))
    }

    /// Makes a program generation the one at work, in one step.
    pub(crate) fn make_current(&self, number: u32) -> io::Result<()> {
        let next = self.path.join("next");
        let _left_by_a_killed_command = std::fs::remove_file(&next);
        symlink(Path::new("code").join(number.to_string()), &next)?;
        std::fs::rename(&next, self.current().path())
    }

    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.current().programs()
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.current().maps()
    }

    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.current().metadata()
    }

    #[must_use]
    pub fn parameters(&self) -> PathBuf {
        self.current().parameters()
    }

    /// Where a map or data section is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.current().map(name)
    }

    /// Attachments, one directory each.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.path.join("links")
    }

    /// Parameters that were at work, one array each.
    #[must_use]
    pub fn history(&self) -> PathBuf {
        self.path.join("history")
    }

    /// The parameters of a generation.
    #[must_use]
    pub fn generation(&self, number: u32) -> PathBuf {
        self.history().join(number.to_string())
    }

    /// Generations whose parameters are pinned, sorted.
    #[must_use]
    pub fn generations(&self) -> Vec<u32> {
        numbers(&self.history())
    }

    /// Whoever reads events locks this directory, which is the same over all program generations.
    #[must_use]
    pub fn readers(&self) -> PathBuf {
        self.history()
    }

    /// Whether the directory lies, or would lie, in a mounted bpffs.
    pub(crate) fn in_bpffs(&self) -> io::Result<bool> {
        let existing = self.path.ancestors().find(|ancestor| ancestor.exists());
        existing.map_or(Ok(false), sys::is_bpffs)
    }

    /// Makes the directory, which must not exist and whose parent must.
    pub(crate) fn create(&self) -> io::Result<()> {
        create_private(&self.path)
    }

    /// Makes the subdirectories and the links for the eye.
    pub(crate) fn furnish(&self) -> io::Result<()> {
        for directory in [self.path.join("code"), self.links(), self.history()] {
            create_private(&directory)?;
        }
        symlink("current/programs", self.path.join("programs"))?;
        symlink("current/maps", self.path.join("maps"))
    }

    /// The first step of a removal: whoever is killed in the middle leaves what the next command removes.
    pub(crate) fn make_incomplete(&self) -> io::Result<()> {
        match std::fs::remove_file(self.current().path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        }
    }

    /// Removes the directory with everything in it. Attachments were removed before.
    pub(crate) fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }
}

impl CodeDirectory {
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.path.join("programs")
    }

    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.path.join("maps")
    }

    /// Where a map or data section is pinned.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name.replace('.', "_"))
    }

    #[must_use]
    pub fn metadata(&self) -> PathBuf {
        self.path.join("metadata")
    }

    #[must_use]
    pub fn object(&self) -> PathBuf {
        self.path.join("object")
    }

    #[must_use]
    pub fn parameters(&self) -> PathBuf {
        self.path.join("parameters")
    }

    /// Makes the directory with its subdirectories; it must not exist.
    pub(crate) fn create(&self) -> io::Result<()> {
        create_private(&self.path)?;
        create_private(&self.programs())?;
        create_private(&self.maps())
    }

    /// Removes the pins; programs that are attached live on.
    pub(crate) fn remove(&self) -> io::Result<()> {
        std::fs::remove_dir_all(&self.path)
    }
}

/// Names in a directory, sorted; none where there is no directory.
pub(crate) fn entries(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Makes a directory that nobody else may look into.
pub(crate) fn create_private(path: &Path) -> io::Result<()> {
    std::fs::DirBuilder::new().mode(0o700).create(path)
}

fn numbers(directory: &Path) -> Vec<u32> {
    let mut numbers: Vec<u32> = entries(directory).iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

#[cfg(test)]
mod tests {
    use super::PinDirectory;

    #[test]
    fn no_two_names_share_a_place() {
        let names = ["eth0.7", "eth0_7", "eth0%2e7", "eth07", "eth0%7", "eth0/7", "eth0%2f7"];
        let places = names.map(|name| PinDirectory::named(name).path().to_owned());
        for (index, place) in places.iter().enumerate() {
            assert!(!place.to_string_lossy().contains('.'), "{}", place.display());
            assert_eq!(place.components().count(), 6, "{}", place.display());
            assert!(!places.iter().skip(index + 1).any(|other| other == place), "{}", place.display());
        }
        for name in names {
            assert_eq!(PinDirectory::named(name).name(), name);
        }
    }
}
