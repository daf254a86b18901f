//! The whole compiler on one screen: the passes in order, from bytes to a plan, a module, an object.

use crate::bpf::module::Module;
use crate::check::{self, Checked};
use crate::diag::{Diagnostic, Outcome, both};
use crate::ir::{Input, Network, flow};
use crate::kernel::KernelVersion;
use crate::lower::{self, network, packet::Clock};
use crate::metadata::{self, Metadata};
use crate::model::Model;
use crate::onnx::{self, Resolver};
use crate::quant::{self, Calibration, QuantReport, contract, scaling};
use crate::rows::{self, Columns, Rows};
use crate::spec::{self, typed::FeatureSpec};
use crate::{elf, params};

/// Bytes with the name that diagnostics call them by.
#[derive(Debug, Clone, Copy)]
pub struct Named<'a> {
    pub name: &'a str,
    pub bytes: &'a [u8],
}

/// What goes in.
pub struct Sources<'a> {
    pub model: Named<'a>,
    /// Without one, columns are features by position and there is no packet path.
    pub spec: Option<Named<'a>>,
    /// Feature rows to calibrate on.
    pub calibration: Option<Named<'a>>,
    /// Files that the specification uses, and values of its parameters.
    pub surroundings: spec::Surroundings<'a>,
    /// Files that the model refers to.
    pub resolver: &'a dyn Resolver,
}

/// How to build the object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    /// The oldest kernel that the object must load on.
    pub kernel: KernelVersion,
    pub network: network::Options,
    pub clock: Clock,
    /// Frames of several buffers.
    pub fragments: bool,
}

/// Everything that is decided before code is written.
#[derive(Debug, Clone)]
pub struct Plan {
    pub model: Model,
    pub spec: Option<FeatureSpec>,
    pub flow: Option<flow::FlowProgram>,
    pub network: Checked<Network>,
    pub report: QuantReport,
    /// The parsed calibration rows.
    pub rows: Option<Rows>,
    /// What is odd about the model.
    pub warnings: Vec<Diagnostic>,
}

/// Front half: the inputs to a checked plan. Mistakes in model and specification are reported together.
pub fn plan(sources: &Sources<'_>, options: &quant::Options) -> Outcome<Plan> {
    let model = onnx::import(sources.model.name, sources.model.bytes, sources.resolver);
    let spec = sources.spec.map(|spec| spec::from_bytes_in(spec, &sources.surroundings)).transpose();
    let (mut model, spec) = both(model, spec)?;
    let contract = contract::between(sources.model.name, &mut model, spec.as_ref())?;
    let flow = spec.as_ref().map(flow::build).transpose()?;
    let rows = calibration(sources, &contract.inputs)?;
    let calibrate = rows.as_ref().map(|rows| Calibration { rows: &rows.values });
    let odd = scaling::warnings(&model, &contract, calibrate, spec.as_ref());
    let quantised = quant::quantise(&model, &contract, calibrate, options)?;
    let warnings = [odd, quantised.warnings].concat();
    let network = check::check(quantised.network)?;
    Ok(Plan { model, spec, flow, network, report: quantised.report, rows, warnings })
}

/// Back half: a plan to the module that is shipped, or replayed.
pub fn module(plan: &Plan, target: &Target) -> Outcome<Module> {
    let mut module = lower::shipped(plan, target)?;
    module.metadata = metadata::encode(&Metadata::of(plan, target).needing(lower::cost::needs(&module)));
    Ok(module)
}

/// The ELF bytes of a module.
pub fn object(module: &Module) -> Outcome<Vec<u8>> {
    elf::write(module).map_err(|error| vec![lower::internal(&error)])
}

/// The parameter file of a plan.
#[must_use]
pub fn parameters(plan: &Plan) -> Vec<u8> {
    params::file::write(&params::file::ParamsFile::of(plan.network.get(), plan.model.hash))
}

/// The calibration rows, if there are any.
fn calibration(sources: &Sources<'_>, inputs: &[Input]) -> Outcome<Option<Rows>> {
    let columns = if sources.spec.is_some() { Columns::ByName } else { Columns::ByPosition };
    sources.calibration.map(|file| rows::parse(file.name, file.bytes, inputs, columns)).transpose()
}
