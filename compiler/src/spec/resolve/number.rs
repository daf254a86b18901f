//! Decimal numbers as written to exact integers; no floating point is involved.

use crate::spec::ast::Number;

/// Why a number cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misfit {
    /// More decimals than the value can hold.
    Fraction,
    /// Outside of what 63 bits hold.
    TooLarge,
}

/// The number times `scale`, exactly.
pub(super) fn scaled(number: &Number, scale: u128) -> Result<i128, Misfit> {
    match parts(number, scale)? {
        (quotient, true) => Ok(quotient),
        (_, false) => Err(Misfit::Fraction),
    }
}

/// The number times `scale`, rounded down; exact when `scale` is 1.
pub(super) fn floor(number: &Number, scale: u128) -> Result<i128, Misfit> {
    match parts(number, scale)? {
        (_, false) if scale == 1 => Err(Misfit::Fraction),
        (quotient, false) if number.negative => Ok(quotient - 1),
        (quotient, _) => Ok(quotient),
    }
}

/// The number times `scale`, rounded up; exact when `scale` is 1.
pub(super) fn ceil(number: &Number, scale: u128) -> Result<i128, Misfit> {
    match parts(number, scale)? {
        (_, false) if scale == 1 => Err(Misfit::Fraction),
        (quotient, false) if !number.negative => Ok(quotient + 1),
        (quotient, _) => Ok(quotient),
    }
}

/// The product rounded towards zero, and whether that is exact.
fn parts(number: &Number, scale: u128) -> Result<(i128, bool), Misfit> {
    let (whole, fraction) = number.text.split_once('.').unwrap_or((&number.text, ""));
    let fraction = fraction.trim_end_matches('0');
    let digits = format!("{whole}{fraction}");
    let value: u128 = digits.parse().map_err(|_| Misfit::TooLarge)?;
    let value = value.checked_mul(scale).ok_or(Misfit::TooLarge)?;
    let places = u32::try_from(fraction.len()).map_err(|_| Misfit::TooLarge)?;
    let divisor = 10_u128.checked_pow(places).ok_or(Misfit::TooLarge)?;
    // Far below the limits of the type, so that a step by one cannot overflow.
    let magnitude = i64::try_from(value / divisor).map(i128::from).map_err(|_| Misfit::TooLarge)?;
    Ok((if number.negative { -magnitude } else { magnitude }, value.is_multiple_of(divisor)))
}

/// A whole number.
pub(super) fn whole(number: &Number) -> Result<i128, Misfit> {
    scaled(number, 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(text: &str) -> Number {
        Number { text: text.to_owned(), negative: false, span: 0..0 }
    }

    #[test]
    fn decimals_scale_exactly() {
        assert_eq!(scaled(&number("0.95"), 1_000_000), Ok(950_000));
        assert_eq!(scaled(&number("0.5"), 256), Ok(128));
        assert_eq!(scaled(&number("1.50"), 2), Ok(3));
        assert_eq!(scaled(&number("0.1"), 256), Err(Misfit::Fraction));
        assert_eq!(whole(&number("12.0")), Ok(12));
        assert_eq!(whole(&number("12.5")), Err(Misfit::Fraction));
    }

    #[test]
    fn huge_numbers_are_refused() {
        assert_eq!(whole(&number(&"9".repeat(60))), Err(Misfit::TooLarge));
        assert_eq!(scaled(&number(&format!("0.{}1", "0".repeat(60))), 1), Err(Misfit::TooLarge));
    }

    #[test]
    fn bounds_round_outwards() {
        assert_eq!(floor(&number("0.1"), 256), Ok(25));
        assert_eq!(ceil(&number("0.1"), 256), Ok(26));
        assert_eq!(ceil(&number("0.1"), 1), Err(Misfit::Fraction));
        let negative = Number { negative: true, ..number("0.1") };
        assert_eq!(floor(&negative, 256), Ok(-26));
        assert_eq!(ceil(&negative, 256), Ok(-25));
    }
}
