//! Locks: one command at a time changes an installation, and one at a time makes or removes one.
//!
//! A lock is an `flock` on a directory and ends with the process that holds it, however it ends.

use std::fs::{DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::Path;

use super::InstallationError;
use crate::pins::PinDirectory;

/// Waits for the lock of an installation's directory; `None` when there is no such directory.
pub(super) fn installation(pins: &PinDirectory) -> Result<Option<File>, InstallationError> {
    existing(pins.path()).map_err(|source| InstallationError::Pin { path: pins.path().to_owned(), source })
}

/// Waits for the lock of the directory that an installation is to be made in, which is made when it is missing.
pub(super) fn parent(pins: &PinDirectory) -> Result<File, InstallationError> {
    let parent = pins.path().parent().unwrap_or(Path::new("/"));
    let failed = |source| InstallationError::Pin { path: pins.path().to_owned(), source };
    loop {
        DirBuilder::new().recursive(true).mode(0o700).create(parent).map_err(failed)?;
        if let Some(file) = existing(parent).map_err(failed)? {
            return Ok(file);
        }
    }
}

/// Removes the default parent, when nothing is in it and nobody is about to use it.
pub(super) fn remove_empty_root(pins: &PinDirectory) {
    let root = Path::new(crate::pins::ROOT);
    if pins.path().parent() != Some(root) {
        return;
    }
    // Waiting could be for somebody who waits for us.
    if let Ok(file) = File::open(root)
        && file.try_lock().is_ok()
    {
        let _in_use = std::fs::remove_dir(root);
    }
}

/// A directory that was removed while we waited is none any more.
fn existing(path: &Path) -> io::Result<Option<File>> {
    loop {
        let file = match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        file.lock()?;
        let locked = file.metadata()?;
        match std::fs::metadata(path) {
            Ok(now) if (now.dev(), now.ino()) == (locked.dev(), locked.ino()) => return Ok(Some(file)),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
}
