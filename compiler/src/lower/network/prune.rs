//! Less work for the same outputs, where the numbers of the model are part of the code and never change.
//!
//! A neuron of a hidden layer needs no code when nothing reads it, when its result is the same number for every
//! input by the proved intervals, which then belongs to the next layer's biases, or when another one computes
//! the same, which then has both weights. Every output keeps its value to the bit. Weights of zero and powers
//! of two are `product`'s.

use crate::check::check;
use crate::ir::{Dense, Interval, Network, Op};

/// The network without neurons that cost and change nothing; itself when that cannot be proved.
pub(super) fn pruned(network: &Network) -> Network {
    let Ok(mut current) = check(network.clone()) else { return network.clone() };
    // Each round removes a neuron or is the last one.
    loop {
        let mut smaller = current.get().clone();
        let mut changed = false;
        for (op, proof) in current.certificate().ops.iter().enumerate() {
            changed |= narrow(&mut smaller.ops, op, &proof.values);
        }
        if !changed {
            return current.into_inner();
        }
        match check(smaller) {
            Ok(proved) => current = proved,
            // A layer whose sums need more than its lanes hold stays as it was.
            Err(_) => return current.into_inner(),
        }
    }
}

/// What becomes of a neuron.
#[derive(Clone, Copy)]
enum Fate {
    Stays,
    /// Its result is this number, or nobody's business.
    Is(i64),
    /// It computes what the neuron of this row computes.
    Same(usize),
}

/// Removes neurons of one layer in front of another; whether there were any. One neuron always stays.
fn narrow(ops: &mut [Op], op: usize, values: &[Interval]) -> bool {
    let Some([Op::Dense(layer), Op::Dense(next)]) = ops.get_mut(op..op + 2) else { return false };
    if layer.rows != values.len() || next.columns != layer.rows || layer.columns == 0 {
        return false;
    }
    let mut fates: Vec<Fate> =
        values.iter().enumerate().map(|(row, &value)| fate(layer, next, row, value)).collect();
    if fates.iter().all(|fate| !matches!(fate, Fate::Stays))
        && let Some(first) = fates.first_mut()
    {
        *first = Fate::Stays;
    }
    // A neuron that stands for others must be there.
    let stays: Vec<bool> = fates.iter().map(|fate| matches!(fate, Fate::Stays)).collect();
    for fate in &mut fates {
        if let Fate::Same(other) = *fate
            && !stays.get(other).copied().unwrap_or(false)
        {
            *fate = Fate::Stays;
        }
    }
    if fates.iter().all(|fate| matches!(fate, Fate::Stays)) {
        return false;
    }
    let Some(folded) = folded(next, &fates) else { return false };
    *next = folded;
    let kept = || fates.iter().map(|fate| matches!(fate, Fate::Stays));
    let rows = layer.weights.chunks_exact(layer.columns).zip(kept()).filter(|(_, kept)| *kept);
    layer.weights = rows.flat_map(|(row, _)| row.iter().copied()).collect();
    layer.bias =
        layer.bias.iter().copied().zip(kept()).filter(|(_, kept)| *kept).map(|(bias, _)| bias).collect();
    layer.rows = layer.bias.len();
    true
}

fn fate(layer: &Dense, next: &Dense, row: usize, value: Interval) -> Fate {
    let mut read = next.weights.iter().skip(row).step_by(next.columns);
    if read.all(|weight| *weight == 0) {
        return Fate::Is(0);
    }
    if value.low == value.high {
        return Fate::Is(value.low);
    }
    let own =
        |row: usize| (layer.weights.get(row * layer.columns..(row + 1) * layer.columns), layer.bias.get(row));
    match (0..row).find(|&other| own(other) == own(row)) {
        Some(other) => Fate::Same(other),
        None => Fate::Stays,
    }
}

/// The next layer over the neurons that stay; `None` when a number leaves 64 bits.
fn folded(next: &Dense, fates: &[Fate]) -> Option<Dense> {
    let mut folded = Dense { columns: 0, weights: Vec::new(), ..next.clone() };
    for (row, bias) in next.weights.chunks_exact(next.columns).zip(&mut folded.bias) {
        let mut weights = row.to_vec();
        for ((column, fate), &weight) in fates.iter().enumerate().zip(row) {
            match *fate {
                Fate::Stays => {}
                Fate::Is(value) => *bias = bias.checked_add(weight.checked_mul(value)?)?,
                Fate::Same(other) => {
                    debug_assert!(other < column, "the first of equal neurons stands for them");
                    let place = weights.get_mut(other)?;
                    *place = place.checked_add(weight)?;
                }
            }
        }
        let kept = weights.iter().zip(fates).filter(|(_, fate)| matches!(fate, Fate::Stays));
        let before = folded.weights.len();
        folded.weights.extend(kept.map(|(weight, _)| *weight));
        folded.columns = folded.weights.len() - before;
    }
    Some(folded)
}
