//! The running kernel as an oracle: a module's program loaded and run with bpf(2), nothing pinned or attached.

use crate::bpf::assemble::{RelocationTarget, assemble};
use crate::bpf::module::{MapKind, Module, Type};
use std::ffi::CString;
use std::io::Error;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Commands of `enum bpf_cmd`.
const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const PROG_LOAD: i32 = 5;
const PROG_TEST_RUN: i32 = 10;

/// `BPF_PROG_TYPE_XDP`.
const XDP: u32 = 6;

/// `BPF_F_NO_PREALLOC`, which tries need.
const NO_PREALLOC: u32 = 1;

/// `union bpf_attr`, filled field by field.
#[repr(C, align(8))]
struct Attributes([u8; 160]);

impl Attributes {
    fn new() -> Self {
        Self([0; 160])
    }

    fn u32(mut self, offset: usize, value: u32) -> Self {
        self.0[offset..offset + 4].copy_from_slice(&value.to_le_bytes());
        self
    }

    fn pointer<T>(mut self, offset: usize, value: *const T) -> Self {
        self.0[offset..offset + 8].copy_from_slice(&(value as u64).to_le_bytes());
        self
    }

    fn call(&mut self, command: i32) -> Result<i32, Error> {
        // SAFETY: the attributes and every buffer they point to outlive the call; the size is the array's.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(Error::last_os_error()) } else { Ok(result as i32) }
    }

    fn create(&mut self, command: i32) -> Result<OwnedFd, Error> {
        // SAFETY: the kernel has just made this descriptor for us alone.
        self.call(command).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
    }
}

fn fd(fd: &OwnedFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// Keeps this thread on its processor: a per-CPU value is another one elsewhere.
fn stay_here() {
    // SAFETY: the set is plain data, and the calls read and write nothing but it.
    let moved = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(libc::sched_getcpu().cast_unsigned() as usize, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set)
    };
    assert_eq!(moved, 0, "{}", Error::last_os_error());
}

/// Whether this process may use BPF; says so when not, and fails where the kernel is required.
pub(crate) fn permitted(test: &str) -> bool {
    match create_map(MapKind::Array, 4, 8, 1) {
        Ok(_) => true,
        Err(error) => {
            assert_ne!(
                std::env::var("NNBPF_REQUIRE_KERNEL").as_deref(),
                Ok("1"),
                "BPF is not permitted: {error}"
            );
            eprintln!("SKIP {test}: BPF is not permitted: {error}");
            false
        }
    }
}

/// A loaded program with its maps.
pub(super) struct Kernel {
    program: OwnedFd,
    maps: Vec<(String, OwnedFd, u32)>,
    /// What the verifier said.
    pub(super) log: String,
}

impl Kernel {
    /// Loads the module's first program with its functions.
    pub(super) fn load(module: &Module) -> Result<Self, String> {
        stay_here();
        let mut maps = Vec::new();
        for map in &module.maps {
            let bytes = |ty: &Option<Type>| ty.as_ref().map_or(0, Type::size);
            let created = create_map(map.kind, bytes(&map.key), bytes(&map.value), map.max_entries);
            maps.push((map.name.clone(), created.map_err(|error| error.to_string())?, bytes(&map.value)));
        }
        let code = link(module, &maps);
        let license = CString::new("GPL").unwrap();
        let mut log = vec![0_u8; 1 << 20];
        let loaded = Attributes::new()
            .u32(0, XDP)
            .u32(4, (code.len() / 8) as u32)
            .pointer(8, code.as_ptr())
            .pointer(16, license.as_ptr())
            .u32(24, 2)
            .u32(28, log.len() as u32)
            .pointer(32, log.as_mut_ptr())
            .create(PROG_LOAD);
        let end = log.iter().position(|byte| *byte == 0).unwrap();
        let log = String::from_utf8_lossy(&log[..end]).into_owned();
        match loaded {
            Ok(program) => Ok(Self { program, maps, log }),
            Err(error) => Err(format!("{error}\n{log}")),
        }
    }

