//! One instruction under test: what prepares its operands, and what records everything that it changes.

use nnbpf_compiler::bpf::asm::{
    add, and, call, call_function, goto, jeq, jgt, label, ld_map, ld_map_value, ldx, mov, stx,
};
use nnbpf_compiler::bpf::parts::{Operands, Parts, Reference};
use nnbpf_compiler::bpf::table::{Row, Shape, Source};
use nnbpf_compiler::bpf::{AluOp, AtomicOp, Helper, Insn, Label, Reg, Size, Width};

use super::program::{CONSTANTS, CONSTANTS_BYTES, MIX, SET_WORDS, TABLE};
use super::values::Random;

/// Bytes of the frame that instructions under test may use, from the frame pointer down.
pub(super) const STACK_AREA: i16 = 32;

/// An instruction, or a chain of them, with all around it.
#[derive(Debug, Clone)]
pub struct Instance {
    /// `None` for chains.
    pub row: Option<&'static Row>,
    pub(super) before: Vec<Insn<Reg>>,
    /// What is under test.
    pub(super) tested: Vec<Insn<Reg>>,
    pub(super) after: Vec<Insn<Reg>>,
    /// Words of its results.
    pub(super) words: u32,
}

/// The registers that hold the places of operands and of results. All others are free.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bases {
    pub(super) operands: Reg,
    pub(super) results: Reg,
}

/// Writes instances one after the other.
#[derive(Debug)]
pub(super) struct Writer<'r> {
    pub(super) random: &'r mut Random,
    pub(super) bases: Bases,
    /// The next label.
    pub(super) labels: u32,
    /// Where the next result goes, in bytes from the results' base.
    pub(super) place: i16,
    before: Vec<Insn<Reg>>,
    after: Vec<Insn<Reg>>,
}

/// Memory that an instruction under test works on.
struct Memory {
    base: Reg,
    offset: i16,
    on_stack: bool,
}

impl<'r> Writer<'r> {
    pub(super) fn new(random: &'r mut Random, bases: Bases) -> Self {
        Self { random, bases, labels: 0, place: 0, before: Vec::new(), after: Vec::new() }
    }

    /// An instance of a row with random registers and constants; `None` for exits, which end every run anyway.
    pub(super) fn instance(&mut self, row: &'static Row) -> Option<Instance> {
        let start = self.place;
        let tested = self.tested(row)?;
        Some(self.finish(Some(row), vec![tested], start))
    }

    /// Ten to fifty instructions that each work on what the others leave.
    pub(super) fn chain(&mut self, rows: &[&'static Row]) -> Instance {
        let start = self.place;
        let free = self.free();
        for &reg in &free {
            self.load(reg);
        }
        let length = 10 + self.random.below(41);
        let tested = (0..length).filter_map(|_| {
            let row = self.random.pick(rows)?;
            let dst = self.random.pick(&free)?;
            let src = self.random.pick(&free)?;
            self.plain(row, dst, src)
        });
        let tested = tested.collect();
        for &reg in &free {
            self.record(reg);
        }
        self.finish(None, tested, start)
    }

    fn finish(&mut self, row: Option<&'static Row>, tested: Vec<Insn<Reg>>, start: i16) -> Instance {
        Instance {
            row,
            before: std::mem::take(&mut self.before),
            tested,
            after: std::mem::take(&mut self.after),
            words: u32::from((self.place - start).unsigned_abs()) / 8,
        }
    }

    fn tested(&mut self, row: &'static Row) -> Option<Insn<Reg>> {
        match row.shape {
            Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } | Shape::LoadImm64 => {
                let (dst, src) = (self.register(&[]), self.register(&[]));
                self.load(dst);
                if row.fields.src && src != dst {
                    self.load(src);
                }
                self.record(dst);
                self.plain(row, dst, src)
            }
            Shape::LoadMapValue => {
                let dst = self.register(&[]);
                let offset = self.random.below(u64::from(CONSTANTS_BYTES) - 7);
                self.after.push(ldx(Size::DW, dst, dst, 0));
                self.record(dst);
                Some(ld_map_value(dst, CONSTANTS, u32::try_from(offset).ok()?))
            }
            Shape::LoadMap | Shape::Call => Some(self.lookup(row.shape == Shape::LoadMap)),
            Shape::CallFunction => {
                self.load(Reg::R1);
                self.load(Reg::R2);
                self.record(Reg::R0);
                Some(call_function(MIX))
            }
            Shape::Load { size } => Some(self.memory_load(size)),
            Shape::Store { size, source } => Some(self.memory_store(size, source)),
            Shape::Atomic { size, op } => Some(self.atomic(size, op)),
            Shape::Goto => Some(self.goto()),
            Shape::Jump { .. } => self.jump(row),
            Shape::Exit => None,
        }
    }

