//! Arithmetic on constants, with the format's broadcasting.

use crate::onnx::tensor::{Data, Tensor, element_count};

/// An element-wise operation of two constants; `None` when shapes disagree or the operands are texts.
pub(super) fn binary(left: &Tensor, right: &Tensor, operator: &str) -> Option<Tensor> {
    let dims = broadcast(&left.dims, &right.dims)?;
    let count = element_count(&dims)?;
    let from_left = positions(&left.dims, &dims, count);
    let from_right = positions(&right.dims, &dims, count);
    let data = match (&left.data, &right.data) {
        // The exponent may be of another type than the base, which is that of the result.
        (Data::Int(_), _) | (_, Data::Int(_)) if operator == "Pow" => {
            let (base, exponent) = (left.numbers()?, right.numbers()?);
            let powers = zip(&base, &exponent, &from_left, &from_right, |a: f64, b: f64| Some(a.powf(b)))?;
            match &left.data {
                Data::Int(_) => Data::Int(powers.into_iter().map(|power| power as i64).collect()),
                Data::Float(_) | Data::Text(_) => Data::Float(powers),
            }
        }
        (Data::Int(left), Data::Int(right)) => {
            Data::Int(zip(left, right, &from_left, &from_right, |a, b| match operator {
                "Add" => a.checked_add(b),
                "Sub" => a.checked_sub(b),
                "Mul" => a.checked_mul(b),
                "Div" => a.checked_div(b),
                _ => None,
            })?)
        }
        (Data::Float(left), Data::Float(right)) => {
            Data::Float(zip(left, right, &from_left, &from_right, |a: f64, b: f64| match operator {
                "Add" => Some(a + b),
                "Sub" => Some(a - b),
                "Mul" => Some(a * b),
                "Div" => Some(a / b),
                "Pow" => Some(a.powf(b)),
                _ => None,
            })?)
        }
        (Data::Text(_) | Data::Int(_) | Data::Float(_), _) => return None,
    };
    Some(Tensor::new(dims, data))
}

/// A constant between two bounds; `None` for texts.
pub(super) fn clipped(tensor: &Tensor, low: f64, high: f64) -> Option<Tensor> {
    let data = match &tensor.data {
        Data::Float(values) => Data::Float(values.iter().map(|value| value.max(low).min(high)).collect()),
        // The bounds of integers are integers; beyond 64 bits they bound nothing.
        Data::Int(values) => {
            let (low, high) = (low as i64, high as i64);
            Data::Int(values.iter().map(|&value| value.max(low).min(high)).collect())
        }
        Data::Text(_) => return None,
    };
    Some(Tensor { dims: tensor.dims.clone(), data, span: tensor.span })
}

/// A function of one constant; `None` when it is not defined for integers or texts.
pub(super) fn unary(tensor: &Tensor, operator: &str) -> Option<Tensor> {
    let data = match &tensor.data {
        Data::Int(values) => match operator {
            "Neg" => Data::Int(values.iter().map(|value| value.checked_neg()).collect::<Option<_>>()?),
            "Abs" => Data::Int(values.iter().map(|value| value.checked_abs()).collect::<Option<_>>()?),
            _ => return None,
        },
        Data::Float(values) => {
            let function: fn(f64) -> f64 = match operator {
                "Neg" => |value| -value,
                "Abs" => f64::abs,
                "Sqrt" => f64::sqrt,
                "Reciprocal" => |value| 1.0 / value,
                "Exp" => f64::exp,
                "Log" => f64::ln,
                _ => return None,
            };
            Data::Float(values.iter().copied().map(function).collect())
        }
        Data::Text(_) => return None,
    };
    Some(Tensor::new(tensor.dims.clone(), data))
}

/// Whether any element is NaN or infinite, which folding can produce from finite constants.
pub(super) fn is_finite(tensor: &Tensor) -> bool {
    match &tensor.data {
        Data::Float(values) => values.iter().all(|value| value.is_finite()),
        Data::Int(_) | Data::Text(_) => true,
    }
}

fn zip<T: Copy>(
    left: &[T],
    right: &[T],
    from_left: &[usize],
    from_right: &[usize],
    operation: impl Fn(T, T) -> Option<T>,
) -> Option<Vec<T>> {
    let pairs = from_left.iter().zip(from_right);
    pairs.map(|(&a, &b)| operation(*left.get(a)?, *right.get(b)?)).collect()
}

/// The common shape; `None` when there is none.
pub(super) fn broadcast(left: &[usize], right: &[usize]) -> Option<Vec<usize>> {
    let rank = left.len().max(right.len());
    let size = |dims: &[usize], axis: usize| {
        (axis + dims.len()).checked_sub(rank).and_then(|index| dims.get(index).copied()).unwrap_or(1)
    };
    (0..rank)
        .map(|axis| match (size(left, axis), size(right, axis)) {
            (a, b) if a == b => Some(a),
            (1, b) => Some(b),
            (a, 1) => Some(a),
            _ => None,
        })
        .collect()
}

/// For each element of the shape `dims`, its position in a tensor of shape `from` that broadcasts to it.
pub(super) fn positions(from: &[usize], dims: &[usize], count: usize) -> Vec<usize> {
    // Strides of `from`, aligned to the axes of `dims`, zero where it broadcasts.
    let mut strides = Vec::with_capacity(dims.len());
    let mut stride = 1;
    for back in 0..dims.len() {
        let size = from.len().checked_sub(back + 1).and_then(|index| from.get(index).copied()).unwrap_or(1);
        strides.push(if size == 1 { 0 } else { stride });
        stride *= size;
    }
    (0..count)
        .map(|mut element| {
            let mut position = 0;
            for (size, stride) in dims.iter().rev().zip(&strides) {
                position += element % size * stride;
                element /= size;
            }
            position
        })
        .collect()
}
