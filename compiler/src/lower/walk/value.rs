//! Numbers and pointers as the verifier knows them.

use crate::bpf::{AluOp, Width};

/// Places of a kept state that a number depends on: a bit per register, then one per stack slot.
pub(super) type Origins = u128;

/// A number between two bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Number {
    pub(super) min: u64,
    pub(super) max: u64,
    /// Bits that may be set.
    pub(super) bits: u64,
    /// Copies of one number have the same: what is learnt of one holds for all. 0 for none.
    pub(super) id: u32,
    pub(super) origins: Origins,
}

/// What a register or a stack slot holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Value {
    #[default]
    Nothing,
    Number(Number),
    Context,
    /// Distance from the frame pointer.
    Stack(i64),
    Map(usize),
    /// A place in the value of a map; `varies` when a number that is not constant was added.
    Entry {
        map: usize,
        offset: i64,
        varies: bool,
    },
    /// What a lookup gives; `id` tells the lookup.
    Lookup {
        map: usize,
        id: u32,
    },
    /// `id` changes with every variable offset; `range` bytes behind it are known to be there.
    Packet {
        id: u32,
        offset: i64,
        range: i64,
    },
    PacketEnd,
}

impl Value {
    /// Any number.
    pub(super) const fn unknown() -> Self {
        Self::Number(Number::UNKNOWN)
    }

    /// A number of so many bits.
    pub(super) const fn of_bits(bits: u32) -> Self {
        Self::Number(Number::below(bits))
    }

    pub(super) const fn number(self) -> Option<Number> {
        match self {
            Self::Number(number) => Some(number),
            Self::Nothing
            | Self::Context
            | Self::Stack(_)
            | Self::Map(_)
            | Self::Entry { .. }
            | Self::Lookup { .. }
            | Self::Packet { .. }
            | Self::PacketEnd => None,
        }
    }

    /// Whether an explored state with this value covers one with `other`; `precise` when a decision depended
    /// on it.
    pub(super) fn covers(self, other: Self, precise: bool) -> bool {
        match (self, other) {
            (Self::Nothing, _) => true,
            (Self::Number(old), Self::Number(new)) => {
                !precise || (old.min <= new.min && old.max >= new.max && new.bits & !old.bits == 0)
            }
            (Self::Lookup { map, .. }, Self::Lookup { map: other, .. }) => map == other,
            (
                Self::Packet { id, offset, range },
                Self::Packet { id: new_id, offset: new_offset, range: new_range },
            ) => offset == new_offset && range <= new_range && (id == 0) == (new_id == 0),
            (old, new) => old == new,
        }
    }
}

impl Number {
    pub(super) const UNKNOWN: Self = Self { min: 0, max: u64::MAX, bits: u64::MAX, id: 0, origins: 0 };

    pub(super) const fn below(bits: u32) -> Self {
        let max = if bits >= 64 { u64::MAX } else { (1 << bits) - 1 };
        Self { min: 0, max, bits: max, id: 0, origins: 0 }
    }

    pub(super) const fn constant(value: u64) -> Self {
        Self { min: value, max: value, bits: value, id: 0, origins: 0 }
    }

    fn between(min: u64, max: u64) -> Self {
        let bits = if max == 0 { 0 } else { u64::MAX >> max.leading_zeros() };
        Self { min, max, bits: if min == max { min } else { bits }, id: 0, origins: 0 }
    }

    pub(super) const fn value(self) -> Option<u64> {
        if self.min == self.max { Some(self.min) } else { None }
    }

    /// With bounds that are narrowed to these.
    pub(super) fn within(self, min: u64, max: u64) -> Self {
        let (min, max) = (self.min.max(min), self.max.min(max));
        if min > max {
            // A path that no packet takes; the verifier's bounds are no wiser here.
            return self;
        }
        let narrowed = Self::between(min, max);
        let bits = if min == max { min } else { self.bits & narrowed.bits };
        Self { bits, id: self.id, origins: self.origins, ..narrowed }
    }

    /// Without these bits.
    pub(super) fn without(self, bits: u64) -> Self {
        let left = self.bits & !bits;
        Self { bits: left, ..self }.within(self.min, self.max.min(left))
    }

