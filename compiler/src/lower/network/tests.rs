//! Lowered networks in the virtual machine against the formulas of the IR.

use proptest::prelude::*;

use super::*;
use crate::bpf::Insn;
use crate::bpf::module::Module;
use crate::ir::interpret;
use crate::ir::{Lanes, Post, Rule};
use crate::lower::evaluation::{self, ENTRY, INPUTS, JUDGED, NO_ROW, OUTPUTS, unchecked_module};
use crate::lower::testing::{
    Shape, Trees, divided, expected, forest, gated, network, patterns, rescaled, rows,
};
use crate::params::layout::ACTIVE_SECTION;
use crate::vm::Vm;

/// Judges rows in the VM and compares every output, label and rule mask.
fn agree(network: &Network, rows: &[Vec<i64>], options: Options) -> Result<Module, TestCaseError> {
    let count = u32::try_from(rows.len()).unwrap();
    let module = unchecked_module(network, options, count).unwrap();
    let mut vm = Vm::new(&module).unwrap();
    for (index, row) in (0..).zip(rows) {
        let bytes: Vec<u8> = row.iter().flat_map(|v| v.to_le_bytes()).collect();
        vm.map(INPUTS).unwrap().at_mut(index).unwrap().copy_from_slice(&bytes);
    }
    for _ in rows {
        let run = vm.run(ENTRY, &mut vec![0; 64], 0).unwrap();
        prop_assert_eq!(run.ret, u64::from(JUDGED));
    }
    prop_assert_eq!(vm.run(ENTRY, &mut vec![0; 64], 0).unwrap().ret, u64::from(NO_ROW));
    for (index, row) in (0..).zip(rows) {
        let entry = vm.map(OUTPUTS).unwrap().at(index).unwrap().to_vec();
        let (outputs, labels, rules) = expected(network, row);
        let label = labels[0];
        let verdict = interpret::run(network, row);
        let interpreted: Vec<u32> =
            interpret::labels(&network.decision, &verdict.outputs).map(|label| label.unwrap_or(0)).collect();
        prop_assert_eq!(&interpreted, &labels);
        prop_assert_eq!(
            (&verdict.outputs, verdict.label.unwrap_or(0), verdict.rules),
            (&outputs, label, rules)
        );
        let mut wanted: Vec<u8> = outputs.iter().flat_map(|v| v.to_le_bytes()).collect();
        wanted.extend(label.to_le_bytes());
        wanted.extend(rules.to_le_bytes());
        prop_assert_eq!(entry.len(), evaluation::output_bytes(network));
        prop_assert_eq!(entry, wanted, "row {:?}", row);
    }
    Ok(module)
}

fn lanes() -> impl Strategy<Value = Lanes> {
    prop::sample::select(patterns())
}

fn post() -> impl Strategy<Value = Post> {
    prop_oneof![
        4 => (0u8..24, 1u8..=12).prop_map(|(shift, bits)| Post::Relu { shift, bits }),
        1 => (0u8..=62, 1u8..=12).prop_map(|(shift, bits)| Post::Relu { shift, bits }),
        2 => (10u8..14, Just(8)).prop_map(|(shift, bits)| Post::Relu { shift, bits }),
        1 => (0u8..=62, 2u8..=12).prop_map(|(shift, bits)| Post::Signed { shift, bits }),
    ]
}

fn shape() -> impl Strategy<Value = Shape> {
    (1usize..24, lanes(), post()).prop_map(|(rows, lanes, post)| Shape { rows, lanes, post })
}

