//! Shapes, shifts, widths and the decision: what must be right before intervals mean anything.

use super::forest;
use crate::diag::codes::check::{DECISION, QUANTISER, SHAPE, WIDTH};
use crate::diag::{Code, Diagnostic, Origin};
use crate::ir::{
    Dense, Gate, Network, Op, OpOrigin, Output, Post, Quantise, Replaced, Rule, RuleTest, Table,
};

/// Largest shift of a quantiser: the bytecode masks shifts with 63, and 63 would keep the sign only.
pub(super) const MAX_SHIFT: u8 = 62;
/// Largest magnitude that an input is clamped to: code subtracts the lower limit from values that lie within the
/// same bounds, and then the distance of both limits, so that every difference fits 64 bits.
pub const MOST_RAW: i64 = (1 << 62) - 1;
/// Widest activation: products with weights then have 31 bits left.
pub(super) const MAX_BITS: u8 = 32;
/// Entries of a table, as a power of two: whole words, and what 16 bits tell apart.
const TABLE_BITS: std::ops::RangeInclusive<u8> = 2..=16;
/// Most bits between two entries: the product with their difference fits far.
const MAX_FRACTION: u8 = 16;
/// Most halvings of an output's unit: far more than the precision of its values.
pub const MAX_FINER: u8 = 60;
/// Outputs of the single-output decision and of the two-class margin.
const MARGIN_OUTPUTS: std::ops::RangeInclusive<usize> = 1..=2;
/// Outputs whose leads are summed up: the sum of so many powers of at most 2 fits 63 bits.
const SOFTMAX_OUTPUTS: std::ops::RangeInclusive<usize> = 3..=1 << 31;

pub(super) fn errors(network: &Network) -> Vec<Diagnostic> {
    let mut errors = Vec::new();
    if network.ops.len() != network.origins.len() {
        errors.push(plain(&SHAPE, "operations and their origins differ in number".to_owned()));
    }
    let mut width = network.inputs.len();
    for (position, op) in network.ops.iter().enumerate() {
        let problems = match op {
            Op::Quantise(quantise) => quantise_problems(quantise, position, width),
            Op::Dense(dense) => dense_problems(dense, width),
            Op::Table(table) => table_problems(table, width),
            Op::Gate(gate) => gate_problems(gate, width),
            Op::Forest(forest) => forest::problems(forest, width),
        };
        let origin = origin(network, position);
        errors.extend(problems.into_iter().map(|(code, message)| {
            Diagnostic::new(code, origin.clone(), message, "report this as a defect of the compiler")
        }));
        width = op.width();
    }
    if !matches!(network.ops.as_slice(), [Op::Quantise(_), ..] | [Op::Forest(_)]) {
        errors.push(plain(&SHAPE, "the first operation is not the input quantiser".to_owned()));
    }
    if network.ops.iter().rev().skip(1).any(|op| matches!(op, Op::Forest(_))) {
        errors.push(plain(&SHAPE, "a forest stands before another operation".to_owned()));
    }
    errors.extend(decision_errors(network));
    errors
}

/// Where an operation came from, as a diagnostic's place.
pub(super) fn origin(network: &Network, position: usize) -> Origin {
    match network.origins.get(position) {
        Some(OpOrigin::Layer { node, .. }) => Origin::Node { file: "model".to_owned(), node: node.clone() },
        Some(OpOrigin::Inputs) | None => Origin::File { file: "model".to_owned() },
    }
}

