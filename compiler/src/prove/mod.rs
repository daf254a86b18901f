//! Translation validation: proves that the instructions of a network compute what the IR says, for every input.
//!
//! [`network`] executes `nn_infer`, and the programs that it goes on to, on terms instead of numbers, and compares what
//! they store with terms that are built from the IR. It trusts nothing of the module: any sequence of instructions is
//! refused or proved after bounded work, without a panic.
//!
//! **What is proved.** Let raw features lie in the ranges of `network.inputs`, and let the slot hold any parameters of
//! the plan that [`crate::check`] proves ([`Weights::Map`]), or let `.rodata.nn_weights` hold those of the network
//! ([`Weights::Const`]). When `nn_infer` is called with either slot, it returns 0 or 1 at the only two places where a
//! map may lack something, and
//! with 0 has left in scratch the slot, the generation, every raw output, every label and the rules that fire, as
//! [`crate::ir::interpret`] gives them. It reads and writes its own frame, scratch and parameters within their
//! bounds, writes no feature and no parameter, and nothing else of scratch than results.
//!
//! **How.**
//! - Loops and jumps have concrete counters; a jump where data decide is refused (`machine`).
//! - Sums are linear forms modulo 2^64 (`sum`), so that the order of additions and the form of products by constants do
//!   not matter; with slots their coefficients are symbols, and one proof holds for all parameters of a plan.
//! - Between the packed word of accumulators and a stored value everything is a function of 64 bits, which is compared
//!   as a decision diagram: complete, and independent of how code is written (`word`, `bdd`).
//! - Clamps of quantisers, tables, walks of trees and decisions are compared term by term (`reference`), after a few
//!   rewritings, each of which is an identity (`rules`).
//!
//! **What is taken from elsewhere.** [`crate::check::check`] proves the network's intervals here as well: that each
//! accumulator fits its lane, so that nothing stands above the lanes of a packed word; that values behind tables fit
//! their entries; that further quantisers, trees and leads read numbers below 2^62 in magnitude, so that no difference
//! overflows; that offsets in a table of trees stay inside; that sums of powers fit. The layouts of slot and scratch
//! are those of [`crate::params`] and [`crate::lower::scratch`]. That a per-CPU value stays what it is between two
//! programs of a chain, what the verifier checks and what the JIT compiler does are the kernel's affair.

mod sum;
mod term;
mod rules;
mod bdd;
mod word;
mod reference;
mod world;
mod jumps;
mod machine;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::bpf::module::{Data, Function, MapKind, Module, Type};
use crate::check::check;
use crate::check::forest::steps;
use crate::ir::{Network, Op};
use crate::lower::network::{FUNCTION, Weights};
use crate::lower::scratch::{MAP, Scratch};
use crate::params::layout::{CONSTANTS_SECTION, Layout, SECTION, SLOTS};
use crate::params::slot;
use machine::Machine;
use term::{Reason, Terms};
use world::World;

/// What was done to prove a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Proof {
    /// `nn_infer` and the programs behind it.
    pub functions: usize,
    /// Executed on terms, as often as loops run.
    pub instructions: u64,
    /// Stores to scratch, each compared.
    pub stores: usize,
    /// Functions of a packed word that were compared as diagrams; equal ones are compared once.
    pub diagrams: usize,
}

/// Where the code of a network departs from its plan, or what cannot be proved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    pub function: String,
    /// Index into the function's code; 0 when it is about the whole.
    pub instruction: usize,
    pub reason: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "instruction {} of {} {}", self.instruction, self.function, self.reason)
    }
}

impl std::error::Error for Mismatch {}

