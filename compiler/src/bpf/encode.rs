//! Encodes one instruction by its table row. Labels and names are the assembler's business.

use super::limits::REGISTERS;
use super::parts::Operands;
use super::table::{Mark, Row, Shape, row};
use super::{AtomicOp, Reg};
use std::fmt;

/// Why an instruction has no encoding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EncodeError {
    /// The table has no such row, for example a swap of 24 bits or an atomic operation on a byte.
    NoSuchInstruction(Shape),
    /// The shape needs an operand that is not there.
    MissingOperand(Shape),
    /// There is no register of this number.
    NoSuchRegister(Reg),
    /// The frame pointer is read only.
    WritesFramePointer,
    /// The immediate does not fit its 32 bits.
    ImmediateTooWide(i64),
}

/// Appends the encoding: eight bytes, or sixteen for 64-bit immediates.
///
/// # Errors
///
/// When the operands do not fit the shape; nothing is appended then.
pub fn encode(shape: Shape, operands: &Operands<Reg>, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let row = row(shape).ok_or(EncodeError::NoSuchInstruction(shape))?;
    let dst = register(row.fields.dst, operands.dst, shape)?;
    let src = register(row.fields.src, operands.src, shape)?;
    if written(shape, operands).is_some_and(|reg| reg == Reg::FP) {
        return Err(EncodeError::WritesFramePointer);
    }
    let (low, high) = immediate(row, operands.imm)?;
    let (src, low) = match row.mark {
        Mark::None => (src, low),
        Mark::Src(mark) => (mark, low),
        Mark::Imm(mark) => (src, mark),
    };
    let offset = if row.fields.offset { operands.offset } else { 0 };
    slot(row.opcode, dst | src << 4, offset, low, out);
    if row.fields.wide {
        slot(0, 0, 0, high, out);
    }
    Ok(())
}

/// The register that the instruction writes, `r0` of calls and compare-exchanges aside.
fn written(shape: Shape, operands: &Operands<Reg>) -> Option<Reg> {
    match shape {
        Shape::Alu { .. }
        | Shape::Neg { .. }
        | Shape::ToBigEndian { .. }
        | Shape::LoadImm64
        | Shape::LoadMap
        | Shape::LoadMapValue
        | Shape::Load { .. } => operands.dst,
        Shape::Atomic { op, .. } => match op {
            AtomicOp::FetchAdd
            | AtomicOp::FetchOr
            | AtomicOp::FetchAnd
            | AtomicOp::FetchXor
            | AtomicOp::Xchg => operands.src,
            AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor | AtomicOp::CmpXchg => None,
        },
        Shape::Store { .. }
        | Shape::Goto
        | Shape::Jump { .. }
        | Shape::Call
        | Shape::CallFunction
        | Shape::Exit => None,
    }
}

fn register(used: bool, reg: Option<Reg>, shape: Shape) -> Result<u8, EncodeError> {
    if !used {
        return Ok(0);
    }
    let reg = reg.ok_or(EncodeError::MissingOperand(shape))?;
    if reg.0 < REGISTERS { Ok(reg.0) } else { Err(EncodeError::NoSuchRegister(reg)) }
}

/// The immediate fields of the first and the second slot.
fn immediate(row: &Row, imm: i64) -> Result<(i32, i32), EncodeError> {
    if !row.fields.imm {
        return Ok((0, 0));
    }
    match i32::try_from(imm) {
        Ok(low) if !row.fields.wide => Ok((low, 0)),
        Err(_) if !row.fields.wide => Err(EncodeError::ImmediateTooWide(imm)),
        // Wide immediates are cut in two, low half first; the casts keep the bits.
        Ok(_) | Err(_) => Ok((imm as i32, (imm >> 32) as i32)),
    }
}

/// `struct bpf_insn`, little endian.
fn slot(opcode: u8, registers: u8, offset: i16, imm: i32, out: &mut Vec<u8>) {
    out.extend_from_slice(&[opcode, registers]);
    out.extend_from_slice(&offset.to_le_bytes());
    out.extend_from_slice(&imm.to_le_bytes());
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchInstruction(shape) => write!(f, "no such instruction: {shape:?}"),
            Self::MissingOperand(shape) => write!(f, "an operand is missing: {shape:?}"),
            Self::NoSuchRegister(reg) => write!(f, "no such register: r{}", reg.0),
            Self::WritesFramePointer => write!(f, "the frame pointer r10 is read only"),
            Self::ImmediateTooWide(imm) => write!(f, "the immediate {imm} does not fit 32 bits"),
        }
    }
}

impl std::error::Error for EncodeError {}
