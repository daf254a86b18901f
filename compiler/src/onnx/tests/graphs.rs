//! Graph forms on small models: whatever the exporter's habit, the numbers are those of the plain formula.

use super::build::{Builder, scaled_6_32_32_2, tiny};
use crate::model::{Activation, Head, Model};
use crate::onnx::{NoFiles, import};

pub(super) fn model(builder: &Builder) -> Model {
    import("model.onnx", &builder.bytes(), &NoFiles).unwrap_or_else(|reasons| panic!("{reasons:?}"))
}

/// The tail that scikit-learn's exporter writes for two classes.
pub(super) fn sklearn_tail() -> Builder {
    Builder::new()
        .input("x", &[0, 2])
        .weight("w", &[2, 1], &[1.0, -2.0])
        .weight("b", &[1, 1], &[0.5])
        .weight("one", &[], &[1.0])
        .integers("classes", &[3, 7])
        .integers("flat", &[-1])
        .node("MatMul", &["x", "w"], "product")
        .node("Add", &["b", "product"], "sum")
        .node("Sigmoid", &["sum"], "p1")
        .node("Sub", &["one", "p1"], "p0")
        .node("Concat", &["p0", "p1"], "both")
        .int("axis", 1)
        .node("ArgMax", &["both"], "index")
        .int("axis", 1)
        .node("ai.onnx.ml.ArrayFeatureExtractor", &["classes", "index"], "picked")
        .node("Reshape", &["picked", "flat"], "reshaped")
        .node("Cast", &["reshaped"], "label")
        .int("to", 7)
        .output("label")
        .output("both")
}

#[test]
fn tiny_network_computes_its_formula() {
    let model = model(&tiny());
    assert_eq!(model.first.head, Head::Logits);
    // x = (1, 2): h = (5.5, -1, -3.75), relu = (5.5, 0, 0).
    assert_eq!(model.outputs_f64(&[1.0, 2.0]), [5.625, -5.75]);
    assert_eq!(model.outputs_f32(&[1.0, 2.0]), [5.625, -5.75]);
    let layers = model.layers();
    let activations: Vec<Activation> = layers.iter().map(|layer| layer.activation).collect();
    assert_eq!(activations, [Activation::Relu, Activation::Identity]);
}

#[test]
fn many_rows_give_what_each_row_gives() {
    let model = model(&scaled_6_32_32_2());
    // More than two blocks and a rest.
    let rows: Vec<f64> = (0..41 * 6).map(|index| f64::from(index * 7919 % 1000) * 1.5).collect();
    let together = model.batch_outputs_f64(&rows);
    let apart: Vec<f64> = rows.chunks(6).flat_map(|row| model.outputs_f64(row)).collect();
    assert_eq!(together, apart);
    assert_eq!(together.len(), 41 * 2);
    let single = model.batch_outputs_f32(&rows);
    for (single, double) in single.iter().zip(&together) {
        assert!((f64::from(*single) - double).abs() < 1e-2);
    }
}

#[test]
fn scalers_stay_apart_from_weights() {
    let model = model(&scaled_6_32_32_2());
    let third = model.normalise[2];
    assert_eq!((third.centre, third.scale, third.offset), (120.0, 1.0 / 63.0, 0.0));
    let layers = model.layers();
    assert_eq!(layers.len(), 3);
    assert_eq!(layers[0].origin.name, "node_h0");
}

#[test]
fn sklearn_tail_is_a_logistic_head_with_labels() {
    let model = model(&sklearn_tail());
    assert_eq!(model.first.head, Head::Logistic);
    assert_eq!(model.first.classes.as_deref(), Some(["3".to_owned(), "7".to_owned()].as_slice()));
    assert_eq!(model.outputs_f64(&[4.0, 1.0]), [2.5]);
}

