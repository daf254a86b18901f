//! What time it is, exactly or to the kernel's tick, and the one operation that differs between builds.
//!
//! Both builds are lowered with the calls of the helpers. In a replay build a load takes the place of each
//! afterwards, so that registers, spills and everything around the clock stay the same. There every time that is set
//! is a tick of its own, so that a coarse clock shows it exactly.

use super::maps::{CLOCK, TICK, TICK_TIMES};
use super::path::Path;
use super::seldom::{Pending, Seldom};
use crate::bpf::asm::{ld_map_value, ldx};
use crate::bpf::module::Function;
use crate::bpf::{AluOp, AtomicOp, Cond, Helper, Insn, Reg, Size};
use crate::lower::code::VReg;

const TIMES: i16 = TICK_TIMES as i16;

/// The first packet of a tick, which reads the clock for the others.
pub(super) struct Tick {
    cell: VReg,
    /// The tick that the cell has; becomes the one of now.
    known: VReg,
    tick: VReg,
}

impl Path<'_> {
    pub(super) fn exact_time(&mut self) -> VReg {
        self.b.call(Helper::KtimeGetNs, &[])
    }

    /// The time that the first packet of the kernel's tick has read. Even and odd ticks have places of their own,
    /// so that the address depends on the tick that was found, and no processor sees an older time than belongs to it.
    pub(super) fn coarse_time(&mut self) -> VReg {
        let (first, back) = (self.b.label(), self.b.label());
        let tick = self.b.call(Helper::Jiffies64, &[]);
        let cell = self.b.map_value(TICK, 0);
        let known = self.b.load(Size::DW, cell, 0);
        self.b.jump(Cond::Ne, known, tick, first);
        self.b.bind(back);
        let place = self.time_of_tick(cell, known);
        self.pending.push(Pending { entry: first, back, what: Seldom::Tick(Tick { cell, known, tick }) });
        self.b.load(Size::DW, place, TIMES)
    }

    /// A base of the place of a tick's time.
    fn time_of_tick(&mut self, cell: VReg, tick: VReg) -> VReg {
        let place = self.b.compute(AluOp::And, tick, 1);
        self.b.lsh(place, 3);
        self.b.add(place, cell);
        place
    }

    /// Reads the clock and puts its time in the cell, then the tick: an exchange, so that no processor sees it before.
    pub(super) fn first_of_tick(&mut self, Tick { cell, known, tick }: &Tick) {
        self.step("first packet of a tick");
        let now = self.exact_time();
        let place = self.time_of_tick(*cell, *tick);
        self.b.store(Size::DW, place, TIMES, now);
        self.b.mov(*known, *tick);
        let before = self.b.copy(*tick);
        self.b.atomic(Size::DW, AtomicOp::Xchg, *cell, 0, before);
    }
}

/// Replaces every call of a clock by a load from `.data.nn_clock`, which writes the same register and leaves
/// the others as they were.
pub(super) fn from_memory(function: &mut Function) {
    let code = std::mem::take(&mut function.code);
    let lines = std::mem::take(&mut function.line_of);
    for (insn, line) in code.into_iter().zip(lines) {
        if matches!(insn, Insn::Call { helper: Helper::KtimeGetNs | Helper::Jiffies64 }) {
            function.code.extend([ld_map_value(Reg::R0, CLOCK, 0), ldx(Size::DW, Reg::R0, Reg::R0, 0)]);
            function.line_of.extend([line, line]);
        } else {
            function.code.push(insn);
            function.line_of.push(line);
        }
    }
}
