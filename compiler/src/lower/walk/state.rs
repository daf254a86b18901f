//! Machine states: the one at hand, the kept ones with what is compared, and how numbers become precise.

use std::collections::BTreeMap;

use super::Counts;
use super::live::Live;
use super::value::{Number, Origins, Value};
use crate::bpf::Reg;

/// Registers of a state.
const REGISTERS: usize = 11;
/// Stack slots of eight bytes.
const SLOTS: usize = 64;

/// Registers and stack of one path.
#[derive(Debug, Clone)]
pub(super) struct State {
    /// Registers, then stack slots from the frame pointer down.
    places: Vec<Value>,
    /// The kept state that this path went through last.
    parent: Option<usize>,
    /// Entries of the kernel's list of jumps and stack accesses since then.
    pub(super) history: u32,
}

/// A kept state.
struct Explored {
    state: State,
    /// Paths through it that have not ended.
    branches: u32,
    precise: Origins,
    hits: u32,
    misses: u32,
}

/// All kept states.
#[derive(Default)]
pub(super) struct Store {
    explored: Vec<Explored>,
    at: BTreeMap<usize, Vec<usize>>,
    ids: u32,
}

/// Whether a path goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    GoesOn,
    /// An explored state covers it.
    Covered,
}

impl Default for State {
    fn default() -> Self {
        Self { places: vec![Value::Nothing; REGISTERS + SLOTS], parent: None, history: 0 }
    }
}

impl State {
    pub(super) fn get(&self, register: Reg) -> Value {
        self.places.get(usize::from(register.0)).copied().unwrap_or_default()
    }

    pub(super) fn set(&mut self, register: Reg, value: Value) {
        if let Some(place) = self.places.get_mut(usize::from(register.0)) {
            *place = value;
        }
    }

    /// The slot that holds the byte at a distance from the frame pointer.
    pub(super) fn slot(&self, offset: i64) -> Value {
        slot_at(offset).and_then(|slot| self.places.get(slot)).copied().unwrap_or_default()
    }

    pub(super) fn set_slot(&mut self, offset: i64, value: Value) {
        if let Some(place) = slot_at(offset).and_then(|slot| self.places.get_mut(slot)) {
            *place = value;
        }
    }

    pub(super) fn places_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.places.iter_mut()
    }

    /// Puts this in place of every copy of a number.
    pub(super) fn learn(&mut self, register: Reg, learnt: Number) {
        self.set(register, Value::Number(learnt));
        if learnt.id == 0 {
            return;
        }
        for place in &mut self.places {
            if let Value::Number(number) = place
                && number.id == learnt.id
            {
                *place = Value::Number(Number { origins: number.origins, ..learnt });
            }
        }
    }
}

/// Position of the slot in `places`.
pub(super) fn slot_at(offset: i64) -> Option<usize> {
    let slot = usize::try_from((-offset - 1).div_euclid(8)).ok().filter(|slot| *slot < SLOTS)?;
    Some(REGISTERS + slot)
}

impl Store {
    /// A number that names a lookup, a packet offset or copies of a number.
    pub(super) fn id(&mut self) -> u32 {
        self.ids += 1;
        self.ids
    }

    /// A branch leaves the state that the path went through last.
    pub(super) fn branched(&mut self, state: &State) {
        if let Some(parent) = state.parent.and_then(|parent| self.explored.get_mut(parent)) {
            parent.branches += 1;
        }
    }

    /// A path has ended.
    pub(super) fn ended(&mut self, state: &State) {
        let mut next = state.parent;
        while let Some(explored) = next.and_then(|index| self.explored.get_mut(index)) {
            explored.branches = explored.branches.saturating_sub(1);
            if explored.branches > 0 {
                return;
            }
            next = explored.state.parent;
        }
    }

    /// A decision depended on numbers with these origins.
    pub(super) fn precise(&mut self, state: &State, origins: Origins) {
        self.mark(state.parent, origins);
    }

    fn mark(&mut self, mut next: Option<usize>, mut origins: Origins) {
        while let Some(explored) = next.and_then(|index| self.explored.get_mut(index)) {
            let new = origins & !explored.precise;
            if new == 0 {
                return;
            }
            explored.precise |= new;
            origins = 0;
            for (place, value) in explored.state.places.iter().enumerate() {
                if new >> place & 1 == 1
                    && let Some(number) = value.number()
                {
                    origins |= number.origins;
                }
            }
            next = explored.state.parent;
        }
    }

    fn covers(&self, explored: usize, state: &State, live: &Live, at: usize) -> bool {
        let Some(explored) = self.explored.get(explored) else { return false };
        let alive = live.at(at);
        explored.state.places.iter().zip(&state.places).enumerate().all(|(place, (old, new))| {
            alive >> place & 1 == 0 || old.covers(*new, explored.precise >> place & 1 == 1)
        })
    }

    /// What mattered to an explored state matters to the path that it covers.
    fn inherit(&mut self, explored: usize, state: &State, alive: Origins) {
        let precise = self.explored.get(explored).map_or(0, |explored| explored.precise) & alive;
        let origins = state.places.iter().enumerate().filter(|(place, _)| precise >> place & 1 == 1);
        let origins = origins.filter_map(|(_, value)| value.number()).fold(0, |all, one| all | one.origins);
        self.mark(state.parent, origins);
    }

    fn keep(&mut self, state: &mut State, at: usize) {
        let index = self.explored.len();
        self.explored.push(Explored { state: state.clone(), branches: 1, precise: 0, hits: 0, misses: 0 });
        self.at.entry(at).or_default().push(index);
        state.parent = Some(index);
        state.history = 0;
        for (place, value) in state.places.iter_mut().enumerate() {
            if let Value::Number(number) = value {
                number.origins = 1 << place;
            }
        }
    }
}

/// Compares a state with those that were kept here, and keeps it where the kernel would: `is_state_visited`.
pub(super) fn visit(
    store: &mut Store,
    state: &mut State,
    at: usize,
    live: &Live,
    counts: &mut Counts,
) -> Kept {
    let force = state.history > 40;
    let (jumps, insns) = (counts.jumps - counts.kept_jumps, counts.insns - counts.kept_insns);
    let mut keep = force || (jumps >= 2 && insns >= 8);
    let here = store.at.get(&at).cloned().unwrap_or_default();
    let mut dropped = Vec::new();
    for &index in here.iter().rev() {
        let pending = store.explored.get(index).is_some_and(|explored| explored.branches > 0);
        if pending {
            if !force && jumps < 20 && insns < 100 {
                keep = false;
            }
        } else if store.covers(index, state, live, at) {
            if let Some(explored) = store.explored.get_mut(index) {
                explored.hits += 1;
            }
            store.inherit(index, state, live.at(at));
            return Kept::Covered;
        }
        if let Some(explored) = store.explored.get_mut(index)
            && keep
        {
            explored.misses += 1;
            if explored.misses > explored.hits * 3 + 3 {
                dropped.push(index);
            }
        }
    }
    if let Some(list) = store.at.get_mut(&at) {
        list.retain(|index| !dropped.contains(index));
    }
    if keep {
        (counts.kept_jumps, counts.kept_insns) = (counts.jumps, counts.insns);
        store.keep(state, at);
    }
    Kept::GoesOn
}
