//! Whole objects: the same bytes for the same input, the same code in both builds, and the refusals that need
//! a whole plan.

#![expect(clippy::unwrap_used, reason = "a helper of a test fails by panicking, as the test does")]

use std::path::Path;

use nnbpf_compiler::bpf::module::{Function, Module};
use nnbpf_compiler::bpf::{AtomicOp, Insn, Reg};
use nnbpf_compiler::check;
use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::{Lanes, Network, Op, Post, RuleTest};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::lower::{self, evaluation, network};
use nnbpf_compiler::metadata;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::params;
use nnbpf_compiler::params::file::ParamsFile;
use nnbpf_compiler::quant;
use nnbpf_compiler::spec::{self, Surroundings};
use nnbpf_compiler::withstand;

fn read(path: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path)).unwrap()
}

/// The shipped model and specification, named as if they lay in this folder.
fn plan(folder: &str) -> Plan {
    plan_of(("testdata/ids/ids.onnx", "specs/ids.spec"), folder)
}

fn plan_of((model, spec): (&str, &str), folder: &str) -> Plan {
    let (model_name, spec_name) = (format!("{folder}/ids.onnx"), format!("{folder}/ids.spec"));
    let (model, spec) = (read(model), read(spec));
    let sources = Sources {
        model: Named { name: &model_name, bytes: &model },
        spec: Some(Named { name: &spec_name, bytes: &spec }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, &quant::Options::default()).unwrap()
}

fn target(clock: Clock) -> Target {
    Target { kernel: KernelVersion::DEFAULT, network: network::Options::default(), clock, fragments: false }
}

fn function<'a>(module: &'a Module, name: &str) -> &'a Function {
    let mut all = module.programs.iter().chain(&module.functions);
    all.find(|function| function.name == name).unwrap()
}

fn code(result: Result<impl Sized, Vec<nnbpf_compiler::diag::Diagnostic>>) -> &'static str {
    result.err().unwrap().first().unwrap().code.id
}

#[test]
fn two_builds_in_different_folders_are_identical() {
    let build = |folder| compile::object(&compile::module(&plan(folder), &target(Clock::Kernel)).unwrap());
    assert!(build("here").unwrap() == build("some/where/else").unwrap());
}

#[test]
fn the_model_is_the_same_in_shipped_and_evaluation_objects() {
    let plan = plan("here");
    let shipped = compile::module(&plan, &target(Clock::Kernel)).unwrap();
    let evaluation = evaluation::module(&plan.network, network::Options::default(), 16).unwrap();
    let (a, b) = (function(&shipped, network::FUNCTION), function(&evaluation, network::FUNCTION));
    assert!(!a.code.is_empty());
    assert_eq!(a.code, b.code);
}

/// Instructions without line info: the clock is a call in one build and a load in the other.
fn without_clock(function: &Function, clock: Clock) -> Vec<Insn<Reg>> {
    let mut rest = Vec::new();
    let mut code = function.code.iter();
    while let Some(insn) = code.next() {
        let text = format!("{insn:?}");
        match clock {
            Clock::Kernel if text.contains("KtimeGetNs") || text.contains("Jiffies64") => {}
            // The address of the section, then the load of its only value into `r0`.
            Clock::Replay if text.contains(".data.nn_clock") => {
                let load = format!("{:?}", code.next().unwrap());
                assert!(load.contains("Load"), "{load}");
            }
            Clock::Kernel | Clock::Replay => rest.push(insn.clone()),
        }
    }
    rest
}

#[test]
fn replay_differs_by_the_clock_alone() {
    for clock in [spec::typed::Clock::Exact, spec::typed::Clock::Coarse] {
        let mut plan = plan("here");
        plan.spec.as_mut().unwrap().clock = clock;
        differ_by_the_clock_alone(&plan);
    }
}

fn differ_by_the_clock_alone(plan: &Plan) {
    let kernel = compile::module(plan, &target(Clock::Kernel)).unwrap();
    let replay = compile::module(plan, &target(Clock::Replay)).unwrap();
    let functions = |module: &Module| -> Vec<Function> {
        module.programs.iter().chain(&module.functions).cloned().collect()
    };
    let (kernel, replay) = (functions(&kernel), functions(&replay));
    assert_eq!(kernel.len(), replay.len());
    let mut differ = 0;
    for (a, b) in kernel.iter().zip(&replay) {
        assert_eq!(a.name, b.name);
        differ += usize::from(a.code != b.code);
        let (a_rest, b_rest) = (without_clock(a, Clock::Kernel), without_clock(b, Clock::Replay));
        assert!(a_rest == b_rest, "{} differs by more than the clock", a.name);
    }
    assert!(differ > 0, "no build reads a clock");
}

