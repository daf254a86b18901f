//! The fixed-point IR: what the bytecode computes, to the bit.
//!
//! A program has two halves. The [`Network`] turns a vector of raw features into integer outputs and a
//! label; the flow program (module `flow`) turns packets into raw features and triggers. Both are executed by
//! reference interpreters in this module ([`interpret`] for the network); the user-space VM and the kernel
//! must agree with them on every bit.
//!
//! All arithmetic is on signed 64-bit integers and is proved not to overflow by the intervals that
//! [`crate::check`] derives; `>>` is the arithmetic shift (rounds towards minus infinity). The formulas are
//! stated once more, with their derivation, in `docs/numerics.md`.

pub mod packet;
pub mod flow;
pub mod softmax;
pub mod forest;
mod gate;
mod lanes;
pub mod interpret;
pub mod batch;
pub mod print;

use serde::{Deserialize, Serialize};

use crate::diag::NodeRef;

pub use forest::Forest;
pub use gate::Gate;
pub use lanes::Lanes;

/// Closed interval of a signed 64-bit value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interval {
    pub low: i64,
    pub high: i64,
}

/// Position of an operation in [`Network::ops`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u32);

/// Number of binary fraction digits of a raw value: it stands for `raw / 2^bits`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FractionBits(pub u8);

/// The integer network: operations in execution order, each consuming the previous one's result.
///
/// Every number in it that depends on the trained model lives in the parameter slot; everything else is plan
/// and lives in code. Two networks of one plan differ in parameters only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Network {
    /// The raw features that enter, in order.
    pub inputs: Vec<Input>,
    pub ops: Vec<Op>,
    /// Parallel to `ops`: where each came from.
    pub origins: Vec<OpOrigin>,
    /// How the last values become labels and scores.
    pub decision: Decision,
}

/// One raw feature as the network sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Input {
    pub name: String,
    pub fraction_bits: FractionBits,
    /// Raw values that can arrive (not the calibrated range): what the overflow proof assumes.
    pub range: Interval,
}

/// Where an operation came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum OpOrigin {
    /// The input quantiser that the compiler made from scaler, calibration and ranges.
    Inputs,
    /// A layer of the model; `layer` counts from 0.
    Layer { layer: u32, node: NodeRef },
}

/// One operation over vectors of integers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Op {
    Quantise(Quantise),
    Dense(Dense),
    Table(Table),
    Gate(Gate),
    Forest(Forest),
}

/// Raw features or sums to a coarser scale, one entry per value:
/// `q = (clamp(x, low, high) * multiplier + offset) >> shift`.
///
/// All five numbers are parameters. `shift` is in `0..=62`; the bytecode masks it with 63.
/// Behind the first operation, `x` is the result of the operation before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantise {
    pub features: Vec<QuantiseOne>,
    /// What every `q` lies in, as planned. Each feature's own interval, from `low` to `high`, lies inside; the
    /// first layer's bounds rest on those, which may be much narrower.
    pub output: Interval,
    /// Whether halves are rounded to even numbers: with `p = clamp(x, low, high) * multiplier + offset`,
    /// `q = (p + (((p >> shift) & 1) << `[`HALF_BITS`]`)) >> shift`. Such an `offset` is less by half of that
    /// than one that rounds halves up, so that a product may be off by as much and is still taken for a half.
    #[serde(default, skip_serializing_if = "is_default")]
    pub even: bool,
    /// Raw features that have a result of their own instead, by feature; of the input quantiser only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub replaced: Vec<Replaced>,
}

/// Raw values of a feature in the place of which another number is read: where `first <= x <= last`, `q = to`.
///
/// Which feature is plan, the three numbers are parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replaced {
    /// Position among the features; each has one at most.
    pub feature: usize,
    pub first: i64,
    pub last: i64,
    pub to: i64,
}

/// A function of one number, of the first values that come in. The others stay as they are and lie in `0..2^16`.
///
/// With `i = x >> fraction` and `r = x & (2^fraction - 1)`,
/// `y = entries[i] + (((entries[i + 1] - entries[i]) * r) >> fraction)`; without a fraction `y = entries[x]`.
/// The entries are parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Table {
    /// Values that come in, and how many of them are looked up.
    pub width: usize,
    pub mapped: usize,
    /// There are `2^bits` entries, with `bits` in `2..=16`; every `i` lies in `0..2^bits`, and with a fraction there is
    /// an entry behind it.
    pub bits: u8,
    /// Bits of `x` below the number of its entry, at most 16.
    #[serde(default, skip_serializing_if = "is_default")]
    pub fraction: u8,
    pub entries: Vec<u16>,
}

/// How near to a half a product counts as one, as a power of two and twice as wide: see [`Quantise::even`].
pub const HALF_BITS: u8 = 24;

/// The parameters of one feature's quantiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuantiseOne {
    pub low: i64,
    pub high: i64,
    pub multiplier: i64,
    pub offset: i64,
    pub shift: u8,
}

/// `acc[i] = bias[i] + Σ_j weights[i][j] * x[j]`, then [`Post`].
///
/// Each accumulator's exact interval over the input intervals fits its lane ([`Lanes::bits`]) as a signed number, so
/// that several of them share one 64-bit register without touching each other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dense {
    /// `rows` outputs by `columns` inputs, row-major.
    pub rows: usize,
    pub columns: usize,
    pub weights: Vec<i64>,
    /// Includes the rounding half of a following shift.
    pub bias: Vec<i64>,
    pub lanes: Lanes,
    pub post: Post,
}

