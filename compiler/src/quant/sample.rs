//! Rows to measure on: the calibration file's, or rows drawn from the model's scaler (`draw`); sorted by how near
//! they are to another label, without the rows on which single and double precision disagree.

use super::draw::{Drawn, draw};
use super::float::{labels, margins, real_rows};
use super::{Calibration, Contract};
use crate::diag::codes::quant::{NO_ROWS, WIDTH};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Input, Interval};
use crate::model::{Head, Model, Normalise};

/// Standard deviations around the scaler's centre within which rows are drawn.
pub(super) const DRAWN_REACH: f64 = 4.0;
/// Magnitude up to which a feature of unknown scale is kept apart: bytes and packets of most flows.
const SCALELESS: f64 = (1 << 20) as f64;
/// A regressor's row counts as flipped when its output is off by more than this share of the outputs' range.
const REGRESSOR_TOLERANCE: f64 = 1.0 / 256.0;

/// Rows that are evaluated together.
const TOGETHER: usize = 1024;

/// What every candidate is compared with.
#[derive(Debug)]
pub(super) struct Sample {
    pub(super) width: usize,
    /// Row-major raw values, nearest to another label first.
    pub(super) rows: Vec<i64>,
    pub(super) expected: Expected,
    /// Rows on which single and double precision disagree; not among `rows`.
    pub(super) ties: usize,
    pub(super) calibrated: bool,
    /// Whether the rows are on many scales, of which real rows have one.
    pub(super) on_many_scales: bool,
    /// A typical margin of each output, which its margins count in; 1 for an only output.
    pub(super) margins: Vec<f64>,
    /// Rows at the front that were moved there because a candidate flipped them.
    pub(super) promoted: usize,
}

/// What the float model says about each row.
#[derive(Debug)]
pub(super) enum Expected {
    /// Row-major labels of so many outputs.
    Labels { labels: Vec<u32>, outputs: usize },
    /// Row-major outputs of a regressor, and how far off those of each row may be.
    Values { outputs: Vec<f64>, tolerances: Vec<f64> },
}

impl Sample {
    pub(super) fn count(&self) -> usize {
        self.rows.len() / self.width.max(1)
    }

    /// The first `count` rows.
    pub(super) fn nearest(&self, count: usize) -> &[i64] {
        self.rows.get(..count * self.width).unwrap_or(&self.rows)
    }
}

/// Promoted rows, at most: every pilot looks at all of them.
const MOST_PROMOTED: usize = 512;

impl Sample {
    /// Moves rows to the front, where every pilot sees them.
    pub(super) fn promote(&mut self, positions: &[usize]) {
        let (width, outputs) = (self.width.max(1), self.expected.width(self.count()));
        let mut front = Vec::new();
        for &position in positions.iter().filter(|&&position| position >= self.promoted) {
            if self.promoted + front.len() < MOST_PROMOTED {
                front.push(position);
            }
        }
        self.promoted += front.len();
        let mut order = front.clone();
        order.extend((0..self.count()).filter(|position| front.binary_search(position).is_err()));
        self.rows = gather(&self.rows, &order, width);
        match &mut self.expected {
            Expected::Labels { labels, outputs: count } => *labels = gather(labels, &order, *count),
            Expected::Values { outputs: values, tolerances } => {
                *values = gather(values, &order, outputs);
                *tolerances = gather(tolerances, &order, 1);
            }
        }
    }
}

impl Expected {
    /// Values kept for each of `rows` rows.
    fn width(&self, rows: usize) -> usize {
        match self {
            Self::Labels { outputs, .. } => *outputs,
            Self::Values { outputs, .. } => outputs.len() / rows.max(1),
        }
    }
}

/// Rows of `width` values in another order.
fn gather<T: Copy>(values: &[T], order: &[usize], width: usize) -> Vec<T> {
    order
        .iter()
        .filter_map(|&position| values.get(position * width..(position + 1) * width))
        .flatten()
        .copied()
        .collect()
}

/// Multiply-accumulates of one inference.
pub(super) fn work(model: &Model) -> usize {
    let layers = model.layers();
    layers.iter().map(|layer| layer.weights.values.len()).sum()
}

