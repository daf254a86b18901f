//! Checks an object again from its bytes alone: that its code computes the network that its metadata and parameters
//! say, that no accumulator of it overflows, and that everything around it is what the specification says.
//!
//! | file | what |
//! |---|---|
//! | `holds` | the parts that the metadata speaks of are there, with their sizes |
//! | `network` | plan and parameters make a network, whose intervals are derived again |
//! | [`crate::prove`] | the network's instructions compute it |
//! | `access` | every access to memory stays within a value, a packet or the stack |
//! | `path` | everything around the network is what the specification compiles to |
//!
//! `book/src/verify.md` says what this proves and what it assumes.

mod access;
mod holds;
mod network;
mod path;

pub use network::{WidestLane, vouched_again};
pub use path::is_network;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bounds;
use crate::bpf::module::{Function, Module};
use crate::bpf::{Insn, Reg};
use crate::check::Checked;
use crate::compile::{Named, Plan};
use crate::diag::codes::object::{CERTIFICATE_FALSE, NOT_THE_NETWORK, OTHER_SOURCE};
use crate::diag::{Code, Diagnostic, Origin, Outcome};
use crate::elf::read;
use crate::ir::Network;
use crate::lower::network::{Weights, pruned};
use crate::lower::packet::Clock;
use crate::lower::walk::Field;
use crate::metadata::{self, Metadata};
use crate::prove;
use crate::spec::Surroundings;
use crate::spec::substance::substance;
use path::Expected;

/// Release of this compiler, which the packet path of an object must be compiled by.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// How much of an object is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Extent {
    /// All of it: what a loader must ask for.
    Whole,
    /// All but the comparison of the packet path with the specification, which only the release that compiled the
    /// object can make.
    Network,
}

/// An object that holds what it promises.
#[derive(Debug, Clone)]
pub struct Verified {
    pub metadata: Metadata,
    pub module: Module,
    pub network: Checked<Network>,
    pub report: Report,
    expected: Option<Expected>,
}

/// What was checked, in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Programs and functions that were decoded.
    pub functions: usize,
    /// Their instructions.
    pub instructions: usize,
    /// Intervals of accumulators and values that were derived again.
    pub intervals: usize,
    /// The accumulator with the least room in its lane; none without dense layers.
    pub widest: Option<WidestLane>,
    /// What was proved of the network's code.
    pub network: Proved,
    /// What was shown of everything around the network.
    pub path: PathReport,
}

/// The proof that the network's code computes the network ([`prove::network`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Proved {
    /// `nn_infer` and the programs behind it.
    pub functions: usize,
    /// Executed on terms, as often as loops run.
    pub instructions: u64,
    /// Results that were compared.
    pub stores: usize,
    /// Functions of a packed word that were compared as decision diagrams.
    pub diagrams: usize,
}

/// What was shown of the packet path.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathReport {
    /// Functions and programs around the network.
    pub functions: usize,
    pub instructions: usize,
    /// Whether they are what the specification compiles to; otherwise that was not asked for.
    pub derived: bool,
    /// Whether time comes from a section that a replay sets, instead of the kernel.
    pub replay: bool,
    /// Instructions that touch bytes of packets.
    pub packet_accesses: usize,
    /// Fields of maps and sections that are touched.
    pub touched: BTreeMap<String, Vec<Field>>,
}

/// Checks an object; `file` is how the user named it.
///
/// # Errors
///
/// `E0701` to `E0706` for what is no object of ours, `E0709` to `E0716` for the first thing that does not hold, and
/// the codes of [`crate::check`] for a network that overflows.
pub fn object(bytes: &[u8], file: &str, extent: Extent) -> Outcome<Verified> {
    let inventory = read::read(bytes, file)?;
    let metadata = metadata::decode(bytes, file)?;
    holds::check(&inventory, &metadata, file)?;
    module(read::module(bytes, file)?, metadata, file, extent)
}

/// Checks a module that was decoded from an object ([`read::module`]) with its metadata.
///
/// # Errors
///
/// As [`object()`], but for what is wrong with the file.
pub fn module(module: Module, metadata: Metadata, file: &str, extent: Extent) -> Outcome<Verified> {
    let network = network::of(&module, &metadata, file)?;
    let expected = match extent {
        Extent::Whole => {
            let expected = Expected::derive(&module, &metadata, &network, file)?;
            expected.compare(&module, file)?;
            Some(expected)
        }
        Extent::Network => {
            network::sections(&module, network.get(), metadata.weights, file)?;
            None
        }
    };
    path::stack(&module, &metadata, file)?;
    let proof = proved(&module, &network, metadata.weights, file)?;
    let touched = access::all(&module, file)?;
    let around: Vec<&Function> = functions(&module).filter(|function| !is_network(&function.name)).collect();
    let report = Report {
        functions: functions(&module).count(),
        instructions: functions(&module).map(length).sum(),
        intervals: network::intervals(&network),
        widest: network::widest(&network),
        network: proof,
        path: PathReport {
            functions: around.len(),
            instructions: around.iter().map(|function| length(function)).sum(),
            derived: expected.is_some(),
            replay: expected.as_ref().is_some_and(|expected| expected.clock == Clock::Replay),
            packet_accesses: touched.packet.len(),
            touched: touched
                .values
                .into_iter()
                .map(|(name, fields)| (name, fields.into_iter().collect()))
                .collect(),
        },
    };
    Ok(Verified { metadata, module, network, report, expected })
}

