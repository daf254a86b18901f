//! Predicted nanoseconds of an inference: counts of work times prices.
//!
//! `work` counts, `constants` has the prices of the committed calibration, `fit` makes prices from measurements of
//! the shapes in `cases`, whose networks `random` makes, and `blocking` chooses how layers are written. `plan` puts
//! together what reports show. What decides about accuracy is in `quant`, and the packet path's prices in `explain`.

pub mod work;
pub mod constants;
pub mod fit;
pub mod blocking;
pub mod cases;
mod random;
#[cfg(test)]
mod tests;

use crate::ir::{Dense, Forest, Network, Op};
use crate::lower::network::Weights;
use crate::params::layout::Layout;
use blocking::{Style, alone};
use work::{Ending, Kind, LayerShape, Work};

/// Predicted nanoseconds of an inference of this network, in one program with its parameters in a map.
#[must_use]
pub fn network_ns(network: &Network) -> f64 {
    network_ns_with(network, Weights::Map, 1)
}

/// The same with numbers of the model elsewhere, or in a chain of programs.
#[must_use]
pub fn network_ns_with(network: &Network, weights: Weights, programs: usize) -> f64 {
    // The layout of a plan does not depend on where the numbers are.
    let layout = Layout::styled(network, Style::Planned);
    Work::of(network, &layout, weights, programs).ns(constants::committed())
}

/// Nanoseconds of one layer by itself.
#[must_use]
pub fn dense_ns(dense: &Dense) -> f64 {
    shape_ns(&LayerShape::of(dense))
}

/// Nanoseconds of one layer by itself whose end is not known: of the cheapest.
#[must_use]
pub fn layer_ns(rows: usize, columns: usize, lanes: usize, clamped: bool) -> f64 {
    let shape = |ending| LayerShape { rows, columns, lanes, ending };
    let relu = shape_ns(&shape(Ending::Relu { clamped }));
    if clamped { relu } else { relu.min(shape_ns(&shape(Ending::Raw))) }
}

/// Nanoseconds of the values of a quantiser.
#[must_use]
pub fn inputs_ns(count: usize) -> f64 {
    Work::inputs(count).ns(constants::committed())
}

/// Nanoseconds of walking trees and adding up their leaves.
#[must_use]
pub fn forest_ns(forest: &Forest) -> f64 {
    Work::forest(forest).ns(constants::committed())
}

/// What every inference takes.
#[must_use]
pub fn base_ns() -> f64 {
    constants::committed().price(Kind::Inference)
}

/// Nanoseconds of the part of an inference that an operation is, by itself.
#[must_use]
pub fn op_ns(op: &Op, weights: Weights) -> f64 {
    let constants = constants::committed();
    match op {
        Op::Quantise(quantise) => inputs_ns(quantise.features.len() + quantise.replaced.len()),
        Op::Dense(dense) => {
            let shape = LayerShape::of(dense);
            Work::layer(&shape, &alone(&shape), weights).ns(constants)
        }
        Op::Table(table) => Work::table(table).ns(constants),
        Op::Gate(gate) => Work::gate(gate).ns(constants),
        Op::Forest(forest) => forest_ns(forest),
    }
}

/// Nanoseconds of a network some of whose hidden layers have at most so many neurons.
pub(crate) fn shrunk_ns(
    network: &Network,
    shapes: &[LayerShape],
    weights: Weights,
    layers: &[usize],
    rows: usize,
) -> f64 {
    let mut shapes = shapes.to_vec();
    for &layer in layers {
        let mut kept = None;
        if let Some(shape) = shapes.get_mut(layer) {
            shape.rows = shape.rows.min(rows);
            kept = Some(shape.rows);
        }
        if let (Some(kept), Some(next)) = (kept, shapes.get_mut(layer + 1)) {
            next.columns = next.columns.min(kept);
        }
    }
    let fixed = Work::fixed(network);
    let ways = blocking::choose(&fixed, &shapes, Style::Planned);
    let layers = shapes.iter().zip(&ways).map(|(shape, way)| Work::layer(shape, way, weights));
    layers.fold(fixed, |sum, layer| sum.plus(&layer)).ns(constants::committed())
}

fn shape_ns(shape: &LayerShape) -> f64 {
    blocking::alone_ns(shape)
}
