//! The packet path: a flow program to `nn_entry` and the functions, maps and data it needs.
//!
//! The semantics are those of [`crate::ir::packet`] and [`crate::ir::flow`]; this module only says how they
//! are carried out. One file per concern:
//!
//! | file | what |
//! |---|---|
//! | [`maps`] | names and types of the maps and data sections |
//! | [`shared`] | the packet path's part of the per-CPU scratch value |
//! | [`guard`] | names and types of the event filter and the fuse |
//! | `path` | what every step needs: builder, frame, labels, counters |
//! | [`hook`] | what the hooks differ in |
//! | `clock` | what time it is, and what replay builds do instead of asking |
//! | `parse` | frame to key and fields |
//! | `transport` | the transport's part of that |
//! | `payload` | payload bytes to the scratch value |
//! | `table` | look up, create, retire |
//! | `single` | packets that are judged one by one, without a table |
//! | `lists` | blocked and allowed hosts, with the cached answer |
//! | `update` | slots, by atomic operations |
//! | `window` | panes of a record's windows |
//! | `side` | records of further tables, by functions of their own |
//! | `features` | slots to running values, those to raw features |
//! | `formula` | arithmetic between running values |
//! | `root` | standard deviations and variances: 128-bit division and square root |
//! | `rate` | sums per second |
//! | `distinct` | bitmaps of different values |
//! | `trigger` | when a verdict is due |
//! | `verdict` | the end of flows, the model, counters |
//! | [`sweep`] | the idle verdict on flows that send no further packet |
//! | `fuse` | when too many packets are dropped |
//! | `report` | events, and which of them are sent |
//! | `act` | what fired rules ask for |
//!
//! # How it stays cheap to verify
//!
//! Whatever differs between paths that meet again is either dead there or passed through `Path::blur`,
//! which makes the verifier forget what it knows of a number; so it explores what follows a join once.
//! The model, the lists, the actions and the square root are global functions, verified once each.

pub mod maps;
pub mod shared;
pub mod guard;
mod path;
pub mod hook;
mod clock;
mod parse;
mod transport;
mod payload;
mod table;
mod single;
mod lists;
mod condition;
mod update;
mod window;
mod side;
mod seldom;
mod features;
mod formula;
mod root;
mod rate;
mod distinct;
mod trigger;
mod verdict;
pub mod sweep;
mod fuse;
mod report;
mod act;
#[cfg(test)]
mod function_tests;

use super::builder::Atomics;
use super::code::FrameLimit;
use super::network::{Weights, shadow};
use super::scratch::Scratch;
use super::{LowerError, Need};
use crate::bpf::module::{Data, Function, Map};
use crate::ir::flow::FlowProgram;
use crate::kernel::KernelVersion;
use crate::spec::typed::{FeatureSpec, Scope};
use path::Path;

/// What the clock operation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// `ktime_get_ns`.
    Kernel,
    /// A load from `.data.nn_clock`, which the replaying program sets before each packet.
    Replay,
}

/// How to build the packet path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub clock: Clock,
    /// Frames of several buffers, for XDP: section `xdp.frags`, frame length from a helper.
    pub fragments: bool,
    /// The model is a chain of tail calls.
    pub chained: bool,
    pub weights: Weights,
    /// A shadow can run.
    pub shadow: bool,
    /// The oldest kernel that the object must load on.
    pub kernel: KernelVersion,
}

/// The packet path's share of a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PacketPath {
    pub entry: Function,
    /// Where the specification asks for sweeps.
    pub sweep: Option<Function>,
    pub functions: Vec<Function>,
    pub maps: Vec<Map>,
    pub data: Vec<Data>,
}

