//! Decodes instructions by their table rows, one at a time or a whole function.

use super::assemble::{Relocation, RelocationTarget};
use super::limits::{REGISTERS, SLOT_BYTES};
use super::parts::{Operands, Parts, Reference};
use super::position::InstructionIndex;
use super::table::{Row, Shape, recognise};
use super::{Insn, Label, Reg};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// One decoded instruction. Jumps carry their distance in `operands.offset`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decoded {
    pub shape: Shape,
    pub operands: Operands<Reg>,
    /// Slots that it occupies.
    pub slots: u32,
}

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DecodeError {
    pub at: InstructionIndex,
    pub kind: DecodeErrorKind,
}

/// The ways in which bytes are not an instruction of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DecodeErrorKind {
    /// The bytes end inside an instruction.
    Truncated,
    /// No row matches.
    NoSuchInstruction { opcode: u8 },
    /// A register number above 10.
    NoSuchRegister { register: u8 },
    /// A field that the instruction does not use is not zero.
    ReservedField,
    /// A jump that leads out of the function or into the middle of an instruction.
    BadTarget,
    /// A helper that generated code does not use.
    NoSuchHelper,
    /// A relocation that does not fit its instruction, or a call without one.
    BadRelocation,
}

/// Decodes the instruction at a slot.
///
/// # Errors
///
/// When the bytes there are not an instruction of the table.
pub fn decode(bytes: &[u8], at: InstructionIndex) -> Result<Decoded, DecodeError> {
    let error = |kind| DecodeError { at, kind };
    let first = Slot::read(bytes, at).ok_or(error(DecodeErrorKind::Truncated))?;
    let row = recognise(first.opcode, first.src, first.imm)
        .ok_or(error(DecodeErrorKind::NoSuchInstruction { opcode: first.opcode }))?;
    let mut imm = i64::from(first.imm);
    if row.fields.wide {
        let second =
            Slot::read(bytes, InstructionIndex(at.0 + 1)).ok_or(error(DecodeErrorKind::Truncated))?;
        if (Slot { imm: 0, ..second }) != Slot::default() {
            return Err(error(DecodeErrorKind::ReservedField));
        }
        imm = imm & 0xffff_ffff | i64::from(second.imm) << 32;
    }
    let operands = first.operands(row, imm).map_err(error)?;
    Ok(Decoded { shape: row.shape, operands, slots: row.slots() })
}

/// Decodes a whole function back into symbolic form. Labels are numbered by the slot that they stand before.
///
/// # Errors
///
/// When an instruction, a jump target or a relocation is malformed.
pub fn disassemble(bytes: &[u8], relocations: &[Relocation]) -> Result<Vec<Insn<Reg>>, DecodeError> {
    let mut decoded = BTreeMap::new();
    let mut at = InstructionIndex(0);
    while usize::try_from(at.byte_offset().0).is_ok_and(|offset| offset < bytes.len()) {
        let insn = decode(bytes, at)?;
        decoded.insert(at, insn);
        at.0 += insn.slots;
    }
    let named: BTreeMap<_, _> = relocations.iter().map(|entry| (entry.at, &entry.target)).collect();
    let mut targets = BTreeSet::new();
    for (&at, insn) in &decoded {
        if let Some(target) = insn.target(at) {
            let known = target.filter(|target| decoded.contains_key(target));
            targets.insert(known.ok_or(DecodeError { at, kind: DecodeErrorKind::BadTarget })?);
        }
    }
    let mut code = Vec::new();
    for (&at, insn) in &decoded {
        if targets.contains(&at) {
            code.push(Insn::Label(Label(at.0)));
        }
        code.push(symbolic(at, insn, named.get(&at).copied())?);
    }
    Ok(code)
}

impl Decoded {
    /// Where a jump at `at` leads; the inner `None` stands for a place before the function.
    #[must_use]
    pub fn target(&self, at: InstructionIndex) -> Option<Option<InstructionIndex>> {
        match self.shape {
            Shape::Goto | Shape::Jump { .. } => {
                let target = i64::from(at.0) + 1 + i64::from(self.operands.offset);
                Some(u32::try_from(target).ok().map(InstructionIndex))
            }
            Shape::Alu { .. }
            | Shape::Neg { .. }
            | Shape::ToBigEndian { .. }
            | Shape::LoadImm64
            | Shape::LoadMap
            | Shape::LoadMapValue
            | Shape::Load { .. }
            | Shape::Store { .. }
            | Shape::Atomic { .. }
            | Shape::Call
            | Shape::CallFunction
            | Shape::Exit => None,
        }
    }
}

