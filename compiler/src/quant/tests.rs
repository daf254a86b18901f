//! Tests of quantisation as a whole.

use super::{Calibration, Contract, MaxFlips, Options, Quantised, contract, plan_of, quantise};
use crate::check::check;
use crate::diag::{NodeRef, Origin};
use crate::ir::{FractionBits, Input, Interval, Lanes, Post, RuleTest, interpret};
use crate::model::{Activation, Body, Dense, Function, Head, Levels, Matrix, Model, Normalise, Output};
use crate::random::SplitMix;
use crate::spec::typed::Probability;

/// A number in -1..1 of roughly bell shape.
fn bell(random: &mut SplitMix) -> f64 {
    let uniform = |random: &mut SplitMix| random.next() as f64 / u64::MAX as f64;
    (uniform(random) + uniform(random) + uniform(random)) / 1.5 - 1.0
}

/// A random multilayer perceptron whose inputs have scales from 1 to 1e12.
pub(super) fn random_model(widths: &[usize], head: Head, seed: u64) -> Model {
    let mut random = SplitMix(seed);
    let inputs = widths[0];
    let layers = widths
        .windows(2)
        .enumerate()
        .map(|(index, pair)| {
            let (columns, rows) = (pair[0], pair[1]);
            let spread = 2.0 / (columns as f64).sqrt();
            Dense {
                origin: NodeRef { index, name: format!("fc{index}"), operator: "Gemm".to_owned() },
                weights: Matrix {
                    rows,
                    columns,
                    values: (0..rows * columns).map(|_| bell(&mut random) * spread).collect(),
                },
                bias: (0..rows).map(|_| bell(&mut random) * 0.3).collect(),
                activation: if index + 2 == widths.len() { Activation::Identity } else { Activation::Relu },
                plain: 0,
            }
        })
        .collect();
    let normalise = (0..inputs)
        .map(|index| {
            let scale = 10f64.powf(12.0 * index as f64 / (inputs.max(2) - 1) as f64);
            Normalise { centre: 3.0 * scale, scale: 1.0 / scale, offset: 0.0 }
        })
        .collect();
    Model {
        replaced: Vec::new(),
        inputs: vec![None; inputs],
        normalise,
        body: Body::Mlp(layers),
        first: Output::only(head),
        further: Vec::new(),
        hash: [0; 32],
    }
}

fn strict() -> Options {
    Options { max_flips: MaxFlips::Rows(0), lanes: None, like: None, ..Options::default() }
}

/// Rows around the scaler's centre, some of them far out.
pub(super) fn rows(model: &Model, contract: &Contract, count: usize) -> Vec<i64> {
    let mut random = SplitMix(99);
    (0..count)
        .flat_map(|row| {
            let far = if row % 50 == 0 { 30.0 } else { 2.0 };
            model
                .normalise
                .iter()
                .zip(&contract.inputs)
                .map(|(normalise, input)| {
                    let real = normalise.centre + far * bell(&mut random) / normalise.scale;
                    (real * f64::from(input.fraction_bits.0).exp2()) as i64
                })
                .collect::<Vec<i64>>()
        })
        .collect()
}

