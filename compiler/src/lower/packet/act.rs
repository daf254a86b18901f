//! Step 10 of [`crate::ir::flow`]: what fired rules ask for. Runs only where a rule fired, so in a function of
//! its own.

use super::hook::{self, Answers};
use super::lists;
use super::maps::{BLOCKED, CONFIG, CONFIG_EPOCH, CONFIG_MODE, MODE_ENFORCE, event, event_type};
use super::path::{address, copy_words, count, line, send_event, single_value};
use super::shared::{Shared, acts};
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Size};
use crate::ir::flow::{Counter, FlowProgram, Rule};
use crate::lower::LowerError;
use crate::lower::builder::{Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, GENERATION, LABEL, RULES, Scratch};
use crate::spec::typed::{Action, FeatureSpec};

/// `nn_act(ctx, retired)`: carries out the fired rules of the verdict in the scratch value, which is on the
/// packet's own record or, with `retired` 1, on an old one. Gives the hook's answer.
pub(super) const FUNCTION: &str = "nn_act";

struct Act<'a> {
    b: Builder,
    answers: Answers,
    shared: &'a Shared,
    zero: StackSlot,
    missing: crate::bpf::Label,
    context: VReg,
    scratch: VReg,
    retired: VReg,
    /// Bits of [`acts`].
    acts: VReg,
    /// Until when the forward sender is to be blocked; 0 for not at all.
    until: VReg,
    /// 0, which the verifier does not know: added where paths meet, it makes them look alike.
    unknown: VReg,
}

pub(super) fn function(
    program: &FlowProgram,
    spec: &FeatureSpec,
    outputs: usize,
    layout: &Scratch,
    shared: &Shared,
) -> Result<Function, LowerError> {
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Context, Parameter::Scalar]);
    let context = b.parameter(0);
    let retired = b.parameter(1);
    let zero = b.stack_slot(8);
    let missing = b.label();
    let scratch = single_value(&mut b, scratch::MAP, zero, missing);
    // The direction is 0 or 1.
    let unknown = b.load(Size::DW, scratch, shared.backward);
    b.rsh(unknown, 1);
    let (acts, until) = (b.copy(unknown), b.constant(0));
    let answers = hook::answers(spec.hook);
    let mut act = Act { b, answers, shared, zero, missing, context, scratch, retired, acts, until, unknown };
    for (index, rule) in program.rules.iter().enumerate() {
        act.b.origin(line(spec, &rule.span));
        act.rule(index, rule);
    }
    act.exempt();
    act.store_acts();
    act.report(layout, outputs);
    act.block();
    act.drop();
    act.b.bind(missing);
    act.b.ret(answers.pass);
    act.b.finish(FrameLimit::Share(super::frame::ACT))
}

