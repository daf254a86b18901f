//! Exact interval propagation with the actual weights, in 128-bit arithmetic.
//!
//! The interval of a weighted sum takes each product's lower and upper end by the sign of its weight; it is
//! the exact range over the box of input intervals (the QONNX method), so nothing is assumed about type sizes.

use super::bounds::{Wide, lane_range, posted, quantiser_sum, weighted_sum};
use super::{Certificate, MOST_RAW, OpIntervals, forest, shapes};
use crate::diag::codes::check::{LANE, MARGIN, QUANTISER};
use crate::diag::{Diagnostic, Outcome};
use crate::ir::softmax::{self, Lead};
use crate::ir::{
    Dense, Forest, Gate, HALF_BITS, Interval, Network, Op, Quantise, QuantiseOne, Rule, RuleTest, Table,
};

pub(super) fn prove(network: &Network) -> Outcome<Certificate> {
    let mut errors = Vec::new();
    let mut certificate = Certificate::default();
    let mut values: Vec<Interval> = network.inputs.iter().map(|input| input.range).collect();
    for (position, op) in network.ops.iter().enumerate() {
        let (intervals, problems) = match op {
            Op::Quantise(quantise) => quantise_intervals(quantise, position, &values),
            Op::Dense(dense) => dense_intervals(dense, &values),
            Op::Table(table) => table_intervals(table, &values),
            Op::Gate(gate) => gate_intervals(gate, &values),
            Op::Forest(forest) => forest_intervals(forest, &values),
        };
        if !problems.is_empty() {
            let origin = shapes::origin(network, position);
            errors.extend(problems.into_iter().map(|problem| problem.at(origin.clone())));
            return Err(errors);
        }
        values.clone_from(&intervals.values);
        certificate.ops.push(intervals);
    }
    if !margins_fit(network, &values) {
        errors.push(Diagnostic::new(
            &MARGIN,
            shapes::origin(network, network.ops.len().saturating_sub(1)),
            "a rule's sum of differences of outputs can leave 64 bits",
            "report this as a defect of the compiler",
        ));
        return Err(errors);
    }
    Ok(certificate)
}

pub(super) fn holds(network: &Network, certificate: &Certificate) -> bool {
    if certificate.ops.len() != network.ops.len() {
        return false;
    }
    let mut values: Vec<Interval> = network.inputs.iter().map(|input| input.range).collect();
    for (position, (op, claimed)) in network.ops.iter().zip(&certificate.ops).enumerate() {
        let (derived, problems) = match op {
            Op::Quantise(quantise) => quantise_intervals(quantise, position, &values),
            Op::Dense(dense) => dense_intervals(dense, &values),
            Op::Table(table) => table_intervals(table, &values),
            Op::Gate(gate) => gate_intervals(gate, &values),
            Op::Forest(forest) => forest_intervals(forest, &values),
        };
        if !problems.is_empty()
            || !contains(&claimed.accumulators, &derived.accumulators)
            || !contains(&claimed.values, &derived.values)
            || !claimed_fits(op, claimed)
        {
            return false;
        }
        values.clone_from(&claimed.values);
    }
    margins_fit(network, &values)
}

/// A claim may be wider than what follows, but not wider than the lane that it vouches for.
fn claimed_fits(op: &Op, claimed: &OpIntervals) -> bool {
    match op {
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => true,
        Op::Dense(dense) => claimed.accumulators.iter().enumerate().all(|(row, acc)| {
            let lane = lane_range(dense.lanes.bits(row));
            i128::from(acc.low) >= lane.low && i128::from(acc.high) <= lane.high
        }),
    }
}

fn contains(outer: &[Interval], inner: &[Interval]) -> bool {
    outer.len() == inner.len()
        && outer.iter().zip(inner).all(|(outer, inner)| outer.low <= inner.low && inner.high <= outer.high)
}

enum Problem {
    Quantiser { input: usize },
    Planned { input: usize },
    Table { value: usize, greatest: i64 },
    Gate { value: usize },
    Lane { row: usize, bits: u32, sum: Wide },
    Trees(String),
}