/// The last layer: raw most of the time.
fn last() -> impl Strategy<Value = Shape> {
    (1usize..5, lanes(), prop_oneof![3 => Just(Post::Raw), 1 => post()])
        .prop_map(|(rows, lanes, post)| Shape { rows, lanes, post })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn random_networks_agree_with_the_formulas(
        seed in any::<u64>(),
        inputs in 1usize..12,
        mut shapes in prop::collection::vec(shape(), 0..3),
        last in last(),
        split in prop_oneof![Just(Split::Auto), Just(Split::Layer)],
        weights in prop_oneof![Just(Weights::Map), Just(Weights::Const)],
    ) {
        shapes.push(last);
        let rule = match last.rows {
            1 if seed % 2 == 0 => Rule::None,
            1 => Rule::Positive,
            _ => Rule::ArgMax,
        };
        let network = network(seed, inputs, &shapes, rule);
        let rows = rows(&network, seed ^ 1, 12);
        agree(&network, &rows, Options { split, weights, ..Options::default() })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn rescaling_and_tables_agree_with_the_formulas(
        seed in any::<u64>(),
        inputs in 1usize..12,
        mut shapes in prop::collection::vec((1usize..24, lanes()), 1..4),
        split in prop_oneof![Just(Split::Auto), Just(Split::Layer)],
    ) {
        shapes.push((3, Lanes::ONE));
        let shapes: Vec<Shape> =
            shapes.into_iter().map(|(rows, lanes)| Shape { rows, lanes, post: Post::Raw }).collect();
        let network = rescaled(network(seed, inputs, &shapes, Rule::ArgMax), seed);
        let rows = rows(&network, seed ^ 1, 12);
        agree(&network, &rows, Options { split, ..Options::default() })?;
    }

    #[test]
    fn gates_and_replaced_values_agree_with_the_formulas(
        seed in any::<u64>(),
        inputs in 1usize..12,
        hidden in 1usize..24,
        split in prop_oneof![Just(Split::Auto), Just(Split::Layer)],
        weights in prop_oneof![Just(Weights::Map), Just(Weights::Const)],
    ) {
        let network = gated(seed, inputs, hidden, Rule::ArgMax);
        prop_assert!(check(network.clone()).is_ok());
        let rows = rows(&network, seed ^ 1, 24);
        agree(&network, &rows, Options { split, weights, ..Options::default() })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    /// Neurons that nothing reads, that are always the same number, and that others repeat.
    #[test]
    fn constants_without_needless_neurons_agree(seed in any::<u64>(), lanes in lanes(), bits in 4u8..12) {
        // Weights that are copied to another lane must fit there.
        prop_assume!(lanes.common().is_some());
        let post = Post::Relu { shift: 3, bits };
        let hidden = Shape { rows: 16, lanes, post };
        let last = Shape { rows: 3, lanes, post: Post::Raw };
        let full = network(seed, 5, &[hidden, hidden, last], Rule::ArgMax);
        let mut sparse = full.clone();
        for op in [1, 2] {
            let Some([Op::Dense(layer), Op::Dense(next)]) = sparse.ops.get_mut(op..op + 2) else {
                unreachable!("dense layers")
            };
            let columns = layer.columns;
            // Every ReLU of 0 to 2 is closed, 3 has a bias alone, 4 is 5, and nothing reads 6.
            layer.weights[..4 * columns].fill(0);
            layer.bias[..3].copy_from_slice(&[-1, -40, 0]);
            layer.bias[3] = 99;
            layer.weights.copy_within(4 * columns..5 * columns, 5 * columns);
            layer.bias[5] = layer.bias[4];
            next.weights.iter_mut().skip(6).step_by(16).for_each(|weight| *weight = 0);
            // Half of what reads 4 and 5 each, so that the sum of both is no larger than one was.
            for column in [4, 5] {
                next.weights.iter_mut().skip(column).step_by(16).for_each(|weight| *weight /= 2);
            }
        }
        let rows = rows(&sparse, seed ^ 1, 12);
        let options = Options { weights: Weights::Const, ..Options::default() };
        agree(&sparse, &rows, options)?;
        for op in [1, 2] {
            prop_assert_eq!(full.ops[op].width(), 16);
            let left = prune::pruned(&sparse).ops[op].width();
            prop_assert!((1..=10).contains(&left), "{} neurons are left", left);
        }
        let weights = |network: &Network| -> usize {
            network.ops.iter().map(|op| if let Op::Dense(dense) = op { dense.weights.len() } else { 0 }).sum()
        };
        prop_assert!(weights(&prune::pruned(&sparse)) < weights(&sparse));
    }
}

#[test]
fn wide_rescaling_is_divided_among_programs() {
    let wide = Shape { rows: 1300, lanes: Lanes::TWO, post: Post::Raw };
    let last = Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw };
    let network = rescaled(network(5, 3, &[wide, last], Rule::ArgMax), 5);
    let rows = rows(&network, 6, 4);
    let options = Options { split: Split::Layer, ..Options::default() };
    let module = agree(&network, &rows, options).unwrap();
    // The wide layer with its first rescaling, two more, of which the last has the first look-ups, two more of
    // those, and the last layer.
    assert_eq!(module.programs.iter().filter(|program| program.name.starts_with("nn_layer")).count(), 6);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn several_outputs_agree_with_the_formulas(
        seed in any::<u64>(),
        inputs in 1usize..6,
        hidden in shape(),
        widths in prop::collection::vec(1usize..6, 2..6),
        lanes in lanes(),
        split in prop_oneof![Just(Split::Auto), Just(Split::Layer)],
        weights in prop_oneof![Just(Weights::Map), Just(Weights::Const)],
    ) {
        let last = Shape { rows: widths.iter().sum(), lanes, post: Post::Raw };
        let network = divided(network(seed, inputs, &[hidden, last], Rule::ArgMax), seed, &widths);
        let rows = rows(&network, seed ^ 1, 12);
        agree(&network, &rows, Options { split, weights, ..Options::default() })?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 80, ..ProptestConfig::default() })]

    #[test]
    fn trees_agree_with_the_formulas(
        seed in any::<u64>(),
        inputs in 1usize..12,
        trees in 1usize..40,
        depth in 0u32..7,
        outputs in 1usize..5,
        (single, clamped) in any::<(bool, bool)>(),
        split in prop_oneof![Just(Split::Auto), Just(Split::Layer)],
    ) {
        let rule = match (outputs, seed % 2) {
            (1, 0) => Rule::Positive,
            (1, _) => Rule::Probability,
            (_, 0) => Rule::ArgMax,
            (_, _) => Rule::Probabilities,
        };
        let single = single && outputs > 1;
        let network = forest(seed, Trees { inputs, trees, depth, outputs, single, clamped }, rule);
        let network = check(network).unwrap().into_inner();
        let rows = rows(&network, seed ^ 1, 12);
        agree(&network, &rows, Options { split, ..Options::default() })?;
        // The parameters survive the way through a slot.
        prop_assert_eq!(slot::read(&network, &slot::bytes(&network)).unwrap(), network);
    }
}