pub(super) fn prepare(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
) -> Outcome<Sample> {
    let width = model.input_count().max(1);
    let drawn = match calibration {
        Some(_) => Drawn::default(),
        None => draw(model, contract),
    };
    let rows = calibration.map_or(drawn.rows.as_slice(), |calibration| calibration.rows);
    if !rows.len().is_multiple_of(width) || contract.inputs.len() != model.input_count() {
        return Err(vec![refusal(
            &WIDTH,
            format!("the model has {} inputs, and the rows do not", model.input_count()),
            "give one value for each input in every row",
        )]);
    }
    let outputs = model.output_count().max(1);
    let mut double = Vec::with_capacity(rows.len() / width * outputs);
    let mut single = Vec::with_capacity(rows.len() / width * outputs);
    // So many that they stay in the cache.
    for some in rows.chunks(TOGETHER * width) {
        let real = real_rows(&contract.inputs, some);
        double.extend(model.batch_outputs_f64(&real));
        single.extend(model.batch_outputs_f32(&real).into_iter().map(f64::from));
    }
    let typical = typical_margins(model, &double);
    let mut order: Vec<(f64, usize)> = Vec::new();
    let mut ties = 0;
    for (index, (wide, short)) in double.chunks_exact(outputs).zip(single.chunks_exact(outputs)).enumerate() {
        if labels(model, wide).eq(labels(model, short)) {
            let nearest = margins(model, wide).zip(&typical).map(|(margin, typical)| margin / typical);
            order.push((nearest.fold(f64::INFINITY, f64::min), index));
        } else {
            ties += 1;
        }
    }
    if order.is_empty() {
        return Err(vec![refusal(
            &NO_ROWS,
            "there is no row to compare labels on".to_owned(),
            "give calibration rows like those that the model was trained on",
        )]);
    }
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let order = drawn.thinned(order);
    let sorted = order
        .iter()
        .filter_map(|&(_, index)| rows.get(index * width..(index + 1) * width))
        .flatten()
        .copied()
        .collect();
    let sorted_outputs =
        order.iter().filter_map(|&(_, index)| double.get(index * outputs..(index + 1) * outputs));
    let expected = match model.first.head {
        Head::Logits
        | Head::Logistic
        | Head::OneVersusRest { .. }
        | Head::Probability
        | Head::Probabilities => Expected::Labels {
            labels: sorted_outputs.flat_map(|values| labels(model, values)).collect(),
            outputs: typical.len(),
        },
        Head::Scores => {
            let values: Vec<f64> = sorted_outputs.flatten().copied().collect();
            let ranges = drawn.ranges(&order, &double, outputs).into_iter();
            let tolerances =
                ranges.map(|range| (range * REGRESSOR_TOLERANCE).max(f64::MIN_POSITIVE)).collect();
            Expected::Values { outputs: values, tolerances }
        }
    };
    let calibrated = calibration.is_some();
    Ok(Sample {
        width,
        rows: sorted,
        expected,
        ties,
        calibrated,
        on_many_scales: drawn.on_many_scales,
        margins: typical,
        promoted: 0,
    })
}

/// The mean margin of each output over all rows, which makes those of different outputs comparable.
fn typical_margins(model: &Model, values: &[f64]) -> Vec<f64> {
    let count = model.outputs().count();
    if count == 1 {
        return vec![1.0];
    }
    let mut sums = vec![0.0; count];
    for row in values.chunks_exact(model.output_count().max(1)) {
        for (sum, margin) in sums.iter_mut().zip(margins(model, row)) {
            *sum += margin;
        }
    }
    let rows = (values.len() / model.output_count().max(1)).max(1) as f64;
    sums.into_iter().map(|sum| if sum > 0.0 { sum / rows } else { 1.0 }).collect()
}

/// What a model says about the scale of a feature.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scaler {
    pub(super) normalise: Normalise,
    /// Whether the scale is the deviation of the feature, rather than that of nothing but a centre.
    known: bool,
}

impl Scaler {
    /// Whether the model divides the feature by something.
    pub(super) const fn known(&self) -> bool {
        self.known
    }

    /// Whether nothing tells the scale of the feature: neither a scaler nor a declared range.
    pub(super) fn scaleless(&self, input: &Input) -> bool {
        !self.known && !stated(input)
    }
}

/// The scaler of each feature. Centring alone tells no scale: a factor of 1 is one only where the feature is centred
/// and others are divided by something, as by a scaler that found a deviation of 1.
pub(super) fn scalers(model: &Model) -> Vec<Scaler> {
    let scales = |normalise: &Normalise| normalise.scale != Normalise::IDENTITY.scale;
    let any = model.normalise.iter().any(scales);
    let centred = |normalise: &Normalise| normalise.centre != 0.0 || normalise.offset != 0.0;
    let known = |normalise: &Normalise| scales(normalise) || (any && centred(normalise));
    model.normalise.iter().map(|own| Scaler { normalise: *own, known: known(own) }).collect()
}

/// Whether the declared range says something about the feature.
fn stated(input: &Input) -> bool {
    /// A declared range wider than this is no statement.
    const STATEMENT: i128 = 1 << 53;
    i128::from(input.range.high) - i128::from(input.range.low) < STATEMENT
}

/// The raw interval in which training values of a feature lay: `reach` standard deviations around the
/// scaler's centre, or the whole declared range when the model has no scaler and the range is a real one.
/// Where nothing tells the scale, the feature may be standardised or a count: everything up to [`SCALELESS`].
pub(super) fn trained_range(scaler: &Scaler, input: &Input, reach: f64) -> Interval {
    let declared = input.range;
    if !scaler.known && stated(input) {
        return declared;
    }
    let reach = if scaler.scaleless(input) { SCALELESS } else { reach };
    let normalise = &scaler.normalise;
    let unit = f64::from(input.fraction_bits.0).exp2();
    let scale = if normalise.scale == 0.0 { 1.0 } else { normalise.scale };
    let middle = normalise.centre - normalise.offset / scale;
    let spread = reach / scale.abs();
    // Float to integer conversion saturates.
    let low = (((middle - spread) * unit).floor() as i64).clamp(declared.low, declared.high);
    let high = (((middle + spread) * unit).ceil() as i64).clamp(declared.low, declared.high);
    Interval { low, high }
}

fn refusal(code: &'static crate::diag::Code, message: String, help: &str) -> Diagnostic {
    Diagnostic::new(code, Origin::Flag { flag: "--calibrate".to_owned() }, message, help)
}
