//! Which costs are to be had at which flips: for every combination of lanes the best candidate, of which those stay
//! that no other one beats in both.

use super::build::{Candidate, Plan, Setup};
use super::cost::network_ns;
use super::lanes::{clampable, combinations};
use super::replaced::Behind;
use super::search::{best_plan, start};
use super::summary::{attempt_of, report};
use super::{Calibration, Contract, MaxFlips, Options, Quantised, author, evaluate, linear_end, quantise};
use super::{error, sample, stats};
use crate::diag::Outcome;
use crate::model::{Body, Model};

/// A candidate that is cheaper than all with fewer flips.
struct Point {
    cost: f64,
    flips: u64,
    plan: Plan,
    pilot: u64,
    candidate: Candidate,
}

/// The networks that are cheaper than all with fewer flips, from the cheapest on, with at most so many flips. The
/// report of each has its own flips, errors and parts.
///
/// Trees, and models that were quantised by their author, have one network.
///
/// # Errors
///
/// As [`quantise`], when no network has so few flips.
pub fn frontier(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    most: MaxFlips,
) -> Outcome<Vec<Quantised>> {
    match Behind::of(model, contract, calibration, None)? {
        None => unreplaced(model, contract, calibration, most),
        Some(behind) => {
            let ends = unreplaced(&behind.model, &behind.contract, behind.calibration(), most)?;
            ends.into_iter().map(|end| behind.restored(end)).collect()
        }
    }
}

/// The same for a model that replaces no value that can arrive.
fn unreplaced(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    most: MaxFlips,
) -> Outcome<Vec<Quantised>> {
    let options = Options { max_flips: most, ..Options::default() };
    let only = || quantise(model, contract, calibration, &options).map(|one| vec![one]);
    match &model.body {
        Body::Forest(_) => return only(),
        Body::Mlp(_) => {}
    }
    let left = match author::run(model, contract, calibration, &options) {
        author::Route::Kept(one) => return one.map(|one| vec![one]),
        author::Route::Float => None,
        author::Route::Left(levels, warning) => Some((levels, *warning)),
    };
    let ended = linear_end(model);
    let model = ended.as_ref().unwrap_or(model);
    let mut sample = sample::prepare(model, contract, calibration)?;
    let stats = stats::collect(model, contract, &sample);
    let setup = Setup { model, contract, stats: &stats };
    let allowed = most.allowed(sample.count());
    let mut points: Vec<Point> = Vec::new();
    for lanes in combinations(model, &options) {
        let least = points.iter().map(|point| point.flips).min().unwrap_or(u64::MAX);
        if least == 0 {
            break;
        }
        let clamped = start(lanes, &options);
        let unclamped = Plan { unclamped: clampable(model, &clamped.lanes), ..clamped.clone() };
        for plan in [clamped, unclamped] {
            let Some((pilot, plan, candidate)) = best_plan(setup, &sample, &plan, allowed.min(least)) else {
                continue;
            };
            let limit = allowed.min(least);
            if pilot > limit {
                continue;
            }
            let rows = evaluate::flipped_rows(&candidate.network, &sample, sample.count(), limit);
            let flips = rows.len() as u64;
            if flips <= limit {
                let cost = network_ns(candidate.network.get());
                points.push(Point { cost, flips, plan, pilot, candidate });
            } else {
                sample.promote(&rows);
            }
        }
    }
    if points.is_empty() {
        return quantise(model, contract, calibration, &options).map(|one| vec![one]);
    }
    points.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.flips.cmp(&b.flips)));
    let mut fewest = u64::MAX;
    points.retain(|point| {
        let better = point.flips < fewest;
        fewest = fewest.min(point.flips);
        better
    });
    let quantised = points.into_iter().map(|Point { flips, plan, pilot, candidate, .. }| {
        let attempt = attempt_of(&plan, &candidate, pilot, Some(flips));
        let mut report = report(setup, &sample, &candidate, flips, allowed, vec![attempt]);
        report.errors = Some(error::errors(model, contract, candidate.network.get(), &sample));
        report.precision = Some(error::precision(setup, &sample, &candidate));
        report.levels = left.as_ref().map(|(levels, _)| levels.clone());
        let warnings = left.as_ref().map(|(_, warning)| warning.clone()).into_iter().collect();
        Quantised { network: candidate.network.into_inner(), report, warnings }
    });
    Ok(quantised.collect())
}
