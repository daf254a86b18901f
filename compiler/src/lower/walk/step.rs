//! What an instruction does to a state: `do_check`, `check_alu_op`, `check_cond_jmp_op`, `check_helper_call`.

use super::Code;
use super::state::{State, Store};
use super::value::{Number, Value};
use crate::bpf::module::{MapKind, Module};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Imm64, Insn, Operand, Reg, Size, Width};

/// Where a path goes.
pub(super) enum Next {
    At(usize),
    /// On at `next`; later at `there`, with the other state.
    Both {
        next: usize,
        there: usize,
        other: Box<State>,
    },
    End,
}

pub(super) struct Stepper<'a> {
    module: &'a Module,
    code: &'a Code<'a>,
    /// Offsets of the packet's start and end in the context.
    packet: [i16; 2],
}

const fn bits(size: Size) -> u32 {
    match size {
        Size::B => 8,
        Size::H => 16,
        Size::W => 32,
        Size::DW => 64,
    }
}

impl<'a> Stepper<'a> {
    pub(super) fn new(module: &'a Module, code: &'a Code<'a>) -> Self {
        let xdp = module.programs.first().is_none_or(|program| program.section.starts_with("xdp"));
        // `struct xdp_md` and `struct __sk_buff`.
        Self { module, code, packet: if xdp { [0, 4] } else { [76, 80] } }
    }

    fn map(&self, name: &str) -> usize {
        let map = self.module.maps.iter().position(|map| map.name == name);
        let data = || self.module.data.iter().position(|data| data.section == name);
        map.or_else(|| data().map(|data| self.module.maps.len() + data)).unwrap_or(usize::MAX)
    }

    pub(super) fn step(&self, insn: &Insn<Reg>, at: usize, state: &mut State, store: &mut Store) -> Next {
        match *insn {
            Insn::Label(_) => {}
            Insn::Alu { width, op, dst, src } => alu(width, op, (dst, src), state, store),
            Insn::Neg { width, dst } => {
                if let Value::Number(number) = state.get(dst) {
                    let negative = Number::constant(0).compute(width, AluOp::Sub, number);
                    state.set(dst, Value::Number(negative));
                }
            }
            Insn::ToBigEndian { bits, dst } => {
                let origins = state.get(dst).number().map_or(0, |number| number.origins);
                let swapped = Number { origins, ..Number::below(bits.into()) };
                state.set(dst, Value::Number(swapped));
            }
            Insn::LoadImm64 { dst, ref value } => {
                let value = match value {
                    Imm64::Value(value) => Value::Number(Number::constant(*value)),
                    Imm64::Map(name) => Value::Map(self.map(name)),
                    Imm64::MapValue { map, offset } => {
                        Value::Entry { map: self.map(map), offset: i64::from(*offset), varies: false }
                    }
                };
                state.set(dst, value);
            }
            Insn::Load { size, dst, base, offset } => {
                let value = self.load(size, base, offset, state, store);
                state.set(dst, value);
            }
            Insn::Store { size, base, offset, src } => stored(size, (base, offset), src, state, store),
            Insn::Atomic { size, op, src, .. } => {
                let old = Value::of_bits(bits(size));
                match op {
                    AtomicOp::Add | AtomicOp::Or | AtomicOp::And | AtomicOp::Xor => {}
                    AtomicOp::CmpXchg => state.set(Reg::R0, old),
                    AtomicOp::FetchAdd
                    | AtomicOp::FetchOr
                    | AtomicOp::FetchAnd
                    | AtomicOp::FetchXor
                    | AtomicOp::Xchg => state.set(src, old),
                }
            }
            Insn::Goto { target } => {
                state.history += 1;
                return Next::At(self.code.target(target));
            }
            Insn::Jump { width, cond, left, right, target } => {
                state.history += 1;
                return self.jump(
                    width,
                    cond,
                    (left, right),
                    (at + 1, self.code.target(target)),
                    state,
                    store,
                );
            }
            Insn::Call { helper } => self.call(helper, state, store),
            Insn::CallFunction { .. } => {
                state.history += 1;
                clobber(state);
                state.set(Reg::R0, Value::unknown());
            }
            Insn::Exit => return Next::End,
        }
        Next::At(at + 1)
    }

