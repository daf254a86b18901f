//! Networks of every kind are proved, however they are written.

use proptest::prelude::*;

use crate::bpf::module::Module;
use crate::check::check;
use crate::cost::blocking::Style;
use crate::ir::{Interval, Lanes, Network, Post, Rule};
use crate::lower::evaluation::unchecked_module;
use crate::lower::network::{Options, Split, Weights, pruned};
use crate::lower::testing::{Shape, Trees, divided, forest, gated, network, patterns, rescaled};
use crate::prove::{Mismatch, Proof, network as prove};

/// The module of a network, and the network whose parameters it holds.
pub(super) fn lowered(network: &Network, options: Options) -> (Module, Network) {
    let module = unchecked_module(network, options, 64).unwrap();
    let network = match options.weights {
        Weights::Map => network.clone(),
        Weights::Const => pruned(&check(network.clone()).unwrap()).into_inner(),
    };
    (module, network)
}

fn attempt(network: &Network, options: Options) -> Result<Proof, Mismatch> {
    let (module, network) = lowered(network, options);
    prove(&module, &network, options.weights)
}

/// Lowers and proves.
pub(super) fn proved(network: &Network, options: Options) -> Proof {
    attempt(network, options).unwrap_or_else(|mismatch| panic!("{mismatch}"))
}

/// Every way to write a network.
pub(super) fn ways() -> impl Iterator<Item = Options> {
    [Split::Auto, Split::Layer].into_iter().flat_map(|split| {
        [Weights::Map, Weights::Const].map(|weights| Options { split, weights, ..Options::default() })
    })
}

const RELU8: Post = Post::Relu { shift: 12, bits: 8 };

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

fn last() -> impl Strategy<Value = Shape> {
    (1usize..5, lanes(), prop_oneof![3 => Just(Post::Raw), 1 => post()])
        .prop_map(|(rows, lanes, post)| Shape { rows, lanes, post })
}

fn options() -> impl Strategy<Value = Options> {
    let split = prop_oneof![Just(Split::Auto), Just(Split::Layer)];
    let weights = prop_oneof![Just(Weights::Map), Just(Weights::Const)];
    (split, weights).prop_map(|(split, weights)| Options { split, weights, ..Options::default() })
}

/// Proves a network that the check accepts; others are no business of the proof.
fn holds(network: &Network, options: Options) -> Result<(), TestCaseError> {
    prop_assume!(check(network.clone()).is_ok());
    let outcome = attempt(network, options);
    prop_assert!(outcome.is_ok(), "{}", outcome.unwrap_err());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 120, ..ProptestConfig::default() })]

    #[test]
    fn random_networks_are_proved(
        seed in any::<u64>(),
        inputs in 1usize..12,
        mut shapes in prop::collection::vec(shape(), 0..3),
        last in last(),
        options in options(),
    ) {
        shapes.push(last);
        let rule = match last.rows {
            1 if seed % 2 == 0 => Rule::None,
            1 => Rule::Positive,
            _ => Rule::ArgMax,
        };
        let mut network = network(seed, inputs, &shapes, rule);
        if seed % 3 == 0 {
            network.decision.tests.clear();
        }
        holds(&network, options)?;
    }

    #[test]
    fn rescaling_and_tables_are_proved(
        seed in any::<u64>(),
        inputs in 1usize..12,
        mut shapes in prop::collection::vec((1usize..24, lanes()), 1..4),
        options in options(),
    ) {
        shapes.push((3, Lanes::ONE));
        let shapes: Vec<Shape> =
            shapes.into_iter().map(|(rows, lanes)| Shape { rows, lanes, post: Post::Raw }).collect();
        let mut network = rescaled(network(seed, inputs, &shapes, Rule::ArgMax), seed);
        if seed % 2 == 0 {
            network.decision.tests.clear();
        }
        holds(&network, options)?;
    }

    #[test]
    fn gates_and_replaced_values_are_proved(
        seed in any::<u64>(),
        inputs in 1usize..12,
        hidden in 1usize..24,
        options in options(),
    ) {
        holds(&gated(seed, inputs, hidden, Rule::ArgMax), options)?;
    }

    #[test]
    fn several_outputs_are_proved(
        seed in any::<u64>(),
        inputs in 1usize..6,
        hidden in shape(),
        widths in prop::collection::vec(1usize..6, 2..6),
        lanes in lanes(),
        options in options(),
    ) {
        let last = Shape { rows: widths.iter().sum(), lanes, post: Post::Raw };
        let network = divided(network(seed, inputs, &[hidden, last], Rule::ArgMax), seed, &widths);
        holds(&network, options)?;
    }

    #[test]
    fn trees_are_proved(
        seed in any::<u64>(),
        inputs in 1usize..12,
        trees in 1usize..40,
        depth in 0u32..7,
        outputs in 1usize..5,
        (single, clamped) in any::<(bool, bool)>(),
        options in options(),
    ) {
        let rule = match (outputs, seed % 2) {
            (1, 0) => Rule::Positive,
            (1, _) => Rule::Probability,
            (_, 0) => Rule::ArgMax,
            (_, _) => Rule::Probabilities,
        };
        let single = single && outputs > 1;
        let network = forest(seed, Trees { inputs, trees, depth, outputs, single, clamped }, rule);
        holds(&network, options)?;
    }
}

