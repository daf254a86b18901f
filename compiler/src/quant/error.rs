//! What the integers cost in outputs and scores, as a whole and part by part, for the report.

use super::Contract;
use super::blame;
use super::build::{Candidate, Setup};
use super::float::real_rows;
use super::report::{Errors, PartReport, Precision, Spread};
use super::sample::{Sample, work};
use crate::ir::{Network, interpret};
use crate::model::Model;

/// Multiply-accumulates that each of both measurements may cost.
const WORK: usize = 1 << 22;
/// Rows, at most and at least; a model too large for the least number is not taken apart.
const MOST_ROWS: usize = 2048;
const LEAST_ROWS: usize = 32;

/// Largest and mean magnitude of differences.
#[derive(Default)]
struct Differences {
    most: f64,
    sum: f64,
    count: usize,
}

impl Differences {
    fn add(&mut self, difference: f64) {
        self.most = self.most.max(difference.abs());
        self.sum += difference.abs();
        self.count += 1;
    }

    fn spread(&self) -> Option<Spread> {
        (self.count > 0).then(|| Spread { most: self.most, mean: self.sum / self.count as f64 })
    }
}

/// Rows spread evenly through the sample.
fn spread_out(sample: &Sample, most: usize) -> Vec<i64> {
    let step = sample.count().div_ceil(most.max(1)).max(1);
    sample.rows.chunks_exact(sample.width.max(1)).step_by(step).flatten().copied().collect()
}

/// Outputs and scores of the integers beside those of the float model in double precision.
pub(super) fn errors(model: &Model, contract: &Contract, network: &Network, sample: &Sample) -> Errors {
    let most = (WORK / work(model).max(1)).clamp(LEAST_ROWS, MOST_ROWS);
    let rows = spread_out(sample, most);
    let width = sample.width.max(1);
    let exact = model.batch_outputs_f64(&real_rows(&contract.inputs, &rows));
    let (mut outputs, mut scores) = (Differences::default(), Differences::default());
    for (row, exact) in rows.chunks_exact(width).zip(exact.chunks_exact(model.output_count().max(1))) {
        let raw = interpret::outputs(network, row);
        for ((output, raw), (own, exact)) in network.decision.parts(&raw).zip(model.parts(exact)) {
            let unit = network.decision.unit_of(output);
            let real: Vec<f64> = raw.iter().map(|&value| value as f64 * unit).collect();
            real.iter().zip(exact).for_each(|(have, want)| outputs.add(have - want));
            if let (Some(have), Some(want)) = (own.head.score(&real), own.head.score(exact)) {
                scores.add(have - want);
            }
        }
    }
    let none = Spread { most: 0.0, mean: 0.0 };
    Errors { rows: rows.len() / width, outputs: outputs.spread().unwrap_or(none), scores: scores.spread() }
}

/// What would remain if one part were exact: the rows nearest to another label, each part in turn.
pub(super) fn precision(setup: Setup<'_>, sample: &Sample, candidate: &Candidate) -> Precision {
    let parts = candidate.units.len() + 1;
    let rows = WORK / (work(setup.model).max(1) * (parts + 1));
    if rows < LEAST_ROWS {
        let skipped = format!(
            "the model has {} multiply-accumulates, too many to judge {} times {LEAST_ROWS} rows",
            work(setup.model),
            parts + 1
        );
        return Precision { skipped: Some(skipped), ..Precision::default() };
    }
    let rows = rows.min(MOST_ROWS).min(sample.count());
    let exact = setup.model.batch_outputs_f64(&real_rows(&setup.contract.inputs, sample.nearest(rows)));
    let measure = |part: Option<usize>| {
        let (mut differences, mut scores) = (Differences::default(), Differences::default());
        let have = blame::outputs(setup, sample, candidate, rows, part);
        for (have, want) in have.zip(exact.chunks_exact(setup.model.output_count().max(1))) {
            have.iter().zip(want).for_each(|(have, want)| differences.add(have - want));
            for ((output, have), (_, want)) in setup.model.parts(&have).zip(setup.model.parts(want)) {
                if let (Some(have), Some(want)) = (output.head.score(have), output.head.score(want)) {
                    scores.add(have - want);
                }
            }
        }
        let spread = differences.spread().unwrap_or(Spread { most: 0.0, mean: 0.0 });
        (blame::flips(setup, sample, candidate, rows, part), spread, scores.spread())
    };
    let (flips, outputs, _) = measure(None);
    let layers = setup.model.layers().iter().map(|layer| layer.origin.name.clone());
    let names = std::iter::once("input quantiser".to_owned()).chain(layers);
    let parts = names.take(parts).enumerate().map(|(part, name)| {
        let (flips, outputs, scores) = measure(Some(part));
        PartReport {
            name,
            layer: part.checked_sub(1),
            flips_if_exact: flips,
            scores_if_exact: scores,
            outputs_if_exact: outputs,
        }
    });
    Precision { rows, flips, outputs: Some(outputs), parts: parts.collect(), skipped: None }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
