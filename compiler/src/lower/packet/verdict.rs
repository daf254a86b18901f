//! Steps 8 and 9 of [`crate::ir::flow`]: the end of flows and the model's call; `trigger` holds the other
//! reasons for a verdict.

use super::act;
use super::path::{Exit, Path, Shadow, copy_words};
use super::table::{CLOSED, Flow, LISTS, PACKETS, RETIRED};
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Size};
use crate::ir::flow::record::flag;
use crate::ir::flow::{Counter, Trigger};
use crate::ir::packet::tcp_flags;
use crate::lower::code::VReg;
use crate::lower::network::call;
use crate::lower::network::shadow::COMPARE;
use crate::lower::scratch::{LABEL, RULES};
use crate::params::layout::SHADOW_BIT;
use crate::spec::typed::{Directions, End, Field};

impl Path<'_> {
    /// Closes the record where the packet ends the flow, judges where a verdict is due, and leaves.
    pub(super) fn end_and_trigger(&mut self, flow: &Flow) {
        let (ended, own, no_end) = (self.b.label(), self.b.label(), self.b.label());
        self.end(ended);
        self.b.bind(no_end);
        let pass = self.exit(Exit::Pass);
        if self.due(flow, pass) {
            self.b.bind(own);
            self.judge_own(flow);
        } else {
            self.b.goto(pass);
            if self.judges_ends() {
                self.b.bind(own);
                self.judge_own(flow);
            }
        }
        self.ended(flow, ended, own, no_end);
    }

    fn judges_ends(&self) -> bool {
        self.program.triggers.end && self.program.transports.tcp && !matches!(self.program.end, End::Never)
    }

    /// Jumps to `ended` when the packet may end its flow.
    fn end(&mut self, ended: Label) {
        let End::On { fin, rst } = self.program.end else { return };
        if !self.program.transports.tcp {
            return;
        }
        let mut bits = 0;
        if fin {
            bits |= tcp_flags::FIN;
        }
        if rst {
            bits |= tcp_flags::RST;
        }
        let flags = self.field(Field::TcpFlags);
        self.b.jump(Cond::Set, flags, i32::from(bits), ended);
    }

    /// A packet with FIN or RST: marks the record; goes on where that did not close it.
    fn ended(&mut self, flow: &Flow, entry: Label, own: Label, no_end: Label) {
        let End::On { fin, rst } = self.program.end else { return };
        if !self.program.transports.tcp {
            return;
        }
        let line = self.program.span.clone();
        self.origin(&line);
        self.b.bind(entry);
        let close = self.b.label();
        if fin {
            let no_fin = self.b.label();
            let flags = self.field(Field::TcpFlags);
            self.b.and(flags, i32::from(tcp_flags::FIN));
            self.b.jump(Cond::Eq, flags, 0, no_fin);
            // FIN_FORWARD is bit 0, FIN_BACKWARD bit 1.
            let bit = self.b.copy(flow.backward);
            self.b.add(bit, 1);
            let seen = self.b.copy(bit);
            self.b.atomic(Size::W, AtomicOp::FetchOr, flow.record, self.flags_offset(), bit);
            self.b.or(seen, bit);
            let needed = match self.program.directions {
                Directions::Both => flag::FIN_FORWARD | flag::FIN_BACKWARD,
                Directions::One => flag::FIN_FORWARD,
            };
            self.b.and(seen, needed.cast_signed());
            self.b.jump(Cond::Eq, seen, needed.cast_signed(), close);
            self.b.bind(no_fin);
        }
        if rst {
            let flags = self.field(Field::TcpFlags);
            self.b.jump(Cond::Set, flags, i32::from(tcp_flags::RST), close);
        }
        self.b.goto(no_end);
        self.b.bind(close);
        let bit = self.b.constant(i64::from(CLOSED));
        self.b.atomic(Size::W, AtomicOp::FetchOr, flow.record, self.flags_offset(), bit);
        if self.judges_ends() {
            // Whoever closed it judges it; one that another processor retires is judged there.
            self.b.jump(Cond::Set, bit, CLOSED | RETIRED, no_end);
            let trigger = self.b.constant(Trigger::End as i64);
            self.b.mov(flow.trigger, trigger);
            self.b.goto(own);
        } else {
            self.b.goto(no_end);
        }
    }

    /// Judges the packet's own record and leaves with what the rules say.
    fn judge_own(&mut self, flow: &Flow) {
        let acted = self.judge_record(flow, None);
        self.b.ret(acted);
    }

    /// Judges the old record that this packet retires, and keeps the verdict beside the packet's own.
    pub(super) fn judge(&mut self, flow: &Flow, trigger: Trigger) {
        self.judge_record(flow, Some(trigger));
    }

    /// Features, model, counters, actions. Gives the hook's answer. `retired` names the trigger of an old record.
    fn judge_record(&mut self, flow: &Flow, retired: Option<Trigger>) -> VReg {
        let action = self.b.fresh();
        let quiet = self.b.label();
        let scratch = self.scratch_value();
        let at = if retired.is_some() { self.shared.retired } else { self.shared.own };
        match retired {
            Some(trigger) => self.b.store(Size::W, scratch, at.trigger, trigger as i32),
            None => self.b.store(Size::W, scratch, at.trigger, flow.trigger),
        }
        self.b.store(Size::W, scratch, at.acts, 0);
        self.see(flow, scratch);
        self.features(flow.record, flow.now, scratch);
        self.step("judge");
        self.infer();
        self.count(Counter::Verdicts);
        self.b.mov(action, self.answers.pass);
        if self.program.rules.iter().any(|rule| !rule.actions.is_empty()) {
            let rules = self.b.load(Size::W, scratch, RULES);
            self.b.jump(Cond::Eq, rules, 0, quiet);
            self.share_flow(flow, scratch);
            let which = self.b.constant(i64::from(retired.is_some()));
            let result = self.b.call_function(act::FUNCTION, &[self.context, which]);
            self.b.mov(action, result);
        }
        self.b.bind(quiet);
        if retired.is_some() {
            let model = self.shared.retired_model;
            for (from, to) in [(LABEL, 0), (RULES, 4)] {
                let value = self.b.load(Size::W, scratch, from);
                self.b.store(Size::W, scratch, model + to, value);
            }
            let outputs = i16::try_from(self.outputs).unwrap_or(i16::MAX);
            copy_words(&mut self.b, (scratch, self.scratch.output(0)), (scratch, model + 8), outputs);
        }
        action
    }

    /// Calls the model, and the shadow where there is one.
    pub(super) fn infer(&mut self) {
        let active = call::active(&mut self.b, self.options.weights);
        let back = self.b.label();
        if let (Some(active), true) = (active, self.options.shadow) {
            let entry = self.b.label();
            self.b.jump(Cond::Set, active, SHADOW_BIT.cast_signed(), entry);
            self.shadows.push(Shadow { entry, back, active });
        }
        call::infer(&mut self.b, self.context, active);
        self.b.bind(back);
    }

    /// The verdicts that a shadow is compared with.
    pub(super) fn shadows(&mut self) {
        self.step("shadow");
        for Shadow { entry, back, active } in std::mem::take(&mut self.shadows) {
            self.b.bind(entry);
            self.b.call_function(COMPARE, &[self.context, active]);
            self.b.goto(back);
        }
    }

    /// What the actions need to know of packet and record.
    fn share_flow(&mut self, flow: &Flow, scratch: VReg) {
        self.share_packet(flow, scratch);
        if self.program.record.forward_lists.is_some() {
            // The direction by way of memory: as an offset the verifier would follow its values apart to here.
            let backward = self.b.load(Size::DW, scratch, self.shared.backward);
            self.b.and(backward, 1);
            let cache = self.lists_of(flow, backward);
            let answer = self.b.load(Size::DW, cache, LISTS);
            self.b.store(Size::DW, scratch, self.shared.answer, answer);
        }
        let first = self.first_time(flow.record);
        self.b.store(Size::DW, scratch, self.shared.first, first);
        let packets = self.b.load(Size::DW, flow.record, PACKETS);
        self.b.store(Size::DW, scratch, self.shared.packets, packets);
    }

    /// What functions need to know of the packet.
    pub(super) fn share_packet(&mut self, flow: &Flow, scratch: VReg) {
        self.share_ends(scratch);
        self.b.store(Size::DW, scratch, self.shared.backward, flow.backward);
        let now = self.now(flow);
        self.b.store(Size::DW, scratch, self.shared.now, now);
        // The key's ports, the forward sender's first: a shift by 16 takes the other end's.
        let (at, ports) = (self.shared.ports, self.b.stack_load(Size::DW, self.frame.key, 32));
        let shift = self.b.compute(AluOp::Xor, flow.sender_is_b, flow.backward);
        self.b.lsh(shift, 4);
        let sender = self.b.compute(AluOp::Rsh, ports, shift);
        self.b.store(Size::H, scratch, at, sender);
        self.b.xor(shift, 16);
        let receiver = self.b.compute(AluOp::Rsh, ports, shift);
        self.b.store(Size::H, scratch, at + 2, receiver);
        self.b.rsh(ports, 32);
        self.b.store(Size::W, scratch, at + 4, ports);
    }
}
