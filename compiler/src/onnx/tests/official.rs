//! The format's own tests of single nodes (PyPI `onnx` 1.22.0, not part of this repository) through the float model.
//!
//! `NNBPF_ONNX_NODE_TESTS` names their folder, `onnx/backend/test/data/node` of the installed package. Each test is tried
//! with its first input as the data of a model (`official_cases`) and, where that cannot be, with all inputs as constants.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::corpus::{Meaning, expected};
use super::official_cases::{Case, constant_case, data_case};
use crate::model::Head;
use crate::onnx::schema::{ModelProto, NodeProto, OperatorSetIdProto, TensorProto, data_type};
use crate::onnx::tensor::{Tensor, decode_any};
use crate::onnx::{NoFiles, import, ops};

/// At least so many tests are expected to pass.
const LEAST: usize = 450;
/// Operators that are accepted in forms that no official test has, and where else they are tested.
const ELSEWHERE: &[&str] = &[
    // As part of Gelu: `curves`.
    "Erf",
    // Of leaves of trees: `leaves`.
    "IsNaN",
    // Of probabilities: `linear`.
    "LpNormalization",
];

/// An input of a test.
pub(super) struct Given {
    pub(super) name: String,
    pub(super) proto: TensorProto,
    pub(super) tensor: Tensor,
}

/// A test as it is stored.
pub(super) struct Stored {
    pub(super) node: NodeProto,
    pub(super) opsets: Vec<OperatorSetIdProto>,
    pub(super) inputs: Vec<Given>,
    pub(super) wanted: Tensor,
}

fn tensor(path: &Path, what: &str) -> Result<(TensorProto, Tensor), String> {
    let bytes = std::fs::read(path).map_err(|error| format!("{what} is not there: {error}"))?;
    let proto = TensorProto::decode(bytes.as_slice()).map_err(|_| format!("{what} is no tensor"))?;
    if proto.data_type() == 0 {
        return Err(format!("{what} is a sequence or an optional value, no tensor"));
    }
    let name = data_type::name(proto.data_type());
    // What is stored for a sequence or an optional value decodes to something that has no such shape.
    let tensor = decode_any(&proto, None).map_err(|_| match name.as_str() {
        "float8" | "float4" | "complex64" | "complex128" => {
            format!("{what} is of type {name}, which is not read")
        }
        _ => format!("{what} is no tensor of {name}"),
    })?;
    Ok((proto, tensor))
}

fn stored(folder: &Path, proto: &ModelProto) -> Result<Stored, String> {
    let graph = proto.graph.as_ref().ok_or("no graph")?;
    let [node] = graph.node.as_slice() else { return Err("several nodes".to_owned()) };
    let data = folder.join("test_data_set_0");
    let mut inputs = Vec::new();
    for (index, input) in
        graph.input.iter().enumerate().filter(|(_, input)| node.input.contains(&input.name().to_owned()))
    {
        let (proto, tensor) = tensor(&data.join(format!("input_{index}.pb")), &format!("input {index}"))?;
        inputs.push(Given { name: input.name().to_owned(), proto, tensor });
    }
    let (_, wanted) = tensor(&data.join("output_0.pb"), "the output")?;
    // Operators of which this version is no other than that of the oldest set that is read.
    let mut opsets = proto.opset_import.clone();
    for opset in opsets.iter_mut().filter(|opset| opset.domain().is_empty()) {
        opset.version = opset.version.map(|version| version.max(8));
    }
    Ok(Stored { node: node.clone(), opsets, inputs, wanted })
}

