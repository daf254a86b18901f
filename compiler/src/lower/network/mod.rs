//! The network as bytecode: `nn_infer`, and the chain of tail calls where one program does not hold it.
//!
//! [`lower`] cuts the operations into stages, writes each and predicts what the verifier will process. One
//! file per operation: `quantise`, `dense` (with `product`, `post` and, for constants, `prune`), `table`, `gate`, `forest`, `decide` (with `threshold`). The packet
//! path calls `nn_infer`, as `call` says, and is written elsewhere; `shadow` runs it for a second model.

mod parameters;
mod emit;
mod quantise;
mod dense;
mod product;
mod post;
mod prune;
mod table;
mod gate;
mod forest;
mod decide;
mod threshold;
pub(super) mod call;
pub mod shadow;
#[cfg(test)]
mod tests;

use std::rc::Rc;

use serde::{Deserialize, Serialize};

use super::LowerError;
use super::builder::Builder;
use super::code::FrameLimit;
use super::cost::{self, Trips};
use super::scratch::{self, Buffer, Scratch};
use crate::bpf::module::{Data, Function, Line, Map, MapKind, Parameter};
use crate::bpf::{AluOp, Cond, Helper, Size};
use crate::check::{Checked, check};
use crate::cost::blocking::Style;
use crate::ir::{Network, Op, OpOrigin};
use crate::params::layout::{COMPILED_IN, CONSTANTS_SECTION, Layout, Part, SECTION, active_data, thresholds};
use crate::params::slot;
use emit::Emitter;
use parameters::{Parameters, SlotPointer};

/// Name of the function that judges the features in scratch.
pub const FUNCTION: &str = "nn_infer";
/// Name of the program array of a split network.
pub const PROGRAMS: &str = "nn_progs";
/// Most programs that can be chained: `MAX_TAIL_CALL_CNT` in `include/linux/bpf.h`.
pub const MAX_STAGES: usize = 33;

/// When the network is split into several programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Split {
    /// Only when the budget demands it.
    #[default]
    Auto,
    /// One program per layer, and more when a layer exceeds the budget.
    Layer,
}

/// Where the numbers of the trained model live.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weights {
    /// In a map with two slots, so that a retrained model can be swapped in.
    #[default]
    Map,
    /// In the code and in a map that nobody can write: without what zeros and idle neurons cost, and without updates.
    Const,
}

/// Choices that are not the plan's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    pub split: Split,
    pub weights: Weights,
    /// Instructions that the verifier may process in one program.
    pub budget: u64,
    /// Who decides how layers are written.
    pub style: Style,
}

impl Options {
    /// `BPF_COMPLEXITY_LIMIT_INSNS` is 1,000,000 since 5.2; the packet path needs its part of it.
    pub const BUDGET: u64 = 900_000;
}

impl Default for Options {
    fn default() -> Self {
        Self { split: Split::Auto, weights: Weights::Map, budget: Self::BUDGET, style: Style::Planned }
    }
}

/// The lowered network, to be put into a module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NetworkCode {
    /// `nn_infer`, for `Module::functions`.
    pub infer: Function,
    /// `nn_layer0` and following, for `Module::programs`; empty when not split.
    pub stages: Vec<Function>,
    /// `nn_progs` when split. `nn_scratch` is made from `scratch` when every part has been appended.
    pub maps: Vec<Map>,
    /// `.data.nn_params` and `.data.nn_active`, or `.rodata.nn_weights` when the weights are constants.
    pub data: Vec<Data>,
    pub scratch: Scratch,
    pub layout: Layout,
    pub weights: Weights,
    /// Instructions that the verifier processes: `nn_infer`, then the stages.
    pub predicted: Vec<u64>,
}

impl NetworkCode {
    /// Whether `nn_infer` tail-calls, which limits the frame of whoever calls it.
    #[must_use]
    pub const fn caller_limit(&self) -> FrameLimit {
        if self.stages.is_empty() { FrameLimit::Calls } else { FrameLimit::ReachesTailCall }
    }
}

