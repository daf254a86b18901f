//! A retrained model straight to the installed object's parameters, as `nnbpfc --like` does it with files.

use std::path::Path;

use nnbpf_compiler::compile::{self, Named, Sources};
use nnbpf_compiler::diag::Outcome;
use nnbpf_compiler::metadata::{Metadata, SpecMetadata};
use nnbpf_compiler::onnx::Resolver;
use nnbpf_compiler::params::file::ParamsFile;
use nnbpf_compiler::quant::{Options, plan_of};
use nnbpf_compiler::spec::{Fragments, NoFragments, Surroundings};

use super::Installation;

impl Installation {
    /// Compiles a model for the specification and the plan of the installed object, within the default budget of
    /// flips. `resolver` reads files that the model refers to.
    ///
    /// # Errors
    /// An object with constant weights (`E0708`), a model that is refused or that does not fit the plan.
    pub fn compile(
        &self,
        model: Named<'_>,
        calibration: Option<Named<'_>>,
        resolver: &dyn Resolver,
    ) -> Outcome<ParamsFile> {
        compile_like((&self.metadata()?, &self.pins.metadata()), model, calibration, resolver)
    }
}

/// As [`Installation::compile`], for what an installed object says about itself, which is pinned at `place`: the
/// installation need not be locked meanwhile.
///
/// # Errors
/// As [`Installation::compile`].
pub fn compile_like(
    (metadata, place): (&Metadata, &Path),
    model: Named<'_>,
    calibration: Option<Named<'_>>,
    resolver: &dyn Resolver,
) -> Outcome<ParamsFile> {
    if let Some(refusal) = metadata.constant_weights(&place.display().to_string()) {
        return Err(vec![*refusal]);
    }
    let spec = metadata.spec.as_ref().map(|spec| (spec.file(), &spec.source));
    let parameters = metadata.spec.as_ref().map(SpecMetadata::given).unwrap_or_default();
    let fragments: &dyn Fragments = metadata.spec.as_ref().map_or(&NoFragments, |spec| spec);
    let sources = Sources {
        model,
        spec: spec.as_ref().map(|(name, source)| Named { name, bytes: source.as_bytes() }),
        surroundings: Surroundings { parameters: &parameters, fragments },
        calibration,
        resolver,
    };
    let options = Options { like: Some(plan_of(&metadata.plan)), ..Options::default() };
    let plan = compile::plan(&sources, &options)?;
    Ok(ParamsFile::of(plan.network.get(), plan.model.hash))
}
