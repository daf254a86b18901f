//! The model's outputs and their labels, and which of them a rule is about.

use std::collections::BTreeMap;

use super::number::{self, Misfit};
use super::structure::{repeated, unknown};
use crate::diag::Span;
use crate::diag::codes::spec as codes;
use crate::spec::ast;
use crate::spec::report::{Reporter, suggest};
use crate::spec::typed::{Output, Reconstruction, ReconstructionError};

/// Thresholds of errors are stored in billionths.
const BILLION: u128 = 1_000_000_000;

/// What the model block says: a single output, or several by name.
pub(super) fn outputs(model: &ast::Model, reporter: &mut Reporter<'_>) -> Option<Vec<Output>> {
    if model.outputs.is_empty() {
        let labels = labels(&model.labels, &model.head, "model", reporter)?;
        return Some(vec![Output { name: None, labels, span: model.head.clone() }]);
    }
    let mut sound = true;
    if let Some(labels) = model.labels.first() {
        reporter
            .error(
                &codes::LABELS,
                labels.span.clone(),
                "labels stand beside outputs with labels of their own",
                "move them into an `output NAME { labels ...; }`",
            )
            .primary("of which output?");
        sound = false;
    }
    let mut known: BTreeMap<&str, &ast::Output> = BTreeMap::new();
    let mut outputs = Vec::new();
    for output in &model.outputs {
        let earlier = *known.entry(&output.name.text).or_insert(output);
        if earlier.head != output.head {
            repeated(
                &format!("output {}", output.name.text),
                earlier.head.clone(),
                output.head.clone(),
                reporter,
            );
            sound = false;
        }
        match labels(&output.labels, &output.head, "output", reporter) {
            Some(labels) => outputs.push(Output {
                name: Some(output.name.text.clone()),
                labels,
                span: output.head.clone(),
            }),
            None => sound = false,
        }
    }
    sound.then_some(outputs)
}

/// The labels of a block, which `what` names.
fn labels(
    statements: &[ast::Labels],
    head: &Span,
    what: &str,
    reporter: &mut Reporter<'_>,
) -> Option<Vec<String>> {
    let Some((first, others)) = statements.split_first() else {
        if reporter.is_clean() {
            reporter.error(
                &codes::MISSING,
                head.clone(),
                format!("the {what} block has no labels"),
                "add `labels benign, attack;` in the order of the model's outputs",
            );
        }
        return None;
    };
    for other in others {
        repeated("labels", first.span.clone(), other.span.clone(), reporter);
    }
    let mut labels: Vec<String> = Vec::new();
    let mut known: BTreeMap<&str, &ast::Name> = BTreeMap::new();
    let mut sound = others.is_empty();
    for name in &first.names {
        let earlier = *known.entry(&name.text).or_insert(name);
        if earlier.span != name.span {
            reporter
                .error(
                    &codes::LABELS,
                    name.span.clone(),
                    format!("two classes are labelled `{}`", name.text),
                    "give each output of the model a label of its own",
                )
                .primary("second")
                .label(earlier.span.clone(), "first");
            sound = false;
        }
        if name.text.trim().is_empty() {
            reporter.error(&codes::LABELS, name.span.clone(), "a label is empty", "write a name in it");
            sound = false;
        }
        labels.push(name.text.clone());
    }
    if labels.len() < 2 {
        reporter.error(
            &codes::LABELS,
            first.span.clone(),
            "a classifier has at least two labels",
            "write `labels benign, attack;` in the order of the model's outputs",
        );
        sound = false;
    }
    sound.then_some(labels)
}

/// What the model block says about the error of a reconstruction; nothing where that was reported.
pub(super) fn reconstruction(
    model: &ast::Model,
    outputs: Option<&[Output]>,
    reporter: &mut Reporter<'_>,
) -> Option<Reconstruction> {
    let (first, others) = model.reconstructions.split_first()?;
    for other in others {
        repeated("reconstruction", first.span.clone(), other.span.clone(), reporter);
    }
    let error = match first.error.text.as_str() {
        "l1" => Some(ReconstructionError::Absolute),
        "l2" => Some(ReconstructionError::Squared),
        other => {
            let known = ["l1", "l2"];
            unknown(&codes::RECONSTRUCTION, "error", other, first.error.span.clone(), &known, reporter);
            None
        }
    };
    let problem = match number::scaled(&first.threshold, BILLION) {
        Ok(value) if value > 0 => None,
        Ok(_) => Some("the threshold of an error lies above 0"),
        Err(Misfit::TooLarge) => Some("the threshold is larger than any error"),
        Err(Misfit::Fraction) => Some("the threshold of an error has at most nine decimals"),
    };
    if let Some(problem) = problem {
        let help = "write `reconstruction l1 > 0.037;`";
        reporter.error(&codes::RECONSTRUCTION, first.threshold.span.clone(), problem, help);
    }
    let two = outputs
        .is_none_or(|outputs| matches!(outputs, [Output { name: None, labels, .. }] if labels.len() == 2));
    if !two {
        reporter.error(
            &codes::RECONSTRUCTION,
            first.span.clone(),
            "whether an error is too large is one output of two labels",
            "write `labels normal, anomaly;` beside it and no `output`",
        );
    }
    let threshold = number::scaled(&first.threshold, BILLION).ok()?;
    let threshold =
        u64::try_from(threshold).ok().filter(|_| others.is_empty() && problem.is_none() && two)?;
    Some(Reconstruction { error: error?, threshold, span: first.span.clone() })
}

/// Output and label behind `on`, as indices.
pub(super) fn label(
    rule: &ast::Rule,
    outputs: &[Output],
    reporter: &mut Reporter<'_>,
) -> Option<(usize, usize)> {
    let names = || outputs.iter().filter_map(|output| output.name.as_deref());
    let output = match &rule.output {
        Some(name) => outputs.iter().position(|output| output.name.as_ref() == Some(&name.text)),
        None if outputs.len() == 1 => Some(0),
        None => {
            let having = outputs.iter().find(|output| output.labels.contains(&rule.label.text));
            let name = having.and_then(|output| output.name.as_deref()).or_else(|| names().next());
            reporter
                .error(
                    &codes::UNKNOWN_LABEL,
                    rule.label.span.clone(),
                    "the model has several outputs, and the rule does not say which one it is about",
                    format!("write `on {}.{}`", name.unwrap_or("NAME"), rule.label.text),
                )
                .primary("of which output?");
            return None;
        }
    };
    let Some((position, labels)) = output.and_then(|at| Some((at, &outputs.get(at)?.labels))) else {
        let name = rule.output.as_ref()?;
        let known: Vec<&str> = names().collect();
        if known.is_empty() {
            reporter
                .error(
                    &codes::UNKNOWN_LABEL,
                    name.span.clone(),
                    "the model's only output has no name",
                    format!("write `on {}`", rule.label.text),
                )
                .primary("not known");
        } else {
            unknown(&codes::UNKNOWN_LABEL, "output", &name.text, name.span.clone(), &known, reporter);
        }
        return None;
    };
    let found = labels.iter().position(|label| *label == rule.label.text);
    if found.is_none() {
        let whose = match &rule.output {
            Some(output) => format!("the output `{}`", output.text),
            None => "the model".to_owned(),
        };
        reporter
            .error(
                &codes::UNKNOWN_LABEL,
                rule.label.span.clone(),
                format!("{whose} has no label `{}`", rule.label.text),
                suggest(&rule.label.text, labels.iter().map(String::as_str)),
            )
            .primary("not known");
    }
    Some((position, found?))
}
