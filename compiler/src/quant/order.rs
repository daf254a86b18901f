//! Lanes of different widths: which widths a layer's neurons ask for, and an order that gives the wide lanes to
//! those that need most.
//!
//! A neuron whose sum reaches far and moves the margin much needs more bits for the same noise. The order of a
//! hidden layer's neurons is nobody's business: rows move, and columns of the next layer with them. It belongs to the
//! parameters, so a retrained model chooses its own.

use super::build::{Setup, raw_gain};
use super::layer::bound;
use super::linalg::inverse_upper;
use super::stats::Stats;
use crate::ir::{Interval, Lanes};
use crate::model::{Activation, Body, Matrix, Model};

/// A neuron that nothing depends on counts as needing so many bits less than the one that needs most.
const LEAST: f64 = 10.0;
/// Narrowest lane that is made.
const NARROWEST: f64 = 8.0;

/// Widths after the needs of the neurons, where several share a register: the same number of lanes, the same noise in
/// each. `None` when nothing is gained anywhere.
pub(super) fn divided(setup: Setup<'_>, lanes: &[Lanes]) -> Option<Vec<Lanes>> {
    let divided: Vec<Lanes> = lanes
        .iter()
        .enumerate()
        .map(|(layer, &own)| {
            let count = own.count();
            if !movable(setup.model, layer) || count < 3 {
                return own;
            }
            let mut needs = needs(setup, layer);
            needs.sort_by(|a, b| b.total_cmp(a));
            let share = needs.len().div_ceil(count).max(1);
            let groups: Vec<f64> = needs
                .chunks(share)
                .map(|group| {
                    let square: f64 = group.iter().map(|need| (2.0 * need).exp2()).sum();
                    (square / group.len() as f64).log2() / 2.0
                })
                .collect();
            if groups.len() < count { own } else { widths(&groups).unwrap_or(own) }
        })
        .collect();
    (divided != lanes).then_some(divided)
}

/// Widths that differ as the needs do and fill a register.
fn widths(needs: &[f64]) -> Option<Lanes> {
    let count = needs.len() as f64;
    let mean = needs.iter().sum::<f64>() / count;
    let room = 64.0 / count;
    let mut widths: Vec<u8> =
        needs.iter().map(|need| (room + need - mean).clamp(NARROWEST, 40.0).floor() as u8).collect();
    loop {
        let sum: u32 = widths.iter().map(|&bits| u32::from(bits)).sum();
        // What is left over goes where most is missing; what is too much is taken where most is to spare.
        let missing = |index: usize, bits: u8| needs.get(index).map_or(0.0, |need| need - f64::from(bits));
        let by_need =
            |(a, x): &(usize, u8), (b, y): &(usize, u8)| missing(*a, *x).total_cmp(&missing(*b, *y));
        let lanes = widths.iter().copied().enumerate();
        let (place, more) = match sum {
            0..64 => (lanes.max_by(by_need)?.0, true),
            64 => return Lanes::new(&widths),
            _ => (lanes.filter(|(_, bits)| f64::from(*bits) > NARROWEST).min_by(by_need)?.0, false),
        };
        let bits = widths.get_mut(place)?;
        *bits = if more { *bits + 1 } else { *bits - 1 };
    }
}

/// Whether the neurons of a layer may change places.
fn movable(model: &Model, layer: usize) -> bool {
    let layers = model.layers();
    layer + 1 < layers.len()
        && layers.get(layer).is_some_and(|own| match own.activation {
            Activation::Relu | Activation::Identity => own.plain == 0,
            Activation::Function(_) => false,
        })
}

/// Bits that each neuron needs, but for a constant: the size of what its lane must hold, times the noise that the
/// margin bears.
fn needs(setup: Setup<'_>, layer: usize) -> Vec<f64> {
    let (Some(own), Some(stat)) = (setup.model.layers().get(layer), setup.stats.layers.get(layer)) else {
        return Vec::new();
    };
    let gains: Vec<(f64, f64)> = (0..own.weights.columns).map(|input| raw_gain(setup, input)).collect();
    let ranges: Vec<Interval> = match layer {
        0 => setup.stats.inputs.iter().filter_map(|input| input.ranges.first().copied()).collect(),
        // Activations between nothing and their largest values, in parts of those.
        _ => vec![Interval { low: 0, high: 1 }; own.weights.columns],
    };
    let tops = layer.checked_sub(1).and_then(|before| setup.stats.layers.get(before)?.top.first());
    let logs: Vec<f64> = (0..own.weights.rows)
        .zip(&own.bias)
        .zip(&stat.influence)
        .map(|((row, bias), influence)| {
            let weights = own.weights.row(row).iter();
            let reach = match tops {
                None => {
                    let scaled: Vec<f64> =
                        weights.clone().zip(&gains).map(|(w, (gain, _))| w * gain).collect();
                    let constant: f64 = weights.zip(&gains).map(|(w, (_, zero))| w * zero).sum();
                    bound(&scaled, bias + constant, &ranges)
                }
                Some(tops) => {
                    let scaled: Vec<f64> = weights.zip(tops).map(|(w, top)| w * top).collect();
                    bound(&scaled, *bias, &ranges)
                }
            };
            reach.log2() + influence.log2() / 2.0
        })
        .collect();
    let most = logs.iter().copied().filter(|log| log.is_finite()).fold(f64::NEG_INFINITY, f64::max);
    if !most.is_finite() {
        return vec![0.0; logs.len()];
    }
    logs.into_iter().map(|log| if log.is_nan() { most - LEAST } else { log.max(most - LEAST) }).collect()
}

