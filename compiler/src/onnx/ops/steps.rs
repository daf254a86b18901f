//! Comparisons and what reads them: Greater, Less, Sign, Not, And, Or, Where, Binarizer.
//!
//! At the end of a graph a comparison is a label. A layer that reads it gets 1 or 0 (`onnx/hidden.rs`).

use super::activation::{activated, leaky, rectified};
use super::arithmetic::spread;
use super::{Entry, ML, curves, replace};
use crate::model::{Activation, Function};
use crate::onnx::affine::{Affine, Step};
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::value::{Form, Row, Stage, Stages, Tail, Value};
use crate::onnx::{align, hidden};

pub(super) const TABLE: &[Entry] = &[
    ("", "Greater", compare),
    ("", "Less", compare),
    ("", "GreaterOrEqual", compare),
    ("", "LessOrEqual", compare),
    ("", "Sign", sign),
    ("", "Not", not),
    ("", "And", both),
    ("", "Or", both),
    ("", "Where", choose),
    (ML, "Binarizer", binarizer),
];

/// From here on `softplus(x)` is `x` but for a millionth.
const STRAIGHT: f64 = 14.0;

/// Whether one value is above another: the label of a number, or of each of several.
fn compare(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (first, second) = match node.operator() {
        "Greater" | "GreaterOrEqual" => (node.input(0)?, node.input(1)?),
        _ => (node.input(1)?, node.input(0)?),
    };
    let strict = matches!(node.operator(), "Greater" | "Less");
    Ok(vec![label(difference(stages, node, first, second)?, strict)])
}

/// The label of what is above zero, or at least zero.
fn label(row: Row, strict: bool) -> Value {
    let form = match (strict, row.affine.width()) {
        (true, 1) => Form::Label { logistic: true },
        (true, _) => Form::EachLabel,
        (false, _) => Form::EachAtLeast,
    };
    Value::Tail(Tail::of(&row, form))
}

/// A number whose sign is that of `first - second`.
fn difference(stages: &mut Stages, node: &Node<'_>, first: &Value, second: &Value) -> Result<Row, Refusal> {
    let minus = |affine: &Affine| affine.scaled(-1.0);
    let (value, constant, sign) = match (first, second) {
        (Value::Constant(constant), value) => (value, constant, -1.0),
        (value, Value::Constant(constant)) => (value, constant, 1.0),
        (Value::Row(left), Value::Row(right)) if left.shape == right.shape => {
            let sum = align::sum(stages, &left.affine, &minus(&right.affine), &node.reference);
            let affine = sum.ok_or_else(|| unsupported(node))?;
            return Ok(Row { affine, shape: left.shape.clone(), integer: false });
        }
        _ => return Err(unsupported(node)),
    };
    let (row, of_probability) = match value {
        Value::Row(row) => (row, false),
        Value::Tail(tail)
            if matches!(tail.form, Form::Probability | Form::EachProbability)
                && tail.rounded.is_none()
                && tail.shape == tail.row.shape =>
        {
            (&tail.row, true)
        }
        Value::Tail(_)
        | Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Cases(_)
        | Value::Refused => {
            return Err(unsupported(node));
        }
    };
    let under = constant.single().and_then(|limit| curves::under_root(stages, row, limit));
    let square = under.as_ref().map(|(_, square)| *square);
    let row = under.as_ref().map_or(row, |(row, _)| row);
    let (mut limits, shape) = spread(node, row, constant)?;
    if let Some(square) = square {
        limits.fill(square);
    }
    if of_probability {
        // The logistic function grows, so that its argument tells as well.
        limits = limits.iter().map(|p| (p / (1.0 - p)).ln()).collect();
    }
    if limits.iter().any(|limit| !limit.is_finite()) {
        return Err(unsupported(node));
    }
    let steps: Vec<Step> = limits.into_iter().map(|limit| Step::Add(-limit)).collect();
    let affine = row.affine.elementwise(&steps).scaled(sign);
    Ok(Row { affine, shape, integer: false })
}

fn unsupported(node: &Node<'_>) -> Refusal {
    node.form(
        format!("{} is only known for numbers of the network and constants", node.operator()),
        "leave thresholds on probabilities out of the model and write them into the specification: \
         `on attack when p >= 0.9`",
    )
}

/// -1, 0 or 1. At the end of a model it is the label of a number, -1 or 1; zero counts as -1 there.
fn sign(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    if row.affine.width() == 1 {
        let classes = Some(vec!["-1".to_owned(), "1".to_owned()]);
        let form = Form::Label { logistic: true };
        return Ok(vec![Value::Tail(Tail { classes, ..Tail::of(row, form) })]);
    }
    let affine = hidden::sign(stages, &row.affine, &node.reference);
    let affine = affine.ok_or_else(|| node.unsupported_value(&Value::Row(row.clone())))?;
    Ok(vec![Value::Row(Row { affine, ..row.clone() })])
}

fn not(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let value = node.input(0)?;
    if let Value::Row(row) = value
        && let Some(opposite) = replace::unequal(stages, row)
    {
        return Ok(vec![Value::Row(opposite)]);
    }
    let Value::Tail(Tail { row, form, shape, classes: None, .. }) = value else {
        return Err(node.unsupported_value(value));
    };
    let strict = strictness(form).ok_or_else(|| node.unsupported_value(value))?;
    let row = Row { affine: row.affine.scaled(-1.0), shape: shape.clone(), integer: false };
    Ok(vec![label(row, !strict)])
}