    fn load(&self, size: Size, base: Reg, offset: i16, state: &mut State, store: &mut Store) -> Value {
        let known = state.get(base);
        if known == Value::Context && offset == self.packet[0] {
            return Value::Packet { id: 0, offset: 0, range: 0 };
        }
        if known == Value::Context && offset == self.packet[1] {
            return Value::PacketEnd;
        }
        let Value::Stack(start) = known else { return Value::of_bits(bits(size)) };
        state.history += 1;
        let place = start + i64::from(offset);
        let Value::Number(number) = state.slot(place) else { return state.slot(place) };
        if size == Size::DW {
            // A spilled number and its copy stay one number.
            let number = linked(number, store);
            state.set_slot(place, Value::Number(number));
            return Value::Number(number);
        }
        let part = Number::below(bits(size));
        let fits = number.max <= part.max;
        Value::Number(if fits { number } else { Number { origins: number.origins, ..part } })
    }

    fn call(&self, helper: Helper, state: &mut State, store: &mut Store) {
        let result = match (helper, state.get(Reg::R1), state.get(Reg::R2)) {
            (Helper::MapLookup, Value::Map(index), key) => {
                // Since 6.14 an array is known to have the entries that it has.
                let map = self.module.maps.get(index);
                let array = map.is_some_and(|map| matches!(map.kind, MapKind::Array | MapKind::PerCpuArray));
                let key = if let Value::Stack(offset) = key { state.slot(offset).number() } else { None };
                let entries = map.map_or(0, |map| u64::from(map.max_entries));
                match key.filter(|key| array && key.value().is_some_and(|key| key < entries)) {
                    Some(key) => {
                        store.precise(state, key.origins);
                        Value::Entry { map: index, offset: 0, varies: false }
                    }
                    None => Value::Lookup { map: index, id: store.id() },
                }
            }
            _ => Value::unknown(),
        };
        clobber(state);
        state.set(Reg::R0, result);
    }

    fn jump(
        &self,
        width: Width,
        cond: Cond,
        (left, right): (Reg, Operand<Reg>),
        (next, there): (usize, usize),
        state: &mut State,
        store: &mut Store,
    ) -> Next {
        let a = state.get(left);
        let b = operand(right, state);
        if let (Value::Number(a), Value::Number(b)) = (a, b)
            && let Some(taken) = decided(width, cond, a, b)
        {
            store.precise(state, a.origins | b.origins);
            return Next::At(if taken { there } else { next });
        }
        let not_null = matches!(
            a,
            Value::Entry { .. } | Value::Context | Value::Stack(_) | Value::Map(_) | Value::Packet { .. }
        );
        if let (true, Value::Number(zero)) = (not_null, b)
            && zero.value() == Some(0)
        {
            match cond {
                Cond::Eq => return Next::At(next),
                Cond::Ne => return Next::At(there),
                Cond::Gt
                | Cond::Ge
                | Cond::Lt
                | Cond::Le
                | Cond::Set
                | Cond::Sgt
                | Cond::Sge
                | Cond::Slt
                | Cond::Sle => {}
            }
        }
        let mut other = state.clone();
        refine(width, cond, (left, right), &mut other);
        if let Some(cond) = opposite(cond) {
            refine(width, cond, (left, right), state);
        } else if let (Value::Number(a), Some(mask)) = (a, b.number().and_then(Number::value)) {
            // No common bit.
            state.learn(left, a.without(mask));
        }
        Next::Both { next, there, other: Box::new(other) }
    }
}

fn clobber(state: &mut State) {
    for number in 0..=5 {
        state.set(Reg(number), Value::Nothing);
    }
}

fn operand(operand: Operand<Reg>, state: &State) -> Value {
    match operand {
        Operand::Reg(register) => state.get(register),
        Operand::Imm(value) => Value::Number(Number::constant(i64::from(value).cast_unsigned())),
    }
}

