//! What quantisation did, for `--report` and for the eye.

use serde::{Deserialize, Serialize};

use crate::ir::Interval;

/// The whole report. Everything in it is a function of model, contract, rows and options.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct QuantReport {
    /// Whether rows were given; otherwise they were drawn from the model's scaler.
    pub calibrated: bool,
    /// Rows compared, ties not among them.
    pub rows: usize,
    /// Rows on which single and double precision disagree.
    pub ties: usize,
    /// Rows whose label changed.
    pub flips: u64,
    /// What the budget allows.
    pub allowed: u64,
    pub predicted_ns: f64,
    pub inputs: Vec<InputReport>,
    pub layers: Vec<LayerReport>,
    /// Decision trees, in the place of layers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub forest: Option<ForestReport>,
    /// What became of the quantisation that the model has by its author, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub levels: Option<LevelsReport>,
    /// Rules with a probability, in the order of the specification.
    #[serde(default)]
    pub thresholds: Vec<ThresholdReport>,
    /// What the integers cost in outputs and scores.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errors: Option<Errors>,
    /// What each part costs; trees have none that costs anything but the rounding of leaves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub precision: Option<Precision>,
    /// What was tried, in order.
    pub search: Vec<Attempt>,
}

/// What became of a model's own quantisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LevelsReport {
    /// Whether its levels are kept; otherwise the model is quantised like a float model.
    pub kept: bool,
    /// Quantisers that give the neighbouring level for some numbers very near to a half, as nothing exact fits.
    pub nearly: usize,
    /// The node at which keeping them ends, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Largest and mean magnitude of differences.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    pub most: f64,
    pub mean: f64,
}

/// Differences from the float model in double precision, over rows spread evenly through those that were compared.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Errors {
    /// Rows that were looked at.
    pub rows: usize,
    /// Raw outputs: logits, or the values of a regressor.
    pub outputs: Spread,
    /// Scores: probabilities of labels; `None` for a regressor.
    pub scores: Option<Spread>,
}

/// What would remain if one part were exact, over the rows nearest to another label.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Precision {
    pub rows: usize,
    /// Flips and differences of raw outputs over these rows as things are.
    pub flips: u64,
    pub outputs: Option<Spread>,
    /// The input quantiser, then the layers.
    pub parts: Vec<PartReport>,
    /// Why there are no figures.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub skipped: Option<String>,
}

/// One part of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PartReport {
    /// `input quantiser`, or the node of the layer.
    pub name: String,
    /// Position among the layers.
    pub layer: Option<usize>,
    /// Flips and differences of raw outputs that would remain.
    pub flips_if_exact: u64,
    /// Differences of scores that would remain; `None` for a regressor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores_if_exact: Option<Spread>,
    pub outputs_if_exact: Spread,
}

/// One feature's quantiser.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputReport {
    pub name: String,
    pub fraction_bits: u8,
    /// Clamping range in the feature's own unit.
    pub low: f64,
    pub high: f64,
    /// Distance of two neighbouring quantised values in the feature's own unit.
    pub step: f64,
    /// What the quantised value lies in.
    pub quantised: Interval,
    /// Sampled rows that the range clamps.
    pub saturated: u64,
}

/// One dense layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerReport {
    pub layer: usize,
    /// The node it came from.
    pub node: String,
    pub outputs: usize,
    pub inputs: usize,
    /// Accumulators per register.
    pub lanes: usize,
    /// Width of its activations; `None` for raw outputs.
    pub bits: Option<u8>,
    pub shift: u8,
    /// The table of a function that is no sum of ReLUs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<TableReport>,
    /// Bits of the widest proved accumulator, its sign included.
    pub accumulator_bits: u32,
    /// Of the widest lane.
    pub lane_bits: u32,
    /// Of every lane, from the lowest on.
    #[serde(default)]
    pub widths: Vec<u32>,
    /// Real value of one unit of a result: the finest and the coarsest neuron.
    pub finest_unit: f64,
    pub coarsest_unit: f64,
    /// Sampled activations that the clamp cuts.
    pub saturated: u64,
    /// Whether code clamps the activations of packed lanes: they are narrower than what a lane can hold.
    pub clamped: bool,
    pub predicted_ns: f64,
    /// The model's row of each neuron, where lanes of different widths move them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<usize>,
}

/// A function by a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TableReport {
    pub function: String,
    pub entries: usize,
    /// The sums that it covers; larger ones saturate unless the function is flat there.
    pub low: f64,
    pub high: f64,
    /// Real value of one unit of an entry.
    pub unit: f64,
    /// Proved: no result is farther from the function of its sum, saturation aside.
    pub error: f64,
}

/// Decision trees. Every comparison is the float model's, so that nothing is lost but what sums of leaves round.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ForestReport {
    /// The node it came from.
    pub node: String,
    pub trees: usize,
    pub depth: u32,
    /// Nodes of the model that some raw value can reach, leaves included, and how many there is room for.
    pub nodes: usize,
    pub node_capacity: usize,
    /// Different rows of leaf values, and how many there is room for.
    pub leaf_rows: usize,
    pub leaf_row_capacity: usize,
    pub outputs: usize,
    /// Bits of the widest proved sum, its sign included.
    pub sum_bits: u32,
    /// Most that rounded leaves can move an output by, in its own unit.
    pub score_error: f64,
}

/// What a rule with a probability does to the rows that were compared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThresholdReport {
    /// Position of the rule in the specification, from 0.
    pub rule: u32,
    pub label: String,
    /// The probability.
    pub millionths: u32,
    /// Rows on which the rule fires.
    pub fired: u64,
    /// Rows on which it fires and should not by the float model, or the other way round.
    pub changed: u64,
    /// Rows on which the sum over more than two classes is so near to its limit that its error may decide.
    pub within_error: u64,
}

/// One combination of lanes that the search looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// Accumulators per register, layer by layer.
    pub lanes: Vec<usize>,
    /// Whether code clamps the activations of packed lanes, layer by layer.
    pub clamped: Vec<bool>,
    pub predicted_ns: f64,
    /// Share of rows, nearest to the boundary first, that ranges were taken from.
    pub clip: f64,
    /// Factor on every input step and bits added to every activation.
    pub input_step: f64,
    pub more_bits: i32,
    /// Factor on every neuron's finest scale.
    pub slack: f64,
    /// Flips among the rows nearest to the boundary; counting stops early when there are far too many.
    pub pilot_flips: u64,
    /// Flips among all rows; `None` when the pilot already showed too many.
    pub flips: Option<u64>,
}
