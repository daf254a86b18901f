//! Which events an installation sends, and its fuse: `.data.nn_filter` and `.data.nn_fuse`.

use std::time::{SystemTime, UNIX_EPOCH};

use nnbpf_compiler::ir::flow::Counter;
use nnbpf_compiler::ir::flow::guard::{Blown, EventFilter, Fuse};
use nnbpf_compiler::ir::packet::Reason;
use nnbpf_compiler::lower::packet::guard::{FILTER, FUSE, FUSE_SEEN, filter, filter_bytes, fuse, fuse_bytes};
use nnbpf_compiler::lower::packet::maps::COUNTERS;

use super::config::Mode;
use super::{Installation, InstallationError};
use crate::load::Loaded;
use crate::maps::{Map, MapError, Update};
use crate::sys;
use crate::test_run::PinnedProgram;

/// How many events were not delivered, since the object was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventCounts {
    /// They found the ring buffer full.
    pub lost: u64,
    /// The filter held them back.
    pub suppressed: u64,
}

/// Counts events while the installation itself is closed.
#[derive(Debug)]
pub struct EventCounters {
    counters: Map,
}

impl EventCounters {
    /// The counts so far.
    ///
    /// # Errors
    /// The counters are not readable.
    pub fn read(&self) -> Result<EventCounts, MapError> {
        let copies = self.counters.lookup_per_cpu(&0_u32.to_ne_bytes())?.unwrap_or_default();
        let sum = |counter| copies.iter().fold(0_u64, |sum, copy| sum.wrapping_add(of(copy, counter)));
        Ok(EventCounts { lost: sum(Counter::EventsLost), suppressed: sum(Counter::EventsSuppressed) })
    }
}

impl Installation {
    /// What turns the time of packets into nanoseconds since 1970; 0 for times of a capture, which are that
    /// already.
    ///
    /// # Errors
    /// The clock cannot be read.
    pub fn clock_offset_ns(&self) -> Result<u64, InstallationError> {
        if self.is_replay() {
            return Ok(0);
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        Ok(now.saturating_sub(self.now_ns()?))
    }

    /// A pinned program, to be run on packets without an interface.
    ///
    /// # Errors
    /// Nothing of this name is pinned.
    pub fn program(&self, name: &str) -> Result<PinnedProgram, InstallationError> {
        let path = self.pins.programs().join(name);
        let fd = sys::open_pin(&path).map_err(|source| InstallationError::Pin { path, source })?;
        Ok(PinnedProgram { fd, name: name.to_owned() })
    }

    /// The counters of events.
    ///
    /// # Errors
    /// The object has no counters.
    pub fn event_counts(&self) -> Result<EventCounters, InstallationError> {
        Ok(EventCounters { counters: self.map(COUNTERS)? })
    }

    /// Which events are sent; the default, which is everything, for objects without the section.
    ///
    /// # Errors
    /// The section is not readable.
    pub fn event_filter(&self) -> Result<EventFilter, InstallationError> {
        let value = match self.map(FILTER) {
            Ok(map) => map.read_value()?,
            Err(MapError::NoMap { .. }) => return Ok(EventFilter::default()),
            Err(error) => return Err(error.into()),
        };
        Ok(EventFilter {
            acts: half(&value, filter::ACTS),
            labels: word(&value, filter::LABELS),
            sample: half(&value, filter::SAMPLE),
            interval_ns: word(&value, filter::INTERVAL),
            burst_ns: word(&value, filter::BURST),
        })
    }

    /// Sets which events are sent from the next one on. Sampling and rate begin anew.
    ///
    /// # Errors
    /// The object has no such section.
    pub fn set_event_filter(&self, settings: &EventFilter) -> Result<(), InstallationError> {
        Ok(self.map(FILTER)?.write_value(&filter_bytes(settings))?)
    }

    /// The fuse with its state; one that is off for objects without the section.
    ///
    /// # Errors
    /// The section is not readable.
    pub fn fuse(&self) -> Result<Fuse, InstallationError> {
        let value = match self.map(FUSE) {
            Ok(map) => map.read_value()?,
            Err(MapError::NoMap { .. }) => return Ok(Fuse::default()),
            Err(error) => return Err(error.into()),
        };
        let blown = (half(&value, fuse::BLOWN) != 0).then(|| Blown {
            at_ns: word(&value, fuse::BLOWN_NS),
            packets: word(&value, fuse::BLOWN_PACKETS),
            drops: word(&value, fuse::BLOWN_DROPS),
        });
        Ok(Fuse {
            limit: half(&value, fuse::LIMIT),
            window: half(&value, fuse::WINDOW),
            packets: word(&value, fuse::PACKETS),
            drops: word(&value, fuse::DROPS),
            blown,
        })
    }

    /// Sets the limit, in millionths, and the window, in packets, which starts now. A limit of 0 takes the
    /// fuse out. A blown fuse becomes whole; the mode stays what it is.
    ///
    /// # Errors
    /// The object has no such section, or a map is not writable.
    pub fn set_fuse(&self, limit: u32, window: u32) -> Result<(), InstallationError> {
        let map = self.map(FUSE)?;
        // Nobody reads what is known of the counters while there is no limit.
        map.write_value(&fuse_bytes(&Fuse::default()))?;
        let zero = 0_u32.to_ne_bytes();
        let counters = self.map(COUNTERS)?.lookup_per_cpu(&zero)?.unwrap_or_default();
        let seen: Vec<Vec<u8>> = counters
            .iter()
            .map(|copy| {
                let drops = of(copy, Counter::Blocked).wrapping_add(of(copy, Counter::Dropped));
                [of(copy, Counter::Packet(Reason::Parsed)).to_ne_bytes(), drops.to_ne_bytes()].concat()
            })
            .collect();
        self.map(FUSE_SEEN)?.update_per_cpu(&zero, &seen, Update::Any)?;
        map.write_value(&fuse_bytes(&Fuse { limit, window, ..Fuse::default() }))?;
        Ok(())
    }

    /// Makes a blown fuse whole and enforces again; says whether it was blown.
    ///
    /// # Errors
    /// The object has no such section, or a map is not writable.
    pub fn reset_fuse(&self) -> Result<bool, InstallationError> {
        let fuse = self.fuse()?;
        if fuse.blown.is_none() {
            return Ok(false);
        }
        self.set_fuse(fuse.limit, fuse.window)?;
        self.set_mode(Mode::Enforce)?;
        Ok(true)
    }
}

/// Sets the fuse of an object that is loaded and not attached yet, as [`Installation::set_fuse`]: so that it counts
/// from the first packet on.
///
/// # Errors
/// The object has no such section, or it is not writable.
pub fn prepare_fuse(loaded: &Loaded, limit: u32, window: u32) -> Result<(), InstallationError> {
    Ok(loaded.map(FUSE)?.write_value(&fuse_bytes(&Fuse { limit, window, ..Fuse::default() }))?)
}

/// A counter of one processor.
fn of(copy: &[u8], counter: Counter) -> u64 {
    let at = counter.index() as usize * 8;
    copy.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word))
}

fn half(value: &[u8], offset: i16) -> u32 {
    let bytes = value.get(usize::from(offset.unsigned_abs())..);
    bytes.and_then(<[u8]>::first_chunk).map_or(0, |half| u32::from_ne_bytes(*half))
}

fn word(value: &[u8], offset: i16) -> u64 {
    let bytes = value.get(usize::from(offset.unsigned_abs())..);
    bytes.and_then(<[u8]>::first_chunk).map_or(0, |word| u64::from_ne_bytes(*word))
}
