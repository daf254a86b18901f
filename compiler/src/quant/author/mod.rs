//! Models that were quantised by their author: their own scales, zero points and levels, in the same integers.
//!
//! `exact` has arithmetic without rounding, `levels` one line to levels, `quantiser` an operation of such lines, `chain`
//! what lies before a quantisation, `build` the network. What is left here is to measure it and to report.

mod build;
mod chain;
mod exact;
mod levels;
mod quantiser;
#[cfg(test)]
mod tests;

use super::contract::OutputNames;
use super::report::{InputReport, LayerReport, LevelsReport, Precision, QuantReport};
use super::sample::{self, Sample};
use super::summary::{SATURATION_ROWS, layer_outline, outline, signed_bits, within_budget};
use super::{Calibration, Contract, Options, Quantised, error, plan_of};
use crate::diag::codes::quant::{LEVELS, SHAPE};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::ir::{Network, Op, OpOrigin, interpret};
use crate::model::{Activation, Function, Model};
use build::{Authored, Left, Why};

/// Why no part of such a network is made exact in turn.
const NOTHING_ROUNDED: &str =
    "the model was quantised by its author: its levels are kept, and nothing else is rounded";

const OTHER_LAYERS: &str = "the model's layers and quantisations are not those of the object";

/// What becomes of a model here.
pub(super) enum Route {
    /// It has no quantisation of its own.
    Float,
    /// It has one that is kept.
    Kept(Box<Outcome<Quantised>>),
    /// It has one, but takes the way of a float model.
    Left(LevelsReport, Box<Diagnostic>),
}

