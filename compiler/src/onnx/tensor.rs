//! Constant tensors: decoding every storage form into doubles, integers or texts.
//!
//! External files are read by [`super::external`].

use std::fmt;

use super::limits::{MAX_MAGNITUDE, MAX_RANK, MAX_TENSOR_ELEMENTS};
use super::schema::{TensorProto, data_type};
use crate::diag::Code;
use crate::diag::codes::onnx as codes;

/// A constant with its shape; row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Tensor {
    pub(crate) dims: Vec<usize>,
    pub(crate) data: Data,
    /// What the stored type holds, for integers of up to 32 bits.
    pub(crate) span: Option<Span>,
}

/// The least and the greatest integer of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) low: i64,
    pub(crate) high: i64,
}

impl Span {
    /// The integers of a stored type; `None` for floats, texts and integers of 64 bits.
    pub(crate) const fn of(kind: i32) -> Option<Self> {
        let (signed, bits) = match kind {
            data_type::INT2 => (true, 2),
            data_type::INT4 => (true, 4),
            data_type::INT8 => (true, 8),
            data_type::INT16 => (true, 16),
            data_type::INT32 => (true, 32),
            data_type::UINT2 => (false, 2),
            data_type::UINT4 => (false, 4),
            data_type::UINT8 => (false, 8),
            data_type::UINT16 => (false, 16),
            data_type::UINT32 => (false, 32),
            _ => return None,
        };
        let half = 1_i64 << (bits - 1);
        Some(if signed { Self { low: -half, high: half - 1 } } else { Self { low: 0, high: 2 * half - 1 } })
    }

    /// What the format calls the type.
    pub(crate) fn name(self) -> String {
        let bits = (self.high - self.low + 1).checked_ilog2().unwrap_or(0);
        format!("{}int{bits}", if self.low < 0 { "" } else { "u" })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Data {
    Float(Vec<f64>),
    /// Integers and booleans.
    Int(Vec<i64>),
    Text(Vec<String>),
}

impl Data {
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Float(values) => values.len(),
            Self::Int(values) => values.len(),
            Self::Text(values) => values.len(),
        }
    }
}

/// Why a tensor does not decode: code, message, help.
pub(crate) struct Defect {
    pub(crate) code: &'static Code,
    pub(crate) message: String,
    pub(crate) help: String,
}

impl Defect {
    pub(crate) fn new(code: &'static Code, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: help.into() }
    }
}

impl Tensor {
    pub(crate) const fn new(dims: Vec<usize>, data: Data) -> Self {
        Self { dims, data, span: None }
    }

    pub(crate) fn scalar_float(value: f64) -> Self {
        Self::new(Vec::new(), Data::Float(vec![value]))
    }

    pub(crate) fn vector_float(values: Vec<f64>) -> Self {
        Self::new(vec![values.len()], Data::Float(values))
    }

    pub(crate) fn vector_int(values: Vec<i64>) -> Self {
        Self::new(vec![values.len()], Data::Int(values))
    }

    pub(crate) fn len(&self) -> usize {
        self.data.len()
    }

    /// The values as numbers; `None` for texts.
    pub(crate) fn numbers(&self) -> Option<Vec<f64>> {
        match &self.data {
            Data::Float(values) => Some(values.clone()),
            Data::Int(values) => Some(values.iter().map(|&value| value as f64).collect()),
            Data::Text(_) => None,
        }
    }

    /// The values as integers; `None` for other types.
    pub(crate) fn integers(&self) -> Option<&[i64]> {
        match &self.data {
            Data::Int(values) => Some(values),
            Data::Float(_) | Data::Text(_) => None,
        }
    }

    /// The only element as a number.
    pub(crate) fn single(&self) -> Option<f64> {
        match self.numbers()?.as_slice() {
            [value] => Some(*value),
            _ => None,
        }
    }

    /// Every element as a class label.
    pub(crate) fn labels(&self) -> Vec<String> {
        match &self.data {
            Data::Float(values) => values.iter().map(ToString::to_string).collect(),
            Data::Int(values) => values.iter().map(ToString::to_string).collect(),
            Data::Text(values) => values.clone(),
        }
    }

