//! What the committed calibration must hold to, and what every prediction must.

use super::constants::{calibration, committed};
use super::fit::{Sample, fit, held_out_error, median_error};
use super::work::Kind;
use super::*;

fn samples() -> Vec<Sample> {
    let cases = cases::all().unwrap();
    let shapes = &calibration().shapes;
    assert_eq!(cases.len(), shapes.len(), "run `nnbpfc bench --calibrate-cost` after shapes changed");
    cases
        .iter()
        .zip(shapes)
        .map(|(case, measured)| {
            assert_eq!(case.name, measured.shape);
            assert!(measured.measured_ns > 0.0, "{measured:?}");
            Sample { work: case.work().unwrap(), ns: measured.measured_ns }
        })
        .collect()
}

#[test]
fn no_measured_shape_depends_on_constants() {
    assert!(cases::all().unwrap().iter().all(|case| case.options.style != Style::Planned));
}

#[test]
fn nothing_costs_less_than_the_bound_of_the_search() {
    for ending in [Ending::Raw, Ending::Relu { clamped: false }, Ending::Relu { clamped: true }] {
        for lanes in 1..=4 {
            let shape = LayerShape { rows: 37, columns: 20, lanes, ending };
            let least = layer_ns(37, 20, lanes, false);
            assert!(least > 0.0 && least <= shape_ns(&shape) + 1e-9, "{shape:?}");
        }
    }
}

#[test]
fn the_whole_is_never_less_than_its_parts_without_caches() {
    for case in cases::all().unwrap() {
        let network = case.network.get();
        let whole = network_ns(network);
        let inputs = network.ops.first().map_or(0.0, |op| op_ns(op, Weights::Map));
        assert!(whole >= inputs && whole.is_finite(), "{}: {whole}", case.name);
    }
}

#[test]
fn wide_layers_are_loops_and_narrow_ones_are_not() {
    let blocking = |rows, columns| {
        alone(&LayerShape { rows, columns, lanes: 1, ending: Ending::Relu { clamped: true } })
    };
    let narrow = blocking(8, 6);
    assert_eq!((narrow.blocks, narrow.unroll), (vec![4, 4], None));
    let wide = blocking(128, 784);
    assert!(wide.rounds(784).is_some_and(|rounds| rounds.count > 1), "{wide:?}");
    assert_eq!(wide.blocks.iter().sum::<usize>(), 128);
}

#[test]
fn layers_share_the_room_for_code() {
    // Each fits by itself; together they are more code than stays in the cache.
    let shape = LayerShape { rows: 32, columns: 32, lanes: 2, ending: Ending::Relu { clamped: false } };
    let ways = |count: usize| blocking::choose(&Work::default(), &vec![shape; count], Style::Planned);
    let straight = |count: usize| ways(count).iter().filter(|way| way.unroll.is_none()).count();
    assert_eq!(straight(1), 1);
    assert!(straight(12) < 12, "{:?}", ways(12));
    let ns = |ways: &[blocking::Blocking]| {
        let layers = ways.iter().map(|way| Work::layer(&shape, way, Weights::Map));
        layers.fold(Work::default(), |sum, layer| sum.plus(&layer)).ns(committed())
    };
    let alone = vec![alone(&shape); 12];
    assert!(ns(&ways(12)) < ns(&alone));
    // Twice the same.
    assert_eq!(ways(12), ways(12));
}

#[test]
fn committed_constants_predict_the_committed_measurements() {
    let samples = samples();
    assert!(samples.len() >= 30, "{} shapes", samples.len());
    let error = median_error(&samples, committed());
    assert!(error < 0.2, "the median difference is {:.1} %", 100.0 * error);
}

#[test]
fn constants_of_one_half_predict_the_other() {
    let error = held_out_error(&samples());
    assert!(error < 0.2, "the median difference is {:.1} %", 100.0 * error);
}

#[test]
fn the_committed_constants_are_those_of_the_committed_measurements() {
    let fitted = fit(&samples());
    for kind in Kind::ALL {
        let (have, want) = (committed().price(kind), fitted.price(kind));
        assert!(have >= 0.0 && (have - want).abs() <= 1e-3 + 0.01 * want, "{kind:?}: {have}, fitted {want}");
    }
}
