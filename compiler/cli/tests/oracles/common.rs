//! What the oracles share: committed models with their plans, captures, pseudo-random numbers, skips.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use nnbpf_compiler::capture::{self, Packet};
use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::diag::render;
use nnbpf_compiler::ir::{Lanes, Op};
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network::{self, Split};
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::quant::{MaxFlips, NetworkPlan, Options};
use nnbpf_compiler::spec::Surroundings;

/// Both forms of every model.
pub(crate) const SPLITS: [Split; 2] = [Split::Auto, Split::Layer];

/// A committed model and what the compiler makes of it.
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) plan: Plan,
}

/// Whether its model is one of decision trees.
pub(crate) fn has_trees(case: &Case) -> bool {
    case.plan.network.get().ops.iter().any(|op| matches!(op, Op::Forest(_)))
}

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Shipped specifications and the folder of the model that stands in for a trained one.
const SHIPPED: [(&str, &str); 5] = [
    ("dsn24-6-32-32-2", "dsn24"),
    ("dsn24-cic-6-12-2", "dsn24-cic"),
    ("cic6-6-16-2", "cic6"),
    ("sources-10-14-2", "scan"),
    ("header-30-16-2", "header"),
];

/// Lanes, layer by layer, that a model does not choose itself.
const GIVEN: [(&str, &[&[u8]]); 1] = [("lanes-5-10-8-2", &[&[24, 20, 20], &[16; 4], &[40, 24]])];

/// All committed models. Planning is done once for all tests.
pub(crate) fn cases() -> &'static [Case] {
    static CASES: LazyLock<Vec<Case>> = LazyLock::new(|| {
        let mut models: Vec<(String, PathBuf)> = std::fs::read_dir(root().join("testdata/cases"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.is_dir())
            .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path.join("model.onnx")))
            .collect();
        models.sort();
        models.push(("ids".to_owned(), root().join("testdata/ids/ids.onnx")));
        models.into_iter().map(|(name, model)| Case { plan: plan(&name, &model), name }).collect()
    });
    &CASES
}

/// Those with a packet path.
pub(crate) fn cases_with_spec() -> impl Iterator<Item = &'static Case> {
    cases().iter().filter(|case| case.plan.spec.is_some())
}

/// One of the committed models.
pub(crate) fn case(name: &str) -> &'static Case {
    cases().iter().find(|case| case.name == name).unwrap()
}

/// The specification of a model: beside it, or shipped.
fn spec(name: &str, model: &Path) -> Option<PathBuf> {
    let shipped = |spec: &str| root().join(format!("specs/{spec}.spec"));
    if name == "ids" {
        return Some(shipped("ids"));
    }
    if let Some((_, spec)) = SHIPPED.iter().find(|(folder, _)| *folder == name) {
        return Some(shipped(spec));
    }
    let beside = std::fs::read_dir(model.parent().unwrap()).unwrap().map(|entry| entry.unwrap().path());
    beside.into_iter().find(|path| path.extension().is_some_and(|extension| extension == "spec"))
}

fn plan(name: &str, model: &Path) -> Plan {
    planned(name, model, None)
}

/// A retrained model of a case, in the plan of the case.
pub(crate) fn like_plan(name: &str, model: &Path, like: NetworkPlan) -> Plan {
    planned(name, model, Some(like))
}

fn planned(name: &str, model: &Path, like: Option<NetworkPlan>) -> Plan {
    let bytes = std::fs::read(model).unwrap();
    let spec = spec(name, model)
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(path).unwrap()));
    // The shipped model is compiled as the book does it.
    let calibration = model.with_file_name("calibration.csv");
    let calibration = calibration.exists().then(|| std::fs::read(calibration).unwrap());
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &bytes },
        spec: spec.as_ref().map(|(name, bytes)| Named { name, bytes }),
        calibration: calibration.as_ref().map(|bytes| Named { name: "calibration.csv", bytes }),
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    let lanes = GIVEN.iter().find(|(given, _)| *given == name);
    let lanes = lanes.map(|(_, lanes)| lanes.iter().map(|widths| Lanes::new(widths).unwrap()).collect());
    // Given lanes need not meet the default budget on drawn rows, of which many are far out.
    let max_flips = if lanes.is_some() { MaxFlips::Share(0.3) } else { MaxFlips::DEFAULT };
    compile::plan(&sources, &Options { max_flips, lanes, like, ..Options::default() })
        .unwrap_or_else(|refused| panic!("{name}: {}", render::all(&refused, &[])))
}

/// A committed model with a specification of the test's own.
pub(crate) fn plan_of(model: &str, spec: &str) -> Plan {
    let bytes = std::fs::read(root().join("testdata/cases").join(model).join("model.onnx")).unwrap();
    let sources = Sources {
        model: Named { name: "model.onnx", bytes: &bytes },
        spec: Some(Named { name: "own.spec", bytes: spec.as_bytes() }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, &Options::default())
        .unwrap_or_else(|refused| panic!("{model}: {}", render::all(&refused, &[])))
}

/// What objects are built for here.
pub(crate) fn target(split: Split, clock: Clock) -> Target {
    let network = network::Options { split, ..network::Options::default() };
    Target { kernel: KernelVersion::DEFAULT, network, clock, fragments: false }
}

/// A capture file in memory.
pub(crate) struct File {
    pub(crate) name: String,
    bytes: Vec<u8>,
}

impl File {
    /// Its Ethernet packets; none for files that have none.
    pub(crate) fn packets(&self) -> Vec<Packet<'_>> {
        capture::read(&self.name, &self.bytes).map_or_else(|_| Vec::new(), |capture| capture.packets)
    }
}

/// The committed capture and those of the shared folder, or a visible skip.
pub(crate) fn captures(test: &str) -> Vec<File> {
    let mut paths = vec![root().join("testdata/ids/capture.pcap")];
    match std::fs::read_dir(root().join("../shared/data/pcaps")) {
        Ok(folder) => {
            let is_capture =
                |path: &PathBuf| path.extension().is_some_and(|e| e == "pcap" || e == "pcapng" || e == "cap");
            paths.extend(folder.map(|entry| entry.unwrap().path()).filter(is_capture));
        }
        Err(_) => eprintln!("SKIP {test}: the shared captures are missing"),
    }
    paths.sort();
    paths
        .into_iter()
        .map(|path| File {
            name: path.file_name().unwrap().to_str().unwrap().to_owned(),
            bytes: std::fs::read(&path).unwrap(),
        })
        .collect()
}

/// Says why a kernel test does not run here, unless it must.
pub(crate) fn skip(test: &str) -> bool {
    let Err(error) = nnbpf_runtime_loader::permission::check() else { return false };
    assert!(std::env::var_os("NNBPF_REQUIRE_KERNEL").is_none(), "{test}: {error}");
    eprintln!("SKIP {test}: {error}");
    true
}

/// Pseudo-random numbers (SplitMix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in `0..limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::try_from(self.next() % limit as u64).unwrap()
    }

    /// Uniform in `low..=high`.
    pub(crate) fn within(&mut self, low: i64, high: i64) -> i64 {
        let span = i128::from(high) - i128::from(low) + 1;
        i64::try_from(i128::from(low) + i128::from(self.next()) % span).unwrap()
    }
}
