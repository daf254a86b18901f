//! The search: lane combinations from the cheapest on, the first within the budget wins.
//!
//! Each combination is tuned on a pilot, the rows nearest to the boundary, before all rows are judged.
//! Everything is deterministic; nothing depends on time.

use super::blame::{self, Blame};
use super::build::{Candidate, Plan, Setup, build};
use super::cost::{inference_ns, layer_ns};
use super::report::{Attempt, InputReport, LayerReport, QuantReport};
use super::sample::{self, Sample, work};
use super::stats::{self, CLIPS};
use super::{Calibration, Contract, Options, Quantised, evaluate};
use crate::diag::codes::quant::{BUDGET, NO_FIT, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Interval, Lanes, Op, Post, interpret};
use crate::model::{Body, Model};

/// Rows of the pilot, and multiply-accumulates that one run of it may cost.
const PILOT_ROWS: usize = 2048;
const PILOT_WORK: usize = 1 << 23;
/// Beyond this many multiply-accumulates candidates are tuned less.
const LARGE: usize = 20_000;
/// A pilot this many times over the budget (and a few rows more) is not worth tuning.
const HOPELESS: u64 = 12;
/// Times that a combination is tuned again after rows outside the pilot flipped.
const ROUNDS: usize = 3;
/// Coarser scales that are tried when a pilot is over the budget by no more than `ALMOST` flips.
const SLACKS: &[f64] = &[1.015, 1.03, 1.05, 1.08, 1.12, 1.17];
const ALMOST: u64 = 4;
/// Rows over which saturation is counted.
const SATURATION_ROWS: usize = 1024;
/// Lane combinations are enumerated completely up to this many layers.
const ENUMERATED_LAYERS: usize = 5;

