//! Tests of the contract between a model and a specification.

use super::*;
use crate::diag::NodeRef;
use crate::model::{Activation, Dense, Matrix, Normalise, Output};

const SPEC: &str = include_str!("../../../specs/cic6.spec");

fn spec() -> FeatureSpec {
    crate::spec::compile("cic6.spec", SPEC).expect("the shipped specification is sound")
}

fn model(inputs: usize, outputs: usize, head: Head) -> Model {
    Model {
        replaced: Vec::new(),
        inputs: vec![None; inputs],
        normalise: vec![Normalise { centre: 100.0, scale: 0.01, offset: 0.0 }; inputs],
        body: Body::Mlp(vec![Dense {
            origin: NodeRef { index: 0, name: "fc".to_owned(), operator: "Gemm".to_owned() },
            weights: Matrix { rows: outputs, columns: inputs, values: vec![0.5; inputs * outputs] },
            bias: vec![0.0; outputs],
            activation: Activation::Identity,
            plain: 0,
        }]),
        first: Output::only(head),
        further: Vec::new(),
        hash: [0; 32],
    }
}

fn refused(model: &Model) -> Vec<&'static str> {
    let errors = with_spec(model, &spec()).expect_err("the pair is refused");
    assert!(errors.iter().all(|error| !error.help.is_empty()));
    errors.iter().map(|error| error.code.id).collect()
}

#[test]
fn a_fitting_pair_is_taken_over() {
    for (outputs, head) in [(2, Head::Logits), (1, Head::Logistic)] {
        let contract = with_spec(&model(6, outputs, head), &spec()).expect("they fit");
        let names: Vec<&str> = contract.inputs.iter().map(|input| input.name.as_str()).collect();
        assert_eq!(names[..3], ["dst_port", "fwd_packets", "fwd_bytes"]);
        assert_eq!(contract.inputs[5].fraction_bits, FractionBits(8));
        assert_eq!(contract.outputs[0].labels, ["benign", "attack"]);
        assert_eq!(
            contract.rules,
            [RuleWish { output: 0, class: 1, probability: Some(Probability(950_000)) }]
        );
    }
}

#[test]
fn every_mismatch_has_its_code() {
    assert_eq!(refused(&model(5, 2, Head::Logits)), ["E0301"]);
    assert_eq!(refused(&model(7, 2, Head::Logits)), ["E0301"]);

    let mut swapped = model(6, 2, Head::Logits);
    swapped.inputs[0] = Some("fwd_packets".to_owned());
    swapped.inputs[1] = Some("dst_port".to_owned());
    swapped.inputs[2] = Some("a name of its own".to_owned());
    assert_eq!(refused(&swapped), ["E0302", "E0302"]);

    assert_eq!(refused(&model(6, 3, Head::Logits)), ["E0303"]);

    let mut renamed = model(6, 2, Head::Logits);
    renamed.first.classes = Some(vec!["attack".to_owned(), "benign".to_owned()]);
    assert_eq!(refused(&renamed), ["E0304", "E0304"]);

    let mut units = model(6, 2, Head::Logits);
    units.normalise[0] = Normalise { centre: 1e9, scale: 1e-6, offset: 0.0 };
    assert_eq!(refused(&units), ["E0307"]);

    assert_eq!(refused(&model(6, 1, Head::Scores)), ["E0311"]);
    assert_eq!(refused(&model(6, 2, Head::OneVersusRest { normalised: true })), ["E0314"]);
}

#[test]
fn two_labels_make_a_classifier_of_a_single_output() {
    let mut single = model(6, 1, Head::Scores);
    classify(&mut single, &spec());
    assert_eq!(single.first.head, Head::Logistic);
    assert_eq!(with_spec(&single, &spec()).expect("they fit").outputs[0].labels, ["benign", "attack"]);

    let mut three = spec();
    three.outputs[0].labels.push("else".to_owned());
    let mut single = model(6, 1, Head::Scores);
    classify(&mut single, &three);
    assert_eq!(single.first.head, Head::Scores);
    three.rules.clear();
    let errors = with_spec(&single, &three).expect_err("three labels for one number");
    assert_eq!(errors.iter().map(|error| error.code.id).collect::<Vec<_>>(), ["E0303"]);
    three.outputs[0].labels.clear();
    assert!(with_spec(&single, &three).is_ok(), "a regressor needs no labels");
}

#[test]
fn a_specified_single_output_is_judged_by_its_sign_everywhere() {
    use crate::ir::{Rule, interpret};
    let mut single = model(6, 1, Head::Scores);
    let contract = between("m.onnx", &mut single, Some(&spec())).expect("they fit");
    assert_eq!(contract.model, "m.onnx");
    let options = crate::quant::Options::default();
    let result = crate::quant::quantise(&single, &contract, None, &options).expect("precise enough");
    assert_eq!(result.network.decision.first.rule, Rule::Positive);
    assert_eq!(result.network.decision.first.labels, ["benign", "attack"]);
    for (raw, label) in [(0, 0), (60_000, 1)] {
        let real: Vec<f64> = vec![f64::from(raw); 6];
        assert_eq!(single.first.head.label(&single.outputs_f64(&real)), Some(label as usize));
        let row: Vec<i64> =
            contract.inputs.iter().map(|input| i64::from(raw) << input.fraction_bits.0).collect();
        assert_eq!(interpret::run(&result.network, &row).label, Some(label));
    }
}

