//! Reduced ordered binary decision diagrams over the bits of one word (Bryant, IEEE Transactions on Computers C-35
//! (8), 1986): functions are equal exactly when they have the same number.
//!
//! The highest bit is asked for first. Additions of constants, shifts, masks and tests of signs then have diagrams
//! whose size grows with the number of bits only.

use std::collections::HashMap;

/// A function of the bits of the word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Function(u32);

/// One bit of a word each, the lowest first.
pub(super) type Bits = [Function; 64];

/// Most nodes of all diagrams together.
const MOST_NODES: usize = 1 << 17;
/// Most pairs of functions that are joined.
const MOST_JOINS: usize = 1 << 20;

/// One question: what is the function where the bit is 0, and where it is 1?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Node {
    /// 63 less the bit, so that lesser ones are asked for first; 64 in the two constants.
    level: u8,
    low: Function,
    high: Function,
}

/// What two functions are joined by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Join {
    And,
    Or,
    Xor,
}

/// All diagrams.
pub(super) struct Diagrams {
    nodes: Vec<Node>,
    known: HashMap<Node, Function>,
    joined: HashMap<(Join, Function, Function), Function>,
}

impl Function {
    pub(super) const NEVER: Self = Self(0);
    pub(super) const ALWAYS: Self = Self(1);

    pub(super) const fn of(value: bool) -> Self {
        if value { Self::ALWAYS } else { Self::NEVER }
    }
}

impl Diagrams {
    pub(super) fn new() -> Self {
        let constant = |function| Node { level: 64, low: function, high: function };
        Self {
            nodes: vec![constant(Function::NEVER), constant(Function::ALWAYS)],
            known: HashMap::new(),
            joined: HashMap::new(),
        }
    }

    /// Whether there are more nodes than any post-operation needs: results mean nothing any more.
    pub(super) fn overflown(&self) -> bool {
        self.nodes.len() >= MOST_NODES || self.joined.len() >= MOST_JOINS
    }

    /// What has been done so far.
    pub(super) fn work(&self) -> usize {
        self.nodes.len() + self.joined.len()
    }

    /// A bit of the word itself.
    pub(super) fn bit(&mut self, bit: u8) -> Function {
        self.make(Node { level: 63 - bit.min(63), low: Function::NEVER, high: Function::ALWAYS })
    }

    /// The bits of a number.
    pub(super) fn constant(value: u64) -> Bits {
        std::array::from_fn(|bit| Function::of(value >> bit & 1 == 1))
    }

    pub(super) fn and(&mut self, a: Function, b: Function) -> Function {
        self.join(Join::And, a, b)
    }

    pub(super) fn or(&mut self, a: Function, b: Function) -> Function {
        self.join(Join::Or, a, b)
    }

    pub(super) fn xor(&mut self, a: Function, b: Function) -> Function {
        self.join(Join::Xor, a, b)
    }

    pub(super) fn not(&mut self, a: Function) -> Function {
        self.xor(a, Function::ALWAYS)
    }

    /// `flag ? then : otherwise`.
    pub(super) fn choose(&mut self, flag: Function, then: Function, otherwise: Function) -> Function {
        let differ = self.xor(then, otherwise);
        let change = self.and(flag, differ);
        self.xor(otherwise, change)
    }

    /// The same for every bit.
    pub(super) fn choose_all(&mut self, flag: Function, then: &Bits, otherwise: &Bits) -> Bits {
        self.zip(then, otherwise, |own, one, other| own.choose(flag, one, other))
    }

    /// Joins bit by bit.
    pub(super) fn zip(
        &mut self,
        a: &Bits,
        b: &Bits,
        mut join: impl FnMut(&mut Self, Function, Function) -> Function,
    ) -> Bits {
        let mut out = [Function::NEVER; 64];
        for ((out, &a), &b) in out.iter_mut().zip(a).zip(b) {
            *out = join(self, a, b);
        }
        out
    }

    /// `a + b`, or `a - b`.
    pub(super) fn add(&mut self, a: &Bits, b: &Bits, negated: bool) -> Bits {
        let mut carry = Function::of(negated);
        let flip = Function::of(negated);
        self.zip(a, b, |own, a, b| {
            let b = own.xor(b, flip);
            let differ = own.xor(a, b);
            let sum = own.xor(differ, carry);
            let both = own.and(a, b);
            let passed = own.and(differ, carry);
            carry = own.or(both, passed);
            sum
        })
    }

