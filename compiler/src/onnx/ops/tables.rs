//! Operators on tables: constants, of which there may be one for each leaf of a tree or for each label.
//!
//! A table is a tensor whose first axis are the cases, one for a plain constant; the other axes are those of the
//! value, with one row. Rows are never mixed: an operator that would do that gives nothing.
//! Where a number decides something (comparisons, conversions to integers, keys), it is rounded to single precision
//! first, because that is what the runtime's numbers have.

use std::collections::BTreeMap;

use super::fold::{broadcast, positions};
use super::select::concat_constants;
use super::{Entry, cases};
use crate::onnx::cases::{largest, lifted, single};
use crate::onnx::node::Node;
use crate::onnx::report::Refusal;
use crate::onnx::schema::data_type;
use crate::onnx::shape::{Dim, Shape, resolve_axis};
use crate::onnx::tensor::{Data, Tensor, element_count};

/// Operators that work on tables only.
pub(super) const TABLE: &[Entry] = &[
    ("", "And", cases::only),
    ("", "ArgMin", cases::only),
    ("", "Ceil", cases::only),
    ("", "Equal", cases::only),
    ("", "Floor", cases::only),
    ("", "GreaterOrEqual", cases::only),
    ("", "IsNaN", cases::only),
    ("", "LessOrEqual", cases::only),
    ("", "Mean", cases::only),
    ("", "Not", cases::only),
    ("", "Or", cases::only),
    ("", "ReduceMax", cases::only),
    ("", "ReduceMean", cases::only),
    ("", "ReduceMin", cases::only),
    ("", "ReduceSum", cases::only),
    ("", "Round", cases::only),
    ("", "Where", cases::only),
    ("", "Xor", cases::only),
    (super::ML, "LabelEncoder", cases::only),
];

/// A value with its table.
#[derive(Debug, Clone)]
pub(super) struct Lifted {
    pub(super) shape: Shape,
    pub(super) table: Tensor,
}

impl Lifted {
    pub(super) fn constant(tensor: &Tensor) -> Option<Self> {
        let shape = Shape(tensor.dims.iter().copied().map(Dim::Of).collect());
        let table = tensor.reshaped(lifted(&shape, 1))?;
        Some(Self { shape, table })
    }

    fn cases(&self) -> usize {
        self.table.dims.first().copied().unwrap_or(1)
    }

    /// The same table for a shape of so many axes, new ones in front.
    fn padded(&self, rank: usize) -> Option<Tensor> {
        let more = rank.checked_sub(self.shape.rank())?;
        let mut dims = vec![self.cases()];
        dims.extend(vec![1; more]);
        dims.extend(self.table.dims.get(1..)?);
        self.table.reshaped(dims)
    }
}

/// What an operator makes of tables; `None` where it is none of these, or does not fit them.
pub(super) fn apply(node: &Node<'_>, inputs: &[Option<Lifted>]) -> Option<Lifted> {
    let first = inputs.first()?.as_ref()?;
    let given: Vec<&Lifted> = inputs.iter().flatten().collect();
    let two = match given.as_slice() {
        [_, second] => Some(*second),
        _ => None,
    };
    match node.operator() {
        "Add" | "Sub" | "Mul" | "Div" | "Pow" => arithmetic(node.operator(), first, two?),
        "Sum" => given.get(1..)?.iter().try_fold(first.clone(), |sum, next| arithmetic("Add", &sum, next)),
        "Max" | "Min" => given
            .get(1..)?
            .iter()
            .try_fold(first.clone(), |most, next| arithmetic(node.operator(), &most, next)),
        "Mean" => {
            let sum =
                given.get(1..)?.iter().try_fold(first.clone(), |sum, next| arithmetic("Add", &sum, next))?;
            let count = given.len() as f64;
            each(&sum, |value| value / count)
        }
        "Equal" | "Greater" | "Less" | "GreaterOrEqual" | "LessOrEqual" => {
            comparison(node.operator(), first, two?)
        }
        "And" | "Or" | "Xor" => logic(node.operator(), first, two?),
        "Not" => integers(first, |value| i64::from(value == 0)),
        "Neg" | "Abs" if first.table.integers().is_some() => {
            let negates = node.operator() == "Neg";
            integers(first, |value| if negates { value.wrapping_neg() } else { value.wrapping_abs() })
        }
        "Relu" if first.table.integers().is_some() => integers(first, |value| value.max(0)),
        "Neg" | "Abs" | "Sqrt" | "Reciprocal" | "Exp" | "Log" | "Relu" | "Sigmoid" | "Tanh" | "Floor"
        | "Ceil" | "Round" | "Sign" => function(node.operator(), first),
        "IsNaN" => decided(first, |value| i64::from(value.is_nan())),
        "Clip" => clip(node, inputs),
        "Where" => choice(first, given.get(1)?, given.get(2)?),
        "Cast" => cast(node, first),
        "ArgMax" | "ArgMin" | "ReduceSum" | "ReduceMean" | "ReduceMax" | "ReduceMin" => {
            reduction(node, inputs)
        }
        "LabelEncoder" => encoder(node, first),
        "ArrayFeatureExtractor" => named(first, two?),
        "Concat" => given
            .get(1..)?
            .iter()
            .try_fold(first.clone(), |all, next| joined(&all, next, node.int("axis", 0))),
        "Gather" if node.int("axis", 0) == 0 => gathered(first, two?),
        _ => None,
    }
}

