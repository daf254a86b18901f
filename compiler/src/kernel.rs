//! Kernel versions: what `--kernel` names, and what emitted code needs.

use std::fmt;

use crate::diag::codes::check::KERNEL_TOO_OLD;
use crate::diag::codes::files::FLAG;
use crate::diag::{Diagnostic, Origin};

/// Since when programs may have more than 4096 instructions (`BPF_MAXINSNS`, commit c04c0d2b968a), and loops
/// (commit 2589726d12a1).
pub const LARGE_PROGRAMS: KernelVersion = KernelVersion { major: 5, minor: 2 };
pub const LOOPS: KernelVersion = KernelVersion { major: 5, minor: 3 };

/// A kernel's version, without its patch level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelVersion {
    pub major: u16,
    pub minor: u16,
}

impl KernelVersion {
    /// What objects are built for unless told otherwise.
    pub const DEFAULT: Self = Self { major: 6, minor: 1 };
    /// Has the last part of what every object needs: tail calls out of functions.
    pub const OLDEST: Self = Self { major: 5, minor: 10 };
    /// The oldest kernel that was seen to take values of arrays of more than 4 MiB; 5.10 refuses them.
    pub const LARGE_VALUES: Self = Self { major: 6, minor: 1 };
    /// Atomic operations that fetch (`BPF_FETCH`, commit 5ca419f2864a) came with 5.12; so did all but additions.
    pub const FETCHING_ATOMICS: Self = Self { major: 5, minor: 12 };

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
            return Err(Box::new(too_old(version, origin())));
        }
        Ok(version)
    }
}

/// What every object needs, and since when Linux has it.
const EVERY_OBJECT: [(KernelVersion, &str); 5] = [
    (
        v5(2),
        "programs of more than 4,096 instructions, and weights and settings that code reaches without a lookup",
    ),
    (v5(3), "loops: wide layers would be straight-line code"),
    (v5(6), "functions that the verifier walks once: models would be walked again for each call"),
    (v5(8), "ring buffers: events would go through a buffer for each processor and arrive out of order"),
    (v5(10), "tail calls out of functions: only models that fit one program could be compiled"),
];

const fn v5(minor: u16) -> KernelVersion {
    KernelVersion { major: 5, minor }
}

/// Says what would have to give.
fn too_old(version: KernelVersion, origin: Origin) -> Diagnostic {
    let missing: Vec<_> = EVERY_OBJECT.iter().filter(|(since, _)| version < *since).collect();
    let message = format!("Linux {version} lacks what every object needs");
    let help = format!("target Linux {} or later", KernelVersion::OLDEST);
    missing
        .into_iter()
        .fold(Diagnostic::new(&KERNEL_TOO_OLD, origin, message, help), |refusal, (since, what)| {
            refusal.with_note(format!("Linux {since} brought {what}"))
        })
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
        assert_eq!(KernelVersion::parse("5.9").unwrap_err().code.id, "E0410");
    }

    #[test]
    fn every_need_is_met_by_the_oldest_kernel() {
        assert!(KernelVersion::parse("5.10").is_ok());
        assert_eq!(EVERY_OBJECT.map(|(since, _)| since).into_iter().max(), Some(KernelVersion::OLDEST));
        let notes = |text| KernelVersion::parse(text).unwrap_err().notes.len();
        assert_eq!((notes("4.19"), notes("5.4"), notes("5.9")), (5, 3, 1));
    }
}
