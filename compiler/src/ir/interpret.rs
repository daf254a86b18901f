//! The reference interpreter of the integer network: raw features to outputs, label, score and rule tests.
//!
//! This is the definition that the user-space VM and the kernel must match on every bit; `docs/numerics.md`
//! states the same in formulas. Arithmetic wraps modulo 2^64: partial sums may leave the range, the final sum
//! of a [`crate::check::Checked`] network never does. The batched form, which computes the same numbers for
//! many rows at once, is in [`super::batch`].

use super::{
    Decision, Dense, HALF_BITS, Interval, Network, Op, Post, Quantise, QuantiseOne, Replaced, Rule, RuleTest,
    Table, softmax,
};

/// What one row of features gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// Raw values of all outputs; the real value is `raw` times [`Decision::unit_of`] the output.
    pub outputs: Vec<i64>,
    /// Class index of the first output; `None` for a regressor.
    pub label: Option<u32>,
    /// Bit `r` is set when rule `r` fires.
    pub rules: u32,
}

/// The inside of one operation, for tests and for the report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Before the shift: `x * multiplier + offset` of a quantiser, the weighted sums of a dense layer, the sums of
    /// leaves.
    pub accumulators: Vec<i64>,
    /// What the next operation reads.
    pub values: Vec<i64>,
}

/// Judges one row. `features` holds one raw value per input, in order.
#[must_use]
pub fn run(network: &Network, features: &[i64]) -> Verdict {
    let outputs = outputs(network, features);
    let label = labels(&network.decision, &outputs).next().flatten();
    let rules = rules(&network.decision, &outputs);
    Verdict { outputs, label, rules }
}

/// The label of every output, in order.
pub fn labels<'a>(decision: &'a Decision, outputs: &'a [i64]) -> impl Iterator<Item = Option<u32>> + 'a {
    decision.parts(outputs).map(|(output, values)| label(output.rule, values))
}

/// The raw outputs of one row.
#[must_use]
pub fn outputs(network: &Network, features: &[i64]) -> Vec<i64> {
    network.ops.iter().fold(features.to_vec(), |values, op| step(op, &values).values)
}

/// Every intermediate value of one row, one entry per operation.
#[must_use]
pub fn trace(network: &Network, features: &[i64]) -> Vec<Step> {
    let mut values = features.to_vec();
    let mut steps = Vec::with_capacity(network.ops.len());
    for op in &network.ops {
        let step = step(op, &values);
        values.clone_from(&step.values);
        steps.push(step);
    }
    steps
}

/// The label of an output's raw values: the largest, ties to the lowest index; or the sign of the only one.
#[must_use]
pub fn label(rule: Rule, outputs: &[i64]) -> Option<u32> {
    match rule {
        Rule::None => None,
        Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities => {
            let mut best: Option<(u32, i64)> = None;
            for (class, &value) in (0u32..).zip(outputs) {
                if best.is_none_or(|(_, high)| value > high) {
                    best = Some((class, value));
                }
            }
            best.map(|(class, _)| class)
        }
        Rule::Positive | Rule::Probability => outputs.first().map(|&value| u32::from(value > 0)),
    }
}

/// Which rules fire, as a bit mask; rules beyond the 32nd have no bit.
#[must_use]
pub fn rules(decision: &Decision, outputs: &[i64]) -> u32 {
    (0u32..32)
        .zip(&decision.tests)
        .filter(|(_, test)| {
            let tested = decision.parts(outputs).nth(test.output() as usize);
            tested.is_some_and(|(output, values)| fires(**test, output.rule, values))
        })
        .fold(0, |mask, (bit, _)| mask | 1 << bit)
}

fn fires(test: RuleTest, rule: Rule, outputs: &[i64]) -> bool {
    match test {
        RuleTest::Label { class, .. } => label(rule, outputs) == Some(class),
        RuleTest::Margin { class, margin, .. } => {
            let difference = match (outputs, class) {
                _ if rule == Rule::Probabilities => match outputs.get(class as usize) {
                    Some(own) => *own,
                    None => return false,
                },
                ([only], 1) => *only,
                ([only], 0) => only.wrapping_neg(),
                ([first, second], 0) => first.wrapping_sub(*second),
                ([first, second], 1) => second.wrapping_sub(*first),
                _ => return false,
            };
            difference >= margin
        }
        RuleTest::Softmax { class, lead, .. } => {
            softmax::sum(outputs, class, &lead).is_some_and(|sum| sum <= softmax::ONE)
        }
    }
}

/// The probability of an output's label: softmax of its raw values, or the logistic of the only one or of each,
/// unless values are probabilities themselves.
///
/// `None` without a label. `unit` is [`Decision::unit_of`] the output. This is computed outside the kernel and in
/// floating point: it is shown, never acted upon.
#[must_use]
pub fn score(rule: Rule, unit: f64, values: &[i64]) -> Option<f64> {
    let chosen = label(rule, values)?;
    match rule {
        Rule::None => None,
        Rule::Positive => {
            let real = values.first().map(|&raw| raw as f64 * unit)?;
            let signed = if chosen == 1 { real } else { -real };
            Some(1.0 / (1.0 + (-signed).exp()))
        }
        Rule::Probability => values.first().map(|&raw| 0.5 + (raw as f64 * unit).abs()),
        Rule::Probabilities => values.get(chosen as usize).map(|&raw| raw as f64 * unit),
        Rule::ArgMax => {
            let top = values.get(chosen as usize).copied()?;
            let sum: f64 = values.iter().map(|&raw| ((raw.wrapping_sub(top)) as f64 * unit).exp()).sum();
            Some(1.0 / sum)
        }
        Rule::OneVersusRest { normalised } => {
            let logistic = |raw: i64| 1.0 / (1.0 + (-(raw as f64) * unit).exp());
            let own = values.get(chosen as usize).copied().map(logistic)?;
            let sum: f64 = values.iter().copied().map(logistic).sum();
            Some(if normalised && sum > 0.0 { own / sum } else { own })
        }
    }
}