pub(super) fn run(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Outcome<Quantised> {
    same_shape(model, options)?;
    let mut sample = sample::prepare(model, contract, calibration)?;
    let stats = stats::collect(model, contract, &sample);
    let setup = Setup { model, contract, stats: &stats };
    let allowed = options.max_flips.allowed(sample.count());
    let posts = options.like.as_ref().map(|plan| plan.iter().map(|layer| layer.post).collect::<Vec<Post>>());
    let mut log = Vec::new();
    let mut closest: Option<(u64, Candidate)> = None;
    for lanes in combinations(model, options) {
        let Some((attempt, candidate)) = tune(setup, &mut sample, &lanes, &posts, allowed) else { continue };
        let flips = attempt.flips;
        log.push(attempt);
        match flips {
            Some(flips) if flips <= allowed => {
                let report = report(setup, &sample, &candidate, flips, allowed, log);
                return Ok(Quantised { network: candidate.network.into_inner(), report });
            }
            Some(_) | None => {
                let count = flips.or(log.last().map(|attempt| attempt.pilot_flips)).unwrap_or(u64::MAX);
                if closest.as_ref().is_none_or(|(best, _)| count < *best) {
                    closest = Some((count, candidate));
                }
            }
        }
    }
    Err(vec![match closest {
        Some((_, candidate)) => over_budget(setup, &sample, &candidate, allowed),
        None => Diagnostic::new(
            &NO_FIT,
            Origin::File { file: "model".to_owned() },
            "no choice of scales lets every accumulator fit",
            "normalise the inputs (for example with StandardScaler) and train again",
        ),
    }])
}

/// Refuses a model whose layers are not those of the plan that it should fit.
fn same_shape(model: &Model, options: &Options) -> Outcome<()> {
    let Some(plan) = &options.like else { return Ok(()) };
    let Body::Mlp(layers) = &model.body;
    let help = "compile the model anew; only a model of the same shape can replace another";
    let mut errors: Vec<Diagnostic> = layers
        .iter()
        .zip(plan)
        .enumerate()
        .filter(|(_, (layer, plan))| (layer.weights.rows, layer.weights.columns) != (plan.rows, plan.columns))
        .map(|(index, (layer, plan))| {
            let (rows, columns) = (layer.weights.rows, layer.weights.columns);
            let message = format!(
                "layer {index} has {rows} x {columns} weights, and the object's {} x {}",
                plan.rows, plan.columns
            );
            Diagnostic::new(&SHAPE, layer_origin(model, index), message, help)
        })
        .collect();
    if layers.len() != plan.len() {
        let message = format!("the model has {} layers, and the object {}", layers.len(), plan.len());
        errors.push(Diagnostic::new(&SHAPE, Origin::File { file: "model".to_owned() }, message, help));
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

/// Lane combinations by predicted cost, without those that another one beats in every layer at the same cost.
fn combinations(model: &Model, options: &Options) -> Vec<Vec<Lanes>> {
    const ALL: [Lanes; 3] = [Lanes::Three, Lanes::Two, Lanes::One];
    let Body::Mlp(layers) = &model.body;
    if let Some(plan) = &options.like {
        return vec![plan.iter().map(|layer| layer.lanes).collect()];
    }
    if let Some(lanes) = &options.lanes {
        return vec![lanes.clone()];
    }
    let useful: Vec<Vec<Lanes>> = layers
        .iter()
        .map(|layer| {
            // Narrower lanes must save something.
            let mut kept: Vec<Lanes> = Vec::new();
            for lanes in ALL.into_iter().rev() {
                let cost = layer_ns(layer, lanes);
                if kept.iter().all(|&wider| cost < layer_ns(layer, wider)) {
                    kept.push(lanes);
                }
            }
            kept
        })
        .collect();
    let mut combinations: Vec<Vec<Lanes>> = if layers.len() <= ENUMERATED_LAYERS {
        useful.iter().fold(vec![Vec::new()], |prefixes, choices| {
            prefixes
                .iter()
                .flat_map(|prefix| {
                    choices.iter().map(move |&lanes| prefix.iter().copied().chain([lanes]).collect())
                })
                .collect()
        })
    } else {
        // Deep models: uniform lanes, and all but the first layer uniform.
        ALL.iter()
            .flat_map(|&body| ALL.iter().map(move |&first| (first, body)))
            .map(|(first, body)| {
                useful
                    .iter()
                    .enumerate()
                    .map(|(index, choices)| {
                        let wanted = if index == 0 { first } else { body };
                        if choices.contains(&wanted) {
                            wanted
                        } else {
                            choices.first().copied().unwrap_or(Lanes::One)
                        }
                    })
                    .collect()
            })
            .collect()
    };
    combinations.sort_by(|a, b| inference_ns(model, a).total_cmp(&inference_ns(model, b)).then(b.cmp(a)));
    combinations.dedup();
    combinations
}

/// The best candidate of a lane combination, judged on all rows when its pilot allows hope.
///
/// Rows that flip although the pilot looked good join the pilot, for this combination and for later ones.
fn tune(
    setup: Setup<'_>,
    sample: &mut Sample,
    lanes: &[Lanes],
    posts: &Option<Vec<Post>>,
    allowed: u64,
) -> Option<(Attempt, Candidate)> {
    let mut last = None;
    for _ in 0..ROUNDS {
        let (pilot_flips, plan, candidate) = best_plan(setup, sample, lanes, posts, allowed)?;
        let judged = (pilot_flips <= allowed)
            .then(|| evaluate::flipped_rows(&candidate.network, sample, sample.count(), allowed));
        let attempt = Attempt {
            lanes: plan.lanes.iter().map(|lanes| lanes.count()).collect(),
            predicted_ns: inference_ns(setup.model, &plan.lanes),
            clip: CLIPS.get(plan.clip).copied().unwrap_or(1.0),
            input_step: plan.input_step,
            more_bits: plan.more_bits,
            slack: plan.slack,
            pilot_flips,
            flips: judged.as_ref().map(|rows| rows.len() as u64),
        };
        last = Some((attempt, candidate));
        match judged {
            Some(rows) if rows.len() as u64 > allowed => sample.promote(&rows),
            Some(_) | None => break,
        }
    }
    last
}

/// The plan with fewest flips in the pilot.
fn best_plan(
    setup: Setup<'_>,
    sample: &Sample,
    lanes: &[Lanes],
    posts: &Option<Vec<Post>>,
    allowed: u64,
) -> Option<(u64, Plan, Candidate)> {
    let work = work(setup.model).max(1);
    let rows = ((PILOT_WORK / work).clamp(128, PILOT_ROWS) + sample.promoted).min(sample.count());
    let hopeless = allowed.saturating_mul(HOPELESS).saturating_add(64);
    let start = Plan {
        lanes: lanes.to_vec(),
        clip: 0,
        input_step: 1.0,
        more_bits: 0,
        slack: 1.0,
        posts: posts.clone(),
    };
    let mut best: Option<(u64, Plan, Candidate)> = None;
    for clip in 0..CLIPS.len() {
        consider(setup, sample, rows, hopeless, Plan { clip, ..start.clone() }, &mut best);
        // Wide ranges saturate less on rows that nobody has seen: narrower ones must be needed.
        if best.as_ref().is_some_and(|(flips, _, _)| *flips == 0) {
            break;
        }
    }
    let large = work > LARGE;
    let steps: &[f64] = if large { &[] } else { &[0.5, 2.0, 0.25] };
    let bits: &[i32] = if large { &[] } else { &[1, -1, 2] };
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
    for &slack in SLACKS {
        let Some((flips, plan, _)) = &best else { break };
        if *flips <= allowed || *flips > allowed.saturating_add(ALMOST) || large {
            break;
        }
        let plan = Plan { slack, ..plan.clone() };
        consider(setup, sample, rows, hopeless, plan, &mut best);
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
        Some(layer) => layer_origin(setup.model, layer),
        None => Origin::File { file: "model".to_owned() },
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

fn layer_origin(model: &Model, layer: usize) -> Origin {
    let Body::Mlp(layers) = &model.body;
    match layers.get(layer) {
        Some(layer) => Origin::Node { file: "model".to_owned(), node: layer.origin.clone() },
        None => Origin::File { file: "model".to_owned() },
    }
}

fn layer_name(model: &Model, layer: usize) -> String {
    let Body::Mlp(layers) = &model.body;
    layers.get(layer).map_or_else(String::new, |layer| layer.origin.name.clone())
}

fn report(
    setup: Setup<'_>,
    sample: &Sample,
    candidate: &Candidate,
    flips: u64,
    allowed: u64,
    search: Vec<Attempt>,
) -> QuantReport {
    let network = candidate.network.get();
    let (saturated_inputs, saturated_layers) = saturation(sample, candidate);
    let inputs = network
        .inputs
        .iter()
        .zip(&candidate.inputs)
        .zip(saturated_inputs)
        .map(|((input, scale), saturated)| {
            let unit = (-f64::from(input.fraction_bits.0)).exp2();
            InputReport {
                name: input.name.clone(),
                fraction_bits: input.fraction_bits.0,
                low: scale.one.low as f64 * unit,
                high: scale.one.high as f64 * unit,
                step: scale.step * unit,
                quantised: scale.q,
                saturated,
            }
        })
        .collect();
    let Body::Mlp(layers) = &setup.model.body;
    let dense =
        network.ops.iter().zip(&candidate.network.certificate().ops).filter_map(|(op, proof)| match op {
            Op::Dense(dense) => Some((dense, proof)),
            Op::Quantise(_) => None,
        });
    let lanes: Vec<Lanes> = dense.clone().map(|(dense, _)| dense.lanes).collect();
    let layers = layers
        .iter()
        .zip(dense)
        .zip(&candidate.units)
        .zip(saturated_layers)
        .enumerate()
        .map(|(index, (((layer, (dense, proof)), units), saturated))| {
            let (shift, bits) = match dense.post {
                Post::Raw => (0, None),
                Post::Relu { shift, bits } | Post::Signed { shift, bits } => (shift, Some(bits)),
            };
            LayerReport {
                layer: index,
                node: layer.origin.name.clone(),
                outputs: dense.rows,
                inputs: dense.columns,
                lanes: dense.lanes.count(),
                bits,
                shift,
                accumulator_bits: proof.accumulators.iter().copied().map(signed_bits).max().unwrap_or(0),
                lane_bits: dense.lanes.bits(),
                finest_unit: units.iter().copied().fold(f64::INFINITY, f64::min),
                coarsest_unit: units.iter().copied().fold(0.0, f64::max),
                saturated,
                predicted_ns: layer_ns(layer, dense.lanes),
            }
        })
        .collect();
    QuantReport {
        calibrated: sample.calibrated,
        rows: sample.count(),
        ties: sample.ties,
        flips,
        allowed,
        predicted_ns: inference_ns(setup.model, &lanes),
        inputs,
        layers,
        search,
    }
}

/// Bits of a two's complement number that holds the interval.
fn signed_bits(interval: Interval) -> u32 {
    let bits = |value: i64| 65 - (value ^ (value >> 63)).leading_zeros();
    bits(interval.low).max(bits(interval.high))
}

/// Clamped inputs, and clamped activations of each layer, over rows spread evenly through the sample.
fn saturation(sample: &Sample, candidate: &Candidate) -> (Vec<u64>, Vec<u64>) {
    let network = candidate.network.get();
    let macs: usize = network
        .ops
        .iter()
        .map(|op| match op {
            Op::Quantise(_) => 0,
            Op::Dense(dense) => dense.weights.len(),
        })
        .sum();
    let rows = (PILOT_WORK / macs.max(1)).clamp(32, SATURATION_ROWS);
    let step = (sample.count() / rows).max(1);
    let mut inputs = vec![0; candidate.inputs.len()];
    let mut layers = vec![0; candidate.units.len()];
    for row in sample.rows.chunks_exact(sample.width).step_by(step) {
        for ((count, input), &x) in inputs.iter_mut().zip(&candidate.inputs).zip(row) {
            *count += u64::from(x < input.one.low || x > input.one.high);
        }
        let steps = interpret::trace(network, row);
        for ((count, op), step) in layers.iter_mut().zip(network.ops.iter().skip(1)).zip(steps.iter().skip(1))
        {
            let Op::Dense(dense) = op else { continue };
            let clamped =
                step.accumulators.iter().zip(&step.values).filter(|&(&acc, &value)| match dense.post {
                    Post::Raw => false,
                    Post::Relu { shift, .. } => acc.max(0) >> shift != value,
                    Post::Signed { shift, .. } => acc >> shift != value,
                });
            *count += clamped.count() as u64;
        }
    }
    (inputs, layers)
}
