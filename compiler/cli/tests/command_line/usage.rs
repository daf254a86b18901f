//! Wrong usage has status 2; asking for help or the version has status 0.

use super::common::Folder;

#[test]
fn wrong_usage_is_told_apart_from_refused_input() {
    let folder = Folder::new();
    for arguments in [
        "",
        "model.onnx",
        "model.onnx cic6.spec",
        "-o out.o",
        "model.onnx cic6.spec -o out.o --no-such-flag",
        "model.onnx cic6.spec -o out.o --split sometimes",
        "model.onnx cic6.spec extra -o out.o",
        "eval model.onnx --features rows.csv -o out.csv",
        "eval model.onnx --features rows.csv --engine gpu -o out.csv",
        "eval model.onnx --engine ir -o out.csv",
        "replay model.onnx cic6.spec --engine ir -o out.csv",
        "replay model.onnx cic6.spec capture.pcap --engine float -o out.csv",
        "extract cic6.spec -o out.csv",
        "inspect",
        "bench",
        "explore",
    ] {
        let before = folder.content();
        let outcome = folder.run(arguments);
        assert_eq!(outcome.code, 2, "nnbpfc {arguments}: {}", outcome.stderr);
        assert!(outcome.stderr.contains("--help"), "nnbpfc {arguments}: {}", outcome.stderr);
        assert_eq!(folder.content(), before, "nnbpfc {arguments}");
    }
}

#[test]
fn help_and_version_are_answers() {
    let folder = Folder::new();
    for arguments in ["--help", "--version", "eval --help", "replay --help", "bench --help", "inspect --help"]
    {
        let outcome = folder.succeeds(arguments);
        assert!(!outcome.stdout.is_empty());
    }
}
