//! What graphs compute leaf by leaf and label by label, sums of several ensembles, exponentials behind them.

use super::build::{Builder, tiny};
use crate::model::{Body, Head, Model};
use crate::onnx::schema::data_type;
use crate::onnx::{NoFiles, import};

fn imported(builder: &Builder) -> Model {
    import("leaves", &builder.bytes(), &NoFiles).unwrap_or_else(|reasons| panic!("{reasons:?}"))
}

fn refused(builder: &Builder) -> (&'static str, String) {
    let reasons = import("leaves", &builder.bytes(), &NoFiles).unwrap_err();
    (reasons[0].code.id, reasons[0].message.clone())
}

/// A node of one tree: one comparison of the feature with 0.
fn comparison(builder: Builder, operator: &str, output: &str, feature: i64) -> Builder {
    builder
        .node(operator, &["x"], output)
        .ints("nodes_treeids", &[0, 0, 0])
        .ints("nodes_nodeids", &[0, 1, 2])
        .ints("nodes_featureids", &[feature, 0, 0])
        .floats("nodes_values", &[0.0; 3])
        .texts("nodes_modes", &["BRANCH_LEQ", "LEAF", "LEAF"])
        .ints("nodes_truenodeids", &[1, 0, 0])
        .ints("nodes_falsenodeids", &[2, 0, 0])
}

/// A regressor of one comparison of the feature with 0: the numbers on either side are the output `name`.
fn tree(builder: Builder, name: &str, feature: i64, values: [f32; 2]) -> Builder {
    comparison(builder, "ai.onnx.ml.TreeEnsembleRegressor", name, feature)
        .ints("target_treeids", &[0, 0])
        .ints("target_nodeids", &[1, 2])
        .ints("target_ids", &[0, 0])
        .floats("target_weights", &values)
        .int("n_targets", 1)
}

/// The probabilities of two classes as `name`, the label as `name.label`, by one comparison of the feature with 0.
fn classifier(builder: Builder, name: &str, feature: i64, values: [f32; 2]) -> Builder {
    let label = format!("{name}.label");
    let mut builder = comparison(builder, "ai.onnx.ml.TreeEnsembleClassifier", &label, feature)
        .ints("class_treeids", &[0, 0])
        .ints("class_nodeids", &[1, 2])
        .ints("class_ids", &[0, 0])
        .floats("class_weights", &values)
        .texts("classlabels_strings", &["good", "bad"]);
    builder.graph().node.last_mut().unwrap().output.push(name.to_owned());
    builder
}

fn start() -> Builder {
    Builder::new().input("x", &[0, 2])
}

const ROWS: [[f64; 2]; 4] = [[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]];

/// Two classifiers that vote with weights, and a softmax written out with its guard.
pub(super) fn boosted(votes: [f32; 2]) -> Builder {
    let mut builder = start()
        .integers("classes", &[0, 1])
        .integers("axis", &[1])
        .weight("for", &[1], &votes[..1])
        .weight("against", &[1], &votes[1..])
        .integers("zero", &[0]);
    for (name, feature, values, weight) in [("a", 0, [0.25, 0.75], 0.75), ("b", 1, [0.9, 0.2], 0.5)] {
        let own = |part: &str| format!("{name}.{part}");
        builder = classifier(builder, name, feature, values)
            .weight(&own("weight"), &[], &[weight])
            .node("ArgMax", &[name], &own("index"))
            .int("axis", 1)
            .node("Equal", &[&own("index"), "classes"], &own("hit"))
            .node("Where", &[&own("hit"), "for", "against"], &own("vote"))
            .node("Mul", &[&own("vote"), &own("weight")], &own("weighted"));
    }
    builder
        .weight("total", &[], &[1.25])
        .integers("column", &[-1, 1])
        .node("Sum", &["a.weighted", "b.weighted"], "sum")
        .node("Div", &["sum", "total"], "scaled")
        .node("Exp", &["scaled"], "powers")
        .node("ReduceSum", &["powers", "axis"], "rowsum")
        .node("Reshape", &["rowsum", "column"], "norm")
        .node("Cast", &["norm"], "whole")
        .int("to", 7)
        .node("Equal", &["whole", "zero"], "none")
        .node("Cast", &["none"], "guard")
        .int("to", 1)
        .node("Add", &["norm", "guard"], "guarded")
        .node("Div", &["powers", "guarded"], "p")
        .output("p")
        .node("ArgMax", &["p"], "label")
        .int("axis", 1)
        .output("label")
}

