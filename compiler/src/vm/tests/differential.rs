//! Random programs and map operations, in the virtual machine and in the kernel.

use super::kernel::{Kernel, permitted};
use super::maps::{operations, wish};
use super::*;
use crate::bpf::asm::*;
use crate::bpf::parts::{Operands, Parts, Reference};
use crate::bpf::table::{Row, Shape, Source, rows};
use crate::bpf::{AluOp, Cond, Label, Size, Width};
use crate::vm::Vm;

/// Holds the pointer to the map value that programs work on.
const BASE: Reg = Reg::R9;

/// Registers that hold numbers.
const NUMBERS: u8 = 9;

/// Bytes of the map value: the registers at the end of the program, then a work area.
const VALUE_BYTES: u32 = 256;
const WORK: i16 = 128;
const WORK_BYTES: u64 = 128;

/// A generator that gives the same programs every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 16) % bound
    }

    /// Numbers of all magnitudes, and those around powers of two more often.
    fn number(&mut self) -> u64 {
        let number = self.next() >> self.below(64);
        match self.below(4) {
            0 => (1_u64 << self.below(64)).wrapping_sub(self.below(3)),
            1 => number.wrapping_neg(),
            _ => number,
        }
    }

    fn register(&mut self) -> Reg {
        Reg(self.below(u64::from(NUMBERS)) as u8)
    }
}

/// An instruction that works on numbers, the work area or the stack; `None` for rows that do neither.
fn instruction(row: &Row, random: &mut Random) -> Option<Insn<Reg>> {
    let mut operands = Operands {
        dst: row.fields.dst.then(|| random.register()),
        src: row.fields.src.then(|| random.register()),
        offset: 0,
        imm: 0,
    };
    if row.fields.imm {
        operands.imm =
            if row.fields.wide { random.number().cast_signed() } else { i64::from(random.number() as i32) };
    }
    let memory = |size: Size, random: &mut Random| {
        let bytes = match size {
            Size::B => 1,
            Size::H => 2,
            Size::W => 4,
            Size::DW => 8,
        };
        let place = (random.below(WORK_BYTES / bytes) * bytes) as i16;
        if random.below(2) == 0 { (BASE, WORK + place) } else { (Reg::FP, place - WORK_BYTES as i16) }
    };
    match row.shape {
        // The verifier refuses constant shifts beyond the width and constant divisors of zero.
        Shape::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, width, source: Source::Imm } => {
            operands.imm &= if width == Width::W32 { 31 } else { 63 };
        }
        Shape::Alu { op: AluOp::Div | AluOp::Mod, source: Source::Imm, .. } if operands.imm == 0 => {
            operands.imm = 7;
        }
        Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } | Shape::LoadImm64 => {}
        Shape::Load { size } => {
            let (base, offset) = memory(size, random);
            (operands.src, operands.offset) = (Some(base), offset);
        }
        Shape::Store { size, .. } | Shape::Atomic { size, .. } => {
            let (base, offset) = memory(size, random);
            (operands.dst, operands.offset) = (Some(base), offset);
        }
        Shape::LoadMap
        | Shape::LoadMapValue
        | Shape::Goto
        | Shape::Jump { .. }
        | Shape::Call
        | Shape::CallFunction
        | Shape::Exit => return None,
    }
    Parts { shape: row.shape, operands, reference: Reference::None }.join()
}

/// A program over random numbers that leaves all registers and its stack area in the map value.
fn program(random: &mut Random) -> Module {
    let mut code = vec![ld_map_value(BASE, "results", 0)];
    for number in 0..NUMBERS {
        code.push(ld_imm64(Reg(number), random.number()));
    }
    for place in 0..WORK_BYTES as i16 / 8 {
        code.push(stx(Size::DW, Reg::FP, -8 * (place + 1), random.number() as i32));
    }
    let table: Vec<_> = rows().collect();
    // Open jumps: how many instructions until their label.
    let mut open: Vec<(u64, Label)> = Vec::new();
    let mut labels = 0;
    let mut jumps = 0;
    for _ in 0..80 {
        open.retain_mut(|(left, target)| {
            *left -= 1;
            if *left == 0 {
                code.push(label(*target));
            }
            *left > 0
        });
        let row = table[random.below(table.len() as u64) as usize];
        if let Shape::Jump { width, cond, source } = row.shape {
            // Few enough for the verifier to walk all paths.
            if jumps < 8 {
                jumps += 1;
                let target = Label(labels);
                labels += 1;
                open.push((1 + random.below(4), target));
                let left = random.register();
                code.push(match source {
                    Source::Imm => jump(width, cond, left, random.number() as i32, target),
                    Source::Reg => jump(width, cond, left, random.register(), target),
                });
            }
        }
        code.extend(instruction(row, random));
    }
    code.extend(open.into_iter().map(|(_, target)| label(target)));
    for number in 0..NUMBERS {
        code.push(stx(Size::DW, BASE, i16::from(number) * 8, Reg(number)));
    }
    for place in 0..6 {
        code.push(ldx(Size::DW, R1, Reg::FP, -8 * (place + 1)));
        code.push(stx(Size::DW, BASE, i16::from(NUMBERS) * 8 + 8 * place, R1));
    }
    code.push(exit());
    Module { maps: vec![map("results", MapKind::Array, 4, VALUE_BYTES, 1)], ..main(code) }
}

