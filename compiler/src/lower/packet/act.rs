//! Step 10 of [`crate::ir::flow`]: what fired rules ask for. Runs only where a rule fired, so in a function of
//! its own.

use super::guard;
use super::hook::{self, Answers};
use super::maps::{BLOCKED, CONFIG, CONFIG_EPOCH, MODE_ENFORCE, SAMPLES};
use super::path::{address, count, line, single_value};
use super::shared::{Shared, acts};
use super::table::{ANSWER_BITS, EXEMPT, LISTED};
use super::{fuse, lists, report};
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Label, Size};
use crate::ir::flow::{Counter, FlowProgram, Rule};
use crate::lower::LowerError;
use crate::lower::builder::{Atomics, Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, RULES};
use crate::spec::typed::{Action, FeatureSpec, Nanos};

/// `nn_act(ctx, retired)`: carries out the fired rules of the verdict in the scratch value, which is on the
/// packet's own record or, with `retired` 1, on an old one. Gives the hook's answer.
pub(super) const FUNCTION: &str = "nn_act";

/// `nn_block(end, until)`: puts the forward sender or, with `end` 1, the forward receiver on the block list.
/// Gives 0. Only where rules block receivers.
const BLOCK: &str = "nn_block";

struct Act<'a> {
    b: Builder,
    answers: Answers,
    shared: &'a Shared,
    zero: StackSlot,
    missing: Label,
    context: VReg,
    scratch: VReg,
    retired: VReg,
    /// Bits of [`acts`].
    acts: VReg,
    /// Until when the forward sender is to be blocked; 0 for not at all.
    until: VReg,
    /// The same of the forward receiver, where a rule blocks it.
    receiver_until: Option<VReg>,
    /// What the packet's mark is to be, where a rule marks.
    mark: Option<VReg>,
    /// The rules that act, bit by bit, where one can end them; else those that fired act.
    acting: Option<VReg>,
}

pub(super) fn function(
    program: &FlowProgram,
    spec: &FeatureSpec,
    shared: &Shared,
    atomics: Atomics,
) -> Result<Function, LowerError> {
    let parameters = [Parameter::Context, Parameter::Scalar];
    let mut b = Builder::new(FUNCTION, ".text", &parameters).with_atomics(atomics);
    let context = b.parameter(0);
    let retired = b.parameter(1);
    let zero = b.stack_slot(8);
    let missing = b.label();
    let scratch = single_value(&mut b, scratch::MAP, zero, missing);
    let (acts, until) = (b.constant(0), b.constant(0));
    let answers = hook::answers(spec.hook);
    let receiver = blocks_receivers(program);
    let marks = program.acts(|action| matches!(action, Action::Mark(_)));
    let receiver_until = receiver.then(|| b.constant(0));
    let mark = marks.then(|| b.constant(0));
    let mut act = Act {
        b,
        answers,
        shared,
        zero,
        missing,
        context,
        scratch,
        retired,
        acts,
        until,
        receiver_until,
        mark,
        acting: None,
    };
    act.passes(program, spec);
    act.rules(program, spec);
    act.receiver_blocks(program, spec);
    act.marks(program, spec);
    act.samples(program, spec);
    act.exempt(program);
    act.store_acts();
    act.report();
    match act.receiver_until {
        None => act.block(),
        Some(until) => {
            act.block_end(acts::BLOCK, 0, act.until);
            act.block_end(acts::BLOCK_RECEIVER, 1, until);
        }
    }
    act.set_mark();
    act.drop();
    act.b.bind(missing);
    act.b.ret(answers.pass);
    act.b.finish(FrameLimit::Share(super::frame::ACT))
}

