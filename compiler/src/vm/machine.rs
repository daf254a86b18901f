//! The interpreter: registers, frames, and one step after the other.

use super::alu::{OldValue, alu, atomic, holds, neg, to_big_endian};
use super::context::{Context, Skb};
use super::error::Fault;
use super::helpers;
use super::image::{Image, Step};
use super::maps::Maps;
use super::memory::{CONTEXT, PACKET, POISON, STACK, is_in, place};
use super::profile::Recorder;
use crate::bpf::limits::{CALL_FRAMES, STACK_BYTES};
use crate::bpf::table::{Shape, Source};
use crate::bpf::{AtomicOp, Helper, Size, Width};

/// Steps of one run before it counts as endless: a hundred times what the verifier would walk.
const MAX_STEPS: u64 = 100_000_000;

/// First and number of the registers that calls preserve.
const SAVED: u8 = 6;
const SAVED_COUNT: usize = 4;

/// Number of the frame pointer.
const FP: u8 = 10;

/// The state of one run.
pub(super) struct Machine<'a> {
    pub(super) image: &'a Image,
    pub(super) maps: &'a mut Maps,
    pub(super) registers: Registers,
    pub(super) context: Context,
    pub(super) skb: Skb,
    pub(super) clock_ns: u64,
    /// Tail calls taken so far; the count is shared by all frames.
    pub(super) tail_calls: u32,
    pub(super) frames: Vec<Frame>,
    /// Position of the current instruction, for fault reports.
    pub(super) at: usize,
    pub(super) executed: u64,
    /// Who counts what is executed, if anybody does.
    pub(super) recorder: Option<&'a mut Recorder>,
}

/// What a call leaves behind for its return.
pub(super) struct Frame {
    return_to: usize,
    saved: [u64; SAVED_COUNT],
}

/// Sixteen registers, so that a four-bit number always names one.
pub(super) struct Registers([u64; 16]);

impl Registers {
    #[inline(always)]
    pub(super) fn get(&self, register: u8) -> u64 {
        self.0.get(usize::from(register & 15)).copied().unwrap_or_default()
    }

    #[inline(always)]
    pub(super) fn set(&mut self, register: u8, value: u64) {
        if let Some(place) = self.0.get_mut(usize::from(register & 15)) {
            *place = value;
        }
    }
}

/// What follows a helper call.
pub(super) enum After {
    /// The next instruction, with this in `r0`.
    Return(u64),
    /// Another program in the same frame, with the context in `r1`.
    Enter { start: usize, context: u64 },
}

impl<'a> Machine<'a> {
    pub(super) fn new(
        image: &'a Image,
        maps: &'a mut Maps,
        context: Context,
        skb: Skb,
        clock_ns: u64,
    ) -> Self {
        Self {
            image,
            maps,
            registers: Registers([POISON; 16]),
            context,
            skb,
            clock_ns,
            tail_calls: 0,
            frames: Vec::with_capacity(CALL_FRAMES),
            at: 0,
            executed: 0,
            recorder: None,
        }
    }

    /// Runs from `start` until the outermost exit; gives `r0`.
    pub(super) fn run(&mut self, start: usize) -> Result<u64, Fault> {
        let context = self.maps.memory.address(CONTEXT, 0, 0);
        self.enter(context);
        let image = self.image;
        let mut next = start;
        loop {
            self.at = next;
            let step = image.code.get(next).ok_or(Fault::BadJump)?;
            self.executed += 1;
            if self.executed > MAX_STEPS {
                return Err(Fault::StepLimit);
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.step(next);
            }
            next += 1;
            match step.shape {
                Shape::Alu { width, op, source } => {
                    let right = self.right(source, step);
                    self.registers.set(step.dst, alu(width, op, self.registers.get(step.dst), right));
                }
                Shape::Neg { width } => {
                    self.registers.set(step.dst, neg(width, self.registers.get(step.dst)));
                }
                Shape::ToBigEndian { bits } => {
                    self.registers.set(step.dst, to_big_endian(bits, self.registers.get(step.dst)));
                }
                Shape::LoadImm64 | Shape::LoadMap | Shape::LoadMapValue => {
                    self.registers.set(step.dst, step.imm);
                    next += 1;
                }
                Shape::Load { size } => {
                    let value = self.load(size, offset(self.registers.get(step.src), step))?;
                    self.registers.set(step.dst, value);
                }
                Shape::Store { size, source } => {
                    let value = self.right(source, step);
                    self.store(size, offset(self.registers.get(step.dst), step), value)?;
                }
                Shape::Atomic { size, op } => self.atomic(size, op, step)?,
                Shape::Goto => next = step.target as usize,
                Shape::Jump { width, cond, source } => {
                    let right = self.right(source, step);
                    if holds(width, cond, self.registers.get(step.dst), right) {
                        next = step.target as usize;
                    }
                }
                Shape::Call => {
                    // The immediate field has 32 bits; the sign means nothing here.
                    let number = step.imm & 0xffff_ffff;
                    let helper = u32::try_from(number).ok().and_then(Helper::from_number);
                    let helper = helper.ok_or(Fault::UnknownHelper { number })?;
                    let first = self.registers.get(1);
                    match helpers::call(self, helper)? {
                        After::Return(value) => {
                            if let Some(recorder) = &mut self.recorder {
                                recorder.call(self.at, helper, first, value);
                            }
                            self.clobber_arguments();
                            self.registers.set(0, value);
                        }
                        After::Enter { start, context } => {
                            self.enter(context);
                            next = start;
                        }
                    }
                }
                Shape::CallFunction => {
                    self.call(next)?;
                    next = step.target as usize;
                }
                Shape::Exit => match self.frames.pop() {
                    Some(frame) => {
                        self.leave(&frame);
                        next = frame.return_to;
                    }
                    None => return Ok(self.registers.get(0)),
                },
            }
        }
    }

