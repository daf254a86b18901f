//! Curved functions between dense layers: operators of their own, and the products, quotients and logarithms that
//! exporters write for them.

use super::Entry;
use super::activation::{activated, rectified};
use super::arithmetic::spread;
use crate::diag::codes::onnx as codes;
use crate::model::{Activation, Function};
use crate::onnx::affine::{Affine, Step};
use crate::onnx::align;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::value::{Open, PiecesShape, Row, Stage, Stages, Value};

/// Operators of the runtime that carry its domain.
const MICROSOFT: &str = "com.microsoft";

pub(super) const TABLE: &[Entry] = &[
    ("", "Tanh", tanh),
    ("", "Softplus", curve),
    ("", "Softsign", curve),
    ("", "Elu", curve),
    ("", "Selu", curve),
    ("", "Celu", curve),
    ("", "Gelu", curve),
    ("", "Mish", curve),
    ("", "HardSwish", curve),
    ("", "Swish", curve),
    ("", "ThresholdedRelu", curve),
    ("", "Shrink", shrink),
    ("", "Erf", error_function),
    (MICROSOFT, "Gelu", curve),
    (MICROSOFT, "FastGelu", biased),
    (MICROSOFT, "BiasGelu", biased),
    (MICROSOFT, "QuickGelu", curve),
];

/// The format's default `alpha` and `gamma` of Selu.
const SELU: (f64, f64) = (1.673_263_192_176_818_8, 1.050_701_022_148_132_3);
/// The runtime's default slope of QuickGelu.
const QUICK: f64 = 1.702;
/// How far from its number a constant of a formula may be written, relative to it.
const WRITTEN: f64 = 2e-5;
/// The factor of the third power in Gelu's approximation.
const CUBE: f64 = 0.044_715;

/// Whether a constant is the number that a formula has there.
fn is(value: f64, number: f64) -> bool {
    (value - number).abs() <= WRITTEN * number.abs()
}

fn curve(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let function = function(node, node.operator())?;
    Ok(vec![Value::Row(activated(stages, node, node.row(0)?, function))])
}

/// The function that an operator applies to each value.
fn function(node: &Node<'_>, operator: &str) -> Result<Function, Refusal> {
    let alpha = |default: f64| node.float("alpha", default);
    let function = match operator {
        "Softplus" => Function::Softplus,
        "Softsign" => Function::Softsign,
        "Elu" => Function::Elu { alpha: alpha(1.0), gamma: 1.0, width: 1.0 },
        "Selu" => Function::Elu { alpha: alpha(SELU.0), gamma: node.float("gamma", SELU.1), width: 1.0 },
        "Celu" if alpha(1.0) > 0.0 => Function::Elu { alpha: alpha(1.0), gamma: 1.0, width: alpha(1.0) },
        "Gelu" | "BiasGelu" => match node.text("approximate").as_deref() {
            None | Some("" | "none") => Function::Gelu,
            Some("tanh") => Function::TanhGelu,
            Some(other) => {
                return Err(node.form(
                    format!("Gelu with the approximation `{other}`"),
                    "export with the approximation `none` or `tanh`",
                ));
            }
        },
        "FastGelu" => Function::TanhGelu,
        "QuickGelu" => Function::Silu { slope: alpha(QUICK) },
        "Swish" => Function::Silu { slope: alpha(1.0) },
        "Mish" => Function::Mish,
        "HardSwish" => Function::HardSwish,
        "ThresholdedRelu" => Function::ThresholdedRelu { alpha: alpha(1.0) },
        "Tanh" => Function::Tanh,
        "Sigmoid" => Function::Sigmoid,
        "Celu" => {
            return Err(node.refuse(
                &codes::ACTIVATION,
                format!("Celu with `alpha = {}` divides by zero or grows exponentially", alpha(1.0)),
                "train with an `alpha` above zero",
            ));
        }
        other => {
            return Err(node.refuse(
                &codes::ACTIVATION,
                format!("{} with the activation {other}, which is not supported", node.operator()),
                "train with `ReLU` in the hidden layers",
            ));
        }
    };
    let finite = match function {
        Function::Elu { alpha, gamma, width } => [alpha, gamma, width].iter().all(|value| value.is_finite()),
        Function::Silu { slope: number } | Function::ThresholdedRelu { alpha: number } => number.is_finite(),
        Function::Sigmoid
        | Function::Tanh
        | Function::Softplus
        | Function::Softsign
        | Function::Gelu
        | Function::TanhGelu
        | Function::Mish
        | Function::HardSwish
        | Function::Square
        | Function::Step
        | Function::LeakyRelu { .. }
        | Function::Clip { .. }
        | Function::HardSigmoid { .. }
        | Function::LogOnePlus
        | Function::Levels(_) => true,
    };
    if finite {
        return Ok(function);
    }
    Err(node.refuse(
        &codes::NOT_FINITE,
        format!("an attribute of {} is not finite", node.operator()),
        "export the model again: the file is damaged or was edited",
    ))
}

