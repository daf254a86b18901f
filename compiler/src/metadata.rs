//! The metadata of an object: what the loader, `nnbpfc inspect` and `--like` need to know of it.
//!
//! The payload is JSON; the frame around it (magic, version, length, checksum) is [`crate::elf::metadata`]'s.
//! `docs/object-format.md` describes both for other readers.

mod stored;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::check::Certificate;
use crate::compile::{Plan, Target};
use crate::diag::codes::object::{CONSTANT_WEIGHTS, METADATA_CONTENT};
use crate::diag::{Diagnostic, Origin, Outcome};
use crate::elf::metadata::read_metadata;
use crate::ir::flow::FlowProgram;
use crate::ir::forest::Node;
use crate::ir::{Input, Network, Op};
use crate::lower::network::{Weights, pruned};
use crate::lower::packet::maps::SIDE_FLOWS;
use crate::params::file::ParamsFile;
use crate::params::layout::Layout;
use crate::params::slot;
use crate::quant::QuantReport;
use crate::spec::typed::{FeatureSpec, Hook, Rule, TimeUnit, Unit};

/// Version of the payload's structure.
pub const FORMAT: u32 = 3;

/// Most weights of a plan that is read: as many instructions as a chain of 33 programs may process, rounded up.
const MOST_WEIGHTS: usize = 1 << 25;

/// Everything an object says about itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metadata {
    pub format: u32,
    /// Version of the compiler that wrote it.
    pub compiler: String,
    /// The oldest kernel that it was built for.
    pub kernel: String,
    /// SHA-256 of the model file, in hexadecimal.
    pub model_hash: String,
    pub spec: Option<SpecMetadata>,
    /// Where the program belongs; none without a specification.
    pub hook: Option<Hook>,
    /// One entry per input of the model.
    pub features: Vec<FeatureMetadata>,
    /// Class labels of the first output; those of others are in the plan.
    pub labels: Vec<String>,
    /// SHA-256 of the plan: parameter files carry the same number.
    pub layout_hash: String,
    /// Where the parameters are.
    pub weights: Weights,
    /// Size of one of the two parameter slots; 0 when the parameters are constants in the code.
    pub slot_bytes: u32,
    /// The network without its parameters, which are in `.data.nn_params` or in the code.
    pub plan: Network,
    /// What the code computes when the parameters are constants: the plan without neurons that change nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constants: Option<Network>,
    /// SHA-256 of the compiled-in parameters: the bytes of a slot, or of `.rodata.nn_weights`.
    pub parameters_hash: String,
    /// The proved interval of every accumulator and value, for the compiled-in parameters: those of `constants`
    /// where there are constants.
    pub certificate: Certificate,
    pub quantisation: QuantReport,
    /// Instructions that the verifier is predicted to process for each program.
    #[serde(default)]
    pub verifier: BTreeMap<String, u64>,
    /// Bytes of the stack frame of each program and function.
    #[serde(default)]
    pub stack: BTreeMap<String, u32>,
}

/// The specification that the packet path was compiled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpecMetadata {
    pub name: String,
    pub version: u32,
    pub sha256: String,
    /// Its text, so that a retrained model is compiled for the object without any other file.
    pub source: String,
    /// The files that it uses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fragments: Vec<FragmentMetadata>,
    /// Values that replaced those of its `param` statements.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// SHA-256 of what a flow record is: objects that agree on it can go on with each other's records.
    pub records: String,
    /// The same of the records of each further table, by the name of its map.
    #[serde(default)]
    pub tables: BTreeMap<String, String>,
    /// What each rule does, in order.
    pub rules: Vec<RuleMetadata>,
}

/// A file that a specification uses.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FragmentMetadata {
    /// As the first user calls it; no two have the same name.
    pub name: String,
    /// Who uses it, 0 for the specification and further fragments from 1, and the words that name it there.
    pub uses: Vec<(usize, String)>,
    pub source: String,
}

/// One rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuleMetadata {
    pub label: String,
    /// The output that the label is of, where the model has several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// In millionths.
    pub threshold: Option<u32>,
}

/// One feature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeatureMetadata {
    pub name: String,
    pub unit: Option<String>,
    pub fraction_bits: u8,
    /// Raw values that can arise.
    pub low: i64,
    pub high: i64,
}

impl Metadata {
    /// The refusal of what swaps in parameters when the object's are constants; `file` is how the user named
    /// what says so.
    #[must_use]
    pub fn constant_weights(&self, file: &str) -> Option<Box<Diagnostic>> {
        match self.weights {
            Weights::Map => None,
            Weights::Const => Some(Box::new(Diagnostic::new(
                &CONSTANT_WEIGHTS,
                Origin::File { file: file.to_owned() },
                "the object's parameters are constants in its code, which cannot be updated",
                "compile the retrained model to a new object with `nnbpfc MODEL SPEC -o OBJ` and put it in place with \
                 `nnbpf update OBJ`; objects without `--weights const` take parameters",
            ))),
        }
    }

