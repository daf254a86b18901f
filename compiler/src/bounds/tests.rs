//! No input is farther off than the bound, and a bound that were too small would be noticed.

use std::path::{Path, PathBuf};

use super::{ErrorBound, OutputBound, prove, recheck};
use crate::compile::{Named, Plan, Sources, plan};
use crate::diag::NodeRef;
use crate::ir::{Interval, Network, Op, Post, interpret};
use crate::model::{Activation, Body, Dense, Head, Matrix, Model, Normalise, Output};
use crate::onnx::NoFiles;
use crate::quant::{self, Calibration, Contract, MaxFlips, Options, contract};
use crate::spec::Surroundings;

/// A generator of numbers that are the same in every run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (self.0 ^ (self.0 >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        mixed ^ (mixed >> 33)
    }

    /// In -1..1, of roughly bell shape.
    fn bell(&mut self) -> f64 {
        let sum: f64 = (0..3).map(|_| self.next() as f64 / u64::MAX as f64).sum();
        sum / 1.5 - 1.0
    }

    pub(crate) fn within(&mut self, range: Interval) -> i64 {
        let width = range.high.abs_diff(range.low);
        let more = if width == u64::MAX { self.next() } else { self.next() % (width + 1) };
        range.low.wrapping_add_unsigned(more)
    }
}

/// A network over features of scales from 1 to 1000.
pub(crate) fn random_model(widths: &[usize], head: Head, seed: u64) -> Model {
    let mut random = Random(seed);
    let layers = widths.windows(2).enumerate().map(|(index, pair)| {
        let (columns, rows) = (pair[0], pair[1]);
        let spread = 2.0 / (columns as f64).sqrt();
        Dense {
            origin: NodeRef { index, name: format!("fc{index}"), operator: "Gemm".to_owned() },
            weights: Matrix {
                rows,
                columns,
                values: (0..rows * columns).map(|_| random.bell() * spread).collect(),
            },
            bias: (0..rows).map(|_| random.bell() * 0.3).collect(),
            activation: if index + 2 == widths.len() { Activation::Identity } else { Activation::Relu },
            plain: 0,
        }
    });
    let layers = layers.collect();
    let normalise = (0..widths[0]).map(|index| {
        let scale = 10f64.powi(index as i32 % 4);
        Normalise { centre: 3.0 * scale, scale: 1.0 / scale, offset: 0.25 }
    });
    Model {
        inputs: vec![None; widths[0]],
        normalise: normalise.collect(),
        replaced: Vec::new(),
        body: Body::Mlp(layers),
        first: Output::only(head),
        further: Vec::new(),
        hash: [0; 32],
    }
}

pub(crate) fn rows(model: &Model, contract: &Contract, count: usize, random: &mut Random) -> Vec<i64> {
    (0..count)
        .flat_map(|_| {
            let pairs = model.normalise.iter().zip(&contract.inputs);
            pairs
                .map(|(normalise, input)| {
                    let real = normalise.centre + 2.0 * random.bell() / normalise.scale;
                    (real * f64::from(input.fraction_bits.0).exp2()) as i64
                })
                .collect::<Vec<i64>>()
        })
        .collect()
}

/// Differences of outputs in the model's unit, one for each.
fn differences(model: &Model, network: &Network, row: &[i64]) -> Vec<f64> {
    let real: Vec<f64> = row
        .iter()
        .zip(&network.inputs)
        .map(|(&raw, input)| raw as f64 / f64::from(input.fraction_bits.0).exp2())
        .collect();
    let float = model.outputs_f64(&real);
    let raw = interpret::outputs(network, row);
    let units = network.decision.parts(&raw).flat_map(|(output, part)| {
        let unit = network.decision.unit_of(output);
        part.iter().map(move |&raw| raw as f64 * unit).collect::<Vec<f64>>()
    });
    units.zip(float).map(|(have, want)| have - want).collect()
}

/// Whether an activation is cut off.
fn cut(network: &Network, row: &[i64]) -> bool {
    let steps = interpret::trace(network, row);
    network.ops.iter().zip(&steps).any(|(op, step)| match op {
        Op::Dense(dense) => step.accumulators.iter().any(|&acc| match dense.post {
            Post::Raw => false,
            Post::Relu { shift, bits } => acc.max(0) >> shift > (1 << bits) - 1,
            Post::Signed { shift, bits } => {
                let half = 1i64 << (bits - 1);
                !(-half..half).contains(&(acc >> shift))
            }
        }),
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => false,
    })
}

