//! Terms: what registers and memory hold, each written once and known by its number.
//!
//! Sums are in `sum`; what operations on bits are rewritten to is in `rules`. Every term comes with what is known of
//! its value: an interval and the bits that may be set.

use std::collections::HashMap;
use std::rc::Rc;

use super::sum::{Factors, Sum, Term};
use crate::bpf::Size;
use crate::ir::Interval;

/// The number of a term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Id(u32);

impl Id {
    /// The number 1; stands in front of a single factor.
    pub(super) const ONE: Self = Self(0);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a term is. Numbers are 64 bits wide.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Node {
    Constant(u64),
    /// The second argument of `nn_infer`.
    Active,
    /// A raw feature.
    Feature(u32),
    /// A value of an operation of the network, as the IR defines it.
    Value {
        op: u32,
        index: u32,
    },
    /// The sum of an output's base and the leaves of so many of its trees, as the IR defines it.
    Partial {
        output: u32,
        trees: u32,
    },
    /// A number in the parameter slot at a fixed offset, extended by zeros.
    Parameter {
        offset: u32,
        size: Size,
    },
    /// The same at an offset that is computed.
    At {
        offset: Id,
        size: Size,
    },
    /// The value at a computed offset of scratch among those that trees compare.
    Picked {
        offset: Id,
    },
    /// A sum that is not a single term and no constant.
    Sum {
        constant: u64,
        terms: Rc<[Term]>,
    },
    And(Id, Id),
    Or(Id, Id),
    Xor(Id, Id),
    /// Shift to the right that fills with zeros.
    Shr(Id, u32),
    /// Shift to the right that fills with the sign.
    Sar(Id, u32),
    /// The same by the low six bits of a term.
    SarBy(Id, Id),
    /// The second where the first is 1, the third where it is 0; it is never anything else.
    Choice(Id, Id, Id),
    /// 1 where the number is below zero, else 0.
    Negative(Id),
    /// 1 where the first is less than the second as signed numbers, else 0.
    Less(Id, Id),
}

/// What is known of a term's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Facts {
    /// As a signed number.
    pub(super) range: Interval,
    /// Bits that may be set.
    pub(super) bits: u64,
}

impl Facts {
    pub(super) const ANY: Self = Self { range: Interval { low: i64::MIN, high: i64::MAX }, bits: u64::MAX };
    const BOOL: Self = Self { range: Interval { low: 0, high: 1 }, bits: 1 };

    const fn exactly(value: u64) -> Self {
        let signed = value.cast_signed();
        Self { range: Interval { low: signed, high: signed }, bits: value }
    }

    /// From an interval.
    fn within(range: Interval) -> Self {
        Self { range, bits: u64::MAX }.sharpened()
    }

    /// From bits.
    fn of_bits(bits: u64) -> Self {
        Self { bits, ..Self::ANY }.sharpened()
    }

    /// Each half as narrow as the other one makes it.
    fn sharpened(self) -> Self {
        let Self { mut range, mut bits } = self;
        if range.low >= 0 {
            let unused = range.high.cast_unsigned().leading_zeros();
            bits &= u64::MAX.checked_shr(unused).unwrap_or(0);
        }
        if bits >> 63 == 0 {
            range.low = range.low.max(0);
            range.high = range.high.min(bits.cast_signed());
        }
        Self { range, bits }
    }
}

/// Most terms of a sum whose interval is worth knowing.
const RANGED: usize = 64;

/// All terms.
pub(super) struct Terms {
    nodes: Vec<Node>,
    facts: Vec<Facts>,
    known: HashMap<Node, Id>,
    /// What may still be spent: one for about each step of anything.
    fuel: u64,
    /// Most terms.
    most: usize,
}

/// Why something cannot be proved.
pub(super) type Reason = String;

impl Terms {
    pub(super) fn new(fuel: u64, most: usize) -> Self {
        let mut terms = Self { nodes: Vec::new(), facts: Vec::new(), known: HashMap::new(), fuel, most };
        // The first number is that of the constant 1.
        terms.constant(1);
        terms
    }

    /// Accounts for work.
    ///
    /// # Errors
    ///
    /// When too much has been done already.
    pub(super) fn spend(&mut self, work: usize) -> Result<(), Reason> {
        match self.fuel.checked_sub(work as u64).filter(|_| self.nodes.len() <= self.most) {
            Some(rest) => {
                self.fuel = rest;
                Ok(())
            }
            None => Err("takes more steps than the code of this network can need".to_owned()),
        }
    }

