//! Step 9 of [`crate::ir::flow`] for packets that do not end their flow: which triggers hold.
//!
//! Each trigger is judged by one processor only: ordinals are distinct, and flag and time change by atomic
//! operations of which one succeeds.

use super::path::Path;
use super::table::Flow;
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Operand, Size};
use crate::ir::flow::record::flag;
use crate::ir::flow::{SlotId, Trigger};
use crate::lower::code::VReg;
use crate::spec::typed::{Nanos, Triggers};

/// A reason for a verdict.
#[derive(Clone, Copy)]
enum Reason {
    EveryPackets(u32),
    EveryTime(SlotId, Nanos),
    AfterPackets(u32),
    AfterTime(Nanos),
}

impl Reason {
    const fn trigger(self) -> Trigger {
        match self {
            Self::EveryPackets(_) | Self::EveryTime(..) => Trigger::Every,
            Self::AfterPackets(_) | Self::AfterTime(_) => Trigger::After,
        }
    }
}

impl Path<'_> {
    /// Leaves for `pass` unless a verdict is due, whose trigger is then set. `false`: none ever is, and nothing
    /// was emitted.
    pub(super) fn due(&mut self, flow: &Flow, pass: Label) -> bool {
        match self.reasons().as_slice() {
            [] => return false,
            [only] => {
                self.reason(flow, *only, pass);
                let trigger = self.b.constant(only.trigger() as i64);
                self.b.mov(flow.trigger, trigger);
            }
            several => {
                self.b.mov(flow.trigger, 0);
                for reason in several {
                    let skip = self.b.label();
                    self.reason(flow, *reason, skip);
                    self.b.mov(flow.trigger, reason.trigger() as i32);
                    self.b.bind(skip);
                    self.blur(flow.trigger, 3);
                }
                self.b.jump(Cond::Eq, flow.trigger, 0, pass);
            }
        }
        true
    }

    /// The specification's reasons; where several hold, the last one names the verdict.
    fn reasons(&self) -> Vec<Reason> {
        let Triggers { end: _, every, every_time, after, after_time } = self.program.triggers;
        let judged = self.program.judged();
        [
            every.filter(|every| *every != 0).map(Reason::EveryPackets),
            judged.zip(every_time).map(|(slot, time)| Reason::EveryTime(slot, time)),
            after.map(Reason::AfterPackets),
            after_time.map(Reason::AfterTime),
        ]
        .into_iter()
        .flatten()
        .collect()
    }

    /// Leaves for `skip` unless the reason holds.
    fn reason(&mut self, flow: &Flow, reason: Reason, skip: Label) {
        match reason {
            Reason::EveryPackets(every) => {
                let rest = self.b.copy(flow.ordinal);
                match i32::try_from(every) {
                    Ok(_) if every.is_power_of_two() => self.b.and(rest, (every - 1).cast_signed()),
                    Ok(small) => self.b.modulo(rest, small),
                    Err(_) => {
                        let every = self.b.constant(i64::from(every));
                        self.b.modulo(rest, every);
                    }
                }
                self.b.jump(Cond::Ne, rest, 0, skip);
            }
            Reason::EveryTime(slot, time) => {
                let offset = self.slot_offset(slot);
                let judged = self.b.load(Size::DW, flow.record, offset);
                self.since(flow, judged, time, skip);
                let now = self.now(flow);
                let found = self.b.compare_exchange(Size::DW, flow.record, offset, judged, now);
                self.b.jump(Cond::Ne, found, judged, skip);
            }
            Reason::AfterPackets(after) => {
                let number = self.limit(u64::from(after));
                self.b.jump(Cond::Ne, flow.ordinal, number, skip);
            }
            Reason::AfterTime(time) => {
                let bit = flag::AFTER.cast_signed();
                let flags = self.b.load(Size::W, flow.record, self.flags_offset());
                self.b.jump(Cond::Set, flags, bit, skip);
                let first = self.first_time(flow.record);
                self.since(flow, first, time, skip);
                let before = self.b.constant(i64::from(bit));
                self.b.atomic(Size::W, AtomicOp::FetchOr, flow.record, self.flags_offset(), before);
                self.b.jump(Cond::Set, before, bit, skip);
            }
        }
    }

    /// Leaves for `skip` unless so much time has passed since `start`; none has when time went backwards.
    fn since(&mut self, flow: &Flow, start: VReg, time: Nanos, skip: Label) {
        let now = self.now(flow);
        self.b.jump(Cond::Gt, start, now, skip);
        let passed = self.b.compute(AluOp::Sub, now, start);
        let limit = self.limit(time.0);
        self.b.jump(Cond::Lt, passed, limit, skip);
    }

    /// A number as an operand: immediates are sign-extended 32-bit ones.
    fn limit(&mut self, value: u64) -> Operand<VReg> {
        match i32::try_from(value) {
            Ok(small) => Operand::Imm(small),
            Err(_) => Operand::Reg(self.b.constant(value.cast_signed())),
        }
    }
}
