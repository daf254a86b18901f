//! Operands of cases: numbers of all magnitudes, those at which instructions behave differently most often.

/// Pseudo-random numbers (SplitMix64), the same for a seed every time.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

/// Numbers at which widths end and signs change.
const EDGES: [u64; 14] = [
    0,
    1,
    2,
    u64::MAX,
    u64::MAX - 1,
    0x7fff_ffff,
    0x8000_0000,
    0xffff_ffff,
    0x1_0000_0000,
    0xffff_ffff_7fff_ffff,
    0xffff_ffff_8000_0000,
    0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000,
    0x8000_0000_0000_0001,
];

impl Random {
    /// 64 random bits.
    pub fn next_word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In `0..bound`; 0 for an empty range.
    pub fn below(&mut self, bound: u64) -> u64 {
        (self.next_word() >> 8).checked_rem(bound).unwrap_or(0)
    }

    /// In `0..bound`, for offsets.
    pub fn small(&mut self, bound: i16) -> i16 {
        i16::try_from(self.below(u64::from(bound.unsigned_abs()))).unwrap_or(0)
    }

    /// Once in `times`.
    pub fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// One of the choices; `None` when there is none.
    pub fn pick<T: Copy>(&mut self, choices: &[T]) -> Option<T> {
        let index = usize::try_from(self.below(choices.len() as u64)).unwrap_or(0);
        choices.get(index).copied()
    }

    /// An operand.
    pub fn number(&mut self) -> u64 {
        let any = self.next_word();
        let power = 1_u64 << self.below(64);
        match self.below(8) {
            0 => self.pick(&EDGES).unwrap_or(0),
            1 => power.wrapping_add(self.below(3)).wrapping_sub(1),
            2 => power.wrapping_add(self.below(3)).wrapping_sub(1).wrapping_neg(),
            // Counts of shifts, within both widths and beyond.
            3 => self.below(130),
            4 => any >> self.below(64),
            5 => (any >> self.below(64)).wrapping_neg(),
            // A half of an edge beside a random one.
            6 => any << 32 | self.pick(&EDGES).unwrap_or(0) & 0xffff_ffff,
            _ => any,
        }
    }

    /// A constant in an instruction.
    pub fn constant(&mut self) -> i32 {
        // The low half of a number has the edges of 32 bits.
        self.number() as u32 as i32
    }

    /// A number that is close to another in the ways that comparisons notice.
    pub fn relative(&mut self, number: u64) -> u64 {
        match self.below(4) {
            0 => number,
            1 => self.next_word() << 32 | number & 0xffff_ffff,
            2 => number.wrapping_neg(),
            _ => number.wrapping_add(1),
        }
    }
}
