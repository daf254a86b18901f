//! Element-wise functions after a dense layer: names and meaning. Adding one starts here.

use super::eval::Real;

/// Element-wise function after a dense layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    Identity,
    Relu,
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
        }
    }

    /// The name that reports show.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Relu => "relu",
        }
    }
}
