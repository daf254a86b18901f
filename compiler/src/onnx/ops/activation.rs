//! ReLU, and element-wise functions made of straight pieces, which become sums of ReLUs, exactly. Curves are in
//! `curves`.
//!
//! Each piece costs a neuron for each value: LeakyRelu, PRelu, Clip, HardSigmoid and Abs double the width of their
//! layer, Max and Min with a constant leave it. Behind numbers that the graph rounds they stay functions of one number.

use super::arithmetic::spread;
use super::dense::gemm_row;
use super::{Entry, curves, fold, quantised};
use crate::diag::codes::onnx as codes;
use crate::model::{Activation, Function, Matrix};
use crate::onnx::affine::{Affine, Step};
use crate::onnx::align;
use crate::onnx::limits::MAX_TENSOR_ELEMENTS;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::value::{Pieces, PiecesShape, Row, Stage, Stages, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "Relu", relu),
    ("", "LeakyRelu", leaky_relu),
    ("", "PRelu", p_relu),
    ("", "Clip", clip),
    ("", "HardSigmoid", hard_sigmoid),
    ("", "Max", extreme),
    ("", "Min", extreme),
    ("com.microsoft", "FusedGemm", fused_gemm),
];

/// The format's default slope of LeakyRelu below zero.
const SLOPE: f32 = 0.01;
/// The format's default slope of HardSigmoid.
const RISE: f32 = 0.2;

/// Beyond this a bound of Clip bounds nothing: exporters write the largest float for none.
const UNBOUNDED: f64 = 1e30;

fn relu(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    if let Value::Quantised(quantised) = node.input(0)? {
        return quantised::narrowed(node, quantised, Some(0.0), None);
    }
    let row = node.row(0)?;
    Ok(vec![Value::Row(rectified(stages, node, row))])
}

pub(super) fn rectified(stages: &mut Stages, node: &Node<'_>, row: &Row) -> Row {
    staged(stages, node, row, Activation::Relu)
}

/// A curved function of each value of a row.
pub(super) fn activated(stages: &mut Stages, node: &Node<'_>, row: &Row, function: Function) -> Row {
    Row { integer: false, ..staged(stages, node, row, Activation::Function(function)) }
}

fn staged(stages: &mut Stages, node: &Node<'_>, row: &Row, activation: Activation) -> Row {
    let before = Box::new(row.affine.clone());
    let width = before.width();
    let stage = stages.push(Stage::Activated { before, activation, plain: 0, node: node.reference.clone() });
    Row { affine: Affine::of_stage(stage, width), shape: row.shape.clone(), integer: row.integer }
}

/// One ReLU for each value of a row: `weight * relu(slope * x + shift)`.
struct Piece {
    slope: Vec<f64>,
    shift: Vec<f64>,
    weight: Vec<f64>,
}

impl Piece {
    /// The same for each of so many values.
    fn of(width: usize, slope: f64, shift: f64, weight: f64) -> Self {
        Self { slope: vec![slope; width], shift: vec![shift; width], weight: vec![weight; width] }
    }
}

/// The sum of pieces and a constant for each value.
fn pieces(
    stages: &mut Stages,
    node: &Node<'_>,
    row: &Row,
    pieces: &[Piece],
    constant: &[f64],
) -> Result<Row, Refusal> {
    let width = row.affine.width();
    let too_large = || {
        node.refuse(
            &codes::TOO_LARGE,
            format!("{} of {width} values is too large", node.operator()),
            "use a smaller layer, or ReLU",
        )
    };
    let mut before: Option<Affine> = None;
    for piece in pieces {
        let slopes: Vec<Step> = piece.slope.iter().copied().map(Step::Multiply).collect();
        let shifts: Vec<Step> = piece.shift.iter().copied().map(Step::Add).collect();
        let own = row.affine.elementwise(&slopes).elementwise(&shifts);
        before = Some(match before {
            None => own,
            Some(before) => align::joined(stages, &before, &own, &node.reference).ok_or_else(too_large)?,
        });
    }
    let before = before.ok_or_else(too_large)?;
    let all = rectified(stages, node, &Row { affine: before, ..row.clone() });
    let columns = width * pieces.len();
    let mut values =
        vec![
            0.0;
            columns.checked_mul(width).filter(|&size| size <= MAX_TENSOR_ELEMENTS).ok_or_else(too_large)?
        ];
    for (index, weights) in values.chunks_mut(columns.max(1)).enumerate() {
        for (place, piece) in pieces.iter().enumerate() {
            if let (Some(slot), Some(weight)) =
                (weights.get_mut(place * width + index), piece.weight.get(index))
            {
                *slot = *weight;
            }
        }
    }
    let matrix = Matrix { rows: width, columns, values };
    let steps: Vec<Step> = constant.iter().copied().map(Step::Add).collect();
    let affine = all.affine.moved(matrix, &node.reference).ok_or_else(too_large)?.elementwise(&steps);
    Ok(Row { affine, shape: row.shape.clone(), integer: row.integer })
}

