//! The author's integers as a network.
//!
//! Inputs become levels, weights whole multiples of one number for each neuron, and sums levels again, or a table
//! where a function lies between two quantisations. Nothing is searched and nothing is rounded twice; `levels` has
//! the proof that each level is the author's. A model that leaves any value between two layers unrounded, or whose
//! weights are no multiples, is quantised like a float model instead.

use super::chain::{Chain, elementwise};
use super::exact::{Dyadic, multiples};
use super::levels::Line;
use crate::check::bounds::{lane_need, lane_range, weighted_sum};
use crate::check::{Checked, MOST_RAW, check};
use crate::diag::Outcome;
use crate::ir::{Dense, Interval, Lanes, Network, Op, OpOrigin, Post, Quantise, QuantiseOne, Table};
use crate::model::{self, Activation, Function, Model};
use crate::quant::build::decision;
use crate::quant::cost::layer_ns;
use crate::quant::lanes::EVEN;
use crate::quant::{Contract, LayerPlan, NetworkPlan, plan_of};

/// Largest multiple that a weight may be.
const MOST_WEIGHT: i64 = 1 << 31;
/// Raw outputs of different scales are brought to a common one with so many bits.
const OUTPUT_BITS: f64 = 40.0;
/// Sums of more bits than the first are shortened to the second before that.
const SUM_BITS: u32 = 40;
const SHORT_BITS: u32 = 32;
/// Most entries of a table.
const MOST_ENTRIES: i64 = 1 << 16;

/// For each of some sums `slope` and `offset`, so that it stands for `slope * n + offset`, and what `n` lies in.
type Sums = (Vec<(Dyadic, Dyadic)>, Vec<Interval>);

/// A network of the author's integers.
#[derive(Debug)]
pub(super) struct Authored {
    pub(super) network: Checked<Network>,
    /// The model's layer of each dense operation.
    pub(super) layers: Vec<usize>,
    /// Real value of one unit of each operation's results, the finest and the coarsest, where they have one.
    pub(super) levels: Vec<Option<(f64, f64)>>,
    /// Quantisers that may give the neighbouring level very near to a half.
    pub(super) nearly: usize,
    /// How far outputs are off at most in real arithmetic, where `nearly` is 0.
    pub(super) error: f64,
    /// Whether features are moved before they become levels.
    pub(super) moved: bool,
}

/// Why a model is not built from its own integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Left {
    /// The layer with which it ends.
    pub(super) layer: usize,
    pub(super) why: Why,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// The features of the first layer are not rounded to levels, or have no integer form.
    Features,
    /// Something about a layer or what follows it.
    Layer,
    /// Outputs have no common scale, or a rule none that fits.
    Outputs,
    /// The code of the object that the model should fit has another form.
    Refused(&'static str),
}

/// The model's own integers as a network, which the check may refuse.
pub(super) fn build(
    model: &Model,
    contract: &Contract,
    like: Option<&NetworkPlan>,
) -> Result<Outcome<Authored>, Left> {
    let Some(plan) = like else { return attempt(model, contract, None, None) };
    let fits = |built: &Result<Outcome<Authored>, Left>| match built {
        Ok(Ok(authored)) => plan_of(authored.network.get()) == *plan,
        Ok(Err(_)) | Err(_) => false,
    };
    let plain = attempt(model, contract, like, Some((false, false)));
    if fits(&plain) {
        return plain;
    }
    let others = [(true, false), (false, true), (true, true)];
    let mut others = others.into_iter().map(|form| attempt(model, contract, like, Some(form)));
    others.find(fits).unwrap_or(plain)
}

fn attempt(
    model: &Model,
    contract: &Contract,
    like: Option<&NetworkPlan>,
    form: Option<(bool, bool)>,
) -> Result<Outcome<Authored>, Left> {
    let mut author = Author {
        model,
        like,
        clamp: form.map(|(clamp, _)| clamp),
        ahead: form.map(|(_, ahead)| ahead),
        moved: false,
        ops: Vec::new(),
        origins: Vec::new(),
        layers: Vec::new(),
        levels: Vec::new(),
        nearly: 0,
        error: 0.0,
        refused: None,
    };
    let left = |layer: usize, why: Why, refused: Option<&'static str>| Left {
        layer,
        why: refused.map_or(why, Why::Refused),
    };
    let mut place = author.inputs(contract).ok_or_else(|| left(0, Why::Features, author.refused))?;
    let mut next = 1;
    let layers = model.layers();
    while next < layers.len() {
        let layer = author.layer(&place, next);
        (place, next) = layer.ok_or_else(|| left(next, Why::Layer, author.refused))?;
    }
    let outputs = || left(layers.len().saturating_sub(1), Why::Outputs, None);
    let unit = author.outputs(place).ok_or_else(outputs)?;
    let finer = vec![0; model.outputs().count()];
    let decision = decision(model, contract, unit, &finer).ok_or_else(outputs)?;
    let Author { ops, origins, layers, levels, nearly, error, moved, .. } = author;
    let network = Network { inputs: contract.inputs.clone(), ops, origins, decision };
    Ok(check(network).map(|network| Authored { network, layers, levels, nearly, error, moved }))
}

