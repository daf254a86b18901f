//! What an inference executes, counted by kinds of work that each have a price.
//!
//! A count is a function of the plan, of how its layers are written and of where the numbers of the model live.
//! Prices stand in `constants`.

use super::blocking::Blocking;
use super::constants::Constants;
use crate::ir::{Dense, Forest, Gate, Network, Op, Post, RuleTest, Table};
use crate::lower::network::Weights;
use crate::params::layout::{Layout, Part};
use crate::quant::clamped;

/// A kind of work. The explanation says what one unit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// An inference: the call, the look-up of scratch, the choice of the slot.
    Inference,
    /// One more program in a chain: tail call, look-up of scratch, check of the slot.
    Program,
    /// A value of a quantiser.
    Input,
    /// A value that is looked up in a table or passes it.
    Lookup,
    /// A value between two entries of a table.
    Between,
    /// A weight word times an input, added to an accumulator, in straight-line code.
    Product,
    /// The same in the body of a loop.
    LoopedProduct,
    /// The same with a weight that never changes: part of the code where it is small.
    ConstantProduct,
    /// An input that is loaded for a block of accumulators.
    InputLoad,
    /// A block of accumulators: the last products of a block wait for each other.
    Block,
    /// A round of a loop: its counter and pointers.
    Round,
    /// A loop: its start, and its end, which the processor does not foresee.
    Loop,
    /// A value of an accumulator that has its register to itself, as it is.
    RawAlone,
    /// The same with ReLU, shift and clamp, or shift and clamp of a signed value.
    ShapedAlone,
    /// A value of a packed register, as it is.
    RawLane,
    /// A packed register with ReLU and shift.
    Register,
    /// Its clamp.
    Clamp,
    /// A value of such a register: extracted and stored.
    Lane,
    /// A signed value of a packed register, shifted and clamped.
    SignedLane,
    /// A step of a walk through a tree.
    Step,
    /// A walk: its start and its leaf.
    Walk,
    /// A value of a leaf, added to a sum.
    Leaf,
    /// An output that is compared with the largest so far.
    Compare,
    /// A rule that tests a label or a difference.
    Rule,
    /// A power that a rule with a probability sums up.
    Power,
    /// An instruction that the nearest instruction cache no longer holds when its turn comes again.
    FarCode,
    /// A line of parameters beyond the first data cache.
    FarLine,
    /// A line of parameters beyond the second one.
    FarthestLine,
}

/// Bytes of a line of the data cache.
const LINE: f64 = 64.0;

impl Kind {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 28] = [
        Self::Inference,
        Self::Program,
        Self::Input,
        Self::Lookup,
        Self::Between,
        Self::Product,
        Self::LoopedProduct,
        Self::ConstantProduct,
        Self::InputLoad,
        Self::Block,
        Self::Round,
        Self::Loop,
        Self::RawAlone,
        Self::ShapedAlone,
        Self::RawLane,
        Self::Register,
        Self::Clamp,
        Self::Lane,
        Self::SignedLane,
        Self::Step,
        Self::Walk,
        Self::Leaf,
        Self::Compare,
        Self::Rule,
        Self::Power,
        Self::FarCode,
        Self::FarLine,
        Self::FarthestLine,
    ];

    /// Its name in the data file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Program => "program",
            Self::Input => "input",
            Self::Lookup => "lookup",
            Self::Between => "between",
            Self::Product => "product",
            Self::LoopedProduct => "looped_product",
            Self::ConstantProduct => "constant_product",
            Self::InputLoad => "input_load",
            Self::Block => "block",
            Self::Round => "round",
            Self::Loop => "loop",
            Self::RawAlone => "raw_alone",
            Self::ShapedAlone => "shaped_alone",
            Self::RawLane => "raw_lane",
            Self::Register => "register",
            Self::Clamp => "clamp",
            Self::Lane => "lane",
            Self::SignedLane => "signed_lane",
            Self::Step => "step",
            Self::Walk => "walk",
            Self::Leaf => "leaf",
            Self::Compare => "compare",
            Self::Rule => "rule",
            Self::Power => "power",
            Self::FarCode => "far_code",
            Self::FarLine => "far_line",
            Self::FarthestLine => "farthest_line",
        }
    }
}

/// How often each kind occurs, and the code and parameters that are touched.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Work {
    counts: [f64; Kind::ALL.len()],
    /// Instructions of code, each counted once, and bytes of parameters.
    code: f64,
    data: f64,
}

/// What happens to the accumulators of a layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Raw,
    Relu { clamped: bool },
    Signed,
}

