//! Every object that is shipped: each specification with its model, whole, split and with constant weights.

use nnbpf_compiler::bpf::module::Module;
use nnbpf_compiler::check::{self, Checked};
use nnbpf_compiler::compile::{self, Plan, Target};
use nnbpf_compiler::diag::NodeRef;
use nnbpf_compiler::ir::flow;
use nnbpf_compiler::ir::{
    Decision, Dense, FractionBits, Input, Interval, Lanes, Network, Op, OpOrigin, Output, Post, Quantise,
    QuantiseOne, Rule, RuleTest,
};
use nnbpf_compiler::lower::network::{Split, Weights};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::spec::typed::FeatureSpec;
use nnbpf_compiler::spec::{self, Surroundings};

use super::common::{case, cases_with_spec, root, target};

/// Shipped specifications without a committed model.
const WITHOUT_MODEL: [&str; 3] = ["bachl-hara", "cicflowmeter", "nfstream"];

/// The builds: their names and what they are for.
pub(crate) fn builds() -> [(&'static str, Target); 4] {
    let constant = |split| {
        let mut target = target(split, Clock::Kernel);
        target.network.weights = Weights::Const;
        target
    };
    [
        ("whole", target(Split::Auto, Clock::Kernel)),
        ("split", target(Split::Layer, Clock::Kernel)),
        ("constant", constant(Split::Auto)),
        ("constant and split", constant(Split::Layer)),
    ]
}

/// Hands over every module with a name.
pub(crate) fn every_object(mut visit: impl FnMut(&str, &Module)) {
    let stand_ins: Vec<(String, Plan)> =
        WITHOUT_MODEL.iter().map(|name| ((*name).to_owned(), stand_in(name))).collect();
    let committed = cases_with_spec().map(|case| (&case.name, &case.plan));
    for (name, plan) in committed.chain(stand_ins.iter().map(|(name, plan)| (name, plan))) {
        for (build, target) in builds() {
            visit(&format!("{name}, {build}"), &compile::module(plan, &target).unwrap());
        }
    }
}

/// The plan of a specification with a network of one layer in the place of a model.
fn stand_in(name: &str) -> Plan {
    let file = format!("{name}.spec");
    let bytes = std::fs::read(root().join("specs").join(&file)).unwrap();
    let spec =
        spec::from_bytes_in(compile::Named { name: &file, bytes: &bytes }, &Surroundings::default()).unwrap();
    let flow = flow::build(&spec).unwrap();
    Plan {
        network: network(&spec),
        spec: Some(spec),
        flow: Some(flow),
        ..case("dsn24-6-32-32-2").plan.clone()
    }
}

fn network(spec: &FeatureSpec) -> Checked<Network> {
    let range = Interval { low: 0, high: 15 };
    let columns = spec.features.len();
    let rows = spec.outputs[0].labels.len().max(2);
    let one = QuantiseOne { low: 0, high: 15, multiplier: 1, offset: 0, shift: 0 };
    let weights = (0..rows * columns).map(|index| (index * 7 % 5) as i64 - 2).collect();
    check::check(Network {
        inputs: (0..columns)
            .map(|index| Input { name: format!("f{index}"), fraction_bits: FractionBits(0), range })
            .collect(),
        ops: vec![
            Op::Quantise(Quantise {
                features: vec![one; columns],
                output: range,
                even: false,
                replaced: Vec::new(),
            }),
            Op::Dense(Dense {
                rows,
                columns,
                weights,
                bias: vec![3; rows],
                lanes: Lanes::ONE,
                post: Post::Raw,
            }),
        ],
        origins: vec![
            OpOrigin::Inputs,
            OpOrigin::Layer {
                layer: 0,
                node: NodeRef { index: 0, name: "stand-in".to_owned(), operator: "Gemm".to_owned() },
            },
        ],
        decision: Decision {
            first: Output::only(Rule::ArgMax, spec.outputs[0].labels.clone()),
            further: Vec::new(),
            unit: 1.0,
            tests: spec.rules.iter().map(|_| RuleTest::Label { output: 0, class: 1 }).collect(),
        },
    })
    .unwrap()
}