impl Act<'_> {
    /// 1 when the rule acts, else 0.
    fn fired(&mut self, index: usize) -> VReg {
        let fired = match self.acting {
            None => self.b.load(Size::W, self.scratch, RULES),
            Some(acting) => self.b.copy(acting),
        };
        self.b.rsh(fired, i32::try_from(index).unwrap_or(63));
        self.b.and(fired, 1);
        fired
    }

    /// Puts a value into a register where `fired` is 1.
    fn replace(&mut self, register: VReg, value: i64, fired: VReg) {
        let change = self.b.constant(value);
        self.b.xor(change, register);
        let mask = self.b.copy(fired);
        self.b.neg(mask);
        self.b.and(change, mask);
        self.b.xor(register, change);
    }

    /// Takes away the rules behind the first fired one that lets pass.
    fn passes(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        if !program.acts(|action| *action == Action::Pass) {
            return;
        }
        let acting = self.b.load(Size::W, self.scratch, RULES);
        self.acting = Some(acting);
        for (index, rule) in program.rules.iter().enumerate() {
            // The last of 32 rules has none behind it.
            let behind = u32::try_from(index + 1).ok().and_then(|count| (-1_i32).checked_shl(count));
            let (Some(behind), true) = (behind, rule.actions.contains(&Action::Pass)) else { continue };
            self.b.origin(line(spec, &rule.span));
            let gone = self.fired(index);
            // Not by a mask of ones: newer verifiers walk both of its values.
            self.b.mul(gone, behind);
            self.b.xor(gone, -1);
            self.b.and(acting, gone);
        }
    }

    /// Until when the forward receiver is to be blocked, as [`Self::rules`] does it for the sender.
    fn receiver_blocks(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        let Some(until) = self.receiver_until else { return };
        let time = |rule: &Rule| {
            rule.actions.iter().find_map(|action| match action {
                Action::BlockDestination(time) => Some(*time),
                Action::Drop
                | Action::BlockSource(_)
                | Action::Mark(_)
                | Action::Report
                | Action::ReportOneIn(_)
                | Action::Pass => None,
            })
        };
        let rules = program.rules.iter().enumerate();
        let mut rules: Vec<(Nanos, usize, &Rule)> =
            rules.filter_map(|(index, rule)| Some((time(rule)?, index, rule))).collect();
        rules.sort_by_key(|(time, ..)| time.0);
        for (time, index, rule) in rules {
            self.b.origin(line(spec, &rule.span));
            let fired = self.fired(index);
            self.replace(until, time.0.cast_signed(), fired);
        }
        let now = self.b.load(Size::DW, self.scratch, self.shared.now);
        self.b.add(until, now);
    }

    /// The mark of the last rule that acts.
    fn marks(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        let Some(mark) = self.mark else { return };
        for (index, rule) in program.rules.iter().enumerate() {
            for action in &rule.actions {
                let Action::Mark(value) = action else { continue };
                self.b.origin(line(spec, &rule.span));
                let fired = self.fired(index);
                self.replace(mark, i64::from(*value), fired);
            }
        }
    }

    /// Events of rules that report samples: each counts how often it acted.
    fn samples(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        for ((index, of), position) in program.samples().zip(0..) {
            if let Some(rule) = program.rules.get(index) {
                self.b.origin(line(spec, &rule.span));
            }
            let fired = self.fired(index);
            let counts = self.b.map_value(SAMPLES, position * 8);
            let number = self.b.copy(fired);
            self.b.atomic(Size::DW, AtomicOp::FetchAdd, counts, 0, number);
            match i32::try_from(of) {
                Ok(of) => self.b.modulo(number, of),
                Err(_) => {
                    let of = self.b.constant(i64::from(of));
                    self.b.modulo(number, of);
                }
            }
            let chosen = report::is_zero(&mut self.b, number);
            self.b.and(chosen, fired);
            self.b.mul(chosen, acts::REPORT);
            self.b.or(self.acts, chosen);
        }
    }

    /// Gathers what the fired rules ask for, without branches: what follows is walked once. Of several times,
    /// the longest is taken last, so it stays.
    fn rules(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        let mut rules: Vec<(Option<Nanos>, usize, &Rule)> =
            program.rules.iter().enumerate().map(|(index, rule)| (block_time(rule), index, rule)).collect();
        rules.sort_by_key(|(time, ..)| time.map(|time| time.0));
        let blocks = rules.iter().any(|(time, ..)| time.is_some());
        for (time, index, rule) in rules {
            self.b.origin(line(spec, &rule.span));
            let fired = self.fired(index);
            if let Some(time) = time {
                self.replace(self.until, time.0.cast_signed(), fired);
            }
            let bits = rule.actions.iter().fold(0, |bits, action| {
                bits | match action {
                    Action::Drop => acts::DROP,
                    Action::Report => acts::REPORT,
                    Action::BlockSource(_) => acts::BLOCK,
                    Action::BlockDestination(_) => acts::BLOCK_RECEIVER,
                    Action::Mark(_) => acts::MARK,
                    Action::ReportOneIn(_) | Action::Pass => 0,
                }
            });
            self.b.mul(fired, bits);
            self.b.or(self.acts, fired);
        }
        if blocks {
            let now = self.b.load(Size::DW, self.scratch, self.shared.now);
            self.b.add(self.until, now);
        }
    }

    /// Allowed hosts are neither dropped nor blocked; a verdict on an old record drops nothing. Reports alone
    /// need no answer from the lists, and neither does a record that has one of this epoch.
    fn exempt(&mut self, program: &FlowProgram) {
        let asked = self.b.label();
        // All ones where both may act.
        let may = self.b.constant(-1);
        let lasting = acts::BLOCK | if self.receiver_until.is_some() { acts::BLOCK_RECEIVER } else { 0 };
        let strong = acts::DROP | lasting | if self.mark.is_some() { acts::MARK } else { 0 };
        let strong = self.b.compute(AluOp::And, self.acts, strong);
        self.b.jump(Cond::Eq, strong, 0, asked);
        let known = self.b.label();
        if program.record.forward_lists.is_some() {
            let config = self.b.map_value(CONFIG, CONFIG_EPOCH);
            let epoch = self.b.load(Size::DW, config, 0);
            self.b.lsh(epoch, ANSWER_BITS);
            let answer = self.b.load(Size::DW, self.scratch, self.shared.answer);
            self.b.xor(answer, epoch);
            // By way of memory, so that what follows is walked once.
            let exempt = self.b.compute(AluOp::Rsh, answer, EXEMPT.trailing_zeros().cast_signed());
            self.b.store(Size::DW, self.scratch, self.shared.exempt, exempt);
            self.b.jump(Cond::Le, answer, LISTED | EXEMPT, known);
        }
        self.b.call_function(lists::FUNCTION, &[self.context]);
        self.b.bind(known);
        self.b.load_to(may, Size::DW, self.scratch, self.shared.exempt);
        self.b.sub(may, 1);
        self.b.bind(asked);
        self.b.or(may, acts::REPORT);
        self.b.and(self.acts, may);
        let own = self.b.compute(AluOp::Sub, self.retired, 1);
        self.b.or(own, acts::REPORT | lasting);
        self.b.and(self.acts, own);
    }

    fn store_acts(&mut self) {
        let verdict = self.shared.verdict(&mut self.b, self.scratch, self.retired);
        self.b.store(Size::W, verdict, self.shared.own.acts, self.acts);
    }

    fn report(&mut self) {
        let skip = self.b.label();
        let wanted = self.b.compute(AluOp::And, self.acts, acts::REPORT);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        self.b.call_function(report::FUNCTION, &[self.context, self.retired, self.acts]);
        self.b.bind(skip);
    }

    /// Puts the forward sender on the block list in enforce mode, unless it is there for longer.
    fn block(&mut self) {
        let skip = self.b.label();
        let (hosts, value) = (self.b.stack_slot(32), self.b.stack_slot(8));
        let wanted = self.b.compute(AluOp::And, self.acts, acts::BLOCK);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        let mode = guard::mode(&mut self.b);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, skip);
        self.count(Counter::HostsBlocked);
        let host = self.b.stack_address(hosts);
        report::ends(&mut self.b, self.shared, self.scratch, (host, 0, 16));
        put_on_list(&mut self.b, host, value, self.until, skip);
        self.b.bind(skip);
    }

    /// The same for either end of the flow.
    fn block_end(&mut self, bit: i32, end: i64, until: VReg) {
        let skip = self.b.label();
        let wanted = self.b.compute(AluOp::And, self.acts, bit);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        let end = self.b.constant(end);
        self.b.call_function(BLOCK, &[end, until]);
        self.b.bind(skip);
    }

    /// Sets the packet's mark in enforce mode.
    fn set_mark(&mut self) {
        let Some(mark) = self.mark else { return };
        let skip = self.b.label();
        let wanted = self.b.compute(AluOp::And, self.acts, acts::MARK);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        let mode = guard::mode(&mut self.b);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, skip);
        hook::set_mark(&mut self.b, self.context, mark);
        self.b.bind(skip);
    }

    /// Leaves with a drop in enforce mode; counts it either way.
    fn drop(&mut self) {
        let (pass, monitor) = (self.b.label(), self.b.label());
        let wanted = self.b.compute(AluOp::And, self.acts, acts::DROP);
        self.b.jump(Cond::Eq, wanted, 0, pass);
        let mode = guard::mode(&mut self.b);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, monitor);
        self.count(Counter::Dropped);
        let now = self.b.load(Size::DW, self.scratch, self.shared.now);
        fuse::dropped(&mut self.b, self.context, Some(now));
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

