//! QuantizeLinear and DequantizeLinear: models with quantisation of their own.
//!
//! Constants are folded: rounded in single precision as onnxruntime does, dequantised exactly. Data becomes a stage
//! that rounds ([`Levels`]). Between the two nodes a value is [`Quantised`], and operators that move values about do to
//! it what they do to the numbers before.

use std::rc::Rc;

use super::{Entry, MICROSOFT};
use crate::diag::NodeRef;
use crate::diag::codes::onnx as codes;
use crate::model::Levels;
use crate::onnx::affine::Step;
use crate::onnx::node::{Evaluated, Node};
use crate::onnx::report::Refusal;
use crate::onnx::schema::data_type;
use crate::onnx::tensor::{Data, Dims, Span, Tensor};
use crate::onnx::value::{Form, Quantised, Rounded, Row, Stages, Tail, Value};

pub(super) const TABLE: &[Entry] = &[
    ("", "QuantizeLinear", quantize_linear),
    (MICROSOFT, "QuantizeLinear", quantize_linear),
    ("", "DequantizeLinear", dequantize_linear),
    (MICROSOFT, "DequantizeLinear", dequantize_linear),
];

/// The axis of scales where a node names none.
const AXIS: i64 = 1;
/// Most integers that data may be rounded to, less one.
const MOST_LEVELS: i64 = 0xffff;

/// Operators that move values about without a look at them.
const MOVES: &[&str] =
    &["Identity", "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Gather", "Slice", "Concat"];
/// Operators whose result is the same for the integers and for the numbers that they stand for.
const READS: &[&str] = &["ArgMax", "Shape"];

/// Scales and zero points of a node.
pub(super) struct Grid {
    pub(super) scales: Vec<f64>,
    /// As many as scales.
    pub(super) zeros: Vec<i64>,
    /// The type of the zero point; `None` when the node leaves it out.
    pub(super) span: Option<Span>,
}

impl Grid {
    /// The scale at one input and the zero point at another.
    pub(super) fn read(node: &Node<'_>, scale: usize, zero: usize) -> Result<Self, Refusal> {
        let tensor = node.constant(scale, "the scale")?;
        let blocked =
            node.int("block_size", 0) != 0 || tensor.dims.iter().filter(|dim| **dim != 1).count() > 1;
        if blocked {
            return Err(node.refuse(
                &codes::QUANTISED,
                format!(
                    "{} has a scale of shape {} for blocks of its data",
                    node.operator(),
                    Dims(&tensor.dims)
                ),
                "quantise per tensor or per channel: one scale, or one for each channel of a constant",
            ));
        }
        let scales = tensor.numbers().unwrap_or_default();
        if scales.is_empty() || scales.iter().any(|scale| scale.is_nan() || *scale <= 0.0) {
            return Err(node.form(
                format!("a scale of {} is not above zero", node.operator()),
                "calibrate again: a scale of zero mostly comes from a layer that was constant",
            ));
        }
        if node.optional(zero).is_none() {
            let zeros = vec![0; scales.len()];
            return Ok(Self { scales, zeros, span: None });
        }
        let tensor = node.constant(zero, "the zero point")?;
        let (Some(stored), Some(span)) = (tensor.integers(), tensor.span) else {
            return Err(node.refuse(
                &codes::QUANTISED,
                format!(
                    "the zero point of {} is {} of no small integer type",
                    node.operator(),
                    Dims(&tensor.dims)
                ),
                "quantise to int8, uint8, int16, uint16, int4 or uint4",
            ));
        };
        let zeros = match stored {
            [only] => vec![*only; scales.len()],
            several if several.len() == scales.len() => several.to_vec(),
            several => {
                return Err(node.shapes(format!(
                    "{} scales with {} zero points",
                    scales.len(),
                    several.len()
                )));
            }
        };
        Ok(Self { scales, zeros, span: Some(span) })
    }

    /// The only scale and zero point.
    fn single(&self, node: &Node<'_>) -> Result<(f64, i64), Refusal> {
        let scale = shared(&self.scales);
        let zero = self.zeros.first().copied().filter(|zero| self.zeros.iter().all(|other| other == zero));
        scale.zip(zero).ok_or_else(|| {
            node.refuse(
                &codes::QUANTISED,
                format!(
                    "{} has a scale for each of {} values of its data",
                    node.operator(),
                    self.scales.len()
                ),
                "quantise data per tensor; scales for each channel are for constants",
            )
        })
    }