/// The shape of an element-wise result; `None` where rows would meet other axes.
fn common(left: &Shape, right: &Shape) -> Option<Shape> {
    let rank = left.rank().max(right.rank());
    let of = |shape: &Shape, axis: usize| {
        (axis + shape.rank())
            .checked_sub(rank)
            .and_then(|index| shape.0.get(index).copied())
            .unwrap_or(Dim::Of(1))
    };
    let dims = (0..rank).map(|axis| match (of(left, axis), of(right, axis)) {
        (a, b) if a == b => Some(a),
        (Dim::Of(1), other) | (other, Dim::Of(1)) => Some(other),
        (Dim::Rows | Dim::Of(_), _) => None,
    });
    let shape = Shape(dims.collect::<Option<_>>()?);
    (shape.0.iter().filter(|dim| **dim == Dim::Rows).count() <= 1).then_some(shape)
}

/// Two tables spread over their common shape.
struct Pair {
    shape: Shape,
    dims: Vec<usize>,
    left: Tensor,
    right: Tensor,
}

fn spread(left: &Lifted, right: &Lifted) -> Option<Pair> {
    let shape = common(&left.shape, &right.shape)?;
    let (a, b) = (left.padded(shape.rank())?, right.padded(shape.rank())?);
    let dims = broadcast(&a.dims, &b.dims)?;
    let count = element_count(&dims)?;
    let left = a.pick(dims.clone(), &positions(&a.dims, &dims, count))?;
    let right = b.pick(dims.clone(), &positions(&b.dims, &dims, count))?;
    Some(Pair { shape, dims, left, right })
}

fn arithmetic(operator: &str, left: &Lifted, right: &Lifted) -> Option<Lifted> {
    let Pair { shape, dims, left, right } = spread(left, right)?;
    let data = match (&left.data, &right.data) {
        (Data::Int(left), Data::Int(right)) => {
            let values = left.iter().zip(right).map(|(&a, &b)| match operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                "Max" => Some(a.max(b)),
                "Min" => Some(a.min(b)),
                _ => None,
            });
            Data::Int(values.collect::<Option<_>>()?)
        }
        (Data::Float(left), Data::Float(right)) => {
            let values = left.iter().zip(right).map(|(&a, &b)| match operator {
                "Add" => Some(a + b),
                "Sub" => Some(a - b),
                "Mul" => Some(a * b),
                "Div" => Some(a / b),
                "Pow" => Some(a.powf(b)),
                // As in the runtime, no number is larger than NaN.
                "Max" => Some(if a.is_nan() || a > b { a } else { b }),
                "Min" => Some(if a.is_nan() || a < b { a } else { b }),
                _ => None,
            });
            Data::Float(values.collect::<Option<_>>()?)
        }
        (Data::Text(_) | Data::Int(_) | Data::Float(_), _) => return None,
    };
    Some(Lifted { shape, table: Tensor::new(dims, data) })
}

