//! Affine maps of a stage's values: what scalers and dense layers without activation amount to.
//!
//! Everything folds in double precision. Scalers stay apart from a dense map that follows, because the
//! input quantiser needs each feature's scale.

use super::limits::{MAX_FOLD_PRODUCTS, MAX_TENSOR_ELEMENTS};
use crate::diag::NodeRef;
use crate::model::{Matrix, Normalise};

/// How far, relative to the largest number, results of the same steps in another order lie apart.
const ROUNDING: f64 = 1e-9;

/// Position in the importer's list of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct StageId(pub(crate) usize);

/// `dense(normalise(pick(stage)))`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Affine {
    pub(crate) stage: StageId,
    pub(crate) taps: Vec<Tap>,
    /// `None` stands for the identity.
    pub(crate) dense: Option<DenseMap>,
}

/// One value of the stage, scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Tap {
    pub(crate) source: usize,
    pub(crate) normalise: Normalise,
}

/// `weights · x + bias`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DenseMap {
    /// The node that multiplies.
    pub(crate) node: NodeRef,
    /// Whether the map only moves values about, so that a layer that follows has the name of its own.
    pub(crate) moves: bool,
    pub(crate) weights: Matrix,
    pub(crate) bias: Vec<f64>,
}

/// `y[i] = scale[i] * x[i] + offset[i]`; how it is written down decides what stays exact.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Step {
    Add(f64),
    Multiply(f64),
}

impl Affine {
    /// The values of a stage as they are.
    pub(crate) fn of_stage(stage: StageId, width: usize) -> Self {
        let tap = |source| Tap { source, normalise: Normalise::IDENTITY };
        Self { stage, taps: (0..width).map(tap).collect(), dense: None }
    }

    pub(crate) fn width(&self) -> usize {
        self.dense.as_ref().map_or(self.taps.len(), |dense| dense.bias.len())
    }

    /// Numbers that it holds, in memory: a tap has a source and three of its own.
    pub(crate) fn numbers_held(&self) -> usize {
        let dense = self.dense.as_ref().map_or(0, |dense| dense.weights.values.len() + dense.bias.len());
        4 * self.taps.len() + dense
    }

    /// A number that equal maps share, and others hardly.
    pub(crate) fn fingerprint(&self) -> u64 {
        // The two zeros are equal.
        let bits = |value: &f64| (value + 0.0).to_bits();
        let taps = self.taps.iter().flat_map(|tap| {
            let Normalise { centre, scale, offset } = tap.normalise;
            [tap.source as u64, bits(&centre), bits(&scale), bits(&offset)]
        });
        let dense =
            self.dense.iter().flat_map(|dense| dense.weights.values.iter().chain(&dense.bias).map(bits));
        // FNV-1a by words, with the high bits folded in.
        let mix = |hash: u64, word: u64| {
            let hash = (hash ^ word).wrapping_mul(0x0000_0100_0000_01b3);
            hash ^ (hash >> 32)
        };
        taps.chain(dense).fold(mix(0xcbf2_9ce4_8422_2325, self.stage.0 as u64), mix)
    }

    /// Applies one step per value; there are as many as values.
    pub(crate) fn elementwise(&self, steps: &[Step]) -> Self {
        let mut result = self.clone();
        match &mut result.dense {
            None => {
                for (tap, step) in result.taps.iter_mut().zip(steps) {
                    tap.normalise = then(tap.normalise, *step);
                }
            }
            Some(dense) => {
                let columns = dense.weights.columns.max(1);
                let rows = dense.weights.values.chunks_mut(columns);
                for ((row, bias), step) in rows.zip(&mut dense.bias).zip(steps) {
                    match step {
                        Step::Add(value) => *bias += value,
                        Step::Multiply(value) => {
                            row.iter_mut().for_each(|weight| *weight *= value);
                            *bias *= value;
                        }
                    }
                }
            }
        }
        result
    }

    /// `weights · self`; `weights.columns` is the width. `None` when folding would be too large.
    pub(crate) fn multiplied(&self, weights: Matrix, node: &NodeRef) -> Option<Self> {
        self.mapped(weights, node, false)
    }

