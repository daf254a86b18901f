//! Bitmaps of different values, as [`crate::ir::flow::distinct`] says.

use super::path::{Path, address};
use super::root::{leading_zeros, log2_digits};
use super::table::Flow;
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Size};
use crate::ir::flow::distinct::{FACTOR, FOLD, LN_2, LOG_BITS, SCALE_BITS};
use crate::ir::flow::{FlowProgram, Sample, SlotId, Update, UpdateOp};
use crate::lower::LowerError;
use crate::lower::builder::Builder;
use crate::lower::code::{FrameLimit, VReg};
use crate::spec::typed::{Address, Bitmap};

/// `nn_distinct(set, log)`: the raw estimate when so many of `2^log` bits are set.
pub(super) const FUNCTION: &str = "nn_distinct";

/// Words whose counts of three bits add up in four bits, and sums of such in eight: 10 times 3 times 8 is below 256.
const NIBBLES: usize = 3;
const BYTES: usize = 10 * NIBBLES;

/// Whether different values of this sample are counted. They choose a word of a bitmap, so the verifier keeps exact
/// track of where they come from; what differs there between paths that meet has to be blurred at once.
pub(super) fn counted(program: &FlowProgram, sample: Sample) -> bool {
    let counts = |update: &Update| match update.op {
        UpdateOp::SetBit(_) => update.sample == sample,
        UpdateOp::Count
        | UpdateOp::Add
        | UpdateOp::AddSquare
        | UpdateOp::Min
        | UpdateOp::Max
        | UpdateOp::SetFirst
        | UpdateOp::SetLast
        | UpdateOp::Ewma(_) => false,
    };
    program.groups.iter().flat_map(|group| &group.updates).any(counts)
}

impl Path<'_> {
    /// A zero of which the verifier knows nothing at all, where addresses are counted: those of IPv4 are made of
    /// numbers that it knows, those of IPv6 are not. Each end has its own, as two ends of IPv6 are two numbers.
    pub(super) fn unknown_zero(&mut self) -> Option<VReg> {
        let ends = [Address::Source, Address::Destination];
        if !ends.into_iter().any(|end| counted(self.program, Sample::Address(end))) {
            return None;
        }
        let zero = self.b.copy(self.unknown);
        let factor = self.b.constant(FOLD.cast_signed());
        self.b.mul(zero, factor);
        Some(zero)
    }

    /// An address as one number.
    pub(super) fn folded(&mut self, end: Address) -> VReg {
        let (slot, shared) = match end {
            Address::Source => (self.frame.src, self.shared.src),
            Address::Destination => (self.frame.dst, self.shared.dst),
        };
        let half = |path: &mut Self, half: i16| match path.packet {
            None => path.b.stack_load(Size::DW, slot, half),
            Some(scratch) => path.b.load(Size::DW, scratch, shared + half),
        };
        let (value, high) = (half(self, 0), half(self, 8));
        let factor = self.b.constant(FOLD.cast_signed());
        self.b.mul(value, factor);
        self.b.add(value, high);
        value
    }

    /// Sets the bit of a value, whether it is set already or not: a branch would cost the verifier more.
    pub(super) fn set_bit(&mut self, flow: &Flow, offset: i16, value: VReg, bitmap: Bitmap) {
        let index = self.b.copy(value);
        let factor = self.b.constant(FACTOR.cast_signed());
        for _ in 0..2 {
            let upper = self.b.compute(AluOp::Rsh, index, 32);
            self.b.xor(index, upper);
            self.b.mul(index, factor);
        }
        self.b.rsh(index, 64 - i32::from(bitmap.0));
        let place = self.b.compute(AluOp::And, index, 63);
        let bit = self.b.constant(1);
        self.b.lsh(bit, place);
        let word = address(&mut self.b, flow.record, offset);
        if bitmap.words() > 1 {
            // Eight bytes for each 64 bits: the verifier sees from the shifts how far this reaches.
            self.b.rsh(index, 6);
            self.b.lsh(index, 3);
            self.b.add(word, index);
        }
        self.b.atomic(Size::DW, AtomicOp::Or, word, 0, bit);
    }

    /// Number of bits set in a bitmap, without branches: bits of pairs, nibbles and bytes are added side by side.
    pub(super) fn bits_set(&mut self, record: VReg, first: SlotId, bitmap: Bitmap) -> VReg {
        let (record, start) = self.seen(record, self.program.slot(first));
        let offset = |word: u32| start.saturating_add(i16::try_from(word * 8).unwrap_or(i16::MAX));
        let offsets: Vec<i16> = (0..bitmap.words()).map(offset).collect();
        let b = &mut self.b;
        let mask = |b: &mut Builder, byte: u8| b.constant(i64::from_ne_bytes([byte; 8]));
        let (pairs, nibbles, bytes) = (mask(b, 0x55), mask(b, 0x33), mask(b, 0x0f));
        let total = b.constant(0);
        for part in offsets.chunks(BYTES) {
            let sum = b.constant(0);
            for three in part.chunks(NIBBLES) {
                let counts = b.constant(0);
                for offset in three {
                    let word = b.load(Size::DW, record, *offset);
                    let upper = b.compute(AluOp::Rsh, word, 1);
                    b.and(upper, pairs);
                    b.sub(word, upper);
                    let upper = b.compute(AluOp::Rsh, word, 2);
                    b.and(upper, nibbles);
                    b.and(word, nibbles);
                    b.add(counts, word);
                    b.add(counts, upper);
                }
                let upper = b.compute(AluOp::Rsh, counts, 4);
                b.and(upper, bytes);
                b.and(counts, bytes);
                b.add(sum, counts);
                b.add(sum, upper);
            }
            // All bytes together may pass 255: they are added in 16 bits.
            let odd = b.compute(AluOp::Rsh, sum, 8);
            let sixteen = b.constant(0x00ff_00ff_00ff_00ff);
            b.and(odd, sixteen);
            b.and(sum, sixteen);
            b.add(sum, odd);
            let fold = b.constant(0x0001_0001_0001_0001);
            b.mul(sum, fold);
            b.rsh(sum, 48);
            b.add(total, sum);
        }
        total
    }
}

/// The function, without a branch.
pub(super) fn function() -> Result<Function, LowerError> {
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Scalar; 2]);
    let (set, log) = (b.parameter(0), b.parameter(1));
    let bits = b.constant(1);
    b.lsh(bits, log);
    // One clear bit where none is.
    let clear = b.compute(AluOp::Sub, bits, set);
    let none = b.compute(AluOp::Sub, clear, 1);
    b.rsh(none, 63);
    b.add(clear, none);

    // The logarithm of the clear bits, as in `crate::ir::flow::formula::log2_steps`.
    let zeros = leading_zeros(&mut b, clear);
    let result = b.constant(63);
    b.sub(result, zeros);
    log2_digits(&mut b, clear, zeros, result, LOG_BITS);

    let rest = b.compute(AluOp::Lsh, log, i32::from(LOG_BITS));
    b.sub(rest, result);
    b.mul(rest, bits);
    // Below 2^31.
    b.mul(rest, LN_2 as i32);
    b.rsh(rest, i32::from(SCALE_BITS));
    b.ret(rest);
    b.finish(FrameLimit::Share(super::frame::ROOT))
}
