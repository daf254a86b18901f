//! Prints instructions the way the kernel and LLVM do, from the texts of the table.

use super::decode::Decoded;
use super::parts::{Operands, Reference};
use super::table::{Row, Shape, row};
use super::{Insn, Label, Reg, Register, Width};
use std::fmt;

/// A function's listing: labels at the margin, instructions indented.
pub struct Listing<'a, R>(pub &'a [Insn<R>]);

impl<R: Register> fmt::Display for Listing<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for insn in self.0 {
            let indent = if matches!(insn, Insn::Label(_)) { "" } else { "    " };
            writeln!(f, "{indent}{insn}")?;
        }
        Ok(())
    }
}

impl<R: Register> fmt::Display for Insn<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self, self.parts()) {
            (Self::Label(label), _) => write!(f, "{label}:"),
            (Self::Call { helper }, Some(parts)) => {
                let name = format!("{}#{}", helper.name(), helper.number());
                render(f, parts.shape, &parts.operands, &name)
            }
            (_, Some(parts)) => render(f, parts.shape, &parts.operands, &parts.reference),
            (_, None) => Ok(()),
        }
    }
}

impl fmt::Display for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.target(super::position::InstructionIndex(0)) {
            Some(_) => render(f, self.shape, &self.operands, &format!("{:+}", self.operands.offset)),
            None => render(f, self.shape, &self.operands, &self.operands.imm),
        }
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "L{}", self.0)
    }
}

impl fmt::Display for Reference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Label(label) => write!(f, "{label}"),
            Self::Map(name) | Self::Function(name) => f.write_str(name),
            Self::MapValue { map, offset } => write!(f, "{map} + {offset}"),
        }
    }
}

impl Register for Reg {
    fn write(self, width: Width, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match width {
            Width::W32 => write!(f, "w{}", self.0),
            Width::W64 => write!(f, "r{}", self.0),
        }
    }
}

/// Fills in the row's text; `reference` stands for `{target}` and `{ref}`.
fn render<R: Register>(
    f: &mut fmt::Formatter<'_>,
    shape: Shape,
    operands: &Operands<R>,
    reference: &dyn fmt::Display,
) -> fmt::Result {
    let Some(row) = row(shape) else { return write!(f, "(no such instruction: {shape:?})") };
    let mut rest = row.text;
    while let Some((before, tail)) = rest.split_once('{') {
        f.write_str(before)?;
        let (name, after) = tail.split_once('}').ok_or(fmt::Error)?;
        placeholder(f, name, row, operands, reference)?;
        rest = after;
    }
    f.write_str(rest)
}

fn placeholder<R: Register>(
    f: &mut fmt::Formatter<'_>,
    name: &str,
    row: &Row,
    operands: &Operands<R>,
    reference: &dyn fmt::Display,
) -> fmt::Result {
    let register = |f: &mut fmt::Formatter<'_>, reg: Option<R>, width| match reg {
        Some(reg) => reg.write(width, f),
        None => f.write_str("?"),
    };
    match name {
        "dst" => register(f, operands.dst, Width::W64),
        "wdst" => register(f, operands.dst, Width::W32),
        "src" => register(f, operands.src, Width::W64),
        "wsrc" => register(f, operands.src, Width::W32),
        "op" => f.write_str(row.symbol),
        "imm" => write!(f, "{}", operands.imm),
        "off" if operands.offset < 0 => write!(f, " - {}", operands.offset.unsigned_abs()),
        "off" => write!(f, " + {}", operands.offset),
        "target" | "ref" => write!(f, "{reference}"),
        _ => Err(fmt::Error),
    }
}
