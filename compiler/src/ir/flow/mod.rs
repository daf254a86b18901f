//! The flow program: what the packet path does to each packet, as data.
//!
//! [`build`] makes a [`FlowProgram`] from a checked specification; [`interpret`] executes it and is the
//! reference that the bytecode matches bit for bit; [`key`] says what names a record;
//! [`side`] are further tables and windows of time;
//! [`record`] lays out the table's key and value;
//! [`eval`] states what features are worth when a verdict is due; [`table`], [`lists`] and [`extract`] serve
//! the interpreter. Parsing lives in [`super::packet`], the network in [`super`]. For users the semantics are
//! stated in `docs/flows.md`.
//!
//! # Steps per packet
//!
//! 1. **Parse.** Without fields, or of a transport that the specification does not name: count, pass.
//! 2. **Look up** the record of the packet's key ([`record::Key`]).
//! 3. **Lists.** The packet's direction has a cached answer in the record, valid while its epoch is the global
//!    one; otherwise (and without a record) the lists are asked: when either end of the packet is allowed, or
//!    its source is not on the block list, `blocked_until` is 0, else the expiry. A packet before
//!    `blocked_until` is dropped in enforce mode and changes nothing else; in monitor mode it is counted and
//!    goes on.
//! 4. **Idle.** `now > last + idle`, or `now > first + active`, retires the record: when it is not closed and `end` is a trigger, it is
//!    judged with [`Trigger::Idle`]; a new record takes its place. A clock that went backwards never expires.
//!    A sweep ([`interpret::Swept`]) does the same without a packet and puts no record in its place.
//! 5. **Closed.** A packet of a closed record restarts it when it has SYN without ACK (nothing is judged: that
//!    happened when it closed); any other is *stray*: counted, passed, and changes nothing, not even the last
//!    time.
//! 6. **Create** where there is no record. Its sender is the forward side.
//! 7. **Update.** `packets` counts one up and gives the packet its ordinal; `last` becomes `now`; then, unless
//!    the ordinal is above [`SAMPLE_LIMIT`] (the record is flagged *saturated* and its slots stay), each group
//!    whose guard holds does its updates; windows and the records of further tables follow: see [`side`].
//! 8. **End.** TCP only: FIN sets the flag of its direction. With `end.rst` and RST, or `end.fin` and FIN of
//!    both sides (any side for one-direction keys), the record closes.
//! 9. **Triggers.** The packet that closed the record is judged with [`Trigger::End`] when `end` is a trigger.
//!    Otherwise each of these holds or does not:
//!    - `after N packets`: its ordinal is N;
//!    - `after TIME`: `now >= first + TIME`, for the first time in this record ([`record::flag::AFTER`]);
//!    - `every N packets`: its ordinal is a multiple of N;
//!    - `every TIME`: `now >= judged + TIME`, and `judged` ([`SlotKind::Judged`]) becomes `now`.
//!
//!    It is judged with [`Trigger::After`] when one of the first two holds, else with [`Trigger::Every`] when one
//!    of the others does. One verdict at most, besides the old record's.
//! 10. **Act**, per verdict, on the rules that fire, in their order, up to one with `pass`: see [`Rule`].
//!
//! # Single packets
//!
//! With [`Scope::Packet`] there is no table and no clock is asked for an ordinary packet. A packet that is parsed, of
//! a followed transport, and fulfils [`FlowProgram::filter`] (others count as [`Counter::Unselected`]) is one that is
//! judged. Unless the lists were never written to, they are asked (step 3, without a cache). Where it goes on and its
//! number is a multiple of N, it is judged with [`Trigger::Every`], and step 10 follows. Its number is that among
//! the packets of its processor that are judged, blocked ones included: what [`super::packet::Reason::Parsed`] counts less
//! [`Counter::Unselected`]. In verdicts it is a flow of one packet, whose first and last time is the packet's.
//!
//! # What two processors may do to one record
//!
//! Every write below names its atomic operation. Two packets of one flow on two processors then give the same
//! record as one after the other, in one of the two orders, except that `last`-like values may be of either
//! packet, and that a verdict's features may contain part of a packet in flight.
//!
//! | value | operation |
//! |---|---|
//! | `packets` | 64-bit fetch-and-add; the ordinal is the old value plus one |
//! | count, sum | 32- or 64-bit add |
//! | squares, 64 bits | 64-bit add |
//! | squares, 128 bits | fetch-and-add on the low word; add of carry and high part on the high word, where there is any |
//! | min, max | load; while it improves, compare-and-exchange, at most [`EXCHANGE_TRIES`] times |
//! | weighted mean | load, compare-and-exchange, at most [`EXCHANGE_TRIES`] times |
//! | bitmap | 64-bit or of one bit to one word |
//! | first | one compare-and-exchange of [`record::NONE_32`] or [`record::NONE_64`] |
//! | last | plain store |
//! | time of the previous packet of a filter | 64-bit exchange; the old value gives the gap |
//! | `flags` | fetch-and-or; the bit that was clear before decides who judges, so exactly one does |
//! | time of the last verdict at intervals | load; when it is due, one compare-and-exchange; who succeeds judges |
//! | answer of the lists | a plain store |
//! | creation | insert if absent, then look up again |
//! | retiring | fetch-and-or of [`record::flag::RETIRED`]; who set it judges a copy and replaces the record (update any); who did not looks up again, at most [`RETIRE_TRIES`] times, then counts the packet as [`Counter::Contended`] |

