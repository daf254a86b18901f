//! Operators that hold their quantisation, beside the same model written with QuantizeLinear and DequantizeLinear.

use super::build::Builder;
use super::graphs::model;
use super::quantised::{around, assert_computes, rows};
use crate::model::{Activation, Function, Head};
use crate::onnx::schema::data_type::{INT8, INT32, UINT8};
use crate::onnx::{NoFiles, import};

fn codes(built: &Builder) -> Vec<&'static str> {
    import("model.onnx", &built.bytes(), &NoFiles).unwrap_err().iter().map(|reason| reason.code.id).collect()
}

/// Data in integers, weights for each output, and scales of two further values.
fn start() -> Builder {
    Builder::new()
        .input("x", &[0, 2])
        .weight("xs", &[], &[0.0625])
        .typed("xz", UINT8, &[], &[100])
        .weight("ws", &[3], &[0.5, 0.375, 0.03125])
        .typed("wz", INT8, &[3], &[0, 2, -1])
        .typed("w", INT8, &[2, 3], &[3, -5, 127, 1, 2, -128])
        .weight("ys", &[], &[0.3])
        .typed("yz", INT8, &[], &[-11])
        .weight("zs", &[], &[0.21])
        .typed("zz", UINT8, &[], &[77])
        .typed("c", UINT8, &[3], &[10, 120, 99])
        .node("QuantizeLinear", &["x", "xs", "xz"], "q")
}

fn dequantised(b: Builder) -> Builder {
    b.node("DequantizeLinear", &["q", "xs", "xz"], "d")
        .node("DequantizeLinear", &["w", "ws", "wz"], "wd")
        .int("axis", 1)
        .node("DequantizeLinear", &["c", "xs", "xz"], "cd")
}

fn product(b: Builder) -> Builder {
    dequantised(b).node("MatMul", &["d", "wd"], "h")
}

/// Behind the operator under test: its output as numbers, through a dense layer.
fn end(b: Builder, scale: &str, zero: &str) -> Builder {
    b.weight("last", &[3, 3], &[1.0, 0.0, 0.5, 0.0, 1.0, 0.0, 2.0, 0.0, 1.0])
        .node("DequantizeLinear", &["r", scale, zero], "a")
        .node("MatMul", &["a", "last"], "y")
        .output("y")
}

fn assert_same(ours: &Builder, theirs: &Builder) {
    let (ours, theirs) = (model(ours), model(theirs));
    assert_eq!(ours.layers().len(), theirs.layers().len());
    for (ours, theirs) in ours.layers().iter().zip(theirs.layers()) {
        assert_eq!((&ours.weights, ours.activation), (&theirs.weights, theirs.activation));
    }
    for row in rows() {
        assert_eq!(ours.outputs_f64(&row), theirs.outputs_f64(&row), "{row:?}");
    }
}

#[test]
fn products_are_those_of_numbers() {
    let matrix = ["q", "xs", "xz", "w", "ws", "wz"];
    let q_linear = start().node("QLinearMatMul", &[&matrix[..], &["ys", "yz"]].concat(), "r");
    let plain = || product(start()).node("QuantizeLinear", &["h", "ys", "yz"], "r");
    assert_same(&end(q_linear, "ys", "yz"), &end(plain(), "ys", "yz"));

    let gemm = |bias: &str, output: &[&str]| {
        start().typed("bias", INT32, &[3], &[1000, -3000, 40]).node(
            "com.microsoft.QGemm",
            &[&matrix[..], &[bias], output].concat(),
            "r",
        )
    };
    assert_same(&end(gemm("", &["ys", "yz"]), "ys", "yz"), &end(plain(), "ys", "yz"));
    // The bias is in units of both scales.
    let with_bias = product(start())
        .weight("b", &[3], &[1000.0 * 0.031_25, -3000.0 * 0.023_437_5, 40.0 * 0.001_953_125])
        .node("Add", &["h", "b"], "g")
        .node("QuantizeLinear", &["g", "ys", "yz"], "r");
    assert_same(&end(gemm("bias", &["ys", "yz"]), "ys", "yz"), &end(with_bias, "ys", "yz"));
    // Without a scale for its output it stays in float; `alpha` multiplies all of it.
    let float = gemm("bias", &[]).float("alpha", 0.5).output("r");
    let numbers = product(start())
        .weight("b", &[3], &[1000.0 * 0.031_25, -3000.0 * 0.023_437_5, 40.0 * 0.001_953_125])
        .weight("half", &[], &[0.5])
        .node("Add", &["h", "b"], "g")
        .node("Mul", &["g", "half"], "r")
        .output("r");
    assert_same(&float, &numbers);
    assert_eq!(codes(&gemm("", &[]).int("transA", 1).output("r")), ["E0125"]);
}

#[test]
fn weights_of_gemm_may_be_transposed() {
    let built = start()
        .typed("wt", INT8, &[3, 2], &[3, 1, -5, 2, 127, -128])
        .node("com.microsoft.QGemm", &["q", "xs", "xz", "wt", "ws", "wz", "", "ys", "yz"], "r")
        .int("transB", 1);
    let plain = product(start()).node("QuantizeLinear", &["h", "ys", "yz"], "r");
    assert_same(&end(built, "ys", "yz"), &end(plain, "ys", "yz"));
}