#[test]
fn votes_of_single_trees_are_summed_up() {
    let model = imported(&boosted([1.0, -1.0]));
    let Body::Forest(forest) = &model.body else { panic!("no trees") };
    assert_eq!((forest.trees.len(), model.first.head), (2, Head::Logits));
    assert_eq!(model.first.names, ["p", "label"]);
    for [x, y] in ROWS {
        let vote = |holds: bool, weight: f64| if holds { weight } else { -weight };
        let wanted = (vote(x > 0.0, 0.75) + vote(y <= 0.0, 0.5)) / 1.25;
        let got = model.outputs_f64(&[x, y]);
        assert!((got[1] - wanted).abs() < 1e-12 && (got[0] + wanted).abs() < 1e-12, "{x} {y}: {got:?}");
    }
}

#[test]
fn guards_that_may_do_something_are_refused_e0125() {
    // Both votes are negative: the sum of the exponentials may be less than 1.
    let (code, message) = refused(&boosted([-1.0, -1.5]));
    assert_eq!(code, "E0125");
    assert!(message.contains("guards a sum of exponentials"), "{message}");
    // A sum that does not fit 32 bits.
    assert_eq!(refused(&boosted([100.0, -1.0])).0, "E0125");
}

/// Positions of leaves, looked up in two tables; the power of the sum, and its comparison with a number.
pub(super) fn isolation(scale: f32, comparison: &str) -> Builder {
    let mut builder = start()
        .weight("one", &[1], &[1.0])
        .weight("zero", &[1], &[0.0])
        .weight("base", &[1], &[2.0])
        .weight("scale", &[1], &[scale])
        .weight("half", &[1], &[0.5])
        .integers("column", &[-1, 1])
        .integers("minus", &[-2])
        .integers("plus", &[1]);
    for (name, feature) in [("a", 0), ("b", 1)] {
        let own = |part: &str| format!("{name}.{part}");
        builder = tree(builder, name, feature, [1.0, 2.0])
            .node("Cast", &[name], &own("leaf"))
            .int("to", 7)
            .node("ai.onnx.ml.LabelEncoder", &[&own("leaf")], &own("count"))
            .ints("keys_int64s", &[1, 2])
            .floats("values_floats", &[1.0, 5.0])
            .node("Reshape", &[&own("count"), "column"], &own("n"))
            .node("Greater", &[&own("n"), "one"], &own("many"))
            .node("Cast", &[&own("many")], &own("mask"))
            .int("to", 1)
            .node("Sub", &[&own("n"), "one"], &own("less"))
            // The logarithm of 0 is masked below where it is not finite.
            .node("Max", &[&own("less"), "one"], &own("most"))
            .node("Log", &[&own("most")], &own("log"))
            .node("Mul", &[&own("log"), &own("mask")], &own("length"));
    }
    builder
        .node("Sum", &["a.length", "b.length"], "sum")
        .node("Neg", &["sum"], "down")
        .node("Pow", &["base", "down"], "power")
        .node("Mul", &["power", "scale"], "scaled")
        .node("Add", &["scaled", "half"], "scores")
        .output("scores")
        .node(comparison, &["scores", "zero"], "odd")
        .node("Cast", &["odd"], "number")
        .int("to", 7)
        .node("Mul", &["number", "minus"], "twice")
        .node("Add", &["twice", "plus"], "label")
        .output("label")
}

#[test]
fn comparisons_of_exponentials_are_comparisons_of_sums() {
    type Compare = fn(f64) -> bool;
    let comparisons: [(&str, Compare); 4] = [
        ("Less", |score| score < 0.0),
        ("Greater", |score| score > 0.0),
        ("LessOrEqual", |score| score <= 0.0),
        ("GreaterOrEqual", |score| score >= 0.0),
    ];
    for (name, holds) in comparisons {
        for scale in [-1.0f32, -4.0, -0.6] {
            let model = imported(&isolation(scale, name));
            assert_eq!((model.first.head, model.first.names.len()), (Head::Logistic, 2));
            for row in ROWS {
                let length: f64 = row.iter().map(|x| if *x > 0.0 { 4.0f64.ln() } else { 0.0 }).sum();
                let score = f64::from(scale) * (-length).exp2() + 0.5;
                let label = model.first.head.label(&model.outputs_f64(&row)).unwrap();
                let class = &model.first.classes.as_ref().unwrap()[label];
                assert_eq!(class, if holds(score) { "-1" } else { "1" }, "{row:?} {scale} {name} 0");
            }
        }
        // Positive everywhere.
        assert_eq!(refused(&isolation(0.5, name)).0, "E0125");
    }
    // The raw value is the logarithm of how far the power is from where the label changes.
    let model = imported(&isolation(-1.0, "Less"));
    let got = model.outputs_f64(&[1.0, 0.0])[0];
    assert!((got - (2.0f64.ln() - 4.0f64.ln() * 2.0f64.ln())).abs() < 1e-6, "{got}");
}

