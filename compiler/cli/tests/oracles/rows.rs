//! Feature rows: every committed model, whole and split, with weights in a map and in the code, on random and
//! boundary rows.

use nnbpf_compiler::bpf::module::Module;
use nnbpf_compiler::elf;
use nnbpf_compiler::ir::{Forest, Input, Network, Op, QuantiseOne, Rule, RuleTest, interpret};
use nnbpf_compiler::lower::evaluation::{self, ENTRY, INPUTS, JUDGED, OUTPUTS};
use nnbpf_compiler::lower::network::{Options, Split, Weights};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::params::{layout, slot};
use nnbpf_compiler::quant::plan_of;
use nnbpf_compiler::vm::Vm;
use nnbpf_runtime_loader::{Kernel, RunInput, Update};

use super::common::{Case, Random, SPLITS, cases, has_trees, like_plan, root, skip, target};

/// Rows for one form of one model; all models together judge more than 100,000.
const ROWS: u32 = 6_000;

/// A value at, beside or between the places where something changes.
fn value(random: &mut Random, input: &Input, one: &QuantiseOne) -> i64 {
    let range = input.range;
    let beside = |random: &mut Random, place: i64| place.saturating_add(random.within(-1, 1));
    let value = match random.below(12) {
        0 => random.within(-1, 1),
        1 => beside(random, one.low),
        2 => beside(random, one.high),
        3 => range.low,
        4 => range.high,
        5 => random.within(range.low, range.high),
        6 => {
            let power = 1i64 << random.below(63);
            if random.below(2) == 0 { power } else { -power }
        }
        7 => {
            // Halves of steps, where rounding decides.
            let step = (1i64 << one.shift) / one.multiplier.max(1);
            one.low.saturating_add(step.saturating_mul(random.within(0, 4_000)) + step / 2)
        }
        _ => random.within(one.low, one.high),
    };
    value.clamp(range.low, range.high)
}

/// A value at or beside a threshold of the feature, at an end of its range, or anywhere.
fn beside_thresholds(random: &mut Random, input: &Input, thresholds: &[i64]) -> i64 {
    let range = input.range;
    let value = match random.below(8) {
        0 => range.low,
        1 => range.high,
        2 => random.within(range.low, range.high),
        _ if thresholds.is_empty() => random.within(-1, 1),
        _ => thresholds[random.below(thresholds.len())].saturating_add(random.within(-1, 2)),
    };
    value.clamp(range.low, range.high)
}

/// Rows for trees.
fn rows_of_trees(network: &Network, forest: &Forest, seed: u64) -> Vec<Vec<i64>> {
    let mut thresholds = vec![Vec::new(); network.inputs.len()];
    for (_, node) in forest.nodes.iter().enumerate().filter(|(at, node)| !node.is_leaf(*at)) {
        thresholds[usize::from(node.feature)].push(node.threshold);
    }
    let mut random = Random(seed);
    let mut row = || {
        let inputs = network.inputs.iter().zip(&thresholds);
        inputs.map(|(input, list)| beside_thresholds(&mut random, input, list)).collect()
    };
    (0..ROWS).map(|_| row()).collect()
}

fn rows(case: &Case, seed: u64) -> Vec<Vec<i64>> {
    let network = case.plan.network.get();
    if let Some(Op::Forest(forest)) = network.ops.last() {
        return rows_of_trees(network, forest, seed);
    }
    let Some(Op::Quantise(quantise)) = network.ops.first() else { panic!("a quantiser comes first") };
    let mut random = Random(seed);
    (0..ROWS)
        .map(|row| {
            // Where features of real traffic lie, all labels are common.
            if row % 4 == 0 {
                return towards_a_class(&mut random, case);
            }
            network.inputs.iter().zip(&quantise.features).map(|(i, q)| value(&mut random, i, q)).collect()
        })
        .collect()
}

/// Of some typical rows the one that speaks most for some class: seldom ones are among the rows too.
fn towards_a_class(random: &mut Random, case: &Case) -> Vec<i64> {
    let network = case.plan.network.get();
    let class = random.below(network.output_count());
    let lead = |row: &Vec<i64>| {
        let outputs = interpret::outputs(network, row);
        let others = outputs.iter().enumerate().filter(|(other, _)| *other != class);
        outputs[class].saturating_sub(others.map(|(_, value)| *value).max().unwrap_or(0))
    };
    let candidates = (0..32).map(|_| {
        let scale = 2f64.powi(i32::try_from(random.within(-3, 4)).unwrap());
        typical(random, case, scale)
    });
    candidates.max_by_key(lead).unwrap()
}

