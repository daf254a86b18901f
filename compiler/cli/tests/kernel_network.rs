//! Lowered networks in the running kernel against the reference interpreter, and the verifier's count against
//! the prediction. The virtual machine is compared with the formulas in the compiler's own tests.

#![cfg(test)]

#[path = "../../src/lower/testing.rs"]
mod testing;

use nnbpf_compiler::check::{Checked, check};
use nnbpf_compiler::ir::interpret;
use nnbpf_compiler::ir::{Lanes, Network, Post, Rule};
// The shared generator names these modules as the compiler's own tests do.
use nnbpf_compiler::lower::evaluation::{self, BENCH, ENTRY, INPUTS, JUDGED, OUTPUTS};
use nnbpf_compiler::lower::network::{Options, Split, Weights, lower};
use nnbpf_compiler::vm::Vm;
use nnbpf_compiler::{diag, elf, ir};
use nnbpf_runtime_loader::load::Kernel;
use nnbpf_runtime_loader::maps::Update;
use nnbpf_runtime_loader::test_run::RunInput;
use testing::{Shape, Trees, divided, expected, forest, gated, network, rescaled, rows};

/// Says why a kernel test does not run here, unless it must.
fn skip(test: &str) -> bool {
    let Err(error) = nnbpf_runtime_loader::permission::check() else { return false };
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
    eprintln!("SKIP {test}: {error}");
    true
}

/// The prediction holds to the instruction. Kernels from 6.14 know that entry 0 of an array exists, and do not
/// walk the two instructions that leave when it does not.
fn assert_walked(predicted: u64, walked: u32, program: &str) {
    let saved = predicted.checked_sub(u64::from(walked));
    assert!(matches!(saved, Some(0 | 2)), "{program}: predicted {predicted}, walked {walked}");
}

