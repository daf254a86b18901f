//! What is mutated: every committed model, whole, as a chain and with constants; with its packet path where it has one.

use std::path::{Path, PathBuf};

use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::diag::{Diagnostic, render};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network::{Options, Split, Weights};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::quant::{self, MaxFlips};
use nnbpf_compiler::spec::Surroundings;
use nnbpf_compiler::verify::{self, Extent, Verified};

use crate::tree;

/// Shipped specifications and the folder of the model that stands in for a trained one.
const SHIPPED: [(&str, &str); 5] = [
    ("dsn24-6-32-32-2", "dsn24"),
    ("dsn24-cic-6-12-2", "dsn24-cic"),
    ("cic6-6-16-2", "cic6"),
    ("sources-10-14-2", "scan"),
    ("header-30-16-2", "header"),
];

/// Whole, as a chain of programs, and with constants.
const FORMS: [(&str, Split, Weights); 3] = [
    ("whole", Split::Auto, Weights::Map),
    ("chain", Split::Layer, Weights::Map),
    ("constants", Split::Auto, Weights::Const),
];

/// An object that holds, with what it was made of.
pub(super) struct Subject {
    pub(super) name: String,
    pub(super) plan: Plan,
    pub(super) options: Options,
    pub(super) verified: Verified,
}

/// All of them, or those whose folder has one of these names.
pub(super) fn subjects(names: &[&str]) -> Result<Vec<Subject>, String> {
    let folder = tree::root().join("testdata/cases");
    let entries = std::fs::read_dir(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut folders: Vec<PathBuf> =
        entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.is_dir()).collect();
    folders.sort();
    folders.push(tree::root().join("testdata/ids"));
    let mut subjects = Vec::new();
    for folder in folders {
        let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if names.is_empty() || names.contains(&name.as_str()) {
            subjects.extend(forms(&name, &folder)?);
        }
    }
    Ok(subjects)
}

fn forms(name: &str, folder: &Path) -> Result<Vec<Subject>, String> {
    let Some(spec) = spec(name, folder) else { return Ok(Vec::new()) };
    let file = folder.join(if name == "ids" { "ids.onnx" } else { "model.onnx" });
    let read = |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let (model, text) = (read(&file)?, read(&spec)?);
    let spec = spec.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sources = Sources {
        model: Named { name, bytes: &model },
        spec: Some(Named { name: &spec, bytes: &text }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    // Rows that are drawn are far out more often than traffic is.
    let options = quant::Options { max_flips: MaxFlips::Share(0.3), ..quant::Options::default() };
    let plan = compile::plan(&sources, &options).map_err(|refused| text_of(&refused))?;
    let mut subjects = Vec::new();
    for (form, split, weights) in FORMS {
        let options = Options { split, weights, ..Options::default() };
        let target = Target {
            kernel: KernelVersion::DEFAULT,
            network: options,
            clock: Clock::Kernel,
            fragments: false,
        };
        // Verdicts of some specifications need more tail calls than there are, as a chain.
        let Ok(module) = compile::module(&plan, &target) else { continue };
        let bytes = compile::object(&module).map_err(|refused| text_of(&refused))?;
        let name = format!("{name} {form}");
        let verified = verify::object(&bytes, &name, Extent::Whole).map_err(|refused| text_of(&refused))?;
        subjects.push(Subject { name, plan: plan.clone(), options, verified });
    }
    Ok(subjects)
}

fn spec(name: &str, folder: &Path) -> Option<PathBuf> {
    let shipped = |spec: &str| tree::root().join(format!("specs/{spec}.spec"));
    if name == "ids" {
        return Some(shipped("ids"));
    }
    if let Some((_, spec)) = SHIPPED.iter().find(|(case, _)| *case == name) {
        return Some(shipped(spec));
    }
    let mut beside = std::fs::read_dir(folder).ok()?.filter_map(|entry| Some(entry.ok()?.path()));
    beside.find(|path| path.extension().is_some_and(|extension| extension == "spec"))
}

fn text_of(refused: &[Diagnostic]) -> String {
    render::all(refused, &[])
}
