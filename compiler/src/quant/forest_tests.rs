//! Decision trees in integers against the float model: every comparison, labels, plans of existing objects.

use proptest::prelude::*;

use super::super::contract::{OutputNames, RuleWish};
use super::super::{MaxFlips, plan_of, quantise};
use super::*;
use crate::diag::NodeRef;
use crate::ir::{FractionBits, interpret};
use crate::model::forest::{Column, Precision, Tree};
use crate::model::{Body, Head, Normalise, Output};
use crate::spec::typed::Probability;

/// Balanced trees of so many outputs over two inputs, with thresholds where the scalers put them.
fn model(seed: u64, trees: usize, depth: u32, head: Head, outputs: usize, scalers: [Normalise; 2]) -> Model {
    let mut random = SplitMix(seed);
    let mut number =
        |low: f64, high: f64| low + (high - low) * (random.next() >> 11) as f64 / (1u64 << 53) as f64;
    let columns: Vec<Column> = scalers
        .iter()
        .enumerate()
        .map(|(source, &normalise)| Column {
            source,
            normalise,
            precision: [Precision::Single, Precision::Double][source],
        })
        .collect();
    let trees = (0..trees)
        .map(|tree| {
            let inner = (1usize << depth) - 1;
            let nodes = (0..2 * inner + 1)
                .map(|at| {
                    if at >= inner {
                        let share = number(-0.2, 1.0);
                        return Node::Leaf { weights: vec![(tree % outputs, f64::from(share as f32))] };
                    }
                    let column = at % 2;
                    let value = columns[column].value(number(-40.0, 1000.0));
                    Node::Branch { column, threshold: value, low: 2 * at + 1, high: 2 * at + 2 }
                })
                .collect();
            Tree { nodes }
        })
        .collect();
    let origin =
        NodeRef { index: 0, name: "trees".to_owned(), operator: "TreeEnsembleClassifier".to_owned() };
    Model {
        replaced: Vec::new(),
        inputs: vec![None; 2],
        normalise: scalers.to_vec(),
        body: Body::Forest(model::Forest { origin, columns, trees, base: vec![0.125; outputs] }),
        first: Output::only(head),
        further: Vec::new(),
        hash: [0; 32],
    }
}

fn contract(bits: [u8; 2], labels: usize, rules: Vec<RuleWish>) -> Contract {
    let inputs = bits.iter().enumerate().map(|(index, &bits)| Input {
        name: format!("x{index}"),
        fraction_bits: FractionBits(bits),
        range: Interval { low: -40 << bits, high: 1000 << bits },
    });
    let labels = (0..labels).map(|label| format!("l{label}")).collect();
    Contract {
        model: "model".to_owned(),
        inputs: inputs.collect(),
        grid: Vec::new(),
        outputs: vec![OutputNames { name: String::new(), labels }],
        rules,
    }
}

