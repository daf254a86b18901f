//! What the float model does near its decision boundary: centres, spreads, maxima, second moments, and how
//! much each neuron moves the margin.
//!
//! Labels flip near the boundary only, so rows near it decide where precision goes; rows far from it decide
//! no more than where clamping may start.

use super::Contract;
use super::curve;
use super::float::{Column, Watch, walk};
use super::linalg::inverse_upper;
use super::sample::{Sample, scalers, trained_range, work};
use crate::check::MOST_RAW;
use crate::ir::Interval;
use crate::model::{Activation, Dense, Head, Model};

/// How far clamping may reach into the data: the share of rows, nearest to the boundary first, whose values
/// are all kept.
pub(super) const CLIPS: [f64; 3] = [1.0, 0.25, 0.05];
/// Without calibration, the same in standard deviations.
pub(super) const REACHES: [f64; 3] = [24.0, 12.0, 6.0];
/// Rows near the boundary, and rows from everywhere, that second moments are taken over.
const NEAR_ROWS: usize = 2048;
const FAR_ROWS: usize = 512;
/// A row from everywhere counts this much.
const FAR_WEIGHT: f64 = 0.1;
/// Widest layer input whose second moments are used, on drawn rows and on rows of the user; beyond it weights are
/// rounded one by one.
const WIDEST: usize = 400;
const WIDEST_CALIBRATED: usize = 1025;
/// Share of its own variance that is added to each input's, against moments that few rows determine badly.
const DAMPING: f64 = 0.01;

#[derive(Debug, Clone)]
pub(super) struct Stats {
    pub(super) inputs: Vec<InputStat>,
    pub(super) layers: Vec<LayerStat>,
}

/// One feature, in raw units.
#[derive(Debug, Clone)]
pub(super) struct InputStat {
    /// Mean near the boundary: where the quantised value is zero.
    pub(super) centre: f64,
    /// Clamping range for each entry of [`CLIPS`].
    pub(super) ranges: [Interval; CLIPS.len()],
}

#[derive(Debug, Clone)]
pub(super) struct LayerStat {
    /// Root mean square of each input about its zero, and 1 for the constant that the bias multiplies.
    pub(super) spread: Vec<f64>,
    /// Error propagation of sequential rounding over the inputs and the constant, scaled by `spread`.
    pub(super) propagation: Option<Vec<Vec<f64>>>,
    /// The second moments that it comes from, of a later layer.
    pub(super) moments: Option<Vec<f64>>,
    /// Largest magnitude of each sum for each entry of [`CLIPS`]; of positive sums only before a ReLU.
    pub(super) top: [Vec<f64>; CLIPS.len()],
    /// Mean square of the margin's derivative by each sum.
    pub(super) influence: Vec<f64>,
    /// Which neuron stands in each row, where they were moved.
    pub(super) order: Vec<usize>,
    /// Whether all this is from drawn rows.
    pub(super) drawn: bool,
}

pub(super) fn collect(model: &Model, contract: &Contract, sample: &Sample) -> Stats {
    let layers = model.layers();

    let mut tops = Tops::new(layers, sample.count());
    walk(model, &contract.inputs, &sample.rows, &mut tops);

    let (probe, weights) = probe_rows(model, sample);
    let mut sums = Sums { layers: vec![Vec::new(); layers.len()] };
    walk(model, &contract.inputs, &probe, &mut sums);

    let inputs = input_stats(model, contract, sample, &probe, &weights);
    let influences = influences(model, layers, &sums, &weights, &sample.margins);
    let mut columns: Vec<Vec<f64>> = (0..sample.width)
        .zip(&inputs)
        .map(|(index, stat)| {
            probe
                .chunks_exact(sample.width)
                .filter_map(|row| row.get(index))
                .map(|&x| x as f64 - stat.centre)
                .collect()
        })
        .collect();
    let mut stats = Vec::with_capacity(layers.len());
    for (((layer, top), own), influence) in layers.iter().zip(tops.best).zip(sums.layers).zip(influences) {
        let widest = if sample.calibrated { WIDEST_CALIBRATED } else { WIDEST };
        let (spread, moments) = moments(&columns, &weights, widest);
        let propagation = moments.as_deref().and_then(|moments| inverse_upper(moments, spread.len()));
        // The order of features never changes.
        let moments = moments.filter(|_| !stats.is_empty());
        stats.push(LayerStat {
            spread,
            propagation,
            moments,
            top,
            influence,
            order: Vec::new(),
            drawn: !sample.calibrated,
        });
        columns = own;
        for (row, column) in columns.iter_mut().enumerate() {
            let activation = layer.activation_of(row);
            for value in column {
                *value = match activation {
                    Activation::Identity => *value,
                    Activation::Relu => value.max(0.0),
                    Activation::Function(function) => function.apply(*value) - curve::origin(function),
                };
            }
        }
    }
    Stats { inputs, layers: stats }
}

