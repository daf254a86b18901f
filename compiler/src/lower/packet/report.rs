//! `nn_report`: sends the event of a verdict, unless the filter of [`crate::ir::flow::guard`] holds it back. A
//! function of its own, so that the verifier walks what follows a report once.

use super::guard::{FILTER, filter};
use super::maps::{event, event_type};
use super::path::{address, copy_words, count, send_event, single_value};
use super::shared::Shared;
use crate::bpf::module::{Function, Parameter};
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Size};
use crate::ir::flow::guard::LABEL_BITS;
use crate::ir::flow::key::{KeyPart, KeyParts};
use crate::ir::flow::{Counter, FlowProgram};
use crate::lower::LowerError;
use crate::lower::builder::{Atomics, Builder};
use crate::lower::code::{FrameLimit, VReg};
use crate::lower::scratch::{self, GENERATION, LABEL, RULES, Scratch};

/// `nn_report(ctx, retired, acts)`: tells the verdict in the scratch value, which is on the packet's own record
/// or, with `retired` 1, on an old one, and asks for `acts`. Gives 0.
pub(super) const FUNCTION: &str = "nn_report";

struct Report<'a> {
    b: Builder,
    key: KeyParts,
    shared: &'a Shared,
    scratch: VReg,
    retired: VReg,
    acts: VReg,
}

pub(super) fn function(
    outputs: usize,
    program: &FlowProgram,
    layout: &Scratch,
    shared: &Shared,
    atomics: Atomics,
) -> Result<Function, LowerError> {
    let parameters = [Parameter::Context, Parameter::Scalar, Parameter::Scalar];
    let mut b = Builder::new(FUNCTION, ".text", &parameters).with_atomics(atomics);
    let (retired, acts) = (b.parameter(1), b.parameter(2));
    let zero = b.stack_slot(8);
    let (passed, held, done) = (b.label(), b.label(), b.label());
    let scratch = single_value(&mut b, scratch::MAP, zero, done);
    let mut report = Report { b, key: program.key, shared, scratch, retired, acts };
    report.filter(passed, held);
    report.b.bind(passed);
    let result = report.send(layout, outputs, program.features.len());
    let mut b = report.b;
    b.jump(Cond::Eq, result, 0, done);
    count(&mut b, Counter::EventsLost, zero, done);
    b.goto(done);
    b.bind(held);
    count(&mut b, Counter::EventsSuppressed, zero, done);
    b.bind(done);
    b.ret(0);
    b.finish(FrameLimit::Share(super::frame::LISTS))
}

