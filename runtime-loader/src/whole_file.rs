//! Files that are replaced as a whole: whoever reads one sees the old content or the new one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Writes a file that only its owner reads. A target that exists and is no regular file, such as a pipe, is
/// written directly.
///
/// # Errors
/// What the system answers; a regular file is then as it was.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    if let Ok(found) = std::fs::metadata(path)
        && (found.file_type().is_fifo() || found.file_type().is_char_device())
    {
        return OpenOptions::new().write(true).open(path)?.write_all(bytes);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    let beside = folder.join(format!(".{}.{}", name.to_string_lossy(), std::process::id()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)
        .and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(&beside, path))
        .and_then(|()| File::open(folder)?.sync_all());
    if written.is_err() {
        let _first_error_counts = std::fs::remove_file(&beside);
    }
    written
}