fn comparison(operator: &str, left: &Lifted, right: &Lifted) -> Option<Lifted> {
    let Pair { shape, dims, left, right } = spread(left, right)?;
    let by = |order: Option<std::cmp::Ordering>| {
        let holds = order.is_some_and(|order| match operator {
            "Equal" => order.is_eq(),
            "Greater" => order.is_gt(),
            "Less" => order.is_lt(),
            "GreaterOrEqual" => order.is_ge(),
            _ => order.is_le(),
        });
        i64::from(holds)
    };
    let values: Vec<i64> = match (&left.data, &right.data) {
        (Data::Int(left), Data::Int(right)) => {
            left.iter().zip(right).map(|(a, b)| by(Some(a.cmp(b)))).collect()
        }
        (Data::Float(left), Data::Float(right)) => {
            left.iter().zip(right).map(|(&a, &b)| by(single(a).partial_cmp(&single(b)))).collect()
        }
        (Data::Text(left), Data::Text(right)) if operator == "Equal" => {
            left.iter().zip(right).map(|(a, b)| by(Some(a.cmp(b)))).collect()
        }
        (Data::Text(_) | Data::Int(_) | Data::Float(_), _) => return None,
    };
    Some(Lifted { shape, table: Tensor::new(dims, Data::Int(values)) })
}

fn logic(operator: &str, left: &Lifted, right: &Lifted) -> Option<Lifted> {
    let Pair { shape, dims, left, right } = spread(left, right)?;
    let values = left.integers()?.iter().zip(right.integers()?).map(|(&a, &b)| {
        let (a, b) = (a != 0, b != 0);
        i64::from(match operator {
            "And" => a && b,
            "Or" => a || b,
            _ => a != b,
        })
    });
    let data = Data::Int(values.collect());
    Some(Lifted { shape, table: Tensor::new(dims, data) })
}

/// The same shape with other elements.
fn with(input: &Lifted, data: Data) -> Lifted {
    Lifted { shape: input.shape.clone(), table: Tensor::new(input.table.dims.clone(), data) }
}

fn each(input: &Lifted, function: impl Fn(f64) -> f64) -> Option<Lifted> {
    let Data::Float(values) = &input.table.data else { return None };
    Some(with(input, Data::Float(values.iter().map(|&value| function(value)).collect())))
}

fn integers(input: &Lifted, function: impl Fn(i64) -> i64) -> Option<Lifted> {
    Some(with(input, Data::Int(input.table.integers()?.iter().map(|&value| function(value)).collect())))
}

fn decided(input: &Lifted, function: impl Fn(f64) -> i64) -> Option<Lifted> {
    let Data::Float(values) = &input.table.data else { return None };
    Some(with(input, Data::Int(values.iter().map(|&value| function(value)).collect())))
}

fn function(operator: &str, input: &Lifted) -> Option<Lifted> {
    let function: fn(f64) -> f64 = match operator {
        "Neg" => |x| -x,
        "Abs" => f64::abs,
        "Sqrt" => f64::sqrt,
        "Reciprocal" => |x| 1.0 / x,
        "Exp" => f64::exp,
        "Log" => f64::ln,
        "Relu" => |x| x.max(0.0),
        "Sigmoid" => |x| 1.0 / (1.0 + (-x).exp()),
        "Tanh" => f64::tanh,
        "Floor" => |x| single(x).floor(),
        "Ceil" => |x| single(x).ceil(),
        "Round" => |x| single(x).round_ties_even(),
        "Sign" => |x| if x == 0.0 { 0.0 } else { x.signum() },
        _ => return None,
    };
    each(input, function)
}

/// Bounds are inputs since operator set 11, attributes before.
fn clip(node: &Node<'_>, inputs: &[Option<Lifted>]) -> Option<Lifted> {
    let first = inputs.first()?.as_ref()?;
    let mut result = first.clone();
    for (index, name, operator) in [(1, "min", "Max"), (2, "max", "Min")] {
        let bound = match inputs.get(index).and_then(Option::as_ref) {
            Some(bound) => bound.clone(),
            None if node.has(name) => Lifted::constant(&Tensor::scalar_float(node.float(name, 0.0)))?,
            None => continue,
        };
        result = arithmetic(operator, &result, &bound)?;
    }
    (result.shape == first.shape).then_some(result)
}

