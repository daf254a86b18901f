//! What a feature is worth when a verdict is due: exact integer arithmetic over slots.
//!
//! Means, deviations, variances and rates have 8 fraction bits and round down. The formulas below are what the bytecode
//! computes; 128 bits suffice at every step, by the sample limits in [`super`].

use super::formula::Formula;
use super::{Expr, FlowProgram, Slot, SlotId, SlotKind, distinct, ranges, record};
use crate::ir::packet::Parsed;
use crate::spec::typed::{TimeUnit, Weight};

/// The content of one slot: a 32- or 64-bit slot in the low bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content(pub u128);

/// The raw value of a feature over the slots of one record, whose first packet came at `first_ns`, in a verdict at
/// `now`.
#[must_use]
pub fn value(
    program: &FlowProgram,
    slots: &[Content],
    (first_ns, now): (u64, u64),
    formula: &Formula<Expr>,
) -> i64 {
    formula.value(&|leaf| expr(program, slots, (first_ns, now), *leaf))
}

/// The raw value of a feature of a single packet.
#[must_use]
pub fn packet_value(packet: &Parsed, formula: &Formula<Expr>) -> i64 {
    formula.value(&|leaf| match leaf {
        Expr::Field(field) => packet.field(*field).cast_signed(),
        // Single packets have no record.
        Expr::Load(_)
        | Expr::Mean { .. }
        | Expr::Duration { .. }
        | Expr::Span { .. }
        | Expr::Std { .. }
        | Expr::Var { .. }
        | Expr::Ewma(_)
        | Expr::Distinct { .. }
        | Expr::Rate { .. } => 0,
    })
}

/// The raw value of one leaf.
fn expr(program: &FlowProgram, slots: &[Content], (first_ns, now): (u64, u64), expr: Expr) -> i64 {
    let load = |id: SlotId| {
        let content = slots.get(id.0 as usize).copied().unwrap_or(Content(0));
        load(program.slot(id), content, program.sample_limit)
    };
    // Sums are below 2^63 by the sample limits, except that nothing bounds a damaged record: keep the bits.
    let narrow = |value: u128| value as u64;
    let raw = match expr {
        Expr::Load(slot) => narrow(load(slot)),
        // Records have no packet.
        Expr::Field(_) => 0,
        Expr::Mean { sum, count } => mean(narrow(load(sum)), narrow(load(count))),
        Expr::Duration { unit } => duration(first_ns, narrow(load(SlotId::LAST_TIME)), unit),
        Expr::Span { first, last, unit } => {
            // As it is stored: empty is no time.
            let first = slots.get(first.0 as usize).map_or(record::NONE_64, |content| narrow(content.0));
            if first >> 63 == 1 { 0 } else { duration(first, narrow(load(last)), unit) }
        }
        Expr::Std { sum, squares, count, population } => {
            std(narrow(load(count)), narrow(load(sum)), load(squares), population)
        }
        Expr::Var { sum, squares, count, population } => {
            var(narrow(load(count)), narrow(load(sum)), load(squares), population)
        }
        Expr::Ewma(slot) => narrow(load(slot)) >> (ranges::EWMA_BITS.0 - ranges::MEAN_BITS.0),
        Expr::Distinct { first, bitmap } => {
            let words = (0..bitmap.words()).map(|word| narrow(load(SlotId(first.0 + word))));
            distinct::estimate(words.map(u64::count_ones).sum(), bitmap)
        }
        Expr::Rate { sum, pane } => {
            let duration = match pane {
                None => duration(first_ns, narrow(load(SlotId::LAST_TIME)), TimeUnit::Nanos),
                Some(pane) => covered(now, pane),
            };
            rate(narrow(load(sum)), duration)
        }
    };
    raw.cast_signed()
}

/// `min((last - first) / unit, limit)`, 0 when time went backwards.
#[must_use]
pub fn duration(first_ns: u64, last_ns: u64, unit: TimeUnit) -> u64 {
    let nanos = ranges::unit_nanos(unit);
    if unit.ticks() {
        let passed = (last_ns / nanos).saturating_sub(first_ns / nanos);
        return passed.min(ranges::DURATION_LIMIT.cast_unsigned());
    }
    let passed = last_ns.wrapping_sub(first_ns);
    // Times are below 2^63, so the top bit tells.
    let passed = if passed >> 63 == 1 { 0 } else { passed };
    (passed / nanos).min(ranges::DURATION_LIMIT.cast_unsigned())
}