pub mod key;
pub mod record;
pub mod side;
pub mod ranges;
pub mod formula;
pub mod decision;
mod build;
mod collect;
pub mod eval;
pub mod distinct;
mod identity;
pub mod table;
pub mod lists;
pub mod guard;
pub mod verdict;
mod counter;
pub mod interpret;
mod single;
pub mod extract;

pub use build::build;
pub use counter::Counter;

use formula::Formula;
use key::KeyParts;
use side::{Place, SideTable, Window};

use super::{FractionBits, Interval};
use crate::diag::Span;
use crate::spec::typed::{
    Action, Address, Bitmap, Directions, End, Field, Filter, Nanos, Scope, TimeUnit, Transports, Triggers,
    Unit, Weight,
};

/// Packets of a record that are aggregated; later ones find it saturated.
/// A little under 2^32, so that 32-bit counts and 64-bit sums of squares of lengths cannot wrap, with packets
/// of several processors in flight.
pub const SAMPLE_LIMIT: u64 = (1 << 32) - (1 << 23);

/// Sample limit of a specification that takes a sum, mean or standard deviation of gaps in nanoseconds.
/// `limit * greatest sample` stays below 2^63 in every case, so sums fit 63 bits and variances 128.
pub const SAMPLE_LIMIT_NANOS: u64 = 1 << 22;

/// Greatest gap that is aggregated in microseconds, milliseconds and seconds; longer gaps count as this.
pub const GAP_LIMIT: u64 = (1 << 31) - 1;

/// Greatest gap that is aggregated in nanoseconds (36 minutes); longer gaps count as this.
pub const GAP_LIMIT_NANOS: u64 = (1 << 41) - 1;

/// Tries of the compare-and-exchange loop of min, max and weighted means, after which the sample is given up and counted.
pub const EXCHANGE_TRIES: u32 = 8;

/// Lookups while another processor replaces a record.
pub const RETIRE_TRIES: u32 = 12;

/// Position in [`FlowProgram::slots`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId(pub u32);

impl SlotId {
    /// `packets` of the record's header: a 64-bit count of all packets.
    pub const PACKETS: Self = Self(0);
    /// `last_ns` of the header: the time of the flow's last packet. Records without it keep it in the interpreter
    /// only, for the columns of extracted rows.
    pub const LAST_TIME: Self = Self(1);
}

