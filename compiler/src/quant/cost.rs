//! Predicted nanoseconds of candidates: what [`crate::cost`] says of lanes and networks.

use crate::cost;
use crate::ir::{Dense, Lanes, Post};
use crate::model::Model;

pub(super) use crate::cost::{dense_ns, network_ns};

/// Cost of a whole inference with these lanes, were no layer clamped: no network with them costs less.
pub(super) fn least_ns(model: &Model, lanes: &[Lanes]) -> f64 {
    let layers = model.layers();
    let body: f64 = layers
        .iter()
        .zip(lanes)
        .map(|(layer, &lanes)| layer_ns(layer.weights.rows, layer.weights.columns, lanes, false))
        .sum();
    cost::base_ns() + cost::inputs_ns(model.input_count()) + body
}

/// Cost of one layer.
pub(super) fn layer_ns(rows: usize, columns: usize, lanes: Lanes, clamped: bool) -> f64 {
    cost::layer_ns(rows, columns, lanes.count(), clamped)
}

/// Whether code must clamp the results of packed lanes from above: what a lane holds can exceed the width.
///
/// Code knows the plan only, not the weights, so that lanes count as full.
pub(crate) fn clamped(dense: &Dense) -> bool {
    match dense.post {
        Post::Raw => false,
        // The cost of a result in a register of its own includes its clamp.
        Post::Relu { .. } | Post::Signed { .. } if !dense.lanes.packed() => false,
        Post::Relu { shift, bits } | Post::Signed { shift, bits } => {
            value_bits(dense.lanes).saturating_sub(u32::from(shift)) > u32::from(bits)
        }
    }
}

/// Magnitude bits of a number that fits the widest lane.
pub(crate) fn value_bits(lanes: Lanes) -> u32 {
    lanes.widest() - 1
}
