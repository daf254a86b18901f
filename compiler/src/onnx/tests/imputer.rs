//! Numbers that are replaced: Imputer and Where of a comparison for equality, against onnxruntime's outputs.

use super::build::Builder;
use super::graphs::model;
use crate::model::Model;
use crate::onnx::schema::data_type;
use crate::onnx::{NoFiles, import};

/// Rows at, beside and far from what is replaced.
const ROWS: [[f32; 2]; 11] = [
    [-1.0, 0.0],
    [0.0, -1.0],
    [-1.0, -1.0],
    [3.0, 104.0],
    [6.0, 103.999_99],
    [6.000_000_5, 104.000_01],
    [0.0, 0.0],
    [1.0, 3.0],
    [3.0, 1.0],
    [2.999_999_8, 3.0],
    [7.0, 5.0],
];

/// Two features through nodes from `x` to `a`, then added up with weights 1 and 10.
fn around(nodes: impl FnOnce(Builder) -> Builder) -> Builder {
    let start = Builder::new().input("x", &[0, 2]).weight("w", &[2, 1], &[1.0, 10.0]);
    nodes(start).node("MatMul", &["a", "w"], "y").output("y")
}

fn imputer(b: Builder, from: &str, to: &str, value: f32, by: &[f32]) -> Builder {
    b.node("ai.onnx.ml.Imputer", &[from], to)
        .floats("imputed_value_floats", by)
        .float("replaced_value_float", value)
}

fn scaler(b: Builder, from: &str, to: &str) -> Builder {
    b.node("ai.onnx.ml.Scaler", &[from], to)
        .floats("offset", &[3.0, 100.0])
        .floats("scale", &[1.0 / 3.0, 0.25])
}

/// Whether the outputs are those of onnxruntime 1.31 for [`ROWS`].
fn gives(built: &Builder, wanted: [f64; 11]) -> Model {
    let model = model(built);
    for (row, wanted) in ROWS.iter().zip(wanted) {
        let row = row.map(f64::from);
        let [got] = model.outputs_f64(&row)[..] else { panic!("one output") };
        assert!((got - wanted).abs() <= 2e-6 * wanted.abs().max(1.0), "{row:?}: {got} for {wanted}");
        let [single] = model.outputs_f32(&row)[..] else { panic!("one output") };
        assert!((f64::from(single) - wanted).abs() <= 2e-6 * wanted.abs().max(1.0), "{row:?}: {single}");
    }
    model
}

#[test]
fn numbers_are_replaced_as_onnxruntime_does() {
    let each = around(|b| imputer(b, "x", "a", -1.0, &[2.5, 40.25]));
    let rest = [1046.0, 1046.0, 0.0, 31.0, 13.0, 33.0, 57.0];
    let [r0, r1, r2, r3, r4, r5, r6] = rest;
    let model = gives(&each, [2.5, 402.5, 405.0, 1043.0, r0, r1, r2, r3, r4, r5, r6]);
    assert_eq!(
        model.replaced.iter().map(|one| (one.column.source, one.by)).collect::<Vec<_>>(),
        [(0, 2.5), (1, 40.25)]
    );
    let one = around(|b| imputer(b, "x", "a", 0.0, &[7.5]));
    gives(&one, [74.0, -2.5, -11.0, 1043.0, r0, r1, 82.5, r3, r4, r5, r6]);
    // Behind a scaler and before one.
    let behind = around(|b| imputer(scaler(b, "x", "s"), "s", "a", 1.0, &[9.5, -2.0]));
    let scaled = [-251.0, -243.166_671_752_929_7, -247.5, -242.5, -236.166_671_752_929_7];
    let [s0, s1, s2, s3, s4] = scaled;
    let first = [-251.333_328_247_070_3, -253.5, -253.833_328_247_070_3, -20.0];
    let [f0, f1, f2, f3] = first;
    gives(&behind, [f0, f1, f2, f3, 19.499_980_926_513_672, 11.000_019_073_486_328, s0, s1, s2, s3, s4]);
    let before = around(|b| scaler(imputer(b, "x", "s", -1.0, &[2.5, 40.25]), "s", "a"));
    let first = [-250.166_671_752_929_7, -150.375, -149.541_671_752_929_7, 10.0];
    let [f0, f1, f2, f3] = first;
    gives(&before, [f0, f1, f2, f3, 10.999_980_926_513_672, 11.000_019_073_486_328, s0, s1, s2, s3, s4]);
    // A number that no feature has, and NaN.
    for value in [f32::INFINITY, f32::NAN] {
        let none = around(|b| imputer(b, "x", "a", value, &[7.5]));
        let model = gives(&none, [-1.0, -10.0, -11.0, 1043.0, r0, r1, r2, r3, r4, r5, r6]);
        assert!(model.replaced.is_empty());
    }
}