    /// The elements at these row-major positions, in another shape; `None` when a position does not exist.
    pub(crate) fn pick(&self, dims: Vec<usize>, positions: &[usize]) -> Option<Self> {
        fn take<T: Clone>(values: &[T], positions: &[usize]) -> Option<Vec<T>> {
            positions.iter().map(|&position| values.get(position).cloned()).collect()
        }
        let data = match &self.data {
            Data::Float(values) => Data::Float(take(values, positions)?),
            Data::Int(values) => Data::Int(take(values, positions)?),
            Data::Text(values) => Data::Text(take(values, positions)?),
        };
        Some(Self { dims, data, span: self.span })
    }

    /// The same elements in another shape; `None` when the counts differ.
    pub(crate) fn reshaped(&self, dims: Vec<usize>) -> Option<Self> {
        (element_count(&dims) == Some(self.len())).then(|| Self { dims, ..self.clone() })
    }
}

/// Shows dimensions as `[32, 6]`.
pub(crate) struct Dims<'a>(pub(crate) &'a [usize]);

impl fmt::Display for Dims<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let items: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        write!(formatter, "[{}]", items.join(", "))
    }
}

/// Product of the dimensions, when it is within the limit for tensors.
pub(crate) fn element_count(dims: &[usize]) -> Option<usize> {
    if dims.len() > MAX_RANK {
        return None;
    }
    dims.iter()
        .try_fold(1_usize, |product, &dim| product.checked_mul(dim))
        .filter(|&count| count <= MAX_TENSOR_ELEMENTS)
}

/// The shape of a stored tensor, checked against the limits.
pub(crate) fn checked_dims(proto: &TensorProto) -> Result<Vec<usize>, Defect> {
    let dims: Option<Vec<usize>> = proto.dims.iter().map(|&dim| usize::try_from(dim).ok()).collect();
    let Some(dims) = dims else {
        return Err(Defect::new(
            &codes::TENSOR,
            format!("constant `{}` has a negative dimension: {:?}", proto.name(), proto.dims),
            "export the model again",
        ));
    };
    if element_count(&dims).is_none() {
        return Err(Defect::new(
            &codes::TOO_LARGE,
            format!("constant `{}` of shape {} has too many elements or axes", proto.name(), Dims(&dims)),
            format!(
                "at most {MAX_TENSOR_ELEMENTS} elements and {MAX_RANK} axes are read; use a smaller network"
            ),
        ));
    }
    Ok(dims)
}

/// Bytes of so many elements in `raw_data` and in external files; `None` for types that are not read.
pub(crate) fn stored_bytes(kind: i32, count: usize) -> Option<usize> {
    match packed(kind) {
        Some(per_byte) => Some(count.div_ceil(per_byte)),
        None => count.checked_mul(element_bytes(kind)?),
    }
}

/// Elements in one byte, for types of less than a byte.
const fn packed(kind: i32) -> Option<usize> {
    match kind {
        data_type::INT4 | data_type::UINT4 => Some(2),
        data_type::INT2 | data_type::UINT2 => Some(4),
        _ => None,
    }
}

/// The first elements of bytes that hold several each, the lowest bits first.
fn unpacked(bytes: impl Iterator<Item = u8>, kind: i32, per_byte: usize, count: usize) -> Data {
    let bits = 8 / per_byte;
    let (mask, half) = ((1_i64 << bits) - 1, 1_i64 << (bits - 1));
    let signed = matches!(kind, data_type::INT4 | data_type::INT2);
    let value = |bits: i64| if signed && bits >= half { bits - 2 * half } else { bits };
    let of_byte = |byte: u8| (0..per_byte).map(move |place| (i64::from(byte) >> (place * bits)) & mask);
    Data::Int(bytes.flat_map(of_byte).take(count).map(value).collect())
}

fn element_bytes(kind: i32) -> Option<usize> {
    match kind {
        data_type::UINT8 | data_type::INT8 | data_type::BOOL => Some(1),
        data_type::UINT16 | data_type::INT16 | data_type::FLOAT16 | data_type::BFLOAT16 => Some(2),
        data_type::FLOAT | data_type::INT32 | data_type::UINT32 => Some(4),
        data_type::DOUBLE | data_type::INT64 | data_type::UINT64 => Some(8),
        _ => None,
    }
}