/// A row nearly normal around the scaler's centre, within three standard deviations times `scale`.
fn typical(random: &mut Random, case: &Case, scale: f64) -> Vec<i64> {
    let inputs = case.plan.network.get().inputs.iter().zip(&case.plan.model.normalise);
    inputs
        .map(|(input, normalise)| {
            let deviate = (0..3).map(|_| random.within(-1_000, 1_000) as f64 / 1e3).sum::<f64>();
            let unit = 2f64.powi(i32::from(input.fraction_bits.0));
            let raw = (normalise.centre + scale * deviate / normalise.scale) * unit;
            (raw as i64).clamp(input.range.low, input.range.high)
        })
        .collect()
}

fn little_endian(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// Judges the rows by all engines.
fn agree(case: &Case, options: Options, kernel: bool) {
    agree_in(case, evaluation::module(&case.plan.network, options, ROWS).unwrap(), kernel);
}

/// The same in a module that has the parameters of the case.
fn agree_in(case: &Case, module: Module, kernel: bool) {
    let network = case.plan.network.get();
    let rows = rows(case, case.name.bytes().map(u64::from).sum::<u64>() + module.programs.len() as u64);
    let mut vm = Vm::new(&module).unwrap();
    let loaded = kernel.then(|| Kernel::load(&elf::write(&module).unwrap()).unwrap());
    for (index, row) in (0u32..).zip(&rows) {
        let bytes = little_endian(row);
        vm.map(INPUTS).unwrap().at_mut(index).unwrap().copy_from_slice(&bytes);
        if let Some(loaded) = &loaded {
            loaded.map(INPUTS).unwrap().update(&index.to_le_bytes(), &bytes, Update::Any).unwrap();
        }
    }
    if let Some(loaded) = &loaded {
        let run = loaded.run(ENTRY, RunInput { data: &[0; 64], repeat: ROWS, output: false }).unwrap();
        assert_eq!(run.ret, JUDGED, "{}", case.name);
    }
    let mut frame = vec![0; 64];
    let tests = &network.decision.tests;
    let mut fired = vec![0; tests.len()];
    for (index, row) in (0u32..).zip(&rows) {
        let verdict = interpret::run(network, row);
        fired.iter_mut().enumerate().for_each(|(rule, count)| *count += verdict.rules >> rule & 1);
        let mut wanted = little_endian(&verdict.outputs);
        wanted.extend(verdict.label.unwrap_or(0).to_le_bytes());
        wanted.extend(verdict.rules.to_le_bytes());
        assert_eq!(vm.run(ENTRY, &mut frame, 0).unwrap().ret, u64::from(JUDGED));
        assert_eq!(vm.map(OUTPUTS).unwrap().at(index).unwrap(), wanted, "{}: VM, row {row:?}", case.name);
        if let Some(loaded) = &loaded {
            let got = loaded.map(OUTPUTS).unwrap().lookup(&index.to_le_bytes()).unwrap().unwrap();
            assert_eq!(got, wanted, "{}: kernel, row {row:?}", case.name);
        }
    }
    if has_trees(case) {
        let mut labels: Vec<_> = rows.iter().map(|row| interpret::run(network, row).label).collect();
        labels.sort_unstable();
        labels.dedup();
        assert!(labels.len() > 1 || network.decision.first.rule == Rule::None, "{}: {labels:?}", case.name);
    }
    // Both answers of a sum of powers are among what agrees.
    for (test, count) in tests.iter().zip(fired) {
        if let RuleTest::Softmax { .. } = test {
            assert!(count > 0 && count < ROWS, "{}: {test:?} fires on {count} rows", case.name);
        }
    }
}

/// Labels of the integer network that are the float model's, and the number of rows: random ones around the
/// scaler's centre, where features of real traffic lie. `None` for a regressor.
fn float_agreement(case: &Case) -> Option<(usize, usize)> {
    const COUNT: usize = 2_000;
    let (network, model) = (case.plan.network.get(), &case.plan.model);
    let mut random = Random(3);
    let mut same = 0;
    for _ in 0..COUNT {
        let row = typical(&mut random, case, 1.0);
        let real: Vec<f64> = row
            .iter()
            .zip(&network.inputs)
            .map(|(raw, input)| *raw as f64 / 2f64.powi(i32::from(input.fraction_bits.0)))
            .collect();
        let (fixed, float) = (interpret::outputs(network, &row), model.outputs_f64(&real));
        let mut labels = interpret::labels(&network.decision, &fixed).zip(model.parts(&float));
        let first = network.decision.first.rule;
        (first != Rule::None).then_some(())?;
        same +=
            usize::from(labels.all(|(label, (output, values))| {
                output.head.label(values) == label.map(|label| label as usize)
            }));
    }
    Some((same, COUNT))
}

fn all(test: &str, split: Split) {
    let kernel = !skip(test);
    for case in cases() {
        agree(case, target(split, Clock::Kernel).network, kernel);
        let float = float_agreement(case).map_or_else(
            || "no labels to compare".to_owned(),
            |(same, count)| format!("{same} of {count} labels near the centre are the float model's"),
        );
        println!("{test}: {}: {ROWS} rows agree bit for bit; {float}", case.name);
    }
    assert!(cases().len() * 2 * ROWS as usize >= 100_000, "fewer rows than promised");
}

#[test]
fn rows_agree_in_one_program() {
    all("rows_agree_in_one_program", Split::Auto);
}

#[test]
fn rows_agree_split_by_layer() {
    all("rows_agree_split_by_layer", Split::Layer);
}

#[test]
fn rows_agree_with_constant_weights() {
    let kernel = !skip("rows_agree_with_constant_weights");
    for case in cases() {
        for split in SPLITS {
            let options = Options { weights: Weights::Const, ..target(split, Clock::Kernel).network };
            agree(case, options, kernel);
        }
    }
}

/// A retrained model in the code of one with lanes of different widths, whose neurons it puts in an order of its own.
#[test]
fn retrained_rows_agree_in_uneven_lanes() {
    let test = "retrained_rows_agree_in_uneven_lanes";
    let kernel = !skip(test);
    let first = super::common::case("lanes-5-10-8-2");
    let like = plan_of(first.plan.network.get());
    assert!(like.layers.iter().any(|layer| layer.lanes.common().is_none()));
    let model = root().join("testdata/cases/lanes-5-10-8-2/retrained.onnx");
    let plan = like_plan(&first.name, &model, like.clone());
    assert_eq!(plan_of(plan.network.get()), like);
    let slot = slot::bytes(plan.network.get());
    let retrained = Case { name: format!("{} retrained", first.name), plan };
    for split in SPLITS {
        let options = target(split, Clock::Kernel).network;
        let mut module = evaluation::module(&first.plan.network, options, ROWS).unwrap();
        let data = module.data.iter_mut().find(|data| data.section == layout::SECTION).unwrap();
        assert_ne!(data.bytes[..slot.len()], slot);
        data.bytes[..slot.len()].copy_from_slice(&slot);
        agree_in(&retrained, module, kernel);
        println!("{test}: {split:?}: {ROWS} rows agree bit for bit");
    }
}

#[test]
fn cases_have_the_operations_that_they_are_there_for() {
    let ops = |name: &str| &super::common::case(name).plan.network.get().ops;
    assert!(matches!(ops("qscore-5-6-1").last(), Some(Op::Table(_))));
    let gates = ops("swish-5-6-6-2").iter().filter(|op| matches!(op, Op::Gate(_))).count();
    let carrying = |op: &&Op| matches!(op, Op::Gate(gate) if gate.mapped < gate.width);
    assert_eq!((gates, ops("swish-5-6-6-2").iter().filter(carrying).count()), (2, 1));
    let Some(Op::Quantise(first)) = ops("imputed-5-8-2").first() else { panic!("the input quantiser") };
    assert!(first.replaced.len() >= 2, "features that can be zero");
    let clamp = |one: &QuantiseOne| (one.multiplier, one.offset, one.shift) == (1, 0, 0);
    match &ops("qcoarse-5-6-2")[..] {
        [Op::Quantise(_), Op::Quantise(second), Op::Dense(_), ..] => {
            assert!(second.features.iter().all(clamp));
        }
        other => panic!("{other:?}"),
    }
}