/// The float model's label of a raw row, computed without any of the code under test.
fn float_label(model: &Model, contract: &Contract, row: &[i64]) -> u32 {
    let mut values: Vec<f64> = row
        .iter()
        .zip(&contract.inputs)
        .zip(&model.normalise)
        .map(|((&raw, input), n)| {
            (raw as f64 / f64::from(input.fraction_bits.0).exp2() - n.centre) * n.scale + n.offset
        })
        .collect();
    let layers = model.layers();
    for layer in layers {
        values = (0..layer.weights.rows)
            .map(|row| {
                let sum: f64 = layer.weights.row(row).iter().zip(&values).map(|(w, x)| w * x).sum();
                let sum = sum + layer.bias[row];
                if layer.activation == Activation::Relu { sum.max(0.0) } else { sum }
            })
            .collect();
    }
    match model.first.head {
        Head::Logistic | Head::Probability => u32::from(values[0] > 0.0),
        Head::Logits | Head::Scores | Head::OneVersusRest { .. } | Head::Probabilities => {
            (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap() as u32
        }
    }
}

fn disagreements(model: &Model, contract: &Contract, rows: &[i64], result: &Quantised) -> u64 {
    rows.chunks_exact(model.input_count())
        .filter(|row| interpret::run(&result.network, row).label != Some(float_label(model, contract, row)))
        .count() as u64
}

#[test]
fn features_of_any_scale_keep_their_labels() {
    for (head, outputs) in [(Head::Logits, 2), (Head::Logits, 5), (Head::Logistic, 1)] {
        let model = random_model(&[6, 16, 16, outputs], head, 7);
        let contract = contract::without_spec(&model);
        let rows = rows(&model, &contract, 3000);
        let result = quantise(&model, &contract, Some(Calibration { rows: &rows }), &strict())
            .expect("one lane everywhere is precise enough");
        assert_eq!(result.report.flips, 0);
        assert!(check(result.network.clone()).is_ok());
        assert!(disagreements(&model, &contract, &rows, &result) <= result.report.ties as u64);
    }
}

#[test]
fn the_default_budget_buys_lanes() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 1);
    let contract = contract::without_spec(&model);
    let rows = rows(&model, &contract, 5000);
    let calibration = Some(Calibration { rows: &rows });
    let loose = quantise(&model, &contract, calibration, &Options::default()).expect("within 0.1 %");
    let strict = quantise(&model, &contract, calibration, &strict()).expect("exact");
    assert!(loose.report.flips <= loose.report.allowed && loose.report.allowed == 5);
    assert!(loose.report.predicted_ns <= strict.report.predicted_ns);
    assert!(loose.report.predicted_ns < 200.0, "{}", loose.report.predicted_ns);
    assert_eq!(disagreements(&model, &contract, &rows, &loose), loose.report.flips);
}

#[test]
fn without_calibration_rows_are_drawn_from_the_scaler() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 3);
    let contract = contract::without_spec(&model);
    let first = quantise(&model, &contract, None, &Options::default()).expect("within 0.1 %");
    let second = quantise(&model, &contract, None, &Options::default()).expect("within 0.1 %");
    assert_eq!(first, second, "the same input gives the same network");
    assert!(!first.report.calibrated);
}

#[test]
fn a_regressor_keeps_its_outputs() {
    let model = random_model(&[3, 8, 1], Head::Scores, 5);
    let contract = contract::without_spec(&model);
    let result = quantise(&model, &contract, None, &strict()).expect("precise enough");
    assert_eq!(interpret::run(&result.network, &[0, 0, 0]).label, None);
}

#[test]
fn a_linear_model_and_a_dead_input_are_no_special_cases() {
    let mut model = random_model(&[4, 2], Head::Logits, 5);
    let Body::Mlp(layers) = &mut model.body else { unreachable!() };
    layers[0].weights.values[1] = 0.0;
    layers[0].weights.values[5] = 0.0;
    let contract = contract::without_spec(&model);
    let result = quantise(&model, &contract, None, &strict()).expect("precise enough");
    assert_eq!(result.report.flips, 0);
    for value in &mut match &mut model.body {
        Body::Mlp(layers) => layers,
        Body::Forest(_) => unreachable!(),
    }[0]
    .weights
    .values
    {
        *value = 0.0;
    }
    assert!(quantise(&model, &contract, None, &strict()).is_ok());
}

#[test]
fn thresholds_become_margins() {
    let model = random_model(&[3, 8, 2], Head::Logits, 5);
    let mut contract = contract::without_spec(&model);
    contract.rules = [Some(950_000), Some(0), Some(1_000_000), None]
        .into_iter()
        .map(|p| contract::RuleWish { output: 0, class: 1, probability: p.map(Probability) })
        .collect();
    let result = quantise(&model, &contract, None, &strict()).expect("precise enough");
    let decision = &result.network.decision;
    let RuleTest::Margin { output: 0, class: 1, margin } = decision.tests[0] else {
        panic!("a margin is expected")
    };
    let logit = (0.95f64 / 0.05).ln();
    assert!(margin as f64 * decision.unit >= logit && (margin - 1) as f64 * decision.unit < logit);
    assert_eq!(decision.tests[1], RuleTest::Margin { output: 0, class: 1, margin: -(1 << 62) });
    assert_eq!(decision.tests[2], RuleTest::Margin { output: 0, class: 1, margin: 1 << 62 });
    assert_eq!(decision.tests[3], RuleTest::Label { output: 0, class: 1 });
}

