//! The contract between a model and a specification: number, names, order, ranges, outputs, labels, rules.
//!
//! Also what stands in for a specification when there is none.

use super::{forest, reconstruction};
use crate::check::MOST_RAW;
use crate::diag::codes::quant::{
    COUNT, LABEL_ORDER, LABELS, ONE_VERSUS_REST, ORDER, OUTPUT_COUNT, REGRESSOR, UNITS,
};
use crate::diag::{Diagnostic, Origin, Outcome, Span};
use crate::ir::{FractionBits, Input, Interval};
use crate::model::{Body, Dense, Head, Model, Normalise, Output};
use crate::spec::typed::{self, FeatureSpec, Probability};

/// What quantisation needs to know besides the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// What diagnostics call the model's file.
    pub model: String,
    /// One per input of the model.
    pub inputs: Vec<Input>,
    /// Of each input, how many of the lowest bits of raw values that arrive are zero; nothing where none is.
    pub grid: Vec<u8>,
    /// One per output of the model.
    pub outputs: Vec<OutputNames>,
    /// One per rule of the specification.
    pub rules: Vec<RuleWish>,
}

impl Contract {
    /// What a rule is about: its label, behind the output's name where there are several.
    #[must_use]
    pub fn label_of(&self, wish: &RuleWish) -> String {
        let output = self.outputs.get(wish.output as usize);
        let label = output.and_then(|output| output.labels.get(wish.class as usize));
        let label = label.cloned().unwrap_or_default();
        match output.filter(|_| self.outputs.len() > 1) {
            Some(output) => format!("{}.{label}", output.name),
            None => label,
        }
    }
}

/// What an output and its classes are called.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OutputNames {
    /// Empty for an only output that nobody named.
    pub name: String,
    /// Class labels in the order of the output's values; empty when nobody named them.
    pub labels: Vec<String>,
}

/// When a rule should fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleWish {
    /// Position among the model's outputs.
    pub output: u32,
    pub class: u32,
    /// `None`: whenever the label is this class.
    pub probability: Option<Probability>,
}

/// Number of classes that an output of so many values tells apart; 0 for a regressor.
#[must_use]
pub const fn class_count(output: &Output, width: usize) -> usize {
    match output.head {
        Head::Scores => 0,
        Head::Logits | Head::OneVersusRest { .. } | Head::Probabilities => width,
        Head::Logistic | Head::Probability => 2,
    }
}

/// Resolution that a derived fixed-point format keeps: a step of a raw value moves no first-layer sum by more
/// than `2^-RESOLUTION`.
const RESOLUTION: f64 = 20.0;
/// Most fraction bits that are derived: values up to 2^22 then still fit 64 bits with room to spare.
const MOST_FRACTION_BITS: f64 = 40.0;

/// Raw values of a feature of which nothing is known: all whose differences fit 64 bits.
const ANY: Interval = Interval { low: -MOST_RAW, high: MOST_RAW };
/// What diagnostics call a model that came without a name.
const UNNAMED: &str = "model";

/// What a model, called `name`, and the specification, if there is one, demand of each other.
///
/// # Errors
///
/// Those of [`with_spec`], and `E0320`.
pub fn between(name: &str, model: &mut Model, spec: Option<&FeatureSpec>) -> Outcome<Contract> {
    let contract = match spec {
        None => without_spec(model),
        Some(spec) => {
            if let Some(wish) = &spec.reconstruction {
                reconstruction::rewrite(model, spec, wish)?;
            }
            classify(model, spec);
            with_spec(model, spec)?
        }
    };
    Ok(Contract { model: name.to_owned(), ..contract })
}

