//! Add, Sub, Mul, Div, Sum and functions of one operand: scalers, biases, residual additions, folded constants.

use super::activation::absolute;
use super::{Entry, curves, fold};
use crate::diag::codes::onnx as codes;
use crate::onnx::affine::Step;
use crate::onnx::align;
use crate::onnx::hidden;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::shape::{Dim, Shape};
use crate::onnx::tensor::{Data, Dims, Tensor};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Add", binary),
    ("", "Sub", binary),
    ("", "Mul", binary),
    ("", "Div", binary),
    ("", "Pow", binary),
    ("", "Sum", sum),
    ("", "Neg", unary),
    ("", "Abs", unary),
    ("", "Sqrt", unary),
    ("", "Reciprocal", unary),
    ("", "Exp", unary),
    ("", "Log", unary),
];

fn binary(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (left, right) = (node.input(0)?, node.input(1)?);
    Ok(vec![pair(stages, node, left, right)?])
}

/// Any number of values, added up.
fn sum(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let mut result = node.input(0)?.clone();
    for index in 1..node.inputs.len() {
        result = pair(stages, node, &result, node.input(index)?)?;
    }
    Ok(vec![result])
}

fn pair(stages: &mut Stages, node: &Node<'_>, left: &Value, right: &Value) -> Result<Value, Refusal> {
    Ok(match (left, right) {
        (Value::Constant(left), Value::Constant(right)) => Value::Constant(constants(node, left, right)?),
        (Value::Row(row), Value::Constant(constant)) if node.operator() == "Pow" => {
            let exponent = constant.single().filter(|_| constant.dims.len() <= row.shape.rank());
            let power = exponent.and_then(|exponent| curves::power(stages, node, row, exponent));
            Value::Row(power.ok_or_else(|| not_affine(node))?)
        }
        (Value::Row(row), Value::Constant(constant)) => Value::Row(with_constant(node, row, constant)?),
        (Value::Constant(constant), Value::Row(row)) if node.operator() == "Div" => {
            reciprocal(stages, node, constant, row)?
        }
        (Value::Constant(constant), Value::Row(row)) => Value::Row(constant_first(node, constant, row)?),
        (Value::Row(left), Value::Row(right)) => Value::Row(rows(stages, node, left, right)?),
        // A runtime's own way to name an output.
        (Value::Tail(tail), Value::Constant(one)) | (Value::Constant(one), Value::Tail(tail))
            if node.operator() == "Mul"
                && one.single() == Some(1.0)
                && one.dims.len() <= tail.shape.rank() =>
        {
            Value::Tail(tail.clone())
        }
        (Value::Constant(constant), Value::Tail(tail)) => Value::Tail(complement(node, constant, tail)?),
        (Value::Row(row), Value::Tail(tail)) | (Value::Tail(tail), Value::Row(row))
            if node.operator() == "Mul"
                && matches!(tail.form, Form::Probability | Form::EachProbability)
                && tail.rounded.is_none()
                && tail.shape == tail.row.shape =>
        {
            let wrong = || node.unsupported_value(&Value::Tail(tail.clone()));
            Value::Row(curves::silu(stages, node, row, &tail.row).ok_or_else(wrong)?)
        }
        (
            Value::Tail(_) | Value::Quantised(_) | Value::Extent { .. } | Value::Cases(_) | Value::Refused,
            _,
        ) => {
            return Err(node.unsupported_value(left));
        }
        (
            _,
            Value::Tail(_) | Value::Quantised(_) | Value::Extent { .. } | Value::Cases(_) | Value::Refused,
        ) => {
            return Err(node.unsupported_value(right));
        }
    })
}

fn constants(node: &Node<'_>, left: &Tensor, right: &Tensor) -> Result<Tensor, Refusal> {
    let folded = fold::binary(left, right, node.operator()).ok_or_else(|| {
        node.shapes(format!(
            "constants of shape {} and {} cannot be combined by {}",
            Dims(&left.dims),
            Dims(&right.dims),
            node.operator()
        ))
    })?;
    finite(node, folded)
}

fn finite(node: &Node<'_>, tensor: Tensor) -> Result<Tensor, Refusal> {
    if fold::is_finite(&tensor) {
        return Ok(tensor);
    }
    Err(node.refuse(
        &codes::NOT_FINITE,
        format!("{} of constants is not finite", node.operator()),
        "check the constants of this node for zeros, negative variances and overflow",
    ))
}

