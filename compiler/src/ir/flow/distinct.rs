//! How many different values there were: linear counting.
//!
//! A bitmap has `m` bits, a power of two. Each value sets the bit that its hash names; when `z` bits are still
//! clear, the estimate is `m * ln(m / z)` (Whang, Vander-Zanden, Taylor: A linear-time probabilistic counting
//! algorithm for database applications, ACM TODS 15(2), 1990). For `n` different values and the load `t = n / m` it
//! is too large by `(e^t - t - 1) / 2` on average, with a standard error of `sqrt(m * (e^t - t - 1))`; the tests
//! measure both. A full bitmap counts as if one bit were clear: `m * ln(m)`.
//!
//! Two bitmaps of one size, joined by or, are the bitmap of all values of both.

use super::formula::log2_steps;
use crate::ir::packet::Host;
use crate::spec::typed::Bitmap;

/// Multiplies, and with a shift in between mixes every bit of a value into the highest ones.
pub const FACTOR: u64 = 0xd6e8_feb8_6659_fd93;

/// Joins the halves of an address: 2^64 over the golden ratio, odd.
pub const FOLD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Fraction bits of the logarithm inside of the estimate.
pub const LOG_BITS: u8 = 20;

/// `ln(2) * 2^24`, rounded.
pub const LN_2: u64 = 11_629_080;

/// Bits by which the product of the three is above a raw value with 8 fraction bits.
pub const SCALE_BITS: u8 = LOG_BITS + 24 - 8;

/// An address as one number, from its halves read as little-endian numbers.
#[must_use]
pub fn fold(host: Host) -> u64 {
    let number = u128::from_le_bytes(host.0);
    // The casts keep exactly 64 bits.
    let (low, high) = (number as u64, (number >> 64) as u64);
    low.wrapping_mul(FOLD).wrapping_add(high)
}

/// The hash of a value; its highest bits name the bit to set.
#[must_use]
pub const fn hash(value: u64) -> u64 {
    let mixed = (value ^ value >> 32).wrapping_mul(FACTOR);
    (mixed ^ mixed >> 32).wrapping_mul(FACTOR)
}

/// The word of the bitmap that a value belongs to, and its bit there.
#[must_use]
pub const fn place(value: u64, bitmap: Bitmap) -> (u32, u64) {
    let index = hash(value) >> (64 - bitmap.0);
    ((index >> 6) as u32, 1 << (index & 63))
}

/// The raw estimate, with 8 fraction bits, when so many bits are set.
#[must_use]
pub fn estimate(set: u32, bitmap: Bitmap) -> u64 {
    let clear = i64::from(bitmap.bits().saturating_sub(set).max(1));
    let log = log2_steps(clear, 0, LOG_BITS).cast_unsigned();
    // At most 12 * 2^20, times 2^12, times 2^24.
    let rest = (u64::from(bitmap.0) << LOG_BITS).saturating_sub(log);
    (rest * u64::from(bitmap.bits()) * LN_2) >> SCALE_BITS
}

#[cfg(test)]
mod tests;
