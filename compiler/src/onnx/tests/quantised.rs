//! Models with quantisation of their own: what QuantizeLinear and DequantizeLinear become, as the format defines them.

use std::collections::BTreeSet;

use super::build::Builder;
use super::graphs::model;
use crate::ir::interpret;
use crate::model::{Activation, Function, Head, Levels, Model};
use crate::onnx::schema::data_type::{INT2, INT4, INT8, INT16, INT32, UINT4, UINT8, UINT16};
use crate::onnx::tensor::to_half;
use crate::onnx::{NoFiles, import};
use crate::quant::{MaxFlips, Options, contract, quantise};

/// Two features from `x`, and a layer `[1, 10]` that reads `a`.
pub(super) fn around(nodes: impl FnOnce(Builder) -> Builder) -> Builder {
    let start = Builder::new().input("x", &[0, 2]).weight("w", &[2, 1], &[1.0, 10.0]);
    nodes(start).node("MatMul", &["a", "w"], "y").output("y")
}

/// Numbers about zero in sixteenths, ties among them, and beyond every range.
pub(super) fn rows() -> Vec<[f64; 2]> {
    let steps = (-80..=80).map(|step| f64::from(step) / 16.0);
    steps.map(|x| [x, 1.5 - 3.0 * x]).chain([[1e6, -1e6], [-4e4, 4e4], [300.0, -300.0]]).collect()
}

/// The rounding as the format writes it down.
fn rounded(levels: Levels, x: f64) -> f64 {
    let down = (x / levels.scale).floor();
    let rest = x / levels.scale - down;
    let up = rest > 0.5 || (rest == 0.5 && down.rem_euclid(2.0) == 1.0);
    let integer =
        (down + f64::from(u8::from(up)) + levels.zero as f64).max(levels.low as f64).min(levels.high as f64);
    levels.scale * (integer - levels.zero as f64)
}

pub(super) fn assert_computes(model: &Model, formula: impl Fn(f64) -> f64) {
    for row in rows() {
        let wanted = formula(row[0]) + 10.0 * formula(row[1]);
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
    }
}

fn codes(built: &Builder) -> Vec<&'static str> {
    import("model.onnx", &built.bytes(), &NoFiles).unwrap_err().iter().map(|reason| reason.code.id).collect()
}

const BYTE: Levels = Levels { scale: 0.25, zero: 3, low: 0, high: 255 };

#[test]
fn a_pair_rounds_and_saturates() {
    let cases: [(i32, i32, Levels); 7] = [
        (UINT8, 3, BYTE),
        (INT8, -128, Levels { scale: 0.25, zero: -128, low: -128, high: 127 }),
        (INT16, 7, Levels { scale: 0.25, zero: 7, low: -32768, high: 32767 }),
        (UINT16, 32768, Levels { scale: 0.25, zero: 32768, low: 0, high: 65535 }),
        (INT4, 1, Levels { scale: 0.25, zero: 1, low: -8, high: 7 }),
        (UINT4, 15, Levels { scale: 0.25, zero: 15, low: 0, high: 15 }),
        (INT2, -1, Levels { scale: 0.25, zero: -1, low: -2, high: 1 }),
    ];
    for (kind, zero, levels) in cases {
        let built = around(|b| {
            b.weight("s", &[], &[0.25])
                .typed("z", kind, &[1], &[zero])
                .node("QuantizeLinear", &["x", "s", "z"], "q")
                .node("DequantizeLinear", &["q", "s", "z"], "a")
        });
        let model = model(&built);
        assert_computes(&model, |x| rounded(levels, x));
        assert_eq!(model.layers().len(), 2);
        assert_eq!(model.layers()[0].activation, Activation::Function(Function::Levels(levels)));
        assert_eq!(model.layers()[0].weights.values, [1.0, 0.0, 0.0, 1.0]);
        assert_eq!(model.layers()[1].weights.values, [1.0, 10.0]);
    }
}

