//! The export corpus: what imports agrees with the reference outputs, what does not is refused with a code.
//!
//! `testdata/onnx-exports.status` is the list of what happens to each file; `BLESS=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onnx_protobuf::ModelProto as Independent;
use prost::Message as _;
use protobuf::Message as _;

use super::npz::{self, Array};
use crate::model::{Head, Model, Output};
use crate::onnx::schema::TensorProto;
use crate::onnx::tensor::decode;
use crate::onnx::{Resolver, import};

/// Most rows that single precision may round to another level of the last rounding than double precision does.
const OTHER_LEVELS: f64 = 0.01;

/// Reads files beside a model.
pub(super) struct Folder(pub(super) PathBuf);

impl Resolver for Folder {
    fn read(&self, relative: &str) -> Result<Vec<u8>, String> {
        std::fs::read(self.0.join(relative)).map_err(|error| error.to_string())
    }
}

pub(super) fn corpus() -> Option<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/data/onnx-exports");
    folder.is_dir().then_some(folder)
}

pub(super) fn models(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut models: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "onnx")).collect();
    models.sort();
    models
}

/// `imported` or the codes of the refusal, in order, without repetition.
fn status(path: &Path) -> String {
    let bytes = std::fs::read(path).unwrap();
    match import(&path.to_string_lossy(), &bytes, &Folder(path.parent().unwrap().to_owned())) {
        Ok(model) => {
            assert_matches_reference(path, &bytes, &model);
            "imported".to_owned()
        }
        Err(reasons) => {
            assert!(!reasons.is_empty(), "{path:?} is refused without a reason");
            assert!(reasons.iter().all(|reason| !reason.help.is_empty()));
            if std::env::var_os("NNBPF_SHOW_REASONS").is_some() {
                for reason in &reasons {
                    eprintln!(
                        "{}: {} {}",
                        path.file_name().unwrap().display(),
                        reason.code.id,
                        reason.message
                    );
                }
            }
            let mut codes: Vec<&str> = reasons.iter().map(|reason| reason.code.id).collect();
            codes.sort_unstable();
            codes.dedup();
            codes.join(" ")
        }
    }
}

#[test]
fn corpus_status_is_as_recorded() {
    let Some(folder) = corpus() else {
        eprintln!("SKIP corpus_status_is_as_recorded: ../shared/data/onnx-exports is missing");
        return;
    };
    as_recorded(&[("", folder.clone()), ("negative/", folder.join("negative"))], "onnx-exports.status");
}

#[test]
fn committed_exports_are_as_recorded() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/exports");
    as_recorded(&[("", folder)], "exports/status");
}

/// Compares what happens to each model of the folders with a list in `testdata`.
fn as_recorded(folders: &[(&str, PathBuf)], list: &str) {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata").join(list);
    let mut text = String::new();
    let (mut imported, mut refused) = (0, 0);
    for (prefix, folder) in folders {
        for path in models(folder) {
            let status = status(&path);
            if status == "imported" {
                assert!(prefix.is_empty(), "{path:?} must be refused");
                imported += 1;
            } else {
                refused += 1;
            }
            writeln!(text, "{prefix}{} {status}", path.file_stem().unwrap().display()).unwrap();
        }
    }
    eprintln!("{text}imported {imported}, refused {refused}");
    if std::env::var_os("BLESS").is_some() {
        std::fs::create_dir_all(golden.parent().unwrap()).unwrap();
        std::fs::write(&golden, &text).unwrap();
    }
    let expected = std::fs::read_to_string(&golden).unwrap_or_default();
    assert!(expected == text, "the status of the corpus changed; look at the difference after `BLESS=1`");
}

/// What an output of the graph means, judged by the node that makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meaning {
    Raw,
    /// `[-z, z]`, or `[z, -z]`, of one number; of several they are themselves.
    Decisions {
        flipped: bool,
    },
    /// One of the decisions.
    Decision,
    Softmax,
    LogSoftmax,
    Sigmoid,
    Both,
    Each,
    Normalised,
    Column(usize),
    Label,
    /// Probabilities as trees sum them up; of two classes less one half.
    Shares,
    /// One half less `2 ^ -y`, of which `ln(2) - ln(2) * y` is the raw value: an isolation forest's scores.
    Anomaly,
}