/// What the packet path does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowProgram {
    pub scope: Scope,
    /// The flow's name in the specification.
    pub name: String,
    /// Which transports are followed; others are counted and passed.
    pub transports: Transports,
    /// Which packets are judged, with [`Scope::Packet`] only.
    pub filter: Filter,
    /// What names a record.
    pub key: KeyParts,
    pub directions: Directions,
    pub capacity: u32,
    pub idle: Option<Nanos>,
    /// A packet later than this after the first one retires the record as well.
    pub active: Option<Nanos>,
    /// Idle records are swept, where there is an idle time.
    pub sweep: bool,
    pub end: End,
    pub triggers: Triggers,
    /// [`SAMPLE_LIMIT`] or [`SAMPLE_LIMIT_NANOS`].
    pub sample_limit: u64,
    pub record: record::Layout,
    /// State of all records, of further tables too. The first two are [`SlotId::PACKETS`] and
    /// [`SlotId::LAST_TIME`].
    pub slots: Vec<Slot>,
    /// Tables beside the flow's own.
    pub tables: Vec<SideTable>,
    /// Windows of all tables.
    pub windows: Vec<Window>,
    /// Updates in execution order; guards are distinct in a place.
    pub groups: Vec<Group>,
    /// In the specification's order: the network's raw inputs.
    pub features: Vec<FeatureExpr>,
    /// In the specification's order.
    pub rules: Vec<Rule>,
    /// Where the flow block stands in the specification.
    pub span: Span,
}

/// One value of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// A C identifier, unique in the record: the feature's name where the slot is the feature, else the name
    /// of the first feature that uses it and the part that it is.
    pub name: String,
    pub kind: SlotKind,
    pub width: Width,
    pub place: Place,
    /// Bytes from the start of the record, in the copy of even panes.
    pub offset: u32,
    /// The feature that introduced it; the flow block for the header's two.
    pub span: Span,
}

/// What a slot holds. See the module documentation for each kind's atomic operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotKind {
    /// The header's `packets`, or those of a pane. As a value: at most the sample limit.
    Packets,
    /// Nanoseconds of the previous packet of a filter; [`record::NONE_64`] before the first.
    Time,
    /// Nanoseconds of the last verdict at intervals of time; of the flow's first packet before it.
    Judged,
    /// Number of the newest pane of a window; [`record::NONE_64`] before the first.
    Pane,
    Count,
    Sum,
    /// Sum of squares.
    Squares,
    /// `NONE` of its width when empty.
    Min,
    Max,
    /// `NONE` of its width when empty.
    First,
    Last,
    /// A word of a bitmap; so many words from here to the bitmap's end.
    Bits {
        words: u32,
    },
    /// A weighted mean with [`ranges::EWMA_BITS`] fraction bits; [`record::NONE_64`] when empty.
    Ewma,
}

/// Bits of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    W32,
    W64,
    /// Two 64-bit words, the low one first.
    W128,
}

/// Updates under one guard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    pub place: Place,
    pub guard: Filter,
    /// Where some update takes a gap: the slot whose exchange gives it. For the empty guard that is
    /// [`SlotId::LAST_TIME`], whose exchange replaces the store of step 7, or that of a further table.
    pub clock: Option<SlotId>,
    pub updates: Vec<Update>,
}

/// One write to a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    pub slot: SlotId,
    pub op: UpdateOp,
    pub sample: Sample,
    pub span: Span,
}

/// What is done with the sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpdateOp {
    /// Adds 1.
    Count,
    Add,
    AddSquare,
    Min,
    Max,
    SetFirst,
    SetLast,
    /// Moves by this part of the way towards the sample: see [`eval::ewma`].
    Ewma(Weight),
    /// Sets the bit that [`distinct::hash`] gives, in the bitmap that starts at the slot.
    SetBit(Bitmap),
}

/// The sample of a packet. A gap exists from the second packet of its filter on; without it the update is
/// left out. Samples are below 2^31, gaps in nanoseconds below 2^41.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Sample {
    /// The packet itself, for [`UpdateOp::Count`] only.
    Packet,
    Field(Field),
    /// Time since the group's clock, `min((now - previous) / unit, limit)`, 0 when time went backwards.
    Gap(TimeUnit),
    /// A gap in whatever unit, for [`UpdateOp::Count`] only.
    AnyGap,
    /// The packet's time in nanoseconds, for [`UpdateOp::SetFirst`] only.
    Time,
    /// An address, for [`UpdateOp::SetBit`] only.
    Address(Address),
}