fn choice(condition: &Lifted, holds: &Lifted, fails: &Lifted) -> Option<Lifted> {
    let shape = common(&common(&condition.shape, &holds.shape)?, &fails.shape)?;
    let [condition, holds, fails] =
        [condition.padded(shape.rank())?, holds.padded(shape.rank())?, fails.padded(shape.rank())?];
    let dims = broadcast(&broadcast(&condition.dims, &holds.dims)?, &fails.dims)?;
    let count = element_count(&dims)?;
    let of = |tensor: &Tensor| tensor.pick(dims.clone(), &positions(&tensor.dims, &dims, count));
    let (condition, holds, fails) = (of(&condition)?, of(&holds)?, of(&fails)?);
    let chosen = condition.integers()?;
    fn pick<T: Clone>(chosen: &[i64], holds: &[T], fails: &[T]) -> Vec<T> {
        let pairs = holds.iter().zip(fails);
        chosen
            .iter()
            .zip(pairs)
            .map(|(&first, (a, b))| if first == 0 { b.clone() } else { a.clone() })
            .collect()
    }
    let data = match (&holds.data, &fails.data) {
        (Data::Int(a), Data::Int(b)) => Data::Int(pick(chosen, a, b)),
        (Data::Float(a), Data::Float(b)) => Data::Float(pick(chosen, a, b)),
        (Data::Text(a), Data::Text(b)) => Data::Text(pick(chosen, a, b)),
        (Data::Int(_) | Data::Float(_) | Data::Text(_), _) => return None,
    };
    Some(Lifted { shape, table: Tensor::new(dims, data) })
}

fn cast(node: &Node<'_>, input: &Lifted) -> Option<Lifted> {
    let target = i32::try_from(node.int("to", 0)).ok()?;
    let bits = match target {
        data_type::FLOAT | data_type::DOUBLE => {
            return Some(with(input, Data::Float(input.table.numbers()?)));
        }
        data_type::STRING => {
            return input.table.integers().is_some().then(|| with(input, Data::Text(input.table.labels())));
        }
        data_type::BOOL => {
            let truth = input.table.numbers()?.into_iter().map(|value| i64::from(value != 0.0));
            return Some(with(input, Data::Int(truth.collect())));
        }
        data_type::INT64 => 63,
        data_type::INT32 => 31,
        data_type::INT16 => 15,
        data_type::INT8 => 7,
        _ => return None,
    };
    // Conversions that overflow differ from machine to machine.
    let fits = |value: f64| value.abs() < f64::from(bits).exp2();
    let values: Option<Vec<i64>> = match &input.table.data {
        Data::Int(values) => values.iter().map(|&value| fits(value as f64).then_some(value)).collect(),
        Data::Float(values) => {
            let cut = values.iter().map(|&value| single(value).trunc());
            cut.map(|value| fits(value).then_some(value as i64)).collect()
        }
        Data::Text(_) => None,
    };
    Some(with(input, Data::Int(values?)))
}