/// One operation on one row.
#[must_use]
pub fn step(op: &Op, values: &[i64]) -> Step {
    match op {
        Op::Quantise(quantise) => quantise_row(quantise, values),
        Op::Dense(dense) => dense_row(dense, values),
        Op::Table(table) => Step {
            accumulators: values.to_vec(),
            values: (0..)
                .zip(values)
                .map(|(at, &x)| if at < table.mapped { table.entry(x) } else { x })
                .collect(),
        },
        Op::Gate(gate) => Step {
            accumulators: values.to_vec(),
            values: (0..)
                .zip(values)
                .map(|(at, &x)| if at < gate.mapped { gate.result(x) } else { x })
                .collect(),
        },
        Op::Forest(forest) => {
            let sums = forest.sums(values);
            Step { accumulators: sums.clone(), values: sums }
        }
    }
}

fn quantise_row(quantise: &Quantise, raw: &[i64]) -> Step {
    let accumulators: Vec<i64> =
        quantise.features.iter().zip(raw).map(|(one, &x)| one.accumulate(x)).collect();
    let mut values: Vec<i64> =
        quantise.features.iter().zip(&accumulators).map(|(one, &acc)| quantise.round(one, acc)).collect();
    for replaced in &quantise.replaced {
        if let (Some(value), Some(&x)) = (values.get_mut(replaced.feature), raw.get(replaced.feature)) {
            *value = replaced.result(x, *value);
        }
    }
    Step { accumulators, values }
}

fn dense_row(dense: &Dense, values: &[i64]) -> Step {
    let accumulators: Vec<i64> = dense
        .weights
        .chunks_exact(dense.columns.max(1))
        .zip(&dense.bias)
        .map(|(row, &bias)| {
            row.iter().zip(values).fold(bias, |sum, (&w, &x)| sum.wrapping_add(w.wrapping_mul(x)))
        })
        .collect();
    let values = accumulators.iter().map(|&acc| dense.post.apply(acc)).collect();
    Step { accumulators, values }
}

impl Quantise {
    /// From `clamp(x, low, high) * multiplier + offset` to the result.
    #[must_use]
    pub const fn round(&self, one: &QuantiseOne, acc: i64) -> i64 {
        let odd = if self.even { (acc >> one.shift) & 1 } else { 0 };
        acc.wrapping_add(odd << HALF_BITS) >> one.shift
    }
}

impl Replaced {
    /// The result for a raw value that the quantiser makes `quantised` of.
    #[must_use]
    pub const fn result(&self, x: i64, quantised: i64) -> i64 {
        if self.first <= x && x <= self.last { self.to } else { quantised }
    }
}

impl Table {
    /// The result for a number, of which the low bits count.
    #[must_use]
    pub fn entry(&self, x: i64) -> i64 {
        let mask = (1usize << self.bits) - 1;
        let index = (x >> self.fraction) as usize & mask;
        let at = |index: usize| self.entries.get(index).map_or(0, |&entry| i64::from(entry));
        let (entry, rest) = (at(index), x & ((1 << self.fraction) - 1));
        if self.fraction == 0 { entry } else { entry + (((at(index + 1) - entry) * rest) >> self.fraction) }
    }

    /// The greatest number that has an entry, and one behind it where numbers have fractions.
    #[must_use]
    pub const fn greatest(&self) -> i64 {
        let entries = 1i64 << self.bits;
        if self.fraction == 0 { entries - 1 } else { ((entries - 1) << self.fraction) - 1 }
    }

    /// What the results for an interval of numbers lie in.
    #[must_use]
    pub fn results(&self, numbers: Interval) -> Interval {
        let (first, last) = (numbers.low >> self.fraction, numbers.high >> self.fraction);
        let last = if self.fraction == 0 { last } else { last.saturating_add(1) };
        let part = usize::try_from(first).ok().zip(usize::try_from(last).ok());
        let entries = part.and_then(|(first, last)| self.entries.get(first..=last)).unwrap_or_default();
        let (low, high) = (entries.iter().min(), entries.iter().max());
        Interval { low: low.copied().map_or(0, i64::from), high: high.copied().map_or(0, i64::from) }
    }
}

impl QuantiseOne {
    /// `clamp(x, low, high) * multiplier + offset`.
    #[must_use]
    pub fn accumulate(&self, x: i64) -> i64 {
        x.max(self.low).min(self.high).wrapping_mul(self.multiplier).wrapping_add(self.offset)
    }
}

impl Post {
    /// From accumulator to value.
    #[must_use]
    pub const fn apply(self, acc: i64) -> i64 {
        match self {
            Self::Raw => acc,
            Self::Relu { shift, bits } => {
                let shifted = (if acc > 0 { acc } else { 0 }) >> shift;
                let top = (1 << bits) - 1;
                if shifted < top { shifted } else { top }
            }
            Self::Signed { shift, bits } => {
                let shifted = acc >> shift;
                let top = (1 << (bits - 1)) - 1;
                let bottom = -top - 1;
                if shifted > top {
                    top
                } else if shifted < bottom {
                    bottom
                } else {
                    shifted
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "interpret_tests.rs"]
mod tests;
