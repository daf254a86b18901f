//! Networks with random parameters whose accumulators fit their lanes, for measurements.

use crate::diag::NodeRef;
use crate::ir::forest::Node;
use crate::ir::softmax::{Lead, SHIFT, TOP};
use crate::ir::{
    Decision, Dense, Forest, FractionBits, Input, Interval, Lanes, Network, Op, OpOrigin, Post, Quantise,
    QuantiseOne, Rule, RuleTest, Table,
};
use crate::quant::value_bits;
use crate::random::SplitMix;

/// Bits of every activation.
const BITS: u8 = 7;
/// Raw features lie within this.
const RAW: i64 = 1 << 20;
/// Largest magnitude of weights of accumulators that have a register to themselves.
const WIDEST_WEIGHT: i64 = 1 << 20;
/// Bits of a table's entries, and of their number.
const TABLE_BITS: u8 = 8;

/// Dense layers.
#[derive(Debug, Clone, Copy)]
pub(super) struct Layers<'a> {
    pub(super) widths: &'a [usize],
    pub(super) lanes: Lanes,
    /// Whether packed activations need a clamp.
    pub(super) clamped: bool,
    pub(super) curve: Curve,
}

/// What hidden layers end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Curve {
    Relu,
    Signed,
    Table {
        fraction: u8,
    },
    /// ReLU, and a rule with a probability for each class.
    Probabilities,
}

/// Trees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trees {
    pub(super) inputs: usize,
    pub(super) trees: usize,
    pub(super) depth: u32,
    pub(super) outputs: usize,
    /// Whether each tree adds to one output.
    pub(super) single: bool,
}

/// In `-most..=most`.
fn around_zero(random: &mut SplitMix, most: i64) -> i64 {
    let span = most.unsigned_abs().saturating_mul(2).saturating_add(1);
    i64::try_from(random.next() % span).unwrap_or(0).saturating_sub(most)
}

fn below(random: &mut SplitMix, count: usize) -> usize {
    usize::try_from(random.next() % (count.max(1) as u64)).unwrap_or(0)
}

/// A network of dense layers.
pub(super) fn network(seed: u64, layers: &Layers<'_>) -> Network {
    let mut random = SplitMix(seed);
    let inputs = layers.widths.first().copied().unwrap_or(0);
    let high = (1i64 << BITS) - 1;
    let output = Interval { low: -high - 1, high };
    let mut ops = vec![Op::Quantise(quantiser(inputs, Interval { low: -RAW, high: RAW }, output))];
    let mut origins = vec![OpOrigin::Inputs];
    let hidden = layers.widths.len().saturating_sub(2);
    let mut magnitude = high + 1;
    let pairs = layers.widths.iter().zip(layers.widths.iter().skip(1));
    for (layer, (&columns, &rows)) in pairs.enumerate() {
        let post = if layer < hidden { post(layers) } else { Post::Raw };
        let dense = dense(&mut random, (rows, columns), magnitude, layers.lanes, post);
        let node = NodeRef { index: layer, name: format!("layer{layer}"), operator: "Gemm".to_owned() };
        let origin = OpOrigin::Layer { layer: u32::try_from(layer).unwrap_or(u32::MAX), node };
        ops.push(Op::Dense(dense));
        origins.push(origin.clone());
        magnitude = high + 1;
        if let (Curve::Table { fraction }, true) = (layers.curve, layer < hidden) {
            let most = 1i64 << value_bits(layers.lanes).min(40);
            let output = Interval { low: 0, high: (((1 << TABLE_BITS) - 1) << fraction) - 1 };
            ops.push(Op::Quantise(quantiser(rows, Interval { low: -most, high: most }, output)));
            let entries = (0..1 << TABLE_BITS).map(|_| u16::try_from(random.next() % 128).unwrap_or(0));
            let entries = entries.collect();
            ops.push(Op::Table(Table { width: rows, mapped: rows, bits: TABLE_BITS, fraction, entries }));
            origins.extend([origin.clone(), origin]);
        }
    }
    let outputs = layers.widths.last().copied().unwrap_or(0);
    // As many rules as the seed says, so that a rule has a price of its own.
    let mut tests = vec![RuleTest::Label { output: 0, class: 1 }; below(&mut random, 4)];
    if layers.curve == Curve::Probabilities {
        let lead = Lead { low: -RAW, high: 0, drop: 0, multiplier: 1 << 10, offset: (TOP << SHIFT) - 1 };
        tests = (0u32..).take(outputs).map(|class| RuleTest::Softmax { output: 0, class, lead }).collect();
    }
    Network { inputs: features(inputs), ops, origins, decision: decision(outputs, tests) }
}

