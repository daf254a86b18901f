//! The export corpus: what imports agrees with the reference outputs, what does not is refused with a code.
//!
//! `testdata/onnx-exports.status` is the list of what happens to each file; `BLESS=1` rewrites it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use onnx_protobuf::ModelProto as Independent;
use protobuf::Message as _;

use super::npz::{self, Array};
use crate::model::{Head, Model};
use crate::onnx::{Resolver, import};

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
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/onnx-exports.status");
    let mut text = String::new();
    let (mut imported, mut refused) = (0, 0);
    for (prefix, folder) in [("", folder.clone()), ("negative/", folder.join("negative"))] {
        for path in models(&folder) {
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
enum Meaning {
    Raw,
    Softmax,
    LogSoftmax,
    Sigmoid,
    Both,
    Column(usize),
    Label,
}

fn meaning(graph: &onnx_protobuf::GraphProto, output: &str) -> Meaning {
    let Some(node) = graph.node.iter().find(|node| node.output.iter().any(|name| name == output)) else {
        panic!("output {output} has no node");
    };
    match node.op_type.as_str() {
        "Identity" | "Cast" | "Reshape" | "ZipMap" | "Squeeze" => meaning(graph, &node.input[0]),
        "Softmax" => Meaning::Softmax,
        "LogSoftmax" => Meaning::LogSoftmax,
        "Sigmoid" => Meaning::Sigmoid,
        "Concat" => Meaning::Both,
        "Slice" => {
            let start = graph.initializer.iter().find(|tensor| tensor.name == node.input[1]).unwrap();
            Meaning::Column(
                start.int64_data.first().map_or_else(|| usize::from(start.raw_data[0]), |v| *v as usize),
            )
        }
        "ArgMax" | "ArrayFeatureExtractor" | "Greater" => Meaning::Label,
        _ => Meaning::Raw,
    }
}

fn logistic(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

/// What the model says about a row, in the terms of an output.
fn expected(meaning: Meaning, outputs: &[f64]) -> Vec<f64> {
    let softmax = || {
        let highest = outputs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = outputs.iter().map(|z| (z - highest).exp()).sum();
        outputs.iter().map(|z| (z - highest).exp() / sum).collect::<Vec<f64>>()
    };
    let both = || {
        if outputs.len() == 1 { vec![1.0 - logistic(outputs[0]), logistic(outputs[0])] } else { softmax() }
    };
    match meaning {
        Meaning::Raw => outputs.to_vec(),
        Meaning::Softmax => softmax(),
        Meaning::LogSoftmax => softmax().into_iter().map(f64::ln).collect(),
        Meaning::Sigmoid => vec![logistic(outputs[0])],
        Meaning::Both => both(),
        Meaning::Column(column) => vec![both()[column]],
        Meaning::Label => unreachable!("labels are compared as texts"),
    }
}

fn assert_matches_reference(path: &Path, bytes: &[u8], model: &Model) {
    let reference =
        npz::read(&std::fs::read(path.with_extension("npz")).expect("a reference for each model"));
    let graph = Independent::parse_from_bytes(bytes).unwrap().graph.unwrap();
    let rows = rows(&reference);
    let count = rows.len() / model.input_count();
    assert_eq!(count, 256, "{path:?}");
    let double = model.batch_outputs_f64(&rows);
    let single = model.batch_outputs_f32(&rows);
    assert_eq!(double.len(), count * model.output_count());
    let half = graph.initializer.iter().any(|tensor| tensor.data_type == 10);
    // Relative to the largest output: half precision keeps 11 bits, single 24.
    let tolerance = if half { 2e-2 } else { 2e-4 };
    let mut compared = 0;
    for output in &graph.output {
        let Some(array) = reference.get(&format!("out_{}", output.name.replace([':', '/'], "_"))) else {
            continue;
        };
        compared += 1;
        let meaning = meaning(&graph, &output.name);
        let per_row = double.chunks_exact(model.output_count());
        if meaning == Meaning::Label {
            assert_labels(path, model, per_row, array);
            continue;
        }
        let numbers = array.numbers();
        let largest = numbers.iter().fold(1.0_f64, |largest, value| largest.max(value.abs()));
        let width = numbers.len() / count;
        let singles = single.chunks_exact(model.output_count());
        for (row, ((ours, ours_single), theirs)) in
            per_row.zip(singles).zip(numbers.chunks_exact(width)).enumerate()
        {
            let from_single: Vec<f64> = ours_single.iter().copied().map(f64::from).collect();
            let both = expected(meaning, ours).into_iter().zip(expected(meaning, &from_single));
            for ((value, single), wanted) in both.zip(theirs) {
                let wrong = (value - wanted).abs().max((single - wanted).abs());
                assert!(wrong <= tolerance * largest, "{path:?} row {row}: {value} {single} for {wanted}");
            }
            assert_eq!(expected(meaning, ours).len(), theirs.len(), "{path:?}");
            // The label must be the one that the reference's own scores give.
            if model.first.head == Head::Logits && matches!(meaning, Meaning::Raw | Meaning::Softmax) {
                assert_eq!(Head::Logits.label(ours), Head::Logits.label(theirs), "{path:?} row {row}");
            }
            if meaning == Meaning::Sigmoid {
                assert_eq!(
                    Head::Logistic.label(ours),
                    Some(usize::from(theirs[0] > 0.5)),
                    "{path:?} row {row}"
                );
            }
        }
    }
    assert!(compared > 0, "{path:?} has no reference output");
}

fn rows(reference: &BTreeMap<String, Array>) -> Vec<f64> {
    if let Some(array) = reference.get("x") {
        return array.numbers().to_vec();
    }
    panic!("reference without inputs: {:?}", reference.keys());
}

fn assert_labels<'a>(path: &Path, model: &Model, rows: impl Iterator<Item = &'a [f64]>, array: &Array) {
    for (row, (ours, theirs)) in rows.zip(array.labels()).enumerate() {
        let label = model.first.head.label(ours).expect("a model with labels has a head");
        let named =
            model.first.classes.as_ref().map_or_else(|| label.to_string(), |classes| classes[label].clone());
        assert_eq!(named, theirs, "{path:?} row {row}");
    }
}
