//! The one operation that differs between builds: what time it is.
//!
//! Both builds are lowered with the call of the helper. In a replay build a load takes its place afterwards,
//! so that registers, spills and everything around the clock stay the same.

use super::maps::CLOCK;
use crate::bpf::asm::{ld_map_value, ldx};
use crate::bpf::module::Function;
use crate::bpf::{Helper, Insn, Reg, Size};

/// Replaces every call of the clock by a load from `.data.nn_clock`, which writes the same register and leaves
/// the others as they were.
pub(super) fn from_memory(function: &mut Function) {
    let code = std::mem::take(&mut function.code);
    let lines = std::mem::take(&mut function.line_of);
    for (insn, line) in code.into_iter().zip(lines) {
        if matches!(insn, Insn::Call { helper: Helper::KtimeGetNs }) {
            function.code.extend([ld_map_value(Reg::R0, CLOCK, 0), ldx(Size::DW, Reg::R0, Reg::R0, 0)]);
            function.line_of.extend([line, line]);
        } else {
            function.code.push(insn);
            function.line_of.push(line);
        }
    }
}
