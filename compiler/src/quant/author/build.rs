//! The author's integers as a network.
//!
//! Inputs become levels, weights whole multiples of one number for each neuron, and sums levels again, or a table
//! where a function lies between two quantisations. Nothing is searched and nothing is rounded twice; `levels` has
//! the proof that each level is the author's. A model that leaves any value between two layers unrounded, or whose
//! weights are no multiples, is quantised like a float model instead.

use super::exact::{Dyadic, multiples};
use super::levels::{Demand, Line, Rescale, rescale};
use crate::check::bounds::{lane_range, weighted_sum};
use crate::check::{Checked, MOST_RAW, check};
use crate::diag::Outcome;
use crate::ir::{Dense, Interval, Lanes, Network, Op, OpOrigin, Post, Quantise, QuantiseOne, Table};
use crate::model::{self, Activation, Function, Levels, Model};
use crate::quant::build::decision;
use crate::quant::cost::layer_ns;
use crate::quant::lanes::EVEN;
use crate::quant::{Contract, LayerPlan, NetworkPlan};

/// Largest multiple that a weight may be.
const MOST_WEIGHT: i64 = 1 << 31;
/// Raw outputs of different scales are brought to a common one with so many bits.
const OUTPUT_BITS: f64 = 40.0;
/// How far from a half, in levels, a feature and a sum may be given the neighbouring level where nothing exact
/// fits: levels of 16 bits, mostly.
const INPUT_SLACK: f64 = 1.0 / 1024.0;
const SUM_SLACK: f64 = 1.0 / 65536.0;
/// Integers that step over levels are multiplied until a step is less than so many bits of a level, by at most so many.
const STEP_BITS: f64 = 3.0;
const MOST_STEP_BITS: f64 = 24.0;
/// Most entries of a table.
const MOST_ENTRIES: i64 = 1 << 16;

/// A network of the author's integers.
#[derive(Debug)]
pub(super) struct Authored {
    pub(super) network: Checked<Network>,
    /// The model's layer of each dense operation.
    pub(super) layers: Vec<usize>,
    /// Real value of one unit of each operation's results, the finest and the coarsest, where they have one.
    pub(super) levels: Vec<Option<(f64, f64)>>,
}

/// The model's own integers as a network; `None` when it has not enough of them, or in another form than
/// `like` demands.
pub(super) fn build(
    model: &Model,
    contract: &Contract,
    like: Option<&NetworkPlan>,
) -> Option<Outcome<Authored>> {
    let mut author =
        Author { model, like, ops: Vec::new(), origins: Vec::new(), layers: Vec::new(), levels: Vec::new() };
    let mut place = author.inputs(contract)?;
    let mut next = 1;
    let layers = model.layers();
    while next < layers.len() {
        (place, next) = author.layer(&place, next)?;
    }
    let unit = author.outputs(place)?;
    let finer = vec![0; model.outputs().count()];
    let decision = decision(model, contract, unit, &finer)?;
    let Author { ops, origins, layers, levels, .. } = author;
    let network = Network { inputs: contract.inputs.clone(), ops, origins, decision };
    Some(check(network).map(|network| Authored { network, layers, levels }))
}

/// Values as they stand between two operations.
#[derive(Debug, Clone)]
enum Place {
    /// Levels: each value is `scale * (n + zero)`.
    Coded { scale: f64, zero: i64, values: Vec<Interval>, columns: Vec<usize> },
    /// Sums behind the last layer: each value is `slope * n + offset`.
    Sums { lines: Vec<(Dyadic, Dyadic)>, values: Vec<Interval> },
}

struct Author<'a> {
    model: &'a Model,
    like: Option<&'a NetworkPlan>,
    ops: Vec<Op>,
    origins: Vec<OpOrigin>,
    layers: Vec<usize>,
    levels: Vec<Option<(f64, f64)>>,
}

/// What follows sums or levels up to the next quantisation.
struct Chain {
    /// The layers that it takes.
    count: usize,
    steps: Vec<Step>,
    levels: Levels,
    /// Whether a ReLU follows at once.
    rectified: bool,
}

