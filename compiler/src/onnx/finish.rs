//! From the values of the graph's outputs to the model: layers, scalers, head, labels.

use std::rc::Rc;

use super::affine::{Affine, Tap};
use super::limits::{MAX_MAGNITUDE, MAX_TENSOR_ELEMENTS};
use super::report::Report;
use super::value::{Form, Row, Stage, Stages, Value};
use crate::diag::NodeRef;
use crate::diag::codes::onnx as codes;
use crate::model::{Activation, Body, Dense, Head, Matrix, Model, Normalise};

/// The model, or reasons in the report.
pub(crate) fn model(
    report: &mut Report,
    stages: &Stages,
    columns: Vec<Option<String>>,
    outputs: &[(&str, Rc<Value>)],
    hash: [u8; 32],
) -> Option<Model> {
    let decision = decide(report, outputs)?;
    let layers = layers(report, stages, &decision.row.affine, columns.len())?;
    let model = Model {
        inputs: columns,
        normalise: layers.normalise,
        body: Body::Mlp(layers.dense),
        head: decision.head,
        classes: decision.classes,
        hash,
    };
    finite(report, &model).then_some(model)
}

/// What the outputs are made from.
struct Decision<'a> {
    row: &'a Row,
    head: Head,
    classes: Option<Vec<String>>,
}

fn decide<'a>(report: &mut Report, outputs: &'a [(&str, Rc<Value>)]) -> Option<Decision<'a>> {
    let mut row: Option<&Row> = None;
    let mut form: Option<Form> = None;
    let mut classes: Option<Vec<String>> = None;
    if outputs.is_empty() {
        report.at_file(
            &codes::OUTPUTS,
            "the model has no output",
            "export the model with its scores as output",
        );
    }
    for (name, value) in outputs {
        let (this, tail) = match value.as_ref() {
            Value::Row(row) => (row, None),
            Value::Tail(tail) => (&tail.row, Some(tail)),
            Value::Refused => continue,
            other @ (Value::Constant(_) | Value::Extent { .. }) => {
                report.at_file(
                    &codes::OUTPUTS,
                    format!("output `{name}` is {}", other.describe()),
                    "remove outputs that do not depend on the input",
                );
                continue;
            }
        };
        let logistic = tail.map(|tail| tail.form.is_logistic());
        let labels = tail.and_then(|tail| tail.classes.clone());
        let same_row = row.is_none_or(|row| row.affine == this.affine);
        let same_form = form.zip(logistic).is_none_or(|(form, logistic)| form.is_logistic() == logistic);
        let same_classes = classes.as_ref().zip(labels.as_ref()).is_none_or(|(old, new)| old == new);
        if !same_row || !same_form || !same_classes {
            report.at_file(
                &codes::OUTPUTS,
                format!("output `{name}` comes from other scores or classes than the outputs before it"),
                "export one head: the scores, their softmax or sigmoid, and the label of the same layer",
            );
            continue;
        }
        row = Some(this);
        form = form.or(tail.map(|tail| tail.form));
        classes = classes.or(labels);
    }
    let row = row?;
    let width = row.affine.width();
    let head = match form {
        Some(form) if form.is_logistic() => Head::Logistic,
        None if width == 1 => Head::Scores,
        Some(_) | None => Head::Logits,
    };
    let expected = if head == Head::Logistic { 2 } else { width };
    if let Some(labels) = classes.as_ref().filter(|labels| labels.len() != expected) {
        report.at_file(
            &codes::OUTPUTS,
            format!("the model names {} classes for {expected} scores", labels.len()),
            "export the model again with one label per class",
        );
    }
    Some(Decision { row, head, classes })
}

/// Dense layers in order and what precedes them.
struct Layers {
    dense: Vec<Dense>,
    normalise: Vec<Normalise>,
}

fn layers(report: &mut Report, stages: &Stages, last: &Affine, inputs: usize) -> Option<Layers> {
    let too_large = |report: &mut Report| {
        report.at_file(
            &codes::TOO_LARGE,
            format!("a layer has more than {MAX_TENSOR_ELEMENTS} weights"),
            "use a smaller network",
        );
    };
    let mut dense = Vec::new();
    let mut next = Some((last, Activation::Identity, None));
    let mut normalise = vec![Normalise::IDENTITY; inputs];
    while let Some((affine, activation, node)) = next {
        let (width, before) = match stages.get(affine.stage) {
            Stage::Inputs => (inputs, None),
            Stage::Activated { before, activation, node } => {
                (before.width(), Some((before.as_ref(), *activation, Some(node))))
            }
        };
        if before.is_none() {
            normalise = normalisation(affine, inputs);
        }
        // The last layer's activation needs no further layer when its values leave as they are.
        let untouched = *affine == Affine::of_stage(affine.stage, width);
        if !(activation == Activation::Identity && untouched && before.is_some()) {
            let base = if before.is_none() { normalise.clone() } else { vec![Normalise::IDENTITY; width] };
            let Some(layer) = layer(affine, &base, activation, node) else {
                too_large(report);
                return None;
            };
            dense.push(layer);
        }
        next = before;
    }
    dense.reverse();
    let trained = has_dense(stages, last);
    if !trained {
        report.at_file(
            &codes::NO_LAYERS,
            "no output depends on a dense layer",
            "check that the right model was exported",
        );
    }
    trained.then_some(Layers { dense, normalise })
}

