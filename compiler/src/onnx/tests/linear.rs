//! Linear models and linear support vector machines as single nodes. What onnxruntime computes is compared in
//! `corpus`; here are the forms that no exporter of the corpus writes, and what is refused.

use super::build::Builder;
use super::graphs::model;
use crate::model::Head;
use crate::onnx::{NoFiles, import};

fn classifier(post: &str, coefficients: &[f32], intercepts: &[f32], labels: &[i64]) -> Builder {
    let mut builder = Builder::new()
        .input("x", &[0, 2])
        .node("ai.onnx.ml.LinearClassifier", &["x"], "label")
        .floats("coefficients", coefficients)
        .floats("intercepts", intercepts)
        .ints("classlabels_ints", labels)
        .text("post_transform", post)
        .output("label")
        .output("scores");
    builder.graph().node[0].output.push("scores".to_owned());
    builder
}

/// One row of coefficients for two classes.
pub(super) fn one_row(post: &str) -> Builder {
    classifier(post, &[1.0, -2.0], &[0.5], &[3, 7])
}

/// Two classes of two support vectors each.
pub(super) fn svc(calibration: &[f32]) -> Builder {
    let mut builder = Builder::new()
        .input("x", &[0, 2])
        .node("ai.onnx.ml.SVMClassifier", &["x"], "label")
        .text("kernel_type", "LINEAR")
        .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0, 2.0, 2.0, -1.0, 3.0])
        .floats("coefficients", &[1.0, 0.5, -0.25, -1.25])
        .floats("rho", &[0.5])
        .ints("vectors_per_class", &[2, 2])
        .ints("classlabels_ints", &[3, 7])
        .output("label")
        .output("scores");
    builder.graph().node[0].output.push("scores".to_owned());
    match calibration {
        [a, b] => builder.floats("prob_a", &[*a]).floats("prob_b", &[*b]),
        _ => builder,
    }
}

fn regressor() -> Builder {
    Builder::new()
        .input("x", &[0, 2])
        .node("ai.onnx.ml.SVMRegressor", &["x"], "y")
        .text("kernel_type", "LINEAR")
        .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0])
        .floats("coefficients", &[2.0, -1.0])
        .floats("rho", &[0.5])
        .int("n_supports", 2)
        .output("y")
}

fn codes(builder: &Builder) -> Vec<&'static str> {
    let reasons = import("model.onnx", &builder.bytes(), &NoFiles).expect_err("the model must be refused");
    reasons.iter().map(|reason| reason.code.id).collect()
}

#[test]
fn one_row_of_coefficients_is_the_second_class_above_zero() {
    for post in ["NONE", "SOFTMAX", "SOFTMAX_ZERO", "LOGISTIC"] {
        let model = model(&one_row(post));
        assert_eq!((model.first.head, model.output_count()), (Head::Logistic, 1), "{post}");
        assert_eq!(model.first.classes.as_deref(), Some(&["3".to_owned(), "7".to_owned()][..]));
        assert_eq!(model.outputs_f64(&[1.0, 2.0]), [-2.5]);
    }
    assert_eq!(codes(&one_row("PROBIT")), ["E0125"]);
}

#[test]
fn opposite_rows_are_one_logit() {
    let opposite = |post| classifier(post, &[-1.0, 2.0, 1.0, -2.0], &[-0.5, 0.5], &[3, 7]);
    for (post, factor) in [("NONE", 1.0), ("LOGISTIC", 1.0), ("SOFTMAX", 2.0)] {
        let model = model(&opposite(post));
        assert_eq!((model.first.head, model.output_count()), (Head::Logistic, 1), "{post}");
        assert_eq!(model.outputs_f64(&[1.0, 2.0]), [-2.5 * factor]);
        assert!(model.further.is_empty());
    }
    // Rows that are not each other's negative stay two logits.
    let mut other = classifier("SOFTMAX", &[-1.0, 2.0, 1.0, -2.5], &[-0.5, 0.5], &[3, 7]);
    assert_eq!(model(&other).first.head, Head::Logits);
    other = classifier("LOGISTIC", &[-1.0, 2.0, 1.0, -2.5], &[-0.5, 0.5], &[3, 7]);
    assert_eq!(model(&other).first.head, Head::OneVersusRest { normalised: false });
}