/// The activation that the runtime's optimiser put into a Gemm.
pub(super) fn fused(stages: &mut Stages, node: &Node<'_>, row: &Row, name: &str) -> Result<Row, Refusal> {
    let first = |default: f64| node.float("activation_alpha", default);
    let function = match name {
        "Elu" => Function::Elu { alpha: first(1.0), gamma: 1.0, width: 1.0 },
        "Selu" => {
            let gamma = node.float("activation_gamma", SELU.1);
            Function::Elu { alpha: first(SELU.0), gamma, width: 1.0 }
        }
        "ThresholdedRelu" => Function::ThresholdedRelu { alpha: first(1.0) },
        other => function(node, other)?,
    };
    Ok(activated(stages, node, row, function))
}

/// A function of the sum of the data and an optional bias.
fn biased(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let function = function(node, node.operator())?;
    let mut row = node.row(0)?.clone();
    if node.optional(1).is_some() {
        let (values, shape) = spread(node, &row, node.constant(1, "the bias")?)?;
        let steps: Vec<Step> = values.into_iter().map(Step::Add).collect();
        row = Row { affine: row.affine.elementwise(&steps), shape, integer: false };
    }
    Ok(vec![Value::Row(activated(stages, node, &row, function))])
}

/// `x - bias` above `lambd`, `x + bias` below `-lambd`, else 0: of both signs a function that is zero at first.
fn shrink(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let (bias, lambd) = (node.float("bias", 0.0), node.float("lambd", 0.5));
    if !(lambd >= 0.0 && lambd.is_finite() && (bias == 0.0 || bias == lambd)) {
        return Err(node.refuse(
            &codes::ACTIVATION,
            format!("Shrink with `bias = {bias}` and `lambd = {lambd}`"),
            "use Hardshrink (`bias = 0`) or Softshrink (`bias = lambd`), `lambd` not below zero",
        ));
    }
    let width = row.affine.width();
    let too_large = || node.form(format!("Shrink of {width} values is too large"), "use a smaller layer");
    let negative = row.affine.scaled(-1.0);
    let both = align::joined(stages, &row.affine, &negative, &node.reference).ok_or_else(too_large)?;
    let both = Row { affine: both, ..row.clone() };
    let parts = if bias == 0.0 {
        activated(stages, node, &both, Function::ThresholdedRelu { alpha: lambd })
    } else {
        rectified(stages, node, &Row { affine: both.affine.shifted(-lambd), ..both })
    };
    let part = |start: usize| parts.affine.picked(&(start..start + width).collect::<Vec<usize>>());
    let difference = part(0)
        .zip(part(width))
        .and_then(|(above, below)| align::sum(stages, &above, &below.scaled(-1.0), &node.reference));
    let affine = difference.ok_or_else(too_large)?;
    Ok(vec![Value::Row(Row { affine, shape: row.shape.clone(), integer: false })])
}