    /// What data is rounded to; `default` is the type where there is no zero point.
    pub(super) fn levels(&self, node: &Node<'_>, default: Option<Span>) -> Result<Levels, Refusal> {
        let (scale, zero) = self.single(node)?;
        let span = self.span.or(default).or_else(|| Span::of(data_type::UINT8));
        levels(node, scale, zero, span)
    }

    /// For each element of a constant its scale and zero point.
    fn spread(&self, node: &Node<'_>, dims: &[usize], axis: i64) -> Result<Vec<(f64, i64)>, Refusal> {
        let count: usize = dims.iter().product();
        let pairs: Vec<(f64, i64)> = self.scales.iter().copied().zip(self.zeros.iter().copied()).collect();
        if let [only] = pairs.as_slice() {
            return Ok(vec![*only; count]);
        }
        // A vector has one axis only.
        let axis = if dims.len() == 1 { Some(0) } else { crate::onnx::shape::resolve_axis(axis, dims.len()) };
        let axis = axis.filter(|&axis| dims.get(axis) == Some(&pairs.len())).ok_or_else(|| {
            node.shapes(format!(
                "{} scales do not fit axis {} of a constant of shape {}",
                pairs.len(),
                axis.map_or_else(|| "?".to_owned(), |axis| axis.to_string()),
                Dims(dims)
            ))
        })?;
        let inner: usize = dims.get(axis + 1..).unwrap_or_default().iter().product();
        let each = pairs.iter().flat_map(|pair| std::iter::repeat_n(*pair, inner));
        Ok(each.cycle().take(count).collect())
    }

    /// Refuses integers of another type than that of the zero point; `by` says where they come from.
    fn of_type(&self, node: &Node<'_>, read: Option<Span>, by: &str) -> Result<(), Refusal> {
        match (self.span, read) {
            (Some(own), Some(read)) if own != read => Err(node.refuse(
                &codes::QUANTISED,
                format!("{} has a zero point of {}, and {by} {}", node.operator(), own.name(), read.name()),
                "export the model again: integers and zero points have one type on both sides",
            )),
            (Some(_) | None, _) => Ok(()),
        }
    }

    /// The numbers that a constant of integers stands for, exactly.
    pub(super) fn real(&self, node: &Node<'_>, tensor: &Tensor, axis: i64) -> Result<Tensor, Refusal> {
        self.of_type(node, tensor.span, "reads a constant of")?;
        let stored = tensor.integers().ok_or_else(|| {
            node.form(
                format!("{} reads {}, not integers", node.operator(), Dims(&tensor.dims)),
                "export the model again: the file is damaged or was edited",
            )
        })?;
        let grid = self.spread(node, &tensor.dims, axis)?;
        let real = |(&value, (scale, zero)): (&i64, (f64, i64))| value.saturating_sub(zero) as f64 * scale;
        let values = stored.iter().zip(grid).map(real).collect();
        Ok(Tensor::new(tensor.dims.clone(), Data::Float(values)))
    }

    /// A constant in integers, rounded in single precision.
    fn rounded(&self, node: &Node<'_>, tensor: &Tensor, axis: i64, span: Span) -> Result<Tensor, Refusal> {
        let numbers =
            tensor.numbers().ok_or_else(|| node.unsupported_value(&Value::Constant(tensor.clone())))?;
        let grid = self.spread(node, &tensor.dims, axis)?;
        let integer = |(value, (scale, zero)): (f64, (f64, i64))| {
            let quotient = (value as f32 / scale as f32).round_ties_even() as i64;
            quotient.saturating_add(zero).clamp(span.low, span.high)
        };
        let data = Data::Int(numbers.into_iter().zip(grid).map(integer).collect());
        Ok(Tensor { dims: tensor.dims.clone(), data, span: Some(span) })
    }
}

/// Levels of data, which must be few.
pub(super) fn levels(node: &Node<'_>, scale: f64, zero: i64, span: Option<Span>) -> Result<Levels, Refusal> {
    let few = span.filter(|span| span.high - span.low <= MOST_LEVELS && span.low < span.high);
    let Some(Span { low, high }) = few else {
        return Err(node.refuse(
            &codes::QUANTISED,
            format!("{} rounds data to integers of more than 16 bits", node.operator()),
            "quantise data to 16 bits or fewer; int32 is for biases",
        ));
    };
    Ok(Levels { scale, zero, low, high })
}

/// The number that all of these are.
pub(super) fn shared(values: &[f64]) -> Option<f64> {
    values.first().copied().filter(|first| values.iter().all(|value| value == first))
}

