//! `nn_dropped`: whether too many packets are dropped. Called for dropped packets, while a limit is set.
//!
//! Every processor counts for itself. What it has counted since it last said so is added to the window when
//! it drops a packet and when it asks the lists, which it does for every new flow.

use super::guard::{FUSE, FUSE_SEEN, fuse, fuse_event, seen};
use super::maps::{CONFIG, CONFIG_MODE, COUNTERS};
use super::path::{count, send_event, single_value};
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Label, Size};
use crate::ir::flow::Counter;
use crate::ir::flow::guard::WHOLE;
use crate::ir::packet::Reason;
use crate::lower::LowerError;
use crate::lower::builder::{Atomics, Builder, StackSlot};
use crate::lower::code::{FrameLimit, VReg};

/// `nn_dropped(ctx, now)`: a packet was dropped and counted. Gives 0.
pub(super) const FUNCTION: &str = "nn_dropped";

/// Calls [`FUNCTION`] while a limit is set. Without the packet's time the clock is read.
pub(super) fn dropped(b: &mut Builder, context: VReg, now: Option<VReg>) {
    let unset = b.label();
    unless_set(b, unset);
    let now = match now {
        Some(now) => now,
        None => b.call(Helper::KtimeGetNs, &[]),
    };
    b.call_function(FUNCTION, &[context, now]);
    b.bind(unset);
}

/// Adds what this processor has counted to the window, while a limit is set.
pub(super) fn account(b: &mut Builder, zero: StackSlot, missing: Label) {
    let unset = b.label();
    let settings = unless_set(b, unset);
    let counted = Counted::take(b, zero, missing);
    b.atomic(Size::DW, AtomicOp::Add, settings, fuse::PACKETS, counted.packets);
    b.atomic(Size::DW, AtomicOp::Add, settings, fuse::DROPS, counted.drops);
    b.bind(unset);
}

/// Jumps away where no limit is set; gives the settings.
fn unless_set(b: &mut Builder, unset: Label) -> VReg {
    let settings = b.map_value(FUSE, 0);
    let limit = b.load(Size::W, settings, fuse::LIMIT);
    b.jump(Cond::Eq, limit, 0, unset);
    settings
}

/// What this processor has counted since the last time.
struct Counted {
    packets: VReg,
    drops: VReg,
}

impl Counted {
    fn take(b: &mut Builder, zero: StackSlot, missing: Label) -> Self {
        let at = |counter: Counter| i16::try_from(counter.index() * 8).unwrap_or(i16::MAX);
        let counters = single_value(b, COUNTERS, zero, missing);
        let packets = b.load(Size::DW, counters, at(Counter::Packet(Reason::Parsed)));
        let drops = b.load(Size::DW, counters, at(Counter::Blocked));
        let judged = b.load(Size::DW, counters, at(Counter::Dropped));
        b.add(drops, judged);
        let before = single_value(b, FUSE_SEEN, zero, missing);
        let (packets, drops) =
            (since(b, before, seen::PACKETS, packets), since(b, before, seen::DROPS, drops));
        Self { packets, drops }
    }
}

fn since(b: &mut Builder, before: VReg, offset: i16, now: VReg) -> VReg {
    let old = b.load(Size::DW, before, offset);
    b.store(Size::DW, before, offset, now);
    b.compute(AluOp::Sub, now, old)
}

/// Adds to a word that all processors share; gives the sum.
fn add_to(b: &mut Builder, settings: VReg, offset: i16, more: VReg) -> VReg {
    let sum = b.copy(more);
    b.atomic(Size::DW, AtomicOp::FetchAdd, settings, offset, sum);
    b.add(sum, more);
    sum
}

pub(super) fn function(atomics: Atomics) -> Result<Function, LowerError> {
    let parameters = [Parameter::Context, Parameter::Scalar];
    let mut b = Builder::new(FUNCTION, ".text", &parameters).with_atomics(atomics);
    let now = b.parameter(1);
    let zero = b.stack_slot(8);
    let (done, whole, blows) = (b.label(), b.label(), b.label());
    let settings = b.map_value(FUSE, 0);
    let blown = b.load(Size::W, settings, fuse::BLOWN);
    b.jump(Cond::Ne, blown, 0, done);
    let counted = Counted::take(&mut b, zero, done);
    let packets = add_to(&mut b, settings, fuse::PACKETS, counted.packets);
    let drops = add_to(&mut b, settings, fuse::DROPS, counted.drops);
    let window = b.load(Size::W, settings, fuse::WINDOW);
    let limit = b.load(Size::W, settings, fuse::LIMIT);
    let allowed = b.copy(packets);
    b.jump(Cond::Ge, packets, window, whole);
    b.mov(allowed, window);
    b.bind(whole);
    b.mul(allowed, limit);
    let share = b.compute(AluOp::Mul, drops, i32::try_from(WHOLE).unwrap_or(i32::MAX));
    b.jump(Cond::Gt, share, allowed, blows);
    b.jump(Cond::Lt, packets, window, done);
    b.store(Size::DW, settings, fuse::PACKETS, 0);
    b.store(Size::DW, settings, fuse::DROPS, 0);
    b.goto(done);
    b.bind(blows);
    blow(&mut b, settings, (now, packets, drops), zero, done);
    b.bind(done);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::LISTS))
}

/// Ends enforcement and says so; only the processor that set the mark does.
fn blow(b: &mut Builder, settings: VReg, what: (VReg, VReg, VReg), zero: StackSlot, done: Label) {
    let (now, packets, drops) = what;
    let mark = b.constant(1);
    b.atomic(Size::W, AtomicOp::FetchOr, settings, fuse::BLOWN, mark);
    b.jump(Cond::Ne, mark, 0, done);
    for (offset, value) in [(fuse::BLOWN_NS, now), (fuse::BLOWN_PACKETS, packets), (fuse::BLOWN_DROPS, drops)]
    {
        b.store(Size::DW, settings, offset, value);
    }
    let config = b.map_value(CONFIG, CONFIG_MODE);
    b.store(Size::W, config, 0, 0);
    let event = b.stack_slot(fuse_event::BYTES);
    for (offset, value) in
        [(fuse_event::TIME, now), (fuse_event::PACKETS, packets), (fuse_event::DROPS, drops)]
    {
        b.stack_store(Size::DW, event, offset, value);
    }
    for (offset, setting) in [(fuse_event::LIMIT, fuse::LIMIT), (fuse_event::WINDOW, fuse::WINDOW)] {
        let value = b.load(Size::W, settings, setting);
        b.stack_store(Size::W, event, offset, value);
    }
    let place = b.stack_address(event);
    let result = send_event(b, place, u32::from(fuse_event::BYTES));
    b.jump(Cond::Eq, result, 0, done);
    count(b, Counter::EventsLost, zero, done);
}