    /// The same with what [`crate::lower::cost::needs`] says of the module.
    pub(crate) fn needing(self, (verifier, stack): (BTreeMap<String, u64>, BTreeMap<String, u32>)) -> Self {
        Self { verifier, stack, ..self }
    }

    /// The metadata of a plan, but for what its module needs.
    #[must_use]
    pub fn of(plan: &Plan, target: &Target) -> Self {
        let network = plan.network.get();
        let layout = Layout::new(network);
        let spec = plan.spec.as_ref();
        let constants = match target.network.weights {
            Weights::Map => None,
            Weights::Const => Some(pruned(&plan.network)),
        };
        let computed = constants.as_ref().unwrap_or(&plan.network);
        Self {
            format: FORMAT,
            compiler: env!("CARGO_PKG_VERSION").to_owned(),
            kernel: target.kernel.to_string(),
            model_hash: hex(&plan.model.hash),
            spec: spec.map(|spec| SpecMetadata::of(spec, plan.flow.as_ref())),
            hook: spec.map(|spec| spec.hook),
            features: features(network, spec),
            labels: network.decision.first.labels.clone(),
            layout_hash: hex(&layout.hash()),
            weights: target.network.weights,
            slot_bytes: match target.network.weights {
                Weights::Map => layout.bytes(),
                Weights::Const => 0,
            },
            plan: without_parameters(network),
            constants: constants.as_ref().map(|network| without_parameters(network.get())),
            parameters_hash: parameters_hash(&slot::bytes(computed.get())),
            certificate: Certificate { error: plan.certificate().error, ..computed.certificate().clone() },
            // Measurements for `--report`, which say nothing about the object itself.
            quantisation: QuantReport { errors: None, precision: None, ..plan.report.clone() },
            verifier: BTreeMap::new(),
            stack: BTreeMap::new(),
        }
    }
}

impl SpecMetadata {
    /// What is said of a specification and its flow program.
    pub(crate) fn of(spec: &FeatureSpec, flow: Option<&FlowProgram>) -> Self {
        let rule = |rule: &Rule| {
            let output = spec.outputs.get(rule.output);
            RuleMetadata {
                label: output.and_then(|output| output.labels.get(rule.label)).cloned().unwrap_or_default(),
                output: output.filter(|_| spec.outputs.len() > 1).and_then(|output| output.name.clone()),
                threshold: rule.threshold.map(|probability| probability.0),
            }
        };
        Self {
            name: spec.name.clone(),
            version: spec.version,
            sha256: stored::digest(spec),
            source: spec.source.clone(),
            fragments: stored::fragments(spec),
            parameters: stored::parameters(spec),
            records: flow.map(|flow| hex(&flow.identity())).unwrap_or_default(),
            tables: flow.map(tables).unwrap_or_default(),
            rules: spec.rules.iter().map(rule).collect(),
        }
    }
}

/// What is said of the inputs of a network.
pub(crate) fn features(network: &Network, spec: Option<&FeatureSpec>) -> Vec<FeatureMetadata> {
    let one = |(index, input): (usize, &Input)| FeatureMetadata {
        name: input.name.clone(),
        unit: spec.and_then(|spec| spec.features.get(index)).map(|feature| unit(feature.unit)),
        fraction_bits: input.fraction_bits.0,
        low: input.range.low,
        high: input.range.high,
    };
    network.inputs.iter().enumerate().map(one).collect()
}

/// SHA-256 of the bytes of a slot, in hexadecimal.
pub(crate) fn parameters_hash(slot: &[u8]) -> String {
    hex(&Sha256::digest(slot))
}

/// The payload of the metadata section; [`crate::elf::write`] puts the frame around it.
#[must_use]
pub fn encode(metadata: &Metadata) -> Vec<u8> {
    // The structure has string keys only and no maps, so it always serialises.
    serde_json::to_vec(metadata).unwrap_or_default()
}

/// Reads the metadata of an object; `file` is how the user named it.
///
/// # Errors
///
/// `E0701` to `E0705` for what is no object of ours, `E0706` for a payload that does not read.
pub fn decode(object: &[u8], file: &str) -> Outcome<Metadata> {
    from_payload(&read_metadata(object, file)?, file)
}

/// Reads the payload, whose frame was checked when it was taken out of the object.
///
/// # Errors
///
/// `E0706` for a payload that does not read.
pub fn from_payload(payload: &[u8], file: &str) -> Outcome<Metadata> {
    let metadata: Result<Metadata, _> = serde_json::from_slice(payload);
    let reason = match metadata {
        Ok(metadata)
            if metadata.format == FORMAT
                && !std::iter::once(&metadata.plan).chain(&metadata.constants).all(plausible) =>
        {
            "its plan has more weights than any object".to_owned()
        }
        Ok(metadata) if metadata.format == FORMAT => return Ok(metadata),
        Ok(metadata) => format!("its format is {}, this program reads {FORMAT}", metadata.format),
        Err(error) => error.to_string(),
    };
    Err(vec![Diagnostic::new(
        &METADATA_CONTENT,
        Origin::File { file: file.to_owned() },
        format!("the metadata does not read: {reason}"),
        "use the nnbpf and nnbpfc of the release that compiled the object, or compile it again",
    )])
}

