//! The contract between a model and a specification: number, names, order, ranges, labels, rules.
//!
//! Also what stands in for a specification when there is none.

use crate::check::MOST_RAW;
use crate::diag::codes::quant::{COUNT, LABEL_ORDER, LABELS, ORDER, REGRESSOR, UNITS};
use crate::diag::{Diagnostic, Origin, Outcome, Span};
use crate::ir::{FractionBits, Input, Interval};
use crate::model::{Body, Head, Model};
use crate::spec::typed::{FeatureSpec, Probability};

/// What quantisation needs to know besides the model.
#[derive(Debug, Clone, PartialEq)]
pub struct Contract {
    /// What diagnostics call the model's file.
    pub model: String,
    /// One per input of the model.
    pub inputs: Vec<Input>,
    /// Class labels in output order; empty when nobody named them.
    pub labels: Vec<String>,
    /// One per rule of the specification.
    pub rules: Vec<RuleWish>,
}

/// When a rule should fire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RuleWish {
    pub class: u32,
    /// `None`: whenever the label is this class.
    pub probability: Option<Probability>,
}

/// Number of classes that a model tells apart; 0 for a regressor.
#[must_use]
pub fn class_count(model: &Model) -> usize {
    match model.head {
        Head::Scores => 0,
        Head::Logits => model.output_count(),
        Head::Logistic => 2,
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
/// Those of [`with_spec`].
pub fn between(name: &str, model: &mut Model, spec: Option<&FeatureSpec>) -> Outcome<Contract> {
    let contract = match spec {
        None => without_spec(model),
        Some(spec) => {
            classify(model, spec);
            with_spec(model, spec)?
        }
    };
    Ok(Contract { model: name.to_owned(), ..contract })
}

/// Takes a single raw output for a binary classifier when a specification declares two labels: label 1 above
/// zero, as with a logistic. Everything that comes later, the float reference included, then sees a classifier.
fn classify(model: &mut Model, spec: &FeatureSpec) {
    if model.head == Head::Scores && model.output_count() == 1 && spec.labels.len() == 2 {
        model.head = Head::Logistic;
    }
}

/// The contract of a model that is judged without a specification: inputs by position, any raw value may
/// arrive, and the fraction bits follow from the model alone.
///
/// Feature `j` gets the least number `f >= 0` of fraction bits with `gain_j * 2^-f <= 2^-20`, at most 40, where
/// `gain_j` is the largest change of a first-layer sum that one unit of the feature causes:
/// `|scale_j| * max_i |W[i][j]|`.
#[must_use]
pub fn without_spec(model: &Model) -> Contract {
    let Body::Mlp(layers) = &model.body;
    let inputs = model
        .inputs
        .iter()
        .zip(&model.normalise)
        .enumerate()
        .map(|(index, (name, normalise))| {
            let steepest = layers.first().map_or(0.0, |layer| {
                (0..layer.weights.rows)
                    .filter_map(|row| layer.weights.row(row).get(index))
                    .fold(0.0f64, |most, weight| most.max(weight.abs()))
            });
            let gain = normalise.scale.abs() * steepest;
            let bits = if gain > 0.0 { (gain.log2() + RESOLUTION).ceil() } else { 0.0 };
            Input {
                name: name.clone().unwrap_or_else(|| format!("x{index}")),
                fraction_bits: FractionBits(bits.clamp(0.0, MOST_FRACTION_BITS) as u8),
                range: ANY,
            }
        })
        .collect();
    Contract {
        model: UNNAMED.to_owned(),
        inputs,
        labels: model.classes.clone().unwrap_or_default(),
        rules: Vec::new(),
    }
}

/// Checks that a specification fits a model, and takes from it what quantisation needs.
///
/// # Errors
///
/// `E0301` to `E0304`, `E0307` and `E0311`, all that apply.
pub fn with_spec(model: &Model, spec: &FeatureSpec) -> Outcome<Contract> {
    let mut errors = Vec::new();
    features(model, spec, &mut errors);
    labels(model, spec, &mut errors);
    rules(model, spec, &mut errors);
    if !errors.is_empty() {
        return Err(errors);
    }
    let inputs = spec
        .features
        .iter()
        .map(|feature| Input {
            name: feature.name.clone(),
            fraction_bits: feature.fraction_bits,
            range: feature.range,
        })
        .collect();
    let rules = spec
        .rules
        .iter()
        .map(|rule| RuleWish {
            class: u32::try_from(rule.label).unwrap_or(u32::MAX),
            probability: rule.threshold,
        })
        .collect();
    Ok(Contract { model: UNNAMED.to_owned(), inputs, labels: spec.labels.clone(), rules })
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
        if normalise.scale == 0.0 || *normalise == crate::model::Normalise::IDENTITY {
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

fn labels(model: &Model, spec: &FeatureSpec, errors: &mut Vec<Diagnostic>) {
    let classes = class_count(model);
    if classes == 0 {
        // Rules on such labels are refused by themselves.
        if !spec.labels.is_empty() && spec.rules.is_empty() {
            let (labels, outputs) = (spec.labels.len(), model.output_count());
            errors.push(Diagnostic::new(
                &LABELS,
                whole(spec),
                format!("the specification has {labels} labels, and the model gives {outputs} number without a class"),
                "write two labels for a single output, the second one for values above zero, or none",
            ));
        }
        return;
    }
    if spec.labels.len() != classes {
        errors.push(Diagnostic::new(
            &LABELS,
            whole(spec),
            format!("the specification has {} labels and the model {classes} classes", spec.labels.len()),
            format!("write {classes} labels after `labels`, in the order of the model's outputs"),
        ));
        return;
    }
    let Some(named) = &model.classes else { return };
    for (index, (class, label)) in named.iter().zip(&spec.labels).enumerate() {
        if class != label && spec.labels.contains(class) {
            errors.push(Diagnostic::new(
                &LABEL_ORDER,
                whole(spec),
                format!("class {index} of the model is `{class}`, and the label there is `{label}`"),
                format!("write `labels {}`", named.join(", ")),
            ));
        }
    }
}

fn rules(model: &Model, spec: &FeatureSpec, errors: &mut Vec<Diagnostic>) {
    let classes = class_count(model);
    for rule in &spec.rules {
        if classes == 0 {
            errors.push(Diagnostic::new(
                &REGRESSOR,
                at(spec, &rule.span),
                "the model has no classes, so no label can cause an action",
                "export the model with its softmax, sigmoid or arg-max, or remove the rule",
            ));
        }
    }
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
