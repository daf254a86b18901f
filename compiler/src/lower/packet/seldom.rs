//! Code that runs seldom and stands behind everything else, so that the ordinary packet's path is short and
//! the verifier walks it once.

use super::clock::Tick;
use super::path::Path;
use crate::bpf::{AluOp, AtomicOp, Cond, Label, Size};
use crate::ir::flow::{Counter, EXCHANGE_TRIES};
use crate::lower::code::VReg;
use crate::spec::typed::Weight;

/// A place of its own in the code, and where it goes on.
pub(super) struct Pending {
    pub(super) entry: Label,
    pub(super) back: Label,
    pub(super) what: Seldom,
}

pub(super) enum Seldom {
    /// The first compare-and-exchange of a minimum, maximum or weighted mean lost a race.
    Exchange(Exchange),
    /// The flow's previous packet is not before this one.
    NotBefore(NotBefore),
    /// A sum of squares needs its high word.
    HighWord(HighWord),
    /// The first packet of a tick.
    Tick(Tick),
}

/// A bounded compare-and-exchange of a minimum, maximum or weighted mean.
pub(super) struct Exchange {
    pub(super) record: VReg,
    pub(super) offset: i16,
    pub(super) size: Size,
    /// What the lost exchange found.
    pub(super) current: VReg,
    pub(super) sample: VReg,
    pub(super) step: Step,
}

/// What a sample does to what stands there.
#[derive(Clone, Copy)]
pub(super) enum Step {
    /// It takes its place, unless this holds between sample and current.
    Unless(Cond),
    /// It draws it nearer; the sample has the fraction bits of the state.
    Towards(Weight),
}

/// A gap that is 0 because time went backwards, or none because there was no packet before.
pub(super) struct NotBefore {
    pub(super) previous: VReg,
    pub(super) gap: VReg,
    /// The packet's time, where ticks are counted from the previous one.
    pub(super) now: Option<VReg>,
    /// Where to go on without a gap.
    pub(super) none: Label,
}

/// What a sample's square adds to the high word of a 128-bit sum: a carry, and its own high part.
pub(super) struct HighWord {
    pub(super) record: VReg,
    /// Of the high word.
    pub(super) offset: i16,
    /// `None` where the square of every sample fits 64 bits.
    pub(super) sample: Option<VReg>,
    pub(super) square: VReg,
    /// The low word with the square added.
    pub(super) sum: VReg,
}

impl Path<'_> {
    /// Emits what was put off.
    pub(super) fn seldom(&mut self) {
        for Pending { entry, back, what } in std::mem::take(&mut self.pending) {
            self.b.bind(entry);
            match what {
                Seldom::Exchange(exchange) => self.lost_exchange(&exchange, back),
                Seldom::NotBefore(not_before) => self.not_before(&not_before),
                Seldom::HighWord(high_word) => self.high_word(&high_word),
                Seldom::Tick(tick) => self.first_of_tick(&tick),
            }
            self.b.goto(back);
        }
    }

    fn lost_exchange(&mut self, exchange: &Exchange, back: Label) {
        self.step("another processor was first");
        let Exchange { record, offset, size, mut current, sample, step } = *exchange;
        for _ in 1..EXCHANGE_TRIES {
            let next = self.next(step, current, sample, back);
            let found = self.b.compare_exchange(size, record, offset, current, next);
            self.b.jump(Cond::Eq, found, current, back);
            current = found;
        }
        self.count(Counter::Contended);
    }

    /// What is to stand there; goes to `done` when that stands there already.
    pub(super) fn next(&mut self, step: Step, current: VReg, sample: VReg, done: Label) -> VReg {
        match step {
            Step::Unless(settled) => {
                self.b.jump(settled, sample, current, done);
                sample
            }
            Step::Towards(weight) => {
                let next = self.b.compute(AluOp::Sub, sample, current);
                self.b.arsh(next, i32::from(weight.0));
                self.b.add(next, current);
                // The empty content is the only one with the top bit: then the sample itself, without a branch.
                let empty = self.b.compute(AluOp::Arsh, current, 63);
                let change = self.b.compute(AluOp::Xor, next, sample);
                self.b.and(change, empty);
                self.b.xor(next, change);
                next
            }
        }
    }

    fn not_before(&mut self, not_before: &NotBefore) {
        self.step("no gap, or a clock that went backwards");
        self.b.jump(Cond::Eq, not_before.previous, -1, not_before.none);
        self.b.mov(not_before.gap, 0);
        if let Some(now) = not_before.now {
            self.b.mov(not_before.previous, now);
        }
    }

    fn high_word(&mut self, high_word: &HighWord) {
        self.step("high word of a sum of squares");
        let HighWord { record, offset, sample, square, sum } = *high_word;
        let more = match sample {
            None => self.b.constant(1),
            Some(sample) => {
                let more = self.high_of_square(sample);
                let fits = self.b.label();
                self.b.jump(Cond::Ge, sum, square, fits);
                self.b.add(more, 1);
                self.b.bind(fits);
                more
            }
        };
        self.b.atomic(Size::DW, AtomicOp::Add, record, offset, more);
    }

    /// `floor(sample² / 2^64)` of a sample below 2^41. With parts h and l of 20 and 21 bits, the square is
    /// `h²·2^42 + (hl·2^22 + l²)`, and the second term is below 2^64.
    fn high_of_square(&mut self, sample: VReg) -> VReg {
        let high = self.b.compute(AluOp::Rsh, sample, 21);
        let low = self.b.compute(AluOp::And, sample, (1 << 21) - 1);
        let rest = self.b.compute(AluOp::Mul, high, low);
        self.b.lsh(rest, 22);
        let square = self.b.compute(AluOp::Mul, low, low);
        self.b.add(rest, square);
        self.b.rsh(rest, 42);
        let factor = self.b.copy(high);
        self.b.mul(high, factor);
        self.b.add(high, rest);
        self.b.rsh(high, 22);
        high
    }
}