impl Problem {
    fn at(self, origin: crate::diag::Origin) -> Diagnostic {
        match self {
            Self::Quantiser { input } => Diagnostic::new(
                &QUANTISER,
                origin,
                format!("the quantiser of input {input} can leave 64 bits"),
                "narrow the feature's range in the specification",
            ),
            Self::Planned { input } => Diagnostic::new(
                &QUANTISER,
                origin,
                format!("the quantiser of input {input} can leave the planned interval"),
                "compile the model anew instead of into the plan of an existing object",
            ),
            Self::Table { value, greatest } => Diagnostic::new(
                &QUANTISER,
                origin,
                format!("value {value} can lie outside of 0 to {greatest}, which its table covers"),
                "compile the model anew instead of into the plan of an existing object",
            ),
            Self::Gate { value } => Diagnostic::new(
                &QUANTISER,
                origin,
                format!("the product of value {value} with its gate can leave 64 bits"),
                "compile the model anew instead of into the plan of an existing object",
            ),
            Self::Lane { row, bits, sum } => Diagnostic::new(
                &LANE,
                origin,
                format!("neuron {row} can reach {}..={}, outside its {bits}-bit lane", sum.low, sum.high),
                "compile the model anew instead of into the plan of an existing object",
            ),
            Self::Trees(message) => forest::refusal(message, origin),
        }
    }
}

fn forest_intervals(forest: &Forest, inputs: &[Interval]) -> (OpIntervals, Vec<Problem>) {
    match forest::intervals(forest, inputs) {
        Ok(intervals) => (intervals, Vec::new()),
        Err(message) => {
            (OpIntervals { accumulators: Vec::new(), values: Vec::new() }, vec![Problem::Trees(message)])
        }
    }
}

fn quantise_intervals(
    quantise: &Quantise,
    position: usize,
    inputs: &[Interval],
) -> (OpIntervals, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut intervals = OpIntervals { accumulators: Vec::new(), values: Vec::new() };
    for (input, (one, arrives)) in quantise.features.iter().zip(inputs).enumerate() {
        // Features are compared with care for overflow where their ranges demand it; sums are not.
        let narrow = position == 0 || (arrives.low >= -MOST_RAW && arrives.high <= MOST_RAW);
        // The product alone must fit as well: it is computed before the offset is added.
        let product = quantiser_sum(&QuantiseOne { offset: 0, ..*one }).narrow();
        // Rounding to even numbers adds so much at most.
        let half = one.offset.saturating_add(1 << HALF_BITS);
        let rounded = quantiser_sum(&QuantiseOne { offset: half, ..*one }).narrow();
        let fits = narrow && product.is_some() && (rounded.is_some() || !quantise.even);
        let Some(acc) = quantiser_sum(one).narrow().filter(|_| fits) else {
            problems.push(Problem::Quantiser { input });
            continue;
        };
        let mut value = Interval { low: quantise.round(one, acc.low), high: quantise.round(one, acc.high) };
        for replaced in quantise.replaced.iter().filter(|replaced| replaced.feature == input) {
            value = Interval { low: value.low.min(replaced.to), high: value.high.max(replaced.to) };
        }
        if value.low < quantise.output.low || value.high > quantise.output.high {
            problems.push(Problem::Planned { input });
        }
        intervals.accumulators.push(acc);
        intervals.values.push(value);
    }
    (intervals, problems)
}

fn table_intervals(table: &Table, inputs: &[Interval]) -> (OpIntervals, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut values = Vec::with_capacity(inputs.len());
    for (value, input) in inputs.iter().enumerate() {
        let greatest = if value < table.mapped { table.greatest() } else { (1 << 16) - 1 };
        if input.low < 0 || input.high > greatest {
            problems.push(Problem::Table { value, greatest });
            continue;
        }
        values.push(if value < table.mapped { table.results(*input) } else { *input });
    }
    (OpIntervals { accumulators: inputs.to_vec(), values }, problems)
}

