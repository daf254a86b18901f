//! Dense layers: blocks of registers that accumulate packed products, in straight line or in a loop over the
//! inputs; in straight line also where most weights are constants of zero. A product is written by `product`, what happens to
//! the accumulators afterwards by `post`.

use super::emit::Emitter;
use super::{post, product};
use crate::ir::Dense;
use crate::lower::code::VReg;
use crate::lower::scratch::{Buffer, bytes_of};
use crate::params::layout::{DensePart, word_bytes};

/// Share of constants of zero from which straight-line code, which leaves them out, beats a loop.
const SPARSE: (usize, usize) = (2, 3);

/// One block of a layer: biases, products, post-operation, results.
pub(super) fn emit_block(
    emitter: &mut Emitter,
    dense: &Dense,
    part: &DensePart,
    block: usize,
    inputs: Buffer,
    results: Buffer,
) {
    let width = part.blocks.get(block).copied().unwrap_or(0);
    let start = part.block_offset(block);
    let accumulators: Vec<VReg> =
        (0..width).map(|register| emitter.parameter(start + word_bytes(register))).collect();
    let weights = start + word_bytes(width);
    let words = part.columns * width;
    let zeros = || (0..words).filter(|word| emitter.constant(weights + word_bytes(*word)) == Some(0)).count();
    let straight = emitter.has_constants() && zeros() * SPARSE.1 >= words * SPARSE.0;
    let looped = part.blocking().rounds(part.columns).filter(|_| !straight).map_or(0, |rounds| {
        let (trips, unroll) = (rounds.count, rounds.inputs);
        let step = unroll * bytes_of(inputs.element) as usize;
        let pointers = [(emitter.scratch, step)];
        emitter.repeat(trips, (weights, unroll * width * 8), &pointers, |emitter| {
            for column in 0..unroll {
                accumulate(emitter, &accumulators, inputs, column, weights + word_bytes(column * width));
            }
        });
        trips * unroll
    });
    for column in looped..part.columns {
        accumulate(emitter, &accumulators, inputs, column, weights + word_bytes(column * width));
    }
    let first = part.first_register(block);
    for (register, accumulator) in (first..).zip(accumulators) {
        let rows = (register * part.lanes.count())..((register + 1) * part.lanes.count()).min(dense.rows);
        post::emit(emitter, dense, accumulator, rows, results);
    }
}

/// Adds one input's products to every accumulator of the block.
fn accumulate(emitter: &mut Emitter, accumulators: &[VReg], inputs: Buffer, column: usize, weights: u32) {
    let at = |register: usize| weights + word_bytes(register);
    if (0..accumulators.len()).all(|register| emitter.constant(at(register)) == Some(0)) {
        return;
    }
    let x = emitter.b.load(inputs.element, emitter.scratch, inputs.at(column));
    for (register, &accumulator) in accumulators.iter().enumerate() {
        product::add(emitter, accumulator, x, at(register));
    }
}