/// `activation(factor * x + offset)` for each value.
struct Step {
    factors: Vec<(f64, f64)>,
    activation: Activation,
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
        let values = self.rescaled(&all, &domains, 1, OpOrigin::Inputs)?;
        Some(Place::Coded { scale: levels.scale, zero: 0, values, columns })
    }

    /// Writes a quantiser of multiples of `grid` to levels; gives the intervals of the results.
    fn rescaled(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        grid: i64,
        origin: OpOrigin,
    ) -> Option<Vec<Interval>> {
        let planned = match self.like {
            None => None,
            Some(plan) => Some(*plan.evens.get(self.quantisers())?),
        };
        let all = |even: bool, slack: f64| -> Option<(bool, Vec<Rescale>)> {
            let demand = Demand { even, slack, grid };
            let found: Option<Vec<Rescale>> =
                lines.iter().zip(domains).map(|(line, &domain)| rescale(line, domain, demand)).collect();
            Some((even, found?))
        };
        let slack = if self.ops.is_empty() { INPUT_SLACK } else { SUM_SLACK };
        let (even, found) = match planned {
            Some(even) => all(even, 0.0).or_else(|| all(even, slack))?,
            None => all(false, 0.0).or_else(|| all(true, 0.0)).or_else(|| all(false, slack))?,
        };
        let features = found.iter().map(|found| found.one).collect();
        let values: Vec<Interval> = found.iter().map(|found| found.levels).collect();
        self.push(
            Op::Quantise(Quantise { features, output: hull(&values), even }),
            origin,
            lines.first().map(|line| line.levels.scale),
        );
        Some(values)
    }

    /// The same where an integer steps over several levels, so that none may be the one that gives the last level: the
    /// integers are multiplied first.
    fn multiplied(
        &mut self,
        lines: &[Line],
        domains: &[Interval],
        origin: &OpOrigin,
    ) -> Option<Vec<Interval>> {
        let vary = lines.iter().zip(domains).filter(|(_, domain)| domain.low < domain.high);
        let slopes = vary.map(|(line, _)| (line.slope.value() / line.levels.scale).abs());
        let steepest = slopes.fold(0.0, f64::max);
        let bits = (steepest.log2().ceil() + STEP_BITS).clamp(1.0, MOST_STEP_BITS);
        let grid = 1i64 << bits as u8;
        let finer: Vec<Line> = lines
            .iter()
            .map(|line| Some(Line { slope: line.slope.times(Dyadic::of((-bits).exp2()))?, ..line.clone() }))
            .collect::<Option<_>>()?;
        let times = |value: &Interval| {
            Some(Interval { low: value.low.checked_mul(grid)?, high: value.high.checked_mul(grid)? })
        };
        let results: Vec<Interval> = domains.iter().map(times).collect::<Option<_>>()?;
        let one = |domain: &Interval| QuantiseOne {
            low: domain.low,
            high: domain.high,
            multiplier: grid,
            offset: 0,
            shift: 0,
        };
        let features = domains.iter().map(one).collect();
        self.push(
            Op::Quantise(Quantise { features, output: hull(&results), even: false }),
            origin.clone(),
            None,
        );
        let found = self.rescaled(&finer, &results, grid, origin.clone());
        if found.is_none() {
            self.pop();
        }
        found
    }

    fn quantisers(&self) -> usize {
        self.ops.iter().filter(|op| matches!(op, Op::Quantise(_))).count()
    }

    /// Writes an operation, one unit of whose results has this real value.
    fn push(&mut self, op: Op, origin: OpOrigin, unit: Option<f64>) {
        self.ops.push(op);
        self.levels.push(unit.map(|unit| (unit, unit)));
        self.origins.push(origin);
    }

    fn pop(&mut self) {
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
            let chain = self.chain(index)?;
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
        let mut chain = self.chain(index)?;
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

    /// The activations from a layer on, up to levels.
    fn chain(&self, index: usize) -> Option<Chain> {
        let mut steps = Vec::new();
        for (count, layer) in (1..).zip(self.model.layers().iter().skip(index)) {
            let factors = if count == 1 && elementwise(layer).is_none() {
                Vec::new()
            } else {
                let taps = elementwise(layer)?;
                let in_place = taps.iter().map(|(column, _)| *column).eq(0..taps.len());
                in_place.then(|| {
                    taps.iter().zip(&layer.bias).map(|((_, weight), bias)| (*weight, *bias)).collect()
                })?
            };
            steps.push(Step { factors, activation: layer.activation });
            if let Activation::Function(Function::Levels(levels)) = layer.activation {
                let rectified = self.model.layers().get(index + count).is_some_and(leaves_positive);
                return Some(Chain { count: count + usize::from(rectified), steps, levels, rectified });
            }
        }
        None
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
                let (sum, lane) = (weighted_sum(row, bias, values), lane_range(lanes.bits(index)));
                sum.low >= lane.low && sum.high <= lane.high
            })
        };
        dense.lanes = match self.like {
            Some(plan) => {
                let LayerPlan { lanes, .. } = *plan.layers.get(self.layers.len())?;
                fits(lanes).then_some(lanes)?
            }
            None => {
                let cost = |lanes| layer_ns(dense.rows, dense.columns, lanes, false);
                let fitting = EVEN.into_iter().filter(|&lanes| fits(lanes));
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
                    self.push(Op::Quantise(Quantise { features, output, even: false }), origin, Some(scale));
                }
                Some(scale)
            }
            Place::Sums { lines, values } => self.common_scale(&lines, &values, origin),
        }
    }

    /// Sums of different scales, with offsets that are no multiples of them, as multiples of one fine unit.
    fn common_scale(
        &mut self,
        lines: &[(Dyadic, Dyadic)],
        values: &[Interval],
        origin: OpOrigin,
    ) -> Option<f64> {
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
        let results: Vec<Interval> = features
            .iter()
            .map(|one| {
                let ends = [one.accumulate(one.low) >> one.shift, one.accumulate(one.high) >> one.shift];
                let [first, second] = ends;
                Interval { low: first.min(second), high: first.max(second) }
            })
            .collect();
        self.push(
            Op::Quantise(Quantise { output: hull(&results), features, even: false }),
            origin,
            Some(unit),
        );
        Some(unit)
    }
}

