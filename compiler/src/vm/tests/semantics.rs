//! Arithmetic, conditions and byte order against definitions in wide integers.

use super::*;
use crate::bpf::asm::*;
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Operand, Size, Width};
use crate::vm::Vm;
use proptest::prelude::*;

const OPERATIONS: [AluOp; 12] = [
    AluOp::Add,
    AluOp::Sub,
    AluOp::Mul,
    AluOp::Div,
    AluOp::Or,
    AluOp::And,
    AluOp::Lsh,
    AluOp::Rsh,
    AluOp::Mod,
    AluOp::Xor,
    AluOp::Mov,
    AluOp::Arsh,
];

const CONDITIONS: [Cond; 11] = [
    Cond::Eq,
    Cond::Ne,
    Cond::Gt,
    Cond::Ge,
    Cond::Lt,
    Cond::Le,
    Cond::Set,
    Cond::Sgt,
    Cond::Sge,
    Cond::Slt,
    Cond::Sle,
];

/// Values around every edge.
fn value() -> impl Strategy<Value = u64> {
    let edges = [0, 1, 2, 31, 32, 33, 63, 64, 65, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 1 << 32, 1 << 63];
    prop_oneof![
        proptest::sample::select(edges.to_vec()),
        proptest::sample::select(edges.to_vec()).prop_map(u64::wrapping_neg),
        any::<u64>(),
        any::<u32>().prop_map(u64::from),
    ]
}

/// The operation in 128-bit integers, cut to `bits`.
fn expected(bits: u32, op: AluOp, a: u64, b: u64) -> u64 {
    let mask = (1_u128 << bits) - 1;
    let (a, b) = (u128::from(a) & mask, u128::from(b) & mask);
    let modulus = 1_u128 << bits;
    let count = (b % u128::from(bits)) as u32;
    let result = match op {
        AluOp::Add => (a + b) % modulus,
        AluOp::Sub => (a + modulus - b) % modulus,
        AluOp::Mul => (a * b) % modulus,
        AluOp::Div if b == 0 => 0,
        AluOp::Div => a / b,
        AluOp::Mod if b == 0 => a,
        AluOp::Mod => a - a / b * b,
        AluOp::Or => a + b - (a & b),
        AluOp::And => a & b,
        AluOp::Xor => (a | b) - (a & b),
        AluOp::Lsh => (a << count) % modulus,
        AluOp::Rsh => a >> count,
        AluOp::Mov => b,
        AluOp::Arsh => {
            let signed =
                if a >> (bits - 1) == 1 { a.cast_signed() - modulus.cast_signed() } else { a.cast_signed() };
            signed.div_euclid(1 << count).cast_unsigned() % modulus
        }
    };
    result as u64
}

fn bits(width: Width) -> u32 {
    match width {
        Width::W32 => 32,
        Width::W64 => 64,
    }
}

/// Runs code that leaves its result in `r0`.
fn result(mut code: Vec<Insn<Reg>>) -> u64 {
    code.push(exit());
    Vm::new(&main(code)).unwrap().run("main", &mut Vec::new(), 0).unwrap().ret
}

