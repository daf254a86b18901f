//! What the packet path counts, in the order of the map of counters.

use crate::ir::packet::Reason;

/// What the packet path counts. [`Counter::Packet`] takes the first indices of the map.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Counter {
    /// Every packet once, by what the parser said.
    Packet(Reason),
    /// Parsed, but not of those that the specification is about.
    Unselected,
    /// Dropped by the block list, enforce mode.
    Blocked,
    /// Would have been dropped by the block list, monitor mode.
    WouldBlock,
    /// Packets of closed records.
    Stray,
    /// Records created, restarts and replacements included.
    Created,
    /// Packets of saturated records.
    Saturated,
    /// Verdicts given.
    Verdicts,
    /// Dropped by a verdict, enforce mode.
    Dropped,
    /// Would have been dropped by a verdict, monitor mode.
    WouldDrop,
    /// Hosts put on the block list by a verdict.
    HostsBlocked,
    /// The record could not be created.
    NoRecord,
    /// Gave up after [`super::EXCHANGE_TRIES`] or [`super::RETIRE_TRIES`].
    Contended,
    /// Events that found the ring buffer full.
    EventsLost,
    /// Events that the filter held back.
    EventsSuppressed,
}

impl Counter {
    /// The counters after the parser's, by index.
    pub const REST: [Self; 14] = [
        Self::Unselected,
        Self::Blocked,
        Self::WouldBlock,
        Self::Stray,
        Self::Created,
        Self::Saturated,
        Self::Verdicts,
        Self::Dropped,
        Self::WouldDrop,
        Self::HostsBlocked,
        Self::NoRecord,
        Self::Contended,
        Self::EventsLost,
        Self::EventsSuppressed,
    ];

    /// Number of counters.
    pub const COUNT: u32 = Reason::ALL.len() as u32 + Self::REST.len() as u32;

    /// All counters, by index.
    pub fn all() -> impl Iterator<Item = Self> {
        Reason::ALL.into_iter().map(Self::Packet).chain(Self::REST)
    }

    /// Index in the counters map.
    #[must_use]
    pub const fn index(self) -> u32 {
        let rest = Reason::ALL.len() as u32;
        match self {
            Self::Packet(reason) => reason.index(),
            Self::Unselected => rest,
            Self::Blocked => rest + 1,
            Self::WouldBlock => rest + 2,
            Self::Stray => rest + 3,
            Self::Created => rest + 4,
            Self::Saturated => rest + 5,
            Self::Verdicts => rest + 6,
            Self::Dropped => rest + 7,
            Self::WouldDrop => rest + 8,
            Self::HostsBlocked => rest + 9,
            Self::NoRecord => rest + 10,
            Self::Contended => rest + 11,
            Self::EventsLost => rest + 12,
            Self::EventsSuppressed => rest + 13,
        }
    }

    /// Name in reports and in BTF.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Packet(reason) => reason.name(),
            Self::Unselected => "unselected",
            Self::Blocked => "blocked",
            Self::WouldBlock => "would_block",
            Self::Stray => "stray",
            Self::Created => "created",
            Self::Saturated => "saturated",
            Self::Verdicts => "verdicts",
            Self::Dropped => "dropped",
            Self::WouldDrop => "would_drop",
            Self::HostsBlocked => "hosts_blocked",
            Self::NoRecord => "no_record",
            Self::Contended => "contended",
            Self::EventsLost => "events_lost",
            Self::EventsSuppressed => "events_suppressed",
        }
    }
}
