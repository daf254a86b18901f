//! The list of modules in `docs/architecture.md`, written from the sources: in the order in which they are
//! declared, each with the first sentence of its own documentation.

use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};

use crate::tree;

/// Where the list lies in the repository.
pub const PAGE: &str = "docs/architecture.md";

/// The list stands between these lines.
const BEGIN: &str = "<!-- modules: written by `cargo xtask modules` -->";
const END: &str = "<!-- end of modules -->";

/// Roots of the crates, in pipeline order, with a heading each.
const CRATES: [(&str, &str); 5] = [
    ("`compiler/src`: the library `nnbpf-compiler`", "compiler/src/lib.rs"),
    ("`compiler/cli/src`: the command `nnbpfc`", "compiler/cli/src/main.rs"),
    ("`runtime-loader/src`: the library `nnbpf-runtime-loader`", "runtime-loader/src/lib.rs"),
    ("`runtime-loader/src`: the command `nnbpf`", "runtime-loader/src/main.rs"),
    ("`xtask/src`: chores", "xtask/src/lib.rs"),
];

/// The page with a current list.
///
/// # Errors
///
/// A file that cannot be read, or a page without the lines that the list stands between.
pub fn page() -> io::Result<String> {
    let page = std::fs::read_to_string(tree::root().join(PAGE))?;
    let missing = || io::Error::other(format!("{PAGE} lacks the lines around the list of modules"));
    let (before, rest) = page.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    Ok(format!("{before}{BEGIN}\n{}\n{END}{after}", list()?))
}

fn list() -> io::Result<String> {
    let mut list = String::new();
    for (heading, root) in CRATES {
        // Writing to a string cannot fail.
        let _ = write!(list, "\n### {heading}\n\n");
        let path = tree::root().join(root);
        let folder = path.parent().map(Path::to_path_buf).unwrap_or_default();
        children(&path, &folder, 0, &mut list)?;
    }
    Ok(list)
}

/// Lists the modules that a file declares, each followed by its own.
fn children(file: &Path, folder: &Path, depth: usize, list: &mut String) -> io::Result<()> {
    let text = std::fs::read_to_string(file)?;
    let mut test_only = false;
    for line in text.lines() {
        if let Some(name) = declared(line).filter(|_| !test_only) {
            let (path, inner) = place(folder, name);
            let slash = if path.ends_with("mod.rs") { "/" } else { "" };
            let about = first_sentence(&std::fs::read_to_string(&path)?);
            let _ = writeln!(list, "{}- `{name}{slash}`: {about}", "  ".repeat(depth));
            children(&path, &inner, depth + 1, list)?;
        }
        test_only = line.starts_with("#[cfg(test)]") || (test_only && line.starts_with("#["));
    }
    Ok(())
}

/// The name in `mod name;`.
fn declared(line: &str) -> Option<&str> {
    let (visibility, name) = line.strip_suffix(';')?.split_once("mod ")?;
    let plain = name.chars().all(|c| c.is_alphanumeric() || c == '_');
    (plain && (visibility.is_empty() || visibility.starts_with("pub"))).then_some(name)
}

/// The file of a module, and the folder of the modules in it.
fn place(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    let inner = folder.join(name);
    let own = inner.join("mod.rs");
    if own.exists() { (own, inner) } else { (folder.join(format!("{name}.rs")), inner) }
}

/// The first sentence of the documentation that opens a file, with links as plain code.
fn first_sentence(text: &str) -> String {
    let paragraph: Vec<&str> = text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let paragraph = paragraph.join(" ");
    let sentence = match paragraph.split_once(". ") {
        Some((first, _)) => format!("{first}."),
        None => paragraph,
    };
    sentence.replace("[`", "`").replace("`]", "`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_found() {
        assert_eq!(declared("pub(crate) mod bounds;"), Some("bounds"));
        assert_eq!(declared("mod x;"), Some("x"));
        assert_eq!(declared("mod tests {"), None);
        assert_eq!(declared("// mod y;"), None);
    }

    #[test]
    fn sentences_end_at_the_first_stop() {
        assert_eq!(first_sentence("//! A [`b`] of\n//! c. More.\n//!\n//! Else."), "A `b` of c.");
    }
}
