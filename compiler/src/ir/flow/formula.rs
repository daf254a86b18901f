//! Arithmetic over the values of a record: the formula of a feature, its ranges, and what it computes.
//!
//! Every value is a 64-bit raw number with 0 or 8 fraction bits. Each node knows the values that can arise, so
//! that nothing wraps; only a damaged record could, and then every engine wraps alike.
//!
//! | operation | raw result, of raw operands `a` and `b` with `p` and `q` fraction bits | fraction bits |
//! |---|---|---|
//! | `a + b`, `a - b` | after the one with fewer fraction bits is shifted left | `max(p, q)` |
//! | `a * b` | `floor(a * b / 2^min(p, q))` | `max(p, q)` |
//! | `a / b` | `floor(a * 2^(8 + q - p) / b)`, 0 for `b = 0`; `b` is never negative | 8 |
//! | `a % b` | `a - b * floor(a / b)` after alignment as for `+`, 0 for `b = 0`; `b` is never negative | `max(p, q)` |
//! | `a and b`, `a or b` | of truth values, bit by bit | 0 |
//! | `a < b`, `a == b` | 1 or 0, after alignment as for `+` | 0 |
//! | `abs(a)` | `a` or `-a` | `p` |
//! | `log2(a)` | see [`log2`] | 8 |
//! | `clip` | the nearest value of the interval | `p` |

use super::super::{FractionBits, Interval};

/// Fraction bits of quotients and logarithms.
pub const FRACTION: FractionBits = FractionBits(8);

/// Every value of a formula, shifted operands included, is smaller than this in magnitude.
const LIMIT: i128 = 1 << 62;

/// A value: what it is made of, its fraction bits, and the raw values that can arise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Formula<L> {
    pub node: Node<L>,
    pub bits: FractionBits,
    pub range: Interval,
}

/// How a value comes about; `L` is what formulas are over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node<L> {
    Leaf(L),
    Constant(i64),
    Unary(Unary, Box<Formula<L>>),
    Binary(Binary, Box<[Formula<L>; 2]>),
    Clip(Box<Formula<L>>, Interval),
}

/// Operations on one value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    Abs,
    Log2,
}

/// Operations on two values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Rem,
    Less,
    Equal,
    /// Of truth values.
    And,
    Or,
}

/// Why two values cannot be joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misfit {
    /// A result or a shifted operand can pass 62 bits.
    TooWide,
    /// The divisor can be negative.
    NegativeDivisor,
    /// A side of `and` or `or` can be something else than 0 and 1.
    NoTruth,
}

/// How far operands are shifted before, and the result behind, the operation itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shifts {
    pub left: u8,
    pub right: u8,
    /// To the right, arithmetically.
    pub result: u8,
}

impl<L> Formula<L> {
    /// A leaf with what is known of its raw values.
    #[must_use]
    pub const fn leaf(leaf: L, bits: FractionBits, range: Interval) -> Self {
        Self { node: Node::Leaf(leaf), bits, range }
    }

    /// A constant.
    #[must_use]
    pub const fn constant(raw: i64, bits: FractionBits) -> Self {
        Self { node: Node::Constant(raw), bits, range: Interval { low: raw, high: raw } }
    }

    /// Whether the value is 0 or 1.
    #[must_use]
    pub const fn is_truth(&self) -> bool {
        self.bits.0 == 0 && self.range.low >= 0 && self.range.high <= 1
    }

    /// The leaf that this formula is, if it is nothing more.
    #[must_use]
    pub const fn as_leaf(&self) -> Option<&L> {
        match &self.node {
            Node::Leaf(leaf) => Some(leaf),
            Node::Constant(_) | Node::Unary(..) | Node::Binary(..) | Node::Clip(..) => None,
        }
    }

