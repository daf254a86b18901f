//! Quant and BipolarQuant of QONNX, as Brevitas exports them: rounding to integers and back in one node.

use super::activation::activated;
use super::quantised::{levels, scaled, shared};
use super::{Entry, fold};
use crate::diag::codes::onnx as codes;
use crate::model::Function;
use crate::onnx::affine::Step;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::tensor::{Data, Dims, Span, Tensor, element_count};
use crate::onnx::value::{Quantised, Row, Stages, Value};

pub(super) const TABLE: &[Entry] = &[
    ("qonnx.custom_op.general", "Quant", quant),
    ("qonnx.custom_op.general", "IntQuant", quant),
    ("qonnx.custom_op.general", "BipolarQuant", bipolar),
    ("finn.custom_op.general", "Quant", quant),
    ("finn.custom_op.general", "BipolarQuant", bipolar),
    ("onnx.brevitas", "Quant", quant),
    ("onnx.brevitas", "BipolarQuant", bipolar),
];

/// Widest integers of constants.
const MOST_BITS: f64 = 32.0;

/// `(clamp(round(x / scale + zero), low, high) - zero) * scale`.
fn quant(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let mode = node.text("rounding_mode").unwrap_or_else(|| "ROUND".to_owned());
    if !matches!(mode.to_ascii_uppercase().as_str(), "ROUND" | "HALF_EVEN") {
        return Err(node.refuse(
            &codes::QUANTISED,
            format!("{} rounds by {mode}", node.operator()),
            "train with the rounding mode ROUND: to the nearest integer, halves to even ones",
        ));
    }
    let span = span(node)?;
    let scale = positive(node, 1)?;
    let zero = node.constant(2, "the zero point")?;
    let zeros = zero.numbers().unwrap_or_default();
    if zeros.iter().any(|zero| zero.fract() != 0.0 || zero.abs() > 2f64.powi(32)) {
        return Err(node.refuse(
            &codes::QUANTISED,
            format!("a zero point of {} is no integer", node.operator()),
            "train with zero points that are integers, or with none",
        ));
    }
    if let Value::Constant(tensor) = node.input(0)? {
        let each = |value: f64, scale: f64, zero: f64| {
            let integer = (value as f32 / scale as f32 + zero as f32).round_ties_even() as i64;
            (integer.clamp(span.low, span.high) as f64 - zero) * scale
        };
        let result = spread(tensor, scale, zero, each).ok_or_else(|| mismatch(node, tensor, scale))?;
        return Ok(vec![Value::Constant(result)]);
    }
    let row = node.row(0)?;
    let numbers = scale.numbers().unwrap_or_default();
    let (Some(scale), Some(zero)) = (shared(&numbers), shared(&zeros)) else { return Err(each_column(node)) };
    let levels = levels(node, scale, zero as i64, Some(span))?;
    let quantised = Quantised { row: row.clone(), levels, span: None, node: node.reference.clone() };
    Ok(vec![Value::Row(quantised.real(stages))])
}

/// `scale` from zero on, `-scale` below.
fn bipolar(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let scale = positive(node, 1)?;
    if let Value::Constant(tensor) = node.input(0)? {
        let zero = Tensor::scalar_float(0.0);
        let each = |value: f64, scale: f64, _: f64| if value >= 0.0 { scale } else { -scale };
        let result = spread(tensor, scale, &zero, each).ok_or_else(|| mismatch(node, tensor, scale))?;
        return Ok(vec![Value::Constant(result)]);
    }
    let row = node.row(0)?;
    let scale = shared(&scale.numbers().unwrap_or_default()).ok_or_else(|| each_column(node))?;
    // The step is above zero only, so it is that of the negated number.
    let negated = row.affine.elementwise(&vec![Step::Multiply(-1.0); row.affine.width()]);
    let below = activated(stages, node, &Row { affine: negated, ..row.clone() }, Function::Step);
    Ok(vec![Value::Row(scaled(&below, -2.0 * scale, scale))])
}

/// The integers of the node's bit width.
fn span(node: &Node<'_>) -> Result<Span, Refusal> {
    let bits = node.constant(3, "the bit width")?.numbers().unwrap_or_default();
    let whole = shared(&bits).filter(|bits| bits.fract() == 0.0 && (1.0..=MOST_BITS).contains(bits));
    let Some(bits) = whole else {
        return Err(node.refuse(
            &codes::QUANTISED,
            format!("{} has a bit width of {bits:?}", node.operator()),
            "train with one whole number of bits for each tensor",
        ));
    };
    let narrow = i64::from(node.int("narrow", 0) != 0);
    let all = 1_i64 << (bits as u32);
    Ok(if node.int("signed", 1) == 0 {
        Span { low: 0, high: all - 1 - narrow }
    } else {
        Span { low: -(all / 2) + narrow, high: all / 2 - 1 }
    })
}

fn positive<'a>(node: &'a Node<'_>, index: usize) -> Result<&'a Tensor, Refusal> {
    let scale = node.constant(index, "the scale")?;
    let numbers = scale.numbers().unwrap_or_default();
    if numbers.is_empty() || numbers.iter().any(|scale| scale.is_nan() || *scale <= 0.0) {
        return Err(node.form(
            format!("a scale of {} is not above zero", node.operator()),
            "train again: a layer whose scale is zero is constant",
        ));
    }
    Ok(scale)
}

/// A function of a constant, its scale and its zero point, with the format's broadcasting.
fn spread(
    tensor: &Tensor,
    scale: &Tensor,
    zero: &Tensor,
    each: impl Fn(f64, f64, f64) -> f64,
) -> Option<Tensor> {
    let dims = fold::broadcast(&tensor.dims, &scale.dims)?;
    if dims != tensor.dims || fold::broadcast(&dims, &zero.dims)? != dims {
        return None;
    }
    let count = element_count(&dims)?;
    let (values, scales, zeros) = (tensor.numbers()?, scale.numbers()?, zero.numbers()?);
    let places =
        fold::positions(&scale.dims, &dims, count).into_iter().zip(fold::positions(&zero.dims, &dims, count));
    let result = values
        .into_iter()
        .zip(places)
        .map(|(value, (scale, zero))| Some(each(value, *scales.get(scale)?, *zeros.get(zero)?)))
        .collect::<Option<_>>()?;
    Some(Tensor::new(dims, Data::Float(result)))
}

fn mismatch(node: &Node<'_>, tensor: &Tensor, scale: &Tensor) -> Refusal {
    node.shapes(format!(
        "a scale of shape {} for a constant of shape {}",
        Dims(&scale.dims),
        Dims(&tensor.dims)
    ))
}

fn each_column(node: &Node<'_>) -> Refusal {
    node.refuse(
        &codes::QUANTISED,
        format!("{} has a scale for each value of its data", node.operator()),
        "quantise data per tensor; scales for each channel are for constants",
    )
}
