//! The author's levels against a plain computation in floats, and lines against their definition.

use super::exact::Dyadic;
use super::levels::{Demand, Line, rescale};
use crate::diag::NodeRef;
use crate::ir::{FractionBits, Interval, Lanes, Op, QuantiseOne, interpret};
use crate::model::{Activation, Body, Dense, Function, Head, Levels, Matrix, Model, Normalise, Output};
use crate::quant::{Contract, MaxFlips, NetworkPlan, Options, contract, plan_of, quantise};
use crate::random::SplitMix;

const INT8: (i64, i64) = (-128, 127);
const UINT8: (i64, i64) = (0, 255);

/// What a model of the tests is like.
#[derive(Clone, Copy)]
struct Form {
    /// Scales are powers of two, so that halves are frequent.
    powers: bool,
    /// Each neuron has weights of a scale of its own.
    channels: bool,
    range: (i64, i64),
    /// Between the layers, a function with a quantisation on either side.
    between: Option<Function>,
    relu: bool,
    /// Whether the outputs are levels too.
    levelled: bool,
    /// Where the bias comes behind a quantisation of its own, so many times as long as those levels the next ones are.
    late_bias: Option<f64>,
    /// Features are integers, some of which step over levels.
    coarse: bool,
    /// Where features lie, and by which power of two their scale is smaller.
    far: Option<(f64, i32)>,
}

const PLAIN: Form = Form {
    powers: false,
    channels: false,
    range: INT8,
    between: None,
    relu: false,
    levelled: true,
    late_bias: None,
    coarse: false,
    far: None,
};

fn share(random: &mut SplitMix) -> f64 {
    random.next() as f64 / u64::MAX as f64
}

/// A scale in single precision, about 2^-5.
fn scale(random: &mut SplitMix, form: Form) -> f64 {
    if form.powers {
        return f64::from(-5 + i32::try_from(random.next() % 3).unwrap()).exp2();
    }
    f64::from((0.02 + 0.05 * share(random)) as f32)
}

fn levels(random: &mut SplitMix, form: Form, scale: f64) -> Activation {
    let (low, high) = form.range;
    let (middle, third) = (low.midpoint(high), (high - low) / 3);
    let zero = random.within(Interval { low: middle - third, high: middle + third });
    Activation::Function(Function::Levels(Levels { scale, zero, low, high }))
}

fn node(index: usize) -> NodeRef {
    NodeRef { index, name: format!("fc{index}"), operator: "Gemm".to_owned() }
}

fn each(width: usize, bias: Vec<f64>, activation: Activation) -> Dense {
    let mut values = vec![0.0; width * width];
    values.iter_mut().step_by(width + 1).for_each(|value| *value = 1.0);
    Dense {
        origin: node(0),
        weights: Matrix { rows: width, columns: width, values },
        bias,
        activation,
        plain: 0,
    }
}

/// Layers of 5, 7, 6 and 3 values.
fn model(form: Form, seed: u64) -> Model {
    let mut random = SplitMix(seed);
    let widths = [5, 7, 6, 3];
    let mut layers = Vec::new();
    let step = scale(&mut random, form);
    layers.push(each(5, vec![0.0; 5], levels(&mut random, form, step)));
    for (index, pair) in widths.windows(2).enumerate() {
        let (columns, rows) = (pair[0], pair[1]);
        let common = scale(&mut random, form) / 4.0;
        let mut values = Vec::new();
        let mut bias = Vec::new();
        for _ in 0..rows {
            let own = if form.channels { scale(&mut random, form) / 4.0 } else { common };
            values
                .extend((0..columns).map(|_| random.within(Interval { low: -127, high: 127 }) as f64 * own));
            let whole = random.within(Interval { low: -900, high: 900 }) as f64;
            bias.push(f64::from((whole * own * step) as f32));
        }
        let next = scale(&mut random, form) * 2.0;
        let last = index + 2 == widths.len();
        let quantised = levels(&mut random, form, next);
        let late = std::mem::take(&mut bias);
        let early = if form.late_bias.is_some() { vec![0.0; rows] } else { late.clone() };
        let rectified = form.relu && !last && form.late_bias.is_none();
        let activation = match (last && !form.levelled, rectified) {
            (true, _) => Activation::Identity,
            (false, true) => Activation::Relu,
            (false, false) => quantised,
        };
        layers.push(Dense {
            origin: node(index),
            weights: Matrix { rows, columns, values },
            bias: early,
            activation,
            plain: 0,
        });
        if last && !form.levelled {
            continue;
        }
        if rectified {
            layers.push(each(rows, vec![0.0; rows], quantised));
        }
        if let Some(factor) = form.late_bias {
            let behind = levels(&mut random, form, next * factor);
            layers.push(each(rows, late, behind));
        }
        if let Some(function) = form.between.filter(|_| !last) {
            layers.push(each(rows, vec![0.0; rows], Activation::Function(function)));
            let behind = levels(&mut random, form, next / 2.0);
            layers.push(each(rows, vec![0.0; rows], behind));
        }
    }
    Model {
        replaced: Vec::new(),
        inputs: vec![None; 5],
        normalise: (0..5)
            .map(|index| Normalise {
                centre: form.far.map_or(f64::from(index * 20), |(centre, _)| centre),
                scale: f64::from(0.125f32 / (1 << index) as f32)
                    * f64::from(form.far.map_or(0, |(_, bits)| -bits)).exp2(),
                offset: 0.0,
            })
            .collect(),
        body: Body::Mlp(layers),
        first: Output::only(Head::Logits),
        further: Vec::new(),
        hash: [0; 32],
    }
}