/// A number that copies can be made of.
fn linked(number: Number, store: &mut Store) -> Number {
    if number.id == 0 && number.value().is_none() { Number { id: store.id(), ..number } } else { number }
}

fn alu(width: Width, op: AluOp, (dst, src): (Reg, Operand<Reg>), state: &mut State, store: &mut Store) {
    if let (AluOp::Mov, Width::W64, Operand::Reg(from)) = (op, width, src) {
        if let Value::Number(number) = state.get(from) {
            state.set(from, Value::Number(linked(number, store)));
        }
        state.set(dst, state.get(from));
        return;
    }
    let (left, right) = (state.get(dst), operand(src, state));
    let by = |number: Number| number.value().map(u64::cast_signed);
    let value = match (left, right) {
        (_, Value::Number(right)) if op == AluOp::Mov => {
            Value::Number(Number::constant(0).compute(width, op, right))
        }
        (Value::Number(left), Value::Number(right)) => Value::Number(left.compute(width, op, right)),
        (pointer, Value::Number(number)) | (Value::Number(number), pointer) => {
            store.precise(state, number.origins);
            let signed = by(number).map(|by| if op == AluOp::Sub { -by } else { by });
            moved(pointer, signed, store)
        }
        // The distance of two pointers.
        _ => Value::unknown(),
    };
    state.set(dst, value);
}

/// A pointer moved by a known distance, or an unknown one.
fn moved(pointer: Value, by: Option<i64>, store: &mut Store) -> Value {
    match (pointer, by) {
        (Value::Stack(offset), Some(by)) => Value::Stack(offset + by),
        (Value::Entry { map, offset, varies }, Some(by)) => Value::Entry { map, offset: offset + by, varies },
        (Value::Entry { map, offset, .. }, None) => Value::Entry { map, offset, varies: true },
        (Value::Packet { id, offset, range }, Some(by)) => Value::Packet { id, offset: offset + by, range },
        (Value::Packet { offset, .. }, None) => Value::Packet { id: store.id(), offset, range: 0 },
        (other, _) => other,
    }
}

fn stored(size: Size, (base, offset): (Reg, i16), src: Operand<Reg>, state: &mut State, store: &mut Store) {
    let Value::Stack(start) = state.get(base) else { return };
    state.history += 1;
    let place = start + i64::from(offset);
    let value = match (operand(src, state), size) {
        (Value::Number(number), Size::DW) => {
            let number = linked(number, store);
            if let Operand::Reg(register) = src {
                state.set(register, Value::Number(number));
            }
            Value::Number(number)
        }
        (pointer, Size::DW) => pointer,
        // A known number is remembered where it begins a slot.
        (Value::Number(number), _) if place % 8 == 0 && number.value().is_some() => Value::Number(number),
        _ => Value::unknown(),
    };
    state.set_slot(place, value);
}

/// Whether a comparison of numbers has one outcome.
fn decided(width: Width, cond: Cond, a: Number, b: Number) -> Option<bool> {
    let half = u64::from(u32::MAX);
    if width == Width::W32 && (a.max > half || b.max > half) {
        return None;
    }
    let always = |yes: bool, no: bool| if yes { Some(true) } else { no.then_some(false) };
    let disjoint = a.max < b.min || b.max < a.min;
    let equal = a.value().is_some() && a.value() == b.value();
    let signed = |number: Number| {
        (number.max <= i64::MAX.cast_unsigned() && width == Width::W64) || number.value().is_some()
    };
    let both = signed(a) && signed(b);
    let min = |number: Number| number.min.cast_signed();
    let max = |number: Number| number.max.cast_signed();
    match cond {
        Cond::Eq => always(equal, disjoint || b.value().is_some_and(|b| b & !a.bits != 0)),
        Cond::Ne => always(disjoint || b.value().is_some_and(|b| b & !a.bits != 0), equal),
        Cond::Gt => always(a.min > b.max, a.max <= b.min),
        Cond::Ge => always(a.min >= b.max, a.max < b.min),
        Cond::Lt => always(a.max < b.min, a.min >= b.max),
        Cond::Le => always(a.max <= b.min, a.min > b.max),
        Cond::Set => match (a.value(), b.value()) {
            (Some(a), Some(b)) => Some(a & b != 0),
            (_, Some(b)) if a.bits & b == 0 => Some(false),
            _ => None,
        },
        Cond::Sgt if both => always(min(a) > max(b), max(a) <= min(b)),
        Cond::Sge if both => always(min(a) >= max(b), max(a) < min(b)),
        Cond::Slt if both => always(max(a) < min(b), min(a) >= max(b)),
        Cond::Sle if both => always(max(a) <= min(b), min(a) > max(b)),
        Cond::Sgt | Cond::Sge | Cond::Slt | Cond::Sle => None,
    }
}

