//! Pseudo-random numbers from a fixed seed: the same everywhere, so that whatever is drawn is a function of the inputs.

use crate::ir::Interval;

/// The generator of Steele, Lea and Flood ("Fast Splittable Pseudorandom Number Generators", OOPSLA 2014), from a seed.
#[derive(Debug)]
pub struct SplitMix(pub u64);

impl SplitMix {
    /// The next 64 bits.
    pub const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An integer of the interval; over intervals far narrower than 64 bits as good as uniform.
    pub fn within(&mut self, range: Interval) -> i64 {
        let span = (i128::from(range.high) - i128::from(range.low) + 1) as u128;
        let offset = (u128::from(self.next()) * span) >> 64;
        (i128::from(range.low) + offset as i128) as i64
    }

    /// Brings values into a random order (Fisher and Yates).
    pub fn shuffle<T>(&mut self, values: &mut [T]) {
        for last in (1..values.len()).rev() {
            // Numbers of values are far below 2^64, so the bias of the remainder does not matter.
            let other = self.next() % (last as u64 + 1);
            values.swap(last, usize::try_from(other).unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        // The first numbers for seed 1234567, as the reference implementation gives them.
        let mut random = SplitMix(1_234_567);
        assert_eq!(random.next(), 6_457_827_717_110_365_317);
        assert_eq!(random.next(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn a_shuffle_is_an_order_of_the_same_values() {
        let mut values: Vec<u32> = (0..100).collect();
        SplitMix(1).shuffle(&mut values);
        assert_ne!(values, (0..100).collect::<Vec<_>>());
        values.sort_unstable();
        assert_eq!(values, (0..100).collect::<Vec<_>>());
    }
}
