//! How far the integers can be off the float model, proved for every input: interval and affine analysis of both at
//! once.
//!
//! [`prove`] makes the statement that stands in the metadata as `certificate.error`; [`recheck`] derives it again
//! from model, network and the scales in the statement, which are hints: wrong ones only make what follows larger.
//!
//! ```text
//! pub fn prove(model: &Model, network: &Network, orders: &[Vec<usize>]) -> ErrorBound
//! pub fn recheck(model: &Model, network: &Network, claimed: &ErrorBound) -> Result<(), String>
//! ```
//!
//! Of both, `model` is the float model behind [`crate::quant::contract::between`], which a reconstruction changes, and
//! `network` has its parameters (of an object: [`crate::metadata::with_parameters`]). `orders` has for each layer the
//! model's row of each of the network's neurons, or nothing for a layer in the model's order.
//!
//! `form` has affine forms, `subject` puts both sides on one scale, `walk` goes through them; `docs/numerics.md` has
//! the derivation.

mod curve;
mod form;
mod subject;
mod walk;

use serde::{Deserialize, Serialize};

use crate::check::{Certificate, MOST_RAW};
use crate::compile::Plan;
use crate::ir::{Interval, Network};
use crate::model::{Body, Model};
use crate::quant::{authored_error, forest_error};

pub use form::Span;
pub(crate) use subject::Subject;
pub(crate) use walk::{Mode, Outputs};

/// Version of the statement.
pub const VERSION: u32 = 1;

/// Published bounds are so much larger than computed ones, so that hints that were rounded on their way through
/// decimals give no larger ones.
const MARGIN: f64 = 1.0 + 1.0 / (1u64 << 30) as f64;

/// How far outputs can be off.
///
/// The real value of a raw output, `raw * unit / 2^finer`, differs from the float model's output by no more than
/// this, for every raw feature vector in `region`, whether the float model is evaluated in real arithmetic or in
/// binary64. Outside of the region integers see the nearest feature inside, and the bound holds against the float
/// model at that one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ErrorBound {
    /// [`VERSION`].
    pub version: u32,
    /// One entry per raw output, in order; none when there is no bound.
    pub outputs: Vec<OutputBound>,
    /// Why there is no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Whether any activation can be cut off within the region.
    pub saturates: bool,
    /// Least and greatest raw value of each feature.
    pub region: Vec<Interval>,
    /// Hints: what one unit of each result stands for, layer by layer.
    pub scales: Vec<LayerScales>,
}

/// How far one output can be off, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct OutputBound {
    /// Over the whole region.
    pub bound: f64,
    /// The same by intervals alone, without affine forms.
    pub interval: f64,
    /// Over the features of the region at which no activation is cut off: `bound` where none can be.
    pub unsaturated: f64,
}

/// What the integers of a layer stand for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LayerScales {
    /// The model's row of each neuron, where the order is another one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub order: Vec<usize>,
    /// Real value of one unit of each neuron's result.
    pub units: Vec<f64>,
    /// What each neuron's 0 stands for, where that is not 0.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub zeros: Vec<f64>,
}

/// Whole-number products and sums, or only those at which nothing is cut off.
const WHOLE: Mode = Mode { forms: true, uncut: false };
pub(crate) const UNCUT: Mode = Mode { forms: true, uncut: true };
const INTERVALS: Mode = Mode { forms: false, uncut: false };

/// Bounds the error of a network.
#[must_use]
pub fn prove(model: &Model, network: &Network, orders: &[Vec<usize>]) -> ErrorBound {
    bound(model, network, orders, None)
}

/// Derives a bound again and compares.
///
/// # Errors
///
/// What does not hold: another version, a region or an output of other shape, or a claim that is smaller than what
/// follows. A statement without a bound is an error too, with its reason.
pub fn recheck(model: &Model, network: &Network, claimed: &ErrorBound) -> Result<(), String> {
    if claimed.version != VERSION {
        return Err(format!("the statement's version is {}, this program knows {VERSION}", claimed.version));
    }
    if let Some(reason) = &claimed.reason {
        return Err(format!("there is no bound: {reason}"));
    }
    let orders: Vec<Vec<usize>> = claimed.scales.iter().map(|scales| scales.order.clone()).collect();
    let derived = bound(model, network, &orders, Some(&claimed.scales));
    if let Some(reason) = derived.reason {
        return Err(reason);
    }
    if derived.region != claimed.region || derived.outputs.len() != claimed.outputs.len() {
        return Err("the statement is about other features or outputs".to_owned());
    }
    for (index, (derived, claimed)) in derived.outputs.iter().zip(&claimed.outputs).enumerate() {
        let pairs = [
            (claimed.bound, derived.bound),
            (claimed.interval, derived.interval),
            (claimed.unsaturated, derived.unsaturated),
        ];
        // Not the other way round: a claim that is no number holds nothing.
        if !pairs.iter().all(|(claimed, derived)| claimed * MARGIN >= *derived) {
            return Err(format!(
                "output {index} is said to be off by at most {:e}, and {:e} follows",
                claimed.bound, derived.bound
            ));
        }
    }
    if derived.saturates && !claimed.saturates {
        return Err("an activation can be cut off, which the statement denies".to_owned());
    }
    Ok(())
}

