//! Bad input: every refusal names code, place and help, leaves no file behind, and reads as it did before.

use super::common::{Folder, assert_golden, assert_refused};

/// Runs in a folder that `prepare` has changed; nothing may be added to it.
fn refused(name: &str, arguments: &str, prepare: impl Fn(&Folder)) {
    let folder = Folder::new();
    prepare(&folder);
    let before = folder.content();
    let outcome = folder.run(arguments);
    assert_refused(&outcome, name);
    assert_eq!(folder.content(), before, "{name} left something behind");
    assert_golden(name, &outcome.stderr);
}

const COMPILE: &str = "model.onnx cic6.spec -o out.o";

fn model(name: &str, change: impl Fn(Vec<u8>) -> Vec<u8>) {
    refused(name, COMPILE, |folder| folder.write("model.onnx", &change(folder.read("model.onnx"))));
}

/// Replaces every occurrence by as many bytes.
fn replace(mut bytes: Vec<u8>, from: &[u8], to: &[u8]) -> Vec<u8> {
    assert_eq!(from.len(), to.len());
    let places: Vec<usize> = (0..bytes.len()).filter(|place| bytes[*place..].starts_with(from)).collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to);
    }
    bytes
}

#[test]
fn models() {
    model("model-empty", |_| Vec::new());
    model("model-truncated", |bytes| bytes[..bytes.len() / 2].to_vec());
    model("model-html", |_| b"<!DOCTYPE html><html><body>404</body></html>".to_vec());
    model("model-lfs", |_| b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n".to_vec());
    model("model-text", |_| b"import torch\n".to_vec());
    // The first mean of the scaler.
    let mean = 8000f32.to_le_bytes();
    model("model-nan", |bytes| replace(bytes, &mean, &f32::NAN.to_le_bytes()));
    model("model-infinite", |bytes| replace(bytes, &mean, &f32::INFINITY.to_le_bytes()));
    model("model-operator", |bytes| replace(bytes, b"Relu", b"Conv"));
    refused("model-missing", "nowhere.onnx cic6.spec -o out.o", |_| {});
    refused("model-directory", ". cic6.spec -o out.o", |_| {});
    refused("model-features", COMPILE, |folder| {
        folder.copy("testdata/cases/tiny-2-3-2/model.onnx", "model.onnx");
    });
    refused("model-regressor", COMPILE, |folder| {
        folder.copy("testdata/cases/regressor-4-8-1/model.onnx", "model.onnx");
        // With two labels, a single output would be a classifier.
        let text = folder.text("cic6.spec").replace("benign, attack", "benign, attack, other");
        folder.write("cic6.spec", text.as_bytes());
    });
}

#[test]
fn specifications() {
    refused("spec-missing", "model.onnx nowhere.spec -o out.o", |_| {});
    refused("spec-empty", COMPILE, |folder| folder.write("cic6.spec", b""));
    refused("spec-binary", COMPILE, |folder| folder.write("cic6.spec", &[0xff, 0xfe, 0, 1]));
    refused("spec-mistakes", COMPILE, |folder| {
        let text = folder.text("cic6.spec");
        let text = text.replace("l4.dst_port", "l4.destination").replace("120 s", "120 sec");
        folder.write("cic6.spec", text.replace("attack when", "atack when").as_bytes());
    });
    refused("swapped", "cic6.spec model.onnx -o out.o", |_| {});
    refused("both", "nowhere.onnx nowhere.spec -o out.o", |_| {});
    refused("model-and-spec", COMPILE, |folder| {
        folder.write("model.onnx", b"");
        folder.write("cic6.spec", b"spec cic6 v1");
    });
}

#[test]
fn rows() {
    let calibrated = "model.onnx cic6.spec -o out.o --calibrate rows.csv";
    refused("rows-missing", "model.onnx cic6.spec -o out.o --calibrate nowhere.csv", |_| {});
    refused("rows-column", calibrated, |folder| folder.write("rows.csv", b"dst_port,fwd_packets\n80,4\n"));
    refused("rows-cells", calibrated, |folder| {
        let header = "dst_port,fwd_packets,fwd_bytes,fwd_len_min,fwd_len_max,fwd_len_std\n";
        let rows = "80,4,x,0,400,12.5\n80,,800,0,nan,12.5\n80,4,800,0,400,1e400000\n80,4\n";
        folder.write("rows.csv", format!("{header}{rows}").as_bytes());
    });
    refused("rows-empty", "eval model.onnx cic6.spec --features rows.csv --engine ir -o out.csv", |folder| {
        folder.write("rows.csv", b"");
    });
    refused("rows-position", "eval model.onnx --features rows.csv --engine ir -o out.csv", |folder| {
        folder.write("rows.csv", b"1,2,3\n");
    });
}

#[test]
fn captures() {
    let replay = "replay model.onnx cic6.spec capture.pcap --engine ir -o out.csv";
    refused("capture-missing", replay, |_| {});
    let swept = "replay model.onnx cic6.spec capture.pcap --sweep 1 --engine ir -o out.csv";
    refused("replay-sweep", swept, |folder| folder.copy("testdata/ids/capture.pcap", "capture.pcap"));
    refused("capture-spec", "replay model.onnx cic6.spec cic6.spec --engine ir -o out.csv", |_| {});
    refused("capture-empty", "extract cic6.spec capture.pcap -o out.csv", |folder| {
        folder.write("capture.pcap", b"");
    });
    refused("capture-header", replay, |folder| folder.write("capture.pcap", &[0xd4, 0xc3, 0xb2, 0xa1, 2]));
    refused("capture-raw", replay, |folder| {
        // Little endian, version 2.4, raw IP.
        let header = [0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 101, 0, 0, 0];
        folder.write("capture.pcap", &header);
    });
    refused("extract-spec", "extract model.onnx cic6.spec -o out.csv", |_| {});
}

#[test]
fn flags() {
    for (name, flags) in [
        ("flag-flips", "--max-flips many"),
        ("flag-share", "--max-flips 101%"),
        ("flag-kernel", "--kernel six"),
        ("flag-old-kernel", "--kernel 5.4"),
        ("flag-flows-kernel", "--kernel 5.10"),
    ] {
        refused(name, &format!("{COMPILE} {flags}"), |_| {});
    }
}

#[test]
fn objects() {
    refused("inspect-missing", "inspect nowhere.o", |_| {});
    refused("inspect-model", "inspect model.onnx", |_| {});
    refused("inspect-empty", "inspect empty.o", |folder| folder.write("empty.o", b""));
    refused("inspect-truncated", "inspect short.o", |folder| {
        folder.succeeds("model.onnx cic6.spec -o whole.o");
        let bytes = folder.read("whole.o");
        folder.write("short.o", &bytes[..bytes.len() / 2]);
    });
}

#[test]
fn places_that_cannot_be_written() {
    refused("output-folder", "model.onnx cic6.spec -o missing/out.o", |_| {});
    refused("output-full", "model.onnx cic6.spec -o /dev/full", |_| {});
    refused(
        "output-eval",
        "eval model.onnx cic6.spec --features rows.csv --engine ir -o missing/out",
        |_| {},
    );
    refused("output-is-folder", "model.onnx cic6.spec -o folder", |folder| {
        std::fs::create_dir(folder.path("folder")).unwrap();
    });
}
