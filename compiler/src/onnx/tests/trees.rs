//! Tree ensembles: the exporters' files through to the fixed-point form, the meaning of modes and of two classes, and
//! lists that are no trees.

use std::path::{Path, PathBuf};

use onnx_protobuf::ModelProto as Independent;
use protobuf::Message as _;

use super::build::Builder;
use super::corpus::{Folder, corpus, models};
use super::npz;
use crate::check::check;
use crate::diag::codes::onnx as codes;
use crate::ir::interpret;
use crate::model::{Body, Head, Model};
use crate::onnx::{NoFiles, import};
use crate::quant::{Options, contract, quantise};

/// Files with a tree ensemble that are imported.
fn files() -> Vec<PathBuf> {
    let Some(folder) = corpus() else { return Vec::new() };
    let others = folder.join("../models");
    let all = models(&folder).into_iter().chain(models(&others));
    all.filter(|path| {
        let graph = Independent::parse_from_bytes(&std::fs::read(path).unwrap()).unwrap().graph.unwrap();
        graph.node.iter().any(|node| node.op_type.starts_with("TreeEnsemble"))
    })
    .collect()
}

fn reference(path: &Path) -> (Vec<f64>, Vec<String>) {
    let beside = path.with_extension("npz");
    let file = if beside.exists() { beside } else { path.with_extension("golden.npz") };
    let arrays = npz::read(&std::fs::read(file).unwrap());
    let rows = arrays.get("x").or_else(|| arrays.get("X")).unwrap().numbers().to_vec();
    let labels = arrays.iter().find(|(name, _)| name.contains("label"));
    (rows, labels.map(|(_, array)| array.labels()).unwrap_or_default())
}

/// Labels of the float model and of the integers against the reference; scores of integers against the float model.
#[test]
fn exported_trees_give_the_labels_of_their_runtime() {
    let files = files();
    if files.is_empty() {
        eprintln!("SKIP exported_trees_give_the_labels_of_their_runtime: ../shared/data is missing");
        return;
    }
    assert!(files.len() >= 14, "{files:?}");
    for path in files {
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        let bytes = std::fs::read(&path).unwrap();
        let model = import(&name, &bytes, &Folder(path.parent().unwrap().to_owned()))
            .unwrap_or_else(|reasons| panic!("{name}: {reasons:?}"));
        let Body::Forest(forest) = &model.body else { panic!("{name} has no trees") };
        let contract = contract::without_spec(&model);
        let quantised = quantise(&model, &contract, None, &Options::default())
            .unwrap_or_else(|reasons| panic!("{name}: {reasons:?}"));
        assert_eq!(quantised.report.flips, 0, "{name}");
        let error = quantised.report.forest.as_ref().unwrap().score_error;
        let network = check(quantised.network).unwrap();
        let network = network.get();
        let (rows, labels) = reference(&path);
        let width = model.input_count();
        let (mut float, mut fixed, mut apart) = (0, 0, 0.0f64);
        for (index, row) in rows.chunks_exact(width).enumerate() {
            let raw: Vec<i64> = row
                .iter()
                .zip(&network.inputs)
                .map(|(value, input)| (value * f64::from(input.fraction_bits.0).exp2()).round() as i64)
                .collect();
            let outputs = model.outputs_f64(row);
            let verdict = interpret::run(network, &raw);
            for (ours, integer) in outputs.iter().zip(&verdict.outputs) {
                apart = apart.max((ours - *integer as f64 * network.decision.unit).abs());
            }
            let Some(wanted) = labels.get(index) else { continue };
            let named = |label: usize| {
                let classes = model.first.classes.as_ref();
                classes.map_or_else(|| label.to_string(), |classes| classes[label].clone())
            };
            float += usize::from(model.first.head.label(&outputs).map(named).as_ref() == Some(wanted));
            fixed += usize::from(verdict.label.map(|label| named(label as usize)).as_ref() == Some(wanted));
        }
        println!(
            "{name}: {} trees, depth {}, {} nodes: {float} and {fixed} of {} labels, scores within {apart:e} ({error:e})",
            forest.trees.len(),
            forest.depth(),
            forest.node_count(),
            labels.len(),
        );
        assert_eq!((float, fixed), (labels.len(), labels.len()), "{name}");
        assert!(apart <= error + 1e-9, "{name}: {apart:e} beyond {error:e}");
    }
}

