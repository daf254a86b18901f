//! Capabilities: what BPF needs is kept, everything else is dropped.

use crate::sys;

/// `CAP_NET_ADMIN` of `include/uapi/linux/capability.h`: attaching.
const NET_ADMIN: u32 = 12;
/// `CAP_SYS_ADMIN`: stands for the other two where they were not handed out one by one.
const SYS_ADMIN: u32 = 21;
/// `CAP_PERFMON`: pointers in programs.
const PERFMON: u32 = 38;
/// `CAP_BPF`: maps and programs.
const BPF: u32 = 39;

/// What a loader needs, in the order of names.
const NEEDED: [(u32, &str); 3] = [(BPF, "CAP_BPF"), (NET_ADMIN, "CAP_NET_ADMIN"), (PERFMON, "CAP_PERFMON")];

/// Capabilities as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities(pub u64);

impl Capabilities {
    /// Whether a capability is among them; `CAP_SYS_ADMIN` stands for `CAP_BPF` and `CAP_PERFMON`.
    fn has(self, capability: u32) -> bool {
        let bit = |capability: u32| self.0 >> capability & 1 != 0;
        bit(capability) || capability != NET_ADMIN && bit(SYS_ADMIN)
    }
}

/// Names of the needed capabilities that this thread does not have; none where the kernel does not tell.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    let Ok(effective) = sys::effective_capabilities() else { return Vec::new() };
    let effective = Capabilities(effective);
    NEEDED.iter().filter(|(capability, _)| !effective.has(*capability)).map(|(_, name)| *name).collect()
}

/// Drops every capability but the needed ones, for good: also what an executed program could regain. To be
/// called before a second thread exists. A process that has no others is left as it is.
pub fn keep_needed() {
    // Kernels that charge maps to the limit on locked memory want CAP_SYS_RESOURCE for this, which goes.
    sys::lift_memory_limit();
    let Ok(permitted) = sys::permitted_capabilities() else { return };
    let mut keep = NEEDED.iter().fold(0, |bits, (capability, _)| bits | 1_u64 << capability) & permitted;
    // Only where it has to stand for the others.
    if permitted >> SYS_ADMIN & 1 != 0 && (permitted >> BPF & 1 == 0 || permitted >> PERFMON & 1 == 0) {
        keep |= 1 << SYS_ADMIN;
    }
    // Whatever refuses this, a sandbox for example, restricts the process in its own way.
    let _refused = sys::set_capabilities(keep);
}
