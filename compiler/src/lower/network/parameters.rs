//! Where code finds the numbers of the trained model: in the active slot, or in data that never change, of which
//! it then has the small ones in itself.
//!
//! Where a number stands in a slot is decided in `params/layout`; constants are numbered the same way.

use std::rc::Rc;

use crate::bpf::Size;
use crate::lower::builder::Builder;
use crate::lower::code::VReg;

/// Where the numbers are.
#[derive(Debug, Clone)]
pub(super) struct Parameters {
    pub(super) slot: SlotPointer,
    /// What the slot holds, where that never changes.
    constants: Option<Rc<[u64]>>,
    /// Whether code is written that runs over several places of the slot.
    pub(super) moving: bool,
}

impl Parameters {
    pub(super) const fn new(slot: SlotPointer, constants: Option<Rc<[u64]>>) -> Self {
        Self { slot, constants, moving: false }
    }

    /// Whether numbers never change.
    pub(super) const fn are_constants(&self) -> bool {
        self.constants.is_some()
    }

    /// The word at a byte offset within the slot, when it is always the same.
    pub(super) fn constant(&self, at: u32) -> Option<u64> {
        let words = self.constants.as_ref().filter(|_| !self.moving)?;
        Some(words.get(at as usize / 8).copied().unwrap_or(0))
    }
}

/// A pointer into the active slot that follows what is read.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotPointer {
    pointer: VReg,
    /// Byte offset within the slot that it points to.
    base: u32,
}

impl SlotPointer {
    pub(super) const fn new(pointer: VReg, base: u32) -> Self {
        Self { pointer, base }
    }

    /// Loads the word at a byte offset within the slot.
    pub(super) fn load(&mut self, b: &mut Builder, at: u32) -> VReg {
        let distance = i64::from(at) - i64::from(self.base);
        let offset = i16::try_from(distance).unwrap_or_else(|_| {
            self.seek(b, at);
            0
        });
        b.load(Size::DW, self.pointer, offset)
    }

    /// A pointer to a byte offset within the slot.
    pub(super) fn pointer_to(&mut self, b: &mut Builder, at: u32) -> VReg {
        self.seek(b, at);
        self.pointer
    }

    /// Points exactly there, so that a loop can count from it.
    pub(super) fn seek(&mut self, b: &mut Builder, at: u32) {
        let distance = i64::from(at) - i64::from(self.base);
        if distance != 0 {
            // Words are 8-aligned and slots far below 2^31, so that the distance is an immediate.
            b.add(self.pointer, i32::try_from(distance).unwrap_or(0));
            self.base = at;
        }
    }

    /// Writes the step of a loop that moves on by `step` bytes.
    pub(super) fn step(self, b: &mut Builder, step: i32) {
        b.add(self.pointer, step);
    }

    /// Takes note that a loop moved the pointer by so many bytes.
    pub(super) fn moved(&mut self, bytes: usize) {
        self.base += u32::try_from(bytes).unwrap_or(0);
    }
}
