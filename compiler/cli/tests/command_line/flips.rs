//! `nnbpfc flips`: what it finds and proves, in words and as JSON, and what it refuses.

use serde_json::Value;

use super::common::{Folder, assert_golden, assert_refused};

/// The shipped model with its rows.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.copy("testdata/ids/ids.onnx", "ids.onnx");
    folder.copy("specs/ids.spec", "ids.spec");
    folder.copy("testdata/ids/calibration.csv", "ids.csv");
    folder
}

const SHORT: &str = "flips ids.onnx ids.spec --calibrate ids.csv --tries 2000 --boxes 64";

#[test]
fn the_same_seed_finds_the_same_flips() {
    let folder = folder();
    let json = folder.succeeds(&format!("{SHORT} --json")).stdout;
    assert_eq!(folder.succeeds(&format!("{SHORT} --json")).stdout, json);
    assert_ne!(folder.succeeds(&format!("{SHORT} --json --seed 2")).stdout, json);
    let report: Value = serde_json::from_slice(&json).unwrap();
    assert_eq!(report["seed"], 1);
    let closest = report["closest"].as_array().unwrap();
    assert!(!closest.is_empty());
    for flip in closest {
        assert_ne!(flip["float"], flip["integer"]);
        assert!(flip["distance"].as_f64().unwrap() >= 0.0);
        assert!(flip["features"].as_array().unwrap().iter().all(|feature| feature["name"].is_string()));
    }
    let share = report["volume"]["unsafe_share"].as_f64().unwrap();
    assert!(share > 0.0 && share <= 1.0, "{share}");
    assert!(report["error"].as_array().unwrap().len() > 1);
}

#[test]
fn what_is_found_and_proved_is_told_in_words() {
    let text = String::from_utf8(folder().succeeds(SHORT).stdout).unwrap();
    for line in ["calibration rows change their label", "searched ", "closest to a row", "proved: at most"] {
        assert!(text.contains(line), "{line} is missing: {text}");
    }
}

#[test]
fn trees_are_proved_to_have_no_flips() {
    let folder = Folder::new();
    folder.copy("testdata/cases/tree-6-2/model.onnx", "tree.onnx");
    folder.copy("testdata/cases/tree-6-2/tree.spec", "tree.spec");
    folder.write("rows.csv", b"packets,bytes,mean,sum,gap_us,length\n3,80,4.5,800,10,400\n9,0,0,0,0,0\n");
    let run = folder.succeeds("flips tree.onnx tree.spec --calibrate rows.csv");
    let text = String::from_utf8(run.stdout).unwrap();
    assert!(text.contains("proved: no input changes its label"), "{text}");
}

#[test]
fn rows_that_cannot_be_read_are_refused() {
    let folder = folder();
    let run = folder.run("flips ids.onnx ids.spec --calibrate nowhere.csv");
    assert_refused(&run, "flips-rows");
    assert_golden("flips-rows", &run.stderr);
    let run = folder.run("flips ids.onnx ids.spec");
    assert_eq!(run.code, 2, "{}", run.stderr);
}

#[test]
fn a_model_without_labels_is_refused() {
    let folder = Folder::new();
    folder.copy("testdata/cases/regressor-4-8-1/model.onnx", "model.onnx");
    let spec = "spec plain v1; attach xdp; flow f on udp { key five_tuple bidirectional; capacity 9; idle 9 s; } \
        features of f { a = count(); b = sum(l4.payload_len); c = max(l4.payload_len); d = min(l4.payload_len); } \
        model { labels few, some, many; } classify f at every packet;";
    folder.write("plain.spec", spec.as_bytes());
    folder.write("rows.csv", b"a,b,c,d\n1,2,3,4\n5,6,7,8\n9,9,9,9\n");
    let run = folder.run("flips model.onnx plain.spec --calibrate rows.csv");
    assert_refused(&run, "flips-regressor");
    assert!(run.stderr.contains("E0303"), "{}", run.stderr);
}
