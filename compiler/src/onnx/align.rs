//! Two values that read different stages, brought onto one: skip connections and residual additions.
//!
//! A value of an earlier stage is carried past an activation: `v = relu(v) - relu(-v)`, and `v = relu(v)` where `v`
//! is known not to be negative. It thus costs one or two neurons in each layer that it passes, and every result is a
//! plain chain of wider layers.

use std::collections::BTreeMap;

use super::affine::{Affine, StageId, Step, Tap};
use super::limits::MAX_TENSOR_ELEMENTS;
use super::value::{Stage, Stages};
use crate::diag::NodeRef;
use crate::model::{Activation, Matrix};

/// Both maps over one stage; `None` when that would be too large or an activation lies between that carries nothing.
pub(crate) fn aligned(
    stages: &mut Stages,
    left: &Affine,
    right: &Affine,
    node: &NodeRef,
) -> Option<(Affine, Affine)> {
    if left.stage == right.stage {
        return Some((left.clone(), right.clone()));
    }
    if stages.depth(left.stage) > stages.depth(right.stage) {
        let (right, left) = aligned(stages, right, left, node)?;
        return Some((left, right));
    }
    let carried = Carried::of(stages, left);
    let (later, vector) = lifted(stages, &carried.vector, right.stage, node)?;
    Some((carried.outer(&vector, left, node)?, substituted(right, &later, node)?))
}

/// The values of both, one after the other.
pub(crate) fn joined(stages: &mut Stages, left: &Affine, right: &Affine, node: &NodeRef) -> Option<Affine> {
    let (left, right) = aligned(stages, left, right, node)?;
    left.joined(&right).or_else(|| {
        let (left, right) = united(&left, &right, node)?;
        left.joined(&right)
    })
}

/// The sum of two maps of as many values.
pub(crate) fn sum(stages: &mut Stages, left: &Affine, right: &Affine, node: &NodeRef) -> Option<Affine> {
    let (left, right) = aligned(stages, left, right, node)?;
    left.sum(&right).or_else(|| {
        let (left, right) = united(&left, &right, node)?;
        left.sum(&right)
    })
}

/// What of a map is carried: its own values, or the values that it reads, whichever are fewer neurons.
struct Carried {
    vector: Affine,
    /// Whether the map is still to be applied.
    inner: bool,
}

impl Carried {
    fn of(stages: &Stages, map: &Affine) -> Self {
        let read = Affine { dense: None, ..map.clone() };
        let neurons = |vector: &Affine| vector.width() * if is_positive(stages, vector) { 1 } else { 2 };
        if map.dense.is_some() && neurons(&read) < neurons(map) {
            Self { vector: read, inner: true }
        } else {
            Self { vector: map.clone(), inner: false }
        }
    }

    /// The map over the carried values.
    fn outer(&self, carried: &Affine, map: &Affine, node: &NodeRef) -> Option<Affine> {
        match map.dense.as_ref().filter(|_| self.inner) {
            None => Some(carried.clone()),
            Some(dense) => {
                let steps: Vec<Step> = dense.bias.iter().copied().map(Step::Add).collect();
                let moves = if dense.moves { Affine::moved } else { Affine::multiplied };
                let node = if dense.moves { node } else { &dense.node };
                Some(moves(carried, dense.weights.clone(), node)?.elementwise(&steps))
            }
        }
    }
}

/// The values of a stage and a vector of an earlier one, both over one stage.
fn lifted(stages: &mut Stages, vector: &Affine, stage: StageId, node: &NodeRef) -> Option<(Affine, Affine)> {
    let Stage::Activated { before, activation: Activation::Relu, node: own } = stages.get(stage).clone()
    else {
        return None;
    };
    let width = before.width();
    if stages.depth(vector.stage) < stages.depth(stage) {
        let (before, vector) = aligned(stages, &before, vector, node)?;
        let one_sided = is_positive(stages, &vector);
        let count = vector.width();
        let mut all = joined(stages, &before, &vector, node)?;
        if !one_sided {
            let negative = vector.elementwise(&vec![Step::Multiply(-1.0); count]);
            all = joined(stages, &all, &negative, node)?;
        }
        let values = activated(stages, &all, own)?;
        let (later, carried) = (part(&values, 0, width)?, part(&values, width, count)?);
        if one_sided {
            return Some((later, carried));
        }
        let negative = part(&values, width + count, count)?.elementwise(&vec![Step::Multiply(-1.0); count]);
        let (positive, negative) = united(&carried, &negative, node)?;
        return Some((later, positive.sum(&negative)?));
    }
    // As late as the other: both activations become one.
    let Stage::Activated { before: other, activation: Activation::Relu, .. } =
        stages.get(vector.stage).clone()
    else {
        return None;
    };
    let all = joined(stages, &before, &other, node)?;
    let values = activated(stages, &all, own)?;
    let theirs = part(&values, width, other.width())?;
    Some((part(&values, 0, width)?, substituted(vector, &theirs, node)?))
}

