//! Slots to raw features, as [`crate::ir::flow::eval`] says.

use super::path::Path;
use super::{distinct, rate, root};
use crate::bpf::{AluOp, Operand, Size};
use crate::ir::Interval;
use crate::ir::flow::side::Place;
use crate::ir::flow::{Expr, FlowProgram, Slot, SlotId, SlotKind, Width, ranges};
use crate::lower::code::VReg;
use crate::spec::typed::TimeUnit;

/// Which functions the features call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Calls {
    pub(super) root: bool,
    pub(super) variance: bool,
    pub(super) rate: bool,
    pub(super) estimate: bool,
}

impl Calls {
    pub(super) fn of(program: &FlowProgram) -> Self {
        let mut calls = Self::default();
        for leaf in leaves(program) {
            match leaf {
                Expr::Std { .. } => calls.root = true,
                Expr::Var { .. } => calls.variance = true,
                Expr::Rate { .. } => calls.rate = true,
                Expr::Distinct { .. } => calls.estimate = true,
                Expr::Load(_)
                | Expr::Field(_)
                | Expr::Mean { .. }
                | Expr::Duration { .. }
                | Expr::Span { .. }
                | Expr::Ewma(_) => {}
            }
        }
        calls
    }

    /// Whether one of them divides 128 bits.
    pub(super) const fn division(self) -> bool {
        self.root || self.variance || self.rate
    }
}

/// The running values of all features.
pub(super) fn leaves(program: &FlowProgram) -> impl Iterator<Item = Expr> {
    program.features.iter().flat_map(|feature| feature.value.leaves()).copied()
}