fn tanh(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    if let Some((Stage::Open { before, part: Open::Cubic { linear, cube }, .. }, scale, 0.0)) =
        single(stages, &row.affine)
    {
        // The argument of Gelu's approximation is a multiple of what the cubic reads.
        let multiple = scale * linear / (2.0 / std::f64::consts::PI).sqrt();
        if is(cube / linear, CUBE * multiple * multiple) {
            let argument = before.scaled(snapped(multiple));
            return Ok(vec![Value::Row(open(stages, node, row, argument, Open::TanhOfCubic))]);
        }
    }
    Ok(vec![Value::Row(activated(stages, node, row, Function::Tanh))])
}

fn error_function(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    Ok(vec![Value::Row(open(stages, node, row, row.affine.clone(), Open::Erf))])
}

/// `exp` of data, of which the rest of the graph may make a function that is known.
pub(super) fn exponential(stages: &mut Stages, node: &Node<'_>, row: &Row) -> Row {
    open(stages, node, row, row.affine.clone(), Open::Exp)
}

/// The square root of data, which is known in comparisons only.
pub(super) fn root(stages: &mut Stages, node: &Node<'_>, row: &Row) -> Row {
    open(stages, node, row, row.affine.clone(), Open::Root)
}

/// What is above `limit` squared where `row`, a square root, is above `limit`.
pub(super) fn under_root(stages: &Stages, row: &Row, limit: f64) -> Option<(Row, f64)> {
    let (Stage::Open { before, part: Open::Root, .. }, scale, offset) = single(stages, &row.affine)? else {
        return None;
    };
    let limit = (limit - offset) / scale;
    let affine = before.as_ref().clone();
    (scale > 0.0 && limit >= 0.0).then(|| (Row { affine, ..row.clone() }, limit * limit))
}

/// A part of a function, in the shape of `row`.
fn open(stages: &mut Stages, node: &Node<'_>, row: &Row, before: Affine, part: Open) -> Row {
    let width = before.width();
    let stage = Stage::Open { before: Box::new(before), part, node: node.reference.clone() };
    let affine = Affine::of_stage(stages.push(stage), width);
    Row { affine, shape: row.shape.clone(), integer: false }
}

/// The stage, scale and offset of a map that is `scale * x + offset` of each value of a stage.
fn single<'a>(stages: &'a Stages, affine: &Affine) -> Option<(&'a Stage, f64, f64)> {
    let stage = stages.get(affine.stage);
    let width = match stage {
        Stage::Activated { before, .. } | Stage::Open { before, .. } => before.width(),
        Stage::Inputs | Stage::Trees { .. } => return None,
    };
    let (scale, offset) = affine.of_each(width)?;
    Some((stage, scale, offset))
}

/// `function(argument) * factor` in the shape of `row`.
fn applied(
    stages: &mut Stages,
    node: &Node<'_>,
    row: &Row,
    argument: Affine,
    function: Function,
    factor: f64,
) -> Row {
    let result = activated(stages, node, &Row { affine: argument, ..row.clone() }, function);
    Row { affine: result.affine.scaled(factor), ..result }
}

/// `1` where the number differs from it by rounding only.
fn snapped(factor: f64) -> f64 {
    if is(factor, 1.0) { 1.0 } else { factor }
}

/// The product of two values that both depend on the input, where it is a function of one of them.
pub(super) fn product(stages: &mut Stages, node: &Node<'_>, left: &Row, right: &Row) -> Option<Row> {
    if left.shape != right.shape {
        return None;
    }
    if let Some((factor, shift)) = left.affine.related(&right.affine)
        && shift == 0.0
    {
        return Some(applied(stages, node, left, left.affine.clone(), Function::Square, factor));
    }
    gated(stages, node, left, right).or_else(|| gated(stages, node, right, left))
}

