//! Bytes of a parameter slot, written from a network and read back into one.
//!
//! A quantiser is stored so that code needs two comparisons with zero and no second load of a bound:
//! `span = high - low` and `offset' = offset + high * multiplier` give
//! `q = (min(max(x - low, 0) - span, 0) * multiplier + offset') >> shift`.
//!
//! In packed layers each lane of a bias word carries half of its range, `2^(bits - 1)`, on top, so that no lane is ever negative
//! and lanes do not borrow from each other. A probability over more than two classes stores `span = high - low` in
//! place of `high` and `offset` for `min(max(lead - low, 0) - span, 0)`.
//!
//! A node of a tree is two words: its threshold, and 32 bits with the byte offset of the pair that follows among the
//! nodes, 16 with that of the feature among the values that are read, and 16 with a leaf's row. Where words stand is
//! decided in [`super::layout`].

use super::layout::{DensePart, Layout, Part, QUANTISER_WORDS, THRESHOLD_WORDS, margins, thresholds};
use crate::check::bounds::quantiser_sum;
use crate::ir::forest::Node;
use crate::ir::softmax::Lead;
use crate::ir::{
    Dense, Forest, Gate, HALF_BITS, Interval, Lanes, Network, Op, Quantise, QuantiseOne, Replaced, RuleTest,
    Table,
};

/// The bytes of a slot, `Layout::bytes()` of them.
#[must_use]
pub fn bytes(network: &Network) -> Vec<u8> {
    bytes_in(network, &Layout::new(network))
}

/// The same for a layout of this network.
pub(crate) fn bytes_in(network: &Network, layout: &Layout) -> Vec<u8> {
    let mut out = Vec::with_capacity(layout.bytes() as usize);
    for (op, part) in network.ops.iter().zip(&layout.parts) {
        match (op, part) {
            (Op::Quantise(quantise), _) => {
                for one in &quantise.features {
                    quantiser_words(one).iter().for_each(|word| out.extend(word.to_le_bytes()));
                }
                for Replaced { first, last, to, .. } in &quantise.replaced {
                    [first, last, to].into_iter().for_each(|word| out.extend(word.to_le_bytes()));
                }
            }
            (Op::Dense(dense), Part::Dense(part)) => dense_bytes(dense, part, &mut out),
            (Op::Table(table), _) => {
                table.entries.iter().for_each(|entry| out.extend(entry.to_le_bytes()));
                if table.fraction > 0 {
                    out.extend([0; 8]);
                }
            }
            (Op::Gate(gate), _) => {
                gate_words(gate).into_iter().for_each(|word| out.extend(word.to_le_bytes()));
            }
            (Op::Forest(forest), _) => forest_words(forest).for_each(|word| out.extend(word.to_le_bytes())),
            (
                Op::Dense(_),
                Part::Quantise { .. } | Part::Table { .. } | Part::Gate { .. } | Part::Forest(_),
            ) => {}
        }
    }
    margins(network).for_each(|margin| out.extend(margin.to_le_bytes()));
    for lead in thresholds(network) {
        threshold_words(&lead).iter().for_each(|word| out.extend(word.to_le_bytes()));
    }
    out
}

/// The words of a slot's bytes.
pub(crate) fn words(slot: &[u8]) -> impl Iterator<Item = u64> + '_ {
    slot.chunks_exact(8).map(|bytes| bytes.iter().rev().fold(0u64, |word, &byte| word << 8 | u64::from(byte)))
}

/// A network of `plan`'s plan with the parameters of a slot; `None` when the length is wrong.
///
/// The result is as unproved as its bytes: check it.
#[must_use]
pub fn read(plan: &Network, slot: &[u8]) -> Option<Network> {
    let layout = Layout::new(plan);
    if slot.len() != layout.bytes() as usize {
        return None;
    }
    let mut words = words(slot);
    let mut network = plan.clone();
    for (op, part) in network.ops.iter_mut().zip(&layout.parts) {
        match (op, part) {
            (Op::Quantise(quantise), _) => {
                for one in &mut quantise.features {
                    let mut take = || words.next();
                    *one = quantiser_from([take()?, take()?, take()?, take()?, take()?]);
                }
                for Replaced { first, last, to, .. } in &mut quantise.replaced {
                    for place in [first, last, to] {
                        *place = words.next()?.cast_signed();
                    }
                }
                quantise.output = widened(quantise).unwrap_or(quantise.output);
            }
            (Op::Dense(dense), Part::Dense(part)) => read_dense(dense, part, &mut words)?,
            (Op::Table(table), _) => read_table(table, &mut words)?,
            (Op::Gate(gate), _) => {
                let mut take = || words.next();
                read_gate(gate, [take()?, take()?, take()?, take()?]);
            }
            (Op::Forest(forest), _) => read_forest(forest, &mut words)?,
            (
                Op::Dense(_),
                Part::Quantise { .. } | Part::Table { .. } | Part::Gate { .. } | Part::Forest(_),
            ) => return None,
        }
    }
    for test in &mut network.decision.tests {
        match test {
            RuleTest::Label { .. } | RuleTest::Softmax { .. } => {}
            RuleTest::Margin { margin, .. } => *margin = words.next()?.cast_signed(),
        }
    }
    for test in &mut network.decision.tests {
        match test {
            RuleTest::Label { .. } | RuleTest::Margin { .. } => {}
            RuleTest::Softmax { lead, .. } => {
                let mut take = || words.next();
                *lead = threshold_from([take()?, take()?, take()?, take()?, take()?]);
            }
        }
    }
    Some(network)
}

