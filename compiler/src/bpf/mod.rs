//! BPF instructions: the one table that encodes, decodes and prints, labels, and the program model.
//!
//! Nothing outside this module knows an opcode byte.
//! [`Insn`] is generic over its register type: lowering writes virtual registers, the register allocator
//! answers with machine registers, and only the latter can be encoded.

pub mod limits;
pub mod helper;
pub mod position;
pub mod parts;
pub mod table;
pub mod asm;
pub mod module;
pub mod encode;
pub mod assemble;
mod islands;
pub mod decode;
pub mod print;

#[cfg(test)]
mod tests;

use std::fmt;

/// A register that instructions can be written with: a machine register, or a virtual one before allocation.
pub trait Register: Copy + Eq {
    /// Writes the register's name, `w3` or `r3`.
    ///
    /// # Errors
    ///
    /// Those of the formatter.
    fn write(self, width: Width, f: &mut fmt::Formatter<'_>) -> fmt::Result;
}

/// A machine register, `r0` to `r10`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reg(pub u8);

impl Reg {
    /// Return value.
    pub const R0: Self = Self(0);
    /// First argument; the context at program entry.
    pub const R1: Self = Self(1);
    pub const R2: Self = Self(2);
    pub const R3: Self = Self(3);
    pub const R4: Self = Self(4);
    pub const R5: Self = Self(5);
    /// First of the registers that survive calls.
    pub const R6: Self = Self(6);
    pub const R7: Self = Self(7);
    pub const R8: Self = Self(8);
    pub const R9: Self = Self(9);
    /// Frame pointer, read only.
    pub const FP: Self = Self(10);
}

/// A place to jump to inside one function. Unique within the function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(pub u32);

/// Operand width of arithmetic and comparisons.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Width {
    W32,
    W64,
}

/// Size of a memory access.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Size {
    B,
    H,
    W,
    DW,
}

/// Two-operand arithmetic. Division and modulus are unsigned; division by zero gives 0, modulus by zero
/// leaves the dividend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    Lsh,
    Rsh,
    Mod,
    Xor,
    Mov,
    Arsh,
}

/// Conditions of jumps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cond {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    /// Any common bit.
    Set,
    Sgt,
    Sge,
    Slt,
    Sle,
}

/// Read-modify-write operations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AtomicOp {
    Add,
    Or,
    And,
    Xor,
    /// The source register receives the old value.
    FetchAdd,
    FetchOr,
    FetchAnd,
    FetchXor,
    Xchg,
    /// Compares with `r0`, stores the source; `r0` receives the old value.
    CmpXchg,
}

/// A register or a sign-extended constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Operand<R> {
    Reg(R),
    Imm(i32),
}

/// What a 64-bit immediate load means.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Imm64 {
    Value(u64),
    /// Pointer to a map, by name; becomes a relocation.
    Map(String),
    /// Pointer into the only value of a single-entry array or data section, by name, plus bytes.
    MapValue {
        map: String,
        offset: u32,
    },
}

/// One instruction. `Label` pseudo-instructions emit nothing.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Insn<R> {
    Alu {
        width: Width,
        op: AluOp,
        dst: R,
        src: Operand<R>,
    },
    /// `dst = -dst`.
    Neg {
        width: Width,
        dst: R,
    },
    /// Converts the low `bits` (16, 32 or 64) of `dst` to big endian and zero-extends.
    ToBigEndian {
        bits: u8,
        dst: R,
    },
    LoadImm64 {
        dst: R,
        value: Imm64,
    },
    /// Zero-extending load of `*(base + offset)`.
    Load {
        size: Size,
        dst: R,
        base: R,
        offset: i16,
    },
    Store {
        size: Size,
        base: R,
        offset: i16,
        src: Operand<R>,
    },
    /// `size` is `W` or `DW`.
    Atomic {
        size: Size,
        op: AtomicOp,
        base: R,
        offset: i16,
        src: R,
    },
    Label(Label),
    Goto {
        target: Label,
    },
    Jump {
        width: Width,
        cond: Cond,
        left: R,
        right: Operand<R>,
        target: Label,
    },
    /// Calls a helper by its number in `include/uapi/linux/bpf.h`.
    Call {
        helper: Helper,
    },
    /// Calls a function of the same module by name; becomes a relocation against `.text`.
    CallFunction {
        function: String,
    },
    Exit,
}

/// Helpers that generated code uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Helper {
    MapLookup,
    MapUpdate,
    MapDelete,
    KtimeGetNs,
    TailCall,
    GetSmpProcessorId,
    RingbufOutput,
    XdpGetBuffLen,
    SkbPullData,
    SkbLoadBytes,
    XdpLoadBytes,
    Jiffies64,
}
