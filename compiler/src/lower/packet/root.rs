//! `nn_std` and `nn_var`: standard deviations and variances, with 128-bit division and square roots.
//!
//! The formulas are those of [`crate::ir::flow::eval`]. Division of 128 by 64 bits is Knuth's algorithm D
//! with two 32-bit digits (The Art of Computer Programming, volume 2, 4.3.1); roots are Newton's iteration
//! from above, which in integers falls until it reaches the floor of the root or one more.

use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, Cond, Label};
use crate::ir::flow::{Expr, FlowProgram, Width};
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::{FrameLimit, VReg};

/// `nn_std(n, sum, squares_low, squares_high, divisor)`: the raw value with 8 fraction bits.
pub(super) const FUNCTION: &str = "nn_std";

/// `nn_var`: the same without the root.
pub(super) const VARIANCE: &str = "nn_var";

/// `nn_divide(high, low, divisor)`: the quotient of 128 by 64 bits, where it fits 64.
const DIVIDE: &str = "nn_divide";

/// Newton's steps from a start less than twice the root. The relative error is at most 1, then 1/4, 1/40,
/// 1/3280, 2^-24.4, 2^-49.8: four steps end below one unit for roots up to 2^24, which those of lengths are.
const STEPS: usize = 4;
/// The same for roots up to 2^49, which those of times are.
const WIDE_STEPS: usize = 5;

/// A 128-bit number in two registers.
#[derive(Clone, Copy)]
pub(super) struct Wide {
    pub(super) low: VReg,
    pub(super) high: VReg,
}

/// The function. Variances of 64-bit sums of squares (of lengths) stay below 2^48 when scaled, so their roots
/// need 64 bits only.
pub(super) fn function(program: &FlowProgram) -> Result<Function, LowerError> {
    let wide = super::features::leaves(program).any(|leaf| match leaf {
        Expr::Std { squares, .. } => program.slot(squares).width == Width::W128,
        Expr::Load(_)
        | Expr::Field(_)
        | Expr::Mean { .. }
        | Expr::Duration { .. }
        | Expr::Span { .. }
        | Expr::Var { .. }
        | Expr::Ewma(_)
        | Expr::Distinct { .. }
        | Expr::Rate { .. } => false,
    });
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Scalar; 5]);
    let (zero, narrow) = (b.label(), b.label());
    let scaled = scaled(&mut b, zero, narrow, 16);
    if wide {
        b.jump(Cond::Eq, scaled.high, 0, narrow);
        let root = wide_root(&mut b, scaled);
        b.ret(root);
    }
    b.bind(narrow);
    let root = root(&mut b, scaled.low, if wide { WIDE_STEPS } else { STEPS });
    b.ret(root);
    b.bind(zero);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::ROOT))
}

/// The function of variances, which fit 62 bits.
pub(super) fn variance() -> Result<Function, LowerError> {
    let mut b = Builder::new(VARIANCE, ".text", &[Parameter::Scalar; 5]);
    let (zero, narrow) = (b.label(), b.label());
    let scaled = scaled(&mut b, zero, narrow, 8);
    b.bind(narrow);
    b.ret(scaled.low);
    b.bind(zero);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::ROOT))
}

/// `floor(2^bits * (n * squares - sum²) / divisor)` of the function's parameters. Goes to `zero` without samples, or
/// where the sums do not belong together; to `narrow` where the result is in the low word alone.
fn scaled(b: &mut Builder, zero: Label, narrow: Label, bits: i32) -> Wide {
    let n = b.parameter(0);
    let sum = b.parameter(1);
    let squares = Wide { low: b.parameter(2), high: b.parameter(3) };
    let divisor = b.parameter(4);
    b.jump(Cond::Eq, divisor, 0, zero);

    // n * squares - sum², or 0 where that is negative. Both are below 2^127.
    let numerator = product(b, n, squares.low);
    b.mul(squares.high, n);
    b.add(numerator.high, squares.high);
    let square = product(b, sum, sum);
    subtract(b, numerator, square);
    b.jump(Cond::Slt, numerator.high, 0, zero);

    // At once where the product fits 64 bits: flows that are not very
    // long, or whose lengths hardly vary.
    let scaled = Wide { low: b.fresh(), high: b.fresh() };
    let long = b.label();
    // One test of both words: the verifier then knows neither of them where paths meet.
    let above = b.compute(AluOp::Rsh, numerator.low, 64 - bits);
    b.or(above, numerator.high);
    b.jump(Cond::Ne, above, 0, long);
    b.mov(scaled.low, numerator.low);
    b.lsh(scaled.low, bits);
    b.div(scaled.low, divisor);
    b.goto(narrow);
    b.bind(long);
    scale(b, numerator, divisor, scaled, bits);
    scaled
}