#[test]
fn large_layers_are_proved() {
    for lanes in patterns() {
        let shapes = [
            Shape { rows: 130, lanes, post: RELU8 },
            Shape { rows: 100, lanes, post: RELU8 },
            Shape { rows: 10, lanes, post: Post::Raw },
        ];
        let mut network = network(3, 64, &shapes, Rule::ArgMax);
        network.decision.tests.clear();
        for options in ways() {
            let proof = proved(&network, options);
            // Whatever is done to one register is done to all, but for the last one of a layer.
            assert!(proof.diagrams <= 40, "{proof:?}");
        }
    }
}

#[test]
fn features_of_any_size_are_proved() {
    let shapes = [Shape { rows: 4, lanes: Lanes::TWO, post: Post::Raw }];
    let mut network = network(5, 70, &shapes, Rule::ArgMax);
    network.decision.tests.clear();
    ways().for_each(|options| {
        proved(&network, options);
    });
    for input in network.inputs.iter_mut().skip(3) {
        input.range = Interval { low: i64::MIN, high: i64::MAX };
    }
    ways().for_each(|options| {
        proved(&network, options);
    });
    for input in &mut network.inputs {
        input.range = Interval { low: i64::MIN, high: i64::MAX };
    }
    ways().for_each(|options| {
        proved(&network, options);
    });
}

#[test]
fn chains_of_any_length_are_proved() {
    let relu = Post::Relu { shift: 23, bits: 8 };
    let shapes = [
        Shape { rows: 32, lanes: Lanes::TWO, post: relu },
        Shape { rows: 32, lanes: Lanes::TWO, post: relu },
        Shape { rows: 2, lanes: Lanes::TWO, post: Post::Raw },
    ];
    let network = network(7, 6, &shapes, Rule::ArgMax);
    for weights in [Weights::Map, Weights::Const] {
        let options = Options { budget: 1500, weights, ..Options::default() };
        let proof = proved(&network, options);
        assert!(proof.functions > 1, "{proof:?}");
    }
}

#[test]
fn many_trees_are_proved() {
    for (trees, depth, outputs, single) in [(600, 3, 1, false), (300, 6, 3, false), (400, 5, 4, true)] {
        let shape = Trees { inputs: 9, trees, depth, outputs, single, clamped: false };
        let rule = if outputs == 1 { Rule::Positive } else { Rule::ArgMax };
        let network = forest(3, shape, rule);
        ways().for_each(|options| {
            proved(&network, options);
        });
    }
}