    /// An instruction on numbers in registers, with a constant that the verifier takes.
    fn plain(&mut self, row: &Row, dst: Reg, src: Reg) -> Option<Insn<Reg>> {
        let constant = i64::from(self.random.constant());
        // Constant counts beyond the width and constant divisors of zero are refused.
        let imm = if row.shape == Shape::LoadImm64 {
            self.random.number().cast_signed()
        } else if let Shape::Alu { op: AluOp::Lsh | AluOp::Rsh | AluOp::Arsh, width, .. } = row.shape {
            constant & if matches!(width, Width::W32) { 31 } else { 63 }
        } else if matches!(row.shape, Shape::Alu { op: AluOp::Div | AluOp::Mod, .. }) && constant == 0 {
            7
        } else {
            constant
        };
        let operands = Operands {
            dst: Some(dst),
            src: row.fields.src.then_some(src),
            offset: 0,
            imm: if row.fields.imm { imm } else { 0 },
        };
        Parts { shape: row.shape, operands, reference: Reference::None }.join()
    }

    /// A look-up in a table of which some keys are missing. Under test is the load of the map, or the call.
    fn lookup(&mut self, tests_the_load: bool) -> Insn<Reg> {
        self.load(Reg::R2);
        let missing = self.label();
        self.before.extend([
            and(Reg::R2, 15),
            stx(Size::W, Reg::FP, -4, Reg::R2),
            mov(Reg::R2, Reg::FP),
            add(Reg::R2, -4),
        ]);
        let (load, ask) = (ld_map(Reg::R1, TABLE), call(Helper::MapLookup));
        let tested = if tests_the_load {
            self.after.push(ask);
            load
        } else {
            self.before.push(load);
            ask
        };
        self.after.extend([
            mov(Reg::R1, -1),
            jeq(Reg::R0, 0, missing),
            ldx(Size::DW, Reg::R1, Reg::R0, 0),
            label(missing),
        ]);
        self.record(Reg::R1);
        tested
    }

    fn memory_load(&mut self, size: Size) -> Insn<Reg> {
        let dst = self.register(&[]);
        let Memory { base, offset, .. } = if self.random.once_in(4) {
            for offset in [-32, -24, -16, -8] {
                let value = self.register(&[]);
                self.load(value);
                self.before.push(stx(Size::DW, Reg::FP, offset, value));
            }
            let place = self.random.small(STACK_AREA / bytes(size)) * bytes(size);
            Memory { base: Reg::FP, offset: place - STACK_AREA, on_stack: true }
        } else {
            let place = self.random.small(SET_WORDS * 8 - bytes(size) + 1);
            self.through(self.bases.operands, place, &[])
        };
        self.record(dst);
        ldx(size, dst, base, offset)
    }

    fn memory_store(&mut self, size: Size, source: Source) -> Insn<Reg> {
        let value = self.register(&[]);
        let memory = self.word_in_memory(&[value]);
        let room = if memory.on_stack { 8 / bytes(size) } else { 8 - bytes(size) + 1 };
        let step = if memory.on_stack { bytes(size) } else { 1 };
        let offset = memory.offset + self.random.small(room) * step;
        self.word_after(&memory, &[value]);
        match source {
            Source::Reg => {
                self.load(value);
                self.record(value);
                stx(size, memory.base, offset, value)
            }
            Source::Imm => stx(size, memory.base, offset, self.random.constant()),
        }
    }

    fn atomic(&mut self, size: Size, op: AtomicOp) -> Insn<Reg> {
        let source = self.register(&[]);
        let memory = self.word_in_memory(&[source, Reg::R0]);
        let offset = memory.offset + self.random.small(8 / bytes(size)) * bytes(size);
        self.load(source);
        if source != Reg::R0 {
            // Half of the time what a comparison may find: the word itself, or a relative of it.
            match self.random.below(4) {
                0 => self.before.push(ldx(size, Reg::R0, memory.base, offset)),
                1 => {
                    let relative = self.register(&[source, Reg::R0, memory.base]);
                    self.before.extend([
                        ldx(size, Reg::R0, memory.base, offset),
                        ldx(Size::W, relative, self.bases.operands, 0),
                        nnbpf_compiler::bpf::asm::lsh(relative, 32),
                        nnbpf_compiler::bpf::asm::or(Reg::R0, relative),
                    ]);
                }
                _ => self.load(Reg::R0),
            }
        }
        self.word_after(&memory, &[source, Reg::R0]);
        self.record(source);
        self.record(Reg::R0);
        Insn::Atomic { size, op, base: memory.base, offset, src: source }
    }

