//! The interference graph: which registers cannot share a machine register, which copies should vanish, and
//! the colouring.
//!
//! Spill code is written elsewhere; this file only names the registers that got no colour.

use std::collections::BTreeSet;

use super::COLOURS;
use super::flow::{Bits, Flow};
use crate::bpf::{AluOp, Insn, Operand};
use crate::lower::code::{PINNED, Step, VReg};

/// A copy between two registers, with how often it runs by estimate.
#[derive(Debug, Clone, Copy)]
struct Copy {
    dst: usize,
    src: usize,
    weight: u64,
}

struct Graph<'a> {
    /// Neighbours by representative; absorbed registers have none.
    neighbours: Vec<BTreeSet<usize>>,
    /// Union-find parents: registers that coalescing made one.
    parent: Vec<usize>,
    copies: Vec<Copy>,
    /// Estimated cost of keeping the register in memory.
    cost: Vec<u64>,
    unspillable: &'a BTreeSet<VReg>,
}

/// Colours for all registers by index, or the registers to spill; none of those when only
/// `unspillable` ones are left.
pub(super) fn colour(
    steps: &[Step],
    flow: &Flow,
    registers: u32,
    unspillable: &BTreeSet<VReg>,
) -> Result<Vec<u8>, Vec<VReg>> {
    let mut graph = Graph::build(steps, flow, registers as usize, unspillable);
    graph.coalesce();
    graph.select()
}

/// Estimated executions of a block at this loop depth.
pub(super) fn weight(depth: u32) -> u64 {
    10u64.pow(depth.min(6))
}

const fn is_pinned(register: usize) -> bool {
    register < PINNED as usize
}

impl<'a> Graph<'a> {
    fn build(steps: &[Step], flow: &Flow, registers: usize, unspillable: &'a BTreeSet<VReg>) -> Self {
        let mut graph = Self {
            neighbours: vec![BTreeSet::new(); registers],
            parent: (0..registers).collect(),
            copies: Vec::new(),
            cost: vec![0; registers],
            unspillable,
        };
        for one in 0..COLOURS {
            for other in 0..one {
                graph.connect(one, other);
            }
        }
        let mut definitions = vec![0u32; registers];
        let mut constant = vec![false; registers];
        for block in &flow.blocks {
            let weight = weight(block.depth);
            let mut live: BTreeSet<usize> = indices(&block.live_out).collect();
            for step in steps.get(block.steps.clone()).unwrap_or_default().iter().rev() {
                let copied = step.copy().map(|(_, src)| src.index());
                let kills = step.kills();
                for killed in &kills {
                    let killed = killed.index();
                    for &other in live.iter().filter(|&&l| l != killed && Some(l) != copied) {
                        graph.connect(killed, other);
                    }
                    for other in &kills {
                        graph.connect(killed, other.index());
                    }
                    add(&mut graph.cost, killed, weight);
                    if let Some(count) = definitions.get_mut(killed) {
                        *count += 1;
                    }
                    if let Some(constant) = constant.get_mut(killed) {
                        *constant = is_constant(step);
                    }
                }
                if let Some((dst, src)) = step.copy().filter(|(_, src)| *src != VReg::FP) {
                    graph.copies.push(Copy { dst: dst.index(), src: src.index(), weight });
                }
                for killed in kills {
                    live.remove(&killed.index());
                }
                for used in step.uses() {
                    add(&mut graph.cost, used.index(), weight);
                    live.insert(used.index());
                }
                live.remove(&VReg::FP.index());
            }
        }
        // A constant costs one instruction to have again, not a store and loads.
        for (cost, _) in graph
            .cost
            .iter_mut()
            .zip(definitions.iter().zip(&constant))
            .filter(|(_, (count, constant))| **count == 1 && **constant)
        {
            *cost = (*cost / 2).max(1);
        }
        graph.copies.reverse();
        graph.copies.sort_by_key(|copy| std::cmp::Reverse(copy.weight));
        graph
    }

