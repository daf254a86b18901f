//! Random networks whose accumulators fit their lanes, and the formulas of the IR, for tests of lowering and
//! parameters.

use crate::diag::NodeRef;
use crate::ir::forest::Node;
use crate::ir::softmax::{COEFFICIENTS, Lead, SHIFT, TOP};
use crate::ir::{
    Decision, Dense, Forest, FractionBits, Gate, HALF_BITS, Input, Interval, Lanes, Network, Op, OpOrigin,
    Output, Post, Quantise, QuantiseOne, Replaced, Rule, RuleTest, Table,
};

/// A small generator of pseudo-random numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `low..=high`.
    pub(crate) fn within(&mut self, low: i64, high: i64) -> i64 {
        let span = i128::from(high) - i128::from(low) + 1;
        let offset = i128::from(self.next()) % span;
        i64::try_from(i128::from(low) + offset).unwrap()
    }
}

/// Divisions of a register: even ones, and uneven ones with and without room above.
pub(crate) fn patterns() -> Vec<Lanes> {
    let uneven: [&[u8]; 8] = [
        &[22, 21, 21],
        &[24, 20, 20],
        &[19, 19, 26],
        &[20, 15, 15, 14],
        &[18, 14, 18, 14],
        &[40, 24],
        &[20, 20],
        &[13, 13, 13, 13, 12],
    ];
    let even = [Lanes::ONE, Lanes::TWO, Lanes::THREE, Lanes::FOUR, Lanes::FIVE];
    even.into_iter().chain(uneven.into_iter().map(|widths| Lanes::new(widths).unwrap())).collect()
}

/// The shape of a dense layer to make.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    pub(crate) rows: usize,
    pub(crate) lanes: Lanes,
    pub(crate) post: Post,
}

/// The network with quantisers behind all layers but the last, every other one with a table behind it and every
/// third one with halves rounded to even numbers.
pub(crate) fn rescaled(mut network: Network, seed: u64) -> Network {
    let mut random = Random(seed ^ 0x7ab1e);
    let (mut ops, mut origins) = (Vec::new(), Vec::new());
    let last = network.ops.len() - 1;
    for (index, (op, origin)) in network.ops.drain(..).zip(network.origins.drain(..)).enumerate() {
        let width = op.width();
        ops.push(op);
        origins.push(origin.clone());
        if index == 0 || index == last {
            continue;
        }
        let bits = 2 + u8::try_from(random.next() % 7).unwrap();
        let fraction = u8::try_from(random.next() % 2 * (1 + random.next() % 8)).unwrap();
        let high = if fraction == 0 { (1 << bits) - 1 } else { (((1 << bits) - 1) << fraction) - 1 };
        let output = Interval { low: 0, high };
        let even = index % 3 == 1;
        let features = (0..width).map(|_| rescaler(&mut random, output.high)).collect();
        ops.push(Op::Quantise(Quantise { features, output, even, replaced: Vec::new() }));
        origins.push(origin.clone());
        if index % 2 == 1 {
            let entries = (0..1 << bits).map(|_| random.next() as u16 & 0xfff).collect();
            let mapped = 1 + usize::try_from(random.next() % width as u64).unwrap();
            ops.push(Op::Table(Table { width, mapped, bits, fraction, entries }));
            origins.push(origin);
        }
    }
    network.ops = ops;
    network.origins = origins;
    network
}

/// A network with a gate behind its hidden layer, and values of some features replaced, of wide ones too.
pub(crate) fn gated(seed: u64, inputs: usize, rows: usize, rule: Rule) -> Network {
    let shape = |rows| Shape { rows, lanes: Lanes::ONE, post: Post::Raw };
    let mut network = network(seed, inputs, &[shape(rows), shape(3)], rule);
    let mut random = Random(seed ^ 0x9a7e);
    // Numbers on both sides of where the gate opens and of where it is open.
    let output = Interval { low: -(1 << 13), high: 1 << 14 };
    let features = (0..rows).map(|_| quantiser(&mut random, output)).collect();
    let rescaling = Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() });
    let gate = Gate {
        width: rows,
        mapped: 1 + usize::try_from(random.next() % rows as u64).unwrap(),
        start: random.within(-(1 << 12), 1 << 13),
        most: random.within(0, 1 << 14),
        offset: random.within(-(1 << 12), 1 << 12),
        shift: u8::try_from(random.within(0, 12)).unwrap(),
    };
    let origin = network.origins[1].clone();
    network.ops.splice(2..2, [rescaling, Op::Gate(gate)]);
    network.origins.splice(2..2, [origin.clone(), origin]);
    let Op::Quantise(quantise) = &mut network.ops[0] else { unreachable!("the input quantiser") };
    for (feature, (input, one)) in network.inputs.iter_mut().zip(&quantise.features).enumerate() {
        let (first, last) = match random.next() % 4 {
            0 => continue,
            1 => (input.range.low - 7, one.low),
            2 => (input.range.high, input.range.high),
            _ => (one.low, one.low.midpoint(one.high)),
        };
        let to = random.within(quantise.output.low, quantise.output.high);
        quantise.replaced.push(Replaced { feature, first, last, to });
        if random.next().is_multiple_of(3) {
            input.range = Interval { low: i64::MIN, high: i64::MAX };
        }
    }
    network
}

