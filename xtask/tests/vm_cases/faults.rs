//! Machines that are wrong: each fault has to be noticed in every row that it touches, and in no other.
//!
//! The virtual machine runs what a faulty one would compute in place of the instruction under test.

#![expect(clippy::wildcard_enum_match_arm, reason = "a fault names the instructions that it touches")]

use std::collections::BTreeMap;

use nnbpf_compiler::bpf::asm::*;
use nnbpf_compiler::bpf::parts::Parts;
use nnbpf_compiler::bpf::table::{Row, Shape, rows};
use nnbpf_compiler::bpf::{AluOp, AtomicOp, Cond, Imm64, Insn, Operand, Reg, Size, Width};
use xtask::vm_cases::program::{ASIDE, Labels, Meaning, Program, faithful, tested_rows};
use xtask::vm_cases::values::Random;
use xtask::vm_cases::{differences, in_kernel, in_machine};

use super::skip;

/// Instances of each row, and runs of each.
const INSTANCES: usize = 24;
const RUNS: u32 = 256;

type Fault = fn(&Insn<Reg>, &mut Labels) -> Option<Vec<Insn<Reg>>>;

/// A program of one row, and what the kernel makes of it.
struct Executed {
    row: &'static Row,
    program: Program,
    kernel: Vec<u8>,
}

fn references() -> Vec<Executed> {
    let mut random = Random(7);
    let all: Vec<&'static Row> = tested_rows().collect();
    all.into_iter()
        .map(|row| {
            let program = Program::random(&mut random, &[row], 0, INSTANCES, 0, RUNS);
            let kernel = in_kernel(&program).unwrap_or_else(|error| panic!("{:?}: {error}", row.shape));
            Executed { row, program, kernel }
        })
        .collect()
}

/// Whether some case differs, or the machine stumbles.
fn noticed(reference: &Executed, meaning: Meaning<'_>) -> bool {
    match in_machine(&reference.program, meaning) {
        Ok(machine) => !differences(&reference.program, &reference.kernel, &machine).is_empty(),
        Err(_) => true,
    }
}

/// Wide enough to hold the faulty value aside; which of three words does not matter.
const SAVE: i16 = ASIDE[0];

/// Another register than these, for a value of the fault's own: it is put aside and brought back.
fn with_other(taken: &[Reg], body: impl FnOnce(Reg) -> Vec<Insn<Reg>>) -> Vec<Insn<Reg>> {
    let other = (0..10).map(Reg).find(|reg| !taken.contains(reg)).unwrap();
    let mut code = vec![stx(Size::DW, Reg::FP, ASIDE[1], other)];
    code.extend(body(other));
    code.push(ldx(Size::DW, other, Reg::FP, ASIDE[1]));
    code
}

/// The instruction, after which the upper half of a register is what it was.
fn keeps_upper_half(insn: &Insn<Reg>, reg: Reg) -> Vec<Insn<Reg>> {
    vec![
        stx(Size::DW, Reg::FP, SAVE, reg),
        insn.clone(),
        stx(Size::W, Reg::FP, SAVE, reg),
        ldx(Size::DW, reg, Reg::FP, SAVE),
    ]
}

fn sign_extended(insn: &Insn<Reg>, reg: Reg, bits: i32) -> Vec<Insn<Reg>> {
    vec![insn.clone(), lsh(reg, 64 - bits), arsh(reg, 64 - bits)]
}

/// The constant of an instruction without its sign, in a register.
fn unsigned(insn: &Insn<Reg>, imm: i32, taken: Reg) -> Vec<Insn<Reg>> {
    with_other(&[taken], |other| {
        let mut insn = insn.clone();
        match &mut insn {
            Insn::Alu { src, .. } | Insn::Store { src, .. } => *src = Operand::Reg(other),
            Insn::Jump { right, .. } => *right = Operand::Reg(other),
            _ => unreachable!(),
        }
        vec![ld_imm64(other, u64::from(imm.cast_unsigned())), insn]
    })
}