    /// `self op other`.
    pub(super) fn compute(self, width: Width, op: AluOp, other: Self) -> Self {
        let result = match (width, self.value(), other.value()) {
            (_, Some(left), Some(right)) => Self::constant(constant(width, op, left, right)),
            (Width::W64, ..) => self.ranges(op, other),
            (Width::W32, ..) => {
                let wide = self.ranges(op, other);
                let fits = self.max <= u64::from(u32::MAX) && other.max <= u64::from(u32::MAX);
                if fits && wide.max <= u64::from(u32::MAX) { wide } else { Self::below(32) }
            }
        };
        Self { id: 0, origins: self.origins | other.origins, ..result }
    }

    fn ranges(self, op: AluOp, other: Self) -> Self {
        let checked = |min: Option<u64>, max: Option<u64>| match (min, max) {
            (Some(min), Some(max)) => Self::between(min, max),
            _ => Self::UNKNOWN,
        };
        match op {
            AluOp::Mov => other,
            AluOp::Add => checked(self.min.checked_add(other.min), self.max.checked_add(other.max)),
            AluOp::Sub => checked(self.min.checked_sub(other.max), self.max.checked_sub(other.min)),
            AluOp::Mul => {
                let product = checked(self.min.checked_mul(other.min), self.max.checked_mul(other.max));
                // Of one bit and a constant: nothing, or the constant in the bit's place.
                match (self.bits.is_power_of_two(), other.value().and_then(|by| self.bits.checked_mul(by))) {
                    (true, Some(bits)) => Self { bits: product.bits & bits, ..product },
                    _ => product,
                }
            }
            AluOp::And => {
                let bits = self.bits & other.bits;
                Self { bits, ..Self::between(0, self.max.min(other.max).min(bits)) }
            }
            AluOp::Or | AluOp::Xor => {
                let bits = self.bits | other.bits;
                let min = if op == AluOp::Or { self.min.max(other.min) } else { 0 };
                Self { bits, ..Self::between(min, bits) }
            }
            AluOp::Lsh => match other.value() {
                Some(shift) if shift < 64 && self.max.leading_zeros() as u64 >= shift => {
                    Self { bits: self.bits << shift, ..Self::between(self.min << shift, self.max << shift) }
                }
                Some(shift) if shift < 64 => Self { bits: self.bits << shift, ..Self::UNKNOWN },
                _ => Self::UNKNOWN,
            },
            AluOp::Rsh => match other.value() {
                Some(shift) if shift < 64 => {
                    Self { bits: self.bits >> shift, ..Self::between(self.min >> shift, self.max >> shift) }
                }
                _ => Self::UNKNOWN,
            },
            AluOp::Arsh => match other.value() {
                Some(shift) if shift < 64 && self.max <= i64::MAX.cast_unsigned() => {
                    Self { bits: self.bits >> shift, ..Self::between(self.min >> shift, self.max >> shift) }
                }
                _ => Self::UNKNOWN,
            },
            AluOp::Div | AluOp::Mod => Self::UNKNOWN,
        }
    }
}

/// `left op right` of known numbers.
fn constant(width: Width, op: AluOp, left: u64, right: u64) -> u64 {
    let (left, right, bits) = match width {
        Width::W64 => (left, right, 64),
        Width::W32 => (left & u64::from(u32::MAX), right & u64::from(u32::MAX), 32),
    };
    let shift = u32::try_from(right % bits).unwrap_or(0);
    let result = match op {
        AluOp::Add => left.wrapping_add(right),
        AluOp::Sub => left.wrapping_sub(right),
        AluOp::Mul => left.wrapping_mul(right),
        AluOp::Div => left.checked_div(right).unwrap_or(0),
        AluOp::Mod => left.checked_rem(right).unwrap_or(left),
        AluOp::Or => left | right,
        AluOp::And => left & right,
        AluOp::Xor => left ^ right,
        AluOp::Mov => right,
        AluOp::Lsh => left << shift,
        AluOp::Rsh => left >> shift,
        AluOp::Arsh => match width {
            Width::W64 => (left.cast_signed() >> shift).cast_unsigned(),
            Width::W32 => u64::from(((left as u32).cast_signed() >> shift).cast_unsigned()),
        },
    };
    match width {
        Width::W64 => result,
        Width::W32 => result & u64::from(u32::MAX),
    }
}
