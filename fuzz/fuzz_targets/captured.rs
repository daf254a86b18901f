//! Captures and their packets.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nnbpf_compiler::withstand::captured(bytes));
