//! `nnbpfc bench`: nanoseconds from the kernel's own test run, over an empty program.
//!
//! Three programs take turns with the empty one, so that a machine which changes its speed changes it for
//! all. `inference` runs the model on the features of a calibration row; `packet` an ordinary packet of a
//! known flow through the packet path; `verdict` a packet that is judged. The last two are builds of the same
//! specification whose triggers are `never` and `every packet`, because a test run repeats one packet.
//!
//! With `--objects` they are written to files instead, so that a harness of its own can compare them with others.

use std::path::Path;

use nnbpf_compiler::bpf::module::{Function, Line, Module, Parameter};
use nnbpf_compiler::bpf::{AluOp, Insn, Operand, Reg, Width};
use nnbpf_compiler::compile::{self, Plan};
use nnbpf_compiler::cost;
use nnbpf_compiler::ir::packet::Host;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::hook::{answers, section};
use nnbpf_compiler::lower::packet::maps::{ALLOWED, BLOCKED};
use nnbpf_compiler::lower::packet::{Clock, ENTRY};
use nnbpf_compiler::lower::scratch::{MAP, Scratch};
use nnbpf_compiler::lower::{evaluation, internal, network, refusal};
use nnbpf_compiler::planned;
use nnbpf_compiler::spec::typed::{Hook, Triggers};
use nnbpf_runtime_loader::{Kernel, Loaded, RunInput, Update, pin_to_cpu, possible_cpus};
use serde::Serialize;

use super::calibrate;
use crate::args::{BenchArgs, Split};
use crate::inputs::{self, Files};
use crate::{Refusal, files, frames};

/// Nanoseconds that one sample takes, about.
const SAMPLE_NS: i64 = 10_000_000;
/// Runs that say how many a sample needs, and runs of a sample, at least and at most.
const TRIAL: u32 = 32;
const REPEATS: (i64, i64) = (16, 100_000);
/// Samples are so many times shorter where there are several models, and runs of the empty program then.
const SHORTER: i64 = 10;
const IDLE: u32 = 10_000;
/// Samples of each program.
const SAMPLES: usize = 15;
/// The processor that measurements stay on.
pub(super) const CPU: usize = 0;

#[derive(Debug, Serialize)]
struct Report {
    calibrated: bool,
    flips: u64,
    rows: usize,
    /// What the cost model says of the inference, and of its layers one by one.
    predicted_ns: f64,
    layers: Vec<Layer>,
    empty_ns: Spread,
    inference_ns: Spread,
    #[serde(skip_serializing_if = "Option::is_none")]
    packet_ns: Option<Spread>,
    #[serde(skip_serializing_if = "Option::is_none")]
    verdict_ns: Option<Spread>,
}

/// A dense layer and how it is computed.
#[derive(Debug, Serialize)]
struct Layer {
    name: String,
    predicted_ns: f64,
    #[serde(flatten)]
    layer: planned::Layer,
}

/// Nanoseconds over several samples.
#[derive(Debug, Clone, Copy, Serialize)]
struct Spread {
    median: i64,
    min: i64,
    max: i64,
}

impl Spread {
    fn of(mut samples: Vec<i64>) -> Self {
        samples.sort_unstable();
        let at = |index: usize| samples.get(index).copied().unwrap_or(0);
        Self { median: at(samples.len() / 2), min: at(0), max: at(samples.len().saturating_sub(1)) }
    }
}

/// What a program is compared with: the test runs of XDP and tc differ.
#[derive(Clone, Copy)]
enum Baseline {
    /// The empty program of XDP, whose hook the model alone is measured at.
    Xdp,
    /// The empty program of the specification's hook.
    Own,
}

/// A program and the packet that it is run on.
pub(super) struct Subject {
    loaded: Loaded,
    program: &'static str,
    frame: Vec<u8>,
}

impl Subject {
    pub(super) fn load(object: &[u8], program: &'static str, frame: Vec<u8>) -> Result<Self, Refusal> {
        let loaded = Kernel::load(object).map_err(|error| error.diagnostics("the measured object"))?;
        Ok(Self { loaded, program, frame })
    }

