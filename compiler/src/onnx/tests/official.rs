//! The format's own tests of single nodes (PyPI `onnx` 1.22.0, not part of this repository) through the float model.
//!
//! `NNBPF_ONNX_NODE_TESTS` names their folder, `onnx/backend/test/data/node` of the installed package.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use prost::Message as _;

use super::build::Builder;
use super::corpus::{Meaning, expected};
use crate::model::Head;
use crate::onnx::schema::{ModelProto, NodeProto, TensorProto, data_type};
use crate::onnx::tensor::{Tensor, decode};
use crate::onnx::{NoFiles, import, ops};

/// Operators that treat every element alike, whatever the shape.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Add",
    "Binarizer",
    "Cast",
    "Celu",
    "Clip",
    "DequantizeLinear",
    "Div",
    "Dropout",
    "Elu",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "QuantizeLinear",
    "Relu",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Softplus",
    "Softsign",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];
/// At least so many tests are expected to run.
const LEAST: usize = 161;

fn stored(path: &Path) -> Option<(TensorProto, Tensor)> {
    let proto = TensorProto::decode(std::fs::read(path).ok()?.as_slice()).ok()?;
    let tensor = decode(&proto, None).ok()?;
    Some((proto, tensor))
}

/// Whether a model's input may be of this type, and whether it then is of integers.
const fn input_kind(kind: i32) -> Option<bool> {
    match kind {
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 => Some(false),
        data_type::UINT8 | data_type::INT8 | data_type::UINT16 | data_type::INT16 => Some(true),
        _ => None,
    }
}

/// Where scale and zero point of the output are, for operators that round it.
fn rounding(operator: &str) -> Option<usize> {
    match operator {
        "QuantizeLinear" => Some(1),
        "QLinearMatMul" => Some(6),
        _ => None,
    }
}

/// The numbers that the wanted integers stand for: that is what a model's output shows.
fn dequantised(operator: &str, folder: &Path, wanted: &[f64]) -> Result<Vec<f64>, String> {
    let Some(scale) = rounding(operator) else { return Ok(wanted.to_vec()) };
    let only =
        |index: usize| -> Option<f64> { stored(&folder.join(format!("input_{index}.pb")))?.1.single() };
    let scale_of = only(scale).ok_or("a scale for each channel of data")?;
    let zero = only(scale + 1).unwrap_or(0.0);
    Ok(wanted.iter().map(|integer| (integer - zero) * scale_of).collect())
}