impl Verified {
    /// Checks a function that stands in place of the one of this name, everything else being as it was verified.
    ///
    /// # Errors
    ///
    /// `E0713` or `E0714`.
    pub fn with_function(&self, function: &Function, file: &str) -> Outcome<()> {
        if is_network(&function.name) {
            let of_network = |functions: &[Function]| -> Vec<Function> {
                let ours = functions.iter().filter(|one| is_network(&one.name));
                ours.map(|one| if one.name == function.name { function } else { one }).cloned().collect()
            };
            let module = Module {
                programs: of_network(&self.module.programs),
                functions: of_network(&self.module.functions),
                maps: self.module.maps.clone(),
                data: self.module.data.clone(),
                metadata: Vec::new(),
            };
            return proved(&module, &self.network, self.metadata.weights, file).map(|_| ());
        }
        match &self.expected {
            Some(expected) => expected.compare_one(function, file),
            None => Ok(()),
        }
    }
}

/// Compares a verified object with a plan of the model that it is said to be compiled from, in the object's own plan
/// ([`crate::quant::plan_of`]): the hash of the file, every number of the network, and the stated error.
///
/// # Errors
///
/// `E0717`, `E0712` for a stated error that does not follow from the model; `model` is how the user named the model.
pub fn same_model(verified: &Verified, plan: &Plan, model: &str) -> Outcome<()> {
    let metadata = &verified.metadata;
    let hash = metadata::hex(&plan.model.hash);
    let other = |message: String| {
        let help =
            "give the model that the object was compiled from, with the rows that it was calibrated on";
        vec![Diagnostic::new(&OTHER_SOURCE, Origin::File { file: model.to_owned() }, message, help)]
    };
    if hash != metadata.model_hash {
        return Err(other(format!(
            "the object was compiled from a model with the hash {}, and this one's is {hash}",
            metadata.model_hash
        )));
    }
    let computed = match metadata.weights {
        Weights::Map => plan.network.clone(),
        Weights::Const => pruned(&plan.network),
    };
    if computed.get() != verified.network.get() {
        let message = "in the object's plan the model compiles to other parameters than those in the object";
        return Err(other(message.to_owned()));
    }
    match &metadata.certificate.error {
        Some(claimed) if claimed.reason.is_none() => {
            let derived = bounds::recheck(&plan.model, plan.network.get(), claimed);
            derived.map_err(|reason| {
                refused(&CERTIFICATE_FALSE, model, format!("the stated error does not hold: {reason}"))
            })
        }
        Some(_) | None => Ok(()),
    }
}

/// Compares the specification of an object with another text of it: what it says apart from the values of parameters
/// and its names.
///
/// # Errors
///
/// `E0717`, and what is wrong with either text.
pub fn same_spec(verified: &Verified, spec: Named<'_>, surroundings: &Surroundings<'_>) -> Outcome<()> {
    let stored = verified.metadata.spec.as_ref();
    let theirs = match stored {
        Some(stored) => {
            let parameters = stored.given();
            let surroundings = Surroundings { parameters: &parameters, fragments: stored };
            substance(Named { name: &stored.file(), bytes: stored.source.as_bytes() }, &surroundings)?
        }
        None => Vec::new(),
    };
    if substance(spec, surroundings)? == theirs {
        return Ok(());
    }
    let help = "give the specification that the object was compiled from, with the values of its parameters";
    let origin = Origin::File { file: spec.name.to_owned() };
    let message = "the object was compiled from another specification";
    Err(vec![Diagnostic::new(&OTHER_SOURCE, origin, message, help)])
}

/// Proves the code of the network.
fn proved(module: &Module, network: &Checked<Network>, weights: Weights, file: &str) -> Outcome<Proved> {
    let proof = prove::network(module, network.get(), weights).map_err(|mismatch| {
        let prove::Mismatch { function, instruction, reason } = mismatch;
        let message =
            format!("`{function}` does not compute the network, at instruction {instruction}: {reason}");
        refused(&NOT_THE_NETWORK, file, message)
    })?;
    let prove::Proof { functions, instructions, stores, diagrams } = proof;
    Ok(Proved { functions, instructions, stores, diagrams })
}

fn functions(module: &Module) -> impl Iterator<Item = &Function> {
    module.programs.iter().chain(&module.functions)
}

/// Instructions, without labels.
fn length(function: &Function) -> usize {
    function.code.iter().filter(|insn: &&Insn<Reg>| !matches!(insn, Insn::Label(_))).count()
}

fn refused(code: &'static Code, file: &str, message: impl Into<String>) -> Vec<Diagnostic> {
    let origin = Origin::File { file: file.to_owned() };
    let help = "compile the model again; an object must not be changed after it was compiled";
    vec![Diagnostic::new(code, origin, message.into(), help)]
}
