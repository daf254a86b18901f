//! The host lists: blocked hosts until a time, allowed prefixes for good. Allowed always wins; the program
//! in the kernel sees to that.

use std::collections::BTreeSet;
use std::time::Duration;

use super::{Installation, InstallationError};
use crate::hosts::{Block, Host, HostLists, Prefix};
use crate::maps::{Map, MapError, Update};

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
            None => Block::FOR_EVER,
            Some(time) => {
                let now = self.now_ns()?;
                now.saturating_add(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
            }
        };
        self.map(BLOCKED)?.update(&host.0, &expiry.to_ne_bytes(), Update::Any)?;
        self.changed()
    }

    /// After a change of a list: it acts from the next packet on, and what is expired goes.
    fn changed(&self) -> Result<(), InstallationError> {
        self.advance_epoch()?;
        optional(self.sweep()).map(|_removed| ())
    }

    /// Removes a host from the blocked ones; says whether it was there.
    ///
    /// # Errors
    /// The object has no list of blocked hosts.
    pub fn unblock(&self, host: Host) -> Result<bool, InstallationError> {
        let found = self.map(BLOCKED)?.delete(&host.0)?;
        if found {
            self.changed()?;
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
        self.changed()
    }

    /// Removes a prefix from the allowed ones; says whether it was there.
    ///
    /// # Errors
    /// The object has no list of allowed hosts.
    pub fn disallow(&self, prefix: Prefix) -> Result<bool, InstallationError> {
        let found = self.map(ALLOWED)?.delete(&prefix.key())?;
        if found {
            self.changed()?;
        }
        Ok(found)
    }

    /// Removes blocks whose time is over; says how many. They have acted no more since then.
    ///
    /// # Errors
    /// The list is not readable.
    pub fn sweep(&self) -> Result<usize, InstallationError> {
        let map = self.map(BLOCKED)?;
        let expired = self.hosts()?.blocked.into_iter().filter(|block| block.expired);
        let mut removed = 0;
        for block in expired {
            // The program may have blocked the host again since the list was read.
            if expiry(&map, &block.host.0)? == Some(block.until) && map.delete(&block.host.0)? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Both lists, expired blocks included; a list that the object does not have is empty.
    ///
    /// # Errors
    /// A list is not readable.
    pub fn hosts(&self) -> Result<HostLists, InstallationError> {
        let mut lists = HostLists { blocked: Vec::new(), allowed: optional(self.allowed())? };
        let map = match self.map(BLOCKED) {
            Ok(map) => map,
            Err(MapError::NoMap { .. }) => return Ok(lists),
            Err(error) => return Err(error.into()),
        };
        let now = self.now_ns()?;
        for key in map.keys()? {
            let Ok(address) = <[u8; 16]>::try_from(key.as_slice()) else { continue };
            let Some(until) = expiry(&map, &key)? else { continue };
            lists.blocked.push(Block { host: Host(address), until, expired: until <= now });
        }
        lists.blocked.sort_by_key(|block| block.host.0);
        Ok(lists)
    }

    /// Adds to both lists: all of it or nothing. Blocks and prefixes that are there already are replaced.
    ///
    /// # Errors
    /// A list that the object does not have, or that cannot hold all of it; then both are as they were.
    pub fn add_hosts(&self, more: &HostLists) -> Result<(), InstallationError> {
        let (blocked, allowed) = (self.map(BLOCKED)?, self.map(ALLOWED)?);
        // The list of blocked hosts is never full: it would forget some for others, without a word.
        let hosts: BTreeSet<[u8; 16]> = more.blocked.iter().map(|block| block.host.0).collect();
        if hosts.len() > blocked.shape().max_entries as usize {
            return Err(MapError::Full { map: BLOCKED.to_owned() }.into());
        }
        let known: BTreeSet<Vec<u8>> = allowed.keys()?.into_iter().collect();
        let keys: BTreeSet<Vec<u8>> = more.allowed.iter().map(Prefix::key).collect();
        let before: Vec<([u8; 16], Option<u64>)> = hosts
            .into_iter()
            .map(|host| Ok((host, expiry(&blocked, &host)?)))
            .collect::<Result<_, MapError>>()?;
        let mut value = vec![0; allowed.shape().value_size];
        if let Some(first) = value.first_mut() {
            *first = 1;
        }
        // Prefixes come first: their list is the one that can be full, and it protects hosts.
        let prefixes = keys.iter().try_for_each(|key| allowed.update(key, &value, Update::Any));
        let added = prefixes.and_then(|()| {
            let mut blocks = more.blocked.iter();
            blocks
                .try_for_each(|block| blocked.update(&block.host.0, &block.until.to_ne_bytes(), Update::Any))
        });
        let Err(error) = added else { return self.changed() };
        // What cannot be undone either is named by the error that comes first.
        for key in keys.difference(&known) {
            let _first_error_counts = allowed.delete(key);
        }
        for (host, until) in before {
            let _first_error_counts = match until {
                Some(until) => blocked.update(&host, &until.to_ne_bytes(), Update::Any),
                None => blocked.delete(&host).map(|_was_there| ()),
            };
        }
        // Flows that began meanwhile have seen what was taken back.
        self.advance_epoch()?;
        Err(error.into())
    }

    /// Blocked hosts with what is left of their time; `None` means without end. Expired ones are left out.
    ///
    /// # Errors
    /// The list is not readable.
    pub fn blocked(&self) -> Result<Vec<(Host, Option<Duration>)>, InstallationError> {
        let now = self.now_ns()?;
        let lists = self.hosts()?;
        let lasting = lists.blocked.iter().filter(|block| !block.expired);
        let left =
            |until: u64| (until != Block::FOR_EVER).then(|| Duration::from_nanos(until.saturating_sub(now)));
        Ok(lasting.map(|block| (block.host, left(block.until))).collect())
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

/// Until when a host is blocked.
fn expiry(map: &Map, key: &[u8]) -> Result<Option<u64>, MapError> {
    let value = map.lookup(key)?;
    Ok(value.as_deref().and_then(<[u8]>::first_chunk).map(|until| u64::from_ne_bytes(*until)))
}

/// An object without a list has nothing in it.
pub(super) fn optional<T: Default>(result: Result<T, InstallationError>) -> Result<T, InstallationError> {
    match result {
        Err(InstallationError::Map(MapError::NoMap { .. })) => Ok(T::default()),
        result => result,
    }
}
