//! Tables against their functions.

use super::*;
use crate::ir::Table;
use crate::model::Levels;

const ALL: [Function; 19] = [
    Function::Sigmoid,
    Function::Tanh,
    Function::Softplus,
    Function::Softsign,
    Function::Elu { alpha: 1.0, gamma: 1.0, width: 1.0 },
    Function::Elu { alpha: 1.673_263_242, gamma: 1.050_700_987, width: 1.0 },
    Function::Elu { alpha: 2.0, gamma: 1.0, width: 2.0 },
    Function::Gelu,
    Function::TanhGelu,
    Function::Silu { slope: 1.0 },
    Function::Silu { slope: 1.702 },
    Function::Mish,
    Function::HardSwish,
    Function::ThresholdedRelu { alpha: 0.7 },
    Function::Square,
    Function::LeakyRelu { slope: 0.1 },
    Function::Clip { low: -0.5, high: f64::INFINITY },
    Function::HardSigmoid { slope: 0.2, offset: 0.5 },
    Function::LogOnePlus,
];

#[test]
fn no_number_is_farther_off_than_the_bound() {
    for function in ALL {
        for (top, bits, entry_bits) in [(0.8, 8, 8), (4.0, 10, 12), (90.0, 12, 16)] {
            let curve = curve(function, top, bits, entry_bits).unwrap();
            let [below, above] = curve.flat;
            let (mut worst, mut samples) = (0.0f64, 0);
            for index in -6000..=6000 {
                let x = f64::from(index) * top / 3000.0;
                if (x < curve.start && !below) || (x >= curve.end() && !above) {
                    continue;
                }
                let parts = f64::from(curve.fraction).exp2();
                let place = ((x - curve.start) / curve.step * parts).floor();
                // Exactly at a jump the lower value counts.
                let at_jump = function == (Function::ThresholdedRelu { alpha: x });
                let place = if at_jump { place - 1.0 } else { place };
                let place = place.clamp(0.0, curve.greatest() as f64) as i64;
                let table = Table {
                    width: 1,
                    mapped: 1,
                    bits: curve.bits,
                    fraction: curve.fraction,
                    entries: curve.entries.clone(),
                };
                let value = curve.zero + curve.unit * table.entry(place) as f64;
                worst = worst.max((value - function.apply(x)).abs());
                samples += 1;
            }
            assert!(samples > 3000);
            assert!(worst <= curve.error, "{}: {worst} is beyond {}", function.name(), curve.error);
            let kink = shape(function).kink * curve.step;
            assert!(
                curve.error < 12.0 * worst + 3.0 * curve.unit + kink,
                "{}: {}",
                function.name(),
                curve.error
            );
        }
    }
}

#[test]
fn functions_stay_within_their_span() {
    for function in ALL {
        for index in -2000..=2000 {
            let x = f64::from(index) / 100.0;
            let (low, high) = span(function, -20.0, 20.0);
            let value = function.apply(x);
            assert!((low - 1e-12..=high + 1e-12).contains(&value), "{} at {x}", function.name());
        }
    }
}

#[test]
fn slopes_are_derivatives() {
    assert!((slope(Function::Square, 3.0) - 6.0).abs() < 1e-6);
    assert!((slope(Function::Tanh, 0.0) - 1.0).abs() < 1e-6);
    let levels = Function::Levels(Levels { scale: 0.5, zero: 3, low: 0, high: 7 });
    assert_eq!([slope(levels, -9.0), slope(levels, 0.1), slope(levels, 9.0)], [0.0, 1.0, 0.0]);
}

#[test]
fn derivatives_are_bounded() {
    for function in ALL {
        let Shape { turns, steep, bend, jump, .. } = shape(function);
        if jump.is_some() || function == Function::Square {
            continue;
        }
        let width = 1e-3;
        for index in -20_000..=20_000 {
            let x = f64::from(index) * 1e-3;
            // At a kink the second derivative is none.
            if turns.iter().any(|turn| (turn - x).abs() < 2.5 * width) {
                continue;
            }
            let [low, middle, high] = [x - width, x, x + width].map(|x| function.apply(x));
            assert!(((high - low) / (2.0 * width)).abs() <= steep + 1e-4, "{} at {x}", function.name());
            let second = (high - 2.0 * middle + low) / (width * width);
            assert!(second.abs() <= bend + 1e-3, "{} at {x}: {second}", function.name());
        }
    }
}

#[test]
fn a_jump_that_no_sum_reaches_does_not_move_the_table() {
    let curve = curve(Function::ThresholdedRelu { alpha: -1e30 }, 4.0, 8, 16).unwrap();
    assert!(curve.start <= -4.0 && curve.end() >= 4.0, "from {} to {}", curve.start, curve.end());
}
