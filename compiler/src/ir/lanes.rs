//! How accumulators of several neurons share one 64-bit register: the widths of their lanes.

use std::fmt;

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Most lanes of a register.
const MOST: usize = 8;

/// Widths of the lanes of a register, from the lowest bit on. They fill 64 bits at most.
///
/// Row `i` of a layer is in lane `i % count` of its register.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lanes {
    count: u8,
    widths: [u8; MOST],
}

impl Lanes {
    pub const ONE: Self = Self::even(1, 64);
    pub const TWO: Self = Self::even(2, 32);
    pub const THREE: Self = Self::even(3, 21);
    pub const FOUR: Self = Self::even(4, 16);
    pub const FIVE: Self = Self::even(5, 12);

    const fn even(count: u8, bits: u8) -> Self {
        let mut widths = [0; MOST];
        let (filled, _) = widths.split_at_mut(count as usize);
        let mut rest: &mut [u8] = filled;
        while let Some((first, others)) = rest.split_first_mut() {
            *first = bits;
            rest = others;
        }
        Self { count, widths }
    }

    /// Lanes of these widths; `None` unless there are one to eight, of at least two bits and at most 64 together.
    #[must_use]
    pub fn new(widths: &[u8]) -> Option<Self> {
        let sum: u32 = widths.iter().map(|&bits| u32::from(bits)).sum();
        let fits = (1..=MOST).contains(&widths.len()) && sum <= 64 && widths.iter().all(|&bits| bits >= 2);
        let mut own = [0; MOST];
        own.get_mut(..widths.len())?.copy_from_slice(widths);
        fits.then_some(Self { count: u8::try_from(widths.len()).ok()?, widths: own })
    }

    /// Number of accumulators in a register.
    #[must_use]
    pub const fn count(self) -> usize {
        self.count as usize
    }

    /// The widths, from the lowest lane on.
    pub fn widths(self) -> impl Iterator<Item = u32> + Clone {
        self.widths.into_iter().take(self.count()).map(u32::from)
    }

    /// Width of a lane, counted on through further registers.
    #[must_use]
    pub fn bits(self, lane: usize) -> u32 {
        self.widths.get(lane % self.count().max(1)).copied().map_or(64, u32::from)
    }

    /// The lowest bit of a lane.
    #[must_use]
    pub fn start(self, lane: usize) -> u32 {
        self.widths().take(lane % self.count().max(1)).sum()
    }

    #[must_use]
    pub fn widest(self) -> u32 {
        self.widths().max().unwrap_or(64)
    }

    #[must_use]
    pub fn narrowest(self) -> u32 {
        self.widths().min().unwrap_or(64)
    }

    /// The common width of lanes that are equally wide.
    #[must_use]
    pub fn common(self) -> Option<u32> {
        (self.widest() == self.narrowest()).then(|| self.widest())
    }

    /// Whether each lane has all that an even division of 64 bits gives it.
    #[must_use]
    pub fn even_share(self) -> bool {
        self.common().is_some_and(|bits| bits == 64 / u32::from(self.count.max(1)))
    }

    /// Whether several accumulators share a register.
    #[must_use]
    pub const fn packed(self) -> bool {
        self.count > 1
    }

    /// A word with this number in each lane.
    pub(crate) fn each(self, value: impl Fn(u32) -> u64) -> u64 {
        let mut at = 0;
        self.widths().fold(0u64, |word, bits| {
            let word = word.wrapping_add(value(bits).wrapping_shl(at));
            at += bits;
            word
        })
    }
}

/// `3` where 64 bits are divided evenly, else `22+21+21`, from the lowest lane on.
impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.even_share() {
            return write!(f, "{}", self.count);
        }
        let widths: Vec<String> = self.widths().map(|bits| bits.to_string()).collect();
        f.write_str(&widths.join("+"))
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Lanes({self})")
    }
}

/// Patterns that are written by name; others are lists of widths.
const NAMES: [(Lanes, &str); 3] = [(Lanes::ONE, "One"), (Lanes::TWO, "Two"), (Lanes::THREE, "Three")];

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Name(String),
    Widths(Vec<u8>),
}

impl Serialize for Lanes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = NAMES.iter().find(|(lanes, _)| lanes == self);
        let written = match name {
            Some((_, name)) => Written::Name((*name).to_owned()),
            None => Written::Widths(self.widths.iter().take(self.count()).copied().collect()),
        };
        written.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Lanes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let lanes = match Written::deserialize(deserializer)? {
            Written::Name(name) => NAMES.iter().find(|(_, known)| *known == name).map(|(lanes, _)| *lanes),
            Written::Widths(widths) => Self::new(&widths),
        };
        lanes.ok_or_else(|| D::Error::custom("no widths of lanes"))
    }
}

#[cfg(test)]
mod tests {
    use super::Lanes;

    #[test]
    fn widths_fill_a_register_at_most() {
        for widths in [&[32, 32][..], &[64], &[22, 21, 21], &[20, 15, 15, 14], &[8; 8]] {
            let lanes = Lanes::new(widths).unwrap();
            assert_eq!(lanes.count(), widths.len());
            assert!(lanes.widths().eq(widths.iter().map(|&bits| u32::from(bits))));
        }
        for widths in [&[][..], &[65], &[33, 32], &[7; 9], &[60, 1]] {
            assert_eq!(Lanes::new(widths), None, "{widths:?}");
        }
    }

    #[test]
    fn lanes_stand_above_each_other() {
        let lanes = Lanes::new(&[20, 15, 15, 14]).unwrap();
        assert_eq!([0, 1, 2, 3].map(|lane| lanes.start(lane)), [0, 20, 35, 50]);
        assert_eq!([0, 3, 4, 7].map(|lane| lanes.bits(lane)), [20, 14, 20, 14]);
        assert_eq!((lanes.widest(), lanes.narrowest(), lanes.common()), (20, 14, None));
        assert_eq!(lanes.each(|_| 1), 1 | 1 << 20 | 1 << 35 | 1 << 50);
    }

    #[test]
    fn patterns_are_written_and_read() {
        let uneven = Lanes::new(&[22, 21, 21]).unwrap();
        let texts = ["\"One\"", "\"Two\"", "\"Three\"", "[16,16,16,16]", "[22,21,21]"];
        for (lanes, text) in
            [Lanes::ONE, Lanes::TWO, Lanes::THREE, Lanes::FOUR, uneven].into_iter().zip(texts)
        {
            assert_eq!(serde_json::to_string(&lanes).unwrap(), text);
            assert_eq!(serde_json::from_str::<Lanes>(text).unwrap(), lanes);
        }
        assert!(serde_json::from_str::<Lanes>("[40,40]").is_err());
        assert!(serde_json::from_str::<Lanes>("\"Six\"").is_err());
    }
}
