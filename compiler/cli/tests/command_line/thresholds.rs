//! Probabilities over more than two classes: what the report says, and what updates carry.

use super::common::Folder;

const SPEC: &str = "three.spec";

/// The model with three classes, its specification, and rows of the committed capture for it.
fn folder() -> Folder {
    let folder = Folder::new();
    folder.copy("testdata/cases/three-classes-5-12-3/model.onnx", "three.onnx");
    folder.copy("testdata/cases/three-classes-5-12-3/three.spec", SPEC);
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    folder.succeeds("extract three.spec capture.pcap -o flows.csv");
    folder
}

/// Softmax of the outputs of every row, by the float engine.
fn probabilities(folder: &Folder) -> Vec<Vec<f64>> {
    folder.succeeds("eval three.onnx three.spec --features flows.csv --engine float -o float.csv");
    let text = folder.text("float.csv");
    text.lines()
        .skip(1)
        .map(|line| {
            let outputs: Vec<f64> = line.split(',').skip(2).map(|cell| cell.parse().unwrap()).collect();
            let sum: f64 = outputs.iter().map(|z| z.exp()).sum();
            outputs.iter().map(|z| z.exp() / sum).collect()
        })
        .collect()
}

#[test]
fn the_report_counts_what_rules_do() {
    let folder = folder();
    folder.succeeds("three.onnx three.spec -o out.o --calibrate flows.csv --report report.json");
    let report: serde_json::Value = serde_json::from_slice(&folder.read("report.json")).unwrap();
    let quantisation = &report["quantisation"];
    let rules = quantisation["thresholds"].as_array().unwrap();
    let probabilities = probabilities(&folder);
    let (rows, ties) = (probabilities.len() as u64, quantisation["ties"].as_u64().unwrap());
    assert!(rows > 1_000 && quantisation["rows"].as_u64().unwrap() + ties == rows, "{rows} {quantisation:#}");
    // The rule without a probability, number 3, is not among them.
    let wanted = [
        (0, "scan", 500_000),
        (1, "scan", 250_000),
        (2, "flood", 900_000),
        (4, "scan", 950_000),
        (5, "benign", 200_000),
    ];
    assert_eq!(rules.len(), wanted.len());
    let labels = ["benign", "scan", "flood"];
    for (rule, (number, label, millionths)) in rules.iter().zip(wanted) {
        assert_eq!(
            (&rule["rule"], &rule["label"], &rule["millionths"]),
            (&number.into(), &label.into(), &millionths.into())
        );
        let class = labels.iter().position(|known| *known == label).unwrap();
        let limit = f64::from(millionths) / 1e6;
        let reached = probabilities.iter().filter(|p| p[class] >= limit).count() as u64;
        let count = |name: &str| rule[name].as_u64().unwrap();
        assert!(count("fired").abs_diff(reached) <= count("changed") + ties, "{rule:#} {reached}");
        // Near the boundary of labels quantisation moves few rows over the limit. Far from it the search clamps
        // values that change no label, so that probabilities near 0 and 1 may move: that is what is reported.
        let near = (250_000..=900_000).contains(&millionths);
        assert!(!near || count("changed") * 100 <= rows, "{rule:#}");
        // The sum's own error moves next to none.
        assert!(count("within_error") * 1_000 <= rows, "{rule:#}");
    }
    assert!(rules.iter().any(|rule| rule["fired"].as_u64().is_some_and(|fired| fired > 0)), "{rules:#?}");
    let text = String::from_utf8(folder.succeeds("inspect out.o").stdout).unwrap();
    assert!(text.contains("on flood when p >= 0.9: fires on "), "{text}");
}

/// Parameters of another model fit the object, bring their own thresholds, and leave the code alone.
#[test]
fn thresholds_are_parameters() {
    let folder = folder();
    folder.succeeds("three.onnx three.spec -o out.o");
    folder.succeeds("three.onnx three.spec -o calibrated.params --like out.o --calibrate flows.csv");
    folder.succeeds("three.onnx three.spec -o same.params --like out.o");
    let (same, calibrated) = (folder.read("same.params"), folder.read("calibrated.params"));
    assert_eq!(same.len(), calibrated.len());
    // The slot ends with five words for each of five probabilities; the checksum stands behind it.
    let words = |bytes: &[u8]| bytes[bytes.len() - 32 - 5 * 40..bytes.len() - 32].to_vec();
    assert_ne!(words(&same), words(&calibrated));
    // Other probabilities are parameters too: the same plan, another file.
    let edited = folder.text(SPEC).replace("p >= 0.9 ", "p >= 0.8 ");
    folder.write("edited.spec", edited.as_bytes());
    folder.succeeds("three.onnx edited.spec -o edited.params --like out.o");
    assert_ne!(words(&same), words(&folder.read("edited.params")));
}
