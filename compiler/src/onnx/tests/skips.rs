//! Skip connections past many activations, and very wide graphs: how much work they are, in stages, and what they compute.

use super::build::Builder;
use super::graphs::model;
use crate::diag::NodeRef;
use crate::model::{Activation, Function};
use crate::onnx::affine::Affine;
use crate::onnx::value::{Stage, Stages};
use crate::onnx::{NoFiles, align, import};

const DEPTH: usize = 800;

fn node() -> NodeRef {
    NodeRef { index: 0, name: "skip".to_owned(), operator: "Add".to_owned() }
}

fn activated(stages: &mut Stages, before: &Affine, activation: Activation) -> Affine {
    let stage = stages.activated(before, activation, &node());
    Affine::of_stage(stage, before.width())
}

fn start() -> (Stages, Affine) {
    let mut stages = Stages::default();
    let inputs = stages.push(Stage::Inputs);
    (stages, Affine::of_stage(inputs, 3))
}

const CURVE: Activation = Activation::Function(Function::Tanh);

/// Stages that a graph of so many depths needs, with a sum of two values made at each depth.
fn stages_of(
    activation: Activation,
    depth: usize,
    step: impl Fn(&mut Stages, &Affine, &Affine) -> Affine,
) -> usize {
    let (mut stages, x) = start();
    let mut value = x.clone();
    for _ in 0..depth {
        let next = activated(&mut stages, &value.scaled(0.5), activation);
        value = step(&mut stages, &x, &next);
    }
    stages.count()
}

#[test]
fn sums_at_each_depth_make_few_stages() {
    for activation in [Activation::Relu, CURVE] {
        let from_inputs =
            |stages: &mut Stages, x: &Affine, next: &Affine| align::sum(stages, x, next, &node()).unwrap();
        // One that the graph has and one that carries the inputs as well, for each depth.
        assert!(stages_of(activation, DEPTH, from_inputs) <= 2 * DEPTH + 1, "{activation:?}");
        let (mut stages, x) = start();
        let mut value = x;
        for _ in 0..DEPTH {
            let next = activated(&mut stages, &value.scaled(0.5), activation);
            value = align::sum(&mut stages, &value, &next, &node()).unwrap();
        }
        assert!(stages.count() <= 2 * DEPTH + 1, "{activation:?}");
    }
}

#[test]
fn a_sum_of_all_depths_makes_few_stages() {
    for activation in [Activation::Relu, CURVE] {
        let (mut stages, x) = start();
        let mut all = vec![x.clone()];
        let mut value = x;
        for _ in 0..DEPTH {
            value = activated(&mut stages, &value.scaled(0.5), activation);
            all.push(value.clone());
        }
        let mut sum = all[0].clone();
        for other in &all[1..] {
            sum = align::sum(&mut stages, &sum, other, &node()).unwrap();
        }
        assert!(stages.count() <= 3 * DEPTH + 1, "{activation:?}: {}", stages.count());
        // The other way round, the last depth first.
        let before = stages.count();
        let mut sum = all.pop().unwrap();
        for other in all.iter().rev().take(20) {
            sum = align::sum(&mut stages, &sum, other, &node()).unwrap();
        }
        assert!(stages.count() - before <= 400, "{activation:?}: {}", stages.count() - before);
    }
}

#[test]
fn branches_of_one_depth_become_one_without_recursion() {
    // Far more than the stack would bear if each depth took a frame or two.
    let depth = 20_000;
    let (mut stages, x) = start();
    let mut branches = [x.scaled(2.0), x.scaled(3.0)];
    for _ in 0..depth {
        for branch in &mut branches {
            *branch = activated(&mut stages, &branch.shifted(-0.5), Activation::Relu);
        }
    }
    let [left, right] = &branches;
    align::sum(&mut stages, left, right, &node()).unwrap();
    assert!(stages.count() <= 3 * depth + 1, "{}", stages.count());
    // A value of the inputs past all of them.
    let sum = align::sum(&mut stages, &x, left, &node());
    assert!(sum.is_some() && stages.count() <= 5 * depth + 1, "{}", stages.count());
}

