//! How an official test of a single node becomes a model over rows of features, or one of constants.
//!
//! Element-wise operators see their data in rows of any width, reductions have the axes that they reduce as features.
//! Numbers that are not finite are left out where every element stands for itself, because features always are.

use super::build::Builder;
use super::official::{Given, Stored};
use crate::onnx::schema::{AttributeProto, NodeProto, TensorProto, data_type};
use crate::onnx::tensor::Tensor;

/// Operators that treat every element alike, whatever the shape.
const ELEMENTWISE: &[&str] = &[
    "Abs",
    "Add",
    "Binarizer",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Div",
    "Dropout",
    "Elu",
    "Equal",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsNaN",
    "LeakyRelu",
    "Less",
    "LessOrEqual",
    "Log",
    "Max",
    "Mean",
    "Min",
    "Mish",
    "Mul",
    "Neg",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Sub",
    "Sum",
    "Swish",
    "Tanh",
    "ThresholdedRelu",
];
/// Operators over some axes, with what they work on without a word about axes.
const ALONG: &[(&str, Axes)] = &[
    ("ReduceL1", Axes::All),
    ("ReduceMax", Axes::All),
    ("ReduceMean", Axes::All),
    ("ReduceMin", Axes::All),
    ("ReduceSum", Axes::All),
    ("ReduceSumSquare", Axes::All),
    ("Softmax", Axes::Only(-1)),
    ("LogSoftmax", Axes::Only(-1)),
    ("LpNormalization", Axes::Only(-1)),
    ("ArgMax", Axes::Only(0)),
    ("ArgMin", Axes::Only(0)),
];
/// Widest row of which every element has a constant of its own.
const WIDEST: usize = 1024;
/// Widest row otherwise.
const COMFORTABLE: usize = 64;

#[derive(Clone, Copy)]
enum Axes {
    All,
    Only(i64),
}

/// One test, put into a model.
pub(super) struct Case {
    pub(super) model: Builder,
    pub(super) rows: Vec<f64>,
    pub(super) wanted: Vec<f64>,
    pub(super) operator: String,
    /// How far, relative to numbers above one, results may lie from the reference's.
    pub(super) bound: f64,
}

/// A test whose first input is the data; the reason where it has no such form.
pub(super) fn data_case(test: &Stored) -> Result<Case, String> {
    let operator = test.node.op_type();
    let first = test.inputs.first().ok_or("it has no input")?;
    if first.tensor.numbers().is_none() || test.wanted.numbers().is_none() {
        return Err("texts are no data".to_owned());
    }
    if let Some(kind) = attribute(&test.node, "to").map(AttributeProto::i) {
        let half = [data_type::FLOAT16, data_type::BFLOAT16].map(i64::from).contains(&kind);
        if operator == "Cast" && half {
            return Err("data is not rounded to half precision".to_owned());
        }
    }
    match operator {
        _ if ELEMENTWISE.contains(&operator) => elementwise(test, first),
        "And" | "Or" | "Xor" | "Not" | "Where" => logical(test, first),
        "TreeEnsemble" | "TreeEnsembleRegressor" | "TreeEnsembleClassifier" => direct(test, first),
        "BatchNormalization" => along(test, first, &[1]),
        _ => match ALONG.iter().find(|(name, _)| *name == operator) {
            Some((_, default)) => along(test, first, &axes(test, first, *default)?),
            None => plain(test, first),
        },
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name() == name)
}

/// Whether a model's input may be of this type, and whether it then is of integers.
fn is_integer(kind: i32) -> Result<bool, String> {
    match kind {
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16 => Ok(false),
        data_type::UINT8
        | data_type::INT8
        | data_type::UINT16
        | data_type::INT16
        | data_type::UINT32
        | data_type::INT32
        | data_type::UINT64
        | data_type::INT64 => Ok(true),
        other => Err(format!("no model has an input of type {}", data_type::name(other))),
    }
}

/// Half precision is all that some references have.
fn bound(test: &Stored) -> f64 {
    let halves = test.inputs.iter().any(|input| input.proto.data_type() == data_type::FLOAT16);
    if halves { 2e-3 } else { 1e-5 }
}

/// A model with one input of so many features, of the type that the test has.
fn start(test: &Stored, width: usize, kind: i32) -> Builder {
    let mut model = Builder::new().input("data", &[0, i64::try_from(width).unwrap()]);
    model.0.opset_import.clone_from(&test.opsets);
    let input = model.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
    input.elem_type = Some(kind);
    model
}