#[test]
fn random_programs_agree_with_the_kernel() {
    if !permitted("random_programs_agree_with_the_kernel") {
        return;
    }
    let mut random = Random(0x2545_f491_4f6c_dd1d);
    for round in 0..300 {
        let module = program(&mut random);
        let kernel = Kernel::load(&module).unwrap_or_else(|error| panic!("round {round}: {error}"));
        let mut vm = Vm::new(&module).unwrap();
        let start: Vec<u8> = (0..VALUE_BYTES).map(|_| random.next() as u8).collect();
        kernel.set("results", &[0; 4], &start);
        vm.map("results").unwrap().at_mut(0).unwrap().copy_from_slice(&start);
        let (ret, _) = kernel.run(&[0; 64]);
        let run = vm.run("main", &mut vec![0; 64], 0).unwrap();
        let listing = crate::bpf::print::Listing(&module.programs[0].code).to_string();
        assert_eq!(run.ret as u32, ret, "round {round}\n{listing}");
        let mut results = vm.map("results").unwrap();
        assert_eq!(results.at(0), kernel.get("results", &[0; 4]).as_deref(), "round {round}\n{listing}");
    }
}

#[test]
fn map_operations_agree_with_the_kernel() {
    if !permitted("map_operations_agree_with_the_kernel") {
        return;
    }
    let mut random = Random(7);
    let kinds = [(MapKind::Array, 4), (MapKind::PerCpuArray, 4), (MapKind::Hash, 8), (MapKind::LpmTrie, 8)];
    for (kind, key_bytes) in kinds {
        let module = operations(kind, key_bytes, 6);
        let kernel = Kernel::load(&module).unwrap();
        let mut vm = Vm::new(&module).unwrap();
        for _ in 0..2000 {
            let key = if kind == MapKind::LpmTrie {
                // Lengths of up to 34 bits, and data in which prefixes meet.
                random.below(35) | (random.below(2) << 32) | (random.below(2) << 63)
            } else {
                random.below(9)
            };
            let packet = wish(random.below(3) as u8, random.below(4) as u8, key, random.next());
            let theirs = kernel.run(&packet).0;
            let ours = vm.run("main", &mut packet.clone(), 0).unwrap().ret as u32;
            assert_eq!(ours, theirs, "{kind:?} {packet:?}");
        }
    }
}

#[test]
fn subprograms_and_packets_agree_with_the_kernel() {
    if !permitted("subprograms_and_packets_agree_with_the_kernel") {
        return;
    }
    let out = Label(0);
    let module = Module {
        functions: vec![function(
            "mix",
            ".text",
            vec![mov(R6, R1), mul(R6, 3), mov(R0, R6), xor(R0, R2), exit()],
        )],
        ..main(vec![
            mov(R0, 1),
            ldx(Size::W, R7, R1, 4),
            ldx(Size::W, R6, R1, 0),
            mov(R3, R6),
            add(R3, 20),
            jgt(R3, R7, out),
            ldx(Size::W, R1, R6, 4),
            ldx(Size::H, R2, R6, 12),
            be16(R2),
            call_function("mix"),
            stx(Size::DW, R6, 12, R0),
            label(out),
            exit(),
        ])
    };
    let kernel = Kernel::load(&module).unwrap();
    let mut vm = Vm::new(&module).unwrap();
    let mut random = Random(3);
    for len in 14..40 {
        let mut packet: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
        let (ret, after) = kernel.run(&packet);
        assert_eq!(vm.run("main", &mut packet, 0).unwrap().ret as u32, ret);
        assert_eq!(packet, after);
    }
}

#[test]
fn the_verifier_prints_what_we_print() {
    if !permitted("the_verifier_prints_what_we_print") {
        return;
    }
    // What old versions of LLVM do not know: the modulus, bit tests, stores of constants.
    let mut code = vec![mov(R0, 0), mov(R1, 5), mov(R2, 6)];
    for width in [Width::W32, Width::W64] {
        code.extend([alu(width, AluOp::Mod, R1, R2), alu(width, AluOp::Mod, R1, 3)]);
        for target in [Label(width as u32 * 2), Label(width as u32 * 2 + 1)] {
            let operand = if target.0 % 2 == 0 { R2.into() } else { crate::bpf::Operand::Imm(4) };
            code.extend([jump(width, Cond::Set, R1, operand, target), mov(R0, 1), label(target)]);
        }
    }
    for (size, offset) in [(Size::B, -1), (Size::H, -4), (Size::W, -8), (Size::DW, -16)] {
        code.push(stx(size, Reg::FP, offset, 7));
    }
    code.push(exit());
    let module = main(code);
    let log = Kernel::load(&module).unwrap().log;
    // The kernel writes `(r10 -8)`, `0x4` and `pc+1` where we write `(r10 - 8)`, `4` and a label.
    let plain = |text: &str| text.replace([' '], "").replace("0x", "").replace("pc+1", "");
    let theirs = plain(&log);
    for insn in module.programs[0].code.iter().filter(|insn| !matches!(insn, Insn::Label(_))) {
        let text = insn.to_string();
        let ours = plain(text.split(" L").next().unwrap());
        assert!(theirs.contains(&ours), "{text}: not in\n{log}");
    }
}