/// `row` times a function of it.
fn gated(stages: &mut Stages, node: &Node<'_>, row: &Row, gate: &Row) -> Option<Row> {
    if let Some((argument, high, factor)) = clipped(stages, row, gate) {
        // `clip(c, 0, high)` is `high * clip(q x + 1/2, 0, 1)`, and `q x = v / 6` for the argument `v`.
        let inner = argument.scaled(1.0 / high);
        let (slope, half) = row.affine.related(&inner)?;
        let scale = snapped(6.0 * slope);
        return is(half, 0.5).then(|| {
            let argument = row.affine.scaled(scale);
            applied(stages, node, row, argument, Function::HardSwish, snapped(factor * high / scale))
        });
    }
    let (stage, scale, offset) = single(stages, &gate.affine)?;
    let (argument, function, factor) = match stage {
        Stage::Open { before, part: Open::Erf, .. } if is(offset, scale) => {
            // `row = q before`, and the function reads `before * sqrt(2)`.
            let (q, shift) = before.related(&row.affine)?;
            let factor = snapped(q * std::f64::consts::FRAC_1_SQRT_2);
            (shift == 0.0).then_some(())?;
            (row.affine.scaled(1.0 / factor), Function::Gelu, 2.0 * scale * factor)
        }
        Stage::Open { before, part: Open::TanhOfCubic, .. } if is(offset, scale) => {
            let (q, shift) = before.related(&row.affine)?;
            (shift == 0.0).then_some(())?;
            (before.as_ref().clone(), Function::TanhGelu, 2.0 * scale * q)
        }
        Stage::Activated { before, activation: Activation::Function(Function::Square), .. } => {
            let (q, shift) = before.related(&row.affine)?;
            (shift == 0.0).then_some(())?;
            let part = Open::Cubic { linear: offset * q, cube: scale * q };
            let before = before.as_ref().clone();
            return Some(open(stages, node, row, before, part));
        }
        Stage::Activated { before, activation: Activation::Function(Function::Tanh), .. }
            if offset == 0.0 =>
        {
            let (Stage::Activated { before, activation, .. }, 1.0, 0.0) = single(stages, before)? else {
                return None;
            };
            let (q, shift) = before.related(&row.affine)?;
            (shift == 0.0 && *activation == Activation::Function(Function::Softplus)).then_some(())?;
            (before.as_ref().clone(), Function::Mish, scale * q)
        }
        Stage::Activated { before, activation: Activation::Function(Function::Sigmoid), .. }
            if offset == 0.0 =>
        {
            let (slope, shift) = row.affine.related(before)?;
            (shift == 0.0).then_some(())?;
            (row.affine.clone(), Function::Silu { slope: snapped(slope) }, scale)
        }
        Stage::Activated { .. } | Stage::Open { .. } | Stage::Inputs | Stage::Trees { .. } => return None,
    };
    Some(applied(stages, node, row, argument, function, snapped(factor)))
}

/// The argument, bound and factor of a gate that is a factor times a Clip from zero on.
fn clipped(stages: &Stages, row: &Row, gate: &Row) -> Option<(Affine, f64, f64)> {
    let known = stages.pieces.iter().rev().filter(|pieces| pieces.argument.stage == row.affine.stage);
    known.into_iter().find_map(|pieces| {
        let PiecesShape::Clip { high } = pieces.shape else { return None };
        let (factor, shift) = pieces.result.related(&gate.affine)?;
        (shift == 0.0).then(|| (pieces.argument.clone(), high, factor))
    })
}

/// `row * sigmoid(z)` where `z` is a multiple of the row.
pub(super) fn silu(stages: &mut Stages, node: &Node<'_>, row: &Row, z: &Row) -> Option<Row> {
    let (slope, shift) = row.affine.related(&z.affine)?;
    let function = Function::Silu { slope: snapped(slope) };
    (shift == 0.0 && row.shape == z.shape)
        .then(|| applied(stages, node, row, row.affine.clone(), function, 1.0))
}

