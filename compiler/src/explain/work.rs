//! What packets execute, sorted into kinds of work that have a price.

use std::collections::BTreeMap;

use crate::bpf::module::MapKind;
use crate::bpf::table::Shape;
use crate::bpf::{AluOp, Helper};
use crate::lower::network::FUNCTION as MODEL;
use crate::vm::{HelperCall, Profile};

/// A kind of work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Arithmetic, moves, constants, byte swaps.
    Simple,
    Multiply,
    /// Division and remainder.
    Divide,
    Load,
    Store,
    /// Atomic operations, compare-and-exchange included.
    Atomic,
    /// Jumps, taken or not.
    Jump,
    /// Calls of functions of the object.
    Function,
    /// A lookup in a map of this kind with keys of so many bytes; `found`: there was a value.
    Lookup {
        map: MapKind,
        key: u32,
        found: bool,
    },
    /// An entry that is new, or replaces another.
    Update {
        map: MapKind,
        key: u32,
        value: u32,
    },
    Delete {
        map: MapKind,
    },
    /// `bpf_ktime_get_ns`.
    Clock,
    /// `bpf_ringbuf_output`.
    Event,
    TailCall,
    /// Helpers that only read or adjust the context.
    Context,
}

impl Class {
    /// Whether it is a helper call, which is counted beside the instructions.
    #[must_use]
    pub const fn is_helper(self) -> bool {
        match self {
            Self::Simple
            | Self::Multiply
            | Self::Divide
            | Self::Load
            | Self::Store
            | Self::Atomic
            | Self::Jump
            | Self::Function => false,
            Self::Lookup { .. }
            | Self::Update { .. }
            | Self::Delete { .. }
            | Self::Clock
            | Self::Event
            | Self::TailCall
            | Self::Context => true,
        }
    }
}

/// Whose work counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    /// Everybody's but the model's.
    PacketPath,
    All,
}

impl Count {
    fn counts(self, function: &str) -> bool {
        match self {
            Self::PacketPath => function != MODEL,
            Self::All => true,
        }
    }
}

/// Key and value sizes of maps by name.
pub(super) type Sizes = BTreeMap<String, (u32, u32)>;

/// The work of some packets.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Work {
    pub packets: u64,
    /// Instructions, the model's left out; helper calls count as one each.
    pub instructions: u64,
    pub classes: BTreeMap<Class, u64>,
    /// Helper calls by helper and map.
    pub calls: BTreeMap<(&'static str, String), u64>,
}

impl Work {
    /// Adds what one packet executed.
    pub(super) fn add(&mut self, profile: &Profile, sizes: &Sizes, count: Count) {
        self.packets += 1;
        for step in profile.steps.iter().filter(|step| count.counts(&step.function)) {
            self.instructions += step.times;
            if let Some(class) = class(step.shape) {
                *self.classes.entry(class).or_default() += step.times;
            }
        }
        for call in profile.calls.iter().filter(|call| count.counts(&call.function)) {
            *self.classes.entry(helper_class(call, sizes)).or_default() += 1;
            let map = call.map.as_ref().map_or_else(String::new, |(name, _)| name.clone());
            *self.calls.entry((call.helper.name(), map)).or_default() += 1;
        }
    }

    /// Mean of a packet.
    #[must_use]
    pub fn instructions_per_packet(&self) -> f64 {
        mean(self.instructions, self.packets)
    }

    /// Mean nanoseconds of a packet, by prices for each kind of work.
    #[must_use]
    pub fn nanoseconds_per_packet(&self, price: impl Fn(Class) -> f64) -> f64 {
        self.classes.iter().map(|(class, count)| mean(*count, self.packets) * price(*class)).sum()
    }
}

/// Counts of a sample are far below 2^53.
pub(super) fn mean(count: u64, packets: u64) -> f64 {
    if packets == 0 { 0.0 } else { count as f64 / packets as f64 }
}

/// What an instruction is; `None` for helper calls, which are told apart by helper and map.
fn class(shape: Shape) -> Option<Class> {
    Some(match shape {
        Shape::Alu { op: AluOp::Mul, .. } => Class::Multiply,
        Shape::Alu { op: AluOp::Div | AluOp::Mod, .. } => Class::Divide,
        Shape::Alu { .. }
        | Shape::Neg { .. }
        | Shape::ToBigEndian { .. }
        | Shape::LoadImm64
        | Shape::LoadMap
        | Shape::LoadMapValue => Class::Simple,
        Shape::Load { .. } => Class::Load,
        Shape::Store { .. } => Class::Store,
        Shape::Atomic { .. } => Class::Atomic,
        Shape::Goto | Shape::Jump { .. } => Class::Jump,
        // An exit is the other half of a call.
        Shape::Exit => return None,
        Shape::CallFunction => Class::Function,
        Shape::Call => return None,
    })
}

fn helper_class(call: &HelperCall, sizes: &Sizes) -> Class {
    let kind = call.map.as_ref().map_or(MapKind::Array, |(_, kind)| *kind);
    let (key, value) = call.map.as_ref().and_then(|(name, _)| sizes.get(name)).copied().unwrap_or_default();
    match call.helper {
        Helper::MapLookup => Class::Lookup { map: kind, key, found: call.result != 0 },
        Helper::MapUpdate => Class::Update { map: kind, key, value },
        Helper::MapDelete => Class::Delete { map: kind },
        Helper::KtimeGetNs => Class::Clock,
        // The kernel puts a load in its place.
        Helper::Jiffies64 => Class::Load,
        Helper::RingbufOutput => Class::Event,
        Helper::TailCall => Class::TailCall,
        Helper::GetSmpProcessorId
        | Helper::XdpGetBuffLen
        | Helper::SkbPullData
        | Helper::SkbLoadBytes
        | Helper::XdpLoadBytes => Class::Context,
    }
}
