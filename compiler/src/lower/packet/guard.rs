//! Names, types and offsets of the event filter and the fuse; `report` and `fuse` hold their code.
//!
//! What they do is stated by [`crate::ir::flow::guard`].

use super::maps::{CONFIG, CONFIG_MODE, member};
use crate::bpf::Size;
use crate::bpf::module::{Struct, Type};
use crate::ir::flow::guard::{EventFilter, Fuse};
use crate::lower::builder::Builder;
use crate::lower::code::VReg;

/// Settings and state of the event filter.
pub const FILTER: &str = ".data.nn_filter";
/// Settings and state of the fuse.
pub const FUSE: &str = ".data.nn_fuse";
/// What each processor's counters were when the fuse last heard of them.
pub const FUSE_SEEN: &str = "nn_fuse_seen";

/// Offsets in `.data.nn_filter`.
pub mod filter {
    /// 0 while no other setting matters.
    pub const ACTIVE: i16 = 0;
    pub const ACTS: i16 = 4;
    pub const LABELS: i16 = 8;
    pub const SAMPLE: i16 = 16;
    pub const INTERVAL: i16 = 24;
    pub const BURST: i16 = 32;
    /// State: events that came as far as the sample.
    pub const SEEN: i16 = 40;
    /// State: when an event without a burst is due next.
    pub const NEXT: i16 = 48;
    /// Size of the value.
    pub const BYTES: usize = 56;
}

/// Offsets in `.data.nn_fuse`.
pub mod fuse {
    /// In millionths; 0 for no fuse.
    pub const LIMIT: i16 = 0;
    pub const WINDOW: i16 = 4;
    /// 1 when the fuse has blown: nothing acts, whatever the mode says.
    pub const BLOWN: i16 = 8;
    /// State: since the window's start, on all processors.
    pub const PACKETS: i16 = 16;
    pub const DROPS: i16 = 24;
    /// When it blew, and the window's counts then.
    pub const BLOWN_NS: i16 = 32;
    pub const BLOWN_PACKETS: i16 = 40;
    pub const BLOWN_DROPS: i16 = 48;
    /// Size of the value.
    pub const BYTES: usize = 56;
}

/// Offsets in the event that tells of a blown fuse; its length tells it from an event of a verdict.
pub mod fuse_event {
    pub const TIME: i16 = 0;
    pub const PACKETS: i16 = 8;
    pub const DROPS: i16 = 16;
    /// In millionths.
    pub const LIMIT: i16 = 24;
    pub const WINDOW: i16 = 28;
    /// Size of the event.
    pub const BYTES: u16 = 32;
}

/// Offsets in `nn_fuse_seen`.
pub mod seen {
    pub const PACKETS: i16 = 0;
    pub const DROPS: i16 = 8;
    /// Size of the value.
    pub const BYTES: usize = 16;
}

/// The value of `.data.nn_filter` with fresh state.
#[must_use]
pub fn filter_bytes(settings: &EventFilter) -> Vec<u8> {
    let active = u32::from(*settings != EventFilter::default());
    let mut bytes = active.to_le_bytes().to_vec();
    bytes.extend(settings.acts.to_le_bytes());
    bytes.extend(settings.labels.to_le_bytes());
    bytes.extend(u64::from(settings.sample).to_le_bytes());
    bytes.extend(settings.interval_ns.to_le_bytes());
    bytes.extend(settings.burst_ns.to_le_bytes());
    bytes.resize(filter::BYTES, 0);
    bytes
}

/// The value of `.data.nn_fuse` with a fresh window.
#[must_use]
pub fn fuse_bytes(settings: &Fuse) -> Vec<u8> {
    let mut bytes = settings.limit.to_le_bytes().to_vec();
    bytes.extend(settings.window.to_le_bytes());
    bytes.resize(fuse::BYTES, 0);
    bytes
}

pub(super) fn filter_type() -> Type {
    structure(
        "nn_filter",
        filter::BYTES,
        &[
            ("active", filter::ACTIVE, 4),
            ("acts", filter::ACTS, 4),
            ("labels", filter::LABELS, 8),
            ("sample", filter::SAMPLE, 4),
            ("reserved", filter::SAMPLE + 4, 4),
            ("interval_ns", filter::INTERVAL, 8),
            ("burst_ns", filter::BURST, 8),
            ("seen", filter::SEEN, 8),
            ("next_ns", filter::NEXT, 8),
        ],
    )
}

pub(super) fn fuse_type() -> Type {
    structure(
        "nn_fuse",
        fuse::BYTES,
        &[
            ("limit", fuse::LIMIT, 4),
            ("window", fuse::WINDOW, 4),
            ("blown", fuse::BLOWN, 4),
            ("reserved", fuse::BLOWN + 4, 4),
            ("packets", fuse::PACKETS, 8),
            ("drops", fuse::DROPS, 8),
            ("blown_ns", fuse::BLOWN_NS, 8),
            ("blown_packets", fuse::BLOWN_PACKETS, 8),
            ("blown_drops", fuse::BLOWN_DROPS, 8),
        ],
    )
}

pub(super) fn seen_type() -> Type {
    structure("nn_fuse_seen", seen::BYTES, &[("packets", seen::PACKETS, 8), ("drops", seen::DROPS, 8)])
}

fn structure(name: &str, bytes: usize, members: &[(&str, i16, u8)]) -> Type {
    let of = |(name, offset, bytes): &(&str, i16, u8)| {
        member(name, u32::from(offset.unsigned_abs()), Type::Unsigned(*bytes))
    };
    let size = u32::try_from(bytes).unwrap_or(u32::MAX);
    Type::Struct(Struct { name: name.to_owned(), size, members: members.iter().map(of).collect() })
}

/// The mode as it counts: [`super::maps::MODE_ENFORCE`] only while the fuse is whole.
pub(super) fn mode(b: &mut Builder) -> VReg {
    let config = b.map_value(CONFIG, CONFIG_MODE);
    let mode = b.load(Size::W, config, 0);
    let fuse = b.map_value(FUSE, 0);
    let blown = b.load(Size::W, fuse, fuse::BLOWN);
    b.lsh(blown, 1);
    b.or(mode, blown);
    mode
}