#[test]
fn scores_of_one_versus_rest_are_their_own_logistic() {
    let three = |post| classifier(post, &[1.0, 0.0, 0.0, 1.0, -1.0, -1.0], &[0.0; 3], &[0, 1, 2]);
    let each = Head::OneVersusRest { normalised: false };
    assert_eq!(model(&three("LOGISTIC")).first.head, each);
    assert_eq!(model(&three("SOFTMAX")).first.head, Head::Logits);
    let mut normalised =
        three("LOGISTIC").node("ai.onnx.ml.Normalizer", &["scores"], "p").text("norm", "L1").output("p");
    normalised.graph().output.remove(1);
    let whole = Head::OneVersusRest { normalised: true };
    assert_eq!(model(&normalised).first.head, whole);
    let values = [0.0, 3.0_f64.ln(), -(3.0_f64.ln())];
    assert_eq!(each.label(&values), Some(1));
    assert!((each.score(&values).unwrap() - 0.75).abs() < 1e-12);
    assert!((whole.score(&values).unwrap() - 0.5).abs() < 1e-12);
    // A wrong number of labels.
    assert_eq!(codes(&classifier("SOFTMAX", &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0], &[0.0; 3], &[0, 1])), ["E0119"]);
    assert_eq!(codes(&classifier("NONE", &[1.0, 0.0, 0.0], &[0.0], &[0, 1])), ["E0126"]);
    assert_eq!(codes(&classifier("NONE", &[1.0, 0.0], &[0.0, 1.0], &[0, 1])), ["E0126"]);
    assert_eq!(codes(&classifier("NONE", &[1.0, f32::NAN], &[0.0], &[0, 1])), ["E0110"]);
}

#[test]
fn support_vectors_fold_into_one_vector() {
    // d = (1, 0) + 0.5 (0, 1) - 0.25 (2, 2) - 1.25 (-1, 3) = (1.75, -3.75) · x + 0.5; the logit is -d.
    let plain = model(&svc(&[]));
    assert_eq!((plain.first.head, plain.output_count()), (Head::Logistic, 1));
    assert_eq!(plain.outputs_f64(&[1.0, 2.0]), [5.25]);
    // Platt: the logit of class 1 is a * d + b; the label stays that of the sign of d.
    let calibrated = model(&svc(&[-2.0, 0.25]));
    assert_eq!(calibrated.outputs_f64(&[1.0, 2.0]), [5.25, 10.75]);
    let names: Vec<&[String]> = calibrated.outputs().map(|output| output.names.as_slice()).collect();
    assert_eq!(names, [["label"], ["scores"]]);

    let edited = |edit: fn(Builder) -> Builder| codes(&edit(svc(&[])));
    let kernel = |name: &str| {
        let mut builder = svc(&[]);
        builder.graph().node[0].attribute[0].s = Some(name.as_bytes().to_vec());
        codes(&builder)
    };
    for name in ["RBF", "POLY", "SIGMOID", "other"] {
        assert_eq!(kernel(name), ["E0123"]);
    }
    assert_eq!(edited(|b| b.text("post_transform", "LOGISTIC")), ["E0125"]);
    assert_eq!(
        edited(|mut b| {
            b.graph().node[0].attribute[4].ints = vec![2, 1, 1];
            b
        }),
        ["E0126"]
    );
    assert_eq!(
        edited(|mut b| {
            b.graph().node[0].attribute[4].ints = vec![i64::MAX, i64::MAX];
            b
        }),
        ["E0126"]
    );
    assert_eq!(
        edited(|mut b| {
            b.graph().node[0].attribute[1].floats.pop();
            b
        }),
        ["E0126"]
    );
}

/// Three classes: of one vector, of two and of one.
fn svc_of_three() -> Builder {
    let mut builder = Builder::new()
        .input("x", &[0, 2])
        .node("ai.onnx.ml.SVMClassifier", &["x"], "label")
        .text("kernel_type", "LINEAR")
        .floats("support_vectors", &[1.0, 0.0, 0.0, 1.0, 2.0, 2.0, -1.0, 3.0])
        .floats("coefficients", &[1.0, -0.5, -0.5, -1.0, 0.5, 1.0, 0.25, -0.75])
        .floats("rho", &[0.5, -0.25, 1.0])
        .ints("vectors_per_class", &[1, 2, 1])
        .ints("classlabels_ints", &[3, 7, 9])
        .output("label")
        .output("scores");
    builder.graph().node[0].output.push("scores".to_owned());
    builder
}

