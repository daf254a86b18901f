//! `nn_rate`: a sum per second, as [`crate::ir::flow::eval::rate`] says.

use super::root::{Wide, divide, product};
use crate::bpf::Cond;
use crate::bpf::module::{Function, Parameter};
use crate::ir::flow::{eval, ranges};
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::FrameLimit;

/// `nn_rate(sum, nanoseconds)`: the raw value with 8 fraction bits.
pub(super) const FUNCTION: &str = "nn_rate";

pub(super) fn function() -> Result<Function, LowerError> {
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Scalar; 2]);
    let (sum, nanos) = (b.parameter(0), b.parameter(1));
    let (zero, limit) = (b.label(), b.label());
    b.jump(Cond::Eq, nanos, 0, zero);
    let scale = b.constant(eval::RATE_SCALE.cast_signed());
    let Wide { low, high } = product(&mut b, sum, scale);
    // Otherwise the quotient has more than 64 bits.
    b.jump(Cond::Ge, high, nanos, limit);
    let (quotient, _) = divide(&mut b, Wide { low, high }, nanos);
    let greatest = b.constant(ranges::RATE_LIMIT);
    b.jump(Cond::Gt, quotient, greatest, limit);
    b.ret(quotient);
    b.bind(limit);
    let greatest = b.constant(ranges::RATE_LIMIT);
    b.ret(greatest);
    b.bind(zero);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::ROOT))
}
