//! Tables against their functions.

use super::*;
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
                let place = ((x - curve.start) / curve.step).floor();
                // Exactly at a jump the lower value counts.
                let place =
                    if function == (Function::ThresholdedRelu { alpha: x }) { place - 1.0 } else { place };
                let place = place.clamp(0.0, curve.entries.len() as f64 - 1.0) as usize;
                let value = curve.zero + curve.unit * f64::from(curve.entries[place]);
                worst = worst.max((value - function.apply(x)).abs());
                samples += 1;
            }
            assert!(samples > 3000);
            assert!(worst <= curve.error, "{}: {worst} is beyond {}", function.name(), curve.error);
            assert!(curve.error < 20.0 * worst + 2.0 * curve.unit, "{}: {}", function.name(), curve.error);
        }
    }
}

#[test]
fn functions_stay_within_their_span() {
    for function in ALL {
        for index in -2000..=2000 {
            let x = f64::from(index) / 100.0;
            let (low, high) = span(function, 20.0);
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
