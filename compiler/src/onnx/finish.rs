//! From the values of the graph's outputs to the model: layers, scalers, head, labels.

use std::rc::Rc;

use super::affine::{Affine, Tap};
use super::limits::{MAX_MAGNITUDE, MAX_OUTPUTS, MAX_TENSOR_ELEMENTS};
use super::report::Report;
use super::value::{Form, Open, Row, Scores, Stage, Stages, Tail, Value};
use super::{forests, replaced};
use crate::diag::NodeRef;
use crate::diag::codes::onnx as codes;
use crate::model::{
    Activation, Body, Dense, Forest, Function, Head, Matrix, Model, Normalise, Output, Replaced,
};

/// How far sums of probabilities may lie from one: their factors are in single precision.
const UNIT: f64 = 1e-6;

/// The model, or reasons in the report.
pub(crate) fn model(
    report: &mut Report,
    stages: &Stages,
    columns: Vec<Option<String>>,
    outputs: &[(&str, Rc<Value>)],
    hash: [u8; 32],
) -> Option<Model> {
    let heads = without_decisions(stages, heads(report, outputs));
    let last = last_layer(report, &heads)?;
    if last.width() > MAX_OUTPUTS {
        report.at_file(
            &codes::TOO_LARGE,
            format!("the model has {} outputs, at most {MAX_OUTPUTS} are read", last.width()),
            "export a model of fewer classes or targets",
        );
        return None;
    }
    let mut outputs = named(report, &heads);
    let (body, normalise, replaced) = match stages.get(last.stage) {
        Stage::Trees { forest, scores } => {
            let (body, normalise, replaced) = trees(report, stages, forest, &last, columns.len())?;
            match (scores, &body) {
                (Scores::Probabilities, _) => {
                    outputs.iter_mut().for_each(|output| output.head = of_probabilities(output.head));
                }
                (Scores::Exact | Scores::Untransformed, Body::Forest(forest)) => {
                    shares(&mut outputs, &heads, forest);
                }
                (Scores::Exact | Scores::Untransformed, Body::Mlp(_)) => {}
            }
            (body, normalise, replaced)
        }
        Stage::Inputs | Stage::Activated { .. } | Stage::Open { .. } => {
            let mut last = last;
            let plain = matches!(
                heads.as_slice(),
                [Source { form: None | Some(Form::Label { logistic: false }), .. }]
            );
            if let ([output], true) = (outputs.as_mut_slice(), plain && are_probabilities(stages, &last)) {
                *output = Output { head: Head::Probabilities, raw: false, ..output.clone() };
                // Two of them are one number, as those of trees are.
                if last.width() == 2 {
                    last = last.picked(&[1])?.shifted(-0.5);
                    output.head = Head::Probability;
                }
            }
            let layers = layers(report, stages, &last, columns.len())?;
            (Body::Mlp(layers.dense), layers.normalise, layers.replaced)
        }
    };
    let mut outputs = outputs.into_iter();
    let model = Model {
        inputs: columns,
        normalise,
        replaced,
        body,
        first: outputs.next()?,
        further: outputs.collect(),
        hash,
    };
    finite(report, &model).then_some(model)
}

/// What some of the graph's outputs are made from: the same numbers.
struct Source<'a> {
    names: Vec<String>,
    row: &'a Row,
    /// None while only the numbers themselves were seen.
    form: Option<Form>,
    classes: Option<Vec<String>>,
}

