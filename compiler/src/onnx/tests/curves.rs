//! Curved functions: operators, and the ways in which exporters write them as several nodes.

use super::build::Builder;
use super::graphs::model;
use super::pieces::{around, rows};
use crate::model::{Activation, Function, Head};
use crate::onnx::{NoFiles, import};

/// Whether the graph applies `formula` to each value, as one layer of the function.
fn curve(built: &Builder, function: Function, formula: impl Fn(f64) -> f64) {
    let model = model(built);
    let layers = model.layers();
    assert_eq!(layers.len(), 2, "{function:?}");
    assert_eq!(layers[0].activation, Activation::Function(function));
    assert_eq!(layers[0].weights.rows, 2, "{function:?}");
    // Exporters write the constants of formulas in single precision.
    values(built, 1e-6, formula);
}

/// Whether the graph applies `formula` to each value, up to an error relative to the result.
fn values(built: &Builder, error: f64, formula: impl Fn(f64) -> f64) {
    let model = model(built);
    for row in rows() {
        let wanted = formula(row[0]) + 10.0 * formula(row[1]);
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= error * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
    }
}

/// Two functions of one number.
type Pair = (fn(f64) -> f64, fn(f64) -> f64);

fn sigmoid(x: f64) -> f64 {
    0.5 * (1.0 + (0.5 * x).tanh())
}

/// `ln(1 + exp(x))` by another formula than the model's.
fn softplus(x: f64) -> f64 {
    if x > 30.0 { x } else { (1.0 + x.exp()).ln() }
}

fn gelu(x: f64) -> f64 {
    x * 0.5 * libm::erfc(-x / 2.0_f64.sqrt())
}

fn tanh_gelu(x: f64) -> f64 {
    x * sigmoid(2.0 * (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3)))
}

fn one(operator: &'static str) -> Builder {
    around(|b| b.node(operator, &["h"], "a"))
}

