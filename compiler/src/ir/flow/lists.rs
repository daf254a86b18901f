//! The lists of blocked and allowed hosts, as the packet path asks them.
//!
//! In the kernel these are the maps `nn_blocked` and `nn_allowed` and the epoch in `.data.nn_config`; their
//! capacities are lowering's business, the reference has none.

use std::collections::BTreeMap;

use crate::ir::packet::Host;

/// Hosts by address; every change advances the epoch.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLists {
    epoch: u64,
    /// Host to expiry in nanoseconds of the packet clock.
    blocked: BTreeMap<Host, u64>,
    /// Network prefixes; IPv4 ones count the 96 bits of the mapping.
    allowed: Vec<Prefix>,
}

/// The leading bits of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Prefix {
    pub host: Host,
    /// 0 to 128; more counts as 128.
    pub bits: u8,
}

impl Prefix {
    /// Whether the address starts with these bits.
    #[must_use]
    pub fn contains(&self, host: Host) -> bool {
        let shift = 128 - u32::from(self.bits.min(128));
        let differing = u128::from_be_bytes(self.host.0) ^ u128::from_be_bytes(host.0);
        differing.checked_shr(shift).unwrap_or(0) == 0
    }
}

impl HostLists {
    /// The number of changes so far.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Blocks a host until a time, or longer where it already is.
    pub fn block(&mut self, host: Host, until: u64) {
        let expiry = self.blocked.entry(host).or_insert(0);
        if *expiry < until {
            *expiry = until;
            self.epoch += 1;
        }
    }

    /// Takes a host off the block list.
    pub fn unblock(&mut self, host: Host) {
        if self.blocked.remove(&host).is_some() {
            self.epoch += 1;
        }
    }

    /// Allows all hosts of a prefix, whatever else happens.
    pub fn allow(&mut self, prefix: Prefix) {
        if !self.allowed.contains(&prefix) {
            self.allowed.push(prefix);
            self.epoch += 1;
        }
    }

    /// Withdraws an allowance.
    pub fn disallow(&mut self, prefix: Prefix) {
        let before = self.allowed.len();
        self.allowed.retain(|known| *known != prefix);
        if self.allowed.len() != before {
            self.epoch += 1;
        }
    }

    /// Hosts on the block list with their expiry, expired entries included.
    pub fn blocked(&self) -> impl Iterator<Item = (Host, u64)> {
        self.blocked.iter().map(|(host, until)| (*host, *until))
    }

    /// Whether one of the two ends is allowed.
    #[must_use]
    pub fn exempt(&self, one: Host, other: Host) -> bool {
        self.allowed.iter().any(|prefix| prefix.contains(one) || prefix.contains(other))
    }

    /// Until when packets from `src` to `dst` are dropped; 0 when they are not.
    #[must_use]
    pub fn blocked_until(&self, src: Host, dst: Host) -> u64 {
        if self.exempt(src, dst) { 0 } else { self.blocked.get(&src).copied().unwrap_or(0) }
    }
}
