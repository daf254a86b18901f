//! Packets that are judged one by one: see the module documentation of [`super`].

use super::interpret::{FlowInterpreter, Judge, Judgement, passes};
use super::table::FlowId;
use super::verdict::{Acts, PacketResult, Verdict};
use super::{Counter, Trigger, eval};
use crate::ir::packet::{Parsed, Reason};
use crate::spec::typed::Direction;

impl FlowInterpreter<'_> {
    /// What happens to a packet that is judged by itself.
    pub(super) fn judge_packet(
        &mut self,
        packet: &Parsed,
        now: u64,
        judge: &mut dyn Judge,
        result: &mut PacketResult,
    ) {
        if !passes(&self.program.filter, packet, Direction::Forward) {
            self.count(Counter::Unselected);
            return;
        }
        let ordinal = self.counter(Counter::Packet(Reason::Parsed)) - self.counter(Counter::Unselected);
        if self.blocks(self.lists.blocked_until(packet.src, packet.dst), now, result) {
            return;
        }
        let due = |every: u32| every != 0 && ordinal.is_multiple_of(u64::from(every));
        if !self.program.triggers.every.is_some_and(due) {
            return;
        }
        let features = self.program.features.iter();
        let verdict = Verdict {
            trigger: Trigger::Every,
            flow: FlowId(ordinal),
            src: packet.src,
            src_port: packet.src_port,
            dst: packet.dst,
            dst_port: packet.dst_port,
            proto: packet.proto,
            first_ns: now,
            last_ns: now,
            packets: 1,
            features: features.map(|feature| eval::packet_value(packet, &feature.value)).collect(),
            judgement: Judgement::default(),
            acts: Acts::default(),
            reported: false,
        };
        let verdict = self.act(verdict, (packet.src, packet.dst), now, judge);
        self.own(verdict, now, result);
    }
}