fn bound(
    model: &Model,
    network: &Network,
    orders: &[Vec<usize>],
    scales: Option<&[LayerScales]>,
) -> ErrorBound {
    if !model.replaced.is_empty() {
        return ErrorBound::none("raw values are replaced before they are quantised".to_owned());
    }
    if let Body::Forest(trees) = &model.body {
        return same_integers(forest_error(trees, network), network);
    }
    if let Some(error) = authored_error(model, network) {
        return same_integers(error, network);
    }
    let subject = match Subject::new(model, network, orders, scales) {
        Ok(subject) => subject,
        Err(reason) => return ErrorBound::none(reason),
    };
    let whole = subject.walk(&subject.region, WHOLE);
    let intervals = subject.walk(&subject.region, INTERVALS).errors();
    let uncut = if whole.cut { subject.walk(&subject.region, UNCUT).errors() } else { whole.errors() };
    let outputs: Vec<OutputBound> = whole
        .errors()
        .iter()
        .zip(intervals)
        .zip(uncut)
        .map(|((&bound, interval), uncut)| OutputBound {
            bound: bound.min(interval) * MARGIN,
            interval: interval * MARGIN,
            unsaturated: uncut.min(bound).min(interval) * MARGIN,
        })
        .collect();
    if !outputs.iter().all(|output| output.bound.is_finite() && output.interval.is_finite()) {
        return ErrorBound::none("the bound leaves binary64".to_owned());
    }
    ErrorBound {
        version: VERSION,
        outputs,
        reason: None,
        saturates: whole.cut,
        scales: subject.scales(orders),
        region: subject.region,
    }
}

/// Networks that are the model's own numbers for every raw value, but for what outputs are rounded by.
fn same_integers(error: Result<f64, String>, network: &Network) -> ErrorBound {
    let error = match error {
        Ok(error) => error * MARGIN,
        Err(reason) => return ErrorBound::none(reason),
    };
    let output = OutputBound { bound: error, interval: error, unsaturated: error };
    let inside = |value: i64| value.clamp(-MOST_RAW, MOST_RAW);
    let ranges = network.inputs.iter().map(|input| input.range);
    ErrorBound {
        version: VERSION,
        outputs: vec![output; network.output_count()],
        reason: None,
        saturates: false,
        region: ranges.map(|range| Interval { low: inside(range.low), high: inside(range.high) }).collect(),
        scales: Vec::new(),
    }
}

impl ErrorBound {
    fn none(reason: String) -> Self {
        Self {
            version: VERSION,
            outputs: Vec::new(),
            reason: Some(reason),
            saturates: false,
            region: Vec::new(),
            scales: Vec::new(),
        }
    }

    /// In words, for `inspect`.
    #[must_use]
    pub fn words(&self) -> String {
        match (&self.reason, self.worst()) {
            (Some(reason), _) => format!("no bound of their error: {reason}"),
            (None, Some(worst)) if self.saturates => {
                let most = self.outputs.iter().map(|output| output.unsaturated).fold(0.0, f64::max);
                format!("off by {worst:.3e} at most, and {most:.3e} where no activation is cut off")
            }
            (None, worst) => format!("off by {:.3e} at most", worst.unwrap_or(0.0)),
        }
    }

    /// The largest bound of any output.
    #[must_use]
    pub fn worst(&self) -> Option<f64> {
        self.outputs.iter().map(|output| output.bound).reduce(f64::max)
    }
}

impl Plan {
    /// What was proved about the network: its intervals, and how far its outputs can be off the model's.
    #[must_use]
    pub fn certificate(&self) -> Certificate {
        let error = prove(&self.model, self.network.get(), &self.orders());
        Certificate { error: Some(error), ..self.network.certificate().clone() }
    }

    /// The order of each layer's neurons.
    pub(crate) fn orders(&self) -> Vec<Vec<usize>> {
        self.report.layers.iter().map(|layer| layer.order.clone()).collect()
    }
}

#[cfg(test)]
pub(crate) mod tests;
