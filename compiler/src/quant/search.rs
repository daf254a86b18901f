//! The search: lane combinations from the cheapest on, until none that is left can beat what was found.
//!
//! Each combination is tuned on a pilot, the rows nearest to the boundary, before all rows are judged. One within
//! the budget is tried again with layers that need no clamp.
//! Everything is deterministic; nothing depends on time.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::blame::{self, Blame};
use super::build::{Candidate, Plan, Setup, build};
use super::cost::least_ns;
use super::curve;
use super::lanes::{clampable, combinations};
use super::report::Attempt;
use super::sample::{self, Sample, work};
use super::stats::{self, CLIPS, Stats};
use super::summary::{attempt_of, report};
use super::{Calibration, Contract, Options, Quantised, error, evaluate, order, threshold};
use crate::diag::codes::quant::{BUDGET, COARSE, NO_FIT, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Lanes, Post};
use crate::model::{Activation, Model};

/// Rows of the pilot, and multiply-accumulates that one run of it may cost.
const PILOT_ROWS: usize = 2048;
const PILOT_WORK: usize = 1 << 23;
/// Beyond this many multiply-accumulates candidates are tuned less.
const LARGE: usize = 20_000;
/// A pilot this many times over the budget (and a few rows more) is not worth tuning.
const HOPELESS: u64 = 12;
/// Lanes of no more bits are tried alone first, on so many rows; more than so many times the budget and a few flips
/// are too many. Drawn rows lie so near to the boundary that tuning changes little.
const NARROW: u32 = 16;
const NARROW_DRAWN: u32 = 21;
const SCREEN_ROWS: usize = 512;
pub(super) const SCREENED: u64 = 4;
/// Lanes that are narrower than three even ones, or of different widths, leave a retrained model less room: they must be
/// so many times cheaper.
const ROOM: f64 = 1.1;
/// Combinations that are tried with lanes of different widths.
const UNEVEN: usize = 3;
/// Times that a combination is tuned again after rows outside the pilot flipped.
const ROUNDS: usize = 3;
/// Coarser scales that are tried when a pilot is over the budget by no more than `ALMOST` flips.
const SLACKS: &[f64] = &[1.015, 1.03, 1.05, 1.08, 1.12, 1.17];
pub(super) const ALMOST: u64 = 4;
/// Clips and factors on the input steps under which they are tried as well, and up to how many
/// multiply-accumulates.
const ROUNDINGS: &[(usize, f64)] =
    &[(0, 1.0), (1, 1.0), (2, 1.0), (0, 0.5), (1, 0.5), (2, 0.5), (0, 2.0), (1, 2.0), (2, 2.0)];
const SMALL: usize = 4096;

