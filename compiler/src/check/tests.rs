//! Tests of the checks.

use proptest::prelude::*;

use super::testing::network;
use super::{Certificate, MOST_RAW, check, holds};
use crate::diag::NodeRef;
use crate::ir::softmax::Lead;
use crate::ir::{
    Decision, Dense, FractionBits, HALF_BITS, Input, Interval, Lanes, Network, Op, OpOrigin, Output, Post,
    Quantise, QuantiseOne, Rule, RuleTest, Table,
};

fn tiny() -> Network {
    let one = QuantiseOne { low: -100, high: 100, multiplier: 1, offset: 0, shift: 0 };
    let node = NodeRef { index: 0, name: "fc".to_owned(), operator: "Gemm".to_owned() };
    Network {
        inputs: vec![Input {
            name: "x".to_owned(),
            fraction_bits: FractionBits(0),
            range: Interval { low: i64::MIN, high: i64::MAX },
        }],
        ops: vec![
            Op::Quantise(Quantise {
                features: vec![one],
                output: Interval { low: -100, high: 100 },
                even: false,
                replaced: Vec::new(),
            }),
            Op::Dense(Dense {
                rows: 2,
                columns: 1,
                weights: vec![3, -5],
                bias: vec![7, 0],
                lanes: Lanes::THREE,
                post: Post::Raw,
            }),
        ],
        origins: vec![OpOrigin::Inputs, OpOrigin::Layer { layer: 0, node }],
        decision: Decision::single(
            Rule::ArgMax,
            1.0,
            Vec::new(),
            vec![RuleTest::Margin { output: 0, class: 1, margin: 3 }],
        ),
    }
}

fn dense(network: &mut Network) -> &mut Dense {
    match &mut network.ops[1] {
        Op::Dense(dense) => dense,
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => unreachable!(),
    }
}

fn quantise(network: &mut Network) -> &mut Quantise {
    match &mut network.ops[0] {
        Op::Quantise(quantise) => quantise,
        Op::Dense(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => unreachable!(),
    }
}

/// The codes that a change of the tiny network is refused with.
fn refused(change: impl FnOnce(&mut Network)) -> Vec<&'static str> {
    let mut network = tiny();
    change(&mut network);
    let errors = check(network).expect_err("the network is refused");
    assert!(errors.iter().all(|error| !error.help.is_empty()));
    errors.iter().map(|error| error.code.id).collect()
}

#[test]
fn intervals_are_exact() {
    let checked = check(tiny()).expect("the tiny network is sound");
    let ops = &checked.certificate().ops;
    assert_eq!(ops[0].values, [Interval { low: -100, high: 100 }]);
    assert_eq!(ops[1].accumulators, [Interval { low: -293, high: 307 }, Interval { low: -500, high: 500 }]);
}

#[test]
fn lanes_are_full_at_their_last_value() {
    // 21 bits hold -1048576..=1048575.
    let top = |network: &mut Network| {
        *dense(network) = Dense { weights: vec![0, 10485], bias: vec![0, 75], ..dense(network).clone() };
    };
    let mut full = tiny();
    top(&mut full);
    assert!(check(full).is_ok());
    assert_eq!(
        refused(|network| {
            top(network);
            dense(network).bias[1] += 1;
        }),
        ["E0404"]
    );
    assert_eq!(refused(|network| dense(network).weights[0] = 1 << 60), ["E0404"]);
}

#[test]
fn every_unsound_network_is_refused_with_its_code() {
    assert_eq!(refused(|network| dense(network).columns = 2), ["E0401", "E0401"]);
    assert_eq!(refused(|network| dense(network).weights.push(1)), ["E0401"]);
    assert_eq!(refused(|network| quantise(network).features.clear()), ["E0401", "E0401"]);
    assert_eq!(refused(|network| network.ops.truncate(0))[0], "E0401");
    assert_eq!(refused(|network| quantise(network).features[0].shift = 63), ["E0402"]);
    assert_eq!(refused(|network| quantise(network).features[0].low = 101), ["E0402"]);
    assert_eq!(
        refused(|network| dense(network).post = Post::Relu { shift: 63, bits: 0 }),
        ["E0402", "E0402"]
    );
    assert_eq!(refused(|network| quantise(network).features[0].multiplier = i64::MAX), ["E0403"]);
    assert_eq!(refused(|network| quantise(network).features[0].offset = 1), ["E0403"]);
    assert_eq!(refused(|network| quantise(network).features[0].low = -(1 << 62)), ["E0403"]);
    assert_eq!(refused(|network| quantise(network).features[0].high = 1 << 62), ["E0403"]);
    assert_eq!(
        refused(|network| network.decision.tests = vec![RuleTest::Label { output: 0, class: 2 }]),
        ["E0405"]
    );
    assert_eq!(refused(|network| network.decision.first.labels = vec!["a".to_owned()]), ["E0405"]);
    assert_eq!(refused(|network| network.decision.first.rule = Rule::Positive), ["E0405"]);
    assert_eq!(refused(|network| network.decision.unit = f64::NAN), ["E0405"]);
    // Outputs divide the values in order and without gaps.
    let starting = |start, finer| {
        refused(move |network| {
            let further = Output { start, finer, ..Output::only(Rule::Positive, Vec::new()) };
            network.decision.first.rule = Rule::Positive;
            network.decision.further = vec![further];
        })
    };
    assert_eq!(starting(0, 0), ["E0405"; 4]);
    assert_eq!(starting(2, 0), ["E0405"; 3]);
    assert_eq!(starting(1, 61), ["E0405"]);
    assert_eq!(refused(|network| network.decision.first.start = 1)[0], "E0405");
    assert_eq!(
        refused(|network| network.decision.tests = vec![RuleTest::Label { output: 1, class: 0 }]),
        ["E0405"]
    );
    assert_eq!(
        refused(|network| {
            let dense = dense(network);
            dense.lanes = Lanes::ONE;
            dense.bias = vec![i64::MAX - 300, i64::MIN + 600];
        }),
        ["E0406"]
    );
}