    /// Runs that one sample needs.
    fn repeats(&self) -> Result<u32, Refusal> {
        Ok(repeats(self.sample(TRIAL)?, SAMPLE_NS, REPEATS))
    }

    /// Mean nanoseconds of one run.
    pub(super) fn sample(&self, repeat: u32) -> Result<i64, Refusal> {
        let input = RunInput { data: &self.frame, repeat, output: false };
        let run = self.loaded.run(self.program, input).map_err(|error| Refusal::from(error.diagnostic()))?;
        Ok(i64::try_from(run.duration_ns).unwrap_or(i64::MAX))
    }
}

pub fn run(args: &BenchArgs) -> Result<(), Refusal> {
    // The parser demands a model of whoever does not calibrate.
    let Some(model) = &args.model else { return calibrate::run(args.output.as_deref()) };
    let inputs = Files::read(model, args.spec.as_deref(), &args.surroundings, &args.accuracy)?;
    let plan = inputs.plan(&args.accuracy)?;
    if let Some(directory) = &args.objects {
        return write_objects(&plan, args, directory);
    }
    pin_to_cpu(CPU).map_err(|error| Refusal::from(internal(&error)))?;
    let hook = plan.spec.as_ref().map_or(Hook::Xdp, |spec| spec.hook);
    let empty = |hook| Subject::load(&compile::object(&empty_module(hook))?, ENTRY, frames::tcp(frames::ACK));
    let (xdp, own) = (empty(Hook::Xdp)?, empty(hook)?);
    let mut subjects = vec![(inference(&plan, &target(args))?, Baseline::Xdp)];
    if plan.spec.is_some() {
        for (_, triggers) in packets() {
            subjects.push((packet(&plan, args, triggers)?, Baseline::Own));
        }
    }
    let mut repeats = Vec::new();
    for (subject, _) in &subjects {
        repeats.push(subject.repeats()?);
    }
    let empty = own.repeats()?;
    let mut empties = Vec::new();
    let mut samples = vec![Vec::new(); subjects.len()];
    for _ in 0..SAMPLES {
        let own = own.sample(empty)?;
        let xdp = if hook == Hook::Xdp { own } else { xdp.sample(empty)? };
        empties.push(own);
        for (((subject, baseline), samples), &repeat) in subjects.iter().zip(&mut samples).zip(&repeats) {
            let empty = match baseline {
                Baseline::Xdp => xdp,
                Baseline::Own => own,
            };
            samples.push(subject.sample(repeat)? - empty);
        }
    }
    let mut spreads = samples.into_iter().map(Spread::of);
    let report = Report {
        calibrated: plan.report.calibrated,
        flips: plan.report.flips,
        rows: plan.report.rows,
        predicted_ns: predicted(&plan, args)?,
        layers: layers(&plan, args),
        empty_ns: Spread::of(empties),
        inference_ns: spreads.next().unwrap_or(Spread { median: 0, min: 0, max: 0 }),
        packet_ns: spreads.next(),
        verdict_ns: spreads.next(),
    };
    if args.json {
        // A structure of numbers always serialises.
        println!("{}", serde_json::to_string_pretty(&report).unwrap_or_default());
    } else {
        print_table(&report);
    }
    Ok(())
}

/// Median nanoseconds of each plan's model, less the empty program, with the programs in turn.
pub fn inferences(plans: &[Plan]) -> Result<Vec<i64>, Refusal> {
    pin_to_cpu(CPU).map_err(|error| Refusal::from(internal(&error)))?;
    let empty = Subject::load(&compile::object(&empty_module(Hook::Xdp))?, ENTRY, frames::tcp(frames::ACK))?;
    let target = inputs::target(KernelVersion::DEFAULT, Split::Auto, Clock::Kernel);
    let subjects: Vec<(Subject, u32)> = plans
        .iter()
        .map(|plan| {
            let subject = inference(plan, &target)?;
            let repeat = repeats(subject.sample(TRIAL)?, SAMPLE_NS / SHORTER, REPEATS);
            Ok((subject, repeat))
        })
        .collect::<Result<_, Refusal>>()?;
    let mut samples = vec![Vec::new(); subjects.len()];
    for _ in 0..SAMPLES {
        let idle = empty.sample(IDLE)?;
        for ((subject, repeat), samples) in subjects.iter().zip(&mut samples) {
            samples.push(subject.sample(*repeat)? - idle);
        }
    }
    Ok(samples.into_iter().map(|samples| Spread::of(samples).median).collect())
}

