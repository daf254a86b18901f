//! What most commands start with: files and flags to a plan.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use nnbpf_compiler::compile::{self, Named, Plan, Sources};
use nnbpf_compiler::diag::codes::files::FLAG;
use nnbpf_compiler::diag::{Diagnostic, Origin};
use nnbpf_compiler::explore;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::Resolver;
use nnbpf_compiler::quant::{MaxFlips, NetworkPlan, Options};
use nnbpf_compiler::reference::{Reference, reference};
use nnbpf_compiler::spec::substance::substance;

use crate::args::{AccuracyArgs, SpecArgs, Split, TargetArgs, Weights};
use crate::uses::Uses;
use crate::{Refusal, files};

/// Reads files beside the model.
pub struct Beside {
    directory: PathBuf,
    /// What was read, each file once, in the order of the first time.
    files: RefCell<Vec<PathBuf>>,
}

impl Beside {
    /// Resolves relative to the directory of this file.
    #[must_use]
    pub fn of(model: &Path) -> Self {
        Self {
            directory: model.parent().map(Path::to_path_buf).unwrap_or_default(),
            files: RefCell::default(),
        }
    }
}

impl Resolver for Beside {
    fn read(&self, relative: &str) -> Result<Vec<u8>, String> {
        let path = self.directory.join(relative);
        let bytes = std::fs::read(&path).map_err(|error| error.to_string())?;
        let mut files = self.files.borrow_mut();
        if !files.contains(&path) {
            files.push(path);
        }
        Ok(bytes)
    }
}

/// A file that was read.
pub struct Loaded {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Loaded {
    /// Reads the whole file.
    pub fn read(path: &Path) -> Result<Self, Box<Diagnostic>> {
        Ok(Self { name: files::name(path), bytes: files::read(path)? })
    }

    /// For the library.
    #[must_use]
    pub fn named(&self) -> Named<'_> {
        Named { name: &self.name, bytes: &self.bytes }
    }
}

/// The files of a plan, all but those that others refer to read before anything is refused.
pub struct Files<'a> {
    pub model: Loaded,
    pub spec: Option<Loaded>,
    pub calibration: Option<Loaded>,
    /// Whether the report says what the integers cost in outputs and scores.
    pub measure: bool,
    resolver: Beside,
    uses: Uses<'a>,
}

impl<'a> Files<'a> {
    /// Reads all of them, or says which cannot be read.
    pub fn read(
        model: &Path,
        spec: Option<&Path>,
        surroundings: &'a SpecArgs,
        accuracy: &AccuracyArgs,
    ) -> Result<Self, Refusal> {
        let mut diagnostics = Vec::new();
        let mut read = |path: &Path| match Loaded::read(path) {
            Ok(file) => Some(file),
            Err(diagnostic) => {
                diagnostics.push(*diagnostic);
                None
            }
        };
        let (loaded, main) = (read(model), spec);
        let spec = spec.map(&mut read);
        let calibration = accuracy.calibrate.as_deref().map(&mut read);
        match loaded {
            Some(loaded) if diagnostics.is_empty() => Ok(Self {
                model: loaded,
                spec: spec.flatten(),
                calibration: calibration.flatten(),
                measure: false,
                resolver: Beside::of(model),
                uses: Uses::of(surroundings, main.unwrap_or(model)),
            }),
            Some(_) | None => Err(diagnostics.into()),
        }
    }

    /// Runs the front half of the compiler.
    pub fn plan(&self, accuracy: &AccuracyArgs) -> Result<Plan, Refusal> {
        self.plan_with(accuracy, None)
    }

    /// Runs the front half for the plan of an existing object.
    pub fn plan_like(&self, accuracy: &AccuracyArgs, plan: NetworkPlan) -> Result<Plan, Refusal> {
        self.plan_with(accuracy, Some(plan))
    }

    /// The float model, without any integers: no budget is looked at.
    pub fn reference(&self, accuracy: &AccuracyArgs) -> Result<Reference, Refusal> {
        max_flips(&accuracy.max_flips)?;
        let reference = reference(&self.sources()).map_err(|diagnostics| self.refusal(diagnostics))?;
        self.refusal(reference.warnings.clone()).print();
        Ok(reference)
    }

