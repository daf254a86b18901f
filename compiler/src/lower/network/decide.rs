//! From raw outputs to label and fired rules, without a branch. Probabilities over more than two classes are in
//! `threshold`.

use super::emit::Emitter;
use super::threshold;
use crate::bpf::{AluOp, Size};
use crate::ir::{Network, Rule, RuleTest};
use crate::lower::code::VReg;
use crate::lower::scratch::{self, Scratch};
use crate::params::layout::{Layout, THRESHOLD_WORDS, word_bytes};

/// Reads the outputs in scratch; writes label and rule mask.
pub(super) fn emit(emitter: &mut Emitter, network: &Network, layout: &Layout, scratch: &Scratch) {
    let outputs = network.output_count();
    let label = match network.decision.rule {
        Rule::None => emitter.b.constant(0),
        Rule::Positive => positive(emitter, scratch),
        Rule::ArgMax => arg_max(emitter, scratch, outputs),
    };
    emitter.b.store(Size::W, emitter.scratch, scratch::LABEL, label);

    let mask = emitter.b.constant(0);
    let (mut margins, mut thresholds) = (0, 0);
    for (rule, test) in (0i32..32).zip(&network.decision.tests) {
        let fired = match *test {
            RuleTest::Label { class } => is_class(emitter, network.decision.rule, label, class),
            RuleTest::Margin { class, .. } => {
                let margin = emitter.parameter(layout.margins + word_bytes(margins));
                margins += 1;
                margin_reached(emitter, scratch, outputs, class, margin)
            }
            RuleTest::Softmax { class, .. } => {
                let at = layout.thresholds + word_bytes(thresholds * THRESHOLD_WORDS);
                thresholds += 1;
                threshold::reached(emitter, scratch, outputs, class as usize, at)
            }
        };
        emitter.b.lsh(fired, rule);
        emitter.b.or(mask, fired);
    }
    emitter.b.store(Size::W, emitter.scratch, scratch::RULES, mask);
}

pub(super) fn output(emitter: &mut Emitter, scratch: &Scratch, index: usize) -> VReg {
    emitter.b.load(Size::DW, emitter.scratch, scratch.output(index))
}

/// 1 when the only output is above zero.
fn positive(emitter: &mut Emitter, scratch: &Scratch) -> VReg {
    let zero = emitter.b.constant(0);
    let value = output(emitter, scratch, 0);
    let label = emitter.less(zero, value);
    emitter.b.rsh(label, 63);
    label
}

/// Index of the first largest output.
fn arg_max(emitter: &mut Emitter, scratch: &Scratch, outputs: usize) -> VReg {
    let best = output(emitter, scratch, 0);
    let label = emitter.b.constant(0);
    for index in 1..outputs {
        let value = output(emitter, scratch, index);
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

/// 1 when the class leads by the margin. The difference of two outputs fits 64 bits by the certificate.
fn margin_reached(
    emitter: &mut Emitter,
    scratch: &Scratch,
    outputs: usize,
    class: u32,
    margin: VReg,
) -> VReg {
    let lead = match (outputs, class) {
        (1, 0) => {
            let value = output(emitter, scratch, 0);
            emitter.b.neg(value);
            value
        }
        (1, _) => output(emitter, scratch, 0),
        (_, _) => {
            let chosen = usize::from(class != 0);
            let lead = output(emitter, scratch, chosen);
            let other = output(emitter, scratch, 1 - chosen);
            emitter.b.sub(lead, other);
            lead
        }
    };
    let fired = emitter.less(lead, margin);
    emitter.b.rsh(fired, 63);
    emitter.b.xor(fired, 1);
    fired
}
