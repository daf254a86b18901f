//! Allocation against an interpreter of virtual code, and the checker against damaged allocations.

#![expect(clippy::wildcard_enum_match_arm, reason = "the interpreter runs only what the generator emits")]

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::bpf::module::Parameter;
use crate::bpf::{AluOp, Cond, Helper, Label, Operand, Size, Width};
use crate::lower::builder::Builder;

/// Runs code of either register type. Helpers return numbers that depend on their arguments; clobbered
/// registers receive garbage, so that whoever relies on them is wrong.
fn run<R: Copy + Into<usize> + std::fmt::Debug>(code: &[(Insn<R>, u8)], input: u64) -> Option<u64> {
    let mut registers: Vec<u64> = vec![0xdead_beef_0bad_f00d; 4096];
    let mut memory: BTreeMap<u64, u64> = BTreeMap::new();
    registers[1] = input;
    registers[10] = 1 << 40;
    let labels: BTreeMap<Label, usize> = code
        .iter()
        .enumerate()
        .filter_map(|(i, (insn, _))| if let Insn::Label(l) = insn { Some((*l, i)) } else { None })
        .collect();
    let (mut at, mut calls) = (0, 0u64);
    for _ in 0..200_000 {
        let (insn, arguments) = &code[at];
        at += 1;
        let value = |registers: &[u64], o: &Operand<R>| match o {
            Operand::Reg(r) => registers[(*r).into()],
            Operand::Imm(i) => i64::from(*i).cast_unsigned(),
        };
        match insn {
            Insn::Alu { op, dst, src, .. } => {
                let (a, b) = (registers[(*dst).into()], value(&registers, src));
                registers[(*dst).into()] = match op {
                    AluOp::Mov => b,
                    AluOp::Add => a.wrapping_add(b),
                    AluOp::Sub => a.wrapping_sub(b),
                    AluOp::Mul => a.wrapping_mul(b),
                    AluOp::Xor => a ^ b,
                    other => panic!("{other:?} is not generated"),
                };
            }
            Insn::LoadImm64 { dst, value } => match value {
                crate::bpf::Imm64::Value(v) => registers[(*dst).into()] = *v,
                other => panic!("{other:?} is not generated"),
            },
            Insn::Load { dst, base, offset, .. } => {
                let address = registers[(*base).into()].wrapping_add_signed(i64::from(*offset));
                registers[(*dst).into()] = memory.get(&address).copied().unwrap_or(7);
            }
            Insn::Store { base, offset, src, .. } => {
                let address = registers[(*base).into()].wrapping_add_signed(i64::from(*offset));
                memory.insert(address, value(&registers, src));
            }
            Insn::Label(_) => {}
            Insn::Goto { target } => at = labels[target],
            Insn::Jump { cond, left, right, target, .. } => {
                let (a, b) = (registers[(*left).into()], value(&registers, right));
                let taken = match cond {
                    Cond::Lt => a < b,
                    Cond::Set => a & b != 0,
                    other => panic!("{other:?} is not generated"),
                };
                if taken {
                    at = labels[target];
                }
            }
            Insn::Call { .. } => {
                calls += 1;
                let sum = (1..=usize::from(*arguments)).fold(calls, |s, r| s.wrapping_mul(31) ^ registers[r]);
                registers[0] = sum;
                registers[1..=5].fill(0xbad0_0000 + calls);
            }
            Insn::Exit => return Some(registers[0]),
            other => panic!("{other:?} is not generated"),
        }
    }
    None
}

impl From<VReg> for usize {
    fn from(register: VReg) -> Self {
        register.index()
    }
}

impl From<Reg> for usize {
    fn from(register: Reg) -> Self {
        usize::from(register.0)
    }
}

/// One statement of a random function over a few variables.
#[derive(Debug, Clone)]
enum Statement {
    Set(usize, i64),
    Copy(usize, usize),
    Add(usize, usize),
    Mix(usize, usize),
    Call(Vec<usize>, usize),
    Memory(usize, usize),
    Skip(usize, Vec<Statement>),
    Loop(u8, Vec<Statement>),
}

const VARIABLES: usize = 16;

fn statement() -> impl Strategy<Value = Statement> {
    let v = 0..VARIABLES;
    let leaf = prop_oneof![
        (v.clone(), any::<i64>()).prop_map(|(a, c)| Statement::Set(a, c)),
        (v.clone(), -5i64..5).prop_map(|(a, c)| Statement::Set(a, c)),
        (v.clone(), v.clone()).prop_map(|(a, b)| Statement::Copy(a, b)),
        (v.clone(), v.clone()).prop_map(|(a, b)| Statement::Add(a, b)),
        (v.clone(), v.clone()).prop_map(|(a, b)| Statement::Mix(a, b)),
        (prop::collection::vec(v.clone(), 4), v.clone()).prop_map(|(a, r)| Statement::Call(a, r)),
        (v.clone(), v.clone()).prop_map(|(a, b)| Statement::Memory(a, b)),
    ];
    leaf.prop_recursive(3, 40, 8, move |inner| {
        prop_oneof![
            (0..VARIABLES, prop::collection::vec(inner.clone(), 1..8))
                .prop_map(|(a, body)| Statement::Skip(a, body)),
            (1u8..4, prop::collection::vec(inner, 1..8)).prop_map(|(n, body)| Statement::Loop(n, body)),
        ]
    })
}

