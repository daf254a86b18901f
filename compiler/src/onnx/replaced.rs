//! Inputs of which a value is replaced. In affine maps of the inputs they have places of their own, far behind the
//! inputs, until the whole graph is known; each input then is one or the other.

use std::collections::BTreeMap;

use super::affine::Affine;
use super::report::Report;
use super::value::Stages;
use crate::diag::codes::onnx as codes;
use crate::model::Replaced;
use crate::model::forest::Forest;

/// Where they begin: no file has so many inputs.
const FIRST: usize = 1 << 30;

impl Stages {
    /// The place of an input of which a value is replaced.
    pub(crate) fn place_of_replaced(&mut self, replaced: Replaced) -> usize {
        let known = self.replaced.iter().position(|own| {
            own.column == replaced.column && own.value == replaced.value && own.by == replaced.by
        });
        let number = known.unwrap_or_else(|| {
            self.replaced.push(replaced);
            self.replaced.len() - 1
        });
        FIRST + number
    }
}

/// Whether a place is one of these.
pub(crate) const fn is_replaced(source: usize) -> bool {
    source >= FIRST
}

/// The input behind a place.
fn input(stages: &Stages, source: usize) -> usize {
    let own = source.checked_sub(FIRST).and_then(|number| stages.replaced.get(number));
    own.map_or(source, |replaced| replaced.column.source)
}

/// What is replaced when these places are read; `None` when something reads an input as it is as well, or with another
/// value replaced.
fn in_effect(
    report: &mut Report,
    stages: &Stages,
    sources: impl Iterator<Item = usize>,
) -> Option<Vec<Replaced>> {
    let mut read: BTreeMap<usize, usize> = BTreeMap::new();
    for source in sources {
        let own = input(stages, source);
        let before = *read.entry(own).or_insert(source);
        if before != source {
            let number = source.max(before) - FIRST;
            let replaced = stages.replaced.get(number)?;
            report.at_node(
                &codes::OPERATOR_FORM,
                &replaced.origin,
                format!(
                    "feature {own} is read with {} replaced here, and in another way elsewhere",
                    replaced.value
                ),
                "let everything that reads the feature read it behind the same node, or extract it twice in the \
                 specification",
            );
            return None;
        }
    }
    let places = read.into_values().filter_map(|source| source.checked_sub(FIRST));
    places.map(|number| stages.replaced.get(number).cloned()).collect()
}

/// A map of the inputs, and what is replaced in them.
pub(crate) fn resolved(
    report: &mut Report,
    stages: &Stages,
    affine: &Affine,
) -> Option<(Affine, Vec<Replaced>)> {
    let read = |place: usize| match &affine.dense {
        None => true,
        Some(dense) => {
            dense.weights.values.iter().skip(place).step_by(dense.weights.columns.max(1)).any(|w| *w != 0.0)
        }
    };
    let used =
        affine.taps.iter().enumerate().filter(|(place, tap)| tap.normalise.scale != 0.0 && read(*place));
    let replaced = in_effect(report, stages, used.map(|(_, tap)| tap.source))?;
    let mut affine = affine.clone();
    affine.taps.iter_mut().for_each(|tap| tap.source = input(stages, tap.source));
    Some((affine, replaced))
}

/// The same for trees.
pub(crate) fn resolved_trees(
    report: &mut Report,
    stages: &Stages,
    mut forest: Forest,
) -> Option<(Forest, Vec<Replaced>)> {
    let compared = forest.trees.iter().flat_map(|tree| &tree.nodes).filter_map(|node| match node {
        crate::model::forest::Node::Branch { column, .. } => forest.columns.get(*column),
        crate::model::forest::Node::Leaf { .. } => None,
    });
    let replaced = in_effect(report, stages, compared.map(|column| column.source))?;
    forest.columns.iter_mut().for_each(|column| column.source = input(stages, column.source));
    Some((forest, replaced))
}
