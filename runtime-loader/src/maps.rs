//! Access to any map by bytes: values, per-CPU values, iteration, single-entry data sections.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nnbpf_compiler::diag::codes::kernel as codes;
use nnbpf_compiler::diag::{Diagnostic, Origin};

use crate::sys;

/// `enum bpf_map_type`: kinds whose values the kernel copies once per possible CPU.
const PER_CPU_KINDS: [u32; 4] = [5, 6, 10, 21];

/// Bytes of keys and values that are read at once.
const BATCH_BYTES: usize = 1 << 20;

/// A map in the kernel.
#[derive(Debug)]
pub struct Map {
    name: String,
    fd: OwnedFd,
    shape: Shape,
}

/// Sizes of a map.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    /// `enum bpf_map_type`.
    pub kernel_type: u32,
    pub key_size: usize,
    /// Of one CPU's copy where values are per CPU.
    pub value_size: usize,
    pub max_entries: u32,
    pub flags: u32,
    /// Kernel-wide number.
    pub id: u32,
}

/// What an update expects to find.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Update {
    /// Insert or replace.
    Any,
    /// The key must be new.
    Insert,
    /// The key must exist.
    Replace,
}

/// An access that failed.
#[derive(Debug, thiserror::Error)]
pub enum MapError {
    #[error("the object holds no map `{map}`")]
    NoMap { map: String },
    #[error("{what} of `{map}` has {expected} bytes, not {bytes}")]
    Size { map: String, what: &'static str, expected: usize, bytes: usize },
    #[error("values of `{map}` are {}per CPU", if *per_cpu { "" } else { "not " })]
    PerCpu { map: String, per_cpu: bool },
    #[error("`{map}` is full")]
    Full { map: String },
    #[error("the number of CPUs is unknown: {source}")]
    Cpus { source: io::Error },
    #[error("{operation} of `{map}` failed: {source}")]
    Kernel { map: String, operation: &'static str, source: io::Error },
}

impl MapError {
    /// What the user is told.
    #[must_use]
    pub fn diagnostic(&self) -> Diagnostic {
        let object = |map: &String| Origin::Kernel { object: map.clone() };
        let (code, origin, help) = match self {
            Self::NoMap { map } => {
                (&codes::NO_SUCH_PART, object(map), "list the maps with `nnbpfc inspect OBJ`")
            }
            Self::Size { map, .. } | Self::PerCpu { map, .. } => {
                (&codes::MAP_ACCESS, object(map), "use the `nnbpf` of the release that compiled the object")
            }
            Self::Full { map } => {
                (&codes::MAP_ACCESS, object(map), "remove entries first, or compile with a larger capacity")
            }
            Self::Cpus { .. } => (
                &codes::MAP_ACCESS,
                Origin::Kernel { object: "/sys/devices/system/cpu/possible".to_owned() },
                "mount sysfs on /sys",
            ),
            Self::Kernel { map, .. } => {
                (&codes::MAP_ACCESS, object(map), "run the command as root and try again")
            }
        };
        Diagnostic::new(code, origin, self.to_string(), help)
    }
}

impl Map {
    /// A map by its descriptor. The name is for messages only.
    ///
    /// # Errors
    /// The descriptor is no map.
    pub fn from_fd(name: &str, fd: OwnedFd) -> Result<Self, MapError> {
        let info = sys::map_info(fd.as_fd()).map_err(|source| MapError::Kernel {
            map: name.to_owned(),
            operation: "description",
            source,
        })?;
        let shape = Shape {
            kernel_type: info.map_type,
            key_size: info.key_size as usize,
            value_size: info.value_size as usize,
            max_entries: info.max_entries,
            flags: info.flags,
            id: info.id,
        };
        Ok(Self { name: name.to_owned(), fd, shape })
    }

    /// A map that is pinned at a path in bpffs.
    ///
    /// # Errors
    /// Nothing, or no map, is pinned there.
    pub fn from_pin(name: &str, path: &Path) -> Result<Self, MapError> {
        let fd = sys::open_pin(path).map_err(|source| MapError::Kernel {
            map: name.to_owned(),
            operation: "opening the pin",
            source,
        })?;
        Self::from_fd(name, fd)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    #[must_use]
    pub fn is_per_cpu(&self) -> bool {
        PER_CPU_KINDS.contains(&self.shape.kernel_type)
    }

    /// The value of a key; `None` when there is none.
    ///
    /// # Errors
    /// A key of the wrong size, per-CPU values, or what the kernel answers.
    pub fn lookup(&self, key: &[u8]) -> Result<Option<Vec<u8>>, MapError> {
        self.expect_per_cpu(false)?;
        let mut value = vec![0; self.shape.value_size];
        Ok(self.lookup_into(key, &mut value)?.then_some(value))
    }

    /// The values of a key, one per possible CPU; `None` when there is no such key.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn lookup_per_cpu(&self, key: &[u8]) -> Result<Option<Vec<Vec<u8>>>, MapError> {
        self.expect_per_cpu(true)?;
        let stride = self.stride();
        let mut values = vec![0; stride * possible_cpus()?];
        if !self.lookup_into(key, &mut values)? {
            return Ok(None);
        }
        let size = self.shape.value_size;
        let copies = values.chunks(stride).map(|copy| copy.get(..size).unwrap_or(copy).to_vec());
        Ok(Some(copies.collect()))
    }

    /// Sets the value of a key.
    ///
    /// # Errors
    /// A key or value of the wrong size, a full map, or what the kernel answers.
    pub fn update(&self, key: &[u8], value: &[u8], mode: Update) -> Result<(), MapError> {
        self.expect_per_cpu(false)?;
        self.expect_size("a value", self.shape.value_size, value.len())?;
        self.write(key, value, mode)
    }

    /// Sets the values of a key, one per possible CPU.
    ///
    /// # Errors
    /// As [`Self::update`]; the number of values must be that of the possible CPUs.
    pub fn update_per_cpu(&self, key: &[u8], values: &[Vec<u8>], mode: Update) -> Result<(), MapError> {
        self.expect_per_cpu(true)?;
        self.expect_size("the set of CPUs", possible_cpus()?, values.len())?;
        let stride = self.stride();
        let mut bytes = Vec::with_capacity(stride * values.len());
        for value in values {
            self.expect_size("a value", self.shape.value_size, value.len())?;
            bytes.extend(value);
            bytes.resize(bytes.len().next_multiple_of(stride), 0);
        }
        self.write(key, &bytes, mode)
    }

    /// Removes a key; says whether it was there.
    ///
    /// # Errors
    /// A key of the wrong size or what the kernel answers.
    pub fn delete(&self, key: &[u8]) -> Result<bool, MapError> {
        self.expect_size("a key", self.shape.key_size, key.len())?;
        match sys::delete(self.fd.as_fd(), key) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(self.kernel("deletion", source)),
        }
    }

    /// All keys, each once, in the kernel's order. Of a map that changes meanwhile some may be missing.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn keys(&self) -> Result<Vec<Vec<u8>>, MapError> {
        let mut keys: Vec<Vec<u8>> = Vec::new();
        // Deleting the key we stand on sends the walk back to the start; the bound ends it.
        let limit = self.shape.max_entries as usize;
        while keys.len() < limit {
            let mut next = vec![0; self.shape.key_size];
            match sys::next_key(self.fd.as_fd(), keys.last().map(Vec::as_slice), &mut next) {
                Ok(()) => keys.push(next),
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => break,
                Err(source) => return Err(self.kernel("iteration", source)),
            }
        }
        let mut seen = HashSet::with_capacity(keys.len());
        keys.retain(|key| seen.insert(key.clone()));
        Ok(keys)
    }

