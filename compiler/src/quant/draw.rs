//! Rows drawn from what the model says about its features, for want of calibration rows.
//!
//! Values of real features crowd near their centre and have heavy tails, so that rows are drawn on several scales, and
//! some have features far out. Real rows also lie nearer to the boundary between labels than rows drawn from a box:
//! more are drawn than used, and of each kind those nearest to another label are kept.

use std::collections::BTreeMap;

use super::Contract;
use super::curve::{self, Way};
use super::sample::{scalers, trained_range, work};
use super::stats::REACHES;
use crate::ir::Interval;
use crate::model::{Activation, Model};
use crate::random::SplitMix;

/// Rows kept: enough for a share of 0.1 % to mean something.
const KEPT_ROWS: usize = 4096;
/// Rows drawn for each row that is kept.
const DRAWN: usize = 8;
/// A budget of 0.1 % then still allows a row.
const LEAST_DRAWN: usize = 1024;
/// Multiply-accumulates that evaluating the drawn rows may cost; larger models get fewer rows.
const DRAWN_WORK: usize = 1 << 26;
/// Standard deviations from the centre within which rows are drawn, one row after the other.
const SCALES: [f64; 6] = [4.0, 2.0, 1.0, 0.5, 0.25, 0.125];
/// Of the rows of each scale, one of so many has features far from their centre.
const FAR: usize = 4;
/// Of the rows that are kept, one of so many is from anywhere.
const ANYWHERE: usize = 4;
/// Halvings of the range of features of unknown scale, of which each row has one: from counts to standardised values.
const HALVINGS: u64 = 22;
/// Halvings that leave standardised values.
const STANDARDISED: u64 = 18;

/// Rows and how each was drawn; nothing when rows were given.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    /// Row-major raw values.
    pub(super) rows: Vec<i64>,
    kinds: Vec<Kind>,
    /// Whether the rows are on many scales, for want of any that is known.
    pub(super) on_many_scales: bool,
}

/// How a row was drawn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Kind {
    /// Halvings of the largest feature of unknown scale.
    halvings: u64,
    /// Position in [`SCALES`].
    scale: usize,
    /// Whether some features lie farther out than that.
    far: bool,
}

/// Kinds that there are.
const KINDS: usize = (HALVINGS as usize + 1) * SCALES.len() * 2;

impl Kind {
    /// The number of the kind.
    const fn place(self) -> usize {
        (self.halvings as usize * SCALES.len() + self.scale) * 2 + self.far as usize
    }
}

pub(super) fn draw(model: &Model, contract: &Contract) -> Drawn {
    let mut random = SplitMix(0x6e6e_6270_6663);
    let scalers = scalers(model);
    let within = |reach: f64| -> Vec<Interval> {
        let ranges = scalers.iter().zip(&contract.inputs);
        ranges.map(|(scaler, input)| trained_range(scaler, input, reach)).collect()
    };
    let near = SCALES.map(within);
    let far = within(REACHES[0]);
    let unknown: Vec<bool> =
        scalers.iter().zip(&contract.inputs).map(|(scaler, input)| scaler.scaleless(input)).collect();
    let limited = has_tables(model);
    let shared = unknown.contains(&true) && !limited;
    // Rows that are near to another label on one scale say nothing about those on another.
    let most = if shared || limited { KEPT_ROWS } else { DRAWN * KEPT_ROWS };
    let count = (DRAWN_WORK / work(model).max(1)).clamp(LEAST_DRAWN, most);
    let mut drawn = Drawn {
        rows: Vec::with_capacity(count * unknown.len()),
        kinds: Vec::with_capacity(count),
        on_many_scales: shared,
    };
    for (row, (scale, near)) in (0..count).zip(near.iter().enumerate().cycle()) {
        // Features of unknown scale share one in half of the rows, and have one each in the others.
        let common = if shared { random.next() % (HALVINGS + 1) } else { STANDARDISED };
        let (block, group) = (row / SCALES.len(), row / SCALES.len() / FAR);
        let apart = shared && !group.is_multiple_of(2);
        let outlying = block.is_multiple_of(FAR) && !limited;
        let mut halvings = if shared { common } else { 0 };
        for ((near, far), unknown) in near.iter().zip(&far).zip(&unknown) {
            let range = if outlying && random.next().is_multiple_of(2) { far } else { near };
            let value = random.within(*range);
            let middle = range.low.midpoint(range.high);
            let own = if apart { random.next() % (HALVINGS + 1) } else { common };
            halvings = if *unknown && apart { halvings.min(own) } else { halvings };
            drawn.rows.push(if *unknown { middle + ((value - middle) >> own) } else { value });
        }
        drawn.kinds.push(Kind { halvings, scale, far: outlying });
    }
    drawn
}

