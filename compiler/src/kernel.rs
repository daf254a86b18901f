//! Kernel versions: what `--kernel` names, and what emitted code needs.

use std::fmt;

use crate::diag::codes::check::KERNEL_TOO_OLD;
use crate::diag::codes::files::FLAG;
use crate::diag::{Diagnostic, Origin};

/// Since when programs may have more than 4096 instructions (`BPF_MAXINSNS`, commit c04c0d2b968a), and loops
/// (commit 2589726d12a1).
pub const LARGE_PROGRAMS: KernelVersion = KernelVersion { major: 5, minor: 2 };
pub const LOOPS: KernelVersion = KernelVersion { major: 5, minor: 3 };

/// What every object needs, by the version that brought it.
const NEEDS: [(KernelVersion, &str); 4] = [
    (LARGE_PROGRAMS, "programs of more than 4096 instructions, and variables in data sections"),
    (LOOPS, "loops"),
    (KernelVersion { major: 5, minor: 8 }, "ring buffers, for events"),
    (KernelVersion { major: 5, minor: 12 }, "atomic operations that fetch, for flow records"),
];

/// A kernel's version, without its patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    pub major: u16,
    pub minor: u16,
}

impl KernelVersion {
    /// What objects are built for unless told otherwise.
    pub const DEFAULT: Self = Self { major: 6, minor: 1 };
    /// Atomic operations that fetch (`BPF_FETCH`, commit 5ca419f2864a) came with 5.12.
    pub const OLDEST: Self = Self { major: 5, minor: 12 };

    /// The version that a text names, whether objects can be built for it or not.
    #[must_use]
    pub fn named(text: &str) -> Option<Self> {
        let mut parts = text.split(['.', '-']);
        let mut number = || parts.next().and_then(|part| part.parse::<u16>().ok());
        Some(Self { major: number()?, minor: number()? })
    }

    /// Reads `MAJOR.MINOR`, with anything after it ignored, as `uname -r` prints it.
    ///
    /// # Errors
    ///
    /// `E0903` for anything else, `E0410` for a kernel that lacks what every object needs.
    pub fn parse(text: &str) -> Result<Self, Box<Diagnostic>> {
        let origin = || Origin::Flag { flag: "--kernel".to_owned() };
        let Some(version) = Self::named(text) else {
            return Err(Box::new(Diagnostic::new(
                &FLAG,
                origin(),
                format!("`{text}` is not a kernel version"),
                "write major and minor version, for example `--kernel 6.1`",
            )));
        };
        if version < Self::OLDEST {
            let refusal = Diagnostic::new(
                &KERNEL_TOO_OLD,
                origin(),
                format!("Linux {version} has no atomic operations that fetch, which flow records need"),
                format!("target Linux {} or later", Self::OLDEST),
            );
            let missing = NEEDS.iter().filter(|(since, _)| version < *since);
            return Err(Box::new(missing.fold(refusal, |refusal, (since, what)| {
                refusal.with_note(format!("since Linux {since}: {what}"))
            })));
        }
        Ok(version)
    }
}

impl fmt::Display for KernelVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_read_and_compare() {
        assert_eq!(KernelVersion::parse("6.1").unwrap(), KernelVersion::DEFAULT);
        let running = KernelVersion::parse("6.18.44-generic").unwrap();
        assert!(running > KernelVersion::DEFAULT);
        assert_eq!(running.to_string(), "6.18");
    }

    #[test]
    fn bad_versions_are_refused() {
        for text in ["", "6", "six.one", "6.x", "99999999.1"] {
            assert_eq!(KernelVersion::parse(text).unwrap_err().code.id, "E0903", "{text}");
        }
        assert_eq!(KernelVersion::parse("5.10").unwrap_err().code.id, "E0410");
    }
}