type Problem = (&'static Code, String);

fn quantise_problems(quantise: &Quantise, position: usize, width: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    if quantise.features.len() != width {
        let have = quantise.features.len();
        problems.push((&SHAPE, format!("a quantiser of {have} values stands behind {width}")));
    }
    for (index, one) in quantise.features.iter().enumerate() {
        if one.shift > MAX_SHIFT {
            problems
                .push((&WIDTH, format!("input {index} is shifted by {}, more than {MAX_SHIFT}", one.shift)));
        }
        if one.low < -MOST_RAW || one.high > MOST_RAW {
            let (low, high) = (one.low, one.high);
            problems
                .push((&QUANTISER, format!("input {index} is clamped to {low}..={high}, beyond 62 bits")));
        }
        if one.low > one.high {
            problems.push((&WIDTH, format!("input {index} is clamped to an empty range")));
        }
    }
    let ordered = quantise.replaced.is_sorted_by(|one, next| one.feature < next.feature);
    let sound = |one: &Replaced| {
        one.feature < width && one.first <= one.last && one.first >= -MOST_RAW && one.last <= MOST_RAW
    };
    if !quantise.replaced.is_empty() && (position > 0 || !ordered || !quantise.replaced.iter().all(sound)) {
        problems.push((&SHAPE, "what replaces raw values is not one interval for each feature".to_owned()));
    }
    problems
}

fn gate_problems(gate: &Gate, width: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    if gate.width == 0 || gate.width != width || !(1..=width).contains(&gate.mapped) {
        problems.push((&SHAPE, format!("a gate for {} values reads {width}", gate.width)));
    }
    if gate.shift > MAX_SHIFT {
        problems.push((&WIDTH, format!("a gate is shifted by {}, more than {MAX_SHIFT}", gate.shift)));
    }
    problems
}

fn table_problems(table: &Table, width: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    if table.width == 0 || table.width != width || !(1..=width).contains(&table.mapped) {
        problems.push((&SHAPE, format!("a table for {} values reads {width}", table.width)));
    }
    if table.fraction > MAX_FRACTION {
        problems.push((&WIDTH, format!("a table with a fraction of {} bits", table.fraction)));
    }
    if !TABLE_BITS.contains(&table.bits) {
        problems.push((&WIDTH, format!("a table of 2^{} entries", table.bits)));
    } else if table.entries.len() != 1 << table.bits {
        problems.push((&SHAPE, format!("a table of 2^{} entries has {}", table.bits, table.entries.len())));
    }
    problems
}

fn dense_problems(dense: &Dense, width: usize) -> Vec<Problem> {
    let mut problems = Vec::new();
    if dense.rows == 0 || dense.columns == 0 || dense.columns != width {
        let (rows, columns) = (dense.rows, dense.columns);
        problems.push((&SHAPE, format!("a layer of {rows} x {columns} reads {width} values")));
    }
    if Some(dense.weights.len()) != dense.rows.checked_mul(dense.columns) || dense.bias.len() != dense.rows {
        problems
            .push((&SHAPE, "the number of weights or biases is not that of the layer's shape".to_owned()));
    }
    let (shift, bits, least) = match dense.post {
        Post::Raw => (0, 1, 1),
        Post::Relu { shift, bits } => (shift, bits, 1),
        Post::Signed { shift, bits } => (shift, bits, 2),
    };
    if shift > MAX_SHIFT {
        problems.push((&WIDTH, format!("the layer's shift is {shift}, more than {MAX_SHIFT}")));
    }
    if !(least..=MAX_BITS).contains(&bits) {
        problems
            .push((&WIDTH, format!("the layer's activations have {bits} bits, not {least} to {MAX_BITS}")));
    }
    problems
}

fn decision_errors(network: &Network) -> Vec<Diagnostic> {
    let decision = &network.decision;
    let values = vec![(); network.output_count()];
    let mut messages = Vec::new();
    let starts: Vec<usize> = decision.outputs().map(|output| output.start).collect();
    let ordered = starts.first() == Some(&0) && starts.is_sorted_by(|one, next| one < next);
    if !ordered || starts.last().is_none_or(|&last| last >= values.len()) {
        messages.push("the outputs do not divide the network's values".to_owned());
    }
    if !(decision.unit.is_finite() && decision.unit > 0.0) {
        messages.push("the unit of the outputs is not a positive number".to_owned());
    }
    if decision.tests.len() > 32 {
        messages.push(format!("{} rules do not fit the 32 bits of a verdict", decision.tests.len()));
    }
    let mut outputs: Vec<(&Output, usize, usize)> = Vec::new();
    for (output, values) in decision.parts(&values) {
        let width = values.len();
        let classes = match output.rule {
            Rule::None => 0,
            Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities => width,
            Rule::Positive | Rule::Probability => {
                if width != 1 {
                    messages.push(format!("a single-output decision stands behind {width} outputs"));
                }
                2
            }
        };
        if !output.labels.is_empty() && output.labels.len() != classes {
            messages.push(format!("{} labels name {classes} classes", output.labels.len()));
        }
        if output.finer > MAX_FINER {
            messages.push(format!("a unit is halved {} times, more than {MAX_FINER}", output.finer));
        }
        outputs.push((output, width, classes));
    }
    for (index, test) in decision.tests.iter().enumerate() {
        match outputs.get(test.output() as usize) {
            Some(&(output, width, classes)) => {
                messages.extend(test_errors(index, test, output.rule, width, classes));
            }
            None => {
                messages.push(format!("rule {index} names output {} of {}", test.output(), outputs.len()))
            }
        }
    }
    messages.into_iter().map(|message| plain(&DECISION, message)).collect()
}

/// What is wrong with the test of a rule on an output of so many values and classes.
fn test_errors(index: usize, test: &RuleTest, rule: Rule, width: usize, classes: usize) -> Vec<String> {
    let mut messages = Vec::new();
    let class = match *test {
        RuleTest::Label { class, .. } => class,
        RuleTest::Margin { class, .. } => {
            if rule != Rule::Probabilities && !MARGIN_OUTPUTS.contains(&width) {
                messages.push(format!("rule {index} compares a margin over {width} outputs"));
            }
            class
        }
        RuleTest::Softmax { class, lead, .. } => {
            if !SOFTMAX_OUTPUTS.contains(&width) || rule != Rule::ArgMax {
                messages.push(format!("rule {index} sums up leads over {width} outputs"));
            }
            if lead.drop > MAX_SHIFT || lead.low > lead.high || lead.low < -MOST_RAW || lead.high > MOST_RAW {
                messages.push(format!("rule {index} clamps leads beyond 62 bits or to nothing"));
            }
            class
        }
    };
    if class as usize >= classes {
        messages.push(format!("rule {index} names class {class} of {classes}"));
    }
    messages
}

fn plain(code: &'static Code, message: String) -> Diagnostic {
    let origin = Origin::File { file: "model".to_owned() };
    Diagnostic::new(code, origin, message, "report this as a defect of the compiler")
}