/// The planned interval, wider where these parameters go beyond it: another model's scaler reaches other integers.
/// What reads them is proved with their own intervals. `None` for numbers that the proof refuses.
fn widened(quantise: &Quantise) -> Option<Interval> {
    let replaced = quantise.replaced.iter().map(|replaced| replaced.to);
    let planned = replaced
        .fold(quantise.output, |hull, to| Interval { low: hull.low.min(to), high: hull.high.max(to) });
    quantise.features.iter().try_fold(planned, |hull, one| {
        let sum = quantiser_sum(one).narrow()?;
        let fits = one.shift < 64 && sum.high.checked_add(1 << HALF_BITS).is_some();
        fits.then(|| Interval {
            low: hull.low.min(quantise.round(one, sum.low)),
            high: hull.high.max(quantise.round(one, sum.high)),
        })
    })
}

fn quantiser_words(one: &QuantiseOne) -> [u64; QUANTISER_WORDS] {
    let offset = one.offset.wrapping_add(one.high.wrapping_mul(one.multiplier));
    [
        one.low.cast_unsigned(),
        one.high.wrapping_sub(one.low).cast_unsigned(),
        one.multiplier.cast_unsigned(),
        offset.cast_unsigned(),
        u64::from(one.shift),
    ]
}

fn quantiser_from([low, span, multiplier, offset, shift]: [u64; QUANTISER_WORDS]) -> QuantiseOne {
    let (low, multiplier) = (low.cast_signed(), multiplier.cast_signed());
    let high = low.wrapping_add(span.cast_signed());
    QuantiseOne {
        low,
        high,
        multiplier,
        offset: offset.cast_signed().wrapping_sub(high.wrapping_mul(multiplier)),
        // Code masks the shift with 63 as well.
        shift: u8::try_from(shift & 63).unwrap_or(0),
    }
}

fn gate_words(gate: &Gate) -> [u64; 4] {
    let Gate { start, most, offset, .. } = gate;
    [start.cast_unsigned(), most.cast_unsigned(), offset.cast_unsigned(), u64::from(gate.shift)]
}

fn read_gate(gate: &mut Gate, [start, most, offset, shift]: [u64; 4]) {
    (gate.start, gate.most, gate.offset) = (start.cast_signed(), most.cast_signed(), offset.cast_signed());
    // Code masks the shift with 63 as well.
    gate.shift = u8::try_from(shift & 63).unwrap_or(0);
}

fn threshold_words(lead: &Lead) -> [u64; THRESHOLD_WORDS] {
    [
        lead.low.cast_unsigned(),
        lead.high.wrapping_sub(lead.low).cast_unsigned(),
        u64::from(lead.drop),
        lead.multiplier.cast_unsigned(),
        lead.offset.cast_unsigned(),
    ]
}

fn threshold_from([low, span, drop, multiplier, offset]: [u64; THRESHOLD_WORDS]) -> Lead {
    let low = low.cast_signed();
    Lead {
        low,
        high: low.wrapping_add(span.cast_signed()),
        // Code masks the shift with 63 as well.
        drop: u8::try_from(drop & 63).unwrap_or(0),
        multiplier: multiplier.cast_signed(),
        offset: offset.cast_signed(),
    }
}

/// What each lane of a bias word carries beyond the bias.
fn lane_bias(lanes: Lanes) -> u64 {
    if lanes.packed() { lanes.each(|bits| 1 << (bits - 1)) } else { 0 }
}

/// The lanes of one register as a word.
fn pack(lanes: Lanes, values: impl Iterator<Item = i64>) -> u64 {
    let mut at = 0;
    lanes.widths().zip(values).fold(0, |word: u64, (bits, value)| {
        let word = word.wrapping_add(value.cast_unsigned().wrapping_shl(at));
        at += bits;
        word
    })
}

