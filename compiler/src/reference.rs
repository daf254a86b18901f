//! The float model with what its rows look like: the front half of the compiler, without integers.

use crate::compile::Sources;
use crate::diag::{Diagnostic, Outcome, both};
use crate::ir::{Input, flow};
use crate::model::Model;
use crate::quant::contract::{self, OutputNames};
use crate::quant::{Calibration, scaling};
use crate::rows::{self, Columns};
use crate::{onnx, spec};

/// What judges rows without any integer: nothing is quantised, so that no budget can be passed.
#[derive(Debug, Clone)]
pub struct Reference {
    pub model: Model,
    /// One per input of the model: name, fixed-point format and range of its raw values.
    pub inputs: Vec<Input>,
    /// One per output of the model.
    pub outputs: Vec<OutputNames>,
    /// What is odd about the model.
    pub warnings: Vec<Diagnostic>,
}

/// The float model that [`crate::compile::plan`] quantises, read as the specification says.
///
/// # Errors
///
/// As [`crate::compile::plan`], but for those of quantisation and of the integers' check.
pub fn reference(sources: &Sources<'_>) -> Outcome<Reference> {
    let model = onnx::import(sources.model.name, sources.model.bytes, sources.resolver);
    let spec = sources.spec.map(|spec| spec::from_bytes_in(spec, &sources.surroundings)).transpose();
    let (mut model, spec) = both(model, spec)?;
    let contract = contract::between(sources.model.name, &mut model, spec.as_ref())?;
    // What cannot become packets is refused whatever judges the rows.
    spec.as_ref().map(flow::build).transpose()?;
    let columns = if sources.spec.is_some() { Columns::ByName } else { Columns::ByPosition };
    let rows = sources
        .calibration
        .map(|file| rows::parse(file.name, file.bytes, &contract.inputs, columns))
        .transpose()?;
    let calibrate = rows.as_ref().map(|rows| Calibration { rows: &rows.values });
    let warnings = scaling::warnings(&model, &contract, calibrate, spec.as_ref());
    Ok(Reference { model, inputs: contract.inputs, outputs: contract.outputs, warnings })
}
