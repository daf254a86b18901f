//! TreeEnsembleClassifier, TreeEnsembleRegressor and TreeEnsemble: what sums of leaves mean.
//!
//! What the lists mean for two classes is onnxruntime's reading, which the exporters rely on: when all weights are of
//! one class, they are those of the second class, which wins above one half where no weight is negative, and above
//! zero otherwise.

use super::ensemble::{CLASSES, Ensemble, TARGETS, finite, numbers};
use super::listed::malformed;
use super::{Entry, ML};
use crate::diag::codes::onnx as codes;
use crate::model::Normalise;
use crate::model::forest::{Column, Forest, Precision};
use crate::onnx::affine::Affine;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::value::{Form, Row, Scores, Stage, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    (ML, "TreeEnsemble", ensemble),
    (ML, "TreeEnsembleClassifier", classifier),
    (ML, "TreeEnsembleRegressor", regressor),
];

/// Names of the numbers of `aggregate_function` and of `post_transform` in TreeEnsemble.
const AGGREGATES: [&str; 4] = ["AVERAGE", "SUM", "MIN", "MAX"];
const TRANSFORMS: [&str; 5] = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"];

fn classifier(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let classes = node
        .texts("classlabels_strings")
        .filter(|labels| !labels.is_empty())
        .or_else(|| Some(node.ints("classlabels_int64s")?.iter().map(ToString::to_string).collect()))
        .unwrap_or_default();
    if classes.len() < 2 {
        return Err(malformed(node, format!("{} classes are named", classes.len())));
    }
    let mut ensemble = Ensemble::read(node, &CLASSES, classes.len())?;
    let single = classes.len() == 2 && ensemble.ids().len() <= 1;
    let post = node.text("post_transform").unwrap_or_else(|| "NONE".to_owned());
    let (bases, _) = numbers(node, "base_values")?;
    let width = if single { 1 } else { classes.len() };
    let mut base = match (bases.as_slice(), single) {
        ([], _) => vec![0.0; width],
        ([base] | [_, base], true) => vec![*base],
        (_, false) if bases.len() == width => bases,
        _ => {
            return Err(malformed(
                node,
                format!("{} base values for {} classes", bases.len(), classes.len()),
            ));
        }
    };
    finite(node, &base, "a base value")?;
    let positive = ensemble.weights().all(|weight| weight >= 0.0);
    let (form, scores) = match (post.as_str(), single) {
        ("NONE", true) if positive => {
            // The second class wins above one half.
            base.iter_mut().for_each(|base| *base -= 0.5);
            (Form::BothProbabilities, Scores::Probabilities)
        }
        ("LOGISTIC", true) if !positive => (Form::BothProbabilities, Scores::Exact),
        // Decision values: the exporter left their logistic function off, or their softmax.
        ("NONE", true) => (Form::BothProbabilities, Scores::Untransformed),
        ("NONE", false) if ensemble.is_distribution(&base) => (Form::Softmax, Scores::Probabilities),
        ("NONE", false) => (Form::Softmax, Scores::Untransformed),
        ("SOFTMAX", false) => (Form::Softmax, Scores::Exact),
        ("LOGISTIC", false) => (Form::EachProbability, Scores::Exact),
        ("SOFTMAX_ZERO", false) => return Err(softmax_zero(node)),
        _ => {
            return Err(node.form(
                format!("`post_transform = {post}` over these weights has no meaning that runtimes agree on"),
                "export with SOFTMAX for several classes, LOGISTIC for boosted trees of two, NONE for forests",
            ));
        }
    };
    if single {
        ensemble.merge();
    }
    let input = node.row(0)?;
    let row = push(stages, node, input, ensemble, (base, scores))?;
    let rows = if input.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
    let tail = |form, dims| {
        Value::Tail(Tail { shape: Shape(dims), classes: Some(classes.clone()), ..Tail::of(&row, form) })
    };
    let label = tail(Form::Label { logistic: single }, vec![rows]);
    Ok(vec![label, tail(form, vec![rows, Dim::Of(classes.len())])])
}

fn softmax_zero(node: &Node<'_>) -> Refusal {
    node.form(
        "`post_transform = SOFTMAX_ZERO` gives no share to a class whose sum is exactly zero",
        "export with SOFTMAX",
    )
}

fn regressor(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let targets = targets(node)?;
    let mut ensemble = Ensemble::read(node, &TARGETS, targets)?;
    aggregate(node, &mut ensemble, &node.text("aggregate_function").unwrap_or_else(|| "SUM".to_owned()))?;
    let (bases, _) = numbers(node, "base_values")?;
    let base = if bases.is_empty() { vec![0.0; targets] } else { bases };
    if base.len() != targets {
        return Err(malformed(node, format!("{} base values for {targets} targets", base.len())));
    }
    finite(node, &base, "a base value")?;
    let row = push(stages, node, node.row(0)?, ensemble, (base, Scores::Exact))?;
    transformed(node, row, &node.text("post_transform").unwrap_or_else(|| "NONE".to_owned()))
}

