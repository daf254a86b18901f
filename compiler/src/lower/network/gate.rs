//! A gate: the product of a value with a clamped one, with numbers from the slot.

use std::ops::Range;

use super::emit::Emitter;
use crate::bpf::AluOp;
use crate::ir::Gate;
use crate::lower::scratch::Buffer;
use crate::params::layout::word_bytes;

/// Where the gate's numbers and its values stand.
pub(super) struct Place {
    /// Of the parameters, within the slot.
    pub(super) offset: u32,
    pub(super) inputs: Buffer,
    pub(super) results: Buffer,
}

/// `y = (x * min(max(x + start, 0), most) + offset) >> shift` of some of the values, without a branch. All lie within
/// 62 bits and no sum or product leaves 64, says the certificate.
pub(super) fn emit(emitter: &mut Emitter, gate: &Gate, values: Range<usize>, place: &Place) {
    let at = |word: usize| place.offset + word_bytes(word);
    for index in values {
        let x = emitter.b.load(place.inputs.element, emitter.scratch, place.inputs.at(index));
        if index < gate.mapped {
            let open = emitter.b.copy(x);
            emitter.with_parameter(AluOp::Add, open, at(0));
            emitter.max_zero(open);
            emitter.with_parameter(AluOp::Sub, open, at(1));
            emitter.min_zero(open);
            emitter.with_parameter(AluOp::Add, open, at(1));
            emitter.b.mul(x, open);
            emitter.with_parameter(AluOp::Add, x, at(2));
            emitter.arsh_by_parameter(x, at(3));
        }
        emitter.b.store(place.results.element, emitter.scratch, place.results.at(index), x);
    }
}
