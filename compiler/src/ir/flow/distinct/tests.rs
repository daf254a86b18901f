//! Hashes and estimates against values from elsewhere, and the error against the theory.

use std::collections::BTreeSet;

use super::*;

const SIZES: std::ops::RangeInclusive<u8> = 6..=12;

#[test]
fn hashes_are_these() {
    // Computed with another program.
    let known = [
        (0, 0),
        (1, 0x4179_b061_a1b9_50b1),
        (2, 0x1c99_6330_4372_a162),
        (80, 0x7918_9bee_cae7_1ebd),
        (443, 0x067a_6a33_7dd0_28e8),
    ];
    for (value, expected) in known {
        assert_eq!(hash(value), expected, "{value}");
    }
    assert_eq!(fold(Host::from_ipv4([10, 0, 0, 1])), 0x0100_000a_ffff_0000);
    // 0x4179… begins with 0100 0001: bit 1 of word 1 of 256 bits.
    assert_eq!(place(1, Bitmap(8)), (1, 2));
    assert_eq!(place(1, Bitmap(6)), (0, 1 << 16));
}

#[test]
fn estimates_are_the_logarithm_within_one_unit() {
    for log in SIZES {
        let bits = 1_u32 << log;
        for set in 0..bits {
            let exact = f64::from(bits) * (f64::from(bits) / f64::from(bits - set)).ln() * 256.0;
            let raw = estimate(set, Bitmap(log)) as f64;
            assert!((raw - exact).abs() < 1.01, "{set} of {bits}: {raw}, {exact}");
        }
        // A full bitmap counts like one with a single clear bit; nothing counts as nothing.
        assert_eq!(estimate(bits, Bitmap(log)), estimate(bits - 1, Bitmap(log)));
        assert_eq!(estimate(0, Bitmap(log)), 0);
    }
    // 256 * 64 * ln(64/63) = 258.02, 256 * 4096 * ln(4096) = 8,721,810.9.
    assert_eq!((estimate(1, Bitmap(6)), estimate(4096, Bitmap(12))), (258, 8_721_810));
}

const RUNS: usize = 400;

/// Mean and standard deviation of what the estimate is off for sets of so many values.
fn measured(log: u8, count: usize, mut set: impl FnMut(usize) -> BTreeSet<u64>) -> (f64, f64) {
    let errors: Vec<f64> = (0..RUNS)
        .map(|_| {
            let places: BTreeSet<(u32, u64)> =
                set(count).into_iter().map(|value| place(value, Bitmap(log))).collect();
            let set = u32::try_from(places.len()).unwrap();
            estimate(set, Bitmap(log)) as f64 / 256.0 - count as f64
        })
        .collect();
    let mean = errors.iter().sum::<f64>() / RUNS as f64;
    let squares: f64 = errors.iter().map(|error| (error - mean).powi(2)).sum();
    (mean, (squares / (RUNS - 1) as f64).sqrt())
}

/// Scans go through ports and addresses in order, so sets in order must be as good as random ones.
#[test]
fn errors_are_what_the_paper_says() {
    let mut state = 7_u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 33
    };
    for log in [6_u8, 8, 10] {
        let bits = f64::from(1_u32 << log);
        for load in [0.25_f64, 1.0, 2.0] {
            let count = (bits * load) as usize;
            let expected = load.exp() - load - 1.0;
            // Windows of neighbouring values overlap: of so many sets, only these are independent.
            let check = |name: &str, values: usize, set: &mut dyn FnMut(usize) -> BTreeSet<u64>| {
                let (mean, deviation) = measured(log, count, set);
                let theory = (bits * expected).sqrt();
                let place = format!(
                    "{name}, {count} in {bits} bits: {mean:.2} ± {deviation:.2}, theory ± {theory:.2}"
                );
                let sets = (values / count).min(RUNS) as f64;
                // Four times the error that measuring so many sets has itself. The formula is for many bits: with few
                // clear ones left the deviation is a tenth larger.
                assert!((mean - expected / 2.0).abs() < 4.0 * theory / sets.sqrt() + 1.0, "{place}");
                assert!((deviation / theory - 1.0).abs() < 4.0 / (2.0 * sets).sqrt() + 0.1, "{place}");
            };
            check("random ports", usize::MAX, &mut |count| {
                let mut set = BTreeSet::new();
                while set.len() < count {
                    set.insert(random() & 0xffff);
                }
                set
            });
            check("ports in order", 1 << 16, &mut |count| {
                let start = random() % (65_536 - count as u64);
                (start..start + count as u64).collect()
            });
            check("addresses in order", 1 << 32, &mut |count| {
                let start = random() as u32;
                let address = |at: u32| fold(Host::from_ipv4(start.wrapping_add(at).to_be_bytes()));
                (0..count as u32).map(address).collect()
            });
            check("interfaces of a network", usize::MAX, &mut |count| {
                let network = random().to_be_bytes();
                let address = |at: u64| {
                    let mut bytes = [0; 16];
                    bytes[..8].copy_from_slice(&network);
                    bytes[8..].copy_from_slice(&(at + 1).to_be_bytes());
                    fold(Host(bytes))
                };
                (0..count as u64).map(address).collect()
            });
        }
    }
}