/// What the work of a dense layer depends on, but for how it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LayerShape {
    pub(crate) rows: usize,
    pub(crate) columns: usize,
    /// Accumulators in a register.
    pub(crate) lanes: usize,
    pub(crate) ending: Ending,
}

impl LayerShape {
    pub(crate) fn of(dense: &Dense) -> Self {
        let ending = match dense.post {
            Post::Raw => Ending::Raw,
            Post::Relu { .. } => Ending::Relu { clamped: clamped(dense) },
            Post::Signed { .. } => Ending::Signed,
        };
        Self { rows: dense.rows, columns: dense.columns, lanes: dense.lanes.count(), ending }
    }

    pub(crate) const fn registers(&self) -> usize {
        let registers = self.rows.div_ceil(self.lanes);
        if registers == 0 { 1 } else { registers }
    }
}

impl Work {
    /// The work of a network that is written in this way, in so many programs.
    #[must_use]
    pub fn of(network: &Network, layout: &Layout, weights: Weights, programs: usize) -> Self {
        let mut work = Self::fixed(network);
        work.add(Kind::Program, programs.saturating_sub(1));
        for (op, part) in network.ops.iter().zip(&layout.parts) {
            if let (Op::Dense(dense), Part::Dense(part)) = (op, part) {
                work = work.plus(&Self::layer(&LayerShape::of(dense), &part.blocking(), weights));
            }
        }
        work
    }

    /// All of a network but its dense layers.
    pub(crate) fn fixed(network: &Network) -> Self {
        let mut work = Self::default();
        work.add(Kind::Inference, 1);
        work.code += 20.0;
        for op in &network.ops {
            match op {
                // What replaces a value is compared and chosen in about as many steps as a value is quantised in.
                Op::Quantise(quantise) => {
                    work = work.plus(&Self::inputs(quantise.features.len() + quantise.replaced.len()));
                }
                Op::Gate(gate) => work = work.plus(&Self::gate(gate)),
                Op::Table(table) => work = work.plus(&Self::table(table)),
                Op::Forest(forest) => work = work.plus(&Self::forest(forest)),
                Op::Dense(_) => {}
            }
        }
        let outputs: Vec<usize> = (0..network.output_count()).collect();
        let sizes: Vec<usize> = network.decision.parts(&outputs).map(|(_, places)| places.len()).collect();
        for &size in &sizes {
            work.add(Kind::Compare, size);
            work.code += 16.0 * size as f64;
        }
        for test in &network.decision.tests {
            work.add(Kind::Rule, 1);
            work.code += 8.0;
            match test {
                RuleTest::Label { .. } | RuleTest::Margin { .. } => {}
                RuleTest::Softmax { output, .. } => {
                    let powers = sizes.get(*output as usize).map_or(0, |size| size.saturating_sub(1));
                    work.add(Kind::Power, powers);
                    work.code += 50.0 * powers as f64;
                }
            }
        }
        work
    }

    /// Values of a quantiser.
    pub(crate) fn inputs(count: usize) -> Self {
        let mut work = Self::default();
        work.add(Kind::Input, count);
        work.code = 16.0 * count as f64;
        work.data = 40.0 * count as f64;
        work
    }

    /// Values that a table gives.
    pub(crate) fn table(table: &Table) -> Self {
        let mut work = Self::default();
        let kind = if table.fraction > 0 { Kind::Between } else { Kind::Lookup };
        work.add(kind, table.mapped);
        work.add(Kind::Lookup, table.width.saturating_sub(table.mapped));
        work.code = 9.0 * table.mapped as f64;
        work.data = f64::from(1u32.checked_shl(u32::from(table.bits) + 1).unwrap_or(u32::MAX));
        work
    }

    /// Values behind a gate: two clamps, a product and a shift, as a quantiser has.
    pub(crate) fn gate(gate: &Gate) -> Self {
        let mut work = Self::default();
        work.add(Kind::Input, gate.mapped);
        work.add(Kind::Lookup, gate.width.saturating_sub(gate.mapped));
        work.code = 18.0 * gate.mapped as f64;
        work
    }

    /// Trees.
    pub(crate) fn forest(forest: &Forest) -> Self {
        let mut work = Self::default();
        let steps = forest.trees.saturating_mul(forest.depth as usize);
        work.add(Kind::Step, steps);
        work.add(Kind::Walk, forest.trees);
        work.add(Kind::Leaf, forest.trees.saturating_mul(forest.stride()));
        work.code = 12.0 * steps as f64 + (4 * forest.trees * (1 + forest.stride())) as f64;
        // A walk touches a line for each step, and one for its leaf, wherever these are.
        work.data = LINE * (steps + forest.trees) as f64;
        work.data = work.data.min((32 * forest.pairs + 8 * forest.rows * forest.stride()) as f64);
        work
    }

