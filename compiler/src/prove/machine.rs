//! Executes the functions of a network on terms: registers, frame, helpers and jumps.
//!
//! Control flow is concrete. A jump whose outcome depends on data ends the proof, but for the one behind the look-up of
//! scratch, whose other side may only return without a verdict.

use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;

use super::jumps::{decided, ends, holds, refuses};
use super::sum::Sum;
use super::term::{Id, Node, Reason, ones};
use super::world::World;
use crate::bpf::limits::STACK_BYTES;
use crate::bpf::module::{Function, MapKind, Module};
use crate::bpf::{AluOp, Cond, Helper, Imm64, Insn, Label, Operand, Reg, Size, Width};
use crate::lower::network::{MAX_STAGES, PROGRAMS, Weights};
use crate::lower::scratch::{MAP, bytes_of};
use crate::params::layout::{CONSTANTS_SECTION, SECTION};

/// What a register or a word of the frame holds.
#[derive(Debug, Clone)]
enum Value {
    /// Nothing that may be read.
    Nothing,
    Number(Rc<Sum>),
    Pointer {
        region: Region,
        offset: Rc<Sum>,
    },
    /// What the look-up of scratch gave, before it was compared with zero.
    Found,
    Map(Map),
}

/// What pointers point into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Region {
    Context,
    /// Counted from the frame pointer.
    Frame,
    Scratch,
    /// Both slots, or the constants.
    Parameters,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Map {
    Scratch,
    Programs,
}

/// Where a function leads.
enum Next {
    /// The next instruction.
    Step,
    Jump(Label),
    /// The program of this number.
    Program(u64),
    Return,
}

/// Registers, frame and the world around them.
pub(super) struct Machine<'a> {
    module: &'a Module,
    pub(super) world: World<'a>,
    registers: [Value; REGISTERS],
    /// By the distance from the frame pointer.
    frame: BTreeMap<i64, (Size, Value)>,
    /// Instructions so far.
    pub(super) instructions: u64,
    pub(super) functions: usize,
    /// Position in the function.
    pub(super) at: usize,
}

const REGISTERS: usize = 11;
/// Number of the frame pointer.
const FP: u8 = 10;

impl<'a> Machine<'a> {
    pub(super) const fn new(module: &'a Module, world: World<'a>) -> Self {
        Self {
            module,
            world,
            registers: [const { Value::Nothing }; REGISTERS],
            frame: BTreeMap::new(),
            instructions: 0,
            functions: 0,
            at: 0,
        }
    }

    /// Runs the first function and the programs that follow it; `name` is that of the last one that was entered.
    pub(super) fn run(&mut self, first: &'a Function, name: &mut String) -> Result<(), Reason> {
        let mut function = first;
        loop {
            name.clone_from(&function.name);
            self.at = 0;
            self.enter(self.functions == 0);
            self.functions += 1;
            match self.function(&function.code)? {
                None => return self.world.finish(),
                Some(number) => function = self.program(number)?,
            }
            if self.functions > MAX_STAGES + 1 {
                return Err("chains more programs than the kernel takes".to_owned());
            }
        }
    }

    /// A program's first state.
    fn enter(&mut self, first: bool) {
        self.registers = [const { Value::Nothing }; REGISTERS];
        self.frame.clear();
        let start = Rc::new(Sum::constant(0));
        self.set(Reg(FP), Value::Pointer { region: Region::Frame, offset: Rc::clone(&start) });
        self.set(Reg::R1, Value::Pointer { region: Region::Context, offset: start });
        if first && self.world.weights == Weights::Map {
            let active = self.world.terms.intern(Node::Active);
            self.set(Reg::R2, Value::Number(Rc::new(Sum::of(active))));
        }
    }

