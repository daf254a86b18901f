//! Exponentials of outputs: a softmax that is written out, and `base ^ z` that is compared with a number.
//!
//! A softmax is the exponentials divided by their sum, also where the sum is guarded against zero by adding 1 when its
//! whole part is zero: the guard does nothing when every sum is at least 1, which is proved or the guard is refused.
//! A number `scale * exp(z) + offset` only grows or only falls with `z`, so a comparison with it is one of `z`.

use super::cases::is_all;
use crate::model::forest::Node as TreeNode;
use crate::onnx::affine::Step;
use crate::onnx::cases::{Label, Source, filled};
use crate::onnx::forests;
use crate::onnx::node::Node;
use crate::onnx::report::Refusal;
use crate::onnx::schema::data_type;
use crate::onnx::shape::Dim;
use crate::onnx::tensor::{Data, Tensor};
use crate::onnx::value::{Form, Row, Stages, Tail, Value};

/// Slack of a proof about numbers that a runtime computes in single precision.
const SLACK: f64 = 1e-3;
/// Above this a sum does not fit 32 bits.
const LARGEST: f64 = 2_147_483_000.0;

/// The value of an operator over exponentials; `None` where it is none.
pub(super) fn evaluate(stages: &mut Stages, node: &Node<'_>) -> Result<Option<Value>, Refusal> {
    let (left, right) = (node.optional(0), node.optional(1));
    match (node.operator(), left, right) {
        ("Exp", Some(Value::Row(row)), None) => Ok(Some(exponentials(row, 1.0))),
        ("Pow", Some(Value::Constant(base)), Some(Value::Row(row))) => {
            let base = number(base, row.shape.rank()).filter(|base| *base > 0.0 && *base != 1.0);
            Ok(base.map(|base| exponentials(row, base.ln())))
        }
        ("ReduceSum", Some(Value::Tail(tail)), axes) => Ok(sum(node, tail, axes)),
        ("Cast", Some(Value::Tail(tail)), None) => whole(stages, node, tail),
        ("Equal", Some(Value::Tail(tail)), Some(Value::Constant(zero)))
        | ("Equal", Some(Value::Constant(zero)), Some(Value::Tail(tail))) => guard(stages, node, tail, zero),
        ("Div", Some(Value::Tail(tail)), Some(Value::Tail(sum))) => Ok(softmax(tail, sum)),
        (
            "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual",
            Some(Value::Tail(tail)),
            Some(Value::Constant(limit)),
        ) => compared(stages, node, tail, limit, false),
        (
            "Less" | "Greater" | "LessOrEqual" | "GreaterOrEqual",
            Some(Value::Constant(limit)),
            Some(Value::Tail(tail)),
        ) => compared(stages, node, tail, limit, true),
        (_, Some(Value::Tail(tail)), None) => Ok(affine(node, tail, None, false)),
        (_, Some(Value::Tail(tail)), Some(Value::Constant(constant))) => {
            Ok(affine(node, tail, Some(constant), false))
        }
        (_, Some(Value::Constant(constant)), Some(Value::Tail(tail))) => {
            Ok(affine(node, tail, Some(constant), true))
        }
        _ => Ok(None),
    }
}

/// The only number of a constant that does not add axes to a value of this rank.
fn number(constant: &Tensor, rank: usize) -> Option<f64> {
    constant.single().filter(|value| value.is_finite() && constant.dims.len() <= rank)
}

/// `exp(factor * z)` of each number.
fn exponentials(row: &Row, factor: f64) -> Value {
    let affine = if factor == 1.0 {
        row.affine.clone()
    } else {
        row.affine.elementwise(&vec![Step::Multiply(factor); row.affine.width()])
    };
    let form = Form::Exponential { scale: 1.0, offset: 0.0 };
    let row = Row { affine, ..row.clone() };
    Value::Tail(Tail { form, shape: row.shape.clone(), row, classes: None, rounded: None })
}

