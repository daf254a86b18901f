//! Writes code over virtual registers so that it reads like assembly.
//!
//! Arithmetic is in two-address form as in the instruction set: `b.add(x, y)` is `x += y`. Values that are
//! needed again are copied first; the allocator removes the copies that cost nothing. Machine registers
//! appear only where the calling convention names them, inside this file.

use super::LowerError;
use super::code::{FrameLimit, PINNED, Source, Step, VReg, VirtualCode, helper_arguments};
use super::regalloc;
use crate::bpf::module::{Function, Line, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Imm64, Insn, Label, Operand, Reg, Size, Width};

/// A reserved piece of the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StackSlot {
    /// Distance from the frame pointer, negative.
    pub offset: i16,
    pub size: u16,
}

/// A function under construction.
#[derive(Debug, Clone)]
pub struct Builder {
    code: VirtualCode,
    labels: u32,
    line: u32,
    atomics: Atomics,
}

/// How memory that processors share is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Atomics {
    /// By the operations of Linux 5.12, which give the old value.
    Fetching,
    /// By additions alone; whatever needs an old value reads it apart, so that changes that two processors make at
    /// once can be mistaken for one another.
    Additions,
}

/// One method per two-operand operation, all in place and 64 bits wide.
macro_rules! in_place {
    ($($(#[$doc:meta])* $name:ident $op:ident;)*) => {
        $($(#[$doc])* pub fn $name(&mut self, dst: VReg, src: impl Into<Operand<VReg>>) {
            self.alu(Width::W64, AluOp::$op, dst, src);
        })*
    };
}

impl Builder {
    /// An empty function. `section` is the ELF section, `.text` for subprograms.
    #[must_use]
    pub fn new(name: &str, section: &str, parameters: &[Parameter]) -> Self {
        Self {
            code: VirtualCode {
                name: name.to_owned(),
                section: section.to_owned(),
                parameters: parameters.to_vec(),
                steps: Vec::new(),
                lines: vec![Line { text: name.to_owned(), ..Line::default() }],
                registers: PINNED,
                stack: 0,
            },
            labels: 0,
            line: 0,
            atomics: Atomics::Fetching,
        }
    }

    /// Which atomic operations the kernel has; all of them unless said otherwise.
    #[must_use]
    pub fn with_atomics(self, atomics: Atomics) -> Self {
        Self { atomics, ..self }
    }

    /// What the following instructions come from, for line info.
    pub fn origin(&mut self, line: Line) {
        if let Some(known) = self.code.lines.iter().position(|l| *l == line) {
            self.line = u32::try_from(known).unwrap_or(0);
            return;
        }
        self.line = u32::try_from(self.code.lines.len()).unwrap_or(0);
        self.code.lines.push(line);
    }

    /// A register without a value yet.
    pub fn fresh(&mut self) -> VReg {
        let register = VReg(self.code.registers);
        self.code.registers += 1;
        register
    }

    /// The function's parameter `index`, counted from 0. To be taken before the first call.
    pub fn parameter(&mut self, index: u8) -> VReg {
        self.copy(VReg::pinned(Reg(index + 1)))
    }

    /// A label to be bound later.
    pub fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels - 1)
    }

    /// Binds a label here.
    pub fn bind(&mut self, label: Label) {
        self.push(Insn::Label(label));
    }

    /// Binds a new label here.
    pub fn here(&mut self) -> Label {
        let label = self.label();
        self.bind(label);
        label
    }

    /// Reserves stack, aligned to 8 bytes.
    pub fn stack_slot(&mut self, size: u16) -> StackSlot {
        self.code.stack += u32::from(size).next_multiple_of(8);
        // A frame that does not fit is refused by `finish`; until then the offset only has to be one.
        let offset = i16::try_from(self.code.stack).map_or(i16::MIN, |bytes| -bytes);
        StackSlot { offset, size }
    }

    /// Pointer to a slot.
    pub fn stack_address(&mut self, slot: StackSlot) -> VReg {
        let pointer = self.copy(VReg::FP);
        self.add(pointer, i32::from(slot.offset));
        pointer
    }

    /// Loads from a slot, `offset` bytes into it.
    pub fn stack_load(&mut self, size: Size, slot: StackSlot, offset: i16) -> VReg {
        self.load(size, VReg::FP, slot.offset.saturating_add(offset))
    }

    /// Stores to a slot, `offset` bytes into it.
    pub fn stack_store(&mut self, size: Size, slot: StackSlot, offset: i16, src: impl Into<Operand<VReg>>) {
        self.store(size, VReg::FP, slot.offset.saturating_add(offset), src);
    }

    /// A new register with this value.
    pub fn constant(&mut self, value: i64) -> VReg {
        let dst = self.fresh();
        self.set(dst, value);
        dst
    }

    /// `dst = value`.
    pub fn set(&mut self, dst: VReg, value: i64) {
        match i32::try_from(value) {
            Ok(small) => self.mov(dst, small),
            Err(_) => self.push(Insn::LoadImm64 { dst, value: Imm64::Value(value.cast_unsigned()) }),
        }
    }

    /// Pointer to a map, as helpers want it.
    pub fn map(&mut self, name: &str) -> VReg {
        let dst = self.fresh();
        self.push(Insn::LoadImm64 { dst, value: Imm64::Map(name.to_owned()) });
        dst
    }

    /// Pointer into the only value of a data section or single-entry array.
    pub fn map_value(&mut self, name: &str, offset: u32) -> VReg {
        let dst = self.fresh();
        self.push(Insn::LoadImm64 { dst, value: Imm64::MapValue { map: name.to_owned(), offset } });
        dst
    }

    /// A new register with the same value.
    pub fn copy(&mut self, src: VReg) -> VReg {
        let dst = self.fresh();
        self.mov(dst, src);
        dst
    }

    /// A new register with `left op right`.
    pub fn compute(&mut self, op: AluOp, left: VReg, right: impl Into<Operand<VReg>>) -> VReg {
        let dst = self.copy(left);
        self.alu(Width::W64, op, dst, right);
        dst
    }

    /// `dst = dst op src`, or `dst = src` for moves. 32-bit operations clear the upper half.
    pub fn alu(&mut self, width: Width, op: AluOp, dst: VReg, src: impl Into<Operand<VReg>>) {
        self.push(Insn::Alu { width, op, dst, src: src.into() });
    }

    in_place! {
        /// `dst = src`.
        mov Mov;
        /// `dst += src`.
        add Add;
        /// `dst -= src`.
        sub Sub;
        /// `dst *= src`.
        mul Mul;
        /// `dst /= src`, unsigned.
        div Div;
        /// `dst %= src`, unsigned.
        modulo Mod;
        /// `dst |= src`.
        or Or;
        /// `dst &= src`.
        and And;
        /// `dst ^= src`.
        xor Xor;
        /// `dst <<= src`.
        lsh Lsh;
        /// `dst >>= src`, filling with zeros.
        rsh Rsh;
        /// `dst >>= src`, filling with the sign.
        arsh Arsh;
    }

    /// `dst = -dst`.
    pub fn neg(&mut self, dst: VReg) {
        self.push(Insn::Neg { width: Width::W64, dst });
    }

    /// Converts the low `bits` of `dst` to big endian and clears the rest.
    pub fn to_big_endian(&mut self, bits: u8, dst: VReg) {
        self.push(Insn::ToBigEndian { bits, dst });
    }

    /// A new register with `*(base + offset)`, zero-extended.
    pub fn load(&mut self, size: Size, base: VReg, offset: i16) -> VReg {
        let dst = self.fresh();
        self.load_to(dst, size, base, offset);
        dst
    }

    /// `dst = *(base + offset)`, zero-extended.
    pub fn load_to(&mut self, dst: VReg, size: Size, base: VReg, offset: i16) {
        self.push(Insn::Load { size, dst, base, offset });
    }

    /// `*(base + offset) = src`.
    pub fn store(&mut self, size: Size, base: VReg, offset: i16, src: impl Into<Operand<VReg>>) {
        self.push(Insn::Store { size, base, offset, src: src.into() });
    }

    /// Read-modify-write without a compare; `src` receives the old value where the operation fetches.
    pub fn atomic(&mut self, size: Size, op: AtomicOp, base: VReg, offset: i16, src: VReg) {
        match self.atomics {
            Atomics::Fetching => self.push(Insn::Atomic { size, op, base, offset, src }),
            Atomics::Additions => self.by_additions(size, op, base, offset, src),
        }
    }

    /// What [`Atomics::Additions`] makes of an operation.
    fn by_additions(&mut self, size: Size, op: AtomicOp, base: VReg, offset: i16, src: VReg) {
        let combine = match op {
            AtomicOp::Add => return self.push(Insn::Atomic { size, op, base, offset, src }),
            AtomicOp::FetchAdd => {
                self.push(Insn::Atomic { size, op: AtomicOp::Add, base, offset, src });
                let old = self.load(size, base, offset);
                let width = if size == Size::DW { Width::W64 } else { Width::W32 };
                self.alu(width, AluOp::Sub, old, src);
                return self.mov(src, old);
            }
            AtomicOp::Or | AtomicOp::FetchOr => AluOp::Or,
            AtomicOp::And | AtomicOp::FetchAnd => AluOp::And,
            AtomicOp::Xor | AtomicOp::FetchXor => AluOp::Xor,
            // Without a compare, an exchange is all that is left.
            AtomicOp::Xchg | AtomicOp::CmpXchg => AluOp::Mov,
        };
        let old = self.load(size, base, offset);
        let new = self.compute(combine, old, src);
        self.store(size, base, offset, new);
        let fetches = !matches!(op, AtomicOp::Or | AtomicOp::And | AtomicOp::Xor);
        if fetches {
            self.mov(src, old);
        }
    }

    /// Stores `new` where `expected` stands; gives the old value either way.
    pub fn compare_exchange(
        &mut self,
        size: Size,
        base: VReg,
        offset: i16,
        expected: impl Into<Operand<VReg>>,
        new: VReg,
    ) -> VReg {
        match self.atomics {
            Atomics::Fetching => {
                self.mov(VReg::pinned(Reg::R0), expected);
                self.push(Insn::Atomic { size, op: AtomicOp::CmpXchg, base, offset, src: new });
                self.copy(VReg::pinned(Reg::R0))
            }
            Atomics::Additions => {
                let old = self.load(size, base, offset);
                let other = self.label();
                self.jump(Cond::Ne, old, expected, other);
                self.store(size, base, offset, new);
                self.bind(other);
                old
            }
        }
    }

    /// Jumps always.
    pub fn goto(&mut self, target: Label) {
        self.push(Insn::Goto { target });
    }

    /// Jumps when the 64-bit comparison holds.
    pub fn jump(&mut self, cond: Cond, left: VReg, right: impl Into<Operand<VReg>>, target: Label) {
        self.push(Insn::Jump { width: Width::W64, cond, left, right: right.into(), target });
    }

    /// Jumps when the comparison of the low halves holds.
    pub fn jump32(&mut self, cond: Cond, left: VReg, right: impl Into<Operand<VReg>>, target: Label) {
        self.push(Insn::Jump { width: Width::W32, cond, left, right: right.into(), target });
    }

    /// Calls a helper with as many arguments as it has.
    pub fn call(&mut self, helper: Helper, arguments: &[VReg]) -> VReg {
        debug_assert_eq!(arguments.len(), helper_arguments(helper), "arguments of {helper:?}");
        self.call_insn(Insn::Call { helper }, arguments)
    }

    /// Calls a function of the module.
    pub fn call_function(&mut self, function: &str, arguments: &[VReg]) -> VReg {
        self.call_insn(Insn::CallFunction { function: function.to_owned() }, arguments)
    }

    /// Leaves the function with this value.
    pub fn ret(&mut self, value: impl Into<Operand<VReg>>) {
        self.mov(VReg::pinned(Reg::R0), value);
        self.push(Insn::Exit);
    }

    /// The code so far, for estimates and tests.
    #[must_use]
    pub const fn code(&self) -> &VirtualCode {
        &self.code
    }

    /// Allocates registers. Code that no path reaches is left out.
    ///
    /// # Errors
    ///
    /// When the frame exceeds `limit`, or the code is not well formed.
    pub fn finish(self, limit: FrameLimit) -> Result<Function, LowerError> {
        regalloc::allocate(self.code, limit)
    }

    fn call_insn(&mut self, insn: Insn<VReg>, arguments: &[VReg]) -> VReg {
        for (number, &argument) in (1u32..).zip(arguments) {
            self.mov(VReg(number), argument);
        }
        self.push(insn);
        if let Some(step) = self.code.steps.last_mut() {
            step.arguments = u8::try_from(arguments.len()).unwrap_or(5).min(5);
        }
        self.copy(VReg::pinned(Reg::R0))
    }

    fn push(&mut self, insn: Insn<VReg>) {
        let source = Source::Original(self.code.steps.len());
        self.code.steps.push(Step { insn, line: self.line, arguments: 0, source });
    }
}
