//! What operations on bits are rewritten to, so that equal values of network code become equal terms.
//!
//! Each rule is an identity of 64-bit numbers, given what is known of the operands; the tests evaluate both sides.
//!
//! | written | becomes |
//! |---|---|
//! | `x >>s 63` | `-negative(x)` |
//! | `x < 0` | `negative(x)` |
//! | `x & -b`, with `b` 0 or 1 | `b ? x : 0` |
//! | `x & (b - 1)` | `b ? 0 : x` |
//! | `x ^ (b ? y : 0)` | `b ? x ^ y : x` |
//! | `x ^ (x ^ y)` | `y` |
//! | sign of `d ^ ((x ^ y) & (x ^ d))` with `d = x - y` | `x < y` |
//! | `(x >>u (63 - k)) & 2^k` | `2^k * negative(x)` |
//! | `x \| y` without a common bit | `x + y` |
//! | `b ^ 1` | `1 - b` |

use super::sum::{Sum, Term};
use super::term::{Id, Node, Terms};

impl Terms {
    /// The bool `b` of `-b` (with true) or of `b - 1` (with false).
    fn mask_of(&self, id: Id) -> Option<(Id, bool)> {
        let Node::Sum { constant, terms } = self.node(id) else { return None };
        let [Term { factors: (Id::ONE, flag), coefficient }] = **terms else { return None };
        if !self.is_bool(flag) {
            return None;
        }
        match (*constant, coefficient) {
            (0, u64::MAX) => Some((flag, true)),
            (u64::MAX, 1) => Some((flag, false)),
            (_, _) => None,
        }
    }

    /// The bool `b` of `1 - b`.
    fn opposite(&self, id: Id) -> Option<Id> {
        let Node::Sum { constant: 1, terms } = self.node(id) else { return None };
        let [Term { factors: (Id::ONE, flag), coefficient: u64::MAX }] = **terms else { return None };
        self.is_bool(flag).then_some(flag)
    }

    pub(super) fn and(&mut self, left: Id, right: Id) -> Id {
        let (a, b) = self.in_order(left, right);
        if a == b {
            return a;
        }
        if let Some(mask) = self.as_constant(b) {
            return self.and_constant(a, mask);
        }
        for (value, mask) in [(a, b), (b, a)] {
            if let Some((flag, kept)) = self.mask_of(mask) {
                return self.gate(flag, kept, value);
            }
        }
        self.intern(Node::And(a, b))
    }

    fn and_constant(&mut self, a: Id, mask: u64) -> Id {
        if let Some(value) = self.as_constant(a) {
            return self.constant(value & mask);
        }
        let bits = self.facts(a).bits;
        if bits & !mask == 0 {
            return a;
        }
        if bits & mask == 0 {
            return self.constant(0);
        }
        if let Some((flag, kept)) = self.mask_of(a) {
            let mask = self.constant(mask);
            return self.gate(flag, kept, mask);
        }
        if let Node::And(inner, other) = *self.node(a)
            && let Some(first) = self.as_constant(other)
        {
            return self.and_constant(inner, first & mask);
        }
        if let Node::Shr(inner, count) = *self.node(a)
            && mask.is_power_of_two()
            && mask.trailing_zeros() + count == 63
        {
            let flag = self.negative(inner);
            return self.scale(flag, mask);
        }
        let mask = self.constant(mask);
        self.intern(Node::And(a, mask))
    }

    /// The value where the flag is `kept`, else 0.
    fn gate(&mut self, flag: Id, kept: bool, value: Id) -> Id {
        let zero = self.constant(0);
        if kept { self.choice(flag, value, zero) } else { self.choice(flag, zero, value) }
    }

    pub(super) fn or(&mut self, left: Id, right: Id) -> Id {
        let (a, b) = self.in_order(left, right);
        if a == b {
            return a;
        }
        if let (Some(a), Some(b)) = (self.as_constant(a), self.as_constant(b)) {
            return self.constant(a | b);
        }
        if self.facts(a).bits & self.facts(b).bits == 0 {
            return self.add(a, b, 1);
        }
        self.intern(Node::Or(a, b))
    }

    pub(super) fn xor(&mut self, left: Id, right: Id) -> Id {
        let (a, b) = self.in_order(left, right);
        if a == b {
            return self.constant(0);
        }
        if let Some(value) = self.as_constant(b) {
            if value == 0 {
                return a;
            }
            if let Some(other) = self.as_constant(a) {
                return self.constant(value ^ other);
            }
            if value == 1 && self.is_bool(a) {
                let one = self.constant(1);
                return self.sub(one, a);
            }
        }
        for (whole, part) in [(a, b), (b, a)] {
            if let Node::Xor(one, other) = *self.node(whole) {
                if one == part {
                    return other;
                }
                if other == part {
                    return one;
                }
                if let (Some(first), Some(second)) = (self.as_constant(other), self.as_constant(part)) {
                    let both = self.constant(first ^ second);
                    return self.xor(one, both);
                }
            }
        }
        for (changed, change) in [(a, b), (b, a)] {
            if let Node::Choice(flag, then, otherwise) = *self.node(change)
                && self.as_constant(otherwise) == Some(0)
            {
                let then = self.xor(changed, then);
                return self.choice(flag, then, changed);
            }
        }
        self.intern(Node::Xor(a, b))
    }

