//! What the code of a network may read and write outside of its frame, and what must have been written in the end.
//!
//! A result of an operation is compared with the IR when it is stored, and stands for the IR's value from then on. What
//! is expected is built in `reference`.

use std::collections::{BTreeMap, HashMap};

use super::reference::Walks;
use super::sum::Sum;
use super::term::{Id, Node, Reason, Terms, ones};
use super::word::{Stored, Words};
use crate::bpf::Size;
use crate::ir::{Dense, Network, Op};
use crate::lower::network::Weights;
use crate::lower::scratch::{GENERATION, LABEL, RULES, SLOT, Scratch, bytes_of};
use crate::params::layout::{COMPILED_IN, Layout, Part};

/// Steps of diagrams that count as one of code.
const DIAGRAM_STEPS: usize = 256;

/// A place of memory that was written.
#[derive(Debug, Clone, Copy)]
struct Cell {
    size: Size,
    value: Id,
}

/// Scratch, the parameters, and how far the network has been computed.
pub(super) struct World<'a> {
    pub(super) terms: Terms,
    pub(super) network: &'a Network,
    pub(super) layout: Layout,
    pub(super) scratch: Scratch,
    pub(super) weights: Weights,
    /// The bytes of a slot.
    pub(super) slot: Vec<u8>,
    /// The operation whose results are being stored; as many as there are when all have been.
    pub(super) op: usize,
    /// What it reads.
    pub(super) inputs: Vec<Id>,
    /// Which of its results have been stored, and how many have not.
    stored: Vec<bool>,
    missing: usize,
    /// Its packed words, by their number.
    pub(super) packed: HashMap<usize, Id>,
    pub(super) walks: Walks,
    pub(super) words: Words,
    cells: BTreeMap<u32, Cell>,
    /// Stores that were compared.
    pub(super) stores: usize,
}

impl<'a> World<'a> {
    pub(super) fn new(
        terms: Terms,
        network: &'a Network,
        weights: Weights,
        (layout, scratch, slot): (Layout, Scratch, Vec<u8>),
    ) -> Self {
        let mut world = Self {
            terms,
            network,
            layout,
            scratch,
            weights,
            slot,
            op: 0,
            inputs: Vec::new(),
            stored: Vec::new(),
            missing: 0,
            packed: HashMap::new(),
            walks: Walks::default(),
            words: Words::default(),
            cells: BTreeMap::new(),
            stores: 0,
        };
        world.inputs = (0..network.inputs.len()).map(|index| world.feature(index)).collect();
        world.begin();
        world
    }

    /// Gets ready for the results of the present operation.
    fn begin(&mut self) {
        self.missing = self.network.ops.get(self.op).map_or(0, Op::width);
        self.stored = vec![false; self.missing];
        self.packed.clear();
    }

    /// `.data.nn_active`'s index: bit 0 of the argument.
    pub(super) fn active_slot(&mut self) -> Id {
        let active = self.terms.intern(Node::Active);
        let one = self.terms.constant(1);
        self.terms.and(active, one)
    }

    /// The number at an offset within the parameters, as the pointer counts: from the start of both slots, or of the
    /// constants.
    pub(super) fn load_parameter(&mut self, offset: &Sum, size: Size) -> Result<Id, Reason> {
        let mut offset = offset.clone();
        if self.weights == Weights::Map {
            let slot = self.active_slot();
            offset.add_term(slot, u64::from(self.layout.bytes()).wrapping_neg());
            offset.settle();
            if offset.terms().iter().any(|term| term.factors == (Id::ONE, slot)) {
                return Err("reads parameters of a slot that was not chosen".to_owned());
            }
        }
        let offset = self.terms.close(&offset);
        self.parameter_at(offset, size)
    }

    /// The number at an offset within the slot.
    pub(super) fn parameter_at(&mut self, offset: Id, size: Size) -> Result<Id, Reason> {
        let bytes = u64::from(self.layout.bytes());
        let last = bytes.checked_sub(u64::from(bytes_of(size)));
        let inside = |end: i64| u64::try_from(end).ok().zip(last).is_some_and(|(end, last)| end <= last);
        let range = self.terms.facts(offset).range;
        if !inside(range.low) || !inside(range.high) {
            return Err("reads parameters outside of their slot".to_owned());
        }
        match self.terms.as_constant(offset).and_then(|offset| u32::try_from(offset).ok()) {
            Some(offset) => Ok(self.parameter(offset, size)),
            None => Ok(self.terms.intern(Node::At { offset, size })),
        }
    }