    /// The program behind a number of the program array.
    fn program(&self, number: u64) -> Result<&'a Function, Reason> {
        let missing = || format!("calls program {number}, which is not there");
        let mut arrays = self.module.maps.iter().filter(|map| map.name == PROGRAMS);
        let (Some(array), None) = (arrays.next(), arrays.next()) else { return Err(missing()) };
        let number = u32::try_from(number).map_err(|_| missing())?;
        let mut named = array.programs.iter().filter(|(at, _)| *at == number);
        let (Some((_, name)), None) = (named.next(), named.next()) else { return Err(missing()) };
        let mut programs = self.module.programs.iter().filter(|program| program.name == *name);
        let (Some(program), None) = (programs.next(), programs.next()) else { return Err(missing()) };
        if array.kind != MapKind::ProgArray || number >= array.max_entries {
            return Err(missing());
        }
        Ok(program)
    }

    /// Runs to the end; gives the number of the program that follows.
    fn function(&mut self, code: &[Insn<Reg>]) -> Result<Option<u64>, Reason> {
        let mut labels = HashMap::new();
        for (at, insn) in code.iter().enumerate() {
            if let Insn::Label(label) = insn
                && labels.insert(*label, at).is_some()
            {
                return Err("has a label in two places".to_owned());
            }
        }
        let mut at = 0;
        loop {
            self.at = at;
            let insn = code.get(at).ok_or("runs off its end")?;
            self.world.terms.spend(1)?;
            if !matches!(insn, Insn::Label(_)) {
                self.instructions += 1;
            }
            match self.step(insn, code, &labels)? {
                Next::Step => at += 1,
                Next::Jump(label) => at = *labels.get(&label).ok_or("jumps to a label that is not there")?,
                Next::Program(number) => return ends(code).map(|()| Some(number)),
                Next::Return => return ends(code).map(|()| None),
            }
        }
    }

    fn step(
        &mut self,
        insn: &Insn<Reg>,
        code: &[Insn<Reg>],
        labels: &HashMap<Label, usize>,
    ) -> Result<Next, Reason> {
        match insn {
            Insn::Alu { width, op, dst, src } => self.alu(*width, *op, *dst, *src)?,
            Insn::Neg { width, dst } => {
                let mut value = self.take_number(*dst)?;
                Rc::make_mut(&mut value).scale(u64::MAX);
                self.put_number(*width, *dst, value)?;
            }
            Insn::LoadImm64 { dst, value } => {
                let value = self.immediate(value)?;
                self.write(*dst, value)?;
            }
            Insn::Load { size, dst, base, offset } => {
                let value = self.load(*size, *base, *offset)?;
                self.write(*dst, value)?;
            }
            Insn::Store { size, base, offset, src } => self.store(*size, *base, *offset, *src)?,
            Insn::Label(_) => {}
            Insn::Goto { target } => return Ok(Next::Jump(*target)),
            Insn::Jump { width, cond, left, right, target } => {
                if self.jumps(*width, *cond, (*left, *right), (code, labels, *target))? {
                    return Ok(Next::Jump(*target));
                }
            }
            Insn::Call { helper: Helper::MapLookup } => self.look_up()?,
            Insn::Call { helper: Helper::TailCall } => {
                if !refuses(code, labels, self.at + 1) {
                    return Err("goes on where the next program is not there".to_owned());
                }
                return self.tail_call().map(Next::Program);
            }
            Insn::Call { helper } => return Err(format!("calls {}", helper.name())),
            Insn::CallFunction { function } => return Err(format!("calls {function}")),
            Insn::ToBigEndian { .. } => return Err("changes the order of bytes".to_owned()),
            Insn::Atomic { .. } => return Err("changes memory that others share".to_owned()),
            Insn::Exit => {
                let result = self.number(Reg::R0)?;
                return match result.as_constant() {
                    Some(0) => Ok(Next::Return),
                    _ => Err("returns another number than 0 with a verdict".to_owned()),
                };
            }
        }
        Ok(Next::Step)
    }

    fn immediate(&self, value: &Imm64) -> Result<Value, Reason> {
        let parameters = match self.world.weights {
            Weights::Map => SECTION,
            Weights::Const => CONSTANTS_SECTION,
        };
        match value {
            Imm64::Value(value) => Ok(number(*value)),
            Imm64::Map(map) if map == MAP => Ok(Value::Map(Map::Scratch)),
            Imm64::Map(map) if map == PROGRAMS => Ok(Value::Map(Map::Programs)),
            Imm64::MapValue { map, offset } if map == parameters => Ok(Value::Pointer {
                region: Region::Parameters,
                offset: Rc::new(Sum::constant(u64::from(*offset))),
            }),
            Imm64::Map(map) | Imm64::MapValue { map, .. } => Err(format!("uses {map}")),
        }
    }

    fn get(&self, register: Reg) -> &Value {
        self.registers.get(usize::from(register.0)).unwrap_or(&Value::Nothing)
    }

    fn set(&mut self, register: Reg, value: Value) {
        if let Some(place) = self.registers.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }

    /// Writes a register that code may write.
    fn write(&mut self, register: Reg, value: Value) -> Result<(), Reason> {
        if register.0 >= FP {
            return Err("writes the frame pointer".to_owned());
        }
        self.set(register, value);
        Ok(())
    }

    fn number(&self, register: Reg) -> Result<Rc<Sum>, Reason> {
        match self.get(register) {
            Value::Number(sum) => Ok(Rc::clone(sum)),
            Value::Nothing => Err(format!("reads r{} before it has a value", register.0)),
            Value::Pointer { .. } | Value::Found | Value::Map(_) => {
                Err(format!("takes the pointer in r{} for a number", register.0))
            }
        }
    }

    /// The number in a register that is about to be overwritten.
    fn take_number(&mut self, register: Reg) -> Result<Rc<Sum>, Reason> {
        let sum = self.number(register)?;
        self.write(register, Value::Nothing)?;
        Ok(sum)
    }

    /// Writes a result of an operation of this width.
    fn put_number(&mut self, width: Width, register: Reg, value: Rc<Sum>) -> Result<(), Reason> {
        let value = match width {
            Width::W64 => value,
            Width::W32 => {
                self.world.terms.spend(value.terms().len())?;
                let id = self.world.terms.close(&value);
                let low = self.low(id);
                Rc::new(self.world.terms.open(low))
            }
        };
        self.set(register, Value::Number(value));
        Ok(())
    }

    /// The low half.
    fn low(&mut self, id: Id) -> Id {
        let mask = self.world.terms.constant(ones(Size::W));
        self.world.terms.and(id, mask)
    }

    fn operand(&self, operand: Operand<Reg>) -> Result<Value, Reason> {
        match operand {
            Operand::Imm(value) => Ok(number(i64::from(value).cast_unsigned())),
            Operand::Reg(register) => {
                let value = self.get(register).clone();
                if matches!(value, Value::Nothing) {
                    return Err(format!("reads r{} before it has a value", register.0));
                }
                Ok(value)
            }
        }
    }

    fn alu(&mut self, width: Width, op: AluOp, dst: Reg, src: Operand<Reg>) -> Result<(), Reason> {
        let source = self.operand(src)?;
        if op == AluOp::Mov {
            return match (width, source) {
                (Width::W64, source) => self.write(dst, source),
                (Width::W32, Value::Number(sum)) => {
                    self.write(dst, Value::Nothing)?;
                    self.put_number(Width::W32, dst, sum)
                }
                (Width::W32, _) => Err("cuts a pointer".to_owned()),
            };
        }
        let right = match source {
            Value::Number(right) => right,
            Value::Pointer { region, offset } => return self.add_pointer(width, op, dst, (region, &offset)),
            Value::Nothing | Value::Found | Value::Map(_) => {
                return Err("computes with what is no number".to_owned());
            }
        };
        if let Value::Pointer { region, offset } = self.get(dst) {
            let (region, mut offset) = (*region, Rc::clone(offset));
            let factor = match (width, op) {
                (Width::W64, AluOp::Add) => 1,
                (Width::W64, AluOp::Sub) => u64::MAX,
                (_, _) => return Err("computes with a pointer".to_owned()),
            };
            self.write(dst, Value::Nothing)?;
            self.world.terms.spend(right.terms().len())?;
            Rc::make_mut(&mut offset).add(&right, factor);
            self.set(dst, Value::Pointer { region, offset });
            return Ok(());
        }
        // With nobody else holding it, the sum grows where it is.
        let mut left = self.take_number(dst)?;
        let shared = if Rc::strong_count(&left) > 1 { left.terms().len() } else { 0 };
        self.world.terms.spend(shared + right.terms().len())?;
        match op {
            AluOp::Add => Rc::make_mut(&mut left).add(&right, 1),
            AluOp::Sub => Rc::make_mut(&mut left).add(&right, u64::MAX),
            AluOp::Mul => {
                self.world.terms.spend(left.terms().len())?;
                left = Rc::new(self.world.terms.product(&left, &right));
            }
            AluOp::Lsh | AluOp::Rsh | AluOp::Arsh => left = self.shift(width, op, &left, &right)?,
            AluOp::And | AluOp::Or | AluOp::Xor => {
                self.world.terms.spend(left.terms().len() + right.terms().len())?;
                let terms = &mut self.world.terms;
                let (a, b) = (terms.close(&left), terms.close(&right));
                let result = if op == AluOp::And {
                    terms.and(a, b)
                } else if op == AluOp::Or {
                    terms.or(a, b)
                } else {
                    terms.xor(a, b)
                };
                left = Rc::new(terms.open(result));
            }
            AluOp::Div | AluOp::Mod | AluOp::Mov => return Err("divides".to_owned()),
        }
        self.put_number(width, dst, left)
    }

    /// `dst += pointer`, with a number in `dst`.
    fn add_pointer(
        &mut self,
        width: Width,
        op: AluOp,
        dst: Reg,
        (region, offset): (Region, &Rc<Sum>),
    ) -> Result<(), Reason> {
        if width != Width::W64 || op != AluOp::Add {
            return Err("computes with a pointer".to_owned());
        }
        let mut sum = self.take_number(dst)?;
        self.world.terms.spend(sum.terms().len() + offset.terms().len())?;
        Rc::make_mut(&mut sum).add(offset, 1);
        self.set(dst, Value::Pointer { region, offset: sum });
        Ok(())
    }

    fn shift(&mut self, width: Width, op: AluOp, left: &Rc<Sum>, right: &Sum) -> Result<Rc<Sum>, Reason> {
        self.world.terms.spend(left.terms().len())?;
        let terms = &mut self.world.terms;
        let most = if width == Width::W64 { 63 } else { 31 };
        let Some(count) = right.as_constant() else {
            let (a, count) = (terms.close(left), terms.close(right));
            if (width, op) != (Width::W64, AluOp::Arsh) {
                return Err("shifts by a number that depends on data".to_owned());
            }
            let result = terms.sar_by(a, count);
            return Ok(Rc::new(terms.open(result)));
        };
        let count = u32::try_from(count & most).unwrap_or(0);
        if op == AluOp::Lsh {
            let mut left = Rc::clone(left);
            Rc::make_mut(&mut left).scale(1 << count);
            return Ok(left);
        }
        let a = terms.close(left);
        let result = match (width, op) {
            (Width::W64, AluOp::Rsh) => terms.shr(a, count),
            (Width::W64, _) => terms.sar(a, count),
            (Width::W32, AluOp::Rsh) => {
                let mask = terms.constant(ones(Size::W));
                let low = terms.and(a, mask);
                terms.shr(low, count)
            }
            (Width::W32, _) => {
                let high = terms.shl(a, 32);
                terms.sar(high, 32 + count)
            }
        };
        Ok(Rc::new(terms.open(result)))
    }

    /// Region and offset of an access.
    fn place(&mut self, base: Reg, offset: i16) -> Result<(Region, Sum), Reason> {
        match self.get(base) {
            Value::Pointer { region, offset: start } => {
                let (region, mut at) = (*region, Sum::clone(start));
                self.world.terms.spend(at.terms().len())?;
                at.add_constant(i64::from(offset).cast_unsigned());
                Ok((region, at))
            }
            Value::Found => Err("uses what a look-up gave before it is compared with zero".to_owned()),
            Value::Nothing | Value::Number(_) | Value::Map(_) => {
                Err(format!("uses r{}, which is no pointer, as one", base.0))
            }
        }
    }

    fn load(&mut self, size: Size, base: Reg, offset: i16) -> Result<Value, Reason> {
        let (region, at) = self.place(base, offset)?;
        let id = match region {
            Region::Context => return Err("reads the context".to_owned()),
            Region::Frame => {
                let at = in_frame(&at, size)?;
                return match self.frame.get(&at) {
                    Some((known, value)) if *known == size => Ok(value.clone()),
                    _ => Err("reads its frame where nothing of that width was written".to_owned()),
                };
            }
            Region::Scratch => self.world.load(&at, size)?,
            Region::Parameters => self.world.load_parameter(&at, size)?,
        };
        Ok(Value::Number(Rc::new(self.world.terms.open(id))))
    }

    fn store(&mut self, size: Size, base: Reg, offset: i16, src: Operand<Reg>) -> Result<(), Reason> {
        let (region, at) = self.place(base, offset)?;
        let value = self.operand(src)?;
        match region {
            Region::Context => Err("writes the context".to_owned()),
            Region::Parameters => Err("writes parameters".to_owned()),
            Region::Scratch => {
                let Value::Number(sum) = value else { return Err("stores a pointer to scratch".to_owned()) };
                let at = at.as_constant().ok_or("writes scratch at a place that depends on data")?;
                self.world.terms.spend(sum.terms().len())?;
                self.world.store(at, size, &sum)
            }
            Region::Frame => {
                let at = in_frame(&at, size)?;
                let value = match (size, value) {
                    (Size::DW, value) => value,
                    (_, Value::Number(sum)) => {
                        let id = self.world.terms.close(&sum);
                        let mask = self.world.terms.constant(ones(size));
                        let low = self.world.terms.and(id, mask);
                        Value::Number(Rc::new(self.world.terms.open(low)))
                    }
                    (_, _) => return Err("cuts a pointer".to_owned()),
                };
                let overlapping: Vec<i64> = self
                    .frame
                    .range(at - 7..at + i64::from(bytes_of(size)))
                    .filter(|(start, (known, _))| **start + i64::from(bytes_of(*known)) > at)
                    .map(|(start, _)| *start)
                    .collect();
                for start in overlapping {
                    self.frame.remove(&start);
                }
                self.frame.insert(at, (size, value));
                Ok(())
            }
        }
    }

    /// Whether a jump is taken.
    fn jumps(
        &mut self,
        width: Width,
        cond: Cond,
        (left, right): (Reg, Operand<Reg>),
        (code, labels, target): (&[Insn<Reg>], &HashMap<Label, usize>, Label),
    ) -> Result<bool, Reason> {
        let other = self.operand(right)?;
        if matches!(self.get(left), Value::Found) {
            let zero = matches!(&other, Value::Number(sum) if sum.as_constant() == Some(0));
            let taken = cond == Cond::Ne;
            if !taken && cond != Cond::Eq {
                return Err("compares what a look-up gave otherwise than with zero".to_owned());
            }
            let target = labels.get(&target).copied().unwrap_or(code.len());
            let refusal = if taken { self.at + 1 } else { target };
            if width != Width::W64 || !zero || !refuses(code, labels, refusal) {
                return Err("goes on where there is no scratch".to_owned());
            }
            self.found();
            return Ok(taken);
        }
        let left = self.number(left)?;
        let Value::Number(right) = other else { return Err("compares with a pointer".to_owned()) };
        if let (Some(a), Some(b)) = (left.as_constant(), right.as_constant()) {
            return Ok(holds(width, cond, a, b));
        }
        self.world.terms.spend(left.terms().len() + right.terms().len())?;
        let terms = &mut self.world.terms;
        let (a, b) = (terms.close(&left), terms.close(&right));
        let known = if let (Some(a), Some(b)) = (terms.as_constant(a), terms.as_constant(b)) {
            Some(holds(width, cond, a, b))
        } else if width == Width::W64 {
            decided(cond, terms.facts(a).range, terms.facts(b).range)
        } else {
            None
        };
        known.ok_or_else(|| "jumps where data decide".to_owned())
    }

    /// The look-up found scratch.
    fn found(&mut self) {
        let values = self.registers.iter_mut().chain(self.frame.values_mut().map(|(_, value)| value));
        for value in values.filter(|value| matches!(value, Value::Found)) {
            *value = Value::Pointer { region: Region::Scratch, offset: Rc::new(Sum::constant(0)) };
        }
    }

    /// `bpf_map_lookup_elem(nn_scratch, &0)`.
    fn look_up(&mut self) -> Result<(), Reason> {
        let wrong = || "looks up something else than scratch".to_owned();
        let Value::Map(Map::Scratch) = self.get(Reg::R1) else { return Err(wrong()) };
        let Value::Pointer { region: Region::Frame, offset } = self.get(Reg::R2) else { return Err(wrong()) };
        let at = in_frame(offset, Size::W)?;
        match self.frame.get(&at) {
            Some((Size::W, Value::Number(key))) if key.as_constant() == Some(0) => {}
            _ => return Err("looks up another key than 0".to_owned()),
        }
        self.clobber();
        self.set(Reg::R0, Value::Found);
        Ok(())
    }

    /// `bpf_tail_call(context, nn_progs, number)`.
    fn tail_call(&self) -> Result<u64, Reason> {
        let context = if let Value::Pointer { region: Region::Context, offset } = self.get(Reg::R1) {
            offset.as_constant() == Some(0)
        } else {
            false
        };
        let array = matches!(self.get(Reg::R2), Value::Map(Map::Programs));
        let number = self.number(Reg::R3)?;
        match number.as_constant() {
            // The kernel takes the low 32 bits.
            Some(number) if context && array => Ok(number & ones(Size::W)),
            _ => Err("calls something else than a fixed program with the context".to_owned()),
        }
    }

    /// Calls leave nothing in the registers of arguments.
    fn clobber(&mut self) {
        for register in 0..6 {
            self.set(Reg(register), Value::Nothing);
        }
    }
}

fn number(value: u64) -> Value {
    Value::Number(Rc::new(Sum::constant(value)))
}

/// The distance of an access from the frame pointer.
fn in_frame(offset: &Sum, size: Size) -> Result<i64, Reason> {
    let at = offset.as_constant().ok_or("uses its frame at a place that depends on data")?.cast_signed();
    let bytes = i64::from(bytes_of(size));
    if !(-i64::from(STACK_BYTES)..=-bytes).contains(&at) || at % bytes != 0 {
        return Err("uses memory outside of its frame".to_owned());
    }
    Ok(at)
}