/// Where a count is at least the width, something else than the instruction.
fn beyond(insn: &Insn<Reg>, labels: &mut Labels, otherwise: Vec<Insn<Reg>>) -> Option<Vec<Insn<Reg>>> {
    let Insn::Alu { width, src: Operand::Reg(src), .. } = *insn else { return None };
    let (within, end) = (labels.fresh(), labels.fresh());
    let bits = if width == Width::W64 { 64 } else { 32 };
    let mut code = vec![jump(width, Cond::Lt, src, bits, within)];
    code.extend(otherwise);
    code.extend([goto(end), label(within), insn.clone(), label(end)]);
    Some(code)
}

/// Where the divisor is zero, something else than the instruction.
fn by_zero(insn: &Insn<Reg>, labels: &mut Labels, otherwise: Vec<Insn<Reg>>) -> Option<Vec<Insn<Reg>>> {
    let Insn::Alu { width, src: Operand::Reg(src), .. } = *insn else { return None };
    let (other, end) = (labels.fresh(), labels.fresh());
    let mut code = vec![jump(width, Cond::Ne, src, 0, other)];
    code.extend(otherwise);
    code.extend([goto(end), label(other), insn.clone(), label(end)]);
    Some(code)
}

/// The operation and the destination of two-operand arithmetic.
fn arithmetic(insn: &Insn<Reg>) -> Option<(Width, AluOp, Reg, Operand<Reg>)> {
    match insn {
        Insn::Alu { width, op, dst, src } => Some((*width, *op, *dst, *src)),
        _ => None,
    }
}

/// Fields of an atomic operation.
fn atomics(insn: &Insn<Reg>) -> Option<(Size, AtomicOp, Reg, i16, Reg)> {
    match insn {
        Insn::Atomic { size, op, base, offset, src } => Some((*size, *op, *base, *offset, *src)),
        _ => None,
    }
}

fn fetches(op: AtomicOp) -> bool {
    use AtomicOp::{FetchAdd, FetchAnd, FetchOr, FetchXor, Xchg};
    matches!(op, FetchAdd | FetchOr | FetchAnd | FetchXor | Xchg)
}

