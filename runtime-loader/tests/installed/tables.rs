//! Retrained models with tables and with their author's integers, straight to the installed object's parameters.

use nnbpf_compiler::compile::{self, Named, Sources};
use nnbpf_compiler::ir::Op;
use nnbpf_compiler::onnx::NoFiles;
use nnbpf_compiler::params::slot;
use nnbpf_compiler::quant::{Options, plan_of};
use nnbpf_compiler::spec::Surroundings;

use crate::setup::{Setup, refusal};
use crate::{built, common};

/// A committed model with its specification, one that was retrained, and one that does not fit.
struct Models {
    name: &'static str,
    spec: &'static str,
    model: &'static [u8],
    retrained: &'static [u8],
    other: &'static [u8],
}

macro_rules! models {
    ($folder:literal, $spec:literal) => {
        Models {
            name: $spec,
            spec: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/../testdata/cases/",
                $folder,
                "/",
                $spec,
                ".spec"
            )),
            model: models!(@ $folder, "/model.onnx"),
            retrained: models!(@ $folder, "/retrained.onnx"),
            other: models!(@ $folder, "/other.onnx"),
        }
    };
    (@ $folder:literal, $file:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../testdata/cases/", $folder, $file))
    };
}

impl Models {
    /// The slot of the retrained model in the plan of the object.
    fn expected(&self, options: &Options) -> Vec<u8> {
        let sources = Sources {
            model: Named { name: "retrained.onnx", bytes: self.retrained },
            spec: Some(Named { name: "gate.spec", bytes: self.spec.as_bytes() }),
            calibration: None,
            surroundings: Surroundings::default(),
            resolver: &NoFiles,
        };
        slot::bytes(compile::plan(&sources, options).unwrap().network.get())
    }

    /// Loads the object, updates it from the retrained model, and tries the other one.
    fn update(&self) {
        let mut setup = Setup::new(self.name);
        setup.plan = built::plan_of(self.model, self.spec);
        let network = setup.plan.network.get();
        assert!(network.ops.iter().any(|op| matches!(op, Op::Table(_))));
        let options = Options { like: Some(plan_of(network)), ..Options::default() };
        let (first, expected) = (slot::bytes(network), self.expected(&options));
        assert_ne!(first, expected);
        std::fs::write(setup.object(), built::object(&setup.plan)).unwrap();
        setup.load(&[]);
        assert_eq!(setup.status().history.last().unwrap().slot, first);

        let path = setup.file("new.onnx");
        std::fs::write(&path, self.retrained).unwrap();
        assert_eq!(setup.done(&["update", &path]), "generation 2: slot 1 is active\n");
        assert_eq!(setup.status().history.last().unwrap().slot, expected);

        std::fs::write(&path, self.other).unwrap();
        let error = refusal(&setup.run(&["update", &path]));
        assert!(error.contains("E0312"), "{error}");
        let status = setup.status();
        assert_eq!((status.generation, &status.history.last().unwrap().slot), (2, &expected));
    }
}

#[test]
fn a_curved_model_is_retrained() {
    if common::skip("a_curved_model_is_retrained") {
        return;
    }
    models!("tanh-5-8-6-2", "tanh").update();
}

#[test]
fn a_model_of_its_authors_integers_is_retrained() {
    if common::skip("a_model_of_its_authors_integers_is_retrained") {
        return;
    }
    models!("qtanh-5-6-1", "qtanh").update();
}