/// A model with three classes, and a rule for each of some probabilities of the second.
fn three_classes(probabilities: &[u32]) -> (Model, Contract) {
    let model = random_model(&[3, 8, 3], Head::Logits, 5);
    let mut contract = contract::without_spec(&model);
    contract.outputs[0].labels = ["a", "b", "c"].map(str::to_owned).to_vec();
    let wish = |p: &u32| contract::RuleWish { output: 0, class: 1, probability: Some(Probability(*p)) };
    contract.rules = probabilities.iter().map(wish).collect();
    (model, contract)
}

#[test]
fn thresholds_over_three_classes_follow_the_float_model() {
    let probabilities = [50_000, 250_000, 500_000, 900_000];
    let (model, contract) = three_classes(&probabilities);
    let rows = rows(&model, &contract, 4000);
    let calibration = Some(Calibration { rows: &rows });
    let result = quantise(&model, &contract, calibration, &strict()).expect("precise enough");
    assert!(check(result.network.clone()).is_ok());
    let thresholds = &result.report.thresholds;
    assert_eq!(thresholds.len(), probabilities.len());
    for (rule, (report, millionths)) in (0u32..).zip(thresholds.iter().zip(probabilities)) {
        assert_eq!((report.rule, report.label.as_str(), report.millionths), (rule, "b", millionths));
        let bit = |row: &[i64]| interpret::run(&result.network, row).rules >> rule & 1;
        let fired: u32 = rows.chunks_exact(3).map(bit).sum();
        assert!(u64::from(fired).abs_diff(report.fired) <= result.report.ties as u64);
        assert!(report.fired > 0 && report.fired < 4000, "{report:?}");
        // Quantisation itself moves a few rows over a threshold; the sum's own error hardly any.
        assert!(report.changed <= 12, "{report:?}");
        assert!(report.within_error <= 1, "{report:?}");
    }
    assert!(thresholds.is_sorted_by(|a, b| a.fired > b.fired), "{thresholds:?}");
}

#[test]
fn a_retrained_model_brings_its_own_thresholds() {
    let (first, contract) = three_classes(&[700_000]);
    let plan = plan_of(&quantise(&first, &contract, None, &Options::default()).expect("it fits").network);
    let options =
        Options { like: Some(plan), max_flips: MaxFlips::Share(0.05), lanes: None, ..Options::default() };
    let scaled = |factor: f64| {
        let mut model = first.clone();
        let Body::Mlp(layers) = &mut model.body else { unreachable!() };
        let last = layers.last_mut().unwrap();
        last.weights.values.iter_mut().chain(&mut last.bias).for_each(|value| *value *= factor);
        quantise(&model, &contract, None, &options)
    };
    let (same, sharper) = (scaled(1.0).expect("it fits"), scaled(3.0).expect("it fits"));
    assert_ne!(same.network.decision.tests, sharper.network.decision.tests);
    assert!(same.report.thresholds[0].fired < sharper.report.thresholds[0].fired);
    // Lanes are planned: outputs a million times as large leave too coarse a unit.
    let plan = Options { lanes: Some(vec![Lanes::THREE; 2]), like: None, ..options.clone() };
    let coarse = |contract: &Contract| {
        let mut model = first.clone();
        let Body::Mlp(layers) = &mut model.body else { unreachable!() };
        layers.last_mut().unwrap().weights.values.iter_mut().for_each(|value| *value *= 1e6);
        quantise(&model, contract, None, &plan)
    };
    assert_eq!(ids(coarse(&contract)), ["E0305"]);
    assert!(coarse(&Contract { rules: Vec::new(), ..contract.clone() }).is_ok());
}

