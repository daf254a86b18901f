//! Text form of the integer network, for reports, golden tests and reading.

use std::fmt;

use super::softmax::Lead;
use super::{Forest, Gate, Network, Op, OpOrigin, Output, Post, RuleTest};

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "network")?;
        for (index, input) in self.inputs.iter().enumerate() {
            let (low, high) = (input.range.low, input.range.high);
            writeln!(
                f,
                "  input {index} {:?} fraction {} in {low}..={high}",
                input.name, input.fraction_bits.0
            )?;
        }
        for (op, origin) in self.ops.iter().zip(&self.origins) {
            match origin {
                OpOrigin::Inputs => writeln!(f, "  # inputs")?,
                OpOrigin::Layer { layer, node } => {
                    writeln!(f, "  # layer {layer}: {} {:?}", node.operator, node.name)?;
                }
            }
            write_op(f, op)?;
        }
        let several = !self.decision.further.is_empty();
        for output in self.decision.outputs() {
            let Output { name, start, finer, rule, labels } = output;
            let unit = self.decision.unit;
            writeln!(f, "  decide {rule:?} unit {unit:e} labels {labels:?}")?;
            if several {
                writeln!(f, "    output {name:?} from value {start} on, unit halved {finer} times")?;
            }
        }
        for test in &self.decision.tests {
            if several {
                writeln!(f, "  of output {}:", test.output())?;
            }
            match test {
                RuleTest::Label { class, .. } => writeln!(f, "  when label = {class}")?,
                RuleTest::Margin { class, margin, .. } => {
                    writeln!(f, "  when margin of {class} >= {margin}")?;
                }
                RuleTest::Softmax { class, lead, .. } => {
                    let Lead { low, high, drop, multiplier, offset } = lead;
                    writeln!(
                        f,
                        "  when powers of leads of {class} <= 1: clamp {low}..={high} >> {drop} * {multiplier} + {offset}"
                    )?;
                }
            }
        }
        Ok(())
    }
}

fn write_op(f: &mut fmt::Formatter<'_>, op: &Op) -> fmt::Result {
    match op {
        Op::Quantise(quantise) => {
            let even = if quantise.even { ", halves to even" } else { "" };
            writeln!(f, "  quantise to {}..={}{even}", quantise.output.low, quantise.output.high)?;
            for one in &quantise.features {
                writeln!(
                    f,
                    "    (clamp(x, {}, {}) * {} + {}) >> {}",
                    one.low, one.high, one.multiplier, one.offset, one.shift
                )?;
            }
            for one in &quantise.replaced {
                writeln!(f, "    {} in place of {}..={} of x{}", one.to, one.first, one.last, one.feature)?;
            }
        }
        Op::Dense(dense) => {
            let post = match dense.post {
                Post::Raw => "raw".to_owned(),
                Post::Relu { shift, bits } => format!("relu >> {shift} to {bits} bits"),
                Post::Signed { shift, bits } => format!("signed >> {shift} to {bits} bits"),
            };
            writeln!(f, "  dense {} x {} lanes {} {post}", dense.rows, dense.columns, dense.lanes)?;
            for (row, bias) in dense.weights.chunks(dense.columns.max(1)).zip(&dense.bias) {
                write!(f, "    {bias} +")?;
                for weight in row {
                    write!(f, " {weight}")?;
                }
                writeln!(f)?;
            }
        }
        Op::Table(table) => {
            let (entries, mapped, width) = (table.entries.len(), table.mapped, table.width);
            let fraction = table.fraction;
            writeln!(f, "  table of {entries} entries, fraction {fraction}, for {mapped} of {width} values")?;
            for entries in table.entries.chunks(16) {
                writeln!(f, "    {entries:?}")?;
            }
        }
        Op::Gate(Gate { width, mapped, start, most, offset, shift }) => {
            writeln!(f, "  gate for {mapped} of {width} values")?;
            writeln!(f, "    (x * clamp(x + {start}, 0, {most}) + {offset}) >> {shift}")?;
        }
        Op::Forest(forest) => write_forest(f, forest)?,
    }
    Ok(())
}

fn write_forest(f: &mut fmt::Formatter<'_>, forest: &Forest) -> fmt::Result {
    let Forest { outputs, trees, depth, pairs, rows, targets, nodes, leaves, base } = forest;
    writeln!(f, "  forest of {trees} trees, depth {depth}, {pairs} pairs, {rows} rows -> {outputs}")?;
    if !targets.is_empty() {
        writeln!(f, "    targets {targets:?}")?;
    }
    writeln!(f, "    base {base:?}")?;
    for (at, node) in nodes.iter().enumerate() {
        if node.is_leaf(at) {
            writeln!(f, "    node {at}: row {}", node.row)?;
        } else {
            writeln!(f, "    node {at}: x{} > {} of pair {}", node.feature, node.threshold, node.pair)?;
        }
    }
    for (row, values) in leaves.chunks(forest.stride().max(1)).enumerate() {
        writeln!(f, "    row {row}: {values:?}")?;
    }
    Ok(())
}
