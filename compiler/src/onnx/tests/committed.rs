//! The committed models are what the builders write; `BLESS=1` writes them.

use std::path::Path;

use super::build::{scaled_6_32_32_2, tiny};
use crate::onnx::{NoFiles, import};

#[test]
fn committed_models_are_current() {
    let cases = Path::new(env!("CARGO_MANIFEST_DIR")).join("../testdata/cases");
    let models = [("tiny-2-3-2", tiny()), ("scaled-6-32-32-2", scaled_6_32_32_2())];
    for (name, builder) in models {
        let path = cases.join(name).join("model.onnx");
        let bytes = builder.bytes();
        if std::env::var_os("BLESS").is_some() {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &bytes).unwrap();
        }
        let committed = std::fs::read(&path).expect("a committed model; write it with BLESS=1");
        assert!(committed == bytes, "{name} differs from its builder; write it with BLESS=1");
        assert!(import(name, &committed, &NoFiles).is_ok());
    }
}