#[test]
fn element_wise_operators_are_those_of_numbers() {
    let rounded = |b: Builder| b.node("QuantizeLinear", &["h", "ys", "yz"], "p");
    let numbers = |b: Builder| rounded(product(b)).node("DequantizeLinear", &["p", "ys", "yz"], "pd");
    let both = ["p", "ys", "yz", "c", "xs", "xz", "zs", "zz"];
    for (fused, plain) in [("QLinearAdd", "Add"), ("QLinearMul", "Mul")] {
        let ours = rounded(product(start())).node(&format!("com.microsoft.{fused}"), &both, "r");
        let theirs =
            numbers(start()).node(plain, &["pd", "cd"], "n").node("QuantizeLinear", &["n", "zs", "zz"], "r");
        assert_same(&end(ours, "zs", "zz"), &end(theirs, "zs", "zz"));
    }
    let ours = rounded(product(start()))
        .node("com.microsoft.QLinearLeakyRelu", &["p", "ys", "yz", "zs", "zz"], "r")
        .float("alpha", 0.25);
    let theirs = numbers(start()).node("LeakyRelu", &["pd"], "n").float("alpha", 0.25).node(
        "QuantizeLinear",
        &["n", "zs", "zz"],
        "r",
    );
    assert_same(&end(ours, "zs", "zz"), &end(theirs, "zs", "zz"));

    // A value is carried past the roundings of what was made of it.
    let skip = rounded(product(start()))
        .node("com.microsoft.QLinearLeakyRelu", &["p", "ys", "yz", "zs", "zz"], "l")
        .node("com.microsoft.QLinearAdd", &["p", "ys", "yz", "l", "zs", "zz", "zs", "zz"], "r");
    let plain = numbers(start())
        .node("LeakyRelu", &["pd"], "n")
        .node("QuantizeLinear", &["n", "zs", "zz"], "l")
        .node("DequantizeLinear", &["l", "zs", "zz"], "ld")
        .node("Add", &["pd", "ld"], "sum")
        .node("QuantizeLinear", &["sum", "zs", "zz"], "r");
    assert_same(&end(skip, "zs", "zz"), &end(plain, "zs", "zz"));
    let twice = rounded(product(start())).node(
        "com.microsoft.QLinearAdd",
        &["p", "ys", "yz", "p", "ys", "yz", "zs", "zz"],
        "r",
    );
    let plain =
        numbers(start()).node("Add", &["pd", "pd"], "n").node("QuantizeLinear", &["n", "zs", "zz"], "r");
    assert_same(&end(twice, "zs", "zz"), &end(plain, "zs", "zz"));
}

#[test]
fn concat_reads_each_value_with_its_own_scale() {
    let parts = |b: Builder| {
        product(b)
            .integers("first", &[0, 1])
            .integers("second", &[2])
            .node("Gather", &["h", "first"], "h0")
            .int("axis", 1)
            .node("Gather", &["h", "second"], "h1")
            .int("axis", 1)
            .node("QuantizeLinear", &["h0", "ys", "yz"], "p0")
            .node("QuantizeLinear", &["h1", "ys", "yz"], "p1")
    };
    let ours = parts(start())
        .node("com.microsoft.QLinearConcat", &["zs", "zz", "p0", "ys", "yz", "p1", "ys", "yz"], "r")
        .int("axis", 1);
    // The same rounding on both sides: integers may be joined before they are read.
    let theirs = parts(start())
        .node("Concat", &["p0", "p1"], "p")
        .int("axis", 1)
        .node("DequantizeLinear", &["p", "ys", "yz"], "pd")
        .node("QuantizeLinear", &["pd", "zs", "zz"], "r");
    let (ours, theirs) = (model(&end(ours, "zs", "zz")), model(&end(theirs, "zs", "zz")));
    assert_eq!(ours.layers().len(), theirs.layers().len());
    for row in rows() {
        assert_eq!(ours.outputs_f64(&row), theirs.outputs_f64(&row), "{row:?}");
    }
}

#[test]
fn tails_may_be_quantised() {
    let tail = |operator: &str| {
        product(start())
            .weight("ps", &[], &[0.003_906_25])
            .typed("pz", UINT8, &[], &[0])
            .node("QuantizeLinear", &["h", "ys", "yz"], "p")
            .node(operator, &["p", "ys", "yz", "ps", "pz"], "s")
            .node("DequantizeLinear", &["s", "ps", "pz"], "y")
            .output("y")
    };
    let softmax = model(&tail("com.microsoft.QLinearSoftmax"));
    assert_eq!(softmax.first.head, Head::Logits);
    let sigmoid = model(&tail("com.microsoft.QLinearSigmoid"));
    assert_eq!(sigmoid.outputs().map(|output| output.head).collect::<Vec<_>>(), [Head::Logistic; 3]);
    for model in [softmax, sigmoid] {
        let last = model.layers().last().unwrap();
        assert!(
            matches!(last.activation, Activation::Function(Function::Levels(levels)) if levels.zero == -11)
        );
    }
}

