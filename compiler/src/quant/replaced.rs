//! Models that replace a value of a feature, such as imputers of a number.
//!
//! Everything else in quantisation works on features as they are behind that: with more fraction bits where what is put
//! in place needs them, and rows in which values are replaced. Afterwards the input quantiser is taken back to the
//! features that arrive: it looks for the value, and gives the result of what is put in its place.

use super::contract::Contract;
use super::cost::network_ns;
use super::{Calibration, NetworkPlan, Quantised};
use crate::check::MOST_RAW;
use crate::diag::codes::quant::{NO_FIT, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{FractionBits, Input, Interval, Network, Op, OpOrigin, Quantise, QuantiseOne, Replaced};
use crate::model::forest::Node;
use crate::model::{self, Activation, Body, Function, Model};

/// Most fraction bits of a feature, and bits of its range, with those that a replacement adds.
const MOST_FRACTION_BITS: u8 = 40;
const MOST_RANGE_BITS: u32 = 52;

/// One value of a feature that is replaced, in raw units.
#[derive(Debug, Clone, Copy)]
struct Swap {
    feature: usize,
    /// Raw values that the node takes for the value.
    first: i64,
    last: i64,
    /// Fraction bits that are added.
    finer: u8,
    /// What is put in place, with them.
    to: i64,
}

/// A model and its features behind the replacement.
pub(super) struct Behind {
    pub(super) model: Model,
    pub(super) contract: Contract,
    rows: Option<Vec<i64>>,
    swaps: Vec<Swap>,
    /// Features as they arrive.
    inputs: Vec<Input>,
}

impl Behind {
    /// `None` where no value that can arrive is replaced.
    ///
    /// # Errors
    ///
    /// `E0309` when what is put in place cannot be told from a threshold of a tree, `E0312` when the code of `like`
    /// replaces values of other features.
    pub(super) fn of(
        model: &Model,
        contract: &Contract,
        calibration: Option<Calibration<'_>>,
        like: Option<&NetworkPlan>,
    ) -> Outcome<Option<Self>> {
        let mut swaps = Vec::new();
        for replaced in &model.replaced {
            if let Some(input) = contract.inputs.get(replaced.column.source) {
                swaps.extend(swap(model, contract, replaced, input)?);
            }
        }
        swaps.sort_by_key(|swap| swap.feature);
        if like.is_some_and(|plan| !plan.replaced.iter().eq(swaps.iter().map(|swap| &swap.feature))) {
            return Err(vec![Diagnostic::new(
                &SHAPE,
                Origin::File { file: contract.model.clone() },
                "the model replaces values of other features than the object",
                "compile the model anew; only a model with the same imputers can replace another",
            )]);
        }
        if swaps.is_empty() {
            return Ok(None);
        }
        let mut behind = Contract { grid: vec![0; contract.inputs.len()], ..contract.clone() };
        for swap in &swaps {
            if let Some(input) = behind.inputs.get_mut(swap.feature) {
                let Interval { low, high } = input.range;
                input.fraction_bits = FractionBits(input.fraction_bits.0.saturating_add(swap.finer));
                let (low, high) = (low << swap.finer, high << swap.finer);
                // What is put in place may lie outside, as may the multiple of a whole unit next to it.
                let (down, up) = (floor(swap.to, swap.finer), ceil(swap.to, swap.finer));
                input.range = Interval { low: low.min(down), high: high.max(up) };
            }
            if let Some(grid) = behind.grid.get_mut(swap.feature) {
                *grid = swap.finer;
            }
        }
        let rows = calibration.map(|calibration| rows(calibration.rows, contract.inputs.len(), &swaps));
        let model = Model { replaced: Vec::new(), ..model.clone() };
        Ok(Some(Self { model, contract: behind, rows, swaps, inputs: contract.inputs.clone() }))
    }

    /// The rows to calibrate on.
    pub(super) fn calibration(&self) -> Option<Calibration<'_>> {
        self.rows.as_deref().map(|rows| Calibration { rows })
    }

    /// A network over the features as they arrive.
    pub(super) fn restored(&self, mut quantised: Quantised) -> Outcome<Quantised> {
        let network = &mut quantised.network;
        if !matches!(network.ops.first(), Some(Op::Quantise(_))) {
            network.ops.insert(0, Op::Quantise(unchanged(&self.contract.inputs)));
            network.origins.insert(0, OpOrigin::Inputs);
        }
        if self.looked_for(network).is_none() {
            return Err(vec![Diagnostic::new(
                &NO_FIT,
                Origin::File { file: self.contract.model.clone() },
                "no quantiser of a feature of which a value is replaced fits",
                "narrow the feature's range in the specification",
            )]);
        }
        network.inputs.clone_from(&self.inputs);
        quantised.report.predicted_ns = network_ns(network);
        for (report, input) in quantised.report.inputs.iter_mut().zip(&self.inputs) {
            report.fraction_bits = input.fraction_bits.0;
        }
        Ok(quantised)
    }

    /// Lets the input quantiser look for the values; `None` where a number leaves 64 bits.
    fn looked_for(&self, network: &mut Network) -> Option<()> {
        let Some(Op::Quantise(quantise)) = network.ops.first_mut() else { return None };
        for &Swap { feature, first, last, finer, to } in &self.swaps {
            let one = *quantise.features.get(feature)?;
            let to = quantise.round(&one, one.accumulate(to));
            quantise.output.low = quantise.output.low.min(to);
            quantise.output.high = quantise.output.high.max(to);
            quantise.replaced.push(Replaced { feature, first, last, to });
            *quantise.features.get_mut(feature)? = QuantiseOne {
                low: one.low >> finer,
                high: one.high >> finer,
                multiplier: one.multiplier.checked_mul(1 << finer)?,
                ..one
            };
        }
        Some(())
    }
}

