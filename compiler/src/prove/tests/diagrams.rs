//! Decision diagrams against the arithmetic of the machine.

use crate::lower::testing::Random;
use crate::prove::bdd::{Bits, Diagrams, Function, shl, shr};

/// What the bits are for a word.
fn value(diagrams: &Diagrams, bits: &Bits, word: u64) -> u64 {
    bits.iter()
        .enumerate()
        .fold(0, |value, (bit, &function)| value | u64::from(diagrams.holds(function, word)) << bit)
}

fn words(random: &mut Random) -> [u64; 6] {
    let word = random.next();
    [word, 0, u64::MAX, 1 << 63, word >> (word & 63), (1 << 63) - 1]
}

#[test]
fn operations_are_those_of_numbers() {
    let mut random = Random(11);
    for _ in 0..40 {
        let mut diagrams = Diagrams::new();
        let mut word = [Function::NEVER; 64];
        for (bit, place) in (0u8..).zip(&mut word) {
            *place = diagrams.bit(bit);
        }
        let constant = random.next() >> (random.next() % 64);
        let count = (random.next() % 64) as usize;
        let number = Diagrams::constant(constant);
        let [.., sign] = word;
        let sum = diagrams.add(&word, &number, false);
        let difference = diagrams.add(&number, &word, true);
        let scaled = diagrams.scale(&word, constant & 0xff);
        let flag = diagrams.less(&word, &number);
        let flags = diagrams.choose_all(flag, &word, &number);
        let both = diagrams.zip(&word, &number, Diagrams::and);
        let either = diagrams.zip(&word, &number, Diagrams::or);
        let differ = diagrams.zip(&sum, &number, Diagrams::xor);
        for x in words(&mut random) {
            let is =
                |bits: &Bits, wanted: u64| assert_eq!(value(&diagrams, bits, x), wanted, "{x} {constant}");
            is(&word, x);
            is(&sum, x.wrapping_add(constant));
            is(&difference, constant.wrapping_sub(x));
            is(&scaled, x.wrapping_mul(constant & 0xff));
            is(&flags, x.cast_signed().min(constant.cast_signed()).cast_unsigned());
            is(&both, x & constant);
            is(&either, x | constant);
            is(&differ, x.wrapping_add(constant) ^ constant);
            is(&shl(&word, count), x << count);
            is(&shr(&word, count, Function::NEVER), x >> count);
            is(&shr(&word, count, sign), (x.cast_signed() >> count).cast_unsigned());
        }
    }
}

#[test]
fn equal_functions_have_one_number() {
    let mut diagrams = Diagrams::new();
    let [a, b, c] = [5, 60, 7].map(|bit| diagrams.bit(bit));
    let (ab, bc) = (diagrams.and(a, b), diagrams.and(b, c));
    assert_eq!(diagrams.and(ab, c), diagrams.and(a, bc));
    let (not_a, not_b) = (diagrams.not(a), diagrams.not(b));
    let either = diagrams.or(not_a, not_b);
    assert_eq!(diagrams.not(either), ab);
    assert_eq!(diagrams.not(not_a), a);
    assert_eq!(diagrams.choose(a, b, b), b);
}

/// Sums of constants, shifts and tests of signs stay small, whatever the constants.
#[test]
fn diagrams_of_clamps_are_small() {
    let mut random = Random(5);
    for _ in 0..20 {
        let mut diagrams = Diagrams::new();
        let mut word = [Function::NEVER; 64];
        for (bit, place) in (0u8..).zip(&mut word) {
            *place = diagrams.bit(bit);
        }
        for _ in 0..4 {
            word = diagrams.add(&word, &Diagrams::constant(random.next()), false);
            let [.., sign] = word;
            word = diagrams.choose_all(sign, &[Function::NEVER; 64], &word);
        }
        assert!(diagrams.size() < 100_000, "{} nodes", diagrams.size());
    }
}
