//! Attachments: the entry program on interfaces, each pinned so that it outlives the command.
//!
//! An attachment that is not pinned ends with the command that made it, so a command that is killed leaves
//! either a whole attachment or a directory without a link, which the next command removes.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use super::place::{self, AttachedBy, AttachedHook, Place};
use super::{Installation, InstallationError};
use crate::pins::{self, CodeDirectory, PinDirectory};
use crate::sys;

/// The program that packets enter.
pub(super) const ENTRY: &str = "nn_entry";

/// How XDP is to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// Native where driver and interface can, else generic.
    Auto,
    /// Generic: every interface, slower.
    Skb,
    /// In the driver.
    Native,
}

impl AttachMode {
    /// Whether an attachment is what was asked for.
    #[must_use]
    pub fn allows(self, by: AttachedBy) -> bool {
        match self {
            Self::Auto => true,
            Self::Skb => by == AttachedBy::Generic,
            Self::Native => by == AttachedBy::Native,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Skb => "skb",
            Self::Native => "native",
        })
    }
}

impl AttachedBy {
    /// `XDP_FLAGS_*` of `include/uapi/linux/if_link.h`.
    fn flags(self) -> u32 {
        match self {
            Self::Generic => 1 << 1,
            Self::Native => 1 << 2,
        }
    }
}

/// One interface that the program is, or was, attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface; it says so when it lies in another network namespace.
    pub interface: String,
    pub hook: AttachedHook,
    pub by: AttachedBy,
    /// Why it is not attached in the better way, when it was to be `auto`.
    pub fallback: Option<String>,
    /// Time since it was attached.
    pub uptime: Duration,
    /// Kernel-wide number of the attached program; `None` when the interface is gone or somebody detached it.
    pub program: Option<u32>,
}

/// What came of an attempt to attach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AttachOutcome {
    Attached(Attachment),
    /// It was attached to the interface before.
    Already(Attachment),
}

/// Whether this network namespace has the interface.
///
/// # Errors
/// It has not.
pub fn interface_exists(interface: &str) -> Result<(), InstallationError> {
    index_of(interface).map(|_| ())
}

pub(super) fn index_of(interface: &str) -> Result<u32, InstallationError> {
    sys::interface_index(interface)
        .ok_or_else(|| InstallationError::NoInterface { interface: interface.to_owned() })
}

/// The directory of an attachment to an interface of this namespace.
fn directory(pins: &PinDirectory, interface: &str) -> PathBuf {
    let name = interface.replace('%', "%25").replace('.', "%2e");
    // No interface has a colon in its name.
    pins.links().join(format!("{name}:{}", place::namespace()))
}

impl Installation {
    /// Attaches the entry program to one more interface.
    ///
    /// # Errors
    /// No such interface, or the kernel refuses; then nothing has changed.
    pub fn attach(&self, interface: &str, mode: AttachMode) -> Result<AttachOutcome, InstallationError> {
        self.attach_code(&self.pins.current(), interface, mode)
    }

    /// Attaches the entry program of a program generation.
    pub(super) fn attach_code(
        &self,
        code: &CodeDirectory,
        interface: &str,
        mode: AttachMode,
    ) -> Result<AttachOutcome, InstallationError> {
        let index = index_of(interface)?;
        let directory = directory(&self.pins, interface);
        if let Some(place) = Place::read(&directory.join("place")) {
            let attachment = attachment(&directory, &place)?;
            if place.index == index && attachment.program.is_some() {
                return Ok(AttachOutcome::Already(attachment));
            }
        }
        remove(&directory)?;
        let path = code.program(ENTRY);
        let entry = sys::open_pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
        let attached = attach_xdp(entry.as_fd(), index, mode);
        let (link, by, fallback) = attached.map_err(|source| InstallationError::Attach {
            interface: interface.to_owned(),
            mode,
            source,
        })?;
        let place = Place {
            namespace: place::namespace(),
            since_ns: place::now_ns()?,
            index,
            hook: AttachedHook::Xdp,
            by,
            fallback,
            interface: interface.to_owned(),
        };
        let pinned = pins::create_private(&directory)
            .map_err(|source| InstallationError::Pin { path: directory.clone(), source })
            .and_then(|()| place.pin(&directory.join("place")))
            .and_then(|()| {
                // Until it is pinned, the attachment ends with this descriptor.
                let path = directory.join("link");
                sys::pin(link.as_fd(), &path).map_err(|source| InstallationError::Pin { path, source })
            });
        if let Err(error) = pinned {
            let _first_error_counts = remove(&directory);
            return Err(error);
        }
        Ok(AttachOutcome::Attached(attachment(&directory, &place)?))
    }