/// Between layers a sigmoid is a function of each value, and its rounding stays.
#[test]
fn rounded_sigmoids_may_be_read_by_layers() {
    let scales = |b: Builder| b.weight("ps", &[], &[0.003_906_25]).typed("pz", UINT8, &[], &[0]);
    let fused = scales(product(start()))
        .node("QuantizeLinear", &["h", "ys", "yz"], "p")
        .node("com.microsoft.QLinearSigmoid", &["p", "ys", "yz", "ps", "pz"], "s")
        .typed("v", INT8, &[3, 3], &[9, 0, -7, 1, 2, 3, 100, -100, 50])
        .node("QLinearMatMul", &["s", "ps", "pz", "v", "ws", "wz", "zs", "zz"], "r");
    let plain = scales(product(start()))
        .node("QuantizeLinear", &["h", "ys", "yz"], "p")
        .node("DequantizeLinear", &["p", "ys", "yz"], "pd")
        .node("Sigmoid", &["pd"], "s")
        .node("QuantizeLinear", &["s", "ps", "pz"], "q2")
        .node("DequantizeLinear", &["q2", "ps", "pz"], "sd")
        .typed("v", INT8, &[3, 3], &[9, 0, -7, 1, 2, 3, 100, -100, 50])
        .node("DequantizeLinear", &["v", "ws", "wz"], "vd")
        .int("axis", 1)
        .node("MatMul", &["sd", "vd"], "n")
        .node("QuantizeLinear", &["n", "zs", "zz"], "r");
    let plain = end(plain, "zs", "zz");
    assert_same(&end(fused, "zs", "zz"), &plain);
    let names: Vec<&str> = model(&plain).layers().iter().map(|layer| layer.activation.name()).collect();
    assert_eq!(names, ["levels", "levels", "sigmoid", "levels", "levels", "identity"]);
}

/// QONNX's Quant around the data of a layer.
fn quant(edit: impl FnOnce(Builder) -> Builder, bits: f32) -> Builder {
    around(|b| {
        edit(b.weight("s", &[], &[0.25]).weight("z", &[], &[0.0]).weight("bits", &[], &[bits]).node(
            "qonnx.custom_op.general.Quant",
            &["x", "s", "z", "bits"],
            "a",
        ))
    })
}

#[test]
fn quant_rounds_to_its_bits() {
    let level = |low: f64, high: f64| {
        move |x: f64| {
            let scaled = x / 0.25;
            let nearest = if (scaled - scaled.floor() - 0.5).abs() == 0.0 {
                2.0 * (scaled / 2.0).round()
            } else {
                scaled.round()
            };
            nearest.max(low).min(high) * 0.25
        }
    };
    assert_computes(&model(&quant(|b| b, 4.0)), level(-8.0, 7.0));
    assert_computes(&model(&quant(|b| b.int("narrow", 1), 4.0)), level(-7.0, 7.0));
    assert_computes(&model(&quant(|b| b.int("signed", 0), 4.0)), level(0.0, 15.0));
    assert_computes(&model(&quant(|b| b.int("signed", 0).int("narrow", 1), 3.0)), level(0.0, 6.0));
    assert_eq!(codes(&quant(|b| b.text("rounding_mode", "FLOOR"), 4.0)), ["E0122"]);
    assert_eq!(codes(&quant(|b| b, 20.0)), ["E0122"]);
    assert_eq!(codes(&quant(|b| b, 3.5)), ["E0122"]);
    assert_eq!(codes(&quant(|b| b, 0.0)), ["E0122"]);
}

#[test]
fn quant_of_constants_folds() {
    let built = |operator: &str| {
        Builder::new()
            .input("x", &[0, 2])
            .weight("w", &[2, 2], &[0.3, -9.0, 0.9, 0.0])
            .weight("s", &[2, 1], &[0.25, 0.5])
            .weight("z", &[], &[0.0])
            .weight("bits", &[], &[4.0])
            .node(operator, &["w", "s", "z", "bits"], "q")
            .int("narrow", 1)
            .node("Gemm", &["x", "q"], "y")
            .int("transB", 1)
            .output("y")
    };
    let weights = |operator: &str| model(&built(operator)).layers()[0].weights.values.clone();
    assert_eq!(weights("qonnx.custom_op.general.Quant"), [0.25, -1.75, 1.0, 0.0]);
    assert_eq!(weights("qonnx.custom_op.general.BipolarQuant"), [0.25, -0.25, 0.5, 0.5]);
}

#[test]
fn bipolar_numbers_have_two_values() {
    let built = around(|b| {
        b.weight("s", &[], &[0.75]).node("qonnx.custom_op.general.BipolarQuant", &["x", "s"], "a")
    });
    assert_computes(&model(&built), |x| if x >= 0.0 { 0.75 } else { -0.75 });
}