/// The greatest multiple of `2^bits` that is not above a value, and the least that is not below it.
const fn floor(value: i64, bits: u8) -> i64 {
    value >> bits << bits
}

const fn ceil(value: i64, bits: u8) -> i64 {
    -floor(-value, bits)
}

/// The clamping range of a feature whose values are multiples of `2^grid`, in such multiples.
pub(super) const fn on_grid(range: Interval, grid: u8) -> Interval {
    let low = ceil(range.low, grid);
    let high = floor(range.high, grid);
    // A range without a multiple has one on either side.
    if low <= high { Interval { low, high } } else { Interval { low: high, high: low } }
}

/// A quantiser that does nothing but clamp.
fn unchanged(inputs: &[Input]) -> Quantise {
    let features = inputs.iter().map(|input| QuantiseOne {
        low: input.range.low.max(-MOST_RAW),
        high: input.range.high.min(MOST_RAW),
        multiplier: 1,
        offset: 0,
        shift: 0,
    });
    let output = Interval { low: -MOST_RAW, high: MOST_RAW };
    Quantise { features: features.collect(), output, even: false, replaced: Vec::new() }
}

/// `None` where no raw value of the feature is taken for the value.
fn swap(
    model: &Model,
    contract: &Contract,
    replaced: &model::Replaced,
    input: &Input,
) -> Outcome<Option<Swap>> {
    let unit = super::float::unit(input);
    let range = Interval { low: input.range.low.max(-MOST_RAW), high: input.range.high.min(MOST_RAW) };
    let rising = replaced.column.normalise.scale > 0.0;
    let seen = |raw: i64| replaced.column.value(raw as f64 * unit);
    // Rounding is monotonic, so that the raw values taken for one number lie side by side.
    let beyond = |raw: i64| if rising { seen(raw) > replaced.value } else { seen(raw) < replaced.value };
    let first = first_of(range, |raw| beyond(raw) || seen(raw) == replaced.value);
    let last = first_of(range, beyond) - 1;
    let (Ok(first), Ok(last)) = (i64::try_from(first), i64::try_from(last)) else { return Ok(None) };
    if first > last {
        return Ok(None);
    }
    let finer = finer(model, replaced.by, input);
    let real = replaced.by * f64::from(input.fraction_bits.0 + finer).exp2();
    let column = |raw: f64| raw / f64::from(input.fraction_bits.0 + finer).exp2();
    let mut candidates = [real.round(), real.floor(), real.ceil()].into_iter();
    let to = candidates.find(|raw| decides_alike(model, replaced, column(*raw)));
    let to = to.ok_or_else(|| {
        vec![Diagnostic::new(
            &NO_FIT,
            Origin::Node { file: contract.model.clone(), node: replaced.origin.clone() },
            format!(
                "{} lies between two thresholds that are less than a step of the feature apart",
                replaced.by
            ),
            "impute a number that the feature can have, or give the feature more fraction bits",
        )]
    })?;
    // The conversion saturates.
    let to = (to as i64).clamp(-MOST_RAW, MOST_RAW);
    Ok(Some(Swap { feature: replaced.column.source, first, last, finer, to }))
}