/// The time from the beginning of the pane before that of `now` to `now`, which a window of two panes is about; at
/// most the limit of durations.
#[must_use]
pub fn covered(now: u64, pane: u64) -> u64 {
    let within = now.checked_rem(pane).unwrap_or(0);
    pane.saturating_add(within).min(ranges::DURATION_LIMIT.cast_unsigned())
}

/// `min(floor(256 * sum * 10^9 / nanos), limit)`, 0 for no time.
#[must_use]
pub fn rate(sum: u64, nanos: u64) -> u64 {
    let limit = u128::from(ranges::RATE_LIMIT.cast_unsigned());
    // 63 and 38 bits.
    let scaled = u128::from(sum) * u128::from(RATE_SCALE);
    scaled.checked_div(u128::from(nanos)).map_or(0, |quotient| quotient.min(limit) as u64)
}

/// Raw units of a rate in one per nanosecond.
pub const RATE_SCALE: u64 = 1_000_000_000 << ranges::MEAN_BITS.0;

/// The state of a weighted mean after a sample: the first one itself, then `state + floor((sample - state) / 2^n)`.
#[must_use]
pub const fn ewma(state: u64, sample: u64, weight: Weight) -> u64 {
    let aim = sample << ranges::EWMA_BITS.0;
    if state == record::NONE_64 {
        return aim;
    }
    let step = aim.wrapping_sub(state).cast_signed() >> weight.0;
    state.wrapping_add(step.cast_unsigned())
}

/// A slot's value: packets at most the sample limit, 0 for an empty minimum, first or weighted mean.
fn load(slot: &Slot, content: Content, sample_limit: u64) -> u128 {
    match slot.kind {
        SlotKind::Packets => content.0.min(u128::from(sample_limit)),
        SlotKind::Min | SlotKind::First | SlotKind::Ewma => {
            let none = match slot.width {
                super::Width::W32 => u128::from(record::NONE_32),
                super::Width::W64 | super::Width::W128 => u128::from(record::NONE_64),
            };
            if content.0 == none { 0 } else { content.0 }
        }
        SlotKind::Time
        | SlotKind::Judged
        | SlotKind::Pane
        | SlotKind::Count
        | SlotKind::Sum
        | SlotKind::Squares
        | SlotKind::Max
        | SlotKind::Last
        | SlotKind::Bits { .. } => content.0,
    }
}

/// `floor(256 * sum / n)`, 0 for `n = 0`.
///
/// In 64 bits: `256 * (sum / n) + 256 * (sum % n) / n`, where the remainder is below 2^32.
#[must_use]
pub fn mean(sum: u64, n: u64) -> u64 {
    let (Some(quotient), Some(remainder)) = (sum.checked_div(n), sum.checked_rem(n)) else { return 0 };
    quotient.wrapping_mul(256).wrapping_add(remainder.wrapping_mul(256) / n)
}

/// `floor(256 * sqrt((n*squares - sum²) / d))` with `d = n*(n-1)`, or `n²` for a population; 0 for `d = 0`.
///
/// As integers: `isqrt(floor(65536 * numerator / d))`, because the floor of a root is the root of the floor.
/// `65536 * (numerator / d) + 65536 * (numerator % d) / d` stays within 128 bits.
#[must_use]
pub fn std(n: u64, sum: u64, squares: u128, population: bool) -> u64 {
    // The root of a 128-bit number has 64 bits.
    variance(n, sum, squares, population, 65_536).isqrt() as u64
}

/// `floor(256 * (n*squares - sum²) / d)` with the divisors of [`std()`].
#[must_use]
pub fn var(n: u64, sum: u64, squares: u128, population: bool) -> u64 {
    // Front ends let no feature have more than 62 bits; of a damaged record the low ones are kept.
    variance(n, sum, squares, population, 256) as u64
}

/// `floor(scale * (n*squares - sum²) / d)`.
fn variance(n: u64, sum: u64, squares: u128, population: bool, scale: u128) -> u128 {
    let (n, sum) = (u128::from(n), u128::from(sum));
    let divisor = n * if population { n } else { n.saturating_sub(1) };
    if divisor == 0 {
        return 0;
    }
    // Never negative for sums of the same samples; a verdict may see a packet half counted, and two
    // processors may leave the squares behind the sum for a moment.
    let numerator = n.wrapping_mul(squares).saturating_sub(sum.wrapping_mul(sum));
    (numerator / divisor)
        .wrapping_mul(scale)
        .wrapping_add((numerator % divisor).wrapping_mul(scale) / divisor)
}

#[cfg(test)]
mod tests;