/// Shares of the stack. The chains are entry, comparison, model; entry, root, division; entry, act, and one
/// of lists, report, fuse; entry, waiting; entry and a function of a further table.
mod frame {
    pub(super) const ENTRY: u32 = 288;
    pub(super) const ROOT: u32 = 128;
    pub(super) const DIVIDE: u32 = 96;
    pub(super) const ACT: u32 = 128;
    pub(super) const LISTS: u32 = 96;
    pub(super) const SIDE: u32 = 192;
    /// `MAX_BPF_STACK` in `include/linux/filter.h`.
    const STACK: u32 = 512;
    const _: () = assert!(ENTRY + SIDE <= STACK);
    const _: () = assert!(ENTRY + ROOT + DIVIDE <= STACK && ENTRY + ACT + LISTS <= STACK);
    const _: () = assert!(ENTRY + super::shadow::FRAME + super::FrameLimit::Callee.bytes() <= STACK);
}

/// Name of the entry program.
pub const ENTRY: &str = "nn_entry";

/// What may be used for memory that processors share: flow records demand every operation, and what is left without
/// them, samples, the event filter and the fuse, gets by with additions.
fn atomics(program: &FlowProgram, options: Options) -> Result<Atomics, LowerError> {
    let (kernel, since) = (options.kernel, KernelVersion::FETCHING_ATOMICS);
    match program.scope {
        _ if kernel >= since => Ok(Atomics::Fetching),
        Scope::Packet => Ok(Atomics::Additions),
        Scope::Flow => {
            let need = Need::FlowRecords { span: program.span.clone() };
            Err(LowerError::KernelTooOld { kernel, since, need })
        }
    }
}

/// Lowers a flow program. Appends the packet path's part to the scratch value.
///
/// # Errors
///
/// When a record, a frame or the scratch value does not fit the kernel's limits.
pub fn lower(
    program: &FlowProgram,
    spec: &FeatureSpec,
    outputs: usize,
    scratch: &mut Scratch,
    options: Options,
) -> Result<PacketPath, LowerError> {
    let atomics = atomics(program, options)?;
    let shared = shared::Shared::append(scratch, program, outputs)?;
    let limit = match (options.chained, options.shadow) {
        (false, _) => FrameLimit::Share(frame::ENTRY),
        (true, false) => FrameLimit::ReachesTailCall,
        (true, true) => FrameLimit::Share(FrameLimit::ReachesTailCall.bytes() - shadow::FRAME),
    };
    let path = |name| Path::new(name, (program, spec, scratch, &shared, options), outputs);
    let mut packets = path(ENTRY);
    let ends = packets.parse();
    match program.scope {
        Scope::Flow => {
            let packet = packets.flow_key(&ends);
            packets.follow(&packet);
        }
        Scope::Packet => packets.judge_each(&ends),
    }
    packets.exits();
    let mut entry = packets.finish(limit)?;
    let mut sweep = None;
    if program.sweep && program.idle.is_some() {
        let mut records = path(sweep::SWEEP);
        records.sweep();
        sweep = Some(records.finish(limit)?);
    }
    let mut functions = vec![lists::function(&shared)?];
    match program.scope {
        Scope::Flow => functions.push(table::waiting(program, &shared)?),
        Scope::Packet => {}
    }
    functions.push(fuse::function(atomics)?);
    if program.rules.iter().any(|rule| !rule.actions.is_empty()) {
        functions.push(report::function(outputs, program, scratch, &shared, atomics)?);
        functions.push(act::function(program, spec, &shared, atomics)?);
        if act::blocks_receivers(program) {
            functions.push(act::block_function(&shared)?);
        }
    }
    for (id, _) in program.side_tables() {
        let build = (program, spec, &*scratch, &shared, options);
        functions.push(side::collect(build, id)?);
        functions.push(side::read(build, id)?);
    }
    let calls = features::Calls::of(program);
    if calls.root {
        functions.push(root::function(program)?);
    }
    if calls.variance {
        functions.push(root::variance()?);
    }
    if calls.rate {
        functions.push(rate::function()?);
    }
    if calls.estimate {
        functions.push(distinct::function()?);
    }
    if calls.division() {
        functions.push(root::division()?);
    }
    if options.clock == Clock::Replay {
        std::iter::once(&mut entry).chain(&mut sweep).chain(&mut functions).for_each(clock::from_memory);
    }
    Ok(PacketPath {
        entry,
        sweep,
        functions,
        maps: maps::maps(program),
        data: maps::data(program, spec.clock, options.clock),
    })
}