/// The type that the attribute `output_dtype` names; none is named by 0.
fn output_type(node: &Node<'_>) -> Result<Option<Span>, Refusal> {
    match i32::try_from(node.int("output_dtype", 0)) {
        Ok(0) => Ok(None),
        Ok(kind) if Span::of(kind).is_some() => Ok(Span::of(kind)),
        kind => Err(node.refuse(
            &codes::QUANTISED,
            format!("{} rounds to {}", node.operator(), data_type::name(kind.unwrap_or(0))),
            "quantise to int8, uint8, int16, uint16, int4 or uint4",
        )),
    }
}

fn quantize_linear(_: &mut Stages, node: &Node<'_>) -> Evaluated {
    let grid = Grid::read(node, 1, 2)?;
    let named = output_type(node)?;
    grid.of_type(node, named, "`output_dtype` names")?;
    if let Value::Constant(tensor) = node.input(0)? {
        let span = grid
            .span
            .or(named)
            .or_else(|| Span::of(data_type::UINT8))
            .ok_or_else(|| node.shapes("no type"))?;
        return Ok(vec![Value::Constant(grid.rounded(node, tensor, node.int("axis", AXIS), span)?)]);
    }
    Ok(vec![quantised(node, node.input(0)?, grid.levels(node, named)?)?])
}

/// The type of integers that nothing has narrowed.
const fn held(levels: Levels) -> Span {
    Span { low: levels.low, high: levels.high }
}

/// Data rounded to integers.
pub(super) fn quantised(node: &Node<'_>, value: &Value, levels: Levels) -> Result<Value, Refusal> {
    match value {
        Value::Row(row) => {
            let (span, node) = (Some(held(levels)), node.reference.clone());
            Ok(Value::Quantised(Quantised { row: row.clone(), levels, span, node }))
        }
        Value::Tail(tail) => Ok(Value::Tail(rounded_tail(node, tail, levels)?)),
        Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Cases(_)
        | Value::Refused => Err(node.unsupported_value(value)),
    }
}

/// Probabilities rounded to integers.
pub(super) fn rounded_tail(node: &Node<'_>, tail: &Tail, levels: Levels) -> Result<Tail, Refusal> {
    let rounded = Some(Rounded { levels, stored: true });
    let twice = tail.rounded.is_some_and(|before| before.stored || before.levels != levels);
    match tail.form {
        Form::Softmax
        | Form::LogSoftmax
        | Form::Complement
        | Form::BothProbabilities
        | Form::SomeProbabilities { .. }
        | Form::OneVersusRest => Ok(Tail { rounded, ..tail.clone() }),
        // A hidden layer may read these, and has one rounding behind the function.
        Form::Probability | Form::EachProbability if !twice => Ok(Tail { rounded, ..tail.clone() }),
        Form::Probability
        | Form::EachProbability
        | Form::Label { .. }
        | Form::BothScores { .. }
        | Form::Values
        | Form::EachLabel
        | Form::EachAtLeast
        | Form::Exponential { .. }
        | Form::ExponentialSum { .. }
        | Form::EachClass => Err(node.refuse(
            &codes::QUANTISED,
            format!("{} rounds {} again", node.operator(), tail.form.describe()),
            "quantise probabilities once, and leave labels and decision values in float",
        )),
    }
}

fn dequantize_linear(stages: &mut Stages, node: &Node<'_>) -> Evaluated {
    let grid = Grid::read(node, 1, 2)?;
    Ok(vec![dequantised(stages, node, node.input(0)?, &grid, node.int("axis", AXIS))?])
}

