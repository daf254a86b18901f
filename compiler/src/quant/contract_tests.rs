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

    assert_eq!(refused(&model(6, 3, Head::Logits)), ["E0303", "E0305"]);

    let mut renamed = model(6, 2, Head::Logits);
    renamed.classes = Some(vec!["attack".to_owned(), "benign".to_owned()]);
    assert_eq!(refused(&renamed), ["E0304", "E0304"]);

    let mut units = model(6, 2, Head::Logits);
    units.normalise[0] = Normalise { centre: 1e9, scale: 1e-6, offset: 0.0 };
    assert_eq!(refused(&units), ["E0307"]);

    assert_eq!(refused(&model(6, 1, Head::Scores)), ["E0311"]);
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