/// A test of an operator on a constant: a model that adds the result to zeros.
fn constant_case(folder: &Path) -> Result<Case, String> {
    let bytes = std::fs::read(folder.join("model.onnx")).map_err(|error| error.to_string())?;
    let proto = ModelProto::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
    let graph = proto.graph.clone().ok_or("no graph")?;
    let node = graph.node.first().ok_or("no node")?;
    let data = folder.join("test_data_set_0");
    let (_, wanted) = stored(&data.join("output_0.pb")).ok_or("its output is no tensor that is read")?;
    let wanted = wanted.numbers().ok_or("texts")?;
    let side = i64::try_from(wanted.len()).unwrap();
    let identity: Vec<f32> =
        (0..side * side).map(|at| if at % (side + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let mut model = Builder::new()
        .input("data", &[0, side])
        .weight("identity", &[side, side], &identity)
        .integers("flat", &[1, -1])
        .node("MatMul", &["data", "identity"], "layer");
    model.0.opset_import.clone_from(&proto.opset_import);
    model.graph().node.push(node.clone());
    for (index, input) in graph.input.iter().enumerate() {
        let (mut stored, _) = stored(&data.join(format!("input_{index}.pb")))
            .ok_or("an input that is no tensor that is read")?;
        stored.name = Some(input.name().to_owned());
        model.graph().initializer.push(stored);
    }
    let output = node.output.first().cloned().ok_or("no output")?;
    let model = model
        .node("Cast", &[&output], "float")
        .int("to", 1)
        .node("Reshape", &["float", "flat"], "row")
        .node("Add", &["layer", "row"], "sum")
        .output("sum");
    Ok(Case { model, rows: vec![0.0; wanted.len()], wanted, operator: "Add".to_owned() })
}

/// One test, put into a model; the reason to leave it out otherwise.
struct Case {
    model: Builder,
    rows: Vec<f64>,
    wanted: Vec<f64>,
    operator: String,
}

fn case(folder: &Path) -> Result<Case, String> {
    let bytes = std::fs::read(folder.join("model.onnx")).map_err(|error| error.to_string())?;
    let proto = ModelProto::decode(bytes.as_slice()).map_err(|error| error.to_string())?;
    let graph = proto.graph.clone().ok_or("no graph")?;
    let [node] = graph.node.as_slice() else { return Err("several nodes".to_owned()) };
    let data = folder.join("test_data_set_0");
    let (_, x) = stored(&data.join("input_0.pb")).ok_or("its data is no tensor")?;
    let (_, wanted) = stored(&data.join("output_0.pb")).ok_or("its output is no tensor")?;
    let (Some(rows), Some(wanted)) = (x.numbers(), wanted.numbers()) else { return Err("texts".to_owned()) };
    let mut constants = Vec::new();
    for (index, input) in graph.input.iter().enumerate().skip(1) {
        let (proto, tensor) =
            stored(&data.join(format!("input_{index}.pb"))).ok_or("a constant that is no tensor")?;
        constants.push((input.name().to_owned(), proto, tensor));
    }
    let dims = shape(node, &x.dims, &mut constants);
    let width = *dims.last().ok_or("a single number")?;
    let identity: Vec<f32> =
        (0..width * width).map(|at| if at % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
    let signed: Vec<i64> = dims.iter().map(|&dim| i64::try_from(dim).unwrap()).collect();
    // More than one row are a batch.
    let declared: Vec<i64> = match signed.as_slice() {
        [_, rest @ ..] if !rest.is_empty() => std::iter::once(0).chain(rest.iter().copied()).collect(),
        whole => whole.to_vec(),
    };
    let side = i64::try_from(width).unwrap();
    let elements = graph.input.first().and_then(|input| input.r#type.as_ref()?.tensor_type.as_ref());
    let elements = elements.map_or(0, |tensor| tensor.elem_type());
    let integers = input_kind(elements).ok_or("not of floats")?;
    if integers && !matches!(node.op_type(), "DequantizeLinear" | "QLinearMatMul") {
        return Err("not of floats".to_owned());
    }
    let target = node.attribute.iter().find(|attribute| attribute.name() == "to").map(|own| own.i());
    if matches!(target, Some(to) if to == i64::from(data_type::FLOAT16) || to == i64::from(data_type::BFLOAT16))
    {
        return Err("data is not rounded to half precision".to_owned());
    }
    let wanted = dequantised(node.op_type(), &data, &wanted)?;
    let mut own = node.clone();
    let mut output = own.output.first().cloned().ok_or("no output")?;
    let mut model = Builder::new().input("data", &declared).weight("identity", &[side, side], &identity);
    model.0.opset_import.clone_from(&proto.opset_import);
    if integers {
        let input = model.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        input.elem_type = Some(elements);
        own.input[0] = "data".to_owned();
        model.graph().node.push(own);
        if node.op_type() == "DequantizeLinear" {
            model = model.node("MatMul", &[&output, "identity"], "layer");
            output = "layer".to_owned();
        }
    } else {
        model = model.node("MatMul", &["data", "identity"], "layer");
        own.input[0] = "layer".to_owned();
        model.graph().node.push(own);
    }
    for (name, mut proto, tensor) in constants {
        proto.name = Some(name);
        proto.dims = tensor.dims.iter().map(|&dim| i64::try_from(dim).unwrap()).collect();
        model.graph().initializer.push(proto);
    }
    Ok(Case { model: model.output(&output), rows, wanted, operator: node.op_type().to_owned() })
}

/// The shape that the data gets: one vector for element-wise operators, with constants of the same shape.
fn shape(node: &NodeProto, dims: &[usize], constants: &mut [(String, TensorProto, Tensor)]) -> Vec<usize> {
    if !ELEMENTWISE.contains(&node.op_type()) {
        return dims.to_vec();
    }
    let count: usize = dims.iter().product();
    let last = dims.last().copied().unwrap_or(1);
    if constants.iter().all(|(_, _, tensor)| tensor.len() == 1 || tensor.dims == dims) {
        for (_, _, tensor) in constants.iter_mut().filter(|(_, _, tensor)| tensor.dims == dims) {
            tensor.dims = vec![count];
        }
        return vec![count];
    }
    if constants.iter().all(|(_, _, tensor)| tensor.len() == 1 || tensor.dims == [last]) {
        return vec![count / last.max(1), last];
    }
    dims.to_vec()
}

/// Runs a test; the reason when the importer refuses it.
fn run(case: &Case) -> Result<(), String> {
    let model = import("model.onnx", &case.model.bytes(), &NoFiles)
        .map_err(|reasons| format!("refused, {}: {}", reasons[0].code.id, reasons[0].message))?;
    let width = model.input_count();
    let values = model.batch_outputs_f64(&case.rows);
    let meaning = match case.operator.as_str() {
        "Softmax" => Meaning::Softmax,
        "LogSoftmax" => Meaning::LogSoftmax,
        "Sigmoid" => Meaning::Each,
        "ArgMax" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" => Meaning::Label,
        _ => Meaning::Raw,
    };
    let got: Vec<f64> = values
        .chunks_exact(model.output_count())
        .flat_map(|row| match (meaning, case.operator.as_str()) {
            (Meaning::Label, "ArgMax") => vec![model.first.head.label(row).unwrap() as f64],
            (Meaning::Label, "Sign") => row.iter().map(|value| value.signum()).collect(),
            (Meaning::Label, _) => row.iter().map(|value| f64::from(u8::from(*value > 0.0))).collect(),
            _ => expected(meaning, row),
        })
        .collect();
    assert_eq!(case.rows.len() % width, 0);
    assert_eq!(got.len(), case.wanted.len(), "{}", case.operator);
    for (got, wanted) in got.iter().zip(&case.wanted) {
        let bound = 1e-5 * wanted.abs().max(1.0);
        assert!((got - wanted).abs() <= bound, "{}: {got} for {wanted}", case.operator);
    }
    assert_ne!(model.first.head, Head::OneVersusRest { normalised: true }, "no single node makes one");
    Ok(())
}

#[test]
fn official_tests_of_single_nodes_pass() {
    let Some(folder) = std::env::var_os("NNBPF_ONNX_NODE_TESTS").map(PathBuf::from) else {
        eprintln!("SKIP official_tests_of_single_nodes_pass: NNBPF_ONNX_NODE_TESTS is not set");
        return;
    };
    let mut names: Vec<PathBuf> =
        std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    let mut passed = 0;
    let mut left_out: BTreeMap<String, usize> = BTreeMap::new();
    for path in names {
        let Ok(bytes) = std::fs::read(path.join("model.onnx")) else { continue };
        let Ok(proto) = ModelProto::decode(bytes.as_slice()) else { continue };
        let Some(graph) = proto.graph.as_ref() else { continue };
        let accepted = graph
            .node
            .iter()
            .all(|node| ops::find(ops::canonical_domain(node.domain()), node.op_type()).is_some());
        if !accepted || graph.node.len() != 1 {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut results = vec![(name.clone(), case(&path).and_then(|case| run(&case)))];
        if matches!(graph.node[0].op_type(), "QuantizeLinear" | "DequantizeLinear" | "Cast") {
            results.push((format!("{name}, constant"), constant_case(&path).and_then(|case| run(&case))));
        }
        for (name, result) in results {
            match result {
                Ok(()) => {
                    passed += 1;
                    eprintln!("{name}: passed");
                }
                Err(reason) => {
                    eprintln!("{name}: left out, {reason}");
                    *left_out.entry(reason).or_default() += 1;
                }
            }
        }
    }
    let count: usize = left_out.values().sum();
    eprintln!("{passed} tests pass, {count} are left out");
    assert!(passed >= LEAST, "only {passed} tests ran");
}
