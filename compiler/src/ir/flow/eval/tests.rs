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

proptest! {
    #[test]
    fn var_is_exact(
        ones in 1_u64..SAMPLE_LIMIT / 2,
        others in 1_u64..SAMPLE_LIMIT / 2,
        a in 0..=65_575_u64,
        b in 0..=65_575_u64,
        shrink in 0_u32..31,
    ) {
        let (ones, others) = ((ones >> shrink) + 1, (others >> (shrink / 2)) + 1);
        let (n, sum, squares) = sums(ones, a, others, b);
        let wide = u128::from(n);
        let scaled = 256 * u128::from(ones) * u128::from(others) * u128::from(a.abs_diff(b)).pow(2);
        for (population, divisor) in [(false, wide * (wide - 1)), (true, wide * wide)] {
            let raw = u128::from(var(n, sum, squares, population));
            prop_assert!(raw * divisor <= scaled && scaled < (raw + 1) * divisor);
            prop_assert!(raw <= u128::from(ranges::variance(65_575, population).cast_unsigned()));
        }
    }

    #[test]
    fn rate_is_exact_or_cut(sum in 0_u64..1 << 63, nanos in 1_u64..1 << 53, shrink in 0_u32..53) {
        let nanos = (nanos >> shrink).max(1);
        let raw = u128::from(rate(sum, nanos));
        let scaled = u128::from(sum) * 256_000_000_000;
        let nanos = u128::from(nanos);
        prop_assert!(raw * nanos <= scaled);
        prop_assert!((raw + 1) * nanos > scaled || raw == (1 << 53) - 1);
    }

    /// Against the exact mean, a whole number of units of `2^-(16 + weight * samples)`.
    #[test]
    fn weighted_means_lose_less_than_two_units(
        weight in 1_u8..=8,
        samples in proptest::collection::vec(0..=GAP_LIMIT_NANOS >> 16, 1..8),
    ) {
        let mut state = record::NONE_64;
        let mut exact: Option<(i128, u32)> = None;
        for &sample in &samples {
            state = ewma(state, sample, Weight(weight));
            let aim = i128::from(sample) << 16;
            // e + (aim - e) / 2^weight, with `weight` more fraction bits.
            exact = Some(match exact {
                None => (aim, 0),
                Some((e, bits)) => ((e << weight) + ((aim << bits) - e), bits + u32::from(weight)),
            });
            let (e, bits) = exact.unwrap();
            let lost = e - (i128::from(state) << bits);
            prop_assert!((0..1_i128 << (u32::from(weight) + bits)).contains(&lost));
            // As a raw value with 8 fraction bits.
            let raw = i128::from(state >> 8);
            prop_assert!(raw << (bits + 8) <= e && (raw + 2) << (bits + 8) > e);
        }
    }
}

#[test]
fn too_few_samples_give_zero() {
    assert_eq!(var(0, 0, 0, false), 0);
    assert_eq!(var(0, 0, 0, true), 0);
    assert_eq!(var(1, 9, 81, false), 0);
    assert_eq!(var(1, 9, 81, true), 0);
    assert_eq!(var(2, 9, 81, false), 10_368);
    assert_eq!(rate(9, 0), 0);
    assert_eq!(rate(u64::MAX >> 1, 1), (1 << 53) - 1);
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
