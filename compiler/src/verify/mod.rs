//! Checks an object again from its bytes alone: that its code computes the network that its metadata and parameters
//! say, that no accumulator of it overflows, and that everything around it is what the specification says.
//!
//! | file | what |
//! |---|---|
//! | `holds` | the parts that the metadata speaks of are there, with their sizes |
//! | `network` | plan and parameters make a network, whose intervals are derived again |
//! | `access` | every access to memory stays within a value, a packet or the stack |
//! | `path` | everything around the network is what the specification compiles to |
//!
//! `book/src/verify.md` says what this proves and what it assumes.

mod access;
mod holds;
mod network;
mod path;

pub use network::WidestLane;

use std::collections::BTreeMap;

use serde::Serialize;

use crate::bpf::module::{Function, Module};
use crate::bpf::{Insn, Reg};
use crate::check::Checked;
use crate::diag::{Code, Diagnostic, Origin, Outcome};
use crate::elf::read;
use crate::ir::Network;
use crate::lower::packet::Clock;
use crate::lower::walk::Field;
use crate::metadata::{self, Metadata};
use path::{Expected, is_network};

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
    /// What was shown of everything around the network.
    pub path: PathReport,
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

/// Checks a module that was decoded from an object with its metadata.
fn module(module: Module, metadata: Metadata, file: &str, extent: Extent) -> Outcome<Verified> {
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
    let touched = access::all(&module, file)?;
    let around: Vec<&Function> =
        functions(&module).filter(|function| !is_network(&function.name)).collect();
    let report = Report {
        functions: functions(&module).count(),
        instructions: functions(&module).map(length).sum(),
        intervals: network::intervals(&network),
        widest: network::widest(&network),
        path: PathReport {
            functions: around.len(),
            instructions: around.iter().map(|function| length(function)).sum(),
            derived: expected.is_some(),
            replay: expected.as_ref().is_some_and(|expected| expected.clock == Clock::Replay),
            packet_accesses: touched.packet.len(),
            touched: touched.values.into_iter().map(|(name, fields)| (name, fields.into_iter().collect())).collect(),
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
        match &self.expected {
            Some(expected) if !is_network(&function.name) => expected.compare_one(function, file),
            Some(_) | None => Ok(()),
        }
    }
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