/// ArgMax, ReduceSum and the like over one axis, which is not that of the rows.
fn reduction(node: &Node<'_>, inputs: &[Option<Lifted>]) -> Option<Lifted> {
    let input = inputs.first()?.as_ref()?;
    let index = node.operator().starts_with("Arg");
    let axis = match (inputs.get(1).and_then(Option::as_ref), node.ints("axes")) {
        (Some(list), _) => match list.table.integers()? {
            [axis] => *axis,
            _ => return None,
        },
        (None, Some([axis])) => *axis,
        (None, None) if index => node.int("axis", 0),
        (None, _) => return None,
    };
    let axis = input.shape.axis(axis)?;
    let Dim::Of(size) = *input.shape.0.get(axis)? else { return None };
    let Data::Float(values) = &input.table.data else { return None };
    let inner: usize = input.table.dims.get(axis + 2..)?.iter().product();
    let shape = if node.int("keepdims", 1) != 0 {
        input.shape.with(axis, Dim::Of(1))
    } else {
        input.shape.without(axis)
    };
    let mut floats = Vec::new();
    let mut places = Vec::new();
    for block in values.chunks_exact(size.checked_mul(inner).filter(|&size| size > 0)?) {
        for start in 0..inner {
            let line = || block.iter().skip(start).step_by(inner).copied();
            let count = size as f64;
            match node.operator() {
                "ArgMax" | "ArgMin" => {
                    let sign = if node.operator() == "ArgMax" { 1.0 } else { -1.0 };
                    if node.int("select_last_index", 0) != 0 {
                        return None;
                    }
                    let line: Vec<f64> = line().map(|value| sign * value).collect();
                    places.push(i64::try_from(largest(&line)?).ok()?);
                }
                "ReduceSum" => floats.push(line().sum()),
                "ReduceMean" => floats.push(line().sum::<f64>() / count),
                "ReduceMax" => floats.push(line().reduce(f64::max)?),
                "ReduceMin" => floats.push(line().reduce(f64::min)?),
                _ => return None,
            }
        }
    }
    let data = if index { Data::Int(places) } else { Data::Float(floats) };
    let dims = lifted(&shape, input.cases());
    Some(Lifted { shape, table: Tensor::new(dims, data) })
}

/// LabelEncoder: a list of keys and one of values, of three types each.
fn encoder(node: &Node<'_>, input: &Lifted) -> Option<Lifted> {
    let (keys, values) = (listed(node, "keys")?, listed(node, "values")?);
    if keys.len() != values.len() {
        return None;
    }
    let places: Vec<Option<usize>> = match (&input.table.data, &keys) {
        (Data::Int(values), Data::Int(keys)) => look_up(keys.iter().copied(), values.iter().copied()),
        (Data::Float(values), Data::Float(keys)) => {
            look_up(keys.iter().copied().map(key), values.iter().copied().map(key))
        }
        (Data::Text(values), Data::Text(keys)) => look_up(keys.iter().cloned(), values.iter().cloned()),
        (Data::Int(_) | Data::Float(_) | Data::Text(_), _) => return None,
    };
    fn chosen<T: Clone>(places: &[Option<usize>], values: &[T], default: &T) -> Option<Vec<T>> {
        let of = |place: &Option<usize>| match place {
            Some(place) => values.get(*place).cloned(),
            None => Some(default.clone()),
        };
        places.iter().map(of).collect()
    }
    let default = node.tensor_attribute("default_tensor").ok()?.map(|tensor| tensor.data);
    let data = match (values, default) {
        (Data::Float(values), Some(Data::Float(default))) => {
            Data::Float(chosen(&places, &values, default.first()?)?)
        }
        (Data::Float(values), None) => {
            Data::Float(chosen(&places, &values, &node.float("default_float", -0.0))?)
        }
        (Data::Int(values), Some(Data::Int(default))) => {
            Data::Int(chosen(&places, &values, default.first()?)?)
        }
        (Data::Int(values), None) => Data::Int(chosen(&places, &values, &node.int("default_int64", -1))?),
        (Data::Text(values), Some(Data::Text(default))) => {
            Data::Text(chosen(&places, &values, default.first()?)?)
        }
        (Data::Text(values), None) => {
            let default = node.text("default_string").unwrap_or_else(|| "_Unused".to_owned());
            Data::Text(chosen(&places, &values, &default)?)
        }
        (Data::Float(_) | Data::Int(_) | Data::Text(_), Some(_)) => return None,
    };
    Some(with(input, data))
}

/// Refuses a LabelEncoder of several lists of keys, or of values: the format allows one of each.
pub(super) fn one_list_of_each(node: &Node<'_>) -> Result<(), Refusal> {
    if node.operator() != "LabelEncoder" {
        return Ok(());
    }
    for what in ["keys", "values"] {
        let lists = [
            ("tensor", node.has(&format!("{what}_tensor"))),
            ("int64s", node.ints(&format!("{what}_int64s")).is_some_and(|list| !list.is_empty())),
            ("floats", node.floats(&format!("{what}_floats")).is_some_and(|list| !list.is_empty())),
            ("strings", node.texts(&format!("{what}_strings")).is_some_and(|list| !list.is_empty())),
        ];
        let given = lists.into_iter().filter(|(_, given)| *given);
        let given: Vec<String> = given.map(|(kind, _)| format!("{what}_{kind}")).collect();
        if given.len() > 1 {
            return Err(node.form(
                format!("LabelEncoder has several lists of {what}: `{}`", given.join("`, `")),
                "export the model again: one list of keys and one of values say what is mapped to what",
            ));
        }
    }
    Ok(())
}

