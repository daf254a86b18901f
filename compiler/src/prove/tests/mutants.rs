//! Damaged code: whatever gives another output for any input must be refused.

use super::networks::ways;
use crate::bpf::module::{Function, Module};
use crate::bpf::{AluOp, Cond, Imm64, Insn, Label, Operand, Reg, Size, Width};
use crate::check::check;
use crate::ir::{Lanes, Network, Post, Rule, interpret};
use crate::lower::evaluation::{ENTRY, INPUTS, JUDGED, OUTPUTS, unchecked_module};
use crate::lower::network::{FUNCTION, Options, Weights, pruned};
use crate::lower::testing::{Random, Shape, Trees, divided, forest, gated, network, rescaled, rows};
use crate::prove::network as prove;
use crate::vm::Vm;

/// Mutants of each module, and rows that a mutant which is proved has to judge.
const MUTANTS: usize = 150;
const ROWS: usize = 1500;

const SIZES: [Size; 4] = [Size::B, Size::H, Size::W, Size::DW];
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

pub(super) fn one_of<T: Copy>(random: &mut Random, all: &[T]) -> T {
    all[(random.next() % all.len() as u64) as usize]
}

fn register(random: &mut Random, register: &mut Reg) {
    *register = Reg((random.next() % 10) as u8);
}

fn operand(random: &mut Random, operand: &mut Operand<Reg>) {
    match operand {
        Operand::Reg(reg) => register(random, reg),
        Operand::Imm(value) => match random.next() % 3 {
            0 => *value = value.wrapping_add(1),
            1 => *value = value.wrapping_sub(1),
            _ => *value ^= 1 << (random.next() % 32),
        },
    }
}

fn distance(random: &mut Random, offset: &mut i16) {
    *offset = match random.next() % 3 {
        0 => offset.wrapping_add(8),
        1 => offset.wrapping_sub(8),
        _ => *offset ^ 1 << (random.next() % 12),
    };
}

/// Changes one instruction; false where there is nothing to change.
fn change(random: &mut Random, insn: &mut Insn<Reg>, labels: &[Label]) -> bool {
    let choice = random.next() % 4;
    match insn {
        Insn::Alu { width, op, dst, src } => match choice {
            0 => operand(random, src),
            1 => *op = one_of(random, &OPERATIONS),
            2 => register(random, dst),
            _ => *width = if *width == Width::W64 { Width::W32 } else { Width::W64 },
        },
        Insn::Neg { dst, .. } => register(random, dst),
        Insn::LoadImm64 { dst, value } => match value {
            Imm64::Value(value) if choice > 0 => *value ^= 1 << (random.next() % 64),
            Imm64::MapValue { offset, .. } if choice > 0 => *offset ^= 8 << (random.next() % 8),
            Imm64::Value(_) | Imm64::Map(_) | Imm64::MapValue { .. } => register(random, dst),
        },
        Insn::Load { size, dst, base, offset } => match choice {
            0 => *size = one_of(random, &SIZES),
            1 => register(random, dst),
            2 => register(random, base),
            _ => distance(random, offset),
        },
        Insn::Store { size, base, offset, src } => match choice {
            0 => *size = one_of(random, &SIZES),
            1 => operand(random, src),
            2 => register(random, base),
            _ => distance(random, offset),
        },
        Insn::Goto { target } => *target = one_of(random, labels),
        Insn::Jump { cond, left, right, target, .. } => match choice {
            0 => *cond = one_of(random, &CONDITIONS),
            1 => register(random, left),
            2 => operand(random, right),
            _ => *target = one_of(random, labels),
        },
        Insn::Label(_)
        | Insn::ToBigEndian { .. }
        | Insn::Atomic { .. }
        | Insn::Call { .. }
        | Insn::CallFunction { .. }
        | Insn::Exit => return false,
    }
    true
}

/// Damages a function in one place.
pub(super) fn damage(random: &mut Random, function: &mut Function) {
    let labels: Vec<Label> = function
        .code
        .iter()
        .filter_map(|insn| if let Insn::Label(label) = insn { Some(*label) } else { None })
        .collect();
    let before = function.code.clone();
    while function.code == before {
        let at = (random.next() % function.code.len() as u64) as usize;
        match random.next() % 10 {
            0 if at + 1 < function.code.len() => {
                function.code.swap(at, at + 1);
                function.line_of.swap(at, at + 1);
            }
            1 if !matches!(function.code[at], Insn::Label(_) | Insn::Exit) => {
                function.code.remove(at);
                function.line_of.remove(at);
            }
            2 if !matches!(function.code[at], Insn::Label(_)) => {
                function.code.insert(at, function.code[at].clone());
                function.line_of.insert(at, function.line_of[at]);
            }
            _ => {
                change(random, &mut function.code[at], &labels);
            }
        }
    }
}

/// The functions of the network in a module, `nn_infer` first.
fn of_network(module: &mut Module) -> Vec<&mut Function> {
    let functions = module.functions.iter_mut().filter(|function| function.name == FUNCTION);
    let programs = module.programs.iter_mut().filter(|program| program.name.starts_with("nn_layer"));
    functions.chain(programs).collect()
}