/// Keeps what pieces stand for: a product with them may be a function that is known.
fn remember(stages: &mut Stages, result: &Affine, argument: Affine, shape: PiecesShape) {
    stages.pieces.push(Pieces { result: result.clone(), argument, shape });
}

/// `|x|`.
pub(super) fn absolute(stages: &mut Stages, node: &Node<'_>, row: &Row) -> Result<Row, Refusal> {
    let result = leaky(stages, node, row, &vec![-1.0; row.affine.width()])?;
    remember(stages, &result.affine, row.affine.clone(), PiecesShape::Abs);
    Ok(result)
}

/// `x` above zero, `slope * x` below: `relu(x) - slope * relu(-x)`.
pub(super) fn leaky(stages: &mut Stages, node: &Node<'_>, row: &Row, slopes: &[f64]) -> Result<Row, Refusal> {
    let width = row.affine.width();
    if let Some(slope) =
        quantised::shared(slopes).filter(|slope| slope.is_finite() && stages.is_rounded(&row.affine))
    {
        return Ok(activated(stages, node, row, Function::LeakyRelu { slope }));
    }
    let below =
        Piece { weight: slopes.iter().map(|slope| -slope).collect(), ..Piece::of(width, -1.0, 0.0, 0.0) };
    pieces(stages, node, row, &[Piece::of(width, 1.0, 0.0, 1.0), below], &vec![0.0; width])
}

fn leaky_relu(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let slopes = vec![node.float("alpha", f64::from(SLOPE)); row.affine.width()];
    Ok(vec![Value::Row(leaky(stages, node, row, &slopes)?)])
}

fn p_relu(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let (slopes, shape) = spread(node, row, node.constant(1, "the slope")?)?;
    if shape != row.shape {
        return Err(node.shapes(format!("the slope of PRelu makes {shape} of data of shape {}", row.shape)));
    }
    Ok(vec![Value::Row(leaky(stages, node, row, &slopes)?)])
}

/// `x` between two bounds: `low + relu(x - low) - relu(x - high)`.
fn clipped(
    stages: &mut Stages,
    node: &Node<'_>,
    row: &Row,
    low: Option<f64>,
    high: Option<f64>,
) -> Result<Row, Refusal> {
    let width = row.affine.width();
    let sound = low.zip(high).is_none_or(|(low, high)| low < high);
    if stages.is_rounded(&row.affine) && sound && (low.is_some() || high.is_some()) {
        let low = low.unwrap_or(f64::NEG_INFINITY);
        let high = high.unwrap_or(f64::INFINITY);
        return Ok(activated(stages, node, row, Function::Clip { low, high }));
    }
    match (low, high) {
        (None, None) => Ok(row.clone()),
        (Some(low), None) => {
            pieces(stages, node, row, &[Piece::of(width, 1.0, -low, 1.0)], &vec![low; width])
        }
        (None, Some(high)) => {
            pieces(stages, node, row, &[Piece::of(width, -1.0, high, -1.0)], &vec![high; width])
        }
        (Some(low), Some(high)) if low < high => {
            let both = [Piece::of(width, 1.0, -low, 1.0), Piece::of(width, 1.0, -high, -1.0)];
            let result = pieces(stages, node, row, &both, &vec![low; width])?;
            if low == 0.0 {
                remember(stages, &result.affine, row.affine.clone(), PiecesShape::Clip { high });
            }
            Ok(result)
        }
        (Some(low), Some(high)) => Err(node.form(
            format!("{} between {low} and {high} is constant", node.operator()),
            "export the layer with a lower bound below the upper one",
        )),
    }
}