/// `2^bits * (numerator / divisor) + 2^bits * (numerator % divisor) / divisor`, with 128-bit numbers.
fn scale(b: &mut Builder, numerator: Wide, divisor: VReg, scaled: Wide, bits: i32) {
    let high = b.compute(AluOp::Div, numerator.high, divisor);
    b.modulo(numerator.high, divisor);
    let (low, rest) = divide(b, numerator, divisor);
    b.mov(scaled.low, low);
    b.lsh(scaled.low, bits);
    b.mov(scaled.high, high);
    b.lsh(scaled.high, bits);
    b.rsh(low, 64 - bits);
    b.or(scaled.high, low);
    let rest = Wide { high: b.compute(AluOp::Rsh, rest, 64 - bits), low: b.compute(AluOp::Lsh, rest, bits) };
    let (fraction, _) = divide(b, rest, divisor);
    b.add(scaled.low, fraction);
}

/// `left -= right`, in two's complement.
fn subtract(b: &mut Builder, left: Wide, right: Wide) {
    let enough = b.label();
    b.sub(left.high, right.high);
    b.jump(Cond::Ge, left.low, right.low, enough);
    b.sub(left.high, 1);
    b.bind(enough);
    b.sub(left.low, right.low);
}

/// The low 32 bits.
fn low_half(b: &mut Builder, value: VReg) -> VReg {
    let half = b.compute(AluOp::Lsh, value, 32);
    b.rsh(half, 32);
    half
}

/// `left * right`, all 128 bits.
pub(super) fn product(b: &mut Builder, left: VReg, right: VReg) -> Wide {
    let (l0, r0) = (low_half(b, left), low_half(b, right));
    let (l1, r1) = (b.compute(AluOp::Rsh, left, 32), b.compute(AluOp::Rsh, right, 32));
    // The middle column: each term is below 2^64 - 2^33, so one carry from the low product fits.
    let carry = b.compute(AluOp::Mul, l0, r0);
    b.rsh(carry, 32);
    let first = b.compute(AluOp::Mul, l1, r0);
    b.add(first, carry);
    let second = b.compute(AluOp::Mul, l0, r1);
    let first_low = low_half(b, first);
    b.add(second, first_low);
    let high = b.compute(AluOp::Mul, l1, r1);
    b.rsh(first, 32);
    b.add(high, first);
    b.rsh(second, 32);
    b.add(high, second);
    Wide { low: b.compute(AluOp::Mul, left, right), high }
}

/// `dividend / divisor` and the remainder, where the dividend's high word is below the divisor.
pub(super) fn divide(b: &mut Builder, dividend: Wide, divisor: VReg) -> (VReg, VReg) {
    let quotient = b.call_function(DIVIDE, &[dividend.high, dividend.low, divisor]);
    // Below the divisor, so its low 64 bits are all of it.
    let product = b.compute(AluOp::Mul, quotient, divisor);
    let remainder = b.compute(AluOp::Sub, dividend.low, product);
    (quotient, remainder)
}

/// `nn_divide(high, low, divisor)`: a function of its own, so that the verifier walks it once.
pub(super) fn division() -> Result<Function, LowerError> {
    let mut b = Builder::new(DIVIDE, ".text", &[Parameter::Scalar; 3]);
    let dividend = Wide { high: b.parameter(0), low: b.parameter(1) };
    let divisor = b.parameter(2);
    let long = b.label();
    b.jump(Cond::Ne, dividend.high, 0, long);
    b.div(dividend.low, divisor);
    b.ret(dividend.low);
    b.bind(long);
    // Shift both so that the divisor's top bit is set.
    let shift = leading_zeros(&mut b, divisor);
    let d = b.compute(AluOp::Lsh, divisor, shift);
    let top = b.compute(AluOp::Lsh, dividend.high, shift);
    // low >> (64 - shift), where a shift by 64 must give 0.
    let spill = b.compute(AluOp::Rsh, dividend.low, 1);
    let back = b.constant(63);
    b.sub(back, shift);
    b.rsh(spill, back);
    b.or(top, spill);
    let low = b.compute(AluOp::Lsh, dividend.low, shift);
    let (d1, d0) = (b.compute(AluOp::Rsh, d, 32), low_half(&mut b, d));
    let high_digit = b.compute(AluOp::Rsh, low, 32);
    let low_digit = low_half(&mut b, low);
    let q1 = digit(&mut b, top, high_digit, d1, d0);
    let rest = partial_remainder(&mut b, top, high_digit, q1, d);
    let q0 = digit(&mut b, rest, low_digit, d1, d0);
    let quotient = b.compute(AluOp::Lsh, q1, 32);
    b.add(quotient, q0);
    b.ret(quotient);
    b.finish(FrameLimit::Share(super::frame::DIVIDE))
}

