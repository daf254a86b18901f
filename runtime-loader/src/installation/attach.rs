//! Attachments: the entry program on interfaces, each pinned so that it outlives the command.
//!
//! An attachment by a link that is not pinned ends with the command that made it, so a command that is killed leaves
//! either a whole attachment or a directory without a link, which the next command removes.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::place::{self, AttachedBy, Place};
use super::{Installation, InstallationError, way};
use crate::attach_tc::{self, ClsactFilter, Hook};
use crate::pins::{self, CodeDirectory, PinDirectory};
use crate::sys;

/// The program that packets enter.
pub(super) const ENTRY: &str = "nn_entry";

/// How a program is to be attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachMode {
    /// XDP: native where driver and interface can, else generic. tc: tcx where the kernel has it, else clsact.
    Auto,
    /// Generic XDP: every interface, slower.
    Skb,
    /// XDP in the driver.
    Native,
    /// A link of tcx.
    Tcx,
    /// A filter of a clsact qdisc.
    Clsact,
}

impl AttachMode {
    /// Whether an attachment is what was asked for.
    #[must_use]
    pub fn allows(self, by: AttachedBy) -> bool {
        match self {
            Self::Auto => true,
            Self::Skb => by == AttachedBy::Generic,
            Self::Native => by == AttachedBy::Native,
            Self::Tcx => by == AttachedBy::Tcx,
            Self::Clsact => by == AttachedBy::Clsact,
        }
    }
}

