//! Programs of the hooks of tc on interfaces: as tcx links, or, before kernel 6.6, as filters of a clsact qdisc.
//!
//! | | [`attach_tcx`] | [`attach_clsact`] |
//! |---|---|---|
//! | kernel | from 6.6 on | any |
//! | ends with | its last descriptor or pin, or the interface | [`detach_clsact`], or the interface |
//! | found again by | the pin | interface, hook, priority and handle |
//! | other program | [`update_link`] | [`replace_clsact`] |
//!
//! Programs of tcx run before filters, and filters by rising priority. Ours answer `TC_ACT_UNSPEC` for a packet
//! that they let through, so whatever comes after them is asked as well.

use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;

use aya::programs::tc::{self, NlOptions, SchedClassifierLink, TcAttachOptions, TcError, TcHandle};
use aya::programs::{Link, ProgramError, SchedClassifier, TcAttachType};

use crate::sys;

pub use nnbpf_compiler::spec::typed::Hook;

/// `BPF_TCX_INGRESS` and `BPF_TCX_EGRESS` of `enum bpf_attach_type`.
const TCX_INGRESS: u32 = 46;
const TCX_EGRESS: u32 = 47;

/// A filter that is attached: everything that finds it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClsactFilter {
    /// The interface in this process's network namespace.
    pub interface: String,
    pub hook: Hook,
    pub priority: u16,
    pub handle: u32,
}

/// The number of an interface in this process's network namespace; nothing where there is none of this name.
#[must_use]
pub fn interface_index(name: &str) -> Option<u32> {
    sys::interface_index(name)
}

/// Whether packets of an interface have Ethernet headers. Tunnels of IP packets (tun, wireguard) have none, and
/// programs would find nothing there that they understand.
///
/// # Errors
/// `ENODEV`: there is no interface of this name.
pub fn has_ethernet(interface: &str) -> io::Result<bool> {
    let kind = sys::link_layer(interface)?;
    Ok([libc::ARPHRD_ETHER, libc::ARPHRD_LOOPBACK].contains(&kind))
}

/// Attaches a program behind those that tcx has there already. The link ends with its last descriptor, unless
/// it is pinned.
///
/// # Errors
/// What the kernel answers: `EINVAL` where it has no tcx, `ENODEV` where there is no such interface.
/// [`io::ErrorKind::InvalidInput`] for XDP, which is no hook of tc; [`io::ErrorKind::Unsupported`] for an
/// interface without Ethernet headers.
pub fn attach_tcx(program: BorrowedFd<'_>, ifindex: u32, hook: Hook) -> io::Result<OwnedFd> {
    let attach_type = match hook {
        Hook::Xdp => return Err(no_tc_hook()),
        Hook::TcIngress => TCX_INGRESS,
        Hook::TcEgress => TCX_EGRESS,
    };
    let interface = sys::interface_name(ifindex).ok_or_else(|| io::Error::from_raw_os_error(libc::ENODEV))?;
    ethernet(&interface)?;
    sys::create_link(program, ifindex, attach_type, 0)
}

/// Puts another program of the same type behind a link, of XDP or tcx: no packet meets none or both.
///
/// # Errors
/// What the kernel answers: `EINVAL` for a program of another type, `ENOLINK` where the interface is gone.
pub fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    sys::update_link(link, program)
}

/// Attaches a program that is pinned at `program` as a filter, after making the interface's clsact qdisc where
/// there is none. The kernel chooses priority and handle; the filter outlives this process.
///
/// # Errors
/// A program that cannot be opened, [`io::ErrorKind::Unsupported`] for an interface without Ethernet headers, and
/// what the kernel answers.
pub fn attach_clsact(program: &Path, interface: &str, hook: Hook) -> io::Result<ClsactFilter> {
    attach_filter(program, interface, hook, NlOptions::default())
}

/// As [`attach_clsact`], under a priority and handle that the caller has chosen, and noted, before.
///
/// # Errors
/// As [`attach_clsact`]; `EEXIST` when the handle is taken.
pub fn attach_clsact_at(program: &Path, filter: &ClsactFilter) -> io::Result<()> {
    let handle = TcHandle::from(filter.handle);
    let options = NlOptions { priority: filter.priority, handle, ..NlOptions::default() };
    attach_filter(program, &filter.interface, filter.hook, options).map(|_| ())
}

