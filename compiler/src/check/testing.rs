//! Random networks for tests of this crate: mostly provable, over raw values from the whole of 64 bits.

use proptest::prelude::*;

use crate::diag::NodeRef;
use crate::ir::{
    Decision, Dense, FractionBits, Input, Interval, Network, Op, OpOrigin, Post, Quantise, QuantiseOne, Rule,
};

/// A network and some raw rows for it.
pub(crate) fn network() -> impl Strategy<Value = (Network, Vec<i64>)> {
    (1usize..6, prop::collection::vec(1usize..9, 1..4)).prop_flat_map(|(inputs, widths)| {
        let features = prop::collection::vec(feature(), inputs);
        let mut columns = inputs;
        let last = widths.len() - 1;
        let mut layers = Vec::new();
        for (index, rows) in widths.into_iter().enumerate() {
            layers.push(dense(rows, columns, index == last));
            columns = rows;
        }
        let rows = prop::collection::vec(raw(), inputs * 70);
        (features, layers, rows).prop_map(|(features, layers, rows)| (assemble(features, layers), rows))
    })
}

/// Raw values of every magnitude, the ends included.
pub(crate) fn raw() -> impl Strategy<Value = i64> {
    prop_oneof![any::<i64>(), -5000i64..5000, Just(i64::MIN), Just(i64::MAX), Just(0)]
}

fn feature() -> impl Strategy<Value = QuantiseOne> {
    (-100_000i64..100_000, 0i64..1_000_000, -5000i64..5000, -1_000_000i64..1_000_000, 10u8..32).prop_map(
        |(low, width, multiplier, offset, shift)| QuantiseOne {
            low,
            high: low + width,
            multiplier,
            offset,
            shift,
        },
    )
}

fn dense(rows: usize, columns: usize, last: bool) -> impl Strategy<Value = Dense> {
    let lanes = prop::sample::select(crate::lower::testing::patterns());
    let post = (any::<bool>(), 0u8..12, 2u8..9).prop_map(move |(relu, shift, bits)| {
        if last {
            Post::Raw
        } else if relu {
            Post::Relu { shift, bits }
        } else {
            Post::Signed { shift, bits }
        }
    });
    let weights = prop::collection::vec(-90i64..90, rows * columns);
    let bias = prop::collection::vec(-100_000i64..100_000, rows);
    (weights, bias, lanes, post).prop_map(move |(weights, bias, lanes, post)| {
        // Narrow lanes hold small sums only.
        let (most, most_bias) = if lanes.narrowest() < 20 { (4, 500) } else { (90, 100_000) };
        let weights = weights.into_iter().map(|weight| weight % most).collect();
        let bias = bias.into_iter().map(|bias| bias % most_bias).collect();
        Dense { rows, columns, weights, bias, lanes, post }
    })
}

fn assemble(features: Vec<QuantiseOne>, layers: Vec<Dense>) -> Network {
    let inputs = (0..features.len())
        .map(|index| Input {
            name: format!("x{index}"),
            fraction_bits: FractionBits(0),
            range: Interval { low: i64::MIN, high: i64::MAX },
        })
        .collect();
    let outputs = layers.last().map_or(0, |layer| layer.rows);
    let output = Interval { low: i64::from(i32::MIN), high: i64::from(i32::MAX) };
    let mut ops = vec![Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() })];
    let mut origins = vec![OpOrigin::Inputs];
    for (layer, dense) in (0u32..).zip(layers) {
        let node =
            NodeRef { index: layer as usize, name: format!("dense{layer}"), operator: "Gemm".to_owned() };
        ops.push(Op::Dense(dense));
        origins.push(OpOrigin::Layer { layer, node });
    }
    let rule = if outputs == 1 { Rule::Positive } else { Rule::ArgMax };
    Network { inputs, ops, origins, decision: Decision::single(rule, 1.0, Vec::new(), Vec::new()) }
}
