//! The network of an object: its plan with the parameters that are in it, proved again.

use super::refused;
use crate::bpf::module::Module;
use crate::check::{self, Checked};
use crate::diag::Outcome;
use crate::diag::codes::object::{CERTIFICATE_FALSE, METADATA_FALSE, OTHER_PARAMETERS};
use crate::ir::{Interval, Network, Op};
use crate::lower::network::Weights;
use crate::metadata::{self, Metadata, filled, without_parameters};
use crate::params::layout::{ACTIVE_SECTION, CONSTANTS_SECTION, Layout, SECTION, SLOTS, active_data};
use crate::params::slot;

/// The network that the code computes, with the intervals that follow from its parameters.
///
/// # Errors
///
/// `E0709` for a plan that contradicts itself, `E0711` for parameters that are not those that the metadata speaks
/// of, what [`check::check`] says of a network that overflows, `E0712` for a certificate that does not hold.
pub(super) fn of(module: &Module, metadata: &Metadata, file: &str) -> Outcome<Checked<Network>> {
    let plan = plan(metadata, file)?;
    let slot = compiled_in(module, metadata.weights, file)?;
    if metadata::parameters_hash(slot) != metadata.parameters_hash {
        let message = "the parameters in the object have another hash than the one that its metadata states";
        return Err(refused(&OTHER_PARAMETERS, file, message));
    }
    let network = filled(plan, slot).ok_or_else(|| {
        refused(&OTHER_PARAMETERS, file, "the parameters are none that the compiler writes for this plan")
    })?;
    if without_parameters(&network) != *plan {
        let message = "the plan states quantisers or rules that are not those of the parameters";
        return Err(refused(&METADATA_FALSE, file, message));
    }
    let network = check::check(network)?;
    certificate(&network, metadata, file)?;
    Ok(network)
}

/// Metadata that vouches for the parameters that are now in a module: their hash, and the intervals that follow from
/// them.
///
/// # Errors
///
/// As [`super::module`], for parameters of which nothing can be said.
pub fn vouched_again(module: &Module, metadata: &Metadata) -> Outcome<Metadata> {
    let file = "the module";
    let plan = plan(metadata, file)?;
    let slot = compiled_in(module, metadata.weights, file)?;
    let network = filled(plan, slot)
        .ok_or_else(|| refused(&OTHER_PARAMETERS, file, "the parameters are none of this plan"))?;
    let network = check::check(network)?;
    let mut metadata = metadata.clone();
    metadata.parameters_hash = metadata::parameters_hash(slot);
    metadata.certificate = network.certificate().clone();
    let plan = without_parameters(network.get());
    match metadata.weights {
        Weights::Map => metadata.plan = plan,
        Weights::Const => {
            // Quantisers and rules stand in both.
            for (ours, theirs) in metadata.plan.ops.iter_mut().zip(&plan.ops) {
                if !matches!(ours, Op::Dense(_)) {
                    ours.clone_from(theirs);
                }
            }
            metadata.plan.decision.clone_from(&plan.decision);
            metadata.constants = Some(plan);
        }
    }
    Ok(metadata)
}

/// What the code was written for.
fn plan<'a>(metadata: &'a Metadata, file: &str) -> Outcome<&'a Network> {
    match (metadata.weights, &metadata.constants) {
        (Weights::Map, None) => Ok(&metadata.plan),
        (Weights::Const, Some(constants)) if is_part_of(constants, &metadata.plan) => Ok(constants),
        (Weights::Const, Some(_)) => {
            Err(refused(&METADATA_FALSE, file, "the plan of the constants is no part of the plan"))
        }
        (Weights::Const, None) => Err(refused(
            &METADATA_FALSE,
            file,
            "the parameters are said to be constants, without a plan of them",
        )),
        (Weights::Map, Some(_)) => {
            Err(refused(&METADATA_FALSE, file, "there is a plan of constants, and none are said to be there"))
        }
    }
}