fn ids<T: std::fmt::Debug>(outcome: crate::diag::Outcome<T>) -> Vec<&'static str> {
    outcome.expect_err("it is refused").iter().map(|error| error.code.id).collect()
}

#[test]
fn over_budget_names_what_costs_most() {
    let model = random_model(&[2, 8, 2], Head::Logits, 5);
    let mut contract = contract::without_spec(&model);
    let rows = rows(&model, &contract, 2000);
    // The second feature can only be 0 or 1, and the rows say otherwise.
    contract.inputs[1] = Input {
        name: "broken".to_owned(),
        fraction_bits: FractionBits(0),
        range: Interval { low: 0, high: 1 },
    };
    let errors = quantise(&model, &contract, Some(Calibration { rows: &rows }), &Options::default())
        .expect_err("the rows saturate");
    assert_eq!(errors[0].code.id, "E0306");
    assert!(errors[0].notes[0].starts_with("the input quantiser costs most"), "{:?}", errors[0].notes);
}

#[test]
fn rows_that_cannot_be_used_are_refused() {
    let model = random_model(&[2, 8, 2], Head::Logits, 5);
    let contract = contract::without_spec(&model);
    let run = |rows: &[i64]| quantise(&model, &contract, Some(Calibration { rows }), &Options::default());
    assert_eq!(ids(run(&[])), ["E0308"]);
    assert_eq!(ids(run(&[1, 2, 3])), ["E0310"]);
}

#[test]
fn weights_beyond_all_scales_are_refused() {
    let mut model = random_model(&[1, 2], Head::Logits, 5);
    let Body::Mlp(layers) = &mut model.body else { unreachable!() };
    layers[0].weights.values = vec![1e308, 0.0];
    layers[0].bias = vec![0.0; 2];
    let contract = contract::without_spec(&model);
    let rows = [1 << 50, 1 << 55, 1 << 60];
    let outcome = quantise(&model, &contract, Some(Calibration { rows: &rows }), &Options::default());
    assert_eq!(ids(outcome), ["E0309"]);
}

#[test]
fn networks_print_every_number() {
    let model = random_model(&[2, 3, 2], Head::Logits, 5);
    let mut contract = contract::without_spec(&model);
    contract.outputs[0].labels = vec!["benign".to_owned(), "attack".to_owned()];
    let network = quantise(&model, &contract, None, &Options::default()).expect("precise enough").network;
    let text = network.to_string();
    for op in &network.ops {
        if let crate::ir::Op::Dense(dense) = op {
            for number in dense.weights.iter().chain(&dense.bias) {
                assert!(text.contains(&number.to_string()), "{number} in {text}");
            }
        }
    }
    assert!(text.contains("labels [\"benign\", \"attack\"]"), "{text}");
    assert!(text.contains("# layer 1: Gemm \"fc1\""), "{text}");
}

/// Trained like the DSN 2024 set's classifier, but small and drawn: two separated clouds.
#[test]
fn separable_data_needs_only_cheap_lanes() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 11);
    let contract = contract::without_spec(&model);
    // Keep the rows that the float model is sure about, which is what separable means.
    let rows = rows(&model, &contract, 6000);
    let sure: Vec<i64> = rows
        .chunks_exact(6)
        .filter(|row| {
            let real: Vec<f64> = row
                .iter()
                .zip(&contract.inputs)
                .map(|(&x, input)| x as f64 / f64::from(input.fraction_bits.0).exp2())
                .collect();
            let outputs = model.outputs_f64(&real);
            (outputs[0] - outputs[1]).abs() > 0.1
        })
        .flatten()
        .copied()
        .collect();
    let result = quantise(&model, &contract, Some(Calibration { rows: &sure }), &strict()).expect("exact");
    assert!(result.report.predicted_ns < 110.0, "{:?}", result.report.search);
}