/// The argument `z` and the factor of `1 / (c + c exp(-z))`, when the row is such a denominator.
pub(super) fn reciprocal_of_sigmoid(stages: &Stages, row: &Row) -> Option<(Row, f64)> {
    let (Stage::Open { before, part: Open::Exp, .. }, scale, offset) = single(stages, &row.affine)? else {
        return None;
    };
    is(offset, scale).then(|| (Row { affine: before.scaled(-1.0), ..row.clone() }, 1.0 / scale))
}

/// The quotient of two values that both depend on the input, where it is a function of the first.
pub(super) fn quotient(stages: &mut Stages, node: &Node<'_>, left: &Row, right: &Row) -> Option<Row> {
    if left.shape != right.shape {
        return None;
    }
    if let Some((z, factor)) = reciprocal_of_sigmoid(stages, right) {
        let row = silu(stages, node, left, &z)?;
        return Some(Row { affine: row.affine.scaled(factor), ..row });
    }
    // `x / (1 + |x|)`.
    let known = stages.pieces.iter().rev().filter(|pieces| pieces.shape == PiecesShape::Abs);
    let (argument, factor) = known.into_iter().find_map(|pieces| {
        let (scale, offset) = pieces.result.related(&right.affine)?;
        let (q, shift) = pieces.argument.related(&left.affine)?;
        (shift == 0.0 && is(offset, scale)).then(|| (pieces.argument.clone(), q / scale))
    })?;
    Some(applied(stages, node, left, argument, Function::Softsign, snapped(factor)))
}

/// The sum of a value and the third power of it.
pub(super) fn cubic(stages: &mut Stages, node: &Node<'_>, left: &Row, right: &Row) -> Option<Row> {
    let mut either = |row: &Row, power: &Row| {
        let (Stage::Open { before, part: Open::Cubic { linear, cube }, .. }, scale, 0.0) =
            single(stages, &power.affine)?
        else {
            return None;
        };
        let (q, shift) = before.related(&row.affine)?;
        let part = Open::Cubic { linear: q + scale * linear, cube: scale * cube };
        let before = before.as_ref().clone();
        (shift == 0.0 && row.shape == power.shape).then(|| open(stages, node, row, before, part))
    };
    either(left, right).or_else(|| either(right, left))
}

/// A power of data by a constant.
pub(super) fn power(stages: &mut Stages, node: &Node<'_>, row: &Row, exponent: f64) -> Option<Row> {
    if exponent == 1.0 {
        return Some(row.clone());
    }
    if exponent == 2.0 {
        return Some(applied(stages, node, row, row.affine.clone(), Function::Square, 1.0));
    }
    let cube = Open::Cubic { linear: 0.0, cube: 1.0 };
    (exponent == 3.0).then(|| open(stages, node, row, row.affine.clone(), cube))
}

/// `log(c + c exp(x))`, which is Softplus and a constant, or `log(1 + relu(x))`.
pub(super) fn logarithm(stages: &mut Stages, node: &Node<'_>, row: &Row) -> Option<Row> {
    let (stage, scale, offset) = single(stages, &row.affine)?;
    let (before, function, shift) = match stage {
        Stage::Open { before, part: Open::Exp, .. } if is(offset, scale) && scale > 0.0 => {
            (before.as_ref().clone(), Function::Softplus, snapped(scale).ln())
        }
        Stage::Activated { before, activation: Activation::Relu, .. } if scale > 0.0 && offset == 1.0 => {
            (before.scaled(scale), Function::LogOnePlus, 0.0)
        }
        Stage::Open { .. } | Stage::Activated { .. } | Stage::Inputs | Stage::Trees { .. } => return None,
    };
    let result = applied(stages, node, row, before, function, 1.0);
    Some(Row { affine: result.affine.shifted(shift), ..result })
}

/// `log(sigmoid(z))`, which is `-softplus(-z)`.
pub(super) fn log_of_sigmoid(stages: &mut Stages, node: &Node<'_>, z: &Row) -> Row {
    applied(stages, node, z, z.affine.scaled(-1.0), Function::Softplus, -1.0)
}