/// Takes raw values for what a specification says that they are. A single one is a binary classifier when there
/// are two labels: label 1 above zero, as with a logistic. As many of them as the specification has outputs of two
/// labels are such outputs, one value each. Everything that comes later, the float reference included, then sees
/// classifiers.
fn classify(model: &mut Model, spec: &FeatureSpec) {
    let count = model.output_count();
    let binary = spec.outputs.iter().all(|output| output.labels.len() == 2);
    if !binary || spec.outputs.len() != count || !model.further.is_empty() {
        return;
    }
    match model.first.head {
        Head::Scores if count == 1 => model.first.head = Head::Logistic,
        Head::Logits if count > 1 && model.first.raw => {
            let mut outputs = (0..count).map(|start| Output { start, ..Output::only(Head::Logistic) });
            if let Some(first) = outputs.next() {
                (model.first, model.further) = (first, outputs.collect());
            }
        }
        Head::Scores
        | Head::Logits
        | Head::Logistic
        | Head::OneVersusRest { .. }
        | Head::Probability
        | Head::Probabilities => {}
    }
}

/// The contract of a model that is judged without a specification: inputs by position, any raw value may
/// arrive, and the fraction bits follow from the model alone.
///
/// Feature `j` gets the least number `f >= 0` of fraction bits with `gain_j * 2^-f <= 2^-20`, at most 40, where
/// `gain_j` is the largest change of a first-layer sum that one unit of the feature causes:
/// `|scale_j| * max_i |W[i][j]|`. For decision trees it follows from the thresholds, see `forest`.
#[must_use]
pub fn without_spec(model: &Model) -> Contract {
    let inputs = model
        .inputs
        .iter()
        .zip(&model.normalise)
        .enumerate()
        .map(|(index, (name, normalise))| {
            let bits = match &model.body {
                Body::Mlp(layers) => dense_bits(layers, normalise, index),
                Body::Forest(trees) => forest::fraction_bits(trees, index),
            };
            Input {
                name: name.clone().unwrap_or_else(|| format!("x{index}")),
                fraction_bits: FractionBits(bits.clamp(0.0, MOST_FRACTION_BITS) as u8),
                range: ANY,
            }
        })
        .collect();
    let outputs = model
        .outputs()
        .enumerate()
        .map(|(index, output)| OutputNames {
            name: own_name(model, index, output),
            labels: output.classes.clone().unwrap_or_default(),
        })
        .collect();
    Contract { model: UNNAMED.to_owned(), inputs, grid: Vec::new(), outputs, rules: Vec::new() }
}

/// Fraction bits by what one unit of a feature does to the sums of the first layer.
fn dense_bits(layers: &[Dense], normalise: &Normalise, index: usize) -> f64 {
    let steepest = layers.first().map_or(0.0, |layer| {
        (0..layer.weights.rows)
            .filter_map(|row| layer.weights.row(row).get(index))
            .fold(0.0f64, |most, weight| most.max(weight.abs()))
    });
    let gain = normalise.scale.abs() * steepest;
    if gain > 0.0 { (gain.log2() + RESOLUTION).ceil() } else { 0.0 }
}

/// What an output is called that no specification names: as in the file, or by its number.
fn own_name(model: &Model, index: usize, output: &Output) -> String {
    if model.further.is_empty() {
        return String::new();
    }
    output.names.first().cloned().unwrap_or_else(|| index.to_string())
}

