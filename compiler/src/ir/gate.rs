//! The gate: a value times another one that is clamped between zero and a limit, and made of the first.
//!
//! A hard swish is that, exactly; the proof is in `docs/numerics.md`.

use serde::{Deserialize, Serialize};

use super::Interval;

/// `y = (x * clamp(x + start, 0, most) + offset) >> shift`, of the first values that come in. The others stay as they
/// are.
///
/// The four numbers, of which `most` is not negative, are parameters and the same for all values. `shift` is in
/// `0..=62`; the bytecode masks it with 63.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gate {
    /// Values that come in, and how many of them are changed.
    pub width: usize,
    pub mapped: usize,
    pub start: i64,
    pub most: i64,
    pub offset: i64,
    pub shift: u8,
}

impl Gate {
    /// `x * clamp(x + start, 0, most) + offset`.
    #[must_use]
    pub fn accumulate(&self, x: i64) -> i64 {
        let gate = x.wrapping_add(self.start).max(0).min(self.most);
        x.wrapping_mul(gate).wrapping_add(self.offset)
    }

    /// The result for a number.
    #[must_use]
    pub fn result(&self, x: i64) -> i64 {
        self.accumulate(x) >> self.shift
    }

    /// The exact interval of [`Gate::accumulate`] over an interval of numbers; `None` where a sum or a product leaves
    /// 64 bits on the way, or `most` is negative.
    ///
    /// Between neighbours of the ends, of both numbers at which the clamp begins and of the one at which the parabola
    /// between these turns, the results only rise or only fall, so that the extremes are among them.
    #[must_use]
    pub fn accumulators(&self, numbers: Interval) -> Option<Interval> {
        if self.most < 0 {
            return None;
        }
        let (start, most) = (i128::from(self.start), i128::from(self.most));
        let (first, last) = (i128::from(numbers.low), i128::from(numbers.high));
        let narrow = |value: i128| i64::try_from(value).ok();
        narrow(first + start).zip(narrow(last + start))?;
        let turn = (-start).div_euclid(2);
        let inner = [-start, most - start, turn, turn + 1].into_iter().filter(|x| (first..=last).contains(x));
        let mut results = Interval { low: i64::MAX, high: i64::MIN };
        for x in inner.chain([first, last]) {
            let product = x * (x + start).clamp(0, most);
            narrow(product)?;
            let sum = narrow(product + i128::from(self.offset))?;
            results = Interval { low: results.low.min(sum), high: results.high.max(sum) };
        }
        Some(results)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_are_the_least_and_the_greatest_result() {
        for start in -9..=9 {
            for most in 0..=12 {
                let gate = Gate { width: 1, mapped: 1, start, most, offset: 5, shift: 2 };
                for (low, high) in (-20..=20).flat_map(|low| (low..=20).map(move |high| (low, high))) {
                    let all = || (low..=high).map(|x| gate.accumulate(x));
                    let exact = Interval { low: all().min().unwrap(), high: all().max().unwrap() };
                    assert_eq!(
                        gate.accumulators(Interval { low, high }),
                        Some(exact),
                        "{gate:?} {low} {high}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_leaves_64_bits_has_no_interval() {
        let gate = Gate { width: 1, mapped: 1, start: 1 << 31, most: 1 << 32, offset: 0, shift: 0 };
        assert!(gate.accumulators(Interval { low: -(1 << 31), high: (1 << 31) - 1 }).is_some());
        assert_eq!(gate.accumulators(Interval { low: 0, high: 1 << 31 }), None, "the product");
        assert_eq!(
            Gate { offset: i64::MAX, ..gate.clone() }.accumulators(Interval { low: 0, high: 1 }),
            None
        );
        assert_eq!(
            Gate { start: i64::MAX, most: 1, ..gate.clone() }.accumulators(Interval { low: 0, high: 1 }),
            None
        );
        assert_eq!(Gate { most: -1, ..gate }.accumulators(Interval { low: 0, high: 1 }), None);
    }
}
