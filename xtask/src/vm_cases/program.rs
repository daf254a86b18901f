//! A program of instances: every run takes the next set of operands and leaves the results in a record of its own.

use nnbpf_compiler::bpf::asm::{
    add, and, call, exit, jeq, label, ld_map, ld_map_value, ldx, mov, mul, stx, xor,
};
use nnbpf_compiler::bpf::module::{Data, Function, Line, Map, MapKind, Module, Parameter, Type};
use nnbpf_compiler::bpf::table::{Row, Shape, rows};
use nnbpf_compiler::bpf::{Helper, Insn, Label, Reg, Size};

use super::instance::{Bases, Instance, Writer};
use super::values::Random;

/// The program, and what it answers when it came to its end.
pub(super) const PROGRAM: &str = "nn_cases";
pub(super) const DONE: u32 = 2;
/// A function of two numbers.
pub(super) const MIX: &str = "nn_mix";
/// Array of one: [`SET_WORDS`] for every run.
pub(super) const OPERANDS: &str = "nn_operands";
/// Array of one: what every run records.
pub(super) const RESULTS: &str = "nn_results";
/// Array to look numbers up in, and how many it has. Keys are asked for up to twice as far.
pub(super) const TABLE: &str = "nn_table";
pub(super) const TABLE_ENTRIES: u32 = 8;
/// How many runs there were.
pub(super) const STATE: &str = ".data.nn_state";
/// Bytes to load from.
pub(super) const CONSTANTS: &str = ".data.nn_constants";
pub(super) const CONSTANTS_BYTES: u32 = 256;
/// Operands of a run. The second half are relatives of the first.
pub(super) const SET_WORDS: i16 = 32;
/// Where faulty meanings may put registers aside, as offsets of two words from the frame pointer.
pub const ASIDE: [i16; 2] = [-264, -272];

/// Labels of the program's own, apart from those of instances.
const FAILED: Label = Label(u32::MAX);
/// The first label that a meaning may use.
const FIRST_OF_MEANINGS: u32 = 1 << 24;
/// About the most bytes of a record: offsets have 16 bits, and some are taken from elsewhere.
const MAX_RECORD: i16 = 24_000;

/// What a machine executes in place of an instruction under test.
pub type Meaning<'m> = &'m dyn Fn(&Insn<Reg>, &mut Labels) -> Vec<Insn<Reg>>;

/// Labels for meanings that branch.
#[derive(Debug)]
pub struct Labels(u32);

impl Labels {
    /// A label that nothing else has.
    pub fn fresh(&mut self) -> Label {
        self.0 += 1;
        Label(self.0)
    }
}

/// The instruction itself.
#[must_use]
pub fn faithful(insn: &Insn<Reg>, _: &mut Labels) -> Vec<Insn<Reg>> {
    vec![insn.clone()]
}

/// Instances, and the operands that they run on.
#[derive(Debug, Clone)]
pub struct Program {
    pub instances: Vec<Instance>,
    bases: Bases,
    /// Runs; a power of two.
    pub runs: u32,
    pub(super) operands: Vec<u64>,
    pub(super) table: Vec<u64>,
    constants: Vec<u8>,
}

/// Every row that is tested by itself: all but the exit, which ends every run.
pub fn tested_rows() -> impl Iterator<Item = &'static Row> {
    rows().filter(|row| row.shape != Shape::Exit)
}

/// Rows that only work on numbers in registers.
fn chained(row: &Row) -> bool {
    matches!(row.shape, Shape::Alu { .. } | Shape::Neg { .. } | Shape::ToBigEndian { .. } | Shape::LoadImm64)
}

