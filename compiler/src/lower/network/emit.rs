//! What the operations share while they write code: the builder, the pointers, and branch-free selections.
//!
//! What an operation computes stands in its own file.

use crate::bpf::{AluOp, Cond, Operand, Size, Width};
use crate::lower::builder::Builder;
use crate::lower::code::VReg;
use crate::lower::cost::Trips;

/// Code under construction, with pointers into scratch and parameters.
pub(super) struct Emitter {
    pub(super) b: Builder,
    /// Start of the scratch value.
    pub(super) scratch: VReg,
    parameters: VReg,
    /// Byte offset within the slot that `parameters` points to.
    base: u32,
    trips: Trips,
}

impl Emitter {
    pub(super) const fn new(b: Builder, scratch: VReg, parameters: VReg, base: u32) -> Self {
        Self { b, scratch, parameters, base, trips: Trips::new() }
    }

    pub(super) fn into_parts(self) -> (Builder, Trips) {
        (self.b, self.trips)
    }

    /// Loads the parameter word at a byte offset within the slot.
    pub(super) fn parameter(&mut self, at: u32) -> VReg {
        let distance = i64::from(at) - i64::from(self.base);
        let offset = match i16::try_from(distance) {
            Ok(offset) => offset,
            Err(_) => {
                // Words are 8-aligned and slots far below 2^31, so that the distance is an immediate.
                self.b.add(self.parameters, i32::try_from(distance).unwrap_or(0));
                self.base = at;
                0
            }
        };
        self.b.load(Size::DW, self.parameters, offset)
    }

    /// Runs `body` `trips` times with the pointers moved on after each round by `scratch_step` and
    /// `parameter_step` bytes. Afterwards scratch stands where it stood.
    pub(super) fn repeat(
        &mut self,
        trips: usize,
        scratch_step: usize,
        parameter_step: usize,
        body: impl FnOnce(&mut Self),
    ) {
        let immediate = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        let counter = self.b.constant(0);
        let top = self.b.here();
        self.trips.insert(top, trips as u64);
        body(self);
        self.b.add(self.scratch, immediate(scratch_step));
        self.b.add(self.parameters, immediate(parameter_step));
        self.b.add(counter, 1);
        self.b.jump(Cond::Lt, counter, immediate(trips), top);
        self.b.sub(self.scratch, immediate(trips * scratch_step));
        self.base += u32::try_from(trips * parameter_step).unwrap_or(0);
    }

    /// Points the parameter pointer exactly there, so that a loop can count from it.
    pub(super) fn seek(&mut self, at: u32) {
        let distance = i64::from(at) - i64::from(self.base);
        if distance != 0 {
            self.b.add(self.parameters, i32::try_from(distance).unwrap_or(0));
            self.base = at;
        }
    }

    /// `dst = dst op value`, with the value in a register where it is no immediate.
    pub(super) fn with_constant(&mut self, op: AluOp, dst: VReg, value: u64) {
        let operand: Operand<VReg> = match i32::try_from(value.cast_signed()) {
            Ok(immediate) => immediate.into(),
            Err(_) => self.b.constant(value.cast_signed()).into(),
        };
        self.b.alu(Width::W64, op, dst, operand);
    }

    /// All ones when `dst` is negative, else zero.
    pub(super) fn sign_mask(&mut self, value: VReg) -> VReg {
        self.b.compute(AluOp::Arsh, value, 63)
    }

    /// `dst = min(dst, 0)`.
    pub(super) fn min_zero(&mut self, dst: VReg) {
        let mask = self.sign_mask(dst);
        self.b.and(dst, mask);
    }

    /// `dst = max(dst, 0)`.
    pub(super) fn max_zero(&mut self, dst: VReg) {
        let mask = self.b.compute(AluOp::Rsh, dst, 63);
        self.b.sub(mask, 1);
        self.b.and(dst, mask);
    }

    /// A register whose sign bit tells whether `left < right`, for any two numbers.
    pub(super) fn less(&mut self, left: VReg, right: VReg) -> VReg {
        // The difference has the right sign unless it overflowed, which needs operands of different sign and
        // a difference whose sign is not the left one's.
        let difference = self.b.compute(AluOp::Sub, left, right);
        let differ = self.b.compute(AluOp::Xor, left, right);
        let flipped = self.b.compute(AluOp::Xor, left, difference);
        self.b.and(differ, flipped);
        self.b.xor(difference, differ);
        difference
    }

    /// `dst = if mask == all ones { other } else { dst }`.
    pub(super) fn select(&mut self, dst: VReg, other: VReg, mask: VReg) {
        let change = self.b.compute(AluOp::Xor, dst, other);
        self.b.and(change, mask);
        self.b.xor(dst, change);
    }
}