/// Whether one plan is another one without some neurons.
fn is_part_of(smaller: &Network, plan: &Network) -> bool {
    let same = smaller.inputs == plan.inputs
        && smaller.decision == plan.decision
        && smaller.origins == plan.origins
        && smaller.ops.len() == plan.ops.len();
    same && smaller.ops.iter().zip(&plan.ops).all(|(smaller, op)| match (smaller, op) {
        (Op::Dense(smaller), Op::Dense(dense)) => {
            (smaller.lanes, smaller.post) == (dense.lanes, dense.post)
                && smaller.rows <= dense.rows
                && smaller.columns <= dense.columns
        }
        (smaller, op) => smaller == op,
    })
}

/// The bytes of the compiled-in parameters.
fn compiled_in<'a>(module: &'a Module, weights: Weights, file: &str) -> Outcome<&'a [u8]> {
    let section = match weights {
        Weights::Map => SECTION,
        Weights::Const => CONSTANTS_SECTION,
    };
    let data = module.data.iter().find(|data| data.section == section);
    let data =
        data.ok_or_else(|| refused(&METADATA_FALSE, file, format!("the section `{section}` is missing")))?;
    match weights {
        Weights::Const => Ok(&data.bytes),
        Weights::Map => {
            let (first, second) = data.bytes.split_at(data.bytes.len() / SLOTS as usize);
            if first == second {
                Ok(first)
            } else {
                Err(refused(&OTHER_PARAMETERS, file, "the two slots hold different parameters"))
            }
        }
    }
}

/// What is stated, beside what follows from the parameters.
fn certificate(network: &Checked<Network>, metadata: &Metadata, file: &str) -> Outcome<()> {
    let stated = &metadata.certificate;
    let message = if !check::holds(network.get(), stated) {
        "the stated intervals do not contain what follows from the parameters"
    } else if metadata.compiler == super::VERSION && stated.ops != network.certificate().ops {
        "the stated intervals are wider than those that follow from the parameters"
    } else {
        return Ok(());
    };
    Err(refused(&CERTIFICATE_FALSE, file, message))
}

/// The accumulator that needs the largest part of its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct WidestLane {
    /// Position of the operation in the plan.
    pub op: usize,
    /// Row of its accumulator.
    pub row: usize,
    /// Bits that the accumulator needs, its sign included.
    pub bits: u32,
    pub lane_bits: u32,
}

/// The fullest lane of a network's dense layers; `None` without any.
pub(super) fn widest(network: &Checked<Network>) -> Option<WidestLane> {
    let ops = network.get().ops.iter().zip(&network.certificate().ops).enumerate();
    ops.filter_map(|(op, (layer, intervals))| match layer {
        Op::Dense(dense) => Some((op, dense, intervals)),
        Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_) => None,
    })
    .flat_map(|(op, dense, intervals)| {
        intervals.accumulators.iter().enumerate().map(move |(row, interval)| WidestLane {
            op,
            row,
            bits: bits(*interval),
            lane_bits: dense.lanes.bits(row),
        })
    })
    .min_by_key(|lane| lane.lane_bits.saturating_sub(lane.bits))
}

/// Bits of a signed number that reaches both ends.
fn bits(interval: Interval) -> u32 {
    let needed = |value: i64| 65 - (value ^ (value >> 63)).leading_zeros();
    needed(interval.low).max(needed(interval.high))
}

/// How many intervals a certificate has.
pub(super) fn intervals(network: &Checked<Network>) -> usize {
    network.certificate().ops.iter().map(|op| op.accumulators.len() + op.values.len()).sum()
}

/// Compares the sections of parameters with what the layout demands.
///
/// # Errors
///
/// `E0709`.
pub(super) fn sections(module: &Module, network: &Network, weights: Weights, file: &str) -> Outcome<()> {
    let layout = Layout::new(network);
    let slot = slot::bytes(network);
    let expected = match weights {
        Weights::Map => vec![layout.params_data(&slot), active_data()],
        Weights::Const => vec![layout.constants_data(slot)],
    };
    let ours = [SECTION, CONSTANTS_SECTION, ACTIVE_SECTION];
    if module.data.iter().filter(|data| ours.contains(&data.section.as_str())).eq(&expected) {
        return Ok(());
    }
    Err(refused(&METADATA_FALSE, file, "the sections of parameters are not those of the plan"))
}
