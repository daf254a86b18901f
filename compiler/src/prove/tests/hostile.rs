//! Modules that nobody would write are refused after bounded work, without a panic.

use super::mutants::{damage, networks, one_of};
use super::networks::{lowered, ways};
use crate::bpf::module::{Module, Type};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Imm64, Insn, Label, Operand, Reg, Size, Width};
use crate::ir::{Lanes, Network, Post, Rule};
use crate::lower::network::{Options, Weights};
use crate::lower::testing::{Random, Shape, network};
use crate::prove::network as prove;

fn plain() -> (Module, Network) {
    let relu = Post::Relu { shift: 12, bits: 8 };
    let shapes = [
        Shape { rows: 4, lanes: Lanes::THREE, post: relu },
        Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw },
    ];
    lowered(&network(7, 6, &shapes, Rule::ArgMax), Options::default())
}

/// What is said of a module with this code in place of the model's.
fn said(code: &[Insn<Reg>]) -> String {
    let (mut module, network) = plain();
    module.functions[0].code = code.to_vec();
    module.functions[0].line_of = vec![0; code.len()];
    prove(&module, &network, Weights::Map).unwrap_err().to_string()
}

fn mov(dst: Reg, value: i32) -> Insn<Reg> {
    Insn::Alu { width: Width::W64, op: AluOp::Mov, dst, src: Operand::Imm(value) }
}

fn alu(op: AluOp, dst: Reg, src: Reg) -> Insn<Reg> {
    Insn::Alu { width: Width::W64, op, dst, src: Operand::Reg(src) }
}

/// The start of the model: a pointer to scratch in `r6`, `r2` in `r7`.
fn start() -> Vec<Insn<Reg>> {
    let (module, _) = plain();
    let code = &module.functions[0].code;
    let look_up = code.iter().position(|insn| matches!(insn, Insn::Call { .. })).unwrap();
    let mut start = vec![alu(AluOp::Mov, Reg::R7, Reg::R2)];
    start.push(Insn::Store { size: Size::W, base: Reg::FP, offset: -8, src: Operand::Imm(0) });
    start.push(Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Map("nn_scratch".to_owned()) });
    start.push(alu(AluOp::Mov, Reg::R2, Reg::FP));
    start.push(Insn::Alu { width: Width::W64, op: AluOp::Add, dst: Reg::R2, src: Operand::Imm(-8) });
    start.push(code[look_up].clone());
    let found = Label(900);
    start.push(Insn::Jump {
        width: Width::W64,
        cond: Cond::Ne,
        left: Reg::R0,
        right: Operand::Imm(0),
        target: found,
    });
    start.extend([mov(Reg::R0, 1), Insn::Exit, Insn::Label(found), alu(AluOp::Mov, Reg::R6, Reg::R0)]);
    start
}