fn identity(model: Builder, width: usize) -> Builder {
    let side = i64::try_from(width).unwrap();
    let values: Vec<f32> =
        (0..width * width).map(|at| if at % (width + 1) == 0 { 1.0 } else { 0.0 }).collect();
    model.weight("identity", &[side, side], &values)
}

/// The elements of a tensor of fewer axes or single ones, for each place of larger dimensions.
fn broadcast(tensor: &Tensor, dims: &[usize]) -> Option<Vec<f64>> {
    let numbers = tensor.numbers()?;
    let missing = dims.len().checked_sub(tensor.dims.len())?;
    let fits = tensor.dims.iter().zip(&dims[missing..]).all(|(own, other)| *own == 1 || own == other);
    let place = |index: usize| {
        let (mut rest, mut stride, mut place) = (index, 1, 0);
        for (axis, size) in dims.iter().enumerate().rev() {
            let at = rest % size;
            rest /= size;
            if let Some(own) = axis.checked_sub(missing).map(|axis| tensor.dims[axis]) {
                place += if own == 1 { 0 } else { at * stride };
                stride *= own;
            }
        }
        numbers.get(place).copied()
    };
    let count: usize = dims.iter().product();
    fits.then(|| (0..count).map(place).collect::<Option<Vec<f64>>>())?
}

/// The largest number of columns, none too many, in which so many elements can be written.
fn columns(count: usize) -> usize {
    (1..=COMFORTABLE).rev().find(|width| count.is_multiple_of(*width)).unwrap_or(1)
}

/// Adds the other inputs, each element of which meets one of the data.
fn constants(model: Builder, test: &Stored, dims: &[usize], width: usize) -> Result<Builder, String> {
    let mut model = model;
    for Given { name, proto, tensor } in test.inputs.iter().skip(1) {
        if tensor.len() == 1 {
            let mut proto = proto.clone();
            (proto.name, proto.dims) = (Some(name.clone()), Vec::new());
            model.graph().initializer.push(proto);
            continue;
        }
        let values = broadcast(tensor, dims).ok_or("a constant that does not broadcast")?;
        let values: Vec<f32> = values.into_iter().map(|value| value as f32).collect();
        model = model.weight(name, &[i64::try_from(width).unwrap()], &values);
    }
    Ok(model)
}

fn elementwise(test: &Stored, first: &Given) -> Result<Case, String> {
    let operator = test.node.op_type();
    let kind = first.proto.data_type();
    let integers = is_integer(kind)?;
    let dims = &test.wanted.dims;
    let mut rows = broadcast(&first.tensor, dims).ok_or("data of more axes than the result")?;
    let mut wanted = test.wanted.numbers().unwrap_or_default();
    let single = test.inputs.iter().skip(1).all(|input| input.tensor.len() == 1);
    let finite = |(x, y): (&f64, &f64)| x.is_finite() && y.is_finite();
    if !rows.iter().zip(&wanted).all(finite) {
        if !single {
            return Err("numbers that are not finite".to_owned());
        }
        let kept: Vec<bool> = rows.iter().zip(&wanted).map(finite).collect();
        let keep = |values: &[f64]| -> Vec<f64> {
            values.iter().zip(&kept).filter(|(_, keep)| **keep).map(|(value, _)| *value).collect()
        };
        (rows, wanted) = (keep(&rows), keep(&wanted));
    }
    if rows.is_empty() {
        return Err("no finite number is left".to_owned());
    }
    let width = if single { columns(rows.len()) } else { rows.len() };
    if width > WIDEST {
        return Err(format!("{width} elements have constants of their own"));
    }
    let mut node = test.node.clone();
    let output = node.output.first().cloned().ok_or("no output")?;
    let mut model = identity(start(test, width, kind), width);
    model = constants(model, test, dims, width)?;
    let compares = matches!(operator, "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual" | "Equal");
    let output = if integers && !compares {
        // Integers meet the operator as they are.
        "data".clone_into(&mut node.input[0]);
        model.graph().node.push(node);
        model = model.node("Cast", &[&output], "real").int("to", i64::from(data_type::FLOAT));
        model = model.node("MatMul", &["real", "identity"], "result");
        "result".to_owned()
    } else {
        model = model.node("Cast", &["data"], "real").int("to", i64::from(data_type::FLOAT));
        model = model.node("MatMul", &["real", "identity"], "layer");
        "layer".clone_into(&mut node.input[0]);
        model.graph().node.push(node);
        output
    };
    Ok(Case { model: model.output(&output), rows, wanted, operator: operator.to_owned(), bound: bound(test) })
}

