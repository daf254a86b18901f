//! Step 7 of [`crate::ir::flow`]: what a packet writes to its record, each write by its atomic operation.

use super::distinct;
use super::path::Path;
use super::seldom::{Exchange, HighWord, NotBefore, Pending, Seldom, Step};
use super::table::{Flow, PACKETS};
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Operand, Size};
use crate::ir::flow::record::flag;
use crate::ir::flow::side::Place;
use crate::ir::flow::{Counter, Group, Sample, Slot, SlotId, Update, UpdateOp, Width, ranges};
use crate::lower::code::VReg;
use crate::spec::typed::{Direction, Field, Filter, TimeUnit};

impl Path<'_> {
    pub(super) fn update(&mut self, flow: &Flow) {
        let line = self.program.span.clone();
        self.origin(&line);
        let saturated = self.b.label();
        let ordinal = self.b.constant(1);
        self.b.atomic(Size::DW, AtomicOp::FetchAdd, flow.record, PACKETS, ordinal);
        self.b.add(ordinal, 1);
        self.b.mov(flow.ordinal, ordinal);
        let previous = self.last(flow);
        let limit = self.b.constant(self.program.sample_limit.cast_signed());
        self.b.jump(Cond::Gt, flow.ordinal, limit, saturated);
        self.groups(flow, Place::FLOW, previous);
        let past = self.b.label();
        self.b.goto(past);

        self.origin(&line);
        self.b.bind(saturated);
        let bit = self.b.constant(i64::from(flag::SATURATED));
        self.b.atomic(Size::W, AtomicOp::Or, flow.record, self.flags_offset(), bit);
        self.count(Counter::Saturated);
        self.b.bind(past);
        self.windows(flow, None, previous);
        self.sides(flow);
    }

    /// The groups of a place.
    pub(super) fn groups(&mut self, flow: &Flow, place: Place, previous: Option<VReg>) {
        let program = self.program;
        for group in program.groups.iter().filter(|group| group.place == place) {
            self.group(flow, group, previous);
        }
    }

    /// Puts the packet's time in the record, where something depends on it; gives the time before where it is a
    /// sample.
    fn last(&mut self, flow: &Flow) -> Option<VReg> {
        let offset = i16::try_from(self.program.record.last?).unwrap_or(i16::MAX);
        let now = self.now(flow);
        if self.program.exchanges_last_time() {
            let previous = self.b.copy(now);
            self.b.atomic(Size::DW, AtomicOp::Xchg, flow.record, offset, previous);
            Some(previous)
        } else {
            self.b.store(Size::DW, flow.record, offset, now);
            None
        }
    }

    fn group(&mut self, flow: &Flow, group: &Group, previous: Option<VReg>) {
        let Some(first) = group.updates.first() else { return };
        self.origin(&first.span);
        let skip = self.b.label();
        self.guard(flow.backward, &group.guard, skip);
        let previous = match group.clock {
            None => None,
            Some(clock) if self.program.is_last_time(clock) => previous,
            Some(clock) => {
                let offset = self.slot_offset(clock);
                let now = self.now(flow);
                let before = self.b.copy(now);
                self.b.atomic(Size::DW, AtomicOp::Xchg, flow.whole, offset, before);
                Some(before)
            }
        };
        let gaps =
            group.updates.iter().any(|update| matches!(update.sample, Sample::Gap(_) | Sample::AnyGap));
        if let (Some(previous), true) = (previous, gaps) {
            self.gaps(flow, group, previous);
        }
        for update in &group.updates {
            match update.sample {
                Sample::Gap(_) | Sample::AnyGap => {}
                Sample::Packet => self.write(flow, update, None),
                Sample::Time => {
                    self.origin(&update.span);
                    let now = self.now(flow);
                    self.write(flow, update, Some(now));
                }
                Sample::Address(end) => {
                    self.origin(&update.span);
                    let sample = self.folded(end);
                    self.write(flow, update, Some(sample));
                }
                Sample::Field(field) => {
                    self.origin(&update.span);
                    let sample = self.field(field);
                    self.write(flow, update, Some(sample));
                }
            }
        }
        self.b.bind(skip);
    }

    /// Jumps to `skip` when the packet does not pass the filter.
    pub(super) fn guard(&mut self, backward: VReg, filter: &Filter, skip: Label) {
        match filter.direction {
            None => {}
            Some(Direction::Forward) => self.b.jump(Cond::Ne, backward, 0, skip),
            Some(Direction::Backward) => self.b.jump(Cond::Eq, backward, 0, skip),
        }
        let (set, clear) = (filter.flags_set, filter.flags_clear);
        if set | clear != 0 {
            let flags = self.field(Field::TcpFlags);
            self.b.and(flags, i32::from(set | clear));
            self.b.jump(Cond::Ne, flags, i32::from(set), skip);
        }
        if !filter.rest.is_always() {
            self.condition(backward, &filter.rest, skip);
        }
    }

    /// The updates that take a gap; none without a previous packet. Each unit is computed once.
    fn gaps(&mut self, flow: &Flow, group: &Group, previous: VReg) {
        let (none, known, odd) = (self.b.label(), self.b.label(), self.b.label());
        // Where there was no packet before, the time is above all others.
        let now = self.now(flow);
        self.b.jump(Cond::Gt, previous, now, odd);
        let gap = self.b.compute(AluOp::Sub, now, previous);
        self.b.bind(known);
        let ticks = group.updates.iter().any(|update| match update.sample {
            Sample::Gap(unit) => unit.ticks(),
            Sample::Packet | Sample::Field(_) | Sample::AnyGap | Sample::Time | Sample::Address(_) => false,
        });
        let what = Seldom::NotBefore(NotBefore { previous, gap, now: ticks.then_some(now), none });
        self.pending.push(Pending { entry: odd, back: known, what });
        let mut samples: Vec<(TimeUnit, VReg)> = Vec::new();
        for update in &group.updates {
            match update.sample {
                Sample::Packet | Sample::Field(_) | Sample::Time | Sample::Address(_) => {}
                Sample::AnyGap => self.write(flow, update, None),
                Sample::Gap(unit) => {
                    self.origin(&update.span);
                    let sample = match samples.iter().find(|(known, _)| *known == unit) {
                        Some((_, sample)) => *sample,
                        None => {
                            let sample = self.gap_in(now, previous, gap, unit);
                            samples.push((unit, sample));
                            sample
                        }
                    };
                    self.write(flow, update, Some(sample));
                }
            }
        }
        self.b.bind(none);
    }

    /// Nanoseconds in a unit, at most its limit.
    fn gap_in(&mut self, now: VReg, previous: VReg, gap: VReg, unit: TimeUnit) -> VReg {
        let sample = self.b.copy(if unit.ticks() { now } else { gap });
        match i32::try_from(ranges::unit_nanos(unit)) {
            Ok(1) | Err(_) => {}
            Ok(nanos) => self.b.div(sample, nanos),
        }
        if unit.ticks() {
            let before = self.b.copy(previous);
            let nanos = i32::try_from(ranges::unit_nanos(unit)).unwrap_or(i32::MAX);
            self.b.div(before, nanos);
            self.b.sub(sample, before);
        }
        let within = self.b.label();
        let limit = ranges::gap_limit(unit).cast_signed();
        let bound: Operand<VReg> = match i32::try_from(limit) {
            Ok(small) => Operand::Imm(small),
            Err(_) => Operand::Reg(self.b.constant(limit)),
        };
        self.b.jump(Cond::Le, sample, bound, within);
        self.b.mov(sample, bound);
        self.b.bind(within);
        sample
    }

    pub(super) fn slot_offset(&self, slot: SlotId) -> i16 {
        i16::try_from(self.program.slot(slot).offset).unwrap_or(i16::MAX)
    }

    /// One write. `sample` is `None` for 1.
    fn write(&mut self, flow: &Flow, update: &Update, sample: Option<VReg>) {
        let program = self.program;
        let slot = program.slot(update.slot);
        let offset = self.slot_offset(update.slot);
        let size = size(slot);
        let sample = match sample {
            Some(sample) => sample,
            None => self.b.constant(1),
        };
        // Where different values of it are counted too, what comparisons teach the verifier stays with a copy.
        let compared = matches!(update.op, UpdateOp::Min | UpdateOp::Max);
        let sample = if compared && distinct::counted(program, update.sample) {
            self.b.compute(AluOp::Add, sample, self.unknown)
        } else {
            sample
        };
        match update.op {
            UpdateOp::Count | UpdateOp::Add => {
                self.b.atomic(size, AtomicOp::Add, flow.record, offset, sample);
            }
            UpdateOp::AddSquare => self.add_square(flow, update, sample),
            UpdateOp::Min => self.exchange(flow, offset, size, sample, Step::Unless(Cond::Ge)),
            UpdateOp::Max => self.exchange(flow, offset, size, sample, Step::Unless(Cond::Le)),
            UpdateOp::Ewma(weight) => {
                let aim = self.b.compute(AluOp::Lsh, sample, i32::from(ranges::EWMA_BITS.0));
                self.exchange(flow, offset, size, aim, Step::Towards(weight));
            }
            UpdateOp::SetFirst => {
                let known = self.b.label();
                let current = self.b.load(size, flow.record, offset);
                let none = self.none(slot);
                self.b.jump(Cond::Ne, current, none, known);
                self.b.compare_exchange(size, flow.record, offset, none, sample);
                self.b.bind(known);
            }
            UpdateOp::SetLast => self.b.store(size, flow.record, offset, sample),
            UpdateOp::SetBit(bitmap) => self.set_bit(flow, offset, sample, bitmap),
        }
    }

    /// The empty content of a slot in a register, zero-extended.
    fn none(&mut self, slot: &Slot) -> VReg {
        self.b.constant(slot.initial().cast_signed())
    }

    fn add_square(&mut self, flow: &Flow, update: &Update, sample: VReg) {
        let offset = self.slot_offset(update.slot);
        let square = self.b.compute(AluOp::Mul, sample, sample);
        match self.program.slot(update.slot).width {
            Width::W32 | Width::W64 => {
                self.b.atomic(Size::DW, AtomicOp::Add, flow.record, offset, square);
            }
            Width::W128 => {
                let sum = self.b.copy(square);
                self.b.atomic(Size::DW, AtomicOp::FetchAdd, flow.record, offset, sum);
                self.b.add(sum, square);
                let (more, done) = (self.b.label(), self.b.label());
                self.b.jump(Cond::Lt, sum, square, more);
                let sample = wide(update.sample).then_some(sample);
                if let Some(sample) = sample {
                    let high = self.b.compute(AluOp::Rsh, sample, 32);
                    self.b.jump(Cond::Ne, high, 0, more);
                }
                self.b.bind(done);
                let high_word = HighWord { record: flow.record, offset: offset + 8, sample, square, sum };
                self.pending.push(Pending { entry: more, back: done, what: Seldom::HighWord(high_word) });
            }
        }
    }

    /// A minimum or maximum is mostly settled by one load, else by one exchange; the rest is out of the way.
    fn exchange(&mut self, flow: &Flow, offset: i16, size: Size, sample: VReg, step: Step) {
        let (done, contended) = (self.b.label(), self.b.label());
        let current = self.b.load(size, flow.record, offset);
        let next = self.next(step, current, sample, done);
        let found = self.b.compare_exchange(size, flow.record, offset, current, next);
        self.b.jump(Cond::Ne, found, current, contended);
        self.b.bind(done);
        let exchange = Exchange { record: flow.record, offset, size, current: found, sample, step };
        self.pending.push(Pending { entry: contended, back: done, what: Seldom::Exchange(exchange) });
    }
}

/// Whether squares of samples need more than 64 bits.
fn wide(sample: Sample) -> bool {
    match sample {
        Sample::Gap(unit) => ranges::gap_limit(unit) > u64::from(u32::MAX),
        Sample::Packet | Sample::Field(_) | Sample::AnyGap | Sample::Time | Sample::Address(_) => false,
    }
}

fn size(slot: &Slot) -> Size {
    match slot.width {
        Width::W32 => Size::W,
        Width::W64 | Width::W128 => Size::DW,
    }
}
