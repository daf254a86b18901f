//! Replaced values in integers: exactly those, and as what is put in place.

use super::super::contract::OutputNames;
use super::super::{MaxFlips, Options, plan_of, quantise};
use super::*;
use crate::check::check;
use crate::diag::NodeRef;
use crate::ir::interpret;
use crate::model::forest::{Column, Precision, Tree};
use crate::model::{Dense, Head, Matrix, Normalise, Output};

const SCALERS: [Normalise; 2] = [
    Normalise { centre: 40.0, scale: 0.031_25, offset: 0.25 },
    Normalise { centre: 3.0, scale: -0.333_333_343_267_440_8, offset: 0.0 },
];

fn node(operator: &str) -> NodeRef {
    NodeRef { index: 0, name: "node".to_owned(), operator: operator.to_owned() }
}

/// Feature `input` at `value` becomes `by`.
fn replaced(input: usize, normalise: Normalise, value: f64, by: f64) -> model::Replaced {
    let column = Column { source: input, normalise, precision: Precision::Single };
    model::Replaced { origin: node("Imputer"), column, value, by }
}

fn layers() -> Body {
    let layer = |rows: usize, columns: usize, activation| Dense {
        origin: node("Gemm"),
        weights: Matrix {
            rows,
            columns,
            values: (0..rows * columns).map(|at| ((at * 7 + 3) % 11) as f64 * 0.17 - 0.8).collect(),
        },
        bias: (0..rows).map(|row| 0.3 - 0.21 * row as f64).collect(),
        activation,
        plain: 0,
    };
    Body::Mlp(vec![layer(6, 2, Activation::Relu), layer(2, 6, Activation::Identity)])
}

/// A tree whose every leaf is another number, with thresholds on both sides of everything that is replaced.
fn trees() -> Body {
    let columns: Vec<Column> = (0..2)
        .map(|source| Column { source, normalise: SCALERS[source], precision: Precision::Single })
        .collect();
    let cuts = [-0.5, 0.5, 37.0, 37.4, 37.45, 60.5, 89.5];
    let mut nodes = Vec::new();
    // A comb: each comparison ends at a leaf on one side.
    for (at, cut) in cuts.iter().flat_map(|&cut| [(0, cut), (1, cut)]).enumerate() {
        let (column, cut) = cut;
        let threshold = columns[column].value(cut);
        let leaf = Node::Leaf { weights: vec![(0, at as f64 + 1.0)] };
        nodes.extend([Node::Branch { column, threshold, low: 2 * at + 1, high: 2 * at + 2 }, leaf]);
    }
    nodes.push(Node::Leaf { weights: vec![(0, 100.0)] });
    let forest = model::Forest {
        origin: node("TreeEnsembleRegressor"),
        columns,
        trees: vec![Tree { nodes }],
        base: vec![0.0],
    };
    Body::Forest(forest)
}

fn model(body: Body, head: Head, replaced: Vec<model::Replaced>) -> Model {
    Model {
        inputs: vec![None; 2],
        normalise: SCALERS.to_vec(),
        replaced,
        body,
        first: Output::only(head),
        further: Vec::new(),
        hash: [0; 32],
    }
}

/// Whole features from -10 to 90.
fn contract() -> Contract {
    let input = |index: usize| Input {
        name: format!("x{index}"),
        fraction_bits: FractionBits(0),
        range: Interval { low: -10, high: 90 },
    };
    Contract {
        model: "model".to_owned(),
        inputs: (0..2).map(input).collect(),
        grid: Vec::new(),
        outputs: vec![OutputNames::default()],
        rules: Vec::new(),
    }
}

/// Feature 0 at -1 becomes 37.42…, feature 1 behind its scaler at 1 (that is 0) becomes what the scaler makes of 61.
fn both() -> Vec<model::Replaced> {
    let second = SCALERS[1];
    vec![
        replaced(0, Normalise::IDENTITY, -1.0, f64::from(37.423_157f32)),
        replaced(1, second, f64::from(second.scale as f32 * -3.0), 61.0),
    ]
}

fn all_rows() -> Vec<i64> {
    (-12..=92).flat_map(|x| (-12..=92).flat_map(move |y| [x, y])).collect()
}

