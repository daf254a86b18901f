//! `bpf(2)`: the system calls that neither std nor aya offers, each behind a safe function.
//!
//! Attribute structures are prefixes of `union bpf_attr` in `include/uapi/linux/bpf.h`; the kernel takes
//! what is missing as zero. Nothing else in the crate calls the kernel without std or aya.

use std::ffi::CString;
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// `enum bpf_cmd`.
#[derive(Clone, Copy)]
enum Command {
    MapCreate = 0,
    MapLookup = 1,
    MapUpdate = 2,
    MapDelete = 3,
    MapGetNextKey = 4,
    ProgLoad = 5,
    ObjPin = 6,
    ObjGet = 7,
    ProgTestRun = 10,
    ObjGetInfo = 15,
    MapLookupBatch = 24,
    LinkCreate = 28,
    LinkUpdate = 29,
    LinkDetach = 34,
}

/// Where a key and a value lie.
#[repr(C)]
#[derive(Default)]
struct ElementAttr {
    map_fd: u32,
    reserved: u32,
    key: u64,
    /// The next key for `MapGetNextKey`.
    value: u64,
    flags: u64,
}

/// Where a batch begins and ends, and where its keys and values lie.
#[repr(C)]
#[derive(Default)]
struct BatchAttr {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    element_flags: u64,
    flags: u64,
}

#[repr(C)]
#[derive(Default)]
struct MapCreateAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
    inner_map_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct ProgLoadAttr {
    prog_type: u32,
    insn_count: u32,
    insns: u64,
    license: u64,
}

#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

#[repr(C)]
#[derive(Default)]
struct TestRunAttr {
    prog_fd: u32,
    ret: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
}

#[repr(C)]
#[derive(Default)]
struct LinkCreateAttr {
    prog_fd: u32,
    target: u32,
    attach_type: u32,
    flags: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkUpdateAttr {
    link_fd: u32,
    new_prog_fd: u32,
}

#[repr(C)]
#[derive(Default)]
struct LinkDetachAttr {
    link_fd: u32,
}

/// Head of `struct bpf_link_info`, for XDP and tcx.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(crate) struct LinkInfo {
    pub(crate) link_type: u32,
    pub(crate) id: u32,
    pub(crate) prog_id: u32,
    padding: u32,
    /// 0 when the interface is gone or the link is detached.
    pub(crate) interface_index: u32,
}

/// Head of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(crate) struct ProgramInfo {
    pub(crate) program_type: u32,
    pub(crate) id: u32,
    pub(crate) tag: [u8; 8],
    /// Lengths, addresses and numbers that nobody here asks for.
    passed_over: [u64; 6],
    pub(crate) name: [u8; 16],
    more: [u64; 14],
    /// Zero while `kernel.bpf_stats_enabled` is off.
    pub(crate) run_time_ns: u64,
    pub(crate) run_count: u64,
}

/// Head of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default, Clone, Copy)]
pub(crate) struct MapInfo {
    pub(crate) map_type: u32,
    pub(crate) id: u32,
    pub(crate) key_size: u32,
    pub(crate) value_size: u32,
    pub(crate) max_entries: u32,
    pub(crate) flags: u32,
    pub(crate) name: [u8; 16],
}

/// What a test run answered.
pub(crate) struct TestRun {
    pub(crate) ret: u32,
    pub(crate) duration_ns: u32,
    /// Bytes of the packet after the run; may exceed the buffer that was given.
    pub(crate) output_bytes: u32,
}

/// Runs a program `repeat` times on a packet.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    data: &[u8],
    output: &mut [u8],
    context: &mut [u8],
    repeat: u32,
) -> io::Result<TestRun> {
    let mut attr = TestRunAttr {
        prog_fd: raw(program),
        data_size_in: length(data)?,
        data_size_out: length(output)?,
        data_in: address(data),
        data_out: if output.is_empty() { 0 } else { output.as_mut_ptr() as u64 },
        ctx_size_out: length(context)?,
        ctx_out: if context.is_empty() { 0 } else { context.as_mut_ptr() as u64 },
        repeat,
        ..TestRunAttr::default()
    };
    call(Command::ProgTestRun, &mut attr)?;
    Ok(TestRun { ret: attr.ret, duration_ns: attr.duration, output_bytes: attr.data_size_out })
}

