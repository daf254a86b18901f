//! Layout and BTF type of `nn_scratch`, the per-CPU value in which packet path and network meet.
//!
//! It holds the raw features on the way in, activations between layers and programs, and outputs, labels and
//! fired rules on the way out. Code that reads or writes it lives with the operations.

use super::LowerError;
use crate::bpf::Size;
use crate::bpf::module::{Map, MapKind, Member, Struct, Type};
use crate::ir::{Dense, Lanes, Network, Op, Post};

/// Name of the map.
pub const MAP: &str = "nn_scratch";

/// Largest value of a per-CPU map: `PCPU_MIN_UNIT_SIZE` in `include/linux/percpu.h`.
pub const MAX_BYTES: u32 = 32 << 10;

/// Byte offset of the active slot within `.data.nn_params`, u64; written by `nn_infer`.
pub const SLOT: i16 = 0;
/// Generation of the active slot, u64; written by `nn_infer`.
pub const GENERATION: i16 = 8;
/// The label of the first output, u32; written by `nn_infer`.
pub const LABEL: i16 = 16;
/// Bit `r` is set when rule `r` fired, u32; written by `nn_infer`.
pub const RULES: i16 = 20;
/// Raw outputs, one i64 each.
const OUTPUTS: u32 = 24;

/// Where everything is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scratch {
    members: Vec<Member>,
    bytes: u32,
    features: u32,
    /// Labels of the outputs behind the first one.
    labels: u32,
    /// Two buffers in turn: operation `n` writes number `n % 2`.
    activations: [u32; 2],
}

/// Where an operation finds its inputs or leaves its results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Buffer {
    pub offset: u32,
    pub element: Size,
}

impl Buffer {
    /// Byte offset of an element. Scratch never exceeds what an `i16` addresses.
    #[must_use]
    pub fn at(self, index: usize) -> i16 {
        let index = u32::try_from(index).unwrap_or(u32::MAX);
        i16::try_from(self.offset.saturating_add(index.saturating_mul(bytes_of(self.element))))
            .unwrap_or(i16::MAX)
    }
}

impl Scratch {
    /// The layout for a network, without a packet part.
    ///
    /// # Errors
    ///
    /// [`LowerError::TooLarge`] when activations pass the limit of a per-CPU value.
    pub fn new(network: &Network) -> Result<Self, LowerError> {
        let outputs = count(network.output_count());
        let features = count(network.inputs.len());
        let mut scratch = Self { members: Vec::new(), bytes: 0, features: 0, labels: 0, activations: [0; 2] };
        scratch.push("slot", Type::Unsigned(8));
        scratch.push("generation", Type::Unsigned(8));
        scratch.push("label", Type::Unsigned(4));
        scratch.push("rules", Type::Unsigned(4));
        scratch.push("outputs", Type::Array(Box::new(Type::Signed(8)), outputs));
        scratch.features = scratch.push("features", Type::Array(Box::new(Type::Signed(8)), features));
        // Offsets of features in a table are masked: what they can reach must be there.
        let reached = if matches!(network.ops.first(), Some(Op::Forest(_))) {
            features.checked_next_power_of_two().unwrap_or(features)
        } else {
            features
        };
        if reached > features {
            scratch.push("unused", Type::Array(Box::new(Type::Unsigned(8)), reached - features));
        }
        let further = count(network.decision.further.len());
        if further > 0 {
            scratch.labels = scratch.push("labels", Type::Array(Box::new(Type::Unsigned(4)), further));
        }
        for (parity, name) in ["activations0", "activations1"].into_iter().enumerate() {
            let words = network
                .ops
                .iter()
                .enumerate()
                .filter(|(index, _)| index % 2 == parity && index + 1 < network.ops.len())
                .map(|(index, op)| {
                    let read_by_trees = matches!(network.ops.get(index + 1), Some(Op::Forest(_)));
                    let width = padded_width(op);
                    let width = if read_by_trees { width.next_power_of_two() } else { width };
                    (width * bytes_of(element(op))).div_ceil(8)
                })
                .max();
            let offset = match words {
                Some(words) => scratch.push(name, Type::Array(Box::new(Type::Unsigned(8)), words)),
                None => scratch.bytes,
            };
            if let Some(place) = scratch.activations.get_mut(parity) {
                *place = offset;
            }
        }
        scratch.fits().map(|()| scratch)
    }