    /// All leaves, from left to right.
    #[must_use]
    pub fn leaves(&self) -> Vec<&L> {
        match &self.node {
            Node::Leaf(leaf) => vec![leaf],
            Node::Constant(_) => Vec::new(),
            Node::Unary(_, inner) | Node::Clip(inner, _) => inner.leaves(),
            Node::Binary(_, sides) => sides.iter().flat_map(Self::leaves).collect(),
        }
    }

    /// The same formula over other leaves, from left to right.
    pub fn map<M>(&self, leaf: &mut impl FnMut(&L) -> M) -> Formula<M> {
        let node = match &self.node {
            Node::Leaf(old) => Node::Leaf(leaf(old)),
            Node::Constant(raw) => Node::Constant(*raw),
            Node::Unary(op, inner) => Node::Unary(*op, Box::new(inner.map(leaf))),
            Node::Binary(op, sides) => {
                Node::Binary(*op, Box::new(sides.each_ref().map(|side| side.map(leaf))))
            }
            Node::Clip(inner, interval) => Node::Clip(Box::new(inner.map(leaf)), *interval),
        };
        Formula { node, bits: self.bits, range: self.range }
    }

    /// An operation on one value.
    #[must_use]
    pub fn unary(op: Unary, inner: Self) -> Self {
        let Interval { low, high } = inner.range;
        let (bits, range) = match op {
            Unary::Abs => {
                let ends = [low.saturating_abs(), high.saturating_abs()];
                let low = if low <= 0 && high >= 0 { 0 } else { ends[0].min(ends[1]) };
                (inner.bits, Interval { low, high: ends[0].max(ends[1]) })
            }
            // The algorithm is monotonic.
            Unary::Log2 => (FRACTION, Interval { low: log2(low, inner.bits), high: log2(high, inner.bits) }),
        };
        Self { node: Node::Unary(op, Box::new(inner)), bits, range }
    }

    /// The nearest value of an interval. Only the part of it that values can reach is kept, so that no value is
    /// farther from its ends than 63 bits hold: sums are not below 2^62.
    #[must_use]
    pub fn clip(inner: Self, interval: Interval) -> Self {
        let range = Interval {
            low: inner.range.low.clamp(interval.low, interval.high),
            high: inner.range.high.clamp(interval.low, interval.high),
        };
        Self { bits: inner.bits, node: Node::Clip(Box::new(inner), range), range }
    }

    /// An operation on two values.
    ///
    /// # Errors
    /// See [`Misfit`].
    pub fn binary(op: Binary, left: Self, right: Self) -> Result<Self, Misfit> {
        if matches!(op, Binary::And | Binary::Or) && !(left.is_truth() && right.is_truth()) {
            return Err(Misfit::NoTruth);
        }
        let shifts = shifts(op, left.bits, right.bits);
        let shifted = |range: Interval, by: u8| {
            let (low, high) = (i128::from(range.low) << by, i128::from(range.high) << by);
            if low > -LIMIT && high < LIMIT { Ok((low, high)) } else { Err(Misfit::TooWide) }
        };
        let (a, b) = (shifted(left.range, shifts.left)?, shifted(right.range, shifts.right)?);
        let corners = |of: fn(i128, i128) -> i128| {
            let all = [of(a.0, b.0), of(a.0, b.1), of(a.1, b.0), of(a.1, b.1)];
            (all.into_iter().min().unwrap_or(0), all.into_iter().max().unwrap_or(0))
        };
        let (low, high) = match op {
            Binary::Add => (a.0 + b.0, a.1 + b.1),
            Binary::Sub => (a.0 - b.1, a.1 - b.0),
            Binary::Mul => {
                let (low, high) = corners(|a, b| a.saturating_mul(b));
                if low <= -LIMIT || high >= LIMIT {
                    return Err(Misfit::TooWide);
                }
                (low >> shifts.result, high >> shifts.result)
            }
            Binary::Div => {
                if b.0 < 0 {
                    return Err(Misfit::NegativeDivisor);
                }
                let (low, high) = corners(|a, b| a.div_euclid(b.max(1)));
                if b.0 == 0 { (low.min(0), high.max(0)) } else { (low, high) }
            }
            Binary::Rem => {
                if b.0 < 0 {
                    return Err(Misfit::NegativeDivisor);
                }
                let below = (b.1 - 1).max(0);
                (0, if a.0 >= 0 { a.1.min(below) } else { below })
            }
            Binary::Less | Binary::Equal => (0, 1),
            Binary::And => (a.0 & b.0, a.1 & b.1),
            Binary::Or => (a.0 | b.0, a.1 | b.1),
        };
        if low <= -LIMIT || high >= LIMIT {
            return Err(Misfit::TooWide);
        }
        let narrow = |value: i128| i64::try_from(value).map_err(|_| Misfit::TooWide);
        Ok(Self {
            bits: result_bits(op, left.bits, right.bits),
            node: Node::Binary(op, Box::new([left, right])),
            range: Interval { low: narrow(low)?, high: narrow(high)? },
        })
    }