    /// Hands over every key of a hash map with its value, in the kernel's order. What is put in or removed meanwhile,
    /// by `visit` or by packets, sends the walk nowhere else: entries that stay are seen, each once. Needs Linux 5.6.
    ///
    /// # Errors
    /// Per-CPU values, or what the kernel or `visit` answers.
    pub fn entries<E: From<MapError>>(
        &self,
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        self.expect_per_cpu(false)?;
        let Shape { key_size, value_size, max_entries, .. } = self.shape;
        let mut count = (BATCH_BYTES / (key_size + value_size)).clamp(64, 4096);
        let (mut keys, mut values) = (Vec::new(), Vec::new());
        let mut from = None;
        loop {
            keys.resize(count * key_size, 0);
            values.resize(count * value_size, 0);
            let answer = sys::lookup_batch(self.fd.as_fd(), from, &mut keys, &mut values, count as u32);
            let (copied, rest) = match answer {
                // One bucket has more than the batch.
                Err(error) if error.raw_os_error() == Some(libc::ENOSPC) && count < max_entries as usize => {
                    count = count.saturating_mul(2);
                    continue;
                }
                answer => answer.map_err(|source| self.kernel("iteration", source))?,
            };
            let entries = keys.chunks_exact(key_size).zip(values.chunks_exact(value_size));
            for (key, value) in entries.take(copied as usize) {
                visit(key, value)?;
            }
            if rest.is_none() {
                return Ok(());
            }
            from = rest;
        }
    }