pub(super) fn run(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Outcome<Quantised> {
    same_shape(model, contract, options)?;
    let sample = sample::prepare(model, contract, calibration)?;
    let stats = stats::collect(model, contract, &sample);
    let plain = Setup { model, contract, stats: &stats };
    let allowed = options.max_flips.allowed(sample.count());
    // Lanes that are given may be uneven ones.
    let given = options.like.as_ref().map(|plan| plan.layers.iter().map(|layer| layer.lanes).collect());
    let given: Option<Vec<Lanes>> = given.or_else(|| options.lanes.clone());
    let moved = given.and_then(|lanes| order::ordered(plain, &lanes));
    let setup = moved.as_ref().map_or(plain, |moved| with_order(plain, moved));
    let mut search = Search {
        setup,
        sample,
        allowed,
        log: Vec::new(),
        best: None,
        closest: None,
        near: Vec::new(),
        screened: BTreeMap::new(),
    };
    if search.sample.on_many_scales {
        // Flips on rows of many scales may all be on the scale that real rows have.
        for tight in (0..allowed).take(2) {
            if search.best.is_none() {
                search.allowed = tight;
                search.over_lanes(options);
            }
        }
        search.allowed = allowed;
    }
    if search.best.is_none() {
        search.over_lanes(options);
    }
    search.over_uneven(options);
    let Search { sample, best, closest, log, .. } = search;
    if let Some(Found { flips, candidate, moved, .. }) = best {
        let setup = moved.as_deref().map_or(setup, |moved| with_order(setup, moved));
        let mut report = report(setup, &sample, &candidate, flips, allowed, log);
        if options.measure {
            let network = candidate.network.get();
            report.errors = Some(error::errors(setup.model, setup.contract, network, &sample));
            report.precision = Some(error::precision(setup, &sample, &candidate));
        }
        let network = candidate.network.into_inner();
        return Ok(Quantised { network, report, warnings: Vec::new() });
    }
    Err(vec![match closest {
        Some((_, candidate)) => over_budget(setup, &sample, &candidate, allowed),
        None if fits_without_rules(setup, options) => Diagnostic::new(
            &COARSE,
            whole(contract),
            "the outputs are too coarse for the probability of a rule",
            "remove `when p >= ...`, or train with smaller outputs (weight decay, clipped inputs)",
        ),
        None => Diagnostic::new(
            &NO_FIT,
            whole(contract),
            "no choice of scales lets every accumulator fit",
            "normalise the inputs (for example with StandardScaler) and train again",
        ),
    }])
}

/// The same with the neurons in another order.
pub(super) const fn with_order<'a>(setup: Setup<'a>, (model, stats): &'a (Model, Stats)) -> Setup<'a> {
    Setup { model, stats, ..setup }
}

/// Whether probabilities are all that keeps the model from fixed point.
fn fits_without_rules(setup: Setup<'_>, options: &Options) -> bool {
    if !threshold::needs_fine_outputs(setup.model, setup.contract) {
        return false;
    }
    let contract = Contract { rules: Vec::new(), ..setup.contract.clone() };
    let setup = Setup { contract: &contract, ..setup };
    combinations(setup.model, options).into_iter().any(|lanes| build(setup, &start(lanes, options)).is_some())
}

/// The first plan of a combination of lanes.
pub(super) fn start(lanes: Vec<Lanes>, options: &Options) -> Plan {
    let like = options.like.as_ref();
    let posts = like.map(|plan| plan.layers.iter().map(|layer| layer.post).collect::<Vec<Post>>());
    let finer = like.map(|plan| plan.finer.clone());
    let tables = like.map(|plan| plan.tables.clone());
    Plan {
        lanes,
        clip: 0,
        input_step: 1.0,
        more_bits: 0,
        slack: 1.0,
        unclamped: Vec::new(),
        posts,
        finer,
        tables,
    }
}

/// What the search has seen so far.
struct Search<'a> {
    setup: Setup<'a>,
    sample: Sample,
    allowed: u64,
    log: Vec<Attempt>,
    best: Option<Found>,
    /// The candidate with fewest flips while none is within the budget.
    closest: Option<(u64, Candidate)>,
    /// Combinations of lanes with some hope that were not within the budget, in order.
    near: Vec<Vec<Lanes>>,
    /// Whether narrow lanes of a layer leave hope, as far as it was asked.
    screened: BTreeMap<(usize, Lanes), bool>,
}

/// A candidate within the budget.
struct Found {
    /// Predicted nanoseconds, more where lanes leave little room.
    cost: f64,
    flips: u64,
    candidate: Candidate,
    /// Its order of neurons, where that is another one.
    moved: Option<Rc<(Model, Stats)>>,
}