    /// Detaches the program from an interface; says whether it was attached to it. Of an interface that is gone,
    /// what is left is removed.
    ///
    /// # Errors
    /// The pin cannot be removed.
    pub fn detach(&self, interface: &str) -> Result<bool, InstallationError> {
        for name in pins::entries(&self.pins.links()) {
            let directory = self.pins.links().join(name);
            let Some(place) = Place::read(&directory.join("place")) else { continue };
            if place.is_here() && (place.shown() == interface || place.interface == interface) {
                remove(&directory)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Detaches from every interface.
    pub(super) fn detach_all(&self) -> Result<(), InstallationError> {
        for name in pins::entries(&self.pins.links()) {
            remove(&self.pins.links().join(name))?;
        }
        Ok(())
    }

    /// Every attachment, by the interface's name.
    ///
    /// # Errors
    /// The clock is not readable.
    pub fn attachments(&self) -> Result<Vec<Attachment>, InstallationError> {
        let mut found = Vec::new();
        for name in pins::entries(&self.pins.links()) {
            let directory = self.pins.links().join(name);
            if let Some(place) = Place::read(&directory.join("place")) {
                found.push(attachment(&directory, &place)?);
            }
        }
        Ok(found)
    }

    /// Whether the program was attached to an interface of this name in this namespace.
    #[must_use]
    pub fn is_on(&self, interface: &str) -> bool {
        on(&self.pins, interface)
    }
}

/// Whether an installation was attached to an interface of this name in this namespace.
#[must_use]
pub fn on(pins: &PinDirectory, interface: &str) -> bool {
    pins::entries(&pins.links()).into_iter().any(|name| {
        let place = Place::read(&pins.links().join(name).join("place"));
        place.is_some_and(|place| {
            place.is_here() && (place.shown() == interface || place.interface == interface)
        })
    })
}

fn attachment(directory: &std::path::Path, place: &Place) -> Result<Attachment, InstallationError> {
    let info = sys::open_pin(&directory.join("link")).and_then(|link| sys::link_info(link.as_fd()));
    let program = info.ok().filter(|info| info.interface_index != 0).map(|info| info.prog_id);
    Ok(Attachment {
        interface: place.shown(),
        hook: place.hook,
        by: place.by,
        fallback: place.fallback.map(|number| io::Error::from_raw_os_error(number).to_string()),
        uptime: Duration::from_nanos(place::now_ns()?.saturating_sub(place.since_ns)),
        program,
    })
}

/// Detaches and removes the pins.
pub(super) fn remove(directory: &std::path::Path) -> Result<(), InstallationError> {
    let link = directory.join("link");
    if let Ok(link) = sys::open_pin(&link) {
        // Kernels before 5.9 cannot detach a link; removing its last pin does the same a little later.
        let _unsupported = sys::detach(link.as_fd());
    }
    // The link goes first: a directory without it is one that nobody misses.
    for path in [link, directory.join("place")] {
        match std::fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(InstallationError::Pin { path, source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    match std::fs::remove_dir(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallationError::Pin { path: directory.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// The link, how it is attached, and why not in the better way.
fn attach_xdp(
    entry: BorrowedFd<'_>,
    index: u32,
    mode: AttachMode,
) -> io::Result<(OwnedFd, AttachedBy, Option<i32>)> {
    let attach = |by: AttachedBy| sys::attach_xdp(entry, index, by.flags());
    match mode {
        AttachMode::Skb => Ok((attach(AttachedBy::Generic)?, AttachedBy::Generic, None)),
        AttachMode::Native => Ok((attach(AttachedBy::Native)?, AttachedBy::Native, None)),
        AttachMode::Auto => match attach(AttachedBy::Native) {
            Ok(link) => Ok((link, AttachedBy::Native, None)),
            // Another program is there, or we may not: the generic way would fail too, for the same reason.
            Err(error) if is_final(&error) => Err(error),
            Err(error) => Ok((attach(AttachedBy::Generic)?, AttachedBy::Generic, error.raw_os_error())),
        },
    }
}

fn is_final(error: &io::Error) -> bool {
    let last = [libc::EBUSY, libc::EEXIST, libc::EPERM, libc::EACCES, libc::ENODEV];
    error.raw_os_error().is_none_or(|number| last.contains(&number))
}