fn clip(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let bound = |index: usize, name: &str| -> Result<Option<f64>, Refusal> {
        let value = match node.optional(index) {
            Some(_) => {
                let tensor = node.constant(index, "a bound")?;
                Some(tensor.single().ok_or_else(|| node.shapes("a bound of Clip is no single number"))?)
            }
            // Until operator set 10 the bounds were attributes.
            None => node.has(name).then(|| node.float(name, 0.0)),
        };
        Ok(value.filter(|value| value.abs() < UNBOUNDED))
    };
    let (low, high) = (bound(1, "min")?, bound(2, "max")?);
    if let Value::Quantised(quantised) = node.input(0)? {
        return quantised::narrowed(node, quantised, low, high);
    }
    if let Value::Constant(tensor) = node.input(0)? {
        let (low, high) = (low.unwrap_or(f64::NEG_INFINITY), high.unwrap_or(f64::INFINITY));
        let wrong = || node.unsupported_value(&Value::Constant(tensor.clone()));
        return Ok(vec![Value::Constant(fold::clipped(tensor, low, high).ok_or_else(wrong)?)]);
    }
    Ok(vec![Value::Row(clipped(stages, node, node.row(0)?, low, high)?)])
}

fn hard_sigmoid(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let (alpha, beta) = (node.float("alpha", f64::from(RISE)), node.float("beta", 0.5));
    if stages.is_rounded(&row.affine) && alpha.is_finite() && beta.is_finite() {
        let function = Function::HardSigmoid { slope: alpha, offset: beta };
        return Ok(vec![Value::Row(activated(stages, node, row, function))]);
    }
    let width = row.affine.width();
    let both = [Piece::of(width, alpha, beta, 1.0), Piece::of(width, alpha, beta - 1.0, -1.0)];
    let result = pieces(stages, node, row, &both, &vec![0.0; width])?;
    let argument = row.affine.scaled(alpha).shifted(beta);
    remember(stages, &result.affine, argument, PiecesShape::Clip { high: 1.0 });
    Ok(vec![Value::Row(result)])
}

/// The larger or the smaller of two: `b + relu(a - b)`, or `b - relu(b - a)`.
fn extreme(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let mut result = node.input(0)?.clone();
    for index in 1..node.inputs.len() {
        let other = node.input(index)?;
        let (row, constant) = match (&result, other) {
            (Value::Row(row), Value::Constant(constant)) | (Value::Constant(constant), Value::Row(row)) => {
                (row.clone(), constant)
            }
            (Value::Row(_), _) => return Err(node.unsupported_value(other)),
            _ => return Err(node.unsupported_value(&result)),
        };
        let (bounds, shape) = spread(node, &row, constant)?;
        if shape != row.shape {
            return Err(node.shapes(format!(
                "{} makes {shape} of data of shape {}",
                node.operator(),
                row.shape
            )));
        }
        let is_max = node.operator() == "Max";
        if let Some(bound) = quantised::shared(&bounds).filter(|_| stages.is_rounded(&row.affine)) {
            let (low, high) = if is_max { (Some(bound), None) } else { (None, Some(bound)) };
            result = Value::Row(clipped(stages, node, &row, low, high)?);
            continue;
        }
        let sign = if is_max { 1.0 } else { -1.0 };
        let piece = Piece {
            shift: bounds.iter().map(|bound| -sign * bound).collect(),
            ..Piece::of(bounds.len(), sign, 0.0, sign)
        };
        result = Value::Row(pieces(stages, node, &row, &[piece], &bounds)?);
    }
    Ok(vec![result])
}

/// Gemm with the activation that onnxruntime's optimiser put into it.
fn fused_gemm(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = gemm_row(node)?;
    let row = match node.text("activation").as_deref() {
        None | Some("") => row,
        Some("Relu") => rectified(stages, node, &row),
        Some("LeakyRelu") => {
            let slopes = vec![node.float("activation_alpha", f64::from(SLOPE)); row.affine.width()];
            leaky(stages, node, &row, &slopes)?
        }
        Some(other) => curves::fused(stages, node, &row, other)?,
    };
    Ok(vec![Value::Row(row)])
}