#[test]
fn single_packets_need_no_atomics_that_fetch_and_flows_do_e0410() {
    let old = KernelVersion { major: 5, minor: 10 };
    let build = |plan: &Plan, kernel| compile::module(plan, &Target { kernel, ..target(Clock::Kernel) });
    let single = plan_of(("testdata/cases/header-30-16-2/model.onnx", "specs/header.spec"), "here");
    let others = |module: &Module| {
        let all = module.programs.iter().chain(&module.functions).flat_map(|function| &function.code);
        all.filter(|insn| matches!(insn, Insn::Atomic { op, .. } if *op != AtomicOp::Add)).count()
    };
    assert_eq!(others(&build(&single, old).unwrap()), 0);
    assert!(others(&build(&single, KernelVersion::FETCHING_ATOMICS).unwrap()) > 0);
    assert_eq!(code(build(&plan("here"), old)), "E0410");
}

#[test]
fn large_parameters_need_a_later_kernel_e0410() {
    let before = KernelVersion { major: 6, minor: 0 };
    let mut module = compile::module(&plan("here"), &target(Clock::Kernel)).unwrap();
    let fits = |module: &Module, kernel| lower::loads_on(module, kernel).is_ok();
    let slots = |module: &mut Module, bytes| {
        let data = module.data.iter_mut().find(|data| data.section == params::layout::SECTION).unwrap();
        data.bytes.resize(bytes, 0);
    };
    slots(&mut module, lower::LARGEST_OLD_VALUE);
    assert!(fits(&module, before));
    slots(&mut module, lower::LARGEST_OLD_VALUE + 8);
    assert!(fits(&module, KernelVersion::LARGE_VALUES));
    let error = lower::loads_on(&module, before).unwrap_err();
    let refusal = lower::refusal(None, &error);
    assert_eq!(refusal.code.id, "E0410");
    assert!(refusal.help.contains("--weights const"), "{}", refusal.help);
    slots(&mut module, 2 * lower::LARGEST_OLD_VALUE + 16);
    let refusal = lower::refusal(None, &lower::loads_on(&module, before).unwrap_err());
    assert!(refusal.help.contains("fewer weights"), "{}", refusal.help);
}

/// The network of a plan with a hidden layer of this width put before its last layer's inputs.
fn widened(network: &Network, width: usize) -> Network {
    let mut wide = network.clone();
    let Some(Op::Quantise(first)) = wide.ops.first().cloned() else { unreachable!() };
    let outputs = network.output_count();
    let layer = |rows, columns, post| {
        Op::Dense(nnbpf_compiler::ir::Dense {
            rows,
            columns,
            weights: vec![0; rows * columns],
            bias: vec![1; rows],
            lanes: Lanes::ONE,
            post,
        })
    };
    let (first_origin, origin) = (wide.origins.first().cloned(), wide.origins.last().cloned().unwrap());
    wide.origins = vec![first_origin.unwrap(), origin.clone(), origin];
    let relu = Post::Relu { shift: 0, bits: 8 };
    wide.ops = vec![
        Op::Quantise(first.clone()),
        layer(width, first.features.len(), relu),
        layer(outputs, width, Post::Raw),
    ];
    wide
}

#[test]
fn a_layer_that_no_map_value_can_hold_e0411() {
    let mut plan = plan("here");
    let narrow = widened(plan.network.get(), 8);
    plan.network = check::check(narrow.clone()).unwrap();
    assert!(lower::shipped(&plan, &target(Clock::Kernel)).is_ok());
    plan.network = check::check(widened(&narrow, 40_000)).unwrap();
    let refused = lower::shipped(&plan, &target(Clock::Kernel));
    // Whatever makes programs large is named.
    let help = refused.as_ref().unwrap_err()[0].help.clone();
    assert!(["features", "rules", "layers"].iter().all(|part| help.contains(part)), "{help}");
    assert_eq!(code(refused), "E0411");
    // The objects of `eval` and `bench` are refused in the same words.
    let error = evaluation::module(&plan.network, target(Clock::Kernel).network, 1).unwrap_err();
    assert_eq!(code(Err::<(), _>(vec![lower::refusal(plan.spec.as_ref(), &error)])), "E0411");
}

/// The kernel follows 33 tail calls per packet, which may bring two verdicts; a shadow doubles them.
#[test]
fn chains_leave_room_for_every_verdict_e0411() {
    let mut plan = plan("here");
    plan.network = check::check(widened(plan.network.get(), 128)).unwrap();
    assert_eq!(plan.flow.as_ref().unwrap().verdicts_per_packet(), 2);
    let mut seen = [0; 3];
    for budget in (0..60).map(|step| 150 + step * 50) {
        let mut target = target(Clock::Kernel);
        target.network.budget = budget;
        let chain = network::lower(&plan.network, target.network).unwrap().stages.len();
        let kind = match lower::shipped(&plan, &target) {
            Ok(module) => {
                let has = |name: &str| module.functions.iter().any(|function| function.name == name);
                let map = module.maps.iter().any(|map| map.name == network::shadow::MAP);
                assert_eq!(has(network::shadow::COMPARE), map);
                usize::from(!map)
            }
            refused => {
                assert_eq!(code(refused), "E0411");
                2
            }
        };
        let wanted = [0..=8, 9..=16, 17..=33].iter().position(|range| range.contains(&chain)).unwrap();
        assert_eq!(kind, wanted, "a chain of {chain}");
        seen[kind] += 1;
    }
    assert!(seen.iter().all(|count| *count > 0), "{seen:?}");
    // One verdict per packet at most: twice as long a chain fits.
    plan.flow.as_mut().unwrap().idle = None;
    let mut target = target(Clock::Kernel);
    target.network.budget = 150;
    let chain = network::lower(&plan.network, target.network).unwrap().stages.len();
    assert!((17..=33).contains(&chain), "{chain}");
    assert!(lower::shipped(&plan, &target).is_ok());
}