#[test]
fn pairs_of_three_classes_take_a_vote() {
    let model = model(&svc_of_three());
    // The decision values are no output beside the label.
    assert_eq!((model.outputs().count(), model.first.head), (1, Head::Probabilities));
    assert_eq!(model.first.classes.as_deref(), Some(&["3".to_owned(), "7".to_owned(), "9".to_owned()][..]));
    let mut seen = [false; 3];
    for step in 0..400 {
        let (x, y) = (f64::from(step % 20) * 0.7 - 7.0, f64::from(step / 20) * 0.7 - 7.0);
        let dot = |a: f64, b: f64| a * x + b * y;
        // Classes 0 and 1: the first list of 0's vector and the first of 1's; 0 and 2: the second of 0's and the
        // first of 2's; 1 and 2: the second of both.
        let d01 = dot(1.0, 0.0) - 0.5 * dot(0.0, 1.0) - 0.5 * dot(2.0, 2.0) + 0.5;
        let d02 = 0.5 * dot(1.0, 0.0) - dot(-1.0, 3.0) - 0.25;
        let d12 = dot(0.0, 1.0) + 0.25 * dot(2.0, 2.0) - 0.75 * dot(-1.0, 3.0) + 1.0;
        let mut votes = [0.0; 3];
        votes[if d01 > 0.0 { 0 } else { 1 }] += 1.0 / 3.0;
        votes[if d02 > 0.0 { 0 } else { 2 }] += 1.0 / 3.0;
        votes[if d12 > 0.0 { 1 } else { 2 }] += 1.0 / 3.0;
        let outputs = model.outputs_f64(&[x, y]);
        assert!(outputs.iter().zip(votes).all(|(own, vote): (&f64, f64)| (own - vote).abs() < 1e-12));
        let label = Head::Probabilities.label(&outputs).unwrap();
        seen[label] = true;
        assert_eq!(label, (0..3).rev().max_by(|a, b| outputs[*a].total_cmp(&outputs[*b])).unwrap());
    }
    assert_eq!(seen, [true; 3]);
    assert_eq!(codes(&svc_of_three().floats("prob_a", &[1.0; 3])), ["E0123"]);
    let mut wrong = svc_of_three();
    wrong.graph().node[0].attribute[3].floats.pop();
    assert_eq!(codes(&wrong), ["E0126"]);
}

#[test]
fn support_vector_regressors_are_one_number_or_its_sign() {
    let number = model(&regressor());
    assert_eq!(number.first.head, Head::Scores);
    assert_eq!(number.outputs_f64(&[1.0, 2.0]), [0.5]);
    let sign = model(&regressor().int("one_class", 1));
    assert_eq!(sign.first.head, Head::Logistic);
    assert_eq!(sign.first.classes.as_deref(), Some(&["-1".to_owned(), "1".to_owned()][..]));
}

#[test]
fn a_large_support_vector_machine_imports_within_a_second() {
    // 3 MB of support vectors.
    let (vectors, features) = (12_000, 64);
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    let values: Vec<f32> = (0..vectors * features).map(|_| next()).collect();
    let coefficients: Vec<f32> = (0..vectors).map(|_| next()).collect();
    let half = i64::from(vectors) / 2;
    let built = Builder::new()
        .input("x", &[0, i64::from(features)])
        .node("ai.onnx.ml.SVMClassifier", &["x"], "label")
        .floats("support_vectors", &values)
        .floats("coefficients", &coefficients)
        .floats("rho", &[0.5])
        .ints("vectors_per_class", &[half, half])
        .ints("classlabels_ints", &[0, 1])
        .output("label");
    let bytes = built.bytes();
    assert!(bytes.len() > 3_000_000);
    // The shortest of several: other processes have their share of the machine.
    let taken = (0..3)
        .map(|_| {
            let start = std::time::Instant::now();
            let model = import("model.onnx", &bytes, &NoFiles).unwrap();
            assert_eq!(model.output_count(), 1);
            start.elapsed()
        })
        .min()
        .unwrap();
    eprintln!("{} bytes in {taken:?}", bytes.len());
    assert!(taken.as_secs_f64() < 1.0, "{taken:?}");
}