fn little_endian(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Judges all rows in kernel and VM; both must give what the interpreter gives.
fn agree(network: &Checked<Network>, rows: &[Vec<i64>], options: Options) {
    let count = u32::try_from(rows.len()).unwrap();
    let module = evaluation::module(network, options, count).unwrap();
    let object = elf::write(&module).unwrap();
    let kernel = Kernel::load(&object).unwrap();
    let mut vm = Vm::new(&module).unwrap();
    let inputs = kernel.map(INPUTS).unwrap();
    for (index, row) in (0u32..).zip(rows) {
        let bytes = little_endian(row);
        inputs.update(&index.to_ne_bytes(), &bytes, Update::Any).unwrap();
        vm.map(INPUTS).unwrap().at_mut(index).unwrap().copy_from_slice(&bytes);
        assert_eq!(vm.run(ENTRY, &mut vec![0; 64], 0).unwrap().ret, u64::from(JUDGED));
    }
    let run = kernel.run(ENTRY, RunInput { data: &[0; 64], repeat: count, output: false }).unwrap();
    assert_eq!(run.ret, JUDGED);
    for (index, row) in (0u32..).zip(rows) {
        let verdict = interpret::run(network.get(), row);
        let labels = interpret::labels(&network.get().decision, &verdict.outputs);
        let labels = labels.map(Option::unwrap_or_default).collect();
        assert_eq!((verdict.outputs.clone(), labels, verdict.rules), expected(network.get(), row));
        let mut wanted = little_endian(&verdict.outputs);
        wanted.extend(verdict.label.unwrap_or(0).to_le_bytes());
        wanted.extend(verdict.rules.to_le_bytes());
        let got = kernel.map(OUTPUTS).unwrap().lookup(&index.to_ne_bytes()).unwrap().unwrap();
        assert_eq!(got, wanted, "kernel, row {row:?}");
        assert_eq!(vm.map(OUTPUTS).unwrap().at(index).unwrap(), wanted, "VM, row {row:?}");
    }
    let code = lower(network, options).unwrap();
    assert_eq!(module.functions, vec![code.infer.clone()], "evaluation runs the shipped function");
    if let Some(walked) = kernel.verified_instructions(BENCH).unwrap() {
        let bench = module.programs.iter().find(|program| program.name == BENCH).unwrap();
        assert_walked(code.predicted[0] + bench.code.len() as u64, walked, BENCH);
    }
    for (stage, &predicted) in code.stages.iter().zip(code.predicted.iter().skip(1)) {
        if let Some(walked) = kernel.verified_instructions(&stage.name).unwrap() {
            assert_walked(predicted, walked, &stage.name);
        }
    }
}

fn checked(network: Network) -> Checked<Network> {
    check(network).unwrap_or_else(|errors| panic!("{errors:?}"))
}

#[test]
fn random_networks_agree_in_kernel_vm_and_interpreter() {
    if skip("random_networks_agree_in_kernel_vm_and_interpreter") {
        return;
    }
    let mut random = testing::Random(42);
    let lanes = testing::patterns();
    let mut pick = |limit: usize| usize::try_from(random.next() % limit as u64).unwrap();
    for seed in 0..150 {
        let layers = 1 + pick(3);
        let mut shapes: Vec<Shape> = (0..layers)
            .map(|_| Shape {
                rows: 1 + pick(20),
                lanes: lanes[pick(lanes.len())],
                post: match pick(5) {
                    0 => Post::Signed { shift: pick(30) as u8, bits: 2 + pick(10) as u8 },
                    1 => Post::Relu { shift: pick(63) as u8, bits: 1 + pick(12) as u8 },
                    _ => Post::Relu { shift: pick(24) as u8, bits: 8 },
                },
            })
            .collect();
        let last = Shape { rows: 1 + pick(4), lanes: lanes[pick(lanes.len())], post: Post::Raw };
        shapes.push(last);
        let rule = match last.rows {
            1 if seed % 2 == 0 => Rule::None,
            1 => Rule::Positive,
            _ => Rule::ArgMax,
        };
        let split = if seed % 3 == 0 { Split::Layer } else { Split::Auto };
        let weights = if seed % 2 == 0 { Weights::Map } else { Weights::Const };
        let network = checked(network(seed, 1 + pick(10), &shapes, rule));
        let rows = rows(network.get(), seed ^ 1, 200);
        agree(&network, &rows, Options { split, weights, ..Options::default() });
    }
}

#[test]
fn several_outputs_agree_in_kernel_vm_and_interpreter() {
    if skip("several_outputs_agree_in_kernel_vm_and_interpreter") {
        return;
    }
    let relu = Post::Relu { shift: 12, bits: 8 };
    for (seed, widths) in [(1, vec![2, 4, 1]), (2, vec![1; 16]), (3, vec![1, 3]), (4, vec![5, 2, 2, 6])] {
        let shapes = [
            Shape { rows: 12, lanes: Lanes::TWO, post: relu },
            Shape { rows: widths.iter().sum(), lanes: Lanes::ONE, post: Post::Raw },
        ];
        let network = checked(divided(network(seed, 6, &shapes, Rule::ArgMax), seed, &widths));
        let rows = rows(network.get(), seed ^ 1, 200);
        for (split, weights) in
            [(Split::Auto, Weights::Map), (Split::Layer, Weights::Map), (Split::Auto, Weights::Const)]
        {
            agree(&network, &rows, Options { split, weights, ..Options::default() });
        }
    }
}

#[test]
fn rescaling_and_tables_agree_in_kernel_vm_and_interpreter() {
    if skip("rescaling_and_tables_agree_in_kernel_vm_and_interpreter") {
        return;
    }
    let mut random = testing::Random(44);
    for seed in 0..24 {
        let mut pick = |most: u64| usize::try_from(random.next() % most).unwrap();
        let lanes = testing::patterns();
        let mut shapes: Vec<Shape> = (0..1 + pick(3))
            .map(|_| Shape { rows: 1 + pick(20), lanes: lanes[pick(lanes.len() as u64)], post: Post::Raw })
            .collect();
        shapes.push(Shape { rows: 3, lanes: Lanes::ONE, post: Post::Raw });
        let network = checked(rescaled(network(seed, 1 + pick(8), &shapes, Rule::ArgMax), seed));
        let rows = rows(network.get(), seed ^ 1, 200);
        for split in [Split::Auto, Split::Layer] {
            agree(&network, &rows, Options { split, ..Options::default() });
        }
    }
}

#[test]
fn gates_and_replaced_values_agree_in_kernel_vm_and_interpreter() {
    if skip("gates_and_replaced_values_agree_in_kernel_vm_and_interpreter") {
        return;
    }
    let mut random = testing::Random(45);
    for seed in 0..24 {
        let mut pick = |most: u64| 1 + usize::try_from(random.next() % most).unwrap();
        // Some so wide that their quantisers are loops.
        let inputs = if seed % 8 == 0 { 70 } else { pick(8) };
        let network = checked(gated(seed, inputs, pick(20), Rule::ArgMax));
        let rows = rows(network.get(), seed ^ 1, 200);
        for split in [Split::Auto, Split::Layer] {
            agree(&network, &rows, Options { split, ..Options::default() });
        }
        agree(&network, &rows, Options { weights: Weights::Const, ..Options::default() });
    }
}

#[test]
fn random_forests_agree_in_kernel_vm_and_interpreter() {
    if skip("random_forests_agree_in_kernel_vm_and_interpreter") {
        return;
    }
    let mut random = testing::Random(43);
    let mut pick = |limit: usize| usize::try_from(random.next() % limit as u64).unwrap();
    for seed in 0..40 {
        let outputs = 1 + pick(4);
        let shape = Trees {
            inputs: 1 + pick(10),
            trees: 1 + pick(30),
            depth: 1 + u32::try_from(pick(8)).unwrap(),
            outputs,
            single: outputs > 1 && pick(2) == 0,
            clamped: pick(2) == 0,
        };
        let rule = match (outputs, pick(2)) {
            (1, 0) => Rule::Positive,
            (1, _) => Rule::Probability,
            (_, 0) => Rule::ArgMax,
            (_, _) => Rule::Probabilities,
        };
        let split = if seed % 3 == 0 { Split::Layer } else { Split::Auto };
        let network = checked(forest(seed, shape, rule));
        let rows = rows(network.get(), seed ^ 1, 200);
        agree(&network, &rows, Options { split, ..Options::default() });
    }
}

#[test]
fn a_wide_and_deep_network_loads_whole_and_split() {
    if skip("a_wide_and_deep_network_loads_whole_and_split") {
        return;
    }
    for lanes in testing::patterns().into_iter().take(6) {
        let relu = Post::Relu { shift: 12, bits: 8 };
        let shapes = [
            Shape { rows: 256, lanes, post: relu },
            Shape { rows: 256, lanes, post: relu },
            Shape { rows: 10, lanes, post: Post::Raw },
        ];
        let network = checked(network(11, 64, &shapes, Rule::ArgMax));
        let rows = rows(network.get(), 5, 20);
        for split in [Split::Auto, Split::Layer] {
            for weights in [Weights::Map, Weights::Const] {
                agree(&network, &rows, Options { split, weights, ..Options::default() });
            }
        }
        agree(&network, &rows, Options { budget: 60_000, ..Options::default() });
    }
}
