//! Models: decoding and import of ONNX.

#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| nnbpf_compiler::withstand::model(bytes));
