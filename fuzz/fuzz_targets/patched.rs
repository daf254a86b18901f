//! A real object with bytes changed behind its checksums, in all of verification.

#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use nnbpf_compiler::compile::{self, Named, Sources, Target};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::spec::Surroundings;
use nnbpf_compiler::{quant, withstand};

static OBJECT: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: include_bytes!("../../testdata/cases/cic6-6-16-2/model.onnx") },
        spec: Some(Named { name: "cic6.spec", bytes: include_bytes!("../../specs/cic6.spec") }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    let options = quant::Options { max_flips: quant::MaxFlips::Share(0.3), ..quant::Options::default() };
    let target = Target {
        kernel: KernelVersion::DEFAULT,
        network: network::Options::default(),
        clock: Clock::Kernel,
        fragments: false,
    };
    let plan = compile::plan(&sources, &options).expect("a committed model");
    compile::object(&compile::module(&plan, &target).expect("a committed model")).expect("a committed model")
});

fuzz_target!(|bytes: &[u8]| withstand::patched(&OBJECT, bytes));
