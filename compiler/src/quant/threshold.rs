//! From probabilities to rule tests on raw outputs, and how well those keep to the float model.

use super::Contract;
use super::contract::RuleWish;
use super::float::real_rows;
use super::report::ThresholdReport;
use super::sample::Sample;
use crate::check::{Checked, MOST_RAW};
use crate::ir::batch::Batch;
use crate::ir::softmax::{BITS, Lead, SHIFT, sum, within_error};
use crate::ir::{Network, RuleTest, interpret};
use crate::model::{Head, Model};
use crate::spec::typed::Probability;

const MILLION: u32 = 1_000_000;
/// Beyond what outputs of a checked network differ by, and far from overflow when compared.
const ALWAYS: i64 = 1 << 62;
/// Exponents that a raw lead is told apart from 0 by, at most: a lead that is clamped from below still exceeds the
/// limit, and neighbouring leads are at most half a power of two apart.
const COARSEST: f64 = 0.5;
/// Powers below this vanish.
const VANISHING: f64 = 32.0;
/// Precision of the multiplier. What it lacks costs as much as the bits that are dropped for it.
const MULTIPLIER_BITS: f64 = 29.0;
/// Distance of the lowest exponent from 0, far beyond its error.
const SLACK: f64 = 1.0 / 1_048_576.0;

/// The test of a rule on outputs of which one raw unit stands for `unit`; `None` when those are too coarse.
pub(super) fn rule_test(wish: RuleWish, (head, classes): (Head, usize), unit: f64) -> Option<RuleTest> {
    let RuleWish { output, class, probability } = wish;
    let Some(probability) = probability else { return Some(RuleTest::Label { output, class }) };
    let reached = match head {
        Head::Probability => Some(single(probability) - 0.5),
        Head::Probabilities => Some(single(probability)),
        Head::Scores | Head::Logits | Head::Logistic | Head::OneVersusRest { .. } => None,
    };
    if let Some(value) = reached {
        let margin = ((value / unit).ceil() as i64).clamp(-ALWAYS, ALWAYS);
        return Some(RuleTest::Margin { output, class, margin });
    }
    if classes > 2 {
        return Some(RuleTest::Softmax { output, class, lead: lead(probability, unit)? });
    }
    Some(RuleTest::Margin { output, class, margin: margin(probability, unit) })
}

/// A probability that is compared with one that a model gives: in single precision, as the model's own numbers are.
fn single(probability: Probability) -> f64 {
    f64::from((f64::from(probability.0) / f64::from(MILLION)) as f32)
}

/// `t / (1 - t)`: the quotient of two exact integers. A specification has `0 < t < 1`.
fn odds(probability: Probability) -> f64 {
    let millionths = f64::from(probability.0.min(MILLION));
    millionths / (f64::from(MILLION) - millionths)
}

/// A probability `p` of one of two classes is reached when the difference of the outputs reaches
/// `ln(p / (1 - p))`, that is `ceil(logit / unit)` raw units.
fn margin(probability: Probability, unit: f64) -> i64 {
    match probability.0 {
        0 => -ALWAYS,
        MILLION.. => ALWAYS,
        _ => ((odds(probability).ln() / unit).ceil() as i64).clamp(-ALWAYS, ALWAYS),
    }
}

/// The exponent `y` of a raw lead is `lead * step - log2(t / (1 - t))`; it is clamped to -1..=32 and stored with 1
/// on top.
fn lead(probability: Probability, unit: f64) -> Option<Lead> {
    let step = unit * std::f64::consts::LOG2_E;
    let reached = odds(Probability(probability.0.clamp(1, MILLION - 1))).log2();
    // NaN is too coarse as well.
    if !(step > 0.0 && step <= COARSEST) {
        return None;
    }
    let most = MOST_RAW as f64;
    let at = |exponent: f64| ((exponent + reached) / step).ceil().clamp(-most, most) as i64;
    let (low, high) = (at(SLACK - 1.0).clamp(-MOST_RAW, MOST_RAW), at(VANISHING).clamp(-MOST_RAW, MOST_RAW));
    let scale = f64::from(BITS + SHIFT).exp2();
    let drop = (MULTIPLIER_BITS - (step * scale).log2()).ceil().clamp(0.0, 62.0);
    let multiplier = (step * scale * drop.exp2()).round();
    let top = (high as f64 * step - reached + 1.0).max(0.0) * scale;
    // The halves of what the shift and the dropped bits cut off.
    let half = f64::from(SHIFT - 1).exp2() + if drop > 0.0 { multiplier / 2.0 } else { 0.0 };
    Some(Lead {
        low,
        high,
        drop: drop as u8,
        multiplier: multiplier as i64,
        offset: (top + half).round() as i64,
    })
}