    #[inline(always)]
    fn right(&self, source: Source, step: &Step) -> u64 {
        match source {
            Source::Imm => step.imm,
            Source::Reg => self.registers.get(step.src),
        }
    }

    /// A program's first state: nothing but the context and the frame pointer.
    fn enter(&mut self, context: u64) {
        self.registers = Registers([POISON; 16]);
        self.registers.set(1, context);
        self.new_frame();
    }

    /// A subprogram's first state: its arguments; the caller's preserved registers are put aside.
    fn call(&mut self, return_to: usize) -> Result<(), Fault> {
        if self.frames.len() + 1 >= CALL_FRAMES {
            return Err(Fault::CallDepth);
        }
        let mut saved = [0; SAVED_COUNT];
        for (register, place) in (SAVED..).zip(&mut saved) {
            *place = self.registers.get(register);
            self.registers.set(register, POISON);
        }
        self.frames.push(Frame { return_to, saved });
        self.new_frame();
        Ok(())
    }

    fn leave(&mut self, frame: &Frame) {
        self.clobber_arguments();
        for (register, value) in (SAVED..).zip(frame.saved) {
            self.registers.set(register, value);
        }
        self.registers.set(FP, self.frame_pointer());
    }

    fn new_frame(&mut self) {
        self.maps.memory.poison_frame(self.depth());
        self.registers.set(FP, self.frame_pointer());
    }

    fn frame_pointer(&self) -> u64 {
        self.maps.memory.address(STACK, self.depth(), STACK_BYTES)
    }

    /// Frames below the current one; at most seven.
    fn depth(&self) -> u32 {
        self.frames.len() as u32
    }

    /// The caller may not rely on `r1` to `r5` after a call.
    fn clobber_arguments(&mut self) {
        for register in 1..SAVED {
            self.registers.set(register, POISON);
        }
    }

    #[inline(always)]
    fn load(&self, size: Size, address: u64) -> Result<u64, Fault> {
        let memory = &self.maps.memory;
        let loaded = match size {
            Size::B => memory.load(address).map(|bytes| u64::from(u8::from_le_bytes(bytes))),
            Size::H => memory.load(address).map(|bytes| u64::from(u16::from_le_bytes(bytes))),
            Size::W => memory.load(address).map(|bytes| u64::from(u32::from_le_bytes(bytes))),
            Size::DW => memory.load(address).map(u64::from_le_bytes),
        };
        match loaded {
            // The context has no bytes of its own, so loads from it come here.
            Err(_) if is_in(address, CONTEXT) => {
                self.context.load(memory, &self.skb, place(address), bytes_of(size))
            }
            loaded => loaded,
        }
    }

    /// Stores the low bytes of a value; the casts cut it.
    #[inline(always)]
    fn store(&mut self, size: Size, address: u64, value: u64) -> Result<(), Fault> {
        let memory = &mut self.maps.memory;
        let stored = match size {
            Size::B => memory.store(address, (value as u8).to_le_bytes()),
            Size::H => memory.store(address, (value as u16).to_le_bytes()),
            Size::W => memory.store(address, (value as u32).to_le_bytes()),
            Size::DW => memory.store(address, value.to_le_bytes()),
        };
        // The context has no bytes of its own, as for loads.
        let marks = stored.is_err() && matches!(size, Size::W) && is_in(address, CONTEXT);
        if marks && self.context.store(&mut self.skb, place(address), value as u32) {
            return Ok(());
        }
        stored
    }

    fn atomic(&mut self, size: Size, op: AtomicOp, step: &Step) -> Result<(), Fault> {
        let address = offset(self.registers.get(step.dst), step);
        // As the verifier: aligned, and not on packets or the context.
        if !place(address).is_multiple_of(bytes_of(size)) || is_in(address, PACKET) || is_in(address, CONTEXT)
        {
            return Err(Fault::BadAtomic { address });
        }
        let width = if matches!(size, Size::DW) { Width::W64 } else { Width::W32 };
        let cut = |value: u64| match width {
            Width::W64 => value,
            Width::W32 => u64::from(value as u32),
        };
        let old = self.load(size, address)?;
        let source = cut(self.registers.get(step.src));
        let (new, old_goes) = atomic(op, old, source, cut(self.registers.get(0)));
        self.store(size, address, new)?;
        match old_goes {
            OldValue::Dropped => {}
            OldValue::ToSource => self.registers.set(step.src, old),
            OldValue::ToR0 => self.registers.set(0, old),
        }
        Ok(())
    }
}

#[inline(always)]
fn offset(base: u64, step: &Step) -> u64 {
    base.wrapping_add_signed(i64::from(step.offset))
}

fn bytes_of(size: Size) -> u64 {
    match size {
        Size::B => 1,
        Size::H => 2,
        Size::W => 4,
        Size::DW => 8,
    }
}