/// Running maxima over rows in order, remembered where each clip's share of the rows ends.
struct Tops {
    relu: Vec<bool>,
    ends: [usize; CLIPS.len()],
    seen: Vec<usize>,
    best: Vec<[Vec<f64>; CLIPS.len()]>,
}

impl Tops {
    fn new(layers: &[Dense], rows: usize) -> Self {
        Self {
            relu: layers.iter().map(|layer| layer.activation == Activation::Relu).collect(),
            ends: CLIPS.map(|share| ((share * rows as f64).ceil() as usize).max(1)),
            seen: vec![0; layers.len()],
            best: layers.iter().map(|layer| CLIPS.map(|_| vec![0.0; layer.weights.rows])).collect(),
        }
    }
}

impl Watch for Tops {
    fn layer(&mut self, layer: usize, sums: &[Column], count: usize) {
        let (Some(best), Some(seen), Some(&relu)) =
            (self.best.get_mut(layer), self.seen.get_mut(layer), self.relu.get(layer))
        else {
            return;
        };
        for (clip, &end) in best.iter_mut().zip(&self.ends) {
            if *seen >= end {
                continue;
            }
            for (top, column) in clip.iter_mut().zip(sums) {
                let values = column.iter().take(count);
                let most = if relu {
                    values.fold(0.0, |most: f64, &value| most.max(value))
                } else {
                    values.fold(0.0, |most: f64, value| most.max(value.abs()))
                };
                *top = top.max(most);
            }
        }
        *seen += count;
    }
}

/// Every layer's sums, neuron by neuron.
struct Sums {
    layers: Vec<Vec<Vec<f64>>>,
}

impl Watch for Sums {
    fn layer(&mut self, layer: usize, sums: &[Column], count: usize) {
        if let Some(kept) = self.layers.get_mut(layer) {
            kept.resize(sums.len(), Vec::new());
            for (column, values) in kept.iter_mut().zip(sums) {
                column.extend(values.iter().take(count).copied());
            }
        }
    }
}

/// Rows near the boundary and some from everywhere, with their weights.
fn probe_rows(model: &Model, sample: &Sample) -> (Vec<i64>, Vec<f64>) {
    /// Multiply-accumulates that running the probe and its derivatives may cost.
    const WORK: usize = 1 << 25;
    const WORK_CALIBRATED: usize = 1 << 27;
    let limit = if sample.calibrated { WORK_CALIBRATED } else { WORK };
    let most = (limit / work(model).max(1)).max(64);
    let near = sample.count().min(NEAR_ROWS).min(most);
    let mut rows = sample.nearest(near).to_vec();
    let mut weights = vec![1.0; near];
    let far = FAR_ROWS.min(most);
    let step = (sample.count().saturating_sub(near) / far).max(1);
    for row in sample.rows.chunks_exact(sample.width).skip(near).step_by(step) {
        rows.extend_from_slice(row);
        weights.push(FAR_WEIGHT);
    }
    (rows, weights)
}