#[test]
fn operators_are_their_functions() {
    let elu = |alpha: f32| Function::Elu { alpha: f64::from(alpha), gamma: 1.0, width: 1.0 };
    curve(&one("Tanh"), Function::Tanh, f64::tanh);
    curve(&one("Sigmoid"), Function::Sigmoid, sigmoid);
    curve(&one("Softplus"), Function::Softplus, softplus);
    curve(&one("Softsign"), Function::Softsign, |x| x / (1.0 + x.abs()));
    curve(&one("Elu"), elu(1.0), |x| if x > 0.0 { x } else { x.exp() - 1.0 });
    curve(&around(|b| b.node("Elu", &["h"], "a").float("alpha", 0.5)), elu(0.5), |x| {
        if x > 0.0 { x } else { 0.5 * (x.exp() - 1.0) }
    });
    let selu = Function::Elu { alpha: 1.673_263_192_176_818_8, gamma: 1.050_701_022_148_132_3, width: 1.0 };
    curve(&one("Selu"), selu, |x| 1.050_701 * if x > 0.0 { x } else { 1.673_263_2 * (x.exp() - 1.0) });
    let celu = Function::Elu { alpha: 2.0, gamma: 1.0, width: 2.0 };
    curve(&around(|b| b.node("Celu", &["h"], "a").float("alpha", 2.0)), celu, |x| {
        x.max(0.0) + (2.0 * ((x / 2.0).exp() - 1.0)).min(0.0)
    });
    curve(&one("Gelu"), Function::Gelu, gelu);
    let approximate = around(|b| b.node("Gelu", &["h"], "a").text("approximate", "tanh"));
    curve(&approximate, Function::TanhGelu, tanh_gelu);
    curve(&one("com.microsoft.Gelu"), Function::Gelu, gelu);
    curve(&one("com.microsoft.FastGelu"), Function::TanhGelu, tanh_gelu);
    let biased =
        around(|b| b.weight("bias", &[2], &[1.0, 1.0]).node("com.microsoft.BiasGelu", &["h", "bias"], "a"));
    curve(&biased, Function::Gelu, |x| gelu(x + 1.0));
    let slope = f64::from(1.702_f32);
    curve(&one("com.microsoft.QuickGelu"), Function::Silu { slope: 1.702 }, |x| x * sigmoid(slope * x));
    curve(
        &around(|b| b.node("Swish", &["h"], "a").float("alpha", 0.5)),
        Function::Silu { slope: 0.5 },
        |x| x * sigmoid(0.5 * x),
    );
    curve(&one("Mish"), Function::Mish, |x| x * softplus(x).tanh());
    curve(&one("HardSwish"), Function::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    let jump = around(|b| b.node("ThresholdedRelu", &["h"], "a").float("alpha", 0.75));
    curve(&jump, Function::ThresholdedRelu { alpha: 0.75 }, |x| if x > 0.75 { x } else { 0.0 });
    let squared = around(|b| b.weight("two", &[], &[2.0]).node("Pow", &["h", "two"], "a"));
    curve(&squared, Function::Square, |x| x * x);
    curve(&around(|b| b.node("Mul", &["h", "h"], "a")), Function::Square, |x| x * x);
}

#[test]
fn both_forms_of_shrink_are_exact() {
    let hard = around(|b| b.node("Shrink", &["h"], "a").float("lambd", 1.5));
    values(&hard, 1e-9, |x| if x.abs() > 1.5 { x } else { 0.0 });
    let soft = around(|b| b.node("Shrink", &["h"], "a").float("lambd", 1.5).float("bias", 1.5));
    values(&soft, 1e-9, |x| x.signum() * (x.abs() - 1.5).max(0.0));
}

/// `1`, and a number of a formula.
fn with(number: f32, nodes: impl FnOnce(Builder) -> Builder) -> Builder {
    around(|b| nodes(b.weight("one", &[], &[1.0]).weight("half", &[], &[0.5]).weight("c", &[], &[number])))
}

#[test]
fn gelu_is_known_as_it_is_written() {
    let root = std::f32::consts::SQRT_2;
    let exporters = [
        with(root, |b| {
            b.node("Div", &["h", "c"], "u")
                .node("Erf", &["u"], "e")
                .node("Add", &["e", "one"], "g")
                .node("Mul", &["h", "g"], "m")
                .node("Mul", &["m", "half"], "a")
        }),
        with(root, |b| {
            b.node("Mul", &["h", "half"], "m")
                .node("Div", &["h", "c"], "u")
                .node("Erf", &["u"], "e")
                .node("Add", &["one", "e"], "g")
                .node("Mul", &["g", "m"], "a")
        }),
        with(std::f32::consts::FRAC_1_SQRT_2, |b| {
            b.node("Mul", &["h", "c"], "u")
                .node("Erf", &["u"], "e")
                .node("Mul", &["e", "half"], "s")
                .node("Add", &["s", "half"], "g")
                .node("Mul", &["h", "g"], "a")
        }),
    ];
    for built in exporters {
        curve(&built, Function::Gelu, gelu);
    }
    let beta = (2.0 / std::f32::consts::PI).sqrt();
    let kappa = 0.044_715_f32;
    // PyTorch before operator set 20.
    let torch = with(beta, |b| {
        b.weight("k", &[], &[kappa])
            .node("Mul", &["h", "h"], "h2")
            .node("Mul", &["h", "h2"], "h3")
            .node("Mul", &["k", "h3"], "k3")
            .node("Add", &["h", "k3"], "i")
            .node("Mul", &["c", "i"], "u")
            .node("Tanh", &["u"], "t")
            .node("Add", &["one", "t"], "g")
            .node("Mul", &["h", "g"], "m")
            .node("Mul", &["half", "m"], "a")
    });
    curve(&torch, Function::TanhGelu, tanh_gelu);
    let power = with(beta, |b| {
        b.weight("k", &[], &[kappa])
            .weight("three", &[], &[3.0])
            .node("Pow", &["h", "three"], "h3")
            .node("Mul", &["h3", "k"], "k3")
            .node("Add", &["h", "k3"], "i")
            .node("Mul", &["i", "c"], "u")
            .node("Tanh", &["u"], "t")
            .node("Add", &["t", "one"], "g")
            .node("Mul", &["h", "half"], "m")
            .node("Mul", &["m", "g"], "a")
    });
    curve(&power, Function::TanhGelu, tanh_gelu);
    let nested = with(beta, |b| {
        b.weight("k", &[], &[kappa])
            .node("Mul", &["h", "k"], "kh")
            .node("Mul", &["kh", "h"], "k2")
            .node("Add", &["k2", "one"], "p")
            .node("Mul", &["h", "c"], "ch")
            .node("Mul", &["ch", "p"], "u")
            .node("Tanh", &["u"], "t")
            .node("Add", &["t", "one"], "g")
            .node("Mul", &["h", "half"], "m")
            .node("Mul", &["m", "g"], "a")
    });
    curve(&nested, Function::TanhGelu, tanh_gelu);
}

#[test]
fn gates_of_a_value_by_itself_are_activations() {
    let silu = around(|b| b.node("Sigmoid", &["h"], "s").node("Mul", &["h", "s"], "a"));
    curve(&silu, Function::Silu { slope: 1.0 }, |x| x * sigmoid(x));
    let quick = with(1.5, |b| {
        b.node("Mul", &["h", "c"], "u").node("Sigmoid", &["u"], "s").node("Mul", &["s", "h"], "a")
    });
    curve(&quick, Function::Silu { slope: 1.5 }, |x| x * sigmoid(1.5 * x));
    let divided = with(1.0, |b| {
        b.node("Neg", &["h"], "n").node("Exp", &["n"], "e").node("Add", &["e", "one"], "d").node(
            "Div",
            &["h", "d"],
            "a",
        )
    });
    curve(&divided, Function::Silu { slope: 1.0 }, |x| x * sigmoid(x));
    let mish =
        around(|b| b.node("Softplus", &["h"], "p").node("Tanh", &["p"], "t").node("Mul", &["h", "t"], "a"));
    curve(&mish, Function::Mish, |x| x * softplus(x).tanh());
    let hard = around(|b| {
        b.node("HardSigmoid", &["h"], "g").float("alpha", 1.0 / 6.0).node("Mul", &["h", "g"], "a")
    });
    curve(&hard, Function::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    let clipped = around(|b| {
        b.weight("three", &[], &[3.0])
            .weight("zero", &[], &[0.0])
            .weight("six", &[], &[6.0])
            .node("Add", &["h", "three"], "u")
            .node("Clip", &["u", "zero", "six"], "g")
            .node("Mul", &["h", "g"], "m")
            .node("Div", &["m", "six"], "a")
    });
    curve(&clipped, Function::HardSwish, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    let softsign = with(1.0, |b| {
        b.node("Abs", &["h"], "m").node("Add", &["one", "m"], "d").node("Div", &["h", "d"], "a")
    });
    curve(&softsign, Function::Softsign, |x| x / (1.0 + x.abs()));
}

#[test]
fn logarithms_and_exponentials_are_known_together() {
    let written =
        with(1.0, |b| b.node("Exp", &["h"], "e").node("Add", &["e", "one"], "d").node("Log", &["d"], "a"));
    curve(&written, Function::Softplus, softplus);
    let one_plus =
        with(1.0, |b| b.node("Relu", &["h"], "r").node("Add", &["one", "r"], "d").node("Log", &["d"], "a"));
    curve(&one_plus, Function::LogOnePlus, |x| (1.0 + x.max(0.0)).ln());
    let log = around(|b| b.node("Sigmoid", &["h"], "s").node("Log", &["s"], "a"));
    curve(&log, Function::Softplus, |x| -softplus(-x));
    let sigmoid_of_parts = with(1.0, |b| {
        b.node("Neg", &["h"], "n").node("Exp", &["n"], "e").node("Add", &["one", "e"], "d").node(
            "Div",
            &["one", "d"],
            "a",
        )
    });
    curve(&sigmoid_of_parts, Function::Sigmoid, sigmoid);
    // PyTorch's own exporter replaces Softplus by its argument where that is large.
    let straight = with(20.0, |b| {
        b.node("Softplus", &["h"], "p").node("Greater", &["h", "c"], "l").node("Where", &["l", "h", "p"], "a")
    });
    curve(&straight, Function::Softplus, softplus);
    // By themselves they are no activation.
    for operator in ["Exp", "Erf"] {
        let reasons = import("model.onnx", &one(operator).bytes(), &NoFiles).unwrap_err();
        assert_eq!(reasons[0].code.id, "E0120", "{reasons:?}");
    }
    let early = with(2.0, |b| {
        b.node("Softplus", &["h"], "p").node("Greater", &["h", "c"], "l").node("Where", &["l", "h", "p"], "a")
    });
    assert_eq!(import("model.onnx", &early.bytes(), &NoFiles).unwrap_err()[0].code.id, "E0125");
}

#[test]
fn products_of_different_values_are_refused() {
    let gate = around(|b| {
        b.weight("wg", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
            .node("MatMul", &["x", "wg"], "z")
            .node("Sigmoid", &["z"], "s")
            .node("Mul", &["h", "s"], "a")
    });
    let reasons = import("model.onnx", &gate.bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, "E0125", "{reasons:?}");
    let shifted = with(0.5, |b| b.node("Add", &["h", "c"], "z").node("Mul", &["h", "z"], "a"));
    assert_eq!(import("model.onnx", &shifted.bytes(), &NoFiles).unwrap_err()[0].code.id, "E0125");
}

#[test]
fn a_sigmoid_may_be_read_and_be_an_output() {
    // The same number is the probability of a class and a value that nothing reads twice.
    let built = around(|b| b.node("Sigmoid", &["h"], "a")).node("Sigmoid", &["y"], "p").output("p");
    let model = model(&built);
    assert_eq!(model.layers().len(), 2);
    assert_eq!(model.first.head, Head::Logistic);
    assert_eq!(model.first.names, ["y", "p"]);
}

/// Two layers of three values, `a = f(A x)` and `b = g(B a)`, and what `join` makes of them.
fn two(f: &str, g: &str, join: impl FnOnce(Builder) -> Builder) -> Builder {
    let start = Builder::new()
        .input("x", &[0, 2])
        .weight("wa", &[2, 3], &[1.0, -1.0, 0.5, 0.25, 1.0, -0.5])
        .weight("wb", &[3, 3], &[1.0, 0.0, -1.0, 0.5, 1.0, 0.0, -1.0, 0.25, 2.0])
        .weight("wx", &[2, 3], &[0.5, 0.25, 1.0, -1.0, -0.5, 0.5])
        .weight("sum", &[3, 1], &[1.0, 2.0, -3.0])
        .node("MatMul", &["x", "wa"], "ha")
        .node(f, &["ha"], "a")
        .node("MatMul", &["a", "wb"], "hb")
        .node(g, &["hb"], "b");
    join(start).node("MatMul", &["c", "sum"], "y").output("y")
}

/// Whether the model gives what the formula makes of `x wx`, `a` and `b`, with layers of these widths, of which the
/// last values have no activation.
fn joined(
    built: &Builder,
    widths: &[(usize, usize)],
    (f, g): Pair,
    formula: impl Fn([f64; 3], [f64; 3], [f64; 3]) -> [f64; 3],
) {
    let model = model(built);
    let layers: Vec<(usize, usize)> =
        model.layers().iter().map(|layer| (layer.weights.rows, layer.plain)).collect();
    assert_eq!(layers, widths);
    for [x, y] in rows() {
        let s = [0.5 * x - y, 0.25 * x - 0.5 * y, x + 0.5 * y];
        let a = [x + 0.25 * y, y - x, 0.5 * (x - y)].map(f);
        let b = [a[0] + 0.5 * a[1] - a[2], a[1] + 0.25 * a[2], 2.0 * a[2] - a[0]].map(g);
        let c = formula(s, a, b);
        let wanted = c[0] + 2.0 * c[1] - 3.0 * c[2];
        let [got] = model.outputs_f64(&[x, y])[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{x} {y}: {got} for {wanted}");
    }
}

fn added(first: [f64; 3], second: [f64; 3]) -> [f64; 3] {
    [first[0] + second[0], first[1] + second[1], first[2] + second[2]]
}

#[test]
fn values_are_carried_past_curves_without_an_activation() {
    let (tanh, relu): Pair = (f64::tanh, |x| x.max(0.0));
    let residual = |f, g| two(f, g, |b| b.node("Add", &["a", "b"], "c"));
    joined(&residual("Tanh", "Tanh"), &[(3, 0), (6, 3), (1, 0)], (tanh, tanh), |_, a, b| added(a, b));
    // Rectified values pass a curve as they are, too; values of both signs pass ReLU in two parts.
    joined(&residual("Relu", "Tanh"), &[(3, 0), (6, 3), (1, 0)], (relu, tanh), |_, a, b| added(a, b));
    joined(&residual("Tanh", "Relu"), &[(3, 0), (9, 0), (1, 0)], (tanh, relu), |_, a, b| added(a, b));
    let sigmoids: Pair = (sigmoid, relu);
    joined(&residual("Sigmoid", "Relu"), &[(3, 0), (6, 0), (1, 0)], sigmoids, |_, a, b| added(a, b));
    // The two inputs past two curves.
    let shortcut = two("Tanh", "Gelu", |b| b.node("MatMul", &["x", "wx"], "s").node("Sub", &["b", "s"], "c"));
    joined(&shortcut, &[(5, 2), (5, 2), (1, 0)], (tanh, gelu), |s, _, b| added(b, s.map(|v| -v)));
}

#[test]
fn branches_of_different_activations_become_layers_one_after_the_other() {
    let (tanh, relu): Pair = (f64::tanh, |x| x.max(0.0));
    let branch = |f: &str, other: &str| {
        two(f, "Relu", |b| {
            b.node("MatMul", &["x", "wx"], "hs").node(other, &["hs"], "s").node("Add", &["a", "s"], "c")
        })
    };
    joined(&branch("Tanh", "Tanh"), &[(6, 0), (1, 0)], (tanh, relu), |s, a, _| added(a, s.map(tanh)));
    joined(&branch("Tanh", "Relu"), &[(9, 0), (6, 3), (1, 0)], (tanh, relu), |s, a, _| added(a, s.map(relu)));
    joined(&branch("Relu", "Tanh"), &[(6, 3), (9, 0), (1, 0)], (relu, relu), |s, a, _| added(a, s.map(tanh)));
}
