//! Takes an [`Insn`] apart into its shape, its operands and what it refers to, and puts it together again.
//!
//! The only place besides lowering that names the variants of [`Insn`]; encoding and printing see parts.

use super::table::{Shape, Source};
use super::{Imm64, Insn, Label, Operand};

/// The values of the operand fields. Fields that the shape does not use are `None` or zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Operands<R> {
    pub dst: Option<R>,
    pub src: Option<R>,
    /// Bytes of a memory access, or slots of a jump from the following slot.
    pub offset: i16,
    /// 32 bits sign-extended; for [`Shape::LoadImm64`] all 64 bits; for [`Shape::LoadMapValue`] the map in
    /// the low half and the offset in the high half, as the kernel takes them.
    pub imm: i64,
}

/// What an instruction refers to by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reference<'a> {
    None,
    Label(Label),
    Map(&'a str),
    MapValue { map: &'a str, offset: u32 },
    Function(&'a str),
}

/// An instruction taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Parts<'a, R> {
    pub shape: Shape,
    pub operands: Operands<R>,
    pub reference: Reference<'a>,
}

impl<R> Operands<R> {
    const fn none() -> Self {
        Self { dst: None, src: None, offset: 0, imm: 0 }
    }
}

impl<R: Copy> Operands<R> {
    fn dst(dst: R) -> Self {
        Self { dst: Some(dst), ..Self::none() }
    }

    fn with(self, operand: &Operand<R>) -> (Source, Self) {
        match operand {
            Operand::Reg(src) => (Source::Reg, Self { src: Some(*src), ..self }),
            Operand::Imm(imm) => (Source::Imm, Self { imm: i64::from(*imm), ..self }),
        }
    }

    fn operand(&self, source: Source) -> Option<Operand<R>> {
        match source {
            Source::Reg => self.src.map(Operand::Reg),
            Source::Imm => i32::try_from(self.imm).ok().map(Operand::Imm),
        }
    }
}

impl<R: Copy> Insn<R> {
    /// Takes the instruction apart; `None` for [`Insn::Label`], which emits nothing.
    #[must_use]
    pub fn parts(&self) -> Option<Parts<'_, R>> {
        let plain = |shape, operands| Parts { shape, operands, reference: Reference::None };
        Some(match self {
            Self::Alu { width, op, dst, src } => {
                let (source, operands) = Operands::dst(*dst).with(src);
                plain(Shape::Alu { width: *width, op: *op, source }, operands)
            }
            Self::Neg { width, dst } => plain(Shape::Neg { width: *width }, Operands::dst(*dst)),
            Self::ToBigEndian { bits, dst } => plain(Shape::ToBigEndian { bits: *bits }, Operands::dst(*dst)),
            Self::LoadImm64 { dst, value } => {
                let operands = Operands::dst(*dst);
                match value {
                    Imm64::Value(value) => {
                        plain(Shape::LoadImm64, Operands { imm: value.cast_signed(), ..operands })
                    }
                    Imm64::Map(map) => {
                        Parts { shape: Shape::LoadMap, operands, reference: Reference::Map(map) }
                    }
                    Imm64::MapValue { map, offset } => Parts {
                        shape: Shape::LoadMapValue,
                        operands,
                        reference: Reference::MapValue { map, offset: *offset },
                    },
                }
            }
            Self::Load { size, dst, base, offset } => plain(
                Shape::Load { size: *size },
                Operands { src: Some(*base), offset: *offset, ..Operands::dst(*dst) },
            ),
            Self::Store { size, base, offset, src } => {
                let (source, operands) = Operands { offset: *offset, ..Operands::dst(*base) }.with(src);
                plain(Shape::Store { size: *size, source }, operands)
            }
            Self::Atomic { size, op, base, offset, src } => plain(
                Shape::Atomic { size: *size, op: *op },
                Operands { src: Some(*src), offset: *offset, ..Operands::dst(*base) },
            ),
            Self::Label(_) => return None,
            Self::Goto { target } => {
                Parts { shape: Shape::Goto, operands: Operands::none(), reference: Reference::Label(*target) }
            }
            Self::Jump { width, cond, left, right, target } => {
                let (source, operands) = Operands::dst(*left).with(right);
                Parts {
                    shape: Shape::Jump { width: *width, cond: *cond, source },
                    operands,
                    reference: Reference::Label(*target),
                }
            }
            Self::Call { helper } => {
                plain(Shape::Call, Operands { imm: i64::from(helper.number()), ..Operands::none() })
            }
            Self::CallFunction { function } => Parts {
                shape: Shape::CallFunction,
                operands: Operands::none(),
                reference: Reference::Function(function),
            },
            Self::Exit => plain(Shape::Exit, Operands::none()),
        })
    }
}

impl<R: Copy> Parts<'_, R> {
    /// Puts the instruction together; `None` when an operand or a reference that the shape needs is missing
    /// or does not fit it.
    #[must_use]
    pub fn join(&self) -> Option<Insn<R>> {
        let operands = &self.operands;
        let value = |value| Some(Insn::LoadImm64 { dst: operands.dst?, value });
        Some(match (self.shape, self.reference) {
            (Shape::Alu { width, op, source }, Reference::None) => {
                Insn::Alu { width, op, dst: operands.dst?, src: operands.operand(source)? }
            }
            (Shape::Neg { width }, Reference::None) => Insn::Neg { width, dst: operands.dst? },
            (Shape::ToBigEndian { bits }, Reference::None) => Insn::ToBigEndian { bits, dst: operands.dst? },
            (Shape::LoadImm64, Reference::None) => value(Imm64::Value(operands.imm.cast_unsigned()))?,
            (Shape::LoadMap, Reference::Map(map)) => value(Imm64::Map(map.to_owned()))?,
            (Shape::LoadMapValue, Reference::MapValue { map, offset }) => {
                value(Imm64::MapValue { map: map.to_owned(), offset })?
            }
            (Shape::Load { size }, Reference::None) => {
                Insn::Load { size, dst: operands.dst?, base: operands.src?, offset: operands.offset }
            }
            (Shape::Store { size, source }, Reference::None) => Insn::Store {
                size,
                base: operands.dst?,
                offset: operands.offset,
                src: operands.operand(source)?,
            },
            (Shape::Atomic { size, op }, Reference::None) => {
                Insn::Atomic { size, op, base: operands.dst?, offset: operands.offset, src: operands.src? }
            }
            (Shape::Goto, Reference::Label(target)) => Insn::Goto { target },
            (Shape::Jump { width, cond, source }, Reference::Label(target)) => {
                Insn::Jump { width, cond, left: operands.dst?, right: operands.operand(source)?, target }
            }
            (Shape::Call, Reference::None) => {
                Insn::Call { helper: super::Helper::from_number(u32::try_from(operands.imm).ok()?)? }
            }
            (Shape::CallFunction, Reference::Function(function)) => {
                Insn::CallFunction { function: function.to_owned() }
            }
            (Shape::Exit, Reference::None) => Insn::Exit,
            (_, _) => return None,
        })
    }
}