/// Whether a plan, whose shapes are but numbers, is small enough to be filled with parameters.
fn plausible(plan: &Network) -> bool {
    let weights = plan.ops.iter().try_fold(0usize, |sum, op| match op {
        Op::Quantise(_) | Op::Gate(_) => Some(sum),
        Op::Table(table) => sum.checked_add(1usize.checked_shl(u32::from(table.bits))?),
        Op::Dense(dense) => {
            let one = dense.rows.checked_mul(dense.columns.checked_add(1)?)?;
            sum.checked_add(one.max(dense.rows).max(dense.columns))
        }
        Op::Forest(forest) => {
            let leaves = forest.rows.checked_mul(forest.stride().max(1))?;
            sum.checked_add(forest.pairs.checked_mul(4)?)?.checked_add(leaves)?.checked_add(forest.outputs)
        }
    });
    weights.is_some_and(|weights| weights <= MOST_WEIGHTS)
}

/// A network of the plan with the parameters of a file, as unproved as its bytes: check it.
///
/// `None` when the file is not for this plan, or when its slot is none that the compiler would write for these
/// parameters: words that belong to no parameter must be zero, because the proof knows nothing of them.
#[must_use]
pub fn with_parameters(metadata: &Metadata, params: &ParamsFile) -> Option<Network> {
    let plan = room_for_parameters(&metadata.plan)?;
    let layout = Layout::new(&plan).hash();
    if layout != params.layout_hash || hex(&layout) != metadata.layout_hash {
        return None;
    }
    let mut network = read_slot(&plan, &params.slot)?;
    network.decision.unit = params.unit;
    Some(network)
}

/// A network of a plan without parameters with those of a slot, as unproved as its bytes: check it. `None` when the
/// slot is none that the compiler would write.
pub(crate) fn filled(plan: &Network, slot: &[u8]) -> Option<Network> {
    read_slot(&room_for_parameters(plan)?, slot)
}

fn read_slot(plan: &Network, slot: &[u8]) -> Option<Network> {
    let network = slot::read(plan, slot)?;
    (slot::bytes(&network) == slot).then_some(network)
}

/// The plan with zeros for parameters.
fn room_for_parameters(plan: &Network) -> Option<Network> {
    let mut plan = plan.clone();
    for op in &mut plan.ops {
        match op {
            Op::Quantise(_) | Op::Gate(_) => {}
            Op::Dense(dense) => {
                dense.weights = vec![0; dense.rows.checked_mul(dense.columns)?];
                dense.bias = vec![0; dense.rows];
            }
            Op::Table(table) => table.entries = vec![0; 1usize.checked_shl(u32::from(table.bits))?],
            Op::Forest(forest) => {
                forest.nodes = vec![Node::leaf(0, 0); forest.pairs.checked_mul(2)?];
                forest.leaves = vec![0; forest.rows.checked_mul(forest.stride())?];
                forest.base = vec![0; forest.outputs];
            }
        }
    }
    Some(plan)
}

/// Lower-case hexadecimal digits.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn tables(flow: &FlowProgram) -> BTreeMap<String, String> {
    let hashes = flow.side_identities().into_iter();
    hashes.map(|(name, hash)| (format!("{SIDE_FLOWS}{name}"), hex(&hash))).collect()
}

/// The plan of a network.
pub(crate) fn without_parameters(network: &Network) -> Network {
    let mut plan = network.clone();
    for op in &mut plan.ops {
        match op {
            Op::Quantise(_) | Op::Gate(_) => {}
            Op::Dense(dense) => {
                dense.weights.clear();
                dense.bias.clear();
            }
            Op::Table(table) => table.entries.clear(),
            Op::Forest(forest) => {
                forest.nodes.clear();
                forest.leaves.clear();
                forest.base.clear();
            }
        }
    }
    plan
}

fn unit(unit: Unit) -> String {
    match unit {
        Unit::Packets => "packets",
        Unit::Bytes => "bytes",
        Unit::PacketsPerSecond => "packets/s",
        Unit::BytesPerSecond => "bytes/s",
        Unit::Plain => "",
        Unit::Time(TimeUnit::Nanos) => "ns",
        Unit::Time(TimeUnit::Micros | TimeUnit::MicroTicks) => "us",
        Unit::Time(TimeUnit::Millis | TimeUnit::MilliTicks) => "ms",
        Unit::Time(TimeUnit::Seconds | TimeUnit::SecondTicks) => "s",
    }
    .to_owned()
}