fn has_dense(stages: &Stages, last: &Affine) -> bool {
    let mut affine = last;
    loop {
        if affine.dense.is_some() {
            return true;
        }
        match stages.get(affine.stage) {
            Stage::Inputs => return false,
            Stage::Activated { before, .. } => affine = before,
        }
    }
}

/// One scaler per input: that of the first tap that reads it.
fn normalisation(affine: &Affine, inputs: usize) -> Vec<Normalise> {
    let first = |source: usize| {
        let mut taps = affine.taps.iter().filter(|tap| tap.source == source && tap.normalise.scale != 0.0);
        taps.next().map_or(Normalise::IDENTITY, |tap| tap.normalise)
    };
    let mut firsts = vec![None; inputs];
    for tap in &affine.taps {
        if let Some(slot) = firsts.get_mut(tap.source).filter(|slot| slot.is_none()) {
            *slot = Some(first(tap.source));
        }
    }
    firsts.into_iter().map(|first| first.unwrap_or(Normalise::IDENTITY)).collect()
}

/// The affine map as one dense layer over `base` of the stage's values.
fn layer(
    affine: &Affine,
    base: &[Normalise],
    activation: Activation,
    node: Option<&NodeRef>,
) -> Option<Dense> {
    let rows = affine.width();
    let columns = base.len();
    let size = rows.checked_mul(columns).filter(|&size| size <= MAX_TENSOR_ELEMENTS)?;
    // Each tap as `slope * base(x) + constant`.
    let taps: Vec<(usize, f64, f64)> = affine.taps.iter().map(|tap| relative(tap, base)).collect();
    let mut values = vec![0.0; size];
    let mut bias = Vec::with_capacity(rows);
    for (row, weights) in values.chunks_mut(columns.max(1)).enumerate() {
        let mut constant =
            affine.dense.as_ref().and_then(|dense| dense.bias.get(row)).copied().unwrap_or(0.0);
        let mut add = |source: usize, slope: f64, offset: f64, weight: f64| {
            if let Some(slot) = weights.get_mut(source) {
                *slot += weight * slope;
            }
            constant += weight * offset;
        };
        match &affine.dense {
            Some(dense) => {
                for (&(source, slope, offset), &weight) in taps.iter().zip(dense.weights.row(row)) {
                    add(source, slope, offset, weight);
                }
            }
            None => {
                if let Some(&(source, slope, offset)) = taps.get(row) {
                    add(source, slope, offset, 1.0);
                }
            }
        }
        bias.push(constant);
    }
    let origin = match (&affine.dense, node) {
        (Some(dense), _) => dense.node.clone(),
        (None, Some(node)) => node.clone(),
        (None, None) => NodeRef { index: 0, name: "scaler".to_owned(), operator: "Mul".to_owned() },
    };
    Some(Dense { origin, weights: Matrix { rows, columns, values }, bias, activation })
}

/// A tap in terms of the scaled value that all taps of its source share: source, slope and constant.
fn relative(tap: &Tap, base: &[Normalise]) -> (usize, f64, f64) {
    let base = base.get(tap.source).copied().unwrap_or(Normalise::IDENTITY);
    let own = tap.normalise;
    if own == base {
        return (tap.source, 1.0, 0.0);
    }
    // x = (y - base.offset) / base.scale + base.centre, then the tap's own scaler.
    let slope = own.scale / base.scale;
    (tap.source, slope, (base.centre - own.centre) * own.scale - base.offset * slope + own.offset)
}

/// Folding can overflow or blow up what was in order before.
fn finite(report: &mut Report, model: &Model) -> bool {
    let Body::Mlp(layers) = &model.body;
    let mut sound = true;
    for layer in layers {
        let mut values = layer.weights.values.iter().chain(&layer.bias);
        if let Some(value) = values.find(|value| !value.is_finite() || value.abs() > MAX_MAGNITUDE) {
            sound = false;
            report.at_node(
                &codes::HUGE_WEIGHT,
                &layer.origin,
                format!("a weight of this layer is {value:e} after scalers and normalisation are folded in"),
                "check the scaler and the batch normalisation before this layer for tiny deviations",
            );
        }
    }
    let numbers = |by: &Normalise| [by.centre, by.scale, by.offset];
    if let Some(index) =
        model.normalise.iter().position(|by| numbers(by).iter().any(|value| !value.is_finite()))
    {
        sound = false;
        report.at_file(
            &codes::NOT_FINITE,
            format!("the scaler of feature {index} is not finite"),
            "fit the scaler again, on data without missing or constant values",
        );
    }
    sound
}
