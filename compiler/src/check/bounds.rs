//! Exact bounds of single operations, in 128-bit arithmetic; shared with quantisation, which rounds towards them.

use crate::ir::{Interval, Post, QuantiseOne};

/// An interval before it is known to fit 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wide {
    pub(crate) low: i128,
    pub(crate) high: i128,
}

impl Wide {
    pub(crate) fn narrow(self) -> Option<Interval> {
        Some(Interval { low: i64::try_from(self.low).ok()?, high: i64::try_from(self.high).ok()? })
    }
}

/// What values of `bits` bits hold, as a signed number.
pub(crate) const fn lane_range(bits: u32) -> Wide {
    let half = 1i128 << (bits - 1);
    Wide { low: -half, high: half - 1 }
}

/// The exact interval of `bias + Σ weights[j] * x[j]` over the box `inputs`.
pub(crate) fn weighted_sum(weights: &[i64], bias: i64, inputs: &[Interval]) -> Wide {
    let start = Wide { low: i128::from(bias), high: i128::from(bias) };
    weights.iter().zip(inputs).fold(start, |sum, (&weight, input)| {
        let weight = i128::from(weight);
        let (first, second) = (weight * i128::from(input.low), weight * i128::from(input.high));
        Wide { low: sum.low + first.min(second), high: sum.high + first.max(second) }
    })
}

/// What a lane has to hold of a row with these sums: them, and each of the row's numbers, without which a packed word
/// could not be taken apart again.
pub(crate) fn lane_need(weights: &[i64], bias: i64, sum: Wide) -> Wide {
    weights.iter().chain([&bias]).fold(sum, |need, &number| Wide {
        low: need.low.min(i128::from(number)),
        high: need.high.max(i128::from(number)),
    })
}

/// The interval of `clamp(x) * multiplier + offset`.
pub(crate) fn quantiser_sum(one: &QuantiseOne) -> Wide {
    let multiplier = i128::from(one.multiplier);
    let (first, second) = (i128::from(one.low) * multiplier, i128::from(one.high) * multiplier);
    let offset = i128::from(one.offset);
    Wide { low: first.min(second) + offset, high: first.max(second) + offset }
}

/// The interval of `post` over an interval of accumulators: `post` is monotonic.
pub(crate) fn posted(post: Post, acc: Interval) -> Interval {
    Interval { low: post.apply(acc.low), high: post.apply(acc.high) }
}
