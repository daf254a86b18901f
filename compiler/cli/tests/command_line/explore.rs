//! `nnbpfc explore`: the frontier of cost against flips as a table, as JSON and as a plot.

use serde_json::Value;

use crate::common::{Folder, is_root};

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

/// Drawn rows tell little about which neurons need most.
#[test]
fn uneven_lanes_are_tried_with_calibration_rows_only() {
    let folder = Folder::new();
    folder.copy("testdata/cases/three-classes-5-12-3/model.onnx", "model.onnx");
    folder.copy("testdata/cases/three-classes-5-12-3/three.spec", "a.spec");
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    folder.succeeds("extract a.spec capture.pcap -o rows.csv");
    let uneven = |point: &Value| {
        point["layers"].as_array().unwrap().iter().any(|layer| {
            let widths = layer["widths"].as_array().unwrap();
            widths.windows(2).any(|pair| pair[0] != pair[1])
        })
    };
    let with = folder.succeeds("explore model.onnx a.spec --calibrate rows.csv --max-flips 20% --json");
    assert!(points(&with.stdout).iter().any(uneven), "{}", String::from_utf8_lossy(&with.stdout));
    let without = folder.succeeds("explore model.onnx a.spec --max-flips 20% --json");
    assert!(!points(&without.stdout).iter().any(uneven), "{}", String::from_utf8_lossy(&without.stdout));
}

#[test]
fn inferences_are_measured() {
    if nnbpf_runtime_loader::permission::check().is_err() || !is_root() {
        eprintln!("SKIP inferences_are_measured: no rights");
        return;
    }
    let folder = Folder::new();
    let json =
        folder.succeeds("explore model.onnx cic6.spec --max-flips 20% --measure --json --plot plot.svg");
    let points = points(&json.stdout);
    assert!(!points.is_empty());
    for point in &points {
        let (predicted, measured) = (point["predicted_ns"].as_f64(), point["measured_ns"].as_i64());
        // Nothing is asserted about times but that there are some.
        assert!(predicted.unwrap() > 0.0 && measured.is_some(), "{point:#}");
    }
    assert!(folder.text("plot.svg").contains("measured"));
    let table = folder.succeeds("explore model.onnx cic6.spec --max-flips 20% --measure");
    let text = String::from_utf8(table.stdout).unwrap();
    let lines: Vec<&str> = text.lines().skip(2).take_while(|line| !line.is_empty()).collect();
    assert!(!lines.is_empty());
    for line in lines {
        assert!(line.split_whitespace().nth(3).unwrap().parse::<i64>().is_ok(), "{line}");
    }
}
