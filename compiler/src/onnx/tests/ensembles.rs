//! What tree operators may say about their nodes: every test, both forms of the lists, both precisions, aggregates.

use super::build::Builder;
use crate::check::check;
use crate::ir::interpret;
use crate::model::Model;
use crate::onnx::schema::{AttributeProto, data_type};
use crate::onnx::{NoFiles, import};
use crate::quant::{Options, contract, quantise};

fn imported(builder: &Builder) -> Model {
    import("trees", &builder.bytes(), &NoFiles).unwrap_or_else(|reasons| panic!("{reasons:?}"))
}

fn refused(builder: &Builder) -> (&'static str, String) {
    let reasons = import("trees", &builder.bytes(), &NoFiles).unwrap_err();
    let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
    (reason.code.id, reason.message.clone())
}

/// One test of one feature in the lists of version 3: leaves 1 and 2.
fn stump(mode: &str, thresholds: impl Fn(Builder) -> Builder) -> Builder {
    let builder = Builder::new()
        .input("x", &[0, 1])
        .node("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "y")
        .ints("nodes_treeids", &[0, 0, 0])
        .ints("nodes_nodeids", &[0, 1, 2])
        .ints("nodes_featureids", &[0, 0, 0])
        .texts("nodes_modes", &[mode, "LEAF", "LEAF"])
        .ints("nodes_truenodeids", &[1, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 0])
        .ints("target_treeids", &[0, 0])
        .ints("target_nodeids", &[1, 2])
        .ints("target_ids", &[0, 0])
        .floats("target_weights", &[1.0, 2.0])
        .output("y");
    thresholds(builder)
}

/// Nodes of version 5 on the way from `holds` and `fails`: a node, or a leaf as `!leaf`.
struct Listed {
    mode: u8,
    feature: i64,
    split: f64,
    holds: i64,
    fails: i64,
}

fn listed(mode: u8, feature: i64, split: f64, holds: i64, fails: i64) -> Listed {
    Listed { mode, feature, split, holds, fails }
}

fn version_5(kind: i32, nodes: &[Listed], roots: &[i64], leaves: &[(i64, f64)], targets: i64) -> Builder {
    let list = |of: fn(&Listed) -> i64| nodes.iter().map(of).collect::<Vec<i64>>();
    let place = |at: i64| if at < 0 { !at } else { at };
    let holds: Vec<i64> = nodes.iter().map(|node| place(node.holds)).collect();
    let fails: Vec<i64> = nodes.iter().map(|node| place(node.fails)).collect();
    let modes: Vec<f64> = nodes.iter().map(|node| f64::from(node.mode)).collect();
    let splits: Vec<f64> = nodes.iter().map(|node| node.split).collect();
    let weights: Vec<f64> = leaves.iter().map(|leaf| leaf.1).collect();
    let mut builder = Builder::new()
        .input("x", &[0, 2])
        .node("ai.onnx.ml.TreeEnsemble", &["x"], "y")
        .ints("tree_roots", roots)
        .ints("nodes_featureids", &list(|node| node.feature))
        .tensor("nodes_modes", data_type::UINT8, &modes)
        .tensor("nodes_splits", kind, &splits)
        .ints("nodes_truenodeids", &holds)
        .ints("nodes_falsenodeids", &fails)
        .ints("nodes_trueleafs", &list(|node| i64::from(node.holds < 0)))
        .ints("nodes_falseleafs", &list(|node| i64::from(node.fails < 0)))
        .ints("leaf_targetids", &leaves.iter().map(|leaf| leaf.0).collect::<Vec<i64>>())
        .tensor("leaf_weights", kind, &weights)
        .int("n_targets", targets)
        .output("y");
    builder.0.opset_import[1].version = Some(5);
    builder
}

/// A test of the first feature: leaf 1 where it holds, else 2.
fn test_5(kind: i32, mode: u8, split: f64) -> Builder {
    version_5(kind, &[listed(mode, 0, split, !0, !1)], &[0], &[(0, 1.0), (0, 2.0)], 1)
}

const SINGLE: i32 = data_type::FLOAT;
const DOUBLE: i32 = data_type::DOUBLE;

#[test]
fn every_test_holds_where_it_says() {
    type Compare = fn(f64, f64) -> bool;
    let tests: [(&str, Compare); 6] = [
        ("BRANCH_LEQ", |x, t| x <= t),
        ("BRANCH_LT", |x, t| x < t),
        ("BRANCH_GTE", |x, t| x >= t),
        ("BRANCH_GT", |x, t| x > t),
        ("BRANCH_EQ", |x, t| x == t),
        ("BRANCH_NEQ", |x, t| x != t),
    ];
    for (mode, (name, holds)) in (0u8..).zip(tests) {
        for t in [0.1f32, 0.0, -0.0, 7.0, -3.5e7, f32::MIN_POSITIVE] {
            let (near, wide) = ([t.next_down(), t, t.next_up(), 0.0, 1.0], f64::from(t));
            let single = [
                imported(&stump(name, |builder| builder.floats("nodes_values", &[t, 0.0, 0.0]))),
                imported(&test_5(SINGLE, mode, wide)),
            ];
            for (model, x) in single.iter().flat_map(|model| near.map(|x| (model, x))) {
                let row = vec![f64::from(x); model.input_count()];
                let wanted = if holds(f64::from(x), wide) { 1.0 } else { 2.0 };
                assert_eq!(model.outputs_f64(&row), [wanted], "{x} {name} {t}");
            }
            // Numbers that single precision does not tell apart.
            let t = wide + 1e-12;
            let doubles = |builder: Builder| builder.tensor("nodes_values_as_tensor", DOUBLE, &[t, 0.0, 0.0]);
            for model in [imported(&stump(name, doubles)), imported(&test_5(DOUBLE, mode, t))] {
                for x in [t.next_down(), t, t.next_up(), wide] {
                    let wanted = if holds(x, t) { 1.0 } else { 2.0 };
                    let row = vec![x; model.input_count()];
                    assert_eq!(model.outputs_f64(&row), [wanted], "{x} {name} {t} in double precision");
                }
            }
        }
    }
}

/// Two tests for members of sets.
pub(super) fn sets(values: &[f64]) -> Builder {
    let nodes = [listed(6, 0, 0.0, !0, 1), listed(6, 1, 0.0, !1, !2)];
    let builder = version_5(SINGLE, &nodes, &[0], &[(0, 1.0), (0, 2.0), (0, 3.0)], 1);
    builder.tensor("membership_values", SINGLE, values)
}

#[test]
fn members_of_sets_are_found() {
    // Neighbours, a repeated member, members out of order.
    let set = [7.0, 2.0, 2.0, f64::from(2.0f32.next_up()), -4.0, 9.0];
    let values: Vec<f64> = set.iter().copied().chain([f64::NAN, 3.0]).collect();
    let model = imported(&sets(&values));
    for x in [-5.0, -4.0, 0.0, 2.0, 2.0f32.next_up(), 2.0f32.next_down(), 3.0, 7.0, 8.0, 9.0, 10.0] {
        for y in [2.0, 3.0] {
            let wanted = match (set.contains(&f64::from(x)), y == 3.0) {
                (true, _) => 1.0,
                (false, true) => 2.0,
                (false, false) => 3.0,
            };
            assert_eq!(model.outputs_f64(&[f64::from(x), y]), [wanted], "{x} {y}");
        }
    }
    for (values, said) in [
        (vec![1.0], "no set for node 1"),
        (vec![1.0, f64::NAN, f64::NAN, 2.0], "more sets than nodes"),
        (vec![f64::NAN, 2.0], "an empty set"),
    ] {
        let (code, message) = refused(&sets(&values));
        assert_eq!(code, "E0135", "{message}");
        assert!(message.contains(said), "{message}");
    }
}

/// Tests for single numbers share what follows them: a chain of them is no larger in the table than in the file, and
/// integers tell all of them apart.
#[test]
fn chains_of_categories_are_exact_in_integers() {
    const COUNT: i64 = 20;
    let nodes: Vec<Listed> = (0..COUNT)
        .map(|at| {
            let fails = if at + 1 < COUNT { at + 1 } else { !COUNT };
            listed(4, at % 2, at as f64 * 3.0, !at, fails)
        })
        .collect();
    let leaves: Vec<(i64, f64)> = (0..=COUNT).map(|at| (0, at as f64)).collect();
    let model = imported(&version_5(SINGLE, &nodes, &[0], &leaves, 1));
    let quantised = quantise(&model, &contract::without_spec(&model), None, &Options::default()).unwrap();
    let report = quantised.report.forest.as_ref().unwrap();
    assert!(report.nodes < 6 * COUNT as usize, "{}", report.nodes);
    let unit = quantised.network.decision.unit;
    let network = check(quantised.network).unwrap();
    let bits: Vec<u8> = network.get().inputs.iter().map(|input| input.fraction_bits.0).collect();
    for (x, y) in (-1..70).flat_map(|x| (-1..70).map(move |y| (x, y))) {
        let row = [x as f64, y as f64];
        let first = (0..COUNT).find(|at| row[usize::from(at % 2 == 1)] == (*at * 3) as f64);
        let wanted = first.unwrap_or(COUNT) as f64;
        assert_eq!(model.outputs_f64(&row), [wanted], "{row:?}");
        let raw = [x << bits[0], y << bits[1]];
        assert_eq!(interpret::outputs(network.get(), &raw)[0] as f64 * unit, wanted, "{row:?}");
    }
}

#[test]
fn aggregates_of_several_trees() {
    // Trees with the values 1 and 5, 3 and -2, 4 and 0 on either side of 0, 1 and 2.
    let nodes = [listed(0, 0, 0.0, !0, !1), listed(0, 0, 1.0, !2, !3), listed(3, 0, 2.0, !4, !5)];
    let leaves = [(0, 1.0), (0, 5.0), (0, 3.0), (0, -2.0), (0, 4.0), (0, 0.0)];
    let values = |x: f64| {
        [if x <= 0.0 { 1.0 } else { 5.0 }, if x <= 1.0 { 3.0 } else { -2.0 }, if x > 2.0 { 4.0 } else { 0.0 }]
    };
    for x in [-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 2.5] {
        let own = values(x);
        let sum: f64 = own.iter().sum();
        let wanted = [
            sum / 3.0,
            sum,
            own.iter().copied().fold(f64::INFINITY, f64::min),
            own.iter().copied().fold(f64::NEG_INFINITY, f64::max),
        ];
        for (function, wanted) in (0..).zip(wanted) {
            let builder =
                version_5(SINGLE, &nodes, &[0, 1, 2], &leaves, 1).int("aggregate_function", function);
            let got = imported(&builder).outputs_f64(&[x, 0.0]);
            assert!((got[0] - wanted).abs() < 1e-12, "{x} {function}: {got:?} for {wanted}");
        }
    }
    let unknown = version_5(SINGLE, &nodes, &[0, 1, 2], &leaves, 1).int("aggregate_function", 4);
    assert_eq!(refused(&unknown).0, "E0135");
    // Of two targets, some leaves name only one.
    let two = version_5(
        SINGLE,
        &nodes,
        &[0, 1, 2],
        &[(0, 1.0), (0, 5.0), (0, 3.0), (1, -2.0), (0, 4.0), (0, 0.0)],
        2,
    );
    assert!(refused(&two.clone().int("aggregate_function", 2)).1.contains("MIN` over trees"));
    assert_eq!(imported(&two).outputs_f64(&[3.0, 0.0]), [9.0, -2.0]);
    // Forty trees in one would have 2^40 leaves.
    let nodes: Vec<Listed> = (0..40).map(|at| listed(0, 0, at as f64, !(2 * at), !(2 * at + 1))).collect();
    let leaves: Vec<(i64, f64)> = (0..80).map(|at| (0, f64::from(at))).collect();
    let many = version_5(SINGLE, &nodes, &(0..40).collect::<Vec<i64>>(), &leaves, 1);
    let (code, message) = refused(&many.int("aggregate_function", 3));
    assert_eq!(code, "E0125", "{message}");
    assert!(message.contains("MAX` is no sum over the 40 trees"), "{message}");
}

#[test]
fn a_tree_that_is_a_leaf() {
    let nodes = [listed(0, 0, 0.0, !0, !0), listed(0, 0, 0.0, !1, !0)];
    let model = imported(&version_5(SINGLE, &nodes, &[0, 1], &[(0, 1.5), (0, 8.0)], 1));
    assert_eq!((model.outputs_f64(&[0.0, 0.0]), model.outputs_f64(&[1.0, 0.0])), (vec![9.5], vec![3.0]));
}

#[test]
fn transforms_that_runtimes_read_differently_are_refused_e0125() {
    for (number, name) in [(1, "SOFTMAX"), (2, "LOGISTIC"), (3, "SOFTMAX_ZERO"), (4, "PROBIT")] {
        let (code, message) = refused(&test_5(SINGLE, 0, 0.0).int("post_transform", number));
        assert_eq!(code, "E0125");
        assert!(message.contains(&format!("post_transform = {name}` of TreeEnsemble")), "{message}");
    }
    assert_eq!(refused(&test_5(SINGLE, 0, 0.0).int("post_transform", 5)).0, "E0135");
    let single = |transform| {
        let builder = stump("BRANCH_LEQ", |builder| builder.floats("nodes_values", &[0.0; 3]));
        refused(&builder.text("post_transform", transform))
    };
    for transform in ["SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"] {
        let (code, message) = single(transform);
        assert_eq!(code, "E0125");
        assert!(message.contains(transform), "{message}");
    }
}

/// Lists of version 5 that are no trees.
#[test]
fn lists_of_version_5_that_are_no_trees_are_refused_e0135() {
    type Change = fn(&mut AttributeProto);
    let changes: [(&str, Change, &str); 13] = [
        ("nodes_trueleafs", |a| a.ints[1] = 0, "two parents, or leads back to itself"),
        ("nodes_falsenodeids", |a| a.ints[0] = 0, "two parents, or leads back to itself"),
        ("nodes_falsenodeids", |a| a.ints[0] = 9, "there is no node 9"),
        ("nodes_truenodeids", |a| a.ints[0] = -1, "there is no leaf -1"),
        ("nodes_truenodeids", |a| a.ints[0] = 3, "there is no leaf 3"),
        ("nodes_featureids", |a| a.ints[0] = 2, "feature 2 of 2"),
        ("nodes_featureids", |a| a.ints.truncate(1), "nodes are listed with"),
        (
            "nodes_splits",
            |a| a.t.as_mut().unwrap().raw_data = Some(f32::NAN.to_le_bytes().repeat(2)),
            "is not a number",
        ),
        ("nodes_modes", |a| a.t.as_mut().unwrap().raw_data = Some(vec![0, 7]), "has the mode 7"),
        ("tree_roots", |a| a.ints[0] = 1, "node 0 has no parent"),
        ("tree_roots", |a| a.ints.clear(), "`tree_roots`"),
        ("leaf_targetids", |a| a.ints[0] = 1, "class or target 1 of 1"),
        ("leaf_targetids", |a| a.ints.truncate(1), "weights are listed with"),
    ];
    for (name, change, said) in changes {
        let nodes = [listed(0, 0, 0.0, !0, 1), listed(0, 1, 0.0, !1, !2)];
        let mut builder = version_5(SINGLE, &nodes, &[0], &[(0, 1.0), (0, 2.0), (0, 3.0)], 1);
        let attributes = &mut builder.graph().node[0].attribute;
        change(attributes.iter_mut().find(|a| a.name.as_deref() == Some(name)).unwrap());
        let (code, message) = refused(&builder);
        assert_eq!(code, "E0135", "{name}: {message}");
        assert!(message.contains(said), "{name}: {message}");
    }
    let weights = test_5(SINGLE, 0, 0.0);
    for targets in [0, -1, 1 << 40] {
        let mut builder = weights.clone();
        let attributes = &mut builder.graph().node[0].attribute;
        attributes.retain(|attribute| attribute.name.as_deref() != Some("n_targets"));
        assert_eq!(refused(&builder.int("n_targets", targets)).0, "E0135");
    }
    let half = test_5(data_type::FLOAT16, 0, 0.0);
    assert_ne!(refused(&half).0, "E0135");
}

#[test]
fn doubles_beside_floats_and_too_many_nodes_are_refused() {
    let both = stump("BRANCH_LEQ", |builder| {
        builder.floats("nodes_values", &[0.0; 3]).tensor("nodes_values_as_tensor", DOUBLE, &[0.0; 3])
    });
    assert!(refused(&both).1.contains("both `nodes_values`"));
    let count = (1 << 20) + 1;
    let many = Builder::new()
        .input("x", &[0, 1])
        .node("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "y")
        .ints("nodes_treeids", &vec![0; count])
        .output("y");
    assert_eq!(refused(&many).0, "E0111");
}
