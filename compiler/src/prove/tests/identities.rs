//! Every rewriting is an identity: random expressions over random operands, evaluated as written and as rewritten.

use std::collections::HashMap;

use crate::bpf::Size;
use crate::ir::Interval;
use crate::lower::testing::Random;
use crate::prove::term::{Id, Node, Terms};

/// Values of the features that expressions are over.
type Row = [u64; 4];

/// Ranges of the features.
const RANGES: [Interval; 4] = [
    Interval { low: i64::MIN, high: i64::MAX },
    Interval { low: 0, high: 1 },
    Interval { low: 0, high: 255 },
    Interval { low: -1000, high: 70_000 },
];

/// What a term is for a row.
fn value(terms: &Terms, id: Id, row: &Row, known: &mut HashMap<Id, u64>) -> u64 {
    if let Some(&value) = known.get(&id) {
        return value;
    }
    let mut of = |part: Id| value(terms, part, row, known);
    let signed = |value: u64| value.cast_signed();
    let result = match terms.node(id) {
        Node::Constant(value) => *value,
        Node::Feature(index) => row[*index as usize],
        Node::Sum { constant, terms } => terms.iter().fold(*constant, |sum, term| {
            let (one, other) = term.factors;
            sum.wrapping_add(of(one).wrapping_mul(of(other)).wrapping_mul(term.coefficient))
        }),
        Node::And(a, b) => of(*a) & of(*b),
        Node::Or(a, b) => of(*a) | of(*b),
        Node::Xor(a, b) => of(*a) ^ of(*b),
        Node::Shr(a, count) => of(*a) >> count,
        Node::Sar(a, count) => (signed(of(*a)) >> count).cast_unsigned(),
        Node::SarBy(a, count) => (signed(of(*a)) >> (of(*count) & 63)).cast_unsigned(),
        Node::Choice(flag, a, b) => {
            let flag = of(*flag);
            assert!(flag <= 1, "a choice by {flag}");
            if flag == 1 { of(*a) } else { of(*b) }
        }
        Node::Negative(a) => u64::from(signed(of(*a)) < 0),
        Node::Less(a, b) => u64::from(signed(of(*a)) < signed(of(*b))),
        other @ (Node::Active
        | Node::Value { .. }
        | Node::Partial { .. }
        | Node::Parameter { .. }
        | Node::At { .. }
        | Node::Picked { .. }) => unreachable!("{other:?} is in no expression"),
    };
    let facts = terms.facts(id);
    assert!((facts.range.low..=facts.range.high).contains(&signed(result)), "{result} {facts:?}");
    assert_eq!(result & !facts.bits, 0, "{facts:?} of {:?}", terms.node(id));
    known.insert(id, result);
    result
}

/// An expression: as a term and as values for the rows.
#[derive(Clone)]
struct Both {
    id: Id,
    values: Vec<u64>,
}

fn rows(random: &mut Random) -> Vec<Row> {
    (0..12)
        .map(|_| {
            let mut row = [0; 4];
            for (place, range) in row.iter_mut().zip(RANGES) {
                *place = match random.next() % 6 {
                    0 => range.low,
                    1 => range.high,
                    2 => range.low.max(-1).min(range.high),
                    _ => random.within(range.low, range.high),
                }
                .cast_unsigned();
            }
            row
        })
        .collect()
}

fn constant(random: &mut Random) -> u64 {
    match random.next() % 8 {
        0 => 0,
        1 => 1,
        2 => u64::MAX,
        3 => 1 << (random.next() % 64),
        4 => (1 << (random.next() % 64)) - 1,
        5 => random.next() % 64,
        _ => random.next(),
    }
}