/// Sixteen sigmoids with two rules each: as many rules as there are.
#[test]
fn many_labels_of_one_value_agree() {
    let shapes = [
        Shape { rows: 8, lanes: Lanes::TWO, post: RELU8 },
        Shape { rows: 16, lanes: Lanes::TWO, post: Post::Raw },
    ];
    let network = divided(network(9, 5, &shapes, Rule::ArgMax), 4, &[1; 16]);
    let rows = rows(&network, 5, 40);
    agree(&network, &rows, Options::default()).unwrap();
    agree(&network, &rows, CONST).unwrap();
}

const CONST: Options =
    Options { split: Split::Auto, weights: Weights::Const, budget: Options::BUDGET, style: Style::Planned };

const RELU8: Post = Post::Relu { shift: 12, bits: 8 };

fn reference(lanes: [Lanes; 3]) -> Network {
    let [a, b, c] = lanes;
    let relu = |lanes| Post::Relu { shift: if lanes == Lanes::TWO { 23 } else { 12 }, bits: 8 };
    let shapes = [
        Shape { rows: 32, lanes: a, post: relu(a) },
        Shape { rows: 32, lanes: b, post: relu(b) },
        Shape { rows: 2, lanes: c, post: Post::Raw },
    ];
    network(7, 6, &shapes, Rule::ArgMax)
}

#[test]
fn large_layers_loop_and_agree() {
    for lanes in patterns() {
        let shapes = [
            Shape { rows: 130, lanes, post: RELU8 },
            Shape { rows: 100, lanes, post: RELU8 },
            Shape { rows: 10, lanes, post: Post::Raw },
        ];
        let network = network(3, 64, &shapes, Rule::ArgMax);
        let rows = rows(&network, 5, 4);
        let module = agree(&network, &rows, Options::default()).unwrap();
        let infer = &module.functions[0];
        assert!(infer.code.len() < 40_000, "{} instructions", infer.code.len());
        let constants = agree(&network, &rows, CONST).unwrap();
        assert!(constants.functions[0].code.len() <= infer.code.len());
    }
}

#[test]
fn a_small_budget_splits_layers() {
    let network = reference([Lanes::ONE; 3]);
    let rows = rows(&network, 5, 4);
    let module = agree(&network, &rows, Options { budget: 1500, ..Options::default() }).unwrap();
    assert!(module.programs.len() > 4, "{} programs", module.programs.len());
}

