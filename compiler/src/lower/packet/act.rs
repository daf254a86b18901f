//! Step 10 of [`crate::ir::flow`]: what fired rules ask for. Runs only where a rule fired, so in a function of
//! its own.

use super::guard;
use super::hook::{self, Answers};
use super::maps::{BLOCKED, CONFIG, CONFIG_EPOCH, MODE_ENFORCE};
use super::path::{address, count, line, single_value};
use super::shared::{Shared, acts};
use super::{fuse, lists, report};
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Size};
use crate::ir::flow::{Counter, FlowProgram, Rule};
use crate::lower::LowerError;
use crate::lower::builder::{Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, RULES};
use crate::spec::typed::{Action, FeatureSpec, Nanos};

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
}

pub(super) fn function(
    program: &FlowProgram,
    spec: &FeatureSpec,
    shared: &Shared,
) -> Result<Function, LowerError> {
    let mut b = Builder::new(FUNCTION, ".text", &[Parameter::Context, Parameter::Scalar]);
    let context = b.parameter(0);
    let retired = b.parameter(1);
    let zero = b.stack_slot(8);
    let missing = b.label();
    let scratch = single_value(&mut b, scratch::MAP, zero, missing);
    let (acts, until) = (b.constant(0), b.constant(0));
    let answers = hook::answers(spec.hook);
    let mut act = Act { b, answers, shared, zero, missing, context, scratch, retired, acts, until };
    act.rules(program, spec);
    act.exempt();
    act.store_acts();
    act.report();
    act.block();
    act.drop();
    act.b.bind(missing);
    act.b.ret(answers.pass);
    act.b.finish(FrameLimit::Share(super::frame::ACT))
}

impl Act<'_> {
    /// Gathers what the fired rules ask for, without branches: what follows is walked once. Of several times,
    /// the longest is taken last, so it stays.
    fn rules(&mut self, program: &FlowProgram, spec: &FeatureSpec) {
        let mut rules: Vec<(Option<Nanos>, usize, &Rule)> =
            program.rules.iter().enumerate().map(|(index, rule)| (block_time(rule), index, rule)).collect();
        rules.sort_by_key(|(time, ..)| time.map(|time| time.0));
        let blocks = rules.iter().any(|(time, ..)| time.is_some());
        for (time, index, rule) in rules {
            self.b.origin(line(spec, &rule.span));
            // 1 when the rule fired.
            let fired = self.b.load(Size::W, self.scratch, RULES);
            self.b.rsh(fired, i32::try_from(index).unwrap_or(63));
            self.b.and(fired, 1);
            if let Some(time) = time {
                let change = self.b.constant(time.0.cast_signed());
                self.b.xor(change, self.until);
                let mask = self.b.copy(fired);
                self.b.neg(mask);
                self.b.and(change, mask);
                self.b.xor(self.until, change);
            }
            let bits = rule.actions.iter().fold(0, |bits, action| {
                bits | match action {
                    Action::Drop => acts::DROP,
                    Action::Report => acts::REPORT,
                    Action::BlockSource(_) => acts::BLOCK,
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
    /// need no answer from the lists.
    fn exempt(&mut self) {
        let asked = self.b.label();
        // All ones where both may act.
        let may = self.b.constant(-1);
        let strong = self.b.compute(AluOp::And, self.acts, acts::DROP | acts::BLOCK);
        self.b.jump(Cond::Eq, strong, 0, asked);
        self.b.call_function(lists::FUNCTION, &[self.context]);
        self.b.load_to(may, Size::DW, self.scratch, self.shared.exempt);
        self.b.sub(may, 1);
        self.b.bind(asked);
        self.b.or(may, acts::REPORT);
        self.b.and(self.acts, may);
        let own = self.b.compute(AluOp::Sub, self.retired, 1);
        self.b.or(own, acts::REPORT | acts::BLOCK);
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
        let (skip, absent) = (self.b.label(), self.b.label());
        let wanted = self.b.compute(AluOp::And, self.acts, acts::BLOCK);
        self.b.jump(Cond::Eq, wanted, 0, skip);
        let mode = guard::mode(&mut self.b);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, skip);
        self.count(Counter::HostsBlocked);
        let hosts = self.b.stack_slot(32);
        let value = self.b.stack_slot(8);
        let host = self.b.stack_address(hosts);
        report::ends(&mut self.b, self.shared, self.scratch, (host, 0, 16));
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
        let mode = guard::mode(&mut self.b);
        self.b.jump(Cond::Ne, mode, MODE_ENFORCE, monitor);
        self.count(Counter::Dropped);
        let now = self.b.load(Size::DW, self.scratch, self.shared.now);
        fuse::dropped(&mut self.b, self.context, now);
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

/// How long a rule blocks.
fn block_time(rule: &Rule) -> Option<Nanos> {
    let time = |action: &Action| match action {
        Action::BlockSource(time) => Some(*time),
        Action::Drop | Action::Report => None,
    };
    rule.actions.iter().filter_map(time).max_by_key(|time| time.0)
}