/// Both of two labels, or one of them at least; they are 1 or 0 here.
fn both(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (left, right) = (node.row(0)?, node.row(1)?);
    let wrong = || node.unsupported_value(&Value::Row(right.clone()));
    if left.shape != right.shape {
        return Err(wrong());
    }
    let sum = align::sum(stages, &left.affine, &right.affine, &node.reference).ok_or_else(wrong)?;
    let least = if node.operator() == "And" { 1.5 } else { 0.5 };
    let row = Row { affine: sum.shifted(-least), shape: left.shape.clone(), integer: false };
    Ok(vec![label(row, true)])
}

/// 1 above the threshold, else 0.
fn binarizer(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let row = node.row(0)?;
    let threshold = node.float("threshold", 0.0);
    let above = Row { affine: row.affine.shifted(-threshold), ..row.clone() };
    Ok(vec![Value::Row(activated(stages, node, &above, Function::Step))])
}

/// One of two values for each number, by a comparison.
fn choose(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let (yes, no) = (node.input(1)?, node.input(2)?);
    let wrong = || {
        node.form(
            "Where is only known with two constants, as ReLU, LeakyReLU, a threshold or Softplus, or to replace a \
             value of a feature by a number",
            "use the operator of the activation, or arithmetic on numbers of the network",
        )
    };
    if let Value::Row(condition) = node.input(0)?
        && let Some(row) = replace::chosen(stages, node, condition, (yes, no))?
    {
        return Ok(vec![Value::Row(row)]);
    }
    let row = match (node.input(0)?, yes, no) {
        // Comparisons are 1 or 0 where they are numbers.
        (Value::Row(step), Value::Constant(yes), Value::Constant(no)) => {
            let (yes, shape) = spread(node, step, yes)?;
            let (no, same) = spread(node, step, no)?;
            if shape != same {
                return Err(wrong());
            }
            let factors: Vec<Step> = yes.iter().zip(&no).map(|(yes, no)| Step::Multiply(yes - no)).collect();
            let constants: Vec<Step> = no.into_iter().map(Step::Add).collect();
            Row { affine: step.affine.elementwise(&factors).elementwise(&constants), shape, integer: false }
        }
        (Value::Tail(tail), Value::Row(yes), Value::Constant(no))
            if no.single() == Some(0.0) && no.dims.len() <= yes.shape.rank() =>
        {
            let (condition, strict) = condition(tail).ok_or_else(wrong)?;
            threshold(stages, node, condition, strict, yes).ok_or_else(wrong)?
        }
        (Value::Tail(tail), Value::Row(yes), Value::Row(no)) if yes.shape == no.shape => {
            let (condition, _) = condition(tail).ok_or_else(wrong)?;
            match straight(stages, &condition.affine, &yes.affine, &no.affine) {
                Some(()) => no.clone(),
                None => bent(stages, node, condition, yes, no)?.ok_or_else(wrong)?,
            }
        }
        _ => return Err(wrong()),
    };
    Ok(vec![Value::Row(row)])
}

/// What must be above zero, or at least zero.
fn condition(tail: &Tail) -> Option<(&Row, bool)> {
    let strict = strictness(&tail.form)?;
    (tail.shape == tail.row.shape).then_some((&tail.row, strict))
}

/// Whether a label is 1 above zero only, or at zero as well.
const fn strictness(form: &Form) -> Option<bool> {
    Some(match form {
        Form::Label { logistic: true } | Form::EachLabel => true,
        Form::EachAtLeast => false,
        Form::Softmax
        | Form::LogSoftmax
        | Form::Probability
        | Form::Complement
        | Form::BothProbabilities
        | Form::SomeProbabilities { .. }
        | Form::Label { logistic: false }
        | Form::BothScores { .. }
        | Form::OneVersusRest
        | Form::Values
        | Form::EachProbability
        | Form::Exponential { .. }
        | Form::ExponentialSum { .. }
        | Form::EachClass => return None,
    })
}

/// `x` where it is above a number (or below one), else 0.
fn threshold(stages: &mut Stages, node: &Node<'_>, condition: &Row, strict: bool, row: &Row) -> Option<Row> {
    let (factor, shift) = row.affine.related(&condition.affine)?;
    let sign = factor.signum();
    let alpha = -shift / factor.abs();
    let above = Row { affine: row.affine.scaled(sign), ..row.clone() };
    let result = if alpha == 0.0 {
        rectified(stages, node, &above)
    } else if strict {
        activated(stages, node, &above, Function::ThresholdedRelu { alpha })
    } else {
        return None;
    };
    (condition.shape == row.shape).then(|| Row { affine: result.affine.scaled(sign), ..result })
}

/// Softplus, replaced by its argument where that is large.
fn straight(stages: &Stages, condition: &Affine, yes: &Affine, no: &Affine) -> Option<()> {
    let Stage::Activated { before, activation: Activation::Function(Function::Softplus), .. } =
        stages.get(no.stage)
    else {
        return None;
    };
    let (scale, offset) = no.of_each(before.width())?;
    let (own, shift) = before.related(yes)?;
    let (slope, negative) = before.related(condition)?;
    let same = (own - scale).abs() <= 1e-6 * scale.abs() && offset == 0.0 && shift == 0.0;
    (same && slope > 0.0 && -negative / slope >= STRAIGHT).then_some(())
}

/// `x` above zero, a multiple of it below.
fn bent(
    stages: &mut Stages,
    node: &Node<'_>,
    condition: &Row,
    yes: &Row,
    no: &Row,
) -> Result<Option<Row>, Refusal> {
    let slopes = condition.affine.related(&yes.affine).zip(condition.affine.related(&no.affine));
    let Some(((above, 0.0), (below, 0.0))) = slopes else { return Ok(None) };
    let result = leaky(stages, node, condition, &vec![below / above; condition.affine.width()])?;
    Ok(Some(Row { affine: result.affine.scaled(above), shape: yes.shape.clone(), integer: false }))
}