/// One comparison of one feature: leaves 1 and 2 of targets or classes.
fn stump(operator: &str, mode: &str, threshold: f32) -> Builder {
    Builder::new()
        .input("x", &[0, 1])
        .node(&format!("ai.onnx.ml.{operator}"), &["x"], "y")
        .ints("nodes_treeids", &[0, 0, 0])
        .ints("nodes_nodeids", &[0, 1, 2])
        .ints("nodes_featureids", &[0, 0, 0])
        .floats("nodes_values", &[threshold, 0.0, 0.0])
        .texts("nodes_modes", &[mode, "LEAF", "LEAF"])
        .ints("nodes_truenodeids", &[1, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 0])
        .output("y")
}

fn regressor(mode: &str, threshold: f32) -> Builder {
    stump("TreeEnsembleRegressor", mode, threshold)
        .ints("target_treeids", &[0, 0])
        .ints("target_nodeids", &[1, 2])
        .ints("target_ids", &[0, 0])
        .floats("target_weights", &[1.0, 2.0])
        .int("n_targets", 1)
}

fn classifier(weights: &[f32], post: &str) -> Builder {
    let mut builder = stump("TreeEnsembleClassifier", "BRANCH_LEQ", 0.0)
        .ints("class_treeids", &[0, 0])
        .ints("class_nodeids", &[1, 2])
        .ints("class_ids", &[0, 0])
        .floats("class_weights", weights)
        .texts("classlabels_strings", &["no", "yes"])
        .text("post_transform", post)
        .output("p");
    builder.graph().node[0].output.push("p".to_owned());
    builder
}

fn imported(builder: &Builder) -> Model {
    import("trees", &builder.bytes(), &NoFiles).unwrap()
}

#[test]
fn every_mode_compares_in_single_precision() {
    type Compare = fn(f32, f32) -> bool;
    let holds: [(&str, Compare); 4] = [
        ("BRANCH_LEQ", |x, t| x <= t),
        ("BRANCH_LT", |x, t| x < t),
        ("BRANCH_GTE", |x, t| x >= t),
        ("BRANCH_GT", |x, t| x > t),
    ];
    let t = 0.1f32;
    for (mode, holds) in holds {
        for t in [t, 0.0, -0.0, -3.5e7, f32::MIN_POSITIVE, f32::INFINITY, f32::NEG_INFINITY] {
            let model = imported(&regressor(mode, t));
            for x in
                [t, t.next_up(), t.next_down(), 0.0, -0.0, 1.0, -1.0].into_iter().filter(|x| x.is_finite())
            {
                let wanted = if holds(x, t) { 1.0 } else { 2.0 };
                assert_eq!(model.outputs_f64(&[f64::from(x)]), [wanted], "{x} {mode} {t}");
            }
        }
    }
    // Doubles are rounded first, as the runtime's input is.
    assert_eq!(imported(&regressor("BRANCH_LEQ", 0.1)).outputs_f64(&[0.1]), [1.0]);
}

#[test]
fn two_classes_mean_what_the_runtime_makes_of_them() {
    let cases = [
        (&[0.25, 0.75][..], "NONE", Head::Probability, [-0.25, 0.25]),
        (&[0.5, 0.5], "NONE", Head::Probability, [0.0, 0.0]),
        (&[-0.25, 0.75], "NONE", Head::Logistic, [-0.25, 0.75]),
        (&[-0.25, 0.75], "LOGISTIC", Head::Logistic, [-0.25, 0.75]),
    ];
    for (weights, post, head, outputs) in cases {
        let model = imported(&classifier(weights, post));
        assert_eq!(model.first.head, head, "{post} {weights:?}");
        assert_eq!([model.outputs_f64(&[0.0])[0], model.outputs_f64(&[1.0])[0]], outputs);
        assert_eq!(model.first.classes.as_deref().unwrap(), ["no", "yes"]);
    }
    assert_eq!(Head::Probability.label(&[0.0]), Some(0));
    assert_eq!(Head::Probability.score(&[-0.25]), Some(0.75));
    // Weights that are never negative are no logits: runtimes differ about these.
    let reasons = import("trees", &classifier(&[0.25, 0.75], "LOGISTIC").bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, codes::OPERATOR_FORM.id);
    let reasons = import("trees", &classifier(&[0.25, 0.75], "PROBIT").bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, codes::OPERATOR_FORM.id);
}

