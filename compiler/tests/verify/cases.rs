//! Committed models with a specification, and the forms that objects have.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nnbpf_compiler::bpf::module::Module;
use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network::{self, Split, Weights};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::quant::{MaxFlips, Options};
use nnbpf_compiler::spec::Surroundings;

/// Shipped specifications and the folder of the model that stands in for a trained one.
const SHIPPED: [(&str, &str); 5] = [
    ("dsn24-6-32-32-2", "dsn24"),
    ("dsn24-cic-6-12-2", "dsn24-cic"),
    ("cic6-6-16-2", "cic6"),
    ("sources-10-14-2", "scan"),
    ("header-30-16-2", "header"),
];

pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) plan: Plan,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn spec(name: &str, folder: &Path) -> Option<PathBuf> {
    let shipped = |spec: &str| root().join(format!("specs/{spec}.spec"));
    if name == "ids" {
        return Some(shipped("ids"));
    }
    if let Some((_, spec)) = SHIPPED.iter().find(|(case, _)| *case == name) {
        return Some(shipped(spec));
    }
    let mut beside = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    beside.find(|path| path.extension().is_some_and(|extension| extension == "spec"))
}

/// All of them that have a packet path, planned once.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let folders = std::fs::read_dir(root().join("testdata/cases")).unwrap();
        let mut folders: Vec<PathBuf> =
            folders.map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()).collect();
        folders.sort();
        folders.push(root().join("testdata/ids"));
        folders.iter().filter_map(|folder| planned(folder)).collect()
    });
    &CASES
}

pub(crate) fn case(name: &str) -> &'static Case {
    cases().iter().find(|case| case.name == name).unwrap()
}

fn planned(folder: &Path) -> Option<Case> {
    let name = folder.file_name().unwrap().to_str().unwrap().to_owned();
    let spec = spec(&name, folder)?;
    let file = if name == "ids" { "ids.onnx" } else { "model.onnx" };
    let (model, text) = (std::fs::read(folder.join(file)).unwrap(), std::fs::read(&spec).unwrap());
    let spec = spec.file_name().unwrap().to_str().unwrap().to_owned();
    let sources = Sources {
        model: Named { name: file, bytes: &model },
        spec: Some(Named { name: &spec, bytes: &text }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    // Rows that are drawn are far out more often than traffic is.
    let options = Options { max_flips: MaxFlips::Share(0.3), ..Options::default() };
    Some(Case { name, plan: compile::plan(&sources, &options).unwrap() })
}

/// Whole, as a chain, and with constants.
pub(crate) const FORMS: [(Split, Weights); 3] =
    [(Split::Auto, Weights::Map), (Split::Layer, Weights::Map), (Split::Auto, Weights::Const)];

pub(crate) fn target((split, weights): (Split, Weights)) -> Target {
    let network = network::Options { split, weights, ..network::Options::default() };
    Target { kernel: KernelVersion::DEFAULT, network, clock: Clock::Kernel, fragments: false }
}

/// The module of a case, or nothing where it does not fit this form: verdicts that need too many tail calls.
pub(crate) fn module(case: &Case, form: (Split, Weights)) -> Option<Module> {
    compile::module(&case.plan, &target(form)).ok()
}
