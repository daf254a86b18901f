//! Every row of the table in a small program that the verifier takes, as bpftool shows it.

use nnbpf_compiler::bpf::asm::*;
use nnbpf_compiler::bpf::module::{Data, Function, Line, Map, MapKind, Module, Parameter, Type};
use nnbpf_compiler::bpf::parts::{Operands, Parts, Reference};
use nnbpf_compiler::bpf::table::{Row, Shape, Source, rows};
use nnbpf_compiler::bpf::{AluOp, Helper, Insn, Label, Reg, Size, Width};

use super::common::Random;
use super::xlated::{Tally, in_kernel, missing};

/// The data section that small programs work on, in [`BASE`].
const VALUES: &str = ".data.nn_values";
const BASE: Reg = Reg::R9;
const TABLE: &str = "nn_table";
const CALLEE: &str = "nn_callee";

/// A row with random operands, and what makes the verifier take it.
fn example(row: &'static Row, random: &mut Random, labels: &mut u32) -> Vec<Insn<Reg>> {
    let (dst, src) = (Reg(random.below(9) as u8), Reg(random.below(9) as u8));
    let mut code = vec![ldx(Size::DW, dst, BASE, 0), ldx(Size::DW, src, BASE, 8)];
    // One next to the edges, so that no comparison is decided beforehand: the kernel removes branches that never go on.
    let imm = match random.below(6) {
        0 => i64::from(i32::MIN) + 1,
        1 => -2,
        2 => i64::from(i32::MAX) - 1,
        _ => i64::from(random.next() as i32),
    };
    let mut operands = Operands {
        dst: row.fields.dst.then_some(dst),
        src: row.fields.src.then_some(src),
        offset: 0,
        imm: match (row.fields.imm, row.fields.wide) {
            (false, _) => 0,
            (true, false) => imm,
            (true, true) => random.next().cast_signed(),
        },
    };
    let plain = |shape, operands| Parts { shape, operands, reference: Reference::None }.join().unwrap();
    // The frame, every word of which the program has written.
    let place = -8 * (1 + random.below(60) as i16);
    let mut label_of = || {
        *labels += 1;
        Label(*labels)
    };
    match row.shape {
        Shape::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, width, source: Source::Imm } => {
            operands.imm &= if width == Width::W32 { 31 } else { 63 };
            code.push(plain(row.shape, operands));
        }
        Shape::Alu { op: AluOp::Div | AluOp::Mod, source: Source::Imm, .. } if imm == 0 => {}
        Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } | Shape::LoadImm64 => {
            code.push(plain(row.shape, operands));
        }
        Shape::LoadMap => code.push(ld_map(dst, TABLE)),
        Shape::LoadMapValue => code.push(ld_map_value(dst, VALUES, random.below(256) as u32)),
        Shape::Load { .. } => {
            let in_frame = random.below(2) == 0;
            let base = if in_frame { Reg::FP } else { BASE };
            let offset = if in_frame { place } else { random.below(248) as i16 };
            code.push(plain(row.shape, Operands { src: Some(base), offset, ..operands }));
        }
        Shape::Store { .. } => {
            let in_frame = random.below(2) == 0;
            let base = if in_frame { Reg::FP } else { BASE };
            let offset = if in_frame { place } else { random.below(248) as i16 };
            code.push(plain(row.shape, Operands { dst: Some(base), offset, ..operands }));
        }
        Shape::Atomic { .. } => {
            code.push(ldx(Size::DW, Reg::R0, BASE, 16));
            let base = if random.below(2) == 0 { Reg::FP } else { BASE };
            let offset = if base == Reg::FP { place } else { random.below(31) as i16 * 8 };
            code.push(plain(row.shape, Operands { dst: Some(base), offset, ..operands }));
        }
        Shape::Goto => {
            let (around, end) = (label_of(), label_of());
            let some = |count: usize| (0..count).map(|number| mov(Reg::R0, number as i32));
            code.extend([jgt(dst, 5, around), goto(end), label(around)]);
            code.extend(some(1 + random.below(20)));
            code.push(label(end));
        }
        // The branch of a register that is compared with itself is decided too.
        Shape::Jump { source: Source::Reg, .. } if dst == src => {}
        Shape::Jump { width, cond, source } => {
            let end = label_of();
            let right = if source == Source::Imm { (imm as i32).into() } else { src.into() };
            code.push(Insn::Jump { width, cond, left: dst, right, target: end });
            code.extend((0..1 + random.below(20)).map(|number| mov(Reg::R0, number as i32)));
            code.push(label(end));
        }
        Shape::Call => {
            let helpers = [Helper::KtimeGetNs, Helper::GetSmpProcessorId, Helper::Jiffies64];
            code.push(call(helpers[random.below(3)]));
        }
        Shape::CallFunction => {
            code.extend([mov(Reg::R1, 1), call_function(CALLEE)]);
        }
        Shape::Exit => {
            let on = label_of();
            code.extend([jgt(dst, 5, on), mov(Reg::R0, 1), exit(), label(on)]);
        }
    }
    code
}

fn small(name: &str, section: &str, code: Vec<Insn<Reg>>, parameter: Parameter) -> Function {
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line::default()],
        parameters: vec![parameter],
    }
}

/// A program that has one row many times.
fn program(row: &'static Row, random: &mut Random) -> Module {
    let mut code = vec![ld_map_value(BASE, VALUES, 0)];
    code.extend((1..=61).map(|word| stx(Size::DW, Reg::FP, -8 * word, i32::from(word))));
    let mut labels = 0;
    for _ in 0..24 {
        code.extend(example(row, random, &mut labels));
    }
    code.extend([mov(Reg::R0, 2), exit()]);
    Module {
        programs: vec![small("nn_row", "xdp", code, Parameter::Context)],
        functions: if row.shape == Shape::CallFunction {
            vec![small(CALLEE, ".text", vec![mov(Reg::R0, Reg::R1), exit()], Parameter::Scalar)]
        } else {
            Vec::new()
        },
        maps: vec![Map {
            name: TABLE.to_owned(),
            kind: MapKind::Hash,
            key: Some(Type::Unsigned(4)),
            value: Some(Type::Unsigned(8)),
            max_entries: 4,
            flags: 0,
            programs: Vec::new(),
        }],
        data: vec![Data {
            section: VALUES.to_owned(),
            variable: "nn_values".to_owned(),
            ty: Type::Array(Box::new(Type::Unsigned(8)), 32),
            bytes: vec![1; 256],
            writable: true,
        }],
        metadata: Vec::new(),
    }
}

#[test]
fn bpftool_shows_every_row_as_we_do() {
    let test = "bpftool_shows_every_row_as_we_do";
    if missing(test) {
        return;
    }
    let mut random = Random(71);
    let mut tally = Tally::default();
    for row in rows() {
        let before = tally.equal;
        in_kernel(&format!("{:?}", row.shape), &program(row, &mut random), &mut tally);
        assert!(tally.equal > before + 80, "{:?}", row.shape);
    }
    tally.report(test);
    let missing: Vec<String> =
        rows().map(|row| format!("{:?}", row.shape)).filter(|shape| !tally.shapes.contains(shape)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