/// A network with random parameters; accumulators reach about the ends of their lanes.
pub(crate) fn network(seed: u64, inputs: usize, shapes: &[Shape], rule: Rule) -> Network {
    let mut random = Random(seed);
    let input_bits = 12;
    let output = Interval { low: -(1 << (input_bits - 1)), high: (1 << (input_bits - 1)) - 1 };
    let features: Vec<QuantiseOne> = (0..inputs).map(|_| quantiser(&mut random, output)).collect();
    let range = |one: &QuantiseOne| Interval { low: one.low - 1000, high: one.high + 1000 };
    let mut network = Network {
        inputs: features
            .iter()
            .enumerate()
            .map(|(index, one)| Input {
                name: format!("f{index}"),
                fraction_bits: FractionBits(0),
                range: range(one),
            })
            .collect(),
        ops: vec![Op::Quantise(Quantise { features, output, even: false, replaced: Vec::new() })],
        origins: vec![OpOrigin::Inputs],
        decision: Decision::single(rule, 0.5, Vec::new(), Vec::new()),
    };
    let (mut columns, mut magnitude) = (inputs, 1i128 << (input_bits - 1));
    for (layer, shape) in (0u32..).zip(shapes) {
        network.ops.push(Op::Dense(dense(&mut random, columns, magnitude, *shape)));
        let node = NodeRef { index: layer as usize, name: format!("fc{layer}"), operator: "Gemm".to_owned() };
        network.origins.push(OpOrigin::Layer { layer, node });
        columns = shape.rows;
        magnitude = match shape.post {
            Post::Raw => 1 << (shape.lanes.widest() - 1).min(40),
            Post::Relu { bits, .. } => (1 << bits) - 1,
            Post::Signed { bits, .. } => 1 << (bits - 1),
        };
    }
    let margin = |random: &mut Random| random.within(-1000, 1000);
    network.decision.tests = match (rule, columns) {
        (Rule::ArgMax, 2) => vec![
            RuleTest::Margin { output: 0, class: 0, margin: margin(&mut random) },
            RuleTest::Label { output: 0, class: 1 },
            RuleTest::Margin { output: 0, class: 1, margin: margin(&mut random) },
        ],
        (Rule::ArgMax, 1) => vec![RuleTest::Label { output: 0, class: 0 }],
        (Rule::ArgMax, _) => vec![
            RuleTest::Softmax { output: 0, class: 0, lead: lead(&mut random) },
            RuleTest::Label { output: 0, class: 0 },
            RuleTest::Softmax { output: 0, class: 2, lead: lead(&mut random) },
        ],
        (Rule::Positive, _) => vec![
            RuleTest::Margin { output: 0, class: 1, margin: margin(&mut random) },
            RuleTest::Margin { output: 0, class: 0, margin: margin(&mut random) },
            RuleTest::Label { output: 0, class: 1 },
        ],
        (Rule::None | Rule::OneVersusRest { .. }, _) => Vec::new(),
        (Rule::Probability | Rule::Probabilities, _) => unreachable!("these are of trees"),
    };
    network
}

/// What random trees look like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Trees {
    pub(crate) inputs: usize,
    pub(crate) trees: usize,
    pub(crate) depth: u32,
    pub(crate) outputs: usize,
    /// Whether each tree adds to one output.
    pub(crate) single: bool,
    /// Whether a quantiser clamps before.
    pub(crate) clamped: bool,
}

