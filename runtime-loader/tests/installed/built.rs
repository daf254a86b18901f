//! A real object for the tests: a committed model and a specification of a few lines, with parameters whose
//! verdict is known.

use nnbpf_compiler::bpf::module::Module;
use nnbpf_compiler::check::{Checked, check};
use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::ir::{Network, Op};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::params::file::{self, ParamsFile};
use nnbpf_compiler::quant;
use nnbpf_compiler::spec::Surroundings;

/// Judges every packet; blocks for a second.
pub(crate) const SPEC: &str = "
spec gate v1;
attach xdp;
flow conn on tcp, udp {
    key      five_tuple bidirectional;
    capacity 1024 evict lru;
    idle     60 s;
    end      tcp.fin or tcp.rst;
}
features of conn {
    packets = count() in 0..1000;
    longest = max(l4.payload_len) in 0..1500;
}
model { labels benign, attack; }
classify conn at every packet;
on attack { drop; block ip.src for 1 s; report; }
";

pub(crate) const MODEL: &[u8] =
    include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases/tiny-2-3-2/model.onnx"));

/// The plan of the tests' object.
pub(crate) fn plan() -> Plan {
    plan_of(MODEL, SPEC)
}

pub(crate) fn plan_of(model: &[u8], spec: &str) -> Plan {
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: model },
        spec: Some(Named { name: "gate.spec", bytes: spec.as_bytes() }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, &quant::Options::default()).unwrap()
}

/// The module of a plan.
pub(crate) fn module(plan: &Plan) -> Module {
    compile::module(plan, &target(network::Options::default())).unwrap()
}

fn target(network: network::Options) -> Target {
    Target { kernel: KernelVersion::DEFAULT, network, clock: Clock::Kernel, fragments: false }
}

/// The object of a plan, as a chain of programs.
pub(crate) fn split_object(plan: &Plan) -> Vec<u8> {
    let options = network::Options { split: network::Split::Layer, ..network::Options::default() };
    compile::object(&compile::module(plan, &target(options)).unwrap()).unwrap()
}

/// The object of a plan, with its parameters in the code.
pub(crate) fn constant_object(plan: &Plan) -> Vec<u8> {
    let options = network::Options { weights: network::Weights::Const, ..network::Options::default() };
    compile::object(&compile::module(plan, &target(options)).unwrap()).unwrap()
}

/// The object of a plan.
pub(crate) fn object(plan: &Plan) -> Vec<u8> {
    compile::object(&module(plan)).unwrap()
}

/// Parameters of the plan that give every flow this class.
pub(crate) fn always(plan: &Plan, class: usize) -> Checked<Network> {
    let mut network = plan.network.get().clone();
    if let Some(Op::Dense(last)) = network.ops.last_mut() {
        last.weights.fill(0);
        last.bias.fill(0);
        last.bias[class] = 1;
    }
    check(network).unwrap()
}

/// The parameter file of a network; `model` stands for the hash of its model.
pub(crate) fn params(network: &Network, model: u8) -> ParamsFile {
    ParamsFile::of(network, [model; 32])
}

/// Its bytes.
pub(crate) fn params_bytes(network: &Network, model: u8) -> Vec<u8> {
    file::write(&params(network, model))
}
