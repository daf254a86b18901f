//! `nnbpfc MODEL SPEC --like OBJ -o NEW.params`: a retrained model into the plan of an existing object.

use std::path::Path;

use nnbpf_compiler::compile::{self, Named};
use nnbpf_compiler::diag::codes::object::OTHER_PLAN;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::metadata::{self, Metadata, SpecMetadata};
use nnbpf_compiler::params::layout::Layout;
use nnbpf_compiler::quant::plan_of;
use nnbpf_compiler::spec::Surroundings;
use nnbpf_compiler::spec::substance::substance;

use crate::args::{AccuracyArgs, SpecArgs};
use crate::inputs::{Files, Loaded};
use crate::{Refusal, files};

/// The existing object.
pub struct Like {
    name: String,
    metadata: Metadata,
}

impl Like {
    /// Reads what the object says about itself.
    pub fn read(object: &Path) -> Result<Self, Refusal> {
        let object = Loaded::read(object)?;
        let metadata = metadata::decode(&object.bytes, &object.name)?;
        match metadata.constant_weights(&object.name) {
            Some(refusal) => Err(refusal.into()),
            None => Ok(Self { name: object.name, metadata }),
        }
    }

    /// Values that the command line does not give are those that the object was compiled with.
    pub fn surroundings(&self, args: &SpecArgs) -> SpecArgs {
        let mut args = args.clone();
        let stored = self.metadata.spec.iter().flat_map(SpecMetadata::given);
        let absent: Vec<_> =
            stored.filter(|stored| args.parameters.iter().all(|given| given.name != stored.name)).collect();
        args.parameters.extend(absent);
        args
    }

    /// Writes the parameters.
    pub fn write(&self, inputs: &Files<'_>, accuracy: &AccuracyArgs, output: &Path) -> Result<(), Refusal> {
        let plan = inputs.plan_like(accuracy, plan_of(&self.metadata.plan))?;
        let hash = metadata::hex(&Layout::new(plan.network.get()).hash());
        if hash != self.metadata.layout_hash {
            let note = format!("the object's plan is {}, this one's {hash}", self.metadata.layout_hash);
            return Err(self.other("or for a model of another shape").with_note(note).into());
        }
        if let Some(spec) = &self.metadata.spec {
            let parameters = spec.given();
            let stored = substance(
                Named { name: &spec.file(), bytes: spec.source.as_bytes() },
                &Surroundings { parameters: &parameters, fragments: spec },
            )?;
            if inputs.substance()? != stored {
                let note = "only the probabilities of its rules may differ, and its name and version";
                return Err(self.other("or with other values").with_note(note).into());
            }
        }
        Ok(files::write(output, &compile::parameters(&plan))?)
    }

    fn other(&self, or: &str) -> Diagnostic {
        Diagnostic::new(
            &OTHER_PLAN,
            Origin::File { file: self.name.clone() },
            format!("the object was compiled from another specification {or}"),
            "give the specification that the object was compiled from, or compile a new object without --like",
        )
    }
}
