//! Comparisons: labels at the end of a graph, 1 or 0 where a layer reads them.

use super::build::Builder;
use super::graphs::model;
use super::pieces::{around, rows};
use crate::model::{Activation, Function, Head, Model};
use crate::onnx::schema::data_type;
use crate::onnx::{NoFiles, import};

/// Whether the graph applies `formula` to each value.
fn values(built: &Builder, formula: impl Fn(f64) -> f64) -> Model {
    let model = model(built);
    for row in rows() {
        let wanted = formula(row[0]) + 10.0 * formula(row[1]);
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 1e-9 * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
    }
    model
}

fn one(holds: bool) -> f64 {
    f64::from(u8::from(holds))
}

/// A comparison with `c = 0.75`, a corner of the rows, as a float.
fn compared(operator: &str, inputs: &[&str]) -> Builder {
    around(|b| {
        b.weight("c", &[], &[0.75])
            .node(operator, inputs, "l")
            .node("Cast", &["l"], "a")
            .int("to", i64::from(data_type::FLOAT))
    })
}

#[test]
fn comparisons_are_one_or_zero_where_a_layer_reads_them() {
    let step = |built: &Builder, formula: fn(f64) -> bool| {
        let model = values(built, |x| one(formula(x)));
        assert_eq!(model.layers()[0].activation, Activation::Function(Function::Step));
    };
    step(&compared("Greater", &["h", "c"]), |x| x > 0.75);
    step(&compared("Greater", &["c", "h"]), |x| 0.75 > x);
    step(&compared("Less", &["h", "c"]), |x| x < 0.75);
    step(&compared("GreaterOrEqual", &["h", "c"]), |x| x >= 0.75);
    step(&compared("LessOrEqual", &["h", "c"]), |x| x <= 0.75);
    step(&around(|b| b.node("ai.onnx.ml.Binarizer", &["h"], "a").float("threshold", 0.75)), |x| x > 0.75);
    let not = |operator: &str| {
        around(|b| {
            b.weight("c", &[], &[0.75])
                .node(operator, &["h", "c"], "l")
                .node("Not", &["l"], "n")
                .node("Cast", &["n"], "a")
                .int("to", i64::from(data_type::FLOAT))
        })
    };
    step(&not("Greater"), |x| x <= 0.75);
    step(&not("GreaterOrEqual"), |x| x < 0.75);
    values(&around(|b| b.node("Sign", &["h"], "a")), |x| if x == 0.0 { 0.0 } else { x.signum() });
    let between = |operator: &str| {
        around(|b| {
            b.weight("low", &[], &[-1.5])
                .weight("high", &[], &[0.75])
                .node("GreaterOrEqual", &["h", "low"], "l")
                .node("Less", &["h", "high"], "r")
                .node(operator, &["l", "r"], "o")
                .node("Cast", &["o"], "a")
                .int("to", i64::from(data_type::FLOAT))
        })
    };
    values(&between("And"), |x| one((-1.5..0.75).contains(&x)));
    values(&between("Or"), |_| 1.0);
}

#[test]
fn where_chooses_by_a_comparison() {
    let chosen = |operator: &str, yes: &'static str, no: &'static str| {
        around(|b| {
            b.weight("c", &[], &[0.75])
                .weight("zero", &[], &[0.0])
                .weight("two", &[], &[2.0])
                .weight("row", &[2], &[3.0, 3.0])
                .node("Mul", &["h", "two"], "h2")
                .node(operator, &["h", if yes == "h" && no == "h2" { "zero" } else { "c" }], "l")
                .node("Where", &["l", yes, no], "a")
        })
    };
    values(&chosen("Greater", "two", "row"), |x| if x > 0.75 { 2.0 } else { 3.0 });
    values(&chosen("Less", "h", "zero"), |x| if x < 0.75 { x } else { 0.0 });
    let jump = values(&chosen("Greater", "h2", "zero"), |x| if x > 0.75 { 2.0 * x } else { 0.0 });
    assert_eq!(jump.layers()[0].activation, Activation::Function(Function::ThresholdedRelu { alpha: 1.5 }));
    values(&chosen("Greater", "h", "h2"), |x| if x > 0.0 { x } else { 2.0 * x });
    // Another choice is no function of the table.
    let other = chosen("Greater", "h", "two");
    assert_eq!(import("model.onnx", &other.bytes(), &NoFiles).unwrap_err()[0].code.id, "E0125");
}

#[test]
fn comparisons_at_the_end_are_labels() {
    let end = |operator: &str| {
        let mut builder = around(|b| b.node("Relu", &["h"], "a"))
            .weight("t", &[1], &[2.5])
            .node(operator, &["y", "t"], "label")
            .output("label");
        builder.graph().output.remove(0);
        builder
    };
    for (operator, above) in
        [("Greater", true), ("GreaterOrEqual", true), ("Less", false), ("LessOrEqual", false)]
    {
        let model = model(&end(operator));
        assert_eq!((model.first.head, model.layers().len()), (Head::Logistic, 2));
        assert_eq!(model.first.head.label(&model.outputs_f64(&[3.0, 0.0])), Some(usize::from(above)));
        assert_eq!(model.first.head.label(&model.outputs_f64(&[2.0, 0.0])), Some(usize::from(!above)));
    }
    // A probability is compared by what the sigmoid reads.
    let mut probable = around(|b| b.node("Relu", &["h"], "a"))
        .weight("t", &[1], &[0.75])
        .node("Sigmoid", &["y"], "p")
        .node("Greater", &["p", "t"], "label")
        .output("label");
    probable.graph().output.remove(0);
    let [z] = model(&probable).outputs_f64(&[2.0, 0.0])[..] else { panic!("one output") };
    assert!((z - (2.0 - 3.0_f64.ln())).abs() < 1e-6, "{z}");
}