/// Checks that a specification fits a model, and takes from it what quantisation needs.
///
/// # Errors
///
/// `E0301` to `E0304`, `E0307`, `E0311` and `E0313`, all that apply.
pub fn with_spec(model: &Model, spec: &FeatureSpec) -> Outcome<Contract> {
    let mut errors = Vec::new();
    features(model, spec, &mut errors);
    let pairs = outputs(model, spec, &mut errors);
    for pair in &pairs {
        labels(spec, pair, &mut errors);
    }
    rules(spec, &pairs, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let inputs = spec.inputs();
    let rules = spec
        .rules
        .iter()
        .map(|rule| RuleWish {
            output: (0..).zip(&pairs).find(|(_, pair)| pair.position == rule.output).map_or(0, |(at, _)| at),
            class: u32::try_from(rule.label).unwrap_or(u32::MAX),
            probability: rule.threshold,
        })
        .collect();
    let outputs = pairs
        .iter()
        .map(|pair| OutputNames {
            name: pair.named.name.clone().unwrap_or_default(),
            labels: pair.named.labels.clone(),
        })
        .collect();
    Ok(Contract { model: UNNAMED.to_owned(), inputs, grid: Vec::new(), outputs, rules })
}

fn at(spec: &FeatureSpec, span: &Span) -> Origin {
    Origin::Source { file: spec.file.clone(), span: span.clone() }
}

fn whole(spec: &FeatureSpec) -> Origin {
    Origin::File { file: spec.file.clone() }
}

fn features(model: &Model, spec: &FeatureSpec, errors: &mut Vec<Diagnostic>) {
    let (have, want) = (spec.features.len(), model.input_count());
    if have != want {
        let origin = spec.features.last().map_or_else(|| whole(spec), |feature| at(spec, &feature.span));
        let help = if have < want {
            format!(
                "add {} more to the `features` block, in the order in which the model was trained",
                want - have
            )
        } else {
            format!("remove {} from the `features` block, or train the model on all of them", have - want)
        };
        let named: Vec<&str> = model.inputs.iter().flatten().map(String::as_str).collect();
        let message = format!("the specification has {have} features and the model {want} inputs");
        let mut diagnostic = Diagnostic::new(&COUNT, origin, message, help);
        if named.len() == want && want > 0 {
            diagnostic = diagnostic.with_note(format!("the model's inputs are {}", named.join(", ")));
        }
        errors.push(diagnostic);
        return;
    }
    for (index, (name, feature)) in model.inputs.iter().zip(&spec.features).enumerate() {
        let Some(name) = name else { continue };
        let misplaced = *name != feature.name && spec.features.iter().any(|other| other.name == *name);
        if misplaced {
            errors.push(Diagnostic::new(
                &ORDER,
                at(spec, &feature.span),
                format!(
                    "input {} of the model is `{name}`, and the feature there is `{}`",
                    index + 1,
                    feature.name
                ),
                format!("move `{name}` to place {} of the `features` block", index + 1),
            ));
        }
    }
    for (normalise, feature) in model.normalise.iter().zip(&spec.features) {
        // Without a scaler there is nothing to compare with.
        if normalise.scale == 0.0 || *normalise == Normalise::IDENTITY {
            continue;
        }
        let unit = (-f64::from(feature.fraction_bits.0)).exp2();
        let (low, high) = (feature.range.low as f64 * unit, feature.range.high as f64 * unit);
        let middle = normalise.centre - normalise.offset / normalise.scale;
        let reach = TRAINED_REACH / normalise.scale.abs();
        if middle + reach < low || middle - reach > high {
            errors.push(Diagnostic::new(
                &UNITS,
                at(spec, &feature.span),
                format!(
                    "`{}` lies in {low} to {high}, and the model was trained on values around {middle}",
                    feature.name
                ),
                "use the unit that the training data had, for example `as ms`",
            ));
        }
    }
}

/// Standard deviations around the scaler's centre in which some value of a feature must lie.
const TRAINED_REACH: f64 = 8.0;

/// An output of the model with what the specification says about it.
struct Pair<'a> {
    output: &'a Output,
    classes: usize,
    /// Raw values of the output.
    width: usize,
    named: &'a typed::Output,
    /// Position of that in the specification.
    position: usize,
}