/// The model with the neurons of every layer of uneven lanes in an order that fits them, and its statistics; `None`
/// when no layer has such lanes.
pub(super) fn ordered(setup: Setup<'_>, lanes: &[Lanes]) -> Option<(Model, Stats)> {
    let Body::Mlp(layers) = &setup.model.body else { return None };
    let (mut layers, mut stats) = (layers.clone(), setup.stats.clone());
    let mut moved = false;
    for (layer, lanes) in lanes.iter().enumerate() {
        if lanes.common().is_some() || !movable(setup.model, layer) {
            continue;
        }
        let order = order(&needs(setup, layer), *lanes);
        let own = layers.get_mut(layer)?;
        let columns = own.weights.columns;
        let values = order.iter().flat_map(|&row| own.weights.row(row).to_vec()).collect();
        own.weights = Matrix { rows: own.weights.rows, columns, values };
        own.bias = picked(&own.bias, &order);
        let stat = stats.layers.get_mut(layer)?;
        stat.top.iter_mut().for_each(|top| *top = picked(top, &order));
        stat.influence = picked(&stat.influence, &order);
        stat.order.clone_from(&order);
        let next = layers.get_mut(layer + 1)?;
        let rows = 0..next.weights.rows;
        next.weights.values = rows.flat_map(|row| picked(next.weights.row(row), &order)).collect();
        let stat = stats.layers.get_mut(layer + 1)?;
        // The constant stays last.
        let inputs: Vec<usize> = order.iter().copied().chain([order.len()]).collect();
        stat.spread = picked(&stat.spread, &inputs);
        if let Some(moments) = &mut stat.moments {
            let width = inputs.len();
            let rows = inputs.iter().filter_map(|&row| moments.get(row * width..(row + 1) * width));
            *moments = rows.flat_map(|row| picked(row, &inputs)).collect();
            stat.propagation = inverse_upper(moments, width);
        }
        moved = true;
    }
    moved.then(|| (Model { body: Body::Mlp(layers), ..setup.model.clone() }, stats))
}

fn picked(values: &[f64], order: &[usize]) -> Vec<f64> {
    order.iter().filter_map(|&index| values.get(index).copied()).collect()
}

/// Which neuron stands in each row: those that need most in the widest lanes.
fn order(needs: &[f64], lanes: Lanes) -> Vec<usize> {
    let mut rows: Vec<usize> = (0..needs.len()).collect();
    rows.sort_by(|&a, &b| lanes.bits(b).cmp(&lanes.bits(a)).then(a.cmp(&b)));
    let mut neurons: Vec<usize> = (0..needs.len()).collect();
    let need = |neuron: usize| needs.get(neuron).copied().unwrap_or(0.0);
    neurons.sort_by(|&a, &b| need(b).total_cmp(&need(a)).then(a.cmp(&b)));
    let mut placed: Vec<(usize, usize)> = rows.into_iter().zip(neurons).collect();
    placed.sort_unstable();
    placed.into_iter().map(|(_, neuron)| neuron).collect()
}

#[cfg(test)]
mod tests {
    use super::{order, widths};
    use crate::ir::Lanes;

    #[test]
    fn widths_differ_as_needs_do_and_fill_a_register() {
        let of = |needs: &[f64]| widths(needs).unwrap().widths().collect::<Vec<_>>();
        assert_eq!(of(&[3.0, 3.0, 3.0, 3.0]), [16, 16, 16, 16]);
        assert_eq!(of(&[4.0, 1.0, 1.0, 0.0]), [18, 15, 16, 15]);
        assert_eq!(of(&[1.0, 0.0, 0.0]).iter().sum::<u32>(), 64);
        assert_eq!(of(&[90.0, 0.0, 0.0, 0.0]), [40, 8, 8, 8]);
    }

    #[test]
    fn neurons_that_need_most_get_the_widest_lanes() {
        let lanes = Lanes::new(&[14, 20, 15, 15]).unwrap();
        let needs = [0.0, 5.0, 1.0, 2.0, 9.0, 3.0, 4.0];
        let order = order(&needs, lanes);
        let mut all = order.clone();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..7));
        // Rows 1 and 5 have 20 bits; row 0 and 4 have 14.
        assert_eq!([order[1], order[5]], [4, 1]);
        let narrow: f64 = [order[0], order[4]].iter().map(|&neuron| needs[neuron]).sum();
        assert_eq!(narrow, 1.0);
    }
}
