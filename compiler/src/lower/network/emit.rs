//! What the operations share while they write code: the builder, the pointers, and branch-free selections.
//!
//! What an operation computes stands in its own file.

use super::parameters::Parameters;
use crate::bpf::{AluOp, Cond, Operand, Width};
use crate::lower::builder::Builder;
use crate::lower::code::VReg;
use crate::lower::cost::Trips;

/// Code under construction, with a pointer into scratch and the parameters.
pub(super) struct Emitter {
    pub(super) b: Builder,
    /// Start of the scratch value.
    pub(super) scratch: VReg,
    parameters: Parameters,
    trips: Trips,
}

impl Emitter {
    pub(super) const fn new(b: Builder, scratch: VReg, parameters: Parameters) -> Self {
        Self { b, scratch, parameters, trips: Trips::new() }
    }

    pub(super) fn into_parts(self) -> (Builder, Trips) {
        (self.b, self.trips)
    }

    /// The parameter word at a byte offset within the slot, when it is always the same.
    pub(super) fn constant(&self, at: u32) -> Option<u64> {
        self.parameters.constant(at)
    }

    /// Whether parameters never change.
    pub(super) const fn has_constants(&self) -> bool {
        self.parameters.are_constants()
    }

    /// A register with the parameter word at a byte offset within the slot.
    pub(super) fn parameter(&mut self, at: u32) -> VReg {
        match self.constant(at).and_then(immediate) {
            Some(word) => self.b.constant(i64::from(word)),
            None => self.parameters.slot.load(&mut self.b, at),
        }
    }

    /// A pointer to a byte offset within the slot, good until another parameter is read.
    pub(super) fn pointer_to(&mut self, at: u32) -> VReg {
        self.parameters.slot.pointer_to(&mut self.b, at)
    }

    /// `dst = dst op parameter`.
    pub(super) fn with_parameter(&mut self, op: AluOp, dst: VReg, at: u32) {
        match self.constant(at).and_then(immediate) {
            Some(word) => self.b.alu(Width::W64, op, dst, word),
            None => {
                let parameter = self.parameter(at);
                self.b.alu(Width::W64, op, dst, parameter);
            }
        }
    }

    /// `dst >>= parameter`, filling with the sign.
    pub(super) fn arsh_by_parameter(&mut self, dst: VReg, at: u32) {
        match self.constant(at) {
            Some(word) => self.with_constant(AluOp::Arsh, dst, word & 63),
            None => {
                // Machine code takes shifts modulo 64; the mask makes that part of the program's meaning.
                let shift = self.parameter(at);
                self.b.and(shift, 63);
                self.b.arsh(dst, shift);
            }
        }
    }

    /// Runs `body` `trips` times with the pointers moved on after each round by their steps in bytes, and the
    /// parameters by `parameter_step` from `parameters` on. Afterwards the pointers stand where they stood.
    pub(super) fn repeat(
        &mut self,
        trips: usize,
        (parameters, parameter_step): (u32, usize),
        pointers: &[(VReg, usize)],
        body: impl FnOnce(&mut Self),
    ) {
        let number = |value: usize| i32::try_from(value).unwrap_or(i32::MAX);
        self.parameters.slot.seek(&mut self.b, parameters);
        self.parameters.moving = true;
        let counter = self.b.constant(0);
        let top = self.b.here();
        self.trips.insert(top, trips as u64);
        body(self);
        for &(pointer, step) in pointers {
            self.b.add(pointer, number(step));
        }
        self.parameters.moving = false;
        self.parameters.slot.step(&mut self.b, number(parameter_step));
        self.b.add(counter, 1);
        self.b.jump(Cond::Lt, counter, number(trips), top);
        for &(pointer, step) in pointers {
            self.b.sub(pointer, number(trips * step));
        }
        self.parameters.slot.moved(trips * parameter_step);
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

/// The word as an immediate, which instructions extend by its sign.
pub(super) fn immediate(word: u64) -> Option<i32> {
    i32::try_from(word.cast_signed()).ok()
}
