//! Each code of the family, produced by a small model; and all reasons in one report.

use super::build::{Builder, tiny};
use crate::diag::codes::onnx as codes;
use crate::diag::{Diagnostic, Origin};
use crate::onnx::schema::{StringStringEntryProto, TensorProto};
use crate::onnx::{NoFiles, Resolver, import};
use crate::withstand;

/// One external file of eight bytes.
struct Eight;

impl Resolver for Eight {
    fn read(&self, relative: &str) -> Result<Vec<u8>, String> {
        if relative == "weights.bin" { Ok(vec![0; 8]) } else { Err("no such file".to_owned()) }
    }
}

fn refuse(bytes: &[u8], resolver: &dyn Resolver) -> Vec<Diagnostic> {
    let reasons = import("model.onnx", bytes, resolver).expect_err("the model must be refused");
    for reason in &reasons {
        assert!(!reason.help.is_empty() && !reason.message.ends_with('.'), "{reason:?}");
    }
    reasons
}

fn ids(reasons: &[Diagnostic]) -> Vec<&'static str> {
    reasons.iter().map(|reason| reason.code.id).collect()
}

fn weight(builder: &mut Builder, index: usize) -> &mut TensorProto {
    &mut builder.graph().initializer[index]
}

fn external(location: &str, length: &str) -> Builder {
    let mut builder = tiny();
    let tensor = weight(&mut builder, 0);
    tensor.raw_data = None;
    tensor.data_location = Some(1);
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    tensor.external_data = vec![entry("location", location), entry("offset", "0"), entry("length", length)];
    builder
}

fn with_node(operator: &str) -> Builder {
    let mut builder = tiny().node(operator, &["y"], "z").output("z");
    builder.graph().output.remove(0);
    builder
}

fn edited(edit: impl FnOnce(&mut Builder)) -> Builder {
    let mut builder = tiny();
    edit(&mut builder);
    builder
}

/// Every code with a model that produces it, and only it.
#[test]
fn every_code_has_a_model_that_produces_it() {
    let nan = [f32::NAN; 3].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let huge = [1e30_f32; 3].iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let whole = tiny().bytes();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("E0101", Vec::new()),
        ("E0102", b"version https://git-lfs.github.com/spec/v1\n".to_vec()),
        ("E0103", whole[..whole.len() / 2].to_vec()),
        ("E0104", edited(|b| b.0.opset_import[0].version = Some(7)).bytes()),
        ("E0105", with_node("com.acme.Polish").bytes()),
        ("E0106", external("../weights.bin", "24").bytes()),
        ("E0106", external("/etc/passwd", "24").bytes()),
        ("E0106", external("a/../../b", "24").bytes()),
        ("E0107", external("absent.bin", "24").bytes()),
        ("E0108", external("weights.bin", "24").bytes()),
        ("E0108", external("weights.bin", "25").bytes()),
        ("E0108", external("weights.bin", "-1").bytes()),
        ("E0109", edited(|b| weight(b, 0).dims = vec![4, 2]).bytes()),
        ("E0110", edited(|b| weight(b, 1).raw_data = Some(nan)).bytes()),
        ("E0111", edited(|b| weight(b, 1).dims = vec![1 << 40, 1 << 40]).bytes()),
        ("E0112", edited(|b| b.graph().node[1].output = vec!["w0".to_owned(), "a0".to_owned()]).bytes()),
        ("E0113", edited(|b| b.graph().node[2].input[0] = "nowhere".to_owned()).bytes()),
        ("E0114", edited(|b| b.graph().node.reverse()).bytes()),
        ("E0115", edited(|b| b.graph().node[0].input[0] = "y".to_owned()).bytes()),
        ("E0116", tiny().input("x2", &[0, 2]).bytes()),
        ("E0117", tiny().input("normalization/Sub/y:0", &[1, 2]).bytes()),
        ("E0118", edited(|b| b.graph().input.clear()).input("x", &[1, 3, 8, 8]).bytes()),
        ("E0119", tiny().node("Relu", &["y"], "z").output("z").bytes()),
        // The hidden layer beside its classes, and a head that skips a layer.
        ("E0119", tiny().output("a0").bytes()),
        (
            "E0119",
            tiny().node("MatMul", &["x", "wx"], "z").weight("wx", &[2, 2], &[1.0; 4]).output("z").bytes(),
        ),
        (
            "E0119",
            tiny()
                .node("Softmax", &["y"], "p")
                .weight("zero", &[1], &[0.0])
                .node("Greater", &["y", "zero"], "z")
                .output("p")
                .output("z")
                .bytes(),
        ),
        ("E0120", with_node("Conv").bytes()),
        ("E0121", with_node("DynamicQuantizeLinear").bytes()),
        ("E0122", with_node("QLinearConv").bytes()),
        ("E0122", with_node("com.microsoft.QAttention").bytes()),
        ("E0122", with_node("com.microsoft.MatMulNBits").bytes()),
        ("E0122", with_node("qonnx.custom_op.general.Trunc").bytes()),
        ("E0123", with_node("ai.onnx.ml.SVMRegressor").text("kernel_type", "RBF").bytes()),
        ("E0135", with_node("ai.onnx.ml.TreeEnsemble").bytes()),
        ("E0124", with_node("Celu").float("alpha", 0.0).bytes()),
        ("E0124", with_node("Celu").float("alpha", -1.0).bytes()),
        ("E0124", with_node("Shrink").float("bias", 0.25).bytes()),
        ("E0125", tiny_with_trans_a().bytes()),
        ("E0126", edited(|b| b.graph().node[2].input[1] = "w0".to_owned()).bytes()),
        ("E0127", scaled_by("Div", &[1.0, 0.0]).bytes()),
        ("E0128", edited(|b| weight(b, 1).raw_data = Some(huge)).bytes()),
        ("E0129", scaled_only().bytes()),
        ("E0135", with_node("ai.onnx.ml.TreeEnsembleClassifier").bytes()),
    ];
    for (id, bytes) in &cases {
        assert_eq!(ids(&refuse(bytes, &Eight)).first(), Some(id), "{:?}", refuse(bytes, &Eight));
    }
    for code in codes::TABLE {
        assert!(cases.iter().any(|(id, _)| *id == code.id), "{} has no case", code.id);
    }
}

