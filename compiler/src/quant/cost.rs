//! Predicted nanoseconds of an inference, from measured costs of its parts.
//!
//! Absolute figures drift between machines; the search needs their order only. A complete 6-32-32-2 inference
//! was measured at 345 ns with one lane; at 105 without and 123 with clamps with two lanes; at 87 without and
//! 103 with clamps with two, three and three. These constants give 343, 104, 124, 87 and 103.

use crate::ir::{Dense, Forest, Lanes, Network, Op, Post};
use crate::model::Model;

/// A multiply and an add into an accumulator of its own, and into a packed one.
const MULTIPLY_SINGLE_NS: f64 = 0.225;
const MULTIPLY_PACKED_NS: f64 = 0.11;
/// Shift, ReLU, clamp and store of a result that has a register of its own.
const RESULT_SINGLE_NS: f64 = 0.70;
/// Lane extraction, shift, ReLU and store of a packed result.
const RESULT_PACKED_NS: f64 = 0.36;
/// The same where lanes differ in width.
const RESULT_UNEVEN_NS: f64 = 0.45;
/// Upper clamp of all lanes of a packed register.
const CLAMP_NS: f64 = 0.60;
/// Load, clamp, multiply, shift and store of one input.
const INPUT_NS: f64 = 1.7;
/// Load, look-up and store of one value.
const LOOKUP_NS: f64 = 1.0;

/// One step of a walk that waits for the one before, one of many walks, and one value of a leaf.
const STEP_ALONE_NS: f64 = 2.0;
const STEP_NS: f64 = 1.5;
const LEAF_NS: f64 = 2.0;

/// Cost of a whole inference with these lanes, were no layer clamped: no network with them costs less.
pub(super) fn least_ns(model: &Model, lanes: &[Lanes]) -> f64 {
    let layers = model.layers();
    let body: f64 = layers
        .iter()
        .zip(lanes)
        .map(|(layer, &lanes)| layer_ns(layer.weights.rows, layer.weights.columns, lanes, false))
        .sum();
    model.input_count() as f64 * INPUT_NS + body
}

/// Cost of an inference of this very network.
pub(super) fn network_ns(network: &Network) -> f64 {
    let body: f64 = network
        .ops
        .iter()
        .map(|op| match op {
            Op::Quantise(quantise) => quantise.features.len() as f64 * INPUT_NS,
            Op::Dense(dense) => dense_ns(dense),
            Op::Table(table) => table.width as f64 * LOOKUP_NS,
            Op::Forest(forest) => forest_ns(forest),
        })
        .sum();
    body
}

/// Cost of walking trees and adding up their leaves.
pub(super) fn forest_ns(forest: &Forest) -> f64 {
    let trees = forest.trees as f64;
    // A few trees wait for their own loads; many are walked side by side.
    let latency = STEP_ALONE_NS * f64::from(forest.depth);
    latency.max(trees * (f64::from(forest.depth) * STEP_NS + forest.stride() as f64 * LEAF_NS))
}

/// Cost of one layer of a network.
pub(super) fn dense_ns(dense: &Dense) -> f64 {
    layer_ns(dense.rows, dense.columns, dense.lanes, clamped(dense))
}

/// Cost of one layer.
pub(super) fn layer_ns(rows: usize, columns: usize, lanes: Lanes, clamped: bool) -> f64 {
    let registers = rows.div_ceil(lanes.count());
    let (multiply, result) = if lanes.packed() {
        (MULTIPLY_PACKED_NS, if lanes.common().is_some() { RESULT_PACKED_NS } else { RESULT_UNEVEN_NS })
    } else {
        (MULTIPLY_SINGLE_NS, RESULT_SINGLE_NS)
    };
    let clamp = if clamped { registers as f64 * CLAMP_NS } else { 0.0 };
    (registers * columns) as f64 * multiply + rows as f64 * result + clamp
}

/// Whether code must clamp the results of packed lanes from above: what a lane holds can exceed the width.
///
/// Code knows the plan only, not the weights, so that lanes count as full.
pub(super) fn clamped(dense: &Dense) -> bool {
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
pub(super) fn value_bits(lanes: Lanes) -> u32 {
    lanes.widest() - 1
}