/// Whether a chain of first inputs that do arithmetic leads from an output to such a node.
fn follows(graph: &onnx_protobuf::GraphProto, output: &str, operator: &str) -> bool {
    let node = graph.node.iter().find(|node| node.output.iter().any(|name| name == output));
    node.is_some_and(|node| match node.op_type.as_str() {
        own if own == operator => true,
        "Add" | "Mul" | "Neg" | "Cast" => follows(graph, &node.input[0], operator),
        _ => false,
    })
}

fn transform(node: &onnx_protobuf::NodeProto) -> String {
    let attribute = node.attribute.iter().find(|attribute| attribute.name == "post_transform");
    attribute.map_or_else(String::new, |attribute| String::from_utf8(attribute.s.clone()).unwrap())
}

pub(super) fn meaning(graph: &onnx_protobuf::GraphProto, output: &str) -> Meaning {
    let Some(node) = graph.node.iter().find(|node| node.output.iter().any(|name| name == output)) else {
        panic!("output {output} has no node");
    };
    let constant = |name: &str| graph.initializer.iter().find(|tensor| tensor.name == name);
    let of_first = || meaning(graph, &node.input[0]);
    match node.op_type.as_str() {
        "Identity" | "Cast" | "Reshape" | "ZipMap" | "Squeeze" | "QuantizeLinear" | "DequantizeLinear" => {
            of_first()
        }
        "Softmax" | "QLinearSoftmax" => Meaning::Softmax,
        "LogSoftmax" => Meaning::LogSoftmax,
        "Sigmoid" | "QLinearSigmoid" => Meaning::Sigmoid,
        // Calibrated classifiers: sigmoids as quotients, and the mean of the probabilities of both classes.
        "Div" if constant(&node.input[0]).is_some() => Meaning::Sigmoid,
        "Div" if of_first() == Meaning::Shares => Meaning::Shares,
        "Sum" if of_first() == Meaning::Both => Meaning::Shares,
        "Concat" | "QLinearConcat" => {
            // Behind a value of a QLinearConcat are its scale and its zero point.
            let back = if node.op_type == "Concat" { 1 } else { 3 };
            let last = meaning(graph, &node.input[node.input.len() - back]);
            if matches!(last, Meaning::Column(_)) {
                Meaning::Each
            } else if last == Meaning::Raw {
                Meaning::Decisions { flipped: false }
            } else {
                Meaning::Both
            }
        }
        "TreeEnsembleClassifier" if node.output[0] == output => Meaning::Label,
        "TreeEnsembleClassifier" if transform(node) == "NONE" => Meaning::Shares,
        "TreeEnsembleClassifier" => Meaning::Both,
        "Add" if follows(graph, output, "Less") => Meaning::Label,
        "Add" if follows(graph, output, "Pow") => Meaning::Anomaly,
        "Div" if follows(graph, &node.input[0], "Exp") => Meaning::Softmax,
        // The exporter's way to name an output.
        "Mul" if node.input[1] == "one" => meaning(graph, &node.input[0]),
        "Slice" => {
            let start = constant(&node.input[1]).unwrap();
            Meaning::Column(
                start.int64_data.first().map_or_else(|| usize::from(start.raw_data[0]), |v| *v as usize),
            )
        }
        "ArrayFeatureExtractor" if constant(&node.input[0]).is_none() => {
            if matches!(of_first(), Meaning::Decisions { .. }) { Meaning::Decision } else { Meaning::Raw }
        }
        "ArgMax" | "ArrayFeatureExtractor" | "Greater" | "Sign" => Meaning::Label,
        "LinearClassifier" | "SVMClassifier" if node.output[0] == output => Meaning::Label,
        "LinearClassifier" | "SVMClassifier" => {
            let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
            match attribute("post_transform").map_or(&b"NONE"[..], |transform| &transform.s) {
                b"SOFTMAX" => Meaning::Softmax,
                b"LOGISTIC" => Meaning::Both,
                _ if attribute("prob_a").is_some() => Meaning::Both,
                _ => Meaning::Decisions { flipped: node.op_type == "SVMClassifier" },
            }
        }
        "Normalizer" | "LpNormalization" => {
            if of_first() == Meaning::Softmax {
                Meaning::Softmax
            } else {
                Meaning::Normalised
            }
        }
        _ => Meaning::Raw,
    }
}