/// One step: an operation on expressions that are there, as code does it.
fn step(terms: &mut Terms, random: &mut Random, all: &[Both]) -> Both {
    let mut pick = || all[(random.next() % all.len() as u64) as usize].clone();
    let (a, b, c) = (pick(), pick(), pick());
    let count = (random.next() % 64) as u32;
    let joined = |join: &dyn Fn(u64, u64) -> u64| -> Vec<u64> {
        a.values.iter().zip(&b.values).map(|(&a, &b)| join(a, b)).collect()
    };
    let mapped = |map: &dyn Fn(u64) -> u64| -> Vec<u64> { a.values.iter().map(|&a| map(a)).collect() };
    let sign = |value: u64| value.cast_signed() >> 63;
    let (id, values) = match random.next() % 18 {
        0 => (terms.add(a.id, b.id, 1), joined(&u64::wrapping_add)),
        1 => (terms.sub(a.id, b.id), joined(&u64::wrapping_sub)),
        2 => (terms.and(a.id, b.id), joined(&|a, b| a & b)),
        3 => (terms.or(a.id, b.id), joined(&|a, b| a | b)),
        4 => (terms.xor(a.id, b.id), joined(&|a, b| a ^ b)),
        5 => (terms.shr(a.id, count), mapped(&|a| a >> count)),
        6 => (terms.sar(a.id, count), mapped(&|a| (a.cast_signed() >> count).cast_unsigned())),
        7 => (terms.shl(a.id, count), mapped(&|a| a << count)),
        8 => (terms.shr(a.id, 63), mapped(&|a| a >> 63)),
        9 => (terms.sar(a.id, 63), mapped(&|a| sign(a).cast_unsigned())),
        10 => (terms.sar_by(a.id, b.id), joined(&|a, b| (a.cast_signed() >> (b & 63)).cast_unsigned())),
        11 => (terms.mul(a.id, b.id), joined(&u64::wrapping_mul)),
        12 => (terms.max_zero(a.id), mapped(&|a| a.cast_signed().max(0).cast_unsigned())),
        13 => (terms.min_zero(a.id), mapped(&|a| a.cast_signed().min(0).cast_unsigned())),
        14 => (terms.less(a.id, b.id), joined(&|a, b| u64::from(a.cast_signed() < b.cast_signed()))),
        15 => {
            // As code without branches compares.
            let difference = terms.sub(a.id, b.id);
            let differ = terms.xor(a.id, b.id);
            let flipped = terms.xor(a.id, difference);
            let overflow = terms.and(differ, flipped);
            let sign = terms.xor(difference, overflow);
            (terms.shr(sign, 63), joined(&|a, b| u64::from(a.cast_signed() < b.cast_signed())))
        }
        16 => {
            // As it selects, by the sign of a third number.
            let mask = terms.sar(c.id, 63);
            let change = terms.xor(a.id, b.id);
            let change = terms.and(change, mask);
            let values = joined(&|a, b| a ^ b);
            let values = values.iter().zip(&c.values).map(|(&change, &c)| change & sign(c).cast_unsigned());
            let values = values.zip(&a.values).map(|(change, &a)| a ^ change).collect();
            (terms.xor(a.id, change), values)
        }
        _ => {
            // The mask of a number that is kept where it is not negative.
            let flag = terms.shr(c.id, 63);
            let mask = terms.add_constant(flag, u64::MAX);
            let values =
                a.values.iter().zip(&c.values).map(|(&a, &c)| a & !sign(c).cast_unsigned()).collect();
            (terms.and(a.id, mask), values)
        }
    };
    Both { id, values }
}

#[test]
fn rewritings_are_identities() {
    let mut random = Random(3);
    for _ in 0..4000 {
        let mut terms = Terms::new(u64::MAX, usize::MAX);
        let rows = rows(&mut random);
        let mut all: Vec<Both> = Vec::new();
        for (index, range) in RANGES.into_iter().enumerate() {
            let id = terms.intern_within(Node::Feature(index as u32), range);
            all.push(Both { id, values: rows.iter().map(|row| row[index]).collect() });
        }
        for _ in 0..3 {
            let constant = constant(&mut random);
            let id = terms.constant(constant);
            all.push(Both { id, values: vec![constant; rows.len()] });
        }
        for _ in 0..12 {
            let next = step(&mut terms, &mut random, &all);
            for (row, &wanted) in rows.iter().zip(&next.values) {
                let got = value(&terms, next.id, row, &mut HashMap::new());
                assert_eq!(got, wanted, "{:?}", terms.node(next.id));
            }
            all.push(next);
        }
    }
}

/// The forms that network code writes become the terms that the reference builds.
#[test]
fn idioms_are_recognised() {
    let mut terms = Terms::new(u64::MAX, usize::MAX);
    let [x, y, b] = [0, 1, 2].map(|index| terms.intern(Node::Parameter { offset: index, size: Size::DW }));
    for (left, right) in [(x, y), (y, x)] {
        let difference = terms.sub(left, right);
        let differ = terms.xor(left, right);
        let flipped = terms.xor(left, difference);
        let overflow = terms.and(differ, flipped);
        let sign = terms.xor(difference, overflow);
        let less = terms.less(left, right);
        assert_eq!(terms.shr(sign, 63), less);
        let mask = terms.sar(sign, 63);
        let change = terms.xor(left, right);
        let change = terms.and(change, mask);
        let chosen = terms.xor(left, change);
        assert_eq!(chosen, terms.choice(less, right, left));
    }
    let zero = terms.constant(0);
    let difference = terms.sub(zero, x);
    let differ = terms.xor(zero, x);
    let flipped = terms.xor(zero, difference);
    let overflow = terms.and(differ, flipped);
    let sign = terms.xor(difference, overflow);
    assert_eq!(terms.shr(sign, 63), terms.less(zero, x));
    let zero_behind = terms.less(x, zero);
    assert_eq!(zero_behind, terms.negative(x));
    let flag = terms.negative(b);
    let shifted = terms.shr(b, 59);
    let sixteen = terms.constant(16);
    assert_eq!(terms.and(shifted, sixteen), terms.scale(flag, 16));
}

/// `min(max(x - low, 0) - span, 0)` is `clamp(x, low, low + span) - (low + span)` for numbers below 2^62.
#[test]
fn clamps_by_differences_are_clamps() {
    let mut random = Random(9);
    let most = crate::check::MOST_RAW;
    for _ in 0..200_000 {
        let mut number = |low: i64, high: i64| match random.next() % 4 {
            0 => low,
            1 => high,
            _ => random.within(low, high),
        };
        let x = number(-most - 1, most + 1).clamp(-most, most);
        let low = number(-most, most);
        let high = number(low, most);
        let by_differences = ((x - low).max(0) - (high - low)).min(0);
        assert_eq!(by_differences, x.clamp(low, high) - high);
    }
}
