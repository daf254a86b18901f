//! A function of one number by a table in the slot.
//!
//! The number is masked to the entries that there are; the certificate says that no mask changes anything.

use std::ops::Range;

use super::emit::Emitter;
use crate::bpf::{AluOp, Size};
use crate::ir::Table;
use crate::lower::scratch::Buffer;

/// Where the table and its numbers stand.
pub(super) struct Place {
    /// Of the entries, within the slot.
    pub(super) offset: u32,
    pub(super) inputs: Buffer,
    pub(super) results: Buffer,
}

/// The entries of some of the values, or numbers between two entries.
pub(super) fn emit(emitter: &mut Emitter, table: &Table, values: Range<usize>, place: &Place) {
    let entries = emitter.pointer_to(place.offset);
    let mask = (1 << table.bits) - 1;
    for index in values {
        let b = &mut emitter.b;
        let x = b.load(place.inputs.element, emitter.scratch, place.inputs.at(index));
        if index >= table.mapped {
            b.store(place.results.element, emitter.scratch, place.results.at(index), x);
            continue;
        }
        let rest = (table.fraction > 0).then(|| {
            let rest = b.compute(AluOp::And, x, (1 << table.fraction) - 1);
            b.rsh(x, i32::from(table.fraction));
            rest
        });
        b.and(x, mask);
        b.lsh(x, 1);
        let at = b.compute(AluOp::Add, entries, x);
        let y = b.load(Size::H, at, 0);
        if let Some(rest) = rest {
            let next = b.load(Size::H, at, 2);
            b.sub(next, y);
            b.mul(next, rest);
            b.arsh(next, i32::from(table.fraction));
            b.add(y, next);
        }
        b.store(place.results.element, emitter.scratch, place.results.at(index), y);
    }
}
