//! Feature rows from CSV.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nnbpf_compiler::withstand::feature_rows(bytes));
