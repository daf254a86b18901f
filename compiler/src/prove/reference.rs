//! What each operation must compute, in terms: built from the IR, not from the code that lowering writes.
//!
//! Clamps are written as `min(max(x - low, 0) - span, 0)`, which is `clamp(x, low, high) - high` where differences fit
//! 64 bits; the other form compares without a difference. `docs/numerics.md` has the premises.

use std::collections::HashMap;

use super::sum::{Factors, Sum};
use super::term::{Facts, Id, Node, Reason};
use super::world::World;
use crate::bpf::Size;
use crate::check::MOST_RAW;
use crate::ir::softmax::{BITS, COEFFICIENTS, ONE, SHIFT};
use crate::ir::{Dense, Forest, Gate, HALF_BITS, Interval, Op, Post, Quantise, Rule, RuleTest, Table};
use crate::lower::network::Weights;
use crate::params::layout::{
    DensePart, ForestPart, NODE_BYTES, NODE_FEATURE, NODE_PAIR, NODE_ROW, Part, QUANTISER_WORDS,
    REPLACED_WORDS, THRESHOLD_WORDS, word_bytes,
};

/// Largest magnitude of features whose differences with limits fit 64 bits.
const NARROW: i64 = 1 << 62;
/// What the check lets trees, further quantisers and leads read.
const RAW: Interval = Interval { low: -MOST_RAW, high: MOST_RAW };

/// Walks of trees, and how many of them each output's sum has.
#[derive(Default)]
pub(super) struct Walks {
    /// By tree, the offset of its leaf's values within the slot.
    leaves: HashMap<usize, Id>,
    /// By output.
    added: HashMap<usize, usize>,
}

/// Words of a quantiser or of a threshold, as they stand in the slot.
type Five = [Id; 5];

