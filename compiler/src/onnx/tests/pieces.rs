//! Functions made of straight pieces, skip connections and local functions: exactly what their formulas say.

use super::build::Builder;
use super::graphs::model;
use crate::model::Activation;
use crate::onnx::{NoFiles, import};

/// Rows on both sides of every corner below.
pub(super) fn rows() -> Vec<[f64; 2]> {
    let steps = (-24..=24).map(|step| f64::from(step) * 0.25);
    steps.map(|x| [x, 1.5 - 2.0 * x]).chain([[100.0, -100.0], [-1000.0, 1000.0], [0.0, 0.0]]).collect()
}

/// Two features through a node `f` of which `h` is the input and `a` the output, then added up with weights 1 and 10.
pub(super) fn around(node: impl FnOnce(Builder) -> Builder) -> Builder {
    let start = Builder::new()
        .input("x", &[0, 2])
        .weight("w0", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
        .weight("w1", &[2, 1], &[1.0, 10.0])
        .node("MatMul", &["x", "w0"], "h");
    node(start).node("MatMul", &["a", "w1"], "y").output("y")
}

/// Whether the graph applies `formula` to each value, and with how many neurons in its hidden layer.
fn computes(built: &Builder, formula: impl Fn(f64, usize) -> f64) -> usize {
    let model = model(built);
    for row in rows() {
        let wanted = formula(row[0], 0) + 10.0 * formula(row[1], 1);
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
    }
    let layers = model.layers();
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[0].activation, Activation::Relu);
    // The layer behind has the name of its own node, not of the function.
    assert_eq!(layers[1].origin.operator, "MatMul");
    layers[0].weights.rows
}

#[test]
fn straight_pieces_are_exact() {
    let leaky = around(|b| b.node("LeakyRelu", &["h"], "a").float("alpha", 0.125));
    assert_eq!(computes(&leaky, |x, _| if x > 0.0 { x } else { 0.125 * x }), 4);

    let slopes = around(|b| b.weight("s", &[2], &[0.25, -0.5]).node("PRelu", &["h", "s"], "a"));
    assert_eq!(computes(&slopes, |x, column| if x > 0.0 { x } else { [0.25, -0.5][column] * x }), 4);

    let six = around(|b| {
        b.weight("low", &[], &[0.0]).weight("high", &[], &[6.0]).node("Clip", &["h", "low", "high"], "a")
    });
    assert_eq!(computes(&six, |x, _| x.clamp(0.0, 6.0)), 4);
    let hard_tanh = around(|b| b.node("Clip", &["h"], "a").float("min", -1.0).float("max", 1.0));
    assert_eq!(computes(&hard_tanh, |x, _| x.clamp(-1.0, 1.0)), 4);
    let below = around(|b| b.weight("high", &[1], &[2.0]).node("Clip", &["h", "", "high"], "a"));
    assert_eq!(computes(&below, |x, _| x.min(2.0)), 2);
    let above = around(|b| b.node("Clip", &["h"], "a").float("min", -0.5).float("max", f32::MAX));
    assert_eq!(computes(&above, |x, _| x.max(-0.5)), 2);

    let sigmoid = around(|b| b.node("HardSigmoid", &["h"], "a").float("alpha", 0.25).float("beta", 0.5));
    assert_eq!(computes(&sigmoid, |x, _| (0.25 * x + 0.5).clamp(0.0, 1.0)), 4);
    assert_eq!(computes(&around(|b| b.node("Abs", &["h"], "a")), |x, _| x.abs()), 4);

    let bounds =
        |operator: &str| around(|b| b.weight("c", &[2], &[1.0, -2.0]).node(operator, &["h", "c"], "a"));
    assert_eq!(computes(&bounds("Max"), |x, column| x.max([1.0, -2.0][column])), 2);
    assert_eq!(computes(&bounds("Min"), |x, column| x.min([1.0, -2.0][column])), 2);
}