/// The first number of a range for which something holds that holds from some number on; one behind it for none.
fn first_of(range: Interval, holds: impl Fn(i64) -> bool) -> i128 {
    let (mut low, mut high) = (i128::from(range.low), i128::from(range.high) + 1);
    while low < high {
        let middle = (low + high).div_euclid(2);
        if i64::try_from(middle).is_ok_and(&holds) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// Fraction bits to add so that a number is a raw value, as far as the feature's range leaves room.
fn finer(model: &Model, number: f64, input: &Input) -> u8 {
    // Levels of a model with quantisation of its own are kept for whole raw values only.
    let has_levels = model
        .layers()
        .iter()
        .any(|layer| matches!(layer.activation, Activation::Function(Function::Levels(_))));
    if has_levels {
        return 0;
    }
    let Interval { low, high } = input.range;
    let magnitude = low.unsigned_abs().max(high.unsigned_abs()).max(1).ilog2() + 1;
    let room = MOST_RANGE_BITS.saturating_sub(magnitude);
    let room = room.min(u32::from(MOST_FRACTION_BITS.saturating_sub(input.fraction_bits.0))) as u8;
    let whole = |bits: &u8| (number * f64::from(input.fraction_bits.0 + bits).exp2()).fract() == 0.0;
    (0..=room).find(whole).unwrap_or(room)
}

/// Whether no tree tells a number from the one that it is rounded to.
fn decides_alike(model: &Model, replaced: &model::Replaced, rounded: f64) -> bool {
    let Body::Forest(forest) = &model.body else { return true };
    let nodes = forest.trees.iter().flat_map(|tree| &tree.nodes);
    nodes.into_iter().all(|node| match node {
        Node::Leaf { .. } => true,
        Node::Branch { column, threshold, .. } => {
            let own = forest.columns.get(*column).filter(|own| own.source == replaced.column.source);
            own.is_none_or(|own| (own.value(replaced.by) <= *threshold) == (own.value(rounded) <= *threshold))
        }
    })
}

/// Rows behind the replacement; values beyond what can arrive are the nearest that can.
fn rows(rows: &[i64], width: usize, swaps: &[Swap]) -> Vec<i64> {
    let mut rows = rows.to_vec();
    for row in rows.chunks_mut(width.max(1)) {
        for swap in swaps {
            if let Some(value) = row.get_mut(swap.feature) {
                let most = MOST_RAW >> swap.finer;
                *value = if (swap.first..=swap.last).contains(value) {
                    swap.to
                } else {
                    (*value).clamp(-most, most) << swap.finer
                };
            }
        }
    }
    rows
}

#[cfg(test)]
#[path = "replaced_tests.rs"]
mod tests;
