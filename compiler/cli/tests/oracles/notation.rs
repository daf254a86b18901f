//! How other tools write what our decoder found: the kernel and bpftool, and LLVM.
//!
//! Texts are made from decoded operands, so that equal texts mean equal registers, constants, offsets and widths.
//! Each difference from our own notation stands here once.

#![expect(clippy::wildcard_enum_match_arm, reason = "most instructions are written in one way everywhere")]

use nnbpf_compiler::bpf::decode::Decoded;
use nnbpf_compiler::bpf::table::{Shape, Source, row};
use nnbpf_compiler::bpf::{AtomicOp, Reg, Size, Width};

/// What LLVM prints, with numbers in decimal (see [`plain`]). It differs from ours in two things:
///
/// - data registers of loads and stores of up to 32 bits have their 32-bit names, as all of `w` and `r` is one register;
/// - references to maps are `ld_pseudo` with register, kind and the lower half of the constant.
pub(crate) fn llvm(insn: &Decoded) -> String {
    let operands = &insn.operands;
    let ours = insn.to_string();
    let narrow = |size: Size| !matches!(size, Size::DW);
    match insn.shape {
        Shape::Load { size } if narrow(size) => ours.replacen('r', "w", 1),
        Shape::Store { size, source: Source::Reg } if narrow(size) => {
            let (place, value) = ours.split_once(" = ").unwrap();
            format!("{place} = {}", value.replacen('r', "w", 1))
        }
        Shape::LoadMap | Shape::LoadMapValue => {
            let kind = if insn.shape == Shape::LoadMap { 1 } else { 2 };
            format!("ld_pseudo {}, {kind}, {}", name(operands.dst), operands.imm & 0xffff_ffff)
        }
        _ => ours,
    }
}

/// A line of llvm-objdump without its comment, `<name+0x8>` behind jumps, and with every number in decimal: older
/// versions print decimals, newer ones `0x` and digits.
pub(crate) fn plain(text: &str) -> String {
    let comment = if text.ends_with('>') { text.rfind(" <") } else { None };
    let text = text[..comment.unwrap_or(text.len())].replace('\t', " ");
    let mut plain = String::new();
    let mut rest = text.as_str();
    while let Some((before, after)) = rest.split_once("0x") {
        let digits = after.len() - after.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
        plain.push_str(before);
        plain.push_str(&u64::from_str_radix(&after[..digits], 16).unwrap().to_string());
        rest = &after[digits..];
    }
    plain + rest
}

/// What bpftool prints for the kernel (`kernel/bpf/disasm.c`), but for calls and references, whose numbers the kernel
/// replaces; those are `None`.
pub(crate) fn kernel(insn: &Decoded) -> Option<String> {
    let operands = &insn.operands;
    let (dst, src) = (name(operands.dst), name(operands.src));
    let (imm, offset) = (operands.imm, operands.offset);
    let symbol = row(insn.shape).unwrap().symbol;
    // 32-bit operations have the 32-bit names here too.
    let narrow = |width: Width, text: &str| match width {
        Width::W32 => text.replace('r', "w"),
        Width::W64 => text.to_owned(),
    };
    let (unsigned, type_of) = (imm as u32, |size: Size| match size {
        Size::B => "u8",
        Size::H => "u16",
        Size::W => "u32",
        Size::DW => "u64",
    });
    Some(match insn.shape {
        Shape::Alu { width, source: Source::Imm, .. } => format!("{} {symbol} {imm}", narrow(width, &dst)),
        Shape::Alu { width, source: Source::Reg, .. } => {
            format!("{} {symbol} {}", narrow(width, &dst), narrow(width, &src))
        }
        Shape::Neg { width } => format!("{0} = -{0}", narrow(width, &dst)),
        Shape::ToBigEndian { bits } => format!("{dst} = be{bits} {dst}"),
        // Without `ll`, and without a sign.
        Shape::LoadImm64 => format!("{dst} = {imm:#x}"),
        Shape::Load { size } => format!("{dst} = *({} *)({src} {offset:+})", type_of(size)),
        Shape::Store { size, source: Source::Imm } => {
            format!("*({} *)({dst} {offset:+}) = {imm}", type_of(size))
        }
        Shape::Store { size, source: Source::Reg } => {
            format!("*({} *)({dst} {offset:+}) = {src}", type_of(size))
        }
        // Registers have their 64-bit names whatever the size.
        Shape::Atomic { size, op } => {
            let place = format!("({} *)({dst} {offset:+})", type_of(size));
            let bits = if matches!(size, Size::DW) { "64" } else { "" };
            match op {
                AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {
                    format!("lock *{place} {symbol} {src}")
                }
                AtomicOp::FetchAdd | AtomicOp::FetchOr | AtomicOp::FetchAnd | AtomicOp::FetchXor => {
                    format!("{src} = atomic{bits}_fetch_{symbol}({place}, {src})")
                }
                AtomicOp::Xchg => format!("{src} = atomic{bits}_xchg({place}, {src})"),
                AtomicOp::CmpXchg => format!("r0 = atomic{bits}_cmpxchg({place}, r0, {src})"),
            }
        }
        Shape::Goto => format!("goto pc{offset:+}"),
        // Constants without a sign.
        Shape::Jump { width, source: Source::Imm, .. } => {
            format!("if {} {symbol} {unsigned:#x} goto pc{offset:+}", narrow(width, &dst))
        }
        Shape::Jump { width, source: Source::Reg, .. } => {
            format!("if {} {symbol} {} goto pc{offset:+}", narrow(width, &dst), narrow(width, &src))
        }
        Shape::Exit => "exit".to_owned(),
        Shape::LoadMap | Shape::LoadMapValue | Shape::Call | Shape::CallFunction => return None,
    })
}

fn name(reg: Option<Reg>) -> String {
    reg.map_or_else(String::new, |reg| format!("r{}", reg.0))
}