fn gate_intervals(gate: &Gate, inputs: &[Interval]) -> (OpIntervals, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut values = Vec::with_capacity(inputs.len());
    for (value, input) in inputs.iter().enumerate() {
        if value >= gate.mapped {
            values.push(*input);
            continue;
        }
        // Where the gate opens and closes is told by the sign of a difference.
        let narrow = input.low >= -MOST_RAW && input.high <= MOST_RAW;
        let Some(acc) = gate.accumulators(*input).filter(|_| narrow) else {
            problems.push(Problem::Gate { value });
            continue;
        };
        values.push(Interval { low: acc.low >> gate.shift, high: acc.high >> gate.shift });
    }
    (OpIntervals { accumulators: inputs.to_vec(), values }, problems)
}

fn dense_intervals(dense: &Dense, inputs: &[Interval]) -> (OpIntervals, Vec<Problem>) {
    let mut problems = Vec::new();
    let mut intervals = OpIntervals { accumulators: Vec::new(), values: Vec::new() };
    for (row, (weights, &bias)) in dense.weights.chunks(dense.columns.max(1)).zip(&dense.bias).enumerate() {
        let sum = weighted_sum(weights, bias, inputs);
        let bits = dense.lanes.bits(row);
        let lane = lane_range(bits);
        let fits = sum.low >= lane.low && sum.high <= lane.high;
        let Some(acc) = sum.narrow().filter(|_| fits) else {
            problems.push(Problem::Lane { row, bits, sum });
            continue;
        };
        intervals.accumulators.push(acc);
        intervals.values.push(posted(dense.post, acc));
    }
    (intervals, problems)
}

/// What rule tests compute from the outputs must fit 64 bits too.
fn margins_fit(network: &Network, outputs: &[Interval]) -> bool {
    let parts: Vec<(Rule, &[Interval])> =
        network.decision.parts(outputs).map(|(output, part)| (output.rule, part)).collect();
    network.decision.tests.iter().all(|test| {
        let Some(&(rule, outputs)) = parts.get(test.output() as usize) else { return false };
        match test {
            RuleTest::Label { .. } => true,
            // A value of its own is compared as it is.
            RuleTest::Margin { .. } if rule == Rule::Probabilities => true,
            RuleTest::Margin { .. } => margin_fits(outputs),
            RuleTest::Softmax { class, lead, .. } => leads_fit(*class, lead, outputs),
        }
    })
}

/// A margin subtracts two outputs or negates the only one.
fn margin_fits(outputs: &[Interval]) -> bool {
    let differences = match outputs {
        [only] => vec![-i128::from(only.low), -i128::from(only.high)],
        [first, second] => {
            let (one, other) = (difference(*first, *second), difference(*second, *first));
            vec![one.low, one.high, other.low, other.high]
        }
        _ => return false,
    };
    differences.into_iter().all(|difference| i64::try_from(difference).is_ok())
}

fn difference(left: Interval, right: Interval) -> Wide {
    Wide {
        low: i128::from(left.low) - i128::from(right.high),
        high: i128::from(left.high) - i128::from(right.low),
    }
}

/// Leads have a limit subtracted within the bounds of quantisers; product and exponent fit whatever the lead is,
/// because it is clamped; the polynomial of a fraction fits by its coefficients, the sum by the number of outputs.
fn leads_fit(class: u32, lead: &Lead, outputs: &[Interval]) -> bool {
    let Some(own) = outputs.get(class as usize) else { return false };
    let narrow = outputs
        .iter()
        .map(|other| difference(*own, *other))
        .all(|lead| lead.low >= -i128::from(MOST_RAW) && lead.high <= i128::from(MOST_RAW));
    let deepest = (i128::from(lead.low) - i128::from(lead.high)) >> lead.drop;
    let product = deepest * i128::from(lead.multiplier);
    let exponents = [i128::from(lead.offset), product + i128::from(lead.offset)];
    let fits = |value: i128| i64::try_from(value).is_ok();
    narrow
        && fits(product)
        && exponents
            .into_iter()
            .all(|e| fits(e) && (0..i128::from(softmax::TOP)).contains(&(e >> softmax::SHIFT)))
}
