//! Recognises by content what people pass by mistake instead of a model.

/// What the bytes are when they are certainly not a model, and what to do about it.
pub(crate) fn not_a_model(bytes: &[u8]) -> Option<(&'static str, &'static str)> {
    let text = bytes.trim_ascii_start();
    let starts = |prefix: &str| {
        text.get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
    };
    if starts("version https://git-lfs") {
        return Some(("a Git LFS pointer", "run `git lfs pull` to fetch the model that it stands for"));
    }
    if starts("<!doctype") || starts("<html") || starts("<?xml") {
        return Some((
            "a web page or XML",
            "download the file itself, for example the `raw` link of the page",
        ));
    }
    if starts("{") || starts("[") {
        return Some(("JSON text", "pass the `.onnx` file that the exporter wrote"));
    }
    if bytes.starts_with(b"PK\x03\x04") {
        return Some((
            "a ZIP archive, such as a PyTorch checkpoint",
            "export the network with `torch.onnx.export(net, (example,), \"model.onnx\")`",
        ));
    }
    if bytes.starts_with(b"\x80\x02") || bytes.starts_with(b"\x80\x04") || bytes.starts_with(b"\x80\x05") {
        return Some((
            "a Python pickle",
            "export the estimator with `skl2onnx.to_onnx`, or the network with `torch.onnx.export`",
        ));
    }
    if bytes.starts_with(b"\x89HDF") {
        return Some(("an HDF5 file, such as a Keras model", "convert it with `tf2onnx.convert.from_keras`"));
    }
    if bytes.get(4..8) == Some(b"TFL3") {
        return Some(("a TFLite model", "convert it with `python -m tf2onnx.convert --tflite`"));
    }
    if bytes.starts_with(b"\x7fELF") {
        return Some(("an ELF object", "pass the `.onnx` file, not a compiled object"));
    }
    if bytes.starts_with(b"\x1f\x8b") {
        return Some(("a gzip file", "unpack it first: `gunzip`"));
    }
    None
}