/// The graph's outputs by the numbers that they show, in order.
fn heads<'a>(report: &mut Report, outputs: &'a [(&str, Rc<Value>)]) -> Vec<Source<'a>> {
    let mut heads: Vec<Source<'a>> = Vec::new();
    if outputs.is_empty() {
        report.at_file(
            &codes::OUTPUTS,
            "the model has no output",
            "export the model with its scores as output",
        );
    }
    let mut exponentials: Vec<(&str, &Tail)> = Vec::new();
    for (name, value) in outputs {
        let (row, tail) = match value.as_ref() {
            Value::Tail(tail)
                if matches!(tail.form, Form::Exponential { .. } | Form::ExponentialSum { .. }) =>
            {
                exponentials.push((name, tail));
                continue;
            }
            Value::Row(row) => (row, None),
            Value::Tail(tail) => (&tail.row, Some(tail)),
            Value::Refused => continue,
            other @ (Value::Constant(_) | Value::Extent { .. } | Value::Quantised(_) | Value::Cases(_)) => {
                report.at_file(
                    &codes::OUTPUTS,
                    format!("output `{name}` is {}", other.describe()),
                    "remove outputs that do not depend on the input",
                );
                continue;
            }
        };
        let form = tail.map(|tail| tail.form);
        let classes = tail.and_then(|tail| tail.classes.clone());
        let Some(head) = heads.iter_mut().find(|head| head.row.affine == row.affine) else {
            heads.push(Source { names: vec![(*name).to_owned()], row, form, classes });
            continue;
        };
        let together = head.form.zip(form).map(|(old, new)| old.together(new));
        let same_classes = head.classes.as_ref().zip(classes.as_ref()).is_none_or(|(old, new)| old == new);
        if together == Some(None) || !same_classes {
            report.at_file(
                &codes::OUTPUTS,
                format!("output `{name}` makes something else of the scores than the outputs before it"),
                "export for each head its scores, their softmax or sigmoid, and its label",
            );
            continue;
        }
        head.names.push((*name).to_owned());
        head.form = together.flatten().or(head.form).or(form);
        head.classes = head.classes.take().or(classes);
    }
    for (name, tail) in exponentials {
        let compared = |head: &&mut Source<'_>| {
            matches!(head.form, Some(Form::Label { logistic: true }))
                && matches!(tail.form, Form::Exponential { .. })
                && same_number(&head.row.affine, &tail.row.affine)
        };
        match heads.iter_mut().find(compared) {
            Some(head) => head.names.push(name.to_owned()),
            None => report.at_file(
                &codes::OUTPUTS,
                format!("output `{name}` is an exponential, of which no label is made"),
                "let the model end in the label as well, or in the number before the exponential",
            ),
        }
    }
    heads
}

/// Beside a label that is a vote of steps, numbers of other layers say how each vote came about, and are left out.
fn without_decisions<'a>(stages: &Stages, heads: Vec<Source<'a>>) -> Vec<Source<'a>> {
    let is_vote = |head: &Source<'_>| {
        head.form == Some(Form::Label { logistic: false })
            && is_activated(stages, &head.row.affine, Function::Step)
            && are_probabilities(stages, &head.row.affine)
    };
    if !heads.iter().any(is_vote) {
        return heads;
    }
    heads.into_iter().filter(|head| head.form.is_some()).collect()
}

fn is_activated(stages: &Stages, affine: &Affine, function: Function) -> bool {
    matches!(stages.get(affine.stage), Stage::Activated { activation: Activation::Function(own), .. } if *own == function)
}

/// Whether both maps are one and the same number of a stage, moved and scaled.
fn same_number(left: &Affine, right: &Affine) -> bool {
    match (left.taps.as_slice(), right.taps.as_slice()) {
        ([own], [tap]) => {
            left.stage == right.stage
                && left.dense.is_none()
                && right.dense.is_none()
                && own.source == tap.source
        }
        _ => false,
    }
}