/// One feature when a verdict is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeatureExpr {
    pub name: String,
    pub value: Formula<Expr>,
    pub unit: Unit,
    pub fraction_bits: FractionBits,
    /// Contains every value that can arise, unless the author declared a narrower range; values beyond it are
    /// clamped by the network's input quantiser.
    pub range: Interval,
    pub span: Span,
}

/// How a running value is computed from slots: the leaves of formulas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expr {
    /// The slot's value; 0 for an empty minimum or first.
    Load(SlotId),
    /// A field of the packet that is judged, with [`Scope::Packet`] only.
    Field(Field),
    /// `floor(256 * sum / count)`, 0 without samples.
    Mean { sum: SlotId, count: SlotId },
    /// `min((last - first) / unit, limit)` of the header's times, 0 when time went backwards.
    Duration { unit: TimeUnit },
    /// The same of the times in two slots, 0 when the first is empty.
    Span { first: SlotId, last: SlotId, unit: TimeUnit },
    /// `floor(256 * sqrt((n*squares - sum²) / (n*(n-1))))`, 0 for fewer than two samples;
    /// with `population`, the divisor is `n²`, 0 without samples.
    Std { sum: SlotId, squares: SlotId, count: SlotId, population: bool },
    /// The square of the same, `floor(256 * (n*squares - sum²) / (n*(n-1)))`.
    Var { sum: SlotId, squares: SlotId, count: SlotId, population: bool },
    /// The slot's value with 8 fraction bits, rounded down; 0 when empty.
    Ewma(SlotId),
    /// [`distinct::estimate`] of the bits set in the bitmap that starts at the slot.
    Distinct { first: SlotId, bitmap: Bitmap },
    /// `min(floor(256 * sum * 10^9 / duration), limit)` with the duration in nanoseconds, 0 where that is 0: the
    /// flow's, or, over a window with panes of so many nanoseconds, what of it has passed, see [`eval::covered`].
    Rate { sum: SlotId, pane: Option<u64> },
}

impl Expr {
    /// The slots that it reads.
    #[must_use]
    pub fn slots(&self) -> Vec<SlotId> {
        match *self {
            Self::Load(slot) => vec![slot],
            Self::Field(_) => Vec::new(),
            Self::Mean { sum, count } => vec![sum, count],
            Self::Duration { unit: _ } => vec![SlotId::LAST_TIME],
            Self::Std { sum, squares, count, population: _ }
            | Self::Var { sum, squares, count, population: _ } => vec![sum, squares, count],
            Self::Ewma(slot) => vec![slot],
            Self::Distinct { first, bitmap } => (first.0..first.0 + bitmap.words()).map(SlotId).collect(),
            Self::Rate { sum, pane: None } => vec![sum, SlotId::LAST_TIME],
            Self::Rate { sum, pane: Some(_) } => vec![sum],
            Self::Span { first, last, unit: _ } => vec![first, last],
        }
    }
}

/// What to do when a rule fires.
///
/// - `report` sends an event, in both modes, unless the filter ([`guard::EventFilter`]) holds it back.
///   `report 1 in N` counts how often the rule has acted (a 64-bit fetch-and-add of a number that all processors
///   share) and asks for an event when the number before was a multiple of N.
/// - `drop` drops the packet that is judged, in enforce mode, unless one of its ends is allowed. The verdict
///   of an old record (idle) drops nothing: that flow has no packet at hand.
/// - `block` puts the judged flow's forward source on the block list until now plus the time (never shortening
///   an entry) and moves the epoch, in enforce mode, unless one of the flow's ends is allowed. It acts from
///   the next packet on. `block ip.dst` does the same to the forward receiver, after the source.
/// - `mark` sets the mark of the packet that is judged, where `drop` would drop it; of several rules' marks the
///   last one counts.
/// - `pass` ends the rules: those behind it do not act on this verdict. What earlier ones asked for stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Index of the label.
    pub label: usize,
    pub actions: Vec<Action>,
    pub span: Span,
}