/// Trees of random shapes with features of every magnitude.
pub(crate) fn forest(seed: u64, shape: Trees, rule: Rule) -> Network {
    let mut random = Random(seed);
    let Trees { inputs, trees, depth, outputs, single, clamped } = shape;
    let limits: Vec<i64> = (0..inputs).map(|_| (1i64 << (random.next() % 62)).max(2) - 1).collect();
    let stride = if single { 1 } else { outputs };
    let rows = 1 << (random.next() % 5);
    let mut nodes: Vec<Node> = (0..trees.next_multiple_of(2)).map(|at| Node::leaf(at, 0)).collect();
    let mut deepest = 0;
    for tree in 0..trees {
        let mut open = vec![(tree, 0)];
        while let Some((at, steps)) = open.pop() {
            deepest = deepest.max(steps);
            if steps == depth || random.next().is_multiple_of(5) {
                nodes[at] = Node::leaf(at, (random.next() % rows) as u16);
                continue;
            }
            let next = nodes.len();
            nodes.extend([Node::leaf(next, 0), Node::leaf(next + 1, 0)]);
            let feature = (random.next() % inputs as u64) as u16;
            let limit = limits[usize::from(feature)];
            let threshold = random.within(-limit, limit);
            nodes[at] = Node { threshold, pair: (next / 2) as u32, feature, row: 0 };
            open.extend([(next, steps + 1), (next + 1, steps + 1)]);
        }
    }
    let pairs = (nodes.len() / 2).next_power_of_two();
    nodes.extend((nodes.len()..2 * pairs).map(|at| Node::leaf(at, 0)));
    let mut value = || random.within(-1 << 40, 1 << 40);
    let forest = Forest {
        outputs,
        trees,
        depth: deepest,
        pairs,
        rows: rows as usize,
        targets: if single {
            (0..trees).map(|tree| (tree * outputs / trees) as u32).collect()
        } else {
            Vec::new()
        },
        nodes,
        leaves: (0..rows as usize * stride).map(|_| value()).collect(),
        base: (0..outputs).map(|_| value()).collect(),
    };
    let most = i64::MAX >> 1;
    let one = QuantiseOne { low: -most, high: most, multiplier: 1, offset: 0, shift: 0 };
    let mut ops = Vec::new();
    if clamped {
        let output = Interval { low: -most, high: most };
        ops.push(Op::Quantise(Quantise {
            features: vec![one; inputs],
            output,
            even: false,
            replaced: Vec::new(),
        }));
    }
    ops.push(Op::Forest(forest));
    let mut tests: Vec<RuleTest> =
        (0..outputs.max(2) as u32).map(|class| RuleTest::Label { output: 0, class }).collect();
    if rule != Rule::ArgMax {
        let mut margin =
            |class| RuleTest::Margin { output: 0, class, margin: random.within(-1 << 41, 1 << 41) };
        let margins: Vec<RuleTest> = (0..outputs.max(2) as u32).map(&mut margin).collect();
        tests.extend(margins);
    }
    let range = |limit: &i64| match clamped {
        true => Interval { low: i64::MIN, high: i64::MAX },
        false => Interval { low: -limit, high: *limit },
    };
    Network {
        inputs: limits
            .iter()
            .enumerate()
            .map(|(index, limit)| Input {
                name: format!("f{index}"),
                fraction_bits: FractionBits(0),
                range: range(limit),
            })
            .collect(),
        origins: vec![OpOrigin::Inputs; ops.len()],
        ops,
        decision: Decision::single(rule, 1.0, Vec::new(), tests),
    }
}

/// Leads of any magnitude up to that of the outputs; exponents from the smallest to the largest.
fn lead(random: &mut Random) -> Lead {
    let magnitude = 1i64 << random.within(1, 41);
    let low = random.within(-magnitude, magnitude);
    let high = low + random.within(0, magnitude);
    let drop = u8::try_from(random.within(0, 20)).unwrap();
    let offset = random.within(0, (TOP << SHIFT) - 1);
    let deepest = -((low - high) >> drop);
    let multiplier = if deepest == 0 { 1 << 50 } else { random.within(0, offset / deepest) };
    Lead { low, high, drop, multiplier, offset }
}

fn quantiser(random: &mut Random, output: Interval) -> QuantiseOne {
    let low = random.within(-1 << 20, 1 << 20);
    let high = low + random.within(1, 1 << 30);
    let shift = 24u8;
    // Maps low to about output.low and high to about output.high, and never outside.
    let steps = i128::from(output.high - output.low) << shift;
    let multiplier = i64::try_from(steps / i128::from(high - low)).unwrap();
    let offset = (output.low << shift) - low * multiplier;
    QuantiseOne { low, high, multiplier, offset, shift }
}

