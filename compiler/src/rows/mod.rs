//! Feature rows: CSV in, exact fixed-point numbers out, and back.
//!
//! A raw feature value is an integer `x` that stands for `x / 2^fraction_bits`. Decimals become raw values
//! without passing through floating point ([`decimal`]); `docs/numerics.md` states rounding and saturation.

pub mod decimal;
mod read;
mod labels;

pub use labels::{Labels, MOST_CLASSES, labels};
pub use read::{Columns, Rows, parse};

#[cfg(test)]
mod tests;