#[test]
fn the_type_may_come_from_elsewhere() {
    let pair = |edit: &dyn Fn(Builder) -> Builder| {
        around(|b| {
            edit(b.weight("s", &[1], &[0.25]).node("QuantizeLinear", &["x", "s"], "q")).node(
                "DequantizeLinear",
                &["q", "s"],
                "a",
            )
        })
    };
    let unsigned = Levels { zero: 0, ..BYTE };
    assert_computes(&model(&pair(&|b| b)), |x| rounded(unsigned, x));
    let signed = Levels { low: -128, high: 127, ..unsigned };
    assert_computes(&model(&pair(&|b| b.int("output_dtype", 3))), |x| rounded(signed, x));
    assert_eq!(codes(&pair(&|b| b.int("output_dtype", 17))), ["E0122"]);
    // A zero point by other names, and onnxruntime's own operators.
    let renamed = around(|b| {
        b.weight("s", &[], &[0.25])
            .typed("stored", UINT8, &[], &[3])
            .node("Identity", &["stored"], "z")
            .node("com.microsoft.QuantizeLinear", &["x", "s", "z"], "q")
            .node("com.microsoft.DequantizeLinear", &["q", "s", "z"], "a")
    });
    assert_computes(&model(&renamed), |x| rounded(BYTE, x));
}

#[test]
fn integers_may_be_moved_and_clipped_between() {
    let between = |nodes: &dyn Fn(Builder) -> Builder| {
        around(|b| {
            let start = b
                .weight("s", &[], &[0.25])
                .typed("z", UINT8, &[], &[3])
                .typed("low", UINT8, &[], &[2])
                .typed("high", UINT8, &[], &[17])
                .integers("shape", &[-1, 2])
                .integers("order", &[1, 0])
                .node("QuantizeLinear", &["x", "s", "z"], "q");
            nodes(start).node("DequantizeLinear", &["r", "s", "z"], "a")
        })
    };
    let clipped = model(&between(&|b| b.node("Clip", &["q", "low", "high"], "r")));
    assert_computes(&clipped, |x| rounded(Levels { low: 2, high: 17, ..BYTE }, x));
    let moved = model(&between(&|b| {
        b.node("Reshape", &["q", "shape"], "r0")
            .node("Identity", &["r0"], "r1")
            .node("Cast", &["r1"], "r2")
            .int("to", 6)
            .node("Flatten", &["r2"], "r")
    }));
    assert_computes(&moved, |x| rounded(BYTE, x));
    let turned = model(&between(&|b| b.node("Gather", &["q", "order"], "r").int("axis", 1)));
    let row = [0.3, 2.6];
    assert_eq!(turned.outputs_f64(&row), [rounded(BYTE, 2.6) + 10.0 * rounded(BYTE, 0.3)]);
    // ReLU of integers cuts at the integer 0.
    let rectified = model(&between(&|b| b.node("Relu", &["q"], "r")));
    assert_computes(&rectified, |x| rounded(BYTE, x));
    // Integers cannot be computed with, nor read as another type.
    assert_eq!(codes(&between(&|b| b.node("Add", &["q", "low"], "r"))), ["E0122"]);
    assert_eq!(codes(&between(&|b| b.node("Cast", &["q"], "r").int("to", 3))), ["E0122"]);
    assert_eq!(codes(&between(&|b| b.node("Clip", &["q", "high", "low"], "r"))), ["E0125"]);
}

#[test]
fn the_same_integers_may_stand_for_other_numbers() {
    let built = around(|b| {
        b.weight("s", &[], &[0.25])
            .weight("s2", &[], &[0.5])
            .typed("z", UINT8, &[], &[3])
            .typed("z2", UINT8, &[], &[5])
            .node("QuantizeLinear", &["x", "s", "z"], "q")
            .node("DequantizeLinear", &["q", "s2", "z2"], "a")
    });
    assert_computes(&model(&built), |x| 2.0 * rounded(BYTE, x) - 1.0);
}

#[test]
fn two_pairs_of_the_same_scale_are_one() {
    let built = around(|b| {
        b.weight("s", &[], &[0.25])
            .typed("z", UINT8, &[], &[3])
            .node("QuantizeLinear", &["x", "s", "z"], "q")
            .node("DequantizeLinear", &["q", "s", "z"], "d")
            .node("QuantizeLinear", &["d", "s", "z"], "q2")
            .node("DequantizeLinear", &["q2", "s", "z"], "a")
    });
    assert_eq!(model(&built).layers().len(), 2);
    assert_computes(&model(&built), |x| rounded(BYTE, x));
}

