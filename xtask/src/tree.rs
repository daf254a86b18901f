//! The files of the repository, as a clone holds them: what builds and runs leave behind is left out.

use std::path::{Path, PathBuf};

/// Folders that git ignores, or that belong to git.
const IGNORED: [&str; 6] = [".git", "target", "out", "lab-out", "__pycache__", "corpus"];

/// The top of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// Paths relative to the top, with forward slashes, sorted.
///
/// # Errors
///
/// A folder that cannot be read.
pub fn files() -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    visit(&root(), "", &mut found)?;
    found.sort();
    Ok(found)
}

fn visit(folder: &Path, prefix: &str, found: &mut Vec<String>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        let kind = entry.file_type()?;
        if kind.is_dir() && !IGNORED.contains(&name.as_str()) {
            visit(&entry.path(), &path, found)?;
        } else if kind.is_file() && name != ".git" {
            found.push(path);
        }
    }
    Ok(())
}
