//! Flips are flips, the search finds some where there are some, and what is proved holds for every input tried.

use super::subject::Judge;
use super::{Options, run, volume};
use crate::bounds::Subject;
use crate::bounds::tests::{Random, committed, quantised, rows};
use crate::ir::Interval;
use crate::model::Head;
use crate::quant::contract;
use crate::rows::Rows;

const RUN: Options = Options { seed: 1, tries: 4000, boxes: 256 };

fn ids() -> crate::compile::Plan {
    committed("testdata/ids/ids.onnx", Some("specs/ids.spec"), Some("testdata/ids/calibration.csv"))
}

#[test]
fn flips_are_found_and_each_is_one() {
    let plan = ids();
    let report = run(&plan, "ids.onnx", RUN).unwrap();
    eprintln!("{report:#?}");
    assert!(!report.closest.is_empty());
    let judge = Judge::new(&plan.model, plan.network.get(), plan.rows.as_ref().unwrap());
    for pair in report.closest.windows(2) {
        assert!(pair[0].distance <= pair[1].distance);
    }
    for flip in &report.closest {
        let row: Vec<i64> = flip.features.iter().map(|feature| feature.raw).collect();
        assert!(judge.judge(&row).flips());
        assert!(
            row.iter()
                .zip(&plan.network.get().inputs)
                .all(|(raw, input)| { (input.range.low..=input.range.high).contains(raw) })
        );
    }
    // The same for the same seed, and another for another.
    assert_eq!(run(&plan, "ids.onnx", RUN).unwrap(), report);
}

#[test]
fn boxes_that_are_proved_safe_hold_no_flip() {
    let (model, network, _) = quantised(&[3, 8, 2], Head::Logits, 11);
    let contract = contract::without_spec(&model);
    let rows = Rows { width: 3, values: rows(&model, &contract, 100, &mut Random(2)) };
    let judge = Judge::new(&model, &network, &rows);
    let subject = Subject::new(&model, &network, &[], None).unwrap();
    let [few, many] = [64, 2048].map(|boxes| volume::bound(&judge, &subject, boxes));
    eprintln!("{few:?} {many:?}");
    assert!(many.unsafe_share < few.unsafe_share && many.constant_share > few.constant_share);
    assert!(many.unsafe_share > 0.0 && many.unsafe_share < 0.2, "{many:?}");
    assert!(many.unsafe_share + many.constant_share > 0.0 && many.constant_share < 1.0);
    let mut random = Random(9);
    let mut draw =
        |region: &[Interval]| -> Vec<i64> { region.iter().map(|range| random.within(*range)).collect() };
    let tries = 40_000;
    let flips = (0..tries).filter(|_| judge.judge(&draw(&many.region)).flips()).count();
    // Evenly drawn inputs flip no more often than is proved, but for the scatter of the draw.
    let most = many.unsafe_share * f64::from(tries);
    assert!(flips as f64 <= most + 4.0 * most.sqrt() + 4.0, "{flips} flips, {most} proved");
    // Small boxes at the boundary, where flips are.
    let (mut safe, mut open, mut found) = (0, 0, 0);
    for round in 0..4000 {
        let middle = draw(&many.region);
        if judge.judge(&middle).lead.margin > 0.05 {
            continue;
        }
        let small: Vec<Interval> = middle
            .iter()
            .zip(&many.region)
            .map(|(raw, range)| {
                let by = (range.high - range.low) >> (6 + round % 14);
                Interval { low: (raw - by).max(range.low), high: (raw + by).min(range.high) }
            })
            .collect();
        let verdict = volume::judged(&judge, &subject, &small);
        let flips = (0..30).filter(|_| judge.judge(&draw(&small)).flips()).count();
        if verdict.open == 0.0 {
            assert_eq!(flips, 0, "{small:?}");
            safe += 1;
        } else {
            (open, found) = (open + 1, found + usize::from(flips > 0));
        }
    }
    assert!(safe > 10 && open > 10, "{safe} safe boxes, {open} others, {found} with flips");
}

#[test]
fn trees_have_no_flips() {
    let mut plan = committed("testdata/cases/tree-6-2/model.onnx", None, None);
    let error = plan.certificate().error.unwrap();
    assert_eq!(error.reason, None);
    assert!(error.outputs.iter().all(|output| output.bound == 0.0), "{:?}", error.outputs);
    let mut random = Random(4);
    let inputs = &plan.network.get().inputs;
    let near = Interval { low: -(1 << 40), high: 1 << 40 };
    let values = (0..200 * inputs.len()).map(|_| random.within(near)).collect();
    plan.rows = Some(Rows { width: inputs.len(), values });
    let report = run(&plan, "tree.onnx", RUN).unwrap();
    assert!(report.none_exists && report.closest.is_empty() && report.rows_flipped == 0);
}

#[test]
fn what_has_no_labels_or_no_rows_is_refused_e0350() {
    let plan = committed("testdata/cases/regressor-4-8-1/model.onnx", None, None);
    let errors = run(&plan, "model.onnx", RUN).unwrap_err();
    assert_eq!(errors[0].code.id, "E0350");
    let plan = committed("testdata/cases/tiny-2-3-2/model.onnx", None, None);
    assert_eq!(run(&plan, "model.onnx", RUN).unwrap_err()[0].code.id, "E0308");
}
