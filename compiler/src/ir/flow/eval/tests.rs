//! Means and standard deviations against their definitions, over the full range of what records can hold.

use proptest::prelude::*;

use super::super::{GAP_LIMIT_NANOS, SAMPLE_LIMIT, SAMPLE_LIMIT_NANOS};
use super::*;

/// `a * b` as (high, low) words of 128 bits.
fn multiply(a: u128, b: u128) -> (u128, u128) {
    let (ah, al) = (a >> 64, a & u128::from(u64::MAX));
    let (bh, bl) = (b >> 64, b & u128::from(u64::MAX));
    let low = al * bl;
    let (middle, carry) = (ah * bl).overflowing_add(al * bh);
    let (low, carried) = low.overflowing_add(middle << 64);
    (ah * bh + (middle >> 64) + (u128::from(carry) << 64) + u128::from(carried), low)
}

/// Whether `root` is the floor of `256 * sqrt(numerator / divisor)`, by comparing squares in 256 bits.
fn is_root(root: u64, numerator: u128, divisor: u128) -> bool {
    let square = |r: u128| multiply(r * r, divisor);
    let scaled = multiply(numerator, 65_536);
    let root = u128::from(root);
    square(root) <= scaled && square(root + 1) > scaled
}

/// Counts, sums and sums of squares that some samples below `limit` have: two values, so many of each.
fn sums(ones: u64, a: u64, others: u64, b: u64) -> (u64, u64, u128) {
    let [ones, a, others, b] = [ones, a, others, b].map(u128::from);
    ((ones + others) as u64, (ones * a + others * b) as u64, ones * a * a + others * b * b)
}

proptest! {
    #[test]
    fn std_is_exact(
        nanos: bool,
        ones in 1_u64..SAMPLE_LIMIT / 2,
        others in 1_u64..SAMPLE_LIMIT / 2,
        a in 0..=GAP_LIMIT_NANOS,
        b in 0..=GAP_LIMIT_NANOS,
        shrink in 0_u32..40,
    ) {
        let (ones, others, a, b) = if nanos {
            (ones % (SAMPLE_LIMIT_NANOS / 2) + 1, others % (SAMPLE_LIMIT_NANOS / 2) + 1, a >> shrink, b >> shrink)
        } else {
            ((ones >> shrink) + 1, (others >> (shrink / 2)) + 1, a >> 10, b >> 10)
        };
        let (n, sum, squares) = sums(ones, a, others, b);
        let wide = u128::from(n);
        // Over two values the numerator is the product of their counts and their squared distance.
        let numerator = u128::from(ones) * u128::from(others) * u128::from(a.abs_diff(b)).pow(2);
        prop_assert!(is_root(std(n, sum, squares, false), numerator, wide * (wide - 1)));
        prop_assert!(is_root(std(n, sum, squares, true), numerator, wide * wide));
        let mean = mean(sum, n);
        prop_assert_eq!(u128::from(mean), u128::from(sum) * 256 / wide);
    }
}

#[test]
fn too_few_samples_give_zero() {
    assert_eq!(mean(0, 0), 0);
    assert_eq!(std(0, 0, 0, false), 0);
    assert_eq!(std(0, 0, 0, true), 0);
    assert_eq!(std(1, 9, 81, false), 0);
    assert_eq!(std(1, 9, 81, true), 0);
    assert_eq!(std(2, 9, 81, false), 1629);
}

#[test]
fn durations_are_cut_and_never_negative() {
    assert_eq!(duration(5, 1_000_000_005, TimeUnit::Millis), 1000);
    assert_eq!(duration(0, 1_999_999, TimeUnit::Millis), 1);
    assert_eq!(duration(7, 6, TimeUnit::Nanos), 0);
    assert_eq!(duration(0, 1 << 60, TimeUnit::Nanos), ranges::DURATION_LIMIT.cast_unsigned());
    assert_eq!(duration(0, 1 << 60, TimeUnit::Seconds), (1 << 60) / 1_000_000_000);
}