/// Outputs, label and rules of every row; `None` when the machine gives no verdict for one.
fn judged(module: &Module, rows: &[Vec<i64>]) -> Option<Vec<Vec<u8>>> {
    let mut vm = Vm::new(module).ok()?;
    for (index, row) in (0..).zip(rows) {
        let bytes: Vec<u8> = row.iter().flat_map(|value| value.to_le_bytes()).collect();
        vm.map(INPUTS)?.at_mut(index)?.copy_from_slice(&bytes);
    }
    for _ in rows {
        let run = vm.run(ENTRY, &mut vec![0; 64], 0).ok()?;
        if run.ret != u64::from(JUDGED) {
            return None;
        }
    }
    (0..).zip(rows).map(|(index, _)| Some(vm.map(OUTPUTS)?.at(index)?.to_vec())).collect()
}

fn expected(network: &Network, row: &[i64]) -> Vec<u8> {
    let verdict = interpret::run(network, row);
    let mut bytes: Vec<u8> = verdict.outputs.iter().flat_map(|value| value.to_le_bytes()).collect();
    bytes.extend(verdict.label.unwrap_or(0).to_le_bytes());
    bytes.extend(verdict.rules.to_le_bytes());
    bytes
}

/// Networks of every kind, small enough for thousands of proofs.
pub(super) fn networks() -> Vec<(&'static str, Network)> {
    let relu = |shift| Post::Relu { shift, bits: 8 };
    let uneven = Lanes::new(&[22, 21, 21]).unwrap();
    let shape = |rows, lanes, post| Shape { rows, lanes, post };
    let raw = |rows, lanes| shape(rows, lanes, Post::Raw);
    let signed = Post::Signed { shift: 9, bits: 7 };
    let looped = |rows| shape(rows, Lanes::TWO, relu(23));
    vec![
        ("three lanes", network(1, 4, &[shape(6, Lanes::THREE, relu(9)), raw(2, Lanes::ONE)], Rule::ArgMax)),
        ("four lanes", network(2, 4, &[shape(6, Lanes::FOUR, relu(5)), raw(1, Lanes::TWO)], Rule::Positive)),
        ("uneven lanes", network(3, 3, &[shape(4, uneven, relu(11)), raw(3, uneven)], Rule::None)),
        ("signed", network(4, 3, &[shape(3, Lanes::TWO, signed), raw(2, Lanes::ONE)], Rule::ArgMax)),
        ("a loop", network(5, 70, &[looped(9), raw(2, Lanes::ONE)], Rule::ArgMax)),
        ("tables", rescaled(network(6, 3, &[raw(4, Lanes::TWO), raw(2, Lanes::ONE)], Rule::ArgMax), 2)),
        ("gates", gated(10, 3, 4, Rule::ArgMax)),
        ("outputs", divided(network(7, 3, &[raw(6, Lanes::TWO)], Rule::ArgMax), 3, &[1, 2, 3])),
        ("trees", {
            let shape = Trees { inputs: 4, trees: 6, depth: 3, outputs: 2, single: false, clamped: true };
            forest(8, shape, Rule::ArgMax)
        }),
        ("boosted trees", {
            let shape = Trees { inputs: 4, trees: 9, depth: 3, outputs: 3, single: true, clamped: false };
            forest(9, shape, Rule::Probabilities)
        }),
    ]
}

/// Where two modules differ.
fn difference(module: &Module, mutant: &Module) -> String {
    let all = |module: &Module| -> Vec<Function> {
        module.functions.iter().chain(&module.programs).cloned().collect()
    };
    let mut lines = Vec::new();
    for (one, other) in all(module).iter().zip(&all(mutant)) {
        let at = one.code.iter().zip(&other.code).position(|(one, other)| one != other);
        if let Some(at) = at {
            let part = |function: &Function| -> Vec<String> {
                function.code.iter().skip(at).take(3).map(ToString::to_string).collect()
            };
            lines.push(format!("{} {at}: {:?} for {:?}", one.name, part(other), part(one)));
        }
    }
    lines.join("; ")
}

#[test]
fn mutants_with_other_outputs_are_refused() {
    let mut random = Random(2024);
    let (mut mutants, mut equal) = (0, 0);
    for (name, full) in networks() {
        let checked = check(full.clone()).unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
        let small = pruned(&checked).into_inner();
        for options in ways() {
            let network = if options.weights == Weights::Map { &full } else { &small };
            let module = of_rows(&full, options);
            prove(&module, network, options.weights).unwrap_or_else(|mismatch| panic!("{name}: {mismatch}"));
            let rows = rows(&full, random.next(), ROWS);
            let wanted: Vec<Vec<u8>> = rows.iter().map(|row| expected(&full, row)).collect();
            assert_eq!(judged(&module, &rows).as_ref(), Some(&wanted), "{name}");
            for _ in 0..MUTANTS {
                let mut mutant = module.clone();
                let mut functions = of_network(&mut mutant);
                let chosen = (random.next() % functions.len() as u64) as usize;
                damage(&mut random, functions[chosen]);
                mutants += 1;
                if prove(&mutant, network, options.weights).is_ok() {
                    equal += 1;
                    let got = judged(&mutant, &rows);
                    let damaged = || difference(&module, &mutant);
                    assert!(got.is_some(), "{name}, {options:?}: {} gives no verdict", damaged());
                    assert!(got.as_ref() == Some(&wanted), "{name}, {options:?}: {} is proved", damaged());
                }
            }
        }
    }
    println!("{mutants} mutants: {} refused, {equal} proved and equal on {ROWS} rows", mutants - equal);
    assert!(equal * 5 < mutants, "{equal} of {mutants} mutants change nothing");
}

fn of_rows(network: &Network, options: Options) -> Module {
    unchecked_module(network, options, u32::try_from(ROWS).unwrap()).unwrap()
}
