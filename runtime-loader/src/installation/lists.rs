//! The host lists: blocked hosts until a time, allowed prefixes for good. Allowed always wins; the program
//! in the kernel sees to that.

use std::time::Duration;

use super::{Installation, InstallationError};
use crate::hosts::{Host, Prefix};
use crate::maps::{MapError, Update};

/// Blocked hosts: address to expiry in ktime nanoseconds.
pub(super) const BLOCKED: &str = "nn_blocked";
/// Allowed prefixes.
pub(super) const ALLOWED: &str = "nn_allowed";

impl Installation {
    /// Blocks a host for a time from now; `None` until it is unblocked.
    ///
    /// # Errors
    /// The object has no list of blocked hosts, or the list is full.
    pub fn block(&self, host: Host, time: Option<Duration>) -> Result<(), InstallationError> {
        let expiry = match time {
            None => u64::MAX,
            Some(time) => {
                let now = self.now_ns()?;
                now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
            }
        };
        self.map(BLOCKED)?.update(&host.0, &expiry.to_ne_bytes(), Update::Any)?;
        self.advance_epoch()
    }

    /// Removes a host from the blocked ones; says whether it was there.
    ///
    /// # Errors
    /// The object has no list of blocked hosts.
    pub fn unblock(&self, host: Host) -> Result<bool, InstallationError> {
        let found = self.map(BLOCKED)?.delete(&host.0)?;
        if found {
            self.advance_epoch()?;
        }
        Ok(found)
    }

    /// Allows every host of a prefix, whatever the model says.
    ///
    /// # Errors
    /// The object has no list of allowed hosts, or the list is full.
    pub fn allow(&self, prefix: Prefix) -> Result<(), InstallationError> {
        let map = self.map(ALLOWED)?;
        let mut value = vec![0; map.shape().value_size];
        if let Some(first) = value.first_mut() {
            *first = 1;
        }
        map.update(&prefix.key(), &value, Update::Any)?;
        self.advance_epoch()
    }

    /// Removes a prefix from the allowed ones; says whether it was there.
    ///
    /// # Errors
    /// The object has no list of allowed hosts.
    pub fn disallow(&self, prefix: Prefix) -> Result<bool, InstallationError> {
        let found = self.map(ALLOWED)?.delete(&prefix.key())?;
        if found {
            self.advance_epoch()?;
        }
        Ok(found)
    }

    /// Blocked hosts with what is left of their time; `None` means without end. Expired ones are left out.
    ///
    /// # Errors
    /// The list is not readable.
    pub fn blocked(&self) -> Result<Vec<(Host, Option<Duration>)>, InstallationError> {
        let map = self.map(BLOCKED)?;
        let now = self.now_ns()?;
        let mut hosts = Vec::new();
        for key in map.keys()? {
            let Ok(address) = <[u8; 16]>::try_from(key.as_slice()) else { continue };
            let value = map.lookup(&key)?;
            let Some(expiry) = value.as_deref().and_then(<[u8]>::first_chunk) else { continue };
            match u64::from_ne_bytes(*expiry) {
                u64::MAX => hosts.push((Host(address), None)),
                expiry if expiry > now => {
                    hosts.push((Host(address), Some(Duration::from_nanos(expiry - now))));
                }
                _ => {}
            }
        }
        hosts.sort_by_key(|(host, _)| host.0);
        Ok(hosts)
    }

    /// Allowed prefixes.
    ///
    /// # Errors
    /// The list is not readable.
    pub fn allowed(&self) -> Result<Vec<Prefix>, InstallationError> {
        let keys = self.map(ALLOWED)?.keys()?;
        let mut prefixes: Vec<Prefix> = keys.iter().filter_map(|key| Prefix::from_key(key)).collect();
        prefixes.sort_by_key(|prefix| (prefix.address.0, prefix.bits));
        Ok(prefixes)
    }
}

/// An object without a list has nothing in it.
pub(super) fn optional<T: Default>(result: Result<T, InstallationError>) -> Result<T, InstallationError> {
    match result {
        Err(InstallationError::Map(MapError::NoMap { .. })) => Ok(T::default()),
        result => result,
    }
}
