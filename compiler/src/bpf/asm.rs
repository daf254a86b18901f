//! Constructors that read like assembly: `add(r0, 4)`, `ldx(Size::W, r1, r6, 4)`, `jeq(r1, 0, miss)`.
//!
//! Generic over the register type, so that lowering and hand-written code use the same words. Constructors
//! without a suffix work on 64 bits, those with `32` on 32.

use super::{AluOp, AtomicOp, Cond, Helper, Imm64, Insn, Label, Operand, Register, Size, Width};

impl<R> From<i32> for Operand<R> {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

impl<R: Register> From<R> for Operand<R> {
    fn from(reg: R) -> Self {
        Self::Reg(reg)
    }
}

/// Any two-operand arithmetic.
pub fn alu<R>(width: Width, op: AluOp, dst: R, src: impl Into<Operand<R>>) -> Insn<R> {
    Insn::Alu { width, op, dst, src: src.into() }
}

/// Any conditional jump.
pub fn jump<R>(width: Width, cond: Cond, left: R, right: impl Into<Operand<R>>, target: Label) -> Insn<R> {
    Insn::Jump { width, cond, left, right: right.into(), target }
}

/// One constructor per operation and width.
macro_rules! alu {
    ($($op:ident $wide:ident $narrow:ident $text:literal;)*) => {$(
        #[doc = concat!("`dst ", $text, " src` on 64 bits.")]
        pub fn $wide<R>(dst: R, src: impl Into<Operand<R>>) -> Insn<R> {
            alu(Width::W64, AluOp::$op, dst, src)
        }

        #[doc = concat!("`dst ", $text, " src` on 32 bits; the upper half becomes zero.")]
        pub fn $narrow<R>(dst: R, src: impl Into<Operand<R>>) -> Insn<R> {
            alu(Width::W32, AluOp::$op, dst, src)
        }
    )*};
}

alu! {
    Mov mov mov32 "=";
    Add add add32 "+=";
    Sub sub sub32 "-=";
    Mul mul mul32 "*=";
    Div div div32 "/=";
    Mod modulo modulo32 "%=";
    Or or or32 "|=";
    And and and32 "&=";
    Xor xor xor32 "^=";
    Lsh lsh lsh32 "<<=";
    Rsh rsh rsh32 ">>=";
    Arsh arsh arsh32 "s>>=";
}

/// One constructor per condition and width.
macro_rules! jumps {
    ($($cond:ident $wide:ident $narrow:ident $text:literal;)*) => {$(
        #[doc = concat!("Jumps if `left ", $text, " right` on 64 bits.")]
        pub fn $wide<R>(left: R, right: impl Into<Operand<R>>, target: Label) -> Insn<R> {
            jump(Width::W64, Cond::$cond, left, right, target)
        }

        #[doc = concat!("Jumps if `left ", $text, " right` on the low 32 bits.")]
        pub fn $narrow<R>(left: R, right: impl Into<Operand<R>>, target: Label) -> Insn<R> {
            jump(Width::W32, Cond::$cond, left, right, target)
        }
    )*};
}

jumps! {
    Eq jeq jeq32 "==";
    Ne jne jne32 "!=";
    Gt jgt jgt32 ">";
    Ge jge jge32 ">=";
    Lt jlt jlt32 "<";
    Le jle jle32 "<=";
    Set jset jset32 "&";
    Sgt jsgt jsgt32 "s>";
    Sge jsge jsge32 "s>=";
    Slt jslt jslt32 "s<";
    Sle jsle jsle32 "s<=";
}

/// `dst = -dst`.
pub fn neg<R>(dst: R) -> Insn<R> {
    Insn::Neg { width: Width::W64, dst }
}

/// `dst = -dst` on 32 bits; the upper half becomes zero.
pub fn neg32<R>(dst: R) -> Insn<R> {
    Insn::Neg { width: Width::W32, dst }
}

/// Converts the low 16 bits to or from network order and clears the rest.
pub fn be16<R>(dst: R) -> Insn<R> {
    Insn::ToBigEndian { bits: 16, dst }
}

/// Converts the low 32 bits to or from network order and clears the rest.
pub fn be32<R>(dst: R) -> Insn<R> {
    Insn::ToBigEndian { bits: 32, dst }
}

/// Converts all 64 bits to or from network order.
pub fn be64<R>(dst: R) -> Insn<R> {
    Insn::ToBigEndian { bits: 64, dst }
}

/// Loads a 64-bit constant; two slots.
pub fn ld_imm64<R>(dst: R, value: u64) -> Insn<R> {
    Insn::LoadImm64 { dst, value: Imm64::Value(value) }
}

/// Loads the pointer to a map.
pub fn ld_map<R>(dst: R, map: impl Into<String>) -> Insn<R> {
    Insn::LoadImm64 { dst, value: Imm64::Map(map.into()) }
}

/// Loads a pointer into the only value of a single-entry array or data section.
pub fn ld_map_value<R>(dst: R, map: impl Into<String>, offset: u32) -> Insn<R> {
    Insn::LoadImm64 { dst, value: Imm64::MapValue { map: map.into(), offset } }
}

/// `dst = *(base + offset)`, zero-extended.
pub fn ldx<R>(size: Size, dst: R, base: R, offset: i16) -> Insn<R> {
    Insn::Load { size, dst, base, offset }
}

/// `*(base + offset) = src`.
pub fn stx<R>(size: Size, base: R, offset: i16, src: impl Into<Operand<R>>) -> Insn<R> {
    Insn::Store { size, base, offset, src: src.into() }
}

/// A read-modify-write of `*(base + offset)`; `size` is `W` or `DW`.
pub fn atomic<R>(size: Size, op: AtomicOp, base: R, offset: i16, src: R) -> Insn<R> {
    Insn::Atomic { size, op, base, offset, src }
}

/// Marks a place to jump to.
pub fn label<R>(label: Label) -> Insn<R> {
    Insn::Label(label)
}

/// Jumps always.
pub fn goto<R>(target: Label) -> Insn<R> {
    Insn::Goto { target }
}

/// Calls a helper with `r1` to `r5`; the result is in `r0`.
pub fn call<R>(helper: Helper) -> Insn<R> {
    Insn::Call { helper }
}

/// Calls a function of the module.
pub fn call_function<R>(function: impl Into<String>) -> Insn<R> {
    Insn::CallFunction { function: function.into() }
}

/// Returns `r0`.
pub fn exit<R>() -> Insn<R> {
    Insn::Exit
}