/// Weights and bias of a layer behind a rounding, exactly.
#[test]
fn constants_are_dequantised_exactly() {
    let scales = [0.007_413_849_f32, 0.123_456_79];
    let stored = [-128, 127, -3, 5, 77, -1];
    let built = |axis: i64, dims: &[i64], transposed: i64| {
        Builder::new()
            .input("x", &[0, 3])
            .weight("s", &[1], &[0.019])
            .typed("z", INT8, &[], &[-7])
            .weight("ws", &[2], &scales)
            .typed("wz", INT8, &[2], &[0, 4])
            .typed("w", INT8, dims, &stored)
            .weight("bs", &[1], &[1.25e-4])
            .typed("b", INT32, &[2], &[100_003, -2_000_000_011])
            .node("QuantizeLinear", &["x", "s", "z"], "q")
            .node("DequantizeLinear", &["q", "s", "z"], "a")
            .node("DequantizeLinear", &["w", "ws", "wz"], "weights")
            .int("axis", axis)
            .node("DequantizeLinear", &["b", "bs"], "bias")
            .node("Gemm", &["a", "weights", "bias"], "y")
            .int("transB", transposed)
            .output("y")
    };
    let real =
        |value: i32, output: usize| (f64::from(value) - [0.0, 4.0][output]) * f64::from(scales[output]);
    for (axis, dims, transposed) in [(0, [2, 3], 1), (-2, [2, 3], 1), (1, [3, 2], 0), (-1, [3, 2], 0)] {
        let model = model(&built(axis, &dims, transposed));
        let last = model.layers().last().unwrap();
        let place = |output: usize, input: usize| {
            if transposed == 1 { output * 3 + input } else { input * 2 + output }
        };
        for output in 0..2 {
            let wanted: Vec<f64> = (0..3).map(|input| real(stored[place(output, input)], output)).collect();
            assert_eq!(last.weights.row(output), wanted, "axis {axis}");
        }
        let scale = f64::from(1.25e-4_f32);
        assert_eq!(last.bias, [100_003.0 * scale, -2_000_000_011.0 * scale]);
    }
    assert_eq!(codes(&built(0, &[3, 2], 0)), ["E0126"]);
}

#[test]
fn small_integers_are_unpacked() {
    // An odd number of elements, in the bytes of the format.
    let built = |kind: i32| {
        Builder::new()
            .input("x", &[0, 5])
            .weight("s", &[], &[0.5])
            .typed("z", kind, &[], &[0])
            .typed("w", kind, &[5, 1], &[1, -2, 0, -1, 1])
            .node("DequantizeLinear", &["w", "s", "z"], "weights")
            .node("MatMul", &["x", "weights"], "y")
            .output("y")
    };
    for kind in [INT4, INT2] {
        assert_eq!(model(&built(kind)).layers()[0].weights.values, [0.5, -1.0, 0.0, -0.5, 0.5]);
    }
    let unsigned = Builder::new()
        .input("x", &[0, 3])
        .weight("s", &[], &[0.5])
        .typed("z", UINT4, &[], &[8])
        .typed("w", UINT4, &[3, 1], &[15, 0, 9])
        .node("DequantizeLinear", &["w", "s", "z"], "weights")
        .node("MatMul", &["x", "weights"], "y")
        .output("y");
    assert_eq!(model(&unsigned).layers()[0].weights.values, [3.5, -4.0, 0.5]);
    // The same bytes in the raw form; one byte too many is damage.
    let mut raw = unsigned;
    let stored = raw.graph().initializer.last_mut().unwrap();
    stored.int32_data.clear();
    stored.raw_data = Some(vec![0x0f, 0x09]);
    assert_eq!(model(&raw).layers()[0].weights.values, [3.5, -4.0, 0.5]);
    raw.graph().initializer.last_mut().unwrap().raw_data = Some(vec![0x0f, 0x09, 0]);
    assert_eq!(codes(&raw), ["E0109"]);
}