    /// `a * factor`, as sums and differences of shifted numbers.
    pub(super) fn scale(&mut self, a: &Bits, factor: u64) -> Bits {
        let mut product = [Function::NEVER; 64];
        // In the non-adjacent form no two neighbouring digits are set: 2^k - 1 takes two steps.
        let (mut rest, mut shift) = (u128::from(factor), 0);
        while rest != 0 && shift < 64 {
            if rest & 1 == 1 {
                let below = rest & 3 == 3;
                let shifted = shl(a, shift);
                product = self.add(&product, &shifted, below);
                rest = if below { rest + 1 } else { rest - 1 };
            }
            rest >>= 1;
            shift += 1;
        }
        product
    }

    /// `a < b` as signed numbers.
    pub(super) fn less(&mut self, a: &Bits, b: &Bits) -> Function {
        let mut less = Function::NEVER;
        for (bit, (&a, &b)) in a.iter().zip(b).enumerate() {
            let differ = self.xor(a, b);
            // Of numbers whose signs differ, the negative one is less.
            less = self.choose(differ, if bit == 63 { a } else { b }, less);
        }
        less
    }

    fn node(&self, function: Function) -> Node {
        let constant = Node { level: 64, low: Function::NEVER, high: Function::NEVER };
        self.nodes.get(function.0 as usize).copied().unwrap_or(constant)
    }

    fn make(&mut self, node: Node) -> Function {
        if node.low == node.high {
            return node.low;
        }
        if let Some(&function) = self.known.get(&node) {
            return function;
        }
        if self.overflown() {
            return Function::NEVER;
        }
        let function = Function(u32::try_from(self.nodes.len()).unwrap_or(0));
        self.nodes.push(node);
        self.known.insert(node, function);
        function
    }

    fn join(&mut self, join: Join, a: Function, b: Function) -> Function {
        let (a, b) = (a.min(b), a.max(b));
        match (join, a, b) {
            (Join::And, Function::NEVER, _) => return Function::NEVER,
            (Join::And, Function::ALWAYS, b) | (Join::Or | Join::Xor, Function::NEVER, b) => return b,
            (Join::Or, Function::ALWAYS, _) => return Function::ALWAYS,
            (Join::And | Join::Or, a, b) if a == b => return a,
            (Join::Xor, a, b) if a == b => return Function::NEVER,
            (Join::And | Join::Or | Join::Xor, _, _) => {}
        }
        if let Some(&function) = self.joined.get(&(join, a, b)) {
            return function;
        }
        if self.overflown() {
            return Function::NEVER;
        }
        // A diagram is no deeper than the word is wide.
        let (one, other) = (self.node(a), self.node(b));
        let level = one.level.min(other.level);
        let parts = |node: Node, whole: Function| {
            if node.level == level { (node.low, node.high) } else { (whole, whole) }
        };
        let ((a0, a1), (b0, b1)) = (parts(one, a), parts(other, b));
        let low = self.join(join, a0, b0);
        let high = self.join(join, a1, b1);
        let function = self.make(Node { level, low, high });
        self.joined.insert((join, a, b), function);
        function
    }
}

/// `a << count`.
pub(super) fn shl(a: &Bits, count: usize) -> Bits {
    std::array::from_fn(|bit| {
        bit.checked_sub(count).and_then(|from| a.get(from)).copied().unwrap_or(Function::NEVER)
    })
}

/// `a >> count`, filled with `fill`.
pub(super) fn shr(a: &Bits, count: usize, fill: Function) -> Bits {
    std::array::from_fn(|bit| a.get(bit + count).copied().unwrap_or(fill))
}

#[cfg(test)]
impl Diagrams {
    /// What a function is for a word.
    pub(super) fn holds(&self, function: Function, word: u64) -> bool {
        let mut at = function;
        loop {
            let node = self.node(at);
            match 63u8.checked_sub(node.level) {
                None => return at == Function::ALWAYS,
                Some(bit) => at = if word >> bit & 1 == 1 { node.high } else { node.low },
            }
        }
    }

    /// Number of nodes of all functions so far.
    pub(super) fn size(&self) -> usize {
        self.nodes.len()
    }
}
