//! From accumulators to stored values: ReLU, shift and clamp, for all lanes of a register at once where they
//! share one.
//!
//! A packed register arrives with `2^(bits - 1)` on top of every lane, so that no lane is negative and the top
//! bit of each tells that its value is not. Products are summed elsewhere.

use std::ops::Range;

use super::emit::Emitter;
use crate::bpf::{AluOp, Size, Width};
use crate::ir::{Dense, Lanes, Post};
use crate::lower::code::VReg;
use crate::lower::scratch::{Buffer, bytes_of};

/// Applies the layer's post-operation to the register that holds `rows` and stores the results.
pub(super) fn emit(
    emitter: &mut Emitter,
    dense: &Dense,
    accumulator: VReg,
    rows: Range<usize>,
    results: Buffer,
) {
    let lanes = dense.lanes;
    match dense.post {
        Post::Raw => {
            signed(emitter, lanes, accumulator, rows, results, 0, 64);
        }
        Post::Signed { shift, bits } => {
            signed(emitter, lanes, accumulator, rows, results, shift, bits);
        }
        Post::Relu { shift, bits } if !lanes.packed() => {
            relu_alone(emitter, accumulator, shift, bits, 64);
            emitter.b.store(results.element, emitter.scratch, results.at(rows.start), accumulator);
        }
        Post::Relu { shift, bits } if lanes.common().is_some() => {
            relu_packed(emitter, lanes, accumulator, shift, bits, results.element);
            store_packed(emitter, lanes, accumulator, rows, results);
        }
        Post::Relu { shift, bits } => {
            relu_uneven(emitter, lanes, accumulator, rows, results, (shift, bits));
        }
    }
}

/// `min(max(acc, 0) >> shift, 2^bits - 1)` of a signed number of `have` bits that has a register of its own.
fn relu_alone(emitter: &mut Emitter, acc: VReg, shift: u8, bits: u8, have: u32) {
    emitter.max_zero(acc);
    if shift > 0 {
        emitter.b.rsh(acc, i32::from(shift));
    }
    if (have - 1).saturating_sub(u32::from(shift)) > u32::from(bits) {
        let top = (1u64 << bits) - 1;
        emitter.with_constant(AluOp::Sub, acc, top);
        emitter.min_zero(acc);
        emitter.with_constant(AluOp::Add, acc, top);
    }
}

/// The same for every lane, which ends up at its lane's bottom with nothing above it that a store of
/// `element` would see.
fn relu_packed(emitter: &mut Emitter, lanes: Lanes, acc: VReg, shift: u8, bits: u8, element: Size) {
    let value_bits = lanes.widest() - 1;
    let Some(left) = value_bits.checked_sub(u32::from(shift)).filter(|left| *left > 0) else {
        // Every value is shifted out.
        emitter.b.set(acc, 0);
        return;
    };
    // One in each lane that is not negative, then as many ones as bits are left of its value.
    let mask = emitter.b.compute(AluOp::Rsh, acc, immediate(value_bits));
    emitter.with_constant(AluOp::And, mask, lanes.each(|_| 1));
    let ones = emitter.b.copy(mask);
    emitter.b.lsh(mask, immediate(left));
    emitter.b.sub(mask, ones);
    if shift > 0 {
        emitter.b.rsh(acc, i32::from(shift));
    }
    emitter.b.and(acc, mask);
    let bits = u32::from(bits);
    if left <= bits {
        return;
    }
    // A value of 2^bits or more carries into bit `left` when 2^left - 2^bits is added.
    let over = emitter.b.copy(acc);
    emitter.with_constant(AluOp::Add, over, lanes.each(|_| (1 << left) - (1 << bits)));
    emitter.b.rsh(over, immediate(left));
    emitter.with_constant(AluOp::And, over, lanes.each(|_| 1));
    let ones = emitter.b.copy(over);
    emitter.b.lsh(over, immediate(bits));
    emitter.b.sub(over, ones);
    emitter.b.or(acc, over);
    // A store that is exactly as wide as the value cuts off what is above it.
    if lanes == Lanes::TWO || lanes == Lanes::FOUR || bytes_of(element) * 8 != bits {
        emitter.with_constant(AluOp::And, acc, lanes.each(|_| (1 << bits) - 1));
    }
}

/// Stores the lanes of a register whose values are not negative.
fn store_packed(emitter: &mut Emitter, lanes: Lanes, acc: VReg, rows: Range<usize>, results: Buffer) {
    let whole = [(Lanes::TWO, Size::W), (Lanes::FOUR, Size::H)];
    if whole.contains(&(lanes, results.element)) {
        // Lanes are elements as they stand; scratch has room for unused ones.
        emitter.b.store(Size::DW, emitter.scratch, results.at(rows.start), acc);
        return;
    }
    let last = rows.len().saturating_sub(1);
    for (lane, row) in rows.enumerate() {
        let value = if lane == last { acc } else { emitter.b.copy(acc) };
        shift_to_bottom(emitter, lanes, value, lane, bytes_of(results.element) * 8 > lanes.bits(lane));
        emitter.b.store(results.element, emitter.scratch, results.at(row), value);
    }
}