/// Why a verdict is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u32)]
pub enum Trigger {
    /// FIN or RST closed the flow.
    End = 1,
    /// A packet after the idle time retired the flow.
    Idle = 2,
    /// Every N packets, or once so much time has passed since the last such verdict.
    Every = 3,
    /// The capture ended; never in the kernel.
    Eof = 4,
    /// The N-th packet, or the first one so long after the flow's first.
    After = 5,
}

impl Trigger {
    /// The word in CSV files and events.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::End => "end",
            Self::Idle => "idle",
            Self::Every => "every",
            Self::Eof => "eof",
            Self::After => "after",
        }
    }
}

impl FlowProgram {
    /// The slot, which every identifier in the program has.
    ///
    /// # Panics
    ///
    /// Never for identifiers of this program: [`build`] makes both.
    #[must_use]
    pub fn slot(&self, id: SlotId) -> &Slot {
        self.slots.get(id.0 as usize).expect("identifiers of a flow program name its slots")
    }

    /// What the flow table keeps of a key.
    #[must_use]
    pub fn key_form(&self) -> key::KeyForm {
        key::KeyForm::of(self.key, self.transports)
    }

    /// Whether something depends on the time of every packet. Otherwise the clock is read only for packets that
    /// are judged, that open a record which keeps its first time, or whose sender is on the block list.
    #[must_use]
    pub fn times_packets(&self) -> bool {
        let Triggers { end: _, every: _, every_time, after: _, after_time } = self.triggers;
        self.record.last.is_some()
            || self.groups.iter().any(|group| group.clock.is_some())
            || !(self.windows.is_empty() && self.tables.is_empty())
            || every_time.is_some()
            || after_time.is_some()
            || self.active.is_some()
            || self.groups.iter().flat_map(|group| &group.updates).any(|update| update.sample == Sample::Time)
    }

    /// Most verdicts that one packet can lead to: on the record that it retires, and on its own.
    #[must_use]
    pub const fn verdicts_per_packet(&self) -> usize {
        if self.triggers.end && (self.idle.is_some() || self.active.is_some()) { 2 } else { 1 }
    }

    /// The slot with the time of the last verdict at intervals of time.
    #[must_use]
    pub fn judged(&self) -> Option<SlotId> {
        let at = self.slots.iter().position(|slot| slot.kind == SlotKind::Judged)?;
        u32::try_from(at).ok().map(SlotId)
    }

    /// The rules that report samples, with how many verdicts each event stands for; by their position here they
    /// have a counter.
    pub fn samples(&self) -> impl Iterator<Item = (usize, u32)> {
        self.rules.iter().enumerate().flat_map(|(index, rule)| {
            rule.actions.iter().filter_map(move |action| match action {
                Action::ReportOneIn(of) => Some((index, *of)),
                Action::Drop
                | Action::BlockSource(_)
                | Action::BlockDestination(_)
                | Action::Mark(_)
                | Action::Report
                | Action::Pass => None,
            })
        })
    }

    /// Whether some rule does such a thing.
    #[must_use]
    pub fn acts(&self, wanted: impl Fn(&Action) -> bool) -> bool {
        self.rules.iter().any(|rule| rule.actions.iter().any(&wanted))
    }

    /// Whether a slot is the time of a record's last packet, whatever the table.
    #[must_use]
    pub fn is_last_time(&self, slot: SlotId) -> bool {
        slot == SlotId::LAST_TIME || self.tables.iter().any(|table| table.last == slot)
    }

    /// Whether a packet's gap since the flow's previous packet is a sample: then the header's last time is
    /// exchanged instead of stored.
    #[must_use]
    pub fn exchanges_last_time(&self) -> bool {
        self.groups.iter().any(|group| group.clock == Some(SlotId::LAST_TIME))
    }
}

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod steps_tests;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod trigger_tests;
#[cfg(test)]
mod action_tests;
#[cfg(test)]
mod capture_tests;
#[cfg(test)]
mod aggregates_tests;
#[cfg(test)]
mod key_tests;
#[cfg(test)]
mod side_tests;
#[cfg(test)]
mod shipped_tests;
#[cfg(test)]
mod single_tests;