/// Proves that the code of the network in `module` computes `network`, plan and parameters, for every input in the
/// ranges of [`Network::inputs`].
///
/// With [`Weights::Const`] the network is the one whose parameters the object holds, without the neurons that were
/// left out.
///
/// # Errors
///
/// The first instruction that departs from the plan, or that cannot be proved to follow it.
pub fn network(module: &Module, network: &Network, weights: Weights) -> Result<Proof, Mismatch> {
    let whole = |reason: Reason| Mismatch { function: FUNCTION.to_owned(), instruction: 0, reason };
    let (function, world) = prepared(module, network, weights).map_err(whole)?;
    let mut machine = Machine::new(module, world);
    let mut name = String::new();
    match machine.run(function, &mut name) {
        Ok(()) => Ok(Proof {
            functions: machine.functions,
            instructions: machine.instructions,
            stores: machine.world.stores,
            diagrams: machine.world.words.computed,
        }),
        Err(reason) => Err(Mismatch { function: name, instruction: machine.at, reason }),
    }
}

/// The first function, and the world before it starts.
fn prepared<'a>(
    module: &'a Module,
    network: &'a Network,
    weights: Weights,
) -> Result<(&'a Function, World<'a>), Reason> {
    check(network.clone()).map_err(|errors| {
        let first = errors.first().map(|error| error.message.clone()).unwrap_or_default();
        format!("belongs to a network that is not proved: {first}")
    })?;
    let layout = Layout::new(network);
    let scratch = Scratch::new(network).map_err(|error| format!("cannot be: {error}"))?;
    let bytes = slot::bytes_in(network, &layout);
    let (section, copies) = match weights {
        Weights::Map => (SECTION, SLOTS as usize),
        Weights::Const => (CONSTANTS_SECTION, 1),
    };
    let data = only(&module.data, |data: &Data| data.section == section)
        .ok_or_else(|| format!("has no {section}, or several"))?;
    let read_only = weights == Weights::Const;
    if data.bytes != bytes.repeat(copies) || data.writable == read_only {
        return Err(format!("reads other parameters in {section} than the network's"));
    }
    let map = only(&module.maps, |map| map.name == MAP).ok_or("has no scratch, or several")?;
    let room = map.value.as_ref().and_then(size_of).unwrap_or(0);
    if map.kind != MapKind::PerCpuArray || map.max_entries != 1 || room < scratch.bytes() {
        return Err(format!("has another {MAP} than the plan's"));
    }
    let function = only(&module.functions, |function| function.name == FUNCTION)
        .ok_or("is not there, or several times")?;
    let (fuel, most) = bounds(network, &layout);
    let terms = Terms::new(fuel, most);
    Ok((function, World::new(terms, network, weights, (layout, scratch, bytes))))
}

/// The only one of its kind.
fn only<T>(all: &[T], is: impl Fn(&T) -> bool) -> Option<&T> {
    let mut found = all.iter().filter(|one| is(one));
    found.next().filter(|_| found.next().is_none())
}

/// Bytes of a type that nobody vouches for.
fn size_of(ty: &Type) -> Option<u32> {
    match ty {
        Type::Unsigned(_) | Type::Signed(_) | Type::Struct(_) => Some(ty.size()),
        Type::Array(element, count) => size_of(element)?.checked_mul(*count),
    }
}

/// Several times the work that the code of a network needs, and the terms.
fn bounds(network: &Network, layout: &Layout) -> (u64, usize) {
    let words = layout.bytes() as usize / 8;
    let values: usize = network.ops.iter().map(Op::width).sum();
    let (mut weights, mut walks) = (0, 0);
    for op in &network.ops {
        match op {
            Op::Dense(dense) => weights += dense.weights.len(),
            Op::Forest(forest) => walks += steps(forest.trees, forest.depth) + forest.trees * forest.outputs,
            Op::Quantise(_) | Op::Table(_) => {}
        }
    }
    let decisions = (network.decision.tests.len() + 1) * network.output_count();
    let fuel = 1_000_000 + 16 * (words + weights) + 1024 * values + 512 * walks + 1024 * decisions;
    let terms = 200_000 + 4 * words + 128 * values + 64 * walks + 256 * decisions;
    (fuel as u64, terms)
}
