//! Element-wise functions after a dense layer: names and meaning. Adding one starts here.

use super::eval::Real;

/// Element-wise function after a dense layer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Activation {
    Identity,
    Relu,
    Function(Function),
}

impl Activation {
    /// The function in real numbers.
    #[must_use]
    pub fn apply<R: Real>(self, value: R) -> R {
        match self {
            Self::Identity => value,
            // NaN is impossible here: weights and rows are finite.
            Self::Relu => {
                if value > R::ZERO {
                    value
                } else {
                    R::ZERO
                }
            }
            Self::Function(function) => R::of(function.apply(value.widen())),
        }
    }

    /// Whether no result is below zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        match self {
            Self::Identity => false,
            Self::Relu => true,
            Self::Function(function) => function.is_positive(),
        }
    }

    /// The name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
            Self::Function(function) => function.name(),
        }
    }
}

/// A function of one number that is no sum of ReLUs, or would need too many.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Function {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    Tanh,
    /// `ln(1 + exp(x))`.
    Softplus,
    /// `x / (1 + |x|)`.
    Softsign,
    /// `gamma * x` above zero, `gamma * alpha * (exp(x / width) - 1)` below: Elu, Selu, Celu.
    Elu {
        alpha: f64,
        gamma: f64,
        width: f64,
    },
    /// `x / 2 * (1 + erf(x / sqrt(2)))`.
    Gelu,
    /// `x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3)))`.
    TanhGelu,
    /// `x / (1 + exp(-slope * x))`: Silu where `slope` is 1, else Swish.
    Silu {
        slope: f64,
    },
    /// `x * tanh(ln(1 + exp(x)))`.
    Mish,
    /// `x * clip(x / 6 + 1/2, 0, 1)`.
    HardSwish,
    /// `x` above `alpha`, else 0.
    ThresholdedRelu {
        alpha: f64,
    },
    /// `x * x`.
    Square,
    /// 1 above zero, else 0.
    Step,
    /// `x` above zero, else `slope * x`; with the slope -1 the absolute value. A sum of ReLUs unless it reads levels.
    LeakyRelu {
        slope: f64,
    },
    /// The nearest number between two bounds, which may be infinite. A sum of ReLUs unless it reads levels.
    Clip {
        low: f64,
        high: f64,
    },
    /// `clip(slope * x + offset, 0, 1)`. A sum of ReLUs unless it reads levels.
    HardSigmoid {
        slope: f64,
        offset: f64,
    },
    /// `ln(1 + x)` above zero, else 0.
    LogOnePlus,
    /// Rounding to one of few numbers, as models with quantisation of their own do.
    Levels(Levels),
}

/// `scale * (clamp(round(x / scale) + zero, low, high) - zero)`; halves are rounded to even numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Levels {
    /// Above zero.
    pub scale: f64,
    /// The integer that stands for 0.
    pub zero: i64,
    /// Least and greatest integer; `high - low` is below 2^16.
    pub low: i64,
    pub high: i64,
}

impl Levels {
    /// How many scales the rounded number is: the integer less [`Levels::zero`].
    #[must_use]
    pub fn index(&self, value: f64) -> i64 {
        let (low, high) = (self.low - self.zero, self.high - self.zero);
        // The conversion saturates, and the limits are far within 64 bits.
        ((value / self.scale).round_ties_even() as i64).clamp(low, high)
    }
}

impl Function {
    /// The function.
    #[must_use]
    pub fn apply(self, x: f64) -> f64 {
        match self {
            Self::Sigmoid => logistic(x),
            Self::Tanh => x.tanh(),
            Self::Softplus => softplus(x),
            Self::Softsign => x / (1.0 + x.abs()),
            Self::Elu { alpha, gamma, width } => {
                gamma * if x > 0.0 { x } else { alpha * (x / width).exp_m1() }
            }
            Self::Gelu => 0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2)),
            Self::TanhGelu => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x);
                0.5 * x * (1.0 + inner.tanh())
            }
            Self::Silu { slope } => x * logistic(slope * x),
            Self::Mish => x * softplus(x).tanh(),
            Self::HardSwish => x * (x / 6.0 + 0.5).clamp(0.0, 1.0),
            Self::ThresholdedRelu { alpha } => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            Self::Square => x * x,
            Self::Step => f64::from(u8::from(x > 0.0)),
            Self::LeakyRelu { slope } => {
                if x > 0.0 {
                    x
                } else {
                    slope * x
                }
            }
            Self::Clip { low, high } => x.max(low).min(high),
            Self::HardSigmoid { slope, offset } => (slope * x + offset).clamp(0.0, 1.0),
            Self::LogOnePlus => x.max(0.0).ln_1p(),
            Self::Levels(levels) => levels.scale * levels.index(x) as f64,
        }
    }

    /// Whether no result is below zero.
    #[must_use]
    pub fn is_positive(self) -> bool {
        match self {
            Self::Sigmoid
            | Self::Softplus
            | Self::Square
            | Self::Step
            | Self::HardSigmoid { .. }
            | Self::LogOnePlus => true,
            Self::ThresholdedRelu { alpha } => alpha >= 0.0,
            Self::LeakyRelu { slope } => slope <= 0.0,
            Self::Clip { low, .. } => low >= 0.0,
            Self::Levels(levels) => levels.low >= levels.zero,
            Self::Tanh
            | Self::Softsign
            | Self::Elu { .. }
            | Self::Gelu
            | Self::TanhGelu
            | Self::Silu { .. }
            | Self::Mish
            | Self::HardSwish => false,
        }
    }

    /// The name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sigmoid => "sigmoid",
            Self::Tanh => "tanh",
            Self::Softplus => "softplus",
            Self::Softsign => "softsign",
            Self::Elu { .. } => "elu",
            Self::Gelu => "gelu",
            Self::TanhGelu => "gelu (tanh)",
            Self::Silu { .. } => "silu",
            Self::Mish => "mish",
            Self::HardSwish => "hard swish",
            Self::ThresholdedRelu { .. } => "thresholded relu",
            Self::Square => "square",
            Self::Step => "step",
            Self::LeakyRelu { .. } => "leaky relu",
            Self::Clip { .. } => "clip",
            Self::HardSigmoid { .. } => "hard sigmoid",
            Self::LogOnePlus => "log(1 + x)",
            Self::Levels(_) => "levels",
        }
    }
}

fn logistic(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Without overflow for large `x`.
fn softplus(x: f64) -> f64 {
    x.max(0.0) + (-x.abs()).exp().ln_1p()
}