fn print_table(report: &Report) {
    let basis = if report.calibrated { "calibration rows" } else { "rows drawn from the scaler" };
    println!("{} of {} {basis} change their label", report.flips, report.rows);
    println!("{:12} {:>8} {:>8} {:>8}   ns, less the empty program", "", "median", "min", "max");
    let line = |name: &str, spread: &Spread| {
        println!("{name:12} {:>8} {:>8} {:>8}", spread.median, spread.min, spread.max);
    };
    line("empty", &report.empty_ns);
    line("inference", &report.inference_ns);
    println!("{:12} {:>8.0}", "predicted", report.predicted_ns);
    for (name, spread) in [("packet", &report.packet_ns), ("verdict", &report.verdict_ns)] {
        if let Some(spread) = spread {
            line(name, spread);
        }
    }
    for Layer { name, predicted_ns, layer } in &report.layers {
        println!("{name}: {}, predicted {predicted_ns:.1} ns", layer.words());
    }
}

/// Runs of a sample of so many nanoseconds, of a program that takes `ns`, within limits.
pub(super) fn repeats(ns: i64, sample_ns: i64, (least, most): (i64, i64)) -> u32 {
    u32::try_from((sample_ns / ns.max(1)).clamp(least, most)).unwrap_or(1)
}

/// What the cost model says of the inference that is measured.
fn predicted(plan: &Plan, args: &BenchArgs) -> Result<f64, Refusal> {
    let options = target(args).network;
    let code = network::lower(&plan.network, options)
        .map_err(|error| Refusal::from(refusal(plan.spec.as_ref(), &error)))?;
    Ok(cost::network_ns_with(plan.network.get(), options.weights, code.stages.len() + 1))
}

/// The dense layers of a plan.
fn layers(plan: &Plan, args: &BenchArgs) -> Vec<Layer> {
    let parts = planned::parts(plan.network.get(), target(args).network.weights);
    let dense = parts.into_iter().filter_map(|part| {
        let planned::PlannedPart { name, predicted_ns, layer } = part;
        layer.map(|layer| Layer { name, predicted_ns, layer })
    });
    dense.collect()
}

/// A program that passes every packet.
pub(super) fn empty_module(hook: Hook) -> Module {
    let pass = Operand::Imm(answers(hook).pass);
    let code = vec![Insn::Alu { width: Width::W64, op: AluOp::Mov, dst: Reg::R0, src: pass }, Insn::Exit];
    let entry = Function {
        name: ENTRY.to_owned(),
        section: section(hook, false).to_owned(),
        line_of: vec![0; code.len()],
        code,
        lines: vec![Line { text: "pass".to_owned(), ..Line::default() }],
        parameters: vec![Parameter::Context],
    };
    Module { programs: vec![entry], ..Module::default() }
}