fn emit(b: &mut Builder, variables: &[VReg], statement: &Statement) {
    match statement {
        Statement::Set(a, c) => b.set(variables[*a], *c),
        Statement::Copy(a, c) => b.mov(variables[*a], variables[*c]),
        Statement::Add(a, c) => b.add(variables[*a], variables[*c]),
        Statement::Mix(a, c) => {
            let t = b.compute(AluOp::Mul, variables[*a], 31);
            b.xor(t, variables[*c]);
            b.mov(variables[*a], t);
        }
        Statement::Call(arguments, result) => {
            let arguments: Vec<VReg> = arguments.iter().map(|a| variables[*a]).collect();
            let r = b.call(Helper::MapUpdate, &arguments);
            b.mov(variables[*result], r);
        }
        Statement::Memory(a, c) => {
            let slot = b.stack_slot(8);
            b.stack_store(Size::DW, slot, 0, variables[*a]);
            let back = b.stack_load(Size::DW, slot, 0);
            b.add(variables[*c], back);
        }
        Statement::Skip(a, body) => {
            let over = b.label();
            b.jump(Cond::Set, variables[*a], 1, over);
            body.iter().for_each(|s| emit(b, variables, s));
            b.bind(over);
        }
        Statement::Loop(times, body) => {
            let counter = b.constant(0);
            let top = b.here();
            body.iter().for_each(|s| emit(b, variables, s));
            b.add(counter, 1);
            b.jump(Cond::Lt, counter, i32::from(*times), top);
        }
    }
}

fn build(body: &[Statement]) -> Builder {
    let mut b = Builder::new("f", ".text", &[Parameter::Scalar]);
    let input = b.parameter(0);
    let variables: Vec<VReg> =
        (0..VARIABLES).map(|i| b.compute(AluOp::Add, input, i32::try_from(i).unwrap())).collect();
    body.iter().for_each(|s| emit(&mut b, &variables, s));
    let sum = b.constant(0);
    for &variable in &variables {
        b.mul(sum, 31);
        b.add(sum, variable);
    }
    b.ret(sum);
    b
}