#[test]
fn exponentials_without_a_label_are_refused_e0119() {
    let mut builder = isolation(-1.0, "Less");
    builder.graph().output.truncate(1);
    let (code, message) = refused(&builder);
    assert_eq!(code, "E0119");
    assert!(message.contains("`scores` is an exponential"), "{message}");
}

/// Every operator that works on tables, on the numbers -1.5 and 2 of a tree.
#[test]
fn tables_give_what_the_operators_say() {
    let number = |nodes: fn(Builder) -> Builder, wanted: [f64; 2]| {
        let builder = nodes(tree(start(), "t", 0, [-1.5, 2.0]).weight("two", &[1], &[2.0])).output("y");
        let model = imported(&builder);
        assert_eq!([model.outputs_f64(&[0.0, 0.0])[0], model.outputs_f64(&[1.0, 0.0])[0]], wanted);
    };
    number(|b| b.node("Relu", &["t"], "y"), [0.0, 2.0]);
    number(|b| b.node("Abs", &["t"], "y"), [1.5, 2.0]);
    number(|b| b.node("Floor", &["t"], "y"), [-2.0, 2.0]);
    number(|b| b.node("Ceil", &["t"], "y"), [-1.0, 2.0]);
    number(|b| b.node("Round", &["t"], "y"), [-2.0, 2.0]);
    number(|b| b.node("Pow", &["t", "two"], "y"), [2.25, 4.0]);
    number(|b| b.node("Mul", &["t", "t"], "y"), [2.25, 4.0]);
    number(|b| b.node("Min", &["t", "two"], "y"), [-1.5, 2.0]);
    number(|b| b.node("Reciprocal", &["t"], "y"), [1.0 / -1.5, 0.5]);
    number(|b| b.node("Div", &["two", "t"], "y"), [2.0 / -1.5, 1.0]);
    number(|b| b.node("Exp", &["t"], "e").node("Log", &["e"], "y"), [-1.5, 2.0]);
    number(|b| b.node("Clip", &["t", "", "two"], "c").node("Sign", &["c"], "y"), [-1.0, 1.0]);
    number(
        |b| {
            b.node("Floor", &["t"], "f")
                .node("Concat", &["t", "f"], "c")
                .int("axis", 1)
                .node("ReduceSum", &["c", "ax"], "y")
                .integers("ax", &[1])
        },
        [-3.5, 4.0],
    );
    let label = |nodes: fn(Builder) -> Builder, wanted: [&str; 2]| {
        let builder = nodes(tree(start(), "t", 0, [-1.5, 2.0]).weight("two", &[1], &[2.0])).output("y");
        let model = imported(&builder);
        for (x, wanted) in [0.0, 1.0].into_iter().zip(wanted) {
            let label = model.first.head.label(&model.outputs_f64(&[x, 0.0])).unwrap();
            let name =
                model.first.classes.as_ref().map_or_else(|| label.to_string(), |all| all[label].clone());
            assert_eq!(name, wanted);
        }
    };
    label(|b| b.node("Cast", &["t"], "y").int("to", 7), ["-1", "2"]);
    label(|b| b.node("Equal", &["t", "two"], "y"), ["0", "1"]);
    label(
        |b| {
            b.node("LessOrEqual", &["t", "two"], "l").node("Equal", &["t", "two"], "e").node(
                "Xor",
                &["l", "e"],
                "y",
            )
        },
        ["1", "0"],
    );
    label(|b| b.node("GreaterOrEqual", &["t", "two"], "g").node("Not", &["g"], "y"), ["1", "0"]);
    let texts = |b: Builder| {
        b.node("Cast", &["t"], "i")
            .int("to", 6)
            .node("ai.onnx.ml.LabelEncoder", &["i"], "y")
            .ints("keys_int64s", &[2])
            .texts("values_strings", &["seen"])
            .text("default_string", "new")
    };
    label(texts, ["new", "seen"]);
    let tensors = |b: Builder| {
        b.node("ai.onnx.ml.LabelEncoder", &["t"], "y")
            .tensor("keys_tensor", data_type::FLOAT, &[2.0])
            .tensor("values_tensor", data_type::FLOAT, &[0.5])
            .tensor("default_tensor", data_type::FLOAT, &[8.0])
    };
    number(tensors, [8.0, 0.5]);
}