    pub(super) fn node(&self, id: Id) -> &Node {
        // Numbers are given by this table only.
        self.nodes.get(id.index()).unwrap_or(&Node::Active)
    }

    pub(super) fn facts(&self, id: Id) -> Facts {
        self.facts.get(id.index()).copied().unwrap_or(Facts::ANY)
    }

    pub(super) fn constant(&mut self, value: u64) -> Id {
        self.intern(Node::Constant(value))
    }

    pub(super) fn as_constant(&self, id: Id) -> Option<u64> {
        if let Node::Constant(value) = self.node(id) { Some(*value) } else { None }
    }

    /// Whether the value is 0 or 1.
    pub(super) fn is_bool(&self, id: Id) -> bool {
        let Interval { low, high } = self.facts(id).range;
        low >= 0 && high <= 1
    }

    /// A term of which no more is known than its kind says.
    pub(super) fn intern(&mut self, node: Node) -> Id {
        self.intern_within(node, Facts::ANY.range)
    }

    /// A term with an interval that its value is known to lie in. What is known of a term that was there before stays.
    pub(super) fn intern_within(&mut self, node: Node, range: Interval) -> Id {
        if let Some(&id) = self.known.get(&node) {
            return id;
        }
        let mut facts = self.derived(&node);
        facts.range.low = facts.range.low.max(range.low);
        facts.range.high = facts.range.high.min(range.high);
        let id = Id(u32::try_from(self.nodes.len()).unwrap_or(u32::MAX));
        self.nodes.push(node.clone());
        self.facts.push(facts.sharpened());
        self.known.insert(node, id);
        id
    }

    /// The term that a sum is.
    pub(super) fn close(&mut self, sum: &Sum) -> Id {
        if !sum.is_settled() {
            let mut sum = sum.clone();
            sum.settle();
            return self.close(&sum);
        }
        match (sum.constant, sum.terms()) {
            (constant, []) => self.constant(constant),
            (0, [Term { factors: (Id::ONE, id), coefficient: 1 }]) => *id,
            (constant, terms) => self.intern(Node::Sum { constant, terms: terms.into() }),
        }
    }

    /// The sum that a term is, of one term where it is none.
    pub(super) fn open(&self, id: Id) -> Sum {
        let node = self.node(id);
        if let Node::Sum { constant, terms } = node {
            return Sum::from_parts(*constant, terms);
        }
        if let Node::Constant(value) = node { Sum::constant(*value) } else { Sum::of(id) }
    }

    /// `left + factor * right`.
    pub(super) fn add(&mut self, left: Id, right: Id, factor: u64) -> Id {
        let mut sum = self.open(left);
        sum.add(&self.open(right), factor);
        self.close(&sum)
    }

    /// `left - right`.
    pub(super) fn sub(&mut self, left: Id, right: Id) -> Id {
        self.add(left, right, u64::MAX)
    }

    pub(super) fn add_constant(&mut self, id: Id, value: u64) -> Id {
        let mut sum = self.open(id);
        sum.add_constant(value);
        self.close(&sum)
    }

    pub(super) fn scale(&mut self, id: Id, factor: u64) -> Id {
        let mut sum = self.open(id);
        sum.scale(factor);
        self.close(&sum)
    }

    pub(super) fn mul(&mut self, left: Id, right: Id) -> Id {
        let product = self.product(&self.open(left), &self.open(right));
        self.close(&product)
    }

    /// The product of two sums: multiplied out where both are short and of single factors, else of the two as they
    /// are.
    pub(super) fn product(&mut self, left: &Sum, right: &Sum) -> Sum {
        if let Some(factor) = right.as_constant() {
            let mut product = left.clone();
            product.scale(factor);
            return product;
        }
        if left.as_constant().is_some() {
            return self.product(right, left);
        }
        let simple =
            |sum: &Sum| sum.terms().len() <= 3 && sum.terms().iter().all(|term| term.factors.0 == Id::ONE);
        if !simple(left) || !simple(right) {
            let (left, right) = (self.close(left), self.close(right));
            return Sum::product(left, right);
        }
        let mut product = Sum::constant(0);
        product.add(left, right.constant);
        for term in right.terms() {
            let (_, id) = term.factors;
            for other in left.terms() {
                let (_, factor) = other.factors;
                product.add(&Sum::product(factor, id), other.coefficient.wrapping_mul(term.coefficient));
            }
            product.add(&Sum::of(id), left.constant.wrapping_mul(term.coefficient));
        }
        product
    }

