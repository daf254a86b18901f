//! Ways to attach to an interface, the best one first: native XDP or generic, tcx or a clsact filter.

use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::attach::AttachMode;
use super::place::{AttachedBy, Place};
use crate::attach_tc::{self, Hook};
use crate::pins::{self, PinDirectory};
use crate::{sys, xdp_query};

/// Priority of our filters: before those that choose none, which the kernel numbers from 49152 downwards.
pub(super) const PRIORITY: u16 = 1;

/// First handle of our filters; every installation on an interface has one of its own.
const HANDLE: u32 = 0x6e6e_0000;

/// What came of the choice: the link, or nothing where a filter is to be made; how; and the error number of the
/// better way.
pub(super) type Way = (Option<OwnedFd>, AttachedBy, Option<i32>);

/// Attaches by a link, or says that it takes a filter.
pub(super) fn choose(entry: BorrowedFd<'_>, hook: Hook, index: u32, mode: AttachMode) -> io::Result<Way> {
    let no_way = || io::Error::new(io::ErrorKind::InvalidInput, format!("no way to attach {}", hook.name()));
    let xdp = |by| Ok((Some(sys::attach_xdp(entry, index, flags(by))?), by, None));
    let tcx = || Ok((Some(attach_tc::attach_tcx(entry, index, hook)?), AttachedBy::Tcx, None));
    let (best, worse): (io::Result<Way>, _) = match (hook, mode) {
        (Hook::Xdp, AttachMode::Skb) => return xdp(AttachedBy::Generic),
        (Hook::Xdp, AttachMode::Native) => return xdp(AttachedBy::Native),
        (Hook::Xdp, AttachMode::Auto) => (xdp(AttachedBy::Native), AttachedBy::Generic),
        (Hook::TcIngress | Hook::TcEgress, AttachMode::Tcx) => return tcx(),
        (Hook::TcIngress | Hook::TcEgress, AttachMode::Clsact) => {
            return Ok((None, AttachedBy::Clsact, None));
        }
        (Hook::TcIngress | Hook::TcEgress, AttachMode::Auto) => (tcx(), AttachedBy::Clsact),
        (Hook::Xdp, AttachMode::Tcx | AttachMode::Clsact)
        | (Hook::TcIngress | Hook::TcEgress, AttachMode::Skb | AttachMode::Native) => {
            return Err(no_way());
        }
    };
    match best {
        // Another program is there, or we may not: the other way would fail too, for the same reason.
        Err(error) if !is_final(&error) => {
            let link = match worse {
                AttachedBy::Generic => Some(sys::attach_xdp(entry, index, flags(worse))?),
                AttachedBy::Native | AttachedBy::Tcx | AttachedBy::Clsact => None,
            };
            Ok((link, worse, error.raw_os_error()))
        }
        best => best,
    }
}

/// Makes the filter that a place tells of.
pub(super) fn make_filter(entry: &Path, place: &Place) -> io::Result<()> {
    match place.clsact() {
        Some(filter) => attach_tc::attach_clsact_at(entry, &filter),
        None => Ok(()),
    }
}

/// A handle that hardly any other filter has: half of it is random.
pub(super) fn handle() -> u32 {
    // The standard library seeds its hashes from the system.
    let random = RandomState::new().build_hasher().finish();
    HANDLE | u32::try_from(random & 0xffff).unwrap_or(0)
}

/// What holds the place of XDP on an interface.
pub(super) fn present(index: u32) -> Option<String> {
    let id = xdp_query::program(index).ok().flatten()?;
    let ours = PinDirectory::all().into_iter().find(|pins| {
        let links = pins::entries(&pins.links()).into_iter().map(|name| pins.links().join(name).join("link"));
        let mut infos = links.filter_map(|link| sys::link_info(sys::open_pin(&link).ok()?.as_fd()).ok());
        infos.any(|info| info.prog_id == id && info.interface_index == index)
    });
    if let Some(pins) = ours {
        return Some(format!("program {id} of the installation `{}`", pins.name()));
    }
    let mut programs = aya::programs::loaded_programs().flatten();
    let name = programs.find(|program| program.id() == id);
    let name = name.and_then(|program| program.name_as_str().map(str::to_owned)).unwrap_or_default();
    Some(format!("program {id} `{name}`"))
}

/// `XDP_FLAGS_*` of `include/uapi/linux/if_link.h`.
fn flags(by: AttachedBy) -> u32 {
    match by {
        AttachedBy::Generic => 1 << 1,
        AttachedBy::Native => 1 << 2,
        AttachedBy::Tcx | AttachedBy::Clsact => 0,
    }
}

fn is_final(error: &io::Error) -> bool {
    let last = [libc::EBUSY, libc::EEXIST, libc::EPERM, libc::EACCES, libc::ENODEV];
    error.raw_os_error().is_none_or(|number| last.contains(&number))
}
