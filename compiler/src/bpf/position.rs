//! Positions in encoded code. A slot and a byte are different units, so they are different types.

use super::limits::SLOT_BYTES;
use std::fmt;

/// Counts slots of eight bytes from the start of a function; a 64-bit immediate load takes two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct InstructionIndex(pub u32);

/// Counts bytes from the start of a function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ByteOffset(pub u64);

impl InstructionIndex {
    /// Where the slot starts.
    #[must_use]
    pub fn byte_offset(self) -> ByteOffset {
        ByteOffset(u64::from(self.0) * u64::from(SLOT_BYTES))
    }
}

impl fmt::Display for InstructionIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}
