//! `cargo xtask stress-update`: every processor infers without a pause while parameters are swapped as fast as
//! the protocol allows, and every inference is compared with the generation that it names.

mod module;
mod pair;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nnbpf_compiler::compile::{self, Named, Sources};
use nnbpf_compiler::diag::{Diagnostic, render};
use nnbpf_compiler::lower::network::{Options, Split, lower};
use nnbpf_compiler::lower::scratch;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::params::slot;
use nnbpf_compiler::quant;
use nnbpf_compiler::spec::Surroundings;
use nnbpf_runtime_loader::hot_update::{self, ACTIVE, Active, PARAMS};
use nnbpf_runtime_loader::{Kernel, Loaded, Map, RunInput, Update, pin_to_cpu, possible_cpus};

use self::module::{CHECK, CHECKED, EXPECTED, TALLY};
use self::pair::Pair;
use crate::tree;

/// The network under stress: 6-32-32-2.
const MODEL: &str = "testdata/cases/scaled-6-32-32-2/model.onnx";
/// Inferences of one system call. The kernel holds off grace periods for as long, here about 0.1 ms.
const REPEAT: u32 = 1000;
/// The shortest packet that a test run takes; the program does not look at it.
const PACKET: [u8; 14] = [0; 14];

/// Swap parameters under load and count inferences that saw a mixture.
#[derive(clap::Args)]
pub struct Stress {
    /// How long.
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// Write the idle slot and flip without waiting, as a counter-proof.
    #[arg(long)]
    naive: bool,
    /// One program for each layer, chained by tail calls.
    #[arg(long)]
    split: bool,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tally {
    pub inferences: u64,
    pub updates: u64,
    /// Inferences whose outputs are not those of the generation that they name.
    pub mixed: u64,
}

impl Stress {
    /// Runs and prints `inferences=… updates=… mixed=…`.
    ///
    /// # Errors
    /// An inference saw mixed parameters, or with `--naive` none did; or the kernel refuses a step.
    pub fn run(&self) -> Result<(), String> {
        let tally = stress(Duration::from_secs(self.seconds), self.naive, self.split)?;
        println!("inferences={} updates={} mixed={}", tally.inferences, tally.updates, tally.mixed);
        match (self.naive, tally.mixed) {
            (false, 0) | (true, 1..) => Ok(()),
            (false, 1..) => Err("parameters tore".to_owned()),
            (true, 0) => Err("no inference saw mixed parameters: run longer".to_owned()),
        }
    }
}

/// Infers and swaps for so long.
///
/// # Errors
/// The kernel refuses a step.
pub fn stress(time: Duration, naive: bool, split: bool) -> Result<Tally, String> {
    let bytes = std::fs::read(tree::root().join(MODEL)).map_err(|error| format!("{MODEL}: {error}"))?;
    let sources = Sources {
        model: Named { name: MODEL, bytes: &bytes },
        spec: None,
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    let plan = compile::plan(&sources, &quant::Options::default()).map_err(|all| plain(&all))?;
    let pair = Pair::of(&plan.network)?;
    let options = Options { split: if split { Split::Layer } else { Split::Auto }, ..Options::default() };
    let code = lower(&plan.network, options).map_err(|error| error.to_string())?;
    let features = code.scratch.feature(0);
    let module = module::module(code, pair.outputs[0].len()).map_err(|error| error.to_string())?;
    let object = compile::object(&module).map_err(|all| plain(&all))?;
    let loaded = Kernel::load(&object).map_err(|error| plain(&error.diagnostics(CHECK)))?;
    prepare(&loaded, &pair, usize::try_from(features).unwrap_or(0))?;
    let updates = under_load(&loaded, &pair, time, naive)?;
    let tally = map(&loaded, TALLY)?.lookup_per_cpu(&[0; 4]).map_err(told)?.unwrap_or_default();
    let sum = |word: usize| -> u64 {
        let words = tally.iter().filter_map(|copy| copy.as_chunks().0.get(word));
        words.map(|word| u64::from_ne_bytes(*word)).sum()
    };
    Ok(Tally { inferences: sum(0), updates, mixed: sum(1) })
}

/// Features into every processor's scratch, outputs into the array that the program compares with.
fn prepare(loaded: &Loaded, pair: &Pair, features: usize) -> Result<(), String> {
    let words = |words: &[i64]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<u8>>();
    let scratch = map(loaded, scratch::MAP)?;
    let mut value = vec![0; scratch.shape().value_size];
    for (place, byte) in value.iter_mut().skip(features).zip(words(&pair.features)) {
        *place = byte;
    }
    let copies = vec![value; possible_cpus().map_err(told)?];
    scratch.update_per_cpu(&[0; 4], &copies, Update::Any).map_err(told)?;
    let expected = map(loaded, EXPECTED)?;
    // Generation 1 is what the object is compiled with.
    for (parity, outputs) in [(1_u32, &pair.outputs[0]), (0, &pair.outputs[1])] {
        expected.update(&parity.to_ne_bytes(), &words(outputs), Update::Any).map_err(told)?;
    }
    Ok(())
}

/// One thread for each processor infers, this one swaps. Returns the number of updates.
fn under_load(loaded: &Loaded, pair: &Pair, time: Duration, naive: bool) -> Result<u64, String> {
    let (params, active) = (map(loaded, PARAMS)?, map(loaded, ACTIVE)?);
    let slots = pair.networks.each_ref().map(|network| slot::bytes(network.get()));
    let both = slots.concat();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stop = &stop;
        let workers: Vec<_> = (0..cpus).map(|cpu| scope.spawn(move || infer(loaded, cpu, stop))).collect();
        let begin = Instant::now();
        let mut updates = 0_u32;
        let mut result = Ok(());
        while result.is_ok() && begin.elapsed() < time {
            // The object starts with generation 1 in slot 0.
            let after = Active { index: (updates + 1) % 2, generation: updates + 2 };
            let [odd, even] = &slots;
            let slot = if after.index == 0 { odd } else { even };
            result =
                if naive { flip_at_once(params, active, &both, after) } else { swap(params, active, slot) };
            updates += 1;
        }
        stop.store(true, Ordering::Relaxed);
        for worker in workers {
            let ended = worker.join().map_err(|_| "a thread that infers has panicked".to_owned());
            result = result.and(ended.and_then(|ended| ended));
        }
        result.map(|()| u64::from(updates))
    })
}

