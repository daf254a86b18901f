//! Packets that are judged one by one: condition, lists, features, model, actions, without a table. The clock is
//! asked only where a list or a rule needs the time.

use super::act;
use super::maps::{BLOCKED, COUNTERS};
use super::parse::Ends;
use super::path::{Exit, Path, single_value};
use crate::bpf::{AluOp, Cond, Helper, Size};
use crate::ir::flow::{Counter, Trigger};
use crate::ir::packet::Reason;
use crate::lower::code::VReg;
use crate::lower::scratch::RULES;

/// Every so many packets the lists are asked whatever their epoch is, which also tells the fuse how many packets
/// this processor has seen: see [`super::fuse`]. A power of two.
const ACCOUNT: i32 = 1_024;

impl Path<'_> {
    /// Everything from the parsed packet to its end.
    pub(super) fn judge_each(&mut self, ends: &Ends) {
        let program = self.program;
        self.origin(&program.span);
        let ordinal = self.selected();
        self.ask_seldom(ordinal);
        let pass = self.exit(Exit::Pass);
        let Some(every) = program.triggers.every.filter(|every| *every > 0) else {
            self.b.goto(pass);
            return;
        };
        self.every(ordinal, every);
        let scratch = self.scratch_value();
        let at = self.shared.own;
        self.b.store(Size::W, scratch, at.trigger, Trigger::Every as i32);
        self.b.store(Size::W, scratch, at.acts, 0);
        self.features(scratch, None, scratch);
        self.step("judge");
        self.infer();
        self.count(Counter::Verdicts);
        if program.rules.iter().all(|rule| rule.actions.is_empty()) {
            self.b.goto(pass);
            return;
        }
        let rules = self.b.load(Size::W, scratch, RULES);
        self.b.jump(Cond::Eq, rules, 0, pass);
        self.share_single(ends, scratch);
        let which = self.b.constant(0);
        let result = self.b.call_function(act::FUNCTION, &[self.context, which]);
        self.b.ret(result);
    }

    /// Counts the packet as parsed and leaves where it is none of those that are judged; gives its number among
    /// those of this processor.
    fn selected(&mut self) -> VReg {
        let program = self.program;
        let out = self.exit(Exit::Pass);
        let unselected = self.exit(Exit::Count(Counter::Unselected));
        let at = |counter: Counter| i16::try_from(counter.index() * 8).unwrap_or(i16::MAX);
        let parsed = at(Counter::Packet(Reason::Parsed));
        let counters = single_value(&mut self.b, COUNTERS, self.frame.zero, out);
        let ordinal = self.b.load(Size::DW, counters, parsed);
        self.b.add(ordinal, 1);
        self.b.store(Size::DW, counters, parsed, ordinal);
        let others = self.b.load(Size::DW, counters, at(Counter::Unselected));
        self.b.sub(ordinal, others);
        // Single packets have no direction, so the filter asks for none.
        let forward = self.b.constant(0);
        self.guard(forward, &program.filter, unselected);
        ordinal
    }

    /// Asks whether the sender is blocked, unless the lists have never been written to: mostly settled by one look at
    /// the block list.
    fn ask_seldom(&mut self, ordinal: VReg) {
        let (ask, on) = (self.b.label(), self.b.label());
        let account = self.b.compute(AluOp::And, ordinal, ACCOUNT - 1);
        self.b.jump(Cond::Eq, account, 0, ask);
        let epoch = self.epoch();
        self.b.jump(Cond::Eq, epoch, 0, on);
        let blocked = self.b.map(BLOCKED);
        let source = self.b.stack_address(self.frame.src);
        let listed = self.b.call(Helper::MapLookup, &[blocked, source]);
        self.b.jump(Cond::Eq, listed, 0, on);
        self.b.bind(ask);
        let (until, _) = self.ask_lists();
        self.b.jump(Cond::Eq, until, 0, on);
        let now = self.clock();
        self.b.jump(Cond::Le, until, now, on);
        self.denied(Some(now));
        self.b.bind(on);
    }

    /// Leaves where the packet's number is no multiple of `every`.
    fn every(&mut self, ordinal: VReg, every: u32) {
        let pass = self.exit(Exit::Pass);
        match i32::try_from(every) {
            Ok(1) => return,
            Ok(small) if every.is_power_of_two() => self.b.and(ordinal, small - 1),
            Ok(small) => self.b.modulo(ordinal, small),
            Err(_) => {
                let every = self.b.constant(i64::from(every));
                self.b.modulo(ordinal, every);
            }
        }
        self.b.jump(Cond::Ne, ordinal, 0, pass);
    }

    /// What the actions need to know of the packet: a flow of one.
    fn share_single(&mut self, ends: &Ends, scratch: VReg) {
        self.share_ends(scratch);
        let now = self.clock();
        self.b.store(Size::DW, scratch, self.shared.backward, 0);
        self.b.store(Size::DW, scratch, self.shared.now, now);
        self.b.store(Size::DW, scratch, self.shared.first, now);
        self.b.store(Size::DW, scratch, self.shared.packets, 1);
        let ports = self.b.compute(AluOp::Lsh, ends.proto, 16);
        self.b.or(ports, ends.dst_port);
        self.b.lsh(ports, 16);
        self.b.or(ports, ends.src_port);
        self.b.store(Size::DW, scratch, self.shared.ports, ports);
    }
}