/// The constant's value for each element of the row, and the shape that results.
pub(super) fn spread(node: &Node<'_>, row: &Row, constant: &Tensor) -> Result<(Vec<f64>, Shape), Refusal> {
    let mismatch = || {
        node.shapes(format!(
            "a constant of shape {} does not fit data of shape {}",
            Dims(&constant.dims),
            row.shape
        ))
    };
    let rank = row.shape.rank().max(constant.dims.len());
    let mut dims = Vec::with_capacity(rank);
    for axis in 0..rank {
        let index = |length: usize| (axis + length).checked_sub(rank);
        let of_row = index(row.shape.rank()).and_then(|index| row.shape.0.get(index)).copied();
        let of_constant = index(constant.dims.len()).and_then(|index| constant.dims.get(index)).copied();
        let dim = of_row.unwrap_or(Dim::Of(1));
        let fits = match (dim, of_constant.unwrap_or(1)) {
            (_, 1) => true,
            (Dim::Of(size), other) => size == other,
            (Dim::Rows, _) => false,
        };
        if !fits {
            return Err(mismatch());
        }
        dims.push(dim);
    }
    let numbers = constant.numbers().ok_or_else(mismatch)?;
    let width = row.affine.width();
    let values = match numbers.as_slice() {
        [value] => vec![*value; width],
        values if values.len() == width => values.to_vec(),
        _ => return Err(mismatch()),
    };
    Ok((values, Shape(dims)))
}

fn with_constant(node: &Node<'_>, row: &Row, constant: &Tensor) -> Result<Row, Refusal> {
    let (values, shape) = spread(node, row, constant)?;
    let steps: Vec<Step> = match node.operator() {
        "Add" | "Sum" => values.into_iter().map(Step::Add).collect(),
        "Sub" => values.into_iter().map(|value| Step::Add(-value)).collect(),
        "Mul" => values.into_iter().map(Step::Multiply).collect(),
        "Div" => divisors(node, row, &values, matches!(constant.data, Data::Int(_)))?,
        _ => return Err(not_affine(node)),
    };
    Ok(Row { affine: row.affine.elementwise(&steps), shape, integer: row.integer })
}

fn divisors(node: &Node<'_>, row: &Row, values: &[f64], of_integers: bool) -> Result<Vec<Step>, Refusal> {
    if row.integer || of_integers {
        return Err(node.form(
            "Div of integers truncates, which is not linear",
            "cast the input to float before scaling it",
        ));
    }
    if let Some(index) = values.iter().position(|value| *value == 0.0) {
        let count = values.iter().filter(|value| **value == 0.0).count();
        return Err(node.refuse(
            &codes::ZERO_DIVISOR,
            format!("the divisor of feature {index} is zero ({count} of {} are)", values.len()),
            "remove features that were constant in training, or set their scale to 1",
        ));
    }
    Ok(values.iter().map(|value| Step::Multiply(1.0 / value)).collect())
}

fn constant_first(node: &Node<'_>, constant: &Tensor, row: &Row) -> Result<Row, Refusal> {
    match node.operator() {
        "Add" | "Sum" | "Mul" => with_constant(node, row, constant),
        "Sub" => {
            let (values, shape) = spread(node, row, constant)?;
            let negated = row.affine.elementwise(&vec![Step::Multiply(-1.0); values.len()]);
            let steps: Vec<Step> = values.into_iter().map(Step::Add).collect();
            Ok(Row { affine: negated.elementwise(&steps), shape, integer: row.integer })
        }
        _ => Err(not_affine(node)),
    }
}

/// `c / x`, which is a probability where `x` is `1 + exp(-z)`.
fn reciprocal(stages: &mut Stages, node: &Node<'_>, constant: &Tensor, row: &Row) -> Result<Value, Refusal> {
    let numerator = constant.single().filter(|_| constant.dims.len() <= row.shape.rank());
    let parts = numerator.zip(curves::reciprocal_of_sigmoid(stages, row));
    let (numerator, (z, factor)) = parts.ok_or_else(|| not_affine(node))?;
    let form = if z.affine.width() == 1 { Form::Probability } else { Form::EachProbability };
    let tail = Tail { shape: row.shape.clone(), ..Tail::of(&z, form) };
    if (numerator * factor - 1.0).abs() < 1e-12 {
        return Ok(Value::Tail(tail));
    }
    let sigmoid = hidden::row(stages, &tail, &node.reference).ok_or_else(|| not_affine(node))?;
    Ok(Value::Row(Row { affine: sigmoid.affine.scaled(numerator * factor), ..sigmoid }))
}

fn not_affine(node: &Node<'_>) -> Refusal {
    node.refuse(
        &codes::OPERATOR,
        format!("{} of data that depends on the input is not linear and not supported", node.operator()),
        "compute such features in the specification (for example `log2(1 + x)`), not in the model",
    )
}