fn symbolic(
    at: InstructionIndex,
    insn: &Decoded,
    relocation: Option<&RelocationTarget>,
) -> Result<Insn<Reg>, DecodeError> {
    let error = |kind| DecodeError { at, kind };
    let (shape, reference) = match (insn.shape, relocation) {
        (Shape::LoadImm64, Some(RelocationTarget::Map { map })) => (Shape::LoadMap, Reference::Map(map)),
        (Shape::LoadImm64, Some(RelocationTarget::MapValue { map, offset })) => {
            (Shape::LoadMapValue, Reference::MapValue { map, offset: *offset })
        }
        (Shape::CallFunction, Some(RelocationTarget::Function { function })) => {
            (Shape::CallFunction, Reference::Function(function))
        }
        (_, Some(_)) | (Shape::CallFunction, None) => return Err(error(DecodeErrorKind::BadRelocation)),
        (shape, None) => match insn.target(at) {
            Some(Some(target)) => (shape, Reference::Label(Label(target.0))),
            Some(None) => return Err(error(DecodeErrorKind::BadTarget)),
            None => (shape, Reference::None),
        },
    };
    Parts { shape, operands: insn.operands, reference }.join().ok_or(error(DecodeErrorKind::NoSuchHelper))
}

/// The fields of `struct bpf_insn`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Slot {
    opcode: u8,
    dst: u8,
    src: u8,
    offset: i16,
    imm: i32,
}

impl Slot {
    fn read(bytes: &[u8], at: InstructionIndex) -> Option<Self> {
        let start = usize::try_from(at.byte_offset().0).ok()?;
        let end = start.checked_add(usize::try_from(SLOT_BYTES).ok()?)?;
        let &[opcode, registers, o0, o1, i0, i1, i2, i3] = bytes.get(start..end)? else { return None };
        Some(Self {
            opcode,
            dst: registers & 0xf,
            src: registers >> 4,
            offset: i16::from_le_bytes([o0, o1]),
            imm: i32::from_le_bytes([i0, i1, i2, i3]),
        })
    }

    fn operands(&self, row: &Row, imm: i64) -> Result<Operands<Reg>, DecodeErrorKind> {
        use super::table::Mark;
        let register = |used: bool, number: u8| match (used, number) {
            (true, number) if number < REGISTERS => Ok(Some(Reg(number))),
            (true, register) => Err(DecodeErrorKind::NoSuchRegister { register }),
            (false, 0) => Ok(None),
            (false, _) => Err(DecodeErrorKind::ReservedField),
        };
        let marks_src = matches!(row.mark, Mark::Src(_));
        let marks_imm = matches!(row.mark, Mark::Imm(_));
        if !row.fields.offset && self.offset != 0 || !row.fields.imm && !marks_imm && self.imm != 0 {
            return Err(DecodeErrorKind::ReservedField);
        }
        Ok(Operands {
            dst: register(row.fields.dst, self.dst)?,
            src: register(row.fields.src, if marks_src { 0 } else { self.src })?,
            offset: self.offset,
            imm: if row.fields.imm { imm } else { 0 },
        })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {}: ", self.at)?;
        match self.kind {
            DecodeErrorKind::Truncated => write!(f, "the code ends inside an instruction"),
            DecodeErrorKind::NoSuchInstruction { opcode } => write!(f, "unknown opcode {opcode:#04x}"),
            DecodeErrorKind::NoSuchRegister { register } => write!(f, "no such register: r{register}"),
            DecodeErrorKind::ReservedField => write!(f, "a reserved field is not zero"),
            DecodeErrorKind::BadTarget => write!(f, "the jump leads to no instruction"),
            DecodeErrorKind::NoSuchHelper => write!(f, "unknown helper"),
            DecodeErrorKind::BadRelocation => write!(f, "the relocation does not fit the instruction"),
        }
    }
}

impl std::error::Error for DecodeError {}
