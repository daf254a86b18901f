//! Quantisers: raw features or sums in scratch to activations in scratch, without a branch.

use std::ops::Range;

use super::emit::Emitter;
use crate::bpf::AluOp;
use crate::ir::{HALF_BITS, Input, Quantise};
use crate::lower::code::VReg;
use crate::lower::scratch::{Buffer, bytes_of};
use crate::params::layout::{QUANTISER_WORDS, REPLACED_WORDS, word_bytes};

/// Largest magnitude of raw values whose differences cannot overflow.
const NARROW: i64 = 1 << 62;

/// Where the quantiser's numbers stand.
pub(super) struct Place {
    /// Of the parameters, within the slot.
    pub(super) offset: u32,
    pub(super) inputs: Buffer,
    pub(super) results: Buffer,
}

/// Values from which on a quantiser is a loop: straight-line code outgrows the instruction cache.
const LOOP_FROM: usize = 64;
/// Values in the body of the loop.
const LOOP_BODY: usize = 4;

/// Some of the values, by a loop where there are many.
pub(super) fn emit(
    emitter: &mut Emitter,
    quantise: &Quantise,
    values: Range<usize>,
    features: &[Input],
    place: &Place,
) {
    let narrow = |index: usize| {
        features.get(index).is_none_or(|input| {
            let range = input.range;
            -NARROW < range.low && range.high < NARROW
        })
    };
    let at = |index: usize| place.offset + word_bytes(index * QUANTISER_WORDS);
    let mut rest = values.clone();
    let alike = values.clone().all(|index| narrow(index) == narrow(values.start));
    if values.len() >= LOOP_FROM && alike {
        let trips = values.len() / LOOP_BODY;
        let results = emitter.b.copy(emitter.scratch);
        let step = |buffer: Buffer| LOOP_BODY * bytes_of(buffer.element) as usize;
        let pointers = [(emitter.scratch, step(place.inputs)), (results, step(place.results))];
        let parameters = (at(values.start), word_bytes(LOOP_BODY * QUANTISER_WORDS) as usize);
        emitter.repeat(trips, parameters, &pointers, |emitter| {
            for index in values.start..values.start + LOOP_BODY {
                one(emitter, quantise, index, narrow(index), (place, results));
            }
        });
        rest.start += trips * LOOP_BODY;
    }
    for index in rest {
        let results = emitter.scratch;
        one(emitter, quantise, index, narrow(index), (place, results));
    }
    let words = quantise.features.len() * QUANTISER_WORDS;
    for (number, replaced) in quantise.replaced.iter().enumerate() {
        if values.contains(&replaced.feature) {
            let offset = place.offset + word_bytes(words + number * REPLACED_WORDS);
            replace(emitter, replaced.feature, narrow(replaced.feature), (place, offset));
        }
    }
}

/// `q = if first <= x <= last { to } else { q }` for one feature, without a branch.
fn replace(emitter: &mut Emitter, feature: usize, narrow: bool, (place, offset): (&Place, u32)) {
    let at = |word: usize| offset + word_bytes(word);
    let x = emitter.b.load(place.inputs.element, emitter.scratch, place.inputs.at(feature));
    let outside = if narrow {
        // Both lie within 62 bits, so that differences have the right sign.
        let below = emitter.b.copy(x);
        emitter.with_parameter(AluOp::Sub, below, at(0));
        let above = emitter.parameter(at(1));
        let above = emitter.b.compute(AluOp::Sub, above, x);
        emitter.b.or(below, above);
        below
    } else {
        let first = emitter.parameter(at(0));
        let below = emitter.less(x, first);
        let last = emitter.parameter(at(1));
        let above = emitter.less(last, x);
        emitter.b.or(below, above);
        below
    };
    emitter.b.arsh(outside, 63);
    let q = emitter.b.load(place.results.element, emitter.scratch, place.results.at(feature));
    let to = emitter.parameter(at(2));
    let chosen = emitter.b.copy(to);
    emitter.select(chosen, q, outside);
    emitter.b.store(place.results.element, emitter.scratch, place.results.at(feature), chosen);
}

/// `q = (min(max(x - low, 0) - span, 0) * multiplier + offset') >> shift` for one value; see
/// [`crate::params::slot`] for the form of the parameters. Values that are no features lie within 62 bits.
fn one(
    emitter: &mut Emitter,
    quantise: &Quantise,
    index: usize,
    narrow: bool,
    (place, results): (&Place, VReg),
) {
    let at = |word: usize| place.offset + word_bytes(index * QUANTISER_WORDS + word);
    let x = emitter.b.load(place.inputs.element, emitter.scratch, place.inputs.at(index));
    if narrow {
        emitter.with_parameter(AluOp::Sub, x, at(0));
        emitter.max_zero(x);
        emitter.with_parameter(AluOp::Sub, x, at(1));
        emitter.min_zero(x);
    } else {
        let low = emitter.parameter(at(0));
        let span = emitter.parameter(at(1));
        let high = emitter.b.compute(AluOp::Add, low, span);
        let below = emitter.less(x, low);
        emitter.b.arsh(below, 63);
        emitter.select(x, low, below);
        let above = emitter.less(high, x);
        emitter.b.arsh(above, 63);
        emitter.select(x, high, above);
        emitter.b.sub(x, high);
    }
    emitter.with_parameter(AluOp::Mul, x, at(2));
    emitter.with_parameter(AluOp::Add, x, at(3));
    if quantise.even {
        let odd = emitter.b.copy(x);
        emitter.arsh_by_parameter(odd, at(4));
        emitter.b.and(odd, 1);
        emitter.b.lsh(odd, i32::from(HALF_BITS));
        emitter.b.add(x, odd);
    }
    emitter.arsh_by_parameter(x, at(4));
    emitter.b.store(place.results.element, results, place.results.at(index), x);
}
