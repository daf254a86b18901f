//! The instruction table: every encoding that this project emits, once.
//!
//! A row ties an opcode byte to a [`Shape`] (an instruction without its operands), to the fields that hold
//! operands, and to the text that disassemblers print. Encoding, decoding, printing and the generators of the
//! tests read these rows; no other file knows an opcode. The encodings are those of
//! `Documentation/bpf/standardization/instruction-set.rst` up to ISA v3 (alu32, jmp32, fetching atomics),
//! which kernel 6.1 accepts; later instructions are absent on purpose.

use super::{AluOp, AtomicOp, Cond, Size, Width};
use std::collections::HashMap;
use std::sync::LazyLock;

/// Where the second operand comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    Imm,
    Reg,
}

/// An instruction without its operands. Two instructions of one shape differ in operand fields only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Shape {
    Alu { width: Width, op: AluOp, source: Source },
    Neg { width: Width },
    ToBigEndian { bits: u8 },
    LoadImm64,
    LoadMap,
    LoadMapValue,
    Load { size: Size },
    Store { size: Size, source: Source },
    Atomic { size: Size, op: AtomicOp },
    Goto,
    Jump { width: Width, cond: Cond, source: Source },
    Call,
    CallFunction,
    Exit,
}

/// What tells rows of the same opcode byte apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Mark {
    /// The opcode alone decides.
    None,
    /// The source-register field.
    Src(u8),
    /// The immediate field.
    Imm(i32),
}

/// The fields that hold operands; every other field is zero or the [`Mark`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Fields {
    pub dst: bool,
    pub src: bool,
    pub offset: bool,
    pub imm: bool,
    /// The instruction takes two slots and its immediate has 64 bits.
    pub wide: bool,
}

/// One encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub opcode: u8,
    pub mark: Mark,
    pub shape: Shape,
    pub fields: Fields,
    /// What stands for `{op}` in the text.
    pub symbol: &'static str,
    /// The text; placeholders are `{dst}` `{src}` (64-bit names), `{wdst}` `{wsrc}` (32-bit names), `{imm}`,
    /// `{off}` (` + 4`), `{target}`, `{ref}` (a map or function) and `{op}`.
    pub text: &'static str,
}

impl Row {
    /// Slots of eight bytes that the instruction occupies.
    #[must_use]
    pub fn slots(&self) -> u32 {
        if self.fields.wide { 2 } else { 1 }
    }
}

/// The row of a shape; `None` for shapes that do not exist, such as a 24-bit byte swap.
#[must_use]
pub fn row(shape: Shape) -> Option<&'static Row> {
    BY_SHAPE.get(&shape).copied()
}

/// The row that an encoded instruction belongs to.
#[must_use]
pub fn recognise(opcode: u8, src: u8, imm: i32) -> Option<&'static Row> {
    BY_OPCODE.get(usize::from(opcode))?.iter().copied().find(|row| match row.mark {
        Mark::None => true,
        Mark::Src(mark) => mark == src,
        Mark::Imm(mark) => mark == imm,
    })
}

/// All rows, in table order.
pub fn rows() -> impl Iterator<Item = &'static Row> {
    TABLE.iter().flat_map(|group| group.iter())
}

