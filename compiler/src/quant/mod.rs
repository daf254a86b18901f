//! Float model to fixed-point network: calibration, scales, the search for lanes and widths. The last floats.
//!
//! Stages, one file each: the contract between model and specification ([`contract`]), a lost
//! scaler (`scaling`), rows to calibrate on
//! (`sample`, `draw`), the float reference (`float`), statistics near the decision boundary (`stats`), the input
//! quantiser (`inputs`), one dense layer (`layer`, `rounding`), whole networks (`build`), their cost (`cost`),
//! values that a model replaces (`replaced`), probabilities in rules (`threshold`), the lanes worth trying (`lanes`), the search under the accuracy budget (`search`), what lies outside of it (`frontier`), decision trees, which need none (`forest`), a reconstruction that finds anomalies only (`anomalies`), and the report ([`report`]).
//! `docs/numerics.md` derives every formula.

pub mod contract;
mod reconstruction;
mod anomalies;
pub(crate) mod scaling;
pub mod report;
mod sample;
mod draw;
mod float;
mod linalg;
mod stats;
mod inputs;
mod rounding;
mod layer;
mod threshold;
mod build;
mod cost;
mod lanes;
mod evaluate;
mod blame;
pub(crate) mod curve;
mod gate;
mod rescale;
mod replaced;
mod error;
mod search;
mod order;
mod summary;
mod frontier;
mod table;
mod forest;
mod author;

use crate::diag::{Diagnostic, Outcome};
use crate::ir::{Dense, Forest, Lanes, Network, Op, Post};
use crate::model::{self, Activation, Body, Matrix, Model};

pub use contract::Contract;
pub(crate) use cost::{clamped, value_bits};
pub use frontier::frontier;
pub use report::QuantReport;

/// Rows to calibrate on, as raw values.
#[derive(Debug, Clone, Copy)]
pub struct Calibration<'a> {
    /// Row-major, one raw value for each input.
    pub rows: &'a [i64],
}

/// How many calibration rows may change their label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxFlips {
    /// At most this many rows.
    Rows(u64),
    /// At most this share of the rows that are counted, in `0.0..=1.0`.
    Share(f64),
}

impl MaxFlips {
    /// The default budget: 0.1 %.
    pub const DEFAULT: Self = Self::Share(0.001);

    /// Flips allowed among `rows` rows.
    #[must_use]
    pub fn allowed(self, rows: usize) -> u64 {
        match self {
            Self::Rows(count) => count,
            Self::Share(share) => (share * rows as f64).floor() as u64,
        }
    }
}

/// What the caller demands of the result.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    pub max_flips: MaxFlips,
    /// Uses exactly these lanes, one entry per layer, instead of searching.
    pub lanes: Option<Vec<Lanes>>,
    /// Fits the model into the plan of an existing object; takes precedence over `lanes`.
    pub like: Option<NetworkPlan>,
    /// Measures what the integers cost in outputs and scores, as a whole and part by part, for the report.
    pub measure: bool,
}

/// What code holds about one layer, as opposed to parameters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LayerPlan {
    pub rows: usize,
    pub columns: usize,
    pub lanes: Lanes,
    pub post: Post,
}

/// What code holds about a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkPlan {
    pub layers: Vec<LayerPlan>,
    /// [`crate::ir::Output::finer`] of each output.
    pub finer: Vec<u8>,
    /// Trees, in the place of layers.
    pub forest: Option<ForestPlan>,
    /// Of each quantiser, whether halves are rounded to even numbers.
    pub evens: Vec<bool>,
    /// Entries of each table, as a power of two, and bits between two of them.
    pub tables: Vec<(u8, u8)>,
    /// How many functions are gates.
    pub gates: usize,
    /// Features of which values are replaced.
    pub replaced: Vec<usize>,
}

/// What code holds about trees: how many there can be, and of which size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForestPlan {
    pub outputs: usize,
    pub trees: usize,
    pub depth: u32,
    pub pairs: usize,
    pub rows: usize,
    /// See [`crate::ir::Forest::targets`].
    pub targets: Vec<u32>,
}