#[test]
fn a_gemm_may_hold_its_activation() {
    let fused = |activation: &str| {
        Builder::new()
            .input("x", &[0, 2])
            .weight("w0", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
            .weight("w1", &[2, 1], &[1.0, 10.0])
            .node("com.microsoft.FusedGemm", &["x", "w0"], "a")
            .text("activation", activation)
            .float("activation_alpha", 0.5)
            .node("MatMul", &["a", "w1"], "y")
            .output("y")
    };
    assert_eq!(computes(&fused("Relu"), |x, _| x.max(0.0)), 2);
    assert_eq!(computes(&fused("LeakyRelu"), |x, _| if x > 0.0 { x } else { 0.5 * x }), 4);
    let reasons = import("model.onnx", &fused("Maxout").bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, "E0124");
}

/// Three layers: `a = relu(A x)`, `b = relu(B a)`, and what `join` makes of the two, `x` and their weights.
fn deep(join: impl FnOnce(Builder) -> Builder) -> Builder {
    let start = Builder::new()
        .input("x", &[0, 2])
        .weight("wa", &[2, 3], &[1.0, -1.0, 0.5, 2.0, 1.0, -0.5])
        .weight("wb", &[3, 3], &[1.0, 0.0, -1.0, 0.5, 1.0, 0.0, -1.0, 0.25, 2.0])
        .weight("bb", &[3], &[0.5, -0.25, 1.0])
        .weight("wx", &[2, 3], &[1.0, 2.0, 3.0, -1.0, -2.0, -3.0])
        .weight("sum", &[3, 1], &[1.0, 1.0, 1.0])
        .weight("sum6", &[6, 1], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        .node("MatMul", &["x", "wa"], "ha")
        .node("Relu", &["ha"], "a")
        .node("MatMul", &["a", "wb"], "pb")
        .node("Add", &["pb", "bb"], "hb")
        .node("Relu", &["hb"], "b");
    join(start).output("y")
}

/// The values of `a`, `b` and `x wx`.
fn deep_values(x: [f64; 2]) -> [[f64; 3]; 3] {
    let a = [x[0] + 2.0 * x[1], x[1] - x[0], 0.5 * (x[0] - x[1])].map(|v: f64| v.max(0.0));
    let b = [a[0] + 0.5 * a[1] - a[2] + 0.5, a[1] + 0.25 * a[2] - 0.25, 2.0 * a[2] - a[0] + 1.0]
        .map(|v| v.max(0.0));
    let skip = [1.0, 2.0, 3.0].map(|w| w * (x[0] - x[1]));
    [a, b, skip]
}

fn agrees(built: &Builder, widths: &[usize], formula: impl Fn([[f64; 3]; 3]) -> f64) {
    let model = model(built);
    for row in rows() {
        let wanted = formula(deep_values(row));
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
    }
    let layers = model.layers();
    let rows: Vec<usize> = layers.iter().map(|layer| layer.weights.rows).collect();
    assert_eq!(rows, widths);
}

#[test]
fn skip_connections_are_carried_in_wider_layers() {
    // Rectified values pass the next activation as they are.
    let residual = deep(|b| b.node("Add", &["a", "b"], "c").node("MatMul", &["c", "sum"], "y"));
    agrees(&residual, &[3, 6, 1], |[a, b, _]| a.iter().chain(&b).sum());
    // The two inputs are fewer than the three values made of them; both signs are carried past both layers.
    let shortcut = deep(|b| {
        b.node("MatMul", &["x", "wx"], "s").node("Sub", &["b", "s"], "c").node("MatMul", &["c", "sum"], "y")
    });
    agrees(&shortcut, &[7, 7, 1], |[_, b, s]| b.iter().sum::<f64>() - s.iter().sum::<f64>());
    // Two branches of one length become one layer.
    let branches = deep(|b| {
        b.node("MatMul", &["x", "wx"], "hs")
            .node("Relu", &["hs"], "s")
            .node("Concat", &["a", "s"], "c")
            .int("axis", 1)
            .node("MatMul", &["c", "sum6"], "y")
    });
    agrees(&branches, &[6, 1], |[a, _, s]| {
        let s = s.map(|v| v.max(0.0));
        a[0] + 2.0 * a[1] + 3.0 * a[2] + 4.0 * s[0] + 5.0 * s[1] + 6.0 * s[2]
    });
    // Three summands of three depths.
    let all = deep(|b| {
        b.node("MatMul", &["x", "wx"], "s").node("Sum", &["a", "s", "b"], "c").node(
            "MatMul",
            &["c", "sum"],
            "y",
        )
    });
    agrees(&all, &[7, 9, 1], |values| values.iter().flatten().sum());
}

/// `y = act(act(x w0) w1)`, where `act` is a function with an attribute.
pub(super) fn called() -> Builder {
    Builder::new()
        .node("MatMul", &["v", "w"], "h")
        .node("LeakyRelu", &["h"], "r")
        .refers("alpha", "slope")
        .function("Layer", &["v", "w"], &["r"])
        .input("x", &[0, 2])
        .weight("w0", &[2, 2], &[1.0, 0.0, 0.0, 1.0])
        .weight("w1", &[2, 1], &[1.0, 10.0])
        .node("local.Layer", &["x", "w0"], "a")
        .float("slope", 0.5)
        .node("MatMul", &["a", "w1"], "y")
        .output("y")
}

#[test]
fn local_functions_are_replaced_by_what_they_stand_for() {
    assert_eq!(computes(&called(), |x, _| if x > 0.0 { x } else { 0.5 * x }), 4);
    // Without the caller's attribute the operator has its own default.
    let mut plain = called();
    plain.graph().node[0].attribute.clear();
    let slope = f64::from(0.01_f32);
    assert_eq!(computes(&plain, |x, _| if x > 0.0 { x } else { slope * x }), 4);
    // A function that calls itself.
    let mut recursive = called();
    recursive.0.functions[0].node[1].op_type = Some("Layer".to_owned());
    recursive.0.functions[0].node[1].domain = Some("local".to_owned());
    let reasons = import("model.onnx", &recursive.bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, "E0115", "{reasons:?}");
    // A function that stands for very many nodes: each level calls the one below ten times.
    let mut bomb = called();
    let template = bomb.0.functions[0].clone();
    for level in 0..9 {
        let mut function = template.clone();
        function.name = Some(format!("Level{level}"));
        let mut call = function.node[0].clone();
        call.op_type = Some(if level == 0 { "Layer".to_owned() } else { format!("Level{}", level - 1) });
        call.domain = Some("local".to_owned());
        function.node = vec![call; 10];
        bomb.0.functions.push(function);
    }
    bomb.graph().node[0].op_type = Some("Level8".to_owned());
    let reasons = import("model.onnx", &bomb.bytes(), &NoFiles).unwrap_err();
    assert_eq!(reasons[0].code.id, "E0111", "{reasons:?}");
}