#[test]
fn activations_as_wide_as_their_lane_need_no_clamp() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 1);
    let contract = contract::without_spec(&model);
    for (max_flips, anything) in [(MaxFlips::Share(1.0), true), (MaxFlips::DEFAULT, false)] {
        let lanes = Some(vec![Lanes::THREE, Lanes::TWO, Lanes::TWO]);
        let options = Options { max_flips, lanes, like: None, ..Options::default() };
        let Ok(result) = quantise(&model, &contract, None, &options) else { continue };
        for (op, layer) in result.network.ops.iter().skip(1).zip(&result.report.layers) {
            let crate::ir::Op::Dense(dense) = op else { panic!("a layer is expected") };
            let free = match dense.post {
                Post::Raw => true,
                Post::Relu { shift, bits } => dense.lanes.widest() - 1 <= u32::from(shift) + u32::from(bits),
                Post::Signed { .. } => panic!("the model has no signed activations"),
            };
            assert_eq!(free, !layer.clamped);
            assert!(free || !anything, "{:?}", result.report.search);
        }
        let sum: f64 = result.report.layers.iter().map(|layer| layer.predicted_ns).sum();
        assert!(result.report.predicted_ns > sum);
    }
}

#[test]
fn what_was_found_first_gives_way_to_what_is_cheaper() {
    let model = random_model(&[6, 32, 32, 2], Head::Logits, 1);
    let contract = contract::without_spec(&model);
    let report = quantise(&model, &contract, None, &Options::default()).expect("within 0.1 %").report;
    let within = report.search.iter().filter(|attempt| attempt.flips.is_some_and(|f| f <= report.allowed));
    let least = within.map(|attempt| attempt.predicted_ns).fold(f64::INFINITY, f64::min);
    assert_eq!(report.predicted_ns, least);
}

#[test]
fn forced_lanes_are_kept() {
    let model = random_model(&[6, 8, 2], Head::Logits, 5);
    let contract = contract::without_spec(&model);
    let options = Options {
        max_flips: MaxFlips::Share(1.0),
        lanes: Some(vec![Lanes::ONE, Lanes::THREE]),
        like: None,
        ..Options::default()
    };
    let result = quantise(&model, &contract, None, &options).expect("anything goes");
    let lanes: Vec<usize> = result.report.layers.iter().map(|layer| layer.lanes).collect();
    assert_eq!(lanes, [1, 3]);
}

#[test]
fn a_retrained_model_fits_the_plan_of_the_first() {
    let first = random_model(&[6, 16, 16, 2], Head::Logits, 21);
    let mut second = first.clone();
    let Body::Mlp(layers) = &mut second.body else { unreachable!() };
    let mut random = SplitMix(5);
    for weight in layers.iter_mut().flat_map(|layer| &mut layer.weights.values) {
        *weight *= 1.0 + 0.2 * bell(&mut random);
    }
    let contract = contract::without_spec(&first);
    let plan = plan_of(&quantise(&first, &contract, None, &Options::default()).expect("it fits").network);
    let options = Options {
        like: Some(plan.clone()),
        max_flips: MaxFlips::Share(0.01),
        lanes: None,
        ..Options::default()
    };
    let again = quantise(&second, &contract, None, &options).expect("the plan holds a similar model");
    assert_eq!(plan_of(&again.network), plan);

    let other = random_model(&[6, 16, 8, 2], Head::Logits, 21);
    let errors = quantise(&other, &contract, None, &options).expect_err("another shape");
    assert_eq!(errors.iter().map(|error| error.code.id).collect::<Vec<_>>(), ["E0312", "E0312"]);
    let named = Contract { model: "new.onnx".to_owned(), ..contract.clone() };
    for error in quantise(&other, &named, None, &options).expect_err("another shape") {
        assert!(matches!(error.origin, Origin::Node { file, .. } if file == "new.onnx"));
    }
    let deeper = random_model(&[6, 16, 16, 16, 2], Head::Logits, 21);
    assert!(ids(quantise(&deeper, &contract, None, &options)).contains(&"E0312"));
}

/// Two classes, four classes with scores a thousand times as large, and a logit.
fn three_outputs(seed: u64) -> Model {
    let mut model = random_model(&[6, 16, 7], Head::Logits, seed);
    let output = |start, head| Output { start, ..Output::only(head) };
    model.further = vec![output(2, Head::Logits), output(6, Head::Logistic)];
    let Body::Mlp(layers) = &mut model.body else { unreachable!() };
    let last = layers.last_mut().unwrap();
    last.weights.values[2 * 16..6 * 16].iter_mut().for_each(|weight| *weight *= 1000.0);
    last.bias[2..6].iter_mut().for_each(|bias| *bias *= 1000.0);
    model
}