    /// The only value of a data section or single-entry array.
    ///
    /// # Errors
    /// As [`Self::lookup`].
    pub fn read_value(&self) -> Result<Vec<u8>, MapError> {
        self.lookup(&0_u32.to_ne_bytes())?
            .ok_or_else(|| self.kernel("lookup", io::Error::from_raw_os_error(libc::ENOENT)))
    }

    /// Replaces the only value of a data section or single-entry array.
    ///
    /// # Errors
    /// As [`Self::update`].
    pub fn write_value(&self, value: &[u8]) -> Result<(), MapError> {
        self.update(&0_u32.to_ne_bytes(), value, Update::Any)
    }

    /// Pins the map at a path in bpffs.
    ///
    /// # Errors
    /// What the kernel answers.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        sys::pin(self.fd.as_fd(), path)
    }

    fn lookup_into(&self, key: &[u8], value: &mut [u8]) -> Result<bool, MapError> {
        self.expect_size("a key", self.shape.key_size, key.len())?;
        match sys::lookup(self.fd.as_fd(), key, value) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(self.kernel("lookup", source)),
        }
    }

    fn write(&self, key: &[u8], value: &[u8], mode: Update) -> Result<(), MapError> {
        self.expect_size("a key", self.shape.key_size, key.len())?;
        let flags = match mode {
            Update::Any => 0,
            Update::Insert => 1,
            Update::Replace => 2,
        };
        sys::update(self.fd.as_fd(), key, value, flags).map_err(|source| match source.raw_os_error() {
            Some(libc::E2BIG | libc::ENOSPC) => MapError::Full { map: self.name.clone() },
            _ => self.kernel("update", source),
        })
    }

    /// Bytes from one CPU's copy to the next: the kernel rounds up to 8.
    fn stride(&self) -> usize {
        self.shape.value_size.next_multiple_of(8)
    }

    fn expect_per_cpu(&self, wanted: bool) -> Result<(), MapError> {
        let per_cpu = self.is_per_cpu();
        if per_cpu == wanted { Ok(()) } else { Err(MapError::PerCpu { map: self.name.clone(), per_cpu }) }
    }

    fn expect_size(&self, what: &'static str, expected: usize, bytes: usize) -> Result<(), MapError> {
        if bytes == expected {
            Ok(())
        } else {
            Err(MapError::Size { map: self.name.clone(), what, expected, bytes })
        }
    }

    fn kernel(&self, operation: &'static str, source: io::Error) -> MapError {
        MapError::Kernel { map: self.name.clone(), operation, source }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// CPUs that the kernel keeps per-CPU values for.
///
/// # Errors
/// sysfs is not readable.
pub fn possible_cpus() -> Result<usize, MapError> {
    aya::util::nr_cpus().map_err(|(_, source)| MapError::Cpus { source })
}
