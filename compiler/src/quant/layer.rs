//! One dense layer in integers: a scale for each neuron, a shift for the layer, rounded weights.
//!
//! A neuron's sum in units of its scale must fit the lane, by the exact interval of the rounded weights; and
//! its largest value near the data should land near the top of the activation range. ReLU commutes with
//! positive scales, so the next layer's columns absorb them.

use super::rounding::{MOST, Moments, round_row};
use crate::check::bounds::{Wide, lane_need, lane_range, posted, weighted_sum};
use crate::ir::{Dense, Interval, Lanes, Post};

/// Sums in a register of their own are kept below `2^53`, so that every integer of theirs is a double.
const SINGLE_LANE_REACH: f64 = 4_503_599_627_370_496.0;
/// Attempts to make a neuron fit its lane by a coarser scale.
const ATTEMPTS: usize = 64;
/// Part of the noise of rounded weights that error propagation leaves.
const COMPENSATED: f64 = 0.3;
/// Outputs whose values are smaller than others' by more than this many powers of two are not told apart finer.
const MOST_HALVINGS: f64 = 30.0;

/// A layer over integers, its weights still real.
#[derive(Debug)]
pub(super) struct RealLayer<'a> {
    /// Row-major, per step of the integer input.
    pub(super) weights: Vec<f64>,
    pub(super) bias: Vec<f64>,
    /// What each integer input lies in.
    pub(super) inputs: &'a [Interval],
    /// Root mean square of each integer input, and of the constant.
    pub(super) spread: Vec<f64>,
    pub(super) propagation: Option<&'a [Vec<f64>]>,
    pub(super) influence: &'a [f64],
    pub(super) lanes: Lanes,
}

/// What becomes of the sums.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal<'a> {
    /// Activations of `bits` magnitude bits, with a given shift or the best one; `top` is each neuron's largest
    /// sum worth keeping.
    Hidden { relu: bool, bits: u8, shift: Option<u8>, top: &'a [f64] },
    /// The sums themselves, each on a scale of its own, but no finer than this.
    Sums { finest: f64 },
    /// Raw values of outputs, of which each has so many on a common scale. The scales differ by powers of two,
    /// which the plan of an existing object may give.
    Outputs { widths: &'a [usize], finer: Option<&'a [u8]> },
}

/// A layer in integers.
#[derive(Debug)]
pub(super) struct IntegerLayer {
    pub(super) dense: Dense,
    /// Real value of one unit of each neuron's result.
    pub(super) units: Vec<f64>,
    /// Interval of each result.
    pub(super) values: Vec<Interval>,
    /// How often each output's unit is half of the coarsest one's; nothing for a hidden layer.
    pub(super) finer: Vec<u8>,
}

/// Largest magnitude that the sum of a row may reach in its lane.
pub(super) fn reach(lanes: Lanes, row: usize) -> f64 {
    ((1u64 << (lanes.bits(row) - 1)) as f64 - 1.0).min(SINGLE_LANE_REACH)
}

/// The largest magnitude of a real sum over the box of integer inputs.
pub(super) fn bound(weights: &[f64], bias: f64, inputs: &[Interval]) -> f64 {
    let (low, high) = weights.iter().zip(inputs).fold((bias, bias), |(low, high), (&weight, input)| {
        let (first, second) = (weight * input.low as f64, weight * input.high as f64);
        (low + first.min(second), high + first.max(second))
    });
    low.abs().max(high.abs())
}

/// Rounds a layer, with `slack` as a factor on every finest scale; `None` when some neuron cannot fit its lane.
pub(super) fn integers(layer: &RealLayer<'_>, goal: Goal<'_>, slack: f64) -> Option<IntegerLayer> {
    let columns = layer.inputs.len();
    let finest: Vec<f64> = layer
        .weights
        .chunks_exact(columns.max(1))
        .zip(&layer.bias)
        .enumerate()
        .map(|(row, (weights, &bias))| {
            let widest = weights.iter().fold(0.0f64, |most, weight| most.max(weight.abs()));
            let scale = bound(weights, bias, layer.inputs) / (reach(layer.lanes, row) * 0.995);
            scale.max(widest / MOST).max(f64::MIN_POSITIVE * 1e30) * slack
        })
        .collect();
    let (post, scales, finer) = match goal {
        Goal::Outputs { widths, finer } => {
            let (scales, finer) = output_scales(&finest, widths, finer);
            (Post::Raw, scales, finer)
        }
        Goal::Sums { finest: least } => {
            (Post::Raw, finest.iter().map(|&scale| scale.max(least)).collect(), Vec::new())
        }
        Goal::Hidden { relu, bits, shift, top } => {
            let (shift, scales) = hidden_scales(layer, &finest, bits, shift, top);
            // A signed activation spends one more bit on its sign.
            let post = if relu { Post::Relu { shift, bits } } else { Post::Signed { shift, bits: bits + 1 } };
            (post, scales, Vec::new())
        }
    };
    let common = matches!(goal, Goal::Outputs { .. });
    assemble(layer, post, scales, finer, common)
}

