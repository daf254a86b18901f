//! Rule tests against the softmax in floating point.

use super::*;
use crate::ir::softmax::{ERROR, ONE};
use crate::random::SplitMix;

fn uniform(random: &mut SplitMix) -> f64 {
    (random.next() >> 11) as f64 / (1u64 << 53) as f64
}

/// Random outputs about the threshold: those outside of the error decide as the exact softmax of the raw outputs
/// does, and the sum is within its error of the exact one.
#[test]
fn sums_decide_as_the_softmax_does_but_for_the_proved_error() {
    let mut random = SplitMix(11);
    let (mut fired, mut uncertain, mut worst) = (0u32, 0u32, 0.0f64);
    for round in 0..40_000 {
        let classes = 3 + (random.next() % 8) as usize;
        // Units from 0.34 down to 2^-52.
        let unit = 0.34 * (-uniform(&mut random) * 50.0).exp2();
        let millionths = match round % 4 {
            0 => 1 + (random.next() % 999_999) as u32,
            1 => 999_999 - (random.next() % 1000) as u32,
            2 => 1 + (random.next() % 1000) as u32,
            _ => 500_000,
        };
        let lead = lead(Probability(millionths), unit).unwrap();
        let t = f64::from(millionths) / 1e6;
        let logit = (t / (1.0 - t)).ln();
        // Leads whose exact sum is about 1: shares of it, and the lead that gives each.
        let shares: Vec<f64> = (1..classes).map(|_| uniform(&mut random) + 1e-9).collect();
        let near = if round % 2 == 0 { 1.0 } else { 1.0 + (uniform(&mut random) - 0.5) * 1e-6 };
        let total: f64 = shares.iter().sum::<f64>() / near;
        let own = (random.next() % 1000) as i64 - 500;
        let mut outputs: Vec<i64> =
            shares.iter().map(|share| own - ((logit - (share / total).ln()) / unit).round() as i64).collect();
        let class = random.next() as usize % classes;
        outputs.insert(class, own);
        let exact: f64 = outputs
            .iter()
            .enumerate()
            .filter(|(other, _)| *other != class)
            .map(|(_, &z)| (logit - (own - z) as f64 * unit).exp())
            .sum();
        let sum = sum(&outputs, class as u32, &lead).unwrap();
        let band = (ERROR + classes as i64 - 1) as f64 / ONE as f64;
        if exact < 1.5 {
            worst = worst.max((sum as f64 / ONE as f64 - exact).abs() / band);
        }
        fired += u32::from(sum <= ONE);
        if within_error(sum, classes) {
            uncertain += 1;
        } else {
            assert_eq!(sum <= ONE, exact <= 1.0, "{outputs:?} of unit {unit}, t {t}: {sum} against {exact}");
        }
    }
    assert!(worst <= 1.0, "{worst}");
    assert!(fired > 5_000 && fired < 35_000, "{fired}");
    assert!(uncertain > 100, "{uncertain}");
}

/// Far away, below and above, the clamps decide.
#[test]
fn distant_leads_are_clear() {
    for unit in [0.34, 1e-3, 1e-9, 1e-15, 1e-30, 1e-200] {
        for millionths in [1, 1000, 333_333, 500_000, 900_000, 999_999] {
            let lead = lead(Probability(millionths), unit).unwrap();
            let distance = ((200.0 / unit) as i64).min(MOST_RAW / 2);
            if distance as f64 * unit > 50.0 {
                assert_eq!(sum(&[distance, 0, 0], 0, &lead), Some(0), "{unit} {millionths}");
                assert!(sum(&[0, distance, -distance], 0, &lead).unwrap() > ONE, "{unit} {millionths}");
            }
            // Three equal outputs have a probability of a third each, whatever the unit is.
            let fires = sum(&[7, 7, 7], 1, &lead).unwrap() <= ONE;
            assert_eq!(fires, millionths <= 333_333, "{unit} {millionths}");
        }
    }
}

#[test]
fn coarse_outputs_are_refused() {
    let wish = RuleWish { output: 0, class: 1, probability: Some(Probability(900_000)) };
    for unit in [0.35, 1e9, f64::NAN] {
        assert_eq!(rule_test(wish, (Head::Logits, 3), unit), None);
    }
    assert!(rule_test(wish, (Head::Logits, 3), 0.34).is_some());
    assert_eq!(
        rule_test(wish, (Head::Logits, 2), 100.0),
        Some(RuleTest::Margin { output: 0, class: 1, margin: 1 })
    );
}

#[test]
fn probabilities_are_compared_as_they_are() {
    let unit = 0.125;
    let margin = |head, class, millionths| {
        let wish = RuleWish { output: 0, class, probability: Some(Probability(millionths)) };
        match rule_test(wish, (head, 3), unit) {
            Some(RuleTest::Margin { margin, class: own, .. }) if own == class => margin,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(margin(Head::Probability, 1, 750_000), 2);
    assert_eq!(margin(Head::Probability, 0, 250_000), -2);
    assert_eq!(margin(Head::Probability, 1, 760_000), 3);
    assert_eq!(margin(Head::Probabilities, 2, 750_000), 6);
    // In single precision, as the probabilities are: 0.9 there is less than 0.9.
    let unit = f64::from(0.9f32);
    let wish = RuleWish { output: 0, class: 1, probability: Some(Probability(900_000)) };
    assert_eq!(
        rule_test(wish, (Head::Probabilities, 2), unit),
        Some(RuleTest::Margin { output: 0, class: 1, margin: 1 })
    );
}