/// The model's outputs, in its order, each with its statement of the specification: the one of the same name, or
/// else the next one whose name is none of the model's.
fn outputs<'a>(model: &'a Model, spec: &'a FeatureSpec, errors: &mut Vec<Diagnostic>) -> Vec<Pair<'a>> {
    let (have, want) = (spec.outputs.len(), model.outputs().count());
    if have != want {
        let (outputs, those) = match want {
            1 => ("output", "one `labels` statement"),
            _ => ("outputs", "one `output NAME { labels ...; }` for each of them"),
        };
        let origin = match spec.outputs.last() {
            Some(last) if have > 1 => at(spec, &last.span),
            Some(_) | None => whole(spec),
        };
        let message = format!("the specification has {have} and the model {want} {outputs}");
        let help = format!("write {those} in the `model` block, in the model's order");
        let diagnostic = Diagnostic::new(&OUTPUT_COUNT, origin, message, help);
        let described: Vec<String> = model.outputs().zip(model.widths()).map(describe).collect();
        errors.push(diagnostic.with_note(format!("the model's outputs are {}", described.join(", "))));
        return Vec::new();
    }
    let same = |output: &Output, named: &typed::Output| {
        named.name.as_ref().is_some_and(|name| output.names.contains(name))
    };
    let mut rest = spec
        .outputs
        .iter()
        .enumerate()
        .filter(|(_, named)| !model.outputs().any(|output| same(output, named)));
    model
        .outputs()
        .zip(model.widths())
        .filter_map(|(output, width)| {
            let by_name = spec.outputs.iter().enumerate().find(|(_, named)| same(output, named));
            let (position, named) = by_name.or_else(|| rest.next())?;
            Some(Pair { output, classes: class_count(output, width), width, named, position })
        })
        .collect()
}

/// An output for messages.
fn describe((output, width): (&Output, usize)) -> String {
    let name = output.names.first().map_or_else(|| "a part of one".to_owned(), |name| format!("`{name}`"));
    match class_count(output, width) {
        0 => format!("{name} without a class"),
        classes => format!("{name} of {classes} classes"),
    }
}

fn labels(spec: &FeatureSpec, pair: &Pair<'_>, errors: &mut Vec<Diagnostic>) {
    let Pair { output, classes, width, named, position } = pair;
    let (have, classes) = (named.labels.len(), *classes);
    if classes == 0 {
        // Rules on such labels are refused by themselves.
        if have > 0 && !spec.rules.iter().any(|rule| rule.output == *position) {
            errors.push(Diagnostic::new(
                &LABELS,
                whole(spec),
                format!(
                    "the specification has {have} labels, and the model gives {width} number without a class"
                ),
                "write two labels for a single output, the second one for values above zero, or none",
            ));
        }
        return;
    }
    let origin = || if named.name.is_some() { at(spec, &named.span) } else { whole(spec) };
    if have != classes {
        let message = match &named.name {
            None => format!("the specification has {have} labels and the model {classes} classes"),
            Some(name) => {
                format!("the output `{name}` has {have} labels, and the model's {classes} classes")
            }
        };
        let help = format!("write {classes} labels after `labels`, in the order of the model's outputs");
        let mut diagnostic = Diagnostic::new(&LABELS, origin(), message, help);
        if named.name.is_some() {
            let model = describe((output, *width));
            diagnostic = diagnostic.with_note(format!("it stands for the model's output {model}"));
        }
        errors.push(diagnostic);
        return;
    }
    let Some(classes) = &output.classes else { return };
    for (index, (class, label)) in classes.iter().zip(&named.labels).enumerate() {
        if class != label && named.labels.contains(class) {
            errors.push(Diagnostic::new(
                &LABEL_ORDER,
                origin(),
                format!("class {index} of the model is `{class}`, and the label there is `{label}`"),
                format!("write `labels {}`", classes.join(", ")),
            ));
        }
    }
}

fn rules(spec: &FeatureSpec, pairs: &[Pair<'_>], errors: &mut Vec<Diagnostic>) {
    for rule in &spec.rules {
        let judged = pairs.iter().find(|pair| pair.position == rule.output);
        if judged.is_some_and(|pair| pair.classes == 0) {
            errors.push(Diagnostic::new(
                &REGRESSOR,
                at(spec, &rule.span),
                "the model has no classes, so no label can cause an action",
                "export the model with its softmax, sigmoid or arg-max, or remove the rule",
            ));
        }
        let each = judged.is_some_and(|pair| matches!(pair.output.head, Head::OneVersusRest { .. }));
        if each && rule.threshold.is_some() {
            errors.push(Diagnostic::new(
                &ONE_VERSUS_REST,
                at(spec, &rule.span),
                "the probabilities of this model come from one logistic for each class, not from a softmax",
                "write the rule without a probability, or train the model with a softmax (scikit-learn: \
                 `LogisticRegression` without `OneVsRestClassifier`)",
            ));
        }
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