/// Puts a host on the block list, unless it is there for longer, which goes to `skip`.
fn put_on_list(b: &mut Builder, host: VReg, value: StackSlot, until: VReg, skip: Label) {
    let absent = b.label();
    let blocked = b.map(BLOCKED);
    let key = address(b, host, 0);
    let known = b.call(Helper::MapLookup, &[blocked, key]);
    b.jump(Cond::Eq, known, 0, absent);
    let expiry = b.load(Size::DW, known, 0);
    b.jump(Cond::Ge, expiry, until, skip);
    b.bind(absent);
    b.stack_store(Size::DW, value, 0, until);
    let blocked = b.map(BLOCKED);
    let key = address(b, host, 0);
    let place = b.stack_address(value);
    let flags = b.constant(0);
    b.call(Helper::MapUpdate, &[blocked, key, place, flags]);
    let one = b.constant(1);
    let epoch = b.map_value(CONFIG, CONFIG_EPOCH);
    b.atomic(Size::DW, AtomicOp::Add, epoch, 0, one);
}

/// The function that blocks either end, so that the verifier walks it once for both.
pub(super) fn block_function(shared: &Shared) -> Result<Function, LowerError> {
    let mut b = Builder::new(BLOCK, ".text", &[Parameter::Scalar; 2]);
    let (end, until) = (b.parameter(0), b.parameter(1));
    let (zero, host, value) = (b.stack_slot(8), b.stack_slot(16), b.stack_slot(8));
    let done = b.label();
    let mode = guard::mode(&mut b);
    b.jump(Cond::Ne, mode, MODE_ENFORCE, done);
    count(&mut b, Counter::HostsBlocked, zero, done);
    let scratch = single_value(&mut b, scratch::MAP, zero, done);
    let host = b.stack_address(host);
    report::end(&mut b, shared, scratch, end, host);
    put_on_list(&mut b, host, value, until, done);
    b.bind(done);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::LISTS))
}

/// Whether [`block_function`] is needed.
pub(super) fn blocks_receivers(program: &FlowProgram) -> bool {
    program.acts(|action| matches!(action, Action::BlockDestination(_)))
}

/// How long a rule blocks.
fn block_time(rule: &Rule) -> Option<Nanos> {
    let time = |action: &Action| match action {
        Action::BlockSource(time) => Some(*time),
        Action::Drop
        | Action::BlockDestination(_)
        | Action::Mark(_)
        | Action::Report
        | Action::ReportOneIn(_)
        | Action::Pass => None,
    };
    rule.actions.iter().filter_map(time).max_by_key(|time| time.0)
}
