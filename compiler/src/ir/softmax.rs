//! Probability thresholds over more than two classes: the sum of powers of two that stands for a softmax.
//!
//! `p >= t` for class `k` means `Σ_{j≠k} exp(z_j - z_k) <= 1/t - 1`. Divided by the right side, each term is a power
//! `2^-y_j` of an exponent that grows with the lead of the class over another, and the limit is 1 for every `t`.
//! `docs/numerics.md` derives the formula and proves [`ERROR`]. How a threshold becomes a [`Lead`] is the business
//! of quantisation.

use serde::{Deserialize, Serialize};

/// Fraction bits of exponents and of powers: [`ONE`] stands for 1.
pub const BITS: u32 = 30;
/// The limit of the sum.
pub const ONE: i64 = 1 << BITS;
/// Bits that are dropped after the multiplication by [`Lead::multiplier`].
pub const SHIFT: u32 = 24;
/// Exponents lie in `0..TOP`, so that their whole part is a shift.
pub const TOP: i64 = 64 << BITS;
/// `2^31 * 2^(-1/2) * (-ln 2)^k / k!`, rounded: the Taylor polynomial of `2^(1-f)` around `f = 1/2`, in units of
/// [`ONE`].
pub const COEFFICIENTS: [i64; 7] =
    [1_518_500_250, -1_052_544_167, 364_784_011, -84_283_003, 14_605_131, -2_024_701, 233_903];
/// A sum of `n` powers is within `ERROR + n` of the exact one when that is about [`ONE`].
pub const ERROR: i64 = 512;

/// How far a class leads another, as an exponent: all five numbers are parameters.
///
/// An exponent `e` stands for `y = e / 2^30 - 1`, so that a class that is behind by as much as makes the sum exceed
/// the limit has the exponent 0, whose power is 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lead {
    /// Raw leads below count as this, and so do those above `high`.
    pub low: i64,
    pub high: i64,
    /// Bits of the lead that are dropped before the multiplication, at most 62.
    pub drop: u8,
    pub multiplier: i64,
    /// The exponent of `high`, before [`SHIFT`].
    pub offset: i64,
}

impl Lead {
    /// `(((clamp(lead, low, high) - high) >> drop) * multiplier + offset) >> SHIFT`.
    #[must_use]
    pub fn exponent(&self, lead: i64) -> i64 {
        let behind = lead.max(self.low).min(self.high).wrapping_sub(self.high) >> (self.drop & 63);
        behind.wrapping_mul(self.multiplier).wrapping_add(self.offset) >> SHIFT
    }
}

/// `2^(1 - exponent)`, both with [`BITS`] fraction bits: a polynomial of the fraction, shifted by the whole part.
#[must_use]
pub fn power(exponent: i64) -> i64 {
    let [first @ .., last] = COEFFICIENTS;
    let fraction = (exponent & (ONE - 1)) - ONE / 2;
    let polynomial = first.iter().rev().fold(last, |sum, c| (sum.wrapping_mul(fraction) >> BITS) + c);
    polynomial >> (exponent >> BITS & 63)
}

/// The sum of the powers of all leads of `class`; the rule fires when it is at most [`ONE`].
#[must_use]
pub fn sum(outputs: &[i64], class: u32, lead: &Lead) -> Option<i64> {
    let own = *outputs.get(class as usize)?;
    let others = (0u32..).zip(outputs).filter(|(other, _)| *other != class);
    Some(others.map(|(_, &z)| power(lead.exponent(own.wrapping_sub(z)))).sum())
}

/// Whether a sum over so many outputs is so near to the limit that the exact sum may lie on its other side.
#[must_use]
pub fn within_error(sum: i64, outputs: usize) -> bool {
    sum.abs_diff(ONE) <= ERROR.unsigned_abs() + outputs.saturating_sub(1) as u64
}

#[cfg(test)]
#[path = "softmax_tests.rs"]
mod tests;
