//! What the report says about a candidate of the search.

use super::build::{Candidate, Plan, Setup};
use super::cost::{clamped, dense_ns, network_ns};
use super::curve::Curve;
use super::report::{Attempt, InputReport, LayerReport, QuantReport, TableReport};
use super::sample::Sample;
use super::stats::CLIPS;
use super::{Contract, Options, evaluate, threshold};
use crate::check::{Checked, OpIntervals};
use crate::diag::codes::quant::BUDGET;
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Dense, Interval, Network, Op, Post, interpret};
use crate::model::Model;

/// Rows over which saturation is counted, and multiply-accumulates that it may cost.
pub(super) const SATURATION_ROWS: usize = 1024;
const SATURATION_WORK: usize = 1 << 23;

/// What the report says about a candidate.
pub(super) fn attempt_of(
    plan: &Plan,
    candidate: &Candidate,
    pilot_flips: u64,
    flips: Option<u64>,
) -> Attempt {
    Attempt {
        lanes: plan.lanes.iter().map(|lanes| lanes.count()).collect(),
        clamped: candidate.network.get().ops.iter().filter_map(clamp_of).collect(),
        predicted_ns: network_ns(candidate.network.get()),
        clip: CLIPS.get(plan.clip).copied().unwrap_or(1.0),
        input_step: plan.input_step,
        more_bits: plan.more_bits,
        slack: plan.slack,
        pilot_flips,
        flips,
    }
}

/// Whether a layer's code clamps; `None` for the quantiser.
fn clamp_of(op: &Op) -> Option<bool> {
    match op {
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
        Op::Dense(dense) => Some(clamped(dense)),
    }
}

pub(super) fn report(
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
    let layers = setup.model.layers();
    let dense =
        network.ops.iter().zip(&candidate.network.certificate().ops).filter_map(|(op, proof)| match op {
            Op::Dense(dense) => Some((dense, proof)),
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
        });
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
                bits,
                shift,
                table: candidate.curves.get(index).and_then(Option::as_ref).map(table_report),
                finest_unit: units.iter().copied().fold(f64::INFINITY, f64::min),
                coarsest_unit: units.iter().copied().fold(0.0, f64::max),
                saturated,
                clamped: clamped(dense),
                order: setup.stats.layers.get(index).map(|stat| stat.order.clone()).unwrap_or_default(),
                ..layer_outline(index, layer.origin.name.clone(), dense, proof)
            }
        })
        .collect();
    let outline = outline(setup.model, setup.contract, &candidate.network, sample, (flips, allowed));
    QuantReport { inputs, layers, search, ..outline }
}

/// What is said in the same way about every network: all but the features, layers, trees, the author's levels, what
/// was measured on request, and what was searched. `flips` are those there are and those that the budget allows.
pub(super) fn outline(
    model: &Model,
    contract: &Contract,
    network: &Checked<Network>,
    sample: &Sample,
    (flips, allowed): (u64, u64),
) -> QuantReport {
    QuantReport {
        calibrated: sample.calibrated,
        rows: sample.count(),
        ties: sample.ties,
        flips,
        allowed,
        predicted_ns: network_ns(network.get()),
        inputs: Vec::new(),
        layers: Vec::new(),
        forest: None,
        levels: None,
        thresholds: threshold::report(model, contract, network, sample),
        errors: None,
        precision: None,
        search: Vec::new(),
    }
}

/// A layer as its code and its proof show it, with units of 1 and nothing saturated.
pub(super) fn layer_outline(layer: usize, node: String, dense: &Dense, proof: &OpIntervals) -> LayerReport {
    LayerReport {
        layer,
        node,
        outputs: dense.rows,
        inputs: dense.columns,
        lanes: dense.lanes.count(),
        bits: None,
        shift: 0,
        table: None,
        accumulator_bits: proof.accumulators.iter().copied().map(signed_bits).max().unwrap_or(0),
        lane_bits: dense.lanes.widest(),
        widths: dense.lanes.widths().collect(),
        finest_unit: 1.0,
        coarsest_unit: 1.0,
        saturated: 0,
        clamped: false,
        predicted_ns: dense_ns(dense),
        order: Vec::new(),
    }
}

/// The rows whose label changes, and how many the budget allows; refused where they are more.
pub(super) fn within_budget(
    network: &Checked<Network>,
    sample: &Sample,
    options: &Options,
    origin: Origin,
) -> Outcome<(u64, u64)> {
    let count = sample.count();
    let allowed = options.max_flips.allowed(count);
    let flips = evaluate::flipped_rows(network, sample, count, u64::MAX).len() as u64;
    if flips > allowed {
        return Err(vec![Diagnostic::new(
            &BUDGET,
            origin,
            format!(
                "fixed point changes the label of {flips} of {count} rows, and the budget allows {allowed}"
            ),
            "raise `--max-flips`, or calibrate with rows like those that the model was trained on",
        )]);
    }
    Ok((flips, allowed))
}

fn table_report(curve: &Curve) -> TableReport {
    TableReport {
        function: curve.function.name().to_owned(),
        entries: curve.entries.len(),
        low: curve.start,
        high: curve.end(),
        unit: curve.unit,
        error: curve.error,
    }
}

/// Bits of a two's complement number that holds the interval.
pub(super) fn signed_bits(interval: Interval) -> u32 {
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
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => 0,
            Op::Dense(dense) => dense.weights.len(),
        })
        .sum();
    let rows = (SATURATION_WORK / macs.max(1)).clamp(32, SATURATION_ROWS);
    let step = (sample.count() / rows).max(1);
    let mut inputs = vec![0; candidate.inputs.len()];
    let mut layers = vec![0; candidate.units.len()];
    for row in sample.rows.chunks_exact(sample.width).step_by(step) {
        for ((count, input), &x) in inputs.iter_mut().zip(&candidate.inputs).zip(row) {
            *count += u64::from(x < input.one.low || x > input.one.high);
        }
        let steps = interpret::trace(network, row);
        let mut layer = 0;
        let behind = network.ops.iter().skip(2).map(Some).chain(std::iter::once(None));
        for (((op, step), before), behind) in network.ops.iter().zip(&steps).skip(1).zip(&steps).zip(behind) {
            let cut = match op {
                Op::Dense(dense) => {
                    layer += 1;
                    let pairs = step.accumulators.iter().zip(&step.values);
                    pairs
                        .filter(|&(&acc, &value)| match dense.post {
                            Post::Raw => false,
                            Post::Relu { shift, .. } => acc.max(0) >> shift != value,
                            Post::Signed { shift, .. } => acc >> shift != value,
                        })
                        .count()
                }
                Op::Quantise(quantise) => {
                    // Beyond a table a flat function loses nothing.
                    let curve = candidate.curves.get(layer - 1).and_then(Option::as_ref);
                    let [below, above] = curve.map_or([false, false], |curve| curve.flat);
                    let below = below || matches!(behind, Some(Op::Gate(_)));
                    let sums = before.values.iter().zip(&quantise.features);
                    sums.filter(|(x, one)| (**x < one.low && !below) || (**x > one.high && !above)).count()
                }
                Op::Table(_) | Op::Gate(_) | Op::Forest(_) => 0,
            };
            if let Some(count) = layers.get_mut(layer - 1) {
                *count += cut as u64;
            }
        }
    }
    (inputs, layers)
}