    /// A dense layer.
    pub(crate) fn layer(shape: &LayerShape, blocking: &Blocking, weights: Weights) -> Self {
        let mut work = Self::default();
        let (rows, columns, registers) = (shape.rows, shape.columns, shape.registers());
        let blocks = blocking.blocks.len();
        let words = registers * columns;
        work.add(Kind::Block, blocks);
        work.add(Kind::InputLoad, blocks * columns);
        let written = match (weights, blocking.rounds(columns)) {
            (Weights::Const, None) => {
                work.add(Kind::ConstantProduct, words);
                columns as f64
            }
            (Weights::Map, None) => {
                work.add(Kind::Product, words);
                columns as f64
            }
            (Weights::Map | Weights::Const, Some(rounds)) => {
                let once = columns - rounds.count * rounds.inputs;
                work.add(Kind::LoopedProduct, registers * rounds.count * rounds.inputs);
                work.add(Kind::Product, registers * once);
                work.add(Kind::Round, blocks * rounds.count);
                work.add(Kind::Loop, blocks);
                (rounds.inputs + once) as f64
            }
        };
        work.code = written * (3 * registers + blocks) as f64;
        work.data = (8 * registers * (columns + 1)) as f64;
        let (per_register, per_value) = match (shape.lanes, shape.ending) {
            (1, Ending::Raw) => {
                work.add(Kind::RawAlone, rows);
                (0, 2)
            }
            (1, Ending::Relu { .. } | Ending::Signed) => {
                work.add(Kind::ShapedAlone, rows);
                (0, 11)
            }
            (_, Ending::Raw) => {
                work.add(Kind::RawLane, rows);
                (0, 5)
            }
            (_, Ending::Signed) => {
                work.add(Kind::SignedLane, rows);
                (0, 14)
            }
            (_, Ending::Relu { clamped }) => {
                work.add(Kind::Register, registers);
                work.add(Kind::Lane, rows);
                if clamped {
                    work.add(Kind::Clamp, registers);
                }
                (if clamped { 18 } else { 9 }, 3)
            }
        };
        work.code += (per_register * registers + per_value * rows) as f64;
        work
    }

    /// Both together.
    #[must_use]
    pub(crate) fn plus(&self, other: &Self) -> Self {
        let mut sum = *self;
        sum.counts.iter_mut().zip(&other.counts).for_each(|(sum, count)| *sum += count);
        sum.code += other.code;
        sum.data += other.data;
        sum
    }

    /// This without a part of it.
    #[must_use]
    pub(crate) fn less(&self, part: &Self) -> Self {
        let mut rest = *self;
        rest.counts.iter_mut().zip(&part.counts).for_each(|(rest, count)| *rest -= count);
        rest.code -= part.code;
        rest.data -= part.data;
        rest
    }

    /// The counts in the order of [`Kind::ALL`], with what lies beyond the caches.
    #[must_use]
    pub fn counts(&self, constants: &Constants) -> [f64; Kind::ALL.len()] {
        let beyond = |have: f64, room: f64| (have - room).max(0.0);
        let mut work = *self;
        // A sweep through more code than a cache holds finds ever less of it there, in the end nothing.
        let ramp = constants.code_instructions * constants.code_ramp;
        let missed = (beyond(self.code, constants.code_instructions) / ramp.max(1.0)).min(1.0);
        let far = beyond(self.data, constants.data_bytes);
        let farthest = beyond(self.data, constants.second_data_bytes);
        for (kind, count) in [
            (Kind::FarCode, self.code * missed),
            (Kind::FarLine, far / LINE),
            (Kind::FarthestLine, farthest / LINE),
        ] {
            if let Some(place) = work.counts.get_mut(kind as usize) {
                *place = count;
            }
        }
        work.counts
    }

    /// Predicted nanoseconds.
    #[must_use]
    pub fn ns(&self, constants: &Constants) -> f64 {
        self.counts(constants).iter().zip(constants.prices()).map(|(count, price)| count * price).sum()
    }

    /// Instructions of code that are executed, once each.
    #[must_use]
    pub const fn code(&self) -> f64 {
        self.code
    }

    fn add(&mut self, kind: Kind, count: usize) {
        if let Some(place) = self.counts.get_mut(kind as usize) {
            *place += count as f64;
        }
    }
}