    /// The raw values that can arise where more is known of the leaves than when the formula was made.
    ///
    /// # Errors
    /// See [`Misfit`]; none where the leaves' values are among those of before.
    pub fn range_over(&self, leaf: &impl Fn(&L) -> Interval) -> Result<Interval, Misfit> {
        let known = |inner: &Self| -> Result<Formula<()>, Misfit> {
            Ok(Formula::leaf((), inner.bits, inner.range_over(leaf)?))
        };
        let range = match &self.node {
            Node::Leaf(own) => leaf(own),
            Node::Constant(raw) => Interval { low: *raw, high: *raw },
            Node::Unary(op, inner) => Formula::unary(*op, known(inner)?).range,
            Node::Clip(inner, interval) => Formula::clip(known(inner)?, *interval).range,
            Node::Binary(op, sides) => {
                let [left, right] = sides.as_ref();
                let joined = Formula::binary(*op, known(left)?, known(right)?)?;
                decided(*op, &joined).unwrap_or(joined.range)
            }
        };
        // What an operation knows of its sides, as that a part is never more than the whole, still holds.
        let both = Interval { low: range.low.max(self.range.low), high: range.high.min(self.range.high) };
        Ok(if both.low <= both.high { both } else { range })
    }

    /// The raw value, given those of the leaves.
    pub fn value(&self, leaf: &impl Fn(&L) -> i64) -> i64 {
        match &self.node {
            Node::Leaf(own) => leaf(own),
            Node::Constant(raw) => *raw,
            Node::Unary(Unary::Abs, inner) => inner.value(leaf).wrapping_abs(),
            Node::Unary(Unary::Log2, inner) => log2(inner.value(leaf), inner.bits),
            Node::Clip(inner, interval) => inner.value(leaf).clamp(interval.low, interval.high),
            Node::Binary(op, sides) => {
                let [left, right] = sides.as_ref();
                apply(*op, shifts(*op, left.bits, right.bits), left.value(leaf), right.value(leaf))
            }
        }
    }
}

/// The answer of a comparison whose sides leave one.
fn decided(op: Binary, joined: &Formula<()>) -> Option<Interval> {
    let Node::Binary(_, sides) = &joined.node else { return None };
    let [left, right] = sides.as_ref();
    let shifts = shifts(op, left.bits, right.bits);
    let ends = |range: Interval, by: u8| (i128::from(range.low) << by, i128::from(range.high) << by);
    let (left, right) = (ends(left.range, shifts.left), ends(right.range, shifts.right));
    let answer = |holds: bool| Some(Interval { low: i64::from(holds), high: i64::from(holds) });
    match op {
        Binary::Less if left.1 < right.0 => answer(true),
        Binary::Less if left.0 >= right.1 => answer(false),
        Binary::Equal if left.1 < right.0 || right.1 < left.0 => answer(false),
        Binary::Equal if left == right && left.0 == left.1 => answer(true),
        Binary::Less
        | Binary::Equal
        | Binary::Add
        | Binary::Sub
        | Binary::Mul
        | Binary::Div
        | Binary::Rem
        | Binary::And
        | Binary::Or => None,
    }
}

