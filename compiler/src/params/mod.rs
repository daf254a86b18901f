//! The parameter slot: layout, bytes, and the file of a retrained model.
//!
//! Every number that depends on the trained model lives in a slot of `.data.nn_params`; code holds the plan
//! only. With constant weights, code holds the words of a slot instead and there is nothing to update. [`layout`] says where each number stands, [`slot`] writes and reads the bytes, and [`mod@file`] is the
//! format that carries new parameters to the loader. Code that consumes a slot is in `lower/network`.
//!
//! A loader that swaps in new parameters does this:
//!
//! 1. [`file::read`] checks magic, version, lengths and checksum;
//! 2. it compares [`file::ParamsFile::layout_hash`] with [`layout::Layout::hash`] of the loaded object, which
//!    also stands in the object's metadata;
//! 3. with the object's plan at hand, [`slot::read`] gives the network back, whose intervals
//!    [`crate::check::Checked`] proves anew;
//! 4. it writes [`file::ParamsFile::slot`] to byte `idle * Layout::bytes()` of `.data.nn_params`, flips
//!    `.data.nn_active` and waits for a grace period.

pub mod layout;
pub mod slot;
pub mod file;

#[cfg(test)]
mod tests;