impl fmt::Display for AttachMode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Auto => "auto",
            Self::Skb => "skb",
            Self::Native => "native",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// One interface that the program is, or was, attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attachment {
    /// Name of the interface; it says so when it lies in another network namespace.
    pub interface: String,
    pub hook: Hook,
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
            let attachment = self.attachment(&directory, &place)?;
            if place.index == index && attachment.program.is_some() {
                return Ok(AttachOutcome::Already(attachment));
            }
        }
        remove(&directory)?;
        let path = code.program(ENTRY);
        let entry = sys::open_pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
        let way = way::choose(entry.as_fd(), self.hook(code)?, index, mode);
        let (link, by, fallback) = way.map_err(|source| InstallationError::Attach {
            interface: interface.to_owned(),
            mode,
            present: way::present(index),
            source,
        })?;
        let place = Place {
            namespace: place::namespace(),
            since_ns: place::now_ns()?,
            index,
            hook: self.hook(code)?,
            by,
            fallback,
            interface: interface.to_owned(),
            filter: if link.is_some() { (0, 0) } else { (way::PRIORITY, way::handle()) },
        };
        let pinned = pins::create_private(&directory)
            .map_err(|source| InstallationError::Pin { path: directory.clone(), source })
            .and_then(|()| place.pin(&directory.join("place")))
            .and_then(|()| match &link {
                // Until it is pinned, the attachment ends with this descriptor.
                Some(link) => {
                    let path = directory.join("link");
                    sys::pin(link.as_fd(), &path).map_err(|source| InstallationError::Pin { path, source })
                }
                // A filter stays for good, so it is noted before it is made.
                None => way::make_filter(&code.program(ENTRY), &place).map_err(|source| {
                    let interface = interface.to_owned();
                    InstallationError::Attach { interface, mode, present: None, source }
                }),
            });
        if let Err(error) = pinned {
            let _first_error_counts = remove(&directory);
            return Err(error);
        }
        Ok(AttachOutcome::Attached(self.attachment(&directory, &place)?))
    }

    /// The hook that an object was compiled for.
    fn hook(&self, code: &CodeDirectory) -> Result<Hook, InstallationError> {
        let metadata = self.metadata_of(code);
        let metadata = metadata
            .map_err(|mut diagnostics| InstallationError::Metadata(diagnostics.pop().map(Box::new)))?;
        Ok(metadata.hook.unwrap_or(Hook::Xdp))
    }

    /// Puts the entry program of a program generation behind every attachment. Each is one step: every packet
    /// meets the old program or the new one.
    pub(super) fn switch(&self, code: &CodeDirectory) -> Result<(), InstallationError> {
        let path = code.program(ENTRY);
        let failed = |source| InstallationError::Pin { path: path.clone(), source };
        let entry = sys::open_pin(&path).map_err(failed)?;
        let id = sys::program_info(entry.as_fd()).map_err(failed)?.id;
        for name in pins::entries(&self.pins.links()) {
            let directory = self.pins.links().join(name);
            let Some(place) = Place::read(&directory.join("place")) else { continue };
            let switched = match place.clsact() {
                Some(filter) if place.is_here() => attach_tc::replace_clsact(&path, &filter),
                Some(_) => continue,
                None => match sys::open_pin(&directory.join("link")) {
                    Ok(link) if runs_other(link.as_fd(), id) => sys::update_link(link.as_fd(), entry.as_fd()),
                    Ok(_) | Err(_) => continue,
                },
            };
            match switched {
                // The interface is gone, and the attachment with it.
                Err(error) if is_gone(&error) => {}
                Err(source) => {
                    return Err(InstallationError::Switch { interface: place.shown(), source });
                }
                Ok(()) => {}
            }
        }
        Ok(())
    }

    /// Attachments that only a process in their network namespace can change.
    pub(super) fn out_of_reach(&self) -> Option<String> {
        let places = pins::entries(&self.pins.links());
        let mut places =
            places.into_iter().filter_map(|name| Place::read(&self.pins.links().join(name).join("place")));
        let place = places.find(|place| place.clsact().is_some() && !place.is_here())?;
        Some(place.shown())
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
                found.push(self.attachment(&directory, &place)?);
            }
        }
        Ok(found)
    }

    /// Whether the program was attached to an interface of this name in this namespace.
    #[must_use]
    pub fn is_on(&self, interface: &str) -> bool {
        on(&self.pins, interface)
    }

    fn attachment(&self, directory: &Path, place: &Place) -> Result<Attachment, InstallationError> {
        let program = match place.clsact() {
            None => {
                let info =
                    sys::open_pin(&directory.join("link")).and_then(|link| sys::link_info(link.as_fd()));
                info.ok().filter(|info| info.interface_index != 0).map(|info| info.prog_id)
            }
            Some(filter) => self.filter_program(place, &filter),
        };
        Ok(Attachment {
            interface: place.shown(),
            hook: place.hook,
            by: place.by,
            fallback: place.fallback.map(|number| io::Error::from_raw_os_error(number).to_string()),
            uptime: Duration::from_nanos(place::now_ns()?.saturating_sub(place.since_ns)),
            program,
        })
    }

    /// The kernel tells of a filter only in its network namespace, and there by whether it can be replaced. In
    /// another one it is taken for what it was.
    fn filter_program(&self, place: &Place, filter: &ClsactFilter) -> Option<u32> {
        let path = self.pins.current().program(ENTRY);
        let entry = sys::open_pin(&path).ok()?;
        let id = sys::program_info(entry.as_fd()).ok()?.id;
        let same_interface = || sys::interface_index(&place.interface) == Some(place.index);
        let there =
            !place.is_here() || (same_interface() && attach_tc::replace_clsact(&path, filter).is_ok());
        there.then_some(id)
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

/// Detaches and removes the pins. When that is not possible, nothing has changed.
pub(super) fn remove(directory: &Path) -> Result<(), InstallationError> {
    let link = directory.join("link");
    let open = sys::open_pin(&link);
    unpin(&link)?;
    if let Ok(open) = open {
        // Kernels before 5.9 cannot detach a link; closing its last descriptor does the same a little later.
        let _unsupported = sys::detach(open.as_fd());
    }
    if let Some(place) = Place::read(&directory.join("place"))
        && let Some(filter) = place.clsact()
    {
        if !place.is_here() {
            return Err(InstallationError::OutOfReach { interface: place.shown() });
        }
        match attach_tc::detach_clsact(&filter) {
            // Whoever removed the interface has removed the filter.
            Err(source) if !is_gone(&source) => {
                return Err(InstallationError::Switch { interface: place.shown(), source });
            }
            Ok(()) | Err(_) => {}
        }
    }
    unpin(&directory.join("place"))?;
    match std::fs::remove_dir(directory) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallationError::Pin { path: directory.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn unpin(path: &Path) -> Result<(), InstallationError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(InstallationError::Pin { path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Whether a link is attached, and to another program.
fn runs_other(link: BorrowedFd<'_>, program: u32) -> bool {
    sys::link_info(link).is_ok_and(|info| info.interface_index != 0 && info.prog_id != program)
}

/// What the kernel says of an attachment whose interface, qdisc or filter is no more.
fn is_gone(error: &io::Error) -> bool {
    let gone = [libc::ENOLINK, libc::ENODEV, libc::ENOENT, libc::EINVAL, libc::ENXIO];
    error.raw_os_error().is_some_and(|number| gone.contains(&number))
}
