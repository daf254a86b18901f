//! Specifications: the front end and the flow program.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nnbpf_compiler::withstand::specification(bytes));