/// One 32-bit digit of the quotient `(high * 2^32 + next) / (d1 * 2^32 + d0)`, where high is below the divisor.
/// The estimate is at most `2^32 + 1`, so its product with `d0` fits 64 bits, and at most two too large.
fn digit(b: &mut Builder, high: VReg, next: VReg, d1: VReg, d0: VReg) -> VReg {
    let q = b.compute(AluOp::Div, high, d1);
    let r = b.compute(AluOp::Mod, high, d1);
    let done = b.label();
    for correction in [1, 2] {
        let product = b.compute(AluOp::Mul, q, d0);
        let bound = b.compute(AluOp::Lsh, r, 32);
        b.or(bound, next);
        b.jump(Cond::Le, product, bound, done);
        b.sub(q, 1);
        if correction == 1 {
            b.add(r, d1);
            let past = b.compute(AluOp::Rsh, r, 32);
            b.jump(Cond::Ne, past, 0, done);
        }
    }
    b.bind(done);
    q
}

/// `high * 2^32 + next - q * d`, which fits 64 bits.
fn partial_remainder(b: &mut Builder, high: VReg, next: VReg, q: VReg, d: VReg) -> VReg {
    let rest = b.compute(AluOp::Lsh, high, 32);
    b.add(rest, next);
    let product = b.compute(AluOp::Mul, q, d);
    b.sub(rest, product);
    rest
}

/// Zero bits above the highest set one; 63 for 0 and 1. Without a branch: with six, the verifier would walk
/// what follows up to 64 times.
pub(super) fn leading_zeros(b: &mut Builder, value: VReg) -> VReg {
    let zeros = b.constant(63);
    let rest = b.copy(value);
    for step in [5, 4, 3, 2, 1, 0] {
        let upper = b.compute(AluOp::Rsh, rest, 1 << step);
        // 2^step where something is left, else 0: it is below 2^63, so its negative has the top bit. A mask of
        // the sign would do as well, but newer verifiers walk both of its values.
        b.neg(upper);
        b.rsh(upper, 63);
        b.lsh(upper, step);
        b.rsh(rest, upper);
        b.sub(zeros, upper);
    }
    zeros
}

/// Appends so many binary digits of the logarithm to `result`, its whole part: the squares of
/// `crate::ir::flow::formula::log2_steps`. `zeros` are the value's [`leading_zeros`].
pub(super) fn log2_digits(b: &mut Builder, value: VReg, zeros: VReg, result: VReg, digits: u8) {
    let mantissa = b.compute(AluOp::Lsh, value, zeros);
    b.rsh(mantissa, 32);
    for _ in 0..digits {
        let factor = b.copy(mantissa);
        b.mul(mantissa, factor);
        b.rsh(mantissa, 31);
        let bit = b.compute(AluOp::Rsh, mantissa, 32);
        b.lsh(result, 1);
        b.add(result, bit);
        b.rsh(mantissa, bit);
    }
}

/// `2^ceil(bits / 2)`, at least the root of a number of so many bits and less than twice it.
fn start(b: &mut Builder, bits: VReg) -> VReg {
    b.add(bits, 1);
    b.rsh(bits, 1);
    let start = b.constant(1);
    b.lsh(start, bits);
    start
}

/// Number of bits up to the highest set one, at least 1.
fn bit_length(b: &mut Builder, value: VReg) -> VReg {
    let zeros = leading_zeros(b, value);
    let bits = b.constant(64);
    b.sub(bits, zeros);
    bits
}

/// `floor(sqrt(value))` of a number below 2^62, in so many steps; overwrites the number.
fn root(b: &mut Builder, value: VReg, steps: usize) -> VReg {
    let bits = bit_length(b, value);
    let x = start(b, bits);
    for _ in 0..steps {
        let quotient = b.compute(AluOp::Div, value, x);
        b.add(x, quotient);
        b.rsh(x, 1);
    }
    // One less where the square is above the value; both are below 2^63.
    let square = b.compute(AluOp::Mul, x, x);
    b.sub(value, square);
    b.arsh(value, 63);
    b.add(x, value);
    x
}

/// `floor(sqrt(value))` of a number of 65 to 124 bits; overwrites the number.
fn wide_root(b: &mut Builder, value: Wide) -> VReg {
    let bits = bit_length(b, value.high);
    b.add(bits, 64);
    let x = start(b, bits);
    for _ in 0..WIDE_STEPS {
        // The root is above the high word, so the quotient fits.
        let (quotient, _) = divide(b, value, x);
        b.add(x, quotient);
        b.rsh(x, 1);
    }
    // One less where the square is above the value; both are below 2^127.
    let square = product(b, x, x);
    subtract(b, value, square);
    b.arsh(value.high, 63);
    b.add(x, value.high);
    x
}