    /// What follows for a node from what is known of its parts.
    fn derived(&self, node: &Node) -> Facts {
        match node {
            Node::Constant(value) => Facts::exactly(*value),
            Node::Active
            | Node::Feature(_)
            | Node::Value { .. }
            | Node::Partial { .. }
            | Node::Picked { .. } => Facts::ANY,
            Node::Parameter { size, .. } | Node::At { size, .. } => Facts::of_bits(ones(*size)),
            Node::Sum { constant, terms } => self.of_sum(*constant, terms),
            Node::And(a, b) => Facts::of_bits(self.facts(*a).bits & self.facts(*b).bits),
            Node::Or(a, b) | Node::Xor(a, b) => Facts::of_bits(self.facts(*a).bits | self.facts(*b).bits),
            Node::Shr(a, count) => {
                let Facts { range, bits } = self.facts(*a);
                let shifted = Facts::of_bits(bits.checked_shr(*count).unwrap_or(0));
                if range.low < 0 {
                    return shifted;
                }
                let range = Interval { low: range.low >> count, high: range.high >> count };
                Facts { range, ..shifted }.sharpened()
            }
            Node::Sar(a, count) => {
                let Facts { range, .. } = self.facts(*a);
                Facts::within(Interval { low: range.low >> count, high: range.high >> count })
            }
            Node::SarBy(a, _) => {
                let Facts { range, .. } = self.facts(*a);
                Facts::within(Interval { low: range.low.min(0), high: range.high.max(0) })
            }
            Node::Choice(_, a, b) => {
                let (one, other) = (self.facts(*a), self.facts(*b));
                let low = one.range.low.min(other.range.low);
                let high = one.range.high.max(other.range.high);
                Facts { range: Interval { low, high }, bits: one.bits | other.bits }.sharpened()
            }
            Node::Negative(_) | Node::Less(_, _) => Facts::BOOL,
        }
    }

    fn of_sum(&self, constant: u64, terms: &[Term]) -> Facts {
        if terms.len() > RANGED {
            return Facts::ANY;
        }
        let range = self.range_of_sum(constant, terms).unwrap_or(Facts::ANY.range);
        let bits = self.bits_of_sum(constant, terms).unwrap_or(u64::MAX);
        // A multiple of a power of two has zeros below it.
        let zeros = terms.iter().fold(constant, |all, term| all | term.coefficient).trailing_zeros();
        let bits = bits & u64::MAX.checked_shl(zeros).unwrap_or(0);
        Facts { range, bits }.sharpened()
    }

    /// The exact interval; `None` when the sum may leave 64 bits.
    fn range_of_sum(&self, constant: u64, terms: &[Term]) -> Option<Interval> {
        let start = i128::from(constant.cast_signed());
        let (mut low, mut high) = (start, start);
        for term in terms {
            let (one, other) = self.range_of_product(term.factors)?;
            let coefficient = i128::from(term.coefficient.cast_signed());
            let (one, other) = (one.checked_mul(coefficient)?, other.checked_mul(coefficient)?);
            low = low.checked_add(one.min(other))?;
            high = high.checked_add(one.max(other))?;
        }
        Some(Interval { low: i64::try_from(low).ok()?, high: i64::try_from(high).ok()? })
    }

    fn range_of_product(&self, (one, other): Factors) -> Option<(i128, i128)> {
        let (one, other) = (self.facts(one).range, self.facts(other).range);
        let ends = |a: i64, b: i64| i128::from(a) * i128::from(b);
        let products = [
            ends(one.low, other.low),
            ends(one.low, other.high),
            ends(one.high, other.low),
            ends(one.high, other.high),
        ];
        Some((products.into_iter().min()?, products.into_iter().max()?))
    }

    /// Bits of a sum whose parts share none, so that nothing is carried.
    fn bits_of_sum(&self, constant: u64, terms: &[Term]) -> Option<u64> {
        terms.iter().try_fold(constant, |bits, term| {
            let (first, id) = term.factors;
            if first != Id::ONE || !term.coefficient.is_power_of_two() {
                return None;
            }
            let shift = term.coefficient.trailing_zeros();
            let own = self.facts(id).bits;
            let whole = own.leading_zeros() >= shift;
            let own = own << shift;
            (whole && bits & own == 0).then_some(bits | own)
        })
    }
}

/// All ones in a memory access.
pub(super) const fn ones(size: Size) -> u64 {
    match size {
        Size::B => 0xff,
        Size::H => 0xffff,
        Size::W => 0xffff_ffff,
        Size::DW => u64::MAX,
    }
}