/// How near the largest difference comes to the bound: over the whole region, and where nothing is cut off.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Nearest {
    whole: f64,
    uncut: f64,
}

/// Looks for large differences: corners, random features, and from the worst of them up, feature by feature.
pub(crate) fn search(
    model: &Model,
    network: &Network,
    bound: &ErrorBound,
    seed: u64,
    tries: usize,
) -> Nearest {
    let mut random = Random(seed);
    let mut nearest = Nearest::default();
    let mut judge = |row: &[i64]| -> f64 {
        let differences = differences(model, network, row);
        let ratio = |of: fn(&OutputBound) -> f64| {
            differences
                .iter()
                .zip(&bound.outputs)
                .map(|(difference, output)| difference.abs() / of(output))
                .fold(0.0, f64::max)
        };
        let own = ratio(|output| output.bound);
        nearest.whole = nearest.whole.max(own);
        if !cut(network, row) {
            nearest.uncut = nearest.uncut.max(ratio(|output| output.unsaturated));
        }
        own
    };
    let mut worst: Vec<(f64, Vec<i64>)> = Vec::new();
    for number in 0..tries {
        let row: Vec<i64> = bound
            .region
            .iter()
            .map(|range| match (number % 3, random.next() % 2) {
                (0, 0) => range.low,
                (0, _) => range.high,
                (1, _) => random.within(*range),
                _ => {
                    let width = (range.high - range.low) / 8;
                    let middle = range.low.midpoint(range.high);
                    random.within(Interval { low: middle - width, high: middle + width })
                }
            })
            .collect();
        worst.push((judge(&row), row));
        worst.sort_by(|a, b| b.0.total_cmp(&a.0));
        worst.truncate(3);
    }
    for (mut best, mut row) in worst {
        for round in 0..tries / 2 {
            let mut next = row.clone();
            let place = (random.next() % next.len() as u64) as usize;
            let range = bound.region[place];
            let width = ((range.high - range.low) >> (round % 12)).max(1);
            let low = next[place].saturating_sub(width).max(range.low);
            let high = next[place].saturating_add(width).min(range.high);
            next[place] = random.within(Interval { low, high });
            let own = judge(&next);
            if own > best {
                (best, row) = (own, next);
            }
        }
    }
    nearest
}

