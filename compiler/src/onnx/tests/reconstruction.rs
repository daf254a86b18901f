//! Autoencoders judged by the error of their reconstruction: the statement of the specification, and graphs that
//! compute the error themselves.

use std::fmt::Write as _;

use super::build::Builder;
use super::graphs::model;
use crate::compile::{self, Named, Plan, Sources};
use crate::diag::Outcome;
use crate::ir::interpret;
use crate::model::{Activation, Function, Head};
use crate::onnx::NoFiles;
use crate::quant::{Options, contract};
use crate::spec::{self, Surroundings};

/// What a difference counts.
type Of = fn(f64) -> f64;

const SPEC: &str = "
spec watch v1;
attach xdp;
flow conn on tcp {
    key five_tuple bidirectional;
    capacity 1000;
    idle 60 s;
    end tcp.fin or tcp.rst;
}
features of conn {
    packets = count();
    client  = first(l4.src_port);
    server  = first(l4.dst_port);
}
model { labels normal, anomaly; STATEMENT }
classify conn at end;
on anomaly { report; }
";

fn spec_of(statement: &str) -> String {
    SPEC.replace("STATEMENT", statement)
}

/// Three scaled inputs through two values, and three or two, and back.
fn autoencoder(hidden: &str, end: &str) -> Builder {
    let built = Builder::new()
        .input("x", &[0, 3])
        .weight("mean", &[3], &[500.0, 30_000.0, 20_000.0])
        .weight("scale", &[3], &[400.0, 20_000.0, 15_000.0])
        .weight("w0", &[3, 2], &[0.9, -0.4, 0.3, 0.8, -0.5, 0.6])
        .weight("w1", &[2, 4], &[0.7, -0.6, 0.2, 0.5, 0.3, 0.9, -0.8, 0.4])
        .weight("w2", &[4, 3], &[0.5, 0.1, -0.4, -0.7, 0.6, 0.2, 0.3, -0.2, 0.8, 0.4, 0.5, -0.3])
        .weight("b2", &[3], &[0.1, -0.2, 0.05])
        .node("Sub", &["x", "mean"], "centred")
        .node("Div", &["centred", "scale"], "z")
        .node("MatMul", &["z", "w0"], "h0")
        .node(hidden, &["h0"], "a0")
        .node("MatMul", &["a0", "w1"], "h1")
        .node("Relu", &["h1"], "a1")
        .node("MatMul", &["a1", "w2"], "h2")
        .node("Add", &["h2", "b2"], if end.is_empty() { "y" } else { "h3" });
    if end.is_empty() { built } else { built.node(end, &["h3"], "y") }
}

fn rows() -> Vec<[f64; 3]> {
    (0..300_u32)
        .map(|i| [f64::from(i * 7 % 1000), f64::from(i * 977 % 65_536), f64::from(i * 3571 % 65_536)])
        .collect()
}

/// The mean of what the differences become, from the model's own outputs.
fn error(built: &Builder, end: &str, row: &[f64; 3], of: fn(f64) -> f64) -> f64 {
    let outputs = model(&built.clone().output("y")).outputs_f64(row);
    let scaled = [(row[0] - 500.0) / 400.0, (row[1] - 30_000.0) / 20_000.0, (row[2] - 20_000.0) / 15_000.0];
    let outputs =
        outputs.iter().map(|value| if end == "Sigmoid" { 1.0 / (1.0 + (-value).exp()) } else { *value });
    outputs.zip(scaled).map(|(output, input)| of(output - input)).sum::<f64>() / 3.0
}

#[test]
fn outputs_that_are_the_inputs_again_become_an_error() {
    let forms: [(&str, Of); 2] = [("l1", f64::abs), ("l2", |d| d * d)];
    for (hidden, end) in [("Relu", ""), ("Tanh", ""), ("Tanh", "Sigmoid"), ("Relu", "Tanh"), ("Gelu", "Relu")]
    {
        let built = autoencoder(hidden, end);
        for (name, of) in forms {
            let text = spec_of(&format!("reconstruction {name} > 0.75;"));
            let spec = spec::compile("watch.spec", &text).unwrap();
            let mut judged = model(&built.clone().output("y"));
            contract::between("model", &mut judged, Some(&spec)).unwrap();
            assert_eq!((judged.first.head, judged.output_count()), (Head::Logistic, 1));
            for row in rows() {
                let wanted = error(&built, end, &row, of) - 0.75;
                let [got] = judged.outputs_f64(&row)[..] else { panic!("one output") };
                assert!((got - wanted).abs() < 1e-9, "{hidden} {end} {name} {row:?}: {got} for {wanted}");
            }
        }
    }
}

