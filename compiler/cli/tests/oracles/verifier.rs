//! What the verifier walks, against what was emitted, for every committed model; and how long loading takes.

use std::time::{Duration, Instant};

use nnbpf_compiler::bpf::assemble::assemble;
use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::compile;
use nnbpf_compiler::elf;
use nnbpf_compiler::lower::evaluation::{self, BENCH};
use nnbpf_compiler::lower::network::{Split, Weights, lower};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::lower::walk;
use nnbpf_runtime_loader::{Kernel, Loaded};

use super::common::{Case, SPLITS, cases, cases_with_spec, skip, target};

/// How often the verifier may walk an instruction, on average.
pub(crate) const LIMIT: f64 = 1.3;

/// Instructions of a function as the kernel counts them: a 64-bit constant is one instruction in two slots.
fn emitted(function: &Function) -> u64 {
    assemble(function).unwrap();
    let is_code = |insn: &&_| !matches!(insn, nnbpf_compiler::bpf::Insn::Label(_));
    function.code.iter().filter(is_code).count() as u64
}

/// Instructions of a program and of the functions that it reaches.
pub(crate) fn linked(module: &Module, program: &str) -> u64 {
    let mut reached = vec![module.programs.iter().find(|one| one.name == program).unwrap()];
    let mut next = 0;
    while let Some(function) = reached.get(next) {
        let called = function.code.iter().filter_map(|insn| {
            let nnbpf_compiler::bpf::Insn::CallFunction { function } = insn else { return None };
            module.functions.iter().find(|one| one.name == *function)
        });
        let new: Vec<&Function> = called.collect();
        for function in new {
            if !reached.iter().any(|one| one.name == function.name) {
                reached.push(function);
            }
        }
        next += 1;
    }
    reached.into_iter().map(emitted).sum()
}

fn walked(loaded: &Loaded, program: &str) -> Option<u64> {
    loaded.verified_instructions(program).unwrap().map(u64::from)
}

/// Kernels from 6.14 know that entry 0 of an array exists, and leave out the two instructions that answer for
/// its absence.
fn assert_exact(emitted: u64, walked: u64, place: &str) {
    assert!(walked <= emitted && walked + 2 >= emitted, "{place}: {emitted} emitted, {walked} walked");
}

fn load_time(object: &[u8]) -> (Duration, Loaded) {
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        let loaded = Kernel::load(object).unwrap();
        times.push(start.elapsed());
        if times.len() == 5 {
            times.sort();
            return (times[2], loaded);
        }
    }
}

/// Layers are walked once, instruction by instruction; loops as often as they turn.
fn layers(case: &Case, split: Split) {
    let options = target(split, Clock::Kernel).network;
    let code = lower(&case.plan.network, options).unwrap();
    let module = evaluation::module(&case.plan.network, options, 1).unwrap();
    let loaded = Kernel::load(&elf::write(&module).unwrap()).unwrap();
    let bench = module.programs.iter().find(|program| program.name == BENCH).unwrap();
    let Some(infer) = walked(&loaded, BENCH) else { return };
    let place = format!("{} {split:?}", case.name);
    assert_exact(code.predicted[0] + emitted(bench), infer, &place);
    let mut sum = emitted(&code.infer);
    for (stage, &predicted) in code.stages.iter().zip(&code.predicted[1..]) {
        assert_exact(predicted, walked(&loaded, &stage.name).unwrap(), &format!("{place} {}", stage.name));
        sum += emitted(stage);
    }
    let predicted: u64 = code.predicted.iter().sum();
    println!("layers of {place}: {sum} emitted, {predicted} predicted and walked");
}

/// Instructions of all programs of a module: emitted, and walked by the verifier.
pub(crate) fn whole_counts(module: &Module) -> Option<(u64, u64)> {
    let loaded = Kernel::load(&elf::write(module).unwrap()).unwrap();
    let emitted: u64 = module.programs.iter().chain(&module.functions).map(emitted).sum();
    let walked: Option<u64> = module.programs.iter().map(|program| walked(&loaded, &program.name)).sum();
    Some((emitted, walked?))
}

/// Everything that the kernel loads for a shipped object.
fn whole(case: &Case, split: Split) {
    let module: Module = compile::module(&case.plan, &target(split, Clock::Kernel)).unwrap();
    let (time, loaded) = load_time(&elf::write(&module).unwrap());
    let entry: u64 = module.programs.iter().chain(&module.functions).map(emitted).sum();
    let walked: Option<u64> = module.programs.iter().map(|program| walked(&loaded, &program.name)).sum();
    let Some(walked) = walked else { return };
    let share = walked as f64 / entry as f64;
    println!(
        "{} {split:?}: {entry} emitted, {walked} walked ({share:.2}), loaded in {:.1} \
         ms",
        case.name,
        time.as_secs_f64() * 1e3
    );
    assert!(share <= LIMIT, "{} {split:?}: {entry} emitted, {walked} walked", case.name);
}

#[test]
fn layers_are_walked_once() {
    if skip("layers_are_walked_once") {
        return;
    }
    for case in cases() {
        for split in SPLITS {
            layers(case, split);
        }
    }
}

#[test]
fn whole_programs_are_walked_hardly_more_than_once() {
    if skip("whole_programs_are_walked_hardly_more_than_once") {
        return;
    }
    for case in cases_with_spec() {
        for split in SPLITS {
            whole(case, split);
        }
    }
}

/// How far a prediction may be from what the verifier counts.
const TOLERANCE: f64 = 0.1;

/// Compares the predictions for every program of a module with the kernel's counts; gives the largest error.
fn near(module: &Module, place: &str) -> f64 {
    let loaded = Kernel::load(&elf::write(module).unwrap()).unwrap();
    let mut worst = 0.0_f64;
    for (program, predicted) in walk::processed(module) {
        let Some(walked) = walked(&loaded, &program) else { continue };
        let error = predicted as f64 / walked as f64 - 1.0;
        println!("{place} {program}: {predicted} predicted, {walked} walked ({:+.1} %)", error * 100.0);
        assert!(error.abs() <= TOLERANCE, "{place} {program}: {predicted} predicted, {walked} walked");
        worst = worst.max(error.abs());
    }
    worst
}

#[test]
fn predictions_are_near_what_the_verifier_walks() {
    if skip("predictions_are_near_what_the_verifier_walks") {
        return;
    }
    let mut worst = 0.0_f64;
    for case in cases() {
        let mut modules = Vec::new();
        for (split, weights) in
            [(Split::Auto, Weights::Map), (Split::Layer, Weights::Map), (Split::Auto, Weights::Const)]
        {
            let mut target = target(split, Clock::Kernel);
            target.network.weights = weights;
            let place = format!("{} {split:?} {weights:?}", case.name);
            let model = evaluation::module(&case.plan.network, target.network, 1).unwrap();
            modules.push((format!("{place} model"), model));
            for (clock, fragments) in [(Clock::Kernel, false), (Clock::Kernel, true), (Clock::Replay, false)]
            {
                if case.plan.spec.is_some() {
                    (target.clock, target.fragments) = (clock, fragments);
                    let module = compile::module(&case.plan, &target).unwrap();
                    modules.push((format!("{place} {clock:?} fragments {fragments}"), module));
                }
            }
        }
        for (place, module) in modules {
            worst = worst.max(near(&module, &place));
        }
    }
    println!("the largest error of a prediction is {:.1} %", worst * 100.0);
}
