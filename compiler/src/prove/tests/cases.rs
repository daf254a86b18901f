//! Every committed model, from its file to the shipped module, is proved however it is written.

use std::path::{Path, PathBuf};

use super::networks::ways;
use crate::compile::{Named, Plan, Sources, Target, plan};
use crate::ir::Network;
use crate::kernel::KernelVersion;
use crate::lower::network::{Weights, pruned};
use crate::lower::packet::Clock;
use crate::lower::shipped;
use crate::onnx::NoFiles;
use crate::prove::network as prove;
use crate::quant;
use crate::spec::Surroundings;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn planned(model: &Path, spec: Option<&Path>) -> Plan {
    let read = |path: &Path| std::fs::read(path).unwrap();
    let (model_bytes, spec_bytes) = (read(model), spec.map(read));
    let name = model.display().to_string();
    let sources = Sources {
        model: Named { name: &name, bytes: &model_bytes },
        spec: spec_bytes.as_deref().map(|bytes| Named { name: "spec", bytes }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    plan(&sources, &quant::Options::default()).unwrap_or_else(|errors| panic!("{name}: {errors:?}"))
}

/// Proves a plan in every way that it can be shipped; gives how many there were.
fn proved(name: &str, plan: &Plan) -> usize {
    let small: Network = pruned(&plan.network).into_inner();
    let mut count = 0;
    for options in ways() {
        let target = Target {
            kernel: KernelVersion::DEFAULT,
            network: options,
            clock: Clock::Kernel,
            fragments: false,
        };
        // A chain can be longer than the specification's verdicts allow.
        let Ok(module) = shipped(plan, &target) else { continue };
        let network = if options.weights == Weights::Map { plan.network.get() } else { &small };
        if let Err(mismatch) = prove(&module, network, options.weights) {
            panic!("{name}, {options:?}: {mismatch}");
        }
        count += 1;
    }
    count
}

#[test]
fn committed_models_are_proved() {
    let mut folders: Vec<PathBuf> = std::fs::read_dir(root().join("testdata/cases"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("model.onnx").exists())
        .collect();
    folders.sort();
    assert!(folders.len() >= 2, "{folders:?}");
    let mut count = 0;
    for folder in &folders {
        let files = std::fs::read_dir(folder).unwrap();
        let spec = files
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|extension| extension == "spec"));
        let name = folder.display().to_string();
        count += proved(&name, &planned(&folder.join("model.onnx"), spec.as_deref()));
    }
    println!("{} modules of {} models are proved", count, folders.len());
    assert!(count >= 3 * folders.len(), "{count} modules of {} models", folders.len());
}

#[test]
fn the_shipped_model_is_proved() {
    let spec = root().join("specs/ids.spec");
    let plan = planned(&root().join("testdata/ids/ids.onnx"), Some(&spec));
    assert_eq!(proved("ids", &plan), 4);
}