fn planned(built: &Builder, spec: &str) -> Outcome<Plan> {
    let mut text = String::from("packets,client,server\n");
    for [packets, client, server] in rows() {
        writeln!(text, "{packets},{client},{server}").unwrap();
    }
    let bytes = built.bytes();
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &bytes },
        spec: Some(Named { name: "watch.spec", bytes: spec.as_bytes() }),
        calibration: Some(Named { name: "x.csv", bytes: text.as_bytes() }),
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, &Options::default())
}

#[test]
fn an_autoencoder_of_relus_is_judged_in_integers() {
    let built = autoencoder("Relu", "").output("y");
    let plan = planned(&built, &spec_of("reconstruction l1 > 0.75;")).unwrap();
    let network = plan.network.get();
    let mut anomalies = 0;
    for row in rows() {
        let wanted = error(&autoencoder("Relu", ""), "", &row, f64::abs) > 0.75;
        let raw: Vec<i64> = row.iter().map(|value| *value as i64).collect();
        let label =
            interpret::label(network.decision.first.rule, &interpret::outputs(network, &raw)).unwrap();
        assert_eq!(label == 1, wanted, "{row:?}");
        anomalies += u32::from(wanted);
    }
    assert!((30..270).contains(&anomalies), "{anomalies}");
}

#[test]
fn other_models_have_no_reconstruction() {
    let refused = |built: &Builder, spec: &str| -> Vec<String> {
        let reasons = planned(built, spec).expect_err("a refusal");
        reasons.iter().map(|reason| format!("{} {}", reason.code.id, reason.message)).collect()
    };
    let statement = spec_of("reconstruction l1 > 0.75;");
    assert_eq!(
        refused(&autoencoder("Relu", "").output("h0"), &statement),
        ["E0320 the model has 2 outputs for 3 inputs"]
    );
    assert_eq!(
        refused(&autoencoder("Relu", "Softmax").output("y"), &statement),
        ["E0320 the model's outputs are classes"]
    );
    let rule = statement.replace("on anomaly", "on anomaly when p >= 0.9");
    assert_eq!(
        refused(&autoencoder("Relu", "").output("y"), &rule),
        ["E0320 the error of a reconstruction is no probability"]
    );
}

#[test]
fn graphs_may_compute_the_error_themselves() {
    let tail = |built: Builder, nodes: &[(&str, &[&str], &str)]| {
        nodes.iter().fold(built, |built, (operator, inputs, output)| built.node(operator, inputs, output))
    };
    let start = || autoencoder("Tanh", "").weight("limit", &[], &[0.75]).integers("axis", &[1]);
    let absolute = tail(
        start(),
        &[
            ("Sub", &["y", "z"], "d"),
            ("Abs", &["d"], "m"),
            ("ReduceMean", &["m", "axis"], "e"),
            ("Greater", &["e", "limit"], "label"),
        ],
    );
    let squared = tail(
        start(),
        &[
            ("Sub", &["z", "y"], "d"),
            ("Mul", &["d", "d"], "m"),
            ("ReduceMean", &["m", "axis"], "e"),
            ("Greater", &["e", "limit"], "label"),
        ],
    );
    let root = tail(
        start(),
        &[
            ("Sub", &["z", "y"], "d"),
            ("ReduceSumSquare", &["d", "axis"], "s"),
            ("Sqrt", &["s"], "e"),
            ("Greater", &["e", "limit"], "label"),
        ],
    );
    let plain = autoencoder("Tanh", "");
    let forms: [(Builder, Of, f64, Activation); 3] = [
        (absolute, f64::abs, 0.75, Activation::Relu),
        (squared, |d| d * d, 0.75, Activation::Function(Function::Square)),
        (root, |d| 3.0 * d * d, 0.75 * 0.75, Activation::Function(Function::Square)),
    ];
    for (built, of, limit, last) in forms {
        let judged = model(&built.output("label"));
        assert_eq!((judged.first.head, judged.layers().len()), (Head::Logistic, 4));
        assert_eq!(judged.layers()[2].activation, last);
        for row in rows() {
            let wanted = error(&plain, "", &row, of) - limit;
            let [got] = judged.outputs_f64(&row)[..] else { panic!("one output") };
            assert!((got - wanted).abs() < 1e-9, "{row:?}: {got} for {wanted}");
        }
    }
}