/// What happens to accumulators. `shift` and `bits` are plan, not parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Post {
    /// The accumulators are the outputs.
    Raw,
    /// `min(max(acc, 0) >> shift, 2^bits - 1)`.
    Relu { shift: u8, bits: u8 },
    /// `clamp(acc >> shift, -2^(bits-1), 2^(bits-1) - 1)`.
    Signed { shift: u8, bits: u8 },
}

/// How the last operation's values become labels and scores.
///
/// A model has one output or several, each of which is a label over some of the values, in order and without
/// gaps: those from its [`Output::start`] up to the next output's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    /// The only output of most models.
    #[serde(flatten)]
    pub first: Output,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub further: Vec<Output>,
    /// Real value of a raw value: `raw * unit / 2^finer`, with [`Output::finer`]. A parameter.
    pub unit: f64,
    /// One test per rule of the specification, in its order.
    pub tests: Vec<RuleTest>,
}

/// One output: a label over some of the last operation's values.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Its name in the specification or the model; empty for an only output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// Position of its first value; 0 for the first output.
    #[serde(default, skip_serializing_if = "is_default")]
    pub start: usize,
    /// Halvings of the common unit. One scale for all values of an output, so that they compare as integers.
    #[serde(default, skip_serializing_if = "is_default")]
    pub finer: u8,
    pub rule: Rule,
    /// Class labels, one per class; empty for a regressor.
    pub labels: Vec<String>,
}

/// When a rule of the specification fires: a test of the values `z` of one output, whose position among the
/// outputs it names. `margin` and `lead` are parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleTest {
    /// The label is this class.
    Label {
        #[serde(default, skip_serializing_if = "is_default")]
        output: u32,
        class: u32,
    },
    /// `z[class] - z[other] >= margin` for two classes; for a single value `z >= margin` (class 1) or
    /// `-z >= margin` (class 0). A probability threshold becomes this with `margin = ceil(logit(p) / unit)`.
    /// Under [`Rule::Probabilities`] it is `z[class] >= margin` for any number of classes.
    Margin {
        #[serde(default, skip_serializing_if = "is_default")]
        output: u32,
        class: u32,
        margin: i64,
    },
    /// For more than two classes: the powers of the class's leads over all others sum up to at most 1, see
    /// [`softmax`].
    Softmax {
        #[serde(default, skip_serializing_if = "is_default")]
        output: u32,
        class: u32,
        lead: softmax::Lead,
    },
}

/// The label as a function of an output's raw values.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// No label.
    None,
    /// Index of the largest value; ties go to the lowest index.
    ArgMax,
    /// One value: label 1 when it is above zero, else 0.
    Positive,
    /// The label of [`Rule::ArgMax`]; the probability of a class is the logistic of its own value, divided by the
    /// sum over all classes when `normalised`.
    OneVersusRest { normalised: bool },
    /// [`Rule::Positive`] of a value that is the probability of class 1 less one half.
    Probability,
    /// [`Rule::ArgMax`] of values that are the probabilities themselves.
    Probabilities,
}

impl RuleTest {
    /// The output that is tested.
    #[must_use]
    pub const fn output(&self) -> u32 {
        match self {
            Self::Label { output, .. } | Self::Margin { output, .. } | Self::Softmax { output, .. } => {
                *output
            }
        }
    }
}

impl Output {
    /// The only output of a model.
    #[must_use]
    pub const fn only(rule: Rule, labels: Vec<String>) -> Self {
        Self { name: String::new(), start: 0, finer: 0, rule, labels }
    }
}

impl Decision {
    /// Of a model with one output.
    #[must_use]
    pub const fn single(rule: Rule, unit: f64, labels: Vec<String>, tests: Vec<RuleTest>) -> Self {
        Self { first: Output::only(rule, labels), further: Vec::new(), unit, tests }
    }

    /// All outputs, in order.
    pub fn outputs(&self) -> impl Iterator<Item = &Output> + Clone {
        std::iter::once(&self.first).chain(&self.further)
    }

    /// The outputs, each with its part of one entry per raw value.
    pub fn parts<'a, T>(&'a self, values: &'a [T]) -> impl Iterator<Item = (&'a Output, &'a [T])> {
        parts(self.outputs(), |output| output.start, values)
    }

    /// Real value of one raw unit of an output's values.
    #[must_use]
    pub fn unit_of(&self, output: &Output) -> f64 {
        self.unit / f64::from(output.finer).exp2()
    }
}

/// Divides `values` among outputs, each of which knows where its part starts.
pub(crate) fn parts<'a, O: 'a, T>(
    outputs: impl Iterator<Item = &'a O>,
    start: impl Fn(&O) -> usize,
    values: &'a [T],
) -> impl Iterator<Item = (&'a O, &'a [T])> {
    let mut outputs = outputs.peekable();
    std::iter::from_fn(move || {
        let output = outputs.next()?;
        let end = outputs.peek().map_or(values.len(), |next| start(next));
        Some((output, values.get(start(output)..end).unwrap_or_default()))
    })
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Op {
    /// Number of values that come out.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Quantise(quantise) => quantise.features.len(),
            Self::Dense(dense) => dense.rows,
            Self::Table(table) => table.width,
            Self::Gate(gate) => gate.width,
            Self::Forest(forest) => forest.outputs,
        }
    }
}

impl Network {
    /// Number of raw output values, of all outputs together.
    #[must_use]
    pub fn output_count(&self) -> usize {
        self.ops.last().map_or(0, Op::width)
    }
}
