//! `cargo xtask vm-cases`: instructions on random operands, in the virtual machine and in the kernel.
//!
//! A case is one instruction, or a chain of 10 to 50, with operands of one run; everything that it can change is
//! recorded and compared bit for bit.

pub mod values;
pub mod instance;
pub mod program;

use std::collections::BTreeMap;

use nnbpf_compiler::bpf::print::Listing;
use nnbpf_compiler::compile;
use nnbpf_compiler::diag::{Diagnostic, render};
use nnbpf_compiler::vm::Vm;
use nnbpf_runtime_loader::{Kernel, RunInput, Update};

use self::program::{DONE, Meaning, OPERANDS, PROGRAM, Program, RESULTS, SET_WORDS, TABLE};
use self::values::Random;

/// Instances of a program, of which every tenth is a chain, and its runs.
const INSTANCES: usize = 400;
const CHAINS: usize = 10;
const RUNS: u32 = 512;
/// The shortest packet that a test run takes; the program does not look at it.
const PACKET: [u8; 14] = [0; 14];

/// Compare the virtual machine with the kernel, instruction by instruction, on random operands.
#[derive(clap::Args)]
pub struct VmCases {
    /// How many cases at least.
    #[arg(long, value_name = "N", default_value_t = 10_000_000)]
    cases: u64,
    /// Which of the random sequences.
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
}

/// What was compared.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    pub cases: u64,
    pub programs: u64,
    /// Cases that are chains.
    pub chains: u64,
    /// Instructions under test that were executed at both sides, those of chains included.
    pub instructions: u64,
    /// Cases by the row.
    pub rows: BTreeMap<String, u64>,
    /// What differed: the first case of each instance.
    pub differences: Vec<String>,
}

impl VmCases {
    /// Compares and prints `cases=… differences=…`.
    ///
    /// # Errors
    /// A case differs, or the kernel refuses a program.
    pub fn run(&self) -> Result<(), String> {
        let tally = compare(self.cases, self.seed)?;
        println!("{}", tally.summary());
        match tally.differences.first() {
            None => Ok(()),
            Some(first) => Err(format!("the virtual machine differs from the kernel:\n{first}")),
        }
    }
}

impl Tally {
    /// One line.
    #[must_use]
    pub fn summary(&self) -> String {
        format!(
            "cases={} programs={} rows={} least_of_a_row={} chains={} instructions={} differences={}",
            self.cases,
            self.programs,
            self.rows.len(),
            self.rows.values().min().unwrap_or(&0),
            self.chains,
            self.instructions,
            self.differences.len(),
        )
    }

    fn count(&mut self, program: &Program) {
        let runs = u64::from(program.runs);
        self.programs += 1;
        for instance in &program.instances {
            self.cases += runs;
            self.instructions += runs * instance.tested.len() as u64;
            match instance.row {
                Some(row) => {
                    *self.rows.entry(format!("{:?}", row.shape)).or_default() += runs;
                }
                None => self.chains += runs,
            }
        }
    }
}

/// Compares so many cases, in as many programs as they take.
///
/// # Errors
/// The kernel or the virtual machine refuses a program.
pub fn compare(cases: u64, seed: u64) -> Result<Tally, String> {
    let mut random = Random(seed);
    let rows: Vec<_> = program::tested_rows().collect();
    let mut tally = Tally::default();
    let mut first = 0;
    while tally.cases < cases {
        let program = Program::random(&mut random, &rows, first, INSTANCES, CHAINS, RUNS);
        first = (first + INSTANCES) % rows.len().max(1);
        let kernel = in_kernel(&program)?;
        let machine = in_machine(&program, &program::faithful)?;
        tally.count(&program);
        for (instance, run) in differences(&program, &kernel, &machine) {
            tally.differences.push(describe(&program, instance, run, &kernel, &machine));
        }
    }
    Ok(tally)
}