/// Maps sums to 0 up to the number before `high`, which halves may round up to.
fn rescaler(random: &mut Random, high: i64) -> QuantiseOne {
    let low = random.within(-1 << 20, 1 << 20);
    let (span, shift) = (random.within(1 << 10, 1 << 30), 36);
    let multiplier = ((high - 1) << shift) / span;
    QuantiseOne { low, high: low + span, multiplier, offset: -low * multiplier, shift }
}

fn dense(random: &mut Random, columns: usize, magnitude: i128, shape: Shape) -> Dense {
    let limits = |row: usize| {
        let limit = (1i128 << (shape.lanes.bits(row).min(62) - 1)) - 1;
        let bias_limit = limit / 4;
        let weight_limit = ((limit - bias_limit) / (magnitude * columns as i128)).min(1 << 20);
        (i64::try_from(weight_limit).unwrap(), i64::try_from(bias_limit).unwrap())
    };
    let mut within = |limit: i64| random.within(-limit, limit);
    Dense {
        rows: shape.rows,
        columns,
        weights: (0..shape.rows * columns).map(|at| within(limits(at / columns).0)).collect(),
        bias: (0..shape.rows).map(|row| within(limits(row).1)).collect(),
        lanes: shape.lanes,
        post: shape.post,
    }
}

/// Rows of raw features: inside the range, and at its ends.
pub(crate) fn rows(network: &Network, seed: u64, count: usize) -> Vec<Vec<i64>> {
    let mut random = Random(seed);
    (0..count)
        .map(|_| {
            network
                .inputs
                .iter()
                .map(|input| match random.next() % 8 {
                    0 => input.range.low,
                    1 => input.range.high,
                    _ => random.within(input.range.low, input.range.high),
                })
                .collect()
        })
        .collect()
}

/// Outputs, labels and rules by the formulas of the IR, written down independently of the interpreter.
pub(crate) fn expected(network: &Network, row: &[i64]) -> (Vec<i64>, Vec<u32>, u32) {
    let mut values = row.to_vec();
    for op in &network.ops {
        values = match op {
            Op::Quantise(quantise) => quantise
                .features
                .iter()
                .zip(&values)
                .map(|(q, &x)| {
                    let p = x.clamp(q.low, q.high).wrapping_mul(q.multiplier).wrapping_add(q.offset);
                    let whole = p >> q.shift;
                    // An odd result whose rest is just below the next one goes up to it.
                    let rest = p - (whole << q.shift);
                    let near = rest >= (1i64 << q.shift) - (1 << HALF_BITS);
                    if quantise.even && whole % 2 != 0 && near { whole + 1 } else { whole }
                })
                .enumerate()
                .map(|(feature, q)| {
                    let own = quantise.replaced.iter().find(|one| one.feature == feature);
                    own.filter(|one| (one.first..=one.last).contains(&values[feature]))
                        .map_or(q, |one| one.to)
                })
                .collect(),
            Op::Table(table) => {
                let (looked, kept) = values.split_at(table.mapped);
                let parts = 1i64 << table.fraction;
                let at = |index: i64| i64::from(*table.entries.get(index as usize).unwrap_or(&0));
                let looked = looked.iter().map(|&x| {
                    let (index, rest) = (x / parts, x % parts);
                    at(index) + ((at(index + 1) - at(index)) * rest).div_euclid(parts)
                });
                looked.chain(kept.iter().copied()).collect()
            }
            Op::Gate(gate) => {
                let opened = |x: i64| {
                    let open = x.checked_add(gate.start).unwrap().clamp(0, gate.most);
                    let sum = i128::from(x) * i128::from(open) + i128::from(gate.offset);
                    i64::try_from(sum.div_euclid(1 << gate.shift)).unwrap()
                };
                let (gated, kept) = values.split_at(gate.mapped);
                gated.iter().map(|&x| opened(x)).chain(kept.iter().copied()).collect()
            }
            Op::Dense(dense) => (0..dense.rows)
                .map(|i| {
                    let sum = (0..dense.columns).fold(dense.bias[i], |sum, j| {
                        sum.wrapping_add(dense.weights[i * dense.columns + j].wrapping_mul(values[j]))
                    });
                    match dense.post {
                        Post::Raw => sum,
                        Post::Relu { shift, bits } => (sum.max(0) >> shift).min((1 << bits) - 1),
                        Post::Signed { shift, bits } => {
                            (sum >> shift).clamp(-(1 << (bits - 1)), (1 << (bits - 1)) - 1)
                        }
                    }
                })
                .collect(),
            Op::Forest(forest) => leaves(forest, &values),
        };
    }
    // Where each output's values end.
    let ends: Vec<usize> =
        network.decision.further.iter().map(|next| next.start).chain([values.len()]).collect();
    let parts: Vec<(Rule, &[i64])> = network
        .decision
        .outputs()
        .zip(ends)
        .map(|(output, end)| (output.rule, &values[output.start..end]))
        .collect();
    let labels: Vec<u32> = parts
        .iter()
        .map(|&(rule, values)| match rule {
            Rule::None => 0,
            Rule::Positive | Rule::Probability => u32::from(values[0] > 0),
            Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities => {
                let best = values.iter().max().unwrap();
                u32::try_from(values.iter().position(|v| v == best).unwrap()).unwrap()
            }
        })
        .collect();
    let mut rules = 0;
    for (bit, test) in network.decision.tests.iter().enumerate() {
        let (rule, part) = parts[test.output() as usize];
        let fires = match *test {
            RuleTest::Label { output, class } => rule != Rule::None && labels[output as usize] == class,
            RuleTest::Margin { class, margin, .. } => {
                let lead = match (part, class) {
                    _ if rule == Rule::Probabilities => part[class as usize],
                    ([z], 1) => *z,
                    ([z], _) => -z,
                    ([a, b], 0) => a - b,
                    ([a, b], _) => b - a,
                    _ => panic!("margins are for one or two outputs"),
                };
                lead >= margin
            }
            RuleTest::Softmax { class, lead, .. } => {
                let own = part[class as usize];
                let others = (0u32..).zip(part).filter(|(other, _)| *other != class);
                others.map(|(_, other)| power(&lead, own - other)).sum::<i128>() <= 1 << 30
            }
        };
        rules |= u32::from(fires) << bit;
    }
    (values, labels, rules)
}