/// Values as they stand between two operations.
#[derive(Debug, Clone)]
enum Place {
    /// Levels: each value is `scale * (n + zero)`.
    Coded { scale: f64, zero: i64, values: Vec<Interval>, columns: Vec<usize> },
    /// Sums behind the last layer: each value is `slope * n + offset`.
    Sums { lines: Vec<(Dyadic, Dyadic)>, values: Vec<Interval> },
}

pub(super) struct Author<'a> {
    model: &'a Model,
    pub(super) like: Option<&'a NetworkPlan>,
    /// Whether a clamp follows the features' quantiser; where it is needed, unless this is given.
    pub(super) clamp: Option<bool>,
    /// Whether an operation in front of the features' quantiser moves them; where it is needed, unless this is given.
    pub(super) ahead: Option<bool>,
    /// Whether one does.
    pub(super) moved: bool,
    pub(super) ops: Vec<Op>,
    origins: Vec<OpOrigin>,
    layers: Vec<usize>,
    levels: Vec<Option<(f64, f64)>>,
    /// See [`Authored::nearly`].
    pub(super) nearly: usize,
    error: f64,
    /// Why the planned code does not give the levels, where other code would.
    pub(super) refused: Option<&'static str>,
}

impl Author<'_> {
    /// Features to the levels of the first quantisation.
    fn inputs(&mut self, contract: &Contract) -> Option<Place> {
        let first = self.model.layers().first()?;
        let Activation::Function(Function::Levels(levels)) = first.activation else { return None };
        let taps = elementwise(first)?;
        let mut lines: Vec<Option<(usize, Line)>> = vec![None; contract.inputs.len()];
        for (row, &(column, weight)) in taps.iter().enumerate() {
            let (input, by) = (contract.inputs.get(column)?, self.model.normalise.get(column)?);
            let unit = Dyadic::of((-f64::from(input.fraction_bits.0)).exp2());
            let exact = Dyadic::of;
            let factor = exact(by.scale).times(exact(weight))?;
            let bias = exact(*first.bias.get(row)?);
            // (x * unit - centre) * scale + offset, times the weight, plus the bias.
            let constant = exact(by.offset).times(exact(weight))?.plus(bias)?;
            let centre = exact(by.centre).negated().times(factor)?;
            let line = Line {
                slope: factor.times(unit)?,
                offset: centre.plus(constant).unwrap_or_else(|| exact(centre.value() + constant.value())),
                levels,
                floor: None,
            };
            let slot = lines.get_mut(column)?;
            if slot.replace((row, line)).is_some() {
                return None;
            }
        }
        let domains: Vec<Interval> = contract
            .inputs
            .iter()
            .map(|input| Interval {
                low: input.range.low.clamp(-MOST_RAW, MOST_RAW),
                high: input.range.high.clamp(-MOST_RAW, MOST_RAW),
            })
            .collect();
        let unread = Line { slope: Dyadic::integer(0), offset: Dyadic::integer(0), levels, floor: None };
        let mut columns = vec![0; taps.len()];
        let mut all = Vec::with_capacity(lines.len());
        for (column, line) in lines.into_iter().enumerate() {
            let line = match line {
                Some((row, line)) => {
                    *columns.get_mut(row)? = column;
                    line
                }
                None => unread.clone(),
            };
            all.push(line);
        }
        let values = self.features(&all, &domains)?;
        Some(Place::Coded { scale: levels.scale, zero: 0, values, columns })
    }

    /// Writes an operation, one unit of whose results has this real value.
    pub(super) fn push(&mut self, op: Op, origin: OpOrigin, unit: Option<f64>) {
        self.ops.push(op);
        self.levels.push(unit.map(|unit| (unit, unit)));
        self.origins.push(origin);
    }

    pub(super) fn pop(&mut self) {
        self.ops.pop();
        self.levels.pop();
        self.origins.pop();
    }

    /// One layer of weights, or functions of single values, and what follows up to levels.
    fn layer(&mut self, place: &Place, index: usize) -> Option<(Place, usize)> {
        let Place::Coded { scale, zero, values, columns } = place else { return None };
        let layer = self.model.layers().get(index)?;
        let origin = OpOrigin::Layer { layer: u32::try_from(index).ok()?, node: layer.origin.clone() };
        let each = elementwise(layer).filter(|taps| {
            // A function of a value stays where the value is.
            columns.iter().copied().eq(0..taps.len())
                && taps.iter().map(|(column, _)| *column).eq(0..taps.len())
        });
        if each.is_some() {
            let chain = Chain::of(self.model, index)?;
            let place = self.functions(*scale, *zero, values, &chain, &origin)?;
            return Some((place, index + chain.count));
        }
        let (dense, slopes) = self.dense(layer, *zero, values, columns)?;
        let sums: Vec<Interval> = dense
            .weights
            .chunks(dense.columns.max(1))
            .zip(&dense.bias)
            .map(|(row, &bias)| weighted_sum(row, bias, values))
            .map(|sum| {
                Some(Interval { low: i64::try_from(sum.low).ok()?, high: i64::try_from(sum.high).ok()? })
            })
            .collect::<Option<_>>()?;
        let lines: Vec<(Dyadic, Dyadic)> = slopes
            .iter()
            .zip(&layer.bias)
            .map(|(&slope, &bias)| {
                let slope = Dyadic::of(slope).times(Dyadic::of(*scale))?;
                Some((slope, Dyadic::of(bias)))
            })
            .collect::<Option<_>>()?;
        self.push(Op::Dense(dense), origin.clone(), None);
        self.layers.push(index);
        if index + 1 == self.model.layers().len() && layer.activation == Activation::Identity {
            return Some((Place::Sums { lines, values: sums }, index + 1));
        }
        let mut chain = Chain::of(self.model, index)?;
        // The weights have been applied.
        if let Some(first) = chain.steps.first_mut() {
            first.factors = vec![(1.0, 0.0); lines.len()];
        }
        let lines = chain.lines(&lines)?;
        let direct = self.rescaled(&lines, &sums, 1, origin.clone());
        let values = direct.or_else(|| self.multiplied(&lines, &sums, &origin))?;
        let columns = (0..values.len()).collect();
        Some((Place::Coded { scale: chain.levels.scale, zero: 0, values, columns }, index + chain.count))
    }

    /// A dense layer over levels, and what one of each sum stands for in scales.
    fn dense(
        &self,
        layer: &model::Dense,
        zero: i64,
        values: &[Interval],
        columns: &[usize],
    ) -> Option<(Dense, Vec<f64>)> {
        let mut slopes = Vec::with_capacity(layer.weights.rows);
        let mut weights = vec![0; layer.weights.rows.checked_mul(values.len())?];
        let mut bias = Vec::with_capacity(layer.weights.rows);
        for (row, own) in (0..layer.weights.rows).zip(weights.chunks_mut(values.len().max(1))) {
            let (slope, whole) = multiples(layer.weights.row(row), MOST_WEIGHT)?;
            for (&weight, &column) in whole.iter().zip(columns) {
                *own.get_mut(column)? = weight;
            }
            bias.push(
                whole.iter().try_fold(0i64, |sum, &weight| sum.checked_add(weight.checked_mul(zero)?))?,
            );
            slopes.push(slope);
        }
        let mut dense = Dense {
            rows: layer.weights.rows,
            columns: values.len(),
            weights,
            bias,
            lanes: Lanes::ONE,
            post: Post::Raw,
        };
        let fits = |lanes: Lanes| {
            let rows = dense.weights.chunks(dense.columns.max(1)).zip(&dense.bias);
            rows.enumerate().all(|(index, (row, &bias))| {
                let need = lane_need(row, bias, weighted_sum(row, bias, values));
                let lane = lane_range(lanes.bits(index));
                need.low >= lane.low && need.high <= lane.high
            })
        };
        dense.lanes = match self.like {
            Some(plan) => {
                let LayerPlan { lanes, .. } = *plan.layers.get(self.layers.len())?;
                fits(lanes).then_some(lanes)?
            }
            None => {
                let cost = |lanes| layer_ns(dense.rows, dense.columns, lanes, false);
                // A retrained model needs room in the same lanes.
                let roomy = EVEN.into_iter().filter(|lanes| lanes.count() <= Lanes::THREE.count());
                let fitting = roomy.filter(|&lanes| fits(lanes));
                fitting.min_by(|&one, &other| cost(one).total_cmp(&cost(other)))?
            }
        };
        Some((dense, slopes))
    }

    /// Functions of single levels: a quantiser where straight pieces suffice, else a table.
    fn functions(
        &mut self,
        scale: f64,
        zero: i64,
        values: &[Interval],
        chain: &Chain,
        origin: &OpOrigin,
    ) -> Option<Place> {
        let columns = (0..values.len()).collect();
        let start = (Dyadic::of(scale), Dyadic::integer(zero).times(Dyadic::of(scale))?);
        if let Some(lines) = chain.lines(&vec![start; values.len()]) {
            let direct = self.rescaled(&lines, values, 1, origin.clone());
            if let Some(values) = direct.or_else(|| self.multiplied(&lines, values, origin)) {
                return Some(Place::Coded { scale: chain.levels.scale, zero: 0, values, columns });
            }
        }
        let (zero, values) = self.shifted(zero, values)?;
        let most = values.iter().map(|value| value.high).max()?;
        if most >= MOST_ENTRIES || !chain.uniform() {
            return None;
        }
        let bits = (64 - most.leading_zeros()).max(2);
        let levels: Vec<i64> = (0..1i64 << bits)
            .map(|n| chain.level(scale * (n.min(most) + zero) as f64))
            .collect::<Option<_>>()?;
        let least = levels.iter().copied().min()?;
        let entries: Vec<u16> =
            levels.iter().map(|level| u16::try_from(level - least).ok()).collect::<Option<_>>()?;
        let table = Table {
            width: values.len(),
            mapped: values.len(),
            bits: u8::try_from(bits).ok()?,
            fraction: 0,
            entries,
        };
        let values = values.iter().map(|&value| table.results(value)).collect();
        self.push(Op::Table(table), origin.clone(), Some(chain.levels.scale));
        Some(Place::Coded { scale: chain.levels.scale, zero: least, values, columns })
    }

    /// Lets the quantiser in front give no negative numbers; an even distance keeps halves where they were.
    fn shifted(&mut self, zero: i64, values: &[Interval]) -> Option<(i64, Vec<Interval>)> {
        let least = values.iter().map(|value| value.low).min()?;
        if least >= 0 {
            return Some((zero, values.to_vec()));
        }
        let distance = -least + (least & 1);
        let Some(Op::Quantise(quantise)) = self.ops.last_mut() else { return None };
        for one in &mut quantise.features {
            one.offset =
                one.offset.checked_add(distance.checked_mul(1i64.checked_shl(u32::from(one.shift))?)?)?;
        }
        quantise.output = moved(quantise.output, distance);
        Some((zero - distance, values.iter().map(|value| moved(*value, distance)).collect()))
    }

    /// Leaves outputs on one scale; gives its unit.
    fn outputs(&mut self, place: Place) -> Option<f64> {
        let origin = self.origins.last()?.clone();
        match place {
            Place::Coded { scale, zero, values, columns } => {
                let in_order = columns.iter().copied().eq(0..values.len());
                if !in_order || self.layers.is_empty() {
                    return None;
                }
                if zero != 0 {
                    let one = |value: &Interval| QuantiseOne {
                        low: value.low,
                        high: value.high,
                        multiplier: 1,
                        offset: zero,
                        shift: 0,
                    };
                    let features = values.iter().map(one).collect();
                    let Interval { low, high } = hull(&values);
                    let output = Interval { low: low + zero, high: high + zero };
                    self.push(
                        Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() }),
                        origin,
                        Some(scale),
                    );
                }
                Some(scale)
            }
            Place::Sums { lines, values } => self.common_scale(&lines, &values, origin),
        }
    }

    /// Sums of so many bits that a factor beside them would have few: their last ones are rounded away.
    fn shortened(
        &mut self,
        lines: &[(Dyadic, Dyadic)],
        values: &[Interval],
        dropped: u32,
        origin: &OpOrigin,
    ) -> Option<Sums> {
        let step = 1i64.checked_shl(dropped)?;
        let one = |value: &Interval| QuantiseOne {
            low: value.low,
            high: value.high,
            multiplier: 1,
            offset: step / 2,
            shift: dropped as u8,
        };
        let features: Vec<QuantiseOne> = values.iter().map(one).collect();
        let results: Vec<Interval> = features
            .iter()
            .map(|one| Interval {
                low: one.accumulate(one.low) >> one.shift,
                high: one.accumulate(one.high) >> one.shift,
            })
            .collect();
        let quantise = Quantise { output: hull(&results), features, even: false, replaced: Vec::new() };
        self.push(Op::Quantise(quantise), origin.clone(), None);
        let lines = lines.iter().map(|(slope, offset)| Some((slope.times(Dyadic::integer(step))?, *offset)));
        Some((lines.collect::<Option<_>>()?, results))
    }

    /// Sums of different scales, with offsets that are no multiples of them, as multiples of one fine unit.
    fn common_scale(
        &mut self,
        lines: &[(Dyadic, Dyadic)],
        values: &[Interval],
        origin: OpOrigin,
    ) -> Option<f64> {
        let widest = values.iter().flat_map(|value| [value.low.unsigned_abs(), value.high.unsigned_abs()]);
        let bits = u64::BITS - widest.max()?.leading_zeros();
        if bits > SUM_BITS {
            let (lines, values) = self.shortened(lines, values, bits - SHORT_BITS, &origin)?;
            return self.common_scale(&lines, &values, origin);
        }
        let largest = |((slope, offset), value): (&(Dyadic, Dyadic), &Interval)| {
            let reach = (value.low as f64).abs().max((value.high as f64).abs()) + 1.0;
            slope.value().abs() * reach + offset.value().abs()
        };
        let bound = lines.iter().zip(values).map(largest).fold(0.0, f64::max);
        let unit = (bound.log2().ceil() - OUTPUT_BITS).exp2();
        if !(unit.is_finite() && unit > 0.0) {
            return None;
        }
        let features: Vec<QuantiseOne> = lines
            .iter()
            .zip(values)
            .map(|((slope, offset), value)| {
                let (slope, offset) = (slope.value() / unit, offset.value() / unit);
                let reach = (value.low as f64).abs().max((value.high as f64).abs()) + 1.0;
                let shift =
                    (60.0 - (slope.abs() * reach + offset.abs() + 1.0).log2()).floor().clamp(1.0, 50.0);
                let half = 1i64 << (shift as u8 - 1);
                QuantiseOne {
                    low: value.low,
                    high: value.high,
                    multiplier: (slope * shift.exp2()).round() as i64,
                    offset: ((offset * shift.exp2()).round() as i64).saturating_add(half),
                    shift: shift as u8,
                }
            })
            .collect();
        self.error = features
            .iter()
            .zip(lines)
            .zip(values)
            .map(|((one, (slope, offset)), value)| {
                let scale = f64::from(one.shift).exp2();
                let reach = (value.low as f64).abs().max((value.high as f64).abs()) + 1.0;
                let (slope, offset) = (slope.value() / unit * scale, offset.value() / unit * scale);
                let rounded = (one.offset.saturating_sub(1i64 << (one.shift - 1))) as f64;
                let off = (slope - one.multiplier as f64).abs() * reach + (offset - rounded).abs();
                let conversions = (slope.abs() * reach + offset.abs()) * 16.0 * f64::EPSILON;
                // The result is rounded to the nearest unit.
                unit * ((off + conversions) / scale + 0.5)
            })
            .fold(0.0, f64::max);
        let results: Vec<Interval> = features
            .iter()
            .map(|one| {
                let ends = [one.accumulate(one.low) >> one.shift, one.accumulate(one.high) >> one.shift];
                let [first, second] = ends;
                Interval { low: first.min(second), high: first.max(second) }
            })
            .collect();
        self.push(
            Op::Quantise(Quantise { output: hull(&results), features, even: false, replaced: Vec::new() }),
            origin,
            Some(unit),
        );
        Some(unit)
    }
}

const fn moved(value: Interval, distance: i64) -> Interval {
    Interval { low: value.low + distance, high: value.high + distance }
}

pub(super) fn hull(values: &[Interval]) -> Interval {
    Interval {
        low: values.iter().map(|value| value.low).min().unwrap_or(0),
        high: values.iter().map(|value| value.high).max().unwrap_or(0),
    }
}
