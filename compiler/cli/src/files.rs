//! Inputs and outputs of the commands: whole-file reads, and writes that leave nothing half-written.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::path::Path;

use nnbpf_compiler::diag::codes::files::{UNREADABLE, UNWRITABLE};
use nnbpf_compiler::diag::{Diagnostic, Origin};
use tempfile::Builder;

/// The name by which diagnostics call a file: the path as the user gave it.
#[must_use]
pub fn name(path: &Path) -> String {
    path.display().to_string()
}

/// The whole content of an input.
pub fn read(path: &Path) -> Result<Vec<u8>, Box<Diagnostic>> {
    fs::read(path).map_err(|error| {
        Box::new(Diagnostic::new(
            &UNREADABLE,
            Origin::File { file: name(path) },
            format!("the file cannot be read: {error}"),
            "check the path and its permissions",
        ))
    })
}

/// Writes an output to a temporary file beside the target and renames it.
/// A target that exists and is not a regular file (`/dev/null`, a pipe) is written directly.
pub fn write(path: &Path, bytes: &[u8]) -> Result<(), Box<Diagnostic>> {
    replace(path, bytes).map_err(|error| {
        Box::new(Diagnostic::new(
            &UNWRITABLE,
            Origin::File { file: name(path) },
            format!("the output cannot be written: {}", reason(&error)),
            "check that the directory exists, may be written and has room; nothing was left behind",
        ))
    })
}

/// What the system said, without the name of a temporary file that the user never sees.
fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" at path ").next().map(str::to_owned).unwrap_or(text)
}

fn replace(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) | None => Path::new("."),
    };
    let mut file = Builder::new().prefix(".nnbpfc-").suffix(".tmp").tempfile_in(directory)?;
    file.write_all(bytes)?;
    file.as_file().sync_all()?;
    set_ordinary_permissions(file.as_file())?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// Temporary files are private; outputs get the permissions that a compiler's outputs have.
fn set_ordinary_permissions(file: &fs::File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    file.set_permissions(fs::Permissions::from_mode(0o644))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("missing").join("out.o");
        let diagnostic = write(&target, b"x").unwrap_err();
        assert_eq!(diagnostic.code.id, "E0902");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn an_output_replaces_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let target = directory.path().join("out.o");
        write(&target, b"old and long").unwrap();
        write(&target, b"new").unwrap();
        assert_eq!(fs::read(&target).unwrap(), b"new");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_device_is_written_directly() {
        write(Path::new("/dev/null"), b"x").unwrap();
    }

    #[test]
    fn a_missing_input_is_named() {
        let diagnostic = read(Path::new("no/such/file")).unwrap_err();
        assert_eq!(diagnostic.code.id, "E0901");
        assert_eq!(diagnostic.origin, Origin::File { file: "no/such/file".to_owned() });
    }
}
