//! What keeps events and actions within bounds: the filter that events pass, and the fuse that ends
//! enforcement when too many packets are dropped. Settings and state of the reference interpreter.
//!
//! In the kernel the settings stand in `.data.nn_filter` and `.data.nn_fuse`
//! ([`crate::lower::packet::guard`]). Both are off while every setting is zero.

/// Bits of [`EventFilter::labels`]; labels that differ by a multiple of this share one.
pub const LABEL_BITS: u32 = 64;

/// What a share of 1 is in the fuse's limit.
pub const WHOLE: u64 = 1_000_000;

/// Bits that say what a verdict asks for, exemptions of allowed hosts applied.
pub mod acts {
    pub const DROP: i32 = 1;
    pub const BLOCK: i32 = 2;
    pub const REPORT: i32 = 4;
    /// Sets the packet's mark.
    pub const MARK: i32 = 8;
    /// Blocks the forward receiver.
    pub const BLOCK_RECEIVER: i32 = 16;

    /// All of them with their names, in the order in which they are listed.
    pub const NAMES: [(i32, &str); 5] =
        [(DROP, "drop"), (BLOCK, "block"), (BLOCK_RECEIVER, "block_dst"), (MARK, "mark"), (REPORT, "report")];
}

/// Which events are sent. The tests are made in the order of the fields; each sees only what passed those
/// before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EventFilter {
    /// Bit `l` stands for label `l`; 0 for every label.
    pub labels: u64,
    /// Bits of [`acts`], of which the verdict must ask for one; 0 for none
    /// needed.
    pub acts: u32,
    /// One of so many events is sent, the first one to begin with; 0 and 1 for all.
    pub sample: u32,
    /// Nanoseconds between events in the long run; 0 for no limit.
    pub interval_ns: u64,
    /// How far ahead of the interval's pace events may run: `(burst - 1) * interval_ns`.
    pub burst_ns: u64,
}

/// What the filter remembers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FilterState {
    /// Events that came as far as the sample.
    pub seen: u64,
    /// When an event without a burst is due next.
    pub next_ns: u64,
}

impl EventFilter {
    /// Whether the event of a verdict is sent. The rate is a bucket of tokens, kept as the time at which it
    /// will be full (the generic cell rate algorithm of ITU-T I.371).
    pub fn passes(&self, state: &mut FilterState, label: u32, acts: u32, now: u64) -> bool {
        if *self == Self::default() {
            return true;
        }
        if self.labels != 0 && self.labels >> (label % LABEL_BITS) & 1 == 0 {
            return false;
        }
        if self.acts != 0 && self.acts & acts == 0 {
            return false;
        }
        let number = state.seen;
        state.seen += 1;
        if !number.is_multiple_of(u64::from(self.sample.max(1))) {
            return false;
        }
        let next = state.next_ns.max(now);
        if self.interval_ns != 0 && next - now > self.burst_ns {
            return false;
        }
        state.next_ns = next.saturating_add(self.interval_ns);
        true
    }
}

/// The fuse: ends enforcement when the share of dropped packets passes a limit. Tested for every dropped
/// packet and for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fuse {
    /// Greatest share of dropped packets, in millionths; 0 for no fuse.
    pub limit: u32,
    /// The share is one of at least so many packets.
    pub window: u32,
    /// Since the window's start.
    pub packets: u64,
    pub drops: u64,
    pub blown: Option<Blown>,
}

/// When and why the fuse blew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Blown {
    pub at_ns: u64,
    /// Of the window in which it blew.
    pub packets: u64,
    pub drops: u64,
}

impl Fuse {
    /// A packet was dropped, the last of so many since the previous call. Says whether the fuse blew.
    pub fn dropped(&mut self, packets: u64, now: u64) -> bool {
        if self.limit == 0 || self.blown.is_some() {
            return false;
        }
        self.packets += packets;
        self.drops += 1;
        let window = u64::from(self.window);
        if self.drops * WHOLE > u64::from(self.limit) * self.packets.max(window) {
            self.blown = Some(Blown { at_ns: now, packets: self.packets, drops: self.drops });
            return true;
        }
        if self.packets >= window {
            (self.packets, self.drops) = (0, 0);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::{EventFilter, FilterState, Fuse};

    #[test]
    fn a_share_is_one_of_a_whole_window() {
        // A fifth of 1,000 packets: 200 drops are allowed, wherever they come.
        let mut fuse = Fuse { limit: 200_000, window: 1_000, ..Fuse::default() };
        for _ in 0..200 {
            assert!(!fuse.dropped(1, 7));
        }
        assert!(fuse.dropped(1, 8));
        let blown = fuse.blown.unwrap();
        assert_eq!((blown.at_ns, blown.packets, blown.drops), (8, 201, 201));
        assert!(!fuse.dropped(1, 9), "it blows once");
    }

    #[test]
    fn windows_follow_each_other() {
        let mut fuse = Fuse { limit: 200_000, window: 1_000, ..Fuse::default() };
        for _ in 0..10_000 {
            assert!(!fuse.dropped(5, 0), "exactly the limit is allowed");
        }
        let mut fuse = Fuse { limit: 200_000, window: 1_000, ..Fuse::default() };
        // A long quiet time does not buy a flood.
        assert!(!fuse.dropped(1_000_000, 0));
        assert_eq!((0..300).filter(|_| fuse.dropped(1, 0)).count(), 1);
    }

    #[test]
    fn the_rate_holds_with_a_burst() {
        let filter = EventFilter { interval_ns: 1_000, burst_ns: 4_000, ..EventFilter::default() };
        let mut state = FilterState::default();
        let sent = |state: &mut FilterState, now| (0..10).filter(|_| filter.passes(state, 0, 4, now)).count();
        assert_eq!(sent(&mut state, 1_000_000), 5);
        assert_eq!(sent(&mut state, 1_000_000), 0);
        assert_eq!(sent(&mut state, 1_002_000), 2);
        assert_eq!(sent(&mut state, 2_000_000), 5);
    }

    #[test]
    fn labels_acts_and_samples() {
        let mut state = FilterState::default();
        let mut passes = |filter: EventFilter, label, acts| filter.passes(&mut state, label, acts, 0);
        let labels = EventFilter { labels: 1 << 1 | 1 << 63, ..EventFilter::default() };
        assert!(!passes(labels, 0, 4) && passes(labels, 1, 4) && passes(labels, 65, 4));
        let acting = EventFilter { acts: 3, ..EventFilter::default() };
        assert!(!passes(acting, 0, 4) && passes(acting, 0, 5));
        let sample = EventFilter { sample: 3, ..EventFilter::default() };
        let sent: Vec<bool> = (0..7).map(|_| passes(sample, 0, 4)).collect();
        assert_eq!(sent, [true, false, false, true, false, false, true]);
    }
}