/// The table itself. A line is one operation; its group holds the widths, sizes and operand sources.
static TABLE: &[&[Row]] = &[
    &alu(AluOp::Add, 0x00, "+="),
    &alu(AluOp::Sub, 0x10, "-="),
    &alu(AluOp::Mul, 0x20, "*="),
    &alu(AluOp::Div, 0x30, "/="),
    &alu(AluOp::Or, 0x40, "|="),
    &alu(AluOp::And, 0x50, "&="),
    &alu(AluOp::Lsh, 0x60, "<<="),
    &alu(AluOp::Rsh, 0x70, ">>="),
    &alu(AluOp::Mod, 0x90, "%="),
    &alu(AluOp::Xor, 0xa0, "^="),
    &alu(AluOp::Mov, 0xb0, "="),
    &alu(AluOp::Arsh, 0xc0, "s>>="),
    &neg(0x80),
    &big_endian(0xdc),
    &load_imm64(0x18),
    &memory(Size::W, 0x00, "u32"),
    &memory(Size::H, 0x08, "u16"),
    &memory(Size::B, 0x10, "u8"),
    &memory(Size::DW, 0x18, "u64"),
    &atomic(AtomicOp::Add, 0x00, UPDATE, "+="),
    &atomic(AtomicOp::Or, 0x40, UPDATE, "|="),
    &atomic(AtomicOp::And, 0x50, UPDATE, "&="),
    &atomic(AtomicOp::Xor, 0xa0, UPDATE, "^="),
    &atomic(AtomicOp::FetchAdd, 0x01, FETCH, "add"),
    &atomic(AtomicOp::FetchOr, 0x41, FETCH, "or"),
    &atomic(AtomicOp::FetchAnd, 0x51, FETCH, "and"),
    &atomic(AtomicOp::FetchXor, 0xa1, FETCH, "xor"),
    &atomic(AtomicOp::Xchg, 0xe1, EXCHANGE, ""),
    &atomic(AtomicOp::CmpXchg, 0xf1, COMPARE, ""),
    &[one(0x05, Shape::Goto, Mark::None, OFFSET, "goto {target}")],
    &jump(Cond::Eq, 0x10, "=="),
    &jump(Cond::Gt, 0x20, ">"),
    &jump(Cond::Ge, 0x30, ">="),
    &jump(Cond::Set, 0x40, "&"),
    &jump(Cond::Ne, 0x50, "!="),
    &jump(Cond::Sgt, 0x60, "s>"),
    &jump(Cond::Sge, 0x70, "s>="),
    &jump(Cond::Lt, 0xa0, "<"),
    &jump(Cond::Le, 0xb0, "<="),
    &jump(Cond::Slt, 0xc0, "s<"),
    &jump(Cond::Sle, 0xd0, "s<="),
    &[one(0x85, Shape::Call, Mark::Src(0), IMM, "call {ref}")],
    &[one(0x85, Shape::CallFunction, Mark::Src(1), IMM, "call {ref}")],
    &[one(0x95, Shape::Exit, Mark::None, NOTHING, "exit")],
];

const NOTHING: Fields = Fields { dst: false, src: false, offset: false, imm: false, wide: false };
const DST: Fields = Fields { dst: true, ..NOTHING };
const IMM: Fields = Fields { imm: true, ..NOTHING };
const OFFSET: Fields = Fields { offset: true, ..NOTHING };
const DST_SRC: Fields = Fields { src: true, ..DST };
const DST_IMM: Fields = Fields { imm: true, ..DST };