#[test]
fn inputs_of_any_size_are_clamped_exactly() {
    let mut network = reference([Lanes::ONE; 3]);
    for input in &mut network.inputs {
        input.range = crate::ir::Interval { low: i64::MIN, high: i64::MAX };
    }
    let extremes = [i64::MIN, i64::MAX, -1, 0, 1 << 62, -(1 << 62)];
    let rows: Vec<Vec<i64>> =
        (0..6).map(|shift| (0..6).map(|i| extremes[(i + shift) % 6]).collect()).collect();
    agree(&network, &rows, Options::default()).unwrap();
    agree(&network, &rows, CONST).unwrap();
}

#[test]
fn prediction_is_what_the_vm_executes() {
    // Straight-line and looped layers: the VM walks the success path, the verifier the failing one as well.
    for rows_of_layer in [32, 300] {
        let shapes = [
            Shape { rows: rows_of_layer, lanes: Lanes::TWO, post: RELU8 },
            Shape { rows: 2, lanes: Lanes::TWO, post: Post::Raw },
        ];
        let network = network(3, 40, &shapes, Rule::ArgMax);
        for options in [Options::default(), CONST] {
            let code = lower_unchecked(&network, options).unwrap();
            let module = unchecked_module(&network, options, 1).unwrap();
            let mut vm = Vm::new(&module).unwrap();
            let run = vm.run(evaluation::BENCH, &mut vec![0; 64], 0).unwrap();
            let bench = module.programs.iter().find(|p| p.name == evaluation::BENCH).unwrap();
            let failing_path = 2;
            assert_eq!(code.predicted[0] + bench.code.len() as u64, run.executed + failing_path);
        }
    }
}

#[test]
fn lowering_is_deterministic_and_the_same_in_every_module() {
    let network = reference([Lanes::TWO, Lanes::THREE, Lanes::THREE]);
    let one = unchecked_module(&network, Options::default(), 1).unwrap();
    let other = lower_unchecked(&network, Options::default()).unwrap();
    assert_eq!(one.functions, vec![other.infer]);
}

/// The products of a layer with one output for each of these weights, as lines of code.
fn products(lanes: Lanes, weights: &[i64]) -> Vec<String> {
    let shapes = [Shape { rows: 1, lanes, post: Post::Raw }];
    let mut network = network(1, weights.len(), &shapes, Rule::None);
    let Some(Op::Dense(dense)) = network.ops.last_mut() else { unreachable!() };
    dense.weights = weights.to_vec();
    dense.bias = vec![0];
    agree(&network, &rows(&network, 3, 6), CONST).unwrap();
    let code = lower_unchecked(&network, CONST).unwrap();
    let layer = code.infer.lines.iter().position(|line| line.text.starts_with("layer 0")).unwrap();
    let layer = u32::try_from(layer).unwrap();
    let lines = code.infer.code.iter().zip(&code.infer.line_of);
    lines.filter(|(_, line)| **line == layer).map(|(insn, _)| insn.to_string()).collect()
}

#[test]
fn products_by_constants_cost_what_they_must() {
    let weights = [0, 1, -1, 4, -8, 3, i64::from(i32::MIN) - 1];
    let code = products(Lanes::ONE, &weights);
    let count = |part: &str| code.iter().filter(|line| line.contains(part)).count();
    let text = code.join("\n");
    // No load of an input for a weight of zero, one for each of the others; and one of a weight that is no immediate.
    assert_eq!(count("*(u64 *)("), weights.len() - 1 + 1 + 1, "loads and the store of the output: {text}");
    assert_eq!(count("*= "), 2, "{text}");
    assert_eq!(count("*= 3"), 1, "{text}");
    assert_eq!(count("<<= "), 2, "{text}");
    assert_eq!((count("<<= 2"), count("<<= 3")), (1, 1), "{text}");
    assert_eq!((count("+= "), count("-= ")), (4, 2), "{text}");
}

