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
pub mod interpret;
pub mod batch;
pub mod print;

use serde::{Deserialize, Serialize};

use crate::diag::NodeRef;

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
    /// How outputs become label and score outside the kernel.
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
}

/// Raw features to activations, one entry per feature:
/// `q = (clamp(x, low, high) * multiplier + offset) >> shift`.
///
/// All five numbers are parameters. `shift` is in `0..=62`; the bytecode masks it with 63.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quantise {
    pub features: Vec<QuantiseOne>,
    /// What every `q` lies in, as planned. Each feature's own interval, from `low` to `high`, lies inside; the
    /// first layer's bounds rest on those, which may be much narrower.
    pub output: Interval,
}

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
/// Each accumulator's exact interval over the input intervals fits [`Lanes::bits`] as a signed number, so
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

/// How many accumulators share one 64-bit register.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Lanes {
    One,
    Two,
    Three,
}

impl Lanes {
    /// Number of accumulators in a register.
    #[must_use]
    pub const fn count(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// Width of one lane; lane `k` starts at bit `k * bits()`.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::One => 64,
            Self::Two => 32,
            Self::Three => 21,
        }
    }
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

/// How the last operation's values become a label and a score.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub rule: Rule,
    /// Real value of an output: `raw * unit`. One unit for all outputs, so that they compare as integers.
    pub unit: f64,
    /// Class labels, one per class; empty for a regressor.
    pub labels: Vec<String>,
    /// One test per rule of the specification, in its order.
    pub tests: Vec<RuleTest>,
}

/// When a rule of the specification fires. `margin` and `lead` are parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RuleTest {
    /// The label is this class.
    Label { class: u32 },
    /// `z[class] - z[other] >= margin` for two classes; for a single output `z >= margin` (class 1) or
    /// `-z >= margin` (class 0). A probability threshold becomes this with `margin = ceil(logit(p) / unit)`.
    Margin { class: u32, margin: i64 },
    /// For more than two classes: the powers of the class's leads over all others sum up to at most 1, see
    /// [`softmax`].
    Softmax { class: u32, lead: softmax::Lead },
}

/// The label as a function of the raw outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rule {
    /// No label.
    None,
    /// Index of the largest output; ties go to the lowest index.
    ArgMax,
    /// One output: label 1 when it is above zero, else 0.
    Positive,
}

impl Op {
    /// Number of values that come out.
    #[must_use]
    pub fn width(&self) -> usize {
        match self {
            Self::Quantise(quantise) => quantise.features.len(),
            Self::Dense(dense) => dense.rows,
        }
    }
}

impl Network {
    /// Number of raw outputs.
    #[must_use]
    pub fn output_count(&self) -> usize {
        self.ops.last().map_or(0, Op::width)
    }
}