/// A random network with its bound.
pub(crate) fn quantised(widths: &[usize], head: Head, seed: u64) -> (Model, Network, ErrorBound) {
    let model = random_model(widths, head, seed);
    let contract = contract::without_spec(&model);
    let rows = rows(&model, &contract, 2000, &mut Random(seed ^ 5));
    let options = Options { max_flips: MaxFlips::Share(0.01), measure: false, ..Options::default() };
    let result = quant::quantise(&model, &contract, Some(Calibration { rows: &rows }), &options).unwrap();
    let orders: Vec<Vec<usize>> = result.report.layers.iter().map(|layer| layer.order.clone()).collect();
    let bound = prove(&model, &result.network, &orders);
    assert_eq!(bound.reason, None);
    (model, result.network, bound)
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A committed model with its specification and rows, through the front half of the compiler.
pub(crate) fn committed(model: &str, spec: Option<&str>, calibration: Option<&str>) -> Plan {
    let read = |path: &str| std::fs::read(root().join(path)).unwrap();
    let (bytes, spec) = (read(model), spec.map(read));
    let calibration = calibration.map(read);
    let named = |name, bytes| Named { name, bytes };
    let sources = Sources {
        model: named(model, &bytes),
        spec: spec.as_deref().map(|bytes| named("spec", bytes)),
        calibration: calibration.as_deref().map(|bytes| named("rows", bytes)),
        surroundings: Surroundings::default(),
        resolver: &NoFiles,
    };
    plan(&sources, &Options::default()).unwrap_or_else(|errors| panic!("{model}: {errors:?}"))
}

#[test]
fn no_random_network_is_farther_off_than_its_bound_and_a_smaller_one_would_be_noticed() {
    let shapes: [(&[usize], Head); 5] = [
        (&[3, 4, 2], Head::Logits),
        (&[5, 8, 1], Head::Logistic),
        (&[6, 16, 16, 3], Head::Logits),
        (&[6, 32, 32, 2], Head::Logits),
        (&[4, 12, 12, 12, 2], Head::Scores),
    ];
    for (seed, (widths, head)) in (1..).zip(shapes) {
        let (model, network, bound) = quantised(widths, head, seed);
        let nearest = search(&model, &network, &bound, seed, 400);
        let figures = format!("{widths:?}: {nearest:?} {:?} {}", bound.outputs[0], bound.saturates);
        eprintln!("{figures}");
        assert!(nearest.whole <= 1.0 && nearest.uncut <= 1.0, "{figures}");
        // A bound that were too small by more than this would be noticed.
        assert!(nearest.whole >= 1.0 / 64.0, "{figures}");
        recheck(&model, &network, &bound).unwrap();
    }
}

#[test]
fn the_shipped_model_is_no_farther_off_than_its_bound() {
    let plan =
        committed("testdata/ids/ids.onnx", Some("specs/ids.spec"), Some("testdata/ids/calibration.csv"));
    let bound = plan.certificate().error.unwrap();
    let nearest = search(&plan.model, plan.network.get(), &bound, 3, 600);
    eprintln!("{nearest:?} {:?} {} {:?}", bound.outputs, bound.saturates, plan.report.errors);
    assert!(nearest.whole <= 1.0 && nearest.uncut <= 1.0, "{nearest:?}");
    assert!(nearest.whole >= 1.0 / 64.0, "{nearest:?}");
    recheck(&plan.model, plan.network.get(), &bound).unwrap();
}

#[test]
fn every_committed_case_has_a_bound_that_holds_or_a_reason() {
    let mut folders: Vec<String> = std::fs::read_dir(root().join("testdata/cases"))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("model.onnx").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut reasons = Vec::new();
    for (seed, name) in (1..).zip(&folders) {
        let plan = committed(&format!("testdata/cases/{name}/model.onnx"), None, None);
        let bound = plan.certificate().error.unwrap();
        if let Some(reason) = &bound.reason {
            reasons.push((name.as_str(), reason.clone()));
            continue;
        }
        recheck(&plan.model, plan.network.get(), &bound).unwrap();
        let worst = bound.worst().unwrap();
        let exact = worst == 0.0;
        let bound = if exact { with(&bound, f64::MIN_POSITIVE) } else { bound };
        let nearest = search(&plan.model, plan.network.get(), &bound, seed, 60);
        eprintln!("{name}: {worst:e} {nearest:?}");
        assert!(nearest.whole <= 1.0 && nearest.uncut <= 1.0, "{name}: {nearest:?}");
    }
    eprintln!("{reasons:?}");
    let without: Vec<&str> = reasons.iter().map(|(name, _)| *name).collect();
    assert_eq!(without, WITHOUT);
}

/// Committed cases without a bound: raw values are replaced, levels need more than 64 bits to be exact, gates are not
/// analysed.
const WITHOUT: [&str; 3] = ["imputed-5-8-2", "qcoarse-5-6-2", "swish-5-6-6-2"];

/// The same with other bounds.
fn with(bound: &ErrorBound, value: f64) -> ErrorBound {
    let output = OutputBound { bound: value, interval: value, unsaturated: value };
    ErrorBound { outputs: vec![output; bound.outputs.len()], ..bound.clone() }
}

#[test]
fn wrong_hints_only_make_the_bound_larger_and_a_smaller_claim_is_refused() {
    let (model, network, bound) = quantised(&[6, 16, 16, 3], Head::Logits, 3);
    let mut hinted = bound.clone();
    for units in hinted.scales.iter_mut().map(|scales| &mut scales.units) {
        units.iter_mut().enumerate().for_each(|(row, unit)| *unit *= if row % 2 == 0 { 1.3 } else { 0.8 });
    }
    let other = super::bound(&model, &network, &[], Some(&hinted.scales));
    assert!(other.outputs[0].bound > bound.outputs[0].bound);
    assert!(recheck(&model, &network, &hinted).is_err());
    let refused = |change: &dyn Fn(&mut ErrorBound)| {
        let mut claim = bound.clone();
        change(&mut claim);
        recheck(&model, &network, &claim).unwrap_err()
    };
    assert!(refused(&|claim| claim.outputs[1].bound *= 0.99).contains("output 1"));
    assert!(refused(&|claim| claim.outputs[1].bound = f64::NAN).contains("output 1"));
    assert!(refused(&|claim| claim.version = 2).contains("version"));
    assert!(refused(&|claim| claim.region[0].low -= 1).contains("other features"));
    assert!(refused(&|claim| claim.saturates = false).contains("cut off"));
    // Another model's weights.
    let mut stranger = model.clone();
    if let Body::Mlp(layers) = &mut stranger.body {
        layers[1].weights.values[3] += 0.1;
    }
    assert!(recheck(&stranger, &network, &bound).is_err());
}