/// Every fault: its name and what it makes of an instruction; `None` where it does not matter.
const FAULTS: &[(&str, Fault)] = &[
    ("32-bit results keep the upper half", |insn, _| match insn {
        Insn::Alu { width: Width::W32, dst, .. } | Insn::Neg { width: Width::W32, dst } => {
            Some(keeps_upper_half(insn, *dst))
        }
        _ => None,
    }),
    ("32-bit results are sign-extended", |insn, _| match insn {
        Insn::Alu { width: Width::W32, dst, .. } => Some(sign_extended(insn, *dst, 32)),
        Insn::Neg { width: Width::W32, dst } => Some(sign_extended(insn, *dst, 32)),
        _ => None,
    }),
    ("constants of 64-bit arithmetic are not sign-extended", |insn, _| match arithmetic(insn)? {
        (Width::W64, op, dst, Operand::Imm(imm)) if !matches!(op, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh) => {
            Some(unsigned(insn, imm, dst))
        }
        _ => None,
    }),
    ("division by zero gives all ones", |insn, labels| match arithmetic(insn)? {
        (Width::W64, AluOp::Div, dst, _) => by_zero(insn, labels, vec![mov(dst, -1)]),
        (Width::W32, AluOp::Div, dst, _) => by_zero(insn, labels, vec![mov32(dst, -1)]),
        _ => None,
    }),
    ("division by zero leaves the dividend", |insn, labels| match arithmetic(insn)? {
        (width, AluOp::Div, dst, _) => by_zero(insn, labels, vec![alu(width, AluOp::Mov, dst, dst)]),
        _ => None,
    }),
    ("modulus by zero gives zero", |insn, labels| match arithmetic(insn)? {
        (_, AluOp::Mod, dst, _) => by_zero(insn, labels, vec![mov(dst, 0)]),
        _ => None,
    }),
    ("modulus of 32 bits by zero leaves all 64", |insn, labels| match arithmetic(insn)? {
        (Width::W32, AluOp::Mod, ..) => by_zero(insn, labels, vec![]),
        _ => None,
    }),
    ("counts beyond the width shift everything out", |insn, labels| match arithmetic(insn)? {
        (_, AluOp::Lsh | AluOp::Rsh, dst, _) => beyond(insn, labels, vec![mov(dst, 0)]),
        (width, AluOp::Arsh, dst, _) => {
            let last = if width == Width::W64 { 63 } else { 31 };
            beyond(insn, labels, vec![alu(width, AluOp::Arsh, dst, last)])
        }
        _ => None,
    }),
    ("counts beyond the width change nothing", |insn, labels| match arithmetic(insn)? {
        (width, AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, dst, _) => {
            beyond(insn, labels, vec![alu(width, AluOp::Mov, dst, dst)])
        }
        _ => None,
    }),
    ("swaps of 16 and 32 bits keep what is above", |insn, _| match insn {
        Insn::ToBigEndian { bits: bits @ (16 | 32), dst } => {
            let size = if *bits == 16 { Size::H } else { Size::W };
            Some(vec![
                stx(Size::DW, Reg::FP, SAVE, *dst),
                insn.clone(),
                stx(size, Reg::FP, SAVE, *dst),
                ldx(Size::DW, *dst, Reg::FP, SAVE),
            ])
        }
        _ => None,
    }),
    ("swaps only cut", |insn, _| match insn {
        Insn::ToBigEndian { bits, dst } => {
            let up = 64 - i32::from(*bits);
            Some(vec![lsh(*dst, up), rsh(*dst, up)])
        }
        _ => None,
    }),
    ("wide constants lose their upper half", |insn, _| match insn {
        Insn::LoadImm64 { dst, value: Imm64::Value(value) } => {
            Some(vec![ld_imm64(*dst, value & 0xffff_ffff)])
        }
        _ => None,
    }),
    ("wide constants are the lower half sign-extended", |insn, _| match insn {
        Insn::LoadImm64 { dst, value: Imm64::Value(value) } => Some(vec![mov(*dst, *value as i32)]),
        _ => None,
    }),
    ("offsets into values are forgotten", |insn, _| match insn {
        Insn::LoadImm64 { dst, value: Imm64::MapValue { map, .. } } => {
            Some(vec![ld_map_value(*dst, map.clone(), 0)])
        }
        _ => None,
    }),
    ("look-ups find nothing", |insn, _| match insn {
        Insn::Call { .. } => Some(vec![insn.clone(), mov(Reg::R0, 0)]),
        _ => None,
    }),
    ("functions see their arguments exchanged", |insn, _| match insn {
        Insn::CallFunction { .. } => {
            Some(vec![mov(Reg::R0, Reg::R1), mov(Reg::R1, Reg::R2), mov(Reg::R2, Reg::R0), insn.clone()])
        }
        _ => None,
    }),
    ("narrow loads are sign-extended", |insn, _| match insn {
        Insn::Load { size: Size::B, dst, .. } => Some(sign_extended(insn, *dst, 8)),
        Insn::Load { size: Size::H, dst, .. } => Some(sign_extended(insn, *dst, 16)),
        Insn::Load { size: Size::W, dst, .. } => Some(sign_extended(insn, *dst, 32)),
        _ => None,
    }),
    ("loads are a byte off", |insn, _| match insn {
        Insn::Load { size, dst, base, offset } => Some(vec![ldx(*size, *dst, *base, offset + 1)]),
        _ => None,
    }),
    ("offsets are not signed", |insn, _| match insn {
        Insn::Load { size, dst, base, offset } => Some(with_other(&[*dst, *base], |other| {
            vec![mov(other, *base), add(other, i32::from(offset.cast_unsigned())), ldx(*size, *dst, other, 0)]
        })),
        _ => None,
    }),
    ("stores are as wide as registers", |insn, _| match insn {
        Insn::Store { size: Size::B | Size::H | Size::W, base, offset, src } => {
            Some(vec![Insn::Store { size: Size::DW, base: *base, offset: *offset, src: *src }])
        }
        _ => None,
    }),
    ("stored constants of 64 bits are not sign-extended", |insn, _| match insn {
        Insn::Store { size: Size::DW, base, src: Operand::Imm(imm), .. } => Some(unsigned(insn, *imm, *base)),
        _ => None,
    }),
    ("stores do nothing", |insn, _| match insn {
        Insn::Store { .. } => Some(vec![]),
        _ => None,
    }),
    ("fetching operations give the new value", |insn, _| {
        let (size, op, base, offset, src) = atomics(insn)?;
        // What an exchange stores is what its source holds already.
        (fetches(op) && op != AtomicOp::Xchg).then(|| vec![insn.clone(), ldx(size, src, base, offset)])
    }),
    ("fetching operations keep their source", |insn, _| {
        let (_, op, _, _, src) = atomics(insn)?;
        fetches(op)
            .then(|| vec![stx(Size::DW, Reg::FP, SAVE, src), insn.clone(), ldx(Size::DW, src, Reg::FP, SAVE)])
    }),
    ("plain operations fetch", |insn, _| {
        let (size, op, base, offset, src) = atomics(insn)?;
        let op = match op {
            AtomicOp::Add => AtomicOp::FetchAdd,
            AtomicOp::Or => AtomicOp::FetchOr,
            AtomicOp::And => AtomicOp::FetchAnd,
            AtomicOp::Xor => AtomicOp::FetchXor,
            _ => return None,
        };
        Some(vec![atomic(size, op, base, offset, src)])
    }),
    ("old values of 32 bits keep the upper half", |insn, _| match atomics(insn)? {
        (Size::W, op, _, _, src) if fetches(op) => Some(keeps_upper_half(insn, src)),
        (Size::W, AtomicOp::CmpXchg, ..) => Some(keeps_upper_half(insn, Reg::R0)),
        _ => None,
    }),
    ("compare-exchanges leave r0 where they store", |insn, labels| match atomics(insn)? {
        // With 32 bits it is the upper half that stays.
        (Size::W, AtomicOp::CmpXchg, base, _, src) => {
            let end = labels.fresh();
            Some(with_other(&[Reg::R0, base, src], |other| {
                vec![
                    mov(other, Reg::R0),
                    insn.clone(),
                    jump(Width::W32, Cond::Ne, Reg::R0, other, end),
                    mov(Reg::R0, other),
                    label(end),
                ]
            }))
        }
        _ => None,
    }),
    ("compare-exchanges leave r0 where they do not store", |insn, labels| match atomics(insn)? {
        (size, AtomicOp::CmpXchg, base, _, src) => {
            let end = labels.fresh();
            let width = if size == Size::W { Width::W32 } else { Width::W64 };
            Some(with_other(&[Reg::R0, base, src], |other| {
                vec![
                    mov(other, Reg::R0),
                    insn.clone(),
                    jump(width, Cond::Eq, Reg::R0, other, end),
                    mov(Reg::R0, other),
                    label(end),
                ]
            }))
        }
        _ => None,
    }),
    ("compare-exchanges always store", |insn, _| match atomics(insn)? {
        (size, AtomicOp::CmpXchg, base, offset, src) => {
            let wrong = |src: Reg| vec![insn.clone(), stx(size, base, offset, src)];
            // Where the source is r0, the old value would be stored: what it was before is put aside.
            Some(with_other(&[Reg::R0, base, src], |other| {
                let mut code = vec![mov(other, src)];
                code.extend(wrong(other));
                code
            }))
        }
        _ => None,
    }),
    ("compare-exchanges of 32 bits compare all of r0", |insn, labels| match atomics(insn)? {
        (Size::W, AtomicOp::CmpXchg, base, offset, src) => {
            let (same, end) = (labels.fresh(), labels.fresh());
            Some(with_other(&[Reg::R0, base, src], |other| {
                vec![
                    ldx(Size::W, other, base, offset),
                    jeq(Reg::R0, other, same),
                    mov(Reg::R0, other),
                    goto(end),
                    label(same),
                    insn.clone(),
                    label(end),
                ]
            }))
        }
        _ => None,
    }),
    ("atomic operations of 32 bits change 64", |insn, _| match atomics(insn)? {
        (Size::W, op, base, offset, src) if op != AtomicOp::CmpXchg => {
            Some(vec![atomic(Size::DW, op, base, offset, src)])
        }
        _ => None,
    }),
    ("constants of 64-bit comparisons are not sign-extended", |insn, _| match insn {
        Insn::Jump { width: Width::W64, left, right: Operand::Imm(imm), .. } => {
            Some(unsigned(insn, *imm, *left))
        }
        _ => None,
    }),
    ("signs do not matter to comparisons", |insn, _| match insn {
        Insn::Jump { width, cond, left, right, target } => {
            let cond = match cond {
                Cond::Sgt => Cond::Gt,
                Cond::Sge => Cond::Ge,
                Cond::Slt => Cond::Lt,
                Cond::Sle => Cond::Le,
                _ => return None,
            };
            Some(vec![Insn::Jump { width: *width, cond, left: *left, right: *right, target: *target }])
        }
        _ => None,
    }),
    ("jumps are never taken", |insn, _| match insn {
        Insn::Jump { .. } | Insn::Goto { .. } => Some(vec![]),
        _ => None,
    }),
    ("jumps are always taken", |insn, _| match insn {
        Insn::Jump { target, .. } => Some(vec![goto(*target)]),
        _ => None,
    }),
];