/// Prints how long proofs take; the figures of the documents are those of a release build.
#[test]
fn proofs_are_timed() {
    let relu = |lanes: Lanes| Post::Relu { shift: u8::try_from(lanes.narrowest() - 9).unwrap(), bits: 8 };
    let of = |inputs: usize, widths: &[usize]| {
        let last = widths.len() - 1;
        let shape = |(index, &rows): (usize, &usize)| {
            let lanes = if index == last { Lanes::ONE } else { Lanes::TWO };
            Shape { rows, lanes, post: if index == last { Post::Raw } else { relu(lanes) } }
        };
        let shapes: Vec<Shape> = widths.iter().enumerate().map(shape).collect();
        let mut network = network(7, inputs, &shapes, Rule::ArgMax);
        network.decision.tests.clear();
        network
    };
    for (name, network) in [("6-32-32-2", of(6, &[32, 32, 2])), ("784-128-64-10", of(784, &[128, 64, 10]))] {
        for weights in [Weights::Map, Weights::Const] {
            let options = Options { weights, ..Options::default() };
            let (module, network) = lowered(&network, options);
            let start = std::time::Instant::now();
            let proof = prove(&module, &network, weights).unwrap_or_else(|mismatch| panic!("{mismatch}"));
            println!("{name} {weights:?}: {:?}, {proof:?}", start.elapsed());
        }
    }
}

/// What is left out of a plan, or differs from it, is missed.
#[test]
fn other_plans_are_refused() {
    let shapes = [
        Shape { rows: 9, lanes: Lanes::THREE, post: RELU8 },
        Shape { rows: 3, lanes: Lanes::TWO, post: Post::Raw },
    ];
    let mut plain = network(7, 6, &shapes, Rule::ArgMax);
    plain.decision.tests.clear();
    let (module, _) = lowered(&plain, Options::default());
    prove(&module, &plain, Weights::Map).unwrap();
    assert!(prove(&module, &plain, Weights::Const).is_err());
    let change = |change: &dyn Fn(&mut Network)| {
        let mut other = plain.clone();
        change(&mut other);
        prove(&module, &other, Weights::Map).unwrap_err().to_string()
    };
    use crate::ir::{Op, RuleTest};
    let dense = |network: &mut Network, post: Post| {
        if let Some(Op::Dense(dense)) = network.ops.get_mut(1) {
            dense.post = post;
        }
    };
    for post in [
        Post::Relu { shift: 11, bits: 8 },
        Post::Relu { shift: 12, bits: 7 },
        Post::Signed { shift: 12, bits: 8 },
    ] {
        let said = change(&|network| dense(network, post));
        assert!(said.contains("operation 1") || said.contains("nn_scratch"), "{said}");
    }
    let said = change(&|network| network.decision.tests.push(RuleTest::Label { output: 0, class: 1 }));
    assert!(said.contains("rules"), "{said}");
    let said = change(&|network| network.decision.first.rule = Rule::None);
    assert!(said.contains("label"), "{said}");
    let said = change(&|network| {
        if let Some(Op::Dense(dense)) = network.ops.get_mut(1) {
            dense.weights[0] += 1;
        }
    });
    assert!(said.contains("parameters"), "{said}");
}

/// Wherever code stands still in a loop, it is the same code.
#[test]
fn loops_and_straight_code_are_proved() {
    let shapes = [
        Shape { rows: 60, lanes: Lanes::TWO, post: Post::Relu { shift: 23, bits: 8 } },
        Shape { rows: 2, lanes: Lanes::ONE, post: Post::Raw },
    ];
    let network = network(5, 160, &shapes, Rule::ArgMax);
    // Only the planned style has the layout that the proof knows.
    for weights in [Weights::Map, Weights::Const] {
        let options = Options { weights, style: Style::Planned, ..Options::default() };
        let proof = proved(&network, options);
        let (module, _) = lowered(&network, options);
        assert!(proof.instructions > module.functions[0].code.len() as u64, "{proof:?}: there is no loop");
    }
}
