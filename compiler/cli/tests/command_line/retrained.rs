//! `--like` with an object in a file: curved models, models quantised by their author, reconstructions.

use nnbpf_compiler::compile::{self, Named, Plan, Sources, Target};
use nnbpf_compiler::ir::Lanes;
use nnbpf_compiler::kernel::KernelVersion;
use nnbpf_compiler::lower::network;
use nnbpf_compiler::lower::packet::Clock;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::quant::{MaxFlips, Options, plan_of};
use nnbpf_compiler::spec::Surroundings;

use super::common::{Folder, assert_refused};

/// What the library plans for a model of the folder.
fn planned(folder: &Folder, model: &str, options: &Options) -> Plan {
    let sources = Sources {
        model: Named { name: model, bytes: &folder.read(model) },
        spec: Some(Named { name: "a.spec", bytes: &folder.read("a.spec") }),
        calibration: None,
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    compile::plan(&sources, options).unwrap()
}

/// The parameters of a model in the plan of another one, by the library.
fn expected(folder: &Folder, model: &str, like: &str) -> Vec<u8> {
    let like = Some(plan_of(planned(folder, like, &Options::default()).network.get()));
    compile::parameters(&planned(folder, model, &Options { like, ..Options::default() }))
}

/// What objects are built for by default.
fn target() -> Target {
    Target {
        kernel: KernelVersion::DEFAULT,
        network: network::Options::default(),
        clock: Clock::Kernel,
        fragments: false,
    }
}

/// Compiles the model of a case, the retrained one like it, and the other one, whose refusal contains `reason`.
fn retrained(case: &str, spec: &str, reason: &str) {
    let folder = Folder::new();
    for name in ["model", "retrained", "other"] {
        folder.copy(&format!("testdata/cases/{case}/{name}.onnx"), &format!("{name}.onnx"));
    }
    folder.copy(&format!("testdata/cases/{case}/{spec}.spec"), "a.spec");
    folder.succeeds("model.onnx a.spec -o old.o");
    folder.succeeds("model.onnx a.spec --like old.o -o same.params");
    assert!(
        folder.read("same.params") == expected(&folder, "model.onnx", "model.onnx"),
        "{case}: the same model"
    );
    folder.succeeds("retrained.onnx a.spec --like old.o -o new.params");
    let new = expected(&folder, "retrained.onnx", "model.onnx");
    assert!(folder.read("new.params") == new, "{case}: the retrained model");
    assert_ne!(folder.read("same.params"), new);
    let outcome = folder.run("other.onnx a.spec --like old.o -o other.params");
    assert_refused(&outcome, "other.onnx");
    let first = outcome.stderr.lines().next().unwrap_or_default();
    assert!(first.starts_with("error[E0312]") && first.contains(reason), "{case}: {first}");
    assert!(!folder.content().contains("other.params"));
}

#[test]
fn a_curved_model_is_retrained() {
    retrained("tanh-5-8-6-2", "tanh", "the model has 1 curved activations, and the object 2");
}

#[test]
fn a_model_quantised_by_its_author_is_retrained() {
    retrained("qdq-5-8-6-2", "qdq", "layers and quantisations are not those of the object");
    retrained("qtanh-5-6-1", "qtanh", "layers and quantisations are not those of the object");
}

/// The object is made by the library, as no option of the command gives lanes.
#[test]
fn a_model_in_uneven_lanes_is_retrained() {
    let folder = Folder::new();
    for name in ["model", "retrained", "other"] {
        folder.copy(&format!("testdata/cases/lanes-5-10-8-2/{name}.onnx"), &format!("{name}.onnx"));
    }
    folder.copy("testdata/cases/lanes-5-10-8-2/lanes.spec", "a.spec");
    let uneven = [vec![24, 20, 20], vec![16; 4], vec![40, 24]];
    let narrow = [vec![40, 8, 8, 8], vec![40, 8, 8, 8], vec![40, 24]];
    let plans = [("uneven.o", uneven), ("narrow.o", narrow)].map(|(name, lanes)| {
        let lanes = Some(lanes.iter().map(|widths| Lanes::new(widths).unwrap()).collect());
        let options = Options { lanes, max_flips: MaxFlips::Share(0.5), ..Options::default() };
        let plan = planned(&folder, "model.onnx", &options);
        folder.write(name, &compile::object(&compile::module(&plan, &target()).unwrap()).unwrap());
        plan_of(plan.network.get())
    });
    for model in ["model", "retrained"] {
        folder.succeeds(&format!("{model}.onnx a.spec --like uneven.o --max-flips 30% -o {model}.params"));
    }
    assert_ne!(folder.read("model.params"), folder.read("retrained.params"));
    let [like, _] = plans.map(Some);
    let options = Options { like, max_flips: MaxFlips::Share(0.3), ..Options::default() };
    let wanted = compile::parameters(&planned(&folder, "retrained.onnx", &options));
    assert!(folder.read("retrained.params") == wanted, "the parameters are not the library's");
    // Lanes that are too narrow for the labels, and layers of another shape.
    for (model, object, code) in [("retrained", "narrow", "E0306"), ("other", "uneven", "E0312")] {
        let outcome = folder.run(&format!("{model}.onnx a.spec --like {object}.o -o no.params"));
        assert_refused(&outcome, &format!("{model}.onnx"));
        assert!(outcome.stderr.starts_with(&format!("error[{code}]")), "{}", outcome.stderr);
        assert!(!folder.content().contains("no.params"));
    }
}

#[test]
fn a_model_with_hard_swishes_is_retrained() {
    retrained("swish-5-6-6-2", "swish", "the model has 1 curved activations, and the object 0");
}

#[test]
fn a_model_with_an_imputer_is_retrained() {
    retrained("imputed-5-8-2", "imputed", "the model replaces values of other features than the object");
}

#[test]
fn a_reconstruction_is_retrained() {
    retrained("autoencoder-5-3-5", "autoencoder", "layer 0 has 9 x 5 weights, and the object's 8 x 5");
}

#[test]
fn levels_that_are_not_kept_are_warned_about() {
    let folder = Folder::new();
    for name in ["model", "partly"] {
        folder.copy(&format!("testdata/cases/qdq-5-8-6-2/{name}.onnx"), &format!("{name}.onnx"));
    }
    folder.copy("testdata/cases/qdq-5-8-6-2/qdq.spec", "a.spec");
    folder.succeeds("model.onnx a.spec -o kept.o --report kept.json");
    let levels = |name: &str| -> serde_json::Value {
        let report: serde_json::Value = serde_json::from_str(&folder.text(name)).unwrap();
        report["quantisation"]["levels"].clone()
    };
    assert_eq!(levels("kept.json"), serde_json::json!({ "kept": true, "nearly": 0 }));
    let outcome = folder.run("partly.onnx a.spec -o partly.o --report partly.json");
    assert_eq!(outcome.code, 0, "{}", outcome.stderr);
    for part in [
        "warning[E0331]: the levels",
        "--> partly.onnx: node 6 `fc0` (Gemm)",
        "= note: a value behind",
        "= help: ",
    ] {
        assert!(outcome.stderr.contains(part), "{part}: {}", outcome.stderr);
    }
    let left = levels("partly.json");
    assert_eq!((&left["kept"], &left["node"]), (&false.into(), &"fc0".into()));
    assert!(left["reason"].as_str().unwrap().contains("stays unrounded"), "{left}");
}

#[test]
fn differences_are_measured_for_the_report_only() {
    let folder = Folder::new();
    folder.succeeds("model.onnx cic6.spec -o measured.o --report report.json");
    folder.succeeds("model.onnx cic6.spec -o plain.o");
    assert!(folder.read("measured.o") == folder.read("plain.o"), "the report changes the object");
    let report: serde_json::Value = serde_json::from_str(&folder.text("report.json")).unwrap();
    let quantisation = &report["quantisation"];
    assert!(quantisation["errors"]["rows"].is_u64() && quantisation["precision"]["rows"].is_u64());
}

#[test]
fn a_reconstruction_that_finds_anomalies_only_is_warned_about() {
    let folder = Folder::new();
    folder.copy("testdata/cases/autoencoder-5-3-5/model.onnx", "model.onnx");
    folder.copy("testdata/cases/autoencoder-5-3-5/autoencoder.spec", "a.spec");
    folder.copy("testdata/ids/capture.pcap", "capture.pcap");
    folder.succeeds("extract a.spec capture.pcap -o rows.csv");
    let spec = folder.text("a.spec");
    for (threshold, warned) in [("0.000001", true), ("1000", false)] {
        folder.write("b.spec", spec.replace("l1 > 0.7", &format!("l1 > {threshold}")).as_bytes());
        let outcome = folder.run("model.onnx b.spec --calibrate rows.csv -o a.o");
        assert_eq!(outcome.code, 0, "{}", outcome.stderr);
        assert_eq!(outcome.stderr.contains("warning[E0332]"), warned, "{}", outcome.stderr);
        assert_eq!(outcome.stderr.contains("b.spec:22:"), warned, "{}", outcome.stderr);
    }
}