    fn connect(&mut self, one: usize, other: usize) {
        if one == other || one == VReg::FP.index() || other == VReg::FP.index() {
            return;
        }
        if let Some(set) = self.neighbours.get_mut(one) {
            set.insert(other);
        }
        if let Some(set) = self.neighbours.get_mut(other) {
            set.insert(one);
        }
    }

    fn of(&self, register: usize) -> impl Iterator<Item = usize> + '_ {
        self.neighbours.get(register).into_iter().flatten().copied()
    }

    fn degree(&self, register: usize) -> usize {
        self.neighbours.get(register).map_or(0, BTreeSet::len)
    }

    fn adjacent(&self, one: usize, other: usize) -> bool {
        self.neighbours.get(one).is_some_and(|set| set.contains(&other))
    }

    fn find(&self, mut register: usize) -> usize {
        while let Some(&parent) = self.parent.get(register) {
            if parent == register {
                break;
            }
            register = parent;
        }
        register
    }

    /// Merges the two sides of copies where that cannot cost a colour.
    fn coalesce(&mut self) {
        let mut pending = std::mem::take(&mut self.copies);
        loop {
            let mut left = Vec::with_capacity(pending.len());
            let before = pending.len();
            for copy in pending {
                let (dst, src) = (self.find(copy.dst), self.find(copy.src));
                if dst == src {
                    continue;
                }
                // The pinned side, if any, absorbs the other.
                let (keep, gone) = if is_pinned(src) { (src, dst) } else { (dst, src) };
                let constrained = (is_pinned(keep) && is_pinned(gone)) || self.adjacent(keep, gone);
                if !constrained && self.harmless(keep, gone) {
                    self.absorb(keep, gone);
                } else {
                    left.push(copy);
                }
            }
            pending = left;
            if pending.len() == before {
                break;
            }
        }
        self.copies = pending;
    }

    /// George's test against a pinned register, Briggs' test between two others.
    fn harmless(&self, keep: usize, gone: usize) -> bool {
        if is_pinned(keep) {
            return self.of(gone).all(|n| is_pinned(n) || self.degree(n) < COLOURS || self.adjacent(n, keep));
        }
        let significant = |n: usize, shared: bool| {
            is_pinned(n) || self.degree(n).saturating_sub(usize::from(shared)) >= COLOURS
        };
        let from_keep = self.of(keep).filter(|&n| significant(n, self.adjacent(n, gone)));
        let from_gone = self.of(gone).filter(|&n| !self.adjacent(n, keep) && significant(n, false));
        from_keep.chain(from_gone).take(COLOURS).count() < COLOURS
    }

    fn absorb(&mut self, keep: usize, gone: usize) {
        let moved = self.neighbours.get_mut(gone).map(std::mem::take).unwrap_or_default();
        for neighbour in moved {
            if let Some(set) = self.neighbours.get_mut(neighbour) {
                set.remove(&gone);
            }
            self.connect(keep, neighbour);
        }
        if let Some(parent) = self.parent.get_mut(gone) {
            *parent = keep;
        }
        let cost = self.cost.get(gone).copied().unwrap_or(0);
        add(&mut self.cost, keep, cost);
    }

    /// Removes registers that are sure to find a colour, then the cheapest of the others, and colours them in
    /// the opposite order.
    fn select(&self) -> Result<Vec<u8>, Vec<VReg>> {
        let count = self.parent.len();
        let nodes: Vec<usize> = (PINNED as usize..count).filter(|&r| self.find(r) == r).collect();
        let mut degree: Vec<usize> = (0..count).map(|r| self.degree(r)).collect();
        let mut removed = vec![false; count];
        let mut easy: Vec<usize> = nodes.iter().copied().filter(|&r| self.degree(r) < COLOURS).collect();
        let mut hard: BTreeSet<usize> =
            nodes.iter().copied().filter(|&r| self.degree(r) >= COLOURS).collect();
        let kept_in_registers = self.kept_in_registers();
        let mut stack = Vec::with_capacity(nodes.len());
        loop {
            let next = easy.pop().or_else(|| {
                let candidate = hard.iter().copied().min_by(|&a, &b| {
                    let key = |r: usize| {
                        let cost = u128::from(self.cost.get(r).copied().unwrap_or(0));
                        (kept_in_registers.contains(&r), cost, degree.get(r).copied().unwrap_or(0).max(1))
                    };
                    let ((a_kept, a_cost, a_degree), (b_kept, b_cost, b_degree)) = (key(a), key(b));
                    // Compares cost / degree without dividing.
                    a_kept
                        .cmp(&b_kept)
                        .then((a_cost * b_degree as u128).cmp(&(b_cost * a_degree as u128)))
                        .then(a.cmp(&b))
                });
                candidate.inspect(|r| {
                    hard.remove(r);
                })
            });
            let Some(node) = next else { break };
            if let Some(flag) = removed.get_mut(node) {
                *flag = true;
            }
            stack.push(node);
            for neighbour in self.of(node) {
                if is_pinned(neighbour) || removed.get(neighbour).copied().unwrap_or(true) {
                    continue;
                }
                if let Some(degree) = degree.get_mut(neighbour) {
                    *degree -= 1;
                    if *degree + 1 == COLOURS {
                        hard.remove(&neighbour);
                        easy.push(neighbour);
                    }
                }
            }
        }
        self.paint(stack)
    }

    fn paint(&self, stack: Vec<usize>) -> Result<Vec<u8>, Vec<VReg>> {
        let mut colours: Vec<Option<u8>> = (0..self.parent.len())
            .map(|r| u8::try_from(r).ok().filter(|&r| usize::from(r) < COLOURS))
            .collect();
        let mut partners: Vec<Vec<usize>> = vec![Vec::new(); self.parent.len()];
        for copy in &self.copies {
            let (dst, src) = (self.find(copy.dst), self.find(copy.src));
            if let Some(list) = partners.get_mut(dst) {
                list.push(src);
            }
            if let Some(list) = partners.get_mut(src) {
                list.push(dst);
            }
        }
        let mut failed = BTreeSet::new();
        for node in stack.into_iter().rev() {
            let taken: BTreeSet<u8> =
                self.of(node).filter_map(|n| colours.get(n).copied().flatten()).collect();
            let wished = partners
                .get(node)
                .into_iter()
                .flatten()
                .filter_map(|&p| colours.get(p).copied().flatten())
                .find(|colour| !taken.contains(colour));
            let found = wished.or_else(|| (0..10u8).find(|colour| !taken.contains(colour)));
            match (found, colours.get_mut(node)) {
                (Some(colour), Some(place)) => *place = Some(colour),
                _ => {
                    failed.insert(node);
                }
            }
        }
        if failed.is_empty() {
            return Ok((0..self.parent.len())
                .map(|r| colours.get(self.find(r)).copied().flatten().unwrap_or(0))
                .collect());
        }
        Err((PINNED..)
            .zip(self.parent.iter().skip(PINNED as usize))
            .map(|(register, _)| VReg(register))
            .filter(|r| !self.unspillable.contains(r) && failed.contains(&self.find(r.index())))
            .collect())
    }

    /// Representatives of which nothing is left to spill.
    fn kept_in_registers(&self) -> BTreeSet<usize> {
        let mut kept: BTreeSet<usize> = self.unspillable.iter().map(|r| self.find(r.index())).collect();
        for register in (PINNED..).zip(self.parent.iter().skip(PINNED as usize)).map(|(r, _)| VReg(r)) {
            if !self.unspillable.contains(&register) {
                kept.remove(&self.find(register.index()));
            }
        }
        kept
    }
}

fn indices(bits: &Bits) -> impl Iterator<Item = usize> + '_ {
    bits.iter().map(VReg::index)
}

fn add(table: &mut [u64], index: usize, amount: u64) {
    if let Some(entry) = table.get_mut(index) {
        *entry = entry.saturating_add(amount);
    }
}

/// Whether the step loads a constant, which can be done again anywhere.
pub(super) const fn is_constant(step: &Step) -> bool {
    matches!(step.insn, Insn::LoadImm64 { .. } | Insn::Alu { op: AluOp::Mov, src: Operand::Imm(_), .. })
}
