//! Feature rows: CSV in, exact fixed-point numbers out.
//!
//! A raw feature value is an integer `x` that stands for `x / 2^fraction_bits`.