/// What the features of a model are.
fn contract_of(model: &Model, form: Form) -> Contract {
    let mut contract = contract::without_spec(model);
    for input in contract.inputs.iter_mut().filter(|_| form.coarse) {
        input.fraction_bits = FractionBits(0);
        input.range = Interval { low: -3000, high: 1 << 40 };
    }
    contract
}

fn rows(contract: &Contract, model: &Model, count: usize) -> Vec<i64> {
    let mut random = SplitMix(3);
    let mut rows = Vec::new();
    for _ in 0..count {
        for (input, by) in contract.inputs.iter().zip(&model.normalise) {
            let unit = f64::from(input.fraction_bits.0).exp2();
            let real = by.centre + (share(&mut random) - 0.5) * 12.0 / by.scale;
            rows.push((real * unit) as i64);
        }
    }
    rows
}

/// Every level of every row is the float model's.
fn agrees(form: Form) -> Vec<Op> {
    let mut last = Vec::new();
    for seed in 1..=6 {
        let model = model(form, seed);
        let contract = contract_of(&model, form);
        let options = Options { max_flips: MaxFlips::Rows(0), ..Options::default() };
        let result = quantise(&model, &contract, None, &options).unwrap();
        assert!(result.report.search.is_empty(), "the author's integers were searched for");
        let network = &result.network;
        let mut differing = 0;
        for row in rows(&contract, &model, 400).chunks(5) {
            let reals: Vec<f64> = row
                .iter()
                .zip(&contract.inputs)
                .map(|(&x, input)| x as f64 / f64::from(input.fraction_bits.0).exp2())
                .collect();
            let wanted = model.outputs_f64(&reals);
            let given = interpret::outputs(network, row);
            for (raw, real) in given.iter().zip(&wanted) {
                let have = *raw as f64 * network.decision.unit;
                if form.levelled && form.range.1 > 255 {
                    // Sums beside a half may go to the neighbouring level, and change later sums a little.
                    assert!((have - real).abs() < 1.5 * network.decision.unit, "seed {seed}");
                } else if form.levelled {
                    assert_eq!(*raw, (real / network.decision.unit).round() as i64, "seed {seed}");
                } else {
                    assert!((have - real).abs() < 1e-8, "seed {seed}: {have} instead of {real}");
                }
                differing += usize::from(wanted.iter().any(|other| other != real));
            }
        }
        assert!(differing > 100, "the outputs hardly differ");
        let errors = result.report.errors.unwrap();
        let most = if form.levelled { 1.5 * network.decision.unit } else { 1e-8 };
        assert!(errors.rows > 1000 && errors.outputs.most < most, "seed {seed}: {errors:?}");
        assert!(result.report.precision.unwrap().skipped.unwrap().contains("by its author"));
        let kept = result.report.levels.unwrap();
        assert!(kept.kept && result.warnings.is_empty(), "{kept:?}");
        let nearly = usize::from(form.far.is_some_and(|(_, bits)| bits > 18));
        assert!(kept.nearly <= nearly || form.range.1 > 255, "seed {seed}: {kept:?}");
        for input in &result.report.inputs {
            let levels = input.quantised.high - input.quantised.low;
            assert!(levels <= form.range.1 - form.range.0, "seed {seed}: {input:?}");
        }
        last.clone_from(&network.ops);
        // A retrained model of the same form takes the same plan.
        let options = Options { like: Some(plan_of(network)), ..options };
        assert_eq!(quantise(&model, &contract, None, &options).unwrap().network, *network);
    }
    last
}