#[test]
fn constants_are_in_no_map_that_can_be_written() {
    let network = reference([Lanes::TWO, Lanes::THREE, Lanes::THREE]);
    for split in [Split::Auto, Split::Layer] {
        let code = lower_unchecked(&network, Options { split, ..CONST }).unwrap();
        let sections: Vec<(&str, bool)> =
            code.data.iter().map(|data| (data.section.as_str(), data.writable)).collect();
        assert_eq!(sections, [(".rodata.nn_weights", false)]);
        let functions = std::iter::once(&code.infer).chain(&code.stages);
        let lines: Vec<String> =
            functions.flat_map(|function| &function.code).map(ToString::to_string).collect();
        assert!(!lines.iter().any(|line| line.contains(SECTION) || line.contains(ACTIVE_SECTION)));
    }
}

#[test]
fn constants_are_split_over_programs() {
    let network = reference([Lanes::TWO; 3]);
    let options = Options { budget: 1500, ..CONST };
    let rows = rows(&network, 5, 4);
    let module = agree(&network, &rows, options).unwrap();
    assert!(module.programs.len() > 2, "{} programs", module.programs.len());
}

/// Most weights of a wide layer are zero: code leaves them out. A wide layer without zeros is a loop.
#[test]
fn wide_layers_of_constants_loop_unless_most_are_zero() {
    let shapes = [
        Shape { rows: 60, lanes: Lanes::TWO, post: Post::Relu { shift: 23, bits: 8 } },
        Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw },
    ];
    let dense = network(5, 160, &shapes, Rule::ArgMax);
    let mut sparse = dense.clone();
    let Some(Op::Dense(layer)) = sparse.ops.get_mut(1) else { unreachable!() };
    let zero = |(number, weight): (usize, &mut i64)| {
        if number / 160 % 8 != number % 8 {
            *weight = 0;
        }
    };
    layer.weights.iter_mut().enumerate().for_each(zero);
    let [map, looped, straight] =
        [(&dense, Weights::Map), (&dense, Weights::Const), (&sparse, Weights::Const)].map(
            |(network, weights)| {
                let style = Style::Looped { body: 200 };
                let options = Options { weights, style, ..Options::default() };
                agree(network, &rows(network, 5, 4), options).unwrap();
                let code = lower_unchecked(network, options).unwrap();
                let labels = code.infer.code.iter().filter(|insn| matches!(insn, Insn::Label(_))).count();
                (code.infer.code.len() as u64, code.predicted[0], labels)
            },
        );
    assert!(looped.0 < looped.1 / 2, "a loop runs {} of {} instructions", looped.1, looped.0);
    assert!(looped.1 <= map.1, "{} instructions with constants, {} without", looped.1, map.1);
    // One loop for each block of five of the 30 registers.
    assert_eq!((map.2, straight.2 + 6), (looped.2, looped.2));
    assert!(straight.1 * 2 < looped.1, "{} of {}", straight.1, looped.1);
}

#[test]
fn probabilities_beyond_the_budget_are_refused() {
    let shapes = [Shape { rows: 60, lanes: Lanes::TWO, post: Post::Raw }];
    let network = network(5, 4, &shapes, Rule::ArgMax);
    let options = Options { budget: 4_000, ..Options::default() };
    let error = lower_unchecked(&network, options).unwrap_err();
    assert!(matches!(error, LowerError::TooLarge { limit: 4_000, .. }), "{error}");
    assert!(lower_unchecked(&network, Options { budget: 8_000, ..options }).is_ok());
}

#[test]
fn trees_and_tables_can_be_constants() {
    let shape = Trees { inputs: 3, trees: 4, depth: 3, outputs: 1, single: false, clamped: false };
    let trees = forest(3, shape, Rule::Positive);
    agree(&trees, &rows(&trees, 4, 12), CONST).unwrap();
    let shapes = [
        Shape { rows: 7, lanes: Lanes::TWO, post: Post::Raw },
        Shape { rows: 3, lanes: Lanes::ONE, post: Post::Raw },
    ];
    let network = rescaled(network(3, 5, &shapes, Rule::ArgMax), 3);
    agree(&network, &rows(&network, 4, 12), CONST).unwrap();
}

#[test]
fn many_trees_are_split_where_the_budget_ends() {
    let shape = Trees { inputs: 5, trees: 100, depth: 4, outputs: 3, single: true, clamped: false };
    let network = forest(3, shape, Rule::ArgMax);
    let rows = rows(&network, 5, 4);
    let module = agree(&network, &rows, Options { budget: 2_500, ..Options::default() }).unwrap();
    assert!(module.programs.len() > 3, "{} programs", module.programs.len());
}
