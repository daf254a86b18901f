//! `cargo xtask prices`: what each kind of work costs on this machine, and how far estimates are from measured
//! packets. `compiler/src/explain/prices.rs` holds the result of one run, `docs/costs.md` says which.

mod patterns;
mod packets;

use clap::Args;
use nnbpf_compiler::bpf::module::MapKind;
use nnbpf_compiler::compile;
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, Update, pin_to_cpu};
use patterns::{PROGRAM, Pattern};

/// Measure the prices that `nnbpfc explain` uses. Needs root and a calm machine.
#[derive(Args)]
pub struct Prices {
    /// Samples of each pattern, of which the fastest counts.
    #[arg(long, default_value_t = 15)]
    samples: u32,
    /// Compare the estimates of these specifications with packets measured in the kernel, and measure no prices.
    #[arg(long, value_name = "SPEC", num_args = 1..)]
    compare: Vec<String>,
    /// Show of what kinds of work the estimates consist.
    #[arg(long, requires = "compare")]
    counts: bool,
}

/// Runs of one sample.
const REPEAT: u32 = 20_000;
/// Runs of a sample of a pattern that fills a ring of 4 MiB.
const REPEAT_EVENTS: u32 = 800;

impl Prices {
    /// Measures and prints.
    ///
    /// # Errors
    ///
    /// Whatever the kernel refuses.
    pub fn run(&self) -> Result<(), String> {
        pin_to_cpu(0).map_err(|error| error.to_string())?;
        if self.compare.is_empty() {
            self.prices()
        } else {
            packets::compare(&self.compare, self.samples, self.counts)
        }
    }

    fn prices(&self) -> Result<(), String> {
        println!("| work | ns |\n|---|---|");
        for (name, pattern) in all() {
            let pieces = pattern.pieces();
            let (full, none) = (Subject::new(pattern, pieces)?, Subject::new(pattern, 0)?);
            let (mut most, mut least) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..self.samples {
                least = least.min(none.sample(REPEAT)?);
                let time = if matches!(pattern, Pattern::Event { .. }) {
                    // A full ring takes nothing.
                    Subject::new(pattern, pieces)?.sample(REPEAT_EVENTS)?
                } else {
                    full.sample(REPEAT)?
                };
                most = most.min(time);
            }
            let best = (most - least) / f64::from(pieces);
            println!("| {name} | {best:.2} |");
        }
        Ok(())
    }
}

/// A loaded program.
struct Subject {
    loaded: Loaded,
}

impl Subject {
    fn new(pattern: Pattern, pieces: u32) -> Result<Self, String> {
        let module = patterns::module(pattern, pieces).map_err(|error| error.to_string())?;
        let object = compile::object(&module).map_err(|errors| format!("{errors:?}"))?;
        let loaded = Kernel::load(&object).map_err(|error| format!("{pattern:?}: {error}"))?;
        if let Pattern::Lookup { key, kind: MapKind::Hash | MapKind::LruHash, .. } = pattern {
            let map = loaded.map("nn_map").map_err(|error| error.to_string())?;
            map.update(&vec![0; key as usize], &[0; 128], Update::Any).map_err(|error| error.to_string())?;
        }
        Ok(Self { loaded })
    }

    /// Mean nanoseconds of a run.
    fn sample(&self, repeat: u32) -> Result<f64, String> {
        let input = RunInput { data: &[0; 64], repeat, output: false };
        let run = self.loaded.run(PROGRAM, input).map_err(|error| error.to_string())?;
        // The kernel reports whole nanoseconds of runs that take microseconds at most.
        Ok(run.duration_ns as f64)
    }
}

/// What is measured, in the order of the table.
fn all() -> Vec<(String, Pattern)> {
    let mut all: Vec<(String, Pattern)> = [
        ("instruction that needs the one before", Pattern::Chain),
        ("move and store of a byte, independent", Pattern::Independent),
        ("multiplication that needs the one before", Pattern::MultiplyChain),
        ("division that needs the one before", Pattern::Divide),
        ("load and addition", Pattern::Load),
        ("store", Pattern::Store),
        ("store, load of it, move", Pattern::StoreLoad),
        ("atomic add", Pattern::AtomicAdd),
        ("fetch-and-add", Pattern::FetchAdd),
        ("exchange", Pattern::Exchange),
        ("compare-and-exchange", Pattern::CompareExchange),
        ("jump that is not taken", Pattern::Jump),
        ("call of a function that returns at once", Pattern::Function),
        ("`bpf_ktime_get_ns`", Pattern::Clock),
        ("lookup, array", Pattern::Lookup { kind: MapKind::Array, key: 4, found: true }),
        ("lookup, per-CPU array", Pattern::Lookup { kind: MapKind::PerCpuArray, key: 4, found: true }),
    ]
    .map(|(name, pattern)| (name.to_owned(), pattern))
    .into();
    for key in [8, 16, 24, 40] {
        for found in [true, false] {
            let pattern = Pattern::Lookup { kind: MapKind::LruHash, key, found };
            let answer = if found { "hit" } else { "miss" };
            all.push((format!("lookup, LRU hash, key of {key} bytes, {answer}"), pattern));
        }
    }
    for (key, value) in [(8, 64), (40, 64), (40, 256)] {
        let name = format!("new entry, full LRU hash, key of {key}, value of {value} bytes");
        all.push((name, Pattern::Update { kind: MapKind::LruHash, key, value }));
    }
    let trie = Pattern::Lookup { kind: MapKind::LpmTrie, key: 20, found: false };
    all.push(("lookup, empty prefix trie".to_owned(), trie));
    all.push(("deletion of what is not there, LRU hash, key of 16 bytes".to_owned(), Pattern::Delete));
    for bytes in [128, 256] {
        all.push((format!("`bpf_ringbuf_output` of {bytes} bytes"), Pattern::Event { bytes }));
    }
    all.push(("nothing".to_owned(), Pattern::Empty));
    all
}