#[test]
fn levels_are_the_authors() {
    let ops = agrees(PLAIN);
    let lanes: Vec<Lanes> = ops
        .iter()
        .filter_map(|op| match op {
            Op::Dense(dense) => Some(dense.lanes),
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
        })
        .collect();
    assert_eq!(lanes, [Lanes::THREE; 3]);
    agrees(Form { range: UINT8, ..PLAIN });
    agrees(Form { channels: true, ..PLAIN });
    agrees(Form { range: (-32768, 32767), ..PLAIN });
    agrees(Form { range: (-8, 7), channels: true, ..PLAIN });
    agrees(Form { levelled: false, channels: true, ..PLAIN });
}

#[test]
fn halves_go_to_even_levels() {
    let ops = agrees(Form { powers: true, ..PLAIN });
    let evens = ops.iter().filter(|op| matches!(op, Op::Quantise(quantise) if quantise.even)).count();
    assert!(evens > 0, "no halves in this model");
    agrees(Form { powers: true, relu: true, ..PLAIN });
    agrees(Form { powers: true, late_bias: Some(1.5), ..PLAIN });
}

#[test]
fn functions_between_levels_are_tables_or_clamps() {
    agrees(Form { relu: true, ..PLAIN });
    agrees(Form { late_bias: Some(1.5), ..PLAIN });
    for range in [INT8, UINT8] {
        let ops = agrees(Form { between: Some(Function::Tanh), range, ..PLAIN });
        assert_eq!(ops.iter().filter(|op| matches!(op, Op::Table(_))).count(), 2);
    }
    let ops = agrees(Form { between: Some(Function::Sigmoid), powers: true, ..PLAIN });
    assert_eq!(ops.iter().filter(|op| matches!(op, Op::Table(_))).count(), 2);
}

#[test]
fn levels_that_step_over_others_are_multiplied_first() {
    let ops = agrees(Form { late_bias: Some(0.3), ..PLAIN });
    let multiplied = ops.iter().filter(|op| {
        matches!(op, Op::Quantise(quantise) if quantise.features.iter().all(|one| one.multiplier > 1 && one.shift == 0))
    });
    assert!(multiplied.count() > 0, "nothing was multiplied");
}

/// Whether a clamp stands behind the features.
fn clamped(ops: &[Op]) -> bool {
    let clamp = |one: &QuantiseOne| one.multiplier == 1 && one.shift == 0;
    matches!(ops, [Op::Quantise(_), Op::Quantise(second), ..] if second.features.iter().all(clamp))
}

#[test]
fn features_that_step_over_levels_are_clamped_behind() {
    let mut found = 0;
    for range in [INT8, UINT8, (-8, 7)] {
        for powers in [false, true] {
            found += usize::from(clamped(&agrees(Form { coarse: true, range, powers, ..PLAIN })));
        }
    }
    assert!(found > 2, "features of {found} models only step over levels");
    assert!(!clamped(&agrees(PLAIN)));
}

/// Whether features are moved before they become levels.
fn moved(ops: &[Op]) -> bool {
    let move_only = |one: &QuantiseOne| one.multiplier == 1 && one.offset != 0;
    matches!(ops, [Op::Quantise(first), Op::Quantise(_), ..] if first.features.iter().any(move_only))
}

#[test]
fn features_of_many_bits_or_far_from_zero_become_the_authors_levels() {
    // Times in microseconds since 1970, over a second: exact once they are moved.
    assert!(moved(&agrees(Form { far: Some((1.75e15, 16)), ..PLAIN })));
    assert!(moved(&agrees(Form { far: Some((1.75e15, 16)), range: UINT8, ..PLAIN })));
    assert!(moved(&agrees(Form { far: Some((1.75e15, 30)), ..PLAIN })));
    // Levels that are 2^40 and more raw units apart.
    assert!(moved(&agrees(Form { far: Some((0.0, 42)), ..PLAIN })));
    assert!(moved(&agrees(Form { far: Some((2.0e14, 38)), range: UINT8, ..PLAIN })));
    assert!(moved(&agrees(Form { far: Some((1e17, 40)), range: (-8, 7), ..PLAIN })));
    assert!(!moved(&agrees(PLAIN)));
}

