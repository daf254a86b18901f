//! Tests of feature rows.

use proptest::prelude::*;

use super::decimal::{Decimal, NotDecimal, read};
use super::{Columns, parse};
use crate::ir::{FractionBits, Input, Interval};

fn input(name: &str, bits: u8) -> Input {
    Input {
        name: name.to_owned(),
        fraction_bits: FractionBits(bits),
        range: Interval { low: i64::MIN, high: i64::MAX },
    }
}

#[test]
fn decimals_round_to_nearest_with_halves_away_from_zero() {
    let bits = FractionBits(1);
    for (text, raw) in [
        ("0.25", 1),
        ("-0.25", -1),
        ("0.2499999999999999999999999999", 0),
        ("0.75", 2),
        ("1e0", 2),
        ("-3.5", -7),
    ] {
        assert_eq!(read(text, bits), Ok(raw), "{text}");
    }
    assert_eq!(read(" +12 ", FractionBits(0)), Ok(12));
    assert_eq!(read(".5", FractionBits(8)), Ok(128));
    assert_eq!(read("5.", FractionBits(0)), Ok(5));
    assert_eq!(read("1000000000000000000000e-21", FractionBits(3)), Ok(8));
    assert_eq!(read("0.1", FractionBits(40)), Ok(109_951_162_778));
}

#[test]
fn numbers_beyond_64_bits_saturate() {
    for (text, raw) in [
        ("1e30", i64::MAX),
        ("-1e30", i64::MIN),
        ("9223372036854775807", i64::MAX),
        ("9223372036854775808", i64::MAX),
        ("-9223372036854775808", i64::MIN),
        ("1e999999999999999999999", i64::MAX),
        ("1e-999999999999999999999", 0),
        ("0e99999", 0),
    ] {
        assert_eq!(read(text, FractionBits(0)), Ok(raw), "{text}");
    }
    assert_eq!(read("1e12", FractionBits(40)), Ok(i64::MAX));
    assert_eq!(read("99999999999999999", FractionBits(63)), Ok(i64::MAX));
}

#[test]
fn what_is_not_a_number_says_why() {
    for (text, reason) in [
        ("", NotDecimal::Empty),
        ("  ", NotDecimal::Empty),
        ("NaN", NotDecimal::NaN),
        ("-inf", NotDecimal::Infinite),
        ("Infinity", NotDecimal::Infinite),
        ("1,5", NotDecimal::Malformed),
        ("0x10", NotDecimal::Malformed),
        ("-", NotDecimal::Malformed),
        (".", NotDecimal::Malformed),
        ("1e", NotDecimal::Malformed),
        ("--1", NotDecimal::Malformed),
    ] {
        assert_eq!(read(text, FractionBits(8)), Err(reason), "{text:?}");
    }
}

proptest! {
    #[test]
    fn printed_values_read_back(raw: i64, bits in 0u8..=63) {
        let fraction = FractionBits(bits);
        let text = Decimal { raw, fraction }.to_string();
        prop_assert_eq!(read(&text, fraction), Ok(raw));
    }

    #[test]
    fn short_decimals_agree_with_wide_integers(digits in -999_999_999i64..=999_999_999, places in 0u32..9, bits in 0u8..30) {
        let sign = if digits < 0 { "-" } else { "" };
        let ten = 10i64.pow(places);
        let (whole, rest) = (digits.abs() / ten, digits.abs() % ten);
        let text = format!("{sign}{whole}.{rest:0width$}", width = places as usize);
        let scaled = i128::from(digits.abs()) << bits;
        let ten = i128::from(ten);
        let mut expected = (2 * scaled + ten) / (2 * ten);
        if digits < 0 {
            expected = -expected;
        }
        prop_assert_eq!(read(&text, FractionBits(bits)).map(i128::from), Ok(expected));
    }
}

#[test]
fn columns_match_by_name_and_others_are_ignored() {
    let inputs = [input("b", 0), input("a", 1)];
    let rows = parse("f.csv", b"a,x,b\n1.5,zz,2\n-1,,3\n", &inputs, Columns::ByName).unwrap();
    assert_eq!(rows.values, [2, 3, 3, -2]);
    assert_eq!(rows.len(), 2);
}

#[test]
fn a_header_is_optional_by_position() {
    let inputs = [input("a", 0), input("b", 0)];
    let with = parse("f.csv", b"\xef\xbb\xbfp,q\n1,2\n", &inputs, Columns::ByPosition).unwrap();
    let without = parse("f.csv", b"1,2\r\n", &inputs, Columns::ByPosition).unwrap();
    assert_eq!(with, without);
}

fn codes(text: &[u8], columns: Columns) -> Vec<(&'static str, crate::diag::Origin)> {
    let inputs = [input("a", 0), input("b", 0)];
    parse("f.csv", text, &inputs, columns)
        .expect_err("the file is refused")
        .into_iter()
        .map(|diagnostic| {
            assert!(!diagnostic.help.is_empty());
            (diagnostic.code.id, diagnostic.origin)
        })
        .collect()
}

#[test]
fn every_mistake_has_its_code_and_place() {
    use crate::diag::Origin;
    let row = |line, column: Option<&str>| Origin::Row {
        file: "f.csv".to_owned(),
        line,
        column: column.map(str::to_owned),
    };
    let file = Origin::File { file: "f.csv".to_owned() };
    assert_eq!(
        codes(b"a,b\n1,nan\n2,3\ninf,x\n", Columns::ByName),
        [("E0501", row(2, Some("b"))), ("E0501", row(4, Some("a"))), ("E0501", row(4, Some("b")))]
    );
    assert_eq!(codes(b"a,c\n1,2\n", Columns::ByName), [("E0502", row(1, None))]);
    assert_eq!(codes(b"a,b\n1\n", Columns::ByName), [("E0503", row(2, None))]);
    assert_eq!(codes(b"", Columns::ByName), [("E0504", file.clone())]);
    assert_eq!(codes(b"a,b\n", Columns::ByPosition), [("E0504", file)]);
    assert_eq!(codes(b"a,b,a\n1,2,3\n", Columns::ByName), [("E0505", row(1, Some("a")))]);
    assert_eq!(codes(b"1,2,3\n", Columns::ByPosition), [("E0506", row(1, None))]);
    assert_eq!(codes(b"a,b\n1,\xff\n", Columns::ByName), [("E0507", row(2, None))]);
    assert_eq!(codes(b"nan,1\n", Columns::ByPosition), [("E0501", row(1, Some("a")))]);
}

proptest! {
    /// Anything that looks like rows, and anything at all.
    #[test]
    fn no_bytes_panic(
        cells in prop::collection::vec("[-+0-9.eE,\"\n\ra-c ]{0,12}", 0..24),
        bytes in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        crate::withstand::feature_rows(&bytes);
        crate::withstand::feature_rows(cells.join(",").as_bytes());
        crate::withstand::feature_rows(format!("a,b,c\n{}", cells.join("\n")).as_bytes());
    }
}