/// Whether a function of the model becomes a table: it covers what rows reach in equal steps, so that a few rows far
/// out would leave too few steps for all others.
fn has_tables(model: &Model) -> bool {
    model.layers().iter().any(|layer| match layer.activation {
        Activation::Identity | Activation::Relu => false,
        Activation::Function(function) => curve::way(function) == Way::Table,
    })
}

impl Drawn {
    fn kind(&self, row: usize) -> Kind {
        self.kinds.get(row).copied().unwrap_or_default()
    }

    /// Of rows with their margins, sorted by these, the nearest ones of each kind and some from anywhere; all of them
    /// when rows were given.
    pub(super) fn thinned(&self, order: Vec<(f64, usize)>) -> Vec<(f64, usize)> {
        if order.len() <= KEPT_ROWS || self.kinds.is_empty() {
            return order;
        }
        // Rows of each kind, and how many of them have been seen.
        let mut counts = [(0usize, 0usize); KINDS];
        for &(_, row) in &order {
            if let Some((size, _)) = counts.get_mut(self.kind(row).place()) {
                *size += 1;
            }
        }
        let drawn = order.len();
        let kept = order.into_iter().filter(|&(_, row)| {
            counts.get_mut(self.kind(row).place()).is_some_and(|(size, seen)| {
                *seen += 1;
                let near = (KEPT_ROWS - KEPT_ROWS / ANYWHERE) * *size / drawn;
                *seen <= near || (*seen - near).is_multiple_of(DRAWN * ANYWHERE)
            })
        });
        kept.collect()
    }

