//! Exact arithmetic on the numbers of a model: every float is an integer times a power of two.

use std::cmp::Ordering;

/// `mantissa * 2^exponent`. Operations give `None` where 127 bits do not hold the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dyadic {
    /// Odd, or zero.
    mantissa: i128,
    exponent: i32,
}

/// Bits of a float's fraction, and what its exponent is biased by together with them.
const FRACTION: u32 = 52;
const BIAS: i32 = 1075;

impl Dyadic {
    /// A finite float.
    pub(super) fn of(value: f64) -> Self {
        let bits = value.to_bits();
        let fraction = (bits & ((1 << FRACTION) - 1)) as i128;
        let exponent = ((bits >> FRACTION) & 0x7ff) as i32;
        let (magnitude, exponent) =
            if exponent == 0 { (fraction, 1 - BIAS) } else { (fraction | 1 << FRACTION, exponent - BIAS) };
        Self::reduced(if value < 0.0 { -magnitude } else { magnitude }, exponent)
    }

    pub(super) fn integer(value: i64) -> Self {
        Self::reduced(i128::from(value), 0)
    }

    fn reduced(mantissa: i128, exponent: i32) -> Self {
        match mantissa {
            0 => Self { mantissa, exponent: 0 },
            _ => {
                let zeros = mantissa.trailing_zeros();
                Self { mantissa: mantissa >> zeros, exponent: exponent + zeros as i32 }
            }
        }
    }

    pub(super) fn times(self, other: Self) -> Option<Self> {
        let mantissa = self.mantissa.checked_mul(other.mantissa)?;
        Some(Self::reduced(mantissa, self.exponent + other.exponent))
    }

    pub(super) fn plus(self, other: Self) -> Option<Self> {
        if self.mantissa == 0 {
            return Some(other);
        }
        if other.mantissa == 0 {
            return Some(self);
        }
        let exponent = self.exponent.min(other.exponent);
        let aligned = |one: Self| {
            let shift = (one.exponent - exponent).unsigned_abs();
            // The sign bit and one for the sum stay free.
            (one.mantissa.unsigned_abs().leading_zeros() > shift + 1).then(|| one.mantissa << shift)
        };
        Some(Self::reduced(aligned(self)? + aligned(other)?, exponent))
    }

    pub(super) const fn negated(self) -> Self {
        Self { mantissa: -self.mantissa, exponent: self.exponent }
    }

    pub(super) fn sign(self) -> Ordering {
        self.mantissa.cmp(&0)
    }

    /// Rounded to a float.
    pub(super) fn value(self) -> f64 {
        self.mantissa as f64 * f64::from(self.exponent).exp2()
    }
}

/// The largest number of which all of `values` are whole multiples, and these; `None` where a multiple is
/// beyond `most`. Nothing but zeros are multiples of 1.
pub(super) fn multiples(values: &[f64], most: i64) -> Option<(f64, Vec<i64>)> {
    let exact: Vec<Dyadic> = values.iter().map(|&value| Dyadic::of(value)).collect();
    let Some(exponent) = exact.iter().filter(|one| one.mantissa != 0).map(|one| one.exponent).min() else {
        return Some((1.0, vec![0; values.len()]));
    };
    let aligned: Vec<i128> = exact
        .iter()
        .map(|one| {
            let shift = if one.mantissa == 0 { 0 } else { (one.exponent - exponent).unsigned_abs() };
            (one.mantissa.unsigned_abs().leading_zeros() > shift + 1).then(|| one.mantissa << shift)
        })
        .collect::<Option<_>>()?;
    let divisor = aligned.iter().fold(0u128, |divisor, value| gcd(divisor, value.unsigned_abs()));
    let divisor = i128::try_from(divisor).ok()?;
    let whole = aligned
        .iter()
        .map(|value| i64::try_from(value / divisor).ok().filter(|whole| whole.abs() <= most))
        .collect::<Option<_>>()?;
    Some((divisor as f64 * f64::from(exponent).exp2(), whole))
}

fn gcd(mut a: u128, mut b: u128) -> u128 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_is_exact() {
        for (a, b) in [(0.1, 3.0), (-1.5, 0.75), (1e-300, 7.0), (0.0, -2.0), (5e-324, 1.0)] {
            assert_eq!(Dyadic::of(a).value(), a);
            let product = Dyadic::of(a).times(Dyadic::of(b)).unwrap();
            assert_eq!(product.value(), a * b, "{a} * {b}");
        }
        let third = 1.0 / 3.0;
        let sum = Dyadic::of(third).plus(Dyadic::of(-third)).unwrap();
        assert_eq!(sum.sign(), Ordering::Equal);
        // In floats the small one vanishes.
        let sum = Dyadic::of(1e12).plus(Dyadic::of(1e-8)).unwrap().plus(Dyadic::of(-1e12)).unwrap();
        assert_eq!(sum.sign(), Ordering::Greater);
        assert_eq!(Dyadic::of(1e300).plus(Dyadic::of(1e-300)), None);
    }

    #[test]
    fn scales_of_quantised_weights_are_found() {
        let scale = f64::from(0.007_123_f32);
        let weights = [-127i64, 0, 3, 64, 127];
        let (found, whole) = multiples(&weights.map(|w| w as f64 * scale), 1 << 15).unwrap();
        assert_eq!((found, whole), (scale, weights.to_vec()));
        assert_eq!(multiples(&[0.0, 0.0], 7), Some((1.0, vec![0, 0])));
        assert_eq!(multiples(&[0.1, 0.2, 0.300_000_1], 1 << 31), None);
    }
}