impl Search<'_> {
    /// Tries combinations of lanes until none that is left can be cheaper than the best.
    fn over_lanes(&mut self, options: &Options) {
        let model = self.setup.model;
        self.near.clear();
        self.screened.clear();
        for lanes in combinations(model, options) {
            if self.best.as_ref().is_some_and(|best| best.cost <= least_ns(model, &lanes)) {
                break;
            }
            let searched = options.lanes.is_none() && options.like.is_none();
            if searched && (0..lanes.len()).any(|layer| !self.bears(&lanes, layer)) {
                continue;
            }
            let start = start(lanes, options);
            if !self.attempt(&start, None) {
                self.near.push(start.lanes);
            } else if options.like.is_none() {
                self.unclamp(&start);
            }
        }
    }

    /// Gives combinations that were near the budget lanes of different widths, from the cheapest on.
    fn over_uneven(&mut self, options: &Options) {
        // Drawn rows tell little about which neurons matter.
        if options.lanes.is_some() || options.like.is_some() || !self.sample.calibrated {
            return;
        }
        for lanes in std::mem::take(&mut self.near).into_iter().take(UNEVEN) {
            if self.best.as_ref().is_some_and(|best| best.cost <= least_ns(self.setup.model, &lanes)) {
                break;
            }
            let Some(uneven) = order::divided(self.setup, &lanes) else { continue };
            let Some(moved) = order::ordered(self.setup, &uneven).map(Rc::new) else { continue };
            let clamped = start(uneven, options);
            let unclamped =
                Plan { unclamped: clampable(self.setup.model, &clamped.lanes), ..clamped.clone() };
            // One mask serves all widths where nothing is clamped.
            let found = self.attempt(&unclamped, Some(&moved)) || self.attempt(&clamped, Some(&moved));
            if found {
                break;
            }
        }
    }

    /// Whether narrow lanes of a layer leave any hope, were all other layers exact; each question is answered once.
    fn bears(&mut self, lanes: &[Lanes], layer: usize) -> bool {
        let narrow = if self.sample.calibrated { NARROW } else { NARROW_DRAWN };
        let Some(&own) = lanes.get(layer).filter(|own| own.narrowest() <= narrow) else { return true };
        if let Some(&answer) = self.screened.get(&(layer, own)) {
            return answer;
        }
        let mut alone = vec![Lanes::ONE; lanes.len()];
        if let Some(place) = alone.get_mut(layer) {
            *place = own;
        }
        let limit = self.allowed.saturating_mul(SCREENED).saturating_add(ALMOST);
        let rows = (PILOT_WORK / work(self.setup.model).max(1)).clamp(SCREEN_ROWS / 4, SCREEN_ROWS);
        let start = start(alone, &Options::default());
        let answer = (0..CLIPS.len()).any(|clip| {
            build(self.setup, &Plan { clip, ..start.clone() }).is_some_and(|candidate| {
                let rows = rows.min(self.sample.count());
                evaluate::flipped_rows(&candidate.network, &self.sample, rows, limit).len() as u64 <= limit
            })
        });
        self.screened.insert((layer, own), answer);
        answer
    }

    /// Tunes a plan; whether it is within the budget. The cheapest candidate is kept.
    fn attempt(&mut self, start: &Plan, moved: Option<&Rc<(Model, Stats)>>) -> bool {
        let setup = moved.map_or(self.setup, |moved| with_order(self.setup, moved));
        let Some((attempt, candidate)) = tune(setup, &mut self.sample, start, self.allowed) else {
            return false;
        };
        let roomy =
            start.lanes.iter().all(|lanes| lanes.even_share() && lanes.count() <= Lanes::THREE.count());
        let cost = attempt.predicted_ns * if roomy { 1.0 } else { ROOM };
        let (flips, pilot) = (attempt.flips, attempt.pilot_flips);
        self.log.push(attempt);
        match flips {
            Some(flips) if flips <= self.allowed => {
                if self.best.as_ref().is_none_or(|best| cost < best.cost) {
                    self.best = Some(Found { cost, flips, candidate, moved: moved.cloned() });
                }
                true
            }
            Some(_) | None => {
                let count = flips.unwrap_or(pilot);
                if moved.is_none() && self.closest.as_ref().is_none_or(|(least, _)| count < *least) {
                    self.closest = Some((count, candidate));
                }
                false
            }
        }
    }

    /// Tries a plan that is within the budget with activations so wide that no layer needs a clamp; failing
    /// that, with as many such layers as the budget bears, the largest first.
    fn unclamp(&mut self, start: &Plan) {
        let model = self.setup.model;
        let least = least_ns(model, &start.lanes);
        // What was tried last tells which layers it clamps.
        let clamps = self.log.last().map(|attempt| attempt.clamped.clone()).unwrap_or_default();
        let mut places = clampable(model, &start.lanes);
        places.retain(|&place| clamps.get(place).copied().unwrap_or(true));
        if self.best.as_ref().is_some_and(|best| best.cost <= least) || places.is_empty() {
            return;
        }
        if self.attempt(&Plan { unclamped: places.clone(), ..start.clone() }, None) || work(model) > LARGE {
            return;
        }
        let mut unclamped = Vec::new();
        for &place in &places {
            unclamped.push(place);
            let all = unclamped.len() == places.len();
            if all || !self.attempt(&Plan { unclamped: unclamped.clone(), ..start.clone() }, None) {
                unclamped.pop();
            }
        }
    }
}

