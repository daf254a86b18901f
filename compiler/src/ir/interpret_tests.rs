//! Tests of the reference interpreter and of its batched form.

use proptest::prelude::*;

use super::*;
use crate::check::{check, testing::network};
use crate::ir::Output;
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
        RuleTest::Label { output: 0, class: 1 },
        RuleTest::Margin { output: 0, class: 1, margin: 5 },
        RuleTest::Margin { output: 0, class: 0, margin: -5 },
    ];
    let decision = Decision::single(Rule::ArgMax, 0.5, Vec::new(), tests);
    assert_eq!(rules(&decision, &[0, 4]), 0b101);
    assert_eq!(rules(&decision, &[0, 5]), 0b111);
    assert_eq!(rules(&decision, &[0, 6]), 0b011);
    let single = Decision { first: Output::only(Rule::Positive, Vec::new()), ..decision };
    assert_eq!(rules(&single, &[5]), 0b111);
    assert_eq!(rules(&single, &[-1]), 0b100);
}

#[test]
fn scores_are_probabilities_of_the_label() {
    let expected = 1.0 / (1.0 + (-2.0f64).exp());
    assert!((score(Rule::ArgMax, 0.5, &[1, 5]).unwrap() - expected).abs() < 1e-12);
    assert!((score(Rule::Positive, 0.5, &[-4]).unwrap() - expected).abs() < 1e-12);
    assert!((score(Rule::Positive, 0.5, &[4]).unwrap() - expected).abs() < 1e-12);
    let each = |normalised| score(Rule::OneVersusRest { normalised }, 0.5, &[-4, 4, 0]).unwrap();
    assert!((each(false) - expected).abs() < 1e-12);
    // The logistics of -2 and 2 add up to one, that of 0 is one half.
    assert!((each(true) - expected / 1.5).abs() < 1e-12);
}

/// Three outputs over six values: two classes, one logit, three classes.
fn several() -> Decision {
    let output = |name: &str, start, finer, rule| Output {
        name: name.to_owned(),
        start,
        finer,
        rule,
        labels: Vec::new(),
    };
    Decision {
        first: output("kind", 0, 0, Rule::ArgMax),
        further: vec![output("flood", 2, 3, Rule::Positive), output("family", 3, 1, Rule::ArgMax)],
        unit: 0.5,
        tests: vec![
            RuleTest::Margin { output: 0, class: 1, margin: 4 },
            RuleTest::Label { output: 2, class: 2 },
            RuleTest::Margin { output: 1, class: 0, margin: 7 },
            RuleTest::Label { output: 1, class: 1 },
            RuleTest::Label { output: 3, class: 0 },
        ],
    }
}

#[test]
fn each_output_has_its_own_values_label_and_rules() {
    let decision = several();
    let labelled = |values: &[i64]| labels(&decision, values).collect::<Vec<_>>();
    assert_eq!(labelled(&[5, 9, 1, 0, 0, 1]), [Some(1), Some(1), Some(2)]);
    assert_eq!(labelled(&[5, 5, 0, -3, -3, -4]), [Some(0), Some(0), Some(0)]);
    // Rules: lead of 4, third class, logit at most -7, logit above zero, an output that does not exist.
    assert_eq!(rules(&decision, &[5, 9, 1, 0, 0, 1]), 0b01011);
    assert_eq!(rules(&decision, &[5, 8, -7, 1, 0, 1]), 0b00100);
    assert_eq!(rules(&decision, &[9, 5, -6, 1, 0, 9]), 0b00010);
    let units: Vec<f64> = decision.outputs().map(|output| decision.unit_of(output)).collect();
    assert_eq!(units, [0.5, 0.0625, 0.25]);
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