impl Program {
    /// `count` instances of rows in turn, from the `first`-th on, every `chains`-th a chain instead (none for 0).
    #[must_use]
    pub fn random(
        random: &mut Random,
        rows: &[&'static Row],
        first: usize,
        count: usize,
        chains: usize,
        runs: u32,
    ) -> Self {
        let runs = runs.next_power_of_two();
        let plain: Vec<&'static Row> = rows.iter().copied().filter(|row| chained(row)).collect();
        let preserved = [Reg::R6, Reg::R7, Reg::R8, Reg::R9];
        let operands = random.pick(&preserved).unwrap_or(Reg::R8);
        let rest: Vec<Reg> = preserved.into_iter().filter(|reg| *reg != operands).collect();
        let bases = Bases { operands, results: random.pick(&rest).unwrap_or(Reg::R9) };
        let mut writer = Writer::new(random, bases);
        let mut instances = Vec::new();
        for (position, row) in rows.iter().cycle().skip(first).take(count).enumerate() {
            if writer.place > MAX_RECORD {
                break;
            }
            let is_chain = position.checked_rem(chains) == Some(0) && !plain.is_empty();
            let instance = if is_chain { Some(writer.chain(&plain)) } else { writer.instance(row) };
            instances.extend(instance);
        }
        let mut operands = Vec::new();
        for _ in 0..runs {
            let first: Vec<u64> = (0..SET_WORDS / 2).map(|_| random.number()).collect();
            operands.extend(&first);
            operands.extend(first.iter().map(|number| random.relative(*number)));
        }
        let table = (0..TABLE_ENTRIES).map(|_| random.next_word()).collect();
        let constants = (0..CONSTANTS_BYTES / 8).flat_map(|_| random.next_word().to_le_bytes()).collect();
        Self { instances, bases, runs, operands, table, constants }
    }

    /// Words that a run records.
    #[must_use]
    pub fn words(&self) -> u32 {
        self.instances.iter().map(|instance| instance.words).sum()
    }

    /// The module in which instructions under test mean this.
    #[must_use]
    pub fn module(&self, meaning: Meaning<'_>) -> Module {
        let words = |count: u32| Type::Array(Box::new(Type::Unsigned(8)), count);
        let array = |name: &str, value, max_entries| Map {
            name: name.to_owned(),
            kind: MapKind::Array,
            key: Some(Type::Unsigned(4)),
            value: Some(value),
            max_entries,
            flags: 0,
            programs: Vec::new(),
        };
        let data = |section: &str, variable: &str, bytes: Vec<u8>| Data {
            section: section.to_owned(),
            variable: variable.to_owned(),
            ty: words(u32::try_from(bytes.len() / 8).unwrap_or(0)),
            bytes,
            writable: true,
        };
        let mix = vec![mov(Reg::R0, Reg::R1), mul(Reg::R0, 3), xor(Reg::R0, Reg::R2), exit()];
        Module {
            programs: vec![function(PROGRAM, "xdp", self.code(meaning), vec![Parameter::Context])],
            functions: vec![function(MIX, ".text", mix, vec![Parameter::Scalar; 2])],
            maps: vec![
                array(OPERANDS, words(self.runs * u32::from(SET_WORDS.unsigned_abs())), 1),
                array(RESULTS, words(self.runs * self.words()), 1),
                array(TABLE, Type::Unsigned(8), TABLE_ENTRIES),
            ],
            data: vec![
                data(STATE, "nn_state", vec![0; 8]),
                data(CONSTANTS, "nn_constants", self.constants.clone()),
            ],
            metadata: Vec::new(),
        }
    }

    fn code(&self, meaning: Meaning<'_>) -> Vec<Insn<Reg>> {
        let runs = self.runs.cast_signed();
        let record = self.words().cast_signed() * 8;
        // The number of the run, and a key of zero.
        let mut code = vec![
            ld_map_value(Reg::R1, STATE, 0),
            ldx(Size::DW, Reg::R2, Reg::R1, 0),
            mov(Reg::R3, Reg::R2),
            add(Reg::R3, 1),
            stx(Size::DW, Reg::R1, 0, Reg::R3),
            and(Reg::R2, runs - 1),
            stx(Size::DW, Reg::FP, -16, Reg::R2),
            stx(Size::DW, Reg::FP, -8, 0),
        ];
        let bases = [
            (OPERANDS, self.bases.operands, i32::from(SET_WORDS) * 8),
            (RESULTS, self.bases.results, record),
        ];
        for (map, base, stride) in bases {
            code.extend([
                mov(Reg::R2, Reg::FP),
                add(Reg::R2, -8),
                ld_map(Reg::R1, map),
                call(Helper::MapLookup),
                jeq(Reg::R0, 0, FAILED),
                mov(base, Reg::R0),
                ldx(Size::DW, Reg::R1, Reg::FP, -16),
                mul(Reg::R1, stride),
                add(base, Reg::R1),
            ]);
        }
        let mut labels = Labels(FIRST_OF_MEANINGS);
        for instance in &self.instances {
            code.extend(instance.before.iter().cloned());
            code.extend(instance.tested.iter().flat_map(|insn| meaning(insn, &mut labels)));
            code.extend(instance.after.iter().cloned());
        }
        code.extend([mov(Reg::R0, DONE.cast_signed()), exit(), label(FAILED), mov(Reg::R0, 1), exit()]);
        code
    }

    /// Which instance recorded a word of a run.
    #[must_use]
    pub fn instance_of(&self, word: u32) -> Option<usize> {
        let mut end = 0;
        self.instances.iter().position(|instance| {
            end += instance.words;
            word < end
        })
    }
}

fn function(name: &str, section: &str, code: Vec<Insn<Reg>>, parameters: Vec<Parameter>) -> Function {
    Function {
        name: name.to_owned(),
        section: section.to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line::default()],
        parameters,
    }
}