fn input_stats(
    model: &Model,
    contract: &Contract,
    sample: &Sample,
    probe: &[i64],
    weights: &[f64],
) -> Vec<InputStat> {
    let total: f64 = weights.iter().sum();
    let ends = CLIPS.map(|share| ((share * sample.count() as f64).ceil() as usize).max(1));
    scalers(model)
        .iter()
        .zip(&contract.inputs)
        .enumerate()
        .map(|(index, (scaler, input))| {
            let values = probe.chunks_exact(sample.width).filter_map(|row| row.get(index));
            let centre = values.zip(weights).map(|(&x, weight)| x as f64 * weight).sum::<f64>() / total;
            let ranges = if sample.calibrated {
                ends.map(|end| {
                    let values =
                        sample.nearest(end).chunks_exact(sample.width).filter_map(|row| row.get(index));
                    widened(values, input.range)
                })
            } else {
                REACHES.map(|reach| provable(trained_range(scaler, input, reach)))
            };
            InputStat { centre, ranges }
        })
        .collect()
}

/// The range of some values, an eighth wider on either side, within what can arrive at all.
fn widened<'a>(values: impl Iterator<Item = &'a i64>, declared: Interval) -> Interval {
    let (low, high) = values.fold((i64::MAX, i64::MIN), |(low, high), &x| (low.min(x), high.max(x)));
    if low > high {
        return provable(declared);
    }
    let extra = i64::try_from((i128::from(high) - i128::from(low)) / 8 + 1).unwrap_or(i64::MAX);
    // Rows outside the declared range do not arrive in the kernel; they saturate here as they would there.
    provable(Interval {
        low: low.saturating_sub(extra).clamp(declared.low, declared.high),
        high: high.saturating_add(extra).clamp(declared.low, declared.high),
    })
}

/// The part of a range that the check admits for a quantiser.
fn provable(range: Interval) -> Interval {
    Interval { low: range.low.clamp(-MOST_RAW, MOST_RAW), high: range.high.clamp(-MOST_RAW, MOST_RAW) }
}

/// Spread of each column about zero, and the propagation factor of the columns and a constant.
fn moments(columns: &[Vec<f64>], weights: &[f64], widest: usize) -> (Vec<f64>, Option<Vec<f64>>) {
    let total: f64 = weights.iter().sum();
    let mut spread: Vec<f64> = columns
        .iter()
        .map(|column| (column.iter().zip(weights).map(|(x, w)| x * x * w).sum::<f64>() / total).sqrt())
        .collect();
    spread.push(1.0);
    let n = spread.len();
    if n > widest {
        return (spread, None);
    }
    // Scaled columns, weighted by the root of the row's weight, so that moments are plain products.
    let root: Vec<f64> = weights.iter().map(|weight| (weight / total).sqrt()).collect();
    let constant = vec![1.0; weights.len()];
    let scaled: Vec<Vec<f64>> = columns
        .iter()
        .chain([&constant])
        .zip(&spread)
        .map(|(column, &spread)| {
            let scale = if spread > 0.0 { 1.0 / spread } else { 0.0 };
            column.iter().zip(&root).map(|(x, r)| x * scale * r).collect()
        })
        .collect();
    let mut matrix = vec![0.0; n * n];
    for (i, left) in scaled.iter().enumerate() {
        for (j, right) in scaled.iter().enumerate().take(i + 1) {
            let mut value = product(left, right);
            if i == j {
                value = if value > 0.0 { value + DAMPING } else { 1.0 };
            }
            for position in [i * n + j, j * n + i] {
                if let Some(cell) = matrix.get_mut(position) {
                    *cell = value;
                }
            }
        }
    }
    (spread, Some(matrix))
}