/// Refuses a model whose layers are not those of the plan that it should fit.
fn same_shape(model: &Model, contract: &Contract, options: &Options) -> Outcome<()> {
    let Some(plan) = &options.like else { return Ok(()) };
    let layers = model.layers();
    let help = "compile the model anew; only a model of the same shape can replace another";
    let mut errors: Vec<Diagnostic> = layers
        .iter()
        .zip(&plan.layers)
        .enumerate()
        .filter(|(_, (layer, plan))| (layer.weights.rows, layer.weights.columns) != (plan.rows, plan.columns))
        .map(|(index, (layer, plan))| {
            let (rows, columns) = (layer.weights.rows, layer.weights.columns);
            let message = format!(
                "layer {index} has {rows} x {columns} weights, and the object's {} x {}",
                plan.rows, plan.columns
            );
            Diagnostic::new(&SHAPE, layer_origin(model, contract, index), message, help)
        })
        .collect();
    let whole_model = |what: &str, have: usize, want: usize| {
        let message = format!("the model has {have} {what}, and the object {want}");
        (have != want).then(|| Diagnostic::new(&SHAPE, whole(contract), message, help))
    };
    errors.extend(whole_model("layers", layers.len(), plan.layers.len()));
    errors.extend(whole_model("outputs", model.outputs().count(), plan.finer.len()));
    let tables = layers.iter().filter(|layer| match layer.activation {
        Activation::Function(function) => curve::way(function) == curve::Way::Table,
        Activation::Identity | Activation::Relu => false,
    });
    errors.extend(whole_model("curved activations", tables.count(), plan.tables.len()));
    let gates = layers.iter().filter(|layer| match layer.activation {
        Activation::Function(function) => curve::way(function) == curve::Way::Gate,
        Activation::Identity | Activation::Relu => false,
    });
    errors.extend(whole_model("hard swishes", gates.count(), plan.gates));
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// The best candidate of a lane combination, judged on all rows when its pilot allows hope.
///
/// Rows that flip although the pilot looked good join the pilot, for this combination and for later ones.
fn tune(setup: Setup<'_>, sample: &mut Sample, start: &Plan, allowed: u64) -> Option<(Attempt, Candidate)> {
    let mut last = None;
    for _ in 0..ROUNDS {
        let (pilot_flips, plan, candidate) = best_plan(setup, sample, start, allowed)?;
        let judged = (pilot_flips <= allowed)
            .then(|| evaluate::flipped_rows(&candidate.network, sample, sample.count(), allowed));
        let flips = judged.as_ref().map(|rows| rows.len() as u64);
        let attempt = attempt_of(&plan, &candidate, pilot_flips, flips);
        last = Some((attempt, candidate));
        match judged {
            Some(rows) if rows.len() as u64 > allowed => sample.promote(&rows),
            Some(_) | None => break,
        }
    }
    last
}

/// Whether a layer has a table, whose values have one scale for all neurons and then need more bits.
fn curved(model: &Model) -> bool {
    model.layers().iter().any(|layer| matches!(layer.activation, Activation::Function(_)))
}

/// The plan with fewest flips in the pilot.
pub(super) fn best_plan(
    setup: Setup<'_>,
    sample: &Sample,
    start: &Plan,
    allowed: u64,
) -> Option<(u64, Plan, Candidate)> {
    let work = work(setup.model).max(1);
    let rows = ((PILOT_WORK / work).clamp(128, PILOT_ROWS) + sample.promoted).min(sample.count());
    // Narrow lanes depend on ranges and steps: tuning takes many flips away.
    let more = if curved(setup.model) || sample.calibrated { 1024 } else { 64 };
    let hopeless = allowed.saturating_mul(HOPELESS).saturating_add(more);
    let mut best: Option<(u64, Plan, Candidate)> = None;
    for clip in 0..CLIPS.len() {
        consider(setup, sample, rows, hopeless, Plan { clip, ..start.clone() }, &mut best);
        // Wide ranges saturate less on rows that nobody has seen: narrower ones must be needed.
        if best.as_ref().is_some_and(|(flips, _, _)| *flips == 0) {
            break;
        }
    }
    let large = work > LARGE;
    let steps: &[f64] = match (large, sample.calibrated) {
        (false, _) => &[0.5, 2.0, 0.25],
        (true, true) => &[0.5, 2.0],
        (true, false) => &[],
    };
    let bits: &[i32] = match (curved(setup.model), large) {
        (_, true) => &[],
        (false, false) => &[1, -1, 2],
        (true, false) => &[1, 2, 3, 4, 6],
    };
    let variations = steps.iter().map(|&step| (step, 0)).chain(bits.iter().map(|&bits| (1.0, bits)));
    for (factor, more) in variations {
        let Some((flips, plan, _)) = &best else { break };
        if *flips == 0 || *flips > hopeless {
            break;
        }
        // A factor is tried on the first plan only, more bits on whatever is best by then.
        let input_step = if more == 0 { factor } else { plan.input_step };
        let more_bits = if more == 0 { plan.more_bits } else { more };
        let plan = Plan { input_step, more_bits, ..plan.clone() };
        consider(setup, sample, rows, hopeless, plan, &mut best);
    }
    // Close to the budget, another rounding may do: the same precision, other errors.
    let almost = allowed.saturating_add(ALMOST);
    let rounds: &[(usize, f64)] = if work > SMALL { &[] } else { ROUNDINGS };
    for other in [None].into_iter().chain(rounds.iter().copied().map(Some)) {
        for &slack in SLACKS {
            let Some((flips, plan, _)) = &best else { break };
            if *flips <= allowed || *flips > almost || large {
                break;
            }
            let (clip, input_step) = other.unwrap_or((plan.clip, plan.input_step));
            let plan = Plan { clip, input_step, slack, ..plan.clone() };
            consider(setup, sample, rows, hopeless, plan, &mut best);
        }
    }
    best
}

/// Measures a plan on the pilot and keeps it when it is better than the best so far.
fn consider(
    setup: Setup<'_>,
    sample: &Sample,
    rows: usize,
    hopeless: u64,
    plan: Plan,
    best: &mut Option<(u64, Plan, Candidate)>,
) {
    let Some(candidate) = build(setup, &plan) else { return };
    let limit = best.as_ref().map_or(hopeless, |(flips, _, _)| *flips);
    let flips = evaluate::flipped_rows(&candidate.network, sample, rows, limit).len() as u64;
    if best.as_ref().is_none_or(|(least, _, _)| flips < *least) {
        *best = Some((flips, plan, candidate));
    }
}

fn over_budget(setup: Setup<'_>, sample: &Sample, candidate: &Candidate, allowed: u64) -> Diagnostic {
    let flips = evaluate::flipped_rows(&candidate.network, sample, sample.count(), u64::MAX).len();
    let rows = sample.count();
    let blame = blame::costliest(setup, sample, candidate);
    let origin = match blame.as_ref().and_then(|blame| blame.part.checked_sub(1)) {
        Some(layer) => layer_origin(setup.model, setup.contract, layer),
        None => whole(setup.contract),
    };
    let mut diagnostic = Diagnostic::new(
        &BUDGET,
        origin,
        format!("quantisation changes the label of {flips} of {rows} rows, and the budget allows {allowed}"),
        "raise `--max-flips`, or calibrate with rows like those that the model was trained on",
    );
    if let Some(Blame { part, flips_before, flips_when_exact }) = blame {
        let name = match part.checked_sub(1) {
            None => "the input quantiser".to_owned(),
            Some(layer) => format!("layer {layer} ({})", layer_name(setup.model, layer)),
        };
        diagnostic = diagnostic.with_note(format!(
            "{name} costs most: were it exact, {flips_when_exact} of {flips_before} flips would remain"
        ));
    }
    diagnostic
}

fn whole(contract: &Contract) -> Origin {
    Origin::File { file: contract.model.clone() }
}

fn layer_origin(model: &Model, contract: &Contract, layer: usize) -> Origin {
    let layers = model.layers();
    match layers.get(layer) {
        Some(layer) => Origin::Node { file: contract.model.clone(), node: layer.origin.clone() },
        None => whole(contract),
    }
}

fn layer_name(model: &Model, layer: usize) -> String {
    let layers = model.layers();
    layers.get(layer).map_or_else(String::new, |layer| layer.origin.name.clone())
}
