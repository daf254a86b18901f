//! Arithmetic between running values, as [`crate::ir::flow::formula`] says; no branches.

use super::path::Path;
use super::root::{leading_zeros, log2_digits};
use crate::bpf::{AluOp, Operand};
use crate::ir::flow::Expr;
use crate::ir::flow::formula::{Binary, FRACTION, Formula, Node, Shifts, Unary, shifts};
use crate::ir::{FractionBits, Interval};
use crate::lower::code::VReg;

/// Values that may wait for others before the order of sides is chosen to have few of them.
const FEW: u32 = 3;

/// Values that are held at the same time while a formula is computed, when it is computed in the best order:
/// nine at most, as many as halving 256 operands takes.
fn registers(formula: &Formula<Expr>) -> u32 {
    match &formula.node {
        Node::Leaf(_) | Node::Constant(_) => 1,
        Node::Unary(_, inner) | Node::Clip(inner, _) => registers(inner),
        Node::Binary(_, sides) => {
            let [left, right] = sides.each_ref().map(registers);
            left.max(right) + u32::from(left == right)
        }
    }
}

impl Path<'_> {
    /// The raw value of a formula, in a register of its own.
    pub(super) fn formula(&mut self, record: VReg, formula: &Formula<Expr>) -> VReg {
        self.waited_for(record, formula, 0)
    }

    /// The value of a formula while so many others wait for it.
    fn waited_for(&mut self, record: VReg, formula: &Formula<Expr>, waiting: u32) -> VReg {
        match &formula.node {
            Node::Leaf(leaf) => self.leaf(record, *leaf),
            Node::Constant(raw) => self.b.constant(*raw),
            Node::Unary(op, inner) => {
                let value = self.waited_for(record, inner, waiting);
                match op {
                    Unary::Abs => self.abs(value),
                    Unary::Log2 => self.log2(value, inner.bits),
                }
            }
            Node::Clip(inner, interval) => {
                let value = self.waited_for(record, inner, waiting);
                self.clip(value, *interval)
            }
            Node::Binary(op, sides) => {
                let [left, right] = sides.as_ref();
                let shifts = shifts(*op, left.bits, right.bits);
                // The side that needs more registers first, so that few values wait for the other side: sums that
                // nest in brackets would fill the frame.
                let (left, right) = if waiting >= FEW && registers(right) > registers(left) {
                    let right = self.waited_for(record, right, waiting);
                    (self.waited_for(record, left, waiting + 1), right)
                } else {
                    let left = self.waited_for(record, left, waiting);
                    (left, self.waited_for(record, right, waiting + 1))
                };
                self.binary(*op, shifts, left, right)
            }
        }
    }

    fn binary(&mut self, op: Binary, shifts: Shifts, left: VReg, right: VReg) -> VReg {
        for (value, shift) in [(left, shifts.left), (right, shifts.right)] {
            if shift > 0 {
                self.b.lsh(value, i32::from(shift));
            }
        }
        match op {
            Binary::Add => self.b.add(left, right),
            Binary::Sub => self.b.sub(left, right),
            Binary::Mul => {
                self.b.mul(left, right);
                if shifts.result > 0 {
                    self.b.arsh(left, i32::from(shifts.result));
                }
            }
            Binary::Div => return self.quotient(left, right),
            Binary::Rem => return self.remainder(left, right),
            Binary::And => self.b.and(left, right),
            Binary::Or => self.b.or(left, right),
            Binary::Less => {
                self.b.sub(left, right);
                self.b.rsh(left, 63);
            }
            Binary::Equal => {
                self.b.sub(left, right);
                let same = self.zero(left);
                self.b.mov(left, same);
            }
        }
        left
    }

    /// Rounded down; 0 for a divisor of 0. The machine divides without signs and by 0 to 0.
    fn quotient(&mut self, left: VReg, right: VReg) -> VReg {
        let sign = self.b.compute(AluOp::Arsh, left, 63);
        self.b.xor(left, sign);
        self.b.div(left, right);
        self.b.xor(left, sign);
        // By 0, a negative dividend has become -1.
        let nothing = self.zero(right);
        self.b.sub(nothing, 1);
        self.b.and(left, nothing);
        left
    }

    /// Never negative; 0 for a divisor of 0. The machine takes remainders without signs and leaves a dividend
    /// that is divided by 0.
    fn remainder(&mut self, left: VReg, right: VReg) -> VReg {
        let sign = self.b.compute(AluOp::Arsh, left, 63);
        self.b.xor(left, sign);
        self.b.modulo(left, right);
        self.b.xor(left, sign);
        // A mask of the sign would do as well, but newer verifiers walk both of its values.
        self.b.neg(sign);
        self.b.mul(sign, right);
        self.b.add(left, sign);
        let nothing = self.zero(right);
        self.b.sub(nothing, 1);
        self.b.and(left, nothing);
        left
    }

    /// 1 for 0, else 0.
    fn zero(&mut self, value: VReg) -> VReg {
        let negative = self.b.copy(value);
        self.b.neg(negative);
        self.b.or(negative, value);
        self.b.rsh(negative, 63);
        self.b.xor(negative, 1);
        negative
    }

    fn abs(&mut self, value: VReg) -> VReg {
        let sign = self.b.compute(AluOp::Arsh, value, 63);
        self.b.xor(value, sign);
        self.b.sub(value, sign);
        value
    }

    /// Differences from the ends fit 64 bits: both lie in the range of the value, which 62 bits and a sign hold, or
    /// 63 bits without one.
    pub(super) fn clip(&mut self, value: VReg, interval: Interval) -> VReg {
        for (end, above) in [(interval.low, false), (interval.high, true)] {
            let end = self.b.constant(end);
            // All ones where the value is on the wrong side of the end.
            let difference = if above {
                self.b.compute(AluOp::Sub, end, value)
            } else {
                self.b.compute(AluOp::Sub, value, end)
            };
            let outside = self.b.compute(AluOp::Arsh, difference, 63);
            self.b.and(difference, outside);
            if above {
                self.b.add(value, difference);
            } else {
                self.b.sub(value, difference);
            }
        }
        value
    }

    /// Of what is below 1 everything but the last step is computed for nothing.
    fn log2(&mut self, value: VReg, bits: FractionBits) -> VReg {
        let one: Operand<VReg> = Operand::Imm(1 << bits.0);
        let below = self.b.compute(AluOp::Sub, value, one);
        self.b.arsh(below, 63);

        let zeros = leading_zeros(&mut self.b, value);
        let result = self.b.constant(63 - i64::from(bits.0));
        self.b.sub(result, zeros);
        log2_digits(&mut self.b, value, zeros, result, FRACTION.0);
        self.b.xor(below, -1);
        self.b.and(result, below);
        result
    }
}
