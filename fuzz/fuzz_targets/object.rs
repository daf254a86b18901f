//! Objects, metadata and parameter files.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nnbpf_compiler::withstand::object(bytes));
