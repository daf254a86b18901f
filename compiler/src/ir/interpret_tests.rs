//! Tests of the reference interpreter and of its batched form.

use proptest::prelude::*;

use super::*;
use crate::check::{check, testing::network};
use crate::ir::batch::Batch;

#[test]
fn ties_go_to_the_lowest_index() {
    assert_eq!(label(Rule::ArgMax, &[3, 7, 7]), Some(1));
    assert_eq!(label(Rule::ArgMax, &[i64::MIN, i64::MIN]), Some(0));
    assert_eq!(label(Rule::Positive, &[0]), Some(0));
    assert_eq!(label(Rule::Positive, &[1]), Some(1));
    assert_eq!(label(Rule::None, &[1]), None);
}

#[test]
fn rules_compare_margins() {
    let tests = vec![
        RuleTest::Label { class: 1 },
        RuleTest::Margin { class: 1, margin: 5 },
        RuleTest::Margin { class: 0, margin: -5 },
    ];
    let decision = Decision { rule: Rule::ArgMax, unit: 0.5, labels: Vec::new(), tests };
    assert_eq!(rules(&decision, Some(1), &[0, 4]), 0b101);
    assert_eq!(rules(&decision, Some(1), &[0, 5]), 0b111);
    assert_eq!(rules(&decision, Some(1), &[0, 6]), 0b011);
    let single = Decision { rule: Rule::Positive, ..decision };
    assert_eq!(rules(&single, Some(1), &[5]), 0b111);
    assert_eq!(rules(&single, Some(0), &[-1]), 0b100);
}

#[test]
fn scores_are_probabilities_of_the_label() {
    let decision = Decision { rule: Rule::ArgMax, unit: 0.5, labels: Vec::new(), tests: Vec::new() };
    let expected = 1.0 / (1.0 + (-2.0f64).exp());
    assert!((score(&decision, &[1, 5]).unwrap() - expected).abs() < 1e-12);
    let single = Decision { rule: Rule::Positive, ..decision };
    assert!((score(&single, &[-4]).unwrap() - expected).abs() < 1e-12);
    assert!((score(&single, &[4]).unwrap() - expected).abs() < 1e-12);
}

#[test]
fn activations_round_and_clamp() {
    let relu = Post::Relu { shift: 4, bits: 3 };
    // The half that makes the shift round is part of the bias, so the bare shift rounds down.
    for (acc, value) in [(-1, 0), (0, 0), (15, 0), (16, 1), (111, 6), (112, 7), (128, 7), (i64::MAX, 7)] {
        assert_eq!(relu.apply(acc), value, "{acc}");
    }
    let signed = Post::Signed { shift: 1, bits: 3 };
    for (acc, value) in [(-1, -1), (-8, -4), (-9, -4), (i64::MIN, -4), (7, 3), (8, 3)] {
        assert_eq!(signed.apply(acc), value, "{acc}");
    }
}

proptest! {
    #[test]
    fn every_value_lies_in_its_interval((network, rows) in network()) {
        let Ok(checked) = check(network) else { return Ok(()) };
        let network = checked.get();
        for row in rows.chunks_exact(network.inputs.len()) {
            for (step, proof) in trace(network, row).iter().zip(&checked.certificate().ops) {
                for (value, interval) in step.accumulators.iter().zip(&proof.accumulators) {
                    prop_assert!((interval.low..=interval.high).contains(value));
                }
                for (value, interval) in step.values.iter().zip(&proof.values) {
                    prop_assert!((interval.low..=interval.high).contains(value));
                }
            }
        }
    }

    #[test]
    fn batches_give_what_single_rows_give((network, rows) in network()) {
        let Ok(checked) = check(network) else { return Ok(()) };
        let network = checked.get();
        let single: Vec<i64> =
            rows.chunks_exact(network.inputs.len()).flat_map(|row| outputs(network, row)).collect();
        for certificate in [None, Some(checked.certificate())] {
            let mut many = Vec::new();
            Batch::new(network, certificate).outputs(&rows, &mut many);
            prop_assert_eq!(&many, &single);
        }
    }
}