/// The plan of a network: what a retrained model must fit to share its code.
#[must_use]
pub fn plan_of(network: &Network) -> NetworkPlan {
    let layers = network
        .ops
        .iter()
        .filter_map(|op| match op {
            Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
            Op::Dense(dense) => {
                let Dense { rows, columns, lanes, post, .. } = *dense;
                Some(LayerPlan { rows, columns, lanes, post })
            }
        })
        .collect();
    let forest = network.ops.iter().find_map(|op| match op {
        Op::Quantise(_) | Op::Dense(_) | Op::Table(_) | Op::Gate(_) => None,
        Op::Forest(Forest { outputs, trees, depth, pairs, rows, targets, .. }) => Some(ForestPlan {
            outputs: *outputs,
            trees: *trees,
            depth: *depth,
            pairs: *pairs,
            rows: *rows,
            targets: targets.clone(),
        }),
    });
    let evens = network.ops.iter().filter_map(|op| match op {
        Op::Quantise(quantise) => Some(quantise.even),
        Op::Dense(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
    });
    let tables = network.ops.iter().filter_map(|op| match op {
        Op::Table(table) => Some((table.bits, table.fraction)),
        Op::Quantise(_) | Op::Dense(_) | Op::Gate(_) | Op::Forest(_) => None,
    });
    let replaced = network.ops.iter().find_map(|op| match op {
        Op::Quantise(quantise) => Some(quantise.replaced.iter().map(|one| one.feature).collect()),
        Op::Dense(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
    });
    NetworkPlan {
        layers,
        finer: network.decision.outputs().map(|output| output.finer).collect(),
        forest,
        evens: evens.collect(),
        tables: tables.collect(),
        gates: network.ops.iter().filter(|op| matches!(op, Op::Gate(_))).count(),
        replaced: replaced.unwrap_or_default(),
    }
}

impl Default for Options {
    fn default() -> Self {
        Self { max_flips: MaxFlips::DEFAULT, lanes: None, like: None, measure: true }
    }
}

/// A network within the budget, and how it was found.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantised {
    pub network: Network,
    pub report: QuantReport,
    /// What its user should know about it.
    pub warnings: Vec<Diagnostic>,
}

/// Finds the cheapest fixed-point network whose labels agree with the float model's within the budget.
///
/// Without calibration rows the budget is measured on rows drawn from the model's scaler.
///
/// # Errors
///
/// `E0305` when the outputs are too coarse for a probability, `E0306` when no candidate meets the budget, `E0308` to `E0310` when there is nothing to measure or nothing
/// fits, `E0312` when the model has another shape than the plan that it should fit.
pub fn quantise(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Outcome<Quantised> {
    match replaced::Behind::of(model, contract, calibration, options.like.as_ref())? {
        None => unreplaced(model, contract, calibration, options),
        Some(behind) => {
            let result = unreplaced(&behind.model, &behind.contract, behind.calibration(), options)?;
            behind.restored(result)
        }
    }
}

/// The same for a model that replaces no value that can arrive.
fn unreplaced(
    model: &Model,
    contract: &Contract,
    calibration: Option<Calibration<'_>>,
    options: &Options,
) -> Outcome<Quantised> {
    match &model.body {
        Body::Mlp(_) => {
            let left = match author::run(model, contract, calibration, options) {
                author::Route::Kept(result) => return *result,
                author::Route::Float => None,
                author::Route::Left(report, warning) => Some((report, *warning)),
            };
            let ended = linear_end(model);
            let result = search::run(ended.as_ref().unwrap_or(model), contract, calibration, options);
            match (result, left) {
                (Ok(mut result), Some((report, warning))) => {
                    result.report.levels = Some(report);
                    result.warnings.push(warning);
                    Ok(result)
                }
                (Err(errors), Some((_, warning))) => Err(errors.into_iter().chain([warning]).collect()),
                (result, None) => result,
            }
        }
        Body::Forest(trees) => forest::run(model, trees, contract, calibration, options),
    }
}

/// How far outputs of trees are off at most, when a network is made of these trees:
/// the table is built again and compared.
pub(crate) fn forest_error(trees: &model::Forest, network: &Network) -> Result<f64, String> {
    let plan = plan_of(network).forest;
    let own = network.ops.iter().find_map(|op| match op {
        Op::Forest(own) => Some(own),
        Op::Quantise(_) | Op::Dense(_) | Op::Table(_) | Op::Gate(_) => None,
    });
    let built = [None, plan.as_ref()].map(|plan| table::build(trees, &network.inputs, plan));
    let same = built.into_iter().flatten().find(|built| own == Some(&built.forest));
    let Some(table::Table { error, unit, forest, .. }) = same else {
        return Err("the trees are not those of the model".to_owned());
    };
    if network.decision.unit.to_bits() != unit.to_bits() {
        return Err("the trees have another unit than the model's".to_owned());
    }
    // Sums are below 2^52 units: they are exact in binary64 where leaves are, and else round once for each tree.
    let rounding = if error == 0.0 { 0.0 } else { (forest.trees as f64 + 16.0) * unit };
    Ok(error + rounding)
}

/// The same of a network of the author's integers; `None` when it is no such network.
pub(crate) fn authored_error(model: &Model, network: &Network) -> Option<Result<f64, String>> {
    let own = model.layers().first().map(|layer| layer.activation);
    let levels = matches!(own, Some(Activation::Function(model::Function::Levels(_))));
    if levels { author::error(model, network) } else { None }
}

/// A model whose last layer has an activation, with a layer behind it that leaves its values as they are: the
/// values of a last layer are sums.
pub(crate) fn linear_end(model: &Model) -> Option<Model> {
    let last = model.layers().last().filter(|layer| layer.activation != Activation::Identity)?;
    let width = last.weights.rows;
    let mut values = vec![0.0; width.checked_mul(width)?];
    values.iter_mut().step_by(width + 1).for_each(|value| *value = 1.0);
    let mut layers = model.layers().to_vec();
    layers.push(model::Dense {
        origin: last.origin.clone(),
        weights: Matrix { rows: width, columns: width, values },
        bias: vec![0.0; width],
        activation: Activation::Identity,
        plain: 0,
    });
    Some(Model { body: Body::Mlp(layers), ..model.clone() })
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod committed_tests;