fn tiny_with_trans_a() -> Builder {
    let mut builder = tiny().int("transA", 1);
    builder.graph().output[0].name = Some("y".to_owned());
    builder
}

/// The tiny model behind a scaler.
fn scaled_by(operator: &str, by: &[f32]) -> Builder {
    let size = i64::try_from(by.len()).unwrap();
    let mut builder = tiny().weight("by", &[size], by).node(operator, &["x", "by"], "scaled");
    builder.graph().node.rotate_right(1);
    builder.graph().node[1].input[0] = "scaled".to_owned();
    builder
}

fn scaled_only() -> Builder {
    Builder::new()
        .input("x", &[0, 2])
        .weight("by", &[2], &[1.0, 2.0])
        .node("Mul", &["x", "by"], "y")
        .output("y")
}

#[test]
fn all_reasons_are_in_one_report() {
    let mut builder = scaled_by("Div", &[0.0, 0.0]).node("com.microsoft.QAttention", &["a0"], "t").node(
        "Conv",
        &["t", "w0"],
        "c",
    );
    let graph = builder.graph();
    graph.node.swap(3, 4);
    graph.node.swap(4, 5);
    graph.node[5].input[0] = "c".to_owned();
    graph.output.push(graph.output[0].clone());
    let nan = f32::NAN.to_le_bytes().repeat(2);
    graph.initializer[3].raw_data = Some(nan);
    let reasons = refuse(&builder.bytes(), &NoFiles);
    let mut ids = ids(&reasons);
    ids.sort_unstable();
    assert_eq!(ids, ["E0110", "E0120", "E0122", "E0127"]);
    for reason in &reasons {
        let Origin::Node { node, .. } = &reason.origin else { panic!("without a node: {reason:?}") };
        assert!(node.name.starts_with("node_"));
    }
    // Shapes where they are known.
    let zero = reasons.iter().find(|reason| reason.code.id == "E0127").unwrap();
    assert!(zero.notes.iter().any(|note| note.contains("[batch, 2]")), "{zero:?}");
}

#[test]
fn large_graphs_are_refused_before_they_are_decoded() {
    // A million empty nodes, 2 bytes each, inside a graph.
    let nodes = [0x0a, 0x00].repeat(1_000_000);
    let mut file = vec![0x08, 0x08, 0x3a];
    let mut length = nodes.len();
    while length >= 0x80 {
        file.push(length as u8 | 0x80);
        length >>= 7;
    }
    file.push(length as u8);
    file.extend(&nodes);
    let reasons = refuse(&file, &NoFiles);
    assert_eq!(ids(&reasons), ["E0111"]);
    assert!(reasons[0].message.contains("400000"), "{reasons:?}");
    // Fewer, but too many to be looked at.
    let mut builder = tiny();
    let node = builder.graph().node[0].clone();
    builder.graph().node.resize(20_000, node);
    assert_eq!(ids(&refuse(&builder.bytes(), &NoFiles)), ["E0111"]);
    // Trees have a string for each of their nodes.
    let modes =
        |count| with_node("ai.onnx.ml.TreeEnsembleClassifier").texts("nodes_modes", &vec!["LEAF"; count]);
    assert_eq!(ids(&refuse(&modes(1_000_000).bytes(), &Eight)), ["E0135"]);
    let reasons = refuse(&modes(2_000_000).bytes(), &Eight);
    assert_eq!(ids(&reasons), ["E0111"]);
    assert!(reasons[0].message.contains("400000"), "{reasons:?}");
}

