//! The powers against floating point, and the sum against the softmax.

use super::*;

/// The error of the polynomial that `docs/numerics.md` proves, in units of [`ONE`], before the shift.
const POLYNOMIAL_ERROR: f64 = 259.0;

#[test]
fn coefficients_are_those_of_the_taylor_polynomial() {
    let mut wanted = 2f64.powi(31) / 2f64.sqrt();
    for (k, coefficient) in (1u32..).zip(COEFFICIENTS) {
        assert_eq!(coefficient, wanted.round() as i64);
        wanted *= -std::f64::consts::LN_2 / f64::from(k);
    }
}

#[test]
fn powers_are_within_the_proved_error() {
    let mut worst = 0.0f64;
    // An odd stride meets fractions of every kind; the ends are among them.
    for exponent in (0..ONE).step_by(1021).chain([1, ONE / 2, ONE - 1]) {
        let exact = (1.0 - exponent as f64 / ONE as f64).exp2() * ONE as f64;
        worst = worst.max((power(exponent) as f64 - exact).abs());
        for whole in [1i64, 2, 17, 31, 32, 63] {
            assert_eq!(power(exponent + whole * ONE), power(exponent) >> whole);
        }
    }
    assert!(worst <= POLYNOMIAL_ERROR, "{worst}");
    assert!(worst > POLYNOMIAL_ERROR / 4.0, "the bound could be tighter: {worst}");
    assert_eq!(power(TOP - 1), 0);
}

#[test]
fn equal_leads_at_the_limit_reach_it() {
    // One other class at y = 0 and the others infinitely far behind: p is exactly t.
    let lead = Lead { low: -1, high: 33, drop: 0, multiplier: 1 << 54, offset: 34 << 54 };
    assert_eq!(lead.exponent(0), ONE);
    assert!(sum(&[0, 0, -1000], 0, &lead).unwrap() <= ONE);
    assert!(sum(&[0, 1, -1000], 0, &lead).unwrap() > ONE);
    assert!(sum(&[0, 0, -30], 0, &lead).unwrap() <= ONE + 3);
    assert_eq!(sum(&[0, 0, 0], 3, &lead), None);
}

#[test]
fn leads_beyond_the_limits_count_as_the_limits() {
    let lead = Lead { low: -5, high: 100, drop: 1, multiplier: 1 << 50, offset: 60 << 54 };
    assert_eq!(lead.exponent(i64::MIN / 2), lead.exponent(-5));
    assert_eq!(lead.exponent(i64::MAX / 2), lead.exponent(100));
    assert_eq!(lead.exponent(100), 60 << 30);
    assert!(lead.exponent(98) < lead.exponent(100));
}

#[test]
fn only_sums_about_the_limit_are_uncertain() {
    for (distance, near) in [(0, true), (ERROR + 2, true), (ERROR + 3, false)] {
        assert_eq!((within_error(ONE + distance, 3), within_error(ONE - distance, 3)), (near, near));
    }
}
