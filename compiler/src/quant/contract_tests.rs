//! Tests of the contract between a model and a specification.

use super::*;
use crate::diag::NodeRef;
use crate::model::{Activation, Dense, Matrix, Normalise};

const SPEC: &str = include_str!("../../../specs/cic6.spec");

fn spec() -> FeatureSpec {
    crate::spec::compile("cic6.spec", SPEC).expect("the shipped specification is sound")
}

fn model(inputs: usize, outputs: usize, head: Head) -> Model {
    Model {
        inputs: vec![None; inputs],
        normalise: vec![Normalise { centre: 100.0, scale: 0.01, offset: 0.0 }; inputs],
        body: Body::Mlp(vec![Dense {
            origin: NodeRef { index: 0, name: "fc".to_owned(), operator: "Gemm".to_owned() },
            weights: Matrix { rows: outputs, columns: inputs, values: vec![0.5; inputs * outputs] },
            bias: vec![0.0; outputs],
            activation: Activation::Identity,
        }]),
        head,
        classes: None,
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
        assert_eq!(contract.labels, ["benign", "attack"]);
        assert_eq!(contract.rules, [RuleWish { class: 1, probability: Some(Probability(950_000)) }]);
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
    renamed.classes = Some(vec!["attack".to_owned(), "benign".to_owned()]);
    assert_eq!(refused(&renamed), ["E0304", "E0304"]);

    let mut units = model(6, 2, Head::Logits);
    units.normalise[0] = Normalise { centre: 1e9, scale: 1e-6, offset: 0.0 };
    assert_eq!(refused(&units), ["E0307"]);

    assert_eq!(refused(&model(6, 1, Head::Scores)), ["E0311"]);
}

#[test]
fn two_labels_make_a_classifier_of_a_single_output() {
    let mut single = model(6, 1, Head::Scores);
    classify(&mut single, &spec());
    assert_eq!(single.head, Head::Logistic);
    assert_eq!(with_spec(&single, &spec()).expect("they fit").labels, ["benign", "attack"]);

    let mut three = spec();
    three.labels.push("else".to_owned());
    let mut single = model(6, 1, Head::Scores);
    classify(&mut single, &three);
    assert_eq!(single.head, Head::Scores);
    three.rules.clear();
    let errors = with_spec(&single, &three).expect_err("three labels for one number");
    assert_eq!(errors.iter().map(|error| error.code.id).collect::<Vec<_>>(), ["E0303"]);
    three.labels.clear();
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
    assert_eq!(result.network.decision.rule, Rule::Positive);
    assert_eq!(result.network.decision.labels, ["benign", "attack"]);
    for (raw, label) in [(0, 0), (60_000, 1)] {
        let real: Vec<f64> = vec![f64::from(raw); 6];
        assert_eq!(single.head.label(&single.outputs_f64(&real)), Some(label as usize));
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
