//! Every committed model from its file to a proved network: budget and certificate hold.

use std::path::{Path, PathBuf};

use super::{Calibration, Options, contract, quantise};
use crate::check::{check, holds};
use crate::compile::Named;
use crate::onnx::{NoFiles, import};
use crate::rows::{Columns, parse};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Takes a model through the front half of the compiler and checks what comes out.
fn prove(model: &Path, spec: Option<&Path>, calibration: Option<&Path>) {
    let name = model.display().to_string();
    let bytes = std::fs::read(model).expect("a committed model");
    let mut model = import(&name, &bytes, &NoFiles).expect("committed models import");
    let spec = spec.map(|path| {
        let bytes = std::fs::read(path).expect("a committed specification");
        crate::spec::from_bytes(Named { name: "spec", bytes: &bytes }).expect("it is sound")
    });
    let contract = contract::between(&name, &mut model, spec.as_ref()).expect("model and specification fit");
    let rows = calibration.map(|path| {
        let bytes = std::fs::read(path).expect("committed rows");
        let columns = if spec.is_some() { Columns::ByName } else { Columns::ByPosition };
        parse("rows", &bytes, &contract.inputs, columns).expect("the rows are sound")
    });
    let calibration = rows.as_ref().map(|rows| Calibration { rows: &rows.values });
    let result = quantise(&model, &contract, calibration, &Options::default())
        .unwrap_or_else(|errors| panic!("{name}: {errors:?}"));
    let report = &result.report;
    assert_eq!(report.calibrated, rows.is_some(), "{name}");
    assert!(report.flips <= report.allowed, "{name}: {} of {}", report.flips, report.allowed);
    assert!(report.allowed <= (report.rows / 1000) as u64, "{name}");
    let checked = check(result.network).expect("what quantisation builds is provable");
    assert!(holds(checked.get(), checked.certificate()), "{name}");
}

#[test]
fn committed_cases_are_within_the_budget() {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("testdata/cases"))
        .expect("the cases")
        .map(|entry| entry.expect("a readable entry").path())
        .filter(|path| path.join("model.onnx").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 2, "{folders:?}");
    for folder in folders {
        let files = std::fs::read_dir(&folder).expect("a case");
        let spec = files
            .map(|entry| entry.expect("a readable entry").path())
            .find(|path| path.extension().is_some_and(|extension| extension == "spec"));
        prove(&folder.join("model.onnx"), spec.as_deref(), None);
    }
}

#[test]
fn the_shipped_model_is_within_the_budget_on_its_calibration_rows() {
    let ids = root().join("testdata/ids");
    let (spec, rows) = (root().join("specs/ids.spec"), ids.join("calibration.csv"));
    prove(&ids.join("ids.onnx"), Some(&spec), Some(&rows));
    prove(&ids.join("ids.onnx"), Some(&spec), None);
}