impl Path<'_> {
    /// Writes all raw features of a record to the scratch value. Single packets have neither record nor time: their
    /// features ask for none.
    pub(super) fn features(&mut self, record: VReg, now: Option<VReg>, scratch: VReg) {
        let program = self.program;
        self.images = Some(scratch);
        self.judged_at = now;
        for (index, feature) in program.features.iter().enumerate() {
            self.origin(&feature.span);
            let value = self.formula(record, &feature.value);
            self.b.store(Size::DW, scratch, self.scratch.feature(index), value);
        }
    }

    /// A running value.
    pub(super) fn leaf(&mut self, record: VReg, leaf: Expr) -> VReg {
        match leaf {
            Expr::Load(slot) => self.slot_value(record, slot),
            Expr::Field(field) => self.field(field),
            Expr::Mean { sum, count } => self.mean(record, sum, count),
            Expr::Duration { unit } => {
                let (first, last) = self.times(record);
                self.duration(first, last, true, unit)
            }
            Expr::Span { first, last, unit } => {
                let program = self.program;
                let first = self.seen(record, program.slot(first));
                let last = self.seen(record, program.slot(last));
                self.duration(first, last, false, unit)
            }
            Expr::Std { sum, squares, count, population } => {
                self.deviation(root::FUNCTION, record, sum, squares, count, population)
            }
            Expr::Var { sum, squares, count, population } => {
                self.deviation(root::VARIANCE, record, sum, squares, count, population)
            }
            Expr::Ewma(slot) => {
                let state = self.slot_value(record, slot);
                self.b.rsh(state, i32::from(ranges::EWMA_BITS.0 - ranges::MEAN_BITS.0));
                state
            }
            Expr::Distinct { first, bitmap } => {
                let set = self.bits_set(record, first, bitmap);
                let log = self.b.constant(i64::from(bitmap.0));
                self.b.call_function(distinct::FUNCTION, &[set, log])
            }
            Expr::Rate { sum, pane } => {
                let sum = self.slot_value(record, sum);
                let duration = match (pane, self.judged_at) {
                    (Some(pane), Some(now)) => self.covered(now, pane),
                    (Some(_), None) | (None, _) => {
                        let (first, last) = self.times(record);
                        self.duration(first, last, true, TimeUnit::Nanos)
                    }
                };
                self.b.call_function(rate::FUNCTION, &[sum, duration])
            }
        }
    }

    /// Where the times of the flow's first and last packet are, which records keep where a feature needs them.
    fn times(&self, record: VReg) -> ((VReg, i16), (VReg, i16)) {
        let at = |time: Option<u32>| {
            (record, time.and_then(|offset| i16::try_from(offset).ok()).unwrap_or(i16::MAX))
        };
        (at(self.program.record.first), at(self.program.record.last))
    }

    /// Where a slot is that a verdict reads: in the record, or in the scratch value for windows and further tables.
    pub(super) fn seen(&self, record: VReg, slot: &Slot) -> (VReg, i16) {
        let offset = i16::try_from(slot.offset).unwrap_or(i16::MAX);
        match (self.images, slot.place) {
            (Some(scratch), Place { table: Some(table), .. }) => {
                (scratch, self.shared.side(self.program, table).saturating_add(offset))
            }
            (Some(scratch), Place { table: None, window: Some(_) }) => {
                (scratch, self.shared.image.saturating_add(offset))
            }
            (Some(_) | None, _) => (record, offset),
        }
    }

    /// A slot's value: packets at most the sample limit, 0 for an empty minimum or first.
    fn slot_value(&mut self, record: VReg, id: SlotId) -> VReg {
        let program = self.program;
        let slot = program.slot(id);
        let (record, offset) = self.seen(record, slot);
        let size = match slot.width {
            Width::W32 => Size::W,
            Width::W64 | Width::W128 => Size::DW,
        };
        let value = self.b.load(size, record, offset);
        match slot.kind {
            SlotKind::Packets => self.at_most(value, program.sample_limit),
            SlotKind::Min | SlotKind::First | SlotKind::Ewma => self.zero_when_empty(value, slot.width),
            SlotKind::Time
            | SlotKind::Judged
            | SlotKind::Pane
            | SlotKind::Count
            | SlotKind::Sum
            | SlotKind::Squares
            | SlotKind::Max
            | SlotKind::Last
            | SlotKind::Bits { .. } => {}
        }
        value
    }

    /// Cuts a number off at a limit, both below 2^63. Without a branch: the verifier keeps no state so soon behind
    /// another one, and would walk on from both sides.
    pub(super) fn at_most(&mut self, value: VReg, limit: u64) {
        let limit = limit.cast_signed();
        let within = self.b.constant(limit);
        let bound: Operand<VReg> = match i32::try_from(limit) {
            Ok(small) => Operand::Imm(small),
            Err(_) => Operand::Reg(self.b.constant(limit)),
        };
        self.b.sub(within, value);
        self.b.rsh(within, 63);
        // All ones where the value is within the limit, else 0.
        self.b.sub(within, 1);
        self.b.sub(value, bound);
        self.b.and(value, within);
        self.b.add(value, bound);
    }

    /// Clears the empty content, the only one with the top bit of its width set.
    fn zero_when_empty(&mut self, value: VReg, width: Width) {
        let top = match width {
            Width::W32 => 31,
            Width::W64 | Width::W128 => 63,
        };
        let keep = self.b.compute(AluOp::Rsh, value, top);
        self.b.sub(keep, 1);
        self.b.and(value, keep);
    }

    /// From the first packet's time to the last one's, 0 when time went backwards or no packet came.
    /// `known`: a packet has come.
    fn duration(&mut self, first: (VReg, i16), last: (VReg, i16), known: bool, unit: TimeUnit) -> VReg {
        let passed = self.b.load(Size::DW, last.0, last.1);
        let first = self.b.load(Size::DW, first.0, first.1);
        let nanos = i32::try_from(ranges::unit_nanos(unit)).unwrap_or(i32::MAX);
        // Only an empty time has the top bit.
        let empty = (!known).then(|| self.b.copy(first));
        if unit.ticks() {
            self.b.div(passed, nanos);
            self.b.div(first, nanos);
        }
        self.b.sub(passed, first);
        if let Some(empty) = empty {
            let top = self.b.compute(AluOp::Rsh, empty, 63);
            self.b.lsh(top, 63);
            self.b.or(passed, top);
        }
        let forwards = self.b.compute(AluOp::Arsh, passed, 63);
        self.b.xor(forwards, -1);
        self.b.and(passed, forwards);
        // Units have at most 30 bits.
        if nanos > 1 && !unit.ticks() {
            self.b.div(passed, nanos);
        }
        self.clip(passed, Interval { low: 0, high: ranges::DURATION_LIMIT })
    }

    /// What of a window with panes of so many nanoseconds has passed, as [`crate::ir::flow::eval::covered`] says.
    fn covered(&mut self, now: VReg, pane: u64) -> VReg {
        let nanos = self.b.constant(pane.cast_signed());
        let passed = self.b.compute(AluOp::Mod, now, nanos);
        self.b.add(passed, nanos);
        if pane > ranges::DURATION_LIMIT.cast_unsigned() / 2 {
            self.at_most(passed, ranges::DURATION_LIMIT.cast_unsigned());
        }
        passed
    }

    /// `floor(256 * sum / n)`. Without samples both divisions give 0, and so does the sum of no samples.
    fn mean(&mut self, record: VReg, sum: SlotId, count: SlotId) -> VReg {
        let n = self.slot_value(record, count);
        let remainder = self.slot_value(record, sum);
        let quotient = self.b.compute(AluOp::Div, remainder, n);
        self.b.lsh(quotient, 8);
        self.b.modulo(remainder, n);
        self.b.lsh(remainder, 8);
        self.b.div(remainder, n);
        self.b.add(quotient, remainder);
        quotient
    }

    /// Calls the function of deviations or variances.
    fn deviation(
        &mut self,
        function: &str,
        record: VReg,
        sum: SlotId,
        squares: SlotId,
        count: SlotId,
        population: bool,
    ) -> VReg {
        let program = self.program;
        let n = self.slot_value(record, count);
        let total = self.slot_value(record, sum);
        let low = self.slot_value(record, squares);
        let slot = program.slot(squares);
        let high = match slot.width {
            Width::W32 | Width::W64 => self.b.constant(0),
            Width::W128 => {
                let (record, offset) = self.seen(record, slot);
                self.b.load(Size::DW, record, offset + 8)
            }
        };
        // The divisor of the variance is n times this.
        let freedom = self.b.copy(n);
        if !population {
            self.b.sub(freedom, 1);
        }
        let divisor = self.b.compute(AluOp::Mul, n, freedom);
        self.b.call_function(function, &[n, total, low, high, divisor])
    }
}