/// The lanes of a word whose values are signed numbers of the lane's width.
fn unpack(lanes: Lanes, word: u64) -> Vec<i64> {
    let mut rest = word.cast_signed();
    lanes
        .widths()
        .map(|bits| {
            let unused = 64 - bits;
            let value = rest << unused >> unused;
            rest = rest.wrapping_sub(value).checked_shr(bits).unwrap_or(0);
            value
        })
        .collect()
}

/// The rows of a register, padded with `None`.
fn rows(dense: &Dense, register: usize) -> impl Iterator<Item = Option<usize>> + use<> {
    let (count, rows) = (dense.lanes.count(), dense.rows);
    (register * count..(register + 1) * count).map(move |row| (row < rows).then_some(row))
}

fn dense_bytes(dense: &Dense, part: &DensePart, out: &mut Vec<u8>) {
    let weight = |row: Option<usize>, column: usize| {
        row.and_then(|row| dense.weights.get(row * dense.columns + column)).copied().unwrap_or(0)
    };
    let bias = |row: Option<usize>| row.and_then(|row| dense.bias.get(row)).copied().unwrap_or(0);
    for (block, &width) in part.blocks.iter().enumerate() {
        let first = part.first_register(block);
        for register in first..first + width {
            let word = pack(dense.lanes, rows(dense, register).map(bias));
            out.extend(word.wrapping_add(lane_bias(dense.lanes)).to_le_bytes());
        }
        for column in 0..dense.columns {
            for register in first..first + width {
                let word = pack(dense.lanes, rows(dense, register).map(|row| weight(row, column)));
                out.extend(word.to_le_bytes());
            }
        }
    }
}

fn read_dense(dense: &mut Dense, part: &DensePart, words: &mut impl Iterator<Item = u64>) -> Option<()> {
    let lanes = dense.lanes;
    for (block, &width) in part.blocks.iter().enumerate() {
        let first = part.first_register(block);
        for register in first..first + width {
            let word = words.next()?;
            // Without the lane's own bias the values are signed again; unused lanes hold nothing.
            let values = unpack(lanes, word.wrapping_sub(lane_bias(lanes)));
            for (row, value) in rows(dense, register).zip(values) {
                if let Some(place) = row.and_then(|row| dense.bias.get_mut(row)) {
                    *place = value;
                }
            }
        }
        for column in 0..dense.columns {
            for register in first..first + width {
                let values = unpack(lanes, words.next()?);
                for (row, value) in rows(dense, register).zip(values) {
                    let index = row.map(|row| row * dense.columns + column);
                    if let Some(place) = index.and_then(|index| dense.weights.get_mut(index)) {
                        *place = value;
                    }
                }
            }
        }
    }
    Some(())
}

fn read_table(table: &mut Table, words: &mut impl Iterator<Item = u64>) -> Option<()> {
    for entries in table.entries.chunks_mut(4) {
        let mut word = words.next()?;
        for entry in entries {
            *entry = word as u16;
            word >>= 16;
        }
    }
    if table.fraction > 0 {
        words.next()?;
    }
    Some(())
}

/// Bytes of a pair of nodes, and of a value that is compared.
const PAIR_BYTES: u32 = 32;
const VALUE_BYTES: u16 = 8;

fn forest_words(forest: &Forest) -> impl Iterator<Item = u64> + '_ {
    let nodes = forest.nodes.iter().flat_map(|node| {
        let feature = node.feature.wrapping_mul(VALUE_BYTES);
        let rest = u64::from(node.pair.wrapping_mul(PAIR_BYTES))
            | u64::from(feature) << 32
            | u64::from(node.row) << 48;
        [node.threshold.cast_unsigned(), rest]
    });
    nodes.chain(forest.leaves.iter().chain(&forest.base).map(|value| value.cast_unsigned()))
}

/// What stands between multiples is lost, so that the slot differs from the one that is written again.
fn read_forest(forest: &mut Forest, words: &mut impl Iterator<Item = u64>) -> Option<()> {
    for node in &mut forest.nodes {
        let (threshold, rest) = (words.next()?.cast_signed(), words.next()?);
        *node = Node {
            threshold,
            pair: (rest as u32) / PAIR_BYTES,
            feature: ((rest >> 32) as u16) / VALUE_BYTES,
            row: (rest >> 48) as u16,
        };
    }
    for value in forest.leaves.iter_mut().chain(&mut forest.base) {
        *value = words.next()?.cast_signed();
    }
    Some(())
}