#[test]
fn fraction_bits_follow_from_the_first_layer() {
    let mut model = model(3, 2, Head::Logits);
    model.normalise[1].scale = 2f64.powi(-30);
    model.normalise[2].scale = 2f64.powi(40);
    let bits: Vec<u8> = without_spec(&model).inputs.iter().map(|input| input.fraction_bits.0).collect();
    // 0.01 * 0.5 needs 2^-20 / 0.005 < 2^-12.3.
    assert_eq!(bits, [13, 0, 40]);
}

/// A specification with these outputs and rules in place of those of the shipped one.
fn spec_with(outputs: &str, rules: &str) -> FeatureSpec {
    let head = SPEC.split("\nmodel ").next().unwrap();
    let text = format!("{head}\nmodel {{ {outputs} }} classify conn at end; {rules}");
    crate::spec::compile("several.spec", &text).unwrap_or_else(|refused| panic!("{refused:?}"))
}

/// Outputs of two, three and two classes; the file calls the first two `kind` and `family`.
fn several() -> Model {
    let mut model = model(6, 6, Head::Logits);
    let named =
        |name: &str, start, head| Output { names: vec![name.to_owned()], start, ..Output::only(head) };
    model.first = named("kind", 0, Head::Logits);
    model.further = vec![named("family", 2, Head::Logits), named("output_2", 5, Head::Logistic)];
    model
}

#[test]
fn outputs_match_by_name_and_then_by_place() {
    let three = "output burst { labels no, yes; } output family { labels web, ssh, scan; }
        output kind { labels benign, attack; }";
    let spec = spec_with(
        three,
        "on family.scan { report; } on kind.attack when p >= 0.5 { drop; } on burst.yes { drop; }",
    );
    let contract = with_spec(&several(), &spec).expect("they fit");
    let names: Vec<&str> = contract.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["kind", "family", "burst"]);
    assert_eq!(contract.outputs[1].labels, ["web", "ssh", "scan"]);
    let rules: Vec<(u32, u32)> = contract.rules.iter().map(|wish| (wish.output, wish.class)).collect();
    assert_eq!(rules, [(1, 2), (0, 1), (2, 1)]);
    assert_eq!(contract.label_of(&contract.rules[0]), "family.scan");
}

#[test]
fn outputs_that_do_not_fit_are_refused() {
    let refused = |model: &Model, outputs: &str| -> Vec<(&'static str, String)> {
        let errors = with_spec(model, &spec_with(outputs, "")).expect_err("the pair is refused");
        errors.into_iter().map(|error| (error.code.id, error.message)).collect()
    };
    let two = "output kind { labels benign, attack; } output family { labels web, ssh, scan; }";
    let message = "the specification has 2 and the model 3 outputs".to_owned();
    assert_eq!(refused(&several(), two), [("E0313", message)]);
    let message = "the specification has 1 and the model 3 outputs".to_owned();
    assert_eq!(refused(&several(), "labels benign, attack;"), [("E0313", message)]);
    let message = "the specification has 2 and the model 1 output".to_owned();
    assert_eq!(refused(&model(6, 2, Head::Logits), two), [("E0313", message)]);
    let wrong =
        "output kind { labels a, b, c; } output family { labels a, b; } output burst { labels a, b; }";
    assert_eq!(
        refused(&several(), wrong),
        [
            ("E0303", "the output `kind` has 3 labels, and the model's 2 classes".to_owned()),
            ("E0303", "the output `family` has 2 labels, and the model's 3 classes".to_owned()),
        ]
    );
}

#[test]
fn raw_values_are_logits_of_several_outputs_when_the_specification_says_so() {
    let outputs = "output scan { labels no, yes; } output flood { labels no, yes; }";
    let spec = spec_with(outputs, "on flood.yes { drop; }");
    let mut raw = model(6, 2, Head::Logits);
    raw.first.raw = true;
    let contract = between("m.onnx", &mut raw, Some(&spec)).expect("they fit");
    assert_eq!(raw.widths(), [1, 1]);
    assert!(raw.outputs().all(|output| output.head == Head::Logistic));
    assert_eq!(contract.rules, [RuleWish { output: 1, class: 1, probability: None }]);
    // A softmax over them says that they are one output.
    let mut softmax = model(6, 2, Head::Logits);
    let errors = between("m.onnx", &mut softmax, Some(&spec)).expect_err("one output");
    assert_eq!(errors[0].code.id, "E0313");
}
