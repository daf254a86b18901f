//! Limits that keep hostile files from exhausting memory or time. What a model may be, not what fits a kernel.

/// Largest model file. Decoding costs a small multiple of it, and [`MAX_PARTS`] times about two hundred bytes.
pub(crate) const MAX_FILE_BYTES: usize = 32 << 20;

/// Most parts of a file: nodes, attributes, names, strings.
pub(crate) const MAX_PARTS: usize = 400_000;

/// Largest external data file.
pub(crate) const MAX_EXTERNAL_BYTES: usize = 256 << 20;

/// Most elements of one tensor; also bounds what folding two dense layers may produce.
pub(crate) const MAX_TENSOR_ELEMENTS: usize = 4 << 20;

/// Most nodes, local functions inlined.
pub(crate) const MAX_NODES: usize = 10_000;

/// Deepest nesting of local functions.
pub(crate) const MAX_CALLS: usize = 32;

/// Most nodes of the trees of one node of the graph, leaves included.
pub(crate) const MAX_TREE_NODES: usize = 1 << 20;

/// Most numbers that joined trees and constants of leaves hold, over all nodes of the graph.
pub(crate) const MAX_TREE_NUMBERS: usize = 1 << 24;

/// Most numbers that the values of a graph, and the stages that they read, hold together.
pub(crate) const MAX_NUMBERS: usize = 1 << 25;

/// Most values side by side that joins of values make.
pub(crate) const MAX_WIDTH: usize = 1 << 16;

/// Most numbers that the outputs of a model have together.
pub(crate) const MAX_OUTPUTS: usize = 1 << 12;

/// Most multiplications that folding one pair of dense layers may take.
pub(crate) const MAX_FOLD_PRODUCTS: usize = 1 << 28;

/// Most axes of a tensor.
pub(crate) const MAX_RANK: usize = 8;

/// Weights above this magnitude mark a broken training run: no fixed-point format holds them beside others.
pub(crate) const MAX_MAGNITUDE: f64 = 1e18;