/// The operator of version 5: a regressor, whose functions have numbers.
fn ensemble(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let targets = targets(node)?;
    let mut ensemble = Ensemble::read_positions(node, targets)?;
    let named = |name: &str, default: i64, names: &[&'static str]| {
        let number = node.int(name, default);
        let text = usize::try_from(number).ok().and_then(|number| names.get(number).copied());
        text.ok_or_else(|| malformed(node, format!("`{name}` is {number}")))
    };
    aggregate(node, &mut ensemble, named("aggregate_function", 1, &AGGREGATES)?)?;
    let row = push(stages, node, node.row(0)?, ensemble, (vec![0.0; targets], Scores::Exact))?;
    match named("post_transform", 0, &TRANSFORMS)? {
        "NONE" => Ok(vec![Value::Row(row)]),
        transform => Err(node.form(
            format!("runtimes do not agree on `post_transform = {transform}` of TreeEnsemble"),
            "export without a transform, and with a Softmax or Sigmoid node behind the trees",
        )),
    }
}

fn targets(node: &Node<'_>) -> Result<usize, Refusal> {
    let targets = node.int("n_targets", 1);
    usize::try_from(targets)
        .ok()
        .filter(|targets| (1..=MAX_TARGETS).contains(targets))
        .ok_or_else(|| malformed(node, format!("the trees have {targets} targets")))
}

/// Most targets of a regressor.
const MAX_TARGETS: usize = 1 << 16;

/// What is made of the leaves of several trees.
fn aggregate(node: &Node<'_>, ensemble: &mut Ensemble, function: &str) -> Result<(), Refusal> {
    match function {
        "SUM" => {}
        "AVERAGE" => ensemble.scale(1.0 / ensemble.trees.len().max(1) as f64),
        "MIN" | "MAX" => {
            if ensemble.names_twice() {
                return Err(malformed(node, "a leaf has two weights for one target"));
            }
            let (count, targets) = (ensemble.trees.len(), targets(node)?);
            ensemble.extreme(function == "MAX").ok_or_else(|| {
                node.form(
                    format!("`aggregate_function = {function}` is no sum over the {count} trees, and these are too \
                             large for one tree in their place"),
                    "export with SUM or AVERAGE, or train fewer or shallower trees",
                )
            })?;
            if ensemble.names_fewer(targets) {
                return Err(node.form(
                    format!("`aggregate_function = {function}` over trees of which none adds to some target"),
                    "export with SUM or AVERAGE",
                ));
            }
        }
        other => return Err(malformed(node, format!("`aggregate_function` is {other}"))),
    }
    Ok(())
}

/// What a regressor makes of its sums.
fn transformed(node: &Node<'_>, row: Row, transform: &str) -> Evaluated {
    let width = row.affine.width();
    let form = match transform {
        "NONE" => return Ok(vec![Value::Row(row)]),
        "SOFTMAX" if width > 1 => Form::Softmax,
        "LOGISTIC" if width > 1 => Form::EachProbability,
        "SOFTMAX_ZERO" => return Err(softmax_zero(node)),
        _ => {
            return Err(node.form(
                format!(
                    "`post_transform = {transform}` of {width} sums has no meaning that runtimes agree on"
                ),
                "export without a transform, and with a Softmax or Sigmoid node behind the trees",
            ));
        }
    };
    Ok(vec![Value::Tail(Tail { form, shape: row.shape.clone(), row, classes: None, rounded: None })])
}

/// A new stage with the sums of the trees.
fn push(
    stages: &mut Stages,
    node: &Node<'_>,
    input: &Row,
    ensemble: Ensemble,
    (base, scores): (Vec<f64>, Scores),
) -> Result<Row, Refusal> {
    let affine = &input.affine;
    if affine.dense.is_some() || !matches!(stages.get(affine.stage), Stage::Inputs) {
        return Err(node.form(
            "trees read sums of inputs, or the outputs of other layers",
            "train trees on the features themselves; a scaler before them is fine and changes nothing",
        ));
    }
    let precision = ensemble.precision;
    let column =
        |tap: &crate::onnx::affine::Tap| Column { source: tap.source, normalise: tap.normalise, precision };
    let columns: Vec<Column> = affine.taps.iter().map(column).collect();
    let sound = |by: &Normalise| {
        [by.centre, by.scale, by.offset].into_iter().all(|value| match precision {
            Precision::Single => (value as f32).is_finite(),
            Precision::Double => value.is_finite(),
        })
    };
    if !columns.iter().all(|column| sound(&column.normalise)) {
        return Err(node.refuse(
            &codes::NOT_FINITE,
            "the scaler before the trees exceeds single precision",
            "fit the scaler again, on data without missing or constant values",
        ));
    }
    let width = base.len();
    let rows = if input.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
    let forest = Forest { origin: node.reference.clone(), columns, trees: ensemble.trees, base };
    let stage = stages.push(Stage::Trees { forest: Box::new(forest), scores });
    Ok(Row {
        affine: Affine::of_stage(stage, width),
        shape: Shape(vec![rows, Dim::Of(width)]),
        integer: false,
    })
}