#[test]
fn code_that_is_no_network_is_refused() {
    let label = Label(0);
    let goto = Insn::Goto { target: label };
    let fetch = Insn::Atomic { size: Size::DW, op: AtomicOp::Add, base: Reg::R1, offset: 0, src: Reg::R2 };
    let jump =
        |left, target| Insn::Jump { width: Width::W64, cond: Cond::Lt, left, right: Operand::Imm(5), target };
    let cases: Vec<(Vec<Insn<Reg>>, &str)> = vec![
        (vec![], "runs off its end"),
        (vec![mov(Reg::R0, 0)], "runs off its end"),
        (vec![mov(Reg::R0, 0), Insn::Exit], "ends before"),
        (vec![mov(Reg::R0, 1), Insn::Exit], "returns another number"),
        (vec![Insn::Exit], "r0 before it has a value"),
        (vec![goto.clone()], "label that is not there"),
        (vec![Insn::Label(label), Insn::Label(label)], "in two places"),
        (vec![Insn::Label(label), goto], "more steps"),
        (vec![Insn::Call { helper: Helper::KtimeGetNs }], "calls bpf_ktime_get_ns"),
        (vec![Insn::CallFunction { function: "nn_infer".to_owned() }], "calls nn_infer"),
        (vec![fetch], "others share"),
        (vec![Insn::ToBigEndian { bits: 16, dst: Reg::R2 }], "order of bytes"),
        (vec![mov(Reg::FP, 0)], "frame pointer"),
        (vec![mov(Reg(14), 0)], "frame pointer"),
        (vec![alu(AluOp::Mov, Reg::R3, Reg(15))], "before it has a value"),
        (vec![jump(Reg::R2, label), Insn::Label(label)], "where data decide"),
        (vec![jump(Reg::R1, label)], "for a number"),
        (vec![Insn::Load { size: Size::DW, dst: Reg::R3, base: Reg::R1, offset: 0 }], "reads the context"),
        (
            vec![Insn::Load { size: Size::DW, dst: Reg::R3, base: Reg::FP, offset: -8 }],
            "nothing of that width",
        ),
        (vec![Insn::Load { size: Size::DW, dst: Reg::R3, base: Reg::FP, offset: 0 }], "outside of its frame"),
        (vec![Insn::Load { size: Size::DW, dst: Reg::R3, base: Reg::R2, offset: 0 }], "no pointer"),
        (vec![alu(AluOp::Div, Reg::R2, Reg::R2)], "divides"),
        (vec![alu(AluOp::Mul, Reg::R1, Reg::R2)], "with a pointer"),
        (vec![Insn::LoadImm64 { dst: Reg::R1, value: Imm64::Map("other".to_owned()) }], "uses other"),
    ];
    for (code, wanted) in cases {
        let said = said(&code);
        assert!(said.contains(wanted), "{said:?} does not say {wanted:?}");
    }
}

#[test]
fn work_is_bounded() {
    let (again, count) = (Label(0), 10_000);
    // A number that is added to itself for ever, a chain that is ever deeper, a loop that is ever longer.
    for op in [AluOp::Add, AluOp::Mul, AluOp::Xor, AluOp::And, AluOp::Or] {
        let code = vec![
            alu(AluOp::Mov, Reg::R3, Reg::R2),
            Insn::Label(again),
            Insn::Alu { width: Width::W64, op: AluOp::Rsh, dst: Reg::R3, src: Operand::Imm(1) },
            alu(op, Reg::R3, Reg::R2),
            alu(AluOp::Add, Reg::R2, Reg::R3),
            Insn::Goto { target: again },
        ];
        let said = said(&code);
        assert!(said.contains("more steps"), "{said}");
    }
    // A result that is nested deeper than anything that is compared.
    let mut code = start();
    let (module, network) = plain();
    let whole = module.functions[0].code.clone();
    let byte = |insn: &Insn<Reg>| matches!(insn, Insn::Store { size: Size::B, .. });
    let last = whole.iter().position(byte).unwrap();
    let Insn::Store { src: Operand::Reg(dst), .. } = whole[last] else {
        unreachable!("a result in a register")
    };
    let mut deep = whole[..last].to_vec();
    for _ in 0..count {
        deep.push(Insn::Alu { width: Width::W64, op: AluOp::Rsh, dst, src: Operand::Imm(1) });
        deep.push(Insn::Alu { width: Width::W64, op: AluOp::Xor, dst, src: Operand::Imm(77) });
    }
    deep.extend_from_slice(&whole[last..]);
    let mut other = module.clone();
    other.functions[0].line_of = vec![0; deep.len()];
    other.functions[0].code = deep;
    let intricate = prove(&other, &network, Weights::Map).unwrap_err();
    assert!(intricate.reason.contains("intricate"), "{intricate}");
    code.push(Insn::Store { size: Size::DW, base: Reg::R6, offset: 24, src: Operand::Reg(Reg::R7) });
    assert!(said(&code).contains("where nothing may be written"), "{}", said(&code));
}

