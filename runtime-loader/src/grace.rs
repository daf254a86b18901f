//! A grace period: after it, no program run that started before it is still under way.
//!
//! The kernel ends every update of a map of maps from user space with `synchronize_rcu`
//! (`maybe_wait_bpf_programs` in `kernel/bpf/syscall.c`), and every program runs inside of an RCU read-side
//! section. `membarrier` would wait too, but is refused on machines with `nohz_full` CPUs.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use crate::sys;

/// `BPF_MAP_TYPE_ARRAY`.
const ARRAY: u32 = 2;
/// `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY_OF_MAPS: u32 = 12;

/// Returns when all program runs that may still use an old value have ended; 10 to 20 ms.
///
/// # Errors
/// The kernel refuses the two small maps that this needs.
pub fn wait() -> io::Result<()> {
    let inner = sys::create_map(ARRAY, 4, 4, 1, None)?;
    let outer = sys::create_map(ARRAY_OF_MAPS, 4, 4, 1, Some(inner.as_fd()))?;
    let value = inner.as_fd().as_raw_fd().to_ne_bytes();
    sys::update(outer.as_fd(), &0_u32.to_ne_bytes(), &value, 0)
}