impl Chain {
    /// The chain as one line to its levels for each value, each of which starts as a line; `None` when other
    /// functions than one ReLU lie between.
    fn lines(&self, start: &[(Dyadic, Dyadic)]) -> Option<Vec<Line>> {
        let mut lines: Vec<Line> = start
            .iter()
            .map(|&(slope, offset)| Line { slope, offset, levels: self.levels, floor: None })
            .collect();
        // What each value is where the ReLU cuts it off.
        let mut least: Option<Vec<f64>> = None;
        let last = self.steps.len().checked_sub(1)?;
        for (place, step) in self.steps.iter().enumerate() {
            for (line, &(factor, offset)) in lines.iter_mut().zip(&step.factors) {
                line.slope = line.slope.times(Dyadic::of(factor))?;
                line.offset = line.offset.times(Dyadic::of(factor))?.plus(Dyadic::of(offset))?;
            }
            if let Some(least) = &mut least {
                for (least, &(factor, offset)) in least.iter_mut().zip(&step.factors) {
                    *least = (factor > 0.0).then_some(factor * *least + offset)?;
                }
            }
            match step.activation {
                Activation::Identity => {}
                Activation::Relu if least.is_none() => least = Some(vec![0.0; lines.len()]),
                Activation::Function(Function::Levels(_)) if place == last => {}
                Activation::Relu | Activation::Function(_) => return None,
            }
        }
        for (line, least) in lines.iter_mut().zip(least.into_iter().flatten()) {
            line.floor = Some(self.levels.index(least));
        }
        if self.rectified {
            lines.iter_mut().for_each(|line| line.floor = Some(line.floor.map_or(0, |floor| floor.max(0))));
        }
        Some(lines)
    }

    /// Whether every value takes the same way.
    fn uniform(&self) -> bool {
        self.steps.iter().all(|step| step.factors.windows(2).all(|pair| pair.first() == pair.last()))
    }

    /// The level of a real value that enters.
    fn level(&self, value: f64) -> Option<i64> {
        let (last, before) = self.steps.split_last()?;
        let apply = |step: &Step, value: f64| {
            let (factor, offset) = step.factors.first().copied().unwrap_or((1.0, 0.0));
            factor * value + offset
        };
        let value = before.iter().fold(value, |value, step| step.activation.apply(apply(step, value)));
        let level = self.levels.index(apply(last, value));
        Some(if self.rectified { level.max(0) } else { level })
    }
}

/// Whether a layer is nothing but a ReLU.
fn leaves_positive(layer: &model::Dense) -> bool {
    let same = |taps: Vec<(usize, f64)>| {
        taps.len() == layer.weights.columns
            && taps.into_iter().eq((0..).map(|place| (place, 1.0)).take(layer.weights.rows))
    };
    layer.activation == Activation::Relu
        && layer.bias.iter().all(|bias| *bias == 0.0)
        && elementwise(layer).is_some_and(same)
}

/// The only column that each row reads, with its weight; `None` when a row reads several, or two rows the same.
fn elementwise(layer: &model::Dense) -> Option<Vec<(usize, f64)>> {
    let mut seen = vec![false; layer.weights.columns];
    (0..layer.weights.rows)
        .map(|row| {
            let mut read = layer.weights.row(row).iter().enumerate().filter(|(_, weight)| **weight != 0.0);
            let (column, &weight) = read.next()?;
            let once = read.next().is_none() && !std::mem::replace(seen.get_mut(column)?, true);
            once.then_some((column, weight))
        })
        .collect()
}

const fn moved(value: Interval, distance: i64) -> Interval {
    Interval { low: value.low + distance, high: value.high + distance }
}

fn hull(values: &[Interval]) -> Interval {
    Interval {
        low: values.iter().map(|value| value.low).min().unwrap_or(0),
        high: values.iter().map(|value| value.high).max().unwrap_or(0),
    }
}