/// Two outputs of sums of 47 bits, each with a scale of its own.
#[test]
fn outputs_of_long_sums_keep_their_scales() {
    let mut two = model(PLAIN, 1);
    let Body::Mlp(layers) = &mut two.body else { unreachable!() };
    let levels = Levels { scale: 0.000_25, zero: 0, low: -32768, high: 32767 };
    let first = each(5, vec![0.0; 5], Activation::Function(Function::Levels(levels)));
    let scales = [13.0 / 4096.0, 3.0 / 1024.0];
    let whole =
        [[i32::MAX, 77_777, -1_234_567_891, 3, 1], [-5, 2_000_000_011, 19, -7_654_321, 1_999_999_999]];
    let values =
        whole.iter().zip(scales).flat_map(|(row, scale)| row.map(|w| f64::from(w) * scale)).collect();
    *layers = vec![
        first,
        Dense {
            origin: node(1),
            weights: Matrix { rows: 2, columns: 5, values },
            bias: vec![0.5, -12.25],
            activation: Activation::Identity,
            plain: 0,
        },
    ];
    let contract = contract::without_spec(&two);
    let result = quantise(&two, &contract, None, &Options::default()).unwrap();
    assert!(result.report.levels.as_ref().unwrap().kept, "{:?}", result.report.levels);
    let network = &result.network;
    let mut most = 0.0_f64;
    for row in rows(&contract, &two, 400).chunks(5) {
        let reals: Vec<f64> = row
            .iter()
            .zip(&contract.inputs)
            .map(|(&x, input)| x as f64 / f64::from(input.fraction_bits.0).exp2())
            .collect();
        for (raw, real) in interpret::outputs(network, row).iter().zip(two.outputs_f64(&reals)) {
            most = most.max((*raw as f64 * network.decision.unit - real).abs());
        }
    }
    // The largest sums are about 1e8; a factor of 13 bits would be some thousands off.
    assert!(most < 1.0, "{most}");
}

/// Whether a quantiser of the plan rounds halves to even levels.
fn even(plan: &NetworkPlan) -> bool {
    plan.evens.contains(&true)
}