    /// Runs the program once; gives the return value and the packet afterwards.
    pub(super) fn run(&self, packet: &[u8]) -> (u32, Vec<u8>) {
        let mut out = vec![0_u8; packet.len()];
        let mut attributes = Attributes::new()
            .u32(0, fd(&self.program))
            .u32(8, packet.len() as u32)
            .u32(12, out.len() as u32)
            .pointer(16, packet.as_ptr())
            .pointer(24, out.as_mut_ptr());
        attributes.call(PROG_TEST_RUN).unwrap();
        (u32::from_le_bytes(attributes.0[4..8].try_into().unwrap()), out)
    }

    /// Reads a value.
    pub(super) fn get(&self, map: &str, key: &[u8]) -> Option<Vec<u8>> {
        let (_, map, value_bytes) = self.maps.iter().find(|(name, ..)| name == map).unwrap();
        let mut value = vec![0_u8; *value_bytes as usize];
        let mut attributes =
            Attributes::new().u32(0, fd(map)).pointer(8, key.as_ptr()).pointer(16, value.as_mut_ptr());
        attributes.call(MAP_LOOKUP).ok().map(|_| value)
    }

    /// Writes a value.
    pub(super) fn set(&self, map: &str, key: &[u8], value: &[u8]) {
        let (_, map, _) = self.maps.iter().find(|(name, ..)| name == map).unwrap();
        let mut attributes =
            Attributes::new().u32(0, fd(map)).pointer(8, key.as_ptr()).pointer(16, value.as_ptr());
        attributes.call(MAP_UPDATE).unwrap();
    }
}

fn create_map(kind: MapKind, key: u32, value: u32, entries: u32) -> Result<OwnedFd, Error> {
    // Numbers of `enum bpf_map_type`.
    let (number, flags) = match kind {
        MapKind::Hash => (1, 0),
        MapKind::Array => (2, 0),
        MapKind::ProgArray => (3, 0),
        MapKind::PerCpuArray => (6, 0),
        MapKind::LruHash => (9, 0),
        MapKind::LpmTrie => (11, NO_PREALLOC),
        MapKind::RingBuf => (27, 0),
    };
    Attributes::new()
        .u32(0, number)
        .u32(4, key)
        .u32(8, value)
        .u32(12, entries)
        .u32(16, flags)
        .create(MAP_CREATE)
}

/// The first program and all functions in one piece, references resolved.
fn link(module: &Module, maps: &[(String, OwnedFd, u32)]) -> Vec<u8> {
    let mut code = Vec::new();
    let mut starts = Vec::new();
    let mut relocations = Vec::new();
    for function in module.programs.iter().take(1).chain(&module.functions) {
        let start = code.len() / 8;
        let assembled = assemble(function).unwrap();
        starts.push((function.name.clone(), start));
        relocations.extend(
            assembled.relocations.into_iter().map(|entry| (start + entry.at.0 as usize, entry.target)),
        );
        code.extend(assembled.bytes);
    }
    for (slot, target) in relocations {
        let at = slot * 8;
        let map_fd = |name: &str| fd(&maps.iter().find(|(map, ..)| map == name).unwrap().1).to_le_bytes();
        match target {
            RelocationTarget::Map { map } => {
                code[at + 1] |= 1 << 4;
                code[at + 4..at + 8].copy_from_slice(&map_fd(&map));
            }
            RelocationTarget::MapValue { map, .. } => {
                code[at + 1] |= 2 << 4;
                code.copy_within(at + 4..at + 8, at + 12);
                code[at + 4..at + 8].copy_from_slice(&map_fd(&map));
            }
            RelocationTarget::Function { function } => {
                let (_, start) = starts.iter().find(|(name, _)| *name == function).unwrap();
                let distance = *start as i32 - slot as i32 - 1;
                code[at + 4..at + 8].copy_from_slice(&distance.to_le_bytes());
            }
        }
    }
    code
}