fn attach_filter(
    program: &Path,
    interface: &str,
    hook: Hook,
    options: NlOptions,
) -> io::Result<ClsactFilter> {
    let direction = direction(hook)?;
    ethernet(interface)?;
    if let Err(error) = tc::qdisc_add_clsact(interface) {
        match os_error(&error) {
            Some(libc::EEXIST) => {}
            Some(number) => return Err(io::Error::from_raw_os_error(number)),
            None => return Err(io::Error::other(error)),
        }
    }
    let mut program = open(program)?;
    let options = TcAttachOptions::Netlink(options);
    let id = program.attach_with_options(interface, direction, options).map_err(plain)?;
    let link = program.take_link(id).map_err(plain)?;
    let priority = link.priority().map_err(plain)?;
    let handle = link.handle().map_err(plain)?.into();
    keep(link);
    Ok(ClsactFilter { interface: interface.to_owned(), hook, priority, handle })
}

/// Puts the program that is pinned at `program` into a filter that is attached: no packet meets none or both.
///
/// # Errors
/// A program that cannot be opened, a filter that is gone (`ENOENT`), and what else the kernel answers.
pub fn replace_clsact(program: &Path, filter: &ClsactFilter) -> io::Result<()> {
    let mut program = open(program)?;
    let id = program.attach_to_link(link(filter)?).map_err(plain)?;
    keep(program.take_link(id).map_err(plain)?);
    Ok(())
}

/// Takes a filter off its interface, whoever attached it. The qdisc stays: others may use it, and without
/// filters it does nothing.
///
/// # Errors
/// What the kernel answers: `ENOENT` or `EINVAL` where filter or qdisc are gone, `ENODEV` where the interface is.
pub fn detach_clsact(filter: &ClsactFilter) -> io::Result<()> {
    Link::detach(link(filter)?).map_err(plain)
}

fn ethernet(interface: &str) -> io::Result<()> {
    if has_ethernet(interface)? {
        Ok(())
    } else {
        Err(io::Error::new(io::ErrorKind::Unsupported, "the interface has no Ethernet headers"))
    }
}

/// A filter as aya knows it. Dropping it detaches, unless [`keep`] has it.
fn link(filter: &ClsactFilter) -> io::Result<SchedClassifierLink> {
    let direction = direction(filter.hook)?;
    let handle = TcHandle::from(filter.handle);
    SchedClassifierLink::attached(&filter.interface, direction, filter.priority, handle, None)
}

/// Lets a filter outlive this process. It is a few numbers, so nothing leaks.
fn keep(link: SchedClassifierLink) {
    std::mem::forget(link);
}

/// By its pin alone: finding programs by number takes `CAP_SYS_ADMIN`.
fn open(program: &Path) -> io::Result<SchedClassifier> {
    SchedClassifier::from_pin(program).map_err(plain)
}

fn direction(hook: Hook) -> io::Result<TcAttachType> {
    match hook {
        Hook::Xdp => Err(no_tc_hook()),
        Hook::TcIngress => Ok(TcAttachType::Ingress),
        Hook::TcEgress => Ok(TcAttachType::Egress),
    }
}

fn no_tc_hook() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "xdp is no hook of tc")
}

/// The kernel's answer, where there is one.
fn plain(error: ProgramError) -> io::Error {
    let number = if let ProgramError::TcError(error) = &error {
        os_error(error)
    } else if let ProgramError::NetlinkError(error) = &error {
        error.raw_os_error()
    } else if let ProgramError::SyscallError(error) = &error {
        error.io_error.raw_os_error()
    } else if let ProgramError::IOError(error) = &error {
        error.raw_os_error()
    } else {
        None
    };
    number.map_or_else(|| io::Error::other(error), io::Error::from_raw_os_error)
}

fn os_error(error: &TcError) -> Option<i32> {
    if let TcError::NetlinkError(error) = error {
        error.raw_os_error()
    } else if let TcError::IoError(error) = error {
        error.raw_os_error()
    } else {
        None
    }
}