/// The sums of the leaves that each tree ends at, however deep they are.
fn leaves(forest: &Forest, values: &[i64]) -> Vec<i64> {
    let mut sums = forest.base.clone();
    for tree in 0..forest.trees {
        let mut at = tree;
        while forest.nodes[at].pair as usize != at / 2 {
            let node = forest.nodes[at];
            let greater = values[usize::from(node.feature)] > node.threshold;
            at = node.pair as usize * 2 + if greater { 1 } else { 0 };
        }
        let row = usize::from(forest.nodes[at].row);
        match forest.targets.get(tree) {
            Some(&target) => sums[target as usize] += forest.leaves[row],
            None => (0..forest.outputs).for_each(|o| sums[o] += forest.leaves[row * forest.outputs + o]),
        }
    }
    sums
}

/// The network with its values divided among outputs of so many values each, and rules on each of them.
pub(crate) fn divided(mut network: Network, seed: u64, widths: &[usize]) -> Network {
    let mut random = Random(seed);
    let (mut start, mut tests) = (0, Vec::new());
    let mut outputs = (0u32..).zip(widths).map(|(output, &width)| {
        let rule = if width == 1 { Rule::Positive } else { Rule::ArgMax };
        let last = u32::try_from(width.max(2) - 1).unwrap();
        tests.push(RuleTest::Label { output, class: last });
        tests.push(if width > 2 {
            RuleTest::Softmax { output, class: last, lead: lead(&mut random) }
        } else {
            RuleTest::Margin { output, class: last, margin: random.within(-1000, 1000) }
        });
        let one = Output { name: format!("o{output}"), start, ..Output::only(rule, Vec::new()) };
        start += width;
        one
    });
    network.decision.first = outputs.next().unwrap();
    network.decision.further = outputs.collect();
    network.decision.tests = tests;
    network
}

/// The power of a lead, with divisions instead of shifts.
fn power(lead: &Lead, difference: i64) -> i128 {
    let behind = i128::from(difference.clamp(lead.low, lead.high) - lead.high).div_euclid(1 << lead.drop);
    let exponent = (behind * i128::from(lead.multiplier) + i128::from(lead.offset)).div_euclid(1 << 24);
    let (whole, fraction) = (exponent.div_euclid(1 << 30), exponent.rem_euclid(1 << 30));
    let mut polynomial = 0;
    for coefficient in COEFFICIENTS.into_iter().rev() {
        polynomial = (polynomial * (fraction - (1 << 29))).div_euclid(1 << 30) + i128::from(coefficient);
    }
    polynomial.div_euclid(1 << whole)
}