#[test]
fn every_fault_is_noticed() {
    if skip("every_fault_is_noticed") {
        return;
    }
    let references = references();
    for reference in &references {
        assert!(!noticed(reference, &faithful), "{:?}", reference.row.shape);
    }
    let mut missed = Vec::new();
    let mut touched = BTreeMap::new();
    for (name, fault) in FAULTS {
        for reference in &references {
            let shape = reference.row.shape;
            let hit = std::cell::Cell::new(false);
            let wrong = |insn: &Insn<Reg>, labels: &mut Labels| match fault(insn, labels) {
                Some(code) => {
                    hit.set(true);
                    code
                }
                None => vec![insn.clone()],
            };
            let seen = noticed(reference, &wrong);
            if hit.get() {
                *touched.entry(*name).or_insert(0) += 1;
            }
            if seen != hit.get() {
                missed.push(format!("{name}: {shape:?}"));
            }
        }
        assert!(touched.contains_key(name), "{name} touches no row");
    }
    let pairs: usize = touched.values().sum();
    eprintln!("{} faults, {pairs} pairs of a fault and a row, {} missed", FAULTS.len(), missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

/// Rows of equal operand fields can be taken for each other without a trace in the encoding of operands.
#[test]
fn every_row_read_as_another_is_noticed() {
    if skip("every_row_read_as_another_is_noticed") {
        return;
    }
    let mut pairs = 0;
    let mut missed = Vec::new();
    for reference in references().iter().filter(|reference| kind(reference.row).is_some()) {
        for other in rows().filter(|other| other.fields == reference.row.fields) {
            let applies = other.shape != reference.row.shape && kind(other) == kind(reference.row);
            if !applies {
                continue;
            }
            pairs += 1;
            let misread = |insn: &Insn<Reg>, _: &mut Labels| {
                let parts = insn.parts().unwrap();
                vec![Parts { shape: other.shape, ..parts }.join().unwrap()]
            };
            if !noticed(reference, &misread) {
                missed.push(format!("{:?} read as {:?}", reference.row.shape, other.shape));
            }
        }
    }
    eprintln!("{pairs} pairs of rows, {} missed", missed.len());
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(pairs > 2000, "{pairs}");
}

/// Rows of one kind have operands of one meaning; `None` for rows that refer to something by name, or are alone.
fn kind(row: &Row) -> Option<u8> {
    match row.shape {
        Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } => Some(0),
        Shape::Load { .. } => Some(1),
        Shape::Store { .. } | Shape::Atomic { .. } => Some(2),
        Shape::Jump { .. } => Some(3),
        Shape::LoadImm64
        | Shape::LoadMap
        | Shape::LoadMapValue
        | Shape::Goto
        | Shape::Call
        | Shape::CallFunction
        | Shape::Exit => None,
    }
}