#[test]
fn labels_are_mapped_one_to_one() {
    let mapped = |values: &[&str]| {
        tiny()
            .node("ArgMax", &["y"], "index")
            .int("axis", 1)
            .node("ai.onnx.ml.LabelEncoder", &["index"], "name")
            .ints("keys_int64s", &[1, 0])
            .texts("values_strings", values)
            .output("name")
    };
    let model = imported(&mapped(&["bad", "good"]));
    assert_eq!(model.first.names, ["y", "name"]);
    assert_eq!(model.first.classes.as_deref().unwrap(), ["good", "bad"]);
    // Two classes of one name are no classes of this model.
    assert_eq!(refused(&mapped(&["same", "same"])).0, "E0119");
    // Lists of different lengths map nothing.
    assert_eq!(refused(&mapped(&["bad", "good", "other"])).0, "E0120");
    assert_eq!(refused(&mapped(&["bad"])).0, "E0120");
    // Neither of two lists of keys is the right one; an empty one is none.
    let (code, message) =
        refused(&mapped(&["bad", "good"]).on("name", |b| b.floats("keys_floats", &[0.0, 1.0])));
    assert_eq!(code, "E0125");
    assert_eq!(message, "LabelEncoder has several lists of keys: `keys_int64s`, `keys_floats`");
    let (code, message) = refused(&mapped(&["bad", "good"]).on("name", |b| b.ints("values_int64s", &[0, 1])));
    assert_eq!(code, "E0125");
    assert_eq!(message, "LabelEncoder has several lists of values: `values_int64s`, `values_strings`");
    let model = imported(&mapped(&["bad", "good"]).on("name", |b| b.texts("keys_strings", &[])));
    assert_eq!(model.first.classes.as_deref().unwrap(), ["good", "bad"]);
    // The label of a classifier is its class, the largest probability has a position.
    let name =
        |of: &str| classifier(start(), "p", 0, [0.25, 0.75]).node("Identity", &[of], "name").output("name");
    let model = imported(&name("p.label"));
    assert_eq!(model.first.classes.as_deref().unwrap(), ["good", "bad"]);
    let index =
        classifier(start(), "p", 0, [0.25, 0.75]).node("ArgMax", &["p"], "i").int("axis", 1).output("i");
    assert_eq!(imported(&index).first.classes, None);
}

#[test]
fn several_ensembles_become_one() {
    let two =
        || tree(tree(start(), "a", 0, [1.0, 2.0]), "b", 1, [10.0, 30.0]).weight("half", &[1, 1], &[0.5]);
    let check = |builder: Builder, of: fn(f64, f64) -> Vec<f64>| {
        let model = imported(&builder);
        for [x, y] in ROWS {
            let wanted = of(if x > 0.0 { 2.0 } else { 1.0 }, if y > 0.0 { 30.0 } else { 10.0 });
            assert_eq!(model.outputs_f64(&[x, y]), wanted);
        }
    };
    check(two().node("Add", &["a", "b"], "y").output("y"), |a, b| vec![a + b]);
    check(two().node("Sub", &["a", "b"], "y").output("y"), |a, b| vec![a - b]);
    check(two().node("Mean", &["a", "b"], "y").output("y"), |a, b| vec![(a + b) / 2.0]);
    check(two().node("Sum", &["a", "half", "b", "a"], "y").output("y"), |a, b| vec![a + 0.5 + b + a]);
    check(two().node("Concat", &["b", "a"], "y").int("axis", 1).output("y"), |a, b| vec![b, a]);
    check(two().output("a").output("b"), |a, b| vec![a, b]);
    // Dense layers without an activation are folded into the leaves.
    let dense = two()
        .weight("w", &[2, 3], &[1.0, 2.0, -1.0, 0.0, 0.5, 3.0])
        .weight("c", &[3], &[1.0, 0.0, -2.0])
        .node("Concat", &["a", "b"], "ab")
        .int("axis", 1)
        .node("Gemm", &["ab", "w", "c"], "y")
        .output("y");
    check(dense, |a, b| vec![a + 1.0, 2.0 * a + 0.5 * b, -a + 3.0 * b - 2.0]);
    // Averages of probabilities are probabilities.
    let soft = classifier(classifier(start(), "p", 0, [0.25, 0.75]), "q", 1, [0.5, 1.0])
        .node("Mean", &["p", "q"], "y")
        .output("y");
    let model = imported(&soft);
    assert_eq!((model.first.head, model.outputs_f64(&[0.0, 1.0])), (Head::Probabilities, vec![0.375, 0.625]));
}

