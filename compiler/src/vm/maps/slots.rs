//! Hands out the elements of a map's region.

/// Free elements of a map.
#[derive(Debug)]
pub(super) struct Slots {
    returned: Vec<u32>,
    next: u32,
    count: u32,
}

impl Slots {
    pub(super) fn new(count: u32) -> Self {
        Self { returned: Vec::new(), next: 0, count }
    }

    /// An element that nobody uses; the one returned last comes first.
    pub(super) fn take(&mut self) -> Option<u32> {
        if let Some(slot) = self.returned.pop() {
            return Some(slot);
        }
        if self.next == self.count {
            return None;
        }
        self.next += 1;
        Some(self.next - 1)
    }

    pub(super) fn give_back(&mut self, slot: u32) {
        self.returned.push(slot);
    }
}