impl World<'_> {
    /// A raw feature, which lies in its declared range.
    pub(super) fn feature(&mut self, index: usize) -> Id {
        let range = self.network.inputs.get(index).map_or(Facts::ANY.range, |input| input.range);
        let number = u32::try_from(index).unwrap_or(u32::MAX);
        self.terms.intern_within(Node::Feature(number), range)
    }

    /// A value of an operation, in the interval that the plan and the next operation's premises leave it.
    pub(super) fn value(&mut self, op: usize, index: usize) -> Id {
        // What is known of outputs helps nobody, and a value of one bit would be taken for a flag.
        let own = match self.network.ops.get(op).filter(|_| op + 1 < self.network.ops.len()) {
            Some(Op::Dense(dense)) => match dense.post {
                Post::Relu { bits, .. } => Interval { low: 0, high: (1 << bits) - 1 },
                Post::Signed { bits, .. } => signed(u32::from(bits)),
                Post::Raw => signed(dense.lanes.bits(index)),
            },
            Some(Op::Table(_)) => Interval { low: 0, high: (1 << 16) - 1 },
            Some(Op::Quantise(_) | Op::Gate(_) | Op::Forest(_)) | None => Facts::ANY.range,
        };
        let read = match self.network.ops.get(op + 1) {
            Some(Op::Table(table)) if index < table.mapped => Interval { low: 0, high: table.greatest() },
            Some(Op::Table(_)) => Interval { low: 0, high: (1 << 16) - 1 },
            Some(Op::Quantise(_) | Op::Forest(_)) => RAW,
            Some(Op::Dense(_) | Op::Gate(_)) | None => Facts::ANY.range,
        };
        let range = Interval { low: own.low.max(read.low), high: own.high.min(read.high) };
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.terms.intern_within(Node::Value { op: number(op), index: number(index) }, range)
    }

    /// Whether a term is the quantised value.
    pub(super) fn is_quantised(
        &mut self,
        quantise: &Quantise,
        index: usize,
        stored: Id,
    ) -> Result<bool, Reason> {
        let Some(Part::Quantise { offset }) = self.layout.parts.get(self.op) else { return Ok(false) };
        let at = offset + word_bytes(index * QUANTISER_WORDS);
        let words = self.five(at);
        let Some(&x) = self.inputs.get(index) else { return Ok(false) };
        let Interval { low, high } = self.terms.facts(x).range;
        if -NARROW < low && high < NARROW {
            let [low, span, ..] = words;
            let behind = self.clamped(x, low, span);
            if self.rounded(quantise, behind, words) == stored {
                return Ok(true);
            }
        }
        let [low, span, ..] = words;
        let high = self.terms.add(low, span, 1);
        let below = self.terms.less(x, low);
        let raised = self.terms.choice(below, low, x);
        let above = self.terms.less(high, raised);
        let lowered = self.terms.choice(above, high, raised);
        let behind = self.terms.sub(lowered, high);
        Ok(self.rounded(quantise, behind, words) == stored)
    }

    /// Whether a term is the quantised value, or the other number where the raw value is to be replaced.
    pub(super) fn is_replaced(
        &mut self,
        quantise: &Quantise,
        place: usize,
        (index, quantised): (usize, Id),
        stored: Id,
    ) -> bool {
        let Some(&Part::Quantise { offset }) = self.layout.parts.get(self.op) else { return false };
        let words = quantise.features.len() * QUANTISER_WORDS + place * REPLACED_WORDS;
        let at = offset + word_bytes(words);
        let [first, last, to] = [0, 8, 16].map(|word| self.parameter(at + word, Size::DW));
        let Some(&x) = self.inputs.get(index) else { return false };
        let Interval { low, high } = self.terms.facts(x).range;
        if -NARROW < low && high < NARROW {
            // The check keeps the limits below 2^62 as well.
            let (below, above) = (self.terms.sub(x, first), self.terms.sub(last, x));
            if self.outside(below, above, (quantised, to)) == stored {
                return true;
            }
        }
        let (below, above) = (self.sign_word(x, first), self.sign_word(last, x));
        self.outside(below, above, (quantised, to)) == stored
    }

    /// `quantised` where either word is negative, else `to`.
    fn outside(&mut self, below: Id, above: Id, (quantised, to): (Id, Id)) -> Id {
        let either = self.terms.or(below, above);
        let flag = self.terms.negative(either);
        self.terms.choice(flag, quantised, to)
    }

    /// A number that is negative where `left < right`, for any two numbers.
    fn sign_word(&mut self, left: Id, right: Id) -> Id {
        let difference = self.terms.sub(left, right);
        let differ = self.terms.xor(left, right);
        let flipped = self.terms.xor(left, difference);
        let overflow = self.terms.and(differ, flipped);
        self.terms.xor(difference, overflow)
    }

    fn five(&mut self, at: u32) -> Five {
        [0, 8, 16, 24, 32].map(|word| self.parameter(at + word, Size::DW))
    }

    /// `clamp(x, low, low + span) - (low + span)` where no difference leaves 64 bits.
    fn clamped(&mut self, x: Id, low: Id, span: Id) -> Id {
        let above = self.terms.sub(x, low);
        let above = self.terms.max_zero(above);
        let behind = self.terms.sub(above, span);
        self.terms.min_zero(behind)
    }

    /// From what lies behind the upper limit to the result.
    fn rounded(&mut self, quantise: &Quantise, behind: Id, [.., multiplier, offset, shift]: Five) -> Id {
        let product = self.terms.mul(behind, multiplier);
        let mut acc = self.terms.add(product, offset, 1);
        if quantise.even {
            let whole = self.terms.sar_by(acc, shift);
            let one = self.terms.constant(1);
            let odd = self.terms.and(whole, one);
            acc = self.terms.add(acc, odd, 1 << HALF_BITS);
        }
        self.terms.sar_by(acc, shift)
    }

    /// The accumulators of a register, each with half of its lane's range on top where several share it.
    pub(super) fn packed_word(
        &mut self,
        dense: &Dense,
        part: &DensePart,
        register: usize,
    ) -> Result<Id, Reason> {
        self.terms.spend(dense.columns)?;
        let mut block = 0;
        while register >= part.first_register(block) + part.blocks.get(block).copied().unwrap_or(usize::MAX) {
            block += 1;
        }
        let width = part.blocks.get(block).copied().unwrap_or(0);
        let within = register.saturating_sub(part.first_register(block));
        let start = part.block_offset(block);
        let rows = register * dense.lanes.count()..((register + 1) * dense.lanes.count()).min(dense.rows);
        let pack = |value: &dyn Fn(usize) -> Option<i64>| {
            rows.clone().enumerate().fold(0u64, |word, (lane, row)| {
                let value = value(row).unwrap_or(0).cast_unsigned();
                word.wrapping_add(value.wrapping_shl(dense.lanes.start(lane)))
            })
        };
        let mut sum = match self.weights {
            Weights::Map => {
                let bias = self.parameter(start + word_bytes(within), Size::DW);
                Sum::of(bias)
            }
            Weights::Const => {
                let bias = pack(&|row| dense.bias.get(row).copied());
                let halves = dense.lanes.each(|bits| 1 << (bits - 1));
                Sum::constant(bias.wrapping_add(if dense.lanes.packed() { halves } else { 0 }))
            }
        };
        for column in 0..dense.columns {
            let Some(&x) = self.inputs.get(column) else {
                return Err("reads a value that is not there".to_owned());
            };
            match self.weights {
                Weights::Map => {
                    let at = start + word_bytes(width + column * width + within);
                    let weight = self.parameter(at, Size::DW);
                    sum.add_product(weight, x);
                }
                Weights::Const => {
                    let weight = pack(&|row| dense.weights.get(row * dense.columns + column).copied());
                    if weight != 0 {
                        sum.add_term(x, weight);
                    }
                }
            }
        }
        sum.settle();
        Ok(self.terms.close(&sum))
    }

    /// The result of a table for one value.
    pub(super) fn looked_up(&mut self, table: &Table, index: usize) -> Result<Id, Reason> {
        let missing = || "reads a value that is not there".to_owned();
        let x = *self.inputs.get(index).ok_or_else(missing)?;
        if index >= table.mapped {
            return Ok(x);
        }
        let Some(Part::Table { offset }) = self.layout.parts.get(self.op) else { return Err(missing()) };
        let offset = u64::from(*offset);
        let fraction = u32::from(table.fraction);
        let number = self.terms.shr(x, fraction);
        let twice = self.terms.scale(number, 2);
        let at = self.terms.add_constant(twice, offset);
        let entry = self.parameter_at(at, Size::H)?;
        if fraction == 0 {
            return Ok(entry);
        }
        let behind = self.terms.add_constant(at, 2);
        let next = self.parameter_at(behind, Size::H)?;
        let mask = self.terms.constant((1 << fraction) - 1);
        let rest = self.terms.and(x, mask);
        let step = self.terms.sub(next, entry);
        let part = self.terms.mul(step, rest);
        let part = self.terms.sar(part, fraction);
        Ok(self.terms.add(entry, part, 1))
    }

    /// The result of a gate for one value: `(x * clamp(x + start, 0, most) + offset) >> shift`.
    pub(super) fn gated(&mut self, gate: &Gate, index: usize) -> Result<Id, Reason> {
        let missing = || "reads a value that is not there".to_owned();
        let x = *self.inputs.get(index).ok_or_else(missing)?;
        if index >= gate.mapped {
            return Ok(x);
        }
        let Some(Part::Gate { offset: at }) = self.layout.parts.get(self.op) else { return Err(missing()) };
        let at = *at;
        let [start, most, offset, shift] = [0, 8, 16, 24].map(|word| self.parameter(at + word, Size::DW));
        let above = self.terms.add(x, start, 1);
        let above = self.terms.max_zero(above);
        let behind = self.terms.sub(above, most);
        let behind = self.terms.min_zero(behind);
        let open = self.terms.add(behind, most, 1);
        let product = self.terms.mul(x, open);
        let sum = self.terms.add(product, offset, 1);
        Ok(self.terms.sar_by(sum, shift))
    }

    /// One of the values that trees compare, by its offset among them.
    pub(super) fn picked(&mut self, offset: Id) -> Id {
        let index = self.terms.as_constant(offset).and_then(|offset| usize::try_from(offset / 8).ok());
        match index.and_then(|index| self.inputs.get(index)) {
            Some(&input) => input,
            None => self.terms.intern_within(Node::Picked { offset }, RAW),
        }
    }

    /// The offset of the values of the leaf that a tree's walk ends at, within the slot. Offsets that come from the
    /// table are masked as the shape of the forest demands; the check says that no mask changes anything.
    fn leaf(&mut self, forest: &Forest, part: ForestPart, tree: usize) -> Result<Id, Reason> {
        if let Some(&leaf) = self.walks.leaves.get(&tree) {
            return Ok(leaf);
        }
        let mask = |count: usize, bytes: u64| (count.saturating_sub(1) as u64) * bytes;
        let pairs = self.terms.constant(mask(forest.pairs, 2 * u64::from(NODE_BYTES)));
        let features = self.terms.constant(mask(self.inputs.len().next_power_of_two(), 8));
        let rows = self.terms.constant(mask(forest.rows, 1));
        let nodes = u64::from(part.nodes);
        let mut node = self.terms.constant(nodes + tree as u64 * u64::from(NODE_BYTES));
        for _ in 0..forest.depth {
            self.terms.spend(16)?;
            let feature = self.part_of(node, NODE_FEATURE, Size::H)?;
            let feature = self.terms.and(feature, features);
            let x = self.picked(feature);
            let threshold = self.part_of(node, 0, Size::DW)?;
            let left = self.terms.sub(threshold, x);
            // No difference of a threshold and a value leaves 64 bits.
            let second = self.terms.negative(left);
            let pair = self.part_of(node, NODE_PAIR, Size::W)?;
            let pair = self.terms.and(pair, pairs);
            let next = self.terms.add(pair, second, u64::from(NODE_BYTES));
            node = self.terms.add_constant(next, nodes);
        }
        let row = self.part_of(node, NODE_ROW, Size::H)?;
        let row = self.terms.and(row, rows);
        let row = self.terms.scale(row, u64::from(word_bytes(forest.stride())));
        let leaf = self.terms.add_constant(row, u64::from(part.leaves));
        self.walks.leaves.insert(tree, leaf);
        Ok(leaf)
    }

    fn part_of(&mut self, node: Id, part: u32, size: Size) -> Result<Id, Reason> {
        let at = self.terms.add_constant(node, u64::from(part));
        self.parameter_at(at, size)
    }

    /// What a tree adds to an output.
    fn leaf_value(&mut self, forest: &Forest, tree: usize, output: usize) -> Result<Id, Reason> {
        let Some(Part::Forest(part)) = self.layout.parts.get(self.op).cloned() else {
            return Err("has no trees".to_owned());
        };
        let leaf = self.leaf(forest, part, tree)?;
        let among = output.saturating_sub(forest.outputs_of(tree).start);
        let at = self.terms.add_constant(leaf, u64::from(word_bytes(among)));
        self.parameter_at(at, Size::DW)
    }

    /// The trees that add to an output, in order.
    fn trees_of(forest: &Forest, output: usize) -> impl Iterator<Item = usize> + '_ {
        (0..forest.trees).filter(move |&tree| forest.outputs_of(tree).contains(&output))
    }

    /// The term that a sum of leaves stands for from now on: what was stored before and the leaves of the next trees,
    /// one after the other.
    pub(super) fn summed(&mut self, forest: &Forest, output: usize, sum: &Sum) -> Result<Id, Reason> {
        let Some(Part::Forest(part)) = self.layout.parts.get(self.op).cloned() else {
            return Err("has no trees".to_owned());
        };
        let before = self.walks.added.get(&output).copied();
        let start = match before {
            None => self.parameter(part.base + word_bytes(output), Size::DW),
            Some(trees) => self.partial(output, trees),
        };
        let mut rest = sum.clone();
        rest.add(&self.terms.open(start), u64::MAX);
        rest.settle();
        let mut constant = rest.constant;
        let mut left: HashMap<Factors, u64> =
            rest.terms().iter().map(|term| (term.factors, term.coefficient)).collect();
        let mut added = before.unwrap_or(0);
        let trees: Vec<usize> = match forest.targets.is_empty() {
            true => (added..forest.trees).collect(),
            false => Self::trees_of(forest, output).skip(added).collect(),
        };
        self.terms.spend(left.len())?;
        for tree in trees {
            if left.is_empty() && constant == 0 {
                break;
            }
            self.terms.spend(1)?;
            let value = self.leaf_value(forest, tree, output)?;
            let value = self.terms.open(value);
            constant = constant.wrapping_sub(value.constant);
            for term in value.terms() {
                let place = left.entry(term.factors).or_insert(0);
                *place = place.wrapping_sub(term.coefficient);
                if *place == 0 {
                    left.remove(&term.factors);
                }
            }
            added += 1;
        }
        if !left.is_empty() || constant != 0 {
            return Err(format!("stores another sum for output {output} than that of the next leaves"));
        }
        self.walks.added.insert(output, added);
        Ok(self.partial(output, added))
    }

    fn partial(&mut self, output: usize, trees: usize) -> Id {
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        self.terms.intern(Node::Partial { output: number(output), trees: number(trees) })
    }

    /// Whether every tree has been added; leaves that are no numbers but zero need not be.
    pub(super) fn all_trees(&mut self, forest: &Forest) -> Result<bool, Reason> {
        for output in 0..forest.outputs {
            let added = self.walks.added.get(&output).copied().unwrap_or(0);
            let left: Vec<usize> = Self::trees_of(forest, output).skip(added).collect();
            for tree in left {
                let value = self.leaf_value(forest, tree, output)?;
                if self.terms.as_constant(value) != Some(0) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }

    /// Labels and rules that fire, from the outputs.
    pub(super) fn decided(&mut self, outputs: &[Id]) -> Result<(Vec<Id>, Id), Reason> {
        let decision = &self.network.decision;
        let parts: Vec<(Rule, &[Id])> =
            decision.parts(outputs).map(|(output, values)| (output.rule, values)).collect();
        let labels: Vec<Id> = parts.iter().map(|&(rule, values)| self.label(rule, values)).collect();
        let mut rules = self.terms.constant(0);
        let (mut margins, mut thresholds) = (0, 0);
        for (bit, test) in (0u32..32).zip(&decision.tests) {
            let index = test.output() as usize;
            let Some((&(rule, values), &label)) = parts.get(index).zip(labels.get(index)) else {
                return Err("tests an output that is not there".to_owned());
            };
            let fires = match *test {
                RuleTest::Label { .. } if rule == Rule::None => self.terms.constant(0),
                RuleTest::Label { class, .. } => {
                    // Labels and classes are small: only a difference of zero is negative after one less.
                    let class = self.terms.constant(u64::from(class));
                    let differ = self.terms.xor(label, class);
                    let less = self.terms.add_constant(differ, u64::MAX);
                    self.terms.negative(less)
                }
                RuleTest::Margin { class, .. } => {
                    let at = self.layout.margins + word_bytes(margins);
                    margins += 1;
                    let margin = self.parameter(at, Size::DW);
                    let lead = self.lead(rule, values, class as usize)?;
                    let less = self.terms.less(lead, margin);
                    let one = self.terms.constant(1);
                    self.terms.sub(one, less)
                }
                RuleTest::Softmax { class, .. } => {
                    let at = self.layout.thresholds + word_bytes(thresholds * THRESHOLD_WORDS);
                    thresholds += 1;
                    self.likely(values, class as usize, at)?
                }
            };
            rules = self.terms.add(rules, fires, 1 << bit);
        }
        Ok((labels, rules))
    }

    fn label(&mut self, rule: Rule, values: &[Id]) -> Id {
        let zero = self.terms.constant(0);
        match (rule, values) {
            (Rule::None, _) | (_, []) => zero,
            (Rule::Positive | Rule::Probability, [value, ..]) => self.terms.less(zero, *value),
            (Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities, [first, others @ ..]) => {
                let (mut best, mut label) = (*first, zero);
                for (class, &value) in (1u64..).zip(others) {
                    let larger = self.terms.less(best, value);
                    let class = self.terms.constant(class);
                    label = self.terms.choice(larger, class, label);
                    best = self.terms.choice(larger, value, best);
                }
                label
            }
        }
    }

    /// What a margin is compared with.
    fn lead(&mut self, rule: Rule, values: &[Id], class: usize) -> Result<Id, Reason> {
        match (values, class) {
            (_, _) if rule == Rule::Probabilities => {
                values.get(class).copied().ok_or_else(|| "tests a class that is not there".to_owned())
            }
            ([only], 0) => Ok(self.terms.scale(*only, u64::MAX)),
            ([only], 1) => Ok(*only),
            ([first, second], 0) => Ok(self.terms.sub(*first, *second)),
            ([first, second], 1) => Ok(self.terms.sub(*second, *first)),
            (_, _) => Err("tests a margin between other than two values".to_owned()),
        }
    }

    /// 1 where the powers of the leads of a class sum up to at most [`ONE`]; the check says that no sum overflows.
    fn likely(&mut self, values: &[Id], class: usize, at: u32) -> Result<Id, Reason> {
        let [low, span, drop, multiplier, offset] = self.five(at);
        let own = *values.get(class).ok_or_else(|| "tests a class that is not there".to_owned())?;
        let mut left = self.terms.constant(ONE.cast_unsigned());
        for (other, &value) in values.iter().enumerate() {
            if other == class {
                continue;
            }
            self.terms.spend(64)?;
            let lead = self.terms.sub(own, value);
            let behind = self.clamped(lead, low, span);
            let behind = self.terms.sar_by(behind, drop);
            let product = self.terms.mul(behind, multiplier);
            let exponent = self.terms.add(product, offset, 1);
            let exponent = self.terms.sar(exponent, SHIFT);
            let power = self.power(exponent);
            left = self.terms.sub(left, power);
        }
        let over = self.terms.negative(left);
        let one = self.terms.constant(1);
        Ok(self.terms.sub(one, over))
    }

    /// `2^(1 - exponent)`.
    fn power(&mut self, exponent: Id) -> Id {
        let mask = self.terms.constant((ONE - 1).cast_unsigned());
        let fraction = self.terms.and(exponent, mask);
        let fraction = self.terms.add_constant(fraction, (-(ONE / 2)).cast_unsigned());
        let [first @ .., last] = COEFFICIENTS;
        let mut polynomial = self.terms.constant(last.cast_unsigned());
        for coefficient in first.into_iter().rev() {
            let product = self.terms.mul(polynomial, fraction);
            let scaled = self.terms.sar(product, BITS);
            polynomial = self.terms.add_constant(scaled, coefficient.cast_unsigned());
        }
        let whole = self.terms.sar(exponent, BITS);
        self.terms.sar_by(polynomial, whole)
    }
}

/// Signed numbers of so many bits.
fn signed(bits: u32) -> Interval {
    let top = i64::MAX >> 64u32.saturating_sub(bits).min(62);
    Interval { low: -top - 1, high: top }
}