/// Full trees: every walk has as many steps as the deepest.
pub(super) fn forest(seed: u64, shape: &Trees) -> Network {
    let mut random = SplitMix(seed);
    let Trees { inputs, trees, depth, outputs, single } = *shape;
    let stride = if single { 1 } else { outputs };
    let rows = 64;
    let mut nodes: Vec<Node> = (0..trees.next_multiple_of(2)).map(|at| Node::leaf(at, 0)).collect();
    for tree in 0..trees {
        let mut open = vec![(tree, 0)];
        while let Some((at, steps)) = open.pop() {
            let node = if steps == depth {
                Node::leaf(at, u16::try_from(below(&mut random, rows)).unwrap_or(0))
            } else {
                let next = nodes.len();
                nodes.extend([Node::leaf(next, 0), Node::leaf(next + 1, 0)]);
                open.extend([(next, steps + 1), (next + 1, steps + 1)]);
                let feature = u16::try_from(below(&mut random, inputs)).unwrap_or(0);
                let pair = u32::try_from(next / 2).unwrap_or(0);
                Node { threshold: around_zero(&mut random, RAW), pair, feature, row: 0 }
            };
            if let Some(place) = nodes.get_mut(at) {
                *place = node;
            }
        }
    }
    let pairs = (nodes.len() / 2).next_power_of_two();
    nodes.extend((nodes.len()..2 * pairs).map(|at| Node::leaf(at, 0)));
    let target = |tree: usize| u32::try_from(tree * outputs / trees.max(1)).unwrap_or(0);
    let op = Op::Forest(Forest {
        outputs,
        trees,
        depth,
        pairs,
        rows,
        targets: if single { (0..trees).map(target).collect() } else { Vec::new() },
        nodes,
        leaves: (0..rows * stride).map(|_| around_zero(&mut random, RAW)).collect(),
        base: (0..outputs).map(|_| around_zero(&mut random, RAW)).collect(),
    });
    let tests = vec![RuleTest::Label { output: 0, class: 1 }; below(&mut random, 4)];
    Network {
        inputs: features(inputs),
        ops: vec![op],
        origins: vec![OpOrigin::Inputs],
        decision: decision(outputs, tests),
    }
}

/// The label of the largest output, or of a positive one where there is but one.
fn decision(outputs: usize, tests: Vec<RuleTest>) -> Decision {
    let rule = if outputs == 1 { Rule::Positive } else { Rule::ArgMax };
    let labels = (0..outputs.max(2)).map(|class| format!("class{class}")).collect();
    Decision::single(rule, 1.0, labels, tests)
}

fn features(count: usize) -> Vec<Input> {
    let feature = |index| Input {
        name: format!("feature{index}"),
        fraction_bits: FractionBits(0),
        range: Interval { low: -2 * RAW, high: 2 * RAW },
    };
    (0..count).map(feature).collect()
}

/// The same line from one interval to the other for all values.
fn quantiser(count: usize, from: Interval, to: Interval) -> Quantise {
    let shift = 20u8;
    let span = from.high.saturating_sub(from.low).max(1);
    let multiplier = ((to.high - to.low) << shift) / span;
    let offset = (to.low << shift) - from.low.saturating_mul(multiplier);
    let one = QuantiseOne { low: from.low, high: from.high, multiplier, offset, shift };
    Quantise { features: vec![one; count], output: to, even: false, replaced: Vec::new() }
}

fn post(layers: &Layers<'_>) -> Post {
    let bits = value_bits(layers.lanes).min(31);
    let shift = u8::try_from(bits).unwrap_or(0).saturating_sub(BITS);
    match layers.curve {
        Curve::Relu | Curve::Probabilities => {
            // Without the clamp, what is left of a lane is as wide as an activation.
            let shift = if layers.clamped { shift.saturating_sub(3) } else { shift };
            Post::Relu { shift, bits: BITS }
        }
        Curve::Signed => Post::Signed { shift: shift.saturating_sub(3), bits: BITS },
        Curve::Table { .. } => Post::Raw,
    }
}

/// Weights and biases as large as every accumulator's lane allows.
fn dense(
    random: &mut SplitMix,
    (rows, columns): (usize, usize),
    magnitude: i64,
    lanes: Lanes,
    post: Post,
) -> Dense {
    let limit = (1i64 << value_bits(lanes).min(40)) - 1;
    let bias = limit / 4;
    let products = magnitude.saturating_mul(i64::try_from(columns).unwrap_or(i64::MAX)).max(1);
    let weight = ((limit - bias) / products).min(WIDEST_WEIGHT);
    Dense {
        rows,
        columns,
        weights: (0..rows * columns).map(|_| around_zero(random, weight)).collect(),
        bias: (0..rows).map(|_| around_zero(random, bias)).collect(),
        lanes,
        post,
    }
}
