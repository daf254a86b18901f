//! The plan of an object as `--report` and `nnbpfc inspect` show it: its programs with what they need, and how each
//! part of the network is computed and what it is predicted to take.
//!
//! Everything comes from the object and its metadata, so that both commands say the same.

use serde::Serialize;

use crate::cost;
use crate::elf::read::Inventory;
use crate::ir::{Dense, Network, Op, OpOrigin, Post};
use crate::lower::network::Weights;
use crate::lower::scratch;
use crate::metadata::Metadata;
use crate::params::layout::{Layout, Part};

/// The whole plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Planned {
    /// Predicted nanoseconds of an inference.
    pub predicted_ns: f64,
    /// Bytes of the per-CPU value in which packet path and network meet.
    pub scratch_bytes: u32,
    /// Bytes of a slot of parameters; 0 when they are constants in the code.
    pub slot_bytes: u32,
    pub programs: Vec<Program>,
    pub parts: Vec<PlannedPart>,
}

/// A program or function of the object.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Program {
    pub name: String,
    /// Instructions as the verifier counts their length.
    pub instructions: u64,
    /// Instructions that the verifier is predicted to process, those of called functions included; `None` for a
    /// function, which is processed with its callers.
    pub processed: Option<u64>,
    /// Bytes of its own stack frame.
    pub stack_bytes: Option<u32>,
}

/// An operation of the network.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PlannedPart {
    /// The operation, and the node it came from.
    pub name: String,
    /// By itself: what parts take from each other in the caches is in the sum only.
    pub predicted_ns: f64,
    /// What is decided about a dense layer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layer: Option<Layer>,
}

/// A dense layer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Layer {
    pub outputs: usize,
    pub inputs: usize,
    /// Accumulators per register.
    pub lanes: usize,
    /// Width of its activations; `None` for raw outputs.
    pub bits: Option<u8>,
    /// Registers that accumulate at once, block by block.
    pub blocks: Vec<usize>,
    /// Inputs per round of a loop; `None` for straight-line code.
    pub unroll: Option<usize>,
}

impl Planned {
    /// The plan of an object.
    #[must_use]
    pub fn of(inventory: &Inventory, metadata: &Metadata) -> Self {
        let network = &metadata.plan;
        let chained =
            inventory.programs.iter().filter(|program| program.name.starts_with("nn_layer")).count();
        let functions = inventory.programs.iter().chain(&inventory.functions);
        let scratch = inventory.maps.iter().find(|map| map.name == scratch::MAP);
        Self {
            predicted_ns: cost::network_ns_with(network, metadata.weights, chained + 1),
            scratch_bytes: scratch.map_or(0, |map| map.value_size),
            slot_bytes: metadata.slot_bytes,
            programs: functions
                .map(|function| Program {
                    name: function.name.clone(),
                    instructions: function.slots,
                    processed: metadata.verifier.get(&function.name).copied(),
                    stack_bytes: metadata.stack.get(&function.name).copied(),
                })
                .collect(),
            parts: parts(network, metadata.weights),
        }
    }
}

/// The operations of a network in order.
#[must_use]
pub fn parts(network: &Network, weights: Weights) -> Vec<PlannedPart> {
    let layout = Layout::new(network);
    let ops = network.ops.iter().zip(&layout.parts).enumerate();
    ops.map(|(index, (op, part))| {
        let node = match network.origins.get(index) {
            Some(OpOrigin::Layer { node, .. }) => format!("{} ", node.name),
            Some(OpOrigin::Inputs) | None => String::new(),
        };
        let what = match op {
            Op::Quantise(_) if index == 0 => "input quantiser",
            Op::Quantise(_) => "rescaling",
            Op::Dense(_) => "dense",
            Op::Table(_) => "table",
            Op::Gate(_) => "gate",
            Op::Forest(_) => "trees",
        };
        PlannedPart {
            name: format!("{node}{what}"),
            predicted_ns: cost::op_ns(op, weights),
            layer: match (op, part) {
                (Op::Dense(dense), Part::Dense(part)) => {
                    let blocking = part.blocking();
                    // Layers of constants that are mostly zero are straight-line code all the same.
                    let unroll = blocking.rounds(dense.columns).map(|rounds| rounds.inputs);
                    Some(layer(dense, blocking.blocks, unroll))
                }
                (Op::Dense(_) | Op::Quantise(_) | Op::Table(_) | Op::Gate(_) | Op::Forest(_), _) => None,
            },
        }
    })
    .collect()
}

fn layer(dense: &Dense, blocks: Vec<usize>, unroll: Option<usize>) -> Layer {
    let bits = match dense.post {
        Post::Raw => None,
        Post::Relu { bits, .. } | Post::Signed { bits, .. } => Some(bits),
    };
    let Dense { rows, columns, lanes, .. } = dense;
    Layer { outputs: *rows, inputs: *columns, lanes: lanes.count(), bits, blocks, unroll }
}

impl Layer {
    /// In words: `32 x 6, 2 per register, 8 bits, blocks of 6 5 5, straight`.
    #[must_use]
    pub fn words(&self) -> String {
        let bits = self.bits.map_or_else(|| "raw".to_owned(), |bits| format!("{bits} bits"));
        let code = match self.unroll {
            None => "straight".to_owned(),
            Some(inputs) => format!("loop of {inputs} inputs"),
        };
        let mut blocks: Vec<String> = Vec::new();
        for run in self.blocks.chunk_by(|a, b| a == b) {
            let size = run.first().copied().unwrap_or(0);
            blocks.push(if run.len() == 1 { size.to_string() } else { format!("{} x {size}", run.len()) });
        }
        let Self { outputs, inputs, lanes, .. } = self;
        format!(
            "{outputs} x {inputs}, {lanes} per register, {bits}, blocks of {}, {code}",
            blocks.join(" + ")
        )
    }
}
