//! Decimal text to raw fixed point and back, exactly.
//!
//! Reading rounds the exact decimal value times `2^fraction_bits` to the nearest integer, halves away from
//! zero, and saturates at the ends of 64 bits. Printing writes the exact value of a raw number, which reads
//! back as the same raw number.

use std::fmt;

use crate::ir::FractionBits;

/// Why a text is no raw value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotDecimal {
    Empty,
    NaN,
    Infinite,
    /// Anything else that is not `[+-]digits[.digits][e[+-]digits]`.
    Malformed,
}

/// Digits before the decimal point beyond which every 64-bit value saturates.
const MOST_INTEGER_DIGITS: i64 = 20;
/// Zeros behind the decimal point beyond which nothing is left at 63 fraction bits.
const MOST_LEADING_ZEROS: i64 = 25;
/// Exponents beyond this saturate or vanish whatever the digits of a line of text are.
const MOST_EXPONENT: i64 = 1 << 40;

/// Reads a decimal number, with blanks around it allowed.
///
/// # Errors
///
/// See [`NotDecimal`].
pub fn read(text: &str, fraction: FractionBits) -> Result<i64, NotDecimal> {
    let text = text.trim();
    if let Some(raw) = read_integer(text.as_bytes(), fraction) {
        return Ok(raw);
    }
    let (negative, digits) = match text.as_bytes() {
        [] => return Err(NotDecimal::Empty),
        [b'-', ..] => (true, text.get(1..).unwrap_or_default()),
        [b'+', ..] => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    let parts = Parts::split(digits).ok_or_else(|| reason(digits))?;
    let magnitude = parts.scaled(fraction);
    // 2^63 is in range only with a minus sign, and saturates otherwise.
    let raw = if negative { -i128::from(magnitude) } else { i128::from(magnitude) };
    Ok(raw.clamp(i128::from(i64::MIN), i128::from(i64::MAX)) as i64)
}

/// The common case: a short integer.
fn read_integer(text: &[u8], fraction: FractionBits) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', rest @ ..] => (true, rest),
        _ => (false, text),
    };
    if digits.is_empty() || digits.len() > 18 {
        return None;
    }
    let mut value = 0i64;
    for digit in digits {
        if !digit.is_ascii_digit() {
            return None;
        }
        value = value * 10 + i64::from(digit - b'0');
    }
    let factor = 1i64.checked_shl(u32::from(fraction.0)).filter(|factor| *factor > 0)?;
    let raw = value.checked_mul(factor)?;
    Some(if negative { -raw } else { raw })
}

fn reason(digits: &str) -> NotDecimal {
    match digits.to_ascii_lowercase().as_str() {
        "nan" | "na" | "n/a" | "null" => NotDecimal::NaN,
        "inf" | "infinity" => NotDecimal::Infinite,
        "" => NotDecimal::Malformed,
        _ => NotDecimal::Malformed,
    }
}

/// The digits of a number and where its point stands.
struct Parts {
    /// Values 0 to 9, without leading zeros.
    digits: Vec<u8>,
    /// How many of the digits stand before the point; negative for zeros behind it.
    point: i64,
}

impl Parts {
    fn split(text: &str) -> Option<Self> {
        let (mantissa, exponent) = match text.find(['e', 'E']) {
            Some(position) => (text.get(..position)?, exponent(text.get(position + 1..)?)?),
            None => (text, 0),
        };
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        if whole.is_empty() && fraction.is_empty() {
            return None;
        }
        let mut digits = Vec::with_capacity(mantissa.len());
        for byte in whole.bytes().chain(fraction.bytes()) {
            if !byte.is_ascii_digit() {
                return None;
            }
            digits.push(byte - b'0');
        }
        let zeros = digits.iter().take_while(|digit| **digit == 0).count();
        digits.drain(..zeros);
        let point = i64::try_from(whole.len()).ok()? - i64::try_from(zeros).ok()? + exponent;
        Some(Self { digits, point })
    }

    /// The number times `2^fraction`, rounded to nearest with halves up, at most 2^63.
    fn scaled(&self, fraction: FractionBits) -> u64 {
        const TOP: u64 = 1 << 63;
        if self.digits.is_empty() || self.point < -MOST_LEADING_ZEROS {
            return 0;
        }
        if self.point > MOST_INTEGER_DIGITS {
            return TOP;
        }
        let before = usize::try_from(self.point).unwrap_or(0);
        let zeros = usize::try_from(-self.point).unwrap_or(0);
        let whole = (0..before).fold(0u128, |value, position| {
            value * 10 + u128::from(self.digits.get(position).copied().unwrap_or(0))
        });
        let mut rest: Vec<u8> = vec![0; zeros];
        rest.extend(self.digits.iter().skip(before));
        // Doubling the decimal fraction carries one binary digit out at a time, exactly.
        let mut value = whole;
        for _ in 0..fraction.0 {
            value = (value * 2 + u128::from(double(&mut rest))).min(u128::from(TOP));
        }
        let up = rest.first().is_some_and(|digit| *digit >= 5);
        u64::try_from(value + u128::from(up)).unwrap_or(TOP).min(TOP)
    }
}

fn exponent(text: &str) -> Option<i64> {
    let (negative, digits) = match text.as_bytes() {
        [b'-', ..] => (true, text.get(1..)?),
        [b'+', ..] => (false, text.get(1..)?),
        _ => (false, text),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value =
        digits.bytes().fold(0i64, |value, byte| (value * 10 + i64::from(byte - b'0')).min(MOST_EXPONENT));
    Some(if negative { -value } else { value })
}

/// Doubles a decimal fraction in place; the digit that is carried out in front of the point is returned.
fn double(digits: &mut [u8]) -> u8 {
    let mut carry = 0;
    for digit in digits.iter_mut().rev() {
        let twice = *digit * 2 + carry;
        *digit = twice % 10;
        carry = twice / 10;
    }
    carry
}

/// Writes a raw value as the decimal number that it stands for, exactly and as short as that is possible.
#[derive(Debug, Clone, Copy)]
pub struct Decimal {
    pub raw: i64,
    pub fraction: FractionBits,
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = u128::from(self.raw.unsigned_abs());
        // Raw values have 64 bits, so further fraction bits only move zeros in.
        let bits = u32::from(self.fraction.0.min(100));
        let whole = magnitude >> bits;
        let mut rest = magnitude & ((1u128 << bits) - 1);
        if self.raw < 0 {
            f.write_str("-")?;
        }
        write!(f, "{whole}")?;
        if rest != 0 {
            f.write_str(".")?;
        }
        while rest != 0 {
            rest *= 10;
            write!(f, "{}", rest >> bits)?;
            rest &= (1u128 << bits) - 1;
        }
        Ok(())
    }
}