#[test]
fn label_lists_of_the_wrong_length_are_refused() {
    let builder = super::linear::one_row("LOGISTIC");
    for labels in [&[3][..], &[3, 7, 9]] {
        let mut wrong = builder.clone();
        wrong.graph().node[0].attribute[2].ints = labels.to_vec();
        let reasons = refuse(&wrong.bytes(), &NoFiles);
        assert_eq!(ids(&reasons), ["E0119"]);
        assert!(reasons[0].message.contains(&format!("{} classes", labels.len())), "{reasons:?}");
    }
    let zipped = tiny()
        .node("Softmax", &["y"], "p")
        .node("ai.onnx.ml.ZipMap", &["p"], "z")
        .ints("classlabels_int64s", &[1, 2, 3])
        .output("z");
    assert_eq!(ids(&refuse(&zipped.bytes(), &NoFiles)), ["E0119"]);
}

#[test]
fn truncations_and_flipped_bytes_never_panic() {
    let others = [
        super::linear::svc(&[]),
        super::linear::one_row("LOGISTIC"),
        super::pieces::called(),
        super::leaves::boosted([1.0, -1.0]),
        super::leaves::isolation(-1.0, "Less"),
        super::ensembles::sets(&[2.0, 3.0, f64::NAN, 5.0]),
    ];
    let all = [tiny(), super::graphs::sklearn_tail()].into_iter().chain(others);
    for bytes in all.map(|builder| builder.bytes()) {
        for length in 0..bytes.len() {
            // A cut at a field boundary may leave a whole model; anything else has reasons.
            withstand::model(&bytes[..length]);
        }
        for at in 0..bytes.len() {
            for mask in [0x01, 0x08, 0x40, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[at] ^= mask;
                withstand::model(&damaged);
            }
        }
    }
}

/// What a graph that grows from few nodes is refused with.
fn grown(builder: &Builder) -> String {
    let reasons = refuse(&builder.bytes(), &NoFiles);
    assert_eq!(ids(&reasons), ["E0111"], "{reasons:?}");
    reasons[0].message.clone()
}

#[test]
fn values_that_are_joined_with_themselves_do_not_exhaust_memory() {
    let doubled = |from: &str| {
        (0..40).fold((tiny(), from.to_owned()), |(builder, last), step| {
            let next = format!("c{step}");
            (builder.node("Concat", &[&last, &last], &next).int("axis", 1), next)
        })
    };
    let (builder, last) = doubled("y");
    assert_eq!(grown(&builder.output(&last)), "Concat joins more than 65536 values");
    // Each join of a value with a function of it makes layers of twice the width, one for each depth.
    let (mut builder, mut last) = (tiny(), "y".to_owned());
    for step in 0..30 {
        let (curved, next) = (format!("t{step}"), format!("c{step}"));
        builder =
            builder.node("Tanh", &[&last], &curved).node("Concat", &[&last, &curved], &next).int("axis", 1);
        last = next;
    }
    assert_eq!(grown(&builder.output(&last)), "Concat joins more than 65536 values");
}

#[test]
fn constants_computed_from_constants_do_not_exhaust_memory() {
    let ones = vec![1.0; 2048];
    let mut builder = tiny().weight("column", &[2048, 1], &ones).weight("row", &[1, 2048], &ones);
    builder = builder.node("Add", &["column", "row"], "k0");
    for step in 0..1000 {
        builder = builder.node("Add", &[&format!("k{step}"), "row"], &format!("k{}", step + 1));
    }
    let builder = builder.node("MatMul", &["y", "k1000"], "z").output("z");
    assert_eq!(grown(&builder), "up to here the values of the graph hold more than 33554432 numbers");
}

#[test]
fn models_of_more_outputs_than_any_has_are_refused() {
    let wide = |classes: usize| {
        let side = i64::try_from(classes).unwrap();
        Builder::new()
            .input("x", &[0, 1])
            .weight("w", &[1, side], &vec![0.5; classes])
            .node("MatMul", &["x", "w"], "y")
            .output("y")
    };
    assert_eq!(import("model.onnx", &wide(4096).bytes(), &NoFiles).unwrap().output_count(), 4096);
    assert_eq!(grown(&wide(4097)), "the model has 4097 outputs, at most 4096 are read");
}