/// One scale for all values of an output, so that they compare as integers; and how often each output's is half
/// of the coarsest one's.
fn output_scales(finest: &[f64], widths: &[usize], planned: Option<&[u8]>) -> (Vec<f64>, Vec<u8>) {
    let mut rest = finest;
    let own: Vec<f64> = widths
        .iter()
        .map(|&width| {
            let (part, others) = rest.split_at_checked(width).unwrap_or((rest, &[]));
            rest = others;
            part.iter().copied().fold(0.0, f64::max)
        })
        .collect();
    let coarsest = own.iter().copied().fold(0.0, f64::max);
    let halvings = |scale: f64| (coarsest / scale).log2().floor().clamp(0.0, MOST_HALVINGS) as u8;
    let finer: Vec<u8> = match planned {
        Some(finer) => finer.to_vec(),
        None => own.iter().map(|&scale| halvings(scale)).collect(),
    };
    let factors: Vec<f64> = finer.iter().map(|&finer| f64::from(finer).exp2()).collect();
    let unit = own.iter().zip(&factors).map(|(scale, factor)| scale * factor).fold(0.0, f64::max);
    let scales = factors.iter().zip(widths).flat_map(|(factor, &width)| vec![unit / factor; width]).collect();
    (scales, finer)
}

/// The layer's shift and the neurons' scales with the least expected noise in the margin.
fn hidden_scales(
    layer: &RealLayer<'_>,
    finest: &[f64],
    bits: u8,
    shift: Option<u8>,
    top: &[f64],
) -> (u8, Vec<f64>) {
    let levels = f64::from(bits).exp2() - 1.0;
    let square: f64 = layer.spread.iter().map(|spread| spread * spread).sum::<f64>() * COMPENSATED;
    let scales_at = |shift: u8| -> Vec<f64> {
        let reach = levels * f64::from(shift).exp2();
        finest.iter().zip(top).map(|(&finest, &top)| finest.max(top / reach)).collect()
    };
    let noise = |shift: u8| -> f64 {
        let rounding = if shift == 0 { 0.0 } else { (2.0 * f64::from(shift)).exp2() };
        scales_at(shift)
            .iter()
            .zip(layer.influence)
            .map(|(scale, influence)| influence * scale * scale * (square + rounding))
            .sum()
    };
    let best = || (0..=44u8).min_by(|&a, &b| noise(a).total_cmp(&noise(b))).unwrap_or(0);
    let shift = shift.unwrap_or_else(best);
    (shift, scales_at(shift))
}

fn assemble(
    layer: &RealLayer<'_>,
    post: Post,
    mut scales: Vec<f64>,
    finer: Vec<u8>,
    common: bool,
) -> Option<IntegerLayer> {
    let columns = layer.inputs.len();
    let (shift, half) = match post {
        Post::Raw | Post::Relu { shift: 0, .. } | Post::Signed { shift: 0, .. } => (0, 0),
        Post::Relu { shift, .. } | Post::Signed { shift, .. } => (shift, 1i64 << (shift - 1)),
    };
    let moments = Moments { spread: &layer.spread, propagation: layer.propagation };
    for _ in 0..ATTEMPTS {
        let mut dense = Dense {
            rows: layer.bias.len(),
            columns,
            weights: Vec::with_capacity(layer.weights.len()),
            bias: Vec::with_capacity(layer.bias.len()),
            lanes: layer.lanes,
            post,
        };
        let mut values = Vec::with_capacity(dense.rows);
        let mut worst = 0.0f64;
        for (index, ((weights, &bias), scale)) in
            layer.weights.chunks_exact(columns.max(1)).zip(&layer.bias).zip(&mut scales).enumerate()
        {
            let range = lane_range(layer.lanes.bits(index));
            let (row, bias, sum) = fit((weights, bias), scale, half, (layer, range), moments, common)?;
            let overshoot = overshoot(lane_need(&row, bias, sum), range);
            worst = worst.max(overshoot);
            if overshoot <= 1.0 {
                let acc = Interval { low: i64::try_from(sum.low).ok()?, high: i64::try_from(sum.high).ok()? };
                values.push(posted(post, acc));
            }
            dense.weights.extend(row);
            dense.bias.push(bias);
        }
        if values.len() == dense.rows {
            let units = scales.iter().map(|scale| scale * f64::from(shift).exp2()).collect();
            return Some(IntegerLayer { dense, units, values, finer });
        }
        // Outputs share one scale but for powers of two, so all of them become coarser together.
        for scale in &mut scales {
            *scale *= (worst * 1.0005).max(1.001);
        }
    }
    None
}

type Row = (Vec<i64>, i64, Wide);

/// How many times its range a lane would need.
fn overshoot(need: Wide, range: Wide) -> f64 {
    (need.high as f64 / range.high as f64).max(need.low as f64 / range.low as f64)
}

/// Rounds one neuron; unless the scale is shared, makes it coarser until the sum fits the lane.
fn fit(
    (weights, bias): (&[f64], f64),
    scale: &mut f64,
    half: i64,
    (layer, range): (&RealLayer<'_>, Wide),
    moments: Moments<'_>,
    common: bool,
) -> Option<Row> {
    for _ in 0..ATTEMPTS {
        let targets: Vec<f64> = weights.iter().chain([&bias]).map(|value| value / *scale).collect();
        let mut row = round_row(&targets, moments);
        let bias = row.pop()?.checked_add(half)?;
        let sum = weighted_sum(&row, bias, layer.inputs);
        let need = lane_need(&row, bias, sum);
        if common || (need.low >= range.low && need.high <= range.high) {
            return Some((row, bias, sum));
        }
        *scale *= (overshoot(need, range) * 1.0005).max(1.001);
        if !scale.is_finite() {
            return None;
        }
    }
    None
}
