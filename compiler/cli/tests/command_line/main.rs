//! The `nnbpfc` command as users run it: one process per case, in a folder of its own.
//!
//! Texts on standard error are compared with `testdata/cli/*.stderr`; `BLESS=1` rewrites them.

#![cfg(test)]

mod bench;
mod common;
mod refusals;
mod usage;
mod outputs;
mod retrained;
mod engines;
mod single;
mod thresholds;
mod privileges;
mod tools;
mod costs;
mod explore;
mod flips;
mod uses;
mod planned;