/// The numbers that a value of integers stands for.
pub(super) fn dequantised(
    stages: &mut Stages,
    node: &Node<'_>,
    value: &Value,
    grid: &Grid,
    axis: i64,
) -> Result<Value, Refusal> {
    match value {
        Value::Constant(tensor) => Ok(Value::Constant(grid.real(node, tensor, axis)?)),
        Value::Quantised(quantised) => {
            let (scale, zero) = grid.single(node)?;
            let by = &quantised.node;
            grid.of_type(node, quantised.span, &format!("{} `{}` wrote", by.operator, by.name))?;
            let levels = quantised.levels;
            let row = quantised.real(stages);
            let same = scale == levels.scale && zero == levels.zero;
            // Another scale than the one that rounded: the same integers stand for other numbers.
            let moved = (levels.zero - zero) as f64 * scale;
            Ok(Value::Row(if same { row } else { scaled(&row, scale / levels.scale, moved) }))
        }
        // The model's inputs are integers.
        Value::Row(row) if row.integer => {
            let (scale, zero) = grid.single(node)?;
            let width = row.affine.width();
            let affine = row.affine.elementwise(&vec![Step::Add(-(zero as f64)); width]);
            let affine = affine.elementwise(&vec![Step::Multiply(scale); width]);
            Ok(Value::Row(Row { affine, shape: row.shape.clone(), integer: false }))
        }
        Value::Tail(tail) if tail.rounded.is_some_and(|rounded| rounded.stored) => {
            let rounded = tail.rounded.map(|rounded| Rounded { stored: false, ..rounded });
            let written = rounded.map(|rounded| held(rounded.levels));
            grid.of_type(node, written, "the probabilities were written as")?;
            let written = rounded.map(|rounded| (rounded.levels.scale, rounded.levels.zero));
            if Some(grid.single(node)?) != written {
                return Err(node.refuse(
                    &codes::QUANTISED,
                    "probabilities are read with another scale than they were written with",
                    "export the model again, with one scale for the probabilities",
                ));
            }
            Ok(Value::Tail(Tail { rounded, ..tail.clone() }))
        }
        Value::Row(_) | Value::Tail(_) | Value::Extent { .. } | Value::Cases(_) | Value::Refused => {
            Err(node.unsupported_value(value))
        }
    }
}

/// `factor * x + constant` for each value.
pub(super) fn scaled(row: &Row, factor: f64, constant: f64) -> Row {
    let width = row.affine.width();
    let affine = row.affine.elementwise(&vec![Step::Multiply(factor); width]);
    let affine = affine.elementwise(&vec![Step::Add(constant); width]);
    Row { affine, ..row.clone() }
}

/// Integers between two bounds: fewer levels.
pub(super) fn narrowed(node: &Node<'_>, value: &Quantised, low: Option<f64>, high: Option<f64>) -> Evaluated {
    // Bounds of integers are integers; the conversion saturates.
    let bound = |bound: Option<f64>, own: i64| bound.map_or(own, |bound| bound as i64);
    let own = value.levels;
    let low = bound(low, own.low).max(own.low);
    let high = bound(high, own.high).min(own.high);
    if low >= high {
        return Err(node.form(
            format!("{} leaves one integer at most", node.operator()),
            "export the layer with a lower bound below the upper one",
        ));
    }
    Ok(vec![Value::Quantised(Quantised { levels: Levels { low, high, ..own }, ..value.clone() })])
}

fn integers(value: &Option<Rc<Value>>) -> Option<&Quantised> {
    if let Some(Value::Quantised(quantised)) = value.as_deref() { Some(quantised) } else { None }
}

/// How the integers that an operator moves about were rounded.
pub(crate) struct Rounding {
    levels: Levels,
    span: Option<Span>,
    node: NodeRef,
}

/// Lets operators that compute nothing work on quantised inputs. They get the numbers before the rounding, and what
/// they return is rounded likewise; or, where the result is the same, they get the numbers behind it.
pub(crate) fn unwrapped(
    stages: &mut Stages,
    operator: &str,
    inputs: &mut [Option<Rc<Value>>],
) -> Option<Rounding> {
    let reads = READS.contains(&operator);
    if !reads && !MOVES.contains(&operator) {
        return None;
    }
    let first = inputs.iter().find_map(integers)?;
    let rounding = Rounding { levels: first.levels, span: first.span, node: first.node.clone() };
    let all = operator != "Concat" || inputs.iter().all(|input| integers(input).is_some());
    let alike = inputs
        .iter()
        .filter_map(integers)
        .all(|other| other.levels == rounding.levels && other.span == rounding.span);
    let movable = all && alike;
    if !reads && !movable {
        return None;
    }
    for input in inputs {
        let row = match integers(input) {
            None => continue,
            Some(quantised) if reads => quantised.real(stages),
            Some(quantised) => quantised.row.clone(),
        };
        *input = Some(Rc::new(Value::Row(row)));
    }
    (!reads).then_some(rounding)
}

/// What came out of an operator that moves integers about.
pub(crate) fn wrapped(value: Value, rounding: &Rounding) -> Value {
    let Rounding { levels, span, node } = rounding;
    match value {
        Value::Row(row) => {
            Value::Quantised(Quantised { row, levels: *levels, span: *span, node: node.clone() })
        }
        Value::Constant(_)
        | Value::Extent { .. }
        | Value::Quantised(_)
        | Value::Tail(_)
        | Value::Cases(_)
        | Value::Refused => value,
    }
}