#[test]
fn a_plan_with_another_rounding_is_refused() {
    let (mut refused, mut exact) = (0, 0);
    let fresh = |form: Form, seed: u64| {
        let model = model(form, seed);
        let contract = contract_of(&model, form);
        let result = quantise(&model, &contract, None, &Options::default()).unwrap();
        (model, contract, plan_of(&result.network))
    };
    let plans = [PLAIN, Form { powers: true, ..PLAIN }].map(|form| fresh(form, 1).2);
    assert_eq!(plans.each_ref().map(even), [false, true]);
    for seed in 2..=5 {
        for form in [PLAIN, Form { powers: true, ..PLAIN }] {
            let (model, contract, own) = fresh(form, seed);
            for plan in &plans {
                let options = Options { like: Some(plan.clone()), ..Options::default() };
                match quantise(&model, &contract, None, &options) {
                    // What is taken is as exact as it would be in code of its own.
                    Ok(result) => {
                        assert_eq!(plan_of(&result.network), *plan);
                        assert_eq!(result.report.levels.unwrap().nearly, 0, "seed {seed}");
                        exact += 1;
                    }
                    Err(errors) => {
                        assert_ne!(own, *plan);
                        let text = crate::diag::render::plain(&errors[0], &[]);
                        let said = text.contains("halfway between levels");
                        assert!(
                            text.contains("error[E0312]") && text.contains("help: compile") && said,
                            "{text}"
                        );
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused >= 4 && exact >= 4, "{refused} refused, {exact} exact");
}

#[test]
fn a_plan_with_or_without_a_clamp_behind_features_is_refused_or_exact() {
    let form = Form { coarse: true, ..PLAIN };
    let coarse = model(form, 1);
    let mut fine = coarse.clone();
    fine.normalise.iter_mut().for_each(|by| by.scale /= 32.0);
    let contract = contract_of(&coarse, form);
    let with = |model: &Model, like: Option<&NetworkPlan>| {
        let options = Options { like: like.cloned(), ..Options::default() };
        quantise(model, &contract, None, &options)
    };
    let [clamping, plain] = [&coarse, &fine].map(|model| plan_of(&with(model, None).unwrap().network));
    assert_eq!(clamping.evens.len(), plain.evens.len() + 1);
    let errors = with(&coarse, Some(&plain)).unwrap_err();
    assert_eq!(errors[0].code.id, "E0312");
    assert!(errors[0].message.contains("step over several levels"), "{}", errors[0].message);
    let taken = with(&fine, Some(&clamping)).unwrap().network;
    let own = with(&fine, None).unwrap().network;
    assert_eq!(plan_of(&taken), clamping);
    for row in rows(&contract, &fine, 400).chunks(5) {
        assert_eq!(interpret::outputs(&taken, row), interpret::outputs(&own, row));
    }
}

#[test]
fn a_line_on_a_grid_agrees_on_the_grid() {
    let levels = Levels { scale: 1.0, zero: 3, low: -20, high: 25 };
    let line = |slope: f64| Line { slope: Dyadic::of(slope), offset: Dyadic::of(0.43), levels, floor: None };
    let direct = rescale(
        &line(7.3),
        Interval { low: -50, high: 50 },
        Demand { even: false, slack: 0.0, grid: 1, beyond: false },
    );
    assert_eq!(direct, None, "no integer gives the lowest level");
    let domain = Interval { low: -50 * 64, high: 50 * 64 };
    let form =
        rescale(&line(7.3 / 64.0), domain, Demand { even: false, slack: 0.0, grid: 64, beyond: false })
            .unwrap();
    for n in -50i64..=50 {
        let QuantiseOne { low, high, multiplier, offset, shift } = form.one;
        let wanted = ((7.3 * n as f64 + 0.43).round_ties_even() as i64).clamp(-23, 22);
        assert_eq!(((n * 64).clamp(low, high) * multiplier + offset) >> shift, wanted, "{n}");
    }
}

#[test]
fn what_is_not_rounded_between_layers_is_searched() {
    let mut float = model(PLAIN, 1);
    let Body::Mlp(layers) = &mut float.body else { unreachable!() };
    layers[1].weights.values[3] += 0.1;
    let contract = contract::without_spec(&float);
    let options = Options { max_flips: MaxFlips::Share(0.1), ..Options::default() };
    let result = quantise(&float, &contract, None, &options).unwrap();
    assert!(!result.report.search.is_empty());
    let left = result.report.levels.unwrap();
    assert!(!left.kept && left.node.as_deref() == Some("fc0"), "{left:?}");
    let text = crate::diag::render::plain(&result.warnings[0], &[]);
    for part in ["warning[E0331]", "fc0", "whole multiples", "help: quantise the features"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    // A refusal says so too.
    let strict = Options { max_flips: MaxFlips::Rows(0), ..Options::default() };
    let codes = quantise(&float, &contract, None, &strict).unwrap_err();
    assert_eq!(codes.iter().map(|one| one.code.id).collect::<Vec<_>>(), ["E0306", "E0331"]);
    // A model without levels of its own has nothing to lose.
    let mut plain = float.clone();
    let Body::Mlp(layers) = &mut plain.body else { unreachable!() };
    layers.iter_mut().for_each(|layer| layer.activation = Activation::Relu);
    let result = quantise(&plain, &contract, None, &options).unwrap();
    assert!(result.warnings.is_empty() && result.report.levels.is_none());
}

#[test]
fn a_line_agrees_with_its_definition_everywhere() {
    let mut random = SplitMix(8);
    let mut found = 0;
    for _ in 0..300 {
        let slope = (share(&mut random) - 0.3) * 0.9;
        let offset = (share(&mut random) - 0.5) * 60.0;
        let levels = Levels { scale: 1.0, zero: 3, low: -20, high: 25 };
        let floor = random.next().is_multiple_of(2).then_some(-1);
        let line = Line { slope: Dyadic::of(slope), offset: Dyadic::of(offset), levels, floor };
        let domain = Interval { low: -700, high: 650 };
        let Some(form) = rescale(&line, domain, Demand { even: false, slack: 0.0, grid: 1, beyond: false })
        else {
            continue;
        };
        found += 1;
        for n in domain.low..=domain.high {
            let level = (slope * n as f64 + offset).round_ties_even() as i64;
            let wanted = level.max(floor.unwrap_or(i64::MIN)).clamp(-23, 22);
            let QuantiseOne { low, high, multiplier, offset, shift } = form.one;
            assert_eq!((n.clamp(low, high) * multiplier + offset) >> shift, wanted);
        }
    }
    assert!(found > 250, "only {found} of 300 lines have an integer form");
}