/// Texts of the atomic operations: for 32 and for 64 bits.
type Texts = [&'static str; 2];
const UPDATE: Texts = ["lock *(u32 *)({dst}{off}) {op} {wsrc}", "lock *(u64 *)({dst}{off}) {op} {src}"];
const FETCH: Texts = [
    "{wsrc} = atomic_fetch_{op}((u32 *)({dst}{off}), {wsrc})",
    "{src} = atomic_fetch_{op}((u64 *)({dst}{off}), {src})",
];
const EXCHANGE: Texts = ["{wsrc} = xchg32_32({dst}{off}, {wsrc})", "{src} = xchg_64({dst}{off}, {src})"];
const COMPARE: Texts =
    ["w0 = cmpxchg32_32({dst}{off}, w0, {wsrc})", "r0 = cmpxchg_64({dst}{off}, r0, {src})"];

const fn one(opcode: u8, shape: Shape, mark: Mark, fields: Fields, text: &'static str) -> Row {
    Row { opcode, mark, shape, fields, symbol: "", text }
}

/// Classes 4 (32 bits) and 7 (64 bits); bit 3 chooses the register operand.
const fn alu(op: AluOp, code: u8, symbol: &'static str) -> [Row; 4] {
    const fn make(class: u8, width: Width, op: AluOp, code: u8, symbol: &'static str) -> [Row; 2] {
        let texts = match width {
            Width::W32 => ["{wdst} {op} {imm}", "{wdst} {op} {wsrc}"],
            Width::W64 => ["{dst} {op} {imm}", "{dst} {op} {src}"],
        };
        let [imm, reg] = texts;
        [
            Row {
                symbol,
                ..one(code | class, Shape::Alu { width, op, source: Source::Imm }, Mark::None, DST_IMM, imm)
            },
            Row {
                symbol,
                ..one(
                    code | class | 0x08,
                    Shape::Alu { width, op, source: Source::Reg },
                    Mark::None,
                    DST_SRC,
                    reg,
                )
            },
        ]
    }
    let [a, b] = make(0x04, Width::W32, op, code, symbol);
    let [c, d] = make(0x07, Width::W64, op, code, symbol);
    [a, b, c, d]
}

const fn neg(code: u8) -> [Row; 2] {
    [
        one(code | 0x04, Shape::Neg { width: Width::W32 }, Mark::None, DST, "{wdst} = -{wdst}"),
        one(code | 0x07, Shape::Neg { width: Width::W64 }, Mark::None, DST, "{dst} = -{dst}"),
    ]
}

/// The immediate field holds the number of bits.
const fn big_endian(opcode: u8) -> [Row; 3] {
    const fn make(opcode: u8, bits: u8, text: &'static str) -> Row {
        one(opcode, Shape::ToBigEndian { bits }, Mark::Imm(bits as i32), DST, text)
    }
    [
        make(opcode, 16, "{dst} = be16 {dst}"),
        make(opcode, 32, "{dst} = be32 {dst}"),
        make(opcode, 64, "{dst} = be64 {dst}"),
    ]
}

/// The source-register field says what the 64 bits mean.
const fn load_imm64(opcode: u8) -> [Row; 3] {
    const WIDE: Fields = Fields { wide: true, ..DST_IMM };
    [
        one(opcode, Shape::LoadImm64, Mark::Src(0), WIDE, "{dst} = {imm} ll"),
        one(opcode, Shape::LoadMap, Mark::Src(1), WIDE, "{dst} = map[{ref}]"),
        one(opcode, Shape::LoadMapValue, Mark::Src(2), WIDE, "{dst} = map[{ref}]"),
    ]
}

/// Classes 1 (load), 2 (store of a constant) and 3 (store of a register), mode 0x60.
const fn memory(size: Size, code: u8, symbol: &'static str) -> [Row; 3] {
    const LOAD: Fields = Fields { src: true, offset: true, ..DST };
    const STORE_IMM: Fields = Fields { imm: true, offset: true, ..DST };
    [
        Row {
            symbol,
            ..one(code | 0x61, Shape::Load { size }, Mark::None, LOAD, "{dst} = *({op} *)({src}{off})")
        },
        Row {
            symbol,
            ..one(
                code | 0x62,
                Shape::Store { size, source: Source::Imm },
                Mark::None,
                STORE_IMM,
                "*({op} *)({dst}{off}) = {imm}",
            )
        },
        Row {
            symbol,
            ..one(
                code | 0x63,
                Shape::Store { size, source: Source::Reg },
                Mark::None,
                LOAD,
                "*({op} *)({dst}{off}) = {src}",
            )
        },
    ]
}

/// Class 3, mode 0xc0; the immediate field holds the operation.
const fn atomic(op: AtomicOp, code: i32, texts: Texts, symbol: &'static str) -> [Row; 2] {
    const FIELDS: Fields = Fields { src: true, offset: true, ..DST };
    let [narrow, wide] = texts;
    [
        Row { symbol, ..one(0xc3, Shape::Atomic { size: Size::W, op }, Mark::Imm(code), FIELDS, narrow) },
        Row { symbol, ..one(0xdb, Shape::Atomic { size: Size::DW, op }, Mark::Imm(code), FIELDS, wide) },
    ]
}

/// Classes 5 (64 bits) and 6 (32 bits); bit 3 chooses the register operand.
const fn jump(cond: Cond, code: u8, symbol: &'static str) -> [Row; 4] {
    const fn make(class: u8, width: Width, cond: Cond, code: u8, symbol: &'static str) -> [Row; 2] {
        const WITH_IMM: Fields = Fields { offset: true, ..DST_IMM };
        const WITH_REG: Fields = Fields { offset: true, ..DST_SRC };
        let texts = match width {
            Width::W32 => ["if {wdst} {op} {imm} goto {target}", "if {wdst} {op} {wsrc} goto {target}"],
            Width::W64 => ["if {dst} {op} {imm} goto {target}", "if {dst} {op} {src} goto {target}"],
        };
        let [imm, reg] = texts;
        [
            Row {
                symbol,
                ..one(
                    code | class,
                    Shape::Jump { width, cond, source: Source::Imm },
                    Mark::None,
                    WITH_IMM,
                    imm,
                )
            },
            Row {
                symbol,
                ..one(
                    code | class | 0x08,
                    Shape::Jump { width, cond, source: Source::Reg },
                    Mark::None,
                    WITH_REG,
                    reg,
                )
            },
        ]
    }
    let [a, b] = make(0x06, Width::W32, cond, code, symbol);
    let [c, d] = make(0x05, Width::W64, cond, code, symbol);
    [a, b, c, d]
}

static BY_SHAPE: LazyLock<HashMap<Shape, &'static Row>> =
    LazyLock::new(|| rows().map(|row| (row.shape, row)).collect());

static BY_OPCODE: LazyLock<Vec<Vec<&'static Row>>> = LazyLock::new(|| {
    (0..=u8::MAX).map(|opcode| rows().filter(|row| row.opcode == opcode).collect()).collect()
});