fn infer(loaded: &Loaded, cpu: usize, stop: &AtomicBool) -> Result<(), String> {
    pin_to_cpu(cpu).map_err(|error| format!("processor {cpu}: {error}"))?;
    while !stop.load(Ordering::Relaxed) {
        let input = RunInput { data: &PACKET, repeat: REPEAT, output: false };
        let run = loaded.run(CHECK, input).map_err(|error| plain(&[error.diagnostic()]))?;
        if run.ret != CHECKED {
            return Err(format!("{CHECK} answered {}", run.ret));
        }
    }
    Ok(())
}

fn swap(params: &Map, active: &Map, slot: &[u8]) -> Result<(), String> {
    hot_update::swap(params, active, slot).map(|_| ()).map_err(|error| error.to_string())
}

/// The protocol of the published system: two slots and an index, no grace period. Slot 0 always has the
/// parameters of odd generations and slot 1 those of even ones; what tears them is that the idle slot is
/// cleared and written again while an inference may still read it.
fn flip_at_once(params: &Map, active: &Map, both: &[u8], after: Active) -> Result<(), String> {
    let mut value = both.to_vec();
    let (first, second) = value.split_at_mut(both.len() / 2);
    if after.index == 0 { first } else { second }.fill(0);
    params.write_value(&value).map_err(told)?;
    params.write_value(both).map_err(told)?;
    active.write_value(&after.bytes()).map_err(told)
}

fn map<'l>(loaded: &'l Loaded, name: &str) -> Result<&'l Map, String> {
    loaded.map(name).map_err(told)
}

fn told(error: nnbpf_runtime_loader::MapError) -> String {
    error.to_string()
}

fn plain(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(|diagnostic| render::plain(diagnostic, &[])).collect()
}