    /// The number at a fixed offset inside of the slot.
    pub(super) fn parameter(&mut self, offset: u32, size: Size) -> Id {
        match self.weights {
            Weights::Map => self.terms.intern(Node::Parameter { offset, size }),
            Weights::Const => {
                let bytes = self.slot.iter().skip(offset as usize).take(bytes_of(size) as usize);
                let value = bytes.rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
                self.terms.constant(value)
            }
        }
    }

    /// What stands at an offset of scratch.
    pub(super) fn load(&mut self, offset: &Sum, size: Size) -> Result<Id, Reason> {
        let Some(at) = offset.as_constant() else {
            let offset = self.terms.close(offset);
            return self.pick(offset, size);
        };
        let at = u32::try_from(at).map_err(|_| "reads outside of scratch".to_owned())?;
        let features = self.scratch.features();
        if let Some(distance) = at.checked_sub(features.offset)
            && size == Size::DW
            && distance.is_multiple_of(8)
            && (distance as usize) / 8 < self.network.inputs.len()
        {
            return Ok(self.feature(distance as usize / 8));
        }
        match self.cells.get(&at) {
            Some(cell) if cell.size == size => Ok(cell.value),
            Some(_) => Err(format!("reads byte {at} of scratch in another width than it was written in")),
            None => Err(format!("reads byte {at} of scratch, where nothing was written")),
        }
    }

    /// The value at a computed offset: one of those that trees compare.
    fn pick(&mut self, offset: Id, size: Size) -> Result<Id, Reason> {
        let inputs = match self.op.checked_sub(1) {
            None => self.scratch.features(),
            Some(before) => self.scratch.results(self.network, before),
        };
        let offset = self.terms.add_constant(offset, u64::from(inputs.offset).wrapping_neg());
        let facts = self.terms.facts(offset);
        let room = self.inputs.len().next_power_of_two() as u64 * 8;
        let inside = facts.range.low >= 0 && facts.range.high.cast_unsigned() < room;
        let trees = matches!(self.network.ops.get(self.op), Some(Op::Forest(_)));
        if !trees || inputs.element != Size::DW || size != Size::DW || !inside || facts.bits & 7 != 0 {
            return Err("reads scratch at a place that depends on data".to_owned());
        }
        Ok(self.picked(offset))
    }

    /// Stores a number to scratch.
    pub(super) fn store(&mut self, at: u64, size: Size, value: &Sum) -> Result<(), Reason> {
        let at = u32::try_from(at).map_err(|_| "writes outside of scratch".to_owned())?;
        let stored = self.terms.close(value);
        self.stores += 1;
        if self.is_own_place(at, size) {
            let mask = self.terms.constant(ones(size));
            let value = self.terms.and(stored, mask);
            self.put(at, Cell { size, value });
            return Ok(());
        }
        let place = || format!("writes byte {at} of scratch, where nothing may be written now");
        let network = self.network;
        let op = network.ops.get(self.op).ok_or_else(place)?;
        let results = self.scratch.results(network, self.op);
        let (element, whole) = (bytes_of(results.element), bytes_of(size));
        let distance = at.checked_sub(results.offset).ok_or_else(place)?;
        let padded = match op {
            Op::Dense(dense) => dense.rows.next_multiple_of(dense.lanes.count()),
            Op::Quantise(_) | Op::Table(_) | Op::Forest(_) => op.width(),
        };
        let (first, count) = ((distance / element) as usize, (whole / element) as usize);
        if count == 0 || !distance.is_multiple_of(element) || first + count > padded {
            return Err(place());
        }
        let packed = matches!(op, Op::Dense(dense) if dense.lanes.packed());
        if count > 1 && !packed {
            return Err(format!("writes {whole} bytes where results have {element}"));
        }
        self.clear(at, whole);
        let proved = self.op;
        for (part, index) in (first..(first + count).min(op.width())).enumerate() {
            let shift = u32::try_from(part).unwrap_or(0) * element * 8;
            let value = self.compare(op, index, (stored, value), (shift, element * 8))?;
            let at = at + shift / 8;
            self.put(at, Cell { size: results.element, value });
        }
        for place in self.stored.get_mut(first..(first + count).min(op.width())).unwrap_or_default() {
            if !std::mem::replace(place, true) {
                self.missing -= 1;
            }
        }
        // The sums of trees grow until the end.
        if self.missing == 0 && !matches!(op, Op::Forest(_)) {
            self.inputs = (0..op.width()).map(|index| self.value(proved, index)).collect();
            self.op += 1;
            self.begin();
        }
        Ok(())
    }

    /// Whether this is a place beside the results of operations.
    fn is_own_place(&self, at: u32, size: Size) -> bool {
        let is = |place: i16| u32::try_from(place) == Ok(at);
        match size {
            Size::DW => is(GENERATION) || (self.weights == Weights::Map && is(SLOT)),
            Size::W => {
                is(RULES) || (0..=self.network.decision.further.len()).any(|o| is(self.scratch.label(o)))
            }
            Size::B | Size::H => false,
        }
    }

