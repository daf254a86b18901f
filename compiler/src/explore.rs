//! Plans along the frontier of cost against flips: the front half of the compiler, with more than one end.

use crate::check;
use crate::compile::{Plan, Sources};
use crate::diag::{Outcome, both};
use crate::ir::flow;
use crate::quant::{self, Calibration, MaxFlips, contract, scaling};
use crate::rows::{self, Columns};
use crate::{onnx, spec};

/// The plans that are cheaper than all with fewer flips, from the cheapest on.
///
/// # Errors
///
/// As [`crate::compile::plan`].
pub fn plans(sources: &Sources<'_>, most: MaxFlips) -> Outcome<Vec<Plan>> {
    let model = onnx::import(sources.model.name, sources.model.bytes, sources.resolver);
    let spec = sources.spec.map(|spec| spec::from_bytes_in(spec, &sources.surroundings)).transpose();
    let (mut model, spec) = both(model, spec)?;
    let contract = contract::between(sources.model.name, &mut model, spec.as_ref())?;
    let flow = spec.as_ref().map(flow::build).transpose()?;
    let columns = if sources.spec.is_some() { Columns::ByName } else { Columns::ByPosition };
    let rows = sources
        .calibration
        .map(|file| rows::parse(file.name, file.bytes, &contract.inputs, columns))
        .transpose()?;
    let calibrate = rows.as_ref().map(|rows| Calibration { rows: &rows.values });
    let warnings = scaling::warnings(&model, &contract, calibrate, spec.as_ref());
    let ends = quant::frontier(&model, &contract, calibrate, most)?;
    ends.into_iter()
        .map(|end| {
            Ok(Plan {
                model: model.clone(),
                spec: spec.clone(),
                flow: flow.clone(),
                network: check::check(end.network)?,
                report: end.report,
                rows: rows.clone(),
                warnings: warnings.clone(),
            })
        })
        .collect()
}