fn with_arguments<R: Clone>(code: &[Insn<R>]) -> Vec<(Insn<R>, u8)> {
    code.iter().map(|i| (i.clone(), 4)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn allocated_code_computes_what_virtual_code_computes(
        body in prop::collection::vec(statement(), 1..25), input in any::<u64>(),
    ) {
        let b = build(&body);
        let virtual_code: Vec<_> =
            b.code().steps.iter().map(|s| (s.insn.clone(), s.arguments)).collect();
        // Nested loops of calls may run long; what matters is that both runs agree.
        let expected = run(&virtual_code, input);
        prop_assume!(expected.is_some());
        match b.finish(FrameLimit::Leaf) {
            Ok(function) => {
                prop_assert_eq!(run(&with_arguments(&function.code), input), expected);
            }
            Err(LowerError::FrameTooLarge { .. }) => {}
            Err(other) => prop_assert!(false, "{}", other),
        }
    }
}

#[test]
fn moves_to_arguments_and_from_results_vanish() {
    let mut b = Builder::new("f", "xdp", &[Parameter::Context]);
    let map = b.map("m");
    let key = b.stack_slot(4);
    b.stack_store(Size::W, key, 0, 0);
    let key = b.stack_address(key);
    let value = b.call(Helper::MapLookup, &[map, key]);
    let miss = b.label();
    b.jump(Cond::Eq, value, 0, miss);
    let x = b.load(Size::DW, value, 8);
    b.ret(x);
    b.bind(miss);
    b.ret(2);
    let function = b.finish(FrameLimit::Leaf).unwrap();
    let copies = function
        .code
        .iter()
        .filter(|i| matches!(i, Insn::Alu { op: AluOp::Mov, src: Operand::Reg(r), .. } if *r != Reg::FP))
        .count();
    assert_eq!(copies, 0, "{:#?}", function.code);
    assert_eq!(function.line_of.len(), function.code.len());
}

#[test]
fn constants_are_computed_again_rather_than_spilled() {
    let mut b = Builder::new("f", "xdp", &[]);
    let constants: Vec<VReg> = (0..9).map(|i| b.constant(i64::from(u32::MAX) + i)).collect();
    let input = b.call(Helper::KtimeGetNs, &[]);
    for &c in &constants {
        b.call(Helper::KtimeGetNs, &[]);
        b.xor(input, c);
    }
    b.ret(input);
    let function = b.finish(FrameLimit::Leaf).unwrap();
    let touches_stack =
        |i: &Insn<Reg>| matches!(i, Insn::Store { base: Reg::FP, .. } | Insn::Load { base: Reg::FP, .. });
    assert!(!function.code.iter().any(touches_stack), "{:#?}", function.code);
}

#[test]
fn a_frame_over_the_limit_is_refused() {
    let mut b = Builder::new("f", "xdp", &[]);
    let slot = b.stack_slot(256);
    b.stack_store(Size::DW, slot, 0, 1);
    b.ret(0);
    assert_eq!(
        b.clone().finish(FrameLimit::ReachesTailCall),
        Err(LowerError::FrameTooLarge { function: "f".to_owned(), bytes: 256, limit: 224 })
    );
    assert!(b.finish(FrameLimit::Calls).is_ok());
}

#[test]
fn a_register_without_a_value_is_refused() {
    let mut b = Builder::new("f", "xdp", &[]);
    let nothing = b.fresh();
    b.ret(nothing);
    assert!(matches!(b.finish(FrameLimit::Leaf), Err(LowerError::UseBeforeDefinition { .. })));
}

#[test]
fn code_that_falls_off_the_end_is_refused() {
    let mut b = Builder::new("f", "xdp", &[]);
    b.constant(1);
    assert!(matches!(b.finish(FrameLimit::Leaf), Err(LowerError::BrokenFlow { .. })));
}

#[test]
fn unreachable_code_is_left_out() {
    let mut b = Builder::new("f", "xdp", &[]);
    b.ret(1);
    let lost = b.here();
    b.ret(2);
    let _ = lost;
    let function = b.finish(FrameLimit::Leaf).unwrap();
    assert_eq!(function.code.len(), 2);
}

/// Exchanging any two registers of one instruction, or dropping one, must not escape the checker.
#[test]
fn the_checker_finds_every_wrong_register() {
    let body = [
        Statement::Call(vec![0, 1, 2, 3], 4),
        Statement::Loop(2, vec![Statement::Add(4, 5), Statement::Mix(6, 4)]),
        Statement::Skip(4, vec![Statement::Call(vec![6, 6, 4, 5], 7)]),
    ];
    let code = build(&body).code().clone();
    let original = flow::prepare(&code).unwrap();
    let (mut current, mut frame, mut registers) =
        (original.clone(), spill::Frame::new(code.stack), code.registers);
    let mut unspillable = BTreeSet::new();
    let placed = loop {
        let flow = Flow::new("f", &current).unwrap();
        match graph::colour(&current, &flow, registers, &unspillable) {
            Ok(colours) => break place(current, &colours),
            Err(victims) => {
                let rewritten = spill::rewrite(&current, &flow, &victims, &mut frame, &mut registers);
                unspillable.extend(rewritten.temporaries);
                current = rewritten.steps;
            }
        }
    };
    checker::check("f", &original, &placed).unwrap();
    let mut damaged_count = 0;
    for index in 0..placed.len() {
        let mut uses = Vec::new();
        rename(&placed[index].insn, |r, role| uses.push((r, role)));
        for (position, (register, role)) in uses.into_iter().enumerate() {
            if !role.reads() || register == Reg::FP {
                continue;
            }
            let mut damaged = placed.clone();
            let mut count = 0;
            damaged[index].vanished = false;
            damaged[index].insn = rename(&placed[index].insn, |r, _| {
                count += 1;
                if count - 1 == position { Reg((r.0 + 1) % 10) } else { r }
            });
            // A register that happens to hold the same value is no damage.
            if checker::check("f", &original, &damaged).is_err() {
                damaged_count += 1;
            } else {
                let renamed: Vec<_> =
                    damaged.iter().filter(|p| !p.vanished).map(|p| (p.insn.clone(), 4)).collect();
                let clean: Vec<_> = placed.iter().map(|p| (p.insn.clone(), 4)).collect();
                assert_eq!(run(&renamed, 99), run(&clean, 99), "at {index}");
            }
        }
    }
    assert!(damaged_count > 40, "only {damaged_count} found");
}

#[test]
fn width_of_copies_matters() {
    let mut b = Builder::new("f", "xdp", &[Parameter::Scalar]);
    let x = b.parameter(0);
    let low = b.fresh();
    b.alu(Width::W32, AluOp::Mov, low, x);
    b.ret(low);
    let function = b.finish(FrameLimit::Leaf).unwrap();
    let truncations =
        function.code.iter().filter(|i| matches!(i, Insn::Alu { width: Width::W32, .. })).count();
    assert_eq!(truncations, 1, "a truncation is no copy");
}