/// A new stage of rectified values, equal ones once.
fn activated(stages: &mut Stages, before: &Affine, node: NodeRef) -> Option<Affine> {
    let mut known: BTreeMap<Vec<u64>, usize> = BTreeMap::new();
    let mut distinct = Vec::new();
    let mut positions = Vec::with_capacity(before.width());
    for value in 0..before.width() {
        let numbers: Vec<f64> = match &before.dense {
            None => before.taps.get(value).map(|tap| numbers(tap).to_vec()).unwrap_or_default(),
            Some(dense) => dense.weights.row(value).iter().chain(dense.bias.get(value)).copied().collect(),
        };
        let place = *known.entry(numbers.into_iter().map(f64::to_bits).collect()).or_insert_with(|| {
            distinct.push(value);
            distinct.len() - 1
        });
        positions.push(place);
    }
    let before = Box::new(before.picked(&distinct)?);
    let activation = Activation::Relu;
    let stage = stages.push(Stage::Activated { before, activation, node });
    Affine::of_stage(stage, distinct.len()).picked(&positions)
}

const fn numbers(tap: &Tap) -> [f64; 4] {
    let by = tap.normalise;
    [tap.source as f64, by.centre, by.scale, by.offset]
}

fn part(values: &Affine, start: usize, count: usize) -> Option<Affine> {
    values.picked(&(start..start + count).collect::<Vec<usize>>())
}

/// A map of a stage, over what the values of that stage are elsewhere.
fn substituted(map: &Affine, values: &Affine, node: &NodeRef) -> Option<Affine> {
    let sources: Vec<usize> = map.taps.iter().map(|tap| tap.source).collect();
    let steps = |step: fn(&Tap) -> Step| map.taps.iter().map(step).collect::<Vec<Step>>();
    let read = values
        .picked(&sources)?
        .elementwise(&steps(|tap| Step::Add(-tap.normalise.centre)))
        .elementwise(&steps(|tap| Step::Multiply(tap.normalise.scale)))
        .elementwise(&steps(|tap| Step::Add(tap.normalise.offset)));
    Carried { vector: read.clone(), inner: true }.outer(&read, map, node)
}

/// Whether no value of a map can be negative: non-negative parts of rectified values.
fn is_positive(stages: &Stages, map: &Affine) -> bool {
    let rectified = matches!(stages.get(map.stage), Stage::Activated { activation: Activation::Relu, .. });
    let taps = map.taps.iter().map(|tap| tap.normalise);
    let read = taps.into_iter().all(|by| by.scale >= 0.0 && by.offset - by.centre * by.scale >= 0.0);
    let dense = map
        .dense
        .as_ref()
        .is_none_or(|dense| dense.weights.values.iter().chain(&dense.bias).all(|value| *value >= 0.0));
    rectified && read && dense
}

/// Both maps of one stage as dense maps of the same taps.
fn united(left: &Affine, right: &Affine, node: &NodeRef) -> Option<(Affine, Affine)> {
    let mut taps: Vec<Tap> = Vec::new();
    for tap in left.taps.iter().chain(&right.taps) {
        if !taps.contains(tap) {
            taps.push(*tap);
        }
    }
    Some((widened(left, &taps, node)?, widened(right, &taps, node)?))
}

/// The map as a dense one of more taps.
fn widened(map: &Affine, taps: &[Tap], node: &NodeRef) -> Option<Affine> {
    let places: Vec<usize> =
        map.taps.iter().map(|tap| taps.iter().position(|other| other == tap)).collect::<Option<_>>()?;
    let (rows, columns) = (map.width(), taps.len());
    let size = rows.checked_mul(columns).filter(|&size| size <= MAX_TENSOR_ELEMENTS)?;
    let mut values = vec![0.0; size];
    for (row, weights) in values.chunks_mut(columns.max(1)).enumerate() {
        let mut put = |tap: usize, weight: f64| {
            let place = places.get(tap).and_then(|&place| weights.get_mut(place));
            if let Some(slot) = place {
                *slot += weight;
            }
        };
        match &map.dense {
            None => put(row, 1.0),
            Some(dense) => {
                dense.weights.row(row).iter().enumerate().for_each(|(tap, &weight)| put(tap, weight));
            }
        }
    }
    let matrix = Matrix { rows, columns, values };
    let base = Affine { stage: map.stage, taps: taps.to_vec(), dense: None };
    let result = match &map.dense {
        Some(dense) if !dense.moves => base.multiplied(matrix, &dense.node)?,
        _ => base.moved(matrix, node)?,
    };
    let bias = map.dense.as_ref().map(|dense| dense.bias.iter().copied().map(Step::Add).collect::<Vec<_>>());
    Some(match bias {
        Some(bias) => result.elementwise(&bias),
        None => result,
    })
}