/// The keys or values of a LabelEncoder: an attribute for each type, or a tensor.
fn listed(node: &Node<'_>, name: &str) -> Option<Data> {
    if let Some(tensor) = node.tensor_attribute(&format!("{name}_tensor")).ok()? {
        return Some(tensor.data);
    }
    let integers = node.ints(&format!("{name}_int64s")).map(|list| Data::Int(list.to_vec()));
    let floats = || node.floats(&format!("{name}_floats")).map(Data::Float);
    let texts = || node.texts(&format!("{name}_strings")).map(Data::Text);
    let given = |list: &Data| list.len() > 0;
    integers.filter(given).or_else(|| floats().filter(given)).or_else(|| texts().filter(given))
}

/// A number as a key: all zeros are one, and so are all values that are no numbers.
fn key(value: f64) -> u64 {
    let value = single(value);
    if value == 0.0 || value.is_nan() { value.abs().to_bits() } else { value.to_bits() }
}

fn look_up<T: Ord>(keys: impl Iterator<Item = T>, wanted: impl Iterator<Item = T>) -> Vec<Option<usize>> {
    let mut places = BTreeMap::new();
    for (place, key) in keys.enumerate() {
        places.entry(key).or_insert(place);
    }
    wanted.map(|key| places.get(&key).copied()).collect()
}

/// Two tables side by side; a constant has as many rows as the other.
fn joined(left: &Lifted, right: &Lifted, axis: i64) -> Option<Lifted> {
    let axis = left.shape.axis(axis).filter(|_| left.shape.rank() == right.shape.rank())?;
    let (Dim::Of(first), Dim::Of(second)) = (*left.shape.0.get(axis)?, *right.shape.0.get(axis)?) else {
        return None;
    };
    let one = |shape: &Shape| shape.with(axis, Dim::Of(1));
    let shape =
        common(&one(&left.shape), &one(&right.shape))?.with(axis, Dim::Of(first.checked_add(second)?));
    let cases = left.cases().max(right.cases());
    let spread = |side: &Lifted| {
        let mut dims = side.table.dims.clone();
        *dims.first_mut()? = cases;
        let count = element_count(&dims)?;
        side.table.pick(dims.clone(), &positions(&side.table.dims, &dims, count))
    };
    let axis = i64::try_from(axis + 1).ok()?;
    let table = concat_constants(&spread(left)?, &spread(right)?, axis)?;
    Some(Lifted { shape, table })
}

/// The elements of a constant list at the indices of a table.
fn named(list: &Lifted, indices: &Lifted) -> Option<Lifted> {
    if list.cases() != 1 || indices.shape.width()? != 1 {
        return None;
    }
    let places: Option<Vec<usize>> =
        indices.table.integers()?.iter().map(|&index| usize::try_from(index).ok()).collect();
    let rows = if indices.shape.has_rows() { Dim::Rows } else { Dim::Of(1) };
    let shape = Shape(vec![Dim::Of(1), rows]);
    let table = list.table.pick(lifted(&shape, indices.cases()), &places?)?;
    Some(Lifted { shape, table })
}

/// [`named`] for a Gather from a list: the result has the shape of the indices.
fn gathered(list: &Lifted, indices: &Lifted) -> Option<Lifted> {
    let (1, [Dim::Of(size)]) = (list.cases(), list.shape.0.as_slice()) else { return None };
    let places: Option<Vec<usize>> =
        indices.table.integers()?.iter().map(|&index| resolve_axis(index, *size)).collect();
    let table = list.table.pick(indices.table.dims.clone(), &places?)?;
    Some(Lifted { shape: indices.shape.clone(), table })
}