/// The builds of the specification whose packets are measured.
fn packets() -> [(&'static str, Triggers); 2] {
    [("packet.o", Triggers::default()), ("verdict.o", Triggers { every: Some(1), ..Triggers::default() })]
}

/// The objects that are measured, and what `nn_scratch` holds when the model alone is.
fn write_objects(plan: &Plan, args: &BenchArgs, directory: &Path) -> Result<(), Refusal> {
    let mut written = vec![
        ("inference.o", inference_object(plan, &target(args))?),
        ("scratch.bin", features(plan)?),
        ("frame.bin", frames::tcp(frames::ACK)),
    ];
    if plan.spec.is_some() {
        for (name, triggers) in packets() {
            written.push((name, packet_object(plan, args, triggers)?));
        }
    }
    for (name, bytes) in &written {
        files::write(&directory.join(name), bytes)?;
    }
    println!("{} of {} labels differ from the float model's", plan.report.flips, plan.report.rows);
    Ok(())
}

/// The target of the arguments.
fn target(args: &BenchArgs) -> compile::Target {
    let mut target = inputs::target(KernelVersion::DEFAULT, args.split, Clock::Kernel);
    target.network.weights = inputs::weights(args.weights);
    target
}

/// The model alone.
fn inference_object(plan: &Plan, target: &compile::Target) -> Result<Vec<u8>, Refusal> {
    let module = evaluation::module(&plan.network, target.network, 1)
        .map_err(|error| Refusal::from(refusal(plan.spec.as_ref(), &error)))?;
    Ok(compile::object(&module)?)
}

/// The value of `nn_scratch` with the features of the middle calibration row, or zeros.
fn features(plan: &Plan) -> Result<Vec<u8>, Refusal> {
    let layout = Scratch::new(plan.network.get())
        .map_err(|error| Refusal::from(refusal(plan.spec.as_ref(), &error)))?;
    let mut value = vec![0; layout.bytes() as usize];
    if let Some(row) = plan.rows.as_ref().and_then(|rows| rows.iter().nth(rows.len() / 2)) {
        for (index, raw) in row.iter().enumerate() {
            let at = usize::from(layout.feature(index).unsigned_abs());
            if let Some(place) = value.get_mut(at..at + 8) {
                place.copy_from_slice(&raw.to_le_bytes());
            }
        }
    }
    Ok(value)
}

/// The model alone, on the features of the middle calibration row, or zeros.
fn inference(plan: &Plan, target: &compile::Target) -> Result<Subject, Refusal> {
    let subject =
        Subject::load(&inference_object(plan, target)?, evaluation::BENCH, frames::tcp(frames::ACK))?;
    let refused = |error: nnbpf_runtime_loader::MapError| Refusal::from(error.diagnostic());
    let map = subject.loaded.map(MAP).map_err(refused)?;
    let value = features(plan)?;
    let values = vec![value; possible_cpus().map_err(refused)?];
    map.update_per_cpu(&0u32.to_le_bytes(), &values, Update::Any).map_err(refused)?;
    Ok(subject)
}

/// The packet path with these triggers.
fn packet_object(plan: &Plan, args: &BenchArgs, triggers: Triggers) -> Result<Vec<u8>, Refusal> {
    let mut plan = plan.clone();
    if let Some(flow) = &mut plan.flow {
        flow.triggers = triggers;
    }
    let module = compile::module(&plan, &target(args))?;
    Ok(compile::object(&module)?)
}

/// The packet path with these triggers, a blocked host and an allowed prefix in the lists, and a flow that the
/// frame belongs to.
fn packet(plan: &Plan, args: &BenchArgs, triggers: Triggers) -> Result<Subject, Refusal> {
    let subject = Subject::load(&packet_object(plan, args, triggers)?, ENTRY, frames::tcp(frames::ACK))?;
    let refused = |error: nnbpf_runtime_loader::MapError| Refusal::from(error.diagnostic());
    let loaded = &subject.loaded;
    let blocked = Host::from_ipv4([198, 51, 100, 7]);
    loaded
        .map(BLOCKED)
        .map_err(refused)?
        .update(&blocked.0, &u64::MAX.to_le_bytes(), Update::Any)
        .map_err(refused)?;
    let allowed = Host::from_ipv4([203, 0, 113, 0]);
    let prefix: Vec<u8> = (96u32 + 24).to_le_bytes().into_iter().chain(allowed.0).collect();
    loaded
        .map(ALLOWED)
        .map_err(refused)?
        .update(&prefix, &1u32.to_le_bytes(), Update::Any)
        .map_err(refused)?;
    subject.sample(16)?;
    Ok(subject)
}
