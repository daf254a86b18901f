//! Errors and precision in the report.

use crate::ir::Lanes;
use crate::model::Head;
use crate::quant::tests::{random_model, rows};
use crate::quant::{Calibration, MaxFlips, Options, contract, quantise};

#[test]
fn the_report_tells_what_outputs_scores_and_parts_cost() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 1);
    let contract = contract::without_spec(&model);
    let rows = rows(&model, &contract, 3000);
    let calibration = Some(Calibration { rows: &rows });
    let report = |lanes: Lanes| {
        let options = Options {
            lanes: Some(vec![lanes; 3]),
            max_flips: MaxFlips::Rows(3000),
            like: None,
            ..Options::default()
        };
        quantise(&model, &contract, calibration, &options).expect("any flips are allowed").report
    };
    let (fine, coarse) = (report(Lanes::ONE), report(Lanes::THREE));
    let (exact, errors) = (fine.errors.unwrap(), coarse.errors.unwrap());
    let scores = errors.scores.expect("a classifier has scores");
    assert!(errors.rows > 1000 && scores.mean > 0.0 && scores.mean <= scores.most && scores.most < 1.0);
    assert!(exact.outputs.most < errors.outputs.mean, "{exact:?} {errors:?}");
    let precision = coarse.precision.unwrap();
    let outputs = precision.outputs.unwrap();
    let names: Vec<&str> = precision.parts.iter().map(|part| part.name.as_str()).collect();
    assert_eq!(names.len(), 4);
    assert_eq!(names[0], "input quantiser");
    assert!(precision.skipped.is_none() && precision.rows > 100);
    let best = precision.parts.iter().map(|part| part.outputs_if_exact.mean).fold(f64::INFINITY, f64::min);
    assert!(best < outputs.mean, "{precision:?}");
}

#[test]
fn a_large_model_is_not_taken_apart_and_the_report_says_so() {
    let model = random_model(&[64, 600, 2], Head::Logits, 1);
    let contract = contract::without_spec(&model);
    let rows = rows(&model, &contract, 100);
    let options = Options {
        lanes: Some(vec![Lanes::ONE; 2]),
        max_flips: MaxFlips::Rows(100),
        like: None,
        ..Options::default()
    };
    let calibration = Some(Calibration { rows: &rows });
    let report = quantise(&model, &contract, calibration, &options).expect("any flips are allowed").report;
    let precision = report.precision.unwrap();
    assert!(precision.parts.is_empty());
    assert!(precision.skipped.unwrap().contains("39600 multiply-accumulates"));
    assert!(report.errors.unwrap().rows > 0);
}