    /// The plans along the frontier of cost against flips.
    pub fn frontier(&self, max_flips: MaxFlips) -> Result<Vec<Plan>, Refusal> {
        let plans =
            explore::plans(&self.sources(), max_flips).map_err(|diagnostics| self.refusal(diagnostics))?;
        if let Some(plan) = plans.first() {
            self.refusal(plan.warnings.clone()).print();
        }
        Ok(plans)
    }

    fn sources(&self) -> Sources<'_> {
        Sources {
            model: self.model.named(),
            spec: self.spec.as_ref().map(Loaded::named),
            calibration: self.calibration.as_ref().map(Loaded::named),
            surroundings: self.uses.surroundings(),
            resolver: &self.resolver,
        }
    }

    fn plan_with(&self, accuracy: &AccuracyArgs, like: Option<NetworkPlan>) -> Result<Plan, Refusal> {
        let measure = self.measure;
        let options = Options { max_flips: max_flips(&accuracy.max_flips)?, lanes: None, like, measure };
        let plan =
            compile::plan(&self.sources(), &options).map_err(|diagnostics| self.refusal(diagnostics))?;
        self.refusal(plan.warnings.clone()).print();
        Ok(plan)
    }

    /// What the specification says apart from parameters; nothing without one.
    pub fn substance(&self) -> Result<Vec<String>, Refusal> {
        match &self.spec {
            Some(spec) => substance(spec.named(), &self.uses.surroundings())
                .map_err(|diagnostics| self.refusal(diagnostics)),
            None => Ok(Vec::new()),
        }
    }

    /// Files that the model or the specification referred to, once they were read.
    pub fn beside(&self) -> Vec<PathBuf> {
        let mut files = self.resolver.files.borrow().clone();
        files.extend(self.uses.paths());
        files
    }

    /// Diagnostics with the specification's text.
    pub fn refusal(&self, diagnostics: Vec<Diagnostic>) -> Refusal {
        let refusal = Refusal::from(diagnostics);
        match &self.spec {
            Some(spec) => self.uses.with_sources(refusal.with_source(&spec.name, &spec.bytes)),
            None => refusal,
        }
    }
}

/// Reads `--max-flips`: a percentage of the rows, or their number.
pub fn max_flips(text: &str) -> Result<MaxFlips, Box<Diagnostic>> {
    let parsed = match text.strip_suffix('%') {
        Some(percent) => percent
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|percent| (0.0..=100.0).contains(percent))
            .map(|percent| MaxFlips::Share(percent / 100.0)),
        None => text.parse::<u64>().ok().map(MaxFlips::Rows),
    };
    parsed.ok_or_else(|| {
        Box::new(Diagnostic::new(
            &FLAG,
            Origin::Flag { flag: "--max-flips".to_owned() },
            format!("`{text}` is neither a percentage nor a number of rows"),
            "write for example `--max-flips 0.1%` or `--max-flips 0`",
        ))
    })
}

/// What the object is built for, by the command line.
pub fn target_of(args: &TargetArgs, clock: Clock) -> Result<compile::Target, Refusal> {
    let mut target = target(KernelVersion::parse(&args.kernel)?, args.split, clock);
    target.network.weights = weights(args.weights);
    Ok(target)
}

/// Where the weights live, by the command line.
#[must_use]
pub const fn weights(weights: Weights) -> network::Weights {
    match weights {
        Weights::Map => network::Weights::Map,
        Weights::Const => network::Weights::Const,
    }
}

/// What the object is built for.
#[must_use]
pub fn target(kernel: KernelVersion, split: Split, clock: Clock) -> compile::Target {
    let split = match split {
        Split::Auto => network::Split::Auto,
        Split::Layer => network::Split::Layer,
    };
    compile::Target {
        kernel,
        network: network::Options { split, ..network::Options::default() },
        clock,
        fragments: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn budgets_are_percentages_or_counts() {
        assert_eq!(max_flips("0.1%").unwrap(), MaxFlips::Share(0.001));
        assert_eq!(max_flips("0").unwrap(), MaxFlips::Rows(0));
        for text in ["", "%", "-1", "101%", "NaN%", "1.5", "one"] {
            assert_eq!(max_flips(text).unwrap_err().code.id, "E0903", "{text}");
        }
    }
}