#[test]
fn integers_are_replaced_as_onnxruntime_does() {
    let mut built = around(|b| {
        b.node("ai.onnx.ml.Imputer", &["x"], "i")
            .ints("imputed_value_int64s", &[5, 7])
            .int("replaced_value_int64", 0)
            .node("Cast", &["i"], "a")
            .int("to", i64::from(data_type::FLOAT))
    });
    let info = &mut built.graph().input[0];
    info.r#type.as_mut().unwrap().tensor_type.as_mut().unwrap().elem_type = Some(data_type::INT64);
    let model = model(&built);
    for (row, wanted) in
        [([-1.0, 0.0], 69.0), ([0.0, -1.0], -5.0), ([3.0, 104.0], 1043.0), ([0.0, 0.0], 75.0)]
    {
        assert_eq!(model.outputs_f64(&row), [wanted]);
    }
}

#[test]
fn where_replaces_what_is_equal() {
    let [r0, r1] = [1046.0, 1046.0];
    let yes = around(|b| {
        b.weight("v", &[], &[3.0]).weight("c", &[2], &[0.5, -8.0]).node("Equal", &["x", "v"], "e").node(
            "Where",
            &["e", "c", "x"],
            "a",
        )
    });
    gives(&yes, [-1.0, -10.0, -11.0, 1040.5, r0, r1, 0.0, -79.0, 10.5, -77.0, 57.0]);
    let no = around(|b| {
        b.weight("v", &[2], &[3.0, 1.0])
            .weight("c", &[], &[4.25])
            .node("Equal", &["v", "x"], "e")
            .node("Not", &["e"], "m")
            .node("Where", &["m", "x", "c"], "a")
    });
    gives(&no, [-1.0, -10.0, -11.0, 1044.25, r0, r1, 0.0, 31.0, 46.75, 33.0, 57.0]);
}

fn refused(built: &Builder) -> (&'static str, String) {
    let errors = import("model.onnx", &built.bytes(), &NoFiles).unwrap_err();
    assert_eq!(errors.len(), 1, "{errors:?}");
    (errors[0].code.id, errors[0].message.clone())
}

#[test]
fn what_cannot_be_replaced_exactly_is_refused_by_name() {
    let sums = around(|b| {
        imputer(
            b.weight("p", &[2, 2], &[1.0, 2.0, 3.0, 4.0]).node("MatMul", &["x", "p"], "h"),
            "h",
            "a",
            0.0,
            &[1.0],
        )
    });
    assert_eq!(refused(&sums).0, "E0120");
    let lengths = around(|b| imputer(b, "x", "a", 0.0, &[1.0, 2.0, 3.0]));
    assert_eq!(refused(&lengths).0, "E0126");
    let infinite = around(|b| imputer(b, "x", "a", 0.0, &[f32::INFINITY]));
    assert_eq!(refused(&infinite).0, "E0110");
    let twice = around(|b| imputer(imputer(b, "x", "i", 0.0, &[1.0]), "i", "a", -1.0, &[1.0]));
    let (code, message) = refused(&twice);
    assert!(code == "E0125" && message.contains("second value"), "{message}");
    // A feature that is read as it is, too.
    let both = around(|b| imputer(b, "x", "i", 0.0, &[1.0]).node("Add", &["i", "x"], "a"));
    let (code, message) = refused(&both);
    assert!(code == "E0125" && message.contains("feature 0 is read with 0 replaced"), "{message}");
    // A comparison for equality that a layer reads.
    let read = around(|b| {
        b.weight("v", &[], &[3.0]).node("Equal", &["x", "v"], "e").node("Cast", &["e"], "a").int("to", 1)
    });
    let (code, message) = refused(&read);
    assert!(code == "E0120" && message.contains("comparison for equality"), "{message}");
}

#[test]
fn a_norm_of_the_row_is_refused_with_the_formula_to_write() {
    for norm in ["L1", "L2", "MAX"] {
        let built = around(|b| b.node("ai.onnx.ml.Normalizer", &["x"], "a").text("norm", norm));
        let errors = import("model.onnx", &built.bytes(), &NoFiles).unwrap_err();
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!(errors[0].code.id, "E0120");
        assert!(errors[0].message.contains(&format!("its own {norm} norm")), "{}", errors[0].message);
        assert!(errors[0].help.contains("`part = a / (a + b);`"), "{}", errors[0].help);
    }
}
