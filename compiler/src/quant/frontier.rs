//! Which costs are to be had at which flips: for every combination of lanes, even ones and what the neurons ask for,
//! the best candidate, of which those stay that no other one beats in both.

use std::rc::Rc;

use super::build::{Candidate, Plan, Setup};
use super::cost::network_ns;
use super::lanes::{clampable, combinations};
use super::replaced::Behind;
use super::sample::Sample;
use super::search::{ALMOST, SCREENED, best_plan, start, with_order};
use super::stats::Stats;
use super::summary::{attempt_of, report};
use super::{Calibration, Contract, MaxFlips, Options, Quantised, author, evaluate, linear_end, quantise};
use super::{error, order, sample, stats};
use crate::diag::Outcome;
use crate::ir::Lanes;
use crate::model::{Body, Model};

/// Combinations that are tried with lanes of different widths as well.
const UNEVEN: usize = 8;

/// A candidate that is cheaper than all with fewer flips.
struct Point {
    cost: f64,
    flips: u64,
    plan: Plan,
    pilot: u64,
    candidate: Candidate,
    /// Its order of neurons, where that is another one.
    moved: Option<Rc<Moved>>,
}

/// A model with its neurons in another order, and its statistics.
type Moved = (Model, Stats);

/// What has been found, and the rows that it was measured on.
struct Frontier<'a> {
    setup: Setup<'a>,
    sample: Sample,
    allowed: u64,
    points: Vec<Point>,
}

impl Frontier<'_> {
    /// Flips that a further network may have.
    fn limit(&self) -> u64 {
        self.points.iter().map(|point| point.flips).min().unwrap_or(u64::MAX).min(self.allowed)
    }

    /// Tries the lanes with and without clamps; the flips of the better one, in the pilot or among all rows.
    fn attempt(&mut self, lanes: Vec<Lanes>, moved: Option<&Rc<Moved>>) -> Option<u64> {
        let setup = moved.map_or(self.setup, |moved| with_order(self.setup, moved));
        let limit = self.limit();
        let clamped = start(lanes, &Options::default());
        let unclamped = Plan { unclamped: clampable(setup.model, &clamped.lanes), ..clamped.clone() };
        let mut fewest = None;
        for plan in [clamped, unclamped] {
            let Some((pilot, plan, candidate)) = best_plan(setup, &self.sample, &plan, limit) else {
                continue;
            };
            let mut count = pilot;
            if pilot <= limit {
                let all = self.sample.count();
                let rows = evaluate::flipped_rows(&candidate.network, &self.sample, all, limit);
                count = rows.len() as u64;
                if count <= limit {
                    let (cost, moved) = (network_ns(candidate.network.get()), moved.cloned());
                    self.points.push(Point { cost, flips: count, plan, pilot, candidate, moved });
                } else {
                    self.sample.promote(&rows);
                }
            }
            fewest = Some(fewest.map_or(count, |least: u64| least.min(count)));
        }
        fewest
    }

    /// Gives lanes that are not far off the widths that the neurons ask for.
    fn divide(&mut self, lanes: &[Lanes]) -> bool {
        let Some(uneven) = order::divided(self.setup, lanes) else { return false };
        let Some(moved) = order::ordered(self.setup, &uneven).map(Rc::new) else { return false };
        self.attempt(uneven, Some(&moved));
        true
    }
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
    let sample = sample::prepare(model, contract, calibration)?;
    let stats = stats::collect(model, contract, &sample);
    let setup = Setup { model, contract, stats: &stats };
    let allowed = most.allowed(sample.count());
    // Drawn rows tell little about which neurons matter.
    let mut uneven = if sample.calibrated { UNEVEN } else { 0 };
    let mut frontier = Frontier { setup, sample, allowed, points: Vec::new() };
    for lanes in combinations(model, &options) {
        let limit = frontier.limit();
        if limit == 0 && !frontier.points.is_empty() {
            break;
        }
        let near = limit.saturating_mul(SCREENED).saturating_add(ALMOST);
        let flips = frontier.attempt(lanes.clone(), None);
        if uneven > 0 && flips.is_some_and(|flips| flips > 0 && flips <= near) && frontier.divide(&lanes) {
            uneven -= 1;
        }
    }
    let Frontier { sample, mut points, .. } = frontier;
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
    let quantised = points.into_iter().map(|Point { flips, plan, pilot, candidate, moved, .. }| {
        let setup = moved.as_deref().map_or(setup, |moved| with_order(setup, moved));
        let attempt = attempt_of(&plan, &candidate, pilot, Some(flips));
        let mut report = report(setup, &sample, &candidate, flips, allowed, vec![attempt]);
        report.errors = Some(error::errors(setup.model, contract, candidate.network.get(), &sample));
        report.precision = Some(error::precision(setup, &sample, &candidate));
        report.levels = left.as_ref().map(|(levels, _)| levels.clone());
        let warnings = left.as_ref().map(|(_, warning)| warning.clone()).into_iter().collect();
        Quantised { network: candidate.network.into_inner(), report, warnings }
    });
    Ok(quantised.collect())
}
