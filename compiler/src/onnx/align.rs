//! Two values that read different stages, brought onto one: skip connections and residual additions.
//!
//! A value of an earlier stage is carried past ReLU: `v = relu(v) - relu(-v)`, and `v = relu(v)` where `v` is known
//! not to be negative. Past another activation it goes as a value to which the layer applies none. It thus costs one
//! or two neurons in each layer that it passes, and every result is a plain chain of wider layers.

use std::collections::BTreeMap;

use super::affine::{Affine, StageId, Step, Tap};
use super::limits::MAX_TENSOR_ELEMENTS;
use super::value::{Stage, Stages};
use crate::diag::NodeRef;
use crate::model::{Activation, Matrix};

/// Deepest nesting of steps that wait for others below. Skip connections past activations of one kind need none,
/// however many they pass.
const MOST_NESTED: usize = 64;

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
    // What was brought together before is not brought together again.
    if let Some(right) = held(stages, right, left.stage, node) {
        return Some((left.clone(), right));
    }
    if let Some(left) = held(stages, left, right.stage, node) {
        return Some((left, right.clone()));
    }
    if let Some(there) = stages.holdings.meeting(left.stage, right.stage) {
        return Some((held(stages, left, there, node)?, held(stages, right, there, node)?));
    }
    if stages.depth(left.stage) > stages.depth(right.stage) {
        let (right, left) = aligned(stages, right, left, node)?;
        return Some((left, right));
    }
    let carried = Carried::of(stages, left);
    let (later, vector) = lifted(stages, &carried.vector, right.stage, node)?;
    Some((carried.outer(&vector, left, node)?, substituted(right, &later, node)?))
}