/// The axes that an operator works on.
fn axes(test: &Stored, first: &Given, default: Axes) -> Result<Vec<usize>, String> {
    let rank = first.tensor.dims.len();
    let listed: Vec<i64> =
        match (attribute(&test.node, "axes"), attribute(&test.node, "axis"), test.inputs.get(1)) {
            (Some(axes), _, _) => axes.ints.clone(),
            (None, Some(axis), _) => vec![axis.i()],
            (None, None, Some(axes)) => axes.tensor.integers().ok_or("axes that are no integers")?.to_vec(),
            (None, None, None) => match default {
                Axes::All => Vec::new(),
                Axes::Only(axis) => vec![axis],
            },
        };
    if listed.is_empty() {
        if attribute(&test.node, "noop_with_empty_axes").is_some_and(|noop| noop.i() != 0) {
            return Err("no axis is reduced".to_owned());
        }
        return Ok((0..rank).collect());
    }
    let resolved =
        listed.iter().map(|axis| usize::try_from(if *axis < 0 { axis + rank as i64 } else { *axis }));
    resolved.collect::<Result<_, _>>().map_err(|_| "an axis that does not exist".to_owned())
}

/// The elements with some axes behind the others.
fn behind(numbers: &[f64], dims: &[usize], last: &[usize]) -> Vec<f64> {
    let order: Vec<usize> =
        (0..dims.len()).filter(|axis| !last.contains(axis)).chain(last.iter().copied()).collect();
    let stride = |axis: usize| dims[axis + 1..].iter().product::<usize>();
    let place = |index: usize| {
        let mut rest = index;
        order.iter().rev().fold(0, |place, &axis| {
            let at = rest % dims[axis];
            rest /= dims[axis];
            place + at * stride(axis)
        })
    };
    (0..numbers.len()).map(|index| numbers[place(index)]).collect()
}