    /// Row by row in the order given, the range of a regressor's outputs over all rows that such a row is compared
    /// with: those within a standard deviation or, where features have no known scale, of the same magnitude; all of
    /// them when rows were given.
    pub(super) fn ranges(&self, order: &[(f64, usize)], values: &[f64], outputs: usize) -> Vec<f64> {
        let mut ranges: BTreeMap<u64, (f64, f64)> = BTreeMap::new();
        for &(_, row) in order {
            let kind = self.kind(row);
            let typical = !kind.far && SCALES.get(kind.scale).is_some_and(|&scale| scale <= 1.0);
            if !(typical || self.kinds.is_empty()) {
                continue;
            }
            let (low, high) = ranges.entry(kind.halvings).or_insert((f64::INFINITY, f64::NEG_INFINITY));
            for &value in values.get(row * outputs..(row + 1) * outputs).unwrap_or_default() {
                (*low, *high) = (low.min(value), high.max(value));
            }
        }
        let range = |row| ranges.get(&self.kind(row).halvings).map_or(0.0, |(low, high)| high - low);
        order.iter().map(|&(_, row)| range(row)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Body, Dense, Function, Head, Levels, Matrix, Normalise, Output};
    use crate::quant::contract::without_spec;
    use crate::quant::float::real_rows;

    fn model(normalise: Vec<Normalise>) -> Model {
        let columns = normalise.len();
        let weights =
            Matrix { rows: 2, columns, values: (0..2 * columns).map(|at| at as f64 - 2.5).collect() };
        let origin = crate::diag::NodeRef { index: 0, name: "layer".to_owned(), operator: "Gemm".to_owned() };
        let layer =
            Dense { origin, weights, bias: vec![0.25, -0.5], activation: Activation::Identity, plain: 0 };
        Model {
            replaced: Vec::new(),
            inputs: vec![None; columns],
            normalise,
            body: Body::Mlp(vec![layer]),
            first: Output::only(Head::Logits),
            further: Vec::new(),
            hash: [0; 32],
        }
    }

    const COUNT: Normalise = Normalise { centre: 500.0, scale: 0.01, offset: 0.0 };

    #[test]
    fn rows_crowd_at_the_centre_and_have_tails_within_the_declared_range() {
        let model = model(vec![COUNT; 3]);
        let mut contract = without_spec(&model);
        for input in &mut contract.inputs {
            input.fraction_bits = crate::ir::FractionBits(0);
            input.range = Interval { low: 0, high: 2500 };
        }
        let drawn = draw(&model, &contract);
        assert_eq!(drawn.rows.len(), 3 * DRAWN * KEPT_ROWS);
        assert!(drawn.rows.iter().all(|value| (0..=2500).contains(value)));
        let rows = drawn.rows.chunks_exact(3);
        let crowd = rows.clone().filter(|row| row.iter().all(|value| (450..=550).contains(value))).count();
        let tails = rows.filter(|row| row.iter().any(|&value| value > 900)).count();
        assert!(crowd > drawn.kinds.len() / 3 && tails > drawn.kinds.len() / 10, "{crowd} {tails}");
    }

    #[test]
    fn rows_near_another_label_of_each_kind_are_kept_with_some_from_anywhere() {
        let model = model(vec![COUNT; 3]);
        let drawn = draw(&model, &without_spec(&model));
        // The margin of each row is its number.
        let order: Vec<(f64, usize)> = (0..drawn.kinds.len()).map(|row| (row as f64, row)).collect();
        let kept = drawn.thinned(order);
        assert!(kept.len() <= KEPT_ROWS && kept.len() > KEPT_ROWS * 3 / 4, "{}", kept.len());
        for &kind in &drawn.kinds[..FAR * SCALES.len()] {
            let of_kind: Vec<usize> =
                kept.iter().map(|&(_, row)| row).filter(|&row| drawn.kind(row) == kind).collect();
            let all = (0..drawn.kinds.len()).filter(|&row| drawn.kind(row) == kind);
            let nearest = of_kind.len() * 3 / 4;
            assert_eq!(of_kind[..nearest], all.take(nearest).collect::<Vec<_>>()[..]);
            assert!(*of_kind.last().unwrap() > drawn.kinds.len() * 3 / 4);
        }
    }

    #[test]
    fn a_deviation_of_one_is_a_scale_beside_others() {
        let one = Normalise { centre: 40.0, scale: 1.0, offset: 0.0 };
        let of = |normalise: Vec<Normalise>, feature: usize| {
            let model = model(normalise);
            let contract = without_spec(&model);
            scalers(&model)[feature].scaleless(&contract.inputs[feature])
        };
        assert!(!of(vec![COUNT, one], 1), "the scaler found a deviation of one");
        assert!(of(vec![one, one], 1), "centring tells no scale");
        assert!(of(vec![COUNT, Normalise::IDENTITY], 1), "the scaler leaves this feature out");
    }

    #[test]
    fn features_of_unknown_scale_are_drawn_on_every_scale() {
        let model = model(vec![Normalise::IDENTITY; 2]);
        let contract = without_spec(&model);
        let unit = f64::from(contract.inputs[0].fraction_bits.0).exp2();
        let drawn = draw(&model, &contract);
        assert_eq!(drawn.kinds.len(), KEPT_ROWS);
        let largest = |row: &[i64]| row.iter().map(|value| value.abs() as f64 / unit).fold(0.0, f64::max);
        let below = |most: f64| drawn.rows.chunks_exact(2).filter(|row| largest(row) < most).count();
        assert!(below(1.0) > KEPT_ROWS / 20 && below(1e5) < KEPT_ROWS * 19 / 20);
        let apart = |row: &[i64]| {
            (row[0].unsigned_abs().max(1).ilog2()).abs_diff(row[1].unsigned_abs().max(1).ilog2())
        };
        let far_apart = drawn.rows.chunks_exact(2).filter(|row| apart(row) > 12).count();
        assert!((KEPT_ROWS / 20..KEPT_ROWS / 2).contains(&far_apart), "{far_apart} rows of two magnitudes");
    }

    #[test]
    fn what_tables_have_to_cover_is_drawn_within_four_deviations() {
        let with = |activation: Activation, normalise: Normalise| {
            let mut model = model(vec![normalise; 2]);
            let Body::Mlp(layers) = &mut model.body else { unreachable!() };
            layers[0].activation = activation;
            let contract = without_spec(&model);
            let drawn = draw(&model, &contract);
            let real = real_rows(&contract.inputs, &drawn.rows).into_iter();
            let scaled = real.map(|value| (value - normalise.centre) * normalise.scale);
            (scaled.map(f64::abs).fold(0.0, f64::max), drawn.kinds.len())
        };
        let (tanh, levels) = (Function::Tanh, Levels { scale: 0.5, zero: 0, low: -8, high: 7 });
        for normalise in [COUNT, Normalise::IDENTITY] {
            let (most, rows) = with(Activation::Function(tanh), normalise);
            assert!(most > 3.9 && most < 4.1 && rows == KEPT_ROWS, "{most} {rows}");
            // Levels need no table.
            let (most, _) = with(Activation::Function(Function::Levels(levels)), normalise);
            assert!(most > 20.0, "{most}");
        }
    }
}