/// Lowers a checked network.
///
/// # Errors
///
/// [`LowerError::TooLarge`] when scratch or the chain of programs passes a limit of the kernel.
pub fn lower(network: &Checked<Network>, options: Options) -> Result<NetworkCode, LowerError> {
    lower_unchecked(network.get(), options)
}

/// Values that are written in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Values {
    first: usize,
    count: usize,
}

/// Most of them, so that a piece fits a program.
const MOST_VALUES: usize = 512;

impl Values {
    /// So many values in pieces.
    fn pieces(width: usize) -> impl Iterator<Item = Self> {
        (0..width)
            .step_by(MOST_VALUES)
            .map(move |first| Self { first, count: MOST_VALUES.min(width - first) })
    }

    const fn range(self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }
}

/// A part of the work that is not divided further.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Piece {
    /// Some values of a quantiser.
    Quantise {
        op: usize,
        values: Values,
    },
    /// Some values of a table.
    Table {
        op: usize,
        values: Values,
    },
    /// Some values of a gate.
    Gate {
        op: usize,
        values: Values,
    },
    /// One block of registers of a dense layer.
    Block {
        op: usize,
        block: usize,
    },
    /// Some trees of a forest.
    Trees {
        op: usize,
        group: forest::Group,
    },
    Decide,
}

pub(super) fn lower_unchecked(network: &Network, options: Options) -> Result<NetworkCode, LowerError> {
    match options.weights {
        Weights::Map => lower_whole(network, options),
        Weights::Const => lower_whole(&prune::pruned(network), options),
    }
}

fn lower_whole(network: &Network, options: Options) -> Result<NetworkCode, LowerError> {
    let layout = Layout::styled(network, options.style);
    let scratch = Scratch::new(network)?;
    let slot = slot::bytes_in(network, &layout);
    let constants = match options.weights {
        Weights::Map => None,
        Weights::Const => Some(slot::words(&slot).collect()),
    };
    let plan = Plan { network, layout: &layout, scratch: &scratch, constants };
    let stages = plan.stages(options)?;
    if stages.len() > MAX_STAGES {
        return Err(LowerError::TooLarge {
            what: "the number of chained programs".to_owned(),
            value: stages.len() as u64,
            limit: MAX_STAGES as u64,
        });
    }
    let mut functions = Vec::with_capacity(stages.len());
    let mut predicted = Vec::with_capacity(stages.len());
    for (number, pieces) in stages.iter().enumerate() {
        let (function, trips) = plan.function(number, pieces, number + 1 == stages.len())?;
        predicted.push(cost::processed(&function, &trips));
        functions.push(function);
    }
    let infer = functions.remove(0);
    let maps = if functions.is_empty() { Vec::new() } else { vec![program_array(&functions)] };
    let data = match options.weights {
        Weights::Map => vec![layout.params_data(&slot), active_data()],
        Weights::Const => vec![layout.constants_data(slot)],
    };
    let weights = options.weights;
    Ok(NetworkCode { infer, stages: functions, maps, data, scratch, layout, weights, predicted })
}

/// What the code of a network computes when its parameters are constants: the same outputs, without neurons that
/// change nothing.
pub(crate) fn pruned(network: &Checked<Network>) -> Checked<Network> {
    check(prune::pruned(network.get())).unwrap_or_else(|_| network.clone())
}

/// The program array of a chain.
pub(crate) fn program_array(stages: &[Function]) -> Map {
    Map {
        name: PROGRAMS.to_owned(),
        kind: MapKind::ProgArray,
        key: None,
        value: None,
        max_entries: u32::try_from(stages.len()).unwrap_or(u32::MAX),
        flags: 0,
        programs: (0..).zip(stages.iter().map(|stage| stage.name.clone())).collect(),
    }
}

struct Plan<'a> {
    network: &'a Network,
    layout: &'a Layout,
    scratch: &'a Scratch,
    /// The words of a slot, when they never change.
    constants: Option<Rc<[u64]>>,
}

