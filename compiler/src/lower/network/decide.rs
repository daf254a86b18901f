//! From raw outputs to labels and fired rules, without a branch. Probabilities over more than two classes are in
//! `threshold`.

use super::emit::Emitter;
use super::threshold;
use crate::bpf::{AluOp, Size};
use crate::ir::{Network, Rule, RuleTest};
use crate::lower::code::VReg;
use crate::lower::scratch::{self, Scratch};
use crate::params::layout::{Layout, THRESHOLD_WORDS, word_bytes};

/// Reads the outputs in scratch; writes the labels and the rule mask.
pub(super) fn emit(emitter: &mut Emitter, network: &Network, layout: &Layout, scratch: &Scratch) {
    let places: Vec<usize> = (0..network.output_count()).collect();
    let outputs: Vec<(Rule, &[usize])> =
        network.decision.parts(&places).map(|(output, places)| (output.rule, places)).collect();
    let mut first = None;
    for (index, &(rule, places)) in outputs.iter().enumerate() {
        let label = match rule {
            Rule::None => emitter.b.constant(0),
            Rule::Positive | Rule::Probability => positive(emitter, scratch, places),
            Rule::ArgMax | Rule::OneVersusRest { .. } | Rule::Probabilities => {
                arg_max(emitter, scratch, places)
            }
        };
        emitter.b.store(Size::W, emitter.scratch, scratch.label(index), label);
        first.get_or_insert(label);
    }

    let mask = emitter.b.constant(0);
    let (mut margins, mut thresholds) = (0, 0);
    for (bit, test) in (0i32..32).zip(&network.decision.tests) {
        let index = test.output() as usize;
        // The check refuses rules on other outputs than these.
        let (rule, places) = outputs.get(index).copied().unwrap_or((Rule::None, &[]));
        let fired = match *test {
            RuleTest::Label { class, .. } => {
                // Registers hold one label; the others are read again.
                let label = match first.filter(|_| index == 0) {
                    Some(label) => label,
                    None => emitter.b.load(Size::W, emitter.scratch, scratch.label(index)),
                };
                is_class(emitter, rule, label, class)
            }
            RuleTest::Margin { class, .. } => {
                let margin = emitter.parameter(layout.margins + word_bytes(margins));
                margins += 1;
                margin_reached(emitter, scratch, (rule, places), class, margin)
            }
            RuleTest::Softmax { class, .. } => {
                let at = layout.thresholds + word_bytes(thresholds * THRESHOLD_WORDS);
                thresholds += 1;
                threshold::reached(emitter, scratch, places, class as usize, at)
            }
        };
        emitter.b.lsh(fired, bit);
        emitter.b.or(mask, fired);
    }
    emitter.b.store(Size::W, emitter.scratch, scratch::RULES, mask);
}

/// The raw value at the place of this number among those of an output.
pub(super) fn value(emitter: &mut Emitter, scratch: &Scratch, places: &[usize], number: usize) -> VReg {
    let place = places.get(number).copied().unwrap_or_default();
    emitter.b.load(Size::DW, emitter.scratch, scratch.output(place))
}

/// 1 when the only value is above zero.
fn positive(emitter: &mut Emitter, scratch: &Scratch, places: &[usize]) -> VReg {
    let zero = emitter.b.constant(0);
    let value = value(emitter, scratch, places, 0);
    let label = emitter.less(zero, value);
    emitter.b.rsh(label, 63);
    label
}

/// Index of the first largest value.
fn arg_max(emitter: &mut Emitter, scratch: &Scratch, places: &[usize]) -> VReg {
    let best = value(emitter, scratch, places, 0);
    let label = emitter.b.constant(0);
    for index in 1..places.len() {
        let value = value(emitter, scratch, places, index);
        let larger = emitter.less(best, value);
        emitter.b.arsh(larger, 63);
        let number = emitter.b.constant(i64::try_from(index).unwrap_or(i64::MAX));
        emitter.select(label, number, larger);
        emitter.select(best, value, larger);
    }
    label
}

/// 1 when the label is this class.
fn is_class(emitter: &mut Emitter, rule: Rule, label: VReg, class: u32) -> VReg {
    if rule == Rule::None {
        return emitter.b.constant(0);
    }
    let fired = emitter.b.copy(label);
    emitter.with_constant(AluOp::Xor, fired, u64::from(class));
    // Only zero becomes negative.
    emitter.b.sub(fired, 1);
    emitter.b.rsh(fired, 63);
    fired
}

/// 1 when the class leads by the margin, or its own value reaches it. The difference of two values fits 64 bits by
/// the certificate.
fn margin_reached(
    emitter: &mut Emitter,
    scratch: &Scratch,
    (rule, places): (Rule, &[usize]),
    class: u32,
    margin: VReg,
) -> VReg {
    let lead = match (places.len(), class) {
        _ if rule == Rule::Probabilities => value(emitter, scratch, places, class as usize),
        (1, 0) => {
            let value = value(emitter, scratch, places, 0);
            emitter.b.neg(value);
            value
        }
        (1, _) => value(emitter, scratch, places, 0),
        (_, _) => {
            let chosen = usize::from(class != 0);
            let lead = value(emitter, scratch, places, chosen);
            let other = value(emitter, scratch, places, 1 - chosen);
            emitter.b.sub(lead, other);
            lead
        }
    };
    let fired = emitter.less(lead, margin);
    emitter.b.rsh(fired, 63);
    emitter.b.xor(fired, 1);
    fired
}