/// The condition that holds where this one does not.
fn opposite(cond: Cond) -> Option<Cond> {
    Some(match cond {
        Cond::Eq => Cond::Ne,
        Cond::Ne => Cond::Eq,
        Cond::Gt => Cond::Le,
        Cond::Ge => Cond::Lt,
        Cond::Lt => Cond::Ge,
        Cond::Le => Cond::Gt,
        Cond::Sgt => Cond::Sle,
        Cond::Sge => Cond::Slt,
        Cond::Slt => Cond::Sge,
        Cond::Sle => Cond::Sgt,
        Cond::Set => return None,
    })
}

/// What holds where a comparison is true.
fn refine(width: Width, cond: Cond, (left, right): (Reg, Operand<Reg>), state: &mut State) {
    let (a, b) = (state.get(left), operand(right, state));
    match (a, b) {
        (Value::Lookup { map, id }, Value::Number(zero)) if zero.value() == Some(0) => {
            let found = if cond == Cond::Eq {
                Value::Number(Number::constant(0))
            } else if cond == Cond::Ne {
                Value::Entry { map, offset: 0, varies: false }
            } else {
                return;
            };
            for place in state.places_mut() {
                if *place == (Value::Lookup { map, id }) {
                    *place = found;
                }
            }
        }
        (Value::Packet { id, offset, .. }, Value::PacketEnd) if matches!(cond, Cond::Le | Cond::Lt) => {
            reachable(id, offset + i64::from(cond == Cond::Lt), state);
        }
        (Value::PacketEnd, Value::Packet { id, offset, .. }) if matches!(cond, Cond::Ge | Cond::Gt) => {
            reachable(id, offset + i64::from(cond == Cond::Gt), state);
        }
        (Value::Number(a), Value::Number(b)) => {
            let half = u64::from(u32::MAX);
            if width == Width::W32 && (a.max > half || b.max > half) {
                return;
            }
            let (new_a, new_b) = match cond {
                Cond::Eq => (a.within(b.min, b.max), b.within(a.min, a.max)),
                Cond::Ne => (apart(a, b), apart(b, a)),
                Cond::Gt => {
                    (a.within(b.min.saturating_add(1), u64::MAX), b.within(0, a.max.saturating_sub(1)))
                }
                Cond::Ge => (a.within(b.min, u64::MAX), b.within(0, a.max)),
                Cond::Lt => {
                    (a.within(0, b.max.saturating_sub(1)), b.within(a.min.saturating_add(1), u64::MAX))
                }
                Cond::Le => (a.within(0, b.max), b.within(a.min, u64::MAX)),
                Cond::Set | Cond::Sgt | Cond::Sge | Cond::Slt | Cond::Sle => (a, b),
            };
            state.learn(left, new_a);
            if let Operand::Reg(register) = right {
                state.learn(register, new_b);
            }
        }
        _ => {}
    }
}

/// A number that is not the other, where that is one of its ends.
fn apart(number: Number, other: Number) -> Number {
    match other.value() {
        Some(value) if value == number.min && number.min < number.max => number.within(value + 1, u64::MAX),
        Some(value) if value == number.max && number.min < number.max => number.within(0, value - 1),
        _ => number,
    }
}

/// So many bytes behind the start of this packet pointer are there.
fn reachable(id: u32, bytes: i64, state: &mut State) {
    for place in state.places_mut() {
        if let Value::Packet { id: other, range, .. } = place
            && *other == id
        {
            *range = (*range).max(bytes);
        }
    }
}