proptest! {
    #[test]
    fn arithmetic(a in value(), b in value()) {
        for op in OPERATIONS {
            for width in [Width::W32, Width::W64] {
                let got = result(vec![ld_imm64(R0, a), ld_imm64(R1, b), alu(width, op, R0, R1)]);
                prop_assert_eq!(got, expected(bits(width), op, a, b), "{:?} {:?} {} {}", width, op, a, b);
                let imm = b as i32;
                let got = result(vec![ld_imm64(R0, a), alu(width, op, R0, imm)]);
                let extended = i64::from(imm).cast_unsigned();
                prop_assert_eq!(got, expected(bits(width), op, a, extended), "{:?} {:?} {} {}", width, op, a, imm);
            }
        }
    }

    #[test]
    fn negation_and_byte_order(a in value()) {
        prop_assert_eq!(result(vec![ld_imm64(R0, a), neg(R0)]), expected(64, AluOp::Sub, 0, a));
        prop_assert_eq!(result(vec![ld_imm64(R0, a), neg32(R0)]), expected(32, AluOp::Sub, 0, a));
        let bytes = a.to_le_bytes();
        let swapped = |count: usize| bytes[..count].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        prop_assert_eq!(result(vec![ld_imm64(R0, a), be16(R0)]), swapped(2));
        prop_assert_eq!(result(vec![ld_imm64(R0, a), be32(R0)]), swapped(4));
        prop_assert_eq!(result(vec![ld_imm64(R0, a), be64(R0)]), swapped(8));
    }

    #[test]
    fn conditions(a in value(), b in value()) {
        for cond in CONDITIONS {
            for width in [Width::W32, Width::W64] {
                for right in [Operand::Reg(R2), Operand::Imm(b as i32)] {
                    let right_value = match right {
                        Operand::Reg(_) => b,
                        Operand::Imm(imm) => i64::from(imm).cast_unsigned(),
                    };
                    let taken = result(vec![
                        ld_imm64(R1, a),
                        ld_imm64(R2, b),
                        mov(R0, 1),
                        jump(width, cond, R1, right, Label(0)),
                        mov(R0, 0),
                        label(Label(0)),
                    ]);
                    // Shifting the low half up keeps signed and unsigned order.
                    let up = |value: u64| match width { Width::W32 => value << 32, Width::W64 => value };
                    let (x, y) = (up(a), up(right_value));
                    let holds = match cond {
                        Cond::Eq => x == y,
                        Cond::Ne => x != y,
                        Cond::Gt => x > y,
                        Cond::Ge => x >= y,
                        Cond::Lt => x < y,
                        Cond::Le => x <= y,
                        Cond::Set => (x & y).count_ones() > 0,
                        Cond::Sgt => x.cast_signed() > y.cast_signed(),
                        Cond::Sge => x.cast_signed() >= y.cast_signed(),
                        Cond::Slt => x.cast_signed() < y.cast_signed(),
                        Cond::Sle => x.cast_signed() <= y.cast_signed(),
                    };
                    prop_assert_eq!(taken == 1, holds, "{:?} {:?} {} {}", width, cond, a, right_value);
                }
            }
        }
    }

    #[test]
    fn atomics(old: u64, source: u64, r0: u64, same: bool) {
        let r0 = if same { old } else { r0 };
        for size in [Size::W, Size::DW] {
            let cut = |value: u64| if matches!(size, Size::W) { value & 0xffff_ffff } else { value };
            // Which of memory, source and r0 are seen is chosen by what the program returns.
            let run = |op, last: Vec<Insn<Reg>>| {
                let mut code = vec![
                    ld_imm64(R1, old),
                    stx(Size::DW, Reg::FP, -8, R1),
                    ld_imm64(R2, source),
                    ld_imm64(R0, r0),
                    atomic(size, op, Reg::FP, -8, R2),
                ];
                code.extend(last);
                result(code)
            };
            let memory = |op| run(op, vec![ldx(size, R0, Reg::FP, -8)]);
            let after = |op| run(op, vec![mov(R0, R2)]);
            for (plain, fetching, new) in [
                (AtomicOp::Add, AtomicOp::FetchAdd, old.wrapping_add(source)),
                (AtomicOp::Or, AtomicOp::FetchOr, old | source),
                (AtomicOp::And, AtomicOp::FetchAnd, old & source),
                (AtomicOp::Xor, AtomicOp::FetchXor, old ^ source),
            ] {
                prop_assert_eq!(memory(plain), cut(new));
                prop_assert_eq!(memory(fetching), cut(new));
                prop_assert_eq!(after(plain), source);
                prop_assert_eq!(after(fetching), cut(old));
            }
            prop_assert_eq!(memory(AtomicOp::Xchg), cut(source));
            prop_assert_eq!(after(AtomicOp::Xchg), cut(old));
            let swapped = cut(old) == cut(r0);
            prop_assert_eq!(memory(AtomicOp::CmpXchg), cut(if swapped { source } else { old }));
            prop_assert_eq!(after(AtomicOp::CmpXchg), source);
            prop_assert_eq!(run(AtomicOp::CmpXchg, vec![]), cut(old));
        }
    }
}