impl Plan<'_> {
    /// The pieces of each program; the first is `nn_infer`.
    fn stages(&self, options: Options) -> Result<Vec<Vec<Piece>>, LowerError> {
        let mut stages = vec![Vec::new()];
        let mut spent = 0;
        for piece in self.pieces() {
            let cost = self.cost(piece)?;
            // The decision is not divided, and only sums of powers make it long.
            let sums = piece == Piece::Decide && thresholds(self.network).next().is_some();
            if sums && cost > options.budget {
                let what = "the number of instructions of the rules' probabilities".to_owned();
                return Err(LowerError::TooLarge { what, value: cost, limit: options.budget });
            }
            let starts_layer = match piece {
                Piece::Block { block, .. } => block == 0,
                Piece::Trees { group, .. } => group.first > 0,
                Piece::Quantise { op, values } => op > 0 && values.first > 0,
                Piece::Table { values, .. } | Piece::Gate { values, .. } => values.first > 0,
                Piece::Decide => false,
            };
            let full = spent + cost > options.budget && spent > 0;
            if full || (options.split == Split::Layer && starts_layer) {
                stages.push(Vec::new());
                spent = 0;
            }
            spent += cost;
            if let Some(stage) = stages.last_mut() {
                stage.push(piece);
            }
        }
        Ok(stages)
    }

    fn pieces(&self) -> Vec<Piece> {
        let parts = self.layout.parts.iter().enumerate();
        parts
            .flat_map(|(op, part)| match part {
                Part::Quantise { .. } => {
                    Values::pieces(self.width(op)).map(|values| Piece::Quantise { op, values }).collect()
                }
                Part::Table { .. } => {
                    Values::pieces(self.width(op)).map(|values| Piece::Table { op, values }).collect()
                }
                Part::Gate { .. } => {
                    Values::pieces(self.width(op)).map(|values| Piece::Gate { op, values }).collect()
                }
                Part::Dense(part) => (0..part.blocks.len()).map(|block| Piece::Block { op, block }).collect(),
                Part::Forest(_) => self.trees(op),
            })
            .chain([Piece::Decide])
            .collect()
    }

    /// Number of values that an operation gives.
    fn width(&self, op: usize) -> usize {
        self.network.ops.get(op).map_or(0, Op::width)
    }

    /// What an operation reads.
    fn inputs(&self, op: usize) -> Buffer {
        match op.checked_sub(1) {
            None => self.scratch.features(),
            Some(before) => self.scratch.results(self.network, before),
        }
    }

    fn trees(&self, op: usize) -> Vec<Piece> {
        let Some(Op::Forest(forest)) = self.network.ops.get(op) else { return Vec::new() };
        forest::groups(forest).into_iter().map(|group| Piece::Trees { op, group }).collect()
    }

    /// What the verifier processes for a piece, and the ends of a program. Wide constants take two places of a
    /// program, whose length has the same limit.
    fn cost(&self, piece: Piece) -> Result<u64, LowerError> {
        let (function, trips) = self.function(1, &[piece], true)?;
        Ok(cost::processed(&function, &trips).max(cost::places(&function)))
    }

    fn function(&self, number: usize, pieces: &[Piece], last: bool) -> Result<(Function, Trips), LowerError> {
        let (name, section) = match number.checked_sub(1) {
            None => (FUNCTION.to_owned(), ".text"),
            Some(stage) => (format!("nn_layer{stage}"), "xdp"),
        };
        let starts = number == 0 && self.constants.is_none();
        let parameters: &[Parameter] =
            if starts { &[Parameter::Context, Parameter::Scalar] } else { &[Parameter::Context] };
        let mut b = Builder::new(&name, section, parameters);
        let context = if last { None } else { Some(b.parameter(0)) };
        let active = starts.then(|| b.parameter(1));
        let key = b.stack_slot(4);
        b.stack_store(Size::W, key, 0, 0);
        let map = b.map(scratch::MAP);
        let key = b.stack_address(key);
        let scratch = b.call(Helper::MapLookup, &[map, key]);
        let found = b.label();
        b.jump(Cond::Ne, scratch, 0, found);
        // A per-CPU array of one entry always has it; the verifier does not know that.
        b.ret(1);
        b.bind(found);

        let base = pieces.iter().find_map(|piece| self.parameters_of(*piece)).unwrap_or(0);
        let parameters = if let Some(words) = &self.constants {
            if number == 0 {
                // Verdicts carry a generation, whatever they come from.
                let generation = i32::try_from(COMPILED_IN).unwrap_or(0);
                b.store(Size::DW, scratch, scratch::GENERATION, generation);
            }
            let pointer = b.map_value(CONSTANTS_SECTION, base);
            Parameters::new(SlotPointer::new(pointer, base), Some(Rc::clone(words)))
        } else {
            let pointer = b.map_value(SECTION, base);
            let slot = match active {
                Some(active) => self.choose_slot(&mut b, scratch, active),
                None => self.chosen_slot(&mut b, scratch),
            };
            b.add(pointer, slot);
            Parameters::new(SlotPointer::new(pointer, base), None)
        };

        let mut emitter = Emitter::new(b, scratch, parameters);
        for &piece in pieces {
            self.piece(&mut emitter, piece);
        }
        let (mut b, trips) = emitter.into_parts();
        if let Some(context) = context {
            b.origin(Line { text: "next program".to_owned(), ..Line::default() });
            let programs = b.map(PROGRAMS);
            let next = b.constant(i64::try_from(number).unwrap_or(i64::MAX));
            b.call(Helper::TailCall, &[context, programs, next]);
            // Reached only when the array has no such program: no verdict.
            b.ret(1);
        } else {
            b.ret(0);
        }
        let limit = if number == 0 { FrameLimit::Callee } else { FrameLimit::Leaf };
        Ok((b.finish(limit)?, trips))
    }

    /// Writes down which slot and generation the caller wants, for stages and verdicts.
    fn choose_slot(
        &self,
        b: &mut Builder,
        scratch: super::code::VReg,
        active: super::code::VReg,
    ) -> super::code::VReg {
        let generation = b.compute(AluOp::Rsh, active, 32);
        b.store(Size::DW, scratch, scratch::GENERATION, generation);
        let slot = active;
        b.and(slot, 1);
        let bytes = i32::try_from(self.layout.bytes()).unwrap_or(i32::MAX);
        b.mul(slot, bytes);
        b.store(Size::DW, scratch, scratch::SLOT, slot);
        slot
    }

    /// The slot that `nn_infer` chose. The comparison tells the verifier its bound.
    fn chosen_slot(&self, b: &mut Builder, scratch: super::code::VReg) -> super::code::VReg {
        let slot = b.load(Size::DW, scratch, scratch::SLOT);
        let bytes = i32::try_from(self.layout.bytes()).unwrap_or(i32::MAX);
        let bounded = b.label();
        b.jump(Cond::Le, slot, bytes, bounded);
        b.ret(1);
        b.bind(bounded);
        slot
    }

    fn parameters_of(&self, piece: Piece) -> Option<u32> {
        match piece {
            Piece::Quantise { op, .. }
            | Piece::Block { op, block: 0 }
            | Piece::Table { op, .. }
            | Piece::Gate { op, .. }
            | Piece::Trees { op, .. } => self.layout.parts.get(op).map(|part| match part {
                Part::Quantise { offset } | Part::Table { offset } | Part::Gate { offset } => *offset,
                Part::Dense(part) => part.offset,
                Part::Forest(part) => part.nodes,
            }),
            Piece::Block { op, block } => self.layout.parts.get(op).and_then(|part| match part {
                Part::Quantise { .. } | Part::Table { .. } | Part::Gate { .. } | Part::Forest(_) => None,
                Part::Dense(part) => Some(part.block_offset(block)),
            }),
            Piece::Decide => Some(self.layout.margins),
        }
    }

    fn piece(&self, emitter: &mut Emitter, piece: Piece) {
        match piece {
            Piece::Quantise { op, values } => {
                if let (Some(Op::Quantise(quantise)), Some(Part::Quantise { offset })) =
                    (self.network.ops.get(op), self.layout.parts.get(op))
                {
                    emitter.b.origin(self.line(op));
                    let results = self.scratch.results(self.network, op);
                    let place = quantise::Place { offset: *offset, inputs: self.inputs(op), results };
                    // Sums are proved to be narrow, whatever features are.
                    let features = if op == 0 { self.network.inputs.as_slice() } else { &[] };
                    quantise::emit(emitter, quantise, values.range(), features, &place);
                }
            }
            Piece::Table { op, values } => {
                if let (Some(Op::Table(table)), Some(Part::Table { offset })) =
                    (self.network.ops.get(op), self.layout.parts.get(op))
                {
                    emitter.b.origin(self.line(op));
                    let results = self.scratch.results(self.network, op);
                    let place = table::Place { offset: *offset, inputs: self.inputs(op), results };
                    table::emit(emitter, table, values.range(), &place);
                }
            }
            Piece::Gate { op, values } => {
                if let (Some(Op::Gate(gate)), Some(Part::Gate { offset })) =
                    (self.network.ops.get(op), self.layout.parts.get(op))
                {
                    emitter.b.origin(self.line(op));
                    let results = self.scratch.results(self.network, op);
                    let place = gate::Place { offset: *offset, inputs: self.inputs(op), results };
                    gate::emit(emitter, gate, values.range(), &place);
                }
            }
            Piece::Block { op, block } => {
                if let (Some(Op::Dense(dense)), Some(Part::Dense(part))) =
                    (self.network.ops.get(op), self.layout.parts.get(op))
                {
                    emitter.b.origin(self.line(op));
                    let inputs = self.inputs(op);
                    let results = self.scratch.results(self.network, op);
                    dense::emit_block(emitter, dense, part, block, inputs, results);
                }
            }
            Piece::Trees { op, group } => {
                if let (Some(Op::Forest(forest)), Some(Part::Forest(part))) =
                    (self.network.ops.get(op), self.layout.parts.get(op))
                {
                    emitter.b.origin(self.line(op));
                    let inputs = self.inputs(op);
                    let columns = op.checked_sub(1).map_or(self.network.inputs.len(), |op| self.width(op));
                    let results = self.scratch.results(self.network, op);
                    forest::emit(
                        emitter,
                        forest,
                        group,
                        &forest::Place { part: *part, inputs, columns, results },
                    );
                }
            }
            Piece::Decide => {
                emitter.b.origin(Line { text: "decision".to_owned(), ..Line::default() });
                decide::emit(emitter, self.network, self.layout, self.scratch);
            }
        }
    }

    fn line(&self, op: usize) -> Line {
        let shape = match self.network.ops.get(op) {
            Some(Op::Quantise(quantise)) if op == 0 => format!("{} features", quantise.features.len()),
            Some(Op::Quantise(quantise)) => format!("rescaling of {}", quantise.features.len()),
            Some(Op::Table(table)) => format!("table of {} for {}", table.entries.len(), table.mapped),
            Some(Op::Gate(gate)) => format!("gate for {}", gate.mapped),
            Some(Op::Dense(dense)) => {
                format!("{} -> {}, lanes {}", dense.columns, dense.rows, dense.lanes.count())
            }
            Some(Op::Forest(forest)) => {
                format!("{} trees of depth {} -> {}", forest.trees, forest.depth, forest.outputs)
            }
            None => String::new(),
        };
        let text = match self.network.origins.get(op) {
            Some(OpOrigin::Layer { layer, node }) => {
                format!("layer {layer}: {} '{}', {shape}", node.operator, node.name)
            }
            Some(OpOrigin::Inputs) | None => format!("input quantiser, {shape}"),
        };
        Line { text, ..Line::default() }
    }
}
