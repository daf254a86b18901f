//! One report of everything unsupported: equal refusals together, shapes as far as they are known.

use super::build::{Builder, tiny};
use crate::diag::render;
use crate::onnx::{NoFiles, import};

fn shown(builder: &Builder) -> String {
    let reasons = import("model.onnx", &builder.bytes(), &NoFiles).expect_err("the model must be refused");
    render::all(&reasons, &[])
}

/// A chain of so many layers with `Sin` between them.
fn chain(layers: usize) -> Builder {
    let mut builder = Builder::new().input("x", &[0, 2]).weight("w", &[2, 2], &[0.5, -1.0, 2.0, 1.5]);
    let mut last = "x".to_owned();
    for layer in 0..layers {
        let (sum, value) = (format!("s{layer}"), format!("t{layer}"));
        builder = builder.node("MatMul", &[&last, "w"], &sum).node("Sin", &[&sum], &value);
        last = value;
    }
    builder.node("MatMul", &[&last, "w"], "y").output("y")
}

#[test]
fn equal_refusals_share_a_diagnostic_with_the_shapes_behind_them() {
    let text = shown(&chain(7));
    assert_eq!(text.matches("error[").count(), 1, "{text}");
    assert!(text.contains("model.onnx: node 1 `node_t0` (Sin)"), "{text}");
    assert!(text.contains("note: the same holds for 7 nodes, this one included"), "{text}");
    for node in
        ["node 3 `node_t1`: input `s1`", "node 5 `node_t2`: input `s2`", "node 9 `node_t4`: input `s4`"]
    {
        assert!(text.contains(&format!("{node} is data of shape [batch, 2]")), "{node} in {text}");
    }
    assert!(!text.contains("`node_t5`") && text.contains("note: and 2 more"), "{text}");
}

#[test]
fn different_refusals_stay_apart_and_unknown_shapes_are_called_so() {
    let mut builder = tiny().node("Conv", &["y"], "a").node("MatMul", &["a", "a"], "b");
    builder = builder.node("Cos", &["b"], "c").output("c");
    builder.graph().output.remove(0);
    let text = shown(&builder);
    assert_eq!(text.matches("error[").count(), 2, "{text}");
    assert!(text.contains("input `b` is the result of an unsupported node, shape not known"), "{text}");
}

#[test]
fn what_an_imported_operator_says_about_a_stand_in_is_no_mistake_of_the_model() {
    // Behind the refused node stands data, and two maps of data do not multiply.
    let mut builder = tiny().node("Sin", &["y"], "a").node("Mul", &["a", "y"], "b").output("b");
    builder.graph().output.remove(0);
    let text = shown(&builder);
    assert_eq!(text.matches("error[").count(), 1, "{text}");
}