    /// [`Affine::multiplied`] for a matrix that is not a layer of the model.
    pub(crate) fn moved(&self, weights: Matrix, node: &NodeRef) -> Option<Self> {
        self.mapped(weights, node, true)
    }

    fn mapped(&self, weights: Matrix, node: &NodeRef, moves: bool) -> Option<Self> {
        let mut result = self.clone();
        let rows = weights.rows;
        result.dense = Some(match &self.dense {
            None => DenseMap { node: node.clone(), moves, weights, bias: vec![0.0; rows] },
            Some(inner) => {
                let (node, moves) = if inner.moves { (node, moves) } else { (&inner.node, false) };
                compose(&weights, inner, node, moves)?
            }
        });
        Some(result)
    }

    /// The values at these positions; `None` when one does not exist.
    pub(crate) fn picked(&self, positions: &[usize]) -> Option<Self> {
        let mut result = self.clone();
        match &self.dense {
            None => {
                result.taps = positions
                    .iter()
                    .map(|&position| self.taps.get(position).copied())
                    .collect::<Option<_>>()?;
            }
            Some(dense) => {
                let mut values = Vec::new();
                for &position in positions {
                    if position >= dense.weights.rows {
                        return None;
                    }
                    values.extend_from_slice(dense.weights.row(position));
                }
                let bias: Option<Vec<f64>> =
                    positions.iter().map(|&position| dense.bias.get(position).copied()).collect();
                let weights = Matrix { rows: positions.len(), columns: dense.weights.columns, values };
                result.dense = Some(DenseMap { weights, bias: bias?, ..dense.clone() });
            }
        }
        Some(result)
    }

    /// The values of both, one after the other; `None` unless both read the same stage in the same way.
    pub(crate) fn joined(&self, other: &Self) -> Option<Self> {
        if self.stage != other.stage {
            return None;
        }
        let mut result = self.clone();
        match (&mut result.dense, &other.dense) {
            (None, None) => result.taps.extend_from_slice(&other.taps),
            (Some(dense), Some(more)) if self.taps == other.taps => {
                dense.weights.values.extend_from_slice(&more.weights.values);
                dense.weights.rows += more.weights.rows;
                dense.bias.extend_from_slice(&more.bias);
            }
            (Some(_), Some(_)) | (None, Some(_)) | (Some(_), None) => return None,
        }
        Some(result)
    }

    /// All values times one factor.
    pub(crate) fn scaled(&self, factor: f64) -> Self {
        if factor == 1.0 {
            self.clone()
        } else {
            self.elementwise(&vec![Step::Multiply(factor); self.width()])
        }
    }

    /// One number added to all values.
    pub(crate) fn shifted(&self, by: f64) -> Self {
        if by == 0.0 { self.clone() } else { self.elementwise(&vec![Step::Add(by); self.width()]) }
    }

    /// The values, where none of them depends on what is read: layers of zero weights have but their bias.
    pub(crate) fn constants(&self) -> Option<Vec<f64>> {
        let zero = |value: &f64| *value == 0.0;
        match &self.dense {
            None => {
                let fixed = self.taps.iter().all(|tap| zero(&tap.normalise.scale));
                fixed.then(|| self.taps.iter().map(|tap| tap.normalise.offset).collect())
            }
            Some(dense) => dense.weights.values.iter().all(zero).then(|| dense.bias.clone()),
        }
    }