impl Act<'_> {
    /// Gathers what a rule asks for, if it fired.
    fn rule(&mut self, index: usize, rule: &Rule) {
        let skip = self.b.label();
        let fired = self.b.load(Size::W, self.scratch, RULES);
        let bit = 1_u32.checked_shl(u32::try_from(index).unwrap_or(32)).unwrap_or(0);
        self.b.and(fired, bit.cast_signed());
        self.b.jump(Cond::Eq, fired, 0, skip);
        for action in &rule.actions {
            match action {
                Action::Drop => self.b.or(self.acts, acts::DROP),
                Action::Report => self.b.or(self.acts, acts::REPORT),
                Action::BlockSource(time) => {
                    self.b.or(self.acts, acts::BLOCK);
                    let until = self.b.load(Size::DW, self.scratch, self.shared.now);
                    let time = self.b.constant(time.0.cast_signed());
                    self.b.add(until, time);
                    let later = self.b.label();
                    self.b.jump(Cond::Ge, self.until, until, later);
                    self.b.mov(self.until, until);
                    self.b.bind(later);
                }
            }
        }
        self.b.bind(skip);
        self.b.add(self.acts, self.unknown);
    }

    /// Leaves for `own` when the verdict is on the packet's own record.
    fn own(&mut self, own: crate::bpf::Label) {
        let retired = self.b.compute(AluOp::Add, self.retired, self.unknown);
        self.b.jump(Cond::Eq, retired, 0, own);
    }

    /// Allowed hosts are neither dropped nor blocked; a verdict on an old record drops nothing. Reports alone
    /// need no answer from the lists.
    fn exempt(&mut self) {
        let (acting, own) = (self.b.label(), self.b.label());
        let strong = self.b.compute(AluOp::And, self.acts, acts::DROP | acts::BLOCK);
        self.b.jump(Cond::Eq, strong, 0, own);
        self.b.call_function(lists::FUNCTION, &[self.context]);
        let exempt = self.b.load(Size::DW, self.scratch, self.shared.exempt);
        self.b.jump(Cond::Eq, exempt, 0, acting);
        self.b.and(self.acts, acts::REPORT);
        self.b.bind(acting);
        self.own(own);
        self.b.and(self.acts, acts::REPORT | acts::BLOCK);
        self.b.bind(own);
        self.b.add(self.acts, self.unknown);
    }

    fn store_acts(&mut self) {
        let (own, done) = (self.b.label(), self.b.label());
        self.own(own);
        self.b.store(Size::W, self.scratch, self.shared.retired.acts, self.acts);
        self.b.goto(done);
        self.b.bind(own);
        self.b.store(Size::W, self.scratch, self.shared.own.acts, self.acts);
        self.b.bind(done);
    }

    /// Forward sender and receiver to two places, from the packet's and its direction.
    fn ends(&mut self, base: VReg, src: i16, dst: i16) {
        let (backward, done) = (self.b.label(), self.b.label());
        let direction = self.b.load(Size::DW, self.scratch, self.shared.backward);
        self.b.jump(Cond::Ne, direction, 0, backward);
        copy_words(&mut self.b, (self.scratch, self.shared.src), (base, src), 2);
        copy_words(&mut self.b, (self.scratch, self.shared.dst), (base, dst), 2);
        self.b.goto(done);
        self.b.bind(backward);
        copy_words(&mut self.b, (self.scratch, self.shared.dst), (base, src), 2);
        copy_words(&mut self.b, (self.scratch, self.shared.src), (base, dst), 2);
        self.b.bind(done);
    }

    fn report(&mut self, layout: &Scratch, outputs: usize) {
        let (skip, sent) = (self.b.label(), self.b.label());
        self.b.jump(Cond::Set, self.acts, acts::REPORT, sent);
        self.b.goto(skip);
        self.b.bind(sent);
        let place = address(&mut self.b, self.scratch, self.shared.event);
        let words = [
            (self.shared.now, event::TIME),
            (GENERATION, event::GENERATION),
            (self.shared.first, event::FIRST),
            (self.shared.packets, event::PACKETS),
        ];
        for (from, to) in words {
            copy_words(&mut self.b, (self.scratch, from), (place, to), 1);
        }
        self.ends(place, event::SRC, event::DST);
        self.ports(place);
        self.trigger(place);
        self.b.store(Size::H, place, event::ACTS, self.acts);
        for (from, to) in [(LABEL, event::LABEL), (RULES, event::RULES)] {
            let value = self.b.load(Size::W, self.scratch, from);
            self.b.store(Size::W, place, to, value);
        }
        let count = i16::try_from(outputs).unwrap_or(i16::MAX);
        copy_words(&mut self.b, (self.scratch, layout.output(0)), (place, event::OUTPUTS), count);
        let result = send_event(&mut self.b, place, event_type(outputs).size());
        self.b.jump(Cond::Eq, result, 0, skip);
        self.count(Counter::EventsLost);
        self.b.bind(skip);
    }

    /// Ports in forward orientation, and the protocol.
    fn ports(&mut self, place: VReg) {
        let (backward, done) = (self.b.label(), self.b.label());
        let ports = self.b.load(Size::DW, self.scratch, self.shared.ports);
        let receiver = self.b.compute(AluOp::Rsh, ports, 16);
        let proto = self.b.compute(AluOp::Rsh, ports, 32);
        self.b.store(Size::B, place, event::PROTO, proto);
        let direction = self.b.load(Size::DW, self.scratch, self.shared.backward);
        self.b.jump(Cond::Ne, direction, 0, backward);
        self.b.store(Size::H, place, event::SPORT, ports);
        self.b.store(Size::H, place, event::DPORT, receiver);
        self.b.goto(done);
        self.b.bind(backward);
        self.b.store(Size::H, place, event::SPORT, receiver);
        self.b.store(Size::H, place, event::DPORT, ports);
        self.b.bind(done);
    }

    fn trigger(&mut self, place: VReg) {
        let (own, done) = (self.b.label(), self.b.label());
        self.own(own);
        let trigger = self.b.load(Size::W, self.scratch, self.shared.retired.trigger);
        self.b.store(Size::B, place, event::TRIGGER, trigger);
        self.b.goto(done);
        self.b.bind(own);
        let trigger = self.b.load(Size::W, self.scratch, self.shared.own.trigger);
        self.b.store(Size::B, place, event::TRIGGER, trigger);
        self.b.bind(done);
    }

    /// Puts the forward sender on the block list in enforce mode, unless it is there for longer.
    fn block(&mut self) {
        let (skip, absent) = (self.b.label(), self.b.label());
        let wanted = self.b.compute(AluOp::And, self.acts, acts::BLOCK);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        let config = self.b.map_value(CONFIG, CONFIG_MODE);
        let mode = self.b.load(Size::W, config, 0);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, skip);
        self.count(Counter::HostsBlocked);
        let hosts = self.b.stack_slot(32);
        let value = self.b.stack_slot(8);
        let host = self.b.stack_address(hosts);
        self.ends(host, 0, 16);
        let blocked = self.b.map(BLOCKED);
        let key = address(&mut self.b, host, 0);
        let known = self.b.call(Helper::MapLookup, &[blocked, key]);
        self.b.jump(Cond::Eq, known, 0, absent);
        let expiry = self.b.load(Size::DW, known, 0);
        self.b.jump(Cond::Ge, expiry, self.until, skip);
        self.b.bind(absent);
        self.b.stack_store(Size::DW, value, 0, self.until);
        let blocked = self.b.map(BLOCKED);
        let key = address(&mut self.b, host, 0);
        let place = self.b.stack_address(value);
        let flags = self.b.constant(0);
        self.b.call(Helper::MapUpdate, &[blocked, key, place, flags]);
        let one = self.b.constant(1);
        let epoch = self.b.map_value(CONFIG, CONFIG_EPOCH);
        self.b.atomic(Size::DW, AtomicOp::Add, epoch, 0, one);
        self.b.bind(skip);
    }

    /// Leaves with a drop in enforce mode; counts it either way.
    fn drop(&mut self) {
        let (pass, monitor) = (self.b.label(), self.b.label());
        let wanted = self.b.compute(AluOp::And, self.acts, acts::DROP);
        self.b.jump(Cond::Eq, wanted, 0, pass);
        let config = self.b.map_value(CONFIG, CONFIG_MODE);
        let mode = self.b.load(Size::W, config, 0);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, monitor);
        self.count(Counter::Dropped);
        self.b.ret(self.answers.drop);
        self.b.bind(monitor);
        self.count(Counter::WouldDrop);
        self.b.bind(pass);
        // Falls through to passing.
    }

    fn count(&mut self, counter: Counter) {
        count(&mut self.b, counter, self.zero, self.missing);
    }
}