/// A map over a stage that is known to hold what it reads.
fn held(stages: &Stages, map: &Affine, there: StageId, node: &NodeRef) -> Option<Affine> {
    if map.stage == there {
        return Some(map.clone());
    }
    if let Some(part) = stages.holdings.part(map, there) {
        return Some(part.clone());
    }
    let read = Affine { dense: None, ..map.clone() };
    if let Some(part) = stages.holdings.part(&read, there) {
        return Carried { vector: read, inner: true }.outer(part, map, node);
    }
    let way = stages.holdings.whole(map.stage, there)?;
    way.into_iter().try_fold(map.clone(), |map, next| substituted(&map, next, node))
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

/// The values of a stage and a vector of one that is no later, both over one stage.
fn lifted(stages: &mut Stages, vector: &Affine, stage: StageId, node: &NodeRef) -> Option<(Affine, Affine)> {
    if stages.nested >= MOST_NESTED {
        return None;
    }
    stages.nested += 1;
    let result = brought(stages, vector, stage, node);
    stages.nested -= 1;
    result
}

fn brought(stages: &mut Stages, vector: &Affine, stage: StageId, node: &NodeRef) -> Option<(Affine, Affine)> {
    let own = Layer::of(stages, stage)?;
    let width = own.before.width();
    if let Some(vector) = held(stages, vector, stage, node) {
        return Some((Affine::of_stage(stage, width), vector));
    }
    if stages.depth(vector.stage) < stages.depth(stage) {
        return carried(stages, vector, stage, node);
    }
    let other = Layer::of(stages, vector.stage)?;
    if own.activation != other.activation {
        // One after the other, the first carried past the second.
        let (later, before) = lifted(stages, &other.before, stage, node)?;
        let theirs = activated(stages, &Layer { before, ..other })?;
        let vector = substituted(vector, &theirs, node)?;
        return aligned(stages, &later, &vector, node);
    }
    // Branches of the same activations become one from the earliest on.
    let mut pairs = vec![(stage, vector.stage)];
    while let Some(below) = pairs.last().and_then(|&pair| apart(stages, pair)) {
        pairs.push(below);
    }
    let mut both = None;
    for (first, second) in pairs.into_iter().rev() {
        both = Some(merged(stages, first, second, node)?);
    }
    let (ours, theirs) = both?;
    Some((ours, substituted(vector, &theirs, node)?))
}

/// What two stages read, where these are stages of one depth and activation as well that nothing has brought together.
fn apart(stages: &Stages, (first, second): (StageId, StageId)) -> Option<(StageId, StageId)> {
    let (first, second) = (Layer::read(stages, first)?, Layer::read(stages, second)?);
    let activation = |stage: StageId| match stages.get(stage) {
        Stage::Activated { activation, .. } => Some(*activation),
        Stage::Inputs | Stage::Open { .. } | Stage::Trees { .. } => None,
    };
    let together = || {
        let holdings = &stages.holdings;
        holdings.meeting(first, second).is_some()
            || holdings.whole(first, second).is_some()
            || holdings.whole(second, first).is_some()
    };
    let alike = first != second
        && stages.depth(first) == stages.depth(second)
        && activation(first).is_some_and(|own| activation(second) == Some(own));
    (alike && !together()).then_some((first, second))
}

/// Two stages of one activation as a single one: the values of each. Values without an activation stay at the end.
fn merged(stages: &mut Stages, first: StageId, second: StageId, node: &NodeRef) -> Option<(Affine, Affine)> {
    let (own, other) = (Layer::of(stages, first)?, Layer::of(stages, second)?);
    let width = own.before.width();
    let all = joined(stages, &own.before, &other.before, node)?;
    let (active, other_active) = (width - own.plain, all.width() - other.plain);
    let order = (0..active).chain(width..other_active).chain(active..width).chain(other_active..all.width());
    let order: Vec<usize> = order.collect();
    let mut places = vec![0; order.len()];
    for (place, &value) in order.iter().enumerate() {
        *places.get_mut(value)? = place;
    }
    let before = all.picked(&order)?;
    let values = activated(stages, &Layer { before, plain: own.plain + other.plain, ..own })?;
    let ours = values.picked(places.get(..width)?)?;
    let theirs = values.picked(places.get(width..)?)?;
    stages.holdings.keep_whole(first, &ours);
    stages.holdings.keep_whole(second, &theirs);
    stages.holdings.keep_meeting(first, second, values.stage);
    Some((ours, theirs))
}

/// The values of a stage and a vector of an earlier one, which is carried past all activations between them.
fn carried(stages: &mut Stages, vector: &Affine, stage: StageId, node: &NodeRef) -> Option<(Affine, Affine)> {
    let mut passed = vec![stage];
    let mut below = Layer::read(stages, stage)?;
    while stages.depth(vector.stage) < stages.depth(below) && held(stages, vector, below, node).is_none() {
        passed.push(below);
        below = Layer::read(stages, below)?;
    }
    let mut values: Option<(Affine, Affine)> = None;
    for stage in passed.into_iter().rev() {
        let own = Layer::of(stages, stage)?;
        let (before, read) = match values {
            None => aligned(stages, &own.before, vector, node)?,
            Some((later, read)) => (substituted(&own.before, &later, node)?, read),
        };
        let width = own.before.width();
        let own = Layer { before, ..own };
        let (later, read) = match own.activation {
            Activation::Relu => in_parts(stages, &own, &read, node)?,
            Activation::Identity | Activation::Function(_) => {
                let count = read.width();
                let before = joined(stages, &own.before, &read, node)?;
                let values = activated(stages, &Layer { before, plain: own.plain + count, ..own })?;
                (part(&values, 0, width)?, part(&values, width, count)?)
            }
        };
        stages.holdings.keep_whole(stage, &later);
        stages.holdings.keep_part(vector, &read);
        values = Some((later, read));
    }
    values
}

/// The values of a rectified stage, and a vector whose positive and negative parts are rectified beside them.
fn in_parts(stages: &mut Stages, own: &Layer, vector: &Affine, node: &NodeRef) -> Option<(Affine, Affine)> {
    let (width, count) = (own.before.width(), vector.width());
    let one_sided = is_positive(stages, vector);
    let mut all = joined(stages, &own.before, vector, node)?;
    if !one_sided {
        all = joined(stages, &all, &vector.scaled(-1.0), node)?;
    }
    let values = activated(stages, &Layer { before: all, ..own.clone() })?;
    let (later, carried) = (part(&values, 0, width)?, part(&values, width, count)?);
    if one_sided {
        return Some((later, carried));
    }
    let negative = part(&values, width + count, count)?.scaled(-1.0);
    let (positive, negative) = united(&carried, &negative, node)?;
    Some((later, positive.sum(&negative)?))
}

/// A stage with an activation.
#[derive(Clone)]
struct Layer {
    before: Affine,
    activation: Activation,
    plain: usize,
    node: NodeRef,
}

impl Layer {
    /// The stage that one with an activation reads.
    fn read(stages: &Stages, stage: StageId) -> Option<StageId> {
        match stages.get(stage) {
            Stage::Activated { before, .. } => Some(before.stage),
            Stage::Inputs | Stage::Open { .. } | Stage::Trees { .. } => None,
        }
    }

    fn of(stages: &Stages, stage: StageId) -> Option<Self> {
        match stages.get(stage) {
            Stage::Activated { before, activation, plain, node } => Some(Self {
                before: before.as_ref().clone(),
                activation: *activation,
                plain: *plain,
                node: node.clone(),
            }),
            Stage::Inputs | Stage::Open { .. } | Stage::Trees { .. } => None,
        }
    }
}

/// A new stage, equal values once.
fn activated(stages: &mut Stages, layer: &Layer) -> Option<Affine> {
    let Layer { before, activation, plain, node } = layer;
    let mut known: BTreeMap<(bool, Vec<u64>), usize> = BTreeMap::new();
    let mut distinct = Vec::new();
    let mut positions = Vec::with_capacity(before.width());
    let mut passed = 0;
    for value in 0..before.width() {
        let numbers: Vec<f64> = match &before.dense {
            None => before.taps.get(value).map(|tap| numbers(tap).to_vec()).unwrap_or_default(),
            Some(dense) => dense.weights.row(value).iter().chain(dense.bias.get(value)).copied().collect(),
        };
        let is_plain = value + plain >= before.width();
        let key = (is_plain, numbers.into_iter().map(f64::to_bits).collect());
        let place = *known.entry(key).or_insert_with(|| {
            distinct.push(value);
            passed += usize::from(is_plain);
            distinct.len() - 1
        });
        positions.push(place);
    }
    let before = Box::new(before.picked(&distinct)?);
    let stage = Stage::Activated { before, activation: *activation, plain: passed, node: node.clone() };
    Affine::of_stage(stages.push(stage), distinct.len()).picked(&positions)
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

/// Whether no value of a map can be negative: non-negative parts of values that are not negative.
fn is_positive(stages: &Stages, map: &Affine) -> bool {
    let rectified = match stages.get(map.stage) {
        Stage::Activated { before, activation, plain, .. } => {
            let active = before.width() - plain;
            activation.is_positive() && map.taps.iter().all(|tap| tap.source < active)
        }
        Stage::Inputs | Stage::Open { .. } | Stage::Trees { .. } => false,
    };
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
    let mut places = BTreeMap::new();
    for tap in left.taps.iter().chain(&right.taps) {
        places.entry(key(tap)).or_insert_with(|| {
            taps.push(*tap);
            taps.len() - 1
        });
    }
    Some((widened(left, &taps, &places, node)?, widened(right, &taps, &places, node)?))
}

/// What equal taps share; the two zeros are equal.
fn key(tap: &Tap) -> [u64; 4] {
    numbers(tap).map(|number| (number + 0.0).to_bits())
}

/// The map as a dense one of more taps, which have these places.
fn widened(map: &Affine, taps: &[Tap], places: &BTreeMap<[u64; 4], usize>, node: &NodeRef) -> Option<Affine> {
    let places: Vec<usize> =
        map.taps.iter().map(|tap| places.get(&key(tap)).copied()).collect::<Option<_>>()?;
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
