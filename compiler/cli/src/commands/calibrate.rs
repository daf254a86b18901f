//! `nnbpfc bench --calibrate-cost`: the prices of the cost model, from measurements of many shapes on this machine.
//!
//! All shapes and an empty program take turns, so that a machine which changes its speed changes it for all. Rounds
//! stand in groups; of each group the least counts, and of the groups the median.

use std::path::Path;

use nnbpf_compiler::compile;
use nnbpf_compiler::cost::cases::{self, Case};
use nnbpf_compiler::cost::constants::{Calibration, Measured};
use nnbpf_compiler::cost::fit::{self, Sample};
use nnbpf_compiler::lower::packet::ENTRY;
use nnbpf_compiler::lower::{evaluation, internal, refusal};
use nnbpf_compiler::spec::typed::Hook;
use nnbpf_runtime_loader::pin_to_cpu;

use super::bench::{CPU, Subject, empty_module, repeats};
use crate::{Refusal, files, frames};

/// Nanoseconds that one sample takes, about.
const SAMPLE_NS: i64 = 4_000_000;
/// Runs that say how many a sample needs.
const TRIAL: u32 = 64;
/// Runs of a sample, at least and at most.
const REPEATS: (i64, i64) = (200, 100_000);
/// Groups of rounds, and rounds in each.
const GROUPS: usize = 7;
const ROUNDS: usize = 5;

/// A loaded shape.
struct Shape {
    case: Case,
    subject: Subject,
    repeat: u32,
}

/// Measures, fits, prints, and writes the constants when told where to.
pub fn run(output: Option<&Path>) -> Result<(), Refusal> {
    pin_to_cpu(CPU).map_err(|error| Refusal::from(internal(&error)))?;
    let empty = Subject::load(&compile::object(&empty_module(Hook::Xdp))?, ENTRY, frames::tcp(frames::ACK))?;
    let shapes: Vec<Shape> = cases::all()?.into_iter().map(load).collect::<Result<_, _>>()?;
    let mut groups: Vec<Vec<f64>> = vec![Vec::new(); shapes.len()];
    for _ in 0..GROUPS {
        let mut least = vec![i64::MAX; shapes.len()];
        let mut nothing = i64::MAX;
        for _ in 0..ROUNDS {
            nothing = nothing.min(empty.sample(repeats(1, SAMPLE_NS, REPEATS))?);
            for (shape, least) in shapes.iter().zip(&mut least) {
                *least = (*least).min(shape.subject.sample(shape.repeat)?);
            }
        }
        for (group, least) in groups.iter_mut().zip(least) {
            // Something takes at least a nanosecond, or nothing could be said about its share.
            group.push((least - nothing).max(1) as f64);
        }
    }
    let mut samples = Vec::new();
    for (shape, group) in shapes.iter().zip(groups) {
        let work = shape.case.work().map_err(|error| Refusal::from(refusal(None, &error)))?;
        samples.push(Sample { work, ns: median(group) });
    }
    let constants = fit::fit(&samples);
    let percent = |share: f64| (share * 1000.0).round() / 10.0;
    let tenth = |ns: f64| (ns * 10.0).round() / 10.0;
    let calibration = Calibration {
        machine: machine(),
        median_percent: percent(fit::median_error(&samples, &constants)),
        held_out_percent: percent(fit::held_out_error(&samples)),
        shapes: shapes
            .iter()
            .zip(&samples)
            .map(|(shape, sample)| Measured {
                shape: shape.case.name.clone(),
                predicted_ns: tenth(sample.work.ns(&constants)),
                measured_ns: sample.ns,
            })
            .collect(),
        constants,
    };
    print(&calibration);
    if let Some(path) = output {
        // A structure of numbers and texts always serialises.
        let text = serde_json::to_string_pretty(&calibration).unwrap_or_default();
        files::write(path, format!("{text}\n").as_bytes())?;
    }
    Ok(())
}

/// Loads a shape and finds out how often it has to run.
fn load(case: Case) -> Result<Shape, Refusal> {
    let module = evaluation::module(&case.network, case.options, 1)
        .map_err(|error| Refusal::from(refusal(None, &error)))?;
    let subject = Subject::load(&compile::object(&module)?, evaluation::BENCH, frames::tcp(frames::ACK))?;
    let one = subject.sample(TRIAL)?;
    Ok(Shape { case, subject, repeat: repeats(one, SAMPLE_NS, REPEATS) })
}

fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or(0.0)
}

/// Processor and kernel, as the system names them.
fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let name = model.map_or("unknown processor", |(_, name)| name.trim());
    format!("{name}, Linux {}", read("/proc/sys/kernel/osrelease").trim())
}

fn print(calibration: &Calibration) {
    println!("{:58} {:>10} {:>10} {:>7}", "shape", "predicted", "measured", "differ");
    for shape in &calibration.shapes {
        let Measured { shape, predicted_ns, measured_ns } = shape;
        let differ = 100.0 * (predicted_ns / measured_ns - 1.0);
        println!("{shape:58} {predicted_ns:>10.1} {measured_ns:>10.0} {differ:>+6.0} %");
    }
    println!(
        "{} shapes on {}: the median difference is {} %, and {} % where half of the shapes predict the other half",
        calibration.shapes.len(),
        calibration.machine,
        calibration.median_percent,
        calibration.held_out_percent
    );
}
