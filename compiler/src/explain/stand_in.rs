//! A network that stands in for a model: the packet path needs one to call, and its own cost is left out.

use crate::check::{self, Checked};
use crate::diag::{NodeRef, Outcome};
use crate::ir::{
    Decision, Dense, FractionBits, Input, Interval, Lanes, Network, Op, OpOrigin, Post, Quantise,
    QuantiseOne, Rule, RuleTest,
};
use crate::spec::typed::FeatureSpec;

/// Every weight is 0, so label 0 wins. With `fires`, every rule of the specification fires, else none.
pub(super) fn network(spec: &FeatureSpec, fires: bool) -> Outcome<Checked<Network>> {
    let nothing = Interval { low: 0, high: 0 };
    // A specification without features has none to leave out.
    let columns = spec.features.len().max(1);
    let rows = spec.labels.len().max(2);
    let one = QuantiseOne { low: 0, high: 0, multiplier: 0, offset: 0, shift: 0 };
    let test = RuleTest::Label { class: u32::from(!fires) };
    check::check(Network {
        inputs: (0..columns)
            .map(|index| Input { name: format!("f{index}"), fraction_bits: FractionBits(0), range: nothing })
            .collect(),
        ops: vec![
            Op::Quantise(Quantise { features: vec![one; columns], output: nothing }),
            Op::Dense(Dense {
                rows,
                columns,
                weights: vec![0; rows * columns],
                bias: vec![0; rows],
                lanes: Lanes::One,
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
            rule: Rule::ArgMax,
            unit: 1.0,
            labels: spec.labels.clone(),
            tests: vec![test; spec.rules.len()],
        },
    })
}
