//! A Rust source file as the tests of the repository see it: which part is compiled into a product, and which
//! part is test or comment.
//!
//! Works on lines, not on syntax: attributes that hide tests stand on lines of their own in this repository.

use crate::tree;

/// One source file.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the top of the repository.
    pub path: String,
    pub text: String,
}

/// Every Rust source of the repository, sorted by path.
///
/// # Errors
///
/// A file that cannot be read.
pub fn all() -> std::io::Result<Vec<Source>> {
    tree::files()?
        .into_iter()
        .filter(|path| path.ends_with(".rs"))
        .map(|path| Ok(Source { text: std::fs::read_to_string(tree::root().join(&path))?, path }))
        .collect()
}

impl Source {
    /// Whether the file holds nothing but tests or helpers of tests.
    #[must_use]
    pub fn is_test(&self) -> bool {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        self.path.contains("/tests/")
            || name.ends_with("tests.rs")
            || matches!(name, "testing.rs" | "differential.rs")
    }

    /// The lines before the file's tests; none of a test file.
    pub fn product_lines(&self) -> impl Iterator<Item = &str> {
        let tests = self.is_test();
        let mut lines = self.text.lines().peekable();
        std::iter::from_fn(move || {
            if tests {
                return None;
            }
            let line = lines.next()?;
            let opens_tests = line == "#[cfg(test)]" && lines.peek().is_some_and(|next| next.ends_with('{'));
            (!opens_tests).then_some(line)
        })
    }

    /// The lines of tests: the whole of a test file, else what follows `#[cfg(test)]`.
    #[must_use]
    pub fn test_text(&self) -> &str {
        if self.is_test() {
            return &self.text;
        }
        self.text
            .find("#[cfg(test)]\nmod tests {")
            .and_then(|start| self.text.get(start..))
            .unwrap_or_default()
    }

    /// The product lines without comments, joined.
    #[must_use]
    pub fn code(&self) -> String {
        self.product_lines()
            .map(|line| if line.trim_start().starts_with("//") { "" } else { line })
            .collect::<Vec<_>>()
            .join("\n")
    }
}
