//! Formulas against exact arithmetic.

use proptest::prelude::*;

use super::*;

const WHOLE: FractionBits = FractionBits(0);

#[test]
fn logarithms_are_rounded_down_by_at_most_one_step() {
    let close = |raw: i64, bits: FractionBits| {
        let exact = (raw as f64 / f64::from(1 << bits.0)).log2() * 256.0;
        let found = log2(raw, bits) as f64;
        assert!(found <= exact + 1e-6 && found > exact - 2.0, "{raw}: {found} {exact}");
    };
    (1..65_536).for_each(|raw| close(raw, WHOLE));
    (256..65_536).for_each(|raw| close(raw, FRACTION));
    for shift in 0..62 {
        close(1 << shift, WHOLE);
        assert_eq!(log2(1 << shift, WHOLE), shift << 8);
    }
    for (raw, bits) in [(0, WHOLE), (-1, WHOLE), (i64::MIN, FRACTION), (255, FRACTION)] {
        assert_eq!(log2(raw, bits), 0);
    }
}

#[test]
fn quotients_are_rounded_down_and_zero_by_zero() {
    let quotient = |a: i64, b: i64| {
        let leaf = |raw| Formula::leaf(raw, WHOLE, Interval { low: -1000, high: 1000 });
        let divisor = Formula::leaf(b, WHOLE, Interval { low: 0, high: 1000 });
        Formula::binary(Binary::Div, leaf(a), divisor).unwrap().value(&|raw| *raw)
    };
    assert_eq!(quotient(1, 3), 85);
    assert_eq!(quotient(-1, 3), -86);
    assert_eq!(quotient(-3, 3), -256);
    assert_eq!([quotient(5, 0), quotient(-5, 0), quotient(0, 0)], [0; 3]);
}

#[test]
fn remainders_are_never_negative_and_zero_by_zero() {
    let rest = |a: i64, p: FractionBits, b: i64, q: FractionBits| {
        let left = Formula::leaf(a, p, Interval { low: -5000, high: 5000 });
        let divisor = Formula::leaf(b, q, Interval { low: 0, high: 5000 });
        let formula = Formula::binary(Binary::Rem, left, divisor).unwrap();
        (formula.value(&|raw| *raw), formula.bits.0)
    };
    assert_eq!(rest(7, WHOLE, 3, WHOLE), (1, 0));
    assert_eq!(rest(-7, WHOLE, 3, WHOLE), (2, 0));
    assert_eq!(rest(-6, WHOLE, 3, WHOLE), (0, 0));
    assert_eq!(rest(6, WHOLE, 3, WHOLE), (0, 0));
    assert_eq!([rest(5, WHOLE, 0, WHOLE), rest(-5, WHOLE, 0, WHOLE)], [(0, 0); 2]);
    // 2.5 by 1, -2.5 by 1, 3 by 0.75: halves and quarters in 1/256.
    assert_eq!(rest(640, FRACTION, 1, WHOLE), (128, 8));
    assert_eq!(rest(-640, FRACTION, 1, WHOLE), (128, 8));
    assert_eq!(rest(3, WHOLE, 192, FRACTION), (0, 8));
    assert_eq!(rest(-1, WHOLE, 192, FRACTION), (128, 8));
}

#[test]
fn truth_values_are_joined_bit_by_bit() {
    let truth = |raw: i64| Formula::leaf(raw, WHOLE, Interval { low: 0, high: 1 });
    for (a, b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let joined = |op| Formula::binary(op, truth(a), truth(b)).unwrap();
        assert_eq!(joined(Binary::And).value(&|raw| *raw), i64::from(a == 1 && b == 1));
        assert_eq!(joined(Binary::Or).value(&|raw| *raw), i64::from(a == 1 || b == 1));
        assert!(joined(Binary::Or).is_truth());
    }
    let number = Formula::leaf(2, WHOLE, Interval { low: 0, high: 2 });
    assert_eq!(Formula::binary(Binary::And, truth(1), number.clone()), Err(Misfit::NoTruth));
    assert_eq!(Formula::binary(Binary::Or, number, truth(1)), Err(Misfit::NoTruth));
}

