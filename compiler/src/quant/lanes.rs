//! Which lane combinations the search looks at, and in which order.

use super::Options;
use super::cost::{layer_ns, least_ns};
use crate::ir::Lanes;
use crate::model::{Activation, Model};

/// Lane combinations are enumerated completely up to this many layers.
const ENUMERATED_LAYERS: usize = 5;

/// Even divisions of a register, the narrowest lanes first.
pub(super) const EVEN: [Lanes; 5] = [Lanes::FIVE, Lanes::FOUR, Lanes::THREE, Lanes::TWO, Lanes::ONE];

/// Lane combinations by the least cost that they can have, without those that another one beats in every layer
/// at the same cost.
pub(super) fn combinations(model: &Model, options: &Options) -> Vec<Vec<Lanes>> {
    let layers = model.layers();
    if let Some(plan) = &options.like {
        return vec![plan.layers.iter().map(|layer| layer.lanes).collect()];
    }
    if let Some(lanes) = &options.lanes {
        return vec![lanes.clone()];
    }
    let curved = layers.iter().any(|layer| matches!(layer.activation, Activation::Function(_)));
    let useful: Vec<Vec<Lanes>> = layers
        .iter()
        .map(|layer| {
            let cost = |lanes| layer_ns(layer.weights.rows, layer.weights.columns, lanes, false);
            // Narrower lanes must save something.
            let mut kept: Vec<Lanes> = Vec::new();
            // Values of tables have one scale for all neurons, and a retrained model needs room in the same tables.
            let most = if curved { 3 } else { usize::MAX };
            for lanes in EVEN.into_iter().rev().filter(|lanes| lanes.count() <= most) {
                if kept.iter().all(|&wider| cost(lanes) < cost(wider)) {
                    kept.push(lanes);
                }
            }
            kept
        })
        .collect();
    let mut combinations: Vec<Vec<Lanes>> = if layers.len() <= ENUMERATED_LAYERS {
        useful.iter().fold(vec![Vec::new()], |prefixes, choices| {
            prefixes
                .iter()
                .flat_map(|prefix| {
                    choices.iter().map(move |&lanes| prefix.iter().copied().chain([lanes]).collect())
                })
                .collect()
        })
    } else {
        // Deep models: uniform lanes, and all but the first layer uniform.
        EVEN.iter()
            .flat_map(|&body| EVEN.iter().map(move |&first| (first, body)))
            .map(|(first, body)| {
                useful
                    .iter()
                    .enumerate()
                    .map(|(index, choices)| {
                        let wanted = if index == 0 { first } else { body };
                        if choices.contains(&wanted) {
                            wanted
                        } else {
                            choices.first().copied().unwrap_or(Lanes::ONE)
                        }
                    })
                    .collect()
            })
            .collect()
    };
    combinations.sort_by(|a, b| least_ns(model, a).total_cmp(&least_ns(model, b)).then(b.cmp(a)));
    combinations.dedup();
    combinations
}

/// The layers whose clamp costs something, the largest first.
pub(super) fn clampable(model: &Model, lanes: &[Lanes]) -> Vec<usize> {
    let layers = model.layers();
    let hidden = layers.len().saturating_sub(1);
    let mut places: Vec<(usize, usize)> = layers
        .iter()
        .zip(lanes)
        .take(hidden)
        .enumerate()
        .filter(|(_, (layer, lanes))| layer.activation == Activation::Relu && lanes.packed())
        .map(|(index, (layer, lanes))| (layer.weights.rows.div_ceil(lanes.count()), index))
        .collect();
    places.sort_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
    places.into_iter().map(|(_, index)| index).collect()
}