#[test]
fn layers_without_activation_fold() {
    let chain = Builder::new()
        .input("x", &[0, 2])
        .weight("w0", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .weight("b0", &[2], &[1.0, -1.0])
        .weight("w1", &[2, 2], &[0.5, -1.0, 2.0, 1.0])
        .weight("gain", &[2], &[2.0, 4.0])
        .node("Gemm", &["x", "w0", "b0"], "h")
        .float("alpha", 0.5)
        .float("beta", 2.0)
        .node("MatMul", &["h", "w1"], "g")
        .node("Mul", &["gain", "g"], "y")
        .output("y");
    let model = model(&chain);
    let layers = model.layers();
    assert_eq!(layers.len(), 1);
    // x = (1, 1): h = 0.5 * (4, 6) + 2 * (1, -1) = (4, 1); g = (4, -3); y = (8, -12).
    assert_eq!(model.outputs_f64(&[1.0, 1.0]), [8.0, -12.0]);
}

/// A layer of zero weights is its bias, by which scaled values may be multiplied or divided.
#[test]
fn layers_of_zero_weights_are_constants() {
    let product = |bias: [f32; 2], operator: &str, first: &str, second: &str| {
        Builder::new()
            .input("x", &[0, 2])
            .weight("mean", &[2], &[10.0, -4.0])
            .weight("deviation", &[2], &[2.0, 0.5])
            .weight("zero", &[2, 2], &[0.0; 4])
            .weight("b", &[2], &bias)
            .weight("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
            .node("Sub", &["x", "mean"], "centred")
            .node("Div", &["centred", "deviation"], "scaled")
            .node("Gemm", &["scaled", "zero", "b"], "fixed")
            .node(operator, &[first, second], "product")
            .node("Gemm", &["product", "w"], "y")
            .output("y")
    };
    // x = (14, -3): scaled = (2, 2).
    for (first, second) in [("scaled", "fixed"), ("fixed", "scaled")] {
        let graph = product([3.0, -0.5], "Mul", first, second);
        assert_eq!(model(&graph).outputs_f64(&[14.0, -3.0]), [3.0, 8.0]);
        // Nothing is left of the features.
        let graph = product([0.0; 2], "Mul", first, second);
        assert_eq!(model(&graph).outputs_f64(&[14.0, -3.0]), [0.0, 0.0]);
    }
    let graph = product([4.0, -0.5], "Div", "scaled", "fixed");
    assert_eq!(model(&graph).outputs_f64(&[14.0, -3.0]), [-11.5, -15.0]);
    let codes = |graph: &Builder| -> Vec<&'static str> {
        let reasons = import("model.onnx", &graph.bytes(), &NoFiles).unwrap_err();
        reasons.iter().map(|reason| reason.code.id).collect()
    };
    assert_eq!(codes(&product([4.0, 0.0], "Div", "scaled", "fixed")), ["E0127"]);
    assert_eq!(codes(&product([4.0, 1.0], "Div", "fixed", "scaled")), ["E0125"]);
}

#[test]
fn batch_normalisation_folds_before_and_after_a_layer() {
    let built = Builder::new()
        .input("x", &[0, 2])
        .weight("gamma", &[2], &[2.0, 1.0])
        .weight("beta", &[2], &[1.0, 0.0])
        .weight("mean", &[2], &[3.0, -1.0])
        .weight("variance", &[2], &[4.0, 0.25])
        .weight("w", &[2, 2], &[1.0, 0.0, 1.0, 1.0])
        .node("BatchNormalization", &["x", "gamma", "beta", "mean", "variance"], "n")
        .float("epsilon", 0.0)
        .node("MatMul", &["n", "w"], "h")
        .node("BatchNormalization", &["h", "gamma", "beta", "mean", "variance"], "y")
        .float("epsilon", 0.0)
        .output("y");
    // x = (5, 0): n = (3, 2); h = (5, 2); y = ((5 - 3) * 1 + 1, (2 + 1) * 2) = (3, 6).
    assert_eq!(model(&built).outputs_f64(&[5.0, 0.0]), [3.0, 6.0]);
}

#[test]
fn columns_can_be_chosen_and_used_twice() {
    let built = Builder::new()
        .input("x", &[0, 3])
        .weight("two", &[1], &[2.0])
        .weight("w", &[3, 1], &[1.0, 10.0, 100.0])
        .integers("last", &[2])
        .integers("both", &[2, 0])
        .node("Gather", &["x", "last"], "a")
        .int("axis", 1)
        .node("Mul", &["a", "two"], "doubled")
        .node("Gather", &["x", "both"], "b")
        .int("axis", 1)
        .node("Concat", &["doubled", "b"], "joined")
        .int("axis", 1)
        .node("MatMul", &["joined", "w"], "y")
        .output("y");
    let model = model(&built);
    assert_eq!(model.first.head, Head::Scores);
    // x = (1, 5, 3): (6, 3, 1) · (1, 10, 100).
    assert_eq!(model.outputs_f64(&[1.0, 5.0, 3.0]), [136.0]);
}

#[test]
fn one_input_per_feature_names_the_columns() {
    let built = Builder::new()
        .input("packets", &[0, 1])
        .input("bytes", &[0, 1])
        .weight("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0])
        .node("Concat", &["packets", "bytes"], "x")
        .int("axis", 1)
        .node("MatMul", &["x", "w"], "y")
        .output("y");
    let model = model(&built);
    assert_eq!(model.inputs, [Some("packets".to_owned()), Some("bytes".to_owned())]);
    assert_eq!(model.outputs_f64(&[1.0, 1.0]), [4.0, 6.0]);
}

#[test]
fn labels_break_ties_towards_the_lowest_index() {
    assert_eq!(Head::Logits.label(&[1.0, 3.0, 3.0]), Some(1));
    assert_eq!(Head::Logistic.label(&[0.0]), Some(0));
    assert_eq!(Head::Logistic.label(&[1e-300]), Some(1));
    assert_eq!(Head::Scores.label(&[5.0]), None);
    assert_eq!(Head::Logits.score(&[2.0, 2.0]), Some(0.5));
    assert_eq!(Head::Logistic.score(&[0.0]), Some(0.5));
    assert!((Head::Logistic.score(&[-3.0]).unwrap() - 0.952_574).abs() < 1e-6);
    assert_eq!(Head::Logits.score(&[1000.0, -1000.0]), Some(1.0));
}

/// The tiny trunk with two heads beside its own.
fn heads() -> Builder {
    let mut builder = tiny();
    builder.graph().output.clear();
    builder
        .weight("wf", &[3, 3], &[1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 4.0])
        .weight("bf", &[3], &[0.5, 0.25, 0.0])
        .weight("wb", &[3, 1], &[2.0, 1.0, 1.0])
        .node("Softmax", &["y"], "kind")
        .int("axis", 1)
        .node("ArgMax", &["y"], "kind_label")
        .int("axis", 1)
        .node("MatMul", &["a0", "wf"], "f")
        .node("Add", &["f", "bf"], "family")
        .node("MatMul", &["a0", "wb"], "burst")
        .output("kind_label")
        .output("kind")
        .output("family")
        .output("burst")
}

#[test]
fn heads_on_one_layer_are_outputs_side_by_side() {
    let model = model(&heads());
    let outputs: Vec<(Vec<&str>, usize, Head, bool)> = model
        .outputs()
        .map(|output| {
            let names = output.names.iter().map(String::as_str).collect();
            (names, output.start, output.head, output.raw)
        })
        .collect();
    assert_eq!(
        outputs,
        [
            (vec!["kind_label", "kind"], 0, Head::Logits, false),
            (vec!["family"], 2, Head::Logits, true),
            // A number beside other outputs is a logit.
            (vec!["burst"], 5, Head::Logistic, true),
        ]
    );
    assert_eq!(model.widths(), [2, 3, 1]);
    // x = (1, 2): the hidden layer is (5.5, 0, 0).
    assert_eq!(model.outputs_f64(&[1.0, 2.0]), [5.625, -5.75, 6.0, 0.25, 0.0, 11.0]);
    let layers = model.layers();
    assert_eq!(layers[1].origin.name, "node_y+node_f+node_burst");
}

#[test]
fn a_sigmoid_over_several_values_is_a_label_for_each() {
    let mut builder = tiny().node("Sigmoid", &["y"], "p").output("p");
    builder.graph().output.remove(0);
    let half = builder.clone().weight("half", &[1], &[0.5]).node("Greater", &["p", "half"], "l").output("l");
    for builder in [builder, half] {
        let model = model(&builder);
        let outputs: Vec<(usize, Head)> = model.outputs().map(|output| (output.start, output.head)).collect();
        assert_eq!(outputs, [(0, Head::Logistic), (1, Head::Logistic)]);
        assert_eq!(model.outputs_f64(&[1.0, 2.0]), [5.625, -5.75]);
    }
}