#[test]
fn constant_weights_that_pass_the_budget_are_a_chain() {
    let plan = plan("here");
    let mut target = target(Clock::Kernel);
    target.network.weights = network::Weights::Const;
    let stages = |target: &Target| {
        let module = lower::shipped(&plan, target).unwrap();
        module.programs.iter().filter(|program| program.name.starts_with("nn_layer")).count()
    };
    assert_eq!(stages(&target), 0);
    target.network.budget = 500;
    assert!(stages(&target) > 0);
}

#[test]
fn objects_with_constant_weights_say_so() {
    let plan = plan("here");
    let mut target = target(Clock::Kernel);
    for (weights, slots) in [(network::Weights::Map, true), (network::Weights::Const, false)] {
        target.network.weights = weights;
        let module = compile::module(&plan, &target).unwrap();
        let sections = |name: &str| module.data.iter().any(|data| data.section == name);
        assert_eq!((sections(".data.nn_params"), sections(".data.nn_active")), (slots, slots));
        assert!(sections(".data.nn_config"));
        let metadata = metadata::decode(&compile::object(&module).unwrap(), "ids.o").unwrap();
        assert_eq!((metadata.weights, metadata.slot_bytes > 0), (weights, slots));
        assert_eq!(metadata.constant_weights("ids.o").is_none(), slots);
    }
}

#[test]
fn a_module_that_contradicts_itself_e0499() {
    let mut module = compile::module(&plan("here"), &target(Clock::Kernel)).unwrap();
    module.maps.clear();
    assert_eq!(code(compile::object(&module)), "E0499");
}

#[test]
fn metadata_of_another_format_e0706() {
    let mut module = compile::module(&plan("here"), &target(Clock::Kernel)).unwrap();
    let object = compile::object(&module).unwrap();
    metadata::decode(&object, "ids.o").unwrap();
    for payload in [&b"{}"[..], b"[1, 2]", b"\xff"] {
        module.metadata = elf::metadata::frame(payload);
        let object = compile::object(&module).unwrap();
        assert_eq!(code(metadata::decode(&object, "ids.o")), "E0706");
    }
}

/// Shapes in metadata are numbers that nobody backs with bytes; those of no object are refused before they are
/// filled with parameters.
#[test]
fn a_plan_beyond_every_object_is_refused() {
    let module = compile::module(&plan("here"), &target(Clock::Kernel)).unwrap();
    let metadata = metadata::from_payload(&module.metadata, "ids.o").unwrap();
    for (rows, columns) in
        [(1 << 40, 1), (1, 1 << 40), (usize::MAX, usize::MAX), (0, usize::MAX), (1 << 13, 1 << 13)]
    {
        let mut hostile = metadata.clone();
        let Some(Op::Dense(dense)) = hostile.plan.ops.get_mut(1) else { unreachable!() };
        (dense.rows, dense.columns) = (rows, columns);
        let payload = metadata::encode(&hostile);
        assert_eq!(code(metadata::from_payload(&payload, "ids.o")), "E0706");
        withstand::object(&payload);
    }
}

/// What an update does to a rule's probability: the parameters come back out of a file, and are proved again.
#[test]
fn thresholds_of_parameter_files_are_proved() {
    let (model, spec) = (
        read("testdata/cases/three-classes-5-12-3/model.onnx"),
        read("testdata/cases/three-classes-5-12-3/three.spec"),
    );
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &model },
        spec: Some(Named { name: "three.spec", bytes: &spec }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    let plan = compile::plan(&sources, &quant::Options::default()).unwrap();
    let module = compile::module(&plan, &target(Clock::Kernel)).unwrap();
    let metadata = metadata::from_payload(&module.metadata, "ids.o").unwrap();
    let network = plan.network.get();
    let fresh = |network: &Network| ParamsFile::of(network, [1; 32]);
    let back = metadata::with_parameters(&metadata, &fresh(network)).unwrap();
    assert_eq!(&back, network);
    assert!(check::check(back).is_ok());
    let mut hostile = network.clone();
    for test in &mut hostile.decision.tests {
        if let RuleTest::Softmax { lead, .. } = test {
            lead.offset = -1;
        }
    }
    let back = metadata::with_parameters(&metadata, &fresh(&hostile)).unwrap();
    assert_eq!(code(check::check(back)), "E0406");
    // A shift that code would mask is no slot that the compiler writes.
    let mut file = fresh(network);
    let drop = file.slot.len() - 24;
    file.slot[drop] |= 64;
    assert_eq!(metadata::with_parameters(&metadata, &file), None);
}
