//! Prices from measurements: least squares on relative errors, with no price below zero.

use super::constants::Constants;
use super::work::{Kind, Work};

/// Sweeps over all prices; far more than it takes until none changes.
const SWEEPS: usize = 5_000;
/// A change by less than this share ends the sweeps.
const SETTLED: f64 = 1e-7;
/// Room of the caches that is tried: instructions, the share of them beyond which none stays, and bytes of parameters.
const CODE: [f64; 7] = [2_000.0, 2_500.0, 3_000.0, 3_500.0, 4_000.0, 5_000.0, 6_000.0];
const RAMPS: [f64; 4] = [0.5, 1.0, 1.5, 2.0];
const DATA: [f64; 2] = [32_768.0, 49_152.0];
/// Bytes of the second data cache.
const SECOND_DATA: f64 = 1_048_576.0;

/// A measured piece of work.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sample {
    pub work: Work,
    pub ns: f64,
}

/// The room and the prices with the least sum of squared relative errors.
#[must_use]
pub fn fit(samples: &[Sample]) -> Constants {
    let mut best: Option<(f64, Constants)> = None;
    for code in CODE.iter().flat_map(|&code| RAMPS.map(|ramp| (code, ramp))) {
        for data_bytes in DATA {
            let constants = fit_prices(samples, &Constants::of_room(code, data_bytes, SECOND_DATA));
            let error = squares(samples, &constants);
            if best.as_ref().is_none_or(|(least, _)| error < *least) {
                best = Some((error, constants));
            }
        }
    }
    best.map(|(_, constants)| constants).unwrap_or_default()
}

/// Prices for caches of this room.
#[must_use]
pub fn fit_prices(samples: &[Sample], room: &Constants) -> Constants {
    let rows: Vec<Vec<f64>> = samples
        .iter()
        .map(|sample| sample.work.counts(room).iter().map(|count| count / sample.ns).collect())
        .collect();
    let solved = non_negative(&rows, &vec![1.0; rows.len()]);
    let mut prices = [0.0; Kind::ALL.len()];
    prices.iter_mut().zip(solved).for_each(|(price, solved)| *price = solved);
    room.with_prices(prices)
}

/// The relative difference of prediction and measurement.
#[must_use]
pub fn relative(sample: &Sample, constants: &Constants) -> f64 {
    sample.work.ns(constants) / sample.ns - 1.0
}

/// The median magnitude of the relative differences.
#[must_use]
pub fn median_error(samples: &[Sample], constants: &Constants) -> f64 {
    let mut errors: Vec<f64> = samples.iter().map(|sample| relative(sample, constants).abs()).collect();
    errors.sort_by(f64::total_cmp);
    let middle = errors.len() / 2;
    match (errors.get(middle), errors.len().is_multiple_of(2).then(|| errors.get(middle.wrapping_sub(1)))) {
        (Some(upper), Some(Some(lower))) => f64::midpoint(*lower, *upper),
        (Some(middle), _) => *middle,
        (None, _) => 0.0,
    }
}

/// The median error of every second sample, predicted by constants that were fitted to the others.
#[must_use]
pub fn held_out_error(samples: &[Sample]) -> f64 {
    let half = |parity: usize| -> Vec<Sample> { samples.iter().skip(parity).step_by(2).copied().collect() };
    median_error(&half(1), &fit(&half(0)))
}

fn squares(samples: &[Sample], constants: &Constants) -> f64 {
    samples.iter().map(|sample| relative(sample, constants).powi(2)).sum()
}

/// The `x >= 0` with the least `|rows x - target|`, by coordinate descent: each coordinate in turn takes its best
/// value for the others as they are. Columns of zeros give zeros.
#[must_use]
pub fn non_negative(rows: &[Vec<f64>], target: &[f64]) -> Vec<f64> {
    let width = rows.iter().map(Vec::len).max().unwrap_or(0);
    let column = |place: usize| -> Vec<f64> {
        rows.iter().map(|row| row.get(place).copied().unwrap_or(0.0)).collect()
    };
    let columns: Vec<Vec<f64>> = (0..width).map(column).collect();
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    // Normal equations: gradient = gram x - wanted.
    let gram: Vec<Vec<f64>> = columns.iter().map(|a| columns.iter().map(|b| dot(a, b)).collect()).collect();
    let wanted: Vec<f64> = columns.iter().map(|column| dot(column, target)).collect();
    let mut x = vec![0.0; width];
    for _ in 0..SWEEPS {
        let mut moved = 0.0f64;
        for (place, (row, wanted)) in gram.iter().zip(&wanted).enumerate() {
            let own = row.get(place).copied().unwrap_or(0.0);
            let old = x.get(place).copied().unwrap_or(0.0);
            if own <= 0.0 {
                continue;
            }
            let new = (old + (wanted - dot(row, &x)) / own).max(0.0);
            if let Some(value) = x.get_mut(place) {
                *value = new;
            }
            moved = moved.max((new - old).abs() * own.sqrt());
        }
        if moved < SETTLED {
            break;
        }
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exact_systems_are_solved() {
        let rows = vec![vec![1.0, 2.0], vec![3.0, 1.0], vec![0.5, 4.0]];
        let wanted = [2.0, 0.5];
        let target: Vec<f64> = rows.iter().map(|row| row[0] * wanted[0] + row[1] * wanted[1]).collect();
        let solved = non_negative(&rows, &target);
        assert!(solved.iter().zip(wanted).all(|(x, y)| (x - y).abs() < 1e-6), "{solved:?}");
    }

    #[test]
    fn nothing_becomes_negative_and_the_rest_is_best_without_it() {
        // The best solution without bounds is (2, -1): the second price stays at zero.
        let rows = vec![vec![1.0, 0.0], vec![0.0, 1.0], vec![1.0, 1.0]];
        let solved = non_negative(&rows, &[2.0, -1.0, 1.0]);
        assert!((solved[0] - 1.5).abs() < 1e-6, "{solved:?}");
        assert_eq!(solved[1], 0.0);
    }

    #[test]
    fn a_column_of_zeros_has_no_price() {
        let solved = non_negative(&[vec![0.0, 1.0], vec![0.0, 3.0]], &[2.0, 6.0]);
        assert_eq!(solved[0], 0.0);
        assert!((solved[1] - 2.0).abs() < 1e-9);
    }
}
