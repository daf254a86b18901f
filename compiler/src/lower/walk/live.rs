//! Which registers and stack slots are read again: `compute_live_registers`, and the same for the stack.

use super::Code;
use super::state::slot_at;
use super::value::Origins;
use crate::bpf::module::{Module, Type};
use crate::bpf::{AluOp, AtomicOp, Imm64, Insn, Operand, Reg, Width};
use crate::lower::code::helper_arguments;

/// Places that are alive before each instruction, a bit each.
pub(super) struct Live(Vec<Origins>);

/// What an instruction reads and overwrites.
#[derive(Debug, Clone, Copy, Default)]
struct Use {
    reads: Origins,
    kills: Origins,
}

/// Bytes behind a pointer that a helper may read, where the map does not tell.
const BUFFER: i64 = 40;

impl Live {
    pub(super) fn at(&self, position: usize) -> Origins {
        self.0.get(position).copied().unwrap_or(0)
    }

    pub(super) fn new(code: &Code<'_>, module: &Module) -> Self {
        let uses = uses(code, module);
        let mut live = vec![0; code.insns.len() + 1];
        loop {
            let mut changed = false;
            for (at, insn) in code.insns.iter().enumerate().rev() {
                let place = |at: usize| live.get(at).copied().unwrap_or(0);
                let after = match insn {
                    Insn::Exit => 0,
                    Insn::Goto { target } => place(code.target(*target)),
                    Insn::Jump { target, .. } => place(at + 1) | place(code.target(*target)),
                    Insn::Alu { .. }
                    | Insn::Neg { .. }
                    | Insn::ToBigEndian { .. }
                    | Insn::LoadImm64 { .. }
                    | Insn::Load { .. }
                    | Insn::Store { .. }
                    | Insn::Atomic { .. }
                    | Insn::Label(_)
                    | Insn::Call { .. }
                    | Insn::CallFunction { .. } => place(at + 1),
                };
                let one = uses.get(at).copied().unwrap_or_default();
                let before = (after & !one.kills) | one.reads;
                if let Some(place) = live.get_mut(at)
                    && *place != before
                {
                    *place = before;
                    changed = true;
                }
            }
            if !changed {
                return Self(live);
            }
        }
    }
}

const fn bit(register: Reg) -> Origins {
    1 << register.0
}

fn of_operand(operand: Operand<Reg>) -> Origins {
    match operand {
        Operand::Reg(register) => bit(register),
        Operand::Imm(_) => 0,
    }
}

fn slot(offset: i64) -> Origins {
    slot_at(offset).map_or(0, |slot| 1 << slot)
}

/// Registers that point into the stack, or are a map, as straight-line code sets them up before a call.
#[derive(Clone, Copy, Default)]
enum Known<'a> {
    #[default]
    Other,
    Stack(i64),
    Map(&'a str),
}

fn uses(code: &Code<'_>, module: &Module) -> Vec<Use> {
    let mut known = [Known::Other; 11];
    let reset = [Known::Other; 11];
    let mut all = Vec::with_capacity(code.insns.len());
    for (at, insn) in code.insns.iter().enumerate() {
        if code.compared.get(at).copied().unwrap_or(false) {
            known = reset;
        }
        let of = |known: &[Known<'_>; 11], register: Reg| match register {
            Reg::FP => Some(0),
            register => match known.get(usize::from(register.0)) {
                Some(Known::Stack(offset)) => Some(*offset),
                Some(Known::Map(_) | Known::Other) | None => None,
            },
        };
        let mut one = Use::default();
        let mut next = None;
        match **insn {
            Insn::Alu { width, op, dst, src } => {
                one.kills = bit(dst);
                one.reads = of_operand(src);
                if op != AluOp::Mov {
                    one.reads |= bit(dst);
                }
                let value = match (width, op, src) {
                    (Width::W64, AluOp::Mov, Operand::Reg(src)) => of(&known, src).map(Known::Stack),
                    (Width::W64, AluOp::Add, Operand::Imm(by)) => {
                        of(&known, dst).map(|offset| Known::Stack(offset + i64::from(by)))
                    }
                    _ => None,
                };
                next = Some((dst, value.unwrap_or_default()));
            }
            Insn::Neg { dst, .. } | Insn::ToBigEndian { dst, .. } => {
                one = Use { reads: bit(dst), kills: bit(dst) };
                next = Some((dst, Known::Other));
            }
            Insn::LoadImm64 { dst, ref value } => {
                one.kills = bit(dst);
                let value = match value {
                    Imm64::Map(name) => Known::Map(name.as_str()),
                    Imm64::Value(_) | Imm64::MapValue { .. } => Known::Other,
                };
                next = Some((dst, value));
            }
            Insn::Load { dst, base, offset, .. } => {
                one = Use { reads: bit(base), kills: bit(dst) };
                if let Some(start) = of(&known, base) {
                    one.reads |= slot(start + i64::from(offset));
                }
                next = Some((dst, Known::Other));
            }
            Insn::Store { size, base, offset, src } => {
                one.reads = bit(base) | of_operand(src);
                if base == Reg::FP && size == crate::bpf::Size::DW {
                    one.kills = slot(i64::from(offset));
                }
            }
            Insn::Atomic { op, base, src, .. } => {
                one.reads = bit(base) | bit(src);
                if op == AtomicOp::CmpXchg {
                    one.reads |= bit(Reg::R0);
                }
            }
            Insn::Jump { left, right, .. } => one.reads = bit(left) | of_operand(right),
            Insn::Call { helper } => {
                one.kills = 0b11_1111;
                let map = known.get(1).copied().unwrap_or_default();
                for number in 1..=helper_arguments(helper) {
                    let register = Reg(u8::try_from(number).unwrap_or(0));
                    one.reads |= bit(register);
                    if let Some(start) = of(&known, register) {
                        let bytes = argument_bytes(map, number, module).min(-start);
                        (0..bytes).step_by(8).for_each(|at| one.reads |= slot(start + at));
                    }
                }
            }
            Insn::CallFunction { ref function } => {
                one.kills = 0b11_1111;
                let callee = module.functions.iter().find(|callee| callee.name == *function);
                for number in 1..=callee.map_or(5, |callee| callee.parameters.len()) {
                    one.reads |= bit(Reg(u8::try_from(number).unwrap_or(0)));
                }
            }
            Insn::Exit => one.reads = bit(Reg::R0),
            Insn::Label(_) | Insn::Goto { .. } => {}
        }
        if let Some((register, value)) = next
            && let Some(place) = known.get_mut(usize::from(register.0))
        {
            *place = value;
        }
        all.push(one);
    }
    all
}

/// Bytes of a key or a value of a map.
fn argument_bytes(map: Known<'_>, number: usize, module: &Module) -> i64 {
    let Known::Map(name) = map else { return BUFFER };
    let Some(map) = module.maps.iter().find(|map| map.name == name) else { return BUFFER };
    let ty = match number {
        2 => &map.key,
        3 => &map.value,
        _ => return BUFFER,
    };
    ty.as_ref().map(Type::size).map_or(BUFFER, i64::from)
}
