//! Networks that lost their scaler, in the export corpus: found on raw rows, and nowhere else.

use super::corpus::{Folder, corpus, models, rows};
use super::npz;
use crate::model::Model;
use crate::onnx::import;
use crate::quant::{contract, scaling};

/// The code of the warning about a model on rows of real values.
fn warned(model: &Model, real: &[f64]) -> Option<&'static str> {
    let contract = contract::without_spec(model);
    let units = contract.inputs.iter().map(|input| f64::from(input.fraction_bits.0).exp2());
    let raw: Vec<i64> = real
        .iter()
        .zip(units.collect::<Vec<_>>().iter().cycle())
        .map(|(x, unit)| (x * unit) as i64)
        .collect();
    let warning = scaling::warning(model, &contract, &raw)?;
    eprintln!("{}", crate::diag::render::plain(&warning, &[]));
    Some(warning.code.id)
}

#[test]
fn a_lost_scaler_is_found_on_raw_rows_only() {
    let Some(folder) = corpus() else {
        eprintln!("SKIP a_lost_scaler_is_found_on_raw_rows_only: ../shared/data/onnx-exports is missing");
        return;
    };
    let reference = |name: &str| npz::read(&std::fs::read(folder.join(name).with_extension("npz")).unwrap());
    let raw = rows(&reference("torch_ts_default"));
    let (mut looked_at, mut found) = (0, Vec::new());
    for path in models(&folder) {
        let bytes = std::fs::read(&path).unwrap();
        let Ok(model) = import("model.onnx", &bytes, &Folder(folder.clone())) else { continue };
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let own = rows(&npz::read(&std::fs::read(path.with_extension("npz")).unwrap()));
        assert_eq!(warned(&model, &own), None, "{name} on its own rows");
        looked_at += 1;
        if model.input_count() == 6 && warned(&model, &raw).is_some() {
            found.push(name);
        }
    }
    assert!(looked_at > 80, "{looked_at}");
    assert_eq!(found, ["torch_ts_f16", "torch_ts_noscale"]);
}