#[test]
fn outputs_are_scaled_behind_the_trees() {
    let mut builder = regressor("BRANCH_LEQ", 0.0)
        .floats("base_values", &[0.5])
        .weight("half", &[1], &[0.5])
        .weight("three", &[1], &[3.0])
        .node("Mul", &["y", "half"], "scaled")
        .node("Sub", &["scaled", "three"], "z")
        .output("z");
    // The attributes of the first node came before; `y` is no output any more.
    builder.graph().output.remove(0);
    let node = builder.graph().node[0].attribute.len();
    assert!(node > 10);
    let model = imported(&builder);
    assert_eq!([model.outputs_f64(&[0.0])[0], model.outputs_f64(&[1.0])[0]], [-2.25, -1.75]);
}

/// A change of one attribute of the stump, and what is wrong then.
#[test]
fn lists_that_are_no_trees_are_refused_e0135() {
    type Change = fn(&mut crate::onnx::schema::AttributeProto);
    let changes: [(&str, Change, &str); 12] = [
        ("nodes_falsenodeids", |a| a.ints[0] = 1, "two parents"),
        ("nodes_falsenodeids", |a| a.ints[0] = 0, "two parents, or leads back to itself"),
        ("nodes_truenodeids", |a| a.ints[0] = 7, "has no node 7"),
        ("nodes_values", |a| a.floats[0] = f32::NAN, "is not a number"),
        ("nodes_values", |a| a.floats.truncate(2), "nodes are listed with"),
        ("nodes_nodeids", |a| a.ints[2] = 1, "two nodes 1"),
        ("nodes_featureids", |a| a.ints[0] = 1, "feature 1 of 1"),
        ("nodes_modes", |a| a.strings[0] = b"BRANCH".to_vec(), "mode `BRANCH`"),
        ("nodes_treeids", |a| a.ints = vec![0, 1, 0], "do not stand together"),
        ("target_ids", |a| a.ints[0] = 1, "class or target 1 of 1"),
        ("target_nodeids", |a| a.ints[1] = 0, "no leaf has weights"),
        ("target_weights", |a| a.floats.truncate(1), "weights are listed with"),
    ];
    for (name, change, said) in changes {
        let mut builder = regressor("BRANCH_LEQ", 0.0);
        let attributes = &mut builder.graph().node[0].attribute;
        change(attributes.iter_mut().find(|a| a.name.as_deref() == Some(name)).unwrap());
        let reasons = import("trees", &builder.bytes(), &NoFiles).unwrap_err();
        let [reason] = reasons.as_slice() else { panic!("{reasons:?}") };
        assert_eq!(reason.code.id, "E0135", "{name}: {}", reason.message);
        assert!(reason.message.contains(said), "{name}: {}", reason.message);
    }
    let mut builder = classifier(&[0.25, 0.75], "NONE");
    let attributes = &mut builder.graph().node[0].attribute;
    attributes.iter_mut().find(|a| a.name.as_deref() == Some("classlabels_strings")).unwrap().strings.pop();
    let reasons = import("trees", &builder.bytes(), &NoFiles).unwrap_err();
    assert_eq!((reasons[0].code.id, reasons[0].message.as_str()), ("E0135", "1 classes are named"));
}

#[test]
fn what_trees_cannot_be_here_is_refused() {
    let form = |builder: &Builder, said: &str| {
        let reasons = import("trees", &builder.bytes(), &NoFiles).unwrap_err();
        assert_eq!(reasons[0].code.id, codes::OPERATOR_FORM.id, "{reasons:?}");
        assert!(reasons[0].message.contains(said), "{}", reasons[0].message);
    };
    form(&regressor("BRANCH_LEQ", 0.0).text("post_transform", "SOFTMAX"), "SOFTMAX` of 1 sums");
    let dense = regressor("BRANCH_LEQ", 0.0)
        .weight("w", &[1, 1], &[2.0])
        .node("MatMul", &["y", "w"], "z")
        .output("z");
    let reasons = import("trees", &dense.bytes(), &NoFiles).unwrap_err();
    assert!(!reasons.is_empty());
}