#[test]
fn constants_are_rounded_as_onnxruntime_does() {
    let weights = [0.25_f32, 0.75, -0.25, -1.15, 900.0, -900.0];
    let built = Builder::new()
        .input("x", &[0, 3])
        .weight("s", &[2], &[0.5, 0.1])
        .typed("z", INT8, &[2], &[0, 0])
        .weight("w", &[2, 3], &weights)
        .node("QuantizeLinear", &["w", "s", "z"], "q")
        .int("axis", 0)
        .node("DequantizeLinear", &["q", "s", "z"], "weights")
        .int("axis", 0)
        .node("Gemm", &["x", "weights"], "y")
        .int("transB", 1)
        .output("y");
    let model = model(&built);
    let tenth = f64::from(0.1_f32);
    // 0.25 / 0.5 and 0.75 / 0.5 are ties; -1.15 / 0.1 is one in single precision only.
    assert_eq!(model.layers()[0].weights.row(0), [0.0, 1.0, 0.0]);
    assert_eq!(model.layers()[0].weights.row(1), [-12.0 * tenth, 127.0 * tenth, -128.0 * tenth]);
}

/// Between two roundings a function stays one stage that reads one value each.
#[test]
fn functions_between_roundings_stay_functions() {
    let chain = |node: &dyn Fn(Builder) -> Builder| {
        around(|b| {
            let start = b
                .weight("s", &[], &[0.25])
                .typed("z", INT8, &[], &[-3])
                .weight("s2", &[], &[0.125])
                .typed("z2", UINT8, &[], &[9])
                .weight("low", &[], &[-1.0])
                .weight("high", &[], &[2.5])
                .weight("slope", &[2], &[0.25, 0.25])
                .node("QuantizeLinear", &["x", "s", "z"], "q")
                .node("DequantizeLinear", &["q", "s", "z"], "d");
            node(start).node("QuantizeLinear", &["f", "s2", "z2"], "q2").node(
                "DequantizeLinear",
                &["q2", "s2", "z2"],
                "a",
            )
        })
    };
    let first = Levels { scale: 0.25, zero: -3, low: -128, high: 127 };
    let second = Levels { scale: 0.125, zero: 9, low: 0, high: 255 };
    let infinity = f64::INFINITY;
    let cases: Vec<(Builder, Activation)> = vec![
        (
            chain(&|b| b.node("LeakyRelu", &["d"], "f").float("alpha", 0.25)),
            Activation::Function(Function::LeakyRelu { slope: 0.25 }),
        ),
        (
            chain(&|b| b.node("PRelu", &["d", "slope"], "f")),
            Activation::Function(Function::LeakyRelu { slope: 0.25 }),
        ),
        (chain(&|b| b.node("Abs", &["d"], "f")), Activation::Function(Function::LeakyRelu { slope: -1.0 })),
        (
            chain(&|b| b.node("Clip", &["d", "low", "high"], "f")),
            Activation::Function(Function::Clip { low: -1.0, high: 2.5 }),
        ),
        (
            chain(&|b| b.node("Clip", &["d", "", "high"], "f")),
            Activation::Function(Function::Clip { low: -infinity, high: 2.5 }),
        ),
        (
            chain(&|b| b.node("Max", &["d", "low"], "f")),
            Activation::Function(Function::Clip { low: -1.0, high: infinity }),
        ),
        (
            chain(&|b| b.node("Min", &["d", "high"], "f")),
            Activation::Function(Function::Clip { low: -infinity, high: 2.5 }),
        ),
        (
            chain(&|b| b.node("HardSigmoid", &["d"], "f").float("alpha", 0.25).float("beta", 0.5)),
            Activation::Function(Function::HardSigmoid { slope: 0.25, offset: 0.5 }),
        ),
        (chain(&|b| b.node("Tanh", &["d"], "f")), Activation::Function(Function::Tanh)),
        (chain(&|b| b.node("Relu", &["d"], "f")), Activation::Relu),
    ];
    for (built, between) in cases {
        let model = model(&built);
        let activations: Vec<Activation> = model.layers().iter().map(|layer| layer.activation).collect();
        let levels = |levels| Activation::Function(Function::Levels(levels));
        assert_eq!(activations, [levels(first), between, levels(second), Activation::Identity]);
        for layer in &model.layers()[..3] {
            assert_eq!(layer.weights.values, [1.0, 0.0, 0.0, 1.0]);
            assert_eq!(layer.bias, [0.0, 0.0]);
        }
        assert_computes(&model, |x| {
            let x = rounded(first, x);
            let f = match between {
                Activation::Function(Function::LeakyRelu { slope }) => {
                    if x > 0.0 {
                        x
                    } else {
                        slope * x
                    }
                }
                Activation::Function(Function::Clip { low, high }) => x.max(low).min(high),
                Activation::Function(Function::HardSigmoid { .. }) => (0.25 * x + 0.5).clamp(0.0, 1.0),
                Activation::Function(Function::Tanh) => x.tanh(),
                Activation::Identity | Activation::Relu | Activation::Function(_) => x.max(0.0),
            };
            rounded(second, f)
        });
    }
    // Slopes that differ are pieces, as ever.
    let pieces = around(|b| {
        b.weight("s", &[], &[0.25])
            .typed("z", UINT8, &[], &[3])
            .weight("slopes", &[2], &[0.25, 0.5])
            .node("QuantizeLinear", &["x", "s", "z"], "q")
            .node("DequantizeLinear", &["q", "s", "z"], "d")
            .node("PRelu", &["d", "slopes"], "a")
    });
    assert_eq!(model(&pieces).layers()[1].activation, Activation::Relu);
}