    /// The term that a result stands for from now on, when it is what the IR says.
    fn compare(
        &mut self,
        op: &Op,
        index: usize,
        (stored, sum): (Id, &Sum),
        (shift, bits): (u32, u32),
    ) -> Result<Id, Reason> {
        let number = self.op;
        let same = match op {
            Op::Quantise(quantise) => self.is_quantised(quantise, index, stored)?,
            Op::Dense(dense) => self.is_row(dense, index, stored, (shift, bits))?,
            Op::Table(table) => {
                let expected = self.looked_up(table, index)?;
                expected == stored
            }
            Op::Forest(forest) => return self.summed(forest, index, sum),
        };
        if same {
            return Ok(self.value(number, index));
        }
        Err(format!("stores another value as result {index} of operation {number} than the plan says"))
    }

    fn is_row(
        &mut self,
        dense: &Dense,
        row: usize,
        stored: Id,
        (shift, bits): (u32, u32),
    ) -> Result<bool, Reason> {
        let count = dense.lanes.count();
        let Some(Part::Dense(part)) = self.layout.parts.get(self.op).cloned() else { return Ok(false) };
        let word = match self.packed.get(&(row / count)) {
            Some(&word) => word,
            None => {
                let word = self.packed_word(dense, &part, row / count)?;
                self.packed.insert(row / count, word);
                word
            }
        };
        let place = Stored { lane: row % count, shift, bits };
        let before = self.words.work;
        let held = self.words.holds(&self.terms, (stored, word), (dense.lanes, dense.post), place);
        self.terms.spend((self.words.work - before) / DIAGRAM_STEPS)?;
        held.map_err(|reason| format!("result {row} of operation {} {reason}", self.op))
    }

    fn put(&mut self, at: u32, cell: Cell) {
        self.clear(at, bytes_of(cell.size));
        self.cells.insert(at, cell);
    }

    /// Forgets what overlaps these bytes.
    fn clear(&mut self, at: u32, bytes: u32) {
        let overlapping: Vec<u32> = self
            .cells
            .range(at.saturating_sub(7)..at.saturating_add(bytes))
            .filter(|(start, cell)| **start + bytes_of(cell.size) > at)
            .map(|(start, _)| *start)
            .collect();
        for start in overlapping {
            self.cells.remove(&start);
        }
    }

    /// The term in a place that must have been written.
    fn written(&self, at: i16, size: Size, what: &str) -> Result<Id, Reason> {
        let cell = u32::try_from(at).ok().and_then(|at| self.cells.get(&at)).filter(|cell| cell.size == size);
        cell.map(|cell| cell.value).ok_or_else(|| format!("ends before {what} was written"))
    }

    /// Whether everything has been written when the last program ends.
    pub(super) fn finish(&mut self) -> Result<(), Reason> {
        let network = self.network;
        let trees = match network.ops.get(self.op) {
            Some(Op::Forest(forest)) if self.missing == 0 => self.all_trees(forest)?,
            Some(_) => {
                return Err(format!(
                    "ends before {} results of operation {} were written",
                    self.missing, self.op
                ));
            }
            None => true,
        };
        if !trees {
            return Err("ends before all trees were added".to_owned());
        }
        let expect = |same: bool, what: &str| {
            if same { Ok(()) } else { Err(format!("writes another {what} than the plan says")) }
        };
        let generation = match self.weights {
            Weights::Map => {
                let active = self.terms.intern(Node::Active);
                let index = self.active_slot();
                let slot = self.terms.scale(index, u64::from(self.layout.bytes()));
                expect(self.written(SLOT, Size::DW, "the slot")? == slot, "slot")?;
                self.terms.shr(active, 32)
            }
            Weights::Const => self.terms.constant(u64::from(COMPILED_IN)),
        };
        expect(self.written(GENERATION, Size::DW, "the generation")? == generation, "generation")?;
        let outputs: Vec<Id> = (0..network.output_count())
            .map(|index| self.written(self.scratch.output(index), Size::DW, "an output"))
            .collect::<Result<_, _>>()?;
        let (labels, rules) = self.decided(&outputs)?;
        debug_assert_eq!(self.scratch.label(0), LABEL, "the first label has a place of its own");
        for (index, label) in labels.into_iter().enumerate() {
            let written = self.written(self.scratch.label(index), Size::W, "a label")?;
            expect(written == label, "label")?;
        }
        expect(self.written(RULES, Size::W, "the rules that fire")? == rules, "set of rules that fire")
    }
}