#[test]
fn scratch_is_guarded() {
    let store = |size, offset, src| {
        let mut code = start();
        code.push(Insn::Store { size, base: Reg::R6, offset, src });
        said(&code)
    };
    // A feature, a place outside, half of the generation, a pointer.
    for (size, offset) in [(Size::DW, 40), (Size::DW, -8), (Size::DW, 30_000), (Size::W, 8)] {
        let said = store(size, offset, Operand::Imm(0));
        assert!(said.contains("writes"), "{said}");
    }
    assert!(store(Size::DW, 8, Operand::Reg(Reg::R6)).contains("stores a pointer"));
    let load = |size, offset| {
        let mut code = start();
        code.push(Insn::Load { size, dst: Reg::R3, base: Reg::R6, offset });
        said(&code)
    };
    for (size, offset) in [(Size::DW, 0), (Size::W, 40), (Size::DW, 36), (Size::DW, -8), (Size::DW, 20_000)] {
        assert!(load(size, offset).contains("reads"), "{}", load(size, offset));
    }
    let mut code = start();
    code.push(alu(AluOp::Add, Reg::R6, Reg::R7));
    code.push(Insn::Load { size: Size::DW, dst: Reg::R3, base: Reg::R6, offset: 40 });
    assert!(said(&code).contains("depends on data"));
}

#[test]
fn other_data_and_maps_are_refused() {
    let (module, network) = plain();
    let change = |change: &dyn Fn(&mut Module)| {
        let mut other = module.clone();
        change(&mut other);
        prove(&other, &network, Weights::Map).unwrap_err().to_string()
    };
    assert!(change(&|module| module.functions.clear()).contains("not there"));
    assert!(change(&|module| module.functions.push(module.functions[0].clone())).contains("several"));
    assert!(change(&|module| module.data.clear()).contains("has no .data.nn_params"));
    assert!(change(&|module| module.data[0].bytes[0] ^= 1).contains("other parameters"));
    assert!(change(&|module| module.maps.clear()).contains("no scratch"));
    let huge = Type::Array(Box::new(Type::Array(Box::new(Type::Unsigned(8)), u32::MAX)), u32::MAX);
    assert!(change(&|module| module.maps[0].value = Some(huge.clone())).contains("another nn_scratch"));
    let mut wrong = network.clone();
    wrong.ops.clear();
    assert!(prove(&module, &wrong, Weights::Map).is_err());
}

/// Code that is damaged in many places at once, and instructions that were drawn.
#[test]
fn no_code_panics() {
    let mut random = Random(77);
    for (name, network) in networks() {
        for options in ways() {
            let (module, network) = lowered(&network, options);
            for _ in 0..40 {
                let mut other = module.clone();
                for function in other.functions.iter_mut().chain(&mut other.programs) {
                    for _ in 0..random.next() % 6 {
                        damage(&mut random, function);
                    }
                }
                // Equal or refused: it only must come back.
                if let Err(mismatch) = prove(&other, &network, options.weights) {
                    assert!(!mismatch.reason.is_empty(), "{name}");
                }
            }
        }
    }
    let begin = start();
    for _ in 0..3000 {
        let mut code = begin.clone();
        for _ in 0..random.next() % 60 {
            let mut reg = || Reg((random.next() % 12) as u8);
            let (dst, src) = (reg(), reg());
            let offset = one_of(&mut random, &[0, 8, 16, 20, 24, 40, -8, -16, 96, 104]);
            let size = one_of(&mut random, &[Size::B, Size::H, Size::W, Size::DW]);
            let op = one_of(
                &mut random,
                &[AluOp::Add, AluOp::Sub, AluOp::Mul, AluOp::And, AluOp::Xor, AluOp::Arsh, AluOp::Mov],
            );
            code.push(match random.next() % 6 {
                0 => Insn::Load { size, dst, base: Reg::R6, offset },
                1 => Insn::Store { size, base: Reg::R6, offset, src: Operand::Reg(src) },
                2 => mov(dst, (random.next() % 70) as i32 - 3),
                _ => alu(op, dst, src),
            });
        }
        code.extend([mov(Reg::R0, 0), Insn::Exit]);
        said(&code);
    }
}