/// A bias behind the rounding of a product, as scikit-learn's exporter leads to.
#[test]
fn a_rounded_last_layer_stays_rounded() {
    let built = Builder::new()
        .input("x", &[0, 2])
        .weight("s", &[], &[0.25])
        .typed("z", INT8, &[], &[0])
        .weight("w", &[2, 2], &[1.0, 0.5, -0.5, 1.0])
        .weight("b", &[2], &[0.125, -0.125])
        .weight("s2", &[], &[0.5])
        .node("MatMul", &["x", "w"], "h")
        .node("QuantizeLinear", &["h", "s", "z"], "q")
        .node("DequantizeLinear", &["q", "s", "z"], "d")
        .node("Add", &["d", "b"], "e")
        .node("QuantizeLinear", &["e", "s2", "z"], "q2")
        .node("DequantizeLinear", &["q2", "s2", "z"], "logits")
        .node("Softmax", &["logits"], "p")
        .node("ArgMax", &["q2"], "label")
        .int("axis", 1)
        .int("keepdims", 0)
        .output("logits")
        .output("p")
        .output("label");
    let model = model(&built);
    assert_eq!(model.first.head, Head::Logits);
    assert!(model.further.is_empty(), "the three outputs are of the same numbers");
    let last = Levels { scale: 0.5, zero: 0, low: -128, high: 127 };
    let layers = model.layers();
    assert_eq!(layers.len(), 2);
    assert_eq!(layers[1].activation, Activation::Function(Function::Levels(last)));
    assert_eq!(layers[1].bias, [0.125, -0.125]);
    // 0.5 and 0.75 with their biases are 0.625 both; of equal levels the first wins.
    let outputs = model.outputs_f64(&[0.7, 0.4]);
    assert_eq!(outputs, [0.5, 0.5]);
    assert_eq!(model.first.head.label(&outputs), Some(0));
}

#[test]
fn rounded_probabilities_are_probabilities() {
    let built = Builder::new()
        .input("x", &[0, 2])
        .weight("w", &[2, 1], &[1.0, -0.5])
        .weight("s", &[], &[0.003_906_25])
        .typed("z", UINT8, &[], &[0])
        .weight("one", &[], &[1.0])
        .node("MatMul", &["x", "w"], "h")
        .node("Sigmoid", &["h"], "p")
        .node("QuantizeLinear", &["p", "s", "z"], "q")
        .node("DequantizeLinear", &["q", "s", "z"], "p1")
        .node("Sub", &["one", "p1"], "p0")
        .node("QuantizeLinear", &["p0", "s", "z"], "q0")
        .node("DequantizeLinear", &["q0", "s", "z"], "p0r")
        .node("Concat", &["p0r", "p1"], "both")
        .int("axis", 1)
        .node("ArgMax", &["both"], "label")
        .int("axis", 1)
        .output("label")
        .output("both");
    let model = model(&built);
    assert_eq!(model.first.head, Head::Logistic);
    assert_eq!(model.outputs_f64(&[1.0, 1.0]), [0.5]);
    // Integers are not computed with.
    let mut wrong = built;
    wrong.graph().node[4].input[1] = "q".to_owned();
    assert_eq!(codes(&wrong), ["E0122"]);
}

