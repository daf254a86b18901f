//! The model's inputs: one vector of features, or one column per feature.

use std::collections::BTreeSet;

use super::affine::{Affine, StageId};
use super::limits::MAX_TENSOR_ELEMENTS;
use super::report::Report;
use super::schema::{GraphProto, ValueInfoProto, data_type};
use super::shape::{Dim, Shape};
use super::value::{Row, Value};
use crate::diag::codes::onnx as codes;

/// The features, and what each graph input is of them.
pub(crate) struct Inputs {
    /// One entry per feature; named when the file has a column per feature.
    pub(crate) columns: Vec<Option<String>>,
    pub(crate) values: Vec<(String, Value)>,
    /// Rows of the batch when the file fixes them and there are more than one.
    pub(crate) fixed_rows: Option<usize>,
}

/// One graph input as declared.
struct Declared<'a> {
    name: &'a str,
    shape: Shape,
    width: usize,
    fixed_rows: Option<usize>,
    integer: bool,
}

/// Reads the inputs that are not weights. Inputs that are refused become values that are refused.
pub(crate) fn read(report: &mut Report, graph: &GraphProto, stage: StageId) -> Inputs {
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name()).collect();
    let all: Vec<&ValueInfoProto> =
        graph.input.iter().filter(|input| !weights.contains(input.name())).collect();
    let refused = || Inputs {
        columns: Vec::new(),
        values: all.iter().map(|input| (input.name().to_owned(), Value::Refused)).collect(),
        fixed_rows: None,
    };
    if all.is_empty() {
        report.at_file(
            &codes::INPUTS,
            "the model has no input",
            "export the model with the features as its one input",
        );
        return refused();
    }
    if lost_captures(report, &all) {
        return refused();
    }
    let declared: Vec<Option<Declared<'_>>> = all.iter().map(|input| declared(report, input)).collect();
    let Some(declared) = declared.into_iter().collect::<Option<Vec<_>>>() else { return refused() };
    if declared.len() > 1 && declared.iter().any(|input| input.width != 1) {
        let list: Vec<String> =
            declared.iter().map(|input| format!("`{}` {}", input.name, input.shape)).collect();
        report.at_file(
            &codes::INPUTS,
            format!("the model has {} inputs: {}", declared.len(), list.join(", ")),
            "export a model with one input of shape [batch, features]; concatenate inside the specification",
        );
        return refused();
    }
    assign(&declared, stage)
}

/// Gives each input its features, in order.
fn assign(declared: &[Declared<'_>], stage: StageId) -> Inputs {
    let total = declared.iter().map(|input| input.width).sum();
    let whole = Affine::of_stage(stage, total);
    let mut next = 0;
    let mut values = Vec::new();
    for input in declared {
        let positions: Vec<usize> = (next..next + input.width).collect();
        next += input.width;
        let affine = whole.picked(&positions).expect("the positions of all inputs add up to the total width");
        let row = Row { affine, shape: input.shape.clone(), integer: input.integer };
        values.push((input.name.to_owned(), Value::Row(row)));
    }
    let columns = match declared {
        [_] => vec![None; total],
        several => several.iter().map(|input| Some(input.name.to_owned())).collect(),
    };
    Inputs { columns, values, fixed_rows: declared.first().and_then(|input| input.fixed_rows) }
}

/// Inputs named like inner values of the graph are constants that a converter lost.
fn lost_captures(report: &mut Report, all: &[&ValueInfoProto]) -> bool {
    let lost: Vec<String> = all
        .iter()
        .filter(|input| input.name().contains('/'))
        .map(|input| format!("`{}`", input.name()))
        .collect();
    if all.len() < 2 || lost.is_empty() {
        return false;
    }
    report.at_file(
        &codes::LOST_CAPTURE,
        format!("the model demands the constants {} as inputs: their values are not in the file", lost.join(" and ")),
        "convert with `tf2onnx.convert.from_keras` of tf_keras, or replace the Normalization layer by a Lambda \
         layer with plain numbers, and export again",
    );
    true
}

fn declared<'a>(report: &mut Report, input: &'a ValueInfoProto) -> Option<Declared<'a>> {
    let name = input.name();
    let mut refuse = |message: String, help: &str| {
        report.at_file(&codes::INPUT_SHAPE, message, help);
        None
    };
    let Some(tensor) = input.r#type.as_ref().and_then(|kind| kind.tensor_type.as_ref()) else {
        return refuse(
            format!("input `{name}` is not a tensor"),
            "export with one tensor of shape [batch, features]",
        );
    };
    let integer = match tensor.elem_type() {
        data_type::FLOAT | data_type::DOUBLE | data_type::FLOAT16 | data_type::BFLOAT16 => false,
        data_type::INT8
        | data_type::UINT8
        | data_type::INT16
        | data_type::UINT16
        | data_type::INT32
        | data_type::UINT32
        | data_type::INT64
        | data_type::UINT64 => true,
        other => {
            return refuse(
                format!("input `{name}` holds elements of type {}", data_type::name(other)),
                "export with an input of float",
            );
        }
    };
    let Some(proto) = tensor.shape.as_ref() else {
        return refuse(
            format!("input `{name}` has no shape"),
            "export with an example input, so that the number of features is known",
        );
    };
    let sizes: Vec<Option<usize>> =
        proto.dim.iter().map(|dim| usize::try_from(dim.dim_value()).ok().filter(|&size| size > 0)).collect();
    let shown: Vec<String> =
        sizes.iter().map(|size| size.map_or_else(|| "?".to_owned(), |size| size.to_string())).collect();
    match interpret(&sizes) {
        Some((shape, width, fixed_rows)) => Some(Declared { name, shape, width, fixed_rows, integer }),
        None => refuse(
            format!("input `{name}` has shape [{}]", shown.join(", ")),
            "export with an input of shape [batch, features], the number of features fixed",
        ),
    }
}

/// Which axis is the batch; the other axes hold one vector of known length.
fn interpret(sizes: &[Option<usize>]) -> Option<(Shape, usize, Option<usize>)> {
    let mut fixed_rows = None;
    let dims = match sizes {
        [] => return None,
        [only] => vec![Dim::Of((*only)?)],
        [first, rest @ ..] => {
            fixed_rows = first.filter(|&rows| rows > 1);
            let rows = if *first == Some(1) { Dim::Of(1) } else { Dim::Rows };
            let rest: Option<Vec<Dim>> = rest.iter().map(|size| size.map(Dim::Of)).collect();
            std::iter::once(rows).chain(rest?).collect()
        }
    };
    let shape = Shape(dims);
    let width = shape.width().filter(|&width| width <= MAX_TENSOR_ELEMENTS)?;
    shape.is_vector().then_some((shape, width, fixed_rows))
}