/// The network of a model that was quantised by its author.
pub(super) fn run(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Route {
    let levels = |activation| matches!(activation, Activation::Function(Function::Levels(_)));
    let layers = model.layers();
    if !layers.iter().any(|layer| levels(layer.activation)) {
        return Route::Float;
    }
    if let Some(layer) = layers.iter().position(|layer| layer.plain > 0) {
        return left(model, contract, Left { layer, why: Why::Layer });
    }
    if !layers.first().is_some_and(|layer| levels(layer.activation)) {
        return left(model, contract, Left { layer: 0, why: Why::Features });
    }
    let like = options.like.as_ref();
    match build::build(model, contract, like) {
        Ok(Ok(authored)) => Route::Kept(Box::new(judged(model, contract, calibration, options, authored))),
        Ok(Err(errors)) => Route::Kept(Box::new(Err(errors))),
        Err(own) => match (own.why, build::build(model, contract, None)) {
            // Code of another form would give the levels.
            (Why::Refused(reason), Ok(_)) => {
                Route::Kept(Box::new(Err(vec![shape(origin(model, contract, own.layer), reason)])))
            }
            (_, Err(free)) => left(model, contract, free),
            // An object whose code has every layer of the model, the author's roundings too, searched for its integers.
            (_, Ok(_)) if like.is_some_and(|plan| plan.layers.len() >= layers.len()) => {
                let why = Why::Refused("the object's code does not keep levels of the model's own");
                left(model, contract, Left { why, ..own })
            }
            (_, Ok(_)) => {
                let file = Origin::File { file: contract.model.clone() };
                Route::Kept(Box::new(Err(vec![shape(file, OTHER_LAYERS)])))
            }
        },
    }
}

/// How far outputs are off at most, in real arithmetic, when a network is made of the author's integers, which are
/// built again and compared; `None` when it is not.
pub(super) fn error(model: &Model, network: &Network) -> Option<Result<f64, String>> {
    let outputs = network.decision.outputs();
    let contract = Contract {
        model: String::new(),
        inputs: network.inputs.clone(),
        grid: Vec::new(),
        outputs: outputs
            .map(|output| OutputNames { name: output.name.clone(), labels: output.labels.clone() })
            .collect(),
        rules: Vec::new(),
    };
    let plan = plan_of(network);
    let built =
        [None, Some(&plan)].into_iter().filter_map(|like| build::build(model, &contract, like).ok()?.ok());
    let same = |built: &Authored| {
        let own = built.network.get();
        own.ops == network.ops && own.decision.unit.to_bits() == network.decision.unit.to_bits()
    };
    let built = built.into_iter().find(same)?;
    Some(match built.nearly {
        0 => Ok(built.error),
        _ => Err("some levels may be the neighbouring one, very near to a half".to_owned()),
    })
}

fn origin(model: &Model, contract: &Contract, layer: usize) -> Origin {
    let file = contract.model.clone();
    match model.layers().get(layer) {
        Some(layer) => Origin::Node { file, node: layer.origin.clone() },
        None => Origin::File { file },
    }
}

fn shape(origin: Origin, message: impl Into<String>) -> Diagnostic {
    let help = "compile the model anew; only a model of the same shape can replace another";
    Diagnostic::new(&SHAPE, origin, message, help)
}

/// A model whose levels are not kept, and the warning that says so.
fn left(model: &Model, contract: &Contract, Left { layer, why }: Left) -> Route {
    let reason = match why {
        Why::Features => "features are not rounded to levels before the first layer, or not in 64 bits",
        Why::Layer => {
            "a value behind this layer stays unrounded or is a sum of rounded ones, the weights are no whole \
             multiples of one number for each neuron, or a sum does not fit"
        }
        Why::Outputs => "outputs have no common scale, or none that a rule can be told in",
        Why::Refused(reason) => reason,
    };
    let node = model.layers().get(layer).map(|layer| layer.origin.name.clone()).unwrap_or_default();
    let warning = Diagnostic::warning(
        &LEVELS,
        origin(model, contract, layer),
        "the levels of the model's own quantisation are not kept exactly",
        "quantise the features and what each layer gives, and weights with one scale for each neuron; or compare \
         labels and `errors` in `--report` with what you can bear",
    )
    .with_note(reason)
    .with_note("the model is compiled like a float model, and a level may come out as its neighbour");
    Route::Left(
        LevelsReport { kept: false, nearly: 0, node: Some(node), reason: Some(reason.to_owned()) },
        Box::new(warning),
    )
}

fn judged(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
    authored: Authored,
) -> Outcome<Quantised> {
    let whole = || Origin::File { file: contract.model.clone() };
    if options.like.as_ref().is_some_and(|like| *like != plan_of(authored.network.get())) {
        return Err(vec![shape(whole(), OTHER_LAYERS)]);
    }
    let sample = sample::prepare(model, contract, calibration)?;
    let flips = within_budget(&authored.network, &sample, options, whole())?;
    let mut report = report(model, contract, &sample, &authored, flips);
    if options.measure {
        report.errors = Some(error::errors(model, contract, authored.network.get(), &sample));
        report.precision =
            Some(Precision { skipped: Some(NOTHING_ROUNDED.to_owned()), ..Precision::default() });
    }
    Ok(Quantised { network: authored.network.into_inner(), report, warnings: Vec::new() })
}

fn report(
    model: &Model,
    contract: &Contract,
    sample: &Sample,
    authored: &Authored,
    flips: (u64, u64),
) -> QuantReport {
    let network = authored.network.get();
    let saturated = saturation(sample, authored);
    let counted = |op: usize| saturated.get(op).map(Vec::as_slice).unwrap_or_default();
    let inputs = inputs_report(authored, &saturated);
    let dense = network.ops.iter().zip(&authored.network.certificate().ops).enumerate();
    let layers = dense
        .filter_map(|(position, (op, proof))| match op {
            Op::Dense(dense) => Some((position, dense, proof)),
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
        })
        .zip(&authored.layers)
        .map(|((position, dense, proof), &layer)| {
            let behind = authored.levels.get(position + 1);
            let (finest, coarsest) = behind.copied().flatten().unwrap_or((1.0, 1.0));
            let rescaled = match network.ops.get(position + 1) {
                Some(Op::Quantise(quantise)) => Some(quantise),
                Some(Op::Dense(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_)) | None => None,
            };
            let node = model.layers().get(layer).map_or_else(String::new, |layer| layer.origin.name.clone());
            LayerReport {
                bits: rescaled.map(|quantise| u8::try_from(signed_bits(quantise.output)).unwrap_or(64)),
                finest_unit: finest,
                coarsest_unit: coarsest,
                saturated: counted(position + 1).iter().sum(),
                ..layer_outline(layer, node, dense, proof)
            }
        })
        .collect();
    let levels = Some(LevelsReport { kept: true, nearly: authored.nearly, node: None, reason: None });
    QuantReport { inputs, layers, levels, ..outline(model, contract, &authored.network, sample, flips) }
}

/// What becomes of each feature; `saturated` counts for each operation and value.
fn inputs_report(authored: &Authored, saturated: &[Vec<u64>]) -> Vec<InputReport> {
    let network = authored.network.get();
    // In front may stand an operation that moves features, and behind, where they step over levels, a clamp.
    let place = usize::from(authored.moved);
    let of_inputs = |place: usize| match (network.origins.get(place), network.ops.get(place)) {
        (Some(OpOrigin::Inputs), Some(Op::Quantise(quantise))) => Some(quantise),
        _ => None,
    };
    let Some(quantise) = of_inputs(place) else { return Vec::new() };
    let (ahead, clamp) = (of_inputs(0).filter(|_| authored.moved), of_inputs(place + 1));
    let counted = |place: usize, at: usize| saturated.get(place).and_then(|counts| counts.get(at)).copied();
    let features = network.inputs.iter().zip(&quantise.features).enumerate();
    features
        .map(|(at, (input, one))| {
            let unit = super::float::unit(input);
            let ahead = ahead.and_then(|ahead| ahead.features.get(at));
            let behind = |level: i64| match clamp.and_then(|clamp| clamp.features.get(at)) {
                Some(one) => level.clamp(one.low, one.high),
                None => level,
            };
            // The raw value of what the quantiser reads.
            let raw = |value: i64| match ahead {
                Some(ahead) => (value as f64) * f64::from(ahead.shift).exp2() - ahead.offset as f64,
                None => value as f64,
            };
            let (low, high) = (one.accumulate(one.low), one.accumulate(one.high));
            let (low, high) = (behind(quantise.round(one, low)), behind(quantise.round(one, high)));
            let shift = u32::from(one.shift) + ahead.map_or(0, |ahead| u32::from(ahead.shift));
            let step = f64::from(shift).exp2() / one.multiplier as f64;
            let own = counted(place, at).unwrap_or(0);
            let cut = clamp.and_then(|_| counted(place + 1, at)).map_or(own, |count| own.max(count));
            InputReport {
                name: input.name.clone(),
                fraction_bits: input.fraction_bits.0,
                low: raw(one.low) * unit,
                high: raw(one.high) * unit,
                step: if one.multiplier == 0 { 0.0 } else { step.abs() * unit },
                quantised: crate::ir::Interval { low: low.min(high), high: low.max(high) },
                saturated: ahead.and_then(|_| counted(0, at)).map_or(cut, |count| cut.max(count)),
            }
        })
        .collect()
}

/// How many rows, spread evenly through the sample, the limits of each quantiser cut, value by value. What a ReLU
/// cuts is not counted.
fn saturation(sample: &Sample, authored: &Authored) -> Vec<Vec<u64>> {
    let network = authored.network.get();
    let mut counts: Vec<Vec<u64>> = network.ops.iter().map(|op| vec![0; op.width()]).collect();
    let step = (sample.count() / SATURATION_ROWS).max(1);
    for row in sample.rows.chunks_exact(sample.width.max(1)).step_by(step) {
        let mut values = row.to_vec();
        for (op, counts) in network.ops.iter().zip(&mut counts) {
            if let Op::Quantise(quantise) = op {
                for ((one, x), count) in quantise.features.iter().zip(&values).zip(counts) {
                    let cut = (*x < one.low || *x > one.high) && one.multiplier != 0;
                    let level = quantise.round(one, one.accumulate(*x));
                    *count += u64::from(cut && level != 0);
                }
            }
            values = interpret::step(op, &values).values;
        }
    }
    counts
}
