//! Inputs whose label changes by quantisation: a search for the closest, and a proof of how many there can be.
//!
//! `subject` judges single inputs in both forms, `search` looks for flips on the decision boundary, `volume` bounds
//! the share of a box in which any can lie. `docs/numerics.md` has the derivation.

mod subject;
mod search;
mod volume;

use serde::Serialize;

use crate::bounds::{OutputBound, Subject};
use crate::compile::Plan;
use crate::diag::codes::quant::{NO_LABEL, NO_ROWS};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::model::{Body, Head};
use crate::rows::Rows;
use subject::Judge;

pub use search::Flip;
pub use volume::{Surroundings, Volume};

/// How long to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub seed: u64,
    /// Inputs that the search judges, about.
    pub tries: u64,
    /// Boxes that the proof may divide the region into.
    pub boxes: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self { seed: 1, tries: 20_000, boxes: 4096 }
    }
}

/// Flips that are shown.
pub const SHOWN: usize = 10;

/// What was found and what is proved.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    pub seed: u64,
    /// Calibration rows, and those whose label changes.
    pub rows: usize,
    pub rows_flipped: usize,
    /// Inputs that the search judged, and how many different ones change their label.
    pub searched: u64,
    pub found: usize,
    /// The closest to any calibration row, one for each row, at most [`SHOWN`].
    pub closest: Vec<Flip>,
    /// Per output: how far it can be off, by `certificate.error`; none when there is no bound.
    pub error: Vec<OutputBound>,
    /// Why nothing is proved, where that is so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unproved: Option<String>,
    /// Calibration rows whose margin is larger than their outputs can be off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_beyond_error: Option<usize>,
    /// Calibration rows around which no label changes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub surroundings: Vec<Surroundings>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// Whether it is proved that no input at all changes its label.
    pub none_exists: bool,
}

/// Looks for flips near the rows of a plan that was calibrated.
///
/// # Errors
///
/// `E0308` without rows, `E0350` for a model without labels.
pub fn run(plan: &Plan, model_file: &str, options: Options) -> Outcome<Report> {
    let whole = || Origin::File { file: model_file.to_owned() };
    if plan.model.outputs().any(|output| output.head == Head::Scores) {
        let (message, help) = (
            "the model gives plain numbers, so that no label can change",
            "look at `certificate.error` in `--report`, which bounds how far its outputs are off",
        );
        return Err(vec![Diagnostic::new(&NO_LABEL, whole(), message, help)]);
    }
    let Some(rows) = plan.rows.as_ref().filter(|rows| !rows.is_empty()) else {
        let help = "give rows like those that the model was trained on with `--calibrate`";
        return Err(vec![Diagnostic::new(&NO_ROWS, whole(), "there is no row to look near", help)]);
    };
    let judge = Judge::new(&plan.model, plan.network.get(), rows);
    let mut report = Report {
        seed: options.seed,
        rows: rows.len(),
        rows_flipped: 0,
        searched: 0,
        found: 0,
        closest: Vec::new(),
        error: Vec::new(),
        unproved: None,
        rows_beyond_error: None,
        surroundings: Vec::new(),
        volume: None,
        none_exists: false,
    };
    let bound = plan.certificate().error;
    report.error = bound.as_ref().map(|bound| bound.outputs.clone()).unwrap_or_default();
    report.unproved = bound.as_ref().and_then(|bound| bound.reason.clone());
    report.none_exists = report.unproved.is_none()
        && matches!(plan.model.body, Body::Forest(_))
        && report.error.iter().all(|error| error.bound == 0.0);
    if report.unproved.is_none() {
        report.rows_beyond_error = Some(beyond(&judge, rows, bound.as_ref().map_or(&[], |b| &b.outputs)));
    }
    search::run(&judge, rows, options, &mut report);
    if let (Ok(subject), None) =
        (Subject::new(&plan.model, plan.network.get(), &plan.orders(), None), &report.unproved)
    {
        report.surroundings = volume::surroundings(&judge, &subject, rows);
        report.volume = Some(volume::bound(&judge, &subject, options.boxes));
    }
    Ok(report)
}

/// Rows whose label no error of this size changes.
fn beyond(judge: &Judge<'_>, rows: &Rows, errors: &[OutputBound]) -> usize {
    rows.iter()
        .filter(|row| {
            let cut = judge.cuts(row);
            let off: Vec<f64> =
                errors.iter().map(|error| if cut { error.bound } else { error.unsaturated }).collect();
            judge.inside(row) && judge.far(row, &off)
        })
        .count()
}

#[cfg(test)]
mod tests;