/// What the kernel records.
///
/// # Errors
/// The kernel refuses the program or a run.
pub fn in_kernel(program: &Program) -> Result<Vec<u8>, String> {
    let object = compile::object(&program.module(&program::faithful)).map_err(|all| plain(&all))?;
    let loaded = Kernel::load(&object).map_err(|error| plain(&error.diagnostics(PROGRAM)))?;
    let told = |error: nnbpf_runtime_loader::MapError| error.to_string();
    loaded
        .map(OPERANDS)
        .map_err(told)?
        .update(&[0; 4], &bytes(&program.operands), Update::Any)
        .map_err(told)?;
    for (key, number) in (0_u32..).zip(&program.table) {
        let table = loaded.map(TABLE).map_err(told)?;
        table.update(&key.to_ne_bytes(), &number.to_le_bytes(), Update::Any).map_err(told)?;
    }
    let input = RunInput { data: &PACKET, repeat: program.runs, output: false };
    let run = loaded.run(PROGRAM, input).map_err(|error| plain(&[error.diagnostic()]))?;
    if run.ret != DONE {
        return Err(format!("the program answered {} in the kernel", run.ret));
    }
    let results = loaded.map(RESULTS).map_err(told)?.lookup(&[0; 4]).map_err(told)?;
    results.ok_or_else(|| "the kernel has no results".to_owned())
}

/// What the virtual machine records when instructions under test mean this.
///
/// # Errors
/// It refuses the program, or a run faults.
pub fn in_machine(program: &Program, meaning: Meaning<'_>) -> Result<Vec<u8>, String> {
    let mut vm = Vm::new(&program.module(meaning)).map_err(|error| error.to_string())?;
    let mut set = |map: &str, key: u32, value: &[u8]| {
        let mut map = vm.map(map).ok_or("a map is missing")?;
        map.update(&key.to_le_bytes(), value, nnbpf_compiler::vm::UpdateMode::Any)
            .map_err(|error| error.to_string())
    };
    set(OPERANDS, 0, &bytes(&program.operands))?;
    for (key, number) in (0..).zip(&program.table) {
        set(TABLE, key, &number.to_le_bytes())?;
    }
    for _ in 0..program.runs {
        let run = vm.run(PROGRAM, &mut PACKET.to_vec(), 0).map_err(|error| error.to_string())?;
        // The kernel reports the low half.
        if run.ret as u32 != DONE {
            return Err(format!("the program answered {} in the virtual machine", run.ret));
        }
    }
    let mut results = vm.map(RESULTS).ok_or("a map is missing")?;
    results.at(0).map(<[u8]>::to_vec).ok_or_else(|| "the virtual machine has no results".to_owned())
}

/// Instances of which some run recorded different results, each with the first such run.
#[must_use]
pub fn differences(program: &Program, kernel: &[u8], machine: &[u8]) -> BTreeMap<usize, u32> {
    let mut found = BTreeMap::new();
    if kernel == machine {
        return found;
    }
    let record = program.words() as usize * 8;
    let runs = kernel.chunks(record).zip(machine.chunks(record));
    for (run, (ours, theirs)) in (0_u32..).zip(runs) {
        for (word, (ours, theirs)) in (0_u32..).zip(ours.chunks(8).zip(theirs.chunks(8))) {
            if let (true, Some(instance)) = (ours != theirs, program.instance_of(word)) {
                found.entry(instance).or_insert(run);
            }
        }
    }
    found
}

/// The code, the operands and both results of a case.
fn describe(program: &Program, index: usize, run: u32, kernel: &[u8], machine: &[u8]) -> String {
    let Some(instance) = program.instances.get(index) else { return String::new() };
    let code = [&*instance.before, &*instance.tested, &*instance.after].concat();
    let first: u32 = program.instances.iter().take(index).map(|instance| instance.words).sum();
    let place = (run * program.words() + first) as usize * 8;
    let words = |results: &[u8]| -> Vec<String> {
        let results = results.get(place..).unwrap_or_default().as_chunks().0.iter();
        results
            .take(instance.words as usize)
            .map(|word| format!("{:#x}", u64::from_le_bytes(*word)))
            .collect()
    };
    let set = usize::from(SET_WORDS.unsigned_abs());
    let operands: Vec<String> =
        program.operands.iter().skip(run as usize * set).take(set).map(|word| format!("{word:#x}")).collect();
    format!(
        "{}operands: {}\nkernel: {}\nvirtual machine: {}",
        Listing(&code),
        operands.join(" "),
        words(kernel).join(" "),
        words(machine).join(" "),
    )
}

fn bytes(words: &[u64]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

fn plain(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| render::plain(diagnostic, &[])).collect()
}