/// Labels of a raw row, computed without any of the code under test.
fn labels_of_three(model: &Model, contract: &Contract, row: &[i64]) -> Vec<u32> {
    let parts = [(0..2, Head::Logits), (2..6, Head::Logits), (6..7, Head::Logistic)];
    let label = |(range, head): &(std::ops::Range<usize>, Head)| {
        let mut alone = Model { first: Output::only(*head), further: Vec::new(), ..model.clone() };
        let Body::Mlp(layers) = &mut alone.body else { unreachable!() };
        let last = layers.last_mut().unwrap();
        let columns = last.weights.columns;
        last.weights.values = last.weights.values[range.start * columns..range.end * columns].to_vec();
        last.weights.rows = range.len();
        last.bias = last.bias[range.clone()].to_vec();
        float_label(&alone, contract, row)
    };
    parts.iter().map(label).collect()
}

#[test]
fn every_output_keeps_its_labels_on_a_scale_of_its_own() {
    let model = three_outputs(17);
    let contract = contract::without_spec(&model);
    let names: Vec<&str> = contract.outputs.iter().map(|output| output.name.as_str()).collect();
    assert_eq!(names, ["0", "1", "2"]);
    let rows = rows(&model, &contract, 2000);
    let calibration = Some(Calibration { rows: &rows });
    let result = quantise(&model, &contract, calibration, &strict()).expect("one lane is precise enough");
    let decision = &result.network.decision;
    let flipped = rows.chunks_exact(6).filter(|row| {
        let outputs = interpret::outputs(&result.network, row);
        let labels: Vec<u32> = interpret::labels(decision, &outputs).flatten().collect();
        labels != labels_of_three(&model, &contract, row)
    });
    assert!(flipped.count() <= result.report.ties);
    assert_eq!(result.report.rows + result.report.ties, 2000);
    // Real values on either side of each scale.
    let halvings: Vec<u8> = decision.outputs().map(|output| output.finer).collect();
    assert!((8..=12).contains(&halvings[0]) && (8..=12).contains(&halvings[2]), "{halvings:?}");
    assert_eq!(halvings[1], 0);
    let lanes = Options { lanes: Some(vec![Lanes::ONE; 2]), ..strict() };
    let precise = quantise(&model, &contract, calibration, &lanes).expect("it fits").network;
    for row in rows.chunks_exact(6).step_by(50) {
        let real: Vec<f64> = row
            .iter()
            .zip(&contract.inputs)
            .map(|(&raw, input)| raw as f64 / f64::from(input.fraction_bits.0).exp2())
            .collect();
        let outputs = interpret::outputs(&precise, row);
        let wanted = model.outputs_f64(&real);
        for ((output, raw), (_, real)) in precise.decision.parts(&outputs).zip(model.parts(&wanted)) {
            let unit = precise.decision.unit_of(output);
            for (&raw, &real) in raw.iter().zip(real) {
                let error = (raw as f64 * unit - real).abs();
                assert!(error <= 0.05 * real.abs().max(1.0), "{raw} * {unit} for {real}");
            }
        }
    }
    // A retrained model fits the plan, its scales included.
    let plan = plan_of(&result.network);
    let mut second = model.clone();
    let Body::Mlp(layers) = &mut second.body else { unreachable!() };
    layers.last_mut().unwrap().weights.values.iter_mut().for_each(|weight| *weight *= 1.3);
    let options = Options {
        like: Some(plan.clone()),
        max_flips: MaxFlips::Share(0.01),
        lanes: None,
        ..Options::default()
    };
    let again = quantise(&second, &contract, calibration, &options).expect("the plan holds a similar model");
    assert_eq!(plan_of(&again.network), plan);
    // Not so one with other outputs.
    let other = Model { further: second.further[..1].to_vec(), ..second };
    assert_eq!(ids(quantise(&other, &contract, calibration, &options)), ["E0312"]);
}