/// A network that its author quantised on raw features, without a scaler: one level is half a million microseconds.
#[test]
fn raw_features_of_many_bits_keep_the_levels() {
    let weights: Vec<i32> = (0..12).map(|place| (place * 53 + 17) % 187 - 60).collect();
    let built = Builder::new()
        .input("x", &[0, 3])
        .weight("s", &[], &[470_588.25])
        .weight("ws", &[], &[0.012_3])
        .weight("hs", &[], &[1.7e6])
        .typed("low", INT8, &[], &[-128])
        .typed("zero", INT8, &[], &[0])
        .typed("w1", INT8, &[3, 4], &weights)
        .typed("w2", INT8, &[4, 2], &weights[3..11])
        .node("QuantizeLinear", &["x", "s", "low"], "q")
        .node("DequantizeLinear", &["q", "s", "low"], "d")
        .node("DequantizeLinear", &["w1", "ws", "zero"], "first")
        .node("DequantizeLinear", &["w2", "ws", "zero"], "second")
        .node("MatMul", &["d", "first"], "h")
        .node("QuantizeLinear", &["h", "hs", "low"], "hq")
        .node("DequantizeLinear", &["hq", "hs", "low"], "hd")
        .node("MatMul", &["hd", "second"], "y")
        .output("y");
    let model = model(&built);
    let contract = contract::without_spec(&model);
    let strict = Options { max_flips: MaxFlips::Rows(0), ..Options::default() };
    let result = quantise(&model, &contract, None, &strict).unwrap();
    assert!(result.warnings.is_empty() && result.report.levels.unwrap().kept);
    let mut distinct = BTreeSet::new();
    for row in 0..4000_i64 {
        let x = [row * 29_989, (row * 7919) % 120_000_000, (row * row * 31) % 90_000_000];
        let reals = x.map(|value| value as f64);
        let raw: Vec<i64> =
            x.iter().zip(&contract.inputs).map(|(value, input)| value << input.fraction_bits.0).collect();
        let outputs = interpret::outputs(&result.network, &raw);
        for (raw, real) in outputs.iter().zip(model.outputs_f64(&reals)) {
            let have = *raw as f64 * result.network.decision.unit;
            assert!((have - real).abs() < 1e-3, "{x:?}: {have} for {real}");
        }
        distinct.insert(outputs);
    }
    assert!(distinct.len() > 500, "{} different outputs", distinct.len());
}

#[test]
fn types_of_zero_points_that_contradict_each_other_are_refused() {
    let pair = |written: i32, between: &str, read: i32| {
        around(|b| {
            b.weight("s", &[], &[0.25])
                .typed("z", written, &[], &[3])
                .typed("other", read, &[], &[3])
                .typed("most", written, &[], &[7])
                .node("QuantizeLinear", &["x", "s", "z"], "q")
                .node(between, &["q"], "m")
                .node("DequantizeLinear", &["m", "s", "other"], "a")
        })
    };
    let refused = |built: &Builder| {
        let reasons = import("model.onnx", &built.bytes(), &NoFiles).unwrap_err();
        assert_eq!(reasons.len(), 1, "{reasons:?}");
        (reasons[0].code.id, reasons[0].message.clone())
    };
    let message = "DequantizeLinear has a zero point of int8, and QuantizeLinear `node_q` wrote uint8";
    for between in ["Identity", "Relu"] {
        assert_eq!(refused(&pair(UINT8, between, INT8)), ("E0122", message.to_owned()), "{between}");
        model(&pair(INT8, between, INT8));
    }
    assert_eq!(codes(&pair(UINT16, "Identity", INT16)), ["E0122"]);
    // A cast between them changes the type.
    let cast = |to: i32| pair(INT8, "Cast", UINT8).on("m", |b| b.int("to", i64::from(to)));
    assert_eq!(codes(&cast(UINT8)), ["E0122"]);
    let narrowed = pair(INT8, "Cast", INT16).on("m", |b| b.int("to", i64::from(INT16)));
    assert_computes(&model(&narrowed), |x| rounded(Levels { low: -128, high: 127, ..BYTE }, x));
    let constant = around(|b| {
        b.weight("s", &[], &[0.25])
            .typed("z", UINT8, &[], &[3])
            .typed("c", INT8, &[2], &[1, 2])
            .node("DequantizeLinear", &["c", "s", "z"], "d")
            .node("Add", &["x", "d"], "a")
    });
    let message = "DequantizeLinear has a zero point of uint8, and reads a constant of int8";
    assert_eq!(refused(&constant), ("E0122", message.to_owned()));
    let named = pair(UINT8, "Identity", UINT8).on("q", |b| b.int("output_dtype", i64::from(INT8)));
    let message = "QuantizeLinear has a zero point of uint8, and `output_dtype` names int8";
    assert_eq!(refused(&named), ("E0122", message.to_owned()));
}