impl Report<'_> {
    /// Leaves for `held` where the event is held back. An exchange that another processor wins counts as a rate
    /// that is exhausted. Without branches, because the verifier would walk what follows once for each of them.
    fn filter(&mut self, passed: Label, held: Label) {
        let b = &mut self.b;
        let settings = b.map_value(FILTER, 0);
        let active = b.load(Size::W, settings, filter::ACTIVE);
        b.jump(Cond::Eq, active, 0, passed);

        let labels = b.load(Size::DW, settings, filter::LABELS);
        let any = is_zero(b, labels);
        let label = b.load(Size::W, self.scratch, LABEL);
        b.and(label, (LABEL_BITS - 1).cast_signed());
        b.rsh(labels, label);
        b.and(labels, 1);
        b.or(labels, any);
        let wanted = b.load(Size::W, settings, filter::ACTS);
        let any = is_zero(b, wanted);
        b.and(wanted, self.acts);
        let none = is_zero(b, wanted);
        b.xor(none, 1);
        b.or(none, any);
        b.and(labels, none);

        let number = b.copy(labels);
        b.atomic(Size::DW, AtomicOp::FetchAdd, settings, filter::SEEN, number);
        let sample = b.load(Size::W, settings, filter::SAMPLE);
        let all = is_zero(b, sample);
        b.or(sample, all);
        b.modulo(number, sample);
        let chosen = is_zero(b, number);
        b.and(labels, chosen);

        let now = b.load(Size::DW, self.scratch, self.shared.now);
        let due = b.load(Size::DW, settings, filter::NEXT);
        let interval = b.load(Size::DW, settings, filter::INTERVAL);
        let unlimited = is_zero(b, interval);
        // How far `max(due, now)` is ahead of now; times are below 2^63.
        let next = b.compute(AluOp::Sub, due, now);
        let past = b.compute(AluOp::Arsh, next, 63);
        b.xor(past, -1);
        b.and(next, past);
        let early = b.load(Size::DW, settings, filter::BURST);
        b.sub(early, next);
        b.rsh(early, 63);
        b.xor(early, 1);
        b.or(early, unlimited);
        b.and(labels, early);
        // The next event is due later, unless this one is held back.
        b.add(next, now);
        b.add(next, interval);
        b.xor(next, due);
        let sent = b.copy(labels);
        b.neg(sent);
        b.and(next, sent);
        b.xor(next, due);
        let found = b.compare_exchange(Size::DW, settings, filter::NEXT, due, next);
        b.xor(found, due);
        let exchanged = is_zero(b, found);
        b.or(exchanged, unlimited);
        b.and(labels, exchanged);
        b.jump(Cond::Eq, labels, 0, held);
    }

    /// Gives the result of the ring buffer.
    fn send(&mut self, layout: &Scratch, outputs: usize, features: usize) -> VReg {
        let place = address(&mut self.b, self.scratch, self.shared.event);
        self.ports(place);
        self.trigger(place);
        let words = [
            (self.shared.now, event::TIME),
            (GENERATION, event::GENERATION),
            (self.shared.first, event::FIRST),
            (self.shared.packets, event::PACKETS),
        ];
        for (from, to) in words {
            copy_words(&mut self.b, (self.scratch, from), (place, to), 1);
        }
        ends(&mut self.b, self.shared, self.scratch, (place, event::SRC, event::DST));
        self.unnamed_ends(place);
        self.b.store(Size::H, place, event::ACTS, self.acts);
        for (from, to) in [(LABEL, event::LABEL), (RULES, event::RULES)] {
            let value = self.b.load(Size::W, self.scratch, from);
            self.b.store(Size::W, place, to, value);
        }
        let words = |count: usize| i16::try_from(count).unwrap_or(i16::MAX);
        let from = (self.scratch, layout.output(0));
        copy_words(&mut self.b, from, (place, event::OUTPUTS), words(outputs));
        let from = (self.scratch, layout.feature(0));
        copy_words(&mut self.b, from, (place, event::features(outputs)), words(features));
        send_event(&mut self.b, place, event_type(outputs, features).size())
    }

    /// Zeros for the hosts that the key does not name.
    fn unnamed_ends(&mut self, place: VReg) {
        for (part, at) in [(KeyPart::Src, event::SRC), (KeyPart::Dst, event::DST)] {
            if !self.key.has(part) {
                self.b.store(Size::DW, place, at, 0);
                self.b.store(Size::DW, place, at + 8, 0);
            }
        }
    }

    /// Ports and protocol.
    fn ports(&mut self, place: VReg) {
        let ports = self.b.load(Size::DW, self.scratch, self.shared.ports);
        for (size, to) in [(Size::H, event::SPORT), (Size::H, event::DPORT), (Size::B, event::PROTO)] {
            self.b.store(size, place, to, ports);
            self.b.rsh(ports, 16);
        }
    }

    fn trigger(&mut self, place: VReg) {
        let verdict = self.shared.verdict(&mut self.b, self.scratch, self.retired);
        let trigger = self.b.load(Size::W, verdict, self.shared.own.trigger);
        self.b.store(Size::B, place, event::TRIGGER, trigger);
    }
}

/// 1 for zero, 0 for a number from 1 to 2^63 and above, without a branch.
pub(super) fn is_zero(b: &mut Builder, number: VReg) -> VReg {
    let negative = b.copy(number);
    b.neg(negative);
    b.or(negative, number);
    b.rsh(negative, 63);
    b.xor(negative, 1);
    negative
}

/// Forward sender and receiver to two places of `(base, src, dst)`, from the packet's and its direction: one
/// end stands 16 bytes behind the other.
pub(super) fn ends(b: &mut Builder, shared: &Shared, scratch: VReg, to: (VReg, i16, i16)) {
    let (base, src, dst) = to;
    let backward = b.load(Size::DW, scratch, shared.backward);
    b.and(backward, 1);
    b.lsh(backward, 4);
    let sender = b.compute(AluOp::Add, scratch, backward);
    copy_words(b, (sender, shared.src), (base, src), 2);
    b.xor(backward, 16);
    let receiver = b.compute(AluOp::Add, scratch, backward);
    copy_words(b, (receiver, shared.src), (base, dst), 2);
}

/// The flow's forward sender or, with `end` 1, its forward receiver to a place.
pub(super) fn end(b: &mut Builder, shared: &Shared, scratch: VReg, end: VReg, to: VReg) {
    let from = b.load(Size::DW, scratch, shared.backward);
    b.xor(from, end);
    b.and(from, 1);
    b.lsh(from, 4);
    b.add(from, scratch);
    copy_words(b, (from, shared.src), (to, 0), 2);
}