/// A rule over three outputs, each of them within ±100.
fn over_three(lead: Lead) -> impl FnOnce(&mut Network) {
    move |network| {
        let layer = dense(network);
        *layer = Dense { rows: 3, weights: vec![1, 1, -1], bias: vec![0; 3], ..layer.clone() };
        network.decision.tests = vec![RuleTest::Softmax { output: 0, class: 2, lead }];
    }
}

#[test]
fn leads_and_exponents_are_proved() {
    let good = Lead { low: -100, high: 100, drop: 3, multiplier: 1 << 48, offset: 63 << 54 };
    let mut network = tiny();
    over_three(good)(&mut network);
    let checked = check(network).expect("exponents are within their range");
    assert!(holds(checked.get(), checked.certificate()));

    let refused_with = |lead| refused(over_three(lead));
    assert_eq!(refused_with(Lead { drop: 63, ..good }), ["E0405"]);
    assert_eq!(refused_with(Lead { low: 101, ..good }), ["E0405"]);
    assert_eq!(refused_with(Lead { low: -MOST_RAW - 1, ..good }), ["E0405"]);
    assert_eq!(refused_with(Lead { high: MOST_RAW + 1, ..good }), ["E0405"]);
    // Exponents from 0 on and below 64.
    assert_eq!(refused_with(Lead { offset: 64 << 54, ..good }), ["E0406"]);
    assert!(check_of(Lead { offset: (64 << 54) - 1, ..good }));
    assert!(check_of(Lead { offset: 25 << 48, ..good }));
    assert_eq!(refused_with(Lead { offset: (25 << 48) - 1, ..good }), ["E0406"]);
    assert_eq!(refused_with(Lead { multiplier: i64::MAX, ..good }), ["E0406"]);
    // Leads that leave the bounds of what is subtracted.
    assert_eq!(
        refused(|network| {
            over_three(good)(network);
            dense(network).lanes = Lanes::ONE;
            dense(network).bias = vec![-(1 << 61), 0, 1 << 61];
        }),
        ["E0406"]
    );
    // Two outputs are compared by a margin.
    assert_eq!(
        refused(
            |network| network.decision.tests = vec![RuleTest::Softmax { output: 0, class: 0, lead: good }]
        ),
        ["E0405"]
    );
}

fn check_of(lead: Lead) -> bool {
    let mut network = tiny();
    over_three(lead)(&mut network);
    check(network).is_ok()
}

/// Code computes `min(max(x - low, 0) - span, 0)`: at the widest limits no difference leaves 64 bits.
#[test]
fn limits_may_reach_as_far_as_differences_fit() {
    let mut network = tiny();
    let limits = QuantiseOne { low: -MOST_RAW, high: MOST_RAW, multiplier: 1, offset: 0, shift: 55 };
    quantise(&mut network).features[0] = limits;
    quantise(&mut network).output = Interval { low: -128, high: 127 };
    assert!(check(network).is_ok());
    assert!(MOST_RAW.checked_sub(-MOST_RAW).is_some_and(|span| 0i64.checked_sub(span).is_some()));
}

#[test]
fn a_certificate_is_checked_again() {
    let checked = check(tiny()).expect("the tiny network is sound");
    let good = checked.certificate().clone();
    assert!(holds(checked.get(), &good));
    let mut wider = good.clone();
    wider.ops[1].accumulators[0].high += 1;
    assert!(holds(checked.get(), &wider));
    let mut narrower = good.clone();
    narrower.ops[1].accumulators[0].high -= 1;
    assert!(!holds(checked.get(), &narrower));
    let mut beyond = good.clone();
    beyond.ops[1].accumulators[0].high = 1 << 20;
    assert!(!holds(checked.get(), &beyond));
    let mut inputs = good;
    inputs.ops[0].values[0].low = -99;
    assert!(!holds(checked.get(), &inputs));
    assert!(!holds(checked.get(), &Certificate::default()));
}