    /// Appends a part of another stage, for example the packet path's verdict records, aligned to 8 bytes.
    /// Gives its byte offset.
    ///
    /// # Errors
    ///
    /// [`LowerError::TooLarge`] when the value passes the limit of a per-CPU map.
    pub fn append(&mut self, name: &str, ty: Type) -> Result<i16, LowerError> {
        let offset = self.push(name, ty);
        self.fits()?;
        Ok(i16::try_from(offset).unwrap_or(i16::MAX))
    }

    /// Byte offset of raw feature `index`, an i64.
    #[must_use]
    pub fn feature(&self, index: usize) -> i16 {
        Buffer { offset: self.features, element: Size::DW }.at(index)
    }

    /// The raw features.
    #[must_use]
    pub const fn features(&self) -> Buffer {
        Buffer { offset: self.features, element: Size::DW }
    }

    /// Byte offset of the label of output `index`, a u32.
    #[must_use]
    pub fn label(&self, index: usize) -> i16 {
        match index.checked_sub(1) {
            None => LABEL,
            Some(further) => Buffer { offset: self.labels, element: Size::W }.at(further),
        }
    }

    /// Byte offset of raw output `index`, an i64.
    #[must_use]
    pub fn output(&self, index: usize) -> i16 {
        Buffer { offset: OUTPUTS, element: Size::DW }.at(index)
    }

    /// Size of the value in bytes.
    #[must_use]
    pub const fn bytes(&self) -> u32 {
        self.bytes
    }

    /// The map's definition.
    #[must_use]
    pub fn map(&self) -> Map {
        Map {
            name: MAP.to_owned(),
            kind: MapKind::PerCpuArray,
            key: Some(Type::Unsigned(4)),
            value: Some(Type::Struct(Struct {
                name: MAP.to_owned(),
                size: self.bytes,
                members: self.members.clone(),
            })),
            max_entries: 1,
            flags: 0,
            programs: Vec::new(),
        }
    }

    /// Where operation `index` leaves its results.
    #[must_use]
    pub fn results(&self, network: &Network, index: usize) -> Buffer {
        if index + 1 == network.ops.len() {
            return Buffer { offset: OUTPUTS, element: Size::DW };
        }
        let element = network.ops.get(index).map_or(Size::DW, element);
        Buffer { offset: self.activations.get(index % 2).copied().unwrap_or(0), element }
    }

    fn push(&mut self, name: &str, ty: Type) -> u32 {
        let align = if matches!(ty, Type::Unsigned(4)) { 4 } else { 8 };
        let offset = self.bytes.next_multiple_of(align);
        self.bytes = offset.saturating_add(ty.size());
        self.members.push(Member { name: name.to_owned(), offset, ty });
        self.bytes = self.bytes.next_multiple_of(align);
        offset
    }

    fn fits(&self) -> Result<(), LowerError> {
        if self.bytes <= MAX_BYTES {
            return Ok(());
        }
        Err(LowerError::TooLarge {
            what: "the per-CPU scratch value".to_owned(),
            value: u64::from(self.bytes),
            limit: u64::from(MAX_BYTES),
        })
    }
}

/// Bytes of a memory access.
pub(crate) const fn bytes_of(size: Size) -> u32 {
    match size {
        Size::B => 1,
        Size::H => 2,
        Size::W => 4,
        Size::DW => 8,
    }
}

/// How the results of an operation are kept for the next one. Only values that are never negative are kept
/// in less than 64 bits, because loads extend with zeros.
pub(crate) fn element(op: &Op) -> Size {
    match op {
        Op::Quantise(_) | Op::Gate(_) | Op::Forest(_) => Size::DW,
        Op::Table(_) => Size::H,
        Op::Dense(Dense { post: Post::Raw | Post::Signed { .. }, .. }) => Size::DW,
        Op::Dense(Dense { post: Post::Relu { bits, .. }, lanes, .. }) => match (*bits, *lanes) {
            // All lanes of a register are stored at once.
            (0..=32, Lanes::TWO) => Size::W,
            (0..=16, Lanes::FOUR) => Size::H,
            (0..=8, _) => Size::B,
            (9..=16, _) => Size::H,
            (17..=32, _) => Size::W,
            (33.., _) => Size::DW,
        },
    }
}

/// Number of results that are stored, those of unused lanes included.
fn padded_width(op: &Op) -> u32 {
    let lanes = match op {
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => 1,
        Op::Dense(dense) => dense.lanes.count(),
    };
    count(op.width().next_multiple_of(lanes))
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX / 8)
}