/// Loads a program of `instructions` (8 bytes each).
pub(crate) fn load_program(prog_type: u32, instructions: &[u8], license: &str) -> io::Result<OwnedFd> {
    let license = CString::new(license)?;
    let mut attr = ProgLoadAttr {
        prog_type,
        insn_count: length(instructions)? / 8,
        insns: address(instructions),
        license: license.as_ptr() as u64,
    };
    new_fd(Command::ProgLoad, &mut attr)
}

/// Creates a map without a name and without types.
pub(crate) fn create_map(
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    inner: Option<BorrowedFd<'_>>,
) -> io::Result<OwnedFd> {
    let mut attr = MapCreateAttr {
        map_type,
        key_size,
        value_size,
        max_entries,
        flags: 0,
        inner_map_fd: inner.map_or(0, raw),
    };
    new_fd(Command::MapCreate, &mut attr)
}

/// Copies a value; `value` has the size that the kernel writes, per-CPU copies included.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    let value = value.as_mut_ptr() as u64;
    element(Command::MapLookup, map, key, value, 0)
}

pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8], flags: u64) -> io::Result<()> {
    element(Command::MapUpdate, map, key, address(value), flags)
}

pub(crate) fn delete(map: BorrowedFd<'_>, key: &[u8]) -> io::Result<()> {
    element(Command::MapDelete, map, key, 0, 0)
}

/// The key after `key`, or the first one.
pub(crate) fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> io::Result<()> {
    let next = next.as_mut_ptr() as u64;
    element(Command::MapGetNextKey, map, key.unwrap_or(&[]), next, 0)
}

/// Where a walk through a hash map in batches stands: a bucket.
#[derive(Clone, Copy)]
pub(crate) struct Bucket(u32);

/// Copies the entries of whole buckets, at most `count`, from `from` or the first bucket on; both buffers have room
/// for so many. Gives the number that were copied, and where the rest begins, if there is any. `ENOSPC`: the
/// bucket has more (`__htab_map_lookup_and_delete_batch` in `kernel/bpf/hashtab.c`).
pub(crate) fn lookup_batch(
    map: BorrowedFd<'_>,
    from: Option<Bucket>,
    keys: &mut [u8],
    values: &mut [u8],
    count: u32,
) -> io::Result<(u32, Option<Bucket>)> {
    let begin = from.map_or(0, |bucket| bucket.0);
    let mut next = 0_u32;
    let mut attr = BatchAttr {
        in_batch: if from.is_some() { &raw const begin as u64 } else { 0 },
        out_batch: &raw mut next as u64,
        keys: keys.as_mut_ptr() as u64,
        values: values.as_mut_ptr() as u64,
        count,
        map_fd: raw(map),
        ..BatchAttr::default()
    };
    match call(Command::MapLookupBatch, &mut attr) {
        Ok(_) => Ok((attr.count, Some(Bucket(next)))),
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok((attr.count, None)),
        Err(error) => Err(error),
    }
}

pub(crate) fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut info = MapInfo::default();
    let mut attr = InfoAttr { fd: raw(map), length: size_of::<MapInfo>() as u32, info: &raw mut info as u64 };
    call(Command::ObjGetInfo, &mut attr)?;
    Ok(info)
}

/// Pins a map, program or link at a path in bpffs.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr { path: path.as_ptr() as u64, fd: raw(object), flags: 0 };
    call(Command::ObjPin, &mut attr).map(|_| ())
}

/// Opens what is pinned at a path.
pub(crate) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = ObjectAttr { path: path.as_ptr() as u64, ..ObjectAttr::default() };
    new_fd(Command::ObjGet, &mut attr)
}

/// Attaches an XDP program to an interface; `flags` are `XDP_FLAGS_*`.
pub(crate) fn attach_xdp(program: BorrowedFd<'_>, interface_index: u32, flags: u32) -> io::Result<OwnedFd> {
    /// `BPF_XDP` of `enum bpf_attach_type`.
    const BPF_XDP: u32 = 37;
    create_link(program, interface_index, BPF_XDP, flags)
}

/// Attaches a program to an interface; `attach_type` is one of `enum bpf_attach_type`.
pub(crate) fn create_link(
    program: BorrowedFd<'_>,
    interface_index: u32,
    attach_type: u32,
    flags: u32,
) -> io::Result<OwnedFd> {
    let prog_fd = raw(program);
    let mut attr = LinkCreateAttr { prog_fd, target: interface_index, attach_type, flags };
    new_fd(Command::LinkCreate, &mut attr)
}

