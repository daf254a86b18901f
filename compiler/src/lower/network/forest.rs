//! Decision trees: a walk over a table, without a branch.
//!
//! A step costs the same whatever the tree looks like, so the verifier walks the code once. Offsets that come from
//! the table are masked, each to the part of the slot or of scratch that it may reach; the certificate says that no
//! mask changes anything. Trees do not depend on each other, so that the processor walks several at once.

use super::emit::Emitter;
use crate::bpf::{AluOp, Size};
use crate::ir::Forest;
use crate::lower::code::VReg;
use crate::lower::scratch::Buffer;
use crate::params::layout::{ForestPart, NODE_BYTES, NODE_FEATURE, NODE_PAIR, NODE_ROW, word_bytes};

/// Most outputs whose sums stay in registers while trees are walked.
const MOST_REGISTERS: usize = 2;
/// Groups of trees that code is divided into, unless there are very many or they add to different outputs.
const GROUPS: usize = 8;
/// Least trees of a group, and most, which fit a program whatever their depth.
const LEAST_GROUP: usize = 16;
const MOST_GROUP: usize = 512;
/// A right child stands one node behind a left one; the sign of a difference is shifted here.
const SIGN_SHIFT: i32 = 59;

/// Trees that are walked in one piece: they add to the same outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Group {
    pub(super) first: usize,
    pub(super) count: usize,
}

/// The groups of a forest, in order.
pub(super) fn groups(forest: &Forest) -> Vec<Group> {
    let most = forest.trees.div_ceil(GROUPS).clamp(LEAST_GROUP, MOST_GROUP);
    let mut groups: Vec<Group> = Vec::new();
    for tree in 0..forest.trees {
        let outputs = forest.outputs_of(tree);
        let new = tree == 0 || forest.outputs_of(tree - 1) != outputs;
        match groups.last_mut().filter(|group| !new && group.count < most) {
            Some(group) => group.count += 1,
            None => groups.push(Group { first: tree, count: 1 }),
        }
    }
    groups
}

/// Where a forest's numbers stand.
#[derive(Clone, Copy)]
pub(super) struct Place {
    pub(super) part: ForestPart,
    /// What is compared, of so many values.
    pub(super) inputs: Buffer,
    pub(super) columns: usize,
    pub(super) results: Buffer,
}

/// The trees of a group. The parameters' pointer stands at the nodes.
pub(super) fn emit(emitter: &mut Emitter, forest: &Forest, group: Group, place: &Place) {
    if group.first == 0 {
        start(emitter, forest, place);
    }
    let outputs = forest.outputs_of(group.first);
    let registers: Vec<VReg> = if outputs.len() <= MOST_REGISTERS {
        outputs.map(|output| emitter.b.load(Size::DW, emitter.scratch, place.results.at(output))).collect()
    } else {
        Vec::new()
    };
    let nodes = emitter.pointer_to(place.part.nodes);
    for tree in group.first..group.first + group.count {
        let leaf = walk(emitter, forest, tree, nodes, place);
        add(emitter, forest, tree, (leaf, &registers), place);
    }
    for (output, &register) in forest.outputs_of(group.first).zip(&registers) {
        emitter.b.store(Size::DW, emitter.scratch, place.results.at(output), register);
    }
}

/// Sums begin with their bases: all of them in front of the first tree, so that those without a tree have theirs.
fn start(emitter: &mut Emitter, forest: &Forest, place: &Place) {
    for output in 0..forest.outputs {
        let base = emitter.parameter(place.part.base + word_bytes(output));
        emitter.b.store(Size::DW, emitter.scratch, place.results.at(output), base);
    }
}

/// A pointer to the leaf's values, less the distance of the leaves from the nodes.
fn walk(emitter: &mut Emitter, forest: &Forest, tree: usize, nodes: VReg, place: &Place) -> VReg {
    let pairs = mask(forest.pairs, 2 * NODE_BYTES);
    let features = mask(place.columns.next_power_of_two(), 8);
    let root = u32::try_from(tree).unwrap_or(u32::MAX).saturating_mul(NODE_BYTES);
    // The root has a place of its own, near enough for an offset or not.
    let (mut node, mut offset) = match i16::try_from(root + NODE_BYTES) {
        Ok(_) => (nodes, i16::try_from(root).unwrap_or(0)),
        Err(_) => (emitter.b.compute(AluOp::Add, nodes, immediate(root)), 0),
    };
    let part = |offset: i16, part: u32| offset + i16::try_from(part).unwrap_or(0);
    for _ in 0..forest.depth {
        let b = &mut emitter.b;
        let feature = b.load(Size::H, node, part(offset, NODE_FEATURE));
        let difference = b.load(Size::DW, node, offset);
        let next = b.load(Size::W, node, part(offset, NODE_PAIR));
        b.and(feature, features);
        b.add(feature, emitter.scratch);
        let x = b.load(Size::DW, feature, place.inputs.at(0));
        // Thresholds and values are below 2^62, so that the sign tells which is greater.
        b.sub(difference, x);
        b.rsh(difference, SIGN_SHIFT);
        b.and(difference, immediate(NODE_BYTES));
        b.and(next, pairs);
        b.add(next, nodes);
        b.add(next, difference);
        (node, offset) = (next, 0);
    }
    let b = &mut emitter.b;
    let row = b.load(Size::H, node, part(offset, NODE_ROW));
    let last = forest.rows.saturating_sub(1);
    if last < usize::from(u16::MAX) {
        b.and(row, immediate(u32::try_from(last).unwrap_or(0)));
    }
    match forest.stride() {
        1 => b.lsh(row, 3),
        stride => b.mul(row, immediate(word_bytes(stride))),
    }
    b.add(row, nodes);
    row
}

/// Adds the leaf's values to the sums.
fn add(
    emitter: &mut Emitter,
    forest: &Forest,
    tree: usize,
    (leaf, registers): (VReg, &[VReg]),
    place: &Place,
) {
    let distance = place.part.leaves - place.part.nodes;
    let outputs = forest.outputs_of(tree);
    let start = match i16::try_from(distance + word_bytes(outputs.len())) {
        Ok(_) => i16::try_from(distance).unwrap_or(0),
        Err(_) => {
            emitter.b.add(leaf, immediate(distance));
            0
        }
    };
    for (index, output) in outputs.enumerate() {
        let at = start.saturating_add(i16::try_from(word_bytes(index)).unwrap_or(i16::MAX));
        let value = emitter.b.load(Size::DW, leaf, at);
        match registers.get(index) {
            Some(&sum) => emitter.b.add(sum, value),
            None => {
                let sum = emitter.b.load(Size::DW, emitter.scratch, place.results.at(output));
                emitter.b.add(sum, value);
                emitter.b.store(Size::DW, emitter.scratch, place.results.at(output), sum);
            }
        }
    }
}

/// The mask of a byte offset that is a multiple of `bytes` and below `count` of them, a power of two.
fn mask(count: usize, bytes: u32) -> i32 {
    immediate(u32::try_from(count.saturating_sub(1)).unwrap_or(0).saturating_mul(bytes))
}

fn immediate(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}