#[test]
fn what_could_pass_62_bits_is_refused() {
    let wide = |high| Formula::leaf((), WHOLE, Interval { low: 0, high });
    assert_eq!(Formula::binary(Binary::Mul, wide(1 << 31), wide(1 << 31)), Err(Misfit::TooWide));
    assert!(Formula::binary(Binary::Mul, wide(1 << 30), wide(1 << 31)).is_ok());
    assert_eq!(Formula::binary(Binary::Div, wide(1 << 55), wide(1)), Err(Misfit::TooWide));
    let negative = Formula::leaf((), WHOLE, Interval { low: -1, high: 1 });
    assert_eq!(Formula::binary(Binary::Div, wide(1), negative), Err(Misfit::NegativeDivisor));
}

/// Code subtracts the ends of a clip from values and values from them.
#[test]
fn clips_are_no_wider_than_their_values() {
    let ends = |low, high, clip| {
        let formula = Formula::clip(Formula::leaf((), WHOLE, Interval { low, high }), clip);
        let Node::Clip(_, kept) = formula.node else { unreachable!() };
        assert_eq!(kept, formula.range);
        (kept.low, kept.high)
    };
    let far = Interval { low: -(1 << 62), high: 5 };
    assert_eq!(ends(0, i64::MAX, far), (0, 5));
    assert_eq!(ends(-7, 3, far), (-7, 3));
    assert_eq!(ends(6, 9, far), (5, 5));
    assert_eq!(ends(2, 9, Interval { low: 3, high: 1 << 62 }), (3, 9));
}

/// A value with its range.
fn side() -> impl Strategy<Value = Formula<i64>> {
    (any::<bool>(), -(1_i64 << 24)..1 << 24, 0_i64..1 << 24, 0.0..=1.0).prop_map(|(whole, low, span, at)| {
        let high = low + span;
        let raw = low + (span as f64 * at) as i64;
        Formula::leaf(raw.clamp(low, high), if whole { WHOLE } else { FRACTION }, Interval { low, high })
    })
}

fn real(raw: i64, bits: FractionBits) -> f64 {
    raw as f64 / f64::from(1 << bits.0)
}

proptest! {
    #[test]
    fn results_are_right_and_in_range(left in side(), right in side(), which in 0..7_usize) {
        let op =
            [Binary::Add, Binary::Sub, Binary::Mul, Binary::Div, Binary::Rem, Binary::Less, Binary::Equal][which];
        let (a, b) = (left.value(&|raw| *raw), right.value(&|raw| *raw));
        let (a, b) = (real(a, left.bits), real(b, right.bits));
        let negative = right.range.low < 0;
        let Ok(formula) = Formula::binary(op, left, right) else {
            prop_assert!(matches!(op, Binary::Div | Binary::Rem) && negative);
            return Ok(());
        };
        let raw = formula.value(&|raw| *raw);
        prop_assert!(formula.range.low <= raw && raw <= formula.range.high, "{raw} {:?}", formula.range);
        let exact = match op {
            Binary::Add => a + b,
            Binary::Sub => a - b,
            Binary::Mul => a * b,
            Binary::Div => if b == 0.0 { 0.0 } else { a / b },
            // Exact: both are multiples of 1/256 below 2^25.
            Binary::Rem => if b == 0.0 { 0.0 } else { a - b * (a / b).floor() },
            Binary::And | Binary::Or => unreachable!(),
            Binary::Less => f64::from(u8::from(a < b)),
            Binary::Equal => f64::from(u8::from(a == b)),
        };
        let scaled = exact * f64::from(1 << formula.bits.0);
        prop_assert!(raw as f64 <= scaled && scaled < raw as f64 + 1.0, "{op:?}: {raw} {scaled}");
    }

    #[test]
    fn one_sided_operations_stay_in_range(inner in side(), low in -100_i64..100, span in 0_i64..100) {
        let interval = Interval { low, high: low + span };
        let raw = inner.value(&|raw| *raw);
        let clipped = Formula::clip(inner.clone(), interval);
        prop_assert_eq!(clipped.value(&|raw| *raw), raw.max(low).min(low + span));
        for formula in [clipped, Formula::unary(Unary::Abs, inner.clone()), Formula::unary(Unary::Log2, inner)] {
            let value = formula.value(&|raw| *raw);
            prop_assert!(formula.range.low <= value && value <= formula.range.high);
        }
    }
}