/// How an output of the graph is rounded at the end: the scale, and the zero point where it is left in integers.
pub(super) fn last_rounding(graph: &onnx_protobuf::GraphProto, output: &str) -> Option<(f64, Option<f64>)> {
    let node = graph.node.iter().find(|node| node.output.iter().any(|name| name == output))?;
    let constant = |index: usize| {
        let name = node.input.get(index)?;
        let stored = graph.initializer.iter().find(|tensor| tensor.name == *name)?;
        let own = TensorProto::decode(stored.write_to_bytes().ok()?.as_slice()).ok()?;
        decode(&own, None).ok()?.single()
    };
    match node.op_type.as_str() {
        "Identity" | "Cast" | "Reshape" | "Squeeze" => last_rounding(graph, &node.input[0]),
        "DequantizeLinear" => Some((constant(1)?, None)),
        "QuantizeLinear" => Some((constant(1)?, Some(constant(2)?))),
        _ => None,
    }
}

/// The reference of an output; the file of one output may call it anything.
pub(super) fn reference_of<'a>(
    reference: &'a BTreeMap<String, Array>,
    graph: &onnx_protobuf::GraphProto,
    output: &str,
) -> Option<&'a Array> {
    let named = reference.get(&format!("out_{}", output.replace([':', '/'], "_")));
    let mut others = reference.iter().filter(|(name, _)| name.starts_with("out_"));
    match (others.next(), others.next(), graph.output.len()) {
        (Some((_, only)), None, 1) => Some(named.unwrap_or(only)),
        _ => named,
    }
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// What the numbers of an output say about a row, in the terms of an output of the graph.
pub(super) fn expected(meaning: Meaning, outputs: &[f64]) -> Vec<f64> {
    let softmax = || {
        let highest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = outputs.iter().map(|z| (z - highest).exp()).sum();
        outputs.iter().map(|z| (z - highest).exp() / sum).collect::<Vec<f64>>()
    };
    let each = || outputs.iter().copied().map(logistic).collect::<Vec<f64>>();
    let both = || {
        if outputs.len() == 1 { vec![1.0 - logistic(outputs[0]), logistic(outputs[0])] } else { softmax() }
    };
    match (meaning, outputs) {
        (Meaning::Decisions { flipped }, [z]) => {
            if flipped {
                vec![*z, -z]
            } else {
                vec![-z, *z]
            }
        }
        (Meaning::Raw | Meaning::Decisions { .. } | Meaning::Decision, _) => outputs.to_vec(),
        (Meaning::Softmax | Meaning::Both, [_]) => both(),
        (Meaning::Softmax, _) => softmax(),
        (Meaning::LogSoftmax, _) => softmax().into_iter().map(f64::ln).collect(),
        (Meaning::Sigmoid, _) => vec![logistic(outputs[0])],
        (Meaning::Both, _) => both(),
        (Meaning::Each, _) => each(),
        (Meaning::Normalised, _) => {
            let sum: f64 = each().iter().sum();
            each().into_iter().map(|p| p / sum).collect()
        }
        (Meaning::Column(column), _) => vec![both()[column]],
        (Meaning::Shares, [z]) => vec![0.5 - z, 0.5 + z],
        (Meaning::Shares, _) => outputs.to_vec(),
        (Meaning::Anomaly, _) => outputs.iter().map(|z| 0.5 - 0.5 * z.exp()).collect(),
        (Meaning::Label, _) => unreachable!("labels are compared as texts"),
    }
}