/// Dot product with independent partial sums, so that it vectorises.
fn product(a: &[f64], b: &[f64]) -> f64 {
    let (a_blocks, a_rest) = a.as_chunks::<8>();
    let (b_blocks, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (x, y) in a_blocks.iter().zip(b_blocks) {
        for ((sum, x), y) in sums.iter_mut().zip(x).zip(y) {
            *sum += x * y;
        }
    }
    sums.iter().sum::<f64>() + a_rest.iter().zip(b_rest).map(|(x, y)| x * y).sum::<f64>()
}

/// Mean square of the margin's derivative by every sum, by back-propagation over the probe.
/// Over several outputs, the sum, with each margin counted in its typical size.
fn influences(
    model: &Model,
    layers: &[Dense],
    sums: &Sums,
    weights: &[f64],
    typical: &[f64],
) -> Vec<Vec<f64>> {
    let total: f64 = weights.iter().sum();
    let mut result: Vec<Vec<f64>> = layers.iter().map(|layer| vec![0.0; layer.weights.rows]).collect();
    for (index, weight) in weights.iter().enumerate() {
        let outputs: Vec<f64> =
            sums.layers.last().into_iter().flatten().filter_map(|sum| sum.get(index).copied()).collect();
        for ((output, values), typical) in model.parts(&outputs).zip(typical) {
            let mut gradient = vec![0.0; outputs.len()];
            for (place, g) in gradient.iter_mut().skip(output.start).zip(margin_gradient(output.head, values))
            {
                *place = g / typical;
            }
            back_propagate(layers, sums, index, weight / total, gradient, &mut result);
        }
    }
    // A neuron that never moves the margin still gets some precision.
    for own in &mut result {
        let mean = own.iter().sum::<f64>() / own.len().max(1) as f64;
        let floor = if mean > 0.0 { mean * 1e-3 } else { 1.0 };
        for value in own {
            *value = value.max(floor);
        }
    }
    result
}

/// Adds the squares of a row's derivatives, from those by the last layer's sums on.
fn back_propagate(
    layers: &[Dense],
    sums: &Sums,
    index: usize,
    share: f64,
    mut gradient: Vec<f64>,
    result: &mut [Vec<f64>],
) {
    for (position, layer) in layers.iter().enumerate().rev() {
        if let Some(own) = result.get_mut(position) {
            for (influence, g) in own.iter_mut().zip(&gradient) {
                *influence += share * g * g;
            }
        }
        let Some(before) = position.checked_sub(1) else { break };
        let mut next = vec![0.0; layer.weights.columns];
        for (row, g) in gradient.iter().enumerate() {
            if *g != 0.0 {
                for (value, weight) in next.iter_mut().zip(layer.weights.row(row)) {
                    *value += g * weight;
                }
            }
        }
        let own = sums.layers.get(before).into_iter().flatten();
        for (row, (value, column)) in next.iter_mut().zip(own).enumerate() {
            let sum = column.get(index).copied().unwrap_or(0.0);
            let activation =
                layers.get(before).map_or(Activation::Identity, |layer| layer.activation_of(row));
            *value *= match activation {
                Activation::Identity => 1.0,
                Activation::Relu => f64::from(u8::from(sum > 0.0)),
                Activation::Function(function) => curve::slope(function, sum),
            };
        }
        gradient = next;
    }
}

fn margin_gradient(head: Head, outputs: &[f64]) -> Vec<f64> {
    match head {
        Head::Scores | Head::Logistic | Head::Probability => vec![1.0; outputs.len()],
        Head::Logits | Head::OneVersusRest { .. } | Head::Probabilities => {
            let first = (0..outputs.len()).max_by(|&a, &b| compare(outputs, a, b));
            let second =
                (0..outputs.len()).filter(|i| Some(*i) != first).max_by(|&a, &b| compare(outputs, a, b));
            (0..outputs.len())
                .map(|i| {
                    if Some(i) == first {
                        1.0
                    } else if Some(i) == second {
                        -1.0
                    } else {
                        0.0
                    }
                })
                .collect()
        }
    }
}

fn compare(outputs: &[f64], a: usize, b: usize) -> std::cmp::Ordering {
    let at = |index: usize| outputs.get(index).copied().unwrap_or(f64::NEG_INFINITY);
    at(a).total_cmp(&at(b))
}