/// A product or a quotient with values that are the same for every input.
fn with_fixed(node: &Node<'_>, left: &Row, right: &Row) -> Result<Option<Row>, Refusal> {
    if left.shape != right.shape {
        return Ok(None);
    }
    let scaled = |row: &Row, steps: &[Step]| {
        let integer = left.integer && right.integer;
        Row { affine: row.affine.elementwise(steps), shape: row.shape.clone(), integer }
    };
    let factors = |values: Vec<f64>| values.into_iter().map(Step::Multiply).collect::<Vec<Step>>();
    Ok(match (node.operator(), left.affine.constants(), right.affine.constants()) {
        ("Mul", _, Some(values)) => Some(scaled(left, &factors(values))),
        ("Mul", Some(values), None) => Some(scaled(right, &factors(values))),
        ("Div", _, Some(values)) => Some(scaled(left, &divisors(node, left, &values, right.integer)?)),
        _ => None,
    })
}

fn rows(stages: &mut Stages, node: &Node<'_>, left: &Row, right: &Row) -> Result<Row, Refusal> {
    if let Some(row) = with_fixed(node, left, right)? {
        return Ok(row);
    }
    let curve = match node.operator() {
        "Mul" => curves::product(stages, node, left, right),
        "Div" => curves::quotient(stages, node, left, right),
        "Add" | "Sum" => curves::cubic(stages, node, left, right),
        _ => None,
    };
    if let Some(row) = curve {
        return Ok(row);
    }
    let right_affine = match node.operator() {
        "Add" | "Sum" => Some(right.affine.clone()),
        "Sub" => Some(right.affine.elementwise(&vec![Step::Multiply(-1.0); right.affine.width()])),
        _ => None,
    };
    let sum = right_affine
        .filter(|_| left.shape == right.shape)
        .and_then(|right| align::sum(stages, &left.affine, &right, &node.reference));
    let affine = sum.ok_or_else(|| {
        node.form(
            format!("{} of two values that both depend on the input is not supported", node.operator()),
            "sums of values of one shape are supported (residual connections), and products that are activations (Silu, \
             Gelu, Mish, squares); other products, gates and attention are not",
        )
    })?;
    Ok(Row { affine, shape: left.shape.clone(), integer: left.integer })
}

/// `1 - p`, as scikit-learn's exporter writes the probability of the first class.
fn complement(node: &Node<'_>, constant: &Tensor, tail: &Tail) -> Result<Tail, Refusal> {
    let one = constant.single() == Some(1.0) && constant.dims.len() <= tail.shape.rank();
    let real = tail.rounded.is_none_or(|rounded| !rounded.stored);
    if node.operator() == "Sub" && one && real && tail.form == Form::Probability {
        return Ok(Tail { form: Form::Complement, ..tail.clone() });
    }
    Err(node.unsupported_value(&Value::Tail(tail.clone())))
}

fn unary(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    let result = match value {
        Value::Constant(tensor) => {
            let folded = fold::unary(tensor, node.operator()).ok_or_else(|| node.unsupported_value(value))?;
            Value::Constant(finite(node, folded)?)
        }
        Value::Row(row) if node.operator() == "Neg" => {
            let affine = row.affine.elementwise(&vec![Step::Multiply(-1.0); row.affine.width()]);
            Value::Row(Row { affine, ..row.clone() })
        }
        Value::Row(row) if node.operator() == "Abs" => Value::Row(absolute(stages, node, row)?),
        Value::Row(row) if node.operator() == "Exp" => Value::Row(curves::exponential(stages, node, row)),
        Value::Row(row) if node.operator() == "Sqrt" => Value::Row(curves::root(stages, node, row)),
        Value::Row(row) if node.operator() == "Log" => {
            Value::Row(curves::logarithm(stages, node, row).ok_or_else(|| not_affine(node))?)
        }
        Value::Row(row) if node.operator() == "Reciprocal" => {
            reciprocal(stages, node, &Tensor::scalar_float(1.0), row)?
        }
        Value::Row(_) => return Err(not_affine(node)),
        Value::Tail(tail)
            if node.operator() == "Log"
                && matches!(tail.form, Form::Probability | Form::EachProbability)
                && tail.rounded.is_none()
                && tail.shape == tail.row.shape =>
        {
            Value::Row(curves::log_of_sigmoid(stages, node, &tail.row))
        }
        Value::Extent { .. } | Value::Quantised(_) | Value::Tail(_) | Value::Cases(_) | Value::Refused => {
            return Err(node.unsupported_value(value));
        }
    };
    Ok(vec![result])
}