/// Puts another program of the same type behind a link; no packet meets none or both.
pub(crate) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkUpdateAttr { link_fd: raw(link), new_prog_fd: raw(program) };
    call(Command::LinkUpdate, &mut attr).map(|_| ())
}

/// Detaches a link at once, whoever else still holds it.
pub(crate) fn detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = LinkDetachAttr { link_fd: raw(link) };
    call(Command::LinkDetach, &mut attr).map(|_| ())
}

pub(crate) fn program_info(program: BorrowedFd<'_>) -> io::Result<ProgramInfo> {
    let mut info = ProgramInfo::default();
    let mut attr =
        InfoAttr { fd: raw(program), length: size_of::<ProgramInfo>() as u32, info: &raw mut info as u64 };
    call(Command::ObjGetInfo, &mut attr)?;
    Ok(info)
}

pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    let mut info = LinkInfo::default();
    let mut attr =
        InfoAttr { fd: raw(link), length: size_of::<LinkInfo>() as u32, info: &raw mut info as u64 };
    call(Command::ObjGetInfo, &mut attr)?;
    Ok(info)
}

/// A socket that asks the kernel about interfaces.
pub(crate) fn route_socket() -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC;
    // SAFETY: the call takes three numbers.
    let fd = unsafe { libc::socket(libc::AF_NETLINK, kind, libc::NETLINK_ROUTE) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Number of an interface in this network namespace.
pub(crate) fn interface_index(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    // SAFETY: the name is a terminated string that is read only.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    (index != 0).then_some(index)
}

/// Name of an interface in this network namespace.
pub(crate) fn interface_name(index: u32) -> Option<String> {
    let mut name = [0_u8; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the size that the call demands and is not shared.
    let found = unsafe { libc::if_indextoname(index, name.as_mut_ptr().cast()) };
    if found.is_null() {
        return None;
    }
    let bytes = name.split(|byte| *byte == 0).next()?;
    String::from_utf8(bytes.to_vec()).ok()
}

/// The kind of an interface's link layer, `ARPHRD_*` of `include/uapi/linux/if_arp.h`.
pub(crate) fn link_layer(name: &str) -> io::Result<u16> {
    let name = CString::new(name)?;
    let bytes = name.as_bytes();
    // SAFETY: the structure is plain numbers and bytes, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if bytes.len() >= request.ifr_name.len() {
        return Err(io::Error::from_raw_os_error(libc::ENODEV));
    }
    for (place, byte) in request.ifr_name.iter_mut().zip(bytes) {
        *place = byte.cast_signed();
    }
    let socket = std::net::UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: the structure lives through the call, which writes the union's member that is read.
    let (result, kind) = unsafe {
        let result = libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFHWADDR, &raw mut request);
        (result, request.ifr_ifru.ifru_hwaddr.sa_family)
    };
    if result == 0 { Ok(kind) } else { Err(io::Error::last_os_error()) }
}

/// Whether a path that exists lies in bpffs.
pub(crate) fn is_bpffs(path: &Path) -> io::Result<bool> {
    /// `BPF_FS_MAGIC` of `include/uapi/linux/magic.h`.
    const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the structure is plain numbers, for which zero is a value, and the path is terminated.
    let (result, kind) = unsafe {
        let mut answer: libc::statfs = std::mem::zeroed();
        let result = libc::statfs(path.as_ptr(), &raw mut answer);
        (result, answer.f_type)
    };
    if result == 0 { Ok(kind == BPF_FS_MAGIC) } else { Err(io::Error::last_os_error()) }
}

/// The clock that `bpf_ktime_get_ns` reads, in nanoseconds.
pub(crate) fn ktime_ns() -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the structure is initialised and not shared.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Ok(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Waits until there is something to read, at most so long; without a limit, for ever.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, limit: Option<Duration>) -> io::Result<()> {
    let mut waiting = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // Rounded up, so that a wait of less than a millisecond is none of zero.
    let limit =
        limit.map_or(-1, |limit| i32::try_from(limit.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX));
    // SAFETY: one initialised structure, not shared.
    let result = unsafe { libc::poll(&raw mut waiting, 1, limit) };
    if result >= 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if error.kind() == io::ErrorKind::Interrupted => Ok(()),
        error => Err(error),
    }
}