/// Brings a lane to the bottom of the register; with `alone`, nothing stays above it.
fn shift_to_bottom(emitter: &mut Emitter, lanes: Lanes, value: VReg, lane: usize, alone: bool) {
    let (at, bits) = (lanes.start(lane), lanes.bits(lane));
    if at > 0 {
        emitter.b.rsh(value, immediate(at));
    }
    if !alone || lane + 1 == lanes.count() {
        return;
    }
    if bits == 32 {
        // A 32-bit move clears the upper half.
        emitter.b.alu(Width::W32, AluOp::Mov, value, value);
    } else {
        emitter.with_constant(AluOp::And, value, (1 << bits) - 1);
    }
}

/// ReLU of lanes of different widths: all at once where nothing is clamped and the shift drops what one mask for
/// all widths leaves, else one after the other.
fn relu_uneven(
    emitter: &mut Emitter,
    lanes: Lanes,
    acc: VReg,
    rows: Range<usize>,
    results: Buffer,
    (shift, bits): (u8, u8),
) {
    let (widest, narrowest) = (lanes.widest(), lanes.narrowest());
    let (dropped, element) = (u32::from(shift), bytes_of(results.element) * 8);
    let most = (widest - 1).saturating_sub(dropped);
    let together = narrowest - 1 > dropped && dropped >= widest - narrowest && most <= u32::from(bits);
    if together {
        // As many ones below each sign as the widest lane keeps; the shift drops the rest of narrower ones.
        let mask = emitter.b.copy(acc);
        emitter.with_constant(AluOp::And, mask, lanes.each(|bits| 1 << (bits - 1)));
        let ones = emitter.b.compute(AluOp::Rsh, mask, immediate(most));
        emitter.b.sub(mask, ones);
        emitter.b.and(acc, mask);
        emitter.with_constant(AluOp::And, acc, lanes.each(|bits| (1 << (bits - 1)) - (1 << dropped)));
        if shift > 0 {
            emitter.b.rsh(acc, i32::from(shift));
        }
    }
    let last = rows.len().saturating_sub(1);
    for (lane, row) in rows.enumerate() {
        let value = if lane == last { acc } else { emitter.b.copy(acc) };
        if together {
            shift_to_bottom(emitter, lanes, value, lane, element > lanes.bits(lane));
        } else {
            shift_to_bottom(emitter, lanes, value, lane, true);
            emitter.with_constant(AluOp::Sub, value, 1 << (lanes.bits(lane) - 1));
            relu_alone(emitter, value, shift, bits, lanes.bits(lane));
        }
        emitter.b.store(results.element, emitter.scratch, results.at(row), value);
    }
}

/// `clamp(acc >> shift, -2^(bits-1), 2^(bits-1) - 1)` of every lane, stored as 64-bit numbers.
fn signed(
    emitter: &mut Emitter,
    lanes: Lanes,
    acc: VReg,
    rows: Range<usize>,
    results: Buffer,
    shift: u8,
    bits: u8,
) {
    let last = rows.len().saturating_sub(1);
    for (lane, row) in rows.enumerate() {
        let value = if lane == last { acc } else { emitter.b.copy(acc) };
        if lanes.packed() {
            shift_to_bottom(emitter, lanes, value, lane, true);
            emitter.with_constant(AluOp::Sub, value, 1 << (lanes.bits(lane) - 1));
        }
        if shift > 0 {
            emitter.b.arsh(value, i32::from(shift));
        }
        let left = lanes.bits(lane).saturating_sub(u32::from(shift)).max(1);
        if left > u32::from(bits) {
            clamp_signed(emitter, value, left, bits);
        }
        emitter.b.store(results.element, emitter.scratch, results.at(row), value);
    }
}

/// Clamps a signed number of `have` bits to `bits`.
fn clamp_signed(emitter: &mut Emitter, value: VReg, have: u32, bits: u8) {
    let half = 1u64 << (bits - 1);
    if have < 64 {
        // value + half lies in -2^62 .. 2^63, so that no difference overflows.
        emitter.with_constant(AluOp::Add, value, half);
        emitter.max_zero(value);
        emitter.with_constant(AluOp::Sub, value, 2 * half - 1);
        emitter.min_zero(value);
        emitter.with_constant(AluOp::Add, value, half - 1);
        return;
    }
    for (limit, from_below) in [(half.wrapping_neg(), true), (half - 1, false)] {
        let limit = emitter.b.constant(limit.cast_signed());
        let outside = if from_below { emitter.less(value, limit) } else { emitter.less(limit, value) };
        emitter.b.arsh(outside, 63);
        emitter.select(value, limit, outside);
    }
}

fn immediate(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