    /// `then` where `flag` is 1, `otherwise` where it is 0.
    pub(super) fn choice(&mut self, flag: Id, then: Id, otherwise: Id) -> Id {
        if then == otherwise {
            return then;
        }
        if let Some(flag) = self.as_constant(flag) {
            return if flag == 1 { then } else { otherwise };
        }
        if let Some(opposite) = self.opposite(flag) {
            return self.choice(opposite, otherwise, then);
        }
        if let (Some(one), Some(other)) = (self.as_constant(then), self.as_constant(otherwise)) {
            let mut sum = Sum::constant(other);
            sum.add(&self.open(flag), one.wrapping_sub(other));
            return self.close(&sum);
        }
        self.intern(Node::Choice(flag, then, otherwise))
    }

    /// 1 where the number is below zero.
    pub(super) fn negative(&mut self, a: Id) -> Id {
        let range = self.facts(a).range;
        if range.low >= 0 {
            return self.constant(0);
        }
        if range.high < 0 {
            return self.constant(1);
        }
        match self.comparison(a) {
            Some((left, right)) => self.less(left, right),
            None => self.intern(Node::Negative(a)),
        }
    }

    /// The two numbers whose comparison the sign of this term is.
    fn comparison(&mut self, a: Id) -> Option<(Id, Id)> {
        let Node::Xor(one, other) = *self.node(a) else { return None };
        for (difference, overflow) in [(one, other), (other, one)] {
            let Node::And(one, other) = *self.node(overflow) else { continue };
            for (differ, flipped) in [(one, other), (other, one)] {
                // `flipped` is to be `left ^ difference`.
                let left = self.xor(flipped, difference);
                let right = self.sub(left, difference);
                if self.xor(left, right) == differ && self.xor(left, difference) == flipped {
                    return Some((left, right));
                }
            }
        }
        None
    }

    /// 1 where `left < right` as signed numbers.
    pub(super) fn less(&mut self, left: Id, right: Id) -> Id {
        let (one, other) = (self.facts(left).range, self.facts(right).range);
        if one.high < other.low {
            return self.constant(1);
        }
        if one.low >= other.high || left == right {
            return self.constant(0);
        }
        // Without a difference there is nothing to overflow.
        if self.as_constant(right) == Some(0) {
            return self.negative(left);
        }
        self.intern(Node::Less(left, right))
    }

    /// `a << count`, with `count` below 64.
    pub(super) fn shl(&mut self, a: Id, count: u32) -> Id {
        self.scale(a, 1u64.checked_shl(count).unwrap_or(0))
    }

    /// `a >> count` filling with zeros, with `count` below 64.
    pub(super) fn shr(&mut self, a: Id, count: u32) -> Id {
        if count == 0 {
            return a;
        }
        if let Some(value) = self.as_constant(a) {
            return self.constant(value.checked_shr(count).unwrap_or(0));
        }
        if self.facts(a).bits.checked_shr(count).unwrap_or(0) == 0 {
            return self.constant(0);
        }
        if count == 63 {
            return self.negative(a);
        }
        if let Node::Shr(inner, first) = *self.node(a) {
            return match first + count {
                sum @ 0..64 => self.shr(inner, sum),
                _ => self.constant(0),
            };
        }
        self.intern(Node::Shr(a, count))
    }

    /// `a >> count` filling with the sign, with `count` below 64.
    pub(super) fn sar(&mut self, a: Id, count: u32) -> Id {
        if count == 0 {
            return a;
        }
        if let Some(value) = self.as_constant(a) {
            return self.constant((value.cast_signed() >> count.min(63)).cast_unsigned());
        }
        if self.facts(a).range.low >= 0 {
            return self.shr(a, count);
        }
        if count == 63 {
            let flag = self.negative(a);
            return self.scale(flag, u64::MAX);
        }
        if let Node::Sar(inner, first) = *self.node(a) {
            return self.sar(inner, (first + count).min(63));
        }
        self.intern(Node::Sar(a, count))
    }

    /// `a >> (count & 63)` filling with the sign.
    pub(super) fn sar_by(&mut self, a: Id, count: Id) -> Id {
        let low = self.and_constant(count, 63);
        match self.as_constant(low) {
            Some(count) => self.sar(a, u32::try_from(count).unwrap_or(0)),
            None => self.intern(Node::SarBy(a, low)),
        }
    }

    /// `max(a, 0)`, as code that may not branch writes it.
    pub(super) fn max_zero(&mut self, a: Id) -> Id {
        let flag = self.negative(a);
        self.gate(flag, false, a)
    }

    /// `min(a, 0)`.
    pub(super) fn min_zero(&mut self, a: Id) -> Id {
        let flag = self.negative(a);
        self.gate(flag, true, a)
    }

    /// Operands of an operation that does not care for their order: a constant last.
    fn in_order(&self, left: Id, right: Id) -> (Id, Id) {
        match (self.as_constant(left), self.as_constant(right)) {
            (Some(_), None) => (right, left),
            (None, Some(_)) => (left, right),
            (_, _) => (left.min(right), left.max(right)),
        }
    }
}