/// Fraction bits of a result.
const fn result_bits(op: Binary, left: FractionBits, right: FractionBits) -> FractionBits {
    match op {
        Binary::Add | Binary::Sub | Binary::Mul | Binary::Rem => {
            if left.0 > right.0 {
                left
            } else {
                right
            }
        }
        Binary::Div => FRACTION,
        Binary::Less | Binary::Equal | Binary::And | Binary::Or => FractionBits(0),
    }
}

/// The shifts of an operation.
#[must_use]
pub fn shifts(op: Binary, left: FractionBits, right: FractionBits) -> Shifts {
    match op {
        Binary::Add | Binary::Sub | Binary::Rem | Binary::Less | Binary::Equal => {
            let common = left.0.max(right.0);
            Shifts { left: common - left.0, right: common - right.0, result: 0 }
        }
        Binary::And | Binary::Or => Shifts::default(),
        Binary::Mul => Shifts { result: left.0.min(right.0), ..Shifts::default() },
        // Operands have at most as many fraction bits as quotients.
        Binary::Div => Shifts { left: (FRACTION.0 + right.0).saturating_sub(left.0), ..Shifts::default() },
    }
}

fn apply(op: Binary, shifts: Shifts, left: i64, right: i64) -> i64 {
    let a = left.wrapping_shl(shifts.left.into());
    let b = right.wrapping_shl(shifts.right.into());
    match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Sub => a.wrapping_sub(b),
        Binary::Mul => a.wrapping_mul(b) >> shifts.result,
        Binary::Div => {
            // For a negative dividend `floor(a / b) = !(!a / b)`.
            let sign = a >> 63;
            let magnitude = (a ^ sign).cast_unsigned();
            magnitude.checked_div(b.cast_unsigned()).map_or(0, |quotient| quotient.cast_signed() ^ sign)
        }
        Binary::Rem => {
            // For a negative dividend, `-1 - a` leaves what is missing to the divisor, less 1.
            let sign = a >> 63;
            let magnitude = (a ^ sign).cast_unsigned();
            magnitude
                .checked_rem(b.cast_unsigned())
                .map_or(0, |rest| (rest.cast_signed() ^ sign).wrapping_add(b & sign))
        }
        Binary::And => a & b,
        Binary::Or => a | b,
        Binary::Less => a.wrapping_sub(b).cast_unsigned().wrapping_shr(63).cast_signed(),
        Binary::Equal => i64::from(a == b),
    }
}

/// `log2` of a raw value with 0 or 8 fraction bits, with 8 fraction bits; 0 for values below 1.
///
/// The integer part is the position of the highest bit. The mantissa, cut to 32 bits with the highest one set,
/// is squared 8 times; whenever the square reaches 2, the next fraction bit is 1 and the mantissa is halved.
/// Cutting makes the result at most `2^-8` smaller than `floor(256 * log2(value)) / 256` (measured in the tests
/// over all 16-bit values and at random).
#[must_use]
pub fn log2(raw: i64, bits: FractionBits) -> i64 {
    log2_steps(raw, bits.0, FRACTION.0)
}

/// The same with so many fraction bits in the result; one square for each.
#[must_use]
pub fn log2_steps(raw: i64, bits: u8, steps: u8) -> i64 {
    if raw < 1 << bits {
        return 0;
    }
    let highest = raw.cast_unsigned().ilog2();
    let mut mantissa = (raw.cast_unsigned() << (63 - highest)) >> 32;
    let mut fraction = 0;
    for _ in 0..steps {
        mantissa = (mantissa * mantissa) >> 31;
        let bit = mantissa >> 32;
        fraction = fraction << 1 | bit.cast_signed();
        mantissa >>= bit;
    }
    ((i64::from(highest) - i64::from(bits)) << steps) + fraction
}

#[cfg(test)]
mod tests;