    /// A branch is a bit: 1 where it was taken. Half of them lead backwards.
    fn jump(&mut self, row: &Row) -> Option<Insn<Reg>> {
        let Shape::Jump { width, cond, source } = row.shape else { return None };
        let (left, right) = (self.register(&[]), self.register(&[]));
        self.load(left);
        if source == Source::Reg && right != left {
            self.load(right);
        }
        let taken = self.register(&[left, right]);
        let target = self.branch(taken, None);
        let right = match source {
            Source::Reg => right.into(),
            Source::Imm => self.random.constant().into(),
        };
        Some(Insn::Jump { width, cond, left, right, target })
    }

    fn goto(&mut self) -> Insn<Reg> {
        let taken = self.register(&[]);
        let number = self.register(&[taken]);
        // What follows an unconditional jump has to be reachable in another way.
        let around = self.label();
        let test = [
            ldx(Size::DW, number, self.bases.operands, self.random.small(SET_WORDS) * 8),
            jgt(number, self.random.constant(), around),
        ];
        let target = self.branch(taken, Some((test, around)));
        goto(target)
    }

    /// What surrounds a jump to the label that it gives; `around` stands before the jump and leads over it.
    fn branch(&mut self, taken: Reg, around: Option<([Insn<Reg>; 2], Label)>) -> Label {
        let (target, end) = (self.label(), self.label());
        let (test, over) = around.map_or((None, None), |(test, over)| (Some(test), Some(over)));
        if self.random.once_in(2) {
            self.before.push(mov(taken, 1));
            self.before.extend(test.into_iter().flatten());
            self.after.extend(over.map(label));
            self.after.extend([mov(taken, 0), label(target)]);
        } else {
            let middle = self.label();
            self.before.extend([goto(middle), label(target), mov(taken, 1), goto(end), label(middle)]);
            self.before.extend(test.into_iter().flatten());
            self.after.extend(over.map(label));
            self.after.extend([mov(taken, 0), label(end)]);
        }
        self.record(taken);
        target
    }

    /// A word that is ready to be changed: the next result itself, or one of the frame.
    fn word_in_memory(&mut self, taken: &[Reg]) -> Memory {
        let value = self.register(&[]);
        self.load(value);
        if self.random.once_in(3) {
            let offset = (self.random.small(STACK_AREA / 8) + 1) * -8;
            self.before.push(stx(Size::DW, Reg::FP, offset, value));
            return Memory { base: Reg::FP, offset, on_stack: true };
        }
        self.before.push(stx(Size::DW, self.bases.results, self.place, value));
        let place = self.place;
        self.place += 8;
        self.through(self.bases.results, place, taken)
    }

    /// Records a word that may have been changed; those among the results stand where they belong.
    fn word_after(&mut self, memory: &Memory, taken: &[Reg]) {
        if memory.on_stack {
            let value = self.register(taken);
            self.after.push(ldx(Size::DW, value, Reg::FP, memory.offset));
            self.record(value);
        }
    }

    /// Memory behind a base, or behind another register that points somewhere near.
    fn through(&mut self, base: Reg, place: i16, taken: &[Reg]) -> Memory {
        if self.random.once_in(2) {
            return Memory { base, offset: place, on_stack: false };
        }
        let near = self.register(taken);
        let distance = self.random.small(4000) - 2000;
        self.before.extend([mov(near, base), add(near, i32::from(distance))]);
        Memory { base: near, offset: place - distance, on_stack: false }
    }

    /// Puts a random operand into a register.
    fn load(&mut self, reg: Reg) {
        let word = self.random.small(SET_WORDS) * 8;
        self.before.push(ldx(Size::DW, reg, self.bases.operands, word));
    }

    /// Writes a register to the next result.
    fn record(&mut self, reg: Reg) {
        self.after.push(stx(Size::DW, self.bases.results, self.place, reg));
        self.place += 8;
    }

    fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels)
    }

    fn free(&self) -> Vec<Reg> {
        let used = [self.bases.operands, self.bases.results];
        (0..10).map(Reg).filter(|reg| !used.contains(reg)).collect()
    }

    /// A free register that is none of these.
    fn register(&mut self, taken: &[Reg]) -> Reg {
        let free: Vec<Reg> = self.free().into_iter().filter(|reg| !taken.contains(reg)).collect();
        self.random.pick(&free).unwrap_or(Reg::R0)
    }
}

fn bytes(size: Size) -> i16 {
    match size {
        Size::B => 1,
        Size::H => 2,
        Size::W => 4,
        Size::DW => 8,
    }
}
