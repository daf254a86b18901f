//! A hard swish in integers: in which steps its argument is rounded, and in which its result.
//!
//! With steps of `3 / n` for the argument, kinks are whole numbers and the function of `x` steps is
//! `x * clamp(x + n, 0, 2 n)` times `3 / (2 n^2)`. Results in steps of `2^shift` times that are its product, shifted:
//! each is the step nearest to the function of the rounded argument, halves up.

use crate::ir::{Gate, Interval};

/// `n` as a power of two: at most this, and less where arguments are so large that a product would leave 62 bits.
const MOST_KINK_BITS: f64 = 24.0;
const LEAST_KINK_BITS: f64 = 6.0;
/// Bits of a product.
const PRODUCT_BITS: f64 = 61.0;
/// Where the parabola ends, on either side, and the greatest distance of the function from zero below.
const KINK: f64 = 3.0;
const DEPTH: f64 = 0.375;
/// Bits of a result, about.
pub(super) const MOST_BITS: u8 = 24;
/// A sum is no finer than so many parts of a step of the argument.
pub(super) const PARTS: f64 = 16.0;

/// The steps of a hard swish of arguments up to some number.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct GatePlan {
    kink_bits: u8,
    shift: u8,
    /// Of the argument.
    pub(super) step: f64,
    /// The arguments that there are; below them the function is zero.
    pub(super) limits: Interval,
    /// Of the result.
    pub(super) unit: f64,
}

/// `n` as a power of two, for arguments up to `top`.
fn kink_bits(top: f64) -> f64 {
    // The argument has that many bits and those of `top / 3`, the other factor one more.
    let reach = (top / KINK).max(1.0).log2().ceil();
    ((PRODUCT_BITS - 2.0 - reach) / 2.0).floor().min(MOST_KINK_BITS)
}

/// About how fine sums are at most when none is larger than `top`.
pub(super) fn part(top: f64) -> f64 {
    KINK / kink_bits(top).exp2() / PARTS
}

impl GatePlan {
    /// For arguments up to `top`, above zero, and results of about so many bits; `None` where `top` is too large.
    pub(super) fn new(top: f64, bits: u8) -> Option<Self> {
        let kink_bits = kink_bits(top);
        if !(top.is_finite() && top > 0.0 && kink_bits >= LEAST_KINK_BITS) {
            return None;
        }
        let kink = kink_bits.exp2();
        let step = KINK / kink;
        let finest = KINK / (2.0 * kink * kink);
        let wanted = (top.max(0.0) + DEPTH) / f64::from(bits).exp2();
        let shift = (wanted / finest).log2().floor().clamp(0.0, 62.0);
        Some(Self {
            kink_bits: kink_bits as u8,
            shift: shift as u8,
            step,
            limits: Interval { low: -(kink as i64), high: (top / step).ceil() as i64 },
            unit: finest * shift.exp2(),
        })
    }

    /// The operation for the first `mapped` of `width` values.
    pub(super) const fn operation(&self, width: usize, mapped: usize) -> Gate {
        let (start, shift) = (1 << self.kink_bits, self.shift);
        let offset = if shift == 0 { 0 } else { 1 << (shift - 1) };
        Gate { width, mapped, start, most: 2 * start, offset, shift }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three times the hard swish of `v = 3 x / n` in units of `3 / (2 n^2)`, which is whole: by its definition,
    /// `v * clamp(v / 6 + 1/2, 0, 1)` is `3 x * clamp(3 x + 3 n, 0, 6 n) / (6 n^2)`.
    fn exact(x: i128, bits: u32) -> i128 {
        let n = 1i128 << bits;
        x * (3 * x + 3 * n).clamp(0, 6 * n)
    }

    #[test]
    fn every_result_is_the_nearest_step_of_the_exact_value() {
        let mut cases = 0;
        for (top, bits) in
            [(0.4, 6), (2.0, 16), (3.0, 9), (4.5, 12), (90.0, 24), (1e4, 20), (3e7, 24), (1e-9, 8)]
        {
            let plan = GatePlan::new(top, bits).unwrap();
            let gate = plan.operation(1, 1);
            let Interval { low, high } = plan.limits;
            let spread = |index: i128| {
                let width = i128::from(high) - i128::from(low);
                (i128::from(low) + index * width / 40_000) as i64
            };
            let kink = 1i64 << plan.kink_bits;
            let near = [low, -kink, -kink / 2, 0, kink, high].into_iter();
            let near = near.flat_map(|x| x.saturating_sub(70)..=x.saturating_add(70));
            for x in (0..=40_000).map(spread).chain(near).filter(|x| (low..=high).contains(x)) {
                let y = gate.result(x);
                // No farther than half a step, and a half goes up.
                let off = exact(i128::from(x), u32::from(plan.kink_bits)) - 3 * (i128::from(y) << plan.shift);
                let step = 3i128 << plan.shift;
                assert!((-step..step).contains(&(2 * off)), "{x} gives {y} for {plan:?}");
                cases += 1;
            }
            let function = crate::model::Function::HardSwish;
            for x in [low, low / 2, low / 7, 0, high / 5, high] {
                let real = function.apply(x as f64 * plan.step);
                let result = gate.result(x) as f64 * plan.unit;
                assert!((real - result).abs() <= plan.unit * 0.500_001, "{x}: {real} and {result}");
            }
        }
        assert!(cases > 300_000);
    }

    #[test]
    fn products_fit_and_results_are_as_fine_as_wanted() {
        for exponent in -40..=100 {
            let top = f64::from(exponent).exp2() * 1.3;
            let Some(plan) = GatePlan::new(top, 24) else {
                assert!(exponent > 45, "2^{exponent}");
                continue;
            };
            let gate = plan.operation(1, 1);
            let results = gate.accumulators(plan.limits).expect("products fit");
            assert!(results.high.checked_add(1).is_some() && plan.limits.high < 1 << 62);
            let wanted = (top + DEPTH) / 24f64.exp2();
            assert!(plan.unit <= wanted || plan.shift == 0, "{} beside {wanted}", plan.unit);
            assert!(plan.step <= top / 8.0 || exponent < 0, "{} of {top}", plan.step);
        }
        assert_eq!(GatePlan::new(f64::NAN, 8), None);
        assert_eq!(GatePlan::new(0.0, 8), None);
    }
}
