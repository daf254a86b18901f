//! What stages hold of values that were made elsewhere: an activation that several skip connections pass is written once
//! for all of them.

use std::collections::{BTreeMap, BTreeSet};

use super::affine::{Affine, StageId};

/// Stages that one question looks through at most.
const MOST_STAGES: usize = 64;

/// What stages hold of others.
#[derive(Debug, Default)]
pub(crate) struct Holdings {
    /// For each stage the stages whose values are all among its own.
    wholes: BTreeMap<StageId, Vec<(StageId, Affine)>>,
    /// For each stage and the fingerprint of a vector the vector, and what it is there.
    parts: BTreeMap<(StageId, u64), Vec<(Affine, Affine)>>,
    /// The stage that holds two others.
    meetings: BTreeMap<(StageId, StageId), StageId>,
    numbers: usize,
}

impl Holdings {
    /// Numbers that all of it holds.
    pub(crate) const fn numbers(&self) -> usize {
        self.numbers
    }

    /// Keeps that the values of `of` are all values of another stage.
    pub(crate) fn keep_whole(&mut self, of: StageId, there: &Affine) {
        if of != there.stage {
            self.numbers = self.numbers.saturating_add(there.numbers_held());
            self.wholes.entry(there.stage).or_default().push((of, there.clone()));
        }
    }

    /// Keeps that a vector was carried to another stage.
    pub(crate) fn keep_part(&mut self, vector: &Affine, there: &Affine) {
        self.numbers = self.numbers.saturating_add(vector.numbers_held() + there.numbers_held());
        let key = (there.stage, vector.fingerprint());
        self.parts.entry(key).or_default().push((vector.clone(), there.clone()));
    }

    /// Keeps that a stage holds all values of two others.
    pub(crate) fn keep_meeting(&mut self, first: StageId, second: StageId, there: StageId) {
        self.meetings.insert((first, second), there);
        self.meetings.insert((second, first), there);
    }

    /// The stage that is known to hold all values of two others.
    pub(crate) fn meeting(&self, first: StageId, second: StageId) -> Option<StageId> {
        self.meetings.get(&(first, second)).copied()
    }

    /// What a vector that was carried to a stage is there.
    pub(crate) fn part(&self, vector: &Affine, there: StageId) -> Option<&Affine> {
        let known = self.parts.get(&(there, vector.fingerprint()))?;
        known.iter().find(|(of, _)| of == vector).map(|(_, held)| held)
    }

    /// The way from a stage whose values are all held by another one: what to apply in turn, the first one first.
    pub(crate) fn whole(&self, of: StageId, there: StageId) -> Option<Vec<&Affine>> {
        let mut from: BTreeMap<StageId, (StageId, &Affine)> = BTreeMap::new();
        let mut seen = BTreeSet::from([there]);
        let mut waiting = vec![there];
        while let Some(stage) = waiting.pop() {
            for (held, map) in self.wholes.get(&stage).into_iter().flatten() {
                if seen.len() >= MOST_STAGES || !seen.insert(*held) {
                    continue;
                }
                from.insert(*held, (stage, map));
                if *held == of {
                    let mut way = Vec::new();
                    let mut place = of;
                    while let Some((next, map)) = from.get(&place).filter(|_| place != there) {
                        way.push(*map);
                        place = *next;
                    }
                    return Some(way);
                }
                waiting.push(*held);
            }
        }
        None
    }
}