/// Decodes a tensor; `external` holds its bytes when they came from another file.
pub(crate) fn decode(proto: &TensorProto, external: Option<&[u8]>) -> Result<Tensor, Defect> {
    let tensor = decode_any(proto, external)?;
    check_values(proto.name(), &tensor)?;
    Ok(tensor)
}

/// [`decode`], of any values.
pub(crate) fn decode_any(proto: &TensorProto, external: Option<&[u8]>) -> Result<Tensor, Defect> {
    let dims = checked_dims(proto)?;
    let kind = proto.data_type();
    let stored = external.or(proto.raw_data.as_deref());
    let count = element_count(&dims).unwrap_or(0);
    let data = match (packed(kind), stored) {
        // The format stores a byte in each int32.
        (Some(per_byte), None) => {
            unpacked(proto.int32_data.iter().map(|&word| word as u8), kind, per_byte, count)
        }
        (Some(per_byte), Some(bytes)) => {
            // More or fewer bytes than the shape needs show in the number of values.
            let fits = bytes.len() == count.div_ceil(per_byte);
            unpacked(bytes.iter().copied(), kind, per_byte, if fits { count } else { usize::MAX })
        }
        (None, Some(bytes)) => from_bytes(proto, kind, bytes)?,
        (None, None) => from_fields(proto, kind)?,
    };
    let tensor = Tensor { dims, data, span: Span::of(kind) };
    if element_count(&tensor.dims) != Some(tensor.len()) {
        return Err(Defect::new(
            &codes::TENSOR,
            format!(
                "constant `{}` of shape {} holds {} values",
                proto.name(),
                Dims(&tensor.dims),
                tensor.len()
            ),
            "export the model again: the file is damaged or was edited",
        ));
    }
    Ok(tensor)
}

/// Refuses NaN, infinities and absurd magnitudes.
pub(crate) fn check_values(name: &str, tensor: &Tensor) -> Result<(), Defect> {
    let Data::Float(values) = &tensor.data else { return Ok(()) };
    let find = |wrong: fn(f64) -> bool| values.iter().position(|&value| wrong(value));
    if let Some(index) = find(|value| !value.is_finite()) {
        let value = values.get(index).copied().unwrap_or(f64::NAN);
        let count = values.iter().filter(|value| !value.is_finite()).count();
        return Err(Defect::new(
            &codes::NOT_FINITE,
            format!(
                "element {index} of constant `{name}` is {value} ({count} of {} are not finite)",
                values.len()
            ),
            "train again with a lower learning rate or gradient clipping, and check the data for missing values",
        ));
    }
    if let Some(index) = find(|value| value.abs() > MAX_MAGNITUDE) {
        let value = values.get(index).copied().unwrap_or(f64::NAN);
        return Err(Defect::new(
            &codes::HUGE_WEIGHT,
            format!("element {index} of constant `{name}` is {value:e}"),
            format!(
                "keep weights below {MAX_MAGNITUDE:e}: train again with weight decay or a lower learning rate"
            ),
        ));
    }
    Ok(())
}

fn unreadable_type(proto: &TensorProto, kind: i32) -> Defect {
    Defect::new(
        &codes::TENSOR,
        format!("constant `{}` has element type {}, which is not read", proto.name(), data_type::name(kind)),
        "export with weights as float, double, float16 or bfloat16, or quantised to integers",
    )
}

