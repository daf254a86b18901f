//! A network that stands in for a model: the packet path needs one to call, and its own cost is left out.

use crate::check::{self, Checked};
use crate::diag::{NodeRef, Outcome};
use crate::ir::{
    Decision, Dense, FractionBits, Input, Interval, Lanes, Network, Op, OpOrigin, Output, Post, Quantise,
    QuantiseOne, Rule, RuleTest,
};
use crate::spec::typed::FeatureSpec;

/// Every weight is 0, so label 0 of every output wins. With `fires`, every rule of the specification fires, else none.
pub(super) fn network(spec: &FeatureSpec, fires: bool) -> Outcome<Checked<Network>> {
    let nothing = Interval { low: 0, high: 0 };
    // A specification without features has none to leave out.
    let columns = spec.features.len().max(1);
    let mut rows = 0;
    let mut outputs = spec.outputs.iter().map(|output| {
        let start = rows;
        rows += output.labels.len().max(2);
        let name = output.name.clone().unwrap_or_default();
        Output { name, start, ..Output::only(Rule::ArgMax, output.labels.clone()) }
    });
    // A specification has at least one output.
    let first = outputs.next().unwrap_or_else(|| Output::only(Rule::ArgMax, Vec::new()));
    let further = outputs.collect();
    let rows = rows.max(2);
    let one = QuantiseOne { low: 0, high: 0, multiplier: 0, offset: 0, shift: 0 };
    let test = |output| RuleTest::Label {
        output: u32::try_from(output).unwrap_or(u32::MAX),
        class: u32::from(!fires),
    };
    check::check(Network {
        inputs: (0..columns)
            .map(|index| Input { name: format!("f{index}"), fraction_bits: FractionBits(0), range: nothing })
            .collect(),
        ops: vec![
            Op::Quantise(Quantise {
                features: vec![one; columns],
                output: nothing,
                even: false,
                replaced: Vec::new(),
            }),
            Op::Dense(Dense {
                rows,
                columns,
                weights: vec![0; rows * columns],
                bias: vec![0; rows],
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
            first,
            further,
            unit: 1.0,
            tests: spec.rules.iter().map(|rule| test(rule.output)).collect(),
        },
    })
}