/// Whether a rule asks for a probability over more than two classes, which coarse outputs cannot serve.
pub(super) fn needs_fine_outputs(model: &Model, contract: &Contract) -> bool {
    let outputs: Vec<(Head, usize)> = model.outputs().map(|output| output.head).zip(model.widths()).collect();
    contract.rules.iter().filter(|wish| wish.probability.is_some()).any(|wish| {
        let output = outputs.get(wish.output as usize);
        output.is_some_and(|&(head, width)| head == Head::Logits && width > 2)
    })
}

/// What each rule with a probability does to the sample, beside the float model.
pub(super) fn report(
    model: &Model,
    contract: &Contract,
    network: &Checked<Network>,
    sample: &Sample,
) -> Vec<ThresholdReport> {
    let wishes =
        || (0u32..).zip(&contract.rules).filter_map(|(rule, wish)| Some((rule, wish, wish.probability?)));
    let mut reports: Vec<ThresholdReport> = wishes()
        .map(|(rule, wish, probability)| ThresholdReport {
            rule,
            label: contract.label_of(wish),
            millionths: probability.0,
            fired: 0,
            changed: 0,
            within_error: 0,
        })
        .collect();
    if reports.is_empty() {
        return reports;
    }
    let decision = &network.get().decision;
    let mut raw = Vec::new();
    Batch::new(network.get(), Some(network.certificate())).outputs(&sample.rows, &mut raw);
    let real = model.batch_outputs_f64(&real_rows(&contract.inputs, &sample.rows));
    let count = model.output_count().max(1);
    for (raw, real) in raw.chunks_exact(count).zip(real.chunks_exact(count)) {
        let fired = interpret::rules(decision, raw);
        for ((rule, wish, threshold), report) in wishes().zip(&mut reports) {
            let fires = fired.checked_shr(rule).unwrap_or(0) & 1 != 0;
            let Some((output, real)) = model.parts(real).nth(wish.output as usize) else { continue };
            let limit = match output.head {
                Head::Probability | Head::Probabilities => single(threshold),
                Head::Scores | Head::Logits | Head::Logistic | Head::OneVersusRest { .. } => {
                    f64::from(threshold.0) / f64::from(MILLION)
                }
            };
            let wanted = probability(output.head, real, wish.class) >= limit;
            report.fired += u64::from(fires);
            report.changed += u64::from(fires != wanted);
            if let Some(RuleTest::Softmax { class, lead, .. }) = decision.tests.get(rule as usize)
                && let Some((_, raw)) = decision.parts(raw).nth(wish.output as usize)
            {
                let near = sum(raw, *class, lead).is_some_and(|sum| within_error(sum, raw.len()));
                report.within_error += u64::from(near);
            }
        }
    }
    reports
}

/// The probability of a class by the float model.
fn probability(head: Head, outputs: &[f64], class: u32) -> f64 {
    let class = class as usize;
    match (head, outputs.get(class)) {
        (Head::Logistic, _) => {
            let z = outputs.first().copied().unwrap_or_default();
            1.0 / (1.0 + (if class == 1 { -z } else { z }).exp())
        }
        (Head::Logits, Some(own)) => 1.0 / outputs.iter().map(|z| (z - own).exp()).sum::<f64>(),
        (Head::Probability, _) => {
            let z = outputs.first().copied().unwrap_or_default();
            0.5 + if class == 1 { z } else { -z }
        }
        (Head::Probabilities, Some(own)) => *own,
        // Such rules are refused by the contract.
        (Head::Logits | Head::Probabilities, None) | (Head::Scores | Head::OneVersusRest { .. }, _) => 0.0,
    }
}

#[cfg(test)]
#[path = "threshold_tests.rs"]
mod tests;
