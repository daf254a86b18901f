//! Files that an operator names: read as a whole, up to a limit, so that a wrong name or a device costs no memory.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// Bytes in a mebibyte.
const MIB: u64 = 1 << 20;

/// Largest object, parameter file or model; the compiler takes models of at most half of it.
pub const OBJECT: u64 = 64 * MIB;
/// Largest file with a model's tensors, as the compiler takes them.
pub const TENSORS: u64 = 256 * MIB;
/// Largest file of hosts: a line of 100 bytes for each entry that the lists have room for takes a tenth of it.
pub const HOSTS: u64 = 64 * MIB;
/// Largest file of feature rows, events or corrections.
pub const RECORDS: u64 = 1_024 * MIB;

/// The content of a file of at most so many bytes.
///
/// # Errors
/// What the system answers, and [`io::ErrorKind::FileTooLarge`] behind the limit; no more than that is read.
pub fn read(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let mut bytes = Vec::new();
    // One byte more tells a file at the limit from one behind it.
    file.take(limit.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        let message = format!("it has more than {} MiB, which is the limit", limit / MIB);
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    Ok(bytes)
}

/// The same as text.
///
/// # Errors
/// Those of [`read`], and [`io::ErrorKind::InvalidData`] where it is no UTF-8.
pub fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let bytes = read(path, limit)?;
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// What to do about an error of [`read`]; `otherwise` about all others.
#[must_use]
pub fn help(error: &io::Error, otherwise: &str) -> String {
    if error.kind() == io::ErrorKind::FileTooLarge {
        format!("check that it is the right file, or split it; nothing of it was used; {otherwise}")
    } else {
        otherwise.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_read_up_to_the_limit() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, [b'x'; 100]).unwrap();
        assert_eq!(read(&path, 100).unwrap().len(), 100);
        let error = read(&path, 99).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        assert!(help(&error, "or else").contains("right file"));
        assert_eq!(read(folder.path(), 100).unwrap_err().kind(), io::ErrorKind::IsADirectory);
        std::fs::write(&path, [0xff]).unwrap();
        assert_eq!(read_text(&path, 100).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn a_device_without_end_is_left_at_the_limit() {
        let error = read(Path::new("/dev/zero"), MIB).unwrap_err();
        assert_eq!(error.to_string(), "it has more than 1 MiB, which is the limit");
    }
}
