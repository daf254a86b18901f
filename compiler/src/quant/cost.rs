//! Predicted nanoseconds of an inference, from measured costs of its parts.
//!
//! Absolute figures drift between machines; the search needs their order only. A complete 6-32-32-2 inference
//! was measured at 349 ns with one lane, 126 with two, 109 with two, three and three; these constants give
//! 344, 127 and 109.

use crate::ir::Lanes;
use crate::model::{Body, Model};

/// A multiply and an add into an accumulator of its own, and into a packed one.
const MULTIPLY_SINGLE_NS: f64 = 0.225;
const MULTIPLY_PACKED_NS: f64 = 0.11;
/// Lane extraction, shift, ReLU, clamp and store of one result.
const RESULT_NS: f64 = 0.70;
/// Load, clamp, multiply, shift and store of one input.
const INPUT_NS: f64 = 1.7;

/// Cost of a whole inference with these lanes.
pub(super) fn inference_ns(model: &Model, lanes: &[Lanes]) -> f64 {
    let Body::Mlp(layers) = &model.body;
    let body: f64 = layers.iter().zip(lanes).map(|(layer, &lanes)| layer_ns(layer, lanes)).sum();
    model.input_count() as f64 * INPUT_NS + body
}

/// Cost of one layer.
pub(super) fn layer_ns(layer: &crate::model::Dense, lanes: Lanes) -> f64 {
    let registers = layer.weights.rows.div_ceil(lanes.count());
    let each = match lanes {
        Lanes::One => MULTIPLY_SINGLE_NS,
        Lanes::Two | Lanes::Three => MULTIPLY_PACKED_NS,
    };
    (registers * layer.weights.columns) as f64 * each + layer.weights.rows as f64 * RESULT_NS
}