/// The tiny network with operations behind its layer. What comes from there lies in -293..=307 and -500..=500.
fn behind(more: Vec<Op>) -> Network {
    let mut network = tiny();
    dense(&mut network).lanes = Lanes::ONE;
    let layer = network.origins[1].clone();
    network.origins.extend(more.iter().map(|_| layer.clone()));
    network.ops.extend(more);
    network
}

/// A quantiser of both sums, which leaves them as they are between its limits.
fn rescaling(one: QuantiseOne) -> Op {
    Op::Quantise(Quantise {
        features: vec![one; 2],
        output: Interval { low: -1000, high: 1000 },
        even: false,
        replaced: Vec::new(),
    })
}

/// A sound network, and a change that makes it refused; the sound one's certificate is no excuse for it.
fn refused_behind(network: Network, change: impl FnOnce(&mut Network)) {
    let sound = check(network).expect("the network is sound");
    assert!(holds(sound.get(), sound.certificate()));
    let certificate = sound.certificate().clone();
    let mut network = sound.into_inner();
    change(&mut network);
    assert!(!holds(&network, &certificate));
    let errors = check(network).expect_err("the network is refused");
    assert!(errors.iter().all(|error| error.code.id == "E0403" && !error.help.is_empty()), "{errors:?}");
    assert!(!errors.is_empty());
}

const LEVELS: QuantiseOne = QuantiseOne { low: 0, high: 15, multiplier: 1, offset: 0, shift: 0 };

fn looked_up(mapped: usize) -> Network {
    let table =
        Table { width: 2, mapped, bits: 4, fraction: 0, entries: (0..16).map(|x| 30 - 2 * x).collect() };
    behind(vec![rescaling(LEVELS), Op::Table(table)])
}

fn rescaler(network: &mut Network) -> &mut Quantise {
    match &mut network.ops[2] {
        Op::Quantise(quantise) => quantise,
        Op::Dense(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => unreachable!(),
    }
}

#[test]
fn numbers_that_are_looked_up_stay_within_their_table() {
    let checked = check(looked_up(2)).expect("the table is as long as the levels are many");
    assert_eq!(checked.certificate().ops[3].values, [Interval { low: 0, high: 30 }; 2]);
    let first = |network: &mut Network| rescaler(network).features[0].high = 16;
    refused_behind(looked_up(2), first);
    refused_behind(looked_up(2), |network| rescaler(network).features[1].low = -1);
    // What passes by is no longer than an entry.
    let passing = |high: i64, shift: u8| {
        move |network: &mut Network| {
            let output = Interval { low: 0, high: 1 << 20 };
            let features = vec![LEVELS, QuantiseOne { high, multiplier: 1 << shift, ..LEVELS }];
            *rescaler(network) = Quantise { features, output, even: false, replaced: Vec::new() };
        }
    };
    let mut longest = looked_up(1);
    passing((1 << 12) - 1, 4)(&mut longest);
    refused_behind(longest, passing(1 << 12, 4));
    refused_behind(looked_up(1), |network| rescaler(network).features[1].low = -1);
    // A certificate that claims more than the table has.
    let (mut claimed, network) = (checked.certificate().clone(), checked.get());
    claimed.ops[2].values[1].high = 16;
    assert!(!holds(network, &claimed));
    claimed.ops[2].values[1].high = 15;
    claimed.ops[3].values[0].high = 29;
    assert!(!holds(network, &claimed));
}

/// A sum is subtracted from without care for overflow, unlike a feature.
#[test]
fn sums_that_are_rescaled_stay_within_62_bits() {
    let one = QuantiseOne { low: -100, high: 100, multiplier: 1, offset: 0, shift: 0 };
    let at = |bias: i64| {
        let mut network = behind(vec![rescaling(one)]);
        dense(&mut network).bias[0] = bias;
        network
    };
    // The first sum lies within 300 of its bias.
    refused_behind(at(MOST_RAW - 300), |network| dense(network).bias[0] += 1);
    refused_behind(at(300 - MOST_RAW), |network| dense(network).bias[0] -= 1);
}

#[test]
fn rounding_to_even_numbers_has_room() {
    let offset = i64::MAX - 100 - (1 << HALF_BITS);
    let one = QuantiseOne { low: -100, high: 100, multiplier: 1, offset, shift: 62 };
    let even = |network: &mut Network| rescaler(network).even = true;
    let mut full = behind(vec![rescaling(one)]);
    even(&mut full);
    refused_behind(full, |network| rescaler(network).features[1].offset += 1);
    // Rounding up needs none.
    let beyond = QuantiseOne { offset: offset + (1 << HALF_BITS), ..one };
    refused_behind(behind(vec![rescaling(beyond)]), even);
    // Of the features too.
    let mut first = tiny();
    *quantise(&mut first) = Quantise {
        features: vec![one],
        output: Interval { low: 0, high: 2 },
        even: true,
        replaced: Vec::new(),
    };
    refused_behind(first, |network| quantise(network).features[0].offset += 1);
}

proptest! {
    #[test]
    fn certificates_hold((network, _) in network()) {
        if let Ok(checked) = check(network) {
            prop_assert!(holds(checked.get(), checked.certificate()));
        }
    }
}