fn scaler() -> impl Strategy<Value = Normalise> {
    prop_oneof![
        Just(Normalise::IDENTITY),
        (-500.0f64..500.0, -3.0f64..3.0, -1.0f64..1.0).prop_map(|(centre, scale, offset)| Normalise {
            centre: f64::from(centre as f32),
            scale: f64::from(scale as f32),
            offset: f64::from(offset as f32),
        }),
        (1e5f64..1e7).prop_map(|centre| Normalise { centre, scale: 1e-3, offset: 0.0 }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// At every threshold and beside it, through any scaler, the integers walk to the leaves of the float model.
    #[test]
    fn comparisons_are_exact(
        seed in any::<u64>(),
        trees in 1usize..6,
        depth in 0u32..5,
        outputs in 1usize..4,
        scalers in [scaler(), scaler()],
        bits in [0u8..12, 0u8..12],
    ) {
        let head = if outputs == 1 { Head::Logistic } else { Head::Logits };
        let model = model(seed, trees, depth, head, outputs, scalers);
        let contract = contract(bits, outputs.max(2), Vec::new());
        let result = quantise(&model, &contract, None, &Options::default()).unwrap();
        let Body::Forest(float) = &model.body else { unreachable!() };
        let unit = result.network.decision.unit;
        let error = result.report.forest.unwrap().score_error;
        let mut values: Vec<Vec<i64>> = contract
            .inputs
            .iter()
            .map(|input| vec![input.range.low, input.range.high, 0, 17 << input.fraction_bits.0])
            .collect();
        let Some(Op::Forest(table)) = result.network.ops.last() else { unreachable!() };
        for (_, node) in table.nodes.iter().enumerate().filter(|(at, node)| !node.is_leaf(*at)) {
            let list = &mut values[usize::from(node.feature)];
            list.extend([node.threshold - 1, node.threshold, node.threshold + 1, node.threshold + 2]);
        }
        for (first, second) in (0..40 * values[0].len()).map(|at| (at % values[0].len(), at * 7 % values[1].len())) {
            let row = [values[0][first], values[1][second]];
            let real: Vec<f64> = row
                .iter()
                .zip(&contract.inputs)
                .map(|(&raw, input)| raw as f64 / f64::from(input.fraction_bits.0).exp2())
                .collect();
            let wanted: Vec<f64> = float.outputs(&real);
            let got = interpret::outputs(&result.network, &row);
            for (wanted, got) in wanted.iter().zip(&got) {
                let off = (wanted - *got as f64 * unit).abs();
                prop_assert!(off <= error + 1e-12, "{row:?}: {wanted} {} {error}", *got as f64 * unit);
            }
        }
    }
}

#[test]
fn ranges_beyond_62_bits_are_clamped_first() {
    let model = model(3, 4, 3, Head::Logistic, 1, [Normalise::IDENTITY; 2]);
    let mut contract = contract([0, 0], 2, Vec::new());
    contract.inputs[1].range = Interval { low: 0, high: i64::MAX };
    let network = check(quantise(&model, &contract, None, &Options::default()).unwrap().network).unwrap();
    assert!(matches!(network.get().ops.as_slice(), [Op::Quantise(_), Op::Forest(_)]));
    let top = |second| interpret::outputs(network.get(), &[0, second]);
    assert_eq!(top(i64::MAX), top(1_000_000));
}

/// A retrained model takes the room of the first one, whatever its own shape; one that needs more is refused.
#[test]
fn retrained_trees_fit_the_plan_or_are_refused_e0312() {
    let some = |seed, trees, depth| model(seed, trees, depth, Head::Logits, 3, [Normalise::IDENTITY; 2]);
    let contract = contract([0, 0], 3, Vec::new());
    let first = quantise(&some(1, 9, 3), &contract, None, &Options::default()).unwrap().network;
    let options = Options { like: Some(plan_of(&first)), ..Options::default() };
    for (trees, depth) in [(9, 3), (6, 3), (9, 2), (4, 0)] {
        let next = some(2, trees, depth);
        let network = quantise(&next, &contract, None, &options).unwrap().network;
        assert_eq!(plan_of(&network), plan_of(&first), "{trees} {depth}");
        assert_eq!(
            crate::params::layout::Layout::new(&network).hash(),
            crate::params::layout::Layout::new(&first).hash()
        );
        let Body::Forest(float) = &next.body else { unreachable!() };
        for row in [[0, 0], [500, 7], [999, 999], [3, 800]] {
            let wanted: Vec<f64> = float.outputs(&row.map(|x| x as f64));
            let got = interpret::outputs(&network, &row);
            for (wanted, got) in wanted.iter().zip(got) {
                assert!((wanted - got as f64 * network.decision.unit).abs() < 1e-9);
            }
        }
    }
    for (trees, depth) in [(12, 3), (9, 4)] {
        let errors = quantise(&some(2, trees, depth), &contract, None, &options).unwrap_err();
        assert_eq!(errors[0].code.id, "E0312", "{}", errors[0].message);
    }
    let errors = quantise(
        &model(2, 9, 3, Head::Logits, 4, [Normalise::IDENTITY; 2]),
        &super::super::contract::without_spec(&some(2, 9, 3)),
        None,
        &options,
    );
    assert_eq!(errors.unwrap_err()[0].code.id, "E0312");
    let layers = Options {
        like: Some(super::super::NetworkPlan {
            layers: Vec::new(),
            finer: vec![0],
            forest: None,
            evens: Vec::new(),
            tables: Vec::new(),
            gates: 0,
            replaced: Vec::new(),
        }),
        max_flips: MaxFlips::DEFAULT,
        lanes: None,
        ..Options::default()
    };
    let errors = quantise(&some(2, 9, 3), &contract, None, &layers).unwrap_err();
    assert_eq!(errors[0].code.id, "E0312");
}

#[test]
fn trees_too_many_for_a_table_are_refused_e0309() {
    // Every leaf has a value of its own.
    let model = model(5, 70, 10, Head::Logistic, 1, [Normalise::IDENTITY; 2]);
    let contract = contract([12, 12], 2, Vec::new());
    let errors = quantise(&model, &contract, None, &Options::default()).unwrap_err();
    assert_eq!(errors[0].code.id, "E0309");
    assert!(errors[0].message.contains("65536 different values"), "{}", errors[0].message);
}

#[test]
fn rules_on_probabilities_fire_as_the_float_model_says() {
    let rule = |class, millionths| RuleWish { output: 0, class, probability: Some(Probability(millionths)) };
    for (head, outputs) in [(Head::Probability, 1), (Head::Probabilities, 3)] {
        let model = model(8, 6, 4, head, outputs, [Normalise::IDENTITY; 2]);
        let rules = vec![rule(0, 300_000), rule(1, 900_000), rule(1, 250_000)];
        let contract = contract([0, 4], outputs.max(2), rules);
        let report = quantise(&model, &contract, None, &Options::default()).unwrap().report;
        assert_eq!(report.thresholds.len(), 3);
        for rule in report.thresholds {
            assert_eq!(rule.changed, 0, "{rule:?}");
        }
    }
}