fn from_bytes(proto: &TensorProto, kind: i32, bytes: &[u8]) -> Result<Data, Defect> {
    let Some(size) = element_bytes(kind) else { return Err(unreadable_type(proto, kind)) };
    if !bytes.len().is_multiple_of(size) {
        return Err(Defect::new(
            &codes::TENSOR,
            format!("constant `{}` has {} bytes, not a multiple of {size}", proto.name(), bytes.len()),
            "export the model again: the file is damaged or was edited",
        ));
    }
    Ok(match kind {
        data_type::FLOAT => Data::Float(words(bytes, |word| f64::from(f32::from_le_bytes(word)))),
        data_type::DOUBLE => Data::Float(words(bytes, f64::from_le_bytes)),
        data_type::FLOAT16 => Data::Float(words(bytes, |word| half(u16::from_le_bytes(word)))),
        data_type::BFLOAT16 => Data::Float(words(bytes, |word| brain(u16::from_le_bytes(word)))),
        data_type::INT64 => Data::Int(words(bytes, i64::from_le_bytes)),
        data_type::UINT64 => Data::Int(words(bytes, |word| clamp_unsigned(u64::from_le_bytes(word)))),
        data_type::INT32 => Data::Int(words(bytes, |word| i64::from(i32::from_le_bytes(word)))),
        data_type::UINT32 => Data::Int(words(bytes, |word| i64::from(u32::from_le_bytes(word)))),
        data_type::INT16 => Data::Int(words(bytes, |word| i64::from(i16::from_le_bytes(word)))),
        data_type::UINT16 => Data::Int(words(bytes, |word| i64::from(u16::from_le_bytes(word)))),
        data_type::INT8 => Data::Int(words(bytes, |word| i64::from(i8::from_le_bytes(word)))),
        data_type::UINT8 => Data::Int(words(bytes, |word| i64::from(u8::from_le_bytes(word)))),
        data_type::BOOL => Data::Int(words(bytes, |[byte]: [u8; 1]| i64::from(byte != 0))),
        _ => return Err(unreadable_type(proto, kind)),
    })
}

fn from_fields(proto: &TensorProto, kind: i32) -> Result<Data, Defect> {
    // The format stores 16-bit floats as the low half of an int32.
    let halves = |decode: fn(u16) -> f64| proto.int32_data.iter().map(|&word| decode(word as u16)).collect();
    Ok(match kind {
        data_type::FLOAT => Data::Float(proto.float_data.iter().copied().map(f64::from).collect()),
        data_type::DOUBLE => Data::Float(proto.double_data.clone()),
        data_type::FLOAT16 => Data::Float(halves(half)),
        data_type::BFLOAT16 => Data::Float(halves(brain)),
        data_type::INT64 => Data::Int(proto.int64_data.clone()),
        data_type::UINT32 | data_type::UINT64 => {
            Data::Int(proto.uint64_data.iter().copied().map(clamp_unsigned).collect())
        }
        data_type::INT32
        | data_type::INT16
        | data_type::UINT16
        | data_type::INT8
        | data_type::UINT8
        | data_type::BOOL => Data::Int(proto.int32_data.iter().copied().map(i64::from).collect()),
        data_type::STRING => Data::Text(
            proto.string_data.iter().map(|bytes| String::from_utf8_lossy(bytes).into_owned()).collect(),
        ),
        _ => return Err(unreadable_type(proto, kind)),
    })
}

fn words<const N: usize, T>(bytes: &[u8], decode: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().copied().map(decode).collect()
}

/// Such integers are shapes, indices or labels; none comes near the end of the range.
fn clamp_unsigned(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// IEEE 754 binary16.
pub(crate) fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 1 { -1.0 } else { 1.0 };
    let exponent = i32::from((bits >> 10) & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    let magnitude = match exponent {
        0 => fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => f64::INFINITY,
        31 => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(exponent - 25),
    };
    sign * magnitude
}

/// The nearest binary16, halves to even; what is too large becomes infinite.
pub(crate) fn to_half(value: f64) -> f64 {
    // The greatest binary16 and half of the step behind it.
    if value.abs() >= 65_520.0 {
        return value.signum() * f64::INFINITY;
    }
    // Steps are powers of two: those of the number's own binade, and 2^-24 below 2^-14.
    let exponent = ((value.abs().to_bits() >> 52) as i32 - 1023).max(-14);
    let step = 2f64.powi(exponent - 10);
    (value / step).round_ties_even() * step
}

/// The nearest upper half of a binary32, halves to even.
pub(crate) fn to_brain(value: f64) -> f64 {
    let bits = u64::from((value as f32).to_bits());
    // Half of the last place, less one where the place is even; a carry into the exponent is right.
    let rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    brain(rounded as u16)
}

/// The upper half of a binary32.
fn brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}