#[test]
fn networks_give_what_is_put_in_place_and_nothing_else_changes() {
    let calibration = all_rows();
    let options = Options { max_flips: MaxFlips::Share(0.02), ..Options::default() };
    let model = model(layers(), Head::Logits, both());
    let result = quantise(&model, &contract(), Some(Calibration { rows: &calibration }), &options).unwrap();
    assert_eq!(plan_of(&result.network).replaced, [0, 1]);
    let network = check(result.network).expect("the restored network is proved").into_inner();
    assert_eq!(network.inputs, contract().inputs);
    let Some(Op::Quantise(quantise)) = network.ops.first() else { panic!("the input quantiser") };
    let intervals: Vec<(i64, i64)> = quantise.replaced.iter().map(|one| (one.first, one.last)).collect();
    assert_eq!(intervals, [(-1, -1), (0, 0)]);
    // What is put in place is the nearest step to it: no farther than half of one.
    let one = &quantise.features[0];
    let real = |q: i64| ((q << one.shift) as f64 - one.offset as f64) / one.multiplier as f64;
    let half = (1i64 << one.shift) as f64 / one.multiplier as f64 * 0.500_001;
    let middle = if one.shift == 0 { 0.0 } else { f64::from(one.shift - 1).exp2() / one.multiplier as f64 };
    assert!((real(quantise.replaced[0].to) + middle - 37.423_157).abs() <= half, "{one:?}");
    // The second feature is whole behind the scaler's inverse, so that the row is that of 61.
    let without = {
        let mut plain = network.clone();
        let Some(Op::Quantise(quantise)) = plain.ops.first_mut() else { panic!("the input quantiser") };
        quantise.replaced.clear();
        plain
    };
    for x in -12..=92 {
        let own = interpret::outputs(&network, &[x, 0]);
        assert_eq!(own, interpret::outputs(&network, &[x, 61]), "{x}");
        for y in (-12..=92).filter(|y| *y != 0 && x != -1) {
            assert_eq!(interpret::outputs(&network, &[x, y]), interpret::outputs(&without, &[x, y]));
        }
    }
    // A retrained model that puts other numbers in place fits the code, one without an imputer does not.
    let like = Options { like: Some(plan_of(&network)), ..options };
    let mut other = both();
    other[0].by = 5.75;
    let again = Model { replaced: other, ..model.clone() };
    let again = quantise_of(&again, &calibration, &like).unwrap();
    assert_eq!(plan_of(&again.network), plan_of(&network));
    let none = Model { replaced: Vec::new(), ..model };
    assert_eq!(quantise_of(&none, &calibration, &like).unwrap_err()[0].code.id, "E0312");
}

fn quantise_of(model: &Model, rows: &[i64], options: &Options) -> Outcome<Quantised> {
    quantise(model, &contract(), Some(Calibration { rows }), options)
}

#[test]
fn trees_compare_what_is_put_in_place() {
    let model = model(trees(), Head::Scores, both());
    let result = quantise_of(&model, &all_rows(), &Options::default()).unwrap();
    let network = check(result.network).expect("the restored network is proved").into_inner();
    let unit = network.decision.unit;
    let mut at_replaced = 0;
    for row in all_rows().chunks(2) {
        if row.iter().any(|x| !(-10..=90).contains(x)) {
            continue;
        }
        let real: Vec<f64> = row.iter().map(|&x| x as f64).collect();
        let wanted = model.outputs_f64(&real);
        let got = interpret::outputs(&network, row)[0] as f64 * unit;
        assert!((got - wanted[0]).abs() < 1e-9, "{row:?}: {got} for {wanted:?}");
        at_replaced += usize::from(row[0] == -1 || row[1] == 0);
    }
    assert!(at_replaced > 150);
}

#[test]
fn values_that_no_feature_has_are_not_looked_for() {
    for (value, scaler) in [(-11.0, Normalise::IDENTITY), (0.5, Normalise::IDENTITY), (17.3, SCALERS[1])] {
        let model = model(layers(), Head::Logits, vec![replaced(1, scaler, value, 3.0)]);
        let options = Options { max_flips: MaxFlips::Share(0.02), ..Options::default() };
        let result = quantise_of(&model, &all_rows(), &options).unwrap();
        assert!(plan_of(&result.network).replaced.is_empty(), "{value}");
    }
}

#[test]
fn a_number_between_thresholds_closer_than_a_step_is_refused_e0309() {
    let Body::Forest(mut forest) = trees() else { unreachable!() };
    let identity = Column { source: 0, normalise: Normalise::IDENTITY, precision: Precision::Double };
    forest.columns[0] = identity;
    let cut = |threshold: f64, low, high| Node::Branch { column: 0, threshold, low, high };
    let leaf = |value: f64| Node::Leaf { weights: vec![(0, value)] };
    let nodes = vec![cut(5.0 + 1e-14, 1, 2), leaf(1.0), cut(5.0 + 3e-14, 3, 4), leaf(2.0), leaf(3.0)];
    forest.trees = vec![Tree { nodes }];
    let model =
        model(Body::Forest(forest), Head::Scores, vec![replaced(0, Normalise::IDENTITY, 0.0, 5.0 + 2e-14)]);
    let errors = quantise_of(&model, &all_rows(), &Options::default()).unwrap_err();
    assert_eq!(errors[0].code.id, "E0309");
    assert!(errors[0].message.contains("between two thresholds"), "{}", errors[0].message);
}