fn assert_matches_reference(path: &Path, bytes: &[u8], model: &Model) {
    let reference =
        npz::read(&std::fs::read(path.with_extension("npz")).expect("a reference for each model"));
    let graph = Independent::parse_from_bytes(bytes).unwrap().graph.unwrap();
    let rows = rows(&reference);
    let count = rows.len() / model.input_count();
    assert!(count >= 64, "{path:?}");
    let double = model.batch_outputs_f64(&rows);
    let single: Vec<f64> = model.batch_outputs_f32(&rows).into_iter().map(f64::from).collect();
    assert_eq!(double.len(), count * model.output_count());
    let half = graph.initializer.iter().any(|tensor| tensor.data_type == 10);
    // Relative to the largest output: half precision keeps 11 bits, single 24.
    // onnxruntime finds the probabilities of calibrated support vector machines by an iteration that ends at a gradient
    // of 0.005 over the number of classes (libsvm's `multiclass_probability`).
    let calibrated = graph.node.iter().any(|node| node.attribute.iter().any(|own| own.name == "prob_a"));
    let tolerance = if half {
        2e-2
    } else if calibrated {
        5e-3
    } else {
        2e-4
    };
    let mut compared = 0;
    for output in &graph.output {
        let Some(array) = reference_of(&reference, &graph, &output.name) else { continue };
        if is_left_out(model, &output.name) {
            continue;
        }
        compared += 1;
        let meaning = meaning(&graph, &output.name);
        let own = model.outputs().position(|own| own.names.contains(&output.name)).unwrap_or(0);
        let head = model.outputs().nth(own).unwrap();
        let per_row = double.chunks_exact(model.output_count()).map(|row| part(model, own, row));
        if meaning == Meaning::Label {
            assert_labels(path, head, per_row, array);
            continue;
        }
        let rounding = last_rounding(&graph, &output.name);
        let mut numbers = array.numbers().to_vec();
        if let Some((scale, Some(zero))) = rounding {
            numbers.iter_mut().for_each(|integer| *integer = (*integer - zero) * scale);
        }
        // The roundings of probabilities, of which there are three at most, are no part of the model.
        let step = rounding.map_or(0.0, |(scale, _)| scale);
        let dropped = if meaning == Meaning::Raw { 0.0 } else { 1.5 * step };
        let mut other_levels = 0;
        let largest = numbers.iter().fold(1.0_f64, |largest, value| largest.max(value.abs()));
        let width = numbers.len() / count;
        let singles = single.chunks_exact(model.output_count()).map(|row| part(model, own, row));
        for (row, ((ours, single), theirs)) in
            per_row.zip(singles).zip(numbers.chunks_exact(width)).enumerate()
        {
            let both = expected(meaning, ours).into_iter().zip(expected(meaning, single));
            let mut other = false;
            for ((value, single), wanted) in both.zip(theirs) {
                let wrong = (value - wanted).abs().max((single - wanted).abs());
                let bound = dropped + tolerance * largest;
                other |= wrong > bound;
                assert!(wrong <= bound + step, "{path:?} row {row}: {value} {single} for {wanted}");
            }
            other_levels += usize::from(other);
            assert_eq!(expected(meaning, ours).len(), theirs.len(), "{path:?}");
            // The label must be the one that the reference's own scores give.
            if head.head == Head::Logits && matches!(meaning, Meaning::Raw | Meaning::Softmax) {
                assert_eq!(Head::Logits.label(ours), Head::Logits.label(theirs), "{path:?} row {row}");
            }
            if meaning == Meaning::Sigmoid {
                assert_eq!(
                    Head::Logistic.label(ours),
                    Some(usize::from(theirs[0] > 0.5)),
                    "{path:?} row {row}"
                );
            }
            // Whatever the graph calls its score is the one that `eval` prints.
            if let Some(score) = head.head.score(ours).filter(|_| probabilities(meaning)) {
                let theirs = theirs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let bound = dropped + tolerance;
                assert!((score - theirs).abs() <= bound, "{path:?} row {row}: {score} for {theirs}");
            }
        }
        if other_levels > 0 {
            eprintln!("{}: {other_levels} of {count} rows at another level", path.display());
        }
        assert!(
            other_levels as f64 <= OTHER_LEVELS * count as f64,
            "{path:?}: {other_levels} of {count} rows"
        );
    }
    assert!(compared > 0, "{path:?} has no reference output");
}

/// Decision values of pairs of classes, which are no output beside the label that their votes give.
pub(super) fn is_left_out(model: &Model, output: &str) -> bool {
    let named = || model.outputs().flat_map(|own| &own.names);
    model.first.head == Head::Probabilities && named().count() == 1 && named().all(|name| name != output)
}

/// Whether the largest number of such an output is the probability of the label.
const fn probabilities(meaning: Meaning) -> bool {
    matches!(
        meaning,
        Meaning::Softmax | Meaning::Both | Meaning::Each | Meaning::Normalised | Meaning::Shares
    )
}

/// The values of one of the model's outputs.
fn part<'a>(model: &'a Model, output: usize, row: &'a [f64]) -> &'a [f64] {
    model.parts(row).nth(output).unwrap().1
}

pub(super) fn rows(reference: &BTreeMap<String, Array>) -> Vec<f64> {
    if let Some(array) = reference.get("x") {
        return array.numbers().to_vec();
    }
    panic!("reference without inputs: {:?}", reference.keys());
}

fn assert_labels<'a>(path: &Path, output: &Output, rows: impl Iterator<Item = &'a [f64]>, array: &Array) {
    for (row, (ours, theirs)) in rows.zip(array.labels()).enumerate() {
        let label = output.head.label(ours).expect("a model with labels has a head");
        let named =
            output.classes.as_ref().map_or_else(|| label.to_string(), |classes| classes[label].clone());
        assert_eq!(named, theirs, "{path:?} row {row}");
    }
}
