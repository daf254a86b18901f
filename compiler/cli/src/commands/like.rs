//! `nnbpfc MODEL SPEC --like OBJ -o NEW.params`: a retrained model into the plan of an existing object.

use std::path::Path;

use nnbpf_compiler::diag::codes::object::OTHER_PLAN;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::params::layout::Layout;
use nnbpf_compiler::quant::plan_of;
use nnbpf_compiler::{compile, metadata};

use crate::args::AccuracyArgs;
use crate::inputs::{Files, Loaded};
use crate::{Refusal, files};

pub fn run(inputs: &Files<'_>, accuracy: &AccuracyArgs, object: &Path, output: &Path) -> Result<(), Refusal> {
    let object = Loaded::read(object)?;
    let metadata = metadata::decode(&object.bytes, &object.name)?;
    if let Some(refusal) = metadata.constant_weights(&object.name) {
        return Err(refusal.into());
    }
    let plan = inputs.plan_like(accuracy, plan_of(&metadata.plan))?;
    let hash = metadata::hex(&Layout::new(plan.network.get()).hash());
    if hash != metadata.layout_hash {
        return Err(Diagnostic::new(
            &OTHER_PLAN,
            Origin::File { file: object.name },
            "the object was compiled from another specification or for a model of another shape",
            "give the specification that the object was compiled from, or compile a new object without --like",
        )
        .with_note(format!("the object's plan is {}, this one's {hash}", metadata.layout_hash))
        .into());
    }
    Ok(files::write(output, &compile::parameters(&plan))?)
}