    /// The numbers `k` and `c` with `other = k * self + c` for every value, up to rounding in double precision.
    pub(crate) fn related(&self, other: &Self) -> Option<(f64, f64)> {
        let same = self.stage == other.stage && self.width() == other.width() && self.width() > 0;
        let (slopes, constants) = self.numbers();
        let (others, shifts) = other.numbers();
        let readers = |affine: &Self| match affine.dense {
            None => affine.taps.iter().map(|tap| tap.source).collect(),
            Some(_) => Vec::new(),
        };
        let read = match (&self.dense, &other.dense) {
            (None, None) => readers(self) == readers(other),
            (Some(_), Some(_)) => self.taps == other.taps,
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !same || !read || slopes.len() != others.len() {
            return None;
        }
        let pairs = || slopes.iter().zip(&others);
        let (slope, other_slope) = pairs().max_by(|a, b| a.0.abs().total_cmp(&b.0.abs()))?;
        let factor = other_slope / slope;
        if !factor.is_finite() || factor == 0.0 {
            return None;
        }
        let largest =
            slopes.iter().chain(&constants).fold(0.0_f64, |largest, value| largest.max(value.abs()));
        let near = |wanted: f64, value: f64| (wanted - value).abs() <= ROUNDING * largest * factor.abs();
        let shift = shifts.first()? - factor * constants.first()?;
        let shift = if near(shift, 0.0) { 0.0 } else { shift };
        let fits = pairs().all(|(slope, other)| near(factor * slope, *other))
            && constants.iter().zip(&shifts).all(|(constant, other)| near(factor * constant + shift, *other));
        fits.then_some((factor, shift))
    }

    /// `scale` and `offset` when the map is `scale * x + offset` of each of so many values of its stage, in order.
    pub(crate) fn of_each(&self, width: usize) -> Option<(f64, f64)> {
        Self::of_stage(self.stage, width).related(self)
    }

    /// What each value is multiplied with, and the constants, with scalers multiplied out where there is no dense map.
    fn numbers(&self) -> (Vec<f64>, Vec<f64>) {
        match &self.dense {
            None => {
                let slopes = self.taps.iter().map(|tap| tap.normalise.scale).collect();
                let constant = |tap: &Tap| tap.normalise.offset - tap.normalise.centre * tap.normalise.scale;
                (slopes, self.taps.iter().map(constant).collect())
            }
            Some(dense) => (dense.weights.values.clone(), dense.bias.clone()),
        }
    }

    /// The sum of two maps; `None` unless both are dense maps of the same values.
    pub(crate) fn sum(&self, other: &Self) -> Option<Self> {
        if self.stage != other.stage || self.taps != other.taps || self.width() != other.width() {
            return None;
        }
        let mut result = self.clone();
        match (&mut result.dense, &other.dense) {
            (Some(dense), Some(more)) => {
                for (value, added) in dense.weights.values.iter_mut().zip(&more.weights.values) {
                    *value += added;
                }
                for (value, added) in dense.bias.iter_mut().zip(&more.bias) {
                    *value += added;
                }
                Some(result)
            }
            (None, None) => Some(self.elementwise(&vec![Step::Multiply(2.0); self.width()])),
            (None, Some(_)) | (Some(_), None) => None,
        }
    }
}

/// `normalise`, then a step.
fn then(normalise: Normalise, step: Step) -> Normalise {
    let Normalise { centre, scale, offset } = normalise;
    match step {
        // A scaler's mean stays a centre: subtracting it before scaling is what the exporter wrote.
        Step::Add(value) if scale == 1.0 && offset == 0.0 => {
            Normalise { centre: centre - value, scale, offset }
        }
        Step::Add(value) => Normalise { centre, scale, offset: offset + value },
        Step::Multiply(value) => Normalise { centre, scale: scale * value, offset: offset * value },
    }
}

/// `outer · (inner.weights · x + inner.bias)`.
fn compose(outer: &Matrix, inner: &DenseMap, node: &NodeRef, moves: bool) -> Option<DenseMap> {
    let columns = inner.weights.columns;
    let size = outer.rows.checked_mul(columns)?;
    let products = size.checked_mul(outer.columns)?;
    if size > MAX_TENSOR_ELEMENTS || products > MAX_FOLD_PRODUCTS {
        return None;
    }
    let mut values = vec![0.0; size];
    let mut bias = Vec::with_capacity(outer.rows);
    for (row, sums) in values.chunks_mut(columns.max(1)).enumerate() {
        let mut constant = 0.0;
        for (position, weight) in outer.row(row).iter().enumerate() {
            for (sum, value) in sums.iter_mut().zip(inner.weights.row(position)) {
                *sum += weight * value;
            }
            constant += weight * inner.bias.get(position).copied().unwrap_or(0.0);
        }
        bias.push(constant);
    }
    let weights = Matrix { rows: outer.rows, columns, values };
    Some(DenseMap { node: node.clone(), moves, weights, bias })
}