/// What is reduced becomes the features of a row.
fn along(test: &Stored, first: &Given, last: &[usize]) -> Result<Case, String> {
    let dims = &first.tensor.dims;
    if dims.is_empty() || last.iter().any(|axis| *axis >= dims.len()) {
        return Err("a single number".to_owned());
    }
    let mut last = last.to_vec();
    last.sort_unstable();
    if is_integer(first.proto.data_type())? {
        return Err("integers are not reduced".to_owned());
    }
    let rows = behind(&first.tensor.numbers().unwrap_or_default(), dims, &last);
    let width: usize = last.iter().map(|&axis| dims[axis]).product();
    if rows.is_empty() || width == 0 {
        return Err("no number at all".to_owned());
    }
    let mut wanted = test.wanted.numbers().unwrap_or_default();
    if test.wanted.dims == *dims && wanted.len() == rows.len() {
        wanted = behind(&wanted, dims, &last);
    }
    let mut model = identity(start(test, width, first.proto.data_type()), width);
    let mut node = test.node.clone();
    let output = node.output.first().cloned().ok_or("no output")?;
    "layer".clone_into(&mut node.input[0]);
    if test.node.op_type() == "BatchNormalization" {
        model = constants(model, test, &[width], width)?;
    } else if let Some(list) = test.inputs.get(1) {
        model = model.integers(&list.name, &[1]);
    } else {
        for attribute in &mut node.attribute {
            match attribute.name() {
                "axis" => attribute.i = Some(1),
                "axes" => attribute.ints = vec![1],
                _ => {}
            }
        }
        let name = if test.node.op_type().starts_with("Reduce") { "axes" } else { "axis" };
        if attribute(&node, name).is_none() {
            let given = AttributeProto { name: Some(name.to_owned()), ..AttributeProto::default() };
            node.attribute.push(match name {
                "axes" => AttributeProto { ints: vec![1], r#type: Some(7), ..given },
                _ => AttributeProto { i: Some(1), r#type: Some(2), ..given },
            });
        }
    }
    model = model.node("MatMul", &["data", "identity"], "layer");
    model.graph().node.push(node);
    let operator = test.node.op_type().to_owned();
    Ok(Case { model: model.output(&output), rows, wanted, operator, bound: bound(test) })
}

/// Truths are comparisons of features with one half; constants are chosen between.
fn logical(test: &Stored, first: &Given) -> Result<Case, String> {
    let operator = test.node.op_type();
    let dims = &test.wanted.dims;
    let wanted = test.wanted.numbers().unwrap_or_default();
    let truths: Vec<Vec<f64>> = match operator {
        "Where" | "Not" => vec![broadcast(&first.tensor, dims).ok_or("data that does not broadcast")?],
        _ => {
            let both = test.inputs.iter().map(|input| broadcast(&input.tensor, dims));
            both.collect::<Option<_>>().ok_or("data that does not broadcast")?
        }
    };
    // Constants have an element for each feature.
    let width = if operator == "Where" { wanted.len() } else { columns(wanted.len()) };
    let total = width * truths.len();
    if total > WIDEST {
        return Err(format!("{width} elements have constants of their own"));
    }
    let mut rows = Vec::new();
    for start in (0..wanted.len()).step_by(width) {
        truths.iter().for_each(|values| rows.extend_from_slice(&values[start..start + width]));
    }
    let mut node = test.node.clone();
    let output = node.output.first().cloned().ok_or("no output")?;
    let mut model = start(test, total, data_type::FLOAT).weight("half", &[], &[0.5]);
    let (wide, narrow) = (i64::try_from(total).unwrap(), i64::try_from(width).unwrap());
    for (index, input) in node.input.iter_mut().enumerate().take(truths.len()) {
        let values: Vec<f32> = (0..total * width)
            .map(|at| if at / width == index * width + at % width { 1.0 } else { 0.0 })
            .collect();
        let [pick, layer, truth] = ["pick", "layer", "truth"].map(|name| format!("{name}{index}"));
        model = model.weight(&pick, &[wide, narrow], &values).node("MatMul", &["data", &pick], &layer).node(
            "Greater",
            &[&layer, "half"],
            &truth,
        );
        truth.clone_into(input);
    }
    if operator == "Where" {
        model = constants(model, test, dims, width)?;
    }
    model.graph().node.push(node);
    Ok(Case { model: model.output(&output), rows, wanted, operator: operator.to_owned(), bound: bound(test) })
}

/// Trees read features themselves; rows with features that are missing are left out.
fn direct(test: &Stored, first: &Given) -> Result<Case, String> {
    let [_, width] = *first.tensor.dims.as_slice() else { return Err("data without two axes".to_owned()) };
    let data = first.tensor.numbers().unwrap_or_default();
    let all = test.wanted.numbers().unwrap_or_default();
    let count = data.len() / width.max(1);
    let (mut rows, mut wanted) = (Vec::new(), Vec::new());
    for (row, result) in data.chunks(width).zip(all.chunks(all.len() / count.max(1))) {
        if row.iter().all(|value| value.is_finite()) {
            rows.extend_from_slice(row);
            wanted.extend_from_slice(result);
        }
    }
    let mut node = test.node.clone();
    "data".clone_into(&mut node.input[0]);
    let output = node.output.first().cloned().ok_or("no output")?;
    let mut model = start(test, width, first.proto.data_type());
    model.graph().node.push(node);
    let operator = test.node.op_type().to_owned();
    Ok(Case { model: model.output(&output), rows, wanted, operator, bound: bound(test) })
}

/// The numbers that the wanted integers stand for: that is what a model's output shows.
fn dequantised(test: &Stored) -> Result<Vec<f64>, String> {
    let wanted = test.wanted.numbers().unwrap_or_default();
    let scale = match test.node.op_type() {
        "QuantizeLinear" => 1,
        "QLinearMatMul" => 6,
        _ => return Ok(wanted),
    };
    let only = |index: usize| test.inputs.get(index).and_then(|input| input.tensor.single());
    let scale_of = only(scale).ok_or("a scale for each channel of data")?;
    let zero = only(scale + 1).unwrap_or(0.0);
    Ok(wanted.iter().map(|integer| (integer - zero) * scale_of).collect())
}

/// The first axis is the batch, or there is none.
fn plain(test: &Stored, first: &Given) -> Result<Case, String> {
    let operator = test.node.op_type();
    let kind = first.proto.data_type();
    let quantised = matches!(operator, "DequantizeLinear" | "QLinearMatMul");
    let integers = is_integer(kind)?;
    if integers && !quantised {
        return Err(format!("{operator} of integers"));
    }
    let mut dims = first.tensor.dims.clone();
    let matrix = |input: &Given| input.tensor.dims.len() <= 2;
    let scalars = test.inputs.iter().skip(1).all(|input| input.tensor.len() == 1);
    let by_rows = (operator == "MatMul" && test.inputs.iter().skip(1).all(matrix))
        || (matches!(operator, "QuantizeLinear" | "DequantizeLinear") && scalars);
    let width = *dims.last().ok_or("a single number")?;
    if by_rows && dims.len() > 1 {
        dims = vec![dims.iter().product::<usize>() / width.max(1), width];
    }
    let declared: Vec<i64> = dims.iter().map(|&dim| i64::try_from(dim).unwrap()).collect();
    let declared = match declared.as_slice() {
        // More than one row are a batch.
        [_, rest @ ..] if !rest.is_empty() => std::iter::once(0).chain(rest.iter().copied()).collect(),
        whole => whole.to_vec(),
    };
    let wanted = dequantised(test)?;
    let mut model = identity(Builder::new().input("data", &declared), width);
    model.0.opset_import.clone_from(&test.opsets);
    let mut node = test.node.clone();
    let mut output = node.output.first().cloned().ok_or("no output")?;
    if integers {
        let input = model.graph().input[0].r#type.as_mut().unwrap().tensor_type.as_mut().unwrap();
        input.elem_type = Some(kind);
        "data".clone_into(&mut node.input[0]);
        model.graph().node.push(node);
        if operator == "DequantizeLinear" {
            model = model.node("MatMul", &[&output, "identity"], "layer");
            "layer".clone_into(&mut output);
        }
    } else {
        model = model.node("MatMul", &["data", "identity"], "layer");
        "layer".clone_into(&mut node.input[0]);
        model.graph().node.push(node);
    }
    for Given { name, proto, .. } in test.inputs.iter().skip(1) {
        let mut proto = proto.clone();
        proto.name = Some(name.clone());
        model.graph().initializer.push(proto);
    }
    let rows = first.tensor.numbers().unwrap_or_default();
    Ok(Case { model: model.output(&output), rows, wanted, operator: operator.to_owned(), bound: bound(test) })
}

/// A tensor without the elements that are not wanted, where it is stored by the byte.
fn thinned(proto: &TensorProto, kept: &[bool]) -> Option<TensorProto> {
    let raw =
        proto.raw_data.as_ref().filter(|raw| !raw.is_empty() && raw.len().is_multiple_of(kept.len()))?;
    let chunks = raw.chunks(raw.len() / kept.len()).zip(kept).filter(|(_, kept)| **kept);
    let raw_data: Vec<u8> = chunks.flat_map(|(chunk, _)| chunk.to_vec()).collect();
    let count = kept.iter().filter(|kept| **kept).count();
    Some(TensorProto { dims: vec![i64::try_from(count).ok()?], raw_data: Some(raw_data), ..proto.clone() })
}

/// A test of an operator on constants: a model that adds the result to a layer of zeros.
pub(super) fn constant_case(test: &Stored) -> Result<Case, String> {
    let mut wanted = test.wanted.numbers().ok_or("texts")?;
    let mut inputs: Vec<TensorProto> = Vec::new();
    for Given { name, proto, .. } in &test.inputs {
        inputs.push(TensorProto { name: Some(name.clone()), ..proto.clone() });
    }
    // Each element of a cast stands for itself.
    if let ("Cast", [data]) = (test.node.op_type(), test.inputs.as_slice()) {
        let numbers = data.tensor.numbers().ok_or("texts")?;
        let kept: Vec<bool> =
            numbers.iter().zip(&wanted).map(|(x, y)| x.is_finite() && y.is_finite()).collect();
        if kept.contains(&false) {
            inputs[0] = thinned(&inputs[0], &kept).ok_or("numbers that are not finite")?;
            let mut keep = kept.iter();
            wanted.retain(|_| keep.next().copied().unwrap_or(false));
        }
    }
    if wanted.is_empty() {
        return Err("no number at all".to_owned());
    }
    let side = i64::try_from(wanted.len()).unwrap();
    let mut model = Builder::new()
        .input("one_feature", &[0, 1])
        .weight("no_weights", &[1, side], &vec![0.0; wanted.len()])
        .integers("one_row", &[1, -1])
        .node("MatMul", &["one_feature", "no_weights"], "zeros");
    model.0.opset_import.clone_from(&test.opsets);
    model.graph().node.push(test.node.clone());
    model.graph().initializer.extend(inputs);
    let output = test.node.output.first().cloned().ok_or("no output")?;
    let model = model
        .node("Cast", &[&output], "as_float")
        .int("to", i64::from(data_type::FLOAT))
        .node("Reshape", &["as_float", "one_row"], "as_row")
        .node("Add", &["zeros", "as_row"], "sums")
        .output("sums");
    Ok(Case { model, rows: vec![0.0], wanted, operator: "Add".to_owned(), bound: bound(test) })
}
