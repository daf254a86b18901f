//! Whether nearly everything is an anomaly: then the threshold or the units of a reconstruction are wrong.
//!
//! The error of a reconstruction is that of the scaled features. A network whose last layer undoes its scaler gives raw
//! ones, which differ from those by far more than any error.

use super::float::real_rows;
use super::{Calibration, Contract};
use crate::diag::codes::quant::ANOMALIES;
use crate::diag::{Diagnostic, Origin};
use crate::model::Model;
use crate::spec::typed::FeatureSpec;

/// Rows that are looked at, and the fewest that say something.
const ROWS: usize = 512;
const LEAST_ROWS: usize = 16;
/// Share of anomalies from which there is a warning.
const MOST: (usize, usize) = (9, 10);

/// The warning about a model whose output is above zero for an anomaly, by rows of raw values.
pub(super) fn warning(
    model: &Model,
    contract: &Contract,
    rows: Calibration<'_>,
    spec: &FeatureSpec,
) -> Option<Diagnostic> {
    let wish = spec.reconstruction.as_ref()?;
    let width = contract.inputs.len().max(1);
    let stride = (rows.rows.len() / width / ROWS).max(1);
    let some: Vec<i64> = rows.rows.chunks_exact(width).step_by(stride).flatten().copied().collect();
    let count = some.len() / width;
    let outputs = model.batch_outputs_f64(&real_rows(&contract.inputs, &some));
    let anomalies = outputs.iter().filter(|error| **error > 0.0).count();
    (count >= LEAST_ROWS && anomalies * MOST.1 > count * MOST.0).then(|| {
        Diagnostic::warning(
            &ANOMALIES,
            Origin::Source { file: spec.file.clone(), span: wish.span.clone() },
            format!("the error of {anomalies} of {count} calibration rows is above the threshold"),
            "raise the threshold; or, if the network's last layer undoes its scaler, export it without that layer: \
             errors are those of scaled features",
        )
    })
}