#[test]
fn what_is_no_sum_of_trees_is_refused_e0125() {
    let two = || tree(tree(start(), "a", 0, [1.0, 2.0]), "b", 1, [10.0, 30.0]);
    let form = |builder: Builder, said: &str| {
        let (code, message) = refused(&builder);
        assert_eq!(code, "E0125", "{message}");
        assert!(message.contains(said), "{message}");
    };
    form(two().node("Mul", &["a", "b"], "y").output("y"), "Mul of two values");
    form(two().node("Add", &["a", "b"], "s").node("Relu", &["s"], "y").output("y"), "an activation reads");
    let tables = two()
        .node("Floor", &["a"], "fa")
        .node("Floor", &["b"], "fb")
        .node("Equal", &["fa", "fb"], "y")
        .output("y");
    form(tables, "values of different trees");
    // Rows never meet: [batch] and [batch, 1] would make [batch, batch].
    let rows = tree(start(), "a", 0, [1.0, 2.0])
        .integers("flat", &[-1])
        .node("Floor", &["a"], "f")
        .node("Reshape", &["f", "flat"], "g")
        .node("Mul", &["f", "g"], "y")
        .output("y");
    assert_eq!(refused(&rows).0, "E0125");
}

/// A tree of many leaves, and tensors of many numbers for each of them.
#[test]
fn tables_that_would_be_large_are_refused() {
    const LEAVES: usize = 1 << 14;
    let inner = LEAVES - 1;
    let count = inner + LEAVES;
    let ids: Vec<i64> = (0..count as i64).collect();
    let child = |first: i64| -> Vec<i64> {
        ids.iter().map(|&id| if (id as usize) < inner { 2 * id + first } else { 0 }).collect()
    };
    let modes: Vec<&str> = (0..count).map(|id| if id < inner { "BRANCH_LEQ" } else { "LEAF" }).collect();
    let builder = start()
        .node("ai.onnx.ml.TreeEnsembleRegressor", &["x"], "t")
        .ints("nodes_treeids", &vec![0; count])
        .ints("nodes_nodeids", &ids)
        .ints("nodes_featureids", &vec![0; count])
        .floats("nodes_values", &(0..count).map(|id| id as f32).collect::<Vec<f32>>())
        .texts("nodes_modes", &modes)
        .ints("nodes_truenodeids", &child(1))
        .ints("nodes_falsenodeids", &child(2))
        .ints("target_treeids", &vec![0; LEAVES])
        .ints("target_nodeids", &ids[inner..])
        .ints("target_ids", &vec![0; LEAVES])
        .floats("target_weights", &vec![1.0; LEAVES])
        .int("n_targets", 1)
        .node("Floor", &["t"], "f");
    // One tensor is too large.
    let wide =
        builder.clone().weight("w", &[1, 4096], &[1.0; 4096]).node("Mul", &["f", "w"], "y").output("y");
    assert_eq!(refused(&wide).0, "E0126");
    // Each is small, all of them are not.
    let mut many = builder.weight("w", &[1, 64], &[1.0; 64]).node("Mul", &["f", "w"], "g0");
    for at in 0..40 {
        many = many.node("Floor", &[&format!("g{at}")], &format!("g{}", at + 1));
    }
    let (code, message) = refused(&many.output("g40"));
    assert_eq!((code, message.contains("leaf by leaf")), ("E0111", true), "{message}");
}