#[test]
fn branches_of_other_activations_at_every_depth_are_refused_in_time() {
    let chains = |depth: usize| {
        let (mut stages, x) = start();
        let mut branches = [(x.scaled(2.0), Activation::Relu), (x.scaled(3.0), CURVE)];
        for _ in 0..depth {
            for (branch, activation) in &mut branches {
                *branch = activated(&mut stages, &branch.shifted(-0.5), *activation);
                *activation = if *activation == CURVE { Activation::Relu } else { CURVE };
            }
        }
        let [(left, _), (right, _)] = &branches;
        (align::sum(&mut stages, left, right, &node()).is_some(), stages.count())
    };
    assert!(chains(3).0);
    let (joined, count) = chains(1000);
    assert!(!joined && count < 10_000, "{joined}, {count} stages");
}

/// 800 residual additions of either kind, as a model.
fn residual(from_inputs: bool) -> Builder {
    let mut graph = Builder::new()
        .input("x", &[0, 2])
        .weight("w", &[2, 2], &[0.5, -0.25, 0.125, 0.5])
        .weight("half", &[], &[0.5]);
    let mut value = "x".to_owned();
    for depth in 0..DEPTH {
        let [product, rectified, sum, halved] = ["m", "r", "s", "h"].map(|name| format!("{name}{depth}"));
        let skipped = if from_inputs { "x" } else { value.as_str() };
        graph = graph
            .node("MatMul", &[&value, "w"], &product)
            .node("Relu", &[&product], &rectified)
            .node("Add", &[&rectified, skipped], &sum)
            .node("Mul", &[&sum, "half"], &halved);
        value = halved;
    }
    graph.output(&value)
}

#[test]
fn eight_hundred_skip_connections_compute_their_formula() {
    for from_inputs in [false, true] {
        let model = model(&residual(from_inputs));
        assert_eq!(model.layers().len(), DEPTH + 1, "from_inputs: {from_inputs}");
        for x in [[1.0, 2.0], [-3.0, 0.5], [0.0, -1.0]] {
            let mut value = x;
            for _ in 0..DEPTH {
                let product = [0.5 * value[0] + 0.125 * value[1], -0.25 * value[0] + 0.5 * value[1]]
                    .map(|z: f64| z.max(0.0));
                let skipped = if from_inputs { x } else { value };
                value = [0.5 * (product[0] + skipped[0]), 0.5 * (product[1] + skipped[1])];
            }
            for (got, wanted) in model.outputs_f64(&x).into_iter().zip(value) {
                assert!((got - wanted).abs() < 1e-9, "{got} for {wanted}");
            }
        }
    }
}

#[test]
fn a_curve_of_a_million_values_is_refused_by_its_size() {
    for operator in ["Tanh", "Mish", "Sigmoid", "HardSwish"] {
        let graph = Builder::new().input("x", &[0, 1_000_000]).node(operator, &["x"], "y").output("y");
        let reasons = import("model.onnx", &graph.bytes(), &NoFiles).unwrap_err();
        assert!(["E0111", "E0129"].contains(&reasons[0].code.id), "{operator}: {reasons:?}");
    }
}

#[test]
fn many_outputs_and_inputs_are_refused_by_their_number() {
    let mut graph =
        Builder::new().weight("w", &[1, 1], &[1.0]).input("x", &[0, 1]).node("MatMul", &["x", "w"], "y");
    for output in 0..100_000 {
        graph = graph.output(if output == 0 { "y" } else { "x" });
    }
    assert!(import("model.onnx", &graph.bytes(), &NoFiles).is_err());
    let mut graph = Builder::new();
    for input in 0..60_000 {
        graph = graph.input(&format!("x{input}"), &[0, 2]).integers(&format!("w{input}"), &[1]);
    }
    assert!(import("model.onnx", &graph.output("x0").bytes(), &NoFiles).is_err());
}