/// Runs a test; the reason when the importer refuses it.
fn run(case: &Case) -> Result<(), String> {
    let model = import("model.onnx", &case.model.bytes(), &NoFiles)
        .map_err(|reasons| format!("refused, {}: {}", reasons[0].code.id, reasons[0].message))?;
    let width = model.input_count();
    let values = model.batch_outputs_f64(&case.rows);
    let operator = case.operator.as_str();
    let meaning = match operator {
        "Softmax" => Meaning::Softmax,
        "LogSoftmax" => Meaning::LogSoftmax,
        "Sigmoid" => Meaning::Each,
        "ArgMax" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "And" | "Or" | "Not" => {
            Meaning::Label
        }
        _ => Meaning::Raw,
    };
    let got: Vec<f64> = values
        .chunks_exact(model.output_count())
        .flat_map(|row| match (meaning, operator) {
            (Meaning::Label, "ArgMax") => vec![model.first.head.label(row).unwrap() as f64],
            // At exactly zero a label is that of a strict comparison; the number says what was compared.
            (Meaning::Label, "GreaterOrEqual" | "LessOrEqual") => {
                row.iter().map(|value| f64::from(u8::from(*value >= 0.0))).collect()
            }
            (Meaning::Label, _) => row.iter().map(|value| f64::from(u8::from(*value > 0.0))).collect(),
            _ => expected(meaning, row),
        })
        .collect();
    assert_eq!(case.rows.len() % width, 0);
    assert_eq!(got.len(), case.wanted.len(), "{operator}");
    for (got, wanted) in got.iter().zip(&case.wanted) {
        let bound = case.bound * wanted.abs().max(1.0);
        assert!((got - wanted).abs() <= bound, "{operator}: {got} for {wanted}");
    }
    assert_ne!(model.first.head, Head::OneVersusRest { normalised: true }, "no single node makes one");
    Ok(())
}

#[test]
fn official_tests_of_single_nodes_pass() {
    let Some(folder) = std::env::var_os("NNBPF_ONNX_NODE_TESTS").map(PathBuf::from) else {
        eprintln!(
            "SKIP official_tests_of_single_nodes_pass: NNBPF_ONNX_NODE_TESTS is not set (xtask/scripts/install.sh test fetches them)"
        );
        return;
    };
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut passed = 0;
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    let (mut seen, mut covered) = (BTreeSet::new(), BTreeSet::new());
    for path in names {
        let Ok(bytes) = std::fs::read(path.join("model.onnx")) else { continue };
        let Ok(proto) = ModelProto::decode(bytes.as_slice()) else { continue };
        let Some([node]) = proto.graph.as_ref().map(|graph| graph.node.as_slice()) else { continue };
        let operator = node.op_type().to_owned();
        if ops::find(ops::canonical_domain(node.domain()), &operator).is_none() {
            continue;
        }
        seen.insert(operator.clone());
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let result = stored(&path, &proto).and_then(|stored| {
            let as_data = data_case(&stored).and_then(|case| run(&case));
            let as_constants = || constant_case(&stored).and_then(|case| run(&case));
            // Operators that have two lives are tested in both.
            if as_data.is_ok() && !matches!(operator.as_str(), "QuantizeLinear" | "DequantizeLinear" | "Cast")
            {
                return Ok("as data");
            }
            match (as_data, as_constants()) {
                (Ok(()), Ok(())) => Ok("as data and as constants"),
                (Ok(()), Err(_)) => Ok("as data"),
                (Err(_), Ok(())) => Ok("as constants"),
                (Err(reason), Err(other)) if reason == other => Err(reason),
                (Err(reason), Err(other)) => Err(format!("{reason}; as constants: {other}")),
            }
        });
        match result {
            Ok(how) => {
                passed += 1;
                covered.insert(operator);
                eprintln!("{name}: passed {how}");
            }
            Err(reason) => {
                eprintln!("{name}: left out, {reason}");
                *left_out.entry(reason).or_default() += 1;
            }
        }
    }
    let count: usize = left_out.values().sum();
    let bare: Vec<&String> = seen.difference(&covered).collect();
    eprintln!("{passed} tests pass, {count} are left out; accepted operators of which none passes: {bare:?}");
    assert!(passed >= LEAST, "only {passed} tests pass");
    let known: Vec<&String> = bare.into_iter().filter(|name| !ELSEWHERE.contains(&name.as_str())).collect();
    assert!(known.is_empty(), "no official test of these passes: {known:?}");
}