/// The numbers of all heads as one layer.
fn last_layer(report: &mut Report, heads: &[Source<'_>]) -> Option<Affine> {
    let (first, others) = heads.split_first()?;
    let mut last = first.row.affine.clone();
    for head in others {
        let Some(mut joined) = last.joined(&head.row.affine) else {
            let name = head.names.first().map(String::as_str).unwrap_or_default();
            report.at_file(
                &codes::OUTPUTS,
                format!("output `{name}` reads another layer than the outputs before it"),
                "let every output read the same hidden layer by one dense layer, or remove outputs before the export",
            );
            continue;
        };
        if let (Some(dense), Some(more)) = (&mut joined.dense, &head.row.affine.dense)
            && dense.node != more.node
        {
            dense.node.name = format!("{}+{}", dense.node.name, more.node.name);
        }
        last = joined;
    }
    Some(last)
}

/// The outputs with their places in the last layer.
fn named(report: &mut Report, heads: &[Source<'_>]) -> Vec<Output> {
    let mut outputs = Vec::new();
    let mut start = 0;
    for Source { names, row, form, classes } in heads {
        let width = row.affine.width();
        let next = start + width;
        let head = match form {
            Some(Form::EachProbability | Form::EachLabel | Form::EachAtLeast) if width > 1 => {
                outputs.extend((start..next).map(|start| Output { start, ..Output::only(Head::Logistic) }));
                start = next;
                continue;
            }
            Some(Form::OneVersusRest) => Head::OneVersusRest { normalised: true },
            Some(Form::EachClass) => Head::OneVersusRest { normalised: false },
            Some(Form::Values) => Head::Scores,
            Some(form) if form.is_logistic() => Head::Logistic,
            // A number beside other outputs is one that its exporter left the sigmoid off.
            None if width == 1 && heads.len() > 1 => Head::Logistic,
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
        let (names, classes) = (names.clone(), classes.clone());
        outputs.push(Output { names, start, head, raw: form.is_none(), classes });
        start = next;
    }
    outputs
}

/// What a head is when the numbers behind it are probabilities.
const fn of_probabilities(head: Head) -> Head {
    match head {
        Head::Logits => Head::Probabilities,
        Head::Logistic => Head::Probability,
        Head::Scores | Head::OneVersusRest { .. } | Head::Probability | Head::Probabilities => head,
    }
}

/// Whether values are probabilities of classes: between 0 and 1 for whatever logistic functions or steps they read, and 1 in sum.
fn are_probabilities(stages: &Stages, affine: &Affine) -> bool {
    let Stage::Activated {
        activation: Activation::Function(Function::Sigmoid | Function::Step),
        plain: 0,
        before,
        ..
    } = stages.get(affine.stage)
    else {
        return false;
    };
    let base = vec![Normalise::IDENTITY; before.width()];
    let Some(dense) = layer(affine, &base, (Activation::Identity, 0), None) else { return false };
    let Matrix { rows, columns, values } = &dense.weights;
    let near = |value: f64, wanted: f64| (value - wanted).abs() <= UNIT;
    let within = values.chunks(columns.max(&1).to_owned()).zip(&dense.bias).all(|(weights, bias)| {
        let below: f64 = weights.iter().map(|weight| weight.min(0.0)).sum();
        let above: f64 = weights.iter().map(|weight| weight.max(0.0)).sum();
        bias + below >= -UNIT && bias + above <= 1.0 + UNIT
    });
    let columns_cancel = (0..*columns).all(|column| {
        let column: f64 = values.iter().skip(column).step_by(*columns).sum();
        near(column, 0.0)
    });
    *rows >= 2 && within && columns_cancel && near(dense.bias.iter().sum(), 1.0)
}

/// Outputs whose numbers are probabilities of classes, as averages of probabilities are.
fn shares(outputs: &mut [Output], heads: &[Source<'_>], forest: &Forest) {
    // Only an output of several logistic functions has more heads than sources.
    for (output, source) in outputs.iter_mut().zip(heads).take_while(|(_, source)| source.form != EACH) {
        let plain = matches!(source.form, None | Some(Form::Label { logistic: false }));
        let outputs = output.start..output.start + source.row.affine.width();
        if plain
            && output.head == Head::Logits
            && forests::is_distribution(&forest.trees, &forest.base, outputs)
        {
            output.head = Head::Probabilities;
        }
    }
}

/// The form that becomes as many heads as it has numbers.
const EACH: Option<Form> = Some(Form::EachProbability);

/// Trees with what follows them folded in: the choice of some outputs, factors, constants, layers.
fn trees(
    report: &mut Report,
    stages: &Stages,
    forest: &Forest,
    last: &Affine,
    inputs: usize,
) -> Option<(Body, Vec<Normalise>, Vec<Replaced>)> {
    let Some(folded) = forests::folded(forest, last) else {
        report.at_node(
            &codes::TOO_LARGE,
            &forest.origin,
            "these trees with the layer behind them have too many leaf values",
            "train fewer or shallower trees",
        );
        return None;
    };
    let (folded, replaced) = replaced::resolved_trees(report, stages, folded)?;
    let mut normalise = vec![Normalise::IDENTITY; inputs];
    for column in folded.columns.iter().rev().filter(|column| column.normalise.scale != 0.0) {
        if let Some(slot) = normalise.get_mut(column.source) {
            *slot = column.normalise;
        }
    }
    Some((Body::Forest(folded), normalise, replaced))
}

fn behind_trees(report: &mut Report, forest: &Forest) {
    report.at_node(
        &codes::OPERATOR_FORM,
        &forest.origin,
        "an activation reads what these trees give",
        "let sums of the trees be the model's outputs; dense layers behind them are folded in, activations are not",
    );
}

/// Dense layers in order and what precedes them.
struct Layers {
    dense: Vec<Dense>,
    normalise: Vec<Normalise>,
    replaced: Vec<Replaced>,
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
    let mut next = Some((last, (Activation::Identity, 0), None));
    let (mut normalise, mut replaced) = (vec![Normalise::IDENTITY; inputs], Vec::new());
    while let Some((affine, activation, node)) = next {
        let (width, before) = match stages.get(affine.stage) {
            Stage::Inputs => (inputs, None),
            Stage::Activated { before, activation, plain, node } => {
                (before.width(), Some((before.as_ref(), (*activation, *plain), Some(node))))
            }
            Stage::Open { part, node, .. } => {
                open(report, *part, node);
                return None;
            }
            Stage::Trees { forest, .. } => {
                behind_trees(report, forest);
                return None;
            }
        };
        let of_inputs;
        let affine = if before.is_none() {
            (of_inputs, replaced) = replaced::resolved(report, stages, affine)?;
            normalise = normalisation(&of_inputs, inputs);
            &of_inputs
        } else {
            affine
        };
        // The last layer's activation needs no further layer when its values leave as they are.
        let untouched = *affine == Affine::of_stage(affine.stage, width);
        if !(activation.0 == Activation::Identity && untouched && before.is_some()) {
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
    trained.then_some(Layers { dense, normalise, replaced })
}

fn open(report: &mut Report, part: Open, node: &NodeRef) {
    if part == Open::Equal {
        report.at_node(
            &codes::OPERATOR,
            node,
            "a comparison for equality of data that depends on the input is only known where it replaces a number",
            "known is `Where(x == v, c, x)` of features or scaled features; other comparisons may use Greater and Less",
        );
        return;
    }
    let what = match part {
        Open::Exp => "an exponential",
        Open::Root => "a square root",
        Open::Equal | Open::Erf => "the error function",
        Open::Cubic { .. } => "a third power",
        Open::TanhOfCubic => "the hyperbolic tangent of a third power",
    };
    report.at_node(
        &codes::OPERATOR,
        node,
        format!("{what} of data that depends on the input is not supported but as part of an activation"),
        "known are the usual ways to write Sigmoid, Softplus, Gelu, Silu and Mish; use the operator of that name",
    );
}

fn has_dense(stages: &Stages, last: &Affine) -> bool {
    let mut affine = last;
    loop {
        if affine.dense.as_ref().is_some_and(|dense| !dense.moves) {
            return true;
        }
        match stages.get(affine.stage) {
            Stage::Inputs | Stage::Trees { .. } => return false,
            Stage::Activated { before, .. } | Stage::Open { before, .. } => affine = before,
        }
    }
}

/// One scaler per input: that of the first tap that reads it.
fn normalisation(affine: &Affine, inputs: usize) -> Vec<Normalise> {
    let mut firsts = vec![None; inputs];
    for tap in affine.taps.iter().filter(|tap| tap.normalise.scale != 0.0) {
        if let Some(slot) = firsts.get_mut(tap.source).filter(|slot| slot.is_none()) {
            *slot = Some(tap.normalise);
        }
    }
    firsts.into_iter().map(|first| first.unwrap_or(Normalise::IDENTITY)).collect()
}

/// The affine map as one dense layer over `base` of the stage's values.
fn layer(
    affine: &Affine,
    base: &[Normalise],
    (activation, plain): (Activation, usize),
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
    Some(Dense { origin, weights: Matrix { rows, columns, values }, bias, activation, plain })
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
    let mut sound = true;
    for layer in model.layers() {
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