/// Functions that are no sums of ReLUs.
const CURVES: [Function; 9] = [
    Function::Sigmoid,
    Function::Tanh,
    Function::Softplus,
    Function::Elu { alpha: 1.0, gamma: 1.0, width: 1.0 },
    Function::Gelu,
    Function::Silu { slope: 1.0 },
    Function::Mish,
    Function::HardSwish,
    Function::ThresholdedRelu { alpha: 0.25 },
];

fn curved(function: Function, seed: u64) -> Model {
    let mut model = random_model(&[6, 16, 12, 3], Head::Logits, seed);
    let Body::Mlp(layers) = &mut model.body else { unreachable!() };
    for layer in layers.iter_mut().take(2) {
        layer.activation = Activation::Function(function);
    }
    model
}

#[test]
fn curved_activations_keep_their_labels() {
    for (seed, function) in (1..).zip(CURVES) {
        let model = curved(function, seed);
        let contract = contract::without_spec(&model);
        let rows = rows(&model, &contract, 3000);
        let options = Options { max_flips: MaxFlips::Share(0.002), ..strict() };
        let result = quantise(&model, &contract, Some(Calibration { rows: &rows }), &options).unwrap();
        let tables: Vec<_> = result.report.layers.iter().filter_map(|layer| layer.table.as_ref()).collect();
        // A hard swish is a gate, which has no error of its own.
        let gates = plan_of(&result.network).gates;
        assert_eq!(gates, if function == Function::HardSwish { 2 } else { 0 });
        assert_eq!(tables.len() + gates, 2, "{}", function.name());
        for table in tables {
            let height = table.error / (table.high - table.low);
            assert!(table.error > 0.0 && height < 0.02, "{}: {}", function.name(), table.error);
        }
        // A retrained model takes the same tables' room.
        let again = curved(function, seed + 100);
        let options = Options {
            max_flips: MaxFlips::Share(0.02),
            lanes: None,
            like: Some(plan_of(&result.network)),
            ..Options::default()
        };
        let updated = quantise(&again, &contract, Some(Calibration { rows: &rows }), &options).unwrap();
        assert_eq!(plan_of(&updated.network), plan_of(&result.network));
    }
}

#[test]
fn a_step_and_levels_between_layers_are_kept_too() {
    let levels = Levels { scale: 0.031, zero: -3, low: -128, high: 127 };
    for function in [Function::Step, Function::Levels(levels), Function::Square] {
        let model = curved(function, 7);
        let contract = contract::without_spec(&model);
        let rows = rows(&model, &contract, 3000);
        let options = Options { max_flips: MaxFlips::Share(0.01), ..strict() };
        let result = quantise(&model, &contract, Some(Calibration { rows: &rows }), &options).unwrap();
        assert!(result.report.flips <= 30, "{}", function.name());
    }
}

#[test]
fn the_activation_of_a_last_layer_counts() {
    for activation in [Activation::Relu, Activation::Function(Function::Sigmoid)] {
        let mut model = random_model(&[4, 8, 3], Head::Scores, 5);
        let Body::Mlp(layers) = &mut model.body else { unreachable!() };
        layers[1].activation = activation;
        let contract = contract::without_spec(&model);
        let rows = rows(&model, &contract, 400);
        let real = |row: &[i64]| -> Vec<f64> {
            let units = contract.inputs.iter().map(|input| f64::from(input.fraction_bits.0).exp2());
            model.outputs_f64(&row.iter().zip(units).map(|(&x, unit)| x as f64 / unit).collect::<Vec<f64>>())
        };
        let wanted: Vec<Vec<f64>> = rows.chunks(4).map(real).collect();
        let greatest = wanted.iter().flatten().copied().fold(0.0, f64::max);
        let result = quantise(&model, &contract, Some(Calibration { rows: &rows }), &strict()).unwrap();
        for (row, wanted) in rows.chunks(4).zip(wanted) {
            for (raw, real) in interpret::outputs(&result.network, row).iter().zip(wanted) {
                let have = *raw as f64 * result.network.decision.unit;
                assert!((have - real).abs() <= greatest / 250.0, "{have} instead of {real}");
            }
        }
    }
}