#[test]
fn what_is_not_rounded_by_one_scale_is_refused() {
    let pair = |scale: (&[i64], &[f32]), kind: i32| {
        around(|b| {
            b.weight("s", scale.0, scale.1)
                .typed("z", kind, &[], &[0])
                .node("QuantizeLinear", &["x", "s", "z"], "q")
                .node("DequantizeLinear", &["q", "s", "z"], "a")
        })
    };
    assert_eq!(codes(&pair((&[2], &[0.5, 0.25]), UINT8)), ["E0122"]);
    assert_computes(&model(&pair((&[2], &[0.25, 0.25]), UINT8)), |x| rounded(Levels { zero: 0, ..BYTE }, x));
    assert_eq!(codes(&pair((&[], &[0.5]), INT32)), ["E0122"]);
    assert_eq!(codes(&pair((&[], &[0.0]), UINT8)), ["E0125"]);
    assert_eq!(codes(&pair((&[], &[-1.0]), UINT8)), ["E0125"]);
    assert_eq!(codes(&pair((&[2, 2], &[0.5; 4]), UINT8)), ["E0122"]);
    let blocked = around(|b| {
        b.weight("s", &[2], &[0.5, 0.5]).node("QuantizeLinear", &["x", "s"], "q").int("block_size", 2).node(
            "DequantizeLinear",
            &["q", "s"],
            "a",
        )
    });
    assert_eq!(codes(&blocked), ["E0122"]);
    let steep = around(|b| {
        b.weight("s", &[], &[0.5])
            .node("QuantizeLinear", &["x", "s"], "q")
            .node("DequantizeLinear", &["q", "s"], "d")
            .node("LeakyRelu", &["d"], "a")
            .float("alpha", f32::NAN)
    });
    assert_eq!(codes(&steep), ["E0128"]);
    // 8-bit floats are not read at all.
    assert_eq!(codes(&pair((&[], &[0.5]), 17)), ["E0109"]);
}

#[test]
fn casts_of_constants_round() {
    let cases = [
        (1.0, 1.0),
        (1.000_488_281_25, 1.0),
        (1.000_488_4, 1.000_976_562_5),
        (1.001_464_843_75, 1.001_953_125),
        (-2049.0, -2048.0),
        (2051.0, 2052.0),
        (65_519.0, 65_504.0),
        (2f64.powi(-24), 2f64.powi(-24)),
        (2f64.powi(-25), 0.0),
        (1.5 * 2f64.powi(-24), 2f64.powi(-23)),
        (0.0, 0.0),
    ];
    for (value, wanted) in cases {
        assert_eq!(to_half(value), wanted, "{value}");
    }
    assert!(to_half(65_520.0).is_infinite() && to_half(-1e9).is_infinite());
    let cast = |to: i64, value: f32| {
        Builder::new()
            .input("x", &[0, 1])
            .weight("w", &[1, 1], &[value])
            .node("Cast", &["w"], "c")
            .int("to", to)
            .node("Cast", &["c"], "f")
            .int("to", 1)
            .node("MatMul", &["x", "f"], "y")
            .output("y")
    };
    let weight = |built: &Builder| model(built).layers()[0].weights.values[0];
    assert_eq!(weight(&cast(10, 2051.0)), 2052.0);
    assert_eq!(weight(&cast(16, 1.007_812_6)), 1.007_812_5);
    assert_eq!(weight(&cast(16, 1.0 + 2f32.powi(-8))), 1.0);
    assert_eq!(weight(&cast(3, -3.75)), -3.0);
    assert_eq!(codes(&cast(3, 200.0)), ["E0125"]);
    assert_eq!(codes(&cast(10, 1e6)), ["E0125"]);
}
