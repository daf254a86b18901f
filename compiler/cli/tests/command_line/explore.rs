//! `nnbpfc explore`: the frontier of cost against flips as a table, as JSON and as a plot.

use serde_json::Value;

use crate::common::Folder;

/// The shipped model with its rows.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.copy("testdata/ids/ids.onnx", "ids.onnx");
    folder.copy("specs/ids.spec", "ids.spec");
    folder.copy("testdata/ids/calibration.csv", "ids.csv");
    folder
}

fn points(json: &[u8]) -> Vec<Value> {
    let report: Value = serde_json::from_slice(json).unwrap();
    report["points"].as_array().unwrap().clone()
}

#[test]
fn no_point_is_beaten_by_another_one_and_one_meets_the_default_budget() {
    let folder = Folder::new();
    folder.copy("bench/models/cic6.onnx", "cic6.onnx");
    let run = folder.succeeds("explore cic6.onnx --max-flips 5% --json --plot plot.svg");
    let points = points(&run.stdout);
    assert!(points.len() > 1, "{}", String::from_utf8_lossy(&run.stdout));
    for pair in points.windows(2) {
        assert!(pair[0]["predicted_ns"].as_f64() < pair[1]["predicted_ns"].as_f64());
        assert!(pair[0]["flips"].as_u64() > pair[1]["flips"].as_u64());
    }
    for point in &points {
        for layer in point["layers"].as_array().unwrap() {
            let widths = layer["widths"].as_array().unwrap();
            assert_eq!(widths.len() as u64, layer["lanes"].as_u64().unwrap());
            assert!(widths.iter().map(|bits| bits.as_u64().unwrap()).sum::<u64>() <= 64);
        }
        assert!(point["scores"]["most"].as_f64().unwrap() >= point["scores"]["mean"].as_f64().unwrap());
        // The input quantiser and every layer.
        let parts = point["precision"]["parts"].as_array().unwrap().len();
        assert_eq!(parts, point["layers"].as_array().unwrap().len() + 1);
    }
    let svg = folder.text("plot.svg");
    assert_eq!(svg.matches("<circle").count(), points.len());
    // Of about 4,000 rows.
    assert!(points.iter().any(|point| point["flips"].as_u64() <= Some(3)));
}

#[test]
fn the_table_has_a_line_for_each_network() {
    let folder = folder();
    let run = folder.succeeds("explore ids.onnx ids.spec --calibrate ids.csv --max-flips 20%");
    let text = String::from_utf8(run.stdout).unwrap();
    let json = folder.succeeds("explore ids.onnx ids.spec --calibrate ids.csv --max-flips 20% --json");
    let points = points(&json.stdout);
    let lines = text.lines().skip(2).take_while(|line| !line.is_empty()).count();
    assert_eq!(lines, points.len(), "{text}");
    assert!(text.contains("input quantiser"), "{text}");
}

#[test]
fn trees_have_one_network() {
    let folder = Folder::new();
    folder.copy("testdata/cases/tree-6-2/model.onnx", "tree.onnx");
    let run = folder.succeeds("explore tree.onnx --json");
    assert_eq!(points(&run.stdout).len(), 1);
}

#[test]
fn a_budget_that_is_no_number_is_refused() {
    let folder = folder();
    let run = folder.run("explore ids.onnx ids.spec --max-flips few");
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("E0903"), "{}", run.stderr);
}
