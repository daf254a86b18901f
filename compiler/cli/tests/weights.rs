//! `nnbpfc --weights const` as a user calls it.

#![expect(clippy::unwrap_used, reason = "a panic is how a test fails")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn nnbpfc(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_nnbpfc")).args(arguments).output().unwrap()
}

fn done(arguments: &[&str]) -> String {
    let output = nnbpfc(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "nnbpfc {arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn constants_are_inspected_and_never_updated() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let model = repository("testdata/cases/dsn24-6-32-32-2/model.onnx").display().to_string();
    let spec = repository("specs/dsn24.spec").display().to_string();
    for (weights, split) in [("map", "auto"), ("const", "auto"), ("const", "layer")] {
        let object = file(&format!("{weights}-{split}.o"));
        done(&[&model, &spec, "-o", &object, "--weights", weights, "--split", split]);
        let text = done(&["inspect", &object]);
        let constant = weights == "const";
        assert_eq!(text.contains("parameters   constants in the code, plan "), constant, "{text}");
        assert_eq!(text.contains("parameters   2 slots of "), !constant, "{text}");
        assert_eq!(text.contains(".data.nn_params"), !constant, "{text}");
        assert_eq!(text.contains("nn_layer0"), split == "layer", "{text}");
        let json: serde_json::Value = serde_json::from_str(&done(&["inspect", &object, "--json"])).unwrap();
        assert_eq!(json.pointer("/metadata/weights").unwrap(), weights);

        let parameters = file("new.params");
        let output = nnbpfc(&[&model, &spec, "-o", &parameters, "--like", &object]);
        assert_eq!(output.status.code(), Some(i32::from(constant)));
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(error.starts_with("error[E0708]"), constant, "{error}");
        assert_eq!(error.contains(&format!("--> {object}")), constant, "{error}");
        assert_eq!(
            error.contains("= help: compile the retrained model to a new object"),
            constant,
            "{error}"
        );
        assert_eq!(Path::new(&parameters).exists(), !constant);
        let _removed = std::fs::remove_file(&parameters);
    }
}