fn sum(node: &Node<'_>, tail: &Tail, axes: Option<&Value>) -> Option<Value> {
    if tail.form != (Form::Exponential { scale: 1.0, offset: 0.0 }) {
        return None;
    }
    let axes = match axes {
        Some(Value::Constant(axes)) => axes.integers()?,
        Some(
            Value::Extent { .. }
            | Value::Row(_)
            | Value::Tail(_)
            | Value::Cases(_)
            | Value::Quantised(_)
            | Value::Refused,
        ) => {
            return None;
        }
        None => node.ints("axes")?,
    };
    let [axis] = axes else { return None };
    let axis = tail.shape.axis(*axis).filter(|axis| tail.shape.feature_axis() == Some(*axis))?;
    let shape = if node.int("keepdims", 1) != 0 {
        tail.shape.with(axis, Dim::Of(1))
    } else {
        tail.shape.without(axis)
    };
    Some(Value::Tail(Tail { form: Form::ExponentialSum { whole: false }, shape, ..tail.clone() }))
}

/// The sum without its fraction.
fn whole(stages: &Stages, node: &Node<'_>, tail: &Tail) -> Result<Option<Value>, Refusal> {
    let target = i32::try_from(node.int("to", 0)).unwrap_or(0);
    let integer = matches!(target, data_type::INT32 | data_type::INT64);
    if !integer || !matches!(tail.form, Form::ExponentialSum { .. }) {
        return Ok(None);
    }
    match bounds(stages, &tail.row) {
        Some((_, high)) if high < LARGEST => {
            let form = Form::ExponentialSum { whole: true };
            Ok(Some(Value::Tail(Tail { form, ..tail.clone() })))
        }
        _ => Err(unproved(node)),
    }
}

/// Whether the sum is zero: never, or refused.
fn guard(stages: &Stages, node: &Node<'_>, tail: &Tail, zero: &Tensor) -> Result<Option<Value>, Refusal> {
    let Form::ExponentialSum { whole } = tail.form else { return Ok(None) };
    if !is_all(zero, 0.0) || zero.dims.len() > tail.shape.rank() || zero.len() != 1 {
        return Ok(None);
    }
    let least = if whole { 1.0 + SLACK } else { SLACK };
    match bounds(stages, &tail.row) {
        Some((low, _)) if low >= least => {
            let dims = vec![1; tail.shape.rank()];
            Ok(Some(Value::Constant(Tensor::new(dims, Data::Int(vec![0])))))
        }
        _ => Err(unproved(node)),
    }
}

fn unproved(node: &Node<'_>) -> Refusal {
    node.form(
        format!(
            "{} guards a sum of exponentials that may be as small or large as the guard says",
            node.operator()
        ),
        "end the model in a Softmax, which needs no guard, or in its scores",
    )
}

/// Bounds of the sum of the exponentials of the numbers of trees.
fn bounds(stages: &Stages, row: &Row) -> Option<(f64, f64)> {
    let forest = forests::of_row(stages, row)?;
    let width = forest.base.len();
    let count = width as f64;
    let (mut low, mut high) = (forest.base.clone(), forest.base.clone());
    // The mean of the exponentials is at least the exponential of the mean.
    let mut mean = forest.base.iter().sum::<f64>() / count;
    for tree in &forest.trees {
        let mut least = vec![f64::INFINITY; width];
        let mut most = vec![f64::NEG_INFINITY; width];
        let mut least_mean = f64::INFINITY;
        for node in &tree.nodes {
            let TreeNode::Leaf { weights } = node else { continue };
            let mut values = vec![0.0; width];
            for &(output, weight) in weights {
                *values.get_mut(output)? += weight;
            }
            least_mean = least_mean.min(values.iter().sum::<f64>() / count);
            for ((value, least), most) in values.iter().zip(&mut least).zip(&mut most) {
                *least = least.min(*value);
                *most = most.max(*value);
            }
        }
        mean += least_mean;
        low.iter_mut().zip(least).for_each(|(sum, value)| *sum += value);
        high.iter_mut().zip(most).for_each(|(sum, value)| *sum += value);
    }
    let total = |values: &[f64]| values.iter().map(|value| value.exp()).sum::<f64>();
    Some((total(&low).max(count * mean.exp()), total(&high)))
}

