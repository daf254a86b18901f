//! Windows of a record: the newest pane of each, and at a verdict both panes joined, as
//! [`crate::ir::flow::side`] says.

use super::path::Path;
use super::table::Flow;
use crate::bpf::{AluOp, AtomicOp, Cond, Size};
use crate::ir::flow::side::{TableId, Window};
use crate::ir::flow::{Counter, Slot, SlotKind, Width};
use crate::lower::code::VReg;

impl Path<'_> {
    /// The groups of all windows of a table's records.
    pub(super) fn windows(&mut self, flow: &Flow, table: Option<TableId>, previous: Option<VReg>) {
        let program = self.program;
        for (id, window) in program.windows_of(table) {
            let line = program.slot(window.pane).span.clone();
            self.origin(&line);
            let copy = self.newest(flow, window);
            let (full, done) = (self.b.label(), self.b.label());
            let ordinal = self.b.constant(1);
            let packets = self.slot_offset(window.packets);
            self.b.atomic(Size::DW, AtomicOp::FetchAdd, copy, packets, ordinal);
            // The count before this packet.
            let limit = self.b.constant((program.sample_limit / 2).cast_signed());
            self.b.jump(Cond::Ge, ordinal, limit, full);
            let mut inside = *flow;
            inside.record = copy;
            self.groups(&inside, window.place(id), previous);
            self.b.goto(done);
            self.b.bind(full);
            self.count(Counter::Saturated);
            self.b.bind(done);
        }
    }

    /// The number of the clock's pane.
    fn pane(&mut self, now: VReg, window: &Window) -> VReg {
        let pane = self.b.copy(now);
        match i32::try_from(window.pane_nanos()) {
            Ok(1) => {}
            Ok(nanos) => self.b.div(pane, nanos),
            Err(_) => {
                let nanos = self.b.constant(window.pane_nanos().cast_signed());
                self.b.div(pane, nanos);
            }
        }
        pane
    }

    /// A pointer that is `record` for even numbers and one copy further for odd ones.
    fn copy_of(&mut self, record: VReg, number: VReg, window: &Window) -> VReg {
        let copy = self.b.compute(AluOp::And, number, 1);
        self.b.mul(copy, window.stride.cast_signed());
        self.b.add(copy, record);
        copy
    }

    /// The copy of the newest pane, which this packet makes its own unless a newer one has been seen.
    fn newest(&mut self, flow: &Flow, window: &Window) -> VReg {
        let at = self.slot_offset(window.pane);
        let (turn, lost, kept, on) = (self.b.label(), self.b.label(), self.b.label(), self.b.label());
        let parity = self.b.fresh();
        let now = self.now(flow);
        let pane = self.pane(now, window);
        let newest = self.b.load(Size::DW, flow.record, at);
        self.b.jump(Cond::Slt, newest, pane, turn);
        self.lowest_bit(parity, newest);
        self.b.goto(on);

        self.b.bind(turn);
        let found = self.b.compare_exchange(Size::DW, flow.record, at, newest, pane);
        self.b.jump(Cond::Ne, found, newest, lost);
        let copy = self.copy_of(flow.record, pane, window);
        self.empty(copy, window);
        self.lowest_bit(parity, pane);
        // The copy of the pane before: kept where that is the one that was the newest.
        let skipped = self.b.compute(AluOp::Sub, pane, newest);
        self.b.jump(Cond::Eq, skipped, 1, kept);
        let other = self.b.compute(AluOp::Add, pane, 1);
        let copy = self.copy_of(flow.record, other, window);
        self.empty(copy, window);
        self.b.bind(kept);
        self.b.goto(on);

        self.b.bind(lost);
        self.lowest_bit(parity, found);
        self.b.bind(on);
        // It selects a copy: without this the verifier would follow the ways here apart to the end.
        self.blur(parity, 1);
        self.copy_of(flow.record, parity, window)
    }

    fn lowest_bit(&mut self, to: VReg, number: VReg) {
        self.b.mov(to, number);
        self.b.and(to, 1);
    }

    /// Empties a copy; `copy` points to where the record would start if the copy were that of even panes.
    fn empty(&mut self, copy: VReg, window: &Window) {
        for offset in (window.start..window.start + window.stride).step_by(8) {
            self.write_initial(window.table, copy, 0, offset);
        }
    }

    /// Joins both panes of all windows of a record, as a verdict at this time sees them, to their places in the
    /// image of the record that starts at `image`.
    pub(super) fn join(&mut self, table: Option<TableId>, record: VReg, now: VReg, image: (VReg, i16)) {
        let program = self.program;
        for (id, window) in program.windows_of(table) {
            let pane = self.pane(now, window);
            let newest = self.b.load(Size::DW, record, self.slot_offset(window.pane));
            let copies = {
                let other = self.b.compute(AluOp::Add, newest, 1);
                [self.copy_of(record, newest, window), self.copy_of(record, other, window)]
            };
            // All ones where the copy counts: the clock's pane is not more than 1, not more than 0 ahead. The
            // difference's sign is turned into a mask in two steps, because newer verifiers walk both signs of a
            // shift that copies it.
            let masks = [1, 0].map(|ahead| {
                let mask = self.b.compute(AluOp::Add, newest, ahead);
                self.b.sub(mask, pane);
                self.b.rsh(mask, 63);
                self.b.sub(mask, 1);
                mask
            });
            for (_, slot) in program.slots_of(table).filter(|(_, slot)| slot.place.window == Some(id)) {
                self.join_slot(slot, copies, masks, image);
            }
        }
    }

    fn join_slot(&mut self, slot: &Slot, copies: [VReg; 2], masks: [VReg; 2], (base, start): (VReg, i16)) {
        let offset = i16::try_from(slot.offset).unwrap_or(i16::MAX);
        let to = start.saturating_add(offset);
        let size = match slot.width {
            Width::W32 => Size::W,
            Width::W64 | Width::W128 => Size::DW,
        };
        let [newest, before] = copies.map(|copy| self.b.load(size, copy, offset));
        let [newest_counts, before_counts] = masks;
        match slot.kind {
            SlotKind::Packets => {
                let half = self.program.sample_limit / 2;
                self.at_most(newest, half);
                self.at_most(before, half);
                self.b.and(newest, newest_counts);
                self.b.and(before, before_counts);
                self.b.add(newest, before);
            }
            SlotKind::Count | SlotKind::Sum | SlotKind::Squares => {
                self.b.and(newest, newest_counts);
                self.b.and(before, before_counts);
                self.b.add(newest, before);
                if slot.width == Width::W128 {
                    let high = copies.map(|copy| self.b.load(Size::DW, copy, offset + 8));
                    let [newest_high, before_high] = high;
                    self.b.and(newest_high, newest_counts);
                    self.b.and(before_high, before_counts);
                    self.b.add(newest_high, before_high);
                    // One more where the low words' sum is below a summand.
                    let none = self.b.label();
                    self.b.jump(Cond::Ge, newest, before, none);
                    self.b.add(newest_high, 1);
                    self.b.bind(none);
                    self.b.store(Size::DW, base, to.saturating_add(8), newest_high);
                }
            }
            SlotKind::Min => {
                for (value, counts) in [(newest, newest_counts), (before, before_counts)] {
                    let empty = self.b.compute(AluOp::Xor, counts, -1);
                    if slot.width == Width::W32 {
                        self.b.rsh(empty, 32);
                    }
                    self.b.or(value, empty);
                }
                let smaller = self.b.label();
                self.b.jump(Cond::Le, newest, before, smaller);
                self.b.mov(newest, before);
                self.b.bind(smaller);
            }
            SlotKind::Max => {
                self.b.and(newest, newest_counts);
                self.b.and(before, before_counts);
                let greater = self.b.label();
                self.b.jump(Cond::Ge, newest, before, greater);
                self.b.mov(newest, before);
                self.b.bind(greater);
            }
            SlotKind::Bits { .. } => {
                self.b.and(newest, newest_counts);
                self.b.and(before, before_counts);
                self.b.or(newest, before);
            }
            // Not in windows.
            SlotKind::Time
            | SlotKind::Judged
            | SlotKind::Pane
            | SlotKind::First
            | SlotKind::Last
            | SlotKind::Ewma => {}
        }
        self.b.store(size, base, to, newest);
    }
}