/// Lifts the limit on locked memory, which kernels before 5.11 charge maps to. A refusal is left to the
/// map creation that follows.
pub(crate) fn lift_memory_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the structure is initialised and read only.
    let _refused = unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) };
}

/// Lets the calling thread run on one CPU only.
pub(crate) fn set_affinity(cpu: usize) -> io::Result<()> {
    if cpu >= libc::CPU_SETSIZE as usize {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a CPU set is plain bits, for which zero is a value; `cpu` lies inside of it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn element(command: Command, map: BorrowedFd<'_>, key: &[u8], value: u64, flags: u64) -> io::Result<()> {
    let key = if key.is_empty() { 0 } else { address(key) };
    let mut attr = ElementAttr { map_fd: raw(map), reserved: 0, key, value, flags };
    call(command, &mut attr).map(|_| ())
}

fn new_fd<T>(command: Command, attr: &mut T) -> io::Result<OwnedFd> {
    let fd = call(command, attr)?;
    // SAFETY: the kernel has just made this descriptor, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn call<T>(command: Command, attr: &mut T) -> io::Result<i32> {
    loop {
        // SAFETY: `attr` is a prefix of `union bpf_attr` of the size that is passed, and the addresses in it
        // come from buffers that the callers above keep alive and large enough until the call returns.
        let result = unsafe {
            libc::syscall(libc::SYS_bpf, command as libc::c_int, std::ptr::from_mut(attr), size_of::<T>())
        };
        if result >= 0 {
            return Ok(result as i32);
        }
        let error = io::Error::last_os_error();
        // Program loading answers EAGAIN when a signal arrived, test runs answer EINTR.
        let again = [io::ErrorKind::Interrupted, io::ErrorKind::WouldBlock];
        if !again.contains(&error.kind()) {
            return Err(error);
        }
    }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // Descriptors are not negative.
    fd.as_raw_fd().unsigned_abs()
}

fn address(bytes: &[u8]) -> u64 {
    bytes.as_ptr() as u64
}

fn length(bytes: &[u8]) -> io::Result<u32> {
    u32::try_from(bytes.len()).map_err(|_| io::Error::from_raw_os_error(libc::E2BIG))
}

/// `struct __user_cap_header_struct`.
#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

/// `struct __user_cap_data_struct`: half of each set.
#[repr(C)]
#[derive(Default, Clone, Copy)]
struct CapabilityHalf {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// `_LINUX_CAPABILITY_VERSION_3`: sets of 64 bits in two halves.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

fn capabilities() -> io::Result<[CapabilityHalf; 2]> {
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let mut halves = [CapabilityHalf::default(); 2];
    // SAFETY: the kernel writes two halves for this version, and both structures live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, halves.as_mut_ptr()) };
    if result == 0 { Ok(halves) } else { Err(io::Error::last_os_error()) }
}

/// What this thread may do.
pub(crate) fn effective_capabilities() -> io::Result<u64> {
    let [low, high] = capabilities()?;
    Ok(u64::from(low.effective) | u64::from(high.effective) << 32)
}

/// What this thread may make effective.
pub(crate) fn permitted_capabilities() -> io::Result<u64> {
    let [low, high] = capabilities()?;
    Ok(u64::from(low.permitted) | u64::from(high.permitted) << 32)
}

/// Leaves this thread these capabilities, and what it executes none.
pub(crate) fn set_capabilities(keep: u64) -> io::Result<()> {
    for capability in 0..u64::BITS {
        // The first that the kernel does not know ends the set; without CAP_SETPCAP the bounding set stays,
        // which matters to executed programs only, and those are kept from gaining anything below.
        // SAFETY: takes a number and touches no memory of ours.
        if unsafe { libc::prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0, 0, 0) } != 0 {
            break;
        }
    }
    // SAFETY: takes numbers and touches no memory of ours.
    unsafe {
        libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    }
    let half = |bits: u64| {
        let bits = (bits & u64::from(u32::MAX)) as u32;
        CapabilityHalf { effective: bits, permitted: bits, inheritable: 0 }
    };
    let mut header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let halves = [half(keep), half(keep >> 32)];
    // SAFETY: the kernel reads two halves for this version, and both structures live until it returns.
    let result = unsafe { libc::syscall(libc::SYS_capset, &raw mut header, halves.as_ptr()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