fn softmax(tail: &Tail, sum: &Tail) -> Option<Value> {
    let whole = tail.form == Form::Exponential { scale: 1.0, offset: 0.0 }
        && sum.form == Form::ExponentialSum { whole: false }
        && tail.row == sum.row
        && tail.row.affine.width() > 1;
    // One sum for each row, beside the numbers of that row.
    let features = tail.shape.feature_axis()?;
    let beside = sum.shape == tail.shape.with(features, Dim::Of(1));
    (whole && beside).then(|| Value::Tail(Tail { form: Form::Softmax, ..tail.clone() }))
}

/// Neg, Add, Sub, Mul and Div with one number.
fn affine(node: &Node<'_>, tail: &Tail, constant: Option<&Tensor>, first: bool) -> Option<Value> {
    if let (Form::ExponentialSum { whole: false }, Some(zero)) = (tail.form, constant) {
        let nothing = node.operator() == "Add"
            && zero.len() == 1
            && zero.dims.len() <= tail.shape.rank()
            && is_all(zero, 0.0);
        return nothing.then(|| Value::Tail(tail.clone()));
    }
    let Form::Exponential { scale, offset } = tail.form else { return None };
    let by = match constant {
        None => None,
        Some(constant) => Some(number(constant, tail.shape.rank())?),
    };
    let (scale, offset) = match (node.operator(), by, first) {
        ("Neg", None, _) => (-scale, -offset),
        ("Add" | "Sum", Some(by), _) => (scale, offset + by),
        ("Sub", Some(by), false) => (scale, offset - by),
        ("Sub", Some(by), true) => (-scale, by - offset),
        ("Mul", Some(by), _) => (scale * by, offset * by),
        ("Div", Some(by), false) => (scale / by, offset / by),
        _ => return None,
    };
    let sound = scale != 0.0 && scale.is_finite() && offset.is_finite();
    sound.then(|| Value::Tail(Tail { form: Form::Exponential { scale, offset }, ..tail.clone() }))
}

/// A comparison with a number, as the sign of another number: `z` less the logarithm of what it is compared with.
fn compared(
    stages: &mut Stages,
    node: &Node<'_>,
    tail: &Tail,
    limit: &Tensor,
    limit_first: bool,
) -> Result<Option<Value>, Refusal> {
    let Form::Exponential { scale, offset } = tail.form else { return Ok(None) };
    let Some(limit) = number(limit, tail.shape.rank()).filter(|_| tail.row.affine.width() == 1) else {
        return Ok(None);
    };
    let quotient = (limit - offset) / scale;
    if !(quotient > 0.0 && quotient.is_finite()) {
        return Err(node.form(
            format!("{} with {limit} has the same result for every input", node.operator()),
            "compare with a number that the exponential can reach",
        ));
    }
    // Whether the comparison, or its opposite where equal numbers count, holds above the limit.
    let or_equal = node.operator().ends_with("OrEqual");
    let above = node.operator().starts_with("Greater") ^ limit_first ^ (scale < 0.0) ^ or_equal;
    let sign = if above { 1.0 } else { -1.0 };
    let steps = [Step::Add(-quotient.ln()), Step::Multiply(sign)];
    let affine = steps.iter().fold(tail.row.affine.clone(), |affine, step| affine.elementwise(&[*step]));
    let row = Row { affine, ..tail.row.clone() };
    if or_equal {
        let of = Source::Label(Box::new(Label { row, logistic: true }));
        return Ok(filled(stages, of, &tail.shape, 2, Data::Int(vec![1, 0])).map(Value::Cases));
    }
    let form = Form::Label { logistic: true };
    Ok(Some(Value::Tail(Tail { row, form, shape: tail.shape.clone(), classes: None, rounded: None })))
}
