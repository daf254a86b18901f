//! Our schema against an independent decoder of the same bytes.

use onnx_protobuf::ModelProto as Independent;
use prost::Message as _;
use protobuf::Message as _;

use super::build::{scaled_6_32_32_2, tiny};
use super::corpus::{corpus, models};
use crate::onnx::schema::ModelProto;

/// Not a number is equal to itself here.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|value| value.to_bits()).collect()
}

fn agree(name: &str, bytes: &[u8]) {
    let ours = ModelProto::decode(bytes).unwrap();
    let theirs = Independent::parse_from_bytes(bytes).unwrap();
    assert_eq!(ours.ir_version(), theirs.ir_version, "{name}");
    let versions: Vec<(&str, i64)> =
        ours.opset_import.iter().map(|import| (import.domain(), import.version())).collect();
    let wanted: Vec<(&str, i64)> =
        theirs.opset_import.iter().map(|import| (import.domain.as_str(), import.version)).collect();
    assert_eq!(versions, wanted, "{name}");
    let (ours, theirs) = (ours.graph.unwrap(), theirs.graph.unwrap());
    assert_eq!(ours.node.len(), theirs.node.len(), "{name}");
    for (our, their) in ours.node.iter().zip(&theirs.node) {
        assert_eq!(
            (our.name(), our.op_type(), our.domain()),
            (&*their.name, &*their.op_type, &*their.domain)
        );
        assert_eq!((&our.input, &our.output), (&their.input, &their.output), "{name}");
        for (our, their) in our.attribute.iter().zip(&their.attribute) {
            assert_eq!(our.name(), their.name);
            // Bits, because an attribute may be NaN.
            assert_eq!(
                (our.i(), our.f().to_bits(), &our.ints),
                (their.i, their.f.to_bits(), &their.ints),
                "{name} {}",
                our.name()
            );
        }
    }
    assert_eq!(ours.initializer.len(), theirs.initializer.len(), "{name}");
    for (our, their) in ours.initializer.iter().zip(&theirs.initializer) {
        assert_eq!((our.name(), &our.dims, our.data_type()), (&*their.name, &their.dims, their.data_type));
        assert_eq!(
            (our.raw_data(), bits(&our.float_data)),
            (their.raw_data.as_slice(), bits(&their.float_data)),
            "{name}"
        );
        assert_eq!((&our.int64_data, &our.int32_data), (&their.int64_data, &their.int32_data), "{name}");
    }
    let names = |list: &[crate::onnx::schema::ValueInfoProto]| -> Vec<String> {
        list.iter().map(|info| info.name().to_owned()).collect()
    };
    let wanted: Vec<String> =
        theirs.input.iter().chain(&theirs.output).map(|info| info.name.clone()).collect();
    assert_eq!([names(&ours.input), names(&ours.output)].concat(), wanted, "{name}");
}

#[test]
fn an_independent_decoder_sees_the_same_model() {
    agree("tiny", &tiny().bytes());
    agree("scaled", &scaled_6_32_32_2().bytes());
}

#[test]
fn an_independent_decoder_sees_the_same_corpus() {
    let Some(folder) = corpus() else {
        eprintln!("SKIP an_independent_decoder_sees_the_same_corpus: ../shared/data/onnx-exports is missing");
        return;
    };
    let models = models(&folder);
    assert!(!models.is_empty());
    for path in models {
        agree(&path.to_string_lossy(), &std::fs::read(&path).unwrap());
    }
}
