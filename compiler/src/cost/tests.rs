//! What the committed calibration must hold to, and what every prediction must.

use super::constants::{calibration, committed};
use super::fit::{Sample, fit, held_out_error, median_error};
use super::work::Kind;
use super::*;

fn samples() -> Vec<Sample> {
    let cases = cases::all().unwrap();
    let shapes = &calibration().shapes;
    assert_eq!(cases.len(), shapes.len(), "run `nnbpfc bench --calibrate-cost` after shapes changed");
    cases
        .iter()
        .zip(shapes)
        .map(|(case, measured)| {
            assert_eq!(case.name, measured.shape);
            assert!(measured.measured_ns > 0.0, "{measured:?}");
            Sample { work: case.work().unwrap(), ns: measured.measured_ns }
        })
        .collect()
}

#[test]
fn committed_constants_predict_the_committed_measurements() {
    let samples = samples();
    assert!(samples.len() >= 30, "{} shapes", samples.len());
    let error = median_error(&samples, committed());
    assert!(error < 0.2, "the median difference is {:.1} %", 100.0 * error);
}

#[test]
fn constants_of_one_half_predict_the_other() {
    let error = held_out_error(&samples());
    assert!(error < 0.2, "the median difference is {:.1} %", 100.0 * error);
}

#[test]
fn the_committed_constants_are_those_of_the_committed_measurements() {
    let fitted = fit(&samples());
    for kind in Kind::ALL {
        let (have, want) = (committed().price(kind), fitted.price(kind));
        assert!(have >= 0.0 && (have - want).abs() <= 1e-3 + 0.01 * want, "{kind:?}: {have}, fitted {want}");
    }
}
